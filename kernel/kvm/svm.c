// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* svm.c - what is particular to AMD's processors. */
#include "host.h"

#include <asm/svm.h>

#include "field.h"

static struct vmcb *vmcb_of(struct kvm_vcpu *vcpu)
{
	return NXK_FIELD(vcpu, SVM_VMCB, struct vmcb *);
}

static enum nxk_class class(struct kvm_vcpu *vcpu) {
	switch (vmcb_of(vcpu)->control.exit_code){
		case SVM_EXIT_CPUID : return NXK_CLASS_CPUID;
		case SVM_EXIT_MSR : return NXK_CLASS_MSR;
		case SVM_EXIT_IOIO : return NXK_CLASS_IO;
		default : return NXK_CLASS_OTHER;
	}
}

static bool busy(struct kvm_vcpu *vcpu)
{
	return NXK_FIELD(vcpu, SVM_RUN_PENDING, bool) ||
	       NXK_FIELD(vcpu, SVM_NMI_SINGLESTEP, bool) || NXK_FIELD(vcpu, SVM_SOFT_INT, bool);
}

static void prepare(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
}

static const char *refuse(struct kvm *kvm)
{
	return NXK_FIELD(kvm, SVM_SEV_ACTIVE, bool) ? "its memory is encrypted" : NULL;
}

const struct nxk_vendor nxk_svm = {
    .module = "kvm_amd",
    .build_id = NXK_BUILD_ID_kvm_amd,
    .handle_exit = "svm_handle_exit [kvm_amd]",
    .class = class,
    .busy = busy,
    .prepare = prepare,
    .refuse = refuse,
    .spte_read = BIT_ULL(0),
};
