/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* cost.c: where the engine takes over, and where it stays out because that does not pay. */
#include "stage.h"

#define PC 0x4000

static struct mock *begin(uint32_t exit_ns, uint32_t takeover_ns)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);

	nx_engine_set_costs(
	    m->engine,
	    &(struct nx_costs){.exit = {exit_ns, exit_ns}, .takeover = takeover_ns, .resume = 100});
	/* The third exit is hot. */
	assert_false(mock_worth_resuming(m, PC, NX_CLASS_IO));
	assert_false(mock_worth_resuming(m, PC, NX_CLASS_IO));
	return m;
}

/* A stay that avoids so many exits; ns: what each resume takes. */
static void stay(struct mock *m, unsigned avoids, unsigned ns)
{
	for (unsigned i = 0; i < avoids; i++) {
		m->engine->accounts.resumes++;
		nx_cost_avoided(m->engine);
		if (m->engine->accounts.timed)
			nx_cost_spent(m->engine, ns);
	}
}

/* An exit at PC, and what its stay avoids if there is one. */
static bool take_exit_of(struct mock *m, unsigned avoids, unsigned ns)
{
	bool taken = mock_worth_resuming(m, PC, NX_CLASS_IO);

	if (taken)
		stay(m, avoids, ns);
	return taken;
}

static bool take_exit(struct mock *m, unsigned avoids)
{
	return take_exit_of(m, avoids, 100);
}

static unsigned taken_of(struct mock *m, unsigned exits, unsigned avoids)
{
	unsigned taken = 0;

	for (unsigned i = 0; i < exits; i++)
		taken += take_exit(m, avoids);
	return taken;
}

static void test_pays(void **state)
{
	struct mock *m = begin(5000, 4000);

	(void)state;
	assert_int_equal(taken_of(m, 1000, 1), 1000);
	assert_int_equal(m->engine->counters.declined, 0);
	mock_free(m);
}

/* Sixteen stays without a gain, then ever more exits are left alone between two trials. */
static void test_does_not_pay(void **state)
{
	struct mock *m = begin(5000, 6000);

	(void)state;
	for (unsigned declined = 64; declined <= 64u << 9; declined *= 2) {
		assert_int_equal(taken_of(m, 16, 1), 16);
		assert_int_equal(taken_of(m, declined, 1), 0);
	}
	assert_int_equal(taken_of(m, 16, 1), 16);
	assert_int_equal(taken_of(m, 64u << 9, 1), 0);
	/* The guest does something else there now: two exits are worth one takeover. */
	assert_int_equal(taken_of(m, 1000, 2), 1000);
	/* And the first loss after that costs no more than the very first one did. */
	assert_in_range(taken_of(m, 64 + 32, 0), 16, 48);
	mock_free(m);
}

/* An exit that is completed by the next one of the same instruction is no stay, and no loss. */
static void test_instruction_that_goes_on(void **state)
{
	struct mock *m = begin(5000, 6000);

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		assert_true(take_exit(m, 0));
		nx_engine_not_resumed(m->engine);
		assert_true(take_exit(m, 2));
	}
	assert_int_equal(m->engine->counters.declined, 0);
	mock_free(m);
}

/* Exits that are declined at once are those that would have been declined one by one. */
static void test_pass(void **state)
{
	struct mock *m = begin(5000, 6000);

	(void)state;
	assert_int_equal(nx_engine_pass(m->engine, PC, 10), 0);
	assert_int_equal(taken_of(m, 16, 1), 16);
	assert_int_equal(taken_of(m, 1, 1), 0);
	assert_int_equal(nx_engine_pass(m->engine, PC, 10), 10);
	assert_int_equal(m->engine->counters.declined, 11);
	assert_int_equal(taken_of(m, 50, 1), 0);
	assert_int_equal(nx_engine_pass(m->engine, PC, 10), 3);
	assert_int_equal(nx_engine_pass(m->engine, PC, 10), 0);
	assert_int_equal(taken_of(m, 16, 1), 16);
	mock_free(m);
}

/* A stay that loses as much as a whole trial may is enough. */
static void test_long_losing_stay(void **state)
{
	struct mock *m = begin(1000, 2000);

	(void)state;
	assert_true(take_exit_of(m, 100, 1400));
	assert_int_equal(taken_of(m, 64, 1), 0);
	assert_int_equal(m->engine->counters.declined, 64);
	assert_true(take_exit(m, 1));
	mock_free(m);
}

