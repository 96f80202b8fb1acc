/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * run_test.c - kvm/run.c: each KVM_RUN by itself, what is asked of the kernel and what is counted.
 * protocol_test.c compares whole runs with those without the engine.
 */
#include <errno.h>

#include "unit.h"

static struct vmm vmm;
static struct nx_kvm_vcpu *vcpu;
static int (*kernel)(int fd, unsigned long request, void *argument);
static uint64_t valid_in_kernel, dirty_in_kernel;
static uint8_t immediate_in_kernel;
static unsigned kernel_runs;
static bool kernel_interrupts;

static int watched_ioctl(int fd, unsigned long request, void *argument)
{
	if ((uint32_t)request == KVM_RUN) {
		valid_in_kernel = fake.run->kvm_valid_regs;
		immediate_in_kernel = fake.run->immediate_exit;
		dirty_in_kernel = fake.run->kvm_dirty_regs;
		kernel_runs++;
		if (kernel_interrupts) {
			errno = EINTR;
			return -1;
		}
	}
	return kernel(fd, request, argument);
}

static void begin(bool on)
{
	memset(&vmm, 0, sizeof(vmm));
	begin_guest(50, on);
	vcpu = fake_vcpu();
	kernel = nx_real.ioctl;
	nx_real.ioctl = watched_ioctl;
	kernel_runs = 0;
	kernel_interrupts = false;
}

static int setup(void **state)
{
	(void)state;
	begin(true);
	return 0;
}

static void step(void)
{
	assert_int_equal(vmm_step(&vmm), 0);
}

/* Where nothing is avoided, the kernel gets the call as the VMM made it. */
static void test_off(void **state)
{
	(void)state;
	fake_stop();
	begin(false);
	fake.run->kvm_valid_regs = KVM_SYNC_X86_EVENTS;
	step();
	assert_int_equal(valid_in_kernel, KVM_SYNC_X86_EVENTS);
	step();
	assert_int_equal(kernel_runs, 2);
	assert_int_equal(vcpu->stats->runs, 2);
	assert_null(vcpu->engine);
}

