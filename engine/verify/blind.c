/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * blind.c - the verifier's rule for constants (context.h, rule 10): a long one is followed by the
 * addition of a key that the guest cannot know, so it is not what the guest chose.
 *
 * What the guest chose is not looked at: whatever a guest makes of it, the register gets the sum of
 * what stands in the code and the key. That this sum is the guest's constant is a matter of right
 * translation, as all values are.
 */
#include "verify/verifier.h"

/* The immediate operand's number; the number of operands: there is none. */
static unsigned immediate_of(const struct nx_verifier *v)
{
	unsigned i = 0;

	while (i < v->d->insn.operand_count &&
	       (v->d->op[i].type != ZYDIS_OPERAND_TYPE_IMMEDIATE ||
		v->d->op[i].encoding == ZYDIS_OPERAND_ENCODING_NONE))
		i++;
	return i;
}

static bool has_long_immediate(const struct nx_verifier *v)
{
	unsigned i = immediate_of(v);
	int64_t value;

	if (i == v->d->insn.operand_count || v->d->insn.raw.imm[0].size < 32)
		return false;
	value = v->d->op[i].imm.value.s;
	return !nx_is_short(v->d->insn.raw.imm[0].size == 32 ? (int32_t)value : value);
}

static bool has_long_displacement(const struct nx_verifier *v)
{
	for (unsigned i = 0; i < v->d->insn.operand_count; i++)
		if (v->d->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    !nx_is_short(v->d->op[i].mem.disp.value))
			return true;
	return false;
}

/* lea r, [r + key]: the key of this place, for the register that the constant is in. */
static bool adds_key(const struct nx_verifier *v, uint32_t place)
{
	const ZydisDecodedOperand *from = &v->d->op[1];
	int64_t key = nx_blind_key(v->thunks, place);

	return v->d->insn.mnemonic == ZYDIS_MNEMONIC_LEA && v->d->op[0].reg.value == v->key_reg &&
	       from->mem.index == ZYDIS_REGISTER_NONE &&
	       ZydisRegisterGetId(from->mem.base) == ZydisRegisterGetId(v->key_reg) &&
	       (from->mem.disp.value == key || from->mem.disp.value == ~key);
}

/* An instruction that only undoes what the one before it has for a constant. */
static enum nx_verify_result verify_undoing(struct nx_verifier *v)
{
	switch (v->undo) {
	case UNDO_BY_SWAP:
		if (v->d->insn.mnemonic != ZYDIS_MNEMONIC_BSWAP || !is_reg(v, 0, v->key_reg))
			return NX_VERIFY_CONSTANT;
		v->key_at++;
		v->undo = UNDO_BY_KEY;
		return NX_VERIFY_OK;
	case UNDO_BOTH_HALVES:
		v->undo = UNDO_BY_SWAP;
		break;
	default:
		v->undo = UNDO_NOTHING;
		break;
	}
	return adds_key(v, v->key_at) ? NX_VERIFY_OK : NX_VERIFY_CONSTANT;
}

enum nx_verify_result nx_verify_constants(struct nx_verifier *v)
{
	bool long_immediate, long_displacement;

	if (v->undo != UNDO_NOTHING)
		return verify_undoing(v);
	/* A branch's displacement is proven by where it leads. */
	if (v->listing == NXV_BRANCH || v->listing == NXV_JUMP || v->listing == NXV_CALL)
		return NX_VERIFY_OK;
	long_immediate = has_long_immediate(v);
	long_displacement = has_long_displacement(v);
	if (!long_immediate && !long_displacement)
		return NX_VERIFY_OK;
	if (!(long_immediate && v->d->insn.mnemonic == ZYDIS_MNEMONIC_MOV) &&
	    !(long_displacement && v->d->insn.mnemonic == ZYDIS_MNEMONIC_LEA))
		return NX_VERIFY_CONSTANT;
	if (v->d->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return NX_VERIFY_CONSTANT;
	v->key_at = v->at;
	v->key_reg = v->d->op[0].reg.value;
	v->undo =
	    long_immediate && v->d->insn.raw.imm[0].size == 64 ? UNDO_BOTH_HALVES : UNDO_BY_KEY;
	return NX_VERIFY_OK;
}
