/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* interrupt_test.c - what ends a stay early: kicks, signals, time, and interrupts by the VMM. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "both.h"

/* ---- Kicks and signals ---- */

static void kick_now(void)
{
	if (fake.immediate_runs % 3 == 1)
		fake.run->immediate_exit = 1;
}

/* Rule 2 of run.c: a kick that comes while we complete an exit is not lost. */
static void test_kick_during_completion(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, false);
	assert_true(vmm_run(&without));
	fake_stop();
	start(ports, COUNT(ports), fast, true);
	fake_engine.leave_every = 2;
	fake.in_completion = kick_now;
	assert_true(vmm_run(&with));
	assert_true(vmm_equal(&without, &with));
	assert_true(fake_vcpu()->stats->completions_kicked > 0);
	assert_true(with.eintr >= fake_vcpu()->stats->completions_kicked);
	fake_stop();

	/* It is this very call that returns EINTR, as the kernel's would. */
	start(ports, COUNT(ports), fast, true);
	with.accesses = 0;
	assert_int_equal(vmm_step(&with), 0);
	fake.in_completion = kick_now;
	assert_int_equal(vmm_step(&with), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(fake.run->immediate_exit, 1);
	assert_int_equal(fake_engine.resumes, 0);
	fake_stop();
}

static void kick_at_exit(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	if (index % 2)
		fake.run->immediate_exit = 1;
}

/* KVM_RUN finishes the exit, makes the kernel's registers current and returns EINTR. */
static void test_kick_at_engine_exit(void **state)
{
	struct kvm_regs regs;

	(void)state;
	with.at_exit = without.at_exit = kick_at_exit;
	run_both(ports, COUNT(ports), fast);
	assert_true(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_KICK] > 0);
	assert_int_equal(with.eintr, without.eintr);
	fake_stop();

	start(ports, COUNT(ports), fast, true);
	with.at_exit = NULL;
	with.accesses = 0;
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.exits, 1);
	fake.run->immediate_exit = 1;
	assert_int_equal(vmm_step(&with), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(fake.run->immediate_exit, 1);
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
	assert_int_equal(regs.rip, MODEL_BASE + 3 * MODEL_LEN);
	assert_int_equal(fake.entries, 1);
	fake_stop();
}

static void test_immediate_exit_is_given_back(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, true);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(vmm_step(&with), 0);
		assert_int_equal(fake.run->immediate_exit, 0);
	}
	assert_true(fake_vcpu()->stats->completions > 0);
	fake_stop();
}

static void signalled_now(void)
{
	nx_handlers_note();
}

/* Rule 5 of run.c: a handler that does nothing more than to run. */
static void test_handler_runs(void **state)
{
	unsigned resumes, eintr = 0;

	(void)state;
	start(ports, COUNT(ports), fast, false);
	assert_true(vmm_run(&without));
	fake_stop();
	start(ports, COUNT(ports), fast, true);
	fake_engine.exits_per_stay = 2;
	fake_engine.in_resume = signalled_now;
	assert_true(vmm_run(&with));
	assert_true(vmm_equal(&without, &with));
	fake_stop();

	start(ports, COUNT(ports), fast, true);
	fake_engine.exits_per_stay = 2;
	fake_engine.in_resume = signalled_now;
	for (int i = 0; i < 60; i++) {
		resumes = fake_engine.resumes;
		if (!vmm_step(&with))
			continue;
		/* Nothing else ended it, and the kernel's registers are those of the moment. */
		assert_int_equal(errno, EINTR);
		assert_int_equal(fake_engine.resumes, resumes + 1);
		assert_int_equal(fake.run->immediate_exit, 0);
		assert_int_equal(fake.run->kvm_dirty_regs, 0);
		eintr++;
	}
	assert_true(eintr > 5);
	assert_true(with.accesses > 5);
	fake_stop();

	/* Before KVM_RUN it is too early, as with the kernel. */
	start(ports, COUNT(ports), fast, true);
	nx_handlers_note();
	assert_int_equal(vmm_step(&with), 0);
	nx_handlers_note();
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.exits, 1);
	fake_stop();
}

/* A signal that only KVM_SET_SIGNAL_MASK unblocks must get KVM_RUN to enter the kernel. */
static void test_pending_signal(void **state)
{
	char argument[sizeof(struct kvm_signal_mask) + 8] __attribute__((aligned(4))) = {0};
	sigset_t set, before;
	unsigned exits;

	(void)state;
	((struct kvm_signal_mask *)argument)->len = 8;
	start(ports, COUNT(ports), fast, true);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	assert_int_equal(vmm_ioctl(KVM_SET_SIGNAL_MASK, argument), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	exits = fake_engine.exits;
	assert_int_equal(exits, 1);
	pthread_kill(pthread_self(), SIGUSR1);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.exits, exits);
	assert_int_equal(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_SIGNAL], 1);
	sigwait(&set, &(int){0});
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	fake_stop();
}

/* ---- Time and interrupts ---- */

static void pass_time(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	(void)index;
	fake.clock += 30000;
}

