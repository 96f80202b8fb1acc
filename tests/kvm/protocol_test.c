/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* protocol_test.c - KVM_RUN with and without the engine: the VMM must see the same. */
#include "both.h"

/* ---- Accesses ---- */

static void test_same_accesses_fast(void **state)
{
	(void)state;
	run_both(mixed, COUNT(mixed), fast);
	assert_true(fake_engine.exits >= 60);
	assert_int_equal(fake_vcpu()->stats->avoided[NX_CLASS_IO] +
			     fake_vcpu()->stats->avoided[NX_CLASS_MMIO],
			 fake_engine.exits);
	fake_stop();
}

static void test_same_accesses_emulated(void **state)
{
	(void)state;
	run_both(mixed, COUNT(mixed), emulated);
	assert_true(fake_engine.exits >= 60);
	fake_stop();
}

/* The second half of a split access and the write of a read-modify-write arrive, and in order. */
static void test_completion_finds_new_exit(void **state)
{
	(void)state;
	run_both(mixed, COUNT(mixed), fast);
	/* The ten split stores; the engine does most of the others itself. */
	assert_true(fake_vcpu()->stats->completions_new_exit >= 10);
	fake_stop();
}

static void test_every_exit_is_counted(void **state)
{
	const struct nx_stats *stats;

	(void)state;
	run_both(mixed, COUNT(mixed), fast);
	stats = fake_vcpu()->stats;
	assert_int_equal(nx_stats_taken_total(stats) + nx_stats_avoided_total(stats),
			 with.accesses + 1);
	assert_int_equal(stats->taken[KVM_EXIT_HLT], 1);
	assert_int_equal(fake.entries + stats->completions_new_exit, nx_stats_taken_total(stats));
	fake_stop();
}

/* ---- States to keep out of ---- */

static void expect_unfit(enum nx_unfit unfit)
{
	with.accesses = with.inputs = 0;
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake_vcpu()->stats->unfit[unfit], 1);
	fake_stop();
}

/* An instruction that loads SS from a device ends with a shadow. */
static void completed_with_shadow(void)
{
	fake.events.interrupt.shadow = 1;
}

static void test_unfit_states(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, true);
	fake.events.exception.pending = 1;
	expect_unfit(NX_UNFIT_EVENT);
	start(ports, COUNT(ports), fast, true);
	fake.events.nmi.pending = 1;
	expect_unfit(NX_UNFIT_EVENT);
	start(ports, COUNT(ports), fast, true);
	fake.sregs.interrupt_bitmap[2] = 4;
	expect_unfit(NX_UNFIT_EVENT);
	start(ports, COUNT(ports), fast, true);
	fake.in_completion = completed_with_shadow;
	expect_unfit(NX_UNFIT_SHADOW);
	start(ports, COUNT(ports), fast, true);
	fake.events.smi.smm = 1;
	expect_unfit(NX_UNFIT_SMM);
	start(ports, COUNT(ports), fast, true);
	fake.regs.rflags |= 1u << 8;
	expect_unfit(NX_UNFIT_SINGLE_STEP);
	start(ports, COUNT(ports), fast, true);
	fake.sregs.cr4 |= 1u << 13;
	expect_unfit(NX_UNFIT_VIRTUALIZATION);
	start(ports, COUNT(ports), fast, true);
	fake.sregs.efer |= 1u << 12;
	expect_unfit(NX_UNFIT_VIRTUALIZATION);
	start(ports, COUNT(ports), fast, true);
	fake.debugregs.dr7 = 0x403;
	expect_unfit(NX_UNFIT_BREAKPOINTS);
}

static void test_pending_exception_survives(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, true);
	fake.events.exception.pending = 1;
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake.events.exception.pending, 1);
	fake_stop();
}

static void test_guest_debug(void **state)
{
	struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE};

	(void)state;
	start(ports, COUNT(ports), fast, true);
	assert_int_equal(vmm_ioctl(KVM_SET_GUEST_DEBUG, &debug), 0);
	assert_true(vmm_run(&with));
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake.immediate_runs, 0);
	fake_stop();
}

/* A vCPU that the VMM changed during a kernel's exit is the kernel's to run. */
static void set_mp_state(struct vmm *vmm, unsigned index)
{
	struct kvm_mp_state state = {0};

	(void)vmm;
	(void)index;
	assert_int_equal(vmm_ioctl(KVM_SET_MP_STATE, &state), 0);
}

static void test_changed_during_kernel_exit(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, true);
	with.at_exit = set_mp_state;
	assert_true(vmm_run(&with));
	assert_int_equal(fake_engine.resumes, 0);
	fake_stop();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, reset)
	const struct CMUnitTest tests[] = {
	    TEST(test_same_accesses_fast),
	    TEST(test_same_accesses_emulated),
	    TEST(test_completion_finds_new_exit),
	    TEST(test_every_exit_is_counted),
	    TEST(test_unfit_states),
	    TEST(test_pending_exception_survives),
	    TEST(test_guest_debug),
	    TEST(test_changed_during_kernel_exit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
