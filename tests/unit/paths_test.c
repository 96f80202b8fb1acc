// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* paths.c: what is remembered of branches, for how long, and how calls are told apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"

static struct nx_paths paths;

static int reset(void **state)
{
	(void)state;
	memset(&paths, 0, sizeof(paths));
	return 0;
}

static uint64_t name(uint64_t rip)
{
	return nx_path_name(rip, 0, 0);
}

static void test_targets(void **state)
{
	uint64_t to[NX_MAX_TARGETS + 1];

	(void)state;
	assert_int_equal(nx_paths_targets(&paths, name(0x1000), to), 0);
	assert_false(nx_paths_seen(&paths, name(0x1000), 0x2000));
	for (unsigned i = 0; i < NX_MAX_TARGETS; i++) {
		nx_paths_note(&paths, name(0x1000), 0x2000 + i);
		/* Again: it is known, and takes no second place. */
		nx_paths_note(&paths, name(0x1000), 0x2000);
		assert_int_equal(nx_paths_targets(&paths, name(0x1000), to), i + 1);
		assert_int_equal(to[i], 0x2000 + i);
	}
	assert_false(nx_paths_seen(&paths, name(0x1001), 0x2000));
	/* One more: the oldest gives way, the order stays. */
	nx_paths_note(&paths, name(0x1000), 0x3000);
	to[NX_MAX_TARGETS] = 0x5555;
	assert_int_equal(nx_paths_targets(&paths, name(0x1000), to), NX_MAX_TARGETS);
	for (unsigned i = 0; i + 1 < NX_MAX_TARGETS; i++)
		assert_int_equal(to[i], 0x2001 + i);
	assert_int_equal(to[NX_MAX_TARGETS - 1], 0x3000);
	assert_int_equal(to[NX_MAX_TARGETS], 0x5555);
	assert_false(nx_paths_seen(&paths, name(0x1000), 0x2000));
	assert_true(nx_paths_seen(&paths, name(0x1000), 0x3000));
}

/* Far more branches than slots: the newest are known, nothing is mixed up. */
static void test_eviction(void **state)
{
	enum { BRANCHES = NX_PATH_SLOTS * 4 };
	unsigned known = 0;

	(void)state;
	for (unsigned i = 0; i < BRANCHES; i++) {
		uint64_t from = name(0xffffffff81000000 + 5 * i);

		nx_paths_note(&paths, from, i);
		assert_true(nx_paths_seen(&paths, from, i));
	}
	for (unsigned i = 0; i < BRANCHES; i++) {
		uint64_t from = name(0xffffffff81000000 + 5 * i), to[NX_MAX_TARGETS];
		unsigned count = nx_paths_targets(&paths, from, to);

		if (!count)
			continue;
		assert_int_equal(count, 1);
		assert_int_equal(to[0], i);
		known++;
	}
	/* Names are spread well enough to use the table. */
	assert_true(known <= NX_PATH_SLOTS);
	assert_true(known > NX_PATH_SLOTS * 9 / 10);
}

/* A table that is not full forgets nothing that finds a slot among its probes. */
static void test_no_needless_eviction(void **state)
{
	enum { BRANCHES = NX_PATH_SLOTS / 4 };

	(void)state;
	for (unsigned i = 0; i < BRANCHES; i++)
		nx_paths_note(&paths, name(0x401000 + 7 * i), i);
	for (unsigned i = 0; i < BRANCHES; i++)
		assert_true(nx_paths_seen(&paths, name(0x401000 + 7 * i), i));
}

static unsigned leaves_until(uint64_t from, unsigned first)
{
	for (unsigned leaves = 1; leaves < 1000; leaves++)
		if (nx_paths_leave(&paths, from, first))
			return leaves;
	return 0;
}

static unsigned leaves_until_trace(uint64_t from)
{
	return leaves_until(from, 2);
}

