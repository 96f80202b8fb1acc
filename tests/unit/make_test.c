// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* make.c: what is made in parts, with the guest running in between, is what is made at once. */
#include "stage.h"

#define ELSEWHERE 0x18000u

/* Some 150 instructions, 41 exits, 41 blocks with a conditional branch each. */
GUEST(many, 64, "in al, dx",
      ".rept 40\n out dx, al; inc ecx; test al, al; jnz 1f; add al, 3; 1:\n .endr\n out dx, al",
      "hlt");

/* A constant with the bytes of an endbr64. */
GUEST(landing, 64, "in al, dx", "xor ecx, 0xfa1e0ff3; out dx, al", "hlt");

static bool always(void *data)
{
	(void)data;
	return true;
}

static struct mock *begin(bool (*time_is_up)(void *))
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);

	MOCK_LOAD(m, many);
	mock_poke(m, ELSEWHERE, many_resume, (size_t)(many_stop - many_resume));
	m->host.time_is_up = time_is_up;
	stage_begin(m);
	return m;
}

/* One call; the cluster, or NULL and why. */
static struct nx_cluster *make(struct mock *m, uint64_t rip, enum nx_status *status)
{
	return nx_make_cluster(m->engine, rip, rip, true, status);
}

/* Goes on until there is a cluster; returns it, and the pauses. */
static struct nx_cluster *make_all(struct mock *m, uint64_t rip, unsigned *pauses)
{
	struct nx_cluster *cluster;
	enum nx_status status;

	for (*pauses = 0;; ++*pauses) {
		cluster = make(m, rip, &status);
		if (cluster)
			return cluster;
		assert_int_equal(status, NX_LEAVE_LATENCY);
		assert_true(*pauses < 1000);
	}
}

static void check_same(const struct mock *a, const struct nx_cluster *one, const struct mock *b,
		       const struct nx_cluster *other)
{
	assert_int_equal(one->rip, other->rip);
	assert_int_equal(one->insns, other->insns);
	assert_int_equal(one->entries, other->entries);
	assert_int_equal(one->sites, other->sites);
	assert_int_equal(one->code_size, other->code_size);
	assert_memory_equal((uint8_t *)a->memory.code_rw + one->code,
			    (uint8_t *)b->memory.code_rw + other->code, one->code_size);
	assert_memory_equal(one->site, other->site, one->sites * sizeof(*one->site));
	/* Entries contain padding bytes, whose values are undefined. */
	for (unsigned i = 0; i < one->entries; i++) {
		const struct nx_entry *x = &one->entry[i], *y = &other->entry[i];

		assert_int_equal(x->rip, y->rip);
		assert_int_equal(x->offset, y->offset);
		assert_memory_equal(x->fragments, y->fragments, sizeof(x->fragments));
	}
}

static void test_same_as_at_once(void **state)
{
	struct mock *whole = begin(NULL), *parts = begin(always);
	struct nx_cluster *cluster, *other;
	unsigned pauses;

	(void)state;
	cluster = make_all(whole, whole->start.rip, &pauses);
	assert_int_equal(pauses, 0);
	assert_int_equal(whole->engine->counters.paused, 0);
	other = make_all(parts, parts->start.rip, &pauses);
	/* A step at a time: 16 instructions explored, a block translated, 64 instructions verified.
	 */
	assert_in_range(pauses, 60 / 16, 200 / 16);
	assert_int_equal(parts->engine->counters.paused, pauses);
	assert_int_equal(parts->engine->counters.translated, 1);
	assert_int_equal(parts->engine->counters.formed, 1);
	check_same(whole, cluster, parts, other);
	mock_free(whole);
	mock_free(parts);
}

/* The host learns in which resumes something was built. */
static void test_says_that_it_builds(void **state)
{
	struct mock *m = begin(always);
	struct nx_exit exit = {.size = 0};
	enum nx_outcome outcome = NX_LEAVE;

	(void)state;
	for (unsigned runs = 0; outcome != NX_EXIT; runs++) {
		assert_true(runs < 1000);
		*nx_engine_state(m->engine) = m->start;
		if (!mock_worth_resuming(m, m->code_rip, NX_CLASS_IO))
			continue;
		outcome = nx_engine_resume(m->engine, &exit);
		assert_true(exit.built);
	}
	assert_true(m->engine->counters.paused > 1);
	assert_int_equal(nx_engine_resume(m->engine, &exit), NX_EXIT);
	assert_false(exit.built);
	mock_free(m);
}

