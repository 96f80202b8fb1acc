/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * run.c - KVM_RUN.
 *
 * The VMM calls KVM_RUN to say "I have emulated the exit, go on". Three situations:
 *
 *   The exit came from the kernel. If the engine expects another exit soon, the kernel is made to
 *   complete this one (KVM_RUN with immediate_exit, which also brings the registers into the run
 *   page), and the engine enters: a stay begins.
 *   The exit came from the engine. It is completed, and the stay goes on or ends.
 *   Otherwise, and whenever anything is in doubt: the real KVM_RUN.
 *
 * Rules
 *  1. The engine touches no register before the kernel has completed its own exit (-1/EINTR). The
 *     one exception is repeat.c's.
 *  2. immediate_exit belongs to the VMM. We write 2 where there was 0 and take back only a 2; a 1
 *     that came in between is a kick, and the VMM gets EINTR for it.
 *  3. A stay ends by writing the registers to the run page, marked dirty, followed by the real
 *     KVM_RUN. REGS are marked, and SREGS where the engine loaded segments, which it does in real
 *     mode only; all else in them is what the kernel gave when the stay began, without an event.
 *     EVENTS are never marked: written back, they could lose some.
 *  4. Each stay makes progress: its first resume is never denied for time, and each stay is
 *     followed by a real KVM_RUN, where interrupts and requests get in.
 *  5. A signal handler that runs while KVM_RUN is in our hands ends it as it ends the
 *     kernel's: with EINTR, unless an exit is returned anyhow. Some VMMs only look at EINTR.
 *  6. The VMM's kvm_valid_regs and kvm_dirty_regs are its own: we add for the length of a call,
 *     and what it marked dirty wins over what the engine has. Registers in the run page that it did
 *     not ask for are as it left them.
 */
#include "host.h"

#include <errno.h>
#include <string.h>

#define SYNC_ALL (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
#define OUR_IMMEDIATE_EXIT 2
#define TIMED_RESUME 13 /* one in so many is timed */

/* The step that is left to do. */
enum step {
	STEP_ENTER,  /* the real KVM_RUN */
	STEP_RETURN, /* 0: an exit is in the run page */
	STEP_EINTR,
	STEP_ERROR,     /* -1, errno is set */
	STEP_COMPLETED, /* of kernel_complete() only: the kernel's exit is done, go on */
};

static bool clustering(struct nx_kvm_vcpu *vcpu)
{
	return !atomic_load_explicit(&vcpu->off, memory_order_relaxed) &&
	       !atomic_load_explicit(&vcpu->vm->off, memory_order_relaxed);
}

/* ---- The real KVM_RUN ---- */

NX_HOT static int enter_kernel(struct nx_kvm_vcpu *vcpu, int fd, void *argument)
{
	int result;

	nx_lines_enter(vcpu->vm);
	result = nx_real.ioctl(fd, KVM_RUN, argument);
	nx_lines_leave(vcpu->vm);
	return result;
}

/*
 * The kernel takes dirty registers first of all, except when it refuses the call as a whole: then
 * they go in by another door, so that the VMM does not read old ones.
 */
static void export_check(struct nx_kvm_vcpu *vcpu, int fd)
{
	struct kvm_run *run = vcpu->run;
	uint64_t left = run->kvm_dirty_regs & vcpu->exported;
	int saved = errno;

	vcpu->exported = 0;
	run->kvm_dirty_regs &= ~left;
	if (left & KVM_SYNC_X86_REGS)
		nx_real.ioctl(fd, KVM_SET_REGS, &run->s.regs.regs);
	if (left & KVM_SYNC_X86_SREGS)
		nx_real.ioctl(fd, KVM_SET_SREGS, &run->s.regs.sregs);
	errno = saved;
}

