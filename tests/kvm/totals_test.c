/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* totals_test.c - kvm/totals.c: the figures of vCPUs that live and of those that are gone. */
#include "unit.h"

static struct vmm vmm;

static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	memset(&nx_totals, 0, sizeof(nx_totals));
	begin_guest(20, true);
	return 0;
}

/* Each exit is counted once: as a living vCPU's, and among the totals when it is gone. */
static void test_a_vcpu_that_goes(void **state)
{
	uint64_t taken, avoided, taken_then, avoided_then;

	(void)state;
	assert_true(vmm_run(&vmm));
	nx_totals_sum(&taken, &avoided);
	assert_int_equal(taken, nx_stats_taken_total(fake_vcpu()->stats));
	assert_int_equal(avoided, nx_stats_avoided_total(fake_vcpu()->stats));
	assert_true(taken && avoided);
	assert_int_equal(nx_totals.vcpus, 0);
	fake_stop();
	assert_int_equal(nx_totals.vcpus, 1);
	nx_totals_sum(&taken_then, &avoided_then);
	assert_int_equal(taken_then, taken);
	assert_int_equal(avoided_then, avoided);
}

static void test_reported_is_not_counted_twice(void **state)
{
	uint64_t taken, avoided, again;

	(void)state;
	assert_true(vmm_run(&vmm));
	nx_totals_sum(&taken, &avoided);
	nx_totals_fold(fake_vcpu()->shared, false);
	fake_vcpu()->reported = true;
	nx_totals_sum(&again, &avoided);
	assert_int_equal(again, taken);
	fake_stop();
}

/* The clusters of what is gone are copied; those of the living are where they are. */
static void test_clusters(void **state)
{
	static struct nx_share_vcpu shared;

	(void)state;
	fake_stop();
	memset(&nx_totals, 0, sizeof(nx_totals));
	nx_totals_fold(&shared, true);
	assert_int_equal(nx_totals.parts, 0);
	shared.clusters.count = 1;
	shared.clusters.used = 8;
	shared.clusters.cluster[0].entry_rip = 0x1234;
	shared.clusters.data[7] = 0x5a;
	nx_totals_fold(&shared, true);
	nx_totals_fold(&shared, false);
	memset(&shared.clusters, 0, sizeof(shared.clusters));
	assert_int_equal(nx_totals.vcpus, 3);
	assert_int_equal(nx_totals.parts, 2);
	assert_int_equal(nx_totals.part[0]->cluster[0].entry_rip, 0x1234);
	assert_int_equal(nx_totals.part[0]->data[7], 0x5a);
	assert_ptr_equal(nx_totals.part[1], &shared.clusters);
	/* There is an end to it. */
	shared.clusters.count = 1;
	for (unsigned i = 0; i < 2 * NX_TOTALS_PARTS; i++)
		nx_totals_fold(&shared, false);
	assert_int_equal(nx_totals.parts, NX_TOTALS_PARTS);
}

static void test_reasons(void **state)
{
	static char reason[2 * NX_TOTALS_OFF][2];

	(void)state;
	fake_stop();
	memset(&nx_totals, 0, sizeof(nx_totals));
	nx_totals_off("one");
	nx_totals_off("two");
	nx_totals_off("one");
	assert_int_equal(nx_totals.offs, 2);
	assert_string_equal(nx_totals.off[1], "two");
	for (unsigned i = 0; i < 2 * NX_TOTALS_OFF; i++) {
		reason[i][0] = (char)('a' + i);
		nx_totals_off(reason[i]);
	}
	assert_int_equal(nx_totals.offs, NX_TOTALS_OFF);
	memset(&nx_totals, 0, sizeof(nx_totals));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
	    TEST(test_a_vcpu_that_goes),
	    TEST(test_reported_is_not_counted_twice),
	    TEST(test_clusters),
	    TEST(test_reasons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