/* The guest waits for nothing: each of its exits gets one part made, until the engine takes over.
 */
static void test_guest_goes_on(void **state)
{
	struct mock *m = begin(always);
	unsigned runs = 0;

	(void)state;
	do {
		mock_run(m);
		if (!m->exits)
			mock_check(m);
		assert_true(++runs < 1000);
	} while (!m->exits);
	assert_int_equal(m->exits, 41);
	assert_int_equal(runs, m->engine->counters.paused + 3);
	assert_int_equal(m->engine->counters.barren, 0);
	assert_int_equal(m->engine->counters.leaves[NX_LEAVE_LATENCY], m->engine->counters.paused);
	mock_check_ended(m);
	mock_check_native(m);
	mock_free(m);
}

static bool stop(void *data)
{
	struct mock *m = data;

	*nx_engine_stop_flag(m->engine) = 1;
	return false;
}

/* Whoever wants the vCPU does not wait for a cluster. */
static void test_stop_flag(void **state)
{
	struct mock *m = begin(stop);
	enum nx_status status;

	(void)state;
	m->host.time_is_up = stop;
	/* Asked after some steps; the next one ends with the flag, and so does each from there on.
	 */
	assert_null(make(m, m->start.rip, &status));
	assert_int_equal(status, NX_LEAVE_STOP);
	for (unsigned i = 0; i < 20; i++) {
		assert_null(make(m, m->start.rip, &status));
		assert_int_equal(status, NX_LEAVE_STOP);
		assert_int_not_equal(m->engine->maker.stage, NX_MAKER_IDLE);
	}
	m->host.time_is_up = NULL;
	*nx_engine_stop_flag(m->engine) = 0;
	assert_non_null(make(m, m->start.rip, &status));
	mock_free(m);
}

/* One cluster at a time; but one that nobody comes back for gives way. */
static void test_others_wait(void **state)
{
	struct mock *m = begin(always);
	struct nx_cluster *cluster;
	enum nx_status status;
	unsigned waited, pauses;

	(void)state;
	assert_null(make(m, m->start.rip, &status));
	assert_int_equal(status, NX_LEAVE_LATENCY);
	for (waited = 0; !make(m, ELSEWHERE, &status) && status == NX_LEAVE_COLD; waited++)
		assert_true(waited < 100);
	assert_int_equal(waited, 32);
	assert_int_equal(status, NX_LEAVE_LATENCY);
	/* As long as the new one is gone on with, the old one waits. */
	for (unsigned i = 0; i < 3; i++) {
		assert_null(make(m, m->start.rip, &status));
		assert_int_equal(status, NX_LEAVE_COLD);
		assert_null(make(m, ELSEWHERE, &status));
		assert_int_equal(status, NX_LEAVE_LATENCY);
	}
	cluster = make_all(m, ELSEWHERE, &pauses);
	assert_int_equal(cluster->rip, ELSEWHERE);
	assert_int_equal(make_all(m, m->start.rip, &pauses)->rip, m->start.rip);
	mock_free(m);
}

/* The scratch memory is needed for something else, at every point: then it is begun again. */
static void test_abandoned(void **state)
{
	struct mock *whole = begin(NULL);
	unsigned pauses, all;
	struct nx_cluster *cluster = make_all(whole, whole->start.rip, &pauses);

	(void)state;
	for (unsigned before = 1; before < 5; before++) {
		struct mock *m = begin(always);
		enum nx_status status;

		for (unsigned i = 0; i < before; i++)
			assert_null(make(m, m->start.rip, &status));
		nx_make_abandon(m->engine);
		assert_true(
		    nx_form_block(m->engine, &m->engine->mode, ELSEWHERE, &m->engine->graph));
		assert_non_null(nx_make_block(m->engine, &status));
		assert_int_equal(m->engine->maker.stage, NX_MAKER_IDLE);
		check_same(whole, cluster, m, make_all(m, m->start.rip, &all));
		assert_true(all >= 60 / 16);
		mock_free(m);
	}
	mock_free(whole);
}

