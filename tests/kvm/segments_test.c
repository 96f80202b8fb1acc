/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * segments_test.c - segment registers that the engine loads in real mode: whoever looks, and the
 * kernel when it runs on, finds them loaded.
 */
#include <errno.h>

#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* The selector depends on what was read, and changes from turn to turn. */
static const struct model_insn loads[] = {
    {M_IN, 0x10},     {M_SEG, 0},      {M_OUT, 0x11}, {M_ADD, 5},       {M_IN, 0x12},
    {M_SEG, 0},       {M_ADD, 9},      {M_SEG, 0},    {M_STORE, 0x500}, {M_RMW, 0x508},
    {M_OUT, 0x13},    {M_SEG, 0},      {M_STI, 0},    {M_IN, 14},       {M_SEG, 0},
    {M_SPLIT, 0x600}, {M_LOAD, 0x510}, {M_CLI, 0},    {M_LOOP, 0},      {M_HLT, 0},
};

/* An IN of the kernel's, ES loaded, and exits of the engine's behind it. */
static const struct model_insn straight[] = {
    {M_IN, 0x10}, {M_SEG, 0}, {M_OUT, 0x11}, {M_OUT, 0x12}, {M_RMW, 1}, {M_OUT, 0x13}, {M_HLT, 0},
};

static struct vmm with, without;

static void start(const struct model_insn *program, size_t insns, bool on)
{
	fake_begin(program, (unsigned)insns, 20, on);
	fake.sregs.cr8 = 3;
	fake.tpr = 0x30;
	fake.vmm_sets = true;
}

/* The host of the second, clustering, run is left open. */
static void run_both(const struct model_insn *program, size_t insns)
{
	start(program, insns, false);
	without.accesses = without.inputs = without.eintr = 0;
	assert_true(vmm_run(&without));
	fake_stop();
	start(program, insns, true);
	fake.vmm_sets = with.at_exit != NULL;
	with.accesses = with.inputs = with.eintr = 0;
	assert_true(vmm_run(&with));
	assert_true(vmm_equal(&without, &with));
	assert_string_equal(fake_said, "");
	assert_int_equal(with.end_es.limit, 0xfffff);
}

static int reset(void **state)
{
	(void)state;
	memset(&with, 0, sizeof(with));
	memset(&without, 0, sizeof(without));
	return 0;
}

/* Two steps of straight: the engine's exit at the first OUT is open. */
static void stand_at_out(void)
{
	start(straight, COUNT(straight), true);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.exits, 1);
	assert_int_equal(fake_engine.segments, 1);
	assert_int_equal(fake.set_sregs, 1); /* the trial */
}

static uint16_t es(void)
{
	struct kvm_sregs sregs;

	assert_int_equal(vmm_ioctl(KVM_GET_SREGS, &sregs), 0);
	assert_int_equal(sregs.es.base, sregs.es.selector << 4);
	return sregs.es.selector;
}

static void test_kernel_runs_on_with_them(void **state)
{
	(void)state;
	run_both(loads, COUNT(loads));
	assert_true(fake_engine.segments > 20);
	assert_true(fake.set_sregs > 10);
	fake_stop();
}

static void test_vmm_that_looks(void **state)
{
	(void)state;
	with.looks = without.looks = true;
	run_both(loads, COUNT(loads));
	assert_true(fake_engine.segments > 20);
	fake_stop();
}

static void test_vmm_that_syncs(void **state)
{
	(void)state;
	with.syncs = without.syncs = true;
	run_both(loads, COUNT(loads));
	assert_true(fake_engine.segments > 20);
	assert_int_equal(fake_vcpu()->stats->flushes, 0);
	fake_stop();
}

/* Loaded and back as it was: registers alone are written. */
static void test_unchanged_is_not_written(void **state)
{
	static const struct model_insn program[] = {
	    {M_OUT, 1}, {M_ADD, 7}, {M_SEG, 0},  {M_ADD, -7u},
	    {M_SEG, 0}, {M_OUT, 2}, {M_LOOP, 0}, {M_HLT, 0},
	};

	(void)state;
	run_both(program, COUNT(program));
	assert_true(fake_engine.segments >= 20);
	assert_int_equal(fake.set_sregs, 1);
	fake_stop();
}

/* One that looks gets the new ones; looking again costs no second write. */
static void test_look_at_an_exit(void **state)
{
	uint16_t loaded;

	(void)state;
	stand_at_out();
	loaded = (uint16_t)with.access[0].data;
	assert_int_not_equal(fake.sregs.es.selector, loaded);
	assert_int_equal(es(), loaded);
	assert_int_equal(es(), loaded);
	assert_int_equal(fake.set_sregs, 2);
	fake_stop();
}

