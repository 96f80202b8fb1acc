/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* repeat_test.c - a string instruction that KVM emulates as a whole, and the engine in its middle.
 */
#include "unit.h"

#define FROM 0x800
#define TO 0x600
#define COUNT 40u

static const struct model_insn program[] = {{M_ADD, 1}, {M_MOVS, 0}, {M_ADD, 2}, {M_HLT, 0}};

static struct vmm without, with;

static void add_zone(void)
{
	struct kvm_coalesced_mmio_zone zone = {.addr = TO, .size = 0x10000};

	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_REGISTER_COALESCED_MMIO, &zone), 0);
}

static void start(bool on)
{
	fake_begin(program, sizeof(program) / sizeof(*program), 0, on);
	fake.regs.rcx = COUNT;
	fake.regs.rsi = FROM;
	fake.regs.rdi = TO;
	add_zone();
}

static int setup(void **state)
{
	(void)state;
	memset(&with, 0, sizeof(with));
	memset(&without, 0, sizeof(without));
	start(false);
	return 0;
}

static void run(struct vmm *vmm)
{
	assert_true(vmm_run(vmm));
	vmm_drain(vmm);
}

static void go_on_with(void)
{
	fake_stop();
	start(true);
}

static void compare(void)
{
	run(&with);
	assert_true(vmm_equal(&without, &with));
	assert_string_equal(fake_said, "");
	assert_int_equal(fake_vcpu()->repeat.owed, 0);
}

/* Two exits show what it is, and all that follow are the engine's. */
static void test_taken_over(void **state)
{
	(void)state;
	without.drain_every = with.drain_every = 1;
	run(&without);
	assert_int_equal(fake.queued, COUNT);
	assert_int_equal(fake.lent, 0);
	go_on_with();
	compare();
	assert_int_equal(fake_vcpu()->stats->repeats_stopped, 1);
	assert_int_equal(fake.lent, 1);
	assert_int_equal(fake.queued, 2);
	assert_int_equal(nx_stats_avoided_total(fake_vcpu()->stats), COUNT - 2);
	/* The stay's end brought the registers. */
	assert_int_equal(fake.set_regs, 0);
}

/* Each look finds what KVM has at that exit. */
static void test_vmm_looks(void **state)
{
	(void)state;
	without.looks = with.looks = true;
	run(&without);
	go_on_with();
	compare();
	assert_true(fake_vcpu()->stats->repeats_stopped > 0);
	fake_stop();
	start(false);
	memset(&with, 0, sizeof(with));
	memset(&without, 0, sizeof(without));
	without.syncs = with.syncs = true;
	run(&without);
	go_on_with();
	compare();
	assert_true(fake_vcpu()->stats->repeats_stopped > 0);
}

/* Stays that end in the middle: the kernel goes on from there. */
static void test_short_stays(void **state)
{
	(void)state;
	without.looks = with.looks = true;
	run(&without);
	go_on_with();
	fake_engine.exits_per_stay = 5;
	compare();
	assert_true(fake_vcpu()->stats->repeats_stopped > 3);
	assert_int_equal(fake.set_regs, fake_vcpu()->stats->flushes);
}

/* It is tried once, and after that the instruction is KVM's. */
static void test_kernel_that_does_not_look(void **state)
{
	(void)state;
	without.looks = with.looks = true;
	run(&without);
	go_on_with();
	fake.keeps_emulated = true;
	compare();
	assert_int_equal(fake.lent, 1);
	assert_int_equal(fake_vcpu()->stats->repeats_stopped, 0);
	assert_int_equal(fake_vcpu()->stats->takeovers, 1); /* behind its end */
}

static void test_kernel_that_does_not_stop(void **state)
{
	(void)state;
	without.looks = with.looks = true;
	run(&without);
	go_on_with();
	fake.never_stops = true;
	compare();
	/* And given back at the next element's exit. */
	assert_int_equal(fake.lent, 2);
	assert_int_equal(fake.set_regs, 1 + fake_vcpu()->stats->flushes);
	assert_int_equal(fake_vcpu()->stats->repeats_stopped, 0);
}

/* The next exit may also be the other half of the read that was answered. */
static void test_split_reads(void **state)
{
	(void)state;
	without.looks = with.looks = true;
	fake.splits_reads = true;
	run(&without);
	go_on_with();
	fake.splits_reads = true;
	compare();
	assert_int_equal(fake.lent, 0);
	assert_true(fake.set_regs > COUNT / 2);
	assert_int_equal(fake_vcpu()->stats->repeats_stopped, 0);
}