static void test_thresholds(void **state)
{
	const uint64_t branch = name(0x1000), other = name(0x2000);

	(void)state;
	for (unsigned traces = 0, want = 2; traces < 6; traces++, want *= 2) {
		assert_int_equal(leaves_until_trace(branch), want);
		/* It stays due until there was a trace. */
		assert_true(nx_paths_leave(&paths, branch, 2));
		nx_paths_traced(&paths, branch, true);
	}
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(leaves_until_trace(branch), 128);
		nx_paths_traced(&paths, branch, true);
	}
	assert_int_equal(leaves_until_trace(other), 2);
	/* The count is kept beside the targets, and does not overflow. */
	nx_paths_note(&paths, branch, 0x1234);
	assert_int_equal(leaves_until_trace(branch), 128);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(nx_paths_leave(&paths, branch, 2));
	assert_true(nx_paths_seen(&paths, branch, 0x1234));
}

/* Without costs a success takes back a failure, and one after the other do not add up. */
static void test_thresholds_without_costs(void **state)
{
	const uint64_t branch = name(0x3000);

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(leaves_until(branch, 0), i ? 4 : 2);
		nx_paths_traced(&paths, branch, true);
	}
	for (unsigned traces = 1, want = 4; traces < 6; traces++, want *= 2) {
		assert_int_equal(leaves_until(branch, 0), want);
		nx_paths_traced(&paths, branch, false);
	}
	for (unsigned want = 128; want > 2; want /= 2) {
		assert_int_equal(leaves_until(branch, 0), want);
		nx_paths_traced(&paths, branch, true);
	}
	assert_int_equal(leaves_until(branch, 0), 4);
}

/* An eager engine follows each side exit as long as none of a branch's leads nowhere. */
static void test_thresholds_eager(void **state)
{
	const uint64_t branch = name(0x4000);

	(void)state;
	paths.eager = true;
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(leaves_until(branch, 0), 1);
		nx_paths_traced(&paths, branch, true);
	}
	for (unsigned traces = 0, want = 1; traces < 6; traces++, want *= 2) {
		assert_int_equal(leaves_until(branch, 0), want);
		nx_paths_traced(&paths, branch, false);
	}
	for (unsigned want = 64; want > 1; want /= 2) {
		assert_int_equal(leaves_until(branch, 0), want);
		nx_paths_traced(&paths, branch, true);
	}
	assert_int_equal(leaves_until(branch, 0), 1);
	/* With costs it does what they say. */
	assert_int_equal(leaves_until(name(0x5000), 2), 2);
	assert_int_equal(leaves_until(name(0x6000), 1), 2);
}

/* A path may be seen and yet lead nowhere lately. */
static void test_leads(void **state)
{
	const uint64_t branch = name(0x9000);

	(void)state;
	assert_false(nx_paths_leads(&paths, branch, 0x5678));
	nx_paths_note(&paths, branch, 0x5678);
	assert_true(nx_paths_leads(&paths, branch, 0x5678));
	assert_false(nx_paths_leads(&paths, branch, 0x5679));
	nx_paths_traced(&paths, branch, false);
	assert_false(nx_paths_leads(&paths, branch, 0x5678));
	assert_true(nx_paths_seen(&paths, branch, 0x5678));
	nx_paths_traced(&paths, branch, true);
	assert_true(nx_paths_leads(&paths, branch, 0x5678));
}

/* A missing page is forgiven once, until the branch leads to an exit again. */
static void test_excuse(void **state)
{
	const uint64_t branch = name(0x9100), other = name(0x9200);

	(void)state;
	assert_true(nx_paths_excuse(&paths, branch));
	assert_false(nx_paths_excuse(&paths, branch));
	assert_true(nx_paths_excuse(&paths, other));
	/* Failures do not bring it back. */
	nx_paths_traced(&paths, branch, false);
	assert_false(nx_paths_excuse(&paths, branch));
	nx_paths_traced(&paths, branch, true);
	assert_true(nx_paths_excuse(&paths, branch));
	assert_false(nx_paths_excuse(&paths, branch));
	nx_paths_fruitful(&paths, branch);
	assert_true(nx_paths_excuse(&paths, branch));
}

