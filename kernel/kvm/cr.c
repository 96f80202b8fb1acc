// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * cr.c - accesses to CR0 and CR4, by the functions that KVM's handlers call.
 *
 * A new value may change the mode, address translation and what KVM intercepts. So the whole state
 * is read again, and the engine forgets its translations of guest addresses.
 */
#include "host.h"

static int write(struct nxk_vcpu *v)
{
	const struct nx_exit *exit = &v->exit;
	struct kvm_vcpu *vcpu = v->vcpu;
	int result = 0;

	if (exit->insn == NX_INSN_LMSW)
		kvm_lmsw(vcpu, exit->operand);
	else
		result =
		    exit->reg == 0 ? kvm_set_cr0(vcpu, exit->data) : kvm_set_cr4(vcpu, exit->data);
	result = kvm_complete_insn_gp(vcpu, result);
	if (v->skipped)
		nxk_read_state(v);
	return result;
}

/* Only CR4 is read here. The engine knows the destination; KVM moves rip, and so counts the
 * instruction. */
static int read(struct nxk_vcpu *v)
{
	struct nx_exit *exit = &v->exit;

	exit->data = v->state->cr4;
	if (nxk_engine_complete(v) != NX_COMPLETION_DONE) {
		WARN_ON_ONCE(1);
		return -EIO;
	}
	nxk_write_state(v);
	nxk_set_rip(v->vcpu, exit->rip);
	return kvm_skip_emulated_instruction(v->vcpu);
}

int nxk_deliver_cr(struct nxk_vcpu *v)
{
	return v->exit.insn == NX_INSN_MOV_CR && !v->exit.write ? read(v) : write(v);
}
