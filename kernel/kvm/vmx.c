// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* vmx.c - the operations for Intel's processors. */
#include <asm/vmx.h>

#include "field.h"
#include "vendor.h"
#include "vmcs.h"

static u32 reason_of(struct kvm_vcpu *vcpu)
{
	return NXK_FIELD(vcpu, VMX_EXIT_REASON, u32) & 0xffff;
}

static enum nxk_class class_of(struct kvm_vcpu *vcpu)
{
	switch (reason_of(vcpu)) {
	case EXIT_REASON_CPUID:
		return NXK_CLASS_CPUID;
	case EXIT_REASON_MSR_READ:
	case EXIT_REASON_MSR_WRITE:
		return NXK_CLASS_MSR;
	case EXIT_REASON_IO_INSTRUCTION:
		return NXK_CLASS_IO;
	case EXIT_REASON_EPT_MISCONFIG:
		return NXK_CLASS_MMIO;
	case EXIT_REASON_EPT_VIOLATION:
		/* KVM has an internal memory slot there, which it maps for APICv only. */
		return nxk_is_lapic(vcpu, nxk_vmcs_read(GUEST_PHYSICAL_ADDRESS)) ? NXK_CLASS_MMIO
										 : NXK_CLASS_OTHER;
	case EXIT_REASON_CR_ACCESS:
		return NXK_CLASS_CR;
	case EXIT_REASON_HLT:
		return NXK_CLASS_HLT;
	case EXIT_REASON_VMREAD:
	case EXIT_REASON_VMWRITE:
		return NXK_CLASS_VMCS;
	case EXIT_REASON_VMCLEAR:
	case EXIT_REASON_VMLAUNCH:
	case EXIT_REASON_VMPTRLD:
	case EXIT_REASON_VMPTRST:
	case EXIT_REASON_VMRESUME:
	case EXIT_REASON_INVEPT:
	case EXIT_REASON_INVVPID:
		return NXK_CLASS_VMX;
	case EXIT_REASON_GDTR_IDTR:
	case EXIT_REASON_LDTR_TR:
		return NXK_CLASS_DESCRIPTOR;
	default:
		return NXK_CLASS_OTHER;
	}
}

static u64 address_of(struct kvm_vcpu *vcpu, enum nxk_class class)
{
	return class == NXK_CLASS_IO ? (u32)nxk_vmcs_read(EXIT_QUALIFICATION) >> 16
				     : nxk_vmcs_read(GUEST_PHYSICAL_ADDRESS);
}

/* Return whether one of the host's bits would get a value that the guest does not read. */
static bool changes(unsigned long mask_field, unsigned long shadow_field, u64 value, u64 bits)
{
	return (value ^ nxk_vmcs_read(shadow_field)) & nxk_vmcs_read(mask_field) & bits;
}

static bool intercepts(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
	const u64 word = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;

	if (exit->insn == NX_INSN_LMSW)
		/* It cannot clear PE. */
		return changes(CR0_GUEST_HOST_MASK, CR0_READ_SHADOW,
			       exit->operand | (vcpu->arch.cr0 & X86_CR0_PE), word);
	if (!exit->write)
		return false;
	if (exit->reg == 0)
		return changes(CR0_GUEST_HOST_MASK, CR0_READ_SHADOW, exit->data, ~0ull);
	return changes(CR4_GUEST_HOST_MASK, CR4_READ_SHADOW, exit->data, ~0ull);
}

/* The exit qualification holds the register and the kind of access (SDM vol. 3, table 28-3). */
static bool same_cr(u64 info, const struct nx_exit *exit)
{
	static const u64 to = 0, from = 1, lmsw = 3;
	u64 kind = info >> 4 & 3;

	if (exit->insn == NX_INSN_LMSW)
		return kind == lmsw;
	return kind == (exit->write ? to : from) && (info & 0xf) == exit->reg;
}

static bool busy(struct kvm_vcpu *vcpu)
{
	return NXK_FIELD(vcpu, VMX_RUN_PENDING, bool) || NXK_FIELD(vcpu, VMX_VM86, int) ||
	       NXK_FIELD(vcpu, VMX_EMULATION, bool) || nxk_vmx_guest_vmcs_is_stale(vcpu);
}

