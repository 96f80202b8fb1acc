/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * helper.c - guest instructions that emitted code calls C for: those that touch flags which never
 * leave memory, or more than one register and one memory operand.
 *
 * The context holds the whole guest state while a helper runs. A helper either does all of its
 * instruction or, returning a reason, nothing.
 */
#include "decode.h"
#include "vcpu.h"

bool nx_helper_runs(const struct nx_mode *mode, const void *decoded)
{
	const struct nx_decoded *d = decoded;

	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_CLD:
	case ZYDIS_MNEMONIC_STD:
		return true;
	case ZYDIS_MNEMONIC_CLI:
		/* CPL above IOPL: a fault, or with VME and PVI the virtual interrupt flag. */
		return mode->io_allowed;
	case ZYDIS_MNEMONIC_LEAVE:
		return true;
	default:
		return false;
	}
}

/* RSP = RBP, then POP RBP. */
static nx_status run_leave(struct nx_vcpu *vcpu, const struct nx_decoded *d)
{
	unsigned size = d->insn.operand_width / 8u, bits = vcpu->mode.stack_bits;
	uint64_t mask = bits == 64 ? ~0ull : (1ull << bits) - 1;
	uint64_t *gpr = vcpu->context.gpr, value = 0, rsp = gpr[NX_RBP] & mask;
	nx_status status = nx_guest_read(vcpu, NX_SS, rsp, &value, size);

	if (status != NX_OK)
		return status;
	gpr[NX_RSP] = (gpr[NX_RSP] & ~mask) | ((rsp + size) & mask);
	gpr[NX_RBP] = size == 2 ? (gpr[NX_RBP] & ~0xffffull) | value : value;
	return NX_OK;
}

bool nx_runtime_helper(struct nx_vcpu *vcpu)
{
	const struct nx_site *site = &vcpu->running->site[vcpu->context.site];
	nx_status status = NX_LEAVE_FAULT;
	struct nx_decoded d;

	if (!nx_decode_full(&vcpu->mode, site->bytes, site->len, &d))
		return false;
	switch (d.insn.mnemonic) {
	case ZYDIS_MNEMONIC_CLI:
		vcpu->context.rflags &= ~(uint64_t)NX_FL_IF;
		status = NX_OK;
		break;
	case ZYDIS_MNEMONIC_CLD:
		vcpu->context.rflags &= ~(uint64_t)NX_FL_DF;
		status = NX_OK;
		break;
	case ZYDIS_MNEMONIC_STD:
		vcpu->context.rflags |= NX_FL_DF;
		status = NX_OK;
		break;
	case ZYDIS_MNEMONIC_LEAVE:
		status = run_leave(vcpu, &d);
		break;
	default:
		break;
	}
	vcpu->stop_reason = status;
	return status == NX_OK;
}
