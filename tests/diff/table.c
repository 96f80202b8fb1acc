/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* table.c - the instructions that are generated: those that the engine says it runs. */
#include <cpuid.h>

#include "diff.h"

#define M(name) ZYDIS_MNEMONIC_##name

#define ALU(name, lock)                                            \
	{M(name), FORM_RM_R, SIZES_ALL, 6, lock, ANYWHERE},        \
	    {M(name), FORM_R_RM, SIZES_ALL, 4, false, ANYWHERE},   \
	{                                                          \
		M(name), FORM_RM_IMM, SIZES_ALL, 6, lock, ANYWHERE \
	}
#define UNARY(name, lock)                                      \
	{                                                      \
		M(name), FORM_RM, SIZES_ALL, 4, lock, ANYWHERE \
	}
#define SHIFT(name)                                                \
	{                                                          \
		M(name), FORM_SHIFT, SIZES_ALL, 4, false, ANYWHERE \
	}
#define BIT(name, lock)                                              \
	{M(name), FORM_RM_BIT, SIZES_248, 3, lock, ANYWHERE},        \
	{                                                            \
		M(name), FORM_REG_REG, SIZES_248, 1, false, ANYWHERE \
	}
#define SCAN(name)                                                \
	{                                                         \
		M(name), FORM_R_RM, SIZES_248, 3, false, ANYWHERE \
	}
