/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * repeat.c - a boundary behind the next element of a repeated string instruction.
 *
 * KVM emulates REP MOVS from device memory as a whole. Each element's read is an exit, and
 * completing it, with immediate_exit too, gives the next element's read, unless the write is an
 * exit as well. So there is no boundary at which the engine could take over. KVM does stop, though,
 * where rCX is a multiple of 1024, and it takes rCX anew if registers were set at the open exit. So
 * rCX is one above such a multiple for the length of that completion, and gets its own value back
 * as registers are written next: by the engine's stay, or at once if none begins.
 *
 * Rules
 *  1. rCX is touched only where it has been seen that KVM is in the middle of such an instruction:
 *     the completion of a read was the read of the next element, at the same rip, with rCX less by
 *     one and rSI and rDI moved. KVM has decoded the instruction by then, so nothing can change it.
 *     MOVS has no register operand, of which the emulator would lose the result.
 *  2. The value that is lent is above the count, where KVM cannot get by itself. So what rCX is
 *     afterwards tells whether KVM has taken it. A KVM that has not, or that goes on to the next
 *     element, is left alone from then on.
 *  3. The kernel has the true rCX again before anyone else may look or the guest be entered. An
 *     exception that the element has raised is set again behind the registers, which clear it.
 */
#include "host.h"

#include <errno.h>

/* KVM looks up after so many elements of an instruction. */
#define ELEMENTS 1024u

static bool is_read(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write;
}

void nx_repeat_note_exit(struct nx_kvm_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	vcpu->repeat.read = is_read(run);
	vcpu->repeat.shown = false;
	if (vcpu->repeat.read)
		vcpu->repeat.regs = run->s.regs.regs;
}

/* Return whether KVM came from one of these by an element that has a source and a destination. */
static bool is_next_element(const struct kvm_regs *before, const struct kvm_regs *now)
{
	/* Whatever the address size is, their lower halves move. */
	int16_t source = (int16_t)(now->rsi - before->rsi);
	int16_t destination = (int16_t)(now->rdi - before->rdi);
	int size = source < 0 ? -source : source;

	return now->rip == before->rip && (uint16_t)before->rcx &&
	       (uint32_t)now->rcx == (uint32_t)before->rcx - 1 && source == destination &&
	       (size == 1 || size == 2 || size == 4 || size == 8);
}

void nx_repeat_note_completion(struct nx_kvm_vcpu *vcpu, const struct nx_repeat *before)
{
	const struct kvm_sregs *sregs = &vcpu->run->s.regs.sregs;

	vcpu->repeat.shown = before->read && vcpu->repeat.read &&
			     is_next_element(&before->regs, &vcpu->repeat.regs) &&
			     !(vcpu->repeat.regs.rflags & NX_FL_TF) &&
			     /* Of a guest's guest we do not know enough. */
			     !(sregs->cr4 & NX_CR4_VMXE) && !(sregs->efer & NX_EFER_SVME);
}

void nx_repeat_lend(struct nx_kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	/* One above the next multiple; with 16-bit addresses there must be one. */
	uint64_t lent = (vcpu->repeat.regs.rcx | (ELEMENTS - 1)) + 2;
	uint16_t left = (uint16_t)vcpu->repeat.regs.rcx;

	if (!vcpu->repeat.shown || run->kvm_dirty_regs || !left ||
	    left >= UINT16_MAX + 1 - ELEMENTS || atomic_load(&vcpu->vm->repeats_whole))
		return;
	run->s.regs.regs = vcpu->repeat.regs;
	run->s.regs.regs.rcx = lent;
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	vcpu->repeat.lent = lent;
	vcpu->repeat.owed = vcpu->repeat.regs.rcx - lent;
}

void nx_repeat_check(struct nx_kvm_vcpu *vcpu, bool goes_on)
{
	struct kvm_run *run = vcpu->run;
	uint64_t rcx = run->s.regs.regs.rcx;
	bool done = rcx == vcpu->repeat.lent - 1;

	if (!vcpu->repeat.owed)
		return;
	if (run->kvm_dirty_regs & KVM_SYNC_X86_REGS) {
		/* The call as a whole was refused. */
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_REGS;
		vcpu->repeat.owed = 0;
	} else if (!done && rcx != vcpu->repeat.lent) {
		atomic_store(&vcpu->vm->repeats_whole, true);
		vcpu->repeat.owed = 0;
	} else if (done && goes_on && is_read(run)) {
		atomic_store(&vcpu->vm->repeats_whole, true);
	} else if (done && !goes_on) {
		vcpu->stats->repeats_stopped++;
	}
}

void nx_repeat_give_back(struct nx_kvm_vcpu *vcpu, int fd)
{
	struct kvm_regs *regs = &vcpu->run->s.regs.regs;
	struct kvm_vcpu_events events = vcpu->run->s.regs.events;
	int saved = errno, failed;

	if (!vcpu->repeat.owed)
		return;
	regs->rcx += vcpu->repeat.owed;
	vcpu->repeat.owed = 0;
	failed = nx_real.ioctl(fd, KVM_SET_REGS, regs);
	/* An NMI may have come in since: only what is not optional is set, as it is. */
	events.flags &= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (events.exception.injected || events.exception.pending)
		failed |= nx_real.ioctl(fd, KVM_SET_VCPU_EVENTS, &events);
	if (failed)
		nx_vcpu_off(vcpu, "KVM does not take back a register that it gave");
	errno = saved;
}
