/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* both.h - programs with all kinds of accesses, run with the engine and without it. */
#ifndef NX_TEST_BOTH_H
#define NX_TEST_BOTH_H

#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const struct fake_style fast = {false, false};
static const struct fake_style emulated = {true, true};

/* Ten turns over each kind of access, with what only the kernel can do in between. */
static const struct model_insn mixed[] = {
    {M_ADD, 1000},    {M_MOVE, 0},   {M_IN, 0x3fd},   {M_ADD, 7},       {M_OUT, 0x3f8},
    {M_STORE, 0x500}, {M_OUT, 0x80}, {M_LOAD, 0x508}, {M_STORE, 0x510}, {M_SPLIT, 0x600},
    {M_OUT, 0x81},    {M_IN, 0x60},  {M_RMW, 0x700},  {M_STI, 0},       {M_IN, 0x61},
    {M_CLI, 0},       {M_MOVE, 0},   {M_LOAD, 0x508}, {M_LOOP, 0},      {M_HLT, 0},
};

static const struct model_insn ports[] = {
    {M_IN, 0x10}, {M_ADD, 3},    {M_OUT, 0x11}, {M_IN, 0x12}, {M_OUT, 0x13},
    {M_IN, 0x14}, {M_OUT, 0x15}, {M_LOOP, 0},   {M_HLT, 0},
};

static struct vmm with, without;

static inline void start(const struct model_insn *program, size_t insns, struct fake_style style,
			 bool on)
{
	nx_options_default(&nx_options);
	nx_options.off = !on;
	fake_engine = (struct fake_engine){.random = fake_engine.random};
	fake_start(program, (unsigned)insns, style);
	fake.regs.rdx = 10;
}

/* Run the program without and with clustering; leave the host of the second run open. */
static inline void run_both(const struct model_insn *program, size_t insns, struct fake_style style)
{
	start(program, insns, style, false);
	without.accesses = without.inputs = without.eintr = 0;
	assert_true(vmm_run(&without));
	assert_int_equal(fake_engine.created, 0);
	fake_stop();
	start(program, insns, style, true);
	with.accesses = with.inputs = with.eintr = 0;
	assert_true(vmm_run(&with));
	assert_true(vmm_equal(&without, &with));
	assert_string_equal(fake_said, "");
}

static inline int reset(void **state)
{
	(void)state;
	memset(&with, 0, sizeof(with));
	memset(&without, 0, sizeof(without));
	return 0;
}

#endif
