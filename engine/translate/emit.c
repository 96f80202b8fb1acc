/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* emit.c - see emit.h. */
#include "translate/emit.h"

void nx_emit_bytes(struct nx_emitter *e, const uint8_t *bytes, unsigned len)
{
	if (e->failed || e->capacity - e->size < len) {
		e->failed = true;
		return;
	}
	nx_memcpy(e->to + e->size, bytes, len);
	e->size += len;
}

void nx_emit_request(struct nx_emitter *e, const ZydisEncoderRequest *request)
{
	ZyanUSize len = e->capacity - e->size;

	if (e->failed)
		return;
	if (ZYAN_FAILED(ZydisEncoderEncodeInstruction(request, e->to + e->size, &len))) {
		e->failed = true;
		return;
	}
	e->size += (uint32_t)len;
}

void nx_op_encode(const nx_operand *from, ZydisEncoderOperand *to)
{
	nx_memset(to, 0, sizeof(*to));
	to->type = (ZydisOperandType)from->type;
	switch (to->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		to->reg.value = (ZydisRegister)from->reg;
		break;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		to->mem.base = (ZydisRegister)from->reg;
		to->mem.index = (ZydisRegister)from->index;
		to->mem.scale = from->scale;
		to->mem.displacement = from->value;
		to->mem.size = from->size;
		break;
	default:
		to->imm.s = from->value;
		break;
	}
}

static ZydisEncoderRequest *begin(struct nx_emitter *e, ZydisMnemonic mnemonic, unsigned count)
{
	ZydisEncoderRequest *request = e->request;

	nx_memset(request, 0, sizeof(*request));
	request->machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
	request->mnemonic = mnemonic;
	request->operand_count = (ZyanU8)count;
	return request;
}

void nx_emit0(struct nx_emitter *e, ZydisMnemonic mnemonic)
{
	nx_emit_request(e, begin(e, mnemonic, 0));
}

void nx_emit1(struct nx_emitter *e, ZydisMnemonic mnemonic, nx_operand a)
{
	ZydisEncoderRequest *request = begin(e, mnemonic, 1);

	nx_op_encode(&a, &request->operands[0]);
	nx_emit_request(e, request);
}

void nx_emit2(struct nx_emitter *e, ZydisMnemonic mnemonic, nx_operand a, nx_operand b)
{
	ZydisEncoderRequest *request = begin(e, mnemonic, 2);

	nx_op_encode(&a, &request->operands[0]);
	nx_op_encode(&b, &request->operands[1]);
	nx_emit_request(e, request);
}

void nx_emit_branch(struct nx_emitter *e, ZydisMnemonic mnemonic, bool short_form)
{
	ZydisEncoderRequest *request = begin(e, mnemonic, 1);

	request->branch_type = short_form ? ZYDIS_BRANCH_TYPE_SHORT : ZYDIS_BRANCH_TYPE_NEAR;
	request->branch_width = short_form ? ZYDIS_BRANCH_WIDTH_8 : ZYDIS_BRANCH_WIDTH_32;
	request->operands[0].type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
	nx_emit_request(e, request);
}

void nx_emit_trap(struct nx_emitter *e)
{
	static const uint8_t int3 = 0xcc;

	if (e->traps)
		nx_emit_bytes(e, &int3, 1);
}

void nx_branch_patch(struct nx_emitter *e, uint32_t end, uint32_t target)
{
	int32_t displacement = (int32_t)(target - end);

	if (!e->failed)
		nx_memcpy(e->to + end - 4, &displacement, 4);
}

void nx_branch_patch8(struct nx_emitter *e, uint32_t end, uint32_t target)
{
	int32_t displacement = (int32_t)(target - end);

	if (displacement < -128 || displacement > 127)
		e->failed = true;
	if (!e->failed)
		e->to[end - 1] = (uint8_t)displacement;
}
