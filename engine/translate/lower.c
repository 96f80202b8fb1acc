/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * lower.c - translate one guest instruction to host instructions.
 *
 * Most are the same instruction again: registers keep their numbers, the memory operand becomes
 * [r14] after the address has been computed and checked (access.c). Nothing of the guest's state
 * may change before an instruction's last access, which may end the translation.
 */
#include "translate/translator.h"

static const struct nx_decoded *decode(struct nx_translator *t, const struct nx_insn *insn)
{
	const struct nx_decoded *d = nx_decoded_insn(t, insn);

	t->e.failed |= !d;
	return d;
}

/* AND, OR, XOR and TEST leave AF undefined and write all other arithmetic flags. */
static bool writes_all_flags(const struct nx_decoded *d)
{
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_XADD:
		return true;
	default:
		return false;
	}
}

/* Give the host's flags to the instruction as it needs them: most write some and keep some. */
static void flags_before(struct nx_translator *t, const struct nx_decoded *d)
{
	if (nx_flags_read(d) || (nx_flags_written(d) && !writes_all_flags(d)))
		nx_flags_keep_in_host(t);
}

static void flags_after(struct nx_translator *t, const struct nx_decoded *d)
{
	if (!nx_flags_written(d))
		return;
	t->flags_in_host = true;
	t->flags_in_context = false;
}

/* Translate LEA in all address sizes, through r10. */
static void lower_lea(struct nx_translator *t, const struct nx_insn *insn,
		      const struct nx_decoded *d)
{
	struct nx_place place = nx_place_of(insn, d, &d->op[1]);
	struct nx_reg to;

	if (!nx_reg_of(d->op[0].reg.value, &to)) {
		t->e.failed = true;
		return;
	}
	nx_emit_address(t, &place, NX_R10);
	if (!nx_is_homed(to.number)) {
		nx_emit_mov(&t->e, nx_op_gpr(to.number, to.size), nx_op_gpr(NX_R10, to.size));
	} else if (to.size == 2) {
		nx_emit_mov(&t->e, nx_op_home(to.number, 2), nx_op_gpr(NX_R10, 2));
	} else {
		if (to.size == 4)
			nx_emit_mov(&t->e, nx_op_gpr(NX_R10, 4), nx_op_gpr(NX_R10, 4));
		nx_emit_mov(&t->e, nx_op_home(to.number, 8), nx_op_gpr(NX_R10, 8));
	}
}

static void lower_plain(struct nx_translator *t, const struct nx_insn *insn)
{
	const ZydisDecodedOperand *memory;
	const struct nx_decoded *d = decode(t, insn);
	nx_operand operand;

	if (!d)
		return;
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_LEA) {
		lower_lea(t, insn, d);
		return;
	}
	memory = nx_memory_operand(d);
	if (memory) {
		struct nx_place place = nx_place_of(insn, d, memory);
		struct nx_access_kind kind = {.size = insn->size,
					      .write = insn->memory_write,
					      .mmio_form = insn->mmio_form,
					      .locked = nx_is_locked(d)};

		operand = nx_emit_access(t, insn, &place, kind);
	}
	flags_before(t, d);
	nx_emit_again(t, insn, d, memory ? &operand : NULL);
	flags_after(t, d);
}

/* Access the stack at the instruction's initial stack pointer or below it. */
static nx_operand emit_stack_access(struct nx_translator *t, const struct nx_insn *insn, bool write)
{
	struct nx_place place = nx_stack_place(t, write ? -(int64_t)insn->size : 0);
	struct nx_access_kind kind = {.size = insn->size, .write = write};

	return nx_emit_access(t, insn, &place, kind);
}

/* Read the explicit memory operand, which must not be a device's. */
static nx_operand emit_operand_read(struct nx_translator *t, const struct nx_insn *insn,
				    const struct nx_decoded *d)
{
	struct nx_place place = nx_place_of(insn, d, &d->op[0]);
	struct nx_access_kind kind = {.size = insn->size};

	return nx_emit_access(t, insn, &place, kind);
}

