/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* backoff.h - leave the next exits at a place alone after a loss, twice as many each time. */
#ifndef NX_BACKOFF_H
#define NX_BACKOFF_H

#include "common.h"

#define NX_BACKOFF_FIRST 64u
#define NX_BACKOFF_MOST 9u /* doublings */

/* Of one place; all zero at first. */
struct nx_backoff {
	uint16_t left; /* exits still to be left alone */
	uint8_t times; /* that it was begun since the place paid; set it to 0 where it does */
};
_Static_assert(NX_BACKOFF_FIRST << NX_BACKOFF_MOST <= UINT16_MAX, "room for the longest");

/* Leave the next exits alone, whose number doubles each time, at most so often. */
static inline void nx_backoff_begin(struct nx_backoff *backoff, unsigned doublings)
{
	backoff->left = (uint16_t)(NX_BACKOFF_FIRST << backoff->times);
	if (backoff->times < doublings)
		backoff->times++;
}

/* Return how many of the next exits are left alone, at most so many, and leave these. */
static inline unsigned nx_backoff_pass(struct nx_backoff *backoff, unsigned most)
{
	if (most > backoff->left)
		most = backoff->left;
	backoff->left = (uint16_t)(backoff->left - most);
	return most;
}

#endif
