/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * fields.h - the private layouts that the module depends on: fields of structures that no public
 * header declares. X(module, structure, path of the field, name of the constant).
 *
 * If a kernel has renamed a field or moved it into another structure, the build fails and names it.
 * The constant of an OPTIONAL field is -1 where the field does not exist.
 */
#ifndef NX_OFFSETS_FIELDS_H
#define NX_OFFSETS_FIELDS_H

#define NXK_FIELDS(X, OPTIONAL)                                                       \
	X(kvm_amd, vcpu_svm, vmcb, SVM_VMCB)                                          \
	X(kvm_amd, vcpu_svm, next_rip, SVM_NEXT_RIP)                                  \
	X(kvm_amd, vcpu_svm, nested.nested_run_pending, SVM_RUN_PENDING)              \
	X(kvm_amd, vcpu_svm, nmi_singlestep, SVM_NMI_SINGLESTEP)                      \
	X(kvm_amd, vcpu_svm, soft_int_injected, SVM_SOFT_INT)                         \
	OPTIONAL(kvm_amd, vcpu_svm, guest_gif, SVM_GUEST_GIF)                         \
	X(kvm_amd, kvm_svm, sev_info.active, SVM_SEV_ACTIVE)                          \
	X(kvm_intel, vcpu_vmx, exit_reason, VMX_EXIT_REASON)                          \
	X(kvm_intel, vcpu_vmx, exit_qualification, VMX_EXIT_QUALIFICATION)            \
	X(kvm_intel, vcpu_vmx, exit_intr_info, VMX_EXIT_INTR_INFO)                    \
	X(kvm_intel, vcpu_vmx, idt_vectoring_info, VMX_IDT_VECTORING)                 \
	X(kvm_intel, vcpu_vmx, rflags, VMX_RFLAGS)                                    \
	X(kvm_intel, vcpu_vmx, rmode.vm86_active, VMX_VM86)                           \
	X(kvm_intel, vcpu_vmx, emulation_required, VMX_EMULATION)                     \
	X(kvm_intel, vcpu_vmx, nested.nested_run_pending, VMX_RUN_PENDING)            \
	X(kvm_intel, vcpu_vmx, nested.vmxon, VMX_VMXON)                               \
	X(kvm_intel, vcpu_vmx, nested.current_vmptr, VMX_CURRENT_VMPTR)               \
	X(kvm_intel, vcpu_vmx, nested.cached_vmcs12, VMX_VMCS12)                      \
	X(kvm_intel, vcpu_vmx, nested.dirty_vmcs12, VMX_DIRTY_VMCS12)                 \
	X(kvm_intel, vcpu_vmx, nested.need_sync_vmcs02_to_vmcs12_rare, VMX_RARE_SYNC) \
	X(kvm_intel, vcpu_vmx, nested.need_vmcs12_to_shadow_sync, VMX_SHADOW_SYNC)    \
	OPTIONAL(kvm_intel, vcpu_vmx, nested.hv_evmcs_vmptr, VMX_EVMCS)               \
	X(kvm, kvm_lapic, dev, LAPIC_DEV)                                             \
	X(kvm, kvm_lapic, apicv_active, LAPIC_APICV)

#endif