/* Load a 32-bit source operand into a scratch register. */
static void emit_source(struct nx_translator *t, unsigned scratch, const ZydisDecodedOperand *op)
{
	struct nx_reg reg;

	if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		nx_emit_mov(&t->e, nx_op_gpr(scratch, 4), nx_op_imm((int32_t)op->imm.value.u));
	else if (!nx_reg_of(op->reg.value, &reg))
		t->e.failed = true;
	else if (nx_is_homed(reg.number))
		nx_emit_mov(&t->e, nx_op_gpr(scratch, 4), nx_op_home(reg.number, 4));
	else
		nx_emit_mov(&t->e, nx_op_gpr(scratch, 4), nx_op_gpr(reg.number, 4));
}

/* Translate two adjacent 32-bit stores as one of 64 bits. */
static void lower_store_pair(struct nx_translator *t, const struct nx_insn *insn)
{
	const struct nx_access_kind kind = {.size = 8, .write = true, .mmio_form = true};
	struct nx_insn half = *insn;
	struct nx_decoded *d = t->s->decoded, *low, *high;
	const struct nx_decoded *one;
	struct nx_place place;
	nx_operand operand;
	uint64_t next[2] = {insn->rip + insn->first_len, insn->rip + insn->len};
	bool ascending;

	for (unsigned i = 0; i < 2; i++) {
		one = nx_decode_full(&t->engine->decoded, &t->graph->mode,
				     insn->bytes + (i ? insn->first_len : 0),
				     i ? insn->len - insn->first_len : insn->first_len);
		if (!one) {
			t->e.failed = true;
			return;
		}
		d[i] = *one;
	}
	ascending = nx_store_place(&d[1], next[1]) > nx_store_place(&d[0], next[0]);
	low = &d[!ascending];
	high = &d[ascending];
	/* An address relative to rip counts from the end of the store that has it. */
	half.rip = ascending ? insn->rip : insn->rip + insn->first_len;
	half.len = low->insn.length;
	place = nx_place_of(&half, low, &low->op[0]);
	operand = nx_emit_access(t, insn, &place, kind);
	emit_source(t, NX_R10, &high->op[1]);
	nx_emit2(&t->e, ZYDIS_MNEMONIC_SHL, nx_op_gpr(NX_R10, 8), nx_op_imm(32));
	emit_source(t, NX_R11, &low->op[1]);
	nx_emit2(&t->e, ZYDIS_MNEMONIC_OR, nx_op_gpr(NX_R10, 8), nx_op_gpr(NX_R11, 8));
	nx_emit_mov(&t->e, operand, nx_op_gpr(NX_R10, 8));
}

/* Moves the stack pointer, by way of r11; the upper part that the stack's width leaves alone stays.
 */
static void emit_stack_adjust(struct nx_translator *t, int delta)
{
	unsigned bits = t->graph->mode.stack_bits;
	unsigned size = bits == 64 ? 8 : 4;

	nx_emit_mov(&t->e, nx_op_gpr(NX_R11, 8), nx_op_home(NX_RSP, 8));
	nx_emit2(&t->e, ZYDIS_MNEMONIC_LEA, nx_op_gpr(NX_R11, size),
		 nx_op_mem(ZYDIS_REGISTER_R11, ZYDIS_REGISTER_NONE, 0, delta, 8));
	if (bits == 16)
		nx_emit_mov(&t->e, nx_op_home(NX_RSP, 2), nx_op_gpr(NX_R11, 2));
	else
		nx_emit_mov(&t->e, nx_op_home(NX_RSP, 8), nx_op_gpr(NX_R11, 8));
}

