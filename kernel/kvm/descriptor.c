// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * descriptor.c - SGDT, SIDT, LGDT, LIDT, SLDT and STR, which exit where KVM emulates UMIP.
 *
 * KVM's handler has its emulator execute the instruction, which reads it from the guest's memory
 * and moves rip by itself, without the static call that hooks.c redirects.
 */
#include "host.h"

enum nx_route nxk_route_descriptor(const struct nxk_vcpu *v)
{
	return v->state->cr4 & X86_CR4_UMIP ? NX_ROUTE_EXIT : NX_ROUTE_LEAVE;
}

int nxk_deliver_descriptor(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	struct desc_ptr gdt;
	int result;

	v->seen.delivering = false;
	result = kvm_emulate_instruction(vcpu, 0);
	v->skipped = result == 1 && nxk_rip(vcpu) == v->exit.next && !vcpu->arch.exception.pending;
	/* The engine loads segments by this table. */
	if (v->skipped && v->exit.insn == NX_INSN_LGDT) {
		static_call(nxk_get_gdt)(vcpu, &gdt);
		v->state->gdt_base = gdt.address;
		v->state->gdt_limit = gdt.size;
	}
	return result;
}
