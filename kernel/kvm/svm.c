// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* svm.c - the operations for AMD's processors. */
#include <asm/svm.h>

#include "field.h"
#include "vendor.h"

static struct vmcb *vmcb_of(struct kvm_vcpu *vcpu)
{
	return NXK_FIELD(vcpu, SVM_VMCB, struct vmcb *);
}

static enum nxk_class class_of(struct kvm_vcpu *vcpu)
{
	switch (vmcb_of(vcpu)->control.exit_code) {
	case SVM_EXIT_CPUID:
		return NXK_CLASS_CPUID;
	case SVM_EXIT_MSR:
		return NXK_CLASS_MSR;
	case SVM_EXIT_IOIO:
		return NXK_CLASS_IO;
	case SVM_EXIT_NPF:
		/* KVM marks device memory by reserved bits in the page table. */
		return vmcb_of(vcpu)->control.exit_info_1 & PFERR_RSVD_MASK ? NXK_CLASS_MMIO
									    : NXK_CLASS_OTHER;
	case SVM_EXIT_READ_CR0:
	case SVM_EXIT_READ_CR4:
	case SVM_EXIT_WRITE_CR0:
	case SVM_EXIT_WRITE_CR4:
	case SVM_EXIT_CR0_SEL_WRITE:
		return NXK_CLASS_CR;
	case SVM_EXIT_HLT:
		return NXK_CLASS_HLT;
	case SVM_EXIT_VMRUN:
	case SVM_EXIT_VMLOAD:
	case SVM_EXIT_VMSAVE:
	case SVM_EXIT_STGI:
	case SVM_EXIT_CLGI:
		return NXK_CLASS_SVM;
	default:
		return NXK_CLASS_OTHER;
	}
}

static u64 address_of(struct kvm_vcpu *vcpu, enum nxk_class class)
{
	const struct vmcb_control_area *control = &vmcb_of(vcpu)->control;

	return class == NXK_CLASS_IO ? (u32)control->exit_info_1 >> 16 : control->exit_info_2;
}

static bool intercepted(struct kvm_vcpu *vcpu, unsigned int bit)
{
	return vmcb_of(vcpu)->control.intercepts[bit / 32] & BIT(bit % 32);
}

/* With the global interrupt flag or VMLOAD and VMSAVE virtualized these are not intercepted. The
 * intercepts' bits are in the order of the exit codes. */
static bool intercepts_svm(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
	return intercepted(vcpu, INTERCEPT_VMRUN + nxk_svm_exit_code(exit) - SVM_EXIT_VMRUN);
}

/* The selective intercept is for any change of CR0 but in TS and MP, and for LMSW. */
static bool intercepts(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
	u64 bits = ~(u64)(X86_CR0_TS | X86_CR0_MP);

	if (nx_exit_class_of(exit) != NX_CLASS_CR)
		return intercepts_svm(vcpu, exit);
	if (exit->insn == NX_INSN_MOV_CR && exit->reg == 4)
		return intercepted(vcpu, exit->write ? INTERCEPT_CR4_WRITE : INTERCEPT_CR4_READ);
	if (intercepted(vcpu, INTERCEPT_CR0_WRITE))
		return true;
	return intercepted(vcpu, INTERCEPT_SELECTIVE_CR0) &&
	       (exit->insn == NX_INSN_LMSW || (exit->data ^ vcpu->arch.cr0) & bits);
}

/* Return whether the exit code is that of this access to a control register. */
static bool same_cr(u32 code, const struct nx_exit *exit)
{
	if (code == SVM_EXIT_CR0_SEL_WRITE)
		return exit->insn != NX_INSN_MOV_CR || (exit->write && exit->reg == 0);
	if (exit->insn != NX_INSN_MOV_CR)
		return code == SVM_EXIT_WRITE_CR0;
	return code == (exit->write ? SVM_EXIT_WRITE_CR0 : SVM_EXIT_READ_CR0) + exit->reg;
}

