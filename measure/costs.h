/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * costs.h - what exits cost on this machine: round trips to userspace and back, by kind and by the
 * guest's privilege level, and exits that the engine delivers instead.
 */
#ifndef NX_COSTS_H
#define NX_COSTS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * X(NAME, key, description). Key: the name in JSON. A cost is the median of several runs, in
 * nanoseconds of one round trip.
 */
#define NX_MEASURED(X)                                                                         \
	X(PIO_0, "pio_cpl0", "port read to the VMM and back, CPL 0")                           \
	X(PIO_3, "pio_cpl3", "the same, CPL 3")                                                \
	X(MMIO_0, "mmio_cpl0", "device memory read to the VMM and back, CPL 0")                \
	X(MMIO_3, "mmio_cpl3", "the same, CPL 3")                                              \
	X(IMMEDIATE_EXIT, "immediate_exit", "KVM_RUN with immediate_exit, completing an exit") \
	X(GET_REGS, "get_regs", "KVM_GET_REGS")                                                \
	X(ENGINE_0, "engine_cpl0", "port read delivered by the engine, CPL 0")                 \
	X(ENGINE_3, "engine_cpl3", "the same, CPL 3")

enum nx_measure {
#define NX_X(NAME, key, text) NX_MEASURE_##NAME,
	NX_MEASURED(NX_X)
#undef NX_X
	    NX_MEASURE_COUNT
};

struct nx_measured {
	double ns[NX_MEASURE_COUNT]; /* 0 if it could not be measured */
	double cycles_per_ns;        /* of the time-stamp counter */
	/* One turn of a loop of three instructions in the guest: CPL 0, CPL 3. */
	double turn_ns[2];
	/* Share of the port reads that the engine delivered while ENGINE_* was measured, 0 to 1. */
	double avoided[2]; /* CPL 0, CPL 3 */
};

/* Measure for about a second and a half. Return NULL, or the step that KVM refused, with errno
 * set; *costs has the figures that were measured before it. */
const char *nx_measure_costs(struct nx_measured *costs);

/* Return whether KVM here executes what a stock kernel needs early: xsave, xrstor, cmpxchg16b
 * and system instructions at CPL 0. There are software backends that do not. */
bool nx_runs_stock_kernel(void);

#endif