NX_HOT static void note_exit(struct nx_kvm_vcpu *vcpu, bool calm)
{
	const struct kvm_run *run = vcpu->run;
	bool resumable = calm && !(run->flags & KVM_RUN_X86_SMM) &&
			 (run->exit_reason == KVM_EXIT_IO || run->exit_reason == KVM_EXIT_MMIO);

	nx_stats_taken(vcpu->stats, run);
	nx_phase_set(vcpu, resumable ? NX_PHASE_RESUMABLE : NX_PHASE_KERNEL);
	vcpu->kernel_rip = run->s.regs.regs.rip;
	nx_repeat_note_exit(vcpu);
	vcpu->irq_seen = atomic_load(&vcpu->vm->irq_epoch);
}

NX_HOT static void time_exit(struct nx_kvm_vcpu *vcpu, uint64_t ns)
{
	if (vcpu->run->exit_reason == KVM_EXIT_IO)
		nx_sample_add(vcpu, NX_COST_IO, ns);
	else if (vcpu->run->exit_reason == KVM_EXIT_MMIO)
		nx_sample_add(vcpu, NX_COST_MMIO, ns);
}

NX_HOT static int real_run(struct nx_kvm_vcpu *vcpu, int fd, void *argument)
{
	struct kvm_run *run = vcpu->run;
	bool on = clustering(vcpu), timed = nx_sample_due(vcpu), calm, told;
	uint64_t valid = run->kvm_valid_regs, began;
	int result;

	nx_phase_set(vcpu, NX_PHASE_KERNEL);
	vcpu->disturbances_seen = atomic_load(&vcpu->disturbances);
	calm = on && !atomic_load(&vcpu->disturbing);
	told = __atomic_load_n(&run->immediate_exit, __ATOMIC_RELAXED);
	if (on)
		run->kvm_valid_regs = valid | KVM_SYNC_X86_REGS;
	began = timed ? nx_real.now() : 0;
	result = enter_kernel(vcpu, fd, argument);
	if (timed && !result)
		time_exit(vcpu, nx_real.now() - began);
	if (on)
		run->kvm_valid_regs = valid;
	if (vcpu->exported)
		export_check(vcpu, fd);
	if (!result)
		note_exit(vcpu, calm);
	else if (told)
		vcpu->stats->kicked_runs++;
	else if (errno == EINTR)
		vcpu->stats->intr++;
	return result;
}

/* ---- The end of a stay ---- */

/* Publish the figures of the stay. */
static void stay_account(struct nx_kvm_vcpu *vcpu)
{
	uint64_t now = nx_real.now();

	nx_stats_stay(vcpu->stats, now - vcpu->stay_began);
	nx_share_publish(vcpu, now);
}

static enum step stay_end(struct nx_kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	stay_account(vcpu);
	nx_vcpu_engine_check(vcpu);
	nx_phase_set(vcpu, NX_PHASE_KERNEL);
	nx_state_export_regs(vcpu->state, &regs);
	/* Nothing ran: then nothing is written, and no pending event is cleared by it. */
	if (memcmp(&regs, &vcpu->regs, sizeof(regs)) != 0) {
		run->s.regs.regs = regs;
		vcpu->exported = KVM_SYNC_X86_REGS;
	}
	/* The VMM's own win. */
	if (nx_state_segments_due(vcpu, &sregs) && !(run->kvm_dirty_regs & KVM_SYNC_X86_SREGS)) {
		run->s.regs.sregs = sregs;
		vcpu->exported |= KVM_SYNC_X86_SREGS;
	}
	run->kvm_dirty_regs |= vcpu->exported;
	return STEP_ENTER;
}

/* Hand the engine's exit to the VMM. */
static enum step present(struct nx_kvm_vcpu *vcpu)
{
	bool instead = vcpu->exit.write && vcpu->route == NX_ROUTE_INSTEAD;