static void lower_push(struct nx_translator *t, const struct nx_insn *insn)
{
	unsigned size = insn->size;
	const struct nx_decoded *d = decode(t, insn);
	struct nx_reg reg;
	nx_operand stack;

	if (!d)
		return;
	if (d->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		/* The stack's check needs all scratch registers, so the value waits in the context.
		 */
		nx_emit_mov(&t->e, nx_op_gpr(NX_R10, size), emit_operand_read(t, insn, d));
		nx_emit_mov(&t->e, nx_op_slot(NX_CTX_TEMP, size), nx_op_gpr(NX_R10, size));
	}
	stack = emit_stack_access(t, insn, true);
	if (d->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		nx_emit_mov(&t->e, nx_op_gpr(NX_R10, size), nx_op_slot(NX_CTX_TEMP, size));
		nx_emit_mov(&t->e, stack, nx_op_gpr(NX_R10, size));
	} else if (d->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		nx_emit_mov(&t->e, nx_op_gpr(NX_R10, 8), nx_op_imm(d->op[0].imm.value.s));
		nx_emit_mov(&t->e, stack, nx_op_gpr(NX_R10, size));
	} else if (nx_reg_of(d->op[0].reg.value, &reg) && nx_is_homed(reg.number)) {
		nx_emit_mov(&t->e, nx_op_gpr(NX_R10, 8), nx_op_home(reg.number, 8));
		nx_emit_mov(&t->e, stack, nx_op_gpr(NX_R10, size));
	} else {
		nx_emit_mov(&t->e, stack, nx_op_gpr(reg.number, size));
	}
	emit_stack_adjust(t, -(int)size);
}

static void lower_pop(struct nx_translator *t, const struct nx_insn *insn)
{
	unsigned size = insn->size;
	const struct nx_decoded *d = decode(t, insn);
	struct nx_reg reg;

	if (!d || !nx_reg_of(d->op[0].reg.value, &reg))
		return;
	nx_emit_mov(&t->e, nx_op_gpr(NX_R10, size), emit_stack_access(t, insn, false));
	/* Adjust first, because the value of POP SP wins over the adjustment. */
	emit_stack_adjust(t, (int)size);
	if (!nx_is_homed(reg.number))
		nx_emit_mov(&t->e, nx_op_gpr(reg.number, size), nx_op_gpr(NX_R10, size));
	else
		nx_emit_mov(&t->e, nx_op_home(reg.number, size == 2 ? 2 : 8),
			    nx_op_gpr(NX_R10, size == 2 ? 2 : 8));
}

/* Translate MOV from a segment register: 16 bits to memory or a 16-bit register, else
 * zero-extended. */
static void lower_mov_from_sreg(struct nx_translator *t, const struct nx_insn *insn)
{
	const struct nx_decoded *d = decode(t, insn);
	struct nx_reg to;
	unsigned slot;

	if (!d || !nx_reg_of(d->op[0].reg.value, &to))
		return;
	slot = NX_CTX_SEG + NX_SEG_SELECTOR +
	       NX_SEG_SIZE * (unsigned)(d->op[1].reg.value - ZYDIS_REGISTER_ES);
	if (!nx_is_homed(to.number)) {
		nx_emit_mov(&t->e, nx_op_gpr(to.number, to.size), nx_op_slot(slot, to.size));
	} else {
		nx_emit_mov(&t->e, nx_op_gpr(NX_R10, 8), nx_op_slot(slot, 8));
		nx_emit_mov(&t->e, nx_op_home(to.number, to.size == 2 ? 2 : 8),
			    nx_op_gpr(NX_R10, to.size == 2 ? 2 : 8));
	}
}

/* Push the return address. */
void nx_lower_call(struct nx_translator *t, const struct nx_insn *insn)
{
	nx_operand stack = emit_stack_access(t, insn, true);

	nx_emit_mov(&t->e, nx_op_gpr(NX_R10, 8),
		    nx_op_imm((int64_t)nx_next_rip(&t->graph->mode, insn)));
	nx_emit_slide(t, NX_R10, 8);
	nx_emit_mov(&t->e, stack, nx_op_gpr(NX_R10, insn->size));
	emit_stack_adjust(t, -(int)insn->size);
}

