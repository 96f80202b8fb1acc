// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Clusters beyond the paper's rule: exits behind calls, returns and pointers, in the middle of
 * loop bodies, and with a delay between them. What lies behind is a HLT, which no trace passes.
 */
#include "mock.h"

#include "engine.h"

#define READY 0x20u
#define STRING (MOCK_DATA + 0x800)
#define TABLE (MOCK_DATA + 0x900) /* of function pointers */

/*
 * 12: a string goes out by accessor functions called through pointers. The hardware's exit is the
 * first IN, inside the accessor; the engine goes on at its return. r: the registers' prefix.
 */
#define ACCESSORS(name, bits, r, call_in, call_out, return )                                       \
	extern const uint8_t name##_out[], name##_back[], name##_loop[];                           \
	GUEST(name, bits, "in al, dx",                                                             \
	      return ";" #name                                                                     \
		     "_out: mov edx, esi; mov eax, edi; out dx, al;" return ";" #name              \
									    "_loop: mov edx, "     \
									    "0x3fd;" call_in       \
									    ";" #name              \
									    "_back: test al, "     \
									    "0x20; jz " #name      \
									    "_loop; movzx edi, "   \
									    "byte ptr [" r         \
									    "cx]; test edi, edi; " \
									    "jz " #name            \
									    "_stop; inc " r        \
									    "cx; mov esi, "        \
									    "0x3f8;" call_out      \
									    "; jmp " #name         \
									    "_loop",               \
	      "hlt; 1: call 3f; 2: pause; lfence; jmp 2b; 3: mov [" r "sp], " r                    \
	      "bx; ret; 4: call 6f; 5: pause; lfence; jmp 5b; 6: mov [" r "sp], " r                \
	      "ax; ret; 7: ret; int3")

ACCESSORS(direct64, 64, "r", "call direct64", "call direct64_out", "ret");
ACCESSORS(pointer64, 64, "r", "call rbx", "call qword ptr [rbp]", "ret");
ACCESSORS(pointer32, 32, "e", "call ebx", "call dword ptr [ebp]", "ret");
/* A kernel that does not trust its processor's predictions does it in this way. */
ACCESSORS(retpoline64, 64, "r", "call 1f", "mov rax, [rbp]; call 4f", "ret");
ACCESSORS(thunks64, 64, "r", "call rbx", "call qword ptr [rbp]", "jmp 7f");
ACCESSORS(both64, 64, "r", "call 1f", "mov rax, [rbp]; call 4f", "jmp 7f");
ACCESSORS(both32, 32, "e", "call 1f", "mov eax, [ebp]; call 4f", "jmp 7f");

struct accessors {
	const uint8_t *code, *resume, *stop, *end, *out, *back;
	unsigned bits;
	bool retpoline;
};

static struct mock *load_accessors(const struct accessors *a, enum mock_mode mode,
				   const char *string)
{
	struct mock *m = mock_new(mode, 0, NX_LEVEL_PATHS);
	const unsigned word = a->bits / 8;
	uint64_t out, back;

	mock_load(m, a->code, a->resume, a->stop, a->end);
	out = m->code_rip + (uint64_t)(a->out - a->code);
	back = m->code_rip + (uint64_t)(a->back - a->code);
	mock_poke(m, STRING, string, strlen(string) + 1);
	mock_poke(m, TABLE, &out, word);
	m->start.gpr[NX_RBX] = m->code_rip;
	m->start.gpr[NX_RBP] = TABLE;
	m->start.gpr[NX_RCX] = STRING;
	m->start.gpr[NX_RDX] = 0x3fd;
	m->start.gpr[NX_RSP] -= word;
	mock_poke(m, (uint32_t)m->start.gpr[NX_RSP], &back, word);
	return m;
}

