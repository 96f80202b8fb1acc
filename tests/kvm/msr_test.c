/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* msr_test.c - kvm/msr.c: which register is asked for, and what comes of KVM's answer. */
#include "unit.h"

static int answer, asked_fd;
static struct kvm_msrs asked;
static uint32_t asked_index;

static int ioctl_of_msrs(int fd, unsigned long request, void *argument)
{
	struct kvm_msrs *msrs = argument;

	assert_int_equal(request, KVM_GET_MSRS);
	asked_fd = fd;
	asked = *msrs;
	asked_index = msrs->entries[0].index;
	if (answer > 0)
		msrs->entries[0].data = 0x123456789abcdef0;
	return answer;
}

static uint64_t get(int kvm_says)
{
	uint64_t value = 1;

	answer = kvm_says;
	nx_real.ioctl = ioctl_of_msrs;
	assert_int_equal(nx_kvm_get_msr(77, 0xc0000103, &value), kvm_says);
	assert_int_equal(asked_fd, 77);
	assert_int_equal(asked.nmsrs, 1);
	assert_int_equal(asked_index, 0xc0000103);
	return value;
}

static void test_value(void **state)
{
	(void)state;
	assert_int_equal(get(1), 0x123456789abcdef0);
}

/* What KVM does not know, or refuses, is 0 and no rest of the stack. */
static void test_no_value(void **state)
{
	(void)state;
	assert_int_equal(get(0), 0);
	assert_int_equal(get(-1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_value),
	    cmocka_unit_test(test_no_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
