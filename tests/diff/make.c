/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* make.c - one random instruction of a row of the table, as bytes. */
#include <string.h>

#include "generate.h"

static unsigned stack_size(const struct generator *g)
{
	return g->seq->stack_bits / 8;
}

bool encode_request(struct generator *g, ZydisEncoderRequest *request)
{
	ZyanUSize len = sizeof(g->bytes);

	if (ZYAN_FAILED(
		ZydisEncoderEncodeInstructionAbsolute(request, g->bytes, &len, rip_here(g))))
		return false;
	g->len = (unsigned)len;
	return true;
}

/* A size out of those that the row and the mode have. */
static unsigned random_size(struct generator *g, const struct row *row)
{
	unsigned size;

	if (row->sizes == SIZE_4 || row->sizes == SIZE_8 || row->sizes == SIZE_16)
		return row->sizes;
	do
		size = 1u << pick(&g->random, g->seq->bits == 64 ? 4 : 3);
	while (!(row->sizes & size));
	return size;
}

static bool rm(struct generator *g, ZydisEncoderRequest *request, unsigned at, unsigned size,
	       bool write, bool atomic)
{
	uint64_t segment = 0;

	if (once_in(&g->random, 2)) {
		request->operands[at] = random_register(g, size);
		return true;
	}
	if (!random_memory(g, size, write, atomic, &request->operands[at], &segment))
		return false;
	request->prefixes |= segment;
	return true;
}

static bool memory(struct generator *g, ZydisEncoderRequest *request, unsigned at, unsigned size,
		   bool write, bool atomic)
{
	uint64_t segment = 0;

	if (!random_memory(g, size, write, atomic, &request->operands[at], &segment))
		return false;
	request->prefixes |= segment;
	return true;
}

static bool reads_only(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_MUL:
	case ZYDIS_MNEMONIC_IMUL:
		return true;
	default:
		return false;
	}
}

static bool make_shift(struct generator *g, ZydisEncoderRequest *request, unsigned size)
{
	ZydisEncoderOperand *count = &request->operands[request->operand_count - 1];

	*count = (ZydisEncoderOperand){.type = ZYDIS_OPERAND_TYPE_IMMEDIATE};
	/* A 16-bit double shift by more than 16 has no defined result. */
	if (size == 2 && request->operand_count == 3) {
		count->imm.u = pick(&g->random, 17);
		return true;
	}
	switch (pick(&g->random, 3)) {
	case 0:
		count->imm.u = 1;
		break;
	case 1:
		count->imm.u = pick(&g->random, 70);
		break;
	default:
		*count = plain_register(NX_RCX, 1);
		break;
	}
	return true;
}

/* Forms without a choice between register and memory, and those that change size. */
static bool make_other_operands(struct generator *g, const struct row *row, unsigned size,
				bool lock, ZydisEncoderRequest *request)
{
	unsigned small;

	switch (row->form) {
	case FORM_R_M:
		request->operands[0] = random_register(g, size);
		return memory(g, request, 1, size, false, false);
	case FORM_M_R:
		request->operands[1] = random_register(g, size);
		return memory(g, request, 0, size, true, false);
	case FORM_M:
		request->operand_count = 1;
		/* Cmpxchg16b has to be aligned, the others are prefetches. */
		return memory(g, request, 0, size, size >= 8,
			      lock || (size == 16 && !(g->hostile && once_in(&g->random, 4))));
	case FORM_LEA:
		request->operands[0] = random_register(g, size);
		return memory(g, request, 1, size, false, false);
	case FORM_EXTEND:
		small = row->mnemonic == ZYDIS_MNEMONIC_MOVSXD ? 4 : 1u << pick(&g->random, 2);
		request->operands[0] = random_register(g, size);
		return small < size && rm(g, request, 1, small, false, false);
	case FORM_R:
		request->operand_count = 1;
		request->operands[0] = random_register(g, size);
		return true;
	case FORM_FROM_SREG:
		request->operands[0] = random_register(g, size);
		request->operands[1] = (ZydisEncoderOperand){.type = ZYDIS_OPERAND_TYPE_REGISTER};
		request->operands[1].reg.value = ZYDIS_REGISTER_ES + pick(&g->random, NX_SREGS);
		return true;
	default:
		return false;
	}
}

