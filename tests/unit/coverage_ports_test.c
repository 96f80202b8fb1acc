// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Port accesses above IOPL: the bitmap in the task's segment decides, again at each access. */
#include "mock.h"
#include "x86.h"

#define TSS (MOCK_EXTRA + 0x1000u) /* a page that nothing else uses */
#define BITMAP 0x80u
#define PTE_SUPERVISOR 3u

GUEST(ports64, 64, "in al, dx", "not al; out dx, ax", "ret");
GUEST(ports32, 32, "in al, dx", "not al; out dx, ax", "ret");
GUEST(masked, 64, "in al, dx", "cli; out dx, ax", "ret");

/* User code without IOPL, every port allowed. */
static struct mock *user_guest(enum mock_mode mode)
{
	struct mock *m = mock_new(mode, 3, NX_LEVEL_LOOPS);

	if (mode == MOCK_LONG64)
		MOCK_LOAD(m, ports64);
	else
		MOCK_LOAD(m, ports32);
	m->start.rflags &= ~0x3000ull;
	m->start.tr =
	    (struct nx_segment){.base = TSS, .limit = BITMAP + 0x2001, .type = 11, .present = true};
	m->start.gpr[NX_RDX] = 0x3f8;
	mock_poke(m, TSS + 102, (uint8_t[]){BITMAP, 0}, 2);
	memset(m->start_ram + TSS + BITMAP, 0, 0x2001);
	return m;
}

static void check_refused(struct mock *m, enum nx_status reason)
{
	mock_run(m);
	assert_int_equal(m->reason, reason);
	assert_int_equal(m->exits, 0);
	/* Before the OUT, with the NOT done. */
	assert_true(nx_engine_state(m->engine)->rip > m->resume_rip);
	assert_true(nx_engine_state(m->engine)->rip < m->stop_rip);
}

static void check_allowed(struct mock *m)
{
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
}

static void bitmap_in(enum mock_mode mode)
{
	struct mock *m = user_guest(mode);

	mock_warm(m);
	check_allowed(m);
	/* Each of the two bytes' bits, and those beside them. */
	for (unsigned bit = 0; bit < 16; bit++) {
		mock_poke(m, TSS + BITMAP + 0x3f8 / 8,
			  (uint8_t[]){(uint8_t)(1u << bit), (uint8_t)(1u << bit >> 8)}, 2);
		if (bit < 2)
			check_refused(m, NX_LEAVE_FAULT);
		else
			check_allowed(m);
	}
	/* A port whose bits are in two bytes: the second of its two was not allowed last. */
	mock_poke(m, TSS + BITMAP + 0x3f8 / 8, (uint8_t[]){0, 1}, 2);
	m->start.gpr[NX_RDX] = 0x3ff;
	check_refused(m, NX_LEAVE_FAULT);
	m->start.gpr[NX_RDX] = 0x3fe;
	check_allowed(m);
	mock_free(m);
}

static void bitmap_is_asked(void **state)
{
	(void)state;
	bitmap_in(MOCK_LONG64);
	bitmap_in(MOCK_PAGED32);
}

static void segment_limits(void **state)
{
	struct mock *m = user_guest(MOCK_LONG64);

	(void)state;
	mock_warm(m);
	/* The processor reads two bytes: both must be inside. */
	m->start.tr.limit = BITMAP + 0x3f8 / 8 + 1;
	check_allowed(m);
	m->start.tr.limit--;
	check_refused(m, NX_LEAVE_FAULT);
	m->start.tr.limit = 102;
	check_refused(m, NX_LEAVE_FAULT);
	mock_free(m);
}

static void what_is_no_task(void **state)
{
	struct mock *m = user_guest(MOCK_LONG64);
	struct nx_segment *tr = &m->start.tr;

	(void)state;
	mock_warm(m);
	tr->type = 9;
	check_allowed(m);
	for (unsigned i = 0; i < 4; i++) {
		struct nx_segment good = *tr;

		tr->type = i == 0 ? 3 : 9; /* a 16-bit task has no bitmap */
		tr->present = i != 1;
		tr->unusable = i == 2;
		tr->s = i == 3;
		mock_run(m);
		assert_int_equal(m->exits, 0);
		*tr = good;
	}
	mock_free(m);
}

/* The processor reads the segment for itself: user code need not be able to. */
static void segment_in_supervisor_memory(void **state)
{
	struct mock *m = user_guest(MOCK_LONG64);

	(void)state;
	mock_set_pte(m, TSS, TSS | PTE_SUPERVISOR);
	mock_warm(m);
	m->start.cr4 |= NX_CR4_SMAP;
	check_allowed(m);
	/* With SMAP it must not be a user's page. */
	mock_set_pte(m, TSS, TSS | PTE_SUPERVISOR | 4);
	check_refused(m, NX_LEAVE_PAGE_FAULT);
	m->start.cr4 &= ~NX_CR4_SMAP;
	mock_set_pte(m, TSS, 0);
	check_refused(m, NX_LEAVE_PAGE_FAULT);
	mock_free(m);
}

/* It must not become readable by that: the entry in the TLB would be the user's. */
GUEST(reads_task, 64, "in al, dx", "out dx, ax; mov rbx, [rsi]; out dx, ax", "ret");

static void user_code_cannot_read_it(void **state)
{
	struct mock *m = user_guest(MOCK_LONG64);

	(void)state;
	MOCK_LOAD(m, reads_task);
	m->start.gpr[NX_RSI] = TSS;
	mock_set_pte(m, TSS, TSS | PTE_SUPERVISOR);
	for (unsigned i = 0; i < 8; i++)
		mock_run(m);
	assert_int_equal(m->exits, 1);
	assert_int_equal(m->reason, NX_LEAVE_PAGE_FAULT);
	mock_free(m);
}

/* The bitmap is for IN and OUT alone. */
static void interrupt_flag_needs_iopl(void **state)
{
	struct mock *m = user_guest(MOCK_LONG64);

	(void)state;
	MOCK_LOAD(m, masked);
	for (unsigned i = 0; i < 8; i++)
		mock_run(m);
	assert_int_equal(m->exits, 0);
	assert_int_equal(nx_engine_state(m->engine)->rip, m->resume_rip);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(bitmap_is_asked),
	    cmocka_unit_test(segment_limits),
	    cmocka_unit_test(what_is_no_task),
	    cmocka_unit_test(segment_in_supervisor_memory),
	    cmocka_unit_test(user_code_cannot_read_it),
	    cmocka_unit_test(interrupt_flag_needs_iopl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
