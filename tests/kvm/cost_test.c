/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* cost_test.c - kvm/cost.c: which KVM_RUNs are timed, and what comes of the times. */
#include "unit.h"

static struct nx_stats stats;
static struct nx_kvm_vcpu vcpu;

static int setup(void **state)
{
	(void)state;
	memset(&stats, 0, sizeof(stats));
	memset(&vcpu, 0, sizeof(vcpu));
	vcpu.stats = &stats;
	return 0;
}

static void add(enum nx_cost which, unsigned count, uint64_t ns)
{
	while (count--)
		nx_sample_add(&vcpu, which, ns);
}

static void test_all_at_first_then_a_few(void **state)
{
	unsigned due = 0;

	(void)state;
	for (unsigned i = 0; i < 64; i++)
		assert_true(nx_sample_due(&vcpu));
	for (unsigned i = 0; i < 1600; i++)
		due += nx_sample_due(&vcpu);
	assert_int_equal(due, 100);
}

static void test_least_of_a_window(void **state)
{
	(void)state;
	add(NX_COST_IO, 14, 9000);
	add(NX_COST_IO, 1, 4000);
	/* Nothing is told before the window is full. */
	assert_int_equal(stats.cost_ns[NX_COST_IO], 0);
	add(NX_COST_IO, 1, 7000);
	assert_int_equal(stats.cost_ns[NX_COST_IO], 4000);
	assert_int_equal(stats.cost_ns[NX_COST_MMIO], 0);
}

/* Costs rise as well: an old minimum must not stand. */
static void test_windows_are_not_merged(void **state)
{
	(void)state;
	add(NX_COST_MMIO, 16, 1000);
	add(NX_COST_MMIO, 16, 5000);
	assert_int_equal(stats.cost_ns[NX_COST_MMIO], 5000);
}

static void test_long_time_is_cut(void **state)
{
	(void)state;
	add(NX_COST_TAKEOVER, 16, 1ull << 40);
	assert_int_equal(stats.cost_ns[NX_COST_TAKEOVER], UINT32_MAX);
}

static void test_instructions(void **state)
{
	(void)state;
	/* Nothing can be said of the rest until the fixed part is known. */
	for (unsigned i = 0; i < 16; i++)
		nx_sample_instructions(&vcpu, 100, 1100);
	assert_int_equal(stats.cost_ns[NX_COST_THOUSAND], 0);
	add(NX_COST_RESUME, 16, 100);
	for (unsigned i = 0; i < 16; i++) {
		nx_sample_instructions(&vcpu, 31, 1100);
		nx_sample_instructions(&vcpu, 100, 100);
	}
	assert_int_equal(stats.cost_ns[NX_COST_THOUSAND], 0);
	for (unsigned i = 0; i < 16; i++)
		nx_sample_instructions(&vcpu, 100, 1100);
	assert_int_equal(stats.cost_ns[NX_COST_THOUSAND], 10000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
	    TEST(test_all_at_first_then_a_few),
	    TEST(test_least_of_a_window),
	    TEST(test_windows_are_not_merged),
	    TEST(test_long_time_is_cut),
	    TEST(test_instructions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
