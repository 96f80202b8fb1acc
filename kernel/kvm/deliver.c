// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * deliver.c - has KVM's own handlers emulate the engine's exits.
 *
 * When the handler is called, the vCPU is in the state that a hardware exit on the same instruction
 * leaves. The handler advances rip through the static call that hooks.c redirects, and the hook
 * sets the engine's next rip. If the handler returns without having done so, it has raised an
 * exception or has to ask the VMM: then the stay ends. When the VMM has answered, KVM's completion
 * advances rip in the next KVM_RUN through the same hook.
 */
#include "host.h"

#include <asm/apicdef.h>
#include <asm/kvm_para.h>
#include <asm/msr-index.h>

#include "trace.h"

#define X2APIC_EOI (APIC_BASE_MSR + (APIC_EOI >> 4))

/*
 * Return whether a write to the MSR changes no state that the engine or a stay relies on. After a
 * write to any other MSR the stay ends, and the next stay reads the new state.
 */
static bool write_is_harmless(u32 msr)
{
	switch (msr) {
	case APIC_BASE_MSR ... APIC_BASE_MSR + 0xff:
	case MSR_IA32_TSC_DEADLINE:
	case MSR_IA32_SPEC_CTRL:
	case MSR_IA32_PRED_CMD:
	/* The engine executes no system call and does not read IA32_TSC_AUX. */
	case MSR_STAR:
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_SYSCALL_MASK:
	case MSR_TSC_AUX:
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_WALL_CLOCK_NEW:
	case MSR_KVM_SYSTEM_TIME_NEW:
	case MSR_KVM_POLL_CONTROL:
		return true;
	default:
		return false;
	}
}

static int call_insn_handler(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;

	switch (v->exit.insn) {
	case NX_INSN_CPUID:
		return kvm_emulate_cpuid(vcpu);
	case NX_INSN_RDMSR:
		return kvm_emulate_rdmsr(vcpu);
	case NX_INSN_WRMSR:
		v->stats->delivered_deadline += v->exit.operand == MSR_IA32_TSC_DEADLINE;
		v->stats->delivered_eoi += v->exit.operand == X2APIC_EOI;
		v->last = !write_is_harmless((u32)v->exit.operand);
		return kvm_emulate_wrmsr(vcpu);
	case NX_INSN_HLT:
		v->last = true;
		return kvm_emulate_halt(vcpu);
	case NX_INSN_MOV_CR:
	case NX_INSN_LMSW:
		return nxk_deliver_cr(v);
	case NX_INSN_SGDT:
	case NX_INSN_SIDT:
	case NX_INSN_LGDT:
	case NX_INSN_LIDT:
	case NX_INSN_SLDT:
	case NX_INSN_STR:
		return nxk_deliver_descriptor(v);
	case NX_INSN_VMRUN:
	case NX_INSN_VMLOAD:
	case NX_INSN_VMSAVE:
	case NX_INSN_STGI:
	case NX_INSN_CLGI:
	case NX_INSN_VMREAD:
	case NX_INSN_VMWRITE:
	case NX_INSN_VMPTRLD:
	case NX_INSN_VMPTRST:
	case NX_INSN_VMCLEAR:
	case NX_INSN_INVEPT:
	case NX_INSN_INVVPID:
	case NX_INSN_VMLAUNCH:
	case NX_INSN_VMRESUME:
		return nxk_deliver_nested(v);
	default:
		WARN_ON_ONCE(1);
		v->last = true;
		return 1;
	}
}

static int call_handler(struct nxk_vcpu *v)
{
	const struct nx_exit *exit = &v->exit;

	switch (exit->kind) {
	case NX_EXIT_INSN:
		return call_insn_handler(v);
	case NX_EXIT_IO:
		return kvm_fast_pio(v->vcpu, exit->size, exit->port, !exit->write);
	default:
		v->seen.delivering = false;
		return nxk_deliver_mmio(v);
	}
}

enum nxk_class nxk_class_of(const struct nx_exit *exit)
{
	switch (nx_exit_class_of(exit)) {
	case NX_CLASS_IO:
		return NXK_CLASS_IO;
	case NX_CLASS_MMIO:
		return NXK_CLASS_MMIO;
	case NX_CLASS_HLT:
		return NXK_CLASS_HLT;
	case NX_CLASS_CR:
		return NXK_CLASS_CR;
	case NX_CLASS_MSR:
		return NXK_CLASS_MSR;
	case NX_CLASS_DESCRIPTOR:
		return NXK_CLASS_DESCRIPTOR;
	case NX_CLASS_SVM:
		return NXK_CLASS_SVM;
	case NX_CLASS_VMCS:
		return NXK_CLASS_VMCS;
	case NX_CLASS_VMX:
		return NXK_CLASS_VMX;
	case NX_CLASS_VM_ENTRY:
		return exit->insn == NX_INSN_VMRUN ? NXK_CLASS_SVM : NXK_CLASS_VMX;
	default:
		return NXK_CLASS_CPUID;
	}
}

/* Note what KVM has come to. */
static int delivered(struct nxk_vcpu *v, int result)
{
	if (result == 1 && !v->skipped) {
		v->seen.delivering = false;
		/* VMLAUNCH and VMRESUME do not move rip when they succeed. */
		v->stats->aborted += !nxk_in_nested_guest(v->vcpu);
	} else if (result == 0) {
		v->stats->to_vmm++;
		v->stats->to_vmm_mmio += v->exit.kind == NX_EXIT_MMIO;
		v->returned = nxk_class_of(&v->exit);
		v->returned_rip = v->exit.rip;
	}
	trace_noexit_exit(v, result);
	return result;
}

static int call(struct nxk_vcpu *v)
{
	if (!nxk_is_free(v))
		nx_stats_avoided(v->host, &v->exit);
	v->seen.delivering = true;
	v->skipped = v->last = v->reread = false;
	return nxk_fails(NXK_FAIL_HANDLER) ? 1 : call_handler(v);
}

/*
 * CPUID, RDMSR, WRMSR and port accesses use RAX, RCX, RDX and RBX alone. So before KVM's handler
 * for one of them these, rip and rflags are written, and behind it they are read. The others follow
 * when the stay ends there (nxk_write_rest()).
 */
static bool uses_few(const struct nxk_vcpu *v)
{
	return nxk_is_frequent(&v->exit) || v->exit.kind == NX_EXIT_IO;
}

static int deliver_few(struct nxk_vcpu *v)
{
	int result;

	nxk_write_few(v);
	result = call(v);
	if (likely(result == 1 && v->skipped)) {
		nxk_read_few(v);
		nxk_engine_done(v);
	}
	return delivered(v, result);
}

int nxk_deliver(struct nxk_vcpu *v)
{
	int result;

	/*
	 * KVM's emulator alone executes string instructions on ports, and input that goes to memory
	 * needs a session that may be refused: both are left to the hardware's exit.
	 */
	if (v->exit.string || v->exit.to_memory) {
		nxk_write_state(v);
		v->skipped = false;
		return 1;
	}
	if (uses_few(v) && !v->state->segments_changed)
		return deliver_few(v);
	nxk_write_state(v);
	result = call(v);
	/* mmio.c has completed its exit and written the registers back. */
	if (result == 1 && v->skipped && v->exit.kind != NX_EXIT_MMIO) {
		nxk_read_registers(v);
		nxk_engine_done(v);
	}
	return delivered(v, result);
}