	/* The hardware's exit for such a write would not have reached the VMM: none is avoided. */
	if (instead)
		vcpu->stats->internal++;
	else
		nx_stats_avoided(vcpu->stats, &vcpu->exit);
	if (vcpu->run->kvm_valid_regs & KVM_SYNC_X86_REGS)
		nx_exit_settle(vcpu);
	nx_exit_fabricate(vcpu);
	/* The VMM's time for an exit that only noexit gives it is on noexit's account. */
	vcpu->instead_since = instead ? nx_real.now() : 0;
	return STEP_RETURN;
}

static enum step stay_end_completed(struct nx_kvm_vcpu *vcpu, enum nx_host_leave why)
{
	if (nx_exit_complete(vcpu))
		return present(vcpu);
	vcpu->stats->leaves[why]++;
	return stay_end(vcpu);
}

/* ---- A stay ---- */

/* Reading the clock costs a good part of a short resume: so one in so many stands for all. */
static enum nx_outcome timed_resume(struct nx_kvm_vcpu *vcpu)
{
	const struct nx_counters *counters = nx_engine_counters(vcpu->engine);
	uint64_t instructions = counters->instructions;
	uint64_t began = nx_real.now(), took;
	enum nx_outcome outcome = nx_engine_resume(vcpu->engine, &vcpu->exit);

	vcpu->resumes_untimed = 0;
	took = nx_real.now() - began;
	vcpu->stats->engine_ns += took * TIMED_RESUME;
	if (outcome != NX_EXIT || vcpu->exit.built)
		return outcome;
	nx_sample_add(vcpu, NX_COST_RESUME, took);
	nx_sample_instructions(vcpu, counters->instructions - instructions, took);
	return outcome;
}

/* Resume once. Return false if that must not begin, with the reason in *why. */
static bool resume(struct nx_kvm_vcpu *vcpu, enum nx_outcome *outcome, enum nx_host_leave *why)
{
	struct nx_kvm_vm *vm = vcpu->vm;

	pthread_rwlock_rdlock(&vm->lock);
	nx_stop_open(vcpu);
	if (nx_leave_due_before_resume(vcpu, why)) {
		nx_stop_close(vcpu);
		pthread_rwlock_unlock(&vm->lock);
		return false;
	}
	/* The engine keeps page pointers for a stay. */
	if (vcpu->generation_seen != vm->generation)
		nx_engine_flush(vcpu->engine);
	vcpu->generation_seen = vm->generation;
	if (++vcpu->resumes_untimed == TIMED_RESUME)
		*outcome = timed_resume(vcpu);
	else
		*outcome = nx_engine_resume(vcpu->engine, &vcpu->exit);
	nx_stop_close(vcpu);
	pthread_rwlock_unlock(&vm->lock);
	return true;
}

/* Run to the next exit that is for the VMM, or to the end of the stay. */
static enum step stay_resume(struct nx_kvm_vcpu *vcpu)
{
	enum nx_outcome outcome;
	enum nx_host_leave why;

	for (;;) {
		if (!resume(vcpu, &outcome, &why))
			return stay_end_completed(vcpu, why);
		if (outcome == NX_LEAVE)
			return stay_end(vcpu);
		nx_phase_set(vcpu, NX_PHASE_EXIT);
		if (!nx_exit_absorb(vcpu))
			return present(vcpu);
		if (nx_leave_due(vcpu, &why))
			return stay_end_completed(vcpu, why);
	}
}

/* The VMM marked registers of the page dirty while an engine's exit was open: it wins. */
static enum step stay_overruled(struct nx_kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint64_t base = vcpu->state->seg[NX_CS].base;
	uint64_t old = base + vcpu->state->rip;

	vcpu->stats->disturbed++;
	if (run->kvm_dirty_regs & KVM_SYNC_X86_REGS) {
		nx_state_import_regs(vcpu->state, &run->s.regs.regs);
		run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_REGS;
	}
	if (run->kvm_dirty_regs & KVM_SYNC_X86_SREGS)
		base = run->s.regs.sregs.cs.base;
	if (nx_exit_is_open(vcpu) && base + vcpu->state->rip == old) {
		nx_phase_set(vcpu, NX_PHASE_LAST);
		nx_exit_consume(vcpu);
	} else {
		nx_engine_forget_exit(vcpu->engine);
		nx_phase_set(vcpu, NX_PHASE_ENDING);
	}
	return stay_end_completed(vcpu, NX_HOST_LEAVE_VMM_STATE);
}

