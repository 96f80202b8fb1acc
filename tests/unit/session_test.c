/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * session_test.c - a host that lends guest memory by session, and may refuse one at any time.
 *
 * That nothing is touched outside a session needs no assertion here: the memory is not mapped then
 * (tests/mock/sessions.c). tests/clusters runs all of its guest code with such a host, too.
 */
#include "stage.h"

GUEST(loads, 32, "in al, dx",
      "mov ecx, [esi]; out dx, al; inc ecx; mov [esi+4], ecx; in al, dx; add [esi+8], eax;"
      "out dx, al",
      "hlt");
GUEST(calls, 32, "in al, dx", "call 1f; out dx, al; jmp 2f; 1: inc dword ptr [esi]; ret; 2: nop",
      "hlt");
GUEST(input, 32, "in al, dx", "rep insb", "hlt");

static struct mock *new_mock(enum nx_level level)
{
	struct mock *m = mock_new(MOCK_PAE32, 0, level);

	mock_use_sessions(m);
	m->start.gpr[NX_RDX] = 0x3f8;
	m->start.gpr[NX_RSI] = MOCK_DATA;
	return m;
}

static void no_session_is_open(struct mock *m, unsigned number)
{
	(void)number;
	assert_null(m->window);
	assert_false(m->engine->guest.in_session);
}

/* An exit is the host's time: guest memory has been given back. */
static void exits_lie_outside(void **state)
{
	struct mock *m = new_mock(NX_LEVEL_LOOPS);

	(void)state;
	MOCK_LOAD(m, loads);
	m->on_exit = no_session_is_open;
	mock_warm(m);
	assert_int_equal(m->exits, 3);
	assert_true(m->sessions > 4);
	mock_check_ended(m);
	mock_free(m);
}

static void (*map_page)(void *data, uint64_t gpa, struct nx_page *page);
static unsigned asked;

static void count_page(void *data, uint64_t gpa, struct nx_page *page)
{
	asked++;
	map_page(data, gpa, page);
}

/* What the host says of a page is asked for again when it may hold no more, and only then. */
static void kept_pages_are_not_asked_for(void **state)
{
	struct mock *m = new_mock(NX_LEVEL_LOOPS);
	unsigned kept;

	(void)state;
	MOCK_LOAD(m, loads);
	mock_warm(m);
	map_page = m->host.map_page;
	m->host.map_page = count_page;
	m->sessions = asked = 0;
	mock_run(m);
	assert_int_equal(m->exits, 3);
	kept = asked;
	assert_true(kept > 0);
	m->fresh_sessions = true;
	m->sessions = asked = 0;
	mock_run(m);
	assert_int_equal(m->exits, 3);
	assert_true(asked > kept);
	mock_free(m);
}

/* Whichever session is refused, the guest stands at a boundary, with what came before it done. */
static void any_may_be_refused(void **state)
{
	struct mock_access log[3];
	unsigned needed, refused;
	struct mock *m = new_mock(NX_LEVEL_LOOPS);

	(void)state;
	MOCK_LOAD(m, loads);
	mock_warm(m);
	memcpy(log, m->log, sizeof(log));
	m->sessions = 0;
	mock_run(m);
	needed = m->sessions;
	assert_true(needed >= 3);
	for (refused = 1; refused <= needed; refused++) {
		m->sessions = 0;
		m->refuse_session = refused;
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_SESSION);
		assert_int_equal(m->exits, refused - 1);
		mock_check_log(m, log, m->exits);
		/* The cluster is entered where it would have been. */
		if (refused == 1)
			mock_check(m);
	}
	m->refuse_session = 0;
	mock_run(m);
	mock_check_log(m, log, 3);
	mock_free(m);
}

/* Formation goes on with the step that was refused, and the exit is not written off. */
static void formation_goes_on(void **state)
{
	struct mock *m = new_mock(NX_LEVEL_LOOPS);
	const struct nx_counters *counters = nx_engine_counters(m->engine);

	(void)state;
	MOCK_LOAD(m, loads);
	m->refuse_sessions = true;
	for (unsigned i = 0; i < 12; i++) {
		mock_run(m);
		assert_true(m->reason == NX_LEAVE_SESSION || m->reason == NX_LEAVE_COLD);
		mock_check(m);
	}
	assert_int_equal(m->reason, NX_LEAVE_SESSION);
	assert_int_equal(counters->paused, 10);
	assert_int_equal(counters->formed, 0);
	m->refuse_sessions = false;
	mock_run(m);
	assert_int_equal(counters->formed, 1);
	assert_int_equal(m->exits, 3);
	mock_free(m);
}

/* A trace that was refused is no trace that found nothing: the next exit is taken over, too. */
static void traces_are_not_blamed(void **state)
{
	struct mock *m = new_mock(NX_LEVEL_PATHS);

	(void)state;
	MOCK_LOAD(m, calls);
	for (unsigned refused = 1; refused < 40; refused++) {
		m->sessions = 0;
		m->refuse_session = refused;
		mock_run(m);
		if (refused > 2)
			assert_true(m->exits || m->reason == NX_LEAVE_SESSION);
	}
	m->refuse_session = 0;
	mock_warm(m);
	assert_int_equal(m->exits, 1);

	mock_free(m);
}

/* The answer of INS waits for a session, and is stored once. */
static void input_waits(void **state)
{
	struct mock *m = new_mock(NX_LEVEL_LOOPS);
	struct nx_exit exit = {.data = 0};

	(void)state;
	MOCK_LOAD(m, input);
	m->start.gpr[NX_RCX] = 4;
	m->start.gpr[NX_RDI] = MOCK_DATA;
	mock_warm(m);
	*nx_engine_state(m->engine) = m->start;
	assert_true(mock_worth_resuming(m, m->code_rip, NX_CLASS_IO));
	assert_int_equal(nx_engine_resume(m->engine, &exit), NX_EXIT);
	assert_int_equal(exit.count, 4);
	memcpy(exit.string, "read", 4);
	m->refuse_sessions = true;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(nx_engine_complete_exit(m->engine, &exit), NX_COMPLETION_REFUSED);
		assert_int_equal(nx_engine_resume(m->engine, &exit), NX_REFUSED);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 4);
		assert_memory_not_equal(m->ram + MOCK_DATA, "read", 4);
	}
	m->refuse_sessions = false;
	assert_int_equal(nx_engine_complete_exit(m->engine, &exit), NX_COMPLETION_DONE);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 0);
	assert_memory_equal(m->ram + MOCK_DATA, "read", 4);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(exits_lie_outside),     cmocka_unit_test(kept_pages_are_not_asked_for),
	    cmocka_unit_test(any_may_be_refused),    cmocka_unit_test(formation_goes_on),
	    cmocka_unit_test(traces_are_not_blamed), cmocka_unit_test(input_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