static void test_left_alone(void **state)
{
	struct mock *m = begin(5000, 6000);
	struct nx_alone place = {0};

	(void)state;
	assert_int_equal(taken_of(m, 16 + 64, 1), 16);
	for (unsigned i = 0; i < NX_ALONE_PLACES && place.rip != PC; i++)
		nx_engine_alone(m->engine, i, &place);
	assert_int_equal(place.rip, PC);
	assert_int_equal(place.reason, NX_ALONE_DECLINED);
	assert_int_equal(place.times, 2 + 64);
	mock_free(m);
}

/* What the engine itself needs for an exit counts against it. */
static void test_engine_time(void **state)
{
	struct mock *m = begin(5000, 4950);

	(void)state;
	assert_int_equal(taken_of(m, 80, 1), 16);
	mock_free(m);
}

static void test_unknown_or_ignored(void **state)
{
	struct mock *m = begin(0, 0);

	(void)state;
	assert_int_equal(taken_of(m, 1000, 0), 1000);
	mock_free(m);

	m = begin(5000, 6000);
	m->engine->config.experiment.ignore_costs = true;
	assert_int_equal(taken_of(m, 1000, 0), 1000);
	mock_free(m);
}

/* Where resumes take longer than they do elsewhere, that counts, and one disturbed one does not. */
static void test_slow_resumes(void **state)
{
	struct mock *m = begin(5000, 1000);
	unsigned taken = 0;

	(void)state;
	for (unsigned i = 0; i < 80; i++)
		taken += take_exit_of(m, 10, 4950);
	assert_int_equal(taken, 16);
	mock_free(m);

	m = begin(5000, 1000);
	for (unsigned i = 0; i < 400; i++)
		assert_true(take_exit_of(m, 10, i == 100 ? 100000000 : 1000));
	mock_free(m);
}

/* As take_exit_of(), at a port. */
static bool take_port(struct mock *m, uint16_t port, unsigned avoids)
{
	bool taken = nx_engine_worth_resuming(m->engine, PC, NX_CLASS_IO, port, 0);

	if (taken)
		stay(m, avoids, 100);
	return taken;
}

/* An instruction that writes two ports: behind one another exit follows, behind the other none. */
static void test_ports(void **state)
{
	struct mock *m = begin(5000, 6000);
	unsigned pays = 0, loses = 0;

	(void)state;
	for (unsigned i = 0; i < 80; i++) {
		pays += take_port(m, 0x3f8, 2);
		loses += take_port(m, 0x3f9, 1);
	}
	assert_int_equal(pays, 80);
	assert_int_equal(loses, 16);
	mock_free(m);
}

/* Why a place is left alone is told by the port that it was left alone for last. */
static void test_left_alone_by_port(void **state)
{
	struct mock *m = begin(5000, 6000);
	struct nx_alone place = {0};

	(void)state;
	for (unsigned i = 0; i < 32; i++)
		take_port(m, 0x3f9, 1);
	/* Another place has been asked about meanwhile. */
	mock_worth_resuming(m, PC + 1, NX_CLASS_IO);
	for (unsigned i = 0; i < NX_ALONE_PLACES && place.rip != PC; i++)
		nx_engine_alone(m->engine, i, &place);
	assert_int_equal(place.rip, PC);
	assert_int_equal(place.reason, NX_ALONE_DECLINED);
	mock_free(m);
}

/*
 * What is made at first is an investment: stays that make something are no trial. Where each stay
 * makes something again, for no gain, that comes to an end.
 */
static void test_making_is_owed(void **state)
{
	struct mock *m = begin(5000, 1000);
	struct nx_account *account;
	unsigned taken = 0;

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		assert_true(take_exit(m, 0));
		nx_cost_made(m->engine, 1000);
	}
	account = &m->engine->accounts.account[0];
	while (account->name != PC)
		account++;
	assert_int_equal(account->owed, 16000);
	assert_int_equal(account->stays, 0);
	/* A stay that gains 3,900 ns pays as much of it back. */
	assert_true(take_exit(m, 1));
	assert_true(take_exit(m, 1));
	assert_int_equal(account->owed, 16000 - 3900);
	/* More made than gained, by two trials and then no more. */
	for (unsigned i = 0; i < 96; i++) {
		if (!take_exit(m, 1))
			continue;
		taken++;
		nx_cost_made(m->engine, 20000);
	}
	assert_in_range(taken, 16, 32);
	mock_free(m);
}

