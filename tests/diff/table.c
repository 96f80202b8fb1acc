/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* table.c - the instructions that are generated: those that the engine says it runs. */
#include <cpuid.h>

#include "diff.h"

#define M(name) ZYDIS_MNEMONIC_##name

#define ALU(name, lock)                                         \
	{M(name), FORM_RM_R, SIZES_ALL, 6, lock, false},        \
	    {M(name), FORM_R_RM, SIZES_ALL, 4, false, false},   \
	{                                                       \
		M(name), FORM_RM_IMM, SIZES_ALL, 6, lock, false \
	}
#define UNARY(name, lock)                                   \
	{                                                   \
		M(name), FORM_RM, SIZES_ALL, 4, lock, false \
	}
#define SHIFT(name)                                             \
	{                                                       \
		M(name), FORM_SHIFT, SIZES_ALL, 4, false, false \
	}
#define BIT(name, lock)                                           \
	{M(name), FORM_RM_BIT, SIZES_248, 3, lock, false},        \
	{                                                         \
		M(name), FORM_REG_REG, SIZES_248, 1, false, false \
	}
#define SCAN(name)                                             \
	{                                                      \
		M(name), FORM_R_RM, SIZES_248, 3, false, false \
	}
#define CONDITION(cc)                                         \
	{M(CMOV##cc), FORM_R_RM, SIZES_248, 1, false, false}, \
	    {M(SET##cc), FORM_RM, SIZE_1, 1, false, false},   \
	{                                                     \
		M(J##cc), FORM_JCC, SIZE_1, 2, false, false   \
	}
#define BARE(name, only64)                                   \
	{                                                    \
		M(name), FORM_NONE, SIZE_1, 2, false, only64 \
	}

const struct row table[] = {
    {M(MOV), FORM_RM_R, SIZES_ALL, 12, false, false},
    {M(MOV), FORM_R_RM, SIZES_ALL, 16, false, false},
    {M(MOV), FORM_RM_IMM, SIZES_ALL, 10, false, false},
    {M(MOV), FORM_MOFFS, SIZES_ALL, 4, false, false},
    {M(MOV), FORM_FROM_SREG, SIZES_248, 3, false, false},
    {M(MOVZX), FORM_EXTEND, SIZES_248, 6, false, false},
    {M(MOVSX), FORM_EXTEND, SIZES_248, 5, false, false},
    {M(MOVSXD), FORM_EXTEND, SIZES_248, 3, false, true},
    {M(LEA), FORM_LEA, SIZES_248, 8, false, false},
    ALU(ADD, true),
    ALU(OR, true),
    ALU(ADC, true),
    ALU(SBB, true),
    ALU(AND, true),
    ALU(SUB, true),
    ALU(XOR, true),
    ALU(CMP, false),
    {M(TEST), FORM_RM_R, SIZES_ALL, 6, false, false},
    {M(TEST), FORM_RM_IMM, SIZES_ALL, 4, false, false},
    UNARY(INC, true),
    UNARY(DEC, true),
    UNARY(NEG, true),
    UNARY(NOT, true),
    UNARY(MUL, false),
    UNARY(IMUL, false),
    {M(IMUL), FORM_R_RM, SIZES_248, 3, false, false},
    {M(IMUL), FORM_R_RM_IMM, SIZES_248, 3, false, false},
    SHIFT(SHL),
    SHIFT(SHR),
    SHIFT(SAR),
    SHIFT(ROL),
    SHIFT(ROR),
    SHIFT(RCL),
    SHIFT(RCR),
    {M(SHLD), FORM_SHIFT_DOUBLE, SIZES_248, 3, false, false},
    {M(SHRD), FORM_SHIFT_DOUBLE, SIZES_248, 3, false, false},
    BIT(BT, false),
    BIT(BTS, true),
    BIT(BTR, true),
    BIT(BTC, true),
    SCAN(BSF),
    SCAN(BSR),
    SCAN(LZCNT),
    SCAN(TZCNT),
    {M(XCHG), FORM_RM_R, SIZES_ALL, 6, true, false},
    {M(XADD), FORM_RM_R, SIZES_ALL, 4, true, false},
    {M(CMPXCHG), FORM_RM_R, SIZES_ALL, 4, true, false},
    {M(CMPXCHG8B), FORM_M, SIZE_8, 3, true, false},
    {M(BSWAP), FORM_R, SIZE_4 | SIZE_8, 3, false, false},
    BARE(CBW, false),
    BARE(CWDE, false),
    BARE(CDQE, true),
    BARE(CWD, false),
    BARE(CDQ, false),
    BARE(CQO, true),
    BARE(LAHF, false),
    BARE(SAHF, false),
    BARE(CLC, false),
    BARE(STC, false),
    BARE(CMC, false),
    BARE(CLD, false),
    BARE(STD, false),
    BARE(CLI, false),
    BARE(LEAVE, false),
    BARE(NOP, false),
    BARE(PAUSE, false),
    BARE(ENDBR32, false),
    BARE(ENDBR64, false),
    {M(PREFETCHT0), FORM_M, SIZE_1, 1, false, false},
    {M(PREFETCHNTA), FORM_M, SIZE_1, 1, false, false},
    {M(PREFETCHW), FORM_M, SIZE_1, 1, false, false},
    {M(PUSH), FORM_PUSH, SIZES_248, 8, false, false},
    {M(POP), FORM_POP, SIZES_248, 8, false, false},
    {M(ADD), FORM_STACK_ADJUST, SIZES_248, 3, false, false},
    {M(LEA), FORM_STACK_ADJUST, SIZES_248, 2, false, false},
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
    {M(JMP), FORM_JMP, SIZE_1, 4, false, false},
    {M(LOOP), FORM_COUNT, SIZE_1, 3, false, false},
    {M(LOOPE), FORM_COUNT, SIZE_1, 3, false, false},
    {M(LOOPNE), FORM_COUNT, SIZE_1, 3, false, false},
    {M(JRCXZ), FORM_COUNT, SIZE_1, 3, false, false},
    {M(IN), FORM_IO, SIZE_1, 0, false, false},
    {M(OUT), FORM_IO, SIZE_1, 0, false, false},
};

const unsigned table_rows = sizeof(table) / sizeof(table[0]);

/* CPUID exits in a virtual machine: asked once. Without them LZCNT and TZCNT are BSR and BSF. */
static bool has_prefetchw(void)
{
	static bool has, asked;
	unsigned a, b, c = 0, d;

	if (!asked && __get_cpuid(0x80000001, &a, &b, &c, &d))
		has = c & bit_PRFCHW;
	asked = true;
	return has;
}

bool row_usable(const struct row *row, unsigned bits)
{
	if (row->only64 && bits != 64)
		return false;
	return row->mnemonic != M(PREFETCHW) || has_prefetchw();
}
