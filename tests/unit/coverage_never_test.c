// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What must never be clustered, or must leave at the right place, as far as the tests of
 * tests/clusters do not have it: long repetitions, divisions that fault, accesses into a missing
 * page, code whose page is another one.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "mock.h"

#define PTE_ALL 7u
#define BOUND 4096u /* elements of a repetition in one execution: string.c */

/* ---- Repetitions ---- */

GUEST(fills, 64, "in al, dx", "rep stosb; out 0x80, al", "ret");
GUEST(copies, 64, "in al, dx", "rep movsw; out 0x80, al", "ret");
GUEST(scans, 64, "in al, dx", "repne scasb; out 0x80, al", "ret");

static struct mock *new_repetition(const uint8_t *code, const uint8_t *resume, const uint8_t *stop,
				   const uint8_t *end)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);

	mock_load(m, code, resume, stop, end);
	m->start.gpr[NX_RAX] = 0xcd;
	m->start.gpr[NX_RSI] = MOCK_DATA;
	m->start.gpr[NX_RDI] = MOCK_EXTRA;
	m->start.gpr[NX_RCX] = BOUND;
	mock_warm(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 0);
	return m;
}

/* Stands on the instruction with its share done, as if interrupted. */
static void check_interrupted(struct mock *m, uint64_t rest, unsigned source, unsigned destination)
{
	const struct nx_state *state = nx_engine_state(m->engine);

	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_LATENCY);
	assert_int_equal(m->exits, 0);
	assert_int_equal(state->rip, m->resume_rip);
	assert_int_equal(state->gpr[NX_RCX], rest);
	assert_int_equal(state->gpr[NX_RSI], MOCK_DATA + source);
	assert_int_equal(state->gpr[NX_RDI], MOCK_EXTRA + destination);
}

static void long_repetitions(void **state)
{
	struct mock *m = new_repetition(fills, fills_resume, fills_stop, fills_end);

	(void)state;
	m->start.gpr[NX_RCX] = BOUND + 3;
	check_interrupted(m, 3, 0, BOUND);
	for (unsigned i = 0; i < BOUND + 3; i++)
		assert_int_equal(m->ram[MOCK_EXTRA + i],
				 i < BOUND ? 0xcd : m->start_ram[MOCK_EXTRA + i]);
	m->start.gpr[NX_RCX] = 1ull << 40;
	check_interrupted(m, (1ull << 40) - BOUND, 0, BOUND);
	mock_free(m);
}

static void long_copies_and_scans(void **state)
{
	struct mock *m = new_repetition(copies, copies_resume, copies_stop, copies_end);

	(void)state;
	m->start.gpr[NX_RCX] = BOUND + 1;
	check_interrupted(m, 1, 2 * BOUND, 2 * BOUND);
	assert_memory_equal(m->ram + MOCK_EXTRA, m->start_ram + MOCK_DATA, 2 * BOUND);
	mock_free(m);
	m = new_repetition(scans, scans_resume, scans_stop, scans_end);
	m->start.gpr[NX_RCX] = BOUND + 2;
	check_interrupted(m, 2, 0, BOUND);
	mock_free(m);
}

/* ---- Divisions ---- */

#define DIVISIONS(X)                                                         \
	X(div8, "div cl", 0x1234, 0, 0x12)                                   \
	X(div16, "div cx", 0, 5, 5)                                          \
	X(div32, "div ecx", 0, 0x10000, 0x10000)                             \
	X(div64, "div rcx", 0, 3, 3)                                         \
	X(div_zero, "div ecx", 7, 0, 0)                                      \
	X(idiv8, "idiv cl", 0x4080, 0, 0x80)                                 \
	X(idiv16, "idiv cx", 0x8000, 0xffff, 0xffff)                         \
	X(idiv32, "idiv ecx", 0x80000000, 0xffffffff, 0xffffffff)            \
	X(idiv64, "idiv rcx", 0x8000000000000000, 0xffffffffffffffff, ~0ull) \
	X(idiv_zero, "idiv rcx", 7, 0, 0)                                    \
	X(memory, "div qword ptr [rsi]", 1, 1, 0)

