// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The life of an exit: stopped, completed early, forgotten. */
#include "mock.h"

GUEST(loads, 64, "in al, dx",
      "mov ecx, [rsi]; mov r8, [rsi+8]; mov r9w, [rsi+16]; mov al, [rsi+18]; out dx, al", "ret");

static void stop_flag_is_honoured_at_each_exit(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_BRANCHES);

	(void)state;
	MOCK_LOAD(m, loads);
	m->start.gpr[NX_RDX] = 0x1f0;
	m->start.gpr[NX_RSI] = MOCK_DEVICE;
	m->input[0] = 0x11223344;
	mock_warm(m);
	assert_int_equal(m->exits, 5);
	for (unsigned stop = 1; stop <= 5; stop++) {
		m->stop_at = stop;
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_STOP);
		/* The exit under way is completed: input is not lost, output not repeated. */
		assert_int_equal(m->exits, stop);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 0x11223344);
		if (stop == 5)
			assert_int_equal(nx_engine_state(m->engine)->rip, m->stop_rip);
		mock_check_native(m);
	}
	mock_free(m);
}

/* Up to the first exit of the engine, by hand. */
static void first_exit(struct mock *m, struct nx_exit *exit)
{
	MOCK_LOAD(m, loads);
	m->start.gpr[NX_RDX] = 0x1f0;
	m->start.gpr[NX_RSI] = MOCK_DEVICE;
	mock_warm(m);
	*nx_engine_state(m->engine) = m->start;
	assert_true(mock_worth_resuming(m, m->code_rip, NX_CLASS_IO));
	assert_int_equal(nx_engine_resume(m->engine, exit), NX_EXIT);
	assert_int_equal(exit->kind, NX_EXIT_MMIO);
	assert_int_equal(exit->gpa, MOCK_DEVICE);
	assert_int_equal(exit->rip, m->resume_rip);
	/* Until it is completed the guest stands on the instruction. */
	m->want = m->start;
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	mock_check(m);
}

static void exit_completed_without_running(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_BRANCHES);
	struct nx_exit exit;

	(void)state;
	first_exit(m, &exit);
	exit.data = 0xffffffff55667788;
	assert_true(nx_engine_complete_exit(m->engine, &exit));
	m->want.gpr[NX_RCX] = 0x55667788;
	m->want.rip = m->resume_rip + 2;
	mock_check(m);
	assert_false(nx_engine_complete_exit(m->engine, &exit));
	mock_check(m);
	mock_free(m);
}

static void exit_forgotten(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_BRANCHES);
	struct nx_exit exit;

	(void)state;
	first_exit(m, &exit);
	nx_engine_forget_exit(m->engine);
	assert_false(nx_engine_complete_exit(m->engine, &exit));
	mock_check(m);
	/* A state set meanwhile counts: nothing of the old exit is written to it. */
	*nx_engine_state(m->engine) = m->start;
	exit.data = 0x99;
	assert_int_equal(nx_engine_resume(m->engine, &exit), NX_EXIT);
	assert_int_equal(exit.rip, m->resume_rip);
	mock_check(m);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(stop_flag_is_honoured_at_each_exit),
	    cmocka_unit_test(exit_completed_without_running),
	    cmocka_unit_test(exit_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