void nx_lower_ret(struct nx_translator *t, const struct nx_insn *insn)
{
	emit_stack_adjust(t, (int)(insn->size + insn->target));
}

/* r10 = where an indirect branch goes, noted in the context; nothing has happened otherwise. */
static void lower_indirect_target(struct nx_translator *t, const struct nx_insn *insn)
{
	unsigned size = insn->size;
	const struct nx_decoded *d = decode(t, insn);
	struct nx_reg reg;

	if (!d)
		return;
	nx_flags_keep_in_context(t);
	t->flags_in_host = false;
	if (insn->op == NX_OP_RET || d->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		nx_operand from = insn->op == NX_OP_RET ? emit_stack_access(t, insn, false)
							: emit_operand_read(t, insn, d);

		if (size == 2)
			nx_emit2(&t->e, ZYDIS_MNEMONIC_MOVZX, nx_op_gpr(NX_R10, 4), from);
		else
			nx_emit_mov(&t->e, nx_op_gpr(NX_R10, size), from);
	} else if (nx_reg_of(d->op[0].reg.value, &reg)) {
		if (nx_is_homed(reg.number))
			nx_emit_mov(&t->e, nx_op_gpr(NX_R10, 8), nx_op_home(reg.number, 8));
		else
			nx_emit_mov(&t->e, nx_op_gpr(NX_R10, 8), nx_op_gpr(reg.number, 8));
		if (size == 2)
			nx_emit2(&t->e, ZYDIS_MNEMONIC_MOVZX, nx_op_gpr(NX_R10, 4),
				 nx_op_gpr(NX_R10, 2));
		else if (size == 4)
			nx_emit_mov(&t->e, nx_op_gpr(NX_R10, 4), nx_op_gpr(NX_R10, 4));
	}
	if (nx_mode_slides(&t->graph->mode))
		nx_emit2(&t->e, ZYDIS_MNEMONIC_SUB, nx_op_gpr(NX_R10, 8),
			 nx_op_slot(NX_CTX_SLIDE, 8));
	nx_emit_mov(&t->e, nx_op_slot(NX_CTX_TEMP, 8), nx_op_gpr(NX_R10, 8));
}

/*
 * The emitted sequence. LOOP, by its address size (16: lea r10d, [rcx - 1]; mov cx, r10w):
 *
 *	lea	rcx, [rcx - 1]
 *	mov	r10, rcx
 *	mov	ecx, ecx		(16: movzx ecx, cx; 64: none)
 *	jrcxz	zero
 *	mov	rcx, r10
 *	jmp	over
 * zero:	mov	rcx, r10
 *	jmp	skip
 * over:	jmp	taken			(LOOPE: jz, LOOPNE: jnz)
 * skip:
 *
 * JCXZ has neither the first instruction nor over: behind jrcxz follow "mov rcx, r10; jmp skip",
 * and zero is "mov rcx, r10; jmp taken".
 */