static bool make_operands(struct generator *g, const struct row *row, unsigned size, bool lock,
			  ZydisEncoderRequest *request)
{
	bool write = !reads_only(row->mnemonic);
	bool atomic = lock || row->mnemonic == ZYDIS_MNEMONIC_XCHG;

	request->operand_count = 2;
	switch (row->form) {
	case FORM_NONE:
		request->operand_count = 0;
		return true;
	case FORM_RM_R:
		request->operands[1] = random_register(g, size);
		return rm(g, request, 0, size, write, atomic);
	case FORM_R_RM:
		request->operands[0] = random_register(g, size);
		return rm(g, request, 1, size, false, false);
	case FORM_RM_IMM:
		request->operands[1] = random_immediate(g, size);
		if (row->mnemonic == ZYDIS_MNEMONIC_MOV && once_in(&g->random, 4)) {
			request->operands[0] = random_register(g, size);
			request->operands[1].imm.u = random_next(&g->random) >> (64 - size * 8);
			return true;
		}
		return rm(g, request, 0, size, write, atomic);
	case FORM_RM_BIT:
		request->operands[1] = (ZydisEncoderOperand){.type = ZYDIS_OPERAND_TYPE_IMMEDIATE};
		request->operands[1].imm.u = pick(&g->random, 80);
		return rm(g, request, 0, size, write, atomic);
	case FORM_RM:
		request->operand_count = 1;
		return rm(g, request, 0, size, write, atomic);
	case FORM_R_RM_IMM:
		request->operand_count = 3;
		request->operands[0] = random_register(g, size);
		request->operands[2] = random_immediate(g, size);
		return rm(g, request, 1, size, false, false);
	case FORM_SHIFT:
		return rm(g, request, 0, size, true, false) && make_shift(g, request, size);
	case FORM_SHIFT_DOUBLE:
		request->operand_count = 3;
		request->operands[1] = random_register(g, size);
		return rm(g, request, 0, size, true, false) && make_shift(g, request, size);
	case FORM_REG_REG:
		request->operands[0] = random_register(g, size);
		request->operands[1] = random_register(g, size);
		return true;
	default:
		return make_other_operands(g, row, size, lock, request);
	}
}

/* PUSH and POP: the stack pointer keeps away from its pages' ends unless that is wanted. */
static bool make_stack(struct generator *g, const struct row *row, ZydisEncoderRequest *request)
{
	unsigned wide = g->seq->bits == 64 ? 8 : 4;
	unsigned size = once_in(&g->random, 4) ? 2 : wide;

	if (g->seq->bits == 16)
		size = once_in(&g->random, 4) ? 4 : 2;
	request->operand_count = 1;
	if (row->form == FORM_POP) {
		request->operands[0] = random_register(g, size);
		return true;
	}
	switch (pick(&g->random, 3)) {
	case 0:
		request->operand_size_hint = size == 2   ? ZYDIS_OPERAND_SIZE_HINT_16
					     : size == 4 ? ZYDIS_OPERAND_SIZE_HINT_32
							 : ZYDIS_OPERAND_SIZE_HINT_64;
		request->operands[0] = random_immediate(g, size);
		return true;
	case 1:
		return memory(g, request, 0, size, false, false);
	default:
		request->operands[0] = random_register(g, size);
		return true;
	}
}

static bool make_stack_adjust(struct generator *g, const struct row *row,
			      ZydisEncoderRequest *request)
{
	int64_t by = ((int64_t)pick(&g->random, 24) - 12) * 4;
	ZydisEncoderOperand sp = plain_register(NX_RSP, stack_size(g)),
			    *from = &request->operands[1];

	request->operand_count = 2;
	request->operands[0] = sp;
	*from = (ZydisEncoderOperand){.type = ZYDIS_OPERAND_TYPE_IMMEDIATE};
	from->imm.s = by;
	if (row->mnemonic == ZYDIS_MNEMONIC_LEA) {
		/* SP is no base of a 16-bit address. */
		*from = (ZydisEncoderOperand){.type = ZYDIS_OPERAND_TYPE_MEMORY};
		from->mem.base = g->seq->bits == 64 ? ZYDIS_REGISTER_RSP : ZYDIS_REGISTER_ESP;
		from->mem.displacement = by;
		from->mem.size = (ZyanU16)stack_size(g);
	}
	return true;
}

/* MOV between the accumulator and an absolute address as wide as addresses are. */
static bool make_moffs(struct generator *g, unsigned size)
{
	bool store = once_in(&g->random, 2), narrow = once_in(&g->random, 4);
	unsigned width = g->seq->bits, natural = g->seq->bits == 16 ? 2 : 4;
	uint64_t offset;

	if (narrow)
		width = width == 64 ? 32 : width == 32 ? 16 : 32;
	if (!offset_in(g, NX_DS, random_target(g, size, store, false), size, store, &offset) ||
	    (width < 64 && offset >> width))
		return false;
	g->len = 0;
	if (narrow)
		put(g, 0x67);
	if (size != 1 && size != 8 && size != natural)
		put(g, 0x66);
	if (size == 8)
		put(g, 0x48);
	put(g, 0xa0 + (size != 1) + 2 * store);
	for (unsigned i = 0; i < width / 8; i++)
		put(g, (unsigned)(offset >> 8 * i) & 0xff);
	return true;
}

