/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* options_test.c - kvm/options.c: what each kind of option takes, and from where. */
#include <errno.h>
#include <stdlib.h>

#include "unit.h"

static struct nx_options options;

static int setup(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NX_OPTION_COUNT; i++)
		unsetenv(nx_option_env((enum nx_option)i));
	nx_options_default(&options);
	return 0;
}

static void test_defaults(void **state)
{
	(void)state;
	assert_int_equal(options.latency, 50);
	assert_int_equal(options.masked_latency, 5000);
	assert_int_equal(options.code_cache, 1024);
	assert_int_equal(options.level, NX_LEVEL_COUNT - 1);
	assert_int_equal(options.limits, 0);
	assert_int_equal(options.fault, 0);
	assert_false(options.off);
	assert_null(options.stats);
}

static void test_numbers(void **state)
{
	static const char *const wrong[] = {
	    "", "x", "12x", "-1", " -1", "1000000001", "99999999999999999999", "1.5"};

	(void)state;
	errno = EINTR;
	assert_null(nx_option_set(&options, NX_OPTION_LATENCY, "1000000000"));
	assert_int_equal(options.latency, 1000000000);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_non_null(nx_option_set(&options, NX_OPTION_LATENCY, wrong[i]));
	assert_int_equal(options.latency, 1000000000);
	/* The VMM's errno is not ours to change. */
	assert_int_equal(errno, EINTR);
}

static void test_words(void **state)
{
	const char *error;

	(void)state;
	assert_null(nx_option_set(&options, NX_OPTION_LEVEL, "pairs"));
	assert_int_equal(options.level, NX_LEVEL_PAIRS);
	assert_null(nx_option_set(&options, NX_OPTION_LIMITS, "unweighed"));
	assert_int_equal(options.limits, NX_LIMITS_UNWEIGHED);
	assert_null(nx_option_set(&options, NX_OPTION_FAULT, "memfd"));
	assert_int_equal(options.fault, NX_FAULT_MEMFD);
	assert_null(nx_option_set(&options, NX_OPTION_FAULT, "none"));
	assert_int_equal(options.fault, 0);
	/* The error ends a sentence that the command begins, and names what would be right. */
	error = nx_option_set(&options, NX_OPTION_LEVEL, "pair");
	assert_non_null(error);
	assert_non_null(strstr(error, "must be one of pairs "));
	assert_non_null(nx_option_set(&options, NX_OPTION_LIMITS, ""));
	assert_non_null(nx_option_set(&options, NX_OPTION_FAULT, "MEMFD"));
	assert_int_equal(options.level, NX_LEVEL_PAIRS);
}

static void test_flags_and_paths(void **state)
{
	(void)state;
	assert_null(nx_option_set(&options, NX_OPTION_OFF, "1"));
	assert_true(options.off);
	assert_null(nx_option_set(&options, NX_OPTION_OFF, "0"));
	assert_false(options.off);
	assert_null(nx_option_set(&options, NX_OPTION_STATS, "a file"));
	assert_string_equal(options.stats, "a file");
	assert_non_null(nx_option_set(&options, NX_OPTION_STATS, ""));
	assert_string_equal(options.stats, "a file");
}

static void test_code_cache_has_bounds(void **state)
{
	(void)state;
	assert_null(nx_option_set(&options, NX_OPTION_CODE_CACHE, "64"));
	assert_int_equal(options.code_cache, 64);
	assert_non_null(nx_option_set(&options, NX_OPTION_CODE_CACHE, "63"));
	assert_int_equal(options.code_cache, 1024);
	assert_non_null(nx_option_set(&options, NX_OPTION_CODE_CACHE, "1048577"));
	assert_int_equal(options.code_cache, 1024);
}

static void test_names(void **state)
{
	(void)state;
	assert_int_equal(nx_option_find("max-gap"), NX_OPTION_MAX_GAP);
	assert_int_equal(nx_option_find("stats-interval"), NX_OPTION_STATS_INTERVAL);
	assert_int_equal(nx_option_find("max_gap"), NX_OPTION_COUNT);
	assert_string_equal(nx_option_env(NX_OPTION_MAX_GAP), "NOEXIT_MAX_GAP");
}

static void test_environment(void **state)
{
	(void)state;
	setenv("NOEXIT_OFF", "1", 1);
	setenv("NOEXIT_MAX_GAP", "7", 1);
	setenv("NOEXIT_LATENCY", "soon", 1);
	nx_options_from_environment(&options);
	assert_true(options.off);
	assert_int_equal(options.max_gap, 7);
	assert_int_equal(options.latency, 50);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
	    TEST(test_defaults),
	    TEST(test_numbers),
	    TEST(test_words),
	    TEST(test_flags_and_paths),
	    TEST(test_code_cache_has_bounds),
	    TEST(test_names),
	    TEST(test_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
