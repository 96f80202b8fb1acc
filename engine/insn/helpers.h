/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * helpers.h - which instructions C executes, and which function of helper/ does each.
 *
 * Decoding needs to know that there is one and how often it accesses memory; a site in emitted code
 * carries the number, so that nothing has to be chosen again when the helper runs.
 */
#ifndef NX_HELPERS_H
#define NX_HELPERS_H

/* X(mnemonic, helper, memory accesses) */
#define NX_HELPERS(X)                \
	X(CLI, CLI, 0)               \
	X(STI, STI, 0)               \
	X(CLD, CLD, 0)               \
	X(STD, STD, 0)               \
	X(PUSHF, PUSHF, 1)           \
	X(PUSHFD, PUSHF, 1)          \
	X(PUSHFQ, PUSHF, 1)          \
	X(POPF, POPF, 1)             \
	X(POPFD, POPF, 1)            \
	X(POPFQ, POPF, 1)            \
	X(PUSHA, PUSHA, 2)           \
	X(PUSHAD, PUSHA, 2)          \
	X(POPA, POPA, 2)             \
	X(POPAD, POPA, 2)            \
	X(ENTER, ENTER, 1)           \
	X(LEAVE, LEAVE, 1)           \
	X(XLAT, XLAT, 1)             \
	X(DIV, DIV, 1)               \
	X(IDIV, IDIV, 1)             \
	X(CMPXCHG16B, CMPXCHG16B, 1) \
	X(MOVBE, MOVBE, 1)           \
	X(POPCNT, POPCNT, 1)         \
	X(RDTSC, RDTSC, 0)           \
	X(RDTSCP, RDTSC, 0)          \
	X(VERW, VERW, 2)             \
	X(MOVSB, MOVS, 2)            \
	X(MOVSW, MOVS, 2)            \
	X(MOVSD, MOVS, 2)            \
	X(MOVSQ, MOVS, 2)            \
	X(STOSB, STOS, 1)            \
	X(STOSW, STOS, 1)            \
	X(STOSD, STOS, 1)            \
	X(STOSQ, STOS, 1)            \
	X(LODSB, LODS, 1)            \
	X(LODSW, LODS, 1)            \
	X(LODSD, LODS, 1)            \
	X(LODSQ, LODS, 1)            \
	X(SCASB, SCAS, 1)            \
	X(SCASW, SCAS, 1)            \
	X(SCASD, SCAS, 1)            \
	X(SCASQ, SCAS, 1)            \
	X(CMPSB, CMPS, 2)            \
	X(CMPSW, CMPS, 2)            \
	X(CMPSD, CMPS, 2)            \
	X(CMPSQ, CMPS, 2)            \
	X(INSB, INS, 1)              \
	X(INSW, INS, 1)              \
	X(INSD, INS, 1)              \
	X(OUTSB, OUTS, 1)            \
	X(OUTSW, OUTS, 1)            \
	X(OUTSD, OUTS, 1)

/* The functions: nx_help_ and the second word. The last six do forms of plain instructions. */
#define NX_HELPER_FUNCTIONS(X)    \
	X(CLI, cli)               \
	X(STI, sti)               \
	X(CLD, cld)               \
	X(STD, std)               \
	X(PUSHF, pushf)           \
	X(POPF, popf)             \
	X(PUSHA, pusha)           \
	X(POPA, popa)             \
	X(ENTER, enter)           \
	X(LEAVE, leave)           \
	X(XLAT, xlat)             \
	X(DIV, div)               \
	X(IDIV, idiv)             \
	X(CMPXCHG16B, cmpxchg16b) \
	X(MOVBE, movbe)           \
	X(POPCNT, popcnt)         \
	X(RDTSC, rdtsc)           \
	X(VERW, verw)             \
	X(MOVS, movs)             \
	X(STOS, stos)             \
	X(LODS, lods)             \
	X(SCAS, scas)             \
	X(CMPS, cmps)             \
	X(INS, ins)               \
	X(OUTS, outs)             \
	X(POP_MEMORY, pop_memory) \
	X(BIT_STRING, bit_string) \
	X(PUSH_SREG, push_sreg)   \
	X(LOAD_SREG, load_sreg)   \
	X(LOAD_FAR, load_far)     \
	X(READ_CR2, read_cr2)

enum nx_helper_id {
	NX_HELP_NONE,
#define NX_X(name, function) NX_HELP_##name,
	NX_HELPER_FUNCTIONS(NX_X)
#undef NX_X
};

#endif