/* Fill the devices' answers and what has to reach them; return how many accesses. */
static unsigned script(struct mock *m, const char *string, struct mock_access *log)
{
	unsigned inputs = 0, count = 0;

	/* The hardware's read, before: ready or not. */
	m->start.gpr[NX_RAX] = READY;
	for (const char *c = string; *c; c++) {
		log[count++] = (struct mock_access)OUT(0x3f8, 1, (uint8_t)*c);
		for (unsigned wait = (unsigned)(c - string) % 3 + 1; wait--;) {
			m->input[inputs] = 0x40 | (wait ? 0 : READY);
			log[count++] = (struct mock_access)IN(0x3fd, 1, m->input[inputs]);
			inputs++;
		}
	}
	return count;
}

static void accessors_behind_pointers_in(const struct accessors *a, enum mock_mode mode)
{
	static const char string[] = "Hello, world: 0123456789 and all that follows.";
	static struct mock_access log[MOCK_LOG];
	struct mock *m = load_accessors(a, mode, string);
	const unsigned word = a->bits / 8, count = script(m, string, log);
	const uint64_t target = m->code_rip;

	mock_warm(m);
	mock_check_log(m, log, count);
	mock_check_ended(m);
	m->want.rip = m->stop_rip;
	m->want.rflags |= 0x44;
	m->want.gpr[NX_RAX] = 0x40 | READY;
	m->want.gpr[NX_RCX] = STRING + sizeof(string) - 1;
	m->want.gpr[NX_RSI] = 0x3f8;
	m->want.gpr[NX_RDI] = 0;
	m->want.gpr[NX_RSP] += word;
	/* A retpoline leaves its target in the slot below. */
	if (a->retpoline)
		memcpy(m->want_ram + m->start.gpr[NX_RSP] - word, &target, word);
	mock_check(m);
	mock_check_native(m);
	assert_int_equal(nx_engine_counters(m->engine)->refused, 0);

	/* The stop flag is set in the middle. */
	m->stop_at = count / 2;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_STOP);
	mock_check_log(m, log, count / 2);
	mock_free(m);
}

#define ROW(name, bits, retpoline)                                                           \
	{                                                                                    \
		name, name##_resume, name##_stop, name##_end, name##_out, name##_back, bits, \
		    retpoline                                                                \
	}

static void accessors_behind_pointers(void **state)
{
	static const struct accessors rows[] = {
	    ROW(direct64, 64, false),   ROW(pointer64, 64, false), ROW(pointer32, 32, false),
	    ROW(retpoline64, 64, true), ROW(thunks64, 64, false),  ROW(both64, 64, true),
	    ROW(both32, 32, true),
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].bits == 64) {
			accessors_behind_pointers_in(&rows[i], MOCK_LONG64);
			continue;
		}
		for (enum mock_mode mode = MOCK_FLAT32; mode <= MOCK_PAE32; mode++)
			accessors_behind_pointers_in(&rows[i], mode);
	}
}

/* One level below, the call is where it ends: no access of the string is the engine's. */
static void accessors_behind_pointers_not_before(void **state)
{
	static const struct accessors row = ROW(pointer64, 64, false);
	static struct mock_access log[MOCK_LOG];
	struct mock *m = load_accessors(&row, MOCK_LONG64, "abc");

	(void)state;
	script(m, "abc", log);
	memset(m->memory.arena, 0, m->memory.arena_size);
	m->engine = nx_engine_create(
	    &m->memory, &m->host, m,
	    &(struct nx_config){
		.level = NX_LEVEL_LOOPS, .max_gap = 16, .max_gap_accesses = 4, .max_path = 512});
	assert_non_null(m->engine);
	for (unsigned i = 0; i < 20; i++) {
		mock_run(m);
		assert_int_equal(m->exits, 0);
		mock_check(m);
	}
	mock_free(m);
}

/* An exit in the middle of a loop's body. */

GUEST(middle16, 16, "mov al, [si]; out dx, al", "inc si; dec cx; jnz middle16", "hlt");
GUEST(middle32, 32, "mov al, [esi]; out dx, al", "inc esi; dec ecx; jnz middle32", "hlt");
GUEST(middle64, 64, "mov al, [rsi]; out dx, al", "inc rsi; dec ecx; jnz middle64", "hlt");

