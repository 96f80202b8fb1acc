/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * owner.c - the thread that owns a vCPU's engine: take and release ownership, make an engine leave
 * from another thread, and end clustering for a vCPU or a VM.
 */
#define _GNU_SOURCE
#include "host.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Locks that know their holder ---- */

static int thread_id(void)
{
	static __thread int id __attribute__((tls_model("initial-exec")));

	if (!id)
		id = (int)syscall(SYS_gettid);
	return id;
}

/*
 * How a lock is waited for. There is no futex: a signal handler that finds its own thread holding
 * the lock must not sleep on it, and holders take microseconds.
 */
enum {
	SPIN_LIMIT = 10000, /* attempts of an impatient caller */
	SPIN_ROUND = 1024,  /* attempts of which some sleep: */
	SPIN_SLEEPS = 24,   /* sched_yield() never lets a lower-priority holder run */
	SPIN_SLEEP_US = 20,
};

/* One atomic step takes the lock and names its holder, so that a signal handler can tell at any
 * point that its own thread holds it. */
NX_HOT static bool acquire(atomic_int *word, bool patient)
{
	int self = thread_id();

	for (unsigned i = 0; patient || i < SPIN_LIMIT; i++) {
		int holder = 0;

		if (atomic_compare_exchange_weak(word, &holder, self))
			return true;
		if (holder == self)
			return false;
		if (holder && i % SPIN_ROUND < SPIN_ROUND - SPIN_SLEEPS)
			sched_yield();
		else if (holder)
			usleep(SPIN_SLEEP_US);
	}
	return false;
}

NX_HOT bool nx_vcpu_acquire(struct nx_kvm_vcpu *vcpu)
{
	return acquire(&vcpu->owner_tid, true);
}

bool nx_vcpu_acquire_soon(struct nx_kvm_vcpu *vcpu)
{
	return acquire(&vcpu->owner_tid, false);
}

bool nx_vcpus_lock(struct nx_kvm_vm *vm)
{
	return acquire(&vm->vcpus_holder, true);
}

void nx_vcpus_unlock(struct nx_kvm_vm *vm)
{
	atomic_store(&vm->vcpus_holder, 0);
}

NX_HOT void nx_vcpu_release(struct nx_kvm_vcpu *vcpu)
{
	atomic_store(&vcpu->owner_tid, 0);
}

/* ---- Having engines leave ---- */

void nx_vm_quiesce(struct nx_kvm_vm *vm)
{
	atomic_fetch_add(&vm->writers, 1);
	nx_vcpus_lock(vm);
	for (struct nx_kvm_vcpu *vcpu = vm->vcpus; vcpu; vcpu = vcpu->next_in_vm) {
		if (vcpu->engine)
			__atomic_store_n(nx_engine_stop_flag(vcpu->engine), 1, __ATOMIC_SEQ_CST);
	}
	nx_vcpus_unlock(vm);
	pthread_rwlock_wrlock(&vm->lock);
}

void nx_vm_unquiesce(struct nx_kvm_vm *vm)
{
	vm->generation++;
	pthread_rwlock_unlock(&vm->lock);
	atomic_fetch_sub(&vm->writers, 1);
}

/*
 * Set the stop flag of every vCPU that is in the engine with interrupts enabled. The engine polls
 * the flag wherever work takes longer than from one exit to the next. A vCPU that is about to enter
 * compares irq_epoch instead (run.c).
 */
void nx_vm_interrupt_raised(struct nx_kvm_vm *vm)
{
	atomic_fetch_add(&vm->irq_epoch, 1);
	/* A signal handler interrupted this very thread here; the latency bound covers that case.
	 */
	if (!nx_vcpus_lock(vm))
		return;
	for (struct nx_kvm_vcpu *vcpu = vm->vcpus; vcpu; vcpu = vcpu->next_in_vm) {
		if (atomic_load(&vcpu->interruptible))
			__atomic_store_n(nx_engine_stop_flag(vcpu->engine), 1, __ATOMIC_SEQ_CST);
	}
	nx_vcpus_unlock(vm);
}

/* ---- The end of clustering ---- */

void nx_vcpu_off(struct nx_kvm_vcpu *vcpu, const char *why)
{
	const char *expected = NULL;

	if (!atomic_compare_exchange_strong(&vcpu->off, &expected, why))
		return;
	nx_share_off(vcpu->shared->off, why);
	nx_totals_off(why);
	if (!atomic_load(&vcpu->vm->off) && atomic_exchange(&vcpu->vm->vcpu_off, why) != why)
		nx_say("no exits are avoided on this vCPU from here on: %s", why);
}

void nx_vm_off(struct nx_kvm_vm *vm, const char *why)
{
	const char *expected = NULL;

	if (!atomic_compare_exchange_strong(&vm->off, &expected, why))
		return;
	nx_share_off(vm->share->off, why);
	nx_totals_off(why);
	nx_kernel_alone(vm->fd);
	if (!nx_options.off)
		nx_say("no exits are avoided in this VM from here on: %s", why);
}
