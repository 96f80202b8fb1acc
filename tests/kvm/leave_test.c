/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* leave_test.c - kvm/leave.c: what ends a stay, and what comes first where several do. */
#include <pthread.h>
#include <signal.h>

#include "unit.h"

static struct nx_kvm_vcpu *vcpu;

/* A vCPU whose stay has just begun, with interrupts let in. */
static int setup(void **state)
{
	static struct vmm vmm;

	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	begin_guest(100, true);
	enter_engine(&vmm);
	vcpu = fake_vcpu();
	vcpu->state->rflags |= NX_FL_IF;
	vcpu->stay_began = vcpu->nothing_waited = nx_real.now();
	vcpu->irq_seen = atomic_load(&vcpu->vm->irq_epoch);
	vcpu->handlers_seen = nx_handlers_count();
	nx_phase_set(vcpu, NX_PHASE_EXIT);
	fake.run->immediate_exit = 0;
	memset(vcpu->stats->cost_ns, 0, sizeof(vcpu->stats->cost_ns));
	return 0;
}

static void check_leaves(enum nx_host_leave expected)
{
	enum nx_host_leave why = NX_HOST_LEAVE_COUNT;

	assert_true(nx_leave_due(vcpu, &why));
	assert_int_equal(why, expected);
}

static void check_stays(void)
{
	enum nx_host_leave why;

	assert_false(nx_leave_due(vcpu, &why));
}

static void test_time(void **state)
{
	(void)state;
	fake.clock += 50000;
	check_stays();
	fake.clock += 1;
	check_leaves(NX_HOST_LEAVE_BOUND);
	/* Interrupts that the guest holds off do not wait for us. */
	vcpu->state->rflags &= ~(uint64_t)NX_FL_IF;
	check_stays();
	fake.clock = vcpu->stay_began + 5000001;
	check_leaves(NX_HOST_LEAVE_BOUND);
}

/* Where an exit takes long, building goes on for as long as some exits take. */
static void test_time_is_up(void **state)
{
	(void)state;
	fake.clock += 50001;
	assert_true(nx_leave_time_is_up(vcpu));
	vcpu->stats->cost_ns[NX_COST_MMIO] = 20000;
	assert_false(nx_leave_time_is_up(vcpu));
	fake.clock = vcpu->stay_began + 80001;
	assert_true(nx_leave_time_is_up(vcpu));
	vcpu->stats->cost_ns[NX_COST_IO] = 30000;
	assert_false(nx_leave_time_is_up(vcpu));
}

static void test_interrupts(void **state)
{
	(void)state;
	atomic_fetch_add(&vcpu->vm->irq_epoch, 1);
	check_leaves(NX_HOST_LEAVE_INTERRUPT);
	vcpu->irq_seen++;
	check_stays();
	fake.run->request_interrupt_window = 1;
	check_leaves(NX_HOST_LEAVE_WINDOW);
	vcpu->state->rflags &= ~(uint64_t)NX_FL_IF;
	check_stays();
	atomic_fetch_add(&vcpu->vm->irq_epoch, 1);
	check_stays();
}

static void test_signals(void **state)
{
	sigset_t blocked, before;

	(void)state;
	nx_handlers_note();
	check_leaves(NX_HOST_LEAVE_SIGNAL);
	vcpu->handlers_seen = nx_handlers_count();
	check_stays();
	/* One that is pending counts only if KVM_SET_SIGNAL_MASK lets it through. */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &blocked, &before);
	pthread_kill(pthread_self(), SIGUSR1);
	check_stays();
	vcpu->has_signal_mask = true;
	vcpu->signal_mask = 1ull << (SIGUSR1 - 1);
	check_stays();
	vcpu->signal_mask = 0;
	check_leaves(NX_HOST_LEAVE_SIGNAL);
	signal(SIGUSR1, SIG_IGN);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	signal(SIGUSR1, SIG_DFL);
}

/* The VMM's changes come before reasons of mere courtesy. */
static void test_order(void **state)
{
	(void)state;
	fake.clock += 1 << 30;
	nx_handlers_note();
	check_leaves(NX_HOST_LEAVE_SIGNAL);
	fake.run->request_interrupt_window = 1;
	check_leaves(NX_HOST_LEAVE_WINDOW);
	atomic_fetch_add(&vcpu->vm->irq_epoch, 1);
	check_leaves(NX_HOST_LEAVE_INTERRUPT);
	fake.run->immediate_exit = 1;
	check_leaves(NX_HOST_LEAVE_KICK);
	nx_phase_set(vcpu, NX_PHASE_LAST);
	check_leaves(NX_HOST_LEAVE_VMM_STATE);
	nx_phase_set(vcpu, NX_PHASE_ENDING);
	check_leaves(NX_HOST_LEAVE_VMM_STATE);
	nx_vm_off(vcpu->vm, "a test");
	check_leaves(NX_HOST_LEAVE_TURNED_OFF);
}

/* A thread that runs between these two finds the engine's stop flag. */
static void test_stop_flag(void **state)
{
	volatile int *stop = nx_engine_stop_flag(vcpu->engine);

	(void)state;
	*stop = 5;
	nx_stop_open(vcpu);
	assert_int_equal(*stop, 0);
	assert_true(vcpu->interruptible);
	nx_handlers_note();
	assert_int_equal(*stop, 1);
	nx_stop_close(vcpu);
	assert_false(vcpu->interruptible);
	*stop = 0;
	nx_handlers_note();
	assert_int_equal(*stop, 0);
	vcpu->state->rflags &= ~(uint64_t)NX_FL_IF;
	nx_stop_open(vcpu);
	assert_false(vcpu->interruptible);
	nx_stop_close(vcpu);
}

/* An event that came while the flag was being cleared has been counted. */
static void test_must_not_resume(void **state)
{
	enum nx_host_leave why = NX_HOST_LEAVE_COUNT;

	(void)state;
	nx_stop_open(vcpu);
	assert_false(nx_leave_due_before_resume(vcpu, &why));
	atomic_fetch_add(&vcpu->vm->irq_epoch, 1);
	assert_true(nx_leave_due_before_resume(vcpu, &why));
	assert_int_equal(why, NX_HOST_LEAVE_INTERRUPT);
	nx_handlers_note();
	assert_true(nx_leave_due_before_resume(vcpu, &why));
	assert_int_equal(why, NX_HOST_LEAVE_SIGNAL);
	atomic_fetch_add(&vcpu->vm->writers, 1);
	assert_true(nx_leave_due_before_resume(vcpu, &why));
	assert_int_equal(why, NX_HOST_LEAVE_MEMSLOTS);
	atomic_fetch_sub(&vcpu->vm->writers, 1);
	nx_stop_close(vcpu);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_time),  TEST(test_time_is_up), TEST(test_interrupts),      TEST(test_signals),
	    TEST(test_order), TEST(test_stop_flag),  TEST(test_must_not_resume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