static enum step stay_continue(struct nx_kvm_vcpu *vcpu)
{
	enum nx_host_leave why;

	if (vcpu->run->kvm_dirty_regs)
		return stay_overruled(vcpu);
	if (vcpu->instead_since)
		nx_sample_add(vcpu, NX_COST_CLIENT, nx_real.now() - vcpu->instead_since);
	nx_exit_consume(vcpu);
	if (nx_leave_due(vcpu, &why))
		return stay_end_completed(vcpu, why);
	return stay_resume(vcpu);
}

void nx_stay_disturb(struct nx_kvm_vcpu *vcpu)
{
	if (nx_phase(vcpu) == NX_PHASE_DISTURBED)
		return;
	vcpu->stats->disturbed++;
	vcpu->stats->leaves[NX_HOST_LEAVE_VMM_STATE]++;
	if (nx_exit_is_open(vcpu)) {
		nx_phase_set(vcpu, NX_PHASE_DISTURBED);
		return;
	}
	stay_account(vcpu);
	nx_phase_set(vcpu, NX_PHASE_KERNEL);
}

/*
 * The VMM changed the vCPU while an engine's exit was open, and the kernel has its state. The
 * engine still has to complete the exit, if rip still is on the instruction.
 */
static enum step stay_disturbed(struct nx_kvm_vcpu *vcpu, int fd)
{
	struct nx_state *state = vcpu->state;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (!nx_real.ioctl(fd, KVM_GET_REGS, &regs) && !nx_real.ioctl(fd, KVM_GET_SREGS, &sregs) &&
	    regs.rip + sregs.cs.base == state->rip + state->seg[NX_CS].base) {
		nx_state_import_regs(state, &regs);
		nx_exit_consume(vcpu);
		nx_phase_set(vcpu, NX_PHASE_LAST);
		/* The write half of a read-modify-write: it is all that the engine still does. */
		if (nx_exit_complete(vcpu)) {
			vcpu->regs = regs;
			vcpu->sregs = sregs;
			nx_state_import_sregs(state, &sregs);
			return present(vcpu);
		}
		nx_state_export_regs(state, &regs);
		nx_real.ioctl(fd, KVM_SET_REGS, &regs);
	}
	nx_engine_forget_exit(vcpu->engine);
	nx_phase_set(vcpu, NX_PHASE_KERNEL);
	stay_account(vcpu);
	return STEP_ENTER;
}

/* ---- The beginning of a stay ---- */

/* Judge by what is known before the exit is completed. Return true to enter; *now is the time. */
NX_HOT static bool may_take_over(struct nx_kvm_vcpu *vcpu, uint64_t *now)
{
	const struct kvm_run *run = vcpu->run;

	if (vcpu->guest_debug || !clustering(vcpu))
		return false;
	if (atomic_load(&vcpu->disturbing) ||
	    atomic_load(&vcpu->disturbances) != vcpu->disturbances_seen)
		return false;
	if (run->if_flag &&
	    (run->request_interrupt_window || vcpu->irq_seen != atomic_load(&vcpu->vm->irq_epoch)))
		return false;
	if (!nx_vcpu_engine_make(vcpu))
		return false;
	*now = nx_real.now();
	if (run->exit_reason == KVM_EXIT_IO)
		return nx_engine_worth_resuming(vcpu->engine, vcpu->kernel_rip, NX_CLASS_IO,
						run->io.port, *now);
	return nx_engine_worth_resuming(vcpu->engine, vcpu->kernel_rip, NX_CLASS_MMIO, 0, *now);
}

