/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* state.c - registers between KVM's structures and the engine's, and whether the engine may run. */
#include "host.h"

#include <cpuid.h>
#include <string.h>

#define DR7_ENABLES 0xffull
#define CR8_NOT_TAKEN 0x10 /* a reserved bit */
#define CPUID_XSTATE 0xd
#define XSTATE_PKRU 9
#define PKRU_NOTHING 0xffffffffu
#define NESTED_STATE_MAX 16384

/*
 * KVM's name of each register and ours.
 */
// clang-format off
#define GPRS(X) \
	X(rax, RAX) X(rcx, RCX) X(rdx, RDX) X(rbx, RBX) \
	X(rsp, RSP) X(rbp, RBP) X(rsi, RSI) X(rdi, RDI) \
	X(r8, R8) X(r9, R9) X(r10, R10) X(r11, R11) \
	X(r12, R12) X(r13, R13) X(r14, R14) X(r15, R15)
// clang-format on

void nx_state_import_regs(struct nx_state *state, const struct kvm_regs *regs)
{
#define NX_X(theirs, ours) state->gpr[NX_##ours] = regs->theirs;
	GPRS(NX_X)
#undef NX_X
	state->rip = regs->rip;
	state->rflags = regs->rflags;
}

void nx_state_export_regs(const struct nx_state *state, struct kvm_regs *regs)
{
#define NX_X(theirs, ours) regs->theirs = state->gpr[NX_##ours];
	GPRS(NX_X)
#undef NX_X
	regs->rip = state->rip;
	regs->rflags = state->rflags;
}

static void import_segment(struct nx_segment *to, const struct kvm_segment *from)
{
	*to = (struct nx_segment){
	    .base = from->base,
	    .limit = from->limit,
	    .selector = from->selector,
	    .type = from->type,
	    .dpl = from->dpl,
	    .s = from->s,
	    .present = from->present,
	    .l = from->l,
	    .db = from->db,
	    .unusable = from->unusable,
	};
}

void nx_state_import_sregs(struct nx_state *state, const struct kvm_sregs *sregs)
{
	import_segment(&state->seg[NX_ES], &sregs->es);
	import_segment(&state->seg[NX_CS], &sregs->cs);
	import_segment(&state->seg[NX_SS], &sregs->ss);
	import_segment(&state->seg[NX_DS], &sregs->ds);
	import_segment(&state->seg[NX_FS], &sregs->fs);
	import_segment(&state->seg[NX_GS], &sregs->gs);
	import_segment(&state->tr, &sregs->tr);
	state->cr0 = sregs->cr0;
	state->cr3 = sregs->cr3;
	state->cr4 = sregs->cr4;
	state->efer = sregs->efer;
	state->segments_changed = false;
}

/*
 * Export what the engine loads, and only that: in real mode selector and base change, the limit and
 * the rights stay. A segment that KVM gave is one that KVM takes.
 */
static void export_segment(struct kvm_segment *to, const struct nx_segment *from)
{
	to->selector = from->selector;
	to->base = from->base;
}

void nx_state_export_segments(const struct nx_state *state, struct kvm_sregs *sregs)
{
	export_segment(&sregs->es, &state->seg[NX_ES]);
	export_segment(&sregs->ds, &state->seg[NX_DS]);
	export_segment(&sregs->fs, &state->seg[NX_FS]);
	export_segment(&sregs->gs, &state->seg[NX_GS]);
}

bool nx_state_segments_due(struct nx_kvm_vcpu *vcpu, struct kvm_sregs *to)
{
	struct kvm_sregs sregs = vcpu->sregs;

	if (!vcpu->state->segments_changed)
		return false;
	vcpu->state->segments_changed = false;
	nx_state_export_segments(vcpu->state, &sregs);
	if (!memcmp(&sregs, &vcpu->sregs, sizeof(sregs)))
		return false;
	*to = vcpu->sregs = sregs;
	if (vcpu->segments_trial == NX_TRIAL_PRIORITY_STAYS)
		to->cr8 = CR8_NOT_TAKEN;
	return true;
}

/*
 * The run page does not carry PKRU. It is asked for where user pages are what a guest accesses;
 * elsewhere, and if it cannot be had, all rights are withdrawn: then the engine leaves before such
 * accesses. XSAVE's standard format is what KVM gives, with the host's offsets.
 */
uint32_t nx_vcpu_pkru(struct nx_kvm_vcpu *vcpu)
{
	unsigned size, offset, ecx, edx;
	struct kvm_xsave xsave;
	uint32_t pkru;

	if (!(vcpu->sregs.cr4 & NX_CR4_PKE))
		return 0;
	if (vcpu->sregs.ss.dpl != 3 ||
	    !__get_cpuid_count(CPUID_XSTATE, XSTATE_PKRU, &size, &offset, &ecx, &edx) ||
	    size < sizeof(pkru) || offset + sizeof(pkru) > sizeof(xsave.region) ||
	    nx_real.ioctl(vcpu->fd, KVM_GET_XSAVE, &xsave))
		return PKRU_NOTHING;
	memcpy(&pkru, (const char *)xsave.region + offset, sizeof(pkru));
	return pkru;
}

static bool event_pending(const struct kvm_vcpu_events *events, const struct kvm_sregs *sregs)
{
	for (unsigned i = 0; i < sizeof(sregs->interrupt_bitmap) / sizeof(uint64_t); i++) {
		if (sregs->interrupt_bitmap[i])
			return true;
	}
	return events->exception.injected || events->exception.pending ||
	       events->interrupt.injected || events->nmi.injected || events->nmi.pending ||
	       events->smi.pending || events->smi.latched_init || events->triple_fault.pending;
}