static void test_latency_bound(void **state)
{
	unsigned masked, open;

	(void)state;
	with.at_exit = without.at_exit = pass_time;
	run_both(ports, COUNT(ports), fast);
	masked = fake.entries;
	fake_stop();
	/* The same with interrupts enabled: 50 us instead of 1 ms. */
	start(ports, COUNT(ports), fast, true);
	fake.regs.rflags |= NX_FL_IF;
	with.accesses = with.inputs = 0;
	assert_true(vmm_run(&with));
	open = fake.entries;
	assert_true(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_BOUND] > 10);
	assert_true(open > 4 * masked);
	/* The bound, and one exit's work of the VMM. */
	assert_true(fake_vcpu()->stats->longest_stay_ns <= 50000 + 30000);
	assert_true(fake_vcpu()->stats->longest_stay_ns >= 50000);
	/* Time never denies a stay its first resume. */
	assert_true(fake_vcpu()->stats->avoided[NX_CLASS_IO] >= fake_vcpu()->stats->takeovers);
	fake_stop();
}

static void raise_irq(struct vmm *vmm, unsigned index)
{
	struct kvm_irq_level level = {.irq = 4, .level = 1};

	(void)vmm;
	if (index == 3)
		assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_IRQ_LINE, &level), 0);
}

static void test_interrupts_get_in(void **state)
{
	(void)state;
	for (int enabled = 0; enabled < 2; enabled++) {
		start(ports, COUNT(ports), fast, true);
		if (enabled)
			fake.regs.rflags |= NX_FL_IF;
		with.at_exit = raise_irq;
		with.accesses = with.inputs = 0;
		assert_true(vmm_run(&with));
		assert_int_equal(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_INTERRUPT], enabled);
		fake_stop();
	}
}

/* Events that the VMM gives the vCPU itself are the kernel's at once: the stay is over. */
static void inject(struct vmm *vmm, unsigned index)
{
	struct kvm_interrupt interrupt = {.irq = 0x30};

	(void)vmm;
	if (index % 5 == 1)
		assert_int_equal(vmm_ioctl(KVM_NMI, NULL), 0);
	else if (index % 5 == 3)
		assert_int_equal(vmm_ioctl(KVM_INTERRUPT, &interrupt), 0);
}

static void send_message(struct vmm *vmm, unsigned index)
{
	struct kvm_msi msi = {.address_lo = 0xfee00000};

	(void)vmm;
	if (index % 3 == 1)
		assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_SIGNAL_MSI, &msi), 1);
}

static void test_injected_events(void **state)
{
	(void)state;
	with.at_exit = without.at_exit = inject;
	run_both(ports, COUNT(ports), fast);
	assert_true(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_VMM_STATE] > 5);
	fake_stop();
}

/* A guest that takes no interrupts need not leave for one. */
static void test_messages(void **state)
{
	(void)state;
	for (int enabled = 0; enabled < 2; enabled++) {
		start(ports, COUNT(ports), fast, true);
		if (enabled)
			fake.regs.rflags |= NX_FL_IF;
		with.at_exit = send_message;
		with.accesses = with.inputs = 0;
		assert_true(vmm_run(&with));
		assert_int_equal(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_INTERRUPT] > 5, enabled);
		fake_stop();
	}
}

/* Check what the run page says besides the access, with each kind of interrupt controller. */
static void test_exit_fields(void **state)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		const bool enabled = i % 2;

		start(ports, COUNT(ports), fast, true);
		if (i / 2 == 1)
			assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_CREATE_IRQCHIP, NULL), 0);
		else if (i / 2 == 2)
			assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_ENABLE_CAP, &split), 0);
		if (enabled)
			fake.regs.rflags |= NX_FL_IF;
		assert_int_equal(vmm_step(&with), 0);
		fake.run->flags = 0xff;
		assert_int_equal(vmm_step(&with), 0);
		assert_int_equal(fake_engine.exits, 1);
		assert_int_equal(fake.run->flags, 0);
		assert_int_equal(fake.run->if_flag, enabled);
		/* In the VMM: IF; in the kernel: always; split: the VMM is to ask for a window. */
		assert_int_equal(fake.run->ready_for_interrupt_injection,
				 i / 2 == 1 || (i / 2 == 0 && enabled));
		fake_stop();
	}
}

static void want_window(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	fake.run->request_interrupt_window = index % 4 == 3;
}

static void test_interrupt_window(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, true);
	fake.regs.rflags |= NX_FL_IF;
	with.at_exit = want_window;
	assert_true(vmm_run(&with));
	assert_true(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_WINDOW] > 3);
	fake_stop();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, reset)
	const struct CMUnitTest tests[] = {
	    TEST(test_kick_during_completion),
	    TEST(test_kick_at_engine_exit),
	    TEST(test_immediate_exit_is_given_back),
	    TEST(test_handler_runs),
	    TEST(test_pending_signal),
	    TEST(test_latency_bound),
	    TEST(test_interrupts_get_in),
	    TEST(test_injected_events),
	    TEST(test_messages),
	    TEST(test_exit_fields),
	    TEST(test_interrupt_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