static void test_kick(void **state)
{
	(void)state;
	stand_at_out();
	fake.run->immediate_exit = 1;
	assert_int_equal(vmm_step(&with), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(fake.entries, 1);
	assert_int_equal(fake.run->kvm_dirty_regs, 0);
	assert_int_equal(fake.sregs.es.selector, (uint16_t)with.access[0].data);
	fake_stop();
}

static void test_refused_run(void **state)
{
	(void)state;
	stand_at_out();
	fake_engine.leave_every = 1;
	fake.run->kvm_valid_regs = 1u << 20;
	assert_int_equal(vmm_step(&with), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(fake.run->kvm_dirty_regs, 0);
	assert_int_equal(es(), (uint16_t)with.access[0].data);
	fake_stop();
}

/* ---- A VMM that sets ---- */

static void set_by_ioctl(struct vmm *vmm, unsigned index)
{
	struct kvm_sregs sregs;

	(void)vmm;
	if (index % 4 == 3)
		return;
	assert_int_equal(vmm_ioctl(KVM_GET_SREGS, &sregs), 0);
	sregs.es.selector ^= index;
	sregs.es.base = (uint64_t)sregs.es.selector << 4;
	sregs.cr2 = index;
	assert_int_equal(vmm_ioctl(KVM_SET_SREGS, &sregs), 0);
}

static void test_set_sregs(void **state)
{
	(void)state;
	with.at_exit = without.at_exit = set_by_ioctl;
	for (int syncs = 0; syncs < 2; syncs++) {
		with.syncs = without.syncs = syncs;
		run_both(loads, COUNT(loads));
		assert_true(fake_engine.segments > 10);
		assert_true(fake_vcpu()->stats->disturbed > 0);
		fake_stop();
	}
}

/* Registers alone, segments alone, and both. */
static void set_by_page(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	if (index % 5 == 1 || index % 5 == 3) {
		fake.run->s.regs.regs.rbx += index;
		fake.run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	}
	if (index % 5 == 2 || index % 5 == 3) {
		fake.run->s.regs.sregs.es.selector ^= index;
		fake.run->s.regs.sregs.es.base = (uint64_t)fake.run->s.regs.sregs.es.selector << 4;
		fake.run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
	}
}

static void test_dirty_sregs(void **state)
{
	(void)state;
	with.at_exit = without.at_exit = set_by_page;
	with.syncs = without.syncs = true;
	run_both(loads, COUNT(loads));
	assert_true(fake_engine.segments > 20);
	assert_true(fake_vcpu()->stats->disturbed > 0);
	fake_stop();
}

/* ---- Where it is not done ---- */

static void test_kvm_refuses(void **state)
{
	(void)state;
	start(loads, COUNT(loads), false);
	assert_true(vmm_run(&without));
	fake_stop();
	start(loads, COUNT(loads), true);
	fake.refuses_sregs = true;
	assert_true(vmm_run(&with));
	assert_true(vmm_equal(&without, &with));
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake_vcpu()->stats->unfit[NX_UNFIT_SEGMENTS], 1);
	assert_non_null(strstr(fake_said, "does not take back the segment registers"));
	fake_stop();
}

/*
 * KVM_SET_SREGS carries the upper half of the LAPIC's task priority. Where it cannot be left out, a
 * lower half keeps the engine out; and a first stay waits for there to be none in any case.
 */
static void test_task_priority(void **state)
{
	(void)state;
	for (unsigned cr8 = CR8_LEFT_ALONE; cr8 <= CR8_REFUSED; cr8++) {
		start(loads, COUNT(loads), true);
		assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_CREATE_IRQCHIP, NULL), 0);
		fake.vmm_sets = false;
		fake.cr8 = cr8;
		fake.tpr = 0x35;
		with.accesses = with.inputs = 0;
		while (with.accesses < 20)
			assert_int_equal(vmm_step(&with), 0);
		assert_int_equal(fake_engine.resumes, 0);
		assert_true(fake_vcpu()->stats->unfit[NX_UNFIT_PRIORITY] > 0);
		assert_int_equal(fake.tpr, 0x35);
		fake.tpr = 0x30;
		while (with.accesses < 60)
			assert_int_equal(vmm_step(&with), 0);
		assert_true(fake_engine.segments > 0);
		assert_int_equal(fake.tpr, 0x30);
		assert_int_equal(fake.sregs.cr8, 3);
		while (!nx_kernel_has_regs(fake_vcpu()))
			assert_int_equal(vmm_step(&with), 0);
		/* The guest has made itself one in between. */
		fake.tpr = 0x39;
		fake.asked_tpr = fake_engine.resumes = 0;
		fake_vcpu()->stats->windows = 0;
		assert_true(vmm_run(&with));
		/* Not counting the questions about interrupts. */
		assert_int_equal(fake.asked_tpr > fake_vcpu()->stats->windows,
				 cr8 != CR8_LEFT_ALONE);
		assert_int_equal(fake_engine.resumes > 20, cr8 == CR8_LEFT_ALONE);
		assert_int_equal(fake.tpr, 0x39);
		fake_stop();
	}
}

static void test_protected_mode(void **state)
{
	(void)state;
	start(loads, COUNT(loads), true);
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_CREATE_IRQCHIP, NULL), 0);
	fake.sregs.cr0 = 1;
	fake.tpr = 0x35;
	assert_true(vmm_run(&with));
	assert_true(fake_engine.resumes > 0);
	assert_int_equal(fake_engine.segments, 0);
	assert_int_equal(fake.set_sregs, 0);
	assert_int_equal(fake.tpr, 0x35);
	fake_stop();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, reset)
	const struct CMUnitTest tests[] = {
	    TEST(test_kernel_runs_on_with_them),
	    TEST(test_vmm_that_looks),
	    TEST(test_vmm_that_syncs),
	    TEST(test_unchanged_is_not_written),
	    TEST(test_look_at_an_exit),
	    TEST(test_kick),
	    TEST(test_refused_run),
	    TEST(test_set_sregs),
	    TEST(test_dirty_sregs),
	    TEST(test_kvm_refuses),
	    TEST(test_task_priority),
	    TEST(test_protected_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
