/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* verify_constants.c - the oracle's part about constants that a guest may have chosen. */
#include <stdbool.h>

#include <Zydis/Zydis.h>

#include "verify_oracle.h"

struct judge {
	const uint8_t *code;
	uint32_t size;
	const struct nx_thunks *thunks;
	ZydisDecoder decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

static bool is_long(int64_t value)
{
	return value < INT16_MIN || value > UINT16_MAX;
}

/* Whether the instruction at hand, a branch not, has a constant in it of more than two bytes. */
static bool has_constant(const struct judge *j)
{
	const ZydisDecodedInstructionRaw *raw = &j->insn.raw;
	int64_t immediate = raw->imm[0].value.s;

	if (j->insn.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
		return false;
	if (raw->imm[0].size == 32)
		immediate = (int32_t)immediate;
	return (raw->imm[0].size > 16 && is_long(immediate)) ||
	       (raw->disp.size > 16 && is_long(raw->disp.value));
}

static bool decode_at(struct judge *j, uint32_t at)
{
	return at < j->size && ZYAN_SUCCESS(ZydisDecoderDecodeFull(&j->decoder, j->code + at,
								   j->size - at, &j->insn, j->op));
}

/* Take lea r, [r + key], with r of the width's number, at *at; false if it is something else. */
static bool take_key(struct judge *j, uint32_t *at, ZydisRegister whole, uint32_t place)
{
	int64_t key = nx_blind_key(j->thunks, place), has;

	if (!decode_at(j, *at) || j->insn.mnemonic != ZYDIS_MNEMONIC_LEA)
		return false;
	has = j->op[1].mem.disp.value;
	*at += j->insn.length;
	return j->op[1].mem.base == whole && j->op[1].mem.index == ZYDIS_REGISTER_NONE &&
	       ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, j->op[0].reg.value) ==
		   whole &&
	       (has ^ key) == (has ^ key) >> 63;
}

/* Go through the code from its first byte: what a key is not added to at once is what a guest may
 * have chosen. */
const char *verify_oracle_constants(const uint8_t *code, uint32_t size,
				    const struct nx_thunks *thunks, uint32_t *where)
{
	struct judge judge = {.code = code, .size = size, .thunks = thunks}, *j = &judge;

	ZydisDecoderInit(&judge.decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (uint32_t at = 0; decode_at(j, at);) {
		uint32_t next = at + j->insn.length, place = at;
		bool both = j->insn.raw.imm[0].size == 64;
		ZydisRegister whole;

		*where = at;
		at = next;
		if (!has_constant(j))
			continue;
		if (j->insn.mnemonic != ZYDIS_MNEMONIC_MOV &&
		    j->insn.mnemonic != ZYDIS_MNEMONIC_LEA)
			return "has a constant in another instruction than a load";
		whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64,
							 j->op[0].reg.value);
		if (j->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER || !take_key(j, &at, whole, place))
			return "has a constant without a key";
		if (!both)
			continue;
		if (!decode_at(j, at) || j->insn.mnemonic != ZYDIS_MNEMONIC_BSWAP ||
		    j->op[0].reg.value != whole)
			return "has a constant with half a key";
		at += j->insn.length;
		if (!take_key(j, &at, whole, place + 1))
			return "has a constant with half a key";
	}
	return NULL;
}