/*
 * The guest's own breakpoints are not in the run page either: a call per stay, so that none is ever
 * missed. The engine runs no instruction that could arm one.
 */
static bool breakpoints_armed(int fd)
{
	struct kvm_debugregs debugregs;

	return nx_real.ioctl(fd, KVM_GET_DEBUGREGS, &debugregs) || debugregs.dr7 & DR7_ENABLES;
}

/*
 * A guest that may run guests of its own: in one of those, addresses are not what they seem. Linux
 * before 6.12 does not say so in the run page.
 */
static bool may_be_nested(const struct nx_kvm_vcpu *vcpu, int fd)
{
	union {
		struct kvm_nested_state state;
		char bytes[NESTED_STATE_MAX];
	} nested;

	if (!(vcpu->sregs.cr4 & NX_CR4_VMXE) && !(vcpu->sregs.efer & NX_EFER_SVME))
		return false;
	nested.state.size = sizeof(nested);
	return nx_real.ioctl(fd, KVM_GET_NESTED_STATE, &nested) ||
	       nested.state.flags & (KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING);
}

/* -1: KVM does not tell. */
static int task_priority(int fd)
{
	struct kvm_lapic_state lapic;

	return nx_real.ioctl(fd, KVM_GET_LAPIC, &lapic) ? -1 : (uint8_t)lapic.regs[NX_APIC_TPR];
}

/*
 * KVM takes cr8 with the segments, as the LAPIC's task priority. A value that no cr8 can have it
 * leaves alone, in all versions so far: whether this one does is seen with one whose other bits
 * would change the priority.
 */
static enum nx_segments_trial try_segments(struct nx_kvm_vcpu *vcpu, int fd, int priority)
{
	struct kvm_sregs sregs = vcpu->sregs;

	if (nx_faulty(NX_FAULT_SEGMENTS))
		return NX_TRIAL_REFUSED;
	if (priority >= 0) {
		sregs.cr8 = CR8_NOT_TAKEN | (sregs.cr8 ^ 1);
		if (!nx_real.ioctl(fd, KVM_SET_SREGS, &sregs) && task_priority(fd) == priority)
			return NX_TRIAL_PRIORITY_STAYS;
	}
	return nx_real.ioctl(fd, KVM_SET_SREGS, &vcpu->sregs) ? NX_TRIAL_REFUSED : NX_TRIAL_TAKEN;
}

/*
 * In real mode the engine loads segment registers, which go back with a task priority of which
 * there is the upper half only: where that counts, a lower half keeps the engine out. Firmware has
 * none. Whether KVM takes them is tried once, before anything depends on it.
 */
static enum nx_unfit segments_unfit(struct nx_kvm_vcpu *vcpu, int fd)
{
	bool has_lapic = vcpu->vm->irqchip_full || vcpu->vm->irqchip_split;
	int priority = -1;

	if (vcpu->segments_trial == NX_TRIAL_PRIORITY_STAYS ||
	    (vcpu->segments_trial == NX_TRIAL_TAKEN && !has_lapic))
		return NX_FIT;
	if (has_lapic)
		priority = task_priority(fd);
	if (has_lapic && (priority < 0 || priority & 0xf))
		return NX_UNFIT_PRIORITY;
	if (vcpu->segments_trial == NX_TRIAL_DUE)
		vcpu->segments_trial = try_segments(vcpu, fd, priority);
	if (vcpu->segments_trial != NX_TRIAL_REFUSED)
		return NX_FIT;
	nx_vcpu_off(vcpu, "KVM does not take back the segment registers that it gave");
	return NX_UNFIT_SEGMENTS;
}

/*
 * An exiting instruction behind STI ends STI's shadow, so that an interrupt that has been waiting
 * is due right behind it. A completion with immediate_exit clears the shadow and does not stand at
 * that boundary, after which nothing tells of it: hence the question before. Without interrupts
 * enabled there is none to wait for, and the call is saved.
 */
bool nx_vcpu_in_shadow(const struct nx_kvm_vcpu *vcpu, int fd)
{
	struct kvm_vcpu_events events;

	if (!vcpu->run->if_flag)
		return false;
	return nx_real.ioctl(fd, KVM_GET_VCPU_EVENTS, &events) || events.interrupt.shadow;
}

enum nx_unfit nx_vcpu_unfit(struct nx_kvm_vcpu *vcpu, int fd)
{
	const struct kvm_vcpu_events *events = &vcpu->events;

	if (event_pending(events, &vcpu->sregs))
		return NX_UNFIT_EVENT;
	if (events->interrupt.shadow)
		return NX_UNFIT_SHADOW;
	if (events->smi.smm || vcpu->run->flags & KVM_RUN_X86_SMM)
		return NX_UNFIT_SMM;
	if (vcpu->regs.rflags & NX_FL_TF)
		return NX_UNFIT_SINGLE_STEP;
	if (vcpu->guest_debug)
		return NX_UNFIT_DEBUG;
	if (may_be_nested(vcpu, fd))
		return NX_UNFIT_VIRTUALIZATION;
	if (vcpu->regs.rflags & NX_FL_IF &&
	    (vcpu->run->request_interrupt_window || vcpu->irq_seen != vcpu->vm->irq_epoch))
		return NX_UNFIT_INTERRUPT_DUE;
	if (breakpoints_armed(fd))
		return NX_UNFIT_BREAKPOINTS;
	return vcpu->sregs.cr0 & NX_CR0_PE ? NX_FIT : segments_unfit(vcpu, fd);
}