/* What was made for a place is proven where it lies. */
static void check_at_its_place(const struct mock *m, const struct nx_cluster *cluster)
{
	const uint8_t *code = (const uint8_t *)m->memory.code_rx + cluster->code;
	struct nx_thunks thunks = m->engine->thunks;
	static struct nx_verify_scratch scratch;
	static struct nx_translation made;
	uint32_t where = 0;

	thunks.code = (uintptr_t)code;
	made.sites = cluster->sites;
	made.entries = cluster->entries;
	memcpy(made.site, cluster->site, cluster->sites * sizeof(made.site[0]));
	memcpy(made.entry, cluster->entry, cluster->entries * sizeof(made.entry[0]));
	assert_int_equal(nx_verify(code, cluster->code_size, &made, &thunks, &scratch, &where),
			 NX_VERIFY_OK);
	/* Of code that is for one place only. */
	thunks.code++;
	if (thunks.branches != NX_BRANCHES_INDIRECT)
		assert_int_not_equal(
		    nx_verify(code, cluster->code_size, &made, &thunks, &scratch, &where),
		    NX_VERIFY_OK);
}

/* The cache has no room behind what is in it: it is flushed, and the code lies at its beginning. */
static void test_full_cache(void **state)
{
	(void)state;
	for (unsigned branches = 0; branches <= NX_BRANCHES_TRACKED; branches++) {
		struct nx_cluster *cluster, *block;
		struct nx_engine *engine;
		enum nx_status status;
		unsigned pauses;
		struct mock *m;

		mock_branches = (enum nx_branches)branches;
		m = begin(always);
		engine = m->engine;
		engine->cache.code_used = engine->cache.code_end - 64;
		cluster = make_all(m, m->start.rip, &pauses);
		assert_int_equal(engine->counters.flushes, 1);
		assert_int_equal(cluster->code, engine->cache.code_begin);
		check_at_its_place(m, cluster);

		engine->blocks.code_used = engine->blocks.code_end - 8;
		nx_make_abandon(engine);
		assert_true(nx_form_block(engine, &engine->mode, ELSEWHERE, &engine->graph));
		block = nx_make_block(engine, &status);
		assert_non_null(block);
		assert_int_equal(block->code, engine->blocks.code_begin);
		check_at_its_place(m, block);

		/* An empty one has no room either. */
		nx_cache_flush(engine, &engine->cache);
		engine->cache.code_end = engine->cache.code_begin + 64;
		while (!make(m, ELSEWHERE, &status) && status == NX_LEAVE_LATENCY)
			;
		assert_int_equal(status, NX_LEAVE_CACHE_FULL);
		mock_free(m);
	}
	mock_branches = NX_BRANCHES_INDIRECT;
}

/* The cache is flushed while something is made for its place. */
static void test_flushed_meanwhile(void **state)
{
	(void)state;
	mock_branches = NX_BRANCHES_TRACKED;
	for (unsigned before = 1; before < 5; before++) {
		struct mock *m = begin(always);
		struct nx_cluster *cluster;
		enum nx_status status;
		unsigned pauses;

		make_all(m, ELSEWHERE, &pauses);
		for (unsigned i = 0; i < before; i++)
			assert_null(make(m, m->start.rip, &status));
		nx_cache_flush(m->engine, &m->engine->cache);
		cluster = make_all(m, m->start.rip, &pauses);
		assert_int_equal(cluster->code, m->engine->cache.code_begin);
		check_at_its_place(m, cluster);
		mock_free(m);
	}
	mock_branches = NX_BRANCHES_INDIRECT;
}

/* Code with a constant that could be entered is not translated where the processor tracks branches.
 */
