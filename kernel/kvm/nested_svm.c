// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * nested_svm.c - the instructions of a guest hypervisor, on AMD's processors: VMLOAD, VMSAVE, STGI,
 * CLGI and VMRUN, each emulated by kvm_amd's own exit handler.
 *
 * The handlers take RAX, RSP and RIP from the VMCB, where a hardware exit leaves them, and not from
 * the vCPU.
 *
 * While the global interrupt flag is clear the processor takes neither interrupts nor NMIs,
 * whatever IF is. A hypervisor clears it from before VMRUN to behind its exits, so IF may change
 * there freely.
 */
#include <asm/svm.h>

#include "field.h"
#include "vendor.h"

static int no_handler(struct kvm_vcpu *vcpu, u64 code)
{
	return -EIO;
}

DEFINE_STATIC_CALL(nxk_svm_handler, no_handler);

bool nxk_svm_find_nested(void)
{
	void *handler = nxk_lookup("svm_invoke_exit_handler");

	if (handler)
		static_call_update(nxk_svm_handler, handler);
	return handler;
}

u32 nxk_svm_exit_code(const struct nx_exit *exit)
{
	switch (exit->insn) {
	case NX_INSN_VMRUN:
		return SVM_EXIT_VMRUN;
	case NX_INSN_VMLOAD:
		return SVM_EXIT_VMLOAD;
	case NX_INSN_VMSAVE:
		return SVM_EXIT_VMSAVE;
	case NX_INSN_STGI:
		return SVM_EXIT_STGI;
	case NX_INSN_CLGI:
		return SVM_EXIT_CLGI;
	default:
		return SVM_EXIT_ERR;
	}
}

/* The processor may execute it by itself. */
static enum nx_route route_run(struct nxk_vcpu *v, const struct nx_exit *exit)
{
	return nxk_vendor->intercepts(v->vcpu, exit) ? NX_ROUTE_EXIT : NX_ROUTE_FREE;
}

/*
 * VMRUN commonly stands in the shadow of STI, which neither KVM nor the hardware knows of if the
 * engine has executed STI. If the instruction is left to the hardware after all, no interrupt must
 * come in between, so it is declined unless the global interrupt flag is clear. CLGI closes the
 * interrupt window, so what waits has to get its chance before it.
 */
enum nx_route nxk_svm_route_nested(struct nxk_vcpu *v, const struct nx_exit *exit)
{
	switch (exit->insn) {
	case NX_INSN_VMLOAD:
	case NX_INSN_VMSAVE:
	case NX_INSN_STGI:
		return route_run(v, exit);
	case NX_INSN_CLGI:
		return nxk_event_waits(v->vcpu, v->state->rflags) ? NX_ROUTE_LEAVE
								  : route_run(v, exit);
	case NX_INSN_VMRUN:
		return nxk_vendor->masked(v->vcpu) ? NX_ROUTE_EXIT : NX_ROUTE_LEAVE;
	default:
		/* VMMCALL, SKINIT and INVLPGA are rare. */
		return NX_ROUTE_LEAVE;
	}
}

int nxk_svm_deliver_nested(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	struct vmcb *vmcb = NXK_FIELD(vcpu, SVM_VMCB, struct vmcb *);
	u32 code = nxk_svm_exit_code(&v->exit);
	int result;

	v->last = v->exit.insn == NX_INSN_VMRUN;
	vmcb->save.rax = v->state->gpr[NX_RAX];
	vmcb->save.rsp = v->state->gpr[NX_RSP];
	vmcb->save.rip = v->state->rip;
	vmcb->control.exit_code = code;
	vmcb->control.exit_info_1 = vmcb->control.exit_info_2 = 0;
	result = static_call(nxk_svm_handler)(vcpu, code);
	/* VMLOAD loads FS, GS and the task register, which the engine uses. */
	if (v->skipped && v->exit.insn == NX_INSN_VMLOAD)
		nxk_read_state(v);
	return result;
}