#define DEFINE(name, code, ...) \
	GUEST(d_##name, 64, "in al, dx", "inc rbx; " code "; out 0x80, al", "ret");
DIVISIONS(DEFINE)

static const struct {
	const char *name;
	const uint8_t *code, *resume, *stop, *end;
	uint64_t rax, rdx, rcx;
} divisions[] = {
#define ROW(name, code, rax, rdx, rcx) \
	{#name, d_##name, d_##name##_resume, d_##name##_stop, d_##name##_end, rax, rdx, rcx},
    DIVISIONS(ROW)};

static void divisions_that_fault(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(divisions) / sizeof(divisions[0]); i++) {
		struct mock *m = mock_new(MOCK_LONG64, 3, NX_LEVEL_LOOPS);
		const uint64_t zero = 0, one = 1;

		mock_load(m, divisions[i].code, divisions[i].resume, divisions[i].stop,
			  divisions[i].end);
		/* One that does not, so that there is a cluster. */
		m->start.gpr[NX_RAX] = 5;
		m->start.gpr[NX_RDX] = 0;
		m->start.gpr[NX_RCX] = 1;
		m->start.gpr[NX_RSI] = MOCK_DATA;
		mock_poke(m, MOCK_DATA, &one, 8);
		mock_warm(m);
		mock_check_ended(m);
		assert_int_equal(m->exits, 1);
		m->start.gpr[NX_RAX] = divisions[i].rax;
		m->start.gpr[NX_RDX] = divisions[i].rdx;
		m->start.gpr[NX_RCX] = divisions[i].rcx;
		mock_poke(m, MOCK_DATA, &zero, 8);
		mock_run(m);
		if (m->reason != NX_LEAVE_FAULT || m->exits)
			fail_msg("%s: %u exits, left because: %s", divisions[i].name, m->exits,
				 nx_leave_reason_text(m->reason));
		/* In front of it, behind the INC. */
		m->want.gpr[NX_RBX]++;
		m->want.rip = m->resume_rip + 3;
		m->want.rflags = nx_engine_state(m->engine)->rflags;
		mock_check(m);
		mock_free(m);
	}
}

/* ---- Accesses that cross into a missing page ---- */

#define CROSSINGS(X)                              \
	X(load, "mov rcx, [rsi-4]")               \
	X(store, "mov [rsi-4], rcx")              \
	X(modify, "add [rsi-1], ecx")             \
	X(locked, "lock xadd [rsi-2], rcx")       \
	X(pop, "lea rsp, [rsi-4]; pop rcx")       \
	X(push, "lea rsp, [rsi+4]; push rcx")     \
	X(enter, "lea rsp, [rsi+4]; enter 16, 0") \
	X(bits, "bts [rsi-4], rcx")               \
	X(divide, "div qword ptr [rsi-4]")        \
	X(string, "lea rdi, [rsi-4]; stosq")

#define DEFINE_CROSSING(name, code) \
	GUEST(c_##name, 64, "in al, dx", "nop; " code "; out 0x80, al", "ret");
CROSSINGS(DEFINE_CROSSING)

static const struct {
	const char *name;
	const uint8_t *code, *resume, *stop, *end;
} crossings[] = {
#define ROW_CROSSING(name, code) \
	{#name, c_##name, c_##name##_resume, c_##name##_stop, c_##name##_end},
    CROSSINGS(ROW_CROSSING)};

static void into_a_missing_page(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(crossings) / sizeof(crossings[0]); i++) {
		struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);

		mock_load(m, crossings[i].code, crossings[i].resume, crossings[i].stop,
			  crossings[i].end);
		m->start.gpr[NX_RSI] = MOCK_DATA + 0x810; /* the locked one is in one line */
		m->start.gpr[NX_RCX] = 3;
		m->start.gpr[NX_RDX] = 0;
		mock_warm(m);
		mock_check_ended(m);
		assert_int_equal(m->exits, 1);
		m->start.gpr[NX_RSI] = MOCK_DATA + 0x1000;
		mock_set_pte(m, MOCK_DATA + 0x1000, 0);
		mock_run(m);
		if (m->exits || nx_engine_state(m->engine)->rip >= m->stop_rip)
			fail_msg("%s was done", crossings[i].name);
		assert_true(m->reason == NX_LEAVE_PAGE_CROSSING ||
			    m->reason == NX_LEAVE_PAGE_FAULT || m->reason == NX_LEAVE_SPLIT_LOCK);
		/* Not a byte of it in the page that is there. */
		assert_memory_equal(m->ram, m->start_ram, 0xf0000);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 3);
		mock_free(m);
	}
}

/* ---- Code behind another mapping ---- */

GUEST(first_code, 64, "in al, dx", "mov ecx, 1; out 0x80, al", "ret");
GUEST(other_code, 64, "in al, dx", "mov ecx, 2; out 0x81, al", "ret");

