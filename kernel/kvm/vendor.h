/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * vendor.h - the vendors' operations that have files of their own, for svm.c, vmx.c and each other.
 */
#ifndef NXK_VENDOR_H
#define NXK_VENDOR_H

#include "host.h"

/* ---- nested_svm.c ---- */

/* Return SVM's code for the exit of such an instruction. */
u32 nxk_svm_exit_code(const struct nx_exit *exit);
bool nxk_svm_find_nested(void);
enum nx_route nxk_svm_route_nested(struct nxk_vcpu *v, const struct nx_exit *exit);
int nxk_svm_deliver_nested(struct nxk_vcpu *v);

/* ---- nested_vmx.c ---- */

bool nxk_vmx_find_nested(void);
enum nx_route nxk_vmx_route_nested(struct nxk_vcpu *v, const struct nx_exit *exit);
int nxk_vmx_deliver_nested(struct nxk_vcpu *v);
bool nxk_vmx_execute(struct nxk_vcpu *v);
bool nxk_vmx_predict(struct nxk_vcpu *v);
bool nxk_vmx_as_predicted(struct nxk_vcpu *v);
/* Return whether the guest's own memory does not hold yet what its hypervisor reads of its VMCS. */
bool nxk_vmx_guest_vmcs_is_stale(struct kvm_vcpu *vcpu);

/* ---- shadow_vmcs.c: what a guest hypervisor's VMREAD and VMWRITE access without an exit ---- */

/* Find what it takes of KVM; false: it is not there. */
bool nxk_shadow_find(void);
/* Return whether KVM uses VMCS shadowing. */
bool nxk_shadow_used(void);
/* Return where the hardware would have such an access go. */
enum nxk_vmcs_copy nxk_shadow_copy(struct kvm_vcpu *vcpu, u64 field, bool write);
/* Access a field in the shadow VMCS; false: that cannot be done. */
bool nxk_shadow_read(u64 field, u64 *value);
bool nxk_shadow_write(u64 field, u64 value);
/* Have KVM copy to the shadow VMCS what it has put off until the next entry of the hardware. */
void nxk_shadow_sync(struct kvm_vcpu *vcpu);

/* ---- vmx_operands.c: the operands of VMX's instructions, in the VMCS ---- */

/* Return whether the processor lets them be written. */
bool nxk_operands_find(void);
/* Write those in memory, and INVEPT's and INVVPID's type, as the exit would have left them, for
 * KVM's handler; false: that cannot be done. The registers have been written back. */
bool nxk_operands_write(struct kvm_vcpu *vcpu, const struct nx_exit *exit);
/* Return whether those of the hardware's exit, of the same reason, equal the engine's. */
bool nxk_operands_same(struct kvm_vcpu *vcpu, const struct nx_exit *exit);

#endif