static void test_names(void **state)
{
	struct nx_contexts contexts = {.count = 1};
	uint16_t a = nx_context_push(&contexts, 0, 0x1005);
	uint16_t b = nx_context_push(&contexts, 0, 0x2005);
	uint64_t hash_a = nx_context_hash(&contexts, a), hash_b = nx_context_hash(&contexts, b);

	(void)state;
	assert_int_equal(name(0x1000), name(0x1000));
	assert_int_not_equal(name(0x1000), name(0x1001));
	assert_int_not_equal(nx_path_name(0x1000, hash_a, 0), nx_path_name(0x1000, hash_b, 0));
	assert_int_not_equal(nx_path_name(0x1000, hash_a, 0), name(0x1000));
	assert_int_not_equal(nx_path_name(0x1000, hash_a, 0x900),
			     nx_path_name(0x1000, hash_a, 0x910));
	/* A via is no context. */
	assert_int_not_equal(nx_path_name(0x1000, 0x900, 0), nx_path_name(0x1000, 0, 0x900));
	/* 0 means no branch. */
	assert_int_not_equal(name(0), 0);
}

static void test_contexts(void **state)
{
	struct nx_contexts contexts = {.count = 1};
	uint16_t outer = nx_context_push(&contexts, 0, 0x1005);
	uint16_t inner = nx_context_push(&contexts, outer, 0x2005);
	uint16_t alone = nx_context_push(&contexts, 0, 0x2005);

	(void)state;
	assert_true(outer && inner && alone && outer != inner && inner != alone);
	assert_int_equal(contexts.count, 4);
	/* The same call in the same context is the same one. */
	assert_int_equal(nx_context_push(&contexts, 0, 0x1005), outer);
	assert_int_equal(nx_context_push(&contexts, outer, 0x2005), inner);
	assert_int_equal(contexts.count, 4);
	assert_int_equal(nx_context_pop(&contexts, inner), outer);
	assert_int_equal(nx_context_pop(&contexts, outer), 0);
	assert_int_equal(nx_context_pop(&contexts, alone), 0);
	/* Returning from where formation began: whatever is outside. */
	assert_int_equal(nx_context_pop(&contexts, 0), 0);
	assert_int_equal(nx_context_hash(&contexts, 0), 0);
	assert_int_not_equal(nx_context_hash(&contexts, inner), nx_context_hash(&contexts, alone));
	assert_int_equal(contexts.call[inner].back, 0x2005);
}

static void test_contexts_full(void **state)
{
	struct nx_contexts contexts = {.count = 1};
	uint16_t context = 0, last;

	(void)state;
	for (unsigned i = 1; i < NX_MAX_CONTEXTS; i++) {
		last = context;
		context = nx_context_push(&contexts, context, 0x1000 + i);
		assert_int_equal(context, i);
		assert_int_equal(nx_context_pop(&contexts, context), last);
	}
	/* No room: the callee is not told apart from its caller. Known ones are found. */
	assert_int_equal(nx_context_push(&contexts, context, 0x5000), context);
	assert_int_equal(nx_context_push(&contexts, 0, 0x5000), 0);
	assert_int_equal(nx_context_push(&contexts, 0, 0x1001), 1);
	assert_int_equal(contexts.count, NX_MAX_CONTEXTS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_targets, reset),
	    cmocka_unit_test_setup(test_eviction, reset),
	    cmocka_unit_test_setup(test_no_needless_eviction, reset),
	    cmocka_unit_test_setup(test_thresholds, reset),
	    cmocka_unit_test_setup(test_thresholds_without_costs, reset),
	    cmocka_unit_test_setup(test_thresholds_eager, reset),
	    cmocka_unit_test(test_leads),
	    cmocka_unit_test(test_excuse),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_contexts),
	    cmocka_unit_test(test_contexts_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