static void remapped_code_page(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);

	(void)state;
	MOCK_LOAD(m, first_code);
	memset(m->start_ram + MOCK_EXTRA, 0xcc, 4096);
	mock_poke(m, MOCK_EXTRA, other_code, (size_t)(other_code_end - other_code));
	for (unsigned i = 0; i < 6; i++) {
		const bool other = i % 2;
		const uint64_t executions = nx_engine_counters(m->engine)->stale;

		mock_set_pte(m, MOCK_CODE, (other ? MOCK_EXTRA : MOCK_CODE) | PTE_ALL);
		if (i) {
			/* What was translated is behind no page of this address any more. */
			mock_run(m);
			assert_int_equal(m->reason, NX_LEAVE_CODE_CHANGED);
			assert_int_equal(m->exits, 0);
			mock_check(m);
			assert_int_equal(nx_engine_counters(m->engine)->stale, executions + 1);
		}
		mock_warm(m);
		assert_int_equal(m->exits, 1);
		assert_int_equal(m->log[0].where, other ? 0x81 : 0x80);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], other ? 2 : 1);
	}
	mock_free(m);
}

/* ---- Code that another thread writes all the time ---- */

extern const uint8_t changing_here[];
GUEST(changing, 32, "in al, dx", "changing_here: mov cl, 0x11; mov al, cl; out 0x80, al", "ret");

static struct {
	volatile uint8_t *at;
	atomic_int round, done; /* -1: as often as it can, until there is no more round */
} writer;

static void *write_code(void *unused)
{
	for (int round = 0; round >= 0; round = atomic_load(&writer.round)) {
		if (round == atomic_load(&writer.done)) {
			sched_yield();
			continue;
		}
		*writer.at = (uint8_t)round;
		atomic_store(&writer.done, round);
	}
	return unused;
}

static void *write_code_always(void *unused)
{
	for (uint8_t value = 0x11; !atomic_load(&writer.done); value ^= 0x11 ^ 0x22)
		*writer.at = value;
	return unused;
}

/* Written by another processor between two executions: each sees what was written last. */
static void code_that_a_thread_changed(void **state)
{
	struct mock *m = mock_new(MOCK_FLAT32, 0, NX_LEVEL_BRANCHES);
	unsigned runs = 0;
	pthread_t thread;

	(void)state;
	MOCK_LOAD(m, changing);
	/* What each run starts from. */
	writer.at = m->start_ram + m->code_gpa + (changing_here - changing) + 1;
	atomic_store(&writer.round, 0);
	atomic_store(&writer.done, 0);
	assert_int_equal(pthread_create(&thread, NULL, write_code, NULL), 0);
	for (int round = 1; round < 100; round++) {
		atomic_store(&writer.round, round);
		while (atomic_load(&writer.done) != round)
			sched_yield();
		mock_run(m);
		mock_run(m);
		if (!m->exits)
			continue;
		assert_int_equal(m->log[0].data, round);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX] & 0xff, round);
		runs++;
	}
	atomic_store(&writer.round, -1);
	pthread_join(thread, NULL);
	assert_true(runs > 10);
	assert_true(nx_engine_counters(m->engine)->stale > 10);
	mock_free(m);
}

/* Written meanwhile: one or the other, nothing between, and the guest's registers agree. */
static void code_that_a_thread_changes(void **state)
{
	struct mock *m = mock_new(MOCK_FLAT32, 0, NX_LEVEL_BRANCHES);
	unsigned runs = 0;
	pthread_t thread;

	(void)state;
	MOCK_LOAD(m, changing);
	writer.at = m->ram + m->code_gpa + (changing_here - changing) + 1;
	atomic_store(&writer.done, 0);
	assert_int_equal(pthread_create(&thread, NULL, write_code_always, NULL), 0);
	for (unsigned i = 0; i < 500; i++) {
		mock_run(m);
		if (!m->exits)
			continue;
		assert_int_equal(m->exits, 1);
		assert_true(m->log[0].data == 0x11 || m->log[0].data == 0x22);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX] & 0xff, m->log[0].data);
		runs++;
	}
	atomic_store(&writer.done, 1);
	pthread_join(thread, NULL);
	assert_true(runs > 0);
	assert_int_equal(nx_engine_counters(m->engine)->refused, 0);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(long_repetitions),
	    cmocka_unit_test(long_copies_and_scans),
	    cmocka_unit_test(divisions_that_fault),
	    cmocka_unit_test(into_a_missing_page),
	    cmocka_unit_test(remapped_code_page),
	    cmocka_unit_test(code_that_a_thread_changed),
	    cmocka_unit_test(code_that_a_thread_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