static void exit_in_a_loops_middle_in(enum mock_mode mode, enum nx_level level, unsigned turns)
{
	struct mock *m = mock_new(mode, 0, level);
	static struct mock_access log[MOCK_LOG];
	const uint32_t base = (uint32_t)m->start.seg[NX_DS].base;
	uint64_t upper;

	if (mode <= MOCK_PROT16)
		MOCK_LOAD(m, middle16);
	else if (mode < MOCK_LONG64)
		MOCK_LOAD(m, middle32);
	else
		MOCK_LOAD(m, middle64);
	/* 16-bit code leaves the upper half of ecx. */
	upper = mode <= MOCK_PROT16 ? m->start.gpr[NX_RCX] & 0xffff0000 : 0;
	m->start.gpr[NX_RDX] = 0xe9;
	m->start.gpr[NX_RSI] = base ? 0x40 : MOCK_DATA + 0x40;
	m->start.gpr[NX_RCX] = upper | turns;
	for (unsigned i = 0; i + 1 < turns; i++)
		log[i] = (struct mock_access)OUT(0xe9, 1, m->start_ram[MOCK_DATA + 0x41 + i]);
	mock_warm(m);
	mock_check_log(m, log, turns - 1);
	mock_check_ended(m);
	m->want.rip = m->stop_rip;
	m->want.gpr[NX_RSI] += turns;
	m->want.gpr[NX_RCX] = upper;
	m->want.gpr[NX_RAX] = (m->start.gpr[NX_RAX] & ~0xffull) | log[turns - 2].data;
	m->want.rflags |= 0x44;
	mock_check(m);
	mock_check_native(m);
	mock_free(m);
}

static void exit_in_a_loops_middle(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_REAL16; mode < MOCK_MODES; mode++) {
		for (enum nx_level level = NX_LEVEL_LOOPS; level <= NX_LEVEL_PATHS; level++) {
			exit_in_a_loops_middle_in(mode, level, 2);
			exit_in_a_loops_middle_in(mode, level, 200);
		}
	}
}

/* A delay loop between two exits. */

GUEST(delay32, 32, "in al, dx", "mov bl, al; 1: pause; dec ecx; jnz 1b; in al, dx", "hlt");
GUEST(delay64, 64, "in al, dx", "mov bl, al; 1: pause; dec ecx; jnz 1b; in al, dx", "hlt");

static struct mock *load_delay(enum mock_mode mode, enum nx_level level)
{
	struct mock *m = mock_new(mode, 0, level);

	if (mode == MOCK_LONG64)
		MOCK_LOAD(m, delay64);
	else
		MOCK_LOAD(m, delay32);
	m->start.gpr[NX_RDX] = 0x61;
	m->input[0] = 0x35;
	return m;
}

static void delay_loop(void **state)
{
	/* A turn is a backedge taken: as many, and the last pass. */
	static const unsigned within[] = {1, 2, 100, NX_IDLE_TURNS, NX_IDLE_TURNS + 1};

	(void)state;
	for (enum mock_mode mode = MOCK_FLAT32; mode < MOCK_MODES; mode++) {
		struct mock *m = load_delay(mode, NX_LEVEL_PATHS);
		uint64_t resumed;

		for (unsigned i = 0; i < sizeof(within) / sizeof(within[0]); i++) {
			m->start.gpr[NX_RCX] = within[i];
			if (i == 0)
				mock_warm(m);
			else
				mock_run(m);
			mock_check_log(m, (struct mock_access[]){IN(0x61, 1, 0x35)}, 1);
			mock_check_ended(m);
			m->want.rip = m->stop_rip;
			m->want.gpr[NX_RBX] =
			    (m->start.gpr[NX_RBX] & ~0xffull) | (m->start.gpr[NX_RAX] & 0xff);
			m->want.gpr[NX_RAX] = (m->start.gpr[NX_RAX] & ~0xffull) | 0x35;
			m->want.gpr[NX_RCX] = 0;
			m->want.rflags |= 0x44;
			mock_check(m);
			mock_check_native(m);
		}
		/* One more: the processor waits the rest, from an instruction boundary. */
		m->start.gpr[NX_RCX] = NX_IDLE_TURNS + 2;
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_TURNS);
		assert_int_equal(m->exits, 0);
		resumed = nx_engine_state(m->engine)->rip;
		assert_true(resumed >= m->resume_rip && resumed < m->stop_rip);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 1);
		mock_free(m);
	}
}