static void test_landing_in_constant(void **state)
{
	(void)state;
	for (unsigned branches = 0; branches <= NX_BRANCHES_TRACKED; branches++) {
		enum nx_status status = NX_OK;
		struct nx_cluster *cluster;
		struct mock *m;

		mock_branches = (enum nx_branches)branches;
		m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);
		MOCK_LOAD(m, landing);
		stage_begin(m);
		cluster = make(m, m->start.rip, &status);
		assert_int_equal(cluster == NULL, branches == NX_BRANCHES_TRACKED);
		if (!cluster)
			assert_int_equal(status, NX_LEAVE_UNTRANSLATED);
		assert_int_equal(m->engine->counters.refused, 0);
		mock_free(m);
	}
	mock_branches = NX_BRANCHES_INDIRECT;
}

/* Memory that direct branches cannot leave is refused. */
static void test_out_of_reach(void **state)
{
	struct mock *m = begin(NULL);
	const uint64_t far = 1ull << 31, engine = (uintptr_t)nx_engine_create & ~0xfffull;
	const uint64_t size = m->memory.code_size;
	void *mapped = m->memory.code_rx;
	struct nx_config config = m->engine->config;

	(void)state;
	for (unsigned branches = 0; branches <= NX_BRANCHES_TRACKED; branches++) {
		const struct {
			uint64_t at;
			bool reaches;
		} places[] = {
		    {engine - far / 2, true},     {engine + far / 2, true},
		    {engine + far * 2, false},    {engine - far * 2, false},
		    {engine + far * 8, false},    {engine + far - 4096, false},
		    {engine - far - size, false},
		};

		m->memory.branches = (enum nx_branches)branches;
		for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
			m->memory.code_rx = (void *)(uintptr_t)places[i].at;
			memset(m->memory.arena, 0, m->memory.arena_size);
			assert_int_equal(nx_engine_create(&m->memory, &m->host, m, &config) != NULL,
					 places[i].reaches || branches == NX_BRANCHES_INDIRECT);
		}
	}
	m->memory.code_rx = mapped;
	mock_free(m);
}

/* A cluster for another mode of the processor is another cluster. */
static void test_other_mode(void **state)
{
	struct mock *m = begin(always);
	enum nx_status status;

	(void)state;
	assert_null(make(m, m->start.rip, &status));
	m->engine->mode.io_allowed = false;
	m->engine->mode.io_bitmap = true;
	assert_null(make(m, m->start.rip, &status));
	assert_int_equal(status, NX_LEAVE_COLD);
	m->engine->mode.io_allowed = true;
	m->engine->mode.io_bitmap = false;
	assert_null(make(m, m->start.rip, &status));
	assert_int_equal(status, NX_LEAVE_LATENCY);
	mock_free(m);
}

/* The guest changes its code while a cluster of it is made: that is not run. */
static void test_code_changes_meanwhile(void **state)
{
	struct mock *m = begin(always);
	const uint8_t nop = 0x90;
	/* An instruction of one byte, out dx, al: it may run from the first entry. */
	uint32_t first = (uint32_t)m->resume_rip;
	unsigned before = 6;

	(void)state;
	while (before--)
		mock_run(m);
	assert_true(m->engine->counters.paused > 2);
	assert_int_equal(m->start_ram[first], 0xee);
	mock_poke(m, first, &nop, 1);
	for (unsigned runs = 0; m->reason != NX_LEAVE_CODE_CHANGED; runs++) {
		mock_run(m);
		assert_true(runs < 1000);
		assert_int_equal(m->exits, 0);
		mock_check(m);
	}
	do
		mock_run(m);
	while (!m->exits);
	assert_int_equal(m->exits, 40);
	mock_free(m);
}

/* Steps fail as they do at once, and leave nothing behind. */
static void test_failures(void **state)
{
	struct mock *m = begin(always);
	struct nx_cluster *cluster;
	enum nx_status status;

	(void)state;
	m->engine->config.experiment.fail = NX_FAIL_VERIFY;
	while (!(cluster = make(m, m->start.rip, &status)) && status == NX_LEAVE_LATENCY)
		;
	assert_null(cluster);
	assert_int_equal(status, NX_LEAVE_REFUSED);
	assert_int_equal(m->engine->counters.refused, 1);
	assert_int_equal(m->engine->maker.stage, NX_MAKER_IDLE);
	m->engine->config.experiment.fail = NX_FAIL_CACHE;
	while (!(cluster = make(m, m->start.rip, &status)) && status == NX_LEAVE_LATENCY)
		;
	assert_null(cluster);
	assert_int_equal(status, NX_LEAVE_CACHE_FULL);
	assert_int_equal(m->engine->cache.clusters, 0);
	m->engine->config.experiment.fail = 0;
	/* Nothing but memory in reach. */
	assert_null(make(m, MOCK_DATA, &status));
	assert_int_equal(status, NX_LEAVE_NO_CLUSTER);
	mock_free(m);
}

