// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* clock.c - time, by the time-stamp counter. */
#include "host.h"

u32 nxk_clock_factor;

bool nxk_clock_init(void)
{
	u64 factor = tsc_khz ? div_u64((u64)NSEC_PER_MSEC << NXK_CLOCK_SHIFT, tsc_khz) : 0;

	nxk_clock_factor = factor;
	return factor && factor == nxk_clock_factor;
}