static u32 reason_for(enum nx_insn_exit insn)
{
	switch (insn) {
	case NX_INSN_VMREAD:
		return EXIT_REASON_VMREAD;
	case NX_INSN_VMWRITE:
		return EXIT_REASON_VMWRITE;
	case NX_INSN_VMPTRLD:
		return EXIT_REASON_VMPTRLD;
	case NX_INSN_VMPTRST:
		return EXIT_REASON_VMPTRST;
	case NX_INSN_VMCLEAR:
		return EXIT_REASON_VMCLEAR;
	case NX_INSN_INVEPT:
		return EXIT_REASON_INVEPT;
	case NX_INSN_INVVPID:
		return EXIT_REASON_INVVPID;
	case NX_INSN_VMLAUNCH:
		return EXIT_REASON_VMLAUNCH;
	default:
		return EXIT_REASON_VMRESUME;
	}
}

static bool same_nested(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
	return reason_of(vcpu) == reason_for(exit->insn) &&
	       nxk_vmcs_read(VM_EXIT_INSTRUCTION_LEN) == exit->next - exit->rip &&
	       nxk_operands_same(vcpu, exit);
}

static bool same_descriptor(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
	bool selector = exit->insn == NX_INSN_SLDT || exit->insn == NX_INSN_STR;

	return reason_of(vcpu) == (selector ? EXIT_REASON_LDTR_TR : EXIT_REASON_GDTR_IDTR) &&
	       nxk_vmcs_read(VM_EXIT_INSTRUCTION_LEN) == exit->next - exit->rip &&
	       nxk_operands_same(vcpu, exit);
}

/* The exit qualification of a port access holds its size, direction and port (SDM vol. 3, table
 * 28-5). */
static bool same(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
	u64 info;

	switch (exit->kind) {
	case NX_EXIT_IO:
		info = nxk_vmcs_read(EXIT_QUALIFICATION);
		return info >> 16 == exit->port && !(info & 8) == exit->write &&
		       (info & 7) + 1 == exit->size;
	case NX_EXIT_MMIO:
		return nxk_vmcs_read(GUEST_PHYSICAL_ADDRESS) == exit->gpa;
	default:
		if (nx_exit_class_of(exit) == NX_CLASS_CR)
			return same_cr(nxk_vmcs_read(EXIT_QUALIFICATION), exit);
		if (nx_exit_class_of(exit) == NX_CLASS_DESCRIPTOR)
			return same_descriptor(vcpu, exit);
		if (nxk_class_of(exit) == NXK_CLASS_VMCS || nxk_class_of(exit) == NXK_CLASS_VMX)
			return same_nested(vcpu, exit);
		return exit->insn == NX_INSN_CPUID || exit->insn == NX_INSN_HLT ||
		       (reason_of(vcpu) == EXIT_REASON_MSR_WRITE) == (exit->insn == NX_INSN_WRMSR);
	}
}

static bool masked(struct kvm_vcpu *vcpu)
{
	return false;
}

/* If it has not, and KVM does not emulate it either, a guest cannot set the bit. */
static bool emulates_umip(void)
{
	return !boot_cpu_has(X86_FEATURE_UMIP);
}

static const char *refuse(struct kvm *kvm)
{
	return NULL;
}

const struct nxk_vendor nxk_vmx = {
    .module = "kvm_intel",
    .build_id = NXK_BUILD_ID_kvm_intel,
    .handle_exit = "vmx_handle_exit [kvm_intel]",
    .class_of = class_of,
    .address_of = address_of,
    .busy = busy,
    .same = same,
    .intercepts = intercepts,
    .masked = masked,
    .refuse = refuse,
    .find_nested = nxk_vmx_find_nested,
    .route_nested = nxk_vmx_route_nested,
    .deliver_nested = nxk_vmx_deliver_nested,
    .execute = nxk_vmx_execute,
    .nested_exits = NX_EXITS_VMX,
    .emulates_umip = emulates_umip,
    .predict = nxk_vmx_predict,
    .as_predicted = nxk_vmx_as_predicted,
    .spte_read = VMX_EPT_READABLE_MASK,
};
