/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Interrupt windows: the engine opens and closes them where the host says that no interrupt waits,
 * and nobody is left in a shadow that the host knows nothing of.
 */
#include "mock.h"

#define IF 0x200u
#define UNMAPPED 0x40000000u

GUEST(window, 64, "in al, dx", "sti; nop; cli; out dx, al", "ret");
GUEST(window16, 16, "in al, dx", "sti; nop; cli; out dx, al", "ret");
GUEST(long_window, 64, "in al, dx", "sti; nop; out dx, al; cli; out dx, al", "ret");
GUEST(flags, 64, "in al, dx",
      "pushfq; or qword ptr [rsp], 0x200; popfq; pushfq; and qword ptr [rsp], ~0x200; popfq; "
      "out dx, al",
      "ret");
GUEST(exit_in_shadow, 64, "in al, dx", "sti; out dx, al", "ret");
GUEST(string_in_shadow, 64, "in al, dx", "sti; outsb; out dx, al", "ret");
GUEST(fault_in_shadow, 64, "in al, dx", "sti; mov al, [rbx]; out dx, al", "ret");
GUEST(cli_in_shadow, 64, "in al, dx", "sti; cli; out dx, al", "ret");
GUEST(return_in_shadow, 64, "in al, dx", "call 1f; jmp 2f; 1: sti; ret; 2: nop; out dx, al", "ret");
GUEST(rdmsr_in_shadow, 64, "rdmsr", "sti; rdmsr", "ret");
GUEST(vmrun_in_shadow, 64, "rdmsr", "clgi; sti; vmrun", "ret");
/* ecx turns, of which each but the first comes to the instruction behind STI by the branch. */
GUEST(again, 64, "in al, dx", "sti; 1: nop; dec ecx; jnz 1b; out dx, al", "ret");

static unsigned asked, no_from; /* questions, and that from which on an interrupt waits */

static bool answer(void *data)
{
	(void)data;
	return ++asked < no_from;
}

static struct mock *closed(enum mock_mode mode, bool (*callback)(void *data))
{
	struct mock *m = mock_new(mode, 0, NX_LEVEL_PATHS);

	m->host.no_interrupt_waits = callback;
	return m;
}

#define LOAD_CLOSED(m, name)                        \
	do {                                        \
		MOCK_LOAD(m, name);                 \
		(m)->start.gpr[NX_RDX] = 0x3f8;     \
		(m)->start.gpr[NX_RCX] = 3;         \
		(m)->start.gpr[NX_RBX] = MOCK_DATA; \
		(m)->start.rflags &= ~(uint64_t)IF; \
		asked = 0;                          \
		no_from = 1000000;                  \
		mock_warm(m);                       \
		asked = 0;                          \
	} while (0)

static bool is_open(const struct mock *m)
{
	return nx_engine_state(m->engine)->rflags & IF;
}

static uint64_t rip(const struct mock *m)
{
	return nx_engine_state(m->engine)->rip;
}

static void opened_and_closed(void **state)
{
	static const enum mock_mode modes[] = {MOCK_LONG64, MOCK_REAL16};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct mock *m = closed(modes[i], answer);

		if (i)
			LOAD_CLOSED(m, window16);
		else
			LOAD_CLOSED(m, window);
		mock_run(m);
		mock_check_ended(m);
		assert_int_equal(m->exits, 1);
		assert_int_equal(asked, 1);
		assert_false(is_open(m));
		/* One waits: left before STI. */
		no_from = 1;
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_WINDOW);
		assert_int_equal(m->exits, 0);
		assert_int_equal(rip(m), m->resume_rip);
		assert_false(is_open(m));
		mock_free(m);
	}
}

static void not_without_the_host(void **state)
{
	struct mock *m = closed(MOCK_LONG64, NULL);

	(void)state;
	MOCK_LOAD(m, window);
	m->start.rflags &= ~(uint64_t)IF;
	for (unsigned i = 0; i < 10; i++) {
		mock_run(m);
		assert_int_equal(m->exits, 0);
		assert_int_equal(rip(m), m->resume_rip);
		assert_false(is_open(m));
	}
	mock_free(m);
}

