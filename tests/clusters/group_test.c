/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Accesses that share a check: the second turn of these loops finds the pages known, the first
 * does not, and where the range crosses a page none does. Nobody must see a difference.
 */
#include "mock.h"

#define PTE_ALL 7u /* present, writable, user */
#define ACCESSED 0x20u
#define DIRTY 0x40u
#define PORT 0x3f8
#define TURNS 3

#define GROUP(name, bits, si, di, bx, bp, cx)                                                   \
	extern const uint8_t name##_store[];                                                    \
	GUEST(name, bits, "in al, dx",                                                          \
	      "1: mov ecx, [" si "]; add ecx, [" si " + 4]\n" #name "_store: mov [" si          \
	      " + 8], ecx\n"                                                                    \
	      "push " cx "; push " si "; lea " bp ", [" si " + 1]; pop " bx "; sub " cx ", 3\n" \
	      "mov al, [" si " + 9]; adc byte ptr [" si " + 3], 0; pop " bp "\n"                \
	      "out dx, al; dec edi; jnz 1b",                                                    \
	      "ret")

GROUP(group64, 64, "rsi", "rdi", "rbx", "rbp", "rcx");
GROUP(group32, 32, "esi", "edi", "ebx", "ebp", "ecx");

static struct mock *make(enum mock_mode mode, unsigned cpl, uint64_t rsi)
{
	const uint32_t words[] = {0x01020304, 0xf0f0f0f0};
	struct nx_config config;
	struct mock *m;

	nx_config_default(&config);
	config.level = NX_LEVEL_LOOPS;
	config.max_gap_accesses = 40; /* all of it is between two exits */
	m = mock_new_config(mode, cpl, &config);
	if (mode == MOCK_LONG64)
		MOCK_LOAD(m, group64);
	else
		MOCK_LOAD(m, group32);
	m->start.gpr[NX_RSI] = rsi;
	m->start.gpr[NX_RDI] = TURNS;
	m->start.gpr[NX_RDX] = PORT;
	mock_poke(m, (uint32_t)rsi, words, sizeof(words));
	return m;
}

/* Compute in C what the code does, from the memory at the start. */
static void expect(struct mock *m, uint32_t rsi)
{
	unsigned width = m->mode == MOCK_LONG64 ? 8 : 4;
	struct mock_access log[TURNS];
	uint32_t word[3];
	uint64_t rcx = 0, pushed = 0;
	uint8_t al = 0;

	memcpy(word, m->start_ram + rsi, sizeof(word));
	for (unsigned i = 0; i < TURNS; i++) {
		word[2] = word[0] + word[1];
		pushed = word[2];
		rcx = width == 8 ? pushed - 3 : (uint32_t)(pushed - 3);
		al = (uint8_t)(word[2] >> 8);
		/* The borrow of the subtraction. */
		word[0] += (uint32_t)(pushed < 3) << 24;
		log[i] = (struct mock_access)OUT(PORT, 1, al);
	}
	mock_check_log(m, log, TURNS);
	for (unsigned i = 0; i < 3; i++)
		mock_want_memory(m, rsi + 4 * i, 4, word[i]);
	mock_want_memory(m, (uint32_t)m->start.gpr[NX_RSP] - width, width, pushed);
	mock_want_memory(m, (uint32_t)m->start.gpr[NX_RSP] - 2 * width, width, rsi);
	m->want.gpr[NX_RAX] = (m->start.gpr[NX_RAX] & ~0xffull) | al;
	m->want.gpr[NX_RCX] = rcx;
	m->want.gpr[NX_RBX] = rsi;
	m->want.gpr[NX_RBP] = pushed;
	m->want.gpr[NX_RDI] = 0;
	m->want.rip = m->stop_rip;
	m->want.rflags = nx_engine_state(m->engine)->rflags;
	mock_check(m);
}

static const enum mock_mode modes[] = {MOCK_FLAT32, MOCK_PAGED32, MOCK_PAE32, MOCK_LONG64};

static void results_are_those_of_single_accesses(void **state)
{
	/* On one page, up to its end, across two. */
	static const uint32_t offsets[] = {0x10, 0x1000 - 12, 0x1000 - 8, 0x1000 - 4};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned o = 0; o < 4; o++) {
			uint32_t rsi = MOCK_DATA + offsets[o];
			struct mock *m = make(modes[i], o % 2 ? 3 : 0, rsi);

			mock_warm(m);
			mock_check_ended(m);
			expect(m, rsi);
			mock_free(m);
		}
	}
}

/* The store is not allowed, or its page is missing: what comes before it has been done. */
static void check_store_fault(enum mock_mode mode, uint32_t rsi, uint64_t entry)
{
	const uint32_t page = (rsi + 8) & ~0xfffu;
	struct mock *m = make(mode, 3, rsi);
	const uint8_t *code = mode == MOCK_LONG64 ? group64 : group32;
	const uint8_t *store = mode == MOCK_LONG64 ? group64_store : group32_store;

	mock_warm(m);
	mock_set_pte(m, page, entry);
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_PAGE_FAULT);
	assert_int_equal(m->exits, 0);
	m->want.rip = m->code_rip + (uint64_t)(store - code);
	m->want.gpr[NX_RCX] = 0x01020304u + 0xf0f0f0f0u;
	m->want.rflags = nx_engine_state(m->engine)->rflags;
	mock_check(m);
	/* Marked as read if there was something to read, as written never. */
	assert_int_equal(mock_pte(m, m->ram, page) & DIRTY, 0);
	assert_int_equal(mock_pte(m, m->ram, rsi & ~0xfffu) & (ACCESSED | DIRTY), ACCESSED);
	mock_free(m);
}

static void faults_leave_before_their_instruction(void **state)
{
	const uint32_t page = MOCK_DATA + 0x1000;

	(void)state;
	for (unsigned i = 1; i < 4; i++) {
		check_store_fault(modes[i], page - 8, 0);
		check_store_fault(modes[i], page - 8, page | 5);
		check_store_fault(modes[i], page + 8, page | 5);
	}
}

/* The range ends on a device: its access is delivered, and the others are not. */
static void devices_keep_their_accesses(void **state)
{
	const uint32_t rsi = MOCK_RAM_SIZE - 8;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct mock *m = make(modes[i], 0, rsi);

		m->start.gpr[NX_RDI] = 1;
		m->input[0] = 0x77;
		mock_warm(m);
		mock_check_log(m,
			       (struct mock_access[]){STORE(MOCK_RAM_SIZE, 4, 0xf1f2f3f4),
						      LOAD(MOCK_RAM_SIZE + 1, 1, 0x77),
						      OUT(PORT, 1, 0x77)},
			       3);
		mock_free(m);
	}
}

/* The page becomes read-only for the engine while the loop runs: an exit's doing, so it is new. */
static void make_readonly(struct mock *m, unsigned number)
{
	if (number == 2) {
		m->page[MOCK_DATA / 4096] = MOCK_PAGE_READONLY;
		nx_engine_flush(m->engine);
	}
}

static void memory_may_change_between_turns(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct mock *m = make(modes[i], 0, MOCK_DATA + 0x10);

		mock_warm(m);
		m->on_exit = make_readonly;
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_HOST_PAGE);
		assert_int_equal(m->exits, 2);
		mock_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(results_are_those_of_single_accesses),
	    cmocka_unit_test(faults_leave_before_their_instruction),
	    cmocka_unit_test(devices_keep_their_accesses),
	    cmocka_unit_test(memory_may_change_between_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