uint32_t nx_lower_count_branch(struct nx_translator *t, const struct nx_decoded *d)
{
	bool counts = d->insn.mnemonic == ZYDIS_MNEMONIC_LOOP ||
		      d->insn.mnemonic == ZYDIS_MNEMONIC_LOOPE ||
		      d->insn.mnemonic == ZYDIS_MNEMONIC_LOOPNE;
	unsigned width = d->insn.address_width;
	uint32_t zero, skip, end;

	/* lea, mov and jrcxz leave the flags alone. */
	if (counts && width == 16) {
		nx_emit2(&t->e, ZYDIS_MNEMONIC_LEA, nx_op_gpr(NX_R10, 4),
			 nx_op_mem(ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_NONE, 0, -1, 8));
		nx_emit_mov(&t->e, nx_op_gpr(NX_RCX, 2), nx_op_gpr(NX_R10, 2));
	} else if (counts) {
		nx_emit2(&t->e, ZYDIS_MNEMONIC_LEA, nx_op_gpr(NX_RCX, width / 8),
			 nx_op_mem(ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_NONE, 0, -1, 8));
	}
	/* r10 keeps rcx while only its counting part decides. */
	nx_emit_mov(&t->e, nx_op_gpr(NX_R10, 8), nx_op_gpr(NX_RCX, 8));
	if (width == 16)
		nx_emit2(&t->e, ZYDIS_MNEMONIC_MOVZX, nx_op_gpr(NX_RCX, 4), nx_op_gpr(NX_RCX, 2));
	else if (width == 32)
		nx_emit_mov(&t->e, nx_op_gpr(NX_RCX, 4), nx_op_gpr(NX_RCX, 4));
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JRCXZ, true);
	zero = t->e.size;
	nx_emit_mov(&t->e, nx_op_gpr(NX_RCX, 8), nx_op_gpr(NX_R10, 8));
	if (counts) {
		/* Not zero: taken, if ZF agrees. Zero: the code after that branch. */
		ZydisMnemonic taken = d->insn.mnemonic == ZYDIS_MNEMONIC_LOOPE ? ZYDIS_MNEMONIC_JZ
				      : d->insn.mnemonic == ZYDIS_MNEMONIC_LOOPNE
					  ? ZYDIS_MNEMONIC_JNZ
					  : ZYDIS_MNEMONIC_JMP;
		uint32_t over;

		nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JMP, true);
		over = t->e.size;
		nx_emit_trap(&t->e);
		nx_branch_patch8(&t->e, zero, t->e.size);
		nx_emit_mov(&t->e, nx_op_gpr(NX_RCX, 8), nx_op_gpr(NX_R10, 8));
		nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JMP, true);
		skip = t->e.size;
		nx_emit_trap(&t->e);
		nx_branch_patch8(&t->e, over, t->e.size);
		nx_emit_branch(&t->e, taken, false);
		end = t->e.size;
		if (taken == ZYDIS_MNEMONIC_JMP)
			nx_emit_trap(&t->e);
		nx_branch_patch8(&t->e, skip, t->e.size);
		return end;
	}
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JMP, true);
	skip = t->e.size;
	nx_emit_trap(&t->e);
	nx_branch_patch8(&t->e, zero, t->e.size);
	nx_emit_mov(&t->e, nx_op_gpr(NX_RCX, 8), nx_op_gpr(NX_R10, 8));
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JMP, false);
	end = t->e.size;
	nx_emit_trap(&t->e);
	nx_branch_patch8(&t->e, skip, t->e.size);
	return end;
}

void nx_lower(struct nx_translator *t, const struct nx_insn *insn)
{
	switch ((enum nx_op)insn->op) {
	case NX_OP_NOP:
	/* These instructions only transfer control. */
	case NX_OP_JMP:
	case NX_OP_JCC:
	case NX_OP_IN:
	case NX_OP_OUT:
	case NX_OP_INSN_EXIT:
		break;
	case NX_OP_CALL:
		nx_lower_call(t, insn);
		break;
	case NX_OP_RET:
	case NX_OP_JMP_INDIRECT:
	case NX_OP_CALL_INDIRECT:
		lower_indirect_target(t, insn);
		break;
	case NX_OP_PLAIN:
		lower_plain(t, insn);
		break;
	case NX_OP_STORE_PAIR:
		lower_store_pair(t, insn);
		break;
	case NX_OP_PUSH:
		lower_push(t, insn);
		break;
	case NX_OP_POP:
		lower_pop(t, insn);
		break;
	case NX_OP_MOV_FROM_SREG:
		lower_mov_from_sreg(t, insn);
		break;
	case NX_OP_HELPER:
		nx_flags_keep_in_context(t);
		nx_emit_site_snippet(t, NX_SNIPPET_HELPER, nx_site_add(t, NX_SITE_HELPER, insn));
		t->flags_in_host = false;
		break;
	default:
		/* Formation admits no other instruction. */
		t->e.failed = true;
		break;
	}
}