#define CONDITION(cc)                                            \
	{M(CMOV##cc), FORM_R_RM, SIZES_248, 1, false, ANYWHERE}, \
	    {M(SET##cc), FORM_RM, SIZE_1, 1, false, ANYWHERE},   \
	{                                                        \
		M(J##cc), FORM_JCC, SIZE_1, 2, false, ANYWHERE   \
	}
#define BARE(name, where)                                   \
	{                                                   \
		M(name), FORM_NONE, SIZE_1, 2, false, where \
	}

#define STRING(name)                                               \
	{M(name##B), FORM_STRING, SIZE_1, 2, false, ANYWHERE},     \
	    {M(name##W), FORM_STRING, SIZE_2, 1, false, ANYWHERE}, \
	    {M(name##D), FORM_STRING, SIZE_4, 1, false, ANYWHERE}, \
	{                                                          \
		M(name##Q), FORM_STRING, SIZE_8, 1, false, ONLY_64 \
	}

#define STRING_IO(name)                                                \
	{M(name##B), FORM_STRING_IO, SIZE_1, 3, false, ANYWHERE},      \
	    {M(name##W), FORM_STRING_IO, SIZE_2, 3, false, ANYWHERE},  \
	{                                                              \
		M(name##D), FORM_STRING_IO, SIZE_4, 3, false, ANYWHERE \
	}

/* On vector registers: each form is a row. */
#define VECTOR_FULL(name)                                      \
	{M(name), FORM_V_V, SIZE_16, 1, false, ANYWHERE},      \
	    {M(name), FORM_V_M, SIZE_16, 1, false, ANYWHERE},  \
	{                                                      \
		M(name), FORM_M_V, SIZE_16, 1, false, ANYWHERE \
	}
#define VECTOR_HALF(name)                                     \
	{M(name), FORM_V_M, SIZE_8, 1, false, ANYWHERE},      \
	{                                                     \
		M(name), FORM_M_V, SIZE_8, 1, false, ANYWHERE \
	}
#define VECTOR(name)                                           \
	{M(name), FORM_V_V, SIZE_16, 1, false, ANYWHERE},      \
	{                                                      \
		M(name), FORM_V_M, SIZE_16, 1, false, ANYWHERE \
	}
#define VECTOR_ORDER(name)                                         \
	{M(name), FORM_V_V_IMM, SIZE_16, 1, false, ANYWHERE},      \
	{                                                          \
		M(name), FORM_V_M_IMM, SIZE_16, 1, false, ANYWHERE \
	}
#define VECTOR_BYTES(name)                                       \
	{                                                        \
		M(name), FORM_V_IMM, SIZE_16, 1, false, ANYWHERE \
	}
#define VECTOR_SHIFT(name) VECTOR(name), VECTOR_BYTES(name)
/* Moves of fewer bytes, to and from general registers as well. */
#define VECTOR_PART(name, size)                             \
	{M(name), FORM_V_M, size, 1, false, ANYWHERE},      \
	{                                                   \
		M(name), FORM_M_V, size, 1, false, ANYWHERE \
	}
#define VECTOR_GENERAL(name, size, where)                \
	{M(name), FORM_V_R, size, 1, false, where},      \
	{                                                \
		M(name), FORM_R_V, size, 1, false, where \
	}
#define VECTOR_BOTH(name)                                     \
	{                                                     \
		M(name), FORM_V_V, SIZE_8, 1, false, ANYWHERE \
	}

const struct row table[] = {
    {M(MOV), FORM_RM_R, SIZES_ALL, 12, false, ANYWHERE},
    {M(MOV), FORM_R_RM, SIZES_ALL, 16, false, ANYWHERE},
    {M(MOV), FORM_RM_IMM, SIZES_ALL, 10, false, ANYWHERE},
    {M(MOV), FORM_MOFFS, SIZES_ALL, 4, false, ANYWHERE},
    {M(MOV), FORM_FROM_SREG, SIZES_248, 3, false, ANYWHERE},
    {M(MOVZX), FORM_EXTEND, SIZES_248, 6, false, ANYWHERE},
    {M(MOVSX), FORM_EXTEND, SIZES_248, 5, false, ANYWHERE},
    {M(MOVSXD), FORM_EXTEND, SIZES_248, 3, false, ONLY_64},
    {M(LEA), FORM_LEA, SIZES_248, 8, false, ANYWHERE},
    ALU(ADD, true),
    ALU(OR, true),
    ALU(ADC, true),
    ALU(SBB, true),
    ALU(AND, true),
    ALU(SUB, true),
    ALU(XOR, true),
    ALU(CMP, false),
    {M(TEST), FORM_RM_R, SIZES_ALL, 6, false, ANYWHERE},
    {M(TEST), FORM_RM_IMM, SIZES_ALL, 4, false, ANYWHERE},
    UNARY(INC, true),
    UNARY(DEC, true),
    UNARY(NEG, true),
    UNARY(NOT, true),
    UNARY(MUL, false),
    UNARY(IMUL, false),
    {M(IMUL), FORM_R_RM, SIZES_248, 3, false, ANYWHERE},
    {M(IMUL), FORM_R_RM_IMM, SIZES_248, 3, false, ANYWHERE},
    SHIFT(SHL),
    SHIFT(SHR),
    SHIFT(SAR),
    SHIFT(ROL),
    SHIFT(ROR),
    SHIFT(RCL),
    SHIFT(RCR),
    {M(SHLD), FORM_SHIFT_DOUBLE, SIZES_248, 3, false, ANYWHERE},
    {M(SHRD), FORM_SHIFT_DOUBLE, SIZES_248, 3, false, ANYWHERE},
    BIT(BT, false),
    BIT(BTS, true),
    BIT(BTR, true),
    BIT(BTC, true),
    SCAN(BSF),
    SCAN(BSR),
    SCAN(LZCNT),
    SCAN(TZCNT),
    {M(XCHG), FORM_RM_R, SIZES_ALL, 6, true, ANYWHERE},
    {M(XADD), FORM_RM_R, SIZES_ALL, 4, true, ANYWHERE},
    {M(CMPXCHG), FORM_RM_R, SIZES_ALL, 4, true, ANYWHERE},
    {M(CMPXCHG8B), FORM_M, SIZE_8, 3, true, ANYWHERE},
    {M(BSWAP), FORM_R, SIZE_4 | SIZE_8, 3, false, ANYWHERE},
    BARE(CBW, ANYWHERE),
    BARE(CWDE, ANYWHERE),
    BARE(CDQE, ONLY_64),
    BARE(CWD, ANYWHERE),
    BARE(CDQ, ANYWHERE),
    BARE(CQO, ONLY_64),
    BARE(LAHF, ANYWHERE),
    BARE(SAHF, ANYWHERE),
    BARE(CLC, ANYWHERE),
    BARE(STC, ANYWHERE),
    BARE(CMC, ANYWHERE),
    BARE(CLD, ANYWHERE),
    BARE(STD, ANYWHERE),
    BARE(CLI, ANYWHERE),
    BARE(LEAVE, ANYWHERE),
    BARE(NOP, ANYWHERE),
    BARE(PAUSE, ANYWHERE),
    BARE(ENDBR32, ANYWHERE),
    BARE(ENDBR64, ANYWHERE),
    {M(PREFETCHT0), FORM_M, SIZE_1, 1, false, ANYWHERE},
    {M(PREFETCHNTA), FORM_M, SIZE_1, 1, false, ANYWHERE},
    {M(PREFETCHW), FORM_M, SIZE_1, 1, false, ANYWHERE},
    {M(PUSH), FORM_PUSH, SIZES_248, 8, false, ANYWHERE},
    {M(POP), FORM_POP, SIZES_248, 8, false, ANYWHERE},
    {M(ADD), FORM_STACK_ADJUST, SIZES_248, 3, false, ANYWHERE},
    {M(LEA), FORM_STACK_ADJUST, SIZES_248, 2, false, ANYWHERE},
    CONDITION(O),
    CONDITION(NO),
    CONDITION(B),
    CONDITION(NB),
    CONDITION(Z),
    CONDITION(NZ),
    CONDITION(BE),
    CONDITION(NBE),
    CONDITION(S),
    CONDITION(NS),
    CONDITION(P),
    CONDITION(NP),
    CONDITION(L),
    CONDITION(NL),
    CONDITION(LE),
    CONDITION(NLE),
    {M(CALL), FORM_CALL, SIZE_1, 3, false, ANYWHERE},
    {M(RET), FORM_RET, SIZE_1, 3, false, ANYWHERE},
    {M(JMP), FORM_REGISTER_JUMP, SIZE_1, 2, false, ANYWHERE},
    {M(CALL), FORM_REGISTER_JUMP, SIZE_1, 2, false, ANYWHERE},
    {M(JMP), FORM_JMP, SIZE_1, 4, false, ANYWHERE},
    {M(LOOP), FORM_COUNT, SIZE_1, 3, false, ANYWHERE},
    {M(LOOPE), FORM_COUNT, SIZE_1, 3, false, ANYWHERE},
    {M(LOOPNE), FORM_COUNT, SIZE_1, 3, false, ANYWHERE},
    {M(JRCXZ), FORM_COUNT, SIZE_1, 3, false, ANYWHERE},
    STRING(MOVS),
    STRING(STOS),
    STRING(LODS),
    STRING(SCAS),
    STRING(CMPS),
    {M(DIV), FORM_DIVIDE, SIZES_ALL, 4, false, ANYWHERE},
    {M(IDIV), FORM_DIVIDE, SIZES_ALL, 6, false, ANYWHERE},
    {M(BT), FORM_BIT_STRING, SIZES_248, 2, false, ANYWHERE},
    {M(BTS), FORM_BIT_STRING, SIZES_248, 2, true, ANYWHERE},
    {M(BTR), FORM_BIT_STRING, SIZES_248, 2, true, ANYWHERE},
    {M(BTC), FORM_BIT_STRING, SIZES_248, 2, true, ANYWHERE},
    {M(CMPXCHG16B), FORM_M, SIZE_16, 3, true, ONLY_64},
    {M(XLAT), FORM_XLAT, SIZE_1, 3, false, ANYWHERE},
    {M(POPF), FORM_POPF, SIZE_2, 2, false, ANYWHERE},
    {M(POPFD), FORM_POPF, SIZE_4, 2, false, NOT_64},
    {M(POPFQ), FORM_POPF, SIZE_8, 2, false, ONLY_64},
    {M(PUSHF), FORM_PUSHF, SIZE_2, 2, false, ANYWHERE},
    {M(PUSHFD), FORM_PUSHF, SIZE_4, 2, false, NOT_64},
    {M(PUSHFQ), FORM_PUSHF, SIZE_8, 2, false, ONLY_64},
    {M(PUSH), FORM_PUSH_SREG, SIZE_2, 3, false, ANYWHERE},
    {M(POP), FORM_POP_M, SIZES_248, 4, false, ANYWHERE},
    {M(ENTER), FORM_ENTER, SIZES_248, 3, false, ANYWHERE},
    {M(PUSHA), FORM_PUSHA, SIZE_2, 2, false, NOT_64},
    {M(PUSHAD), FORM_PUSHA, SIZE_4, 2, false, NOT_64},
    {M(POPA), FORM_POPA, SIZE_2, 1, false, NOT_64},
    {M(POPAD), FORM_POPA, SIZE_4, 1, false, NOT_64},
    {M(MOVBE), FORM_R_M, SIZES_248, 3, false, ANYWHERE},
    {M(MOVBE), FORM_M_R, SIZES_248, 3, false, ANYWHERE},
    {M(POPCNT), FORM_R_RM, SIZES_248, 3, false, ANYWHERE},
    {M(JMP), FORM_MEMORY_JUMP, SIZE_1, 3, false, ANYWHERE},
    {M(CALL), FORM_MEMORY_JUMP, SIZE_1, 3, false, ANYWHERE},
    STRING_IO(INS),
    STRING_IO(OUTS),
    {M(MOV), FORM_LOAD_SREG, SIZE_2, 8, false, NOT_64},
    {M(POP), FORM_LOAD_SREG, SIZE_2, 6, false, NOT_64},
    {M(LDS), FORM_LOAD_SREG, SIZE_2, 3, false, NOT_64},
    {M(LES), FORM_LOAD_SREG, SIZE_2, 4, false, NOT_64},
    {M(LFS), FORM_LOAD_SREG, SIZE_2, 2, false, NOT_64},
    {M(LGS), FORM_LOAD_SREG, SIZE_2, 2, false, NOT_64},
    {M(INVALID), FORM_FOREIGN, SIZE_1, 12, false, ANYWHERE},
    BARE(MFENCE, ANYWHERE),
    BARE(LFENCE, ANYWHERE),
    BARE(SFENCE, ANYWHERE),
    VECTOR_FULL(MOVAPS),
    VECTOR_FULL(MOVAPD),
    VECTOR_FULL(MOVDQA),
    VECTOR_FULL(MOVUPS),
    VECTOR_FULL(MOVUPD),
    VECTOR_FULL(MOVDQU),
    VECTOR_PART(MOVD, SIZE_4),
    VECTOR_GENERAL(MOVD, SIZE_4, ANYWHERE),
    VECTOR_PART(MOVQ, SIZE_8),
    VECTOR_GENERAL(MOVQ, SIZE_8, ONLY_64),
    VECTOR_BOTH(MOVQ),
    VECTOR_PART(MOVSS, SIZE_4),
    VECTOR_BOTH(MOVSS),
    VECTOR_PART(MOVSD, SIZE_8),
    VECTOR_BOTH(MOVSD),
    VECTOR_HALF(MOVLPS),
    VECTOR_HALF(MOVLPD),
    VECTOR_HALF(MOVHPS),
    VECTOR_HALF(MOVHPD),
    VECTOR_BOTH(MOVHLPS),
    VECTOR_BOTH(MOVLHPS),
    {M(PMOVMSKB), FORM_R_V, SIZE_4 | SIZE_8, 1, false, ANYWHERE},
    VECTOR(PAND),
    VECTOR(ANDPS),
    VECTOR(ANDPD),
    VECTOR(PANDN),
    VECTOR(ANDNPS),
    VECTOR(ANDNPD),
    VECTOR(POR),
    VECTOR(ORPS),
    VECTOR(ORPD),
    VECTOR(PXOR),
    VECTOR(XORPS),
    VECTOR(XORPD),
    VECTOR(PCMPEQB),
    VECTOR(PCMPEQW),
    VECTOR(PCMPEQD),
    VECTOR(PCMPGTB),
    VECTOR(PCMPGTW),
    VECTOR(PCMPGTD),
    VECTOR(PADDB),
    VECTOR(PADDW),
    VECTOR(PADDD),
    VECTOR(PADDQ),
    VECTOR(PSUBB),
    VECTOR(PSUBW),
    VECTOR(PSUBD),
    VECTOR(PSUBQ),
    VECTOR(PMINUB),
    VECTOR(PMAXUB),
    VECTOR(PUNPCKLBW),
    VECTOR(PUNPCKLWD),
    VECTOR(PUNPCKLDQ),
    VECTOR(PUNPCKLQDQ),
    VECTOR(UNPCKLPS),
    VECTOR(UNPCKLPD),
    VECTOR(PUNPCKHBW),
    VECTOR(PUNPCKHWD),
    VECTOR(PUNPCKHDQ),
    VECTOR(PUNPCKHQDQ),
    VECTOR(UNPCKHPS),
    VECTOR(UNPCKHPD),
    VECTOR_SHIFT(PSLLW),
    VECTOR_SHIFT(PSLLD),
    VECTOR_SHIFT(PSLLQ),
    VECTOR_SHIFT(PSRLW),
    VECTOR_SHIFT(PSRLD),
    VECTOR_SHIFT(PSRLQ),
    VECTOR_SHIFT(PSRAW),
    VECTOR_SHIFT(PSRAD),
    VECTOR_BYTES(PSLLDQ),
    VECTOR_BYTES(PSRLDQ),
    VECTOR_ORDER(PSHUFD),
    VECTOR_ORDER(PSHUFLW),
    VECTOR_ORDER(PSHUFHW),
    VECTOR_ORDER(SHUFPS),
    VECTOR_ORDER(SHUFPD),
    {M(IN), FORM_IO, SIZE_1, 0, false, ANYWHERE},
    {M(OUT), FORM_IO, SIZE_1, 0, false, ANYWHERE},
};

const unsigned table_rows = sizeof(table) / sizeof(table[0]);

/* CPUID exits in a virtual machine: asked once. */
static bool has_feature(ZydisMnemonic mnemonic)
{
	static unsigned basic, extended;
	static bool asked;
	unsigned a, b, d;

	if (!asked && (!__get_cpuid(1, &a, &b, &basic, &d) ||
		       !__get_cpuid(0x80000001, &a, &b, &extended, &d)))
		basic = extended = 0;
	asked = true;
	switch (mnemonic) {
	case M(PREFETCHW):
		return extended & bit_PRFCHW;
	case M(MOVBE):
		return basic & bit_MOVBE;
	case M(POPCNT):
		return basic & bit_POPCNT;
	default:
		return true;
	}
}

bool row_usable(const struct row *row, const struct sequence *seq)
{
	const bool long64 = seq->bits == 64;

	if (row->where != ANYWHERE && (row->where == ONLY_64) != long64)
		return false;
	if (processor->lacks(row->mnemonic))
		return false;
	switch (row->form) {
	case FORM_STRING_IO:
	case FORM_FOREIGN:
		return processor->whole;
	case FORM_LOAD_SREG:
		return processor->whole && seq->mode == MODE_REAL16;
	default:
		return has_feature(row->mnemonic);
	}
}
