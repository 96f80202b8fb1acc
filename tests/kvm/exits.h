/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* exits.h - a program with exits of several kinds in a loop, for tests of what a stay needs. */
#ifndef NX_TEST_EXITS_H
#define NX_TEST_EXITS_H

#include "unit.h"

#define TURNS 10u

static const struct model_insn program[] = {
    {M_OUT, 0x20},  {M_OUT, 0x21}, {M_STORE, 0x500}, {M_OUT, 0x22},
    {M_RMW, 0x700}, {M_ADD, 1},    {M_LOOP, 0},      {M_HLT, 0},
};

static inline void start(bool on)
{
	fake_begin(program, sizeof(program) / sizeof(*program), TURNS, on);
	fake.regs.rax = 100;
}

static inline void restart(bool on)
{
	fake_stop();
	start(on);
}

#endif