/* Or the write, for which there is no room in the ring. */
static void test_write_that_exits(void **state)
{
	struct kvm_coalesced_mmio_zone zone = {.addr = TO, .size = 0x10000};

	(void)state;
	without.looks = with.looks = true;
	for (unsigned on = 0; on < 2; on++) {
		fake_stop();
		start(on);
		assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_UNREGISTER_COALESCED_MMIO, &zone), 0);
		zone.size = 16;
		assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_REGISTER_COALESCED_MMIO, &zone), 0);
		zone.size = 0x10000;
		run(on ? &with : &without);
	}
	assert_true(vmm_equal(&without, &with));
	assert_int_equal(fake.lent, 1);
	assert_int_equal(fake_vcpu()->repeat.owed, 0);
}

/* Run up to the KVM_RUN that lends, and through it. */
static int run_to_the_boundary(void)
{
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake.lent, 0);
	assert_int_equal(fake.regs.rcx, COUNT - 1);
	return vmm_step(&with);
}

/* The page fault is delivered, with the registers from before the element. */
static void test_fault(void **state)
{
	(void)state;
	go_on_with();
	fake.faulty_element = 2;
	assert_int_equal(run_to_the_boundary(), 0);
	assert_int_equal(fake.lent, 1);
	assert_int_equal(fake.events.exception.pending, 1);
	assert_int_equal(fake.events.exception.nr, 14);
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake_vcpu()->stats->unfit[NX_UNFIT_EVENT], 1);
	assert_int_equal(fake.regs.rcx, COUNT - 1);
	assert_int_equal(fake.regs.rsi, FROM + 8);
	assert_string_equal(fake_said, "");
}

static void kick(void)
{
	fake.run->immediate_exit = 1;
}

/* KVM_RUN returns, and the VMM may look and set what it likes. */
static void test_kick(void **state)
{
	struct kvm_regs regs;

	(void)state;
	go_on_with();
	fake.in_completion = kick;
	assert_int_equal(run_to_the_boundary(), -1);
	assert_int_equal(fake.lent, 1);
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
	assert_int_equal(regs.rcx, COUNT - 2);
	assert_int_equal(fake_engine.resumes, 0);
	fake.in_completion = NULL;
	fake.run->immediate_exit = 0;
	run(&with);
	assert_int_equal(with.end.rcx, 0);
	assert_int_equal(with.end.rdi, TO + COUNT * 8);
}

static void nmi_comes(void)
{
	fake.nmi_waits = true;
}

/* No stay begins at the boundary: the guest goes on with its own count. */
static void test_unfit(void **state)
{
	(void)state;
	without.looks = with.looks = true;
	run(&without);
	go_on_with();
	fake.in_completion = nmi_comes;
	compare();
	assert_true(fake.lent > 1);
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake.nmi_waits, false);
}

/* Where the emulator would trap behind the element, and where rCX has no room above. */
static void test_left_alone(void **state)
{
	(void)state;
	go_on_with();
	fake.regs.rflags |= NX_FL_TF;
	assert_int_equal(run_to_the_boundary(), 0);
	assert_int_equal(fake.lent, 0);
	go_on_with();
	fake.sregs.efer |= NX_EFER_SVME;
	assert_int_equal(run_to_the_boundary(), 0);
	assert_int_equal(fake.lent, 0);
	for (unsigned left = 0xfc01; left <= 0xfc02; left++) {
		go_on_with();
		fake.regs.rcx = left + 1;
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(vmm_step(&with), 0);
		assert_int_equal(fake.lent, 0);
	}
	go_on_with();
	fake.regs.rcx = 0xfc00;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake.lent, 1);
}

/* The call that lends is refused: the count was never out of the host's hands. */
static void test_refused(void **state)
{
	(void)state;
	run(&without);
	go_on_with();
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	nx_options.fault = NX_FAULT_COMPLETION;
	run(&with);
	assert_true(vmm_equal(&without, &with));
	assert_int_equal(fake.lent, 0);
	assert_int_equal(fake.run->kvm_dirty_regs, 0);
	assert_non_null(fake_vcpu()->off);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_taken_over),
	    TEST(test_vmm_looks),
	    TEST(test_short_stays),
	    TEST(test_kernel_that_does_not_look),
	    TEST(test_kernel_that_does_not_stop),
	    TEST(test_split_reads),
	    TEST(test_write_that_exits),
	    TEST(test_fault),
	    TEST(test_kick),
	    TEST(test_unfit),
	    TEST(test_left_alone),
	    TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