/* The table lists the conditions in the order of their encoding. */
static unsigned condition_of(const struct row *row)
{
	unsigned condition = 0;

	while (row > table && row[-1].form != FORM_STACK_ADJUST)
		condition += (--row)->form == FORM_JCC;
	return condition;
}

/* The displacement comes when the target's place is known (generate.c). */
static bool make_branch(struct generator *g, const struct row *row)
{
	unsigned last = g->skipping ? g->planned - 1 : g->next_io, ahead = last - g->index;
	bool near = row->form == FORM_CALL || (row->form != FORM_COUNT && once_in(&g->random, 3));
	/* 66 in 32-bit code cuts EIP to 16 bits; in 64-bit code the vendors disagree on it. */
	bool resize = near && g->seq->bits != 64 && once_in(&g->random, 4) &&
		      (g->seq->bits == 16 || rip_here(g) < 0xf000);
	unsigned wide = (g->seq->bits == 16) == resize ? 4 : 2;
	unsigned condition;

	g->len = 0;
	g->target = g->index + 1 + pick(&g->random, ahead < 6 ? ahead : 6);
	if (resize)
		put(g, 0x66);
	switch (row->form) {
	case FORM_JCC:
		condition = condition_of(row);
		if (near)
			put(g, 0x0f);
		put(g, (near ? 0x80 : 0x70) + condition);
		break;
	case FORM_CALL:
		put(g, 0xe8);
		break;
	case FORM_JMP:
		put(g, near ? 0xe9 : 0xeb);
		break;
	default:
		if (once_in(&g->random, 3))
			put(g, 0x67);
		put(g, 0xe0 + (row->mnemonic == ZYDIS_MNEMONIC_LOOPNE  ? 0
			       : row->mnemonic == ZYDIS_MNEMONIC_LOOPE ? 1
			       : row->mnemonic == ZYDIS_MNEMONIC_LOOP  ? 2
								       : 3));
		break;
	}
	for (unsigned i = 0; i < (near ? wide : 1); i++)
		put(g, 0);
	return true;
}

static bool make_io(struct generator *g, const struct row *row)
{
	unsigned size = 1u << pick(&g->random, 3), natural = g->seq->bits == 16 ? 2 : 4;
	bool dx = !once_in(&g->random, 3);

	g->len = 0;
	if (size != 1 && size != natural)
		put(g, 0x66);
	put(g, (dx ? 0xec : 0xe4) + (size != 1) + (row->mnemonic == ZYDIS_MNEMONIC_OUT ? 2 : 0));
	if (!dx)
		put(g, pick(&g->random, 256));
	return true;
}

bool make_instruction(struct generator *g, const struct row *row)
{
	ZydisEncoderRequest request = {.machine_mode = machine_mode(g->seq),
				       .mnemonic = row->mnemonic};
	unsigned size = random_size(g, row);
	bool lock = row->lockable && once_in(&g->random, 3), made;

	g->target = g->address_of = 0;
	g->has_displacement = g->on_device = false;
	switch (row->form) {
	case FORM_MOFFS:
		return make_moffs(g, size);
	case FORM_JCC:
	case FORM_JMP:
	case FORM_CALL:
	case FORM_COUNT:
		return make_branch(g, row);
	case FORM_IO:
		return make_io(g, row);
	case FORM_STRING:
	case FORM_DIVIDE:
	case FORM_BIT_STRING:
	case FORM_XLAT:
	case FORM_POPF:
	case FORM_RET:
	case FORM_REGISTER_JUMP:
	case FORM_MEMORY_JUMP:
	case FORM_STRING_IO:
	case FORM_LOAD_SREG:
	case FORM_FOREIGN:
	case FORM_PUSHF:
	case FORM_PUSHA:
	case FORM_POPA:
	case FORM_PUSH_SREG:
	case FORM_ENTER:
	case FORM_POP_M:
		return compose(g, row);
	case FORM_PUSH:
	case FORM_POP:
		made = make_stack(g, row, &request);
		break;
	case FORM_STACK_ADJUST:
		made = make_stack_adjust(g, row, &request);
		break;
	case FORM_V_V:
	case FORM_V_M:
	case FORM_M_V:
	case FORM_V_R:
	case FORM_R_V:
	case FORM_V_IMM:
	case FORM_V_V_IMM:
	case FORM_V_M_IMM:
		made = make_vector(g, row, size, &request);
		break;
	default:
		made = make_operands(g, row, size, lock, &request);
		break;
	}
	if (made && lock && request.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
		request.prefixes |= ZYDIS_ATTRIB_HAS_LOCK;
	return made && encode_request(g, &request);
}
