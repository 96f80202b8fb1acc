// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* vmx.c - what is particular to Intel's processors. */
#include "host.h"

#include <asm/vmx.h>

#include "field.h"

static enum nxk_class class(struct kvm_vcpu *vcpu) {
	switch (NXK_FIELD(vcpu, VMX_EXIT_REASON, u32) & 0xffff){
		case EXIT_REASON_CPUID : return NXK_CLASS_CPUID;
		case EXIT_REASON_MSR_READ : case EXIT_REASON_MSR_WRITE : return NXK_CLASS_MSR;
		case EXIT_REASON_IO_INSTRUCTION : return NXK_CLASS_IO;
		default : return NXK_CLASS_OTHER;
	}
}

static bool busy(struct kvm_vcpu *vcpu)
{
	return NXK_FIELD(vcpu, VMX_RUN_PENDING, bool) || NXK_FIELD(vcpu, VMX_VM86, int) ||
	       NXK_FIELD(vcpu, VMX_EMULATION, bool);
}

static void prepare(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
}

static const char *refuse(struct kvm *kvm)
{
	return NULL;
}

const struct nxk_vendor nxk_vmx = {
    .module = "kvm_intel",
    .build_id = NXK_BUILD_ID_kvm_intel,
    .handle_exit = "vmx_handle_exit [kvm_intel]",
    .class = class,
    .busy = busy,
    .prepare = prepare,
    .refuse = refuse,
    .spte_read = VMX_EPT_READABLE_MASK,
};