/* Something more is made only when exits have cost what was made before, unless it has come back.
 */
static void test_owed_is_waited_for(void **state)
{
	struct mock *m = begin(5000, 1000);

	(void)state;
	nx_cost_learn(m->engine, NX_MAKE_INSN, 68, 400000);
	assert_true(take_exit(m, 0));
	nx_cost_made(m->engine, 400000);
	/* 400 us / 3 + 400 us, at 5 us each. */
	for (unsigned i = 1; i < 106; i++) {
		assert_false(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 68));
		mock_worth_resuming(m, PC, NX_CLASS_IO);
	}
	assert_true(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 68));
	mock_free(m);
}

/*
 * A write that the kernel would have queued saves what is left of its exit without the way to the
 * client; an exit in its place costs what the client takes on top.
 */
static void test_queued(void **state)
{
	struct mock *m = begin(5000, 1000);

	(void)state;
	m->engine->costs.client = 3000;
	assert_true(take_exit(m, 0));
	nx_cost_avoided(m->engine);
	assert_int_equal(m->engine->accounts.saved, 5000);
	m->engine->stay.routed = NX_ROUTE_QUEUE;
	nx_cost_avoided(m->engine);
	assert_int_equal(m->engine->accounts.saved, 9000);
	assert_int_equal(m->engine->accounts.lost, 0);
	m->engine->stay.routed = NX_ROUTE_INSTEAD;
	nx_cost_avoided(m->engine);
	assert_int_equal(m->engine->accounts.saved, 13000);
	assert_int_equal(m->engine->accounts.lost, 3000);
	mock_free(m);

	/* So one exit a stay with such a write in front of it may be worth it, or not. */
	for (unsigned client = 3000; client <= 9000; client += 3000) {
		unsigned taken = 0;

		m = begin(5000, 1000);
		m->engine->costs.client = client;
		for (unsigned i = 0; i < 80; i++) {
			m->engine->stay.routed = NX_ROUTE_EXIT;
			if (!take_exit(m, 1))
				continue;
			taken++;
			m->engine->stay.routed = NX_ROUTE_INSTEAD;
			nx_cost_avoided(m->engine);
		}
		assert_int_equal(taken, client < 9000 ? 80 : 16);
		mock_free(m);
	}
}

static void set_costs(struct mock *m, uint32_t exit_ns, uint32_t thousand_ns)
{
	nx_engine_set_costs(m->engine, &(struct nx_costs){.exit = {[NX_CLASS_MMIO] = exit_ns},
							  .thousand = thousand_ns});
}

/* Limits that follow from the cost of an exit. */
static void test_limits(void **state)
{
	struct mock *m = begin(0, 0);

	(void)state;
	assert_int_equal(nx_cost_idle_turns(m->engine), NX_IDLE_TURNS);
	assert_int_equal(nx_cost_max_path(m->engine), m->engine->config.max_path);
	set_costs(m, 40000, 0);
	assert_int_equal(nx_cost_idle_turns(m->engine), 10000);
	assert_int_equal(nx_cost_max_path(m->engine), m->engine->config.max_path);
	set_costs(m, 400, 0);
	assert_int_equal(nx_cost_max_path(m->engine), 200);
	set_costs(m, 4, 0);
	assert_int_equal(nx_cost_max_path(m->engine), m->engine->config.max_gap);
	/* Instructions at a quarter of the time that is taken for granted, and at four times. */
	set_costs(m, 400, 500);
	assert_int_equal(nx_cost_max_path(m->engine), m->engine->config.max_path);
	set_costs(m, 400, 8000);
	assert_int_equal(nx_cost_max_path(m->engine), 50);
	set_costs(m, 400000, 8000);
	assert_int_equal(nx_cost_idle_turns(m->engine), 25000);
	m->engine->config.experiment.ignore_costs = true;
	assert_int_equal(nx_cost_max_path(m->engine), m->engine->config.max_path);
	mock_free(m);
}

