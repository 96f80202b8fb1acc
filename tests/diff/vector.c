/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* vector.c - one random instruction on the registers XMM0 to XMM15, as operands to encode. */
#include "generate.h"

static ZydisEncoderOperand vector_register(struct generator *g)
{
	ZydisEncoderOperand operand = {.type = ZYDIS_OPERAND_TYPE_REGISTER};
	unsigned count = g->seq->bits == 64 ? VECTOR_REGISTERS : VECTOR_REGISTERS / 2;

	/* Few of them, most of the time, so that one instruction works on what another has left. */
	if (!once_in(&g->random, 4))
		count = 3;
	operand.reg.value = ZYDIS_REGISTER_XMM0 + pick(&g->random, count);
	return operand;
}

static ZydisEncoderOperand number(struct generator *g, unsigned below)
{
	ZydisEncoderOperand operand = {.type = ZYDIS_OPERAND_TYPE_IMMEDIATE};

	operand.imm.u = pick(&g->random, below);
	return operand;
}

/* KVM's emulator, which executes what accesses devices, knows few of these instructions. */
static bool vector_memory(struct generator *g, ZydisEncoderRequest *request, unsigned at,
			  unsigned size, bool write, bool aligned)
{
	uint64_t segment = 0;
	bool made;

	g->no_devices = true;
	made = random_memory(g, size, write, aligned, &request->operands[at], &segment);
	g->no_devices = false;
	request->prefixes |= segment;
	return made && !g->on_device;
}

/* Where the address has to be aligned it is, except in hostile sequences sometimes. */
static bool is_aligned(struct generator *g, const struct row *row, unsigned size)
{
	switch (row->mnemonic) {
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
		return false;
	default:
		return size == 16 && !(g->hostile && once_in(&g->random, 4));
	}
}

bool make_vector(struct generator *g, const struct row *row, unsigned size,
		 ZydisEncoderRequest *request)
{
	ZydisEncoderOperand *op = request->operands;
	bool aligned = is_aligned(g, row, size);
	unsigned general = size == 8 ? 8 : 4;

	request->operand_count = 2;
	op[0] = vector_register(g);
	switch (row->form) {
	case FORM_V_V:
		op[1] = vector_register(g);
		return true;
	case FORM_V_M:
		return vector_memory(g, request, 1, size, false, aligned);
	case FORM_M_V:
		op[1] = vector_register(g);
		return vector_memory(g, request, 0, size, true, aligned);
	case FORM_V_R:
		op[1] = random_register(g, general);
		return true;
	case FORM_R_V:
		op[0] = random_register(g, general);
		op[1] = vector_register(g);
		return true;
	case FORM_V_IMM:
		op[1] = number(g, 80);
		return true;
	case FORM_V_V_IMM:
		request->operand_count = 3;
		op[1] = vector_register(g);
		op[2] = number(g, 256);
		return true;
	case FORM_V_M_IMM:
		request->operand_count = 3;
		op[2] = number(g, 256);
		return vector_memory(g, request, 1, size, false, aligned);
	default:
		return false;
	}
}
