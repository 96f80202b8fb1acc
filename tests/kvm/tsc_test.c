/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* tsc_test.c - kvm/tsc.c: the time-stamp counter that the guest would read, where it can be known.
 */
#include <x86intrin.h>

#include "exits.h"

static struct vmm vmm;

static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	start(true);
	return 0;
}

static void begin_stay(bool has_tsc)
{
	fake_has_tsc_offset = has_tsc;
	restart(true);
	fake.tsc_offset = 1ull << 60;
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(fake_engine.exits, 1);
}

static void test_reading(void **state)
{
	uint64_t before, tsc, again;
	uint32_t aux = 0;

	(void)state;
	begin_stay(true);
	before = __rdtsc();
	assert_true(fake_vcpu()->engine_host.read_tsc(fake_vcpu(), &tsc, NULL));
	assert_true(fake_vcpu()->engine_host.read_tsc(fake_vcpu(), &again, &aux));
	assert_true(tsc - fake.tsc_offset >= before && again >= tsc);
	assert_true(__rdtsc() >= again - fake.tsc_offset);
	assert_int_equal(aux, FAKE_TSC_AUX);
	/* Asked once in a stay; what the guest does to it in between is seen in the next. */
	assert_int_equal(fake.asked_tsc, 1);
	fake.clock += 1000000000;
	while (fake_vcpu()->stats->takeovers < 2)
		assert_int_equal(vmm_step(&vmm), 0);
	assert_true(fake_vcpu()->engine_host.read_tsc(fake_vcpu(), &tsc, NULL));
	assert_int_equal(fake.asked_tsc, 2);
}

static void test_unknown(void **state)
{
	(void)state;
	begin_stay(false);
	assert_null(fake_vcpu()->engine_host.read_tsc);
	/* Scaled, and not any more. */
	begin_stay(true);
	assert_non_null(fake_vcpu()->engine_host.read_tsc);
	assert_int_equal(vmm_ioctl(KVM_SET_TSC_KHZ, (void *)(FAKE_TSC_KHZ + 1L)), 0);
	assert_null(fake_vcpu()->engine_host.read_tsc);
	assert_int_equal(vmm_ioctl(KVM_SET_TSC_KHZ, (void *)FAKE_TSC_KHZ), 0);
	assert_non_null(fake_vcpu()->engine_host.read_tsc);
	/* A frequency for vCPUs to come. */
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_SET_TSC_KHZ, (void *)FAKE_TSC_KHZ), 0);
	nx_fd_clear(FAKE_VCPU_FD);
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_CREATE_VCPU, NULL), FAKE_VCPU_FD);
	assert_null(fake_vcpu()->engine_host.read_tsc);
	assert_int_equal(vmm_ioctl(KVM_SET_TSC_KHZ, NULL), 0);
	assert_null(fake_vcpu()->engine_host.read_tsc);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_reading),
	    TEST(test_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
