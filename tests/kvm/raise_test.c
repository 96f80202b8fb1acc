/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * raise_test.c - interrupts and signals that come while the engine runs: it is told at once, by its
 * stop flag, and does not have to get to its next exit.
 */
#include <pthread.h>
#include <sched.h>

#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const struct model_insn ports[] = {
    {M_IN, 0x10}, {M_ADD, 3},    {M_OUT, 0x11}, {M_IN, 0x12}, {M_OUT, 0x13},
    {M_IN, 0x14}, {M_OUT, 0x15}, {M_LOOP, 0},   {M_HLT, 0},
};

static struct vmm vmm;

static void start(bool takes_interrupts)
{
	fake_begin(ports, COUNT(ports), 20, true);
	fake.regs.rflags |= takes_interrupts ? NX_FL_IF : 0;
	vmm = (struct vmm){0};
}

static int stop_flag(void)
{
	return __atomic_load_n(nx_engine_stop_flag(fake_vcpu()->engine), __ATOMIC_SEQ_CST);
}

static uint64_t stops(void)
{
	return nx_engine_counters(fake_vcpu()->engine)->leaves[NX_LEAVE_STOP];
}

static void raise_line(void)
{
	struct kvm_irq_level level = {.irq = 4, .level = 1};

	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_IRQ_LINE, &level), 0);
}

static void lower_line(void)
{
	struct kvm_irq_level level = {.irq = 4};

	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_IRQ_LINE, &level), 0);
}

static void send_message(void)
{
	struct kvm_msi msi = {.address_lo = 0xfee00000};

	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_SIGNAL_MSI, &msi), 1);
}

/* In mid-resume: no exit comes of it any more, and the guest gets its interrupt. */
static void test_interrupts(void **state)
{
	static void (*const raise[])(void) = {raise_line, send_message, lower_line};

	(void)state;
	for (unsigned i = 0; i < 2 * COUNT(raise); i++) {
		const bool taken = i % 2 && raise[i / 2] != lower_line;

		start(i % 2);
		fake_engine.in_resume = raise[i / 2];
		assert_int_equal(vmm_step(&vmm), 0);
		assert_int_equal(vmm_step(&vmm), 0);
		assert_int_equal(fake_engine.resumes, 1);
		assert_int_equal(fake_engine.exits, !taken);
		assert_int_equal(stops(), taken);
		assert_int_equal(fake.entries, taken ? 2 : 1);
		fake_stop();
	}
}

static void test_signal_handler(void **state)
{
	(void)state;
	start(false);
	fake_engine.in_resume = nx_handlers_note;
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_step(&vmm), -1);
	assert_int_equal(fake_engine.resumes, 1);
	assert_int_equal(fake_engine.exits, 0);
	assert_int_equal(stops(), 1);
	assert_int_equal(fake.entries, 1);
	/* Outside a resume there is no engine that it is for. */
	fake_engine.in_resume = NULL;
	nx_handlers_note();
	assert_int_equal(stop_flag(), 1);
	fake_stop();
}

/*
 * What is made in a stay, for later ones, keeps to the bound as well; but where exits are slow, it
 * gets the time of four of them.
 */
static void test_time_is_up(void **state)
{
	const uint64_t margin = 100;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		bool takes_interrupts = i % 2, slow = i / 2;
		uint64_t bound = takes_interrupts ? 50000 : 5000000;
		struct nx_kvm_vcpu *vcpu;

		start(takes_interrupts);
		assert_int_equal(vmm_step(&vmm), 0);
		assert_int_equal(vmm_step(&vmm), 0);
		vcpu = fake_vcpu();
		assert_int_equal(fake_engine.resumes, 1);
		vcpu->stats->cost_ns[NX_COST_IO] = 20000;
		vcpu->stats->cost_ns[NX_COST_MMIO] = slow ? 3000000 : 0;
		if (bound < 80000)
			bound = 80000;
		if (slow)
			bound = 12000000;
		fake.clock = vcpu->stay_began + bound - margin;
		assert_false(nx_leave_time_is_up(vcpu));
		fake.clock = vcpu->stay_began + bound + margin;
		assert_true(nx_leave_time_is_up(vcpu));
		fake_stop();
	}
	/* Exits that take as long as usual: the bound it is. */
	start(true);
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_step(&vmm), 0);
	fake_vcpu()->stats->cost_ns[NX_COST_IO] = 2000;
	fake.clock = fake_vcpu()->stay_began + 50000 - margin;
	assert_false(nx_leave_time_is_up(fake_vcpu()));
	fake.clock += 2 * margin;
	assert_true(nx_leave_time_is_up(fake_vcpu()));
	fake_stop();
}

