/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * slice.h - which chunks of the code area a vCPU gets: a run of them at a random place, so that no
 * guest knows where its translations are. Free of the kernel's headers, for the unit test.
 */
#ifndef NXK_SLICE_H
#define NXK_SLICE_H

#include "code_area.h"

/* A slice has so many chunks at most, and this fraction (1/n) of what is free, so that the first
 * vCPUs, which most hosts have no more than, get much, and the last ones enough. */
#define NXK_SLICE_MOST 16u
#define NXK_SLICE_FRACTION 8u

/* Return a number below limit that is as random as bits is. */
static inline unsigned int nxk_slice_below(unsigned int bits, unsigned int limit)
{
	return (unsigned int)(((unsigned long long)bits * limit) >> 32);
}

/* Return how many of the chunks are taken; taken has a bit for each. */
static inline unsigned int nxk_slice_taken(const unsigned long *taken, unsigned int first,
					   unsigned int count)
{
	unsigned int found = 0;

	for (unsigned int i = first; i < first + count; i++)
		found += taken[i / (8 * sizeof(long))] >> i % (8 * sizeof(long)) & 1;
	return found;
}

/*
 * Choose a slice among the free ones by 32 random bits; return its number of chunks, 0 if none is
 * free. A slice begins at a multiple of its size: so the places that small ones leave free are
 * those that large ones can have.
 */
static inline unsigned int nxk_slice_choose(const unsigned long *taken, unsigned int bits,
					    unsigned int *first)
{
	unsigned int left = NXK_CODE_CHUNKS - nxk_slice_taken(taken, 0, NXK_CODE_CHUNKS);
	unsigned int count = NXK_SLICE_MOST;

	while (count > 1 && count > left / NXK_SLICE_FRACTION)
		count /= 2;
	for (; count; count /= 2) {
		unsigned int places = 0, skip;

		for (unsigned int i = 0; i < NXK_CODE_CHUNKS; i += count)
			places += !nxk_slice_taken(taken, i, count);
		if (!places)
			continue;
		skip = nxk_slice_below(bits, places);
		for (*first = 0;; *first += count)
			if (!nxk_slice_taken(taken, *first, count) && !skip--)
				return count;
	}
	return 0;
}

#endif