/* The registers that noexit needs are asked for only for the length of the call. */
static void test_valid_registers(void **state)
{
	(void)state;
	fake.run->kvm_valid_regs = KVM_SYNC_X86_EVENTS;
	step();
	assert_int_equal(valid_in_kernel, KVM_SYNC_X86_EVENTS | KVM_SYNC_X86_REGS);
	assert_int_equal(fake.run->kvm_valid_regs, KVM_SYNC_X86_EVENTS);
	enter_engine(&vmm);
	assert_int_equal(valid_in_kernel,
			 KVM_SYNC_X86_EVENTS | KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
	assert_int_equal(immediate_in_kernel, 2);
	assert_int_equal(fake.run->immediate_exit, 0);
	assert_int_equal(fake.run->kvm_valid_regs, KVM_SYNC_X86_EVENTS);
}

/* An exit that the engine delivers costs no call, and errno is what it was. */
static void test_exit_without_a_call(void **state)
{
	unsigned before;

	(void)state;
	enter_engine(&vmm);
	before = kernel_runs;
	errno = EXDEV;
	step();
	assert_int_equal(errno, EXDEV);
	assert_int_equal(kernel_runs, before);
	assert_int_equal(fake_engine.exits, 2);
	assert_int_equal(nx_stats_avoided_total(vcpu->stats), 2);
	assert_int_equal(vcpu->stats->takeovers, 1);
	assert_int_equal(vcpu->stats->completions, 1);
}

/* A completion of ours that is interrupted as it should be is no error of the VMM's. */
static void test_errno_of_a_take_over(void **state)
{
	(void)state;
	step();
	errno = EXDEV;
	step();
	assert_int_equal(fake_engine.exits, 1);
	assert_int_equal(errno, EXDEV);
}

static void test_kick(void **state)
{
	(void)state;
	fake.run->immediate_exit = 1;
	assert_int_equal(vmm_step(&vmm), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(vcpu->stats->kicked_runs, 1);
	assert_int_equal(vcpu->stats->intr, 0);
	assert_int_equal(fake.run->immediate_exit, 1);
}

static void test_signal_in_the_guest(void **state)
{
	(void)state;
	kernel_interrupts = true;
	assert_int_equal(vmm_step(&vmm), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(vcpu->stats->kicked_runs, 0);
	assert_int_equal(vcpu->stats->intr, 1);
}

/* A handler that runs while the engine has the vCPU ends the call as it ends the kernel's. */
static void test_signal_in_the_engine(void **state)
{
	(void)state;
	step();
	fake_engine.in_resume = nx_handlers_note;
	assert_int_equal(vmm_step(&vmm), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(vcpu->stats->takeovers, 1);
	assert_int_equal(immediate_in_kernel, 2);
	assert_int_equal(fake.run->immediate_exit, 0);
}

/* The calls of a handler that interrupted KVM_RUN in our hands cannot be ours. */
static void test_call_of_a_signal_handler(void **state)
{
	unsigned before;

	(void)state;
	enter_engine(&vmm);
	before = kernel_runs;
	assert_true(nx_vcpu_acquire(vcpu));
	vmm_ioctl(KVM_RUN, NULL);
	nx_vcpu_release(vcpu);
	assert_int_equal(kernel_runs, before + 1);
	assert_non_null(strstr(fake_said, "signal handler"));
	assert_non_null(atomic_load(&vcpu->off));
}

static void slow_resume(void)
{
	fake.clock += 700;
}

/* One resume in thirteen is timed, for all of them. */
static void test_timed_resume(void **state)
{
	(void)state;
	enter_engine(&vmm);
	nx_options.latency = nx_options.masked_latency = 1000000;
	fake_engine.in_resume = slow_resume;
	while (fake_engine.resumes < 26)
		step();
	assert_int_equal(vcpu->stats->engine_ns, 2 * 13 * 700);
	assert_int_equal(vcpu->cost[NX_COST_RESUME].samples, 2);
	assert_int_equal(vcpu->cost[NX_COST_RESUME].least, 700);
	/* What a resume with building in it takes is no resume's cost. */
	fake_engine.builds = true;
	while (fake_engine.resumes < 39)
		step();
	assert_int_equal(vcpu->stats->engine_ns, 3 * 13 * 700);
	assert_int_equal(vcpu->cost[NX_COST_RESUME].samples, 2);
	fake_engine.builds = false;
}

static void slow_completion(void)
{
	fake.clock += 9000;
}

static void test_cost_of_a_take_over(void **state)
{
	(void)state;
	fake.in_completion = slow_completion;
	enter_engine(&vmm);
	assert_int_equal(vcpu->cost[NX_COST_TAKEOVER].samples, 1);
	assert_int_equal(vcpu->cost[NX_COST_TAKEOVER].least, 9000);
}

/* The engine keeps pages for a stay: after a change of the slots it must look again. */
static void test_new_slots(void **state)
{
	struct kvm_userspace_memory_region region = {.slot = 3};
	unsigned flushes;

	(void)state;
	enter_engine(&vmm);
	flushes = fake_engine.flushes;
	step();
	assert_int_equal(fake_engine.flushes, flushes);
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_SET_USER_MEMORY_REGION, &region), 0);
	step();
	assert_int_equal(fake_engine.flushes, flushes + 1);
	step();
	assert_int_equal(fake_engine.flushes, flushes + 1);
}

/* May the engine enter at this exit? Each of these says no, and the kernel runs on. */
static void test_exits_left_to_the_kernel(void **state)
{
	(void)state;
	step();
	atomic_fetch_add(&vcpu->disturbances, 1);
	step();
	assert_int_equal(vcpu->stats->completions, 0);
	atomic_fetch_add(&vcpu->disturbing, 1);
	step();
	assert_int_equal(vcpu->stats->completions, 0);
	atomic_fetch_sub(&vcpu->disturbing, 1);
	/* A call was in progress when that exit came: what the kernel has may be the VMM's. */
	step();
	assert_int_equal(vcpu->stats->completions, 0);
	vcpu->guest_debug = true;
	step();
	assert_int_equal(vcpu->stats->completions, 0);
	vcpu->guest_debug = false;
	/* With interrupts let in, one that was raised since goes first. */
	fake.run->if_flag = 1;
	nx_vm_interrupt_raised(vcpu->vm);
	step();
	assert_int_equal(vcpu->stats->completions, 0);
	fake.run->if_flag = 1;
	fake.run->request_interrupt_window = 1;
	step();
	assert_int_equal(vcpu->stats->completions, 0);
	/* Held off by the guest, neither matters. */
	nx_vm_interrupt_raised(vcpu->vm);
	step();
	assert_int_equal(vcpu->stats->completions, 1);
	assert_int_equal(vcpu->stats->takeovers, 1);
}

static void stop_at_once(void)
{
	*nx_engine_stop_flag(vcpu->engine) = 1;
}

/* Where the engine ran nothing, the kernel's registers are current. */
static void test_empty_stay(void **state)
{
	(void)state;
	step();
	fake_engine.in_resume = stop_at_once;
	step();
	assert_int_equal(vcpu->stats->takeovers, 1);
	assert_int_equal(fake_engine.leaves, 1);
	assert_int_equal(dirty_in_kernel, 0);
}

static void test_registers_go_back(void **state)
{
	(void)state;
	enter_engine(&vmm);
	fake_engine.in_resume = stop_at_once;
	fake.run->s.regs.regs.rip = 0;
	step();
	assert_int_equal(fake_engine.leaves, 1);
	assert_int_equal(dirty_in_kernel, KVM_SYNC_X86_REGS);
	assert_int_equal(nx_phase(vcpu), NX_PHASE_RESUMABLE);
}

/* Registers in the run page that the VMM did not ask for are as it left them. */
static void test_page_is_kept(void **state)
{
	(void)state;
	fake.run->kvm_valid_regs = KVM_SYNC_X86_EVENTS;
	fake.run->s.regs.regs.rax = 0x1111;
	fake.run->s.regs.sregs.cr2 = 0x2222;
	enter_engine(&vmm);
	step();
	assert_int_equal(fake.run->s.regs.regs.rax, 0x1111);
	assert_int_equal(fake.run->s.regs.sregs.cr2, 0x2222);
	assert_true(vcpu->uses_sync_regs);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_off),
	    TEST(test_valid_registers),
	    TEST(test_exit_without_a_call),
	    TEST(test_errno_of_a_take_over),
	    TEST(test_kick),
	    TEST(test_signal_in_the_guest),
	    TEST(test_signal_in_the_engine),
	    TEST(test_call_of_a_signal_handler),
	    TEST(test_timed_resume),
	    TEST(test_cost_of_a_take_over),
	    TEST(test_new_slots),
	    TEST(test_exits_left_to_the_kernel),
	    TEST(test_empty_stay),
	    TEST(test_registers_go_back),
	    TEST(test_page_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