GUEST(winding, 64, "in al, dx",
      "mov ebx, 1; call 1f; inc ebx; call 1f; inc ebx; call 1f; out dx, al",
      "hlt; 1: lea rdi, [rip+3f]; call rdi; ret; 3: inc ecx; ret");

static uint64_t blocks_before;

static bool after_a_block(void *data)
{
	const struct mock *m = data;

	return m->engine->counters.blocks > blocks_before;
}

/* A path to the next exit, followed with one new block each time; it counts as found in the end. */
static void test_path_in_parts(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);
	const struct nx_counters *counters = &m->engine->counters;
	unsigned runs = 0;

	(void)state;
	MOCK_LOAD(m, winding);
	m->host.time_is_up = after_a_block;
	do {
		blocks_before = counters->blocks;
		mock_run(m);
		assert_true(++runs < 100);
	} while (!m->exits);
	assert_true(counters->traces_failed >= 4);
	assert_int_equal(counters->barren, 0);
	assert_int_equal(m->log[0].kind, NX_EXIT_IO);
	/* By then clusters are made of it. */
	m->host.time_is_up = NULL;
	mock_warm(m);
	assert_int_equal(m->exits, 1);
	mock_check_ended(m);
	mock_free(m);
}

static bool late;

static bool when_late(void *data)
{
	(void)data;
	return late;
}

/*
 * The time goes by while nothing is formed, and the trace behind it gets no farther than over a
 * block that is known. That says nothing of the path: the next one begins at once.
 */
static void test_path_after_forming(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);
	struct nx_engine *engine = m->engine;

	(void)state;
	MOCK_LOAD(m, winding);
	m->host.time_is_up = when_late;
	late = true;
	do
		mock_run(m);
	while (!engine->counters.traces);
	assert_int_equal(m->reason, NX_LEAVE_LATENCY);
	assert_int_equal(engine->counters.blocks, 1);
	/* As if the first block had been known before. */
	engine->stay.cut_rip = 0;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_LATENCY);
	assert_int_equal(engine->counters.traces, 2);
	assert_int_equal(engine->counters.blocks, 1);
	assert_int_equal(engine->counters.barren, 0);
	assert_int_equal(engine->stay.cut_rip, m->resume_rip);
	/* With time, it gets to the exit. */
	late = false;
	mock_run(m);
	assert_int_equal(m->exits, 1);
	assert_int_equal(engine->counters.traces, 3);
	assert_int_equal(engine->stay.cut_rip, 0);
	mock_free(m);
}

/* Where a part of a path makes nothing new, the next one would not get farther either. */
static void test_path_without_progress(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);

	(void)state;
	MOCK_LOAD(m, winding);
	m->host.time_is_up = always;
	for (unsigned i = 0; i < 1000; i++)
		mock_run(m);
	assert_in_range(m->engine->counters.barren, 1, 20);
	assert_in_range(m->engine->counters.traces, 2, 20);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_same_as_at_once),
	    cmocka_unit_test(test_says_that_it_builds),
	    cmocka_unit_test(test_guest_goes_on),
	    cmocka_unit_test(test_stop_flag),
	    cmocka_unit_test(test_others_wait),
	    cmocka_unit_test(test_abandoned),
	    cmocka_unit_test(test_full_cache),
	    cmocka_unit_test(test_flushed_meanwhile),
	    cmocka_unit_test(test_landing_in_constant),
	    cmocka_unit_test(test_out_of_reach),
	    cmocka_unit_test(test_other_mode),
	    cmocka_unit_test(test_code_changes_meanwhile),
	    cmocka_unit_test(test_failures),
	    cmocka_unit_test(test_path_in_parts),
	    cmocka_unit_test(test_path_after_forming),
	    cmocka_unit_test(test_path_without_progress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