/* A cluster is formed again when the paths that it lacks have cost as much as it did. */
static void test_outgrown(void **state)
{
	struct mock *m = begin(0, 0);
	const struct nx_costs costs = {.exit = {3000, 1000}, .takeover = 2000};
	struct nx_cluster cluster = {.made_ns = 100000};
	unsigned leaves;

	(void)state;
	/* Nothing measured: at once. */
	assert_true(nx_cost_outgrown(m->engine, &cluster));
	assert_int_equal(cluster.side_exit_cost_ns, 0);
	/* A leave loses 5 us. */
	nx_engine_set_costs(m->engine, &costs);
	for (leaves = 1; !nx_cost_outgrown(m->engine, &cluster); leaves++)
		;
	assert_int_equal(leaves, 7);
	/* Twice as long when it was for nothing. */
	cluster.side_exit_cost_ns = 0;
	cluster.reform_failures = 1;
	for (leaves = 1; !nx_cost_outgrown(m->engine, &cluster); leaves++)
		;
	assert_int_equal(leaves, 14);
	/* Without costs side exits are counted: of a small one the first will do, unless that was
	 * for nothing. */
	m->engine->config.experiment.ignore_costs = true;
	cluster.side_exits = cluster.reform_failures = 0;
	assert_true(nx_cost_outgrown(m->engine, &cluster));
	cluster.side_exits = 0;
	cluster.reform_failures = 3;
	for (leaves = 1; !nx_cost_outgrown(m->engine, &cluster); leaves++)
		;
	assert_int_equal(leaves, 8);
	/* A large one takes more of them. */
	for (unsigned kib = 1; kib <= 64; kib *= 4) {
		cluster = (struct nx_cluster){.code_size = kib * 1024};
		for (leaves = 1; !nx_cost_outgrown(m->engine, &cluster); leaves++)
			;
		assert_int_equal(leaves, 1 + 2 * kib);
	}
	mock_free(m);
}

/* Of the predecessors' constants, those that show at once. */
static void test_predecessors(void **state)
{
	struct nx_config config;
	struct nx_tracker *tracker;
	struct mock *m = begin(0, 0);
	unsigned exits = 0;

	(void)state;
	nx_config_default(&config);
	nx_config_limits(&config, NX_LIMITS_PAPER);
	assert_int_equal(config.level, NX_LEVEL_LOOPS);
	assert_int_equal(config.max_gap, 16);
	assert_int_equal(config.max_gap_accesses, 4);

	nx_config_default(&config);
	nx_config_limits(&config, NX_LIMITS_VBOX);
	assert_int_equal(config.max_path, 24);
	assert_int_equal(config.experiment.max_stay, 8192);
	tracker = &m->engine->tracker;
	tracker->skip_first = config.experiment.skip_first;
	tracker->give_up = config.experiment.give_up;
	while (nx_tracker_note(tracker, 0x5000, NULL, 0, NX_TRACK_IO, 0) == NX_TRACK_COLD)
		exits++;
	assert_int_equal(exits + 1, 256);
	nx_tracker_barren(tracker, 0x5000, NULL, 0);
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(nx_tracker_note(tracker, 0x5000, NULL, 0, NX_TRACK_IO, 0),
				 NX_TRACK_COLD);
	mock_free(m);
}

/* A cluster of 68 instructions took a hundred times so long: each has its share of the rest. */
static void learn_insns(struct mock *m, uint64_t ns)
{
	nx_cost_learn(m->engine, NX_MAKE_INSN, 68, ns * 100);
}

/* The next of its exits is worth a look after it has been left to the hardware so many times. */
static void wait_for(struct mock *m, unsigned exits)
{
	uint64_t before = m->engine->counters.waited;

	for (unsigned i = 1; i <= exits; i++) {
		assert_false(mock_worth_resuming(m, PC, NX_CLASS_IO));
		assert_int_equal(m->engine->counters.waited, before + i);
	}
	assert_true(mock_worth_resuming(m, PC, NX_CLASS_IO));
}

/* Of what takes 100 us, at exits of 5 us: after 100 / 5 / 3 of them, rounded down. */
static void test_ripe(void **state)
{
	struct mock *m = begin(5000, 4000);

	(void)state;
	/* Nothing is known of how long it takes: at once. */
	assert_true(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 68));
	learn_insns(m, 1000);
	assert_int_equal(m->engine->counters.waited, 0);
	assert_true(mock_worth_resuming(m, PC, NX_CLASS_IO));
	assert_false(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 68));
	wait_for(m, 4);
	assert_true(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 68));
	/* The next one has to be earned again; a larger one takes longer. */
	assert_false(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 108));
	wait_for(m, 8);
	assert_true(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 108));
	/* Another exit has its own account. */
	assert_false(nx_cost_ripe(m->engine, PC + 16, NX_MAKE_INSN, 68));
	m->engine->config.experiment.ignore_costs = true;
	assert_true(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 1000000));
	mock_free(m);
}

