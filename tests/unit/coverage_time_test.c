// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Time: what bounds a stay and the building in it, and how the tracker behaves over time when a
 * guest never executes the same code again.
 */
#include <stdio.h>
#include <stdlib.h>

#include "mock.h"

#define MAX_STAY 16u
#define TURN 3u /* instructions of the loops below */

/* Two polling loops whose device is never ready. */
GUEST(polls, 32, "in al, dx", "test al, 8; jz polls; 1: in al, dx; test al, 8; jnz 1b", "ret");

static struct mock *new_poll(uint32_t max_stay)
{
	struct nx_config config;
	struct mock *m;

	nx_config_default(&config);
	config.experiment.max_stay = max_stay;
	m = mock_new_config(MOCK_FLAT32, 0, &config);
	MOCK_LOAD(m, polls);
	m->start.gpr[NX_RDX] = 0x3da;
	m->start.gpr[NX_RAX] = 0;
	memset(m->input, 0, sizeof(m->input));
	/* Warmed up with a device that is ready soon. */
	m->input[1] = 8;
	mock_warm(m);
	m->input[1] = 0;
	return m;
}

static void stop_in_the_end(struct mock *m, unsigned number)
{
	(void)number;
	if (m->exits == MOCK_LOG - 1)
		*nx_engine_stop_flag(m->engine) = 1;
}

static void bound_by_instructions(void **state)
{
	struct mock *m = new_poll(MAX_STAY);

	(void)state;
	m->on_exit = stop_in_the_end;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_LATENCY);
	assert_int_equal(m->exits, MAX_STAY / TURN + 1);
	/* Left between two instructions: the input has arrived, the loop has not turned. */
	m->want.gpr[NX_RAX] = 0;
	m->want.rip = m->resume_rip;
	m->want.rflags = nx_engine_state(m->engine)->rflags;
	mock_check(m);
	mock_free(m);
	/* There is no bound. */
	m = new_poll(0);
	m->on_exit = stop_in_the_end;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_STOP);
	mock_free(m);
}

static bool always(void *data)
{
	(void)data;
	return true;
}

/* A host whose time is up interrupts building only: what has been built runs on. */
static void time_is_up_for_building_only(void **state)
{
	struct mock *m = new_poll(0);

	(void)state;
	m->on_exit = stop_in_the_end;
	m->host.time_is_up = always;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_STOP);
	assert_int_equal(m->exits, MOCK_LOG - 1);
	mock_free(m);
}

/* However short the bound is, each stay runs up to its first exit. */
static void each_stay_makes_progress(void **state)
{
	struct mock *m = new_poll(1);

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_LATENCY);
		assert_int_equal(m->exits, 1);
	}
	mock_free(m);
}

/* The host completes the exits itself before it resumes: the same stay all the same. */
static void completed_exits_do_not_begin_a_stay(void **state)
{
	struct mock *m = new_poll(MAX_STAY);
	struct nx_exit exit = {.size = 0};
	unsigned exits = 0;

	(void)state;
	*nx_engine_state(m->engine) = m->start;
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	assert_true(mock_worth_resuming(m, m->code_rip, NX_CLASS_IO));
	while (nx_engine_resume(m->engine, &exit) == NX_EXIT && ++exits < 1000) {
		exit.data = 0;
		assert_int_equal(nx_engine_complete_exit(m->engine, &exit), NX_COMPLETION_DONE);
	}
	assert_int_equal(exit.reason, NX_LEAVE_LATENCY);
	assert_int_equal(exits, MAX_STAY / TURN + 1);
	mock_free(m);
}

/* A trace: the first time that a path leads too far for formation to see an exit. */

GUEST(far_away, 64, "in al, dx", ".rept 24; jc 1f; 1:; .endr; out dx, al", "ret");

/* Building may go on for so many steps. */
static unsigned steps_left;

static bool few_steps(void *data)
{
	(void)data;
	return steps_left-- == 0;
}

static void traces_are_bounded(void **state)
{
	struct mock *m;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);
		MOCK_LOAD(m, far_away);
		m->host.time_is_up = few_steps;
		/* The host is asked before each of the 25 blocks but the first. */
		do {
			steps_left = i ? 10 : 60;
			mock_run(m);
		} while (m->reason == NX_LEAVE_COLD && !m->exits);
		if (i) {
			assert_int_equal(m->exits, 0);
			assert_int_equal(m->reason, NX_LEAVE_LATENCY);
			assert_true(nx_engine_state(m->engine)->rip > m->resume_rip);
		} else {
			assert_int_equal(m->exits, 1);
		}
		assert_int_equal(nx_engine_counters(m->engine)->traces, 1);
		mock_free(m);
	}
}

GUEST(long_strings, 64, "in al, dx",
      "mov rcx, rbx; rep stosb; mov rcx, r8; rep lodsb; out 0x80, al", "ret");

