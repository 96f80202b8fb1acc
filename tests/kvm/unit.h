/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * unit.h - what the tests of one file of kvm/ each begin with: cmocka, the fake kernel, and a guest
 * with an exit of each direction in a loop, which is enough for most.
 */
#ifndef NX_TEST_UNIT_H
#define NX_TEST_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "fake.h"

/* fake_begin() with that guest. */
static inline void begin_guest(unsigned turns, bool on)
{
	static const struct model_insn guest[] = {
	    {M_IN, 0x10}, {M_OUT, 0x11}, {M_LOOP, 0}, {M_HLT, 0}};

	fake_begin(guest, sizeof(guest) / sizeof(*guest), turns, on);
}

/* Go on to the first exit that the engine delivers. */
static inline void enter_engine(struct vmm *vmm)
{
	while (!fake_engine.exits)
		assert_int_equal(vmm_step(vmm), 0);
}

#endif