/* Who waits because of a first measurement that was far off does not wait for that many exits. */
static void test_estimate_comes_down(void **state)
{
	struct mock *m = begin(5000, 4000);
	unsigned exits = 0;

	(void)state;
	nx_cost_learn(m->engine, NX_MAKE_INSN, 3, 35 * 1000000);
	assert_false(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 200));
	for (; !mock_worth_resuming(m, PC, NX_CLASS_IO); exits++)
		if (exits > 100)
			learn_insns(m, 1000);
	assert_in_range(exits, 101, 150);
	/* However dear it is, it is not put off for ever. */
	m->engine->accounts.making_ns[NX_MAKE_INSN] = 1u << 30;
	assert_false(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 200));
	for (exits = 0; exits < 65536 && !mock_worth_resuming(m, PC, NX_CLASS_IO); exits++)
		;
	assert_in_range(exits, 60000, 65535);
	assert_true(nx_cost_ripe(m->engine, PC, NX_MAKE_INSN, 200));
	mock_free(m);
}

/* Paths: how many leaves earn a trace, and whether a known one is worth following. */
static void test_paths(void **state)
{
	struct mock *m = begin(3000, 2000);

	(void)state;
	assert_int_equal(nx_cost_first_leaves(m->engine), 0);
	assert_true(nx_cost_follow(m->engine));
	nx_cost_learn(m->engine, NX_MAKE_TRACE, 1, 400000);
	assert_int_equal(nx_cost_first_leaves(m->engine), 26);
	nx_cost_learn(m->engine, NX_MAKE_STEPS, 1, 4999);
	assert_true(nx_cost_follow(m->engine));
	for (unsigned i = 0; i < 20; i++)
		nx_cost_learn(m->engine, NX_MAKE_STEPS, 1, 8000);
	assert_false(nx_cost_follow(m->engine));
	/* However long a trace took, some leaves are enough. */
	for (unsigned i = 0; i < 100; i++)
		nx_cost_learn(m->engine, NX_MAKE_TRACE, 1, 1u << 30);
	assert_in_range(nx_cost_first_leaves(m->engine), 20, 100);
	m->engine->config.experiment.ignore_costs = true;
	assert_int_equal(nx_cost_first_leaves(m->engine), 0);
	assert_true(nx_cost_follow(m->engine));
	mock_free(m);
}

/* One measurement that a scheduler came into spoils nothing. */
static void test_learn(void **state)
{
	struct mock *m = begin(3000, 2000);

	(void)state;
	for (unsigned i = 0; i < 50; i++)
		learn_insns(m, 1000);
	assert_in_range(m->engine->accounts.making_ns[NX_MAKE_INSN], 850, 1150);
	learn_insns(m, 1u << 30);
	assert_in_range(m->engine->accounts.making_ns[NX_MAKE_INSN], 850, 1300);
	for (unsigned i = 0; i < 100; i++)
		learn_insns(m, 100);
	assert_in_range(m->engine->accounts.making_ns[NX_MAKE_INSN], 85, 115);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pays),
	    cmocka_unit_test(test_does_not_pay),
	    cmocka_unit_test(test_instruction_that_goes_on),
	    cmocka_unit_test(test_pass),
	    cmocka_unit_test(test_long_losing_stay),
	    cmocka_unit_test(test_left_alone),
	    cmocka_unit_test(test_engine_time),
	    cmocka_unit_test(test_unknown_or_ignored),
	    cmocka_unit_test(test_slow_resumes),
	    cmocka_unit_test(test_ports),
	    cmocka_unit_test(test_left_alone_by_port),
	    cmocka_unit_test(test_making_is_owed),
	    cmocka_unit_test(test_owed_is_waited_for),
	    cmocka_unit_test(test_queued),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_outgrown),
	    cmocka_unit_test(test_ripe),
	    cmocka_unit_test(test_estimate_comes_down),
	    cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_learn),
	    cmocka_unit_test(test_predecessors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
