/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* form.h - small things about guest code addresses that formation and the runtime share. */
#ifndef NX_FORM_H
#define NX_FORM_H

#include "vcpu.h"

static inline uint64_t nx_code_linear(const struct nx_vcpu *vcpu, uint64_t rip)
{
	uint64_t linear = vcpu->state.seg[NX_CS].base + rip;

	return vcpu->mode.bits == 64 ? rip : (uint32_t)linear;
}

/* Exits whenever it is executed. */
static inline bool nx_op_exits(unsigned op)
{
	return op == NX_OP_IN || op == NX_OP_OUT || op == NX_OP_INSN_EXIT;
}

/*
 * The rip after an instruction. It is not truncated to 16 bits: running past a segment's end is
 * a fault there, which formation meets as code beyond the limit.
 */
static inline uint64_t nx_next_rip(const struct nx_mode *mode, const struct nx_insn *insn)
{
	uint64_t next = insn->rip + insn->len;

	return mode->bits == 64 ? next : (uint32_t)next;
}

#endif
