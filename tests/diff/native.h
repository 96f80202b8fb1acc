/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* native.h - what native.c and native_world.c need of each other. */
#ifndef DIFF_NATIVE_H
#define DIFF_NATIVE_H

#include "diff.h"

/* Map the pages that page_use names. Return false if the addresses are taken. */
bool native_map_pages(void);
/* Put the segments of segments.c into the local descriptor table. Return false if the kernel
 * refuses, or runs in a virtual machine where that table has no effect. */
bool native_install_segments(void);
/* Return whether code of this mode runs in this segment. */
bool native_runs_code(enum mode mode, unsigned bits, const struct nx_segment *cs);
/* Return whether the kernel returns to code whose stack pointer is no address. */
bool native_bears_wild_stack(const struct nx_segment *long64);

/* native.c: struct processor's run() */
void native_run(const struct sequence *seq, const struct result *until, bool trace,
		struct processor_result *result);

#endif
