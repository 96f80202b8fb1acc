/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * steal_test.c - a guest's other vCPUs leave a TLB flush to KVM where this one looks preempted. The
 * engine must not run between such a flush and the entry to the guest that KVM makes it at.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define STEAL_GPA 0x1040u
#define AT 16u

static const struct model_insn ports[] = {
    {M_IN, 0x10}, {M_ADD, 3},    {M_OUT, 0x11}, {M_IN, 0x12}, {M_OUT, 0x13},
    {M_IN, 0x14}, {M_OUT, 0x15}, {M_LOOP, 0},   {M_HLT, 0},
};

static uint8_t memory[8192] __attribute__((aligned(4096)));
static uint8_t *const byte = memory + STEAL_GPA + AT;
static struct vmm with, without;

static void set_slot(uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
	    .memory_size = sizeof(memory), .userspace_addr = (uintptr_t)memory, .flags = flags};

	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_SET_USER_MEMORY_REGION, &region), 0);
}

static void start(bool on, bool marks)
{
	memset(memory, 0, sizeof(memory));
	fake_begin(ports, COUNT(ports), 50, on);
	set_slot(0);
	fake.steal_msr = STEAL_GPA | 1;
	fake.preempted = byte;
	fake.marks = marks;
}

static int reset(void **state)
{
	(void)state;
	fake_statistic = NULL;
	with = without = (struct vmm){0};
	return 0;
}

/* Do what kvm_flush_tlb_multi() does on another of the guest's vCPUs; return true if it goes on
 * without waiting. */
static bool flush(void)
{
	uint8_t seen = 1;

	return __atomic_compare_exchange_n(byte, &seen, 3, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

static void must_look_running(void)
{
	assert_int_equal(__atomic_load_n(byte, __ATOMIC_SEQ_CST), 0);
}

static unsigned left, left_without;

/* The VMM sees the same as without noexit. */
static void run_both(void (*at_exit)(struct vmm *vmm, unsigned index), bool again)
{
	start(false, true);
	fake.again = again;
	without.at_exit = at_exit;
	left = 0;
	assert_true(vmm_run(&without));
	left_without = left;
	left = 0;
	fake_stop();
	start(true, true);
	fake.again = again;
	fake_engine.in_resume = must_look_running;
	fake_engine.exits_per_stay = 4;
	with.at_exit = at_exit;
	assert_true(vmm_run(&with));
	assert_true(vmm_equal(&without, &with));
	assert_string_equal(fake_said, "");
}

static void test_looks_running(void **state)
{
	(void)state;
	run_both(NULL, false);
	assert_true(fake_engine.exits > 200);
	assert_int_equal(fake.asked_steal, fake_vcpu()->stats->takeovers);
	assert_int_equal(fake.flushed, 0);
	fake_stop();
}

static void flush_now_and_then(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	if (index % 7 == 2)
		left += flush();
}

/* At the kernel's exits flushes are left to it; at the engine's the guest is made to wait. */
static void test_flush_left_at_an_exit(void **state)
{
	(void)state;
	run_both(flush_now_and_then, false);
	assert_true(left_without > 30);
	assert_true(left > 0 && left < left_without);
	assert_int_equal(fake.flushed, left);
	assert_int_equal(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_FLUSH], left);
	assert_true(fake_engine.exits > 100);
	fake_stop();
}

/* Before Linux 5.6 each look at the vCPU says "preempted" again. */
static void look_and_flush(struct vmm *vmm, unsigned index)
{
	struct kvm_regs regs;

	(void)vmm;
	vmm_ioctl(KVM_GET_REGS, &regs);
	if (index % 7 == 3)
		left += flush();
}

static void test_said_again(void **state)
{
	(void)state;
	run_both(look_and_flush, true);
	assert_true(fake_engine.exits > 100);
	assert_true(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_FLUSH] > 10);
	/* Each flush that was left has been made before the guest ran on. */
	assert_int_equal(fake.flushed, fake_vcpu()->stats->leaves[NX_HOST_LEAVE_FLUSH]);
	fake_stop();
}

static void test_newer_kernels_are_not_asked(void **state)
{
	(void)state;
	fake_statistic = "preemption_other";
	start(true, false);
	assert_true(vmm_run(&with));
	assert_true(fake_engine.exits > 200);
	assert_int_equal(fake.asked_steal, 0);
	fake_stop();
	/* Statistics without the one that tells. */
	fake_statistic = "preemption_oth";
	start(true, true);
	fake_engine.in_resume = must_look_running;
	with.accesses = with.inputs = 0;
	assert_true(vmm_run(&with));
	assert_true(fake_engine.exits > 200);
	fake_stop();
}

/* Nothing is written where the guest shares nothing. */
static void test_where_it_is_not(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		start(true, false);
		*byte = 1;
		fake.preempted = NULL;
		if (i == 0)
			fake.steal_msr = STEAL_GPA;
		else if (i == 1)
			fake.steal_msr = 0xfffffffffffc1;
		else if (i == 2)
			set_slot(KVM_MEM_READONLY);
		else
			mprotect(memory, sizeof(memory), PROT_READ);
		with.accesses = with.inputs = 0;
		assert_true(vmm_run(&with));
		assert_int_equal(*byte, 1);
		assert_true(fake_engine.exits > 200);
		fake_stop();
		mprotect(memory, sizeof(memory), PROT_READ | PROT_WRITE);
	}
}

static void test_kvm_does_not_tell(void **state)
{
	(void)state;
	start(true, true);
	fake.refuses_msrs = true;
	assert_true(vmm_run(&with));
	assert_int_equal(fake_engine.resumes, 0);
	assert_non_null(strstr(fake_said, "whether this processor runs"));
	fake_stop();
}

/* ---- The other vCPU as a thread ---- */

static atomic_bool over, wanted;
static atomic_uint left_by_thread;

static void *flush_when_wanted(void *data)
{
	(void)data;
	while (!atomic_load(&over)) {
		if (atomic_load(&wanted)) {
			atomic_fetch_add(&left_by_thread, flush());
			atomic_store(&wanted, false);
		}
		sched_yield();
	}
	return NULL;
}

/* Tried at once or later. */
static void must_look_running_to_all(void)
{
	must_look_running();
	atomic_store(&wanted, true);
	sched_yield();
	must_look_running();
}

/* Tried for sure, now and then. */
static void let_flush(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	if (index % 5)
		return;
	atomic_store(&wanted, true);
	while (atomic_load(&wanted))
		sched_yield();
}

static void test_threads(void **state)
{
	pthread_t thread;

	(void)state;
	start(true, true);
	fake.regs.rdx = 600;
	fake_engine.in_resume = must_look_running_to_all;
	fake_engine.exits_per_stay = 3;
	with.at_exit = let_flush;
	over = wanted = false;
	left_by_thread = 0;
	pthread_create(&thread, NULL, flush_when_wanted, NULL);
	assert_true(vmm_run(&with));
	over = true;
	pthread_join(thread, NULL);
	assert_true(fake_engine.exits > 0);
	assert_true(left_by_thread > 0);
	/* The last one may have come after the last entry. */
	assert_in_range(left_by_thread, fake.flushed, fake.flushed + 1);
	fake_stop();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, reset)
	const struct CMUnitTest tests[] = {
	    TEST(test_looks_running),   TEST(test_flush_left_at_an_exit),
	    TEST(test_said_again),      TEST(test_newer_kernels_are_not_asked),
	    TEST(test_where_it_is_not), TEST(test_kvm_does_not_tell),
	    TEST(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
