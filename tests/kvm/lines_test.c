/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* lines_test.c - when the kernel need not be told again that an interrupt line is low. */
#include <errno.h>
#include <sys/ioctl.h>

#include "unit.h"

static const struct model_insn ports[] = {{M_IN, 0x10}, {M_OUT, 0x11}, {M_LOOP, 0}, {M_HLT, 0}};
static struct vmm vmm;

static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	fake_begin(ports, sizeof(ports) / sizeof(*ports), 5, true);
	return 0;
}

static int last_status;

/* Set a line; return how often the kernel was asked. */
static unsigned set(unsigned irq, unsigned high)
{
	struct kvm_irq_level level = {.irq = irq, .level = high};
	unsigned before = fake.line_calls;

	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_IRQ_LINE_STATUS, &level), 0);
	last_status = (int)level.status;
	return fake.line_calls - before;
}

static void test_again(void **state)
{
	struct kvm_irq_level level = {.irq = 4};

	(void)state;
	fake.line_status = 7;
	assert_int_equal(set(4, 0), 1);
	fake.line_status = 8;
	assert_int_equal(set(4, 0), 0);
	assert_int_equal(last_status, 7);
	/* Another line has its own level, and its own answer. */
	assert_int_equal(set(5, 0), 1);
	assert_int_equal(last_status, 8);
	assert_int_equal(set(4, 0), 0);
	assert_int_equal(last_status, 7);
	/* The call without a status is the same call. */
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_IRQ_LINE, &level), 0);
	assert_int_equal(fake.line_calls, 2);
	/* A line beyond the table is not remembered. */
	assert_int_equal(set(NX_LINES, 0), 1);
	assert_int_equal(set(NX_LINES, 0), 1);
}

static void test_raised(void **state)
{
	(void)state;
	set(4, 0);
	assert_int_equal(set(4, 1), 1);
	assert_int_equal(set(4, 1), 1);
	assert_int_equal(set(4, 0), 1);
	assert_int_equal(set(4, 0), 0);
}

/* These calls may touch the interrupt controllers in between. */
static void test_touched(void **state)
{
	struct kvm_irqchip chip = {0};

	(void)state;
	set(4, 0);
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_SET_IRQCHIP, &chip), 0);
	assert_int_equal(set(4, 0), 1);
	assert_int_equal(set(4, 0), 0);
	assert_true(vmm_run(&vmm));
	assert_int_equal(set(4, 0), 1);
	assert_int_equal(set(4, 0), 0);
}

static unsigned asked_inside;

static void lower_inside(void)
{
	asked_inside += set(4, 0);
}

/* By another thread, while a vCPU is in the kernel. */
static void test_inside(void **state)
{
	(void)state;
	asked_inside = 0;
	fake.in_completion = lower_inside;
	set(4, 0);
	assert_true(vmm_run(&vmm));
	fake.in_completion = NULL;
	assert_true(fake.immediate_runs > 0);
	assert_true(asked_inside > 0);
	assert_int_equal(set(4, 0), 1);
	assert_int_equal(set(4, 0), 0);
}

static void lower_once(void)
{
	fake.in_line = NULL;
	set(4, 0);
}

/* Lowered while another thread is raising it: nobody knows which was last. */
static void test_overlap(void **state)
{
	(void)state;
	fake.in_line = lower_once;
	assert_int_equal(set(4, 1), 2);
	assert_int_equal(set(4, 0), 1);
	assert_int_equal(set(4, 0), 0);
}

static void test_refused(void **state)
{
	struct kvm_irq_level level = {.irq = 4};

	(void)state;
	fake.line_fails = ENXIO;
	for (unsigned i = 1; i <= 3; i++) {
		errno = 0;
		assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_IRQ_LINE_STATUS, &level), -1);
		assert_int_equal(errno, ENXIO);
		assert_int_equal(fake.line_calls, i);
	}
	fake.line_fails = 0;
	assert_int_equal(set(4, 0), 1);
}

static void test_off(void **state)
{
	(void)state;
	set(4, 0);
	nx_vm_off(fake_vm(), "the test says so");
	assert_int_equal(set(4, 0), 1);
	assert_int_equal(set(4, 0), 1);
	fake_stop();
	fake_start(ports, sizeof(ports) / sizeof(*ports), (struct fake_style){false, false});
	nx_options.off = true;
	assert_int_equal(set(4, 0), 1);
	assert_int_equal(set(4, 0), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_again),   TEST(test_raised),  TEST(test_touched), TEST(test_inside),
	    TEST(test_overlap), TEST(test_refused), TEST(test_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
