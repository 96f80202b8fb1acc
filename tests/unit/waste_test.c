/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* waste.c: places at which more is made than avoided are left alone, by counting. */
#include "stage.h"

#define PC 0x4000

static struct mock *begin(bool counts)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);

	m->engine->config.counts_waste = counts;
	/* The third exit is hot. */
	assert_false(mock_worth_resuming(m, PC, NX_CLASS_IO));
	assert_false(mock_worth_resuming(m, PC, NX_CLASS_IO));
	return m;
}

/* Return how many of the exits at PC began a stay, each of which makes and avoids so much. */
static unsigned taken_of(struct mock *m, unsigned exits, unsigned makes, unsigned avoids)
{
	unsigned taken = 0;

	for (unsigned i = 0; i < exits; i++) {
		if (!mock_worth_resuming(m, PC, NX_CLASS_IO))
			continue;
		taken++;
		m->engine->counters.blocks += makes;
		m->engine->counters.exits_insn += avoids;
	}
	return taken;
}

/* Expect that four times as many stays as things may be made are begun, of which each counts once
 * more. */
static void expect_quarter_of_a_thing(struct mock *m, uint64_t *counter)
{
	for (unsigned i = 0; i < 256 * 4 + 1; i++) {
		assert_int_equal(taken_of(m, 1, 0, 0), 1);
		++*counter;
	}
	assert_int_equal(taken_of(m, 64, 0, 0), 0);
}

/* 256 things may be made; then 64 exits are left alone, and 128 more made; then 128, and so on. */
static void test_waste_is_left_alone(void **state)
{
	struct mock *m = begin(true);
	uint64_t left = 0;

	(void)state;
	/* What the last stay has made is counted at the next exit. */
	assert_int_equal(taken_of(m, 257, 1, 0), 257);
	for (unsigned rest = 64; rest <= 64 << 5; rest *= 2) {
		assert_int_equal(taken_of(m, rest, 1, 0), 0);
		assert_true(nx_waste_rests(m->engine, PC));
		assert_int_equal(taken_of(m, 129, 1, 0), 129);
		left += rest;
	}
	/* No more than that. */
	assert_int_equal(taken_of(m, 64 << 5, 1, 0), 0);
	assert_int_equal(m->engine->counters.declined, left + (64 << 5));
	/* It pays now; if it should not again, that begins anew. */
	assert_int_equal(taken_of(m, 2, 0, 192 * 16), 2);
	assert_false(nx_waste_rests(m->engine, PC));
	assert_int_equal(taken_of(m, 257, 1, 0), 257);
	assert_int_equal(taken_of(m, 64, 1, 0), 0);
	assert_int_equal(taken_of(m, 1, 1, 0), 1);
	mock_free(m);
}

/*
 * Stays that neither make nor avoid anything: each is a take-over for nothing, if the host has
 * begun it.
 */
static void test_stays_for_nothing(void **state)
{
	struct mock *m = begin(true);

	(void)state;
	assert_int_equal(taken_of(m, 10000, 0, 0), 10000);
	mock_free(m);

	m = begin(true);
	expect_quarter_of_a_thing(m, &m->engine->counters.resumes);
	assert_int_equal(taken_of(m, 1, 0, 0), 1);
	mock_free(m);

	/* One in two avoids four exits and more. */
	m = begin(true);
	for (unsigned i = 0; i < 10000; i++) {
		assert_int_equal(taken_of(m, 1, 0, i % 2 ? 5 : 0), 1);
		m->engine->counters.resumes++;
	}
	mock_free(m);
}

/* Sixteen exits pay for a thing, and a place that has earned much has no more than a new one. */
static void test_exits_earn(void **state)
{
	struct mock *m = begin(true);

	(void)state;
	assert_int_equal(taken_of(m, 10000, 1, 16), 10000);
	assert_int_equal(m->engine->counters.declined, 0);
	assert_int_equal(taken_of(m, 257, 1, 0), 257);
	assert_int_equal(taken_of(m, 64, 1, 0), 0);
	mock_free(m);

	/* A trace that meets no exit is a quarter of a thing. */
	m = begin(true);
	expect_quarter_of_a_thing(m, &m->engine->counters.traces_failed);
	mock_free(m);

	m = begin(true);
	assert_int_equal(taken_of(m, 256 * 16 + 1, 1, 15), 256 * 16 + 1);
	assert_int_equal(taken_of(m, 64, 1, 15), 0);
	mock_free(m);
}

/* Exits that the engine would decline are declined at once, and no more. */
static void test_pass(void **state)
{
	struct mock *m = begin(true);

	(void)state;
	assert_int_equal(taken_of(m, 257, 1, 0), 257);
	assert_int_equal(nx_engine_pass(m->engine, PC, 10), 0);
	assert_int_equal(taken_of(m, 1, 1, 0), 0);
	assert_int_equal(nx_engine_pass(m->engine, PC, 40), 40);
	assert_int_equal(nx_engine_pass(m->engine, PC + 1, 40), 0);
	assert_int_equal(taken_of(m, 23, 1, 0), 0);
	assert_int_equal(nx_engine_pass(m->engine, PC, 40), 0);
	assert_int_equal(taken_of(m, 1, 1, 0), 1);
	assert_int_equal(m->engine->counters.declined, 64);
	mock_free(m);
}

static void test_off(void **state)
{
	struct mock *m = begin(false);

	(void)state;
	assert_int_equal(taken_of(m, 1000, 2, 0), 1000);
	mock_free(m);

	/* With measured costs it is they that decide. */
	m = begin(true);
	nx_engine_set_costs(m->engine, &(struct nx_costs){.exit = {5000, 5000}, .resume = 100});
	assert_int_equal(taken_of(m, 1000, 2, 0), 1000);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_waste_is_left_alone),
	    cmocka_unit_test(test_stays_for_nothing),
	    cmocka_unit_test(test_exits_earn),
	    cmocka_unit_test(test_pass),
	    cmocka_unit_test(test_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