/* The global interrupt flag. It is in the VMCB if the hardware virtualizes it. */
static bool masked(struct kvm_vcpu *vcpu)
{
	u32 control = vmcb_of(vcpu)->control.int_ctl;

	if (control & V_GIF_ENABLE_MASK)
		return !(control & V_GIF_MASK);
#ifdef HF_GIF_MASK
	return !(vcpu->arch.hflags & HF_GIF_MASK);
#else
	return !NXK_FIELD(vcpu, SVM_GUEST_GIF, bool);
#endif
}

static bool busy(struct kvm_vcpu *vcpu)
{
	return NXK_FIELD(vcpu, SVM_RUN_PENDING, bool) ||
	       NXK_FIELD(vcpu, SVM_NMI_SINGLESTEP, bool) || NXK_FIELD(vcpu, SVM_SOFT_INT, bool);
}

/* EXITINFO1 holds SVM_IOIO_* for a port access, 1 for WRMSR and the error code for a page fault,
 * whose address is in EXITINFO2. */
static bool same(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
	const struct vmcb_control_area *control = &vmcb_of(vcpu)->control;
	u64 info = control->exit_info_1;

	switch (exit->kind) {
	case NX_EXIT_IO:
		return info >> 16 == exit->port && !(info & SVM_IOIO_TYPE_MASK) == exit->write &&
		       (info & SVM_IOIO_SIZE_MASK) >> SVM_IOIO_SIZE_SHIFT == exit->size;
	case NX_EXIT_MMIO:
		return control->exit_info_2 == exit->gpa &&
		       (bool)(info & PFERR_WRITE_MASK) == exit->write;
	default:
		if (nx_exit_class_of(exit) == NX_CLASS_CR)
			return same_cr(control->exit_code, exit);
		if (nxk_class_of(exit) == NXK_CLASS_SVM)
			return control->exit_code == nxk_svm_exit_code(exit);
		return exit->insn == NX_INSN_CPUID || exit->insn == NX_INSN_HLT ||
		       (info & 1) == (exit->insn == NX_INSN_WRMSR);
	}
}

/*
 * KVM computes each segment from these and from nothing else, which takes many times as long as to
 * compare them.
 */
static bool same_segments(struct nxk_vcpu *v)
{
	const struct vmcb_save_area *save = &vmcb_of(v->vcpu)->save;
	struct nxk_raw_segments *raw = &v->raw;
	const u64 *data = (const u64 *)&save->es, *task = (const u64 *)&save->tr;
	u64 differs = (raw->task[0] ^ task[0]) | (raw->task[1] ^ task[1]) | (raw->cpl ^ save->cpl);

	static_assert(offsetof(struct vmcb_save_area, gs) - offsetof(struct vmcb_save_area, es) +
			  sizeof(struct vmcb_seg) ==
		      sizeof(raw->data));
	static_assert(sizeof(struct vmcb_seg) == sizeof(raw->task));
	for (unsigned int i = 0; i < ARRAY_SIZE(raw->data); i++)
		differs |= raw->data[i] ^ data[i];
	if (!differs && raw->valid)
		return true;
	memcpy(raw->data, data, sizeof(raw->data));
	memcpy(raw->task, task, sizeof(raw->task));
	raw->cpl = save->cpl;
	raw->valid = true;
	return false;
}

static const char *refuse(struct kvm *kvm)
{
	return NXK_FIELD(kvm, SVM_SEV_ACTIVE, bool) ? "its memory is encrypted" : NULL;
}

static bool emulates_umip(void)
{
	return false;
}

const struct nxk_vendor nxk_svm = {
    .module = "kvm_amd",
    .build_id = NXK_BUILD_ID_kvm_amd,
    .handle_exit = "svm_handle_exit [kvm_amd]",
    .class_of = class_of,
    .address_of = address_of,
    .busy = busy,
    .same = same,
    .intercepts = intercepts,
    .masked = masked,
    .same_segments = same_segments,
    .refuse = refuse,
    .find_nested = nxk_svm_find_nested,
    .route_nested = nxk_svm_route_nested,
    .deliver_nested = nxk_svm_deliver_nested,
    .nested_exits = NX_EXITS_SVM,
    .emulates_umip = emulates_umip,
    .spte_read = BIT_ULL(0),
};
