/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * again.c - emit a guest's instruction again, with what the host has in place of its operands:
 * scratch registers for those with a home in the context, r14 for a place in memory.
 *
 * Opcode and immediate operand are the guest's, but for a long one where constants are blinded.
 * Prefixes and ModRM are made anew, since 16-bit and 32-bit code has other ones for the same
 * operands. The few opcodes that 64-bit mode lacks have another form there.
 */
#include "translate/translator.h"

/* The substitutions that were made in an instruction's registers. */
struct substitution {
	uint8_t guest[2]; /* homed registers in r10, r11 */
	bool store[2];
	unsigned count;
	bool swap_high; /* AH, CH, DH or BH was exchanged with its low half */
	uint8_t high;
};

static unsigned scratch_for(struct nx_translator *t, struct substitution *s, unsigned guest,
			    bool store)
{
	static const uint8_t scratch[2] = {NX_R10, NX_R11};
	unsigned i;

	for (i = 0; i < s->count; i++)
		if (s->guest[i] == guest)
			break;
	if (i == 2) {
		t->e.failed = true;
		return NX_R10;
	}
	if (i == s->count) {
		s->guest[i] = (uint8_t)guest;
		s->store[i] = false;
		s->count++;
		nx_emit_mov(&t->e, nx_op_gpr(scratch[i], 8), nx_op_home(guest, 8));
	}
	s->store[i] |= store;
	return scratch[i];
}

static void swap_high(struct nx_translator *t, const struct substitution *s)
{
	if (s->swap_high)
		nx_emit2(&t->e, ZYDIS_MNEMONIC_XCHG, nx_op_reg(ZYDIS_REGISTER_AH + s->high),
			 nx_op_reg(ZYDIS_REGISTER_AL + s->high));
}

/* Return whether an operand-size prefix and REX.W say something about an instruction's operands. */
static bool has_operand_size(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_LAHF:
	case ZYDIS_MNEMONIC_SAHF:
	case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_STC:
	case ZYDIS_MNEMONIC_CMC:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_CMPXCHG8B:
		return false;
	default:
		return true;
	}
}

