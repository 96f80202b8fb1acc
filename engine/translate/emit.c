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

static void emit(struct nx_emitter *e, ZydisMnemonic mnemonic, unsigned count,
		 const nx_operand *operands)
{
	ZydisEncoderRequest request;

	nx_memset(&request, 0, sizeof(request));
	request.machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
	request.mnemonic = mnemonic;
	request.operand_count = (ZyanU8)count;
	for (unsigned i = 0; i < count; i++)
		request.operands[i] = operands[i];
	nx_emit_request(e, &request);
}

void nx_emit0(struct nx_emitter *e, ZydisMnemonic mnemonic)
{
	emit(e, mnemonic, 0, NULL);
}

void nx_emit1(struct nx_emitter *e, ZydisMnemonic mnemonic, nx_operand a)
{
	emit(e, mnemonic, 1, &a);
}

void nx_emit2(struct nx_emitter *e, ZydisMnemonic mnemonic, nx_operand a, nx_operand b)
{
	nx_operand operands[2] = {a, b};

	emit(e, mnemonic, 2, operands);
}

void nx_emit_branch(struct nx_emitter *e, ZydisMnemonic mnemonic, bool short_form)
{
	ZydisEncoderRequest request;

	nx_memset(&request, 0, sizeof(request));
	request.machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
	request.mnemonic = mnemonic;
	request.branch_type = short_form ? ZYDIS_BRANCH_TYPE_SHORT : ZYDIS_BRANCH_TYPE_NEAR;
	request.branch_width = short_form ? ZYDIS_BRANCH_WIDTH_8 : ZYDIS_BRANCH_WIDTH_32;
	request.operand_count = 1;
	request.operands[0] = nx_op_imm(0);
	nx_emit_request(e, &request);
}

void nx_patch_branch(struct nx_emitter *e, uint32_t end, uint32_t target)
{
	int32_t displacement = (int32_t)(target - end);

	if (!e->failed)
		nx_memcpy(e->to + end - 4, &displacement, 4);
}

void nx_patch_branch8(struct nx_emitter *e, uint32_t end, uint32_t target)
{
	int32_t displacement = (int32_t)(target - end);

	if (displacement < -128 || displacement > 127)
		e->failed = true;
	if (!e->failed)
		e->to[end - 1] = (uint8_t)displacement;
}
