/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* engine_test.c - kvm/engine.c: with what an engine is made, and when it is found to be of no use.
 */
#include "unit.h"

static struct nx_kvm_vcpu *vcpu;

static int setup(void **state)
{
	(void)state;
	begin_guest(20, true);
	vcpu = fake_vcpu();
	return 0;
}

static void test_made_once(void **state)
{
	(void)state;
	assert_null(vcpu->engine);
	assert_true(nx_vcpu_engine_make(vcpu));
	assert_non_null(vcpu->engine);
	assert_ptr_equal(vcpu->state, nx_engine_state(vcpu->engine));
	assert_true(nx_vcpu_engine_make(vcpu));
	assert_int_equal(fake_engine.created, 1);
	/* The engine reads the host's clock. */
	fake.clock = 4711;
	assert_int_equal(vcpu->engine_host.now(vcpu), 4711);
}

static void test_options(void **state)
{
	(void)state;
	nx_options.level = NX_LEVEL_STRAIGHT;
	nx_options.no_user_code = true;
	nx_options.max_gap = 7;
	vcpu->guest_features = NX_FEATURE_MOVBE | NX_FEATURE_RDTSCP;
	assert_true(nx_vcpu_engine_make(vcpu));
	assert_int_equal(fake_engine.config.level, NX_LEVEL_STRAIGHT);
	assert_true(fake_engine.config.no_user_code);
	assert_int_equal(fake_engine.config.max_gap, 7);
	assert_int_equal(fake_engine.config.guest_features, NX_FEATURE_MOVBE | NX_FEATURE_RDTSCP);
	assert_true(fake_engine.config.segment_loads);
	assert_int_equal(fake_engine.config.experiment.fail, 0);
}

/* Without options the engine's own defaults hold. */
static void test_defaults(void **state)
{
	struct nx_config config;

	(void)state;
	nx_config_default(&config);
	assert_true(nx_vcpu_engine_make(vcpu));
	assert_int_equal(fake_engine.config.max_gap, config.max_gap);
	assert_int_equal(fake_engine.config.level, config.level);
	assert_false(fake_engine.config.no_user_code);
}

static void test_faults_to_come(void **state)
{
	(void)state;
	nx_options.fault = NX_FAULT_VERIFIER;
	assert_true(nx_vcpu_engine_make(vcpu));
	assert_int_equal(fake_engine.config.experiment.fail, NX_FAIL_VERIFY);
	fake_stop();
	setup(state);
	nx_options.fault = NX_FAULT_CACHE;
	assert_true(nx_vcpu_engine_make(vcpu));
	assert_int_equal(fake_engine.config.experiment.fail, NX_FAIL_CACHE);
}

/* It is tried once: a VMM that lives long is not asked for memory at each exit. */
static void test_none(void **state)
{
	(void)state;
	nx_options.fault = NX_FAULT_ENGINE;
	assert_false(nx_vcpu_engine_make(vcpu));
	assert_null(vcpu->engine);
	assert_non_null(strstr(atomic_load(&vcpu->off), "does not work"));
	nx_options.fault = NX_FAULT_NONE;
	assert_false(nx_vcpu_engine_make(vcpu));
	assert_int_equal(fake_engine.created, 0);
}

static struct nx_counters *counters(void)
{
	return (struct nx_counters *)(uintptr_t)nx_engine_counters(vcpu->engine);
}

static const char *check(void)
{
	atomic_store(&vcpu->off, NULL);
	nx_vcpu_engine_check(vcpu);
	return atomic_load(&vcpu->off);
}

static void test_check_of_counters(void **state)
{
	(void)state;
	assert_true(nx_vcpu_engine_make(vcpu));
	assert_null(check());
	/* A cache that is full now and then is one at work. */
	counters()->leaves[NX_LEAVE_CACHE_FULL] = 1;
	counters()->translated = 1;
	assert_null(check());
	counters()->translated = 0;
	assert_non_null(strstr(check(), "--code-cache"));
	counters()->refused = 1;
	assert_non_null(strstr(check(), "verifier"));
}

static void test_check_of_memory(void **state)
{
	unsigned enough = 0;

	(void)state;
	assert_true(nx_vcpu_engine_make(vcpu));
	/* Some pages may be the VMM's own affair. */
	for (vcpu->pages_refused = 1; !check() && enough < 100; vcpu->pages_refused++)
		enough++;
	assert_in_range(enough, 1, 99);
	assert_non_null(strstr(check(), "read the guest's memory"));
	vcpu->pages_given = true;
	assert_null(check());
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_made_once),       TEST(test_options), TEST(test_defaults),
	    TEST(test_faults_to_come),  TEST(test_none),    TEST(test_check_of_counters),
	    TEST(test_check_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
