/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * state_test.c - every ioctl on a vCPU that the host knows, at an exit of the engine's; and the
 * exits at which it leaves the vCPU alone.
 */
#include <errno.h>

#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const struct model_insn ports[] = {
    {M_IN, 0x10}, {M_ADD, 3},    {M_OUT, 0x11}, {M_IN, 0x12}, {M_OUT, 0x13},
    {M_IN, 0x14}, {M_OUT, 0x15}, {M_LOOP, 0},   {M_HLT, 0},
};

static struct vmm with, without;
static struct kvm_regs at_ioctl;
static uint32_t expected_ioctl;
static char argument[65536] __attribute__((aligned(64)));

static void start(const struct model_insn *program, size_t insns, bool on)
{
	fake_begin(program, (unsigned)insns, 20, on);
}

static int reset(void **state)
{
	(void)state;
	with = without = (struct vmm){0};
	memset(argument, 0, sizeof(argument));
	return 0;
}

/* The engine's exit at the first OUT is open. */
static void stand_at_out(void)
{
	start(ports, COUNT(ports), true);
	with.accesses = with.inputs = 0;
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.exits, 1);
	assert_int_equal(fake.entries, 1);
}

static void note_registers(uint32_t request)
{
	if (request == expected_ioctl)
		at_ioctl = fake.regs;
}

/* The kernel has the registers of the moment before it gets to see the request. */
static void call(uint32_t request, uint32_t before)
{
	stand_at_out();
	fake.accepts_all = fake.vmm_sets = fake.has_nested_state = true;
	memset(argument, 0, sizeof(argument));
	if (before)
		assert_int_equal(vmm_ioctl(before, argument), 0);
	expected_ioctl = request;
	at_ioctl = (struct kvm_regs){0};
	fake.at_ioctl = note_registers;
	assert_true(vmm_ioctl(request, argument) >= 0);
	assert_int_equal(at_ioctl.rip, MODEL_BASE + 2 * MODEL_LEN);
	assert_int_equal((uint32_t)at_ioctl.rax, (uint32_t)(with.access[0].data + 3));
	assert_int_equal(fake_vcpu()->stats->flushes, 1);
	assert_string_equal(fake_said, "");
}

static void test_ioctls_that_look(void **state)
{
	static const uint32_t looks[] = {
	    KVM_GET_REGS,      KVM_GET_SREGS,        KVM_GET_SREGS2,      KVM_GET_MSRS,
	    KVM_GET_FPU,       KVM_GET_LAPIC,        KVM_GET_CPUID2,      KVM_GET_VCPU_EVENTS,
	    KVM_GET_DEBUGREGS, KVM_GET_XSAVE,        KVM_GET_XSAVE2,      KVM_GET_XCRS,
	    KVM_GET_TSC_KHZ,   KVM_GET_NESTED_STATE, KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR,
	    KVM_TRANSLATE,     KVM_SET_SIGNAL_MASK,  KVM_KVMCLOCK_CTRL,
	};

	(void)state;
	for (unsigned i = 0; i < COUNT(looks); i++) {
		call(looks[i], 0);
		/* The stay goes on. */
		assert_int_equal(vmm_step(&with), 0);
		assert_int_equal(fake_engine.exits, 2);
		assert_int_equal(fake.entries, 1);
		fake_stop();
	}
}

static void test_ioctls_that_change(void **state)
{
	static const struct {
		uint32_t request, before;
	} changes[] = {
	    {KVM_SET_REGS, KVM_GET_REGS},
	    {KVM_SET_SREGS, KVM_GET_SREGS},
	    {KVM_SET_SREGS2, 0},
	    {KVM_SET_MSRS, 0},
	    {KVM_SET_FPU, 0},
	    {KVM_SET_LAPIC, 0},
	    {KVM_SET_CPUID, 0},
	    {KVM_SET_CPUID2, 0},
	    {KVM_GET_MP_STATE, 0},
	    {KVM_SET_MP_STATE, 0},
	    {KVM_SET_VCPU_EVENTS, KVM_GET_VCPU_EVENTS},
	    {KVM_SET_DEBUGREGS, 0},
	    {KVM_SET_XSAVE, 0},
	    {KVM_SET_XCRS, 0},
	    {KVM_SET_TSC_KHZ, 0},
	    {KVM_SET_NESTED_STATE, 0},
	    {KVM_SET_GUEST_DEBUG, 0},
	    {KVM_SET_DEVICE_ATTR, 0},
	    {KVM_SET_VAPIC_ADDR, 0},
	    {KVM_TPR_ACCESS_REPORTING, 0},
	    {KVM_X86_SETUP_MCE, 0},
	    {KVM_X86_SET_MCE, 0},
	    {KVM_INTERRUPT, 0},
	    {KVM_NMI, 0},
	    {KVM_SMI, 0},
	};

	(void)state;
	for (unsigned i = 0; i < COUNT(changes); i++) {
		call(changes[i].request, changes[i].before);
		/* The exit is completed, and the kernel goes on. */
		assert_int_equal(vmm_step(&with), 0);
		assert_int_equal(fake_engine.exits, 1);
		assert_int_equal(fake.entries, 2);
		assert_int_equal(with.access[2].address, 0x12);
		assert_int_equal(fake_vcpu()->stats->disturbed, 1);
		fake_stop();
	}
}

/* ---- Exits that are not taken over at ---- */

/* It would answer for the instruction, and a guest that the engine has moved on would skip another.
 */
static void must_be_an_access(void)
{
	assert_int_not_equal(fake.run->exit_reason, KVM_EXIT_X86_RDMSR);
}

static void test_msr_exits(void **state)
{
	static const struct model_insn program[] = {
	    {M_IN, 0x10}, {M_RDMSR, 0x1b}, {M_OUT, 0x11}, {M_RDMSR, 0x10}, {M_RDMSR, 0x11},
	    {M_ADD, 1},   {M_OUT, 0x12},   {M_LOOP, 0},   {M_HLT, 0},
	};

	(void)state;
	start(program, COUNT(program), false);
	assert_true(vmm_run(&without));
	fake_stop();
	start(program, COUNT(program), true);
	fake.in_completion = must_be_an_access;
	assert_true(vmm_run(&with));
	assert_true(vmm_equal(&without, &with));
	assert_int_equal(fake_vcpu()->stats->taken[KVM_EXIT_X86_RDMSR], 60);
	assert_true(fake.immediate_runs > 20);
	fake_stop();
}

/* The page says so, also where nothing else does. */
static void test_smm_exits(void **state)
{
	(void)state;
	start(ports, COUNT(ports), true);
	fake.run_flags = KVM_RUN_X86_SMM;
	assert_true(vmm_run(&with));
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake.immediate_runs, 0);
	fake_stop();
}

/* The registers that the VMM has put into the page for the kernel, and those that the kernel
 * left there, stay. */
static void test_task_priority_in_the_page(void **state)
{
	(void)state;
	stand_at_out();
	fake.run->cr8 = 5;
	fake.run->apic_base = 0xfee00900;
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.exits, 2);
	assert_int_equal(fake.run->cr8, 5);
	assert_int_equal(fake.run->apic_base, 0xfee00900);
	fake_stop();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, reset)
	const struct CMUnitTest tests[] = {
	    TEST(test_ioctls_that_look), TEST(test_ioctls_that_change),        TEST(test_msr_exits),
	    TEST(test_smm_exits),        TEST(test_task_priority_in_the_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