/* Too late to be seen at the last exit, and too early for the flag, which is about to be cleared.
 */
static void test_as_a_resume_begins(void **state)
{
	static void (*const come[])(void) = {raise_line, nx_handlers_note};

	(void)state;
	for (unsigned i = 0; i < COUNT(come); i++) {
		start(true);
		assert_int_equal(vmm_step(&vmm), 0);
		fake_engine.at_flag = come[i];
		assert_int_equal(vmm_step(&vmm), i ? -1 : 0);
		assert_int_equal(fake_engine.resumes, 0);
		assert_int_equal(
		    fake_vcpu()->stats->leaves[i ? NX_HOST_LEAVE_SIGNAL : NX_HOST_LEAVE_INTERRUPT],
		    1);
		fake_engine.at_flag = NULL;
		assert_int_equal(fake.entries, i ? 1 : 2);
		fake_stop();
	}
}

/* A handler that raises an interrupt in the thread that has the list of vCPUs. */
static void test_raised_within(void **state)
{
	(void)state;
	start(true);
	assert_true(nx_vcpus_lock(fake_vm()));
	raise_line();
	assert_int_equal(fake_vm()->irq_epoch, 1);
	nx_vcpus_unlock(fake_vm());
	assert_true(vmm_run(&vmm));
	fake_stop();
}

/* ---- From another thread ---- */

static atomic_bool over;
static atomic_uint wanted, raised; /* raised: how many raises are complete */
static unsigned met;

static void *raise_when_wanted(void *data)
{
	(void)data;
	while (!atomic_load(&over)) {
		while (atomic_load(&raised) != atomic_load(&wanted)) {
			raise_line();
			atomic_fetch_add(&raised, 1);
		}
		sched_yield();
	}
	return NULL;
}

/*
 * What is done and was not known when the stay began, the engine has been told of: whether it came
 * before this resume or during it.
 */
static void must_be_told(void)
{
	for (unsigned i = 0; i < 3; i++) {
		unsigned done = atomic_load(&raised);

		if ((int)(done - fake_vcpu()->irq_seen) > 0) {
			assert_true(stop_flag());
			met++;
		}
		if (!i)
			atomic_fetch_add(&wanted, 1);
		/* Now and then for sure. */
		do {
			sched_yield();
		} while (!i && fake_engine.resumes % 4 == 0 &&
			 atomic_load(&raised) != atomic_load(&wanted));
	}
}

static void test_threads(void **state)
{
	pthread_t thread;

	(void)state;
	start(true);
	fake.regs.rdx = 600;
	fake_engine.in_resume = must_be_told;
	over = false;
	wanted = raised = 0;
	met = 0;
	pthread_create(&thread, NULL, raise_when_wanted, NULL);
	assert_true(vmm_run(&vmm));
	over = true;
	pthread_join(thread, NULL);
	assert_int_equal(vmm.accesses, 3600);
	assert_true(fake_engine.resumes > 100);
	assert_true(met > 0);
	fake_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_interrupts),    cmocka_unit_test(test_signal_handler),
	    cmocka_unit_test(test_time_is_up),    cmocka_unit_test(test_as_a_resume_begins),
	    cmocka_unit_test(test_raised_within), cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