/* An exit takes time: it is asked again before the window closes. */
static void asked_again_after_an_exit(void **state)
{
	struct mock *m = closed(MOCK_LONG64, answer);

	(void)state;
	LOAD_CLOSED(m, long_window);
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 2);
	assert_int_equal(asked, 2);
	asked = 0;
	no_from = 2;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_WINDOW);
	assert_int_equal(m->exits, 1);
	/* Before CLI, with the window open. */
	assert_true(is_open(m));
	assert_true(rip(m) > m->resume_rip && rip(m) < m->stop_rip);
	mock_free(m);
}

static void by_flags(void **state)
{
	struct mock *m = closed(MOCK_LONG64, answer);

	(void)state;
	LOAD_CLOSED(m, flags);
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	assert_int_equal(asked, 1);
	assert_false(is_open(m));
	no_from = 1;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_WINDOW);
	assert_false(is_open(m));
	/* A window that was open as the stay began is one of which nothing is known. */
	m->start.rflags |= IF;
	asked = 0;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_WINDOW);
	assert_int_equal(asked, 1);
	assert_true(is_open(m));
	mock_free(m);
}

/* STI is taken back, so that the processor has the shadow. */
static void check_taken_back(struct mock *m)
{
	mock_run(m);
	assert_int_equal(m->exits, 0);
	assert_false(is_open(m));
	assert_int_equal(m->ram[rip(m)], 0xfb);
	assert_int_not_equal(asked, 0);
	mock_free(m);
}

static void nothing_left_in_the_shadow(void **state)
{
	struct mock *m;

	(void)state;
#define IN_SHADOW(name)                  \
	m = closed(MOCK_LONG64, answer); \
	LOAD_CLOSED(m, name);            \
	m->start.gpr[NX_RBX] = UNMAPPED; \
	check_taken_back(m)
	IN_SHADOW(exit_in_shadow);
	IN_SHADOW(string_in_shadow);
	IN_SHADOW(fault_in_shadow);
	IN_SHADOW(cli_in_shadow);
#undef IN_SHADOW
	/* Interrupts enabled already: neither a question nor a shadow. */
	m = closed(MOCK_LONG64, answer);
	LOAD_CLOSED(m, exit_in_shadow);
	m->start.rflags |= IF;
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	assert_int_equal(asked, 0);
	mock_free(m);
}

/*
 * The shadow of STI ends with VMRUN, which commonly stands in it: it is delivered, with the window
 * open. A host that declines it gets STI back.
 */
static bool declines_vmrun;

static enum nx_route decide(void *data, const struct nx_exit *exit)
{
	(void)data;
	return declines_vmrun && exit->insn == NX_INSN_VMRUN ? NX_ROUTE_LEAVE : NX_ROUTE_EXIT;
}

static void vmrun_is_delivered_in_the_shadow(void **state)
{
	struct mock *m =
	    mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_PATHS, NX_EXITS_MSR | NX_EXITS_SVM);

	(void)state;
	m->host.no_interrupt_waits = answer;
	m->host.route_insn = decide;
	declines_vmrun = false;
	LOAD_CLOSED(m, vmrun_in_shadow);
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 2);
	assert_int_equal(m->log[1].insn, NX_INSN_VMRUN);
	assert_true(is_open(m));
	declines_vmrun = true;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_HOST_ROUTE);
	assert_int_equal(m->exits, 1);
	assert_false(is_open(m));
	assert_int_equal(m->ram[rip(m)], 0xfb);
	mock_free(m);
	/* No other instruction that exits is. */
	m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_PATHS, NX_EXITS_MSR);
	m->host.no_interrupt_waits = answer;
	LOAD_CLOSED(m, rdmsr_in_shadow);
	check_taken_back(m);
}

static void guest_goes_on_from_the_shadow(void **state)
{
	struct mock *m = closed(MOCK_LONG64, answer);

	(void)state;
	LOAD_CLOSED(m, return_in_shadow);
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	assert_true(is_open(m));
	mock_free(m);
	m = closed(MOCK_LONG64, answer);
	LOAD_CLOSED(m, again);
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	assert_true(is_open(m));
	assert_int_equal(asked, 1);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(opened_and_closed),
	    cmocka_unit_test(not_without_the_host),
	    cmocka_unit_test(asked_again_after_an_exit),
	    cmocka_unit_test(by_flags),
	    cmocka_unit_test(nothing_left_in_the_shadow),
	    cmocka_unit_test(vmrun_is_delivered_in_the_shadow),
	    cmocka_unit_test(guest_goes_on_from_the_shadow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
