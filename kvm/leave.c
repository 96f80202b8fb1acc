/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * leave.c - what ends a stay from outside: signals, interrupts, the VMM, and time.
 *
 * What we see being raised ends a stay at once, by the engine's stop flag if it is running. The
 * kernel's own timers and other vCPUs' interprocessor interrupts are not seen: for their sake no
 * stay lasts longer than a bound, whether the guest's code runs in it or something is made for
 * later ones.
 */
#include "host.h"

#include <signal.h>
#include <string.h>

/*
 * Making something goes on for as long as so many exits take, whatever the bound: where even an
 * exit takes that long, parts that keep to it would mostly be the way in and out.
 */
#define LEAST_EXITS 4u

/* Of this thread, as far as we hear of them. */
static __thread volatile unsigned handlers_run __attribute__((tls_model("initial-exec")));

/* The stop flag of the engine that this thread is in. */
static __thread volatile int *volatile stop_flag __attribute__((tls_model("initial-exec")));

void nx_handlers_note(void)
{
	volatile int *stop = stop_flag;

	handlers_run++;
	if (stop)
		*stop = 1;
}

NX_HOT unsigned nx_handlers_count(void)
{
	return handlers_run;
}

/* ---- Time ---- */

/*
 * While interrupts are disabled none is late, and the longer bound holds. Once the guest takes
 * them, they may have waited since KVM was asked for last (window.c), or since the stay began: then
 * it is asked again.
 */
static bool lasts_longer(struct nx_kvm_vcpu *vcpu, uint64_t least)
{
	bool interruptible = vcpu->state->rflags & NX_FL_IF;
	uint64_t now = nx_real.now(), latency = 1000ull * nx_options.latency;
	uint64_t longest = 1000ull * nx_options.masked_latency;

	if (latency < least)
		latency = least;
	if (interruptible && now - vcpu->nothing_waited > latency && !nx_window_still_quiet(vcpu))
		return true;
	if (longest < least)
		longest = least;
	if (interruptible && longest < latency)
		longest = latency;
	return now - vcpu->stay_began > longest;
}

bool nx_leave_time_is_up(void *data)
{
	struct nx_kvm_vcpu *vcpu = data;
	const uint32_t *cost = vcpu->stats->cost_ns;
	uint64_t least;

	least = cost[NX_COST_IO] > cost[NX_COST_MMIO] ? cost[NX_COST_IO] : cost[NX_COST_MMIO];
	return lasts_longer(vcpu, least * LEAST_EXITS) || !nx_steal_claim(vcpu);
}

/* ---- Between two resumes ---- */

/* With KVM_SET_SIGNAL_MASK, a signal that only that mask lets through interrupts KVM_RUN. */
static bool signal_due(const struct nx_kvm_vcpu *vcpu)
{
	uint64_t pending;
	sigset_t set;

	if (!vcpu->has_signal_mask || sigpending(&set))
		return false;
	memcpy(&pending, &set, sizeof(pending));
	return pending & ~vcpu->signal_mask;
}

bool nx_leave_due(struct nx_kvm_vcpu *vcpu, enum nx_host_leave *why)
{
	const struct nx_kvm_vm *vm = vcpu->vm;
	bool interruptible = vcpu->state->rflags & NX_FL_IF;

	if (atomic_load_explicit(&vcpu->off, memory_order_relaxed) ||
	    atomic_load_explicit(&vm->off, memory_order_relaxed))
		*why = NX_HOST_LEAVE_TURNED_OFF;
	else if (nx_phase(vcpu) == NX_PHASE_LAST || nx_phase(vcpu) == NX_PHASE_ENDING)
		*why = NX_HOST_LEAVE_VMM_STATE;
	else if (__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_ACQUIRE))
		*why = NX_HOST_LEAVE_KICK;
	else if (interruptible && vcpu->irq_seen != atomic_load(&vm->irq_epoch))
		*why = NX_HOST_LEAVE_INTERRUPT;
	else if (interruptible && vcpu->run->request_interrupt_window)
		*why = NX_HOST_LEAVE_WINDOW;
	else if (handlers_run != vcpu->handlers_seen || signal_due(vcpu))
		*why = NX_HOST_LEAVE_SIGNAL;
	else if (lasts_longer(vcpu, 0))
		*why = NX_HOST_LEAVE_BOUND;
	else
		return false;
	return true;
}

/* ---- Around a resume ---- */

void nx_stop_open(struct nx_kvm_vcpu *vcpu)
{
	volatile int *stop = nx_engine_stop_flag(vcpu->engine);

	__atomic_store_n(stop, 0, __ATOMIC_SEQ_CST);
	stop_flag = stop;
	if (vcpu->state->rflags & NX_FL_IF)
		atomic_store(&vcpu->interruptible, true);
}

void nx_stop_close(struct nx_kvm_vcpu *vcpu)
{
	atomic_store_explicit(&vcpu->interruptible, false, memory_order_release);
	stop_flag = NULL;
}

bool nx_leave_due_before_resume(struct nx_kvm_vcpu *vcpu, enum nx_host_leave *why)
{
	if (atomic_load(&vcpu->vm->writers))
		*why = NX_HOST_LEAVE_MEMSLOTS;
	else if (handlers_run != vcpu->handlers_seen)
		*why = NX_HOST_LEAVE_SIGNAL;
	else if (vcpu->interruptible && vcpu->irq_seen != atomic_load(&vcpu->vm->irq_epoch))
		*why = NX_HOST_LEAVE_INTERRUPT;
	else if (!nx_steal_claim(vcpu))
		*why = NX_HOST_LEAVE_FLUSH;
	else
		return false;
	return true;
}