/* All string instructions of a resume share one bound. */
static void strings_are_bounded(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);

	(void)state;
	MOCK_LOAD(m, long_strings);
	m->start.gpr[NX_RSI] = m->start.gpr[NX_RDI] = MOCK_DATA;
	m->start.gpr[NX_RBX] = 1000;
	m->start.gpr[NX_R8] = 3096;
	mock_warm(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	m->start.gpr[NX_R8] = 3099;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_LATENCY);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 3);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RSI], MOCK_DATA + 3096);
	mock_free(m);
}

/* ---- What the tracker has forgotten, and the cache has not ---- */

static void forgotten_by_the_tracker(void **state)
{
	struct mock *m = mock_new(MOCK_FLAT32, 0, NX_LEVEL_LOOPS);
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	uint64_t translated;

	(void)state;
	MOCK_LOAD(m, polls);
	m->start.gpr[NX_RDX] = 0x3da;
	m->input[1] = 8;
	mock_warm(m);
	translated = counters->translated;
	/* Exits elsewhere push its entry out; then they are old, and nothing leaks any more. */
	for (uint64_t rip = 0; rip < 40000; rip++)
		mock_worth_resuming(m, 0x10000000 + rip * 64, NX_CLASS_IO);
	m->time += 20000000000u;
	assert_false(mock_worth_resuming(m, 0x20000000, NX_CLASS_IO));
	mock_run(m);
	assert_true(m->exits > 0);
	assert_int_equal(counters->translated, translated);
	mock_free(m);
}

/* ---- A guest that is somewhere else after each reboot ---- */

#define SITES 300u
#define REBOOTS 60u
#define REBOOT_NS 200000000u
#define AREA 0x40000u
#define AREA_SIZE 0x80000u

static uint64_t random_state;

static uint32_t next_random(void)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(random_state >> 33);
}

/* One execution of the site at gpa; true: its second exit was avoided. */
static bool execute(struct mock *m, uint32_t gpa)
{
	struct nx_exit exit = {.size = 0};
	bool avoided = false;

	*nx_engine_state(m->engine) = m->start;
	nx_engine_state(m->engine)->rip = gpa + 1;
	if (!mock_worth_resuming(m, gpa, NX_CLASS_IO))
		return false;
	while (nx_engine_resume(m->engine, &exit) == NX_EXIT)
		avoided = true;
	return avoided;
}

static void leaks_force_translation(void **state)
{
	static const uint8_t code[] = {0xee, 0xe6, 0x80, 0xc3}; /* out dx, al; out 0x80, al; ret */
	struct nx_config config;
	const struct nx_counters *counters;
	unsigned avoided_late = 0;
	uint64_t passed = 0;
	struct mock *m;

	(void)state;
	nx_config_default(&config);
	config.level = NX_LEVEL_LOOPS;
	m = mock_new_config(MOCK_FLAT32, 0, &config);
	MOCK_LOAD(m, polls);
	m->start.gpr[NX_RDX] = 0x3f8;
	counters = nx_engine_counters(m->engine);
	for (unsigned boot = 0; boot < REBOOTS; boot++) {
		for (unsigned site = 0; site < SITES; site++) {
			uint32_t gpa = AREA + next_random() % (AREA_SIZE - 16);

			memcpy(m->ram + gpa, code, sizeof(code));
			/* Twice, never the third time that would do without a leak. */
			for (unsigned i = 0; i < 2; i++) {
				bool avoided = execute(m, gpa);

				passed += !avoided;
				avoided_late += avoided && boot >= REBOOTS / 2;
			}
			memset(m->ram + gpa, 0xcc, sizeof(code));
		}
		m->time += REBOOT_NS;
		/* No leak yet: nothing is translated that was seen twice. */
		if (boot < 3)
			assert_int_equal(counters->forced, 0);
	}
	assert_true(counters->forced > 1000);
	assert_true(counters->translated >= counters->forced);
	printf("%llu forced translations, %llu exits passed over of %u\n",
	       (unsigned long long)counters->forced, (unsigned long long)passed,
	       REBOOTS * SITES * 2);
	/* In the second half the table is full of young entries: all but a few are translated. */
	assert_true(avoided_late > REBOOTS / 2 * SITES * 2 * 9 / 10);
	/* The paper's bound on what is passed over: 820 a second, and what fills the table. */
	assert_true(passed <= 820u * REBOOTS / 5 + 2 * 4096);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(bound_by_instructions),
	    cmocka_unit_test(time_is_up_for_building_only),
	    cmocka_unit_test(each_stay_makes_progress),
	    cmocka_unit_test(completed_exits_do_not_begin_a_stay),
	    cmocka_unit_test(traces_are_bounded),
	    cmocka_unit_test(strings_are_bounded),
	    cmocka_unit_test(forgotten_by_the_tracker),
	    cmocka_unit_test(leaks_force_translation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