/* Give the encoding what the instruction has besides its operands. */
static bool encode_opcode(const struct nx_decoded *d, struct nx_encoding *x)
{
	const ZydisDecodedInstruction *insn = &d->insn;

	if (insn->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT && insn->opcode_map != ZYDIS_OPCODE_MAP_0F)
		return false;
	*x = (struct nx_encoding){
	    .lock = (insn->attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0,
	    .narrow = insn->operand_width == 16 && has_operand_size(insn->mnemonic),
	    .wide = insn->raw.rex.W && has_operand_size(insn->mnemonic),
	    .two_bytes = insn->opcode_map == ZYDIS_OPCODE_MAP_0F,
	    .opcode = insn->opcode,
	    .has_modrm = (insn->attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0,
	    .reg = insn->raw.modrm.reg,
	    .rm = insn->raw.modrm.rm,
	};
	for (unsigned i = 0; i < insn->raw.prefix_count; i++) {
		if (insn->raw.prefixes[i].type != ZYDIS_PREFIX_TYPE_MANDATORY)
			continue;
		if (insn->raw.prefixes[i].value == 0x66)
			return false;
		x->repeat = insn->raw.prefixes[i].value;
	}
	return true;
}

/* Replace opcodes and extensions of them that have another meaning in 64-bit mode, or are not the
 * usual ones. */
static void replace_opcode(const struct nx_decoded *d, struct nx_encoding *x)
{
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
		if (x->in_opcode) {
			x->in_opcode = false;
			x->has_modrm = true;
			x->opcode = 0xff;
			x->reg = d->insn.mnemonic == ZYDIS_MNEMONIC_DEC;
		}
		break;
	case ZYDIS_MNEMONIC_MOV: /* between the accumulator and an address without registers */
		if (!x->two_bytes && x->opcode >= 0xa0 && x->opcode <= 0xa3) {
			x->has_modrm = true;
			x->opcode = (uint8_t)(0x88 + (x->opcode ^ 0xa2));
			x->reg = NX_RAX;
		}
		break;
	case ZYDIS_MNEMONIC_SHL:
		if (x->reg == 6)
			x->reg = 4;
		break;
	case ZYDIS_MNEMONIC_TEST:
		if (x->opcode >= 0xf6 && x->reg == 1)
			x->reg = 0;
		break;
	default:
		if (!x->two_bytes && x->opcode == 0x82)
			x->opcode = 0x80;
		/* SETcc ignores it. */
		if (x->two_bytes && x->opcode >= 0x90 && x->opcode <= 0x9f)
			x->reg = 0;
		break;
	}
}

/* Give the encoding a register operand, or what there is in its place. */
static void encode_register(struct nx_translator *t, const ZydisDecodedOperand *op,
			    struct nx_encoding *x, struct substitution *s)
{
	bool store = (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
	struct nx_reg reg;

	if (!nx_reg_of(op->reg.value, &reg)) {
		t->e.failed = true;
		return;
	}
	if (reg.high && x->memory) {
		s->swap_high = true;
		s->high = reg.number;
		reg.high = false;
	} else if (nx_is_homed(reg.number)) {
		reg.number = (uint8_t)scratch_for(t, s, reg.number, store);
	}
	switch (op->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		x->reg = nx_encode_reg(x, &reg);
		break;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		x->rm = nx_encode_reg(x, &reg);
		break;
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		x->in_opcode = true;
		x->opcode &= 0xf8;
		x->rm = nx_encode_reg(x, &reg);
		break;
	default: /* the accumulator, CL: the opcode says so */
		t->e.failed |= reg.number > NX_RDX;
		break;
	}
}

static void encode_operands(struct nx_translator *t, const struct nx_decoded *d,
			    struct nx_encoding *x, struct substitution *s)
{
	for (unsigned i = 0; i < d->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *op = &d->op[i];

		switch (op->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			encode_register(t, op, x, s);
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			t->e.failed |= !x->memory; /* an address that nothing has checked */
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			if (op->encoding == ZYDIS_OPERAND_ENCODING_NONE)
				break;
			x->immediate = op->imm.value.s;
			x->immediate_size = d->insn.raw.imm[0].size / 8;
			break;
		default:
			t->e.failed = true;
			break;
		}
	}
}

/* Return whether 64-bit code names neither memory nor a homed register. */
static bool is_verbatim(const struct nx_translator *t, const struct nx_decoded *d)
{
	if (t->graph->mode.bits != 64 || d->insn.raw.prefix_count > 0)
		return false;
	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		struct nx_reg reg;

		if (d->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return false;
		if (d->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    nx_reg_of(d->op[i].reg.value, &reg) && nx_is_homed(reg.number))
			return false;
	}
	return true;
}

/* Return the immediate operand as the instruction takes it. */
static int64_t immediate_of(const struct nx_decoded *d, int64_t immediate)
{
	return d->insn.raw.imm[0].size == 32 ? (int32_t)immediate : immediate;
}

/* Return whether an instruction has an immediate operand that may not stand in the code. */
static bool needs_blinding(const struct nx_translator *t, const struct nx_decoded *d)
{
	for (unsigned i = 0; t->e.blind && i < d->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *op = &d->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && d->insn.raw.imm[0].size >= 32)
			return nx_needs_blinding(&t->e, immediate_of(d, op->imm.value.s));
	}
	return false;
}

/*
 * Emit the instruction with a register in place of its immediate operand. Neither the way in which
 * the register gets its value nor a move changes flags.
 */
static void emit_blinded(struct nx_translator *t, const struct nx_decoded *d,
			 const struct nx_encoding *x, const struct substitution *s)
{
	unsigned size = x->wide ? 8 : 4, scratch = s->count ? NX_R11 : NX_R10;
	nx_operand value = nx_op_imm(immediate_of(d, x->immediate));
	struct nx_encoding y = {.lock = x->lock,
				.wide = x->wide,
				.opcode = 0x89,
				.has_modrm = true,
				.rm = x->rm,
				.memory = x->memory};

	t->e.failed |= x->narrow;
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		if (x->memory)
			break;
		nx_emit_mov(&t->e, nx_op_gpr(x->rm, size), value);
		return;
	case ZYDIS_MNEMONIC_IMUL:
		/* The result's own register, which is not read, unless it is the other factor's. */
		if (x->memory || x->reg != x->rm)
			scratch = x->reg;
		y.two_bytes = true;
		y.opcode = 0xaf;
		break;
	case ZYDIS_MNEMONIC_TEST:
		y.opcode = 0x85;
		break;
	default: /* ADD, OR, ADC, SBB, AND, SUB, XOR, CMP */
		t->e.failed |= x->two_bytes || (x->opcode != 0x81 && (x->opcode & 0xc7) != 0x05);
		y.opcode = (uint8_t)((x->opcode == 0x81 ? x->reg * 8 : x->opcode & 0x38) + 1);
		break;
	}
	if (!x->has_modrm)
		y.rm = NX_RAX;
	y.reg = (uint8_t)scratch;
	nx_emit_mov(&t->e, nx_op_gpr(scratch, size), value);
	nx_emit_encoded(&t->e, &y);
	if (y.two_bytes && scratch != x->reg)
		nx_emit_mov(&t->e, nx_op_gpr(x->reg, size), nx_op_gpr(scratch, size));
}

void nx_emit_again(struct nx_translator *t, const struct nx_insn *insn, const struct nx_decoded *d,
		   const nx_operand *memory)
{
	struct substitution s = {.count = 0};
	bool blinded = needs_blinding(t, d);
	struct nx_encoding x;

	if (!blinded && is_verbatim(t, d)) {
		nx_emit_bytes(&t->e, insn->bytes, insn->len);
		return;
	}
	if (!encode_opcode(d, &x)) {
		t->e.failed = true;
		return;
	}
	x.memory = memory;
	encode_operands(t, d, &x, &s);
	replace_opcode(d, &x);
	swap_high(t, &s);
	if (blinded)
		emit_blinded(t, d, &x, &s);
	else
		nx_emit_encoded(&t->e, &x);
	swap_high(t, &s);
	for (unsigned i = 0; i < s.count; i++)
		if (s.store[i])
			nx_emit_mov(&t->e, nx_op_home(s.guest[i], 8),
				    nx_op_gpr(i ? NX_R11 : NX_R10, 8));
}