/* Below the level of paths a loop without exits is not entered. */
static void delay_loop_not_before(void **state)
{
	struct mock *m = load_delay(MOCK_LONG64, NX_LEVEL_LOOPS);

	(void)state;
	m->start.gpr[NX_RCX] = 2;
	mock_warm(m);
	assert_int_equal(m->exits, 0);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 1);
	mock_free(m);
}

/* A delay that is always too long: what it costs to find that out gets less and less. */
static void delay_loop_too_long(void **state)
{
	struct mock *m = load_delay(MOCK_LONG64, NX_LEVEL_PATHS);

	(void)state;
	m->start.gpr[NX_RCX] = 100000;
	for (unsigned i = 0; i < 200; i++) {
		mock_run(m);
		assert_int_equal(m->exits, 0);
	}
	assert_in_range(nx_engine_counters(m->engine)->retired, 1, 10);
	assert_int_equal(nx_engine_counters(m->engine)->translated,
			 nx_engine_counters(m->engine)->retired);
	mock_free(m);
}

/* Behind the exit are a page that may not be mapped and a return that no formation can follow. */
GUEST(behind_page, 64, "in al, dx", "call 1f; out 0x80, al", "hlt; 1: mov ecx, [rsi]; ret");

/*
 * A path on which a page is missing may be open the next time, so without costs it is tried again
 * at once, but once only: a page may never come. From then on the place is barren like any other.
 */
static void page_that_comes_later(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	const uint32_t page = MOCK_DATA + 0x1000;

	(void)state;
	MOCK_LOAD(m, behind_page);
	m->start.gpr[NX_RSI] = page;
	mock_set_pte(m, page, 0);
	mock_run(m);
	mock_run(m);
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_PAGE_FAULT);
	assert_int_equal(counters->barren, 0);
	/* The page comes in time: the exit is avoided, and the next failure is the first again. */
	mock_set_pte(m, page, page | 7);
	mock_run(m);
	assert_int_equal(m->exits, 1);
	assert_int_equal(counters->barren, 0);
	mock_free(m);

	/* It does not come: 4, 8, 16, 32 and so on exits are passed over. */
	m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);
	counters = nx_engine_counters(m->engine);
	MOCK_LOAD(m, behind_page);
	m->start.gpr[NX_RSI] = page;
	mock_set_pte(m, page, 0);
	for (unsigned i = 0; i < 1000; i++) {
		mock_run(m);
		assert_int_equal(m->exits, 0);
	}
	assert_in_range(counters->traces_failed, 3, 10);
	assert_int_equal(counters->barren, counters->traces_failed - 1);
	/* As soon as it is tried again with the page there, it leads to the exit. */
	mock_set_pte(m, page, page | 7);
	for (unsigned i = 0; i < 2000 && !m->exits; i++)
		mock_run(m);
	assert_int_equal(m->exits, 1);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(page_that_comes_later),
	    cmocka_unit_test(accessors_behind_pointers),
	    cmocka_unit_test(accessors_behind_pointers_not_before),
	    cmocka_unit_test(exit_in_a_loops_middle),
	    cmocka_unit_test(delay_loop),
	    cmocka_unit_test(delay_loop_not_before),
	    cmocka_unit_test(delay_loop_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
