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

typedef nx_status nx_helper(struct nx_engine *engine, const struct nx_decoded *d);

/* X(mnemonic, function, memory accesses) */
#define NX_HELPERS(X)                        \
	X(CLI, nx_help_cli, 0)               \
	X(CLD, nx_help_cld, 0)               \
	X(STD, nx_help_std, 0)               \
	X(PUSHF, nx_help_pushf, 1)           \
	X(PUSHFD, nx_help_pushf, 1)          \
	X(PUSHFQ, nx_help_pushf, 1)          \
	X(POPF, nx_help_popf, 1)             \
	X(POPFD, nx_help_popf, 1)            \
	X(POPFQ, nx_help_popf, 1)            \
	X(PUSHA, nx_help_pusha, 2)           \
	X(PUSHAD, nx_help_pusha, 2)          \
	X(POPA, nx_help_popa, 2)             \
	X(POPAD, nx_help_popa, 2)            \
	X(ENTER, nx_help_enter, 1)           \
	X(LEAVE, nx_help_leave, 1)           \
	X(XLAT, nx_help_xlat, 1)             \
	X(DIV, nx_help_div, 1)               \
	X(IDIV, nx_help_idiv, 1)             \
	X(CMPXCHG16B, nx_help_cmpxchg16b, 1) \
	X(MOVBE, nx_help_movbe, 1)           \
	X(POPCNT, nx_help_popcnt, 1)         \
	X(RDTSC, nx_help_rdtsc, 0)           \
	X(RDTSCP, nx_help_rdtsc, 0)          \
	X(MOVSB, nx_help_movs, 2)            \
	X(MOVSW, nx_help_movs, 2)            \
	X(MOVSD, nx_help_movs, 2)            \
	X(MOVSQ, nx_help_movs, 2)            \
	X(STOSB, nx_help_stos, 1)            \
	X(STOSW, nx_help_stos, 1)            \
	X(STOSD, nx_help_stos, 1)            \
	X(STOSQ, nx_help_stos, 1)            \
	X(LODSB, nx_help_lods, 1)            \
	X(LODSW, nx_help_lods, 1)            \
	X(LODSD, nx_help_lods, 1)            \
	X(LODSQ, nx_help_lods, 1)            \
	X(SCASB, nx_help_scas, 1)            \
	X(SCASW, nx_help_scas, 1)            \
	X(SCASD, nx_help_scas, 1)            \
	X(SCASQ, nx_help_scas, 1)            \
	X(CMPSB, nx_help_cmps, 2)            \
	X(CMPSW, nx_help_cmps, 2)            \
	X(CMPSD, nx_help_cmps, 2)            \
	X(CMPSQ, nx_help_cmps, 2)            \
	X(INSB, nx_help_ins, 1)              \
	X(INSW, nx_help_ins, 1)              \
	X(INSD, nx_help_ins, 1)              \
	X(OUTSB, nx_help_outs, 1)            \
	X(OUTSW, nx_help_outs, 1)            \
	X(OUTSD, nx_help_outs, 1)

/* Forms of instructions that are otherwise plain: see nx_helper_form(). */
nx_helper nx_help_pop_memory, nx_help_bit_string, nx_help_push_sreg, nx_help_load_sreg,
    nx_help_load_far;

#define NX_X(mnemonic, function, accesses) nx_helper function;
NX_HELPERS(NX_X)
#undef NX_X

/* The helper for an instruction; NULL: none. */
nx_helper *nx_helper_for(const struct nx_mode *mode, const struct nx_decoded *d);

/* ---- For helpers ---- */

/* Offset of a memory operand in its segment, truncated to the address size. */
uint64_t nx_effective_address(const struct nx_engine *engine, const struct nx_decoded *d,
			      const ZydisDecodedOperand *memory);
/* A general register's value, zero-extended. */
uint64_t nx_get_reg(const struct nx_engine *engine, const struct nx_reg *reg);
/* Writes a general register as the processor does: 32 bits clear the upper half. */
void nx_set_reg(uint64_t *gpr, const struct nx_reg *reg, uint64_t value);
/* rflags, whole. */
uint64_t nx_get_rflags(const struct nx_engine *engine);
void nx_set_arithmetic_flags(struct nx_engine *engine, uint64_t rflags);

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
