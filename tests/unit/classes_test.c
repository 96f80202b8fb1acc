/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * classes_test.c - exits are told apart by class: what the tracker remembers of them, and what the
 * cost model takes them to be worth.
 */
#include "stage.h"

#include "stats.h"

#define CLASSES (NX_EXITS_CPUID | NX_EXITS_VMX | NX_EXITS_MSR)

GUEST(store_before, 64, "cpuid", "mov [rsi], eax; cpuid; nop", "hlt");

/*
 * The hardware's exit at the second CPUID tells its rip, which is the one behind the store. That is
 * no device access by the store.
 */
static void a_store_before_cpuid_is_a_store(void **state)
{
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_DYNAMIC, CLASSES);
	const struct nx_tracker *tracker = &m->engine->tracker;
	struct nx_cluster_info info;

	(void)state;
	MOCK_LOAD(m, store_before);
	m->first_class = NX_CLASS_CPUID;
	m->start.gpr[NX_RSI] = MOCK_DATA;
	for (unsigned i = 0; i < 3; i++)
		mock_worth_resuming(m, m->resume_rip + 2, NX_CLASS_CPUID);
	assert_int_equal(nx_tracker_properties(tracker, m->resume_rip + 2, NULL, 0),
			 1u << NX_EXIT_INSN);
	mock_warm(m);
	mock_cluster(m, m->resume_rip, &info);
	assert_int_equal(info.exiting, 1);
	assert_int_equal(info.instructions, 2);
	assert_int_equal(info.exits_insn, info.exits);
	mock_free(m);
}

/* Of a device-memory exit the same is known, and there it means the store. */
static void a_store_before_a_device_exit_is_one(void **state)
{
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_DYNAMIC, CLASSES);
	struct nx_cluster_info info;

	(void)state;
	MOCK_LOAD(m, store_before);
	m->first_class = NX_CLASS_CPUID;
	m->start.gpr[NX_RSI] = MOCK_DATA;
	for (unsigned i = 0; i < 3; i++)
		mock_worth_resuming(m, m->resume_rip + 2, NX_CLASS_MMIO);
	mock_warm(m);
	mock_cluster(m, m->resume_rip, &info);
	assert_int_equal(info.exiting, 2);
	mock_free(m);
}

GUEST(vmreads, 64, "vmread rax, rcx", "vmread rdx, rcx; vmread rbx, rcx", "hlt");

static enum nx_route say_free(void *data, const struct nx_exit *exit)
{
	(void)data;
	assert_int_equal(exit->insn, NX_INSN_VMREAD);
	return NX_ROUTE_FREE;
}

/* Stays of two exits each, of which class and host say whether they pay. Returns exits left alone.
 */
static uint64_t declined_by(const struct nx_costs *costs,
			    enum nx_route (*route)(void *data, const struct nx_exit *exit))
{
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_LOOPS, CLASSES);
	uint64_t declined;

	m->host.route_insn = route;
	MOCK_LOAD(m, vmreads);
	m->first_class = NX_CLASS_VMCS;
	mock_warm(m);
	assert_int_equal(m->exits, 2);
	assert_int_equal(nx_engine_counters(m->engine)->exits_insn > 0, !route);
	nx_engine_set_costs(m->engine, costs);
	for (unsigned i = 0; i < 60; i++)
		mock_run(m);
	declined = nx_engine_counters(m->engine)->declined;
	mock_free(m);
	return declined;
}

static uint64_t declined(const struct nx_costs *costs)
{
	return declined_by(costs, NULL);
}

static void each_class_has_its_price(void **state)
{
	struct nx_costs costs = {.takeover = 1500, .resume = 200};

	(void)state;
	costs.exit[NX_CLASS_VMCS] = 1300;
	assert_int_equal(declined(&costs), 0);
	/* Dear exits of other classes make cheap ones no dearer. */
	costs.exit[NX_CLASS_VMCS] = 500;
	costs.exit[NX_CLASS_IO] = 5000;
	costs.exit[NX_CLASS_VM_ENTRY] = 9000;
	assert_true(declined(&costs) > 0);
	/* What has not been measured is taken to be like the dearest. */
	costs.exit[NX_CLASS_VMCS] = 0;
	assert_int_equal(declined(&costs), 0);
}

/* What the hardware does without an exit avoids none, however dear those of its class are. */
static void what_is_free_avoids_nothing(void **state)
{
	struct nx_costs costs = {.takeover = 1500, .resume = 200};

	(void)state;
	costs.exit[NX_CLASS_VMCS] = 9000;
	assert_int_equal(declined(&costs), 0);
	assert_true(declined_by(&costs, say_free) > 0);
}

/* A loop without an exit may turn as long as an exit takes, of the kind that the guest met last. */
static void waiting_follows_the_class(void **state)
{
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_PATHS, CLASSES);
	struct nx_costs costs = {.thousand = 500};
	uint32_t dear, cheap;

	(void)state;
	costs.exit[NX_CLASS_IO] = 20000;
	costs.exit[NX_CLASS_CPUID] = 1000;
	nx_engine_set_costs(m->engine, &costs);
	mock_worth_resuming(m, MOCK_CODE, NX_CLASS_IO);
	dear = nx_cost_idle_turns(m->engine);
	mock_worth_resuming(m, MOCK_CODE, NX_CLASS_CPUID);
	cheap = nx_cost_idle_turns(m->engine);
	assert_int_equal(dear, 20000);
	assert_int_equal(cheap, 1000);
	mock_free(m);
}

/* Counting has a place for every class, and none but ports and pages is a place in the lists. */
static void counted_by_class(void **state)
{
	static struct {
		struct nx_stats stats;
		uint64_t behind;
	} counted;
	const struct nx_exit_place *order[NX_STATS_PLACES];
	struct nx_exit exit = {.kind = NX_EXIT_INSN};
	unsigned count = 0;

	(void)state;
#define COUNT(name, bit, class)                  \
	exit.insn = NX_INSN_##name;              \
	nx_stats_avoided(&counted.stats, &exit); \
	count++;
	NX_INSN_EXITS(COUNT)
#undef COUNT
	assert_int_equal(nx_stats_avoided_total(&counted.stats), count);
	assert_int_equal(counted.stats.avoided[NX_CLASS_IO], 0);
	assert_int_equal(counted.stats.avoided[NX_CLASS_MMIO], 0);
	assert_int_equal(counted.stats.avoided[NX_CLASS_CPUID], 1);
	assert_int_equal(counted.stats.avoided[NX_CLASS_MSR], 2);
	assert_int_equal(counted.stats.avoided[NX_CLASS_VM_ENTRY], 3);
	for (unsigned i = 0; i < NX_HOST_LEAVE_COUNT; i++)
		assert_int_equal(counted.stats.leaves[i], 0);
	assert_int_equal(nx_stats_places(&counted.stats, order), 0);
	exit.kind = NX_EXIT_MMIO;
	nx_stats_avoided(&counted.stats, &exit);
	assert_int_equal(nx_stats_places(&counted.stats, order), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_store_before_cpuid_is_a_store),
	    cmocka_unit_test(a_store_before_a_device_exit_is_one),
	    cmocka_unit_test(each_class_has_its_price),
	    cmocka_unit_test(what_is_free_avoids_nothing),
	    cmocka_unit_test(waiting_follows_the_class),
	    cmocka_unit_test(counted_by_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
