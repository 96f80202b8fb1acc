// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * state.c - copies registers between KVM's vCPU and the engine's state.
 *
 * On Intel's processors KVM reads registers lazily: a bit in regs_avail says whether its copy is
 * valid, the exported static call cache_reg reads the register, and a bit in regs_dirty has it
 * written back at the next entry. On AMD's processors all copies are valid after each exit.
 */
#include "host.h"

static void changed(struct kvm_vcpu *vcpu, int reg)
{
	__set_bit(reg, (unsigned long *)&vcpu->arch.regs_avail);
	__set_bit(reg, (unsigned long *)&vcpu->arch.regs_dirty);
}

void nxk_need_registers(struct kvm_vcpu *vcpu)
{
	nxk_need_register(vcpu, VCPU_REGS_RSP);
	nxk_need_register(vcpu, VCPU_REGS_RIP);
}

void nxk_set_rip(struct kvm_vcpu *vcpu, unsigned long rip)
{
	vcpu->arch.regs[VCPU_REGS_RIP] = rip;
	changed(vcpu, VCPU_REGS_RIP);
}

static void read_segment(struct kvm_vcpu *vcpu, struct nx_segment *to, int number)
{
	struct kvm_segment from;

	static_call(nxk_get_segment)(vcpu, &from, number);
	*to = (struct nx_segment){
	    .base = from.base,
	    .limit = from.limit,
	    .selector = from.selector,
	    .type = from.type,
	    .dpl = from.dpl,
	    .s = from.s,
	    .present = from.present,
	    .l = from.l,
	    .db = from.db,
	    .unusable = from.unusable,
	};
}

/* In real mode, where the engine loads segments of data, nothing else changes. */
static void write_segment(struct kvm_vcpu *vcpu, const struct nx_segment *from, int number)
{
	struct kvm_segment to;

	static_call(nxk_get_segment)(vcpu, &to, number);
	to.base = from->base;
	to.selector = from->selector;
	static_call(nxk_set_segment)(vcpu, &to, number);
}

/* KVM and the engine number the general registers as the processor encodes them. */
static_assert(VCPU_REGS_RAX == (int)NX_RAX && VCPU_REGS_RSP == (int)NX_RSP &&
	      VCPU_REGS_R15 == (int)NX_R15);

#define FEW 4
static_assert(NX_RAX < FEW && NX_RBX < FEW && NX_RCX < FEW && NX_RDX < FEW);

void nxk_read_few(struct nxk_vcpu *v)
{
	struct nx_state *state = v->state;
	struct kvm_vcpu *vcpu = v->vcpu;

	nxk_need_register(vcpu, VCPU_REGS_RIP);
#pragma GCC unroll 4
	for (unsigned int i = 0; i < FEW; i++)
		state->gpr[i] = vcpu->arch.regs[i];
	state->rip = vcpu->arch.regs[VCPU_REGS_RIP];
	state->rflags = v->rflags = static_call(nxk_get_rflags)(vcpu);
}

void nxk_read_registers(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;

	nxk_read_few(v);
	nxk_need_register(vcpu, VCPU_REGS_RSP);
#pragma GCC unroll 12
	for (unsigned int i = FEW; i < NX_GPRS; i++)
		v->state->gpr[i] = vcpu->arch.regs[i];
}

/* The engine numbers segment registers as the processor encodes them, KVM does not. */
static const int segment[NX_SREGS] = {
    [NX_ES] = VCPU_SREG_ES, [NX_CS] = VCPU_SREG_CS, [NX_SS] = VCPU_SREG_SS,
    [NX_DS] = VCPU_SREG_DS, [NX_FS] = VCPU_SREG_FS, [NX_GS] = VCPU_SREG_GS,
};

void nxk_read_state(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	struct nx_state *state = v->state;
	struct desc_ptr gdt;

	nxk_read_registers(v);
	v->reread = true;
	static_call(nxk_get_gdt)(vcpu, &gdt);
	state->gdt_base = gdt.address;
	state->gdt_limit = gdt.size;
	state->same_segments = nxk_vendor->same_segments && nxk_vendor->same_segments(v);
	if (!state->same_segments) {
		for (unsigned int i = 0; i < NX_SREGS; i++)
			read_segment(vcpu, &state->seg[i], segment[i]);
		read_segment(vcpu, &state->tr, VCPU_SREG_TR);
	}
	nxk_need_register(vcpu, VCPU_EXREG_CR0);
	nxk_need_register(vcpu, VCPU_EXREG_CR3);
	nxk_need_register(vcpu, VCPU_EXREG_CR4);
	state->cr0 = vcpu->arch.cr0;
	state->cr2 = vcpu->arch.cr2;
	state->cr3 = vcpu->arch.cr3;
	state->cr4 = vcpu->arch.cr4;
	state->efer = vcpu->arch.efer;
	state->pkru = vcpu->arch.pkru;
	state->physical_bits = vcpu->arch.maxphyaddr;
	state->segments_changed = false;
}

void nxk_write_few(struct nxk_vcpu *v)
{
	const struct nx_state *state = v->state;
	struct kvm_vcpu *vcpu = v->vcpu;

#pragma GCC unroll 4
	for (unsigned int i = 0; i < FEW; i++)
		vcpu->arch.regs[i] = state->gpr[i];
	nxk_set_rip(vcpu, state->rip);
	if (v->rflags != state->rflags)
		static_call(nxk_set_rflags)(vcpu, state->rflags);
	v->rflags = state->rflags;
	v->few = true;
}

void nxk_write_others(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;

#pragma GCC unroll 12
	for (unsigned int i = FEW; i < NX_GPRS; i++)
		vcpu->arch.regs[i] = v->state->gpr[i];
	changed(vcpu, VCPU_REGS_RSP);
	v->few = false;
}

static noinline void write_segments(struct nxk_vcpu *v)
{
	for (unsigned int i = 0; i < NX_SREGS; i++)
		if (i != NX_CS && i != NX_SS)
			write_segment(v->vcpu, &v->state->seg[i], segment[i]);
	v->state->segments_changed = false;
	/* The guest may bring back those that were read, and the engine has others. */
	v->raw.valid = false;
}

void nxk_write_state(struct nxk_vcpu *v)
{
	nxk_write_few(v);
	nxk_write_others(v);
	if (unlikely(v->state->segments_changed))
		write_segments(v);
}
