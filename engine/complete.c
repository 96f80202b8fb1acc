/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * complete.c - the two ends of an exit that the engine delivers: what a store sends to the device,
 * and what a load's answer does to the guest's registers.
 */
#include "helper.h"

uint64_t nx_store_value(struct nx_vcpu *vcpu, const struct nx_site *site)
{
	struct nx_decoded d;
	struct nx_reg reg;
	uint64_t value;

	/* Sites with mmio_form are a decoded MOV, MOVZX, MOVSX or MOVSXD (decode.c). */
	if (!nx_decode_full(&vcpu->mode, site->bytes, site->len, &d))
		return 0;
	if (d.op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		value = d.op[1].imm.value.u;
	else if (nx_reg_of(d.op[1].reg.value, &reg))
		value = vcpu->state.gpr[reg.number] >> (reg.high ? 8 : 0);
	else
		value = 0;
	return value & nx_size_mask(site->size);
}

static uint64_t sign_extend(uint64_t value, unsigned size)
{
	unsigned shift = 64 - size * 8;

	return (uint64_t)((int64_t)(value << shift) >> shift);
}

static void finish_load(struct nx_vcpu *vcpu, const struct nx_site *site, uint64_t value)
{
	struct nx_decoded d;
	struct nx_reg reg;

	if (!nx_decode_full(&vcpu->mode, site->bytes, site->len, &d) ||
	    !nx_reg_of(d.op[0].reg.value, &reg))
		return;
	if (d.insn.mnemonic == ZYDIS_MNEMONIC_MOVSX || d.insn.mnemonic == ZYDIS_MNEMONIC_MOVSXD)
		value = sign_extend(value, site->size);
	nx_set_reg(vcpu->state.gpr, &reg, value);
}

void nx_finish_pending(struct nx_vcpu *vcpu, uint64_t data)
{
	const struct nx_site *site = &vcpu->pending_site;
	const struct nx_reg accumulator = {.number = NX_RAX, .size = site->size};

	data &= nx_size_mask(site->size);
	if (!site->write && vcpu->pending == NX_PENDING_IO)
		nx_set_reg(vcpu->state.gpr, &accumulator, data);
	else if (!site->write)
		finish_load(vcpu, site, data);
	vcpu->state.rip = site->next;
	vcpu->pending = NX_PENDING_NONE;
}
