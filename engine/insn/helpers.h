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

/*
 * Instructions on the registers XMM0 to XMM15, with legacy encodings; vector.c has the operations.
 * X(mnemonic, operation, bytes of an element)
 */
#define NX_VECTORS(X)                 \
	X(MOVAPS, MOVE, 16)           \
	X(MOVAPD, MOVE, 16)           \
	X(MOVDQA, MOVE, 16)           \
	X(MOVUPS, LOOSE, 16)          \
	X(MOVUPD, LOOSE, 16)          \
	X(MOVDQU, LOOSE, 16)          \
	X(MOVD, MOVE, 4)              \
	X(MOVQ, MOVE, 8)              \
	X(MOVSS, SCALAR, 4)           \
	X(MOVSD, SCALAR, 8)           \
	X(MOVLPS, LOW_HALF, 8)        \
	X(MOVLPD, LOW_HALF, 8)        \
	X(MOVHPS, HIGH_HALF, 8)       \
	X(MOVHPD, HIGH_HALF, 8)       \
	X(MOVHLPS, HIGH_TO_LOW, 8)    \
	X(MOVLHPS, LOW_TO_HIGH, 8)    \
	X(PMOVMSKB, MASK, 1)          \
	X(PAND, AND, 8)               \
	X(ANDPS, AND, 8)              \
	X(ANDPD, AND, 8)              \
	X(PANDN, AND_NOT, 8)          \
	X(ANDNPS, AND_NOT, 8)         \
	X(ANDNPD, AND_NOT, 8)         \
	X(POR, OR, 8)                 \
	X(ORPS, OR, 8)                \
	X(ORPD, OR, 8)                \
	X(PXOR, XOR, 8)               \
	X(XORPS, XOR, 8)              \
	X(XORPD, XOR, 8)              \
	X(PCMPEQB, EQUAL, 1)          \
	X(PCMPEQW, EQUAL, 2)          \
	X(PCMPEQD, EQUAL, 4)          \
	X(PCMPGTB, GREATER, 1)        \
	X(PCMPGTW, GREATER, 2)        \
	X(PCMPGTD, GREATER, 4)        \
	X(PADDB, ADD, 1)              \
	X(PADDW, ADD, 2)              \
	X(PADDD, ADD, 4)              \
	X(PADDQ, ADD, 8)              \
	X(PSUBB, SUBTRACT, 1)         \
	X(PSUBW, SUBTRACT, 2)         \
	X(PSUBD, SUBTRACT, 4)         \
	X(PSUBQ, SUBTRACT, 8)         \
	X(PMINUB, MINIMUM, 1)         \
	X(PMAXUB, MAXIMUM, 1)         \
	X(PSLLW, SHIFT_LEFT, 2)       \
	X(PSLLD, SHIFT_LEFT, 4)       \
	X(PSLLQ, SHIFT_LEFT, 8)       \
	X(PSRLW, SHIFT_RIGHT, 2)      \
	X(PSRLD, SHIFT_RIGHT, 4)      \
	X(PSRLQ, SHIFT_RIGHT, 8)      \
	X(PSRAW, SHIFT_SIGNED, 2)     \
	X(PSRAD, SHIFT_SIGNED, 4)     \
	X(PSLLDQ, BYTES_LEFT, 1)      \
	X(PSRLDQ, BYTES_RIGHT, 1)     \
	X(PUNPCKLBW, UNPACK_LOW, 1)   \
	X(PUNPCKLWD, UNPACK_LOW, 2)   \
	X(PUNPCKLDQ, UNPACK_LOW, 4)   \
	X(PUNPCKLQDQ, UNPACK_LOW, 8)  \
	X(UNPCKLPS, UNPACK_LOW, 4)    \
	X(UNPCKLPD, UNPACK_LOW, 8)    \
	X(PUNPCKHBW, UNPACK_HIGH, 1)  \
	X(PUNPCKHWD, UNPACK_HIGH, 2)  \
	X(PUNPCKHDQ, UNPACK_HIGH, 4)  \
	X(PUNPCKHQDQ, UNPACK_HIGH, 8) \
	X(UNPCKHPS, UNPACK_HIGH, 4)   \
	X(UNPCKHPD, UNPACK_HIGH, 8)   \
	X(PSHUFD, SHUFFLE, 4)         \
	X(PSHUFLW, SHUFFLE_LOW, 2)    \
	X(PSHUFHW, SHUFFLE_HIGH, 2)   \
	X(SHUFPS, SHUFFLE_BOTH, 4)    \
	X(SHUFPD, SHUFFLE_BOTH, 8)

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
	X(VECTOR, vector)         \
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