/* Rule 2. Return whether the VMM kicked meanwhile. */
static bool immediate_exit_give_back(struct kvm_run *run)
{
	uint8_t ours = OUR_IMMEDIATE_EXIT;

	return !__atomic_compare_exchange_n(&run->immediate_exit, &ours, 0, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
}

/* Have the kernel complete its exit. */
static enum step kernel_complete(struct nx_kvm_vcpu *vcpu, int fd, void *argument, bool *kicked)
{
	struct kvm_run *run = vcpu->run;
	struct nx_repeat before = vcpu->repeat;
	uint64_t valid = run->kvm_valid_regs;
	uint8_t none = 0;
	int result;

	if (!__atomic_compare_exchange_n(&run->immediate_exit, &none, OUR_IMMEDIATE_EXIT, false,
					 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return STEP_ENTER;
	nx_repeat_lend(vcpu);
	run->kvm_valid_regs = valid | SYNC_ALL;
	errno = EINVAL;
	result = nx_faulty(NX_FAULT_COMPLETION) ? -1 : enter_kernel(vcpu, fd, argument);
	run->kvm_valid_regs = valid;
	nx_repeat_check(vcpu, !result);
	vcpu->stats->completions++;
	*kicked = immediate_exit_give_back(run);
	if (!result) {
		vcpu->stats->completions_new_exit++;
		nx_repeat_give_back(vcpu, fd);
		nx_engine_not_resumed(vcpu->engine);
		note_exit(vcpu, true);
		nx_repeat_note_completion(vcpu, &before);
		return STEP_RETURN;
	}
	if (errno == EINVAL) {
		/* The call as a whole was refused, and the exit is as it was. */
		nx_vcpu_off(vcpu, "KVM refuses KVM_RUN the way that noexit completes exits");
		return STEP_ENTER;
	}
	if (errno != EINTR)
		return STEP_ERROR;
	vcpu->stats->completions_kicked += *kicked;
	return STEP_COMPLETED;
}

/* Return whether a stay may begin at the boundary that the completion has led to. */
static bool may_begin(struct nx_kvm_vcpu *vcpu, int fd)
{
	const struct kvm_run *run = vcpu->run;
	enum nx_unfit unfit;

	vcpu->regs = run->s.regs.regs;
	vcpu->sregs = run->s.regs.sregs;
	vcpu->events = run->s.regs.events;
	unfit = nx_vcpu_unfit(vcpu, fd);
	if (unfit) {
		vcpu->stats->unfit[unfit]++;
		return false;
	}
	return nx_steal_begin(vcpu, fd);
}

static enum step stay_begin(struct nx_kvm_vcpu *vcpu, uint64_t began)
{
	nx_state_import_regs(vcpu->state, &vcpu->regs);
	vcpu->state->gpr[NX_RCX] += vcpu->repeat.owed;
	vcpu->repeat.owed = 0;
	nx_state_import_sregs(vcpu->state, &vcpu->sregs);
	vcpu->state->physical_bits = vcpu->physical_bits;
	vcpu->state->pkru = nx_vcpu_pkru(vcpu);
	vcpu->tsc_known = vcpu->tsc_aux_known = vcpu->deadline_known = false;
	vcpu->stats->takeovers++;
	vcpu->stay_began = vcpu->nothing_waited = nx_real.now();
	nx_sample_add(vcpu, NX_COST_TAKEOVER, vcpu->stay_began - began);
	nx_phase_set(vcpu, NX_PHASE_ENGINE);
	return stay_resume(vcpu);
}

static enum step take_over(struct nx_kvm_vcpu *vcpu, int fd, void *argument, uint64_t began)
{
	enum step step;
	bool kicked;

	vcpu->fd = fd;
	if (nx_vcpu_in_shadow(vcpu, fd)) {
		vcpu->stats->unfit[NX_UNFIT_SHADOW]++;
		return STEP_ENTER;
	}
	step = kernel_complete(vcpu, fd, argument, &kicked);
	if (step == STEP_COMPLETED) {
		nx_phase_set(vcpu, NX_PHASE_KERNEL);
		if (!kicked && may_begin(vcpu, fd))
			return stay_begin(vcpu, began);
		step = kicked ? STEP_EINTR : STEP_ENTER;
	}
	nx_repeat_give_back(vcpu, fd);
	return step;
}

/* ---- KVM_RUN ---- */

NX_HOT static enum step decide(struct nx_kvm_vcpu *vcpu, int fd, void *argument)
{
	uint64_t now;

	switch (nx_phase(vcpu)) {
	case NX_PHASE_RESUMABLE:
		return may_take_over(vcpu, &now) ? take_over(vcpu, fd, argument, now) : STEP_ENTER;
	case NX_PHASE_ENGINE:
	case NX_PHASE_ENDING:
	case NX_PHASE_EXIT:
	case NX_PHASE_LAST:
		return stay_continue(vcpu);
	case NX_PHASE_DISTURBED:
		return stay_disturbed(vcpu, fd);
	case NX_PHASE_KERNEL:
		break;
	}
	return STEP_ENTER;
}

/* Have the kernel take our registers, finish what is due, and return. */
static int interrupted_run(struct nx_kvm_vcpu *vcpu, int fd, void *argument)
{
	uint8_t none = 0;
	bool ours =
	    __atomic_compare_exchange_n(&vcpu->run->immediate_exit, &none, OUR_IMMEDIATE_EXIT,
					false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	int result = real_run(vcpu, fd, argument);

	if (ours)
		immediate_exit_give_back(vcpu->run);
	return result;
}

NX_HOT static int run_once(struct nx_kvm_vcpu *vcpu, int fd, void *argument)
{
	unsigned handlers = nx_handlers_count();
	int saved = errno;
	enum step step;

	vcpu->stats->runs++;
	if (!clustering(vcpu) && nx_kernel_has_regs(vcpu))
		return real_run(vcpu, fd, argument);
	if (!nx_vcpu_acquire(vcpu)) {
		nx_vcpu_off(vcpu, "the VMM uses a vCPU from a signal handler");
		return enter_kernel(vcpu, fd, argument);
	}
	vcpu->handlers_seen = handlers;
	step = decide(vcpu, fd, argument);
	nx_vcpu_release(vcpu);
	switch (step) {
	case STEP_RETURN:
		errno = saved;
		return 0;
	case STEP_EINTR:
		errno = EINTR;
		return -1;
	case STEP_ERROR:
		return -1;
	case STEP_ENTER:
	case STEP_COMPLETED:
		break;
	}
	errno = saved;
	return nx_handlers_count() != handlers ? interrupted_run(vcpu, fd, argument)
					       : real_run(vcpu, fd, argument);
}

NX_HOT int nx_kvm_run(struct nx_kvm_vcpu *vcpu, int fd, void *argument)
{
	struct kvm_sync_regs *page = &vcpu->run->s.regs, kept;
	uint64_t valid = vcpu->run->kvm_valid_regs;
	int result;

	/* A VMM that never used these registers does not look at them, and most never do. */
	if (valid || vcpu->run->kvm_dirty_regs)
		vcpu->uses_sync_regs = true;
	if (!vcpu->uses_sync_regs || (valid & SYNC_ALL) == SYNC_ALL)
		return run_once(vcpu, fd, argument);
	kept = *page;
	result = run_once(vcpu, fd, argument);
	if (!(valid & KVM_SYNC_X86_REGS))
		page->regs = kept.regs;
	if (!(valid & KVM_SYNC_X86_SREGS))
		page->sregs = kept.sregs;
	if (!(valid & KVM_SYNC_X86_EVENTS))
		page->events = kept.events;
	return result;
}
