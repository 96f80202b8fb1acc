/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * helper.h - guest instructions that C executes, by family: helper.c (flags, stack, segments),
 * arith.c, string.c.
 *
 * The context holds the whole guest state while a helper runs. A helper does all of its instruction
 * and returns NX_OK, or does nothing and returns a reason to leave before it. A repeated string
 * instruction may have done some of its elements then, as when the processor interrupts it: rip
 * stays on the instruction, and the registers tell what remains.
 */
#ifndef NX_HELPER_H
#define NX_HELPER_H

#include "engine.h"
#include "insn/decode.h"

typedef enum nx_status nx_helper(struct nx_engine *engine, const struct nx_decoded *d);

#define NX_X(name, function) nx_helper nx_help_##function;
NX_HELPER_FUNCTIONS(NX_X)
#undef NX_X

/* Run the helper with this number. */
enum nx_status nx_helper_run(struct nx_engine *engine, enum nx_helper_id id,
			     const struct nx_decoded *d);

/* ---- For helpers ---- */

/* Return the offset of a memory operand in its segment, truncated to the address size. */
uint64_t nx_effective_address(const struct nx_engine *engine, const struct nx_decoded *d,
			      const ZydisDecodedOperand *memory);
/* Return a general register's value, zero-extended. */
uint64_t nx_reg_get(const struct nx_engine *engine, const struct nx_reg *reg);
/* Write a general register as the processor does: 32 bits clear the upper half. */
void nx_reg_set(uint64_t *gpr, const struct nx_reg *reg, uint64_t value);
/* Return the whole of rflags. */
uint64_t nx_rflags_get(const struct nx_engine *engine);
void nx_rflags_set_arithmetic(struct nx_engine *engine, uint64_t rflags);

static inline uint64_t nx_size_mask(unsigned size)
{
	return size == 8 ? ~0ull : (1ull << size * 8) - 1;
}

static inline int64_t nx_sign_extend(uint64_t value, unsigned size)
{
	unsigned shift = 64 - size * 8;

	return (int64_t)(value << shift) >> shift;
}

#endif
