// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* slide.c: a program at another address is run by the translations of the first. */
#include "engine.h"
#include "stage.h"

#define PLACES 200u
#define CONSTANT 0x1234567890abcdefull

/*
 * Position-independent code with all that depends on where it lies: a call and what it pushes,
 * returns, constants and a table beside the code, an address that is computed, a branch through a
 * register and one through memory, and a push of such an address by C (PUSH of memory).
 */
GUEST(program, 64, "in al, dx",
      "mov r8, [rip + 1f]; lea r9, [rip + program_resume]; call 2f; mov rcx, [rip + 3f];"
      "add rcx, r9; call rcx; out dx, al; lea r10, [rip + 4f]; mov [rsp - 64], r10;"
      "call [rsp - 64]; push [rip + 1f]; pop r12; mov dword ptr [rip + 5f], 7;"
      "mov dword ptr [rip + 5f + 4], 9; xadd [rip + 5f + 8], r13; out dx, al",
      "hlt; 1: .quad 0x1234567890abcdef; 3: .quad 6f - program_resume; 5: .quad 0, 5;"
      "2: in al, dx; mov rbx, [rsp]; ret; 6: in al, dx; mov rsi, [rsp]; ret;"
      "4: in al, dx; mov rdi, [rsp]; lea ebp, [eip + 1b]; ret");
GUEST(returns, 64, "in al, dx", "out dx, al; push r8", "ret; out dx, al; hlt");
GUEST(barren, 64, "in al, dx", "hlt", "hlt");
/* mov r8, [rip + 0x10000]; mov r9, [0x20010]; and once more, when the page has been looked up. */
GUEST(mixed, 64, "in al, dx",
      ".byte 0x4c, 0x8b, 0x05, 0, 0, 1, 0, 0x4c, 0x8b, 0x0c, 0x25, 0x10, 0, 2, 0; out dx, al;"
      ".byte 0x4c, 0x8b, 0x05, 0xf0, 0xff, 0, 0, 0x4c, 0x8b, 0x0c, 0x25, 0x10, 0, 2, 0; out dx, al",
      "hlt");
/* Two programs that differ in a byte, into the middle of which a branch at the end leads. */
#define MIDDLE(name, byte)                                                                  \
	GUEST(name, 64, "in al, dx",                                                        \
	      "9: .byte 0xb8, 0xfe, " byte ", 0x90, 0x90; .rept 100; out dx, al; inc esi; " \
	      "inc edi; .endr; dec r8d; jnz 9b + 1; out dx, al",                            \
	      "hlt")
MIDDLE(middle_bl, "0xc3");
MIDDLE(middle_cl, "0xc1");
/* Its last byte is that of a page. */
GUEST(tail, 64, "in al, dx", "jmp 1f; .skip 4085, 0x90; 1: in al, dx; inc ebx; out 0x42, al",
      "hlt");
GUEST(other, 64, "in al, dx", "nop; inc rbx; out dx, al; out dx, al", "hlt");

static uint64_t place(unsigned number)
{
	return (uint64_t)number << 39;
}

/* slide: nx_experiment's. */
static struct mock *begin_as(unsigned cpl, uint64_t slide)
{
	struct nx_config config;
	struct mock *m;
	uint64_t *root;

	nx_config_default(&config);
	config.level = NX_LEVEL_PATHS;
	config.guest_features = ~0u;
	config.experiment.slide = slide;
	m = mock_new_config(MOCK_LONG64, cpl, &config);
	root = (uint64_t *)(void *)(m->start_ram + m->start.cr3);
	/* What is at 0 is at all of these as well. */
	for (unsigned i = 1; i <= PLACES; i++)
		root[i] = root[0];
	return m;
}

static struct mock *begin(void)
{
	return begin_as(3, 0);
}

/* Run what has been loaded at another place, from the start. */
static void move_to(struct mock *m, unsigned from, unsigned to)
{
	m->code_rip += place(to) - place(from);
	m->start.rip += place(to) - place(from);
}

/* What the program does, wherever it is; compare what the engine has made of it. */
static void check_program(struct mock *m, unsigned number)
{
	const struct nx_state *s = nx_engine_state(m->engine);
	uint64_t code = place(number) + MOCK_CODE,
		 resume = code + (uint64_t)(program_resume - program);
	uint64_t backs[3];

	/* A call of 5 bytes follows 14 of MOV and LEA; the others are found by what is there. */
	memcpy(backs, (uint64_t[]){s->gpr[NX_RBX], s->gpr[NX_RSI], s->gpr[NX_RDI]}, sizeof(backs));
	assert_int_equal(s->gpr[NX_R8], CONSTANT);
	assert_int_equal(s->gpr[NX_R9], resume);
	assert_int_equal(backs[0], resume + 19);
	for (unsigned i = 1; i < 3; i++) {
		assert_true(backs[i] > backs[i - 1] && backs[i] < resume + 0x100);
		assert_true(m->ram[(backs[i] & 0xfffff) - 2] == 0xff || /* call rcx */
			    m->ram[(backs[i] & 0xfffff) - 4] == 0xff);  /* call [rsp - 64] */
	}
	assert_int_equal(s->gpr[NX_R12], CONSTANT);
	assert_int_equal(s->gpr[NX_R13], 5);
	assert_int_equal(s->gpr[NX_RBP] >> 32, 0);
	assert_int_equal(s->gpr[NX_RBP] & 0xfffff000, MOCK_CODE);
}

/* All that has been pushed by now and is an address of code: wherever the engine has come to. */
static void check_backs(struct mock *m, unsigned number)
{
	for (unsigned at = MOCK_STACK + 0x1000 - 128; at < MOCK_STACK + 0x1000; at += 8) {
		uint64_t back;

		memcpy(&back, m->ram + at, 8);
		if ((back & 0xff000) == MOCK_CODE)
			assert_int_equal(back & ~0xfffffull, place(number));
	}
}

static void run_program(struct mock *m, unsigned number, unsigned exits)
{
	mock_run(m);
	check_program(m, number);
	assert_int_equal(m->exits, exits);
	assert_int_equal(nx_engine_state(m->engine)->rip,
			 place(number) + MOCK_CODE + (uint64_t)(program_stop - program));
}

static void test_moved(void **state)
{
	struct mock *m = begin();
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	uint64_t made;

	(void)state;
	MOCK_LOAD(m, program);
	move_to(m, 0, 1);
	mock_warm(m);
	run_program(m, 1, 5);
	made = counters->formed + counters->translated + counters->blocks;
	for (unsigned i = 1; i < PLACES; i++) {
		move_to(m, i, i + 1);
		run_program(m, i + 1, 5);
	}
	assert_int_equal(counters->formed + counters->translated + counters->blocks, made);
	mock_free(m);
}

/* Each exit at a place of its own while nothing is translated yet: blocks and traces, too. */
static void test_made_while_moving(void **state)
{
	struct mock *m = begin();

	(void)state;
	MOCK_LOAD(m, program);
	move_to(m, 0, 1);
	for (unsigned i = 1; i < PLACES; i++) {
		mock_run(m);
		if (m->exits)
			assert_int_equal(nx_engine_state(m->engine)->gpr[NX_R8], CONSTANT);
		check_backs(m, i);
		if (i > 20)
			check_program(m, i);
		move_to(m, i, i + 1);
	}
	mock_free(m);
}

/* Another program has an exit at the same place of its page. */
static void test_other_code(void **state)
{
	struct mock *m = begin();

	(void)state;
	MOCK_LOAD(m, program);
	move_to(m, 0, 1);
	mock_warm(m);
	for (unsigned i = 1; i < 20; i++) {
		MOCK_LOAD(m, other);
		move_to(m, 0, 2 * i + 1);
		for (unsigned runs = 0; runs < 4; runs++)
			mock_run(m);
		assert_int_equal(m->exits, 2);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RBX], m->start.gpr[NX_RBX] + 1);
		MOCK_LOAD(m, program);
		move_to(m, 0, 2 * i + 2);
		for (unsigned runs = 0; runs < 24; runs++)
			mock_run(m);
		run_program(m, 2 * i + 2, 5);
	}
	/* By now the address says nothing. */
	assert_int_equal(nx_slide_of(&m->engine->slides, place(PLACES) + MOCK_CODE), 0);
	mock_free(m);
}

/* What a host is told and tells of an exit is where the program is now. */
static void test_host(void **state)
{
	struct mock *m = begin();
	struct nx_exit exit = {.size = 0};

	(void)state;
	MOCK_LOAD(m, program);
	move_to(m, 0, 1);
	mock_warm(m);
	move_to(m, 1, 2);
	*nx_engine_state(m->engine) = m->start;
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	assert_true(mock_worth_resuming(m, m->code_rip, NX_CLASS_IO));
	assert_int_equal(nx_engine_resume(m->engine, &exit), NX_EXIT);
	assert_int_equal(exit.rip & ~0xfffffull, place(2));
	assert_int_equal(nx_engine_state(m->engine)->rip, exit.rip);
	assert_int_equal(nx_engine_complete_exit(m->engine, &exit), NX_COMPLETION_DONE);
	assert_int_equal(nx_engine_state(m->engine)->rip, exit.next);
	/* There is no other. */
	assert_int_equal(nx_engine_complete_exit(m->engine, &exit), NX_COMPLETION_NONE);
	assert_int_equal(nx_engine_state(m->engine)->rip, exit.next);
	mock_free(m);
}

/*
 * Two loads that would be beside each other where the program was met first: one is relative to
 * rip, the other is not, and what lies there is not the same.
 */
static void test_beside_another(void **state)
{
	const uint64_t near_rip = 0x1111, absolute = 0x2222;
	/* The pages of both are not in the same place of the TLB. */
	struct mock *m = begin_as(3, place(1) + 0x5000);
	uint64_t *tables = (uint64_t *)(void *)(m->start_ram + m->start.cr3);

	(void)state;
	/* Behind the eight tables of the mock's, three of the place's own. */
	for (unsigned i = 1; i <= 3; i++)
		memcpy(tables + (i + 7) * 512, tables + i * 512, 4096);
	tables[1] = (m->start.cr3 + 8 * 4096) | 7;
	tables[8 * 512] = (m->start.cr3 + 9 * 4096) | 7;
	tables[9 * 512] = (m->start.cr3 + 10 * 4096) | 7;
	tables[10 * 512 + MOCK_CODE / 4096 + 5] = MOCK_CODE | 7;
	tables[10 * 512 + MOCK_DATA / 4096 + 5] = MOCK_EXTRA | 7;
	MOCK_LOAD(m, mixed);
	mock_poke(m, MOCK_EXTRA + 8, &near_rip, 8);
	mock_poke(m, MOCK_DATA + 0x10, &absolute, 8);
	move_to(m, 0, 1);
	m->code_rip += 0x5000;
	m->start.rip += 0x5000;
	mock_warm(m);
	assert_int_equal(m->exits, 2);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_R8], near_rip);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_R9], absolute);
	mock_free(m);
}

/* Where nothing is to be found, nothing is to be found elsewhere either. */
static void test_pass(void **state)
{
	struct mock *m = begin();

	(void)state;
	MOCK_LOAD(m, barren);
	move_to(m, 0, 1);
	for (unsigned i = 0; i < 8; i++)
		mock_run(m);
	assert_true(nx_engine_pass(m->engine, m->code_rip, 1) > 0);
	assert_true(nx_engine_pass(m->engine, m->code_rip + place(1), 1) > 0);
	mock_free(m);
}

/* No processor goes to such an address, though it is one where the program was met first. */
static void test_no_address(void **state)
{
	struct mock *m = begin();
	uint64_t nowhere = 1ull << 47;

	(void)state;
	MOCK_LOAD(m, returns);
	move_to(m, 0, 1);
	for (unsigned i = 1; i < 20; i++) {
		m->start.gpr[NX_R8] = nowhere | 0x1000;
		mock_run(m);
		if (m->reason != NX_LEAVE_COLD)
			assert_int_equal(nx_engine_state(m->engine)->rip,
					 place(i) + MOCK_CODE + (uint64_t)(returns_stop - returns));
		move_to(m, i, i + 1);
	}
	assert_int_equal(m->exits, 1);
	mock_free(m);
}

/* A kernel at such addresses: its code is not made for other places. */
static void test_kernel(void **state)
{
	struct mock *m = begin_as(0, 0);

	(void)state;
	MOCK_LOAD(m, program);
	move_to(m, 0, 1);
	mock_warm(m);
	run_program(m, 1, 5);
	for (unsigned i = 1; i < 3; i++) {
		move_to(m, i, i + 1);
		mock_warm(m);
		run_program(m, i + 1, 5);
	}
	mock_free(m);
}

static void test_rows(void **state)
{
	static struct nx_slides s;
	const uint64_t a = 0x7f0000001234, b = 0x7e5500007234, c = 0x700000003234;

	(void)state;
	assert_int_equal(nx_slide_note(&s, 0x401234), 0);
	assert_int_equal(nx_slide_note(&s, 0xffffffff81001234), 0);
	assert_int_equal(nx_slide_note(&s, a), 0);
	/* The same program elsewhere, and its neighbours, that were and that were not met before.
	 */
	assert_int_equal(nx_slide_of(&s, b), b - a);
	assert_int_equal(nx_slide_note(&s, b), b - a);
	assert_int_equal(nx_slide_note(&s, b + 0x2111), b - a);
	assert_int_equal(nx_slide_note(&s, b - 0x1000), b - a);
	assert_int_equal(nx_slide_note(&s, c + 0x2111), c - a);
	assert_int_equal(nx_slide_note(&s, c), c - a);
	assert_int_equal(nx_slide_of(&s, 0x401234), 0);
	/* Other code there: it is met first where it is. */
	nx_slide_changed(&s);
	assert_int_equal(nx_slide_note(&s, c), 0);
	assert_int_equal(nx_slide_of(&s, a), a - c);
	/* That happens too often. */
	for (unsigned i = 0; i < 4; i++) {
		nx_slide_note(&s, i % 2 ? c : a);
		nx_slide_changed(&s);
	}
	assert_int_equal(nx_slide_note(&s, a), 0);
	assert_int_equal(nx_slide_note(&s, c), 0);
}

static bool always(void *data)
{
	(void)data;
	return true;
}

/* What one program's exits have begun to make is gone on with at another's. */
static void make_in_turns(unsigned one, unsigned another)
{
	/* Twice for the tracker and a step; the rest of them; and until there is a cluster. */
	const unsigned most[] = {3, 1, 60};
	struct mock *m = begin();

	m->host.time_is_up = always;
	for (unsigned turn = 0; turn < 3; turn++) {
		if (turn == 1)
			MOCK_LOAD(m, middle_cl);
		else
			MOCK_LOAD(m, middle_bl);
		move_to(m, 0, turn == 1 ? another : one);
		m->start.gpr[NX_R8] = 2;
		for (unsigned runs = 0; runs < most[turn]; runs++) {
			mock_run(m);
			if (m->exits && turn == 2)
				break;
		}
	}
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], m->start.gpr[NX_RCX]);
	mock_free(m);
}

static void test_made_in_turns(void **state)
{
	(void)state;
	make_in_turns(1, 1);
	make_in_turns(1, 2);
}

static void change_tail(struct mock *m, unsigned number)
{
	if (number == 1)
		m->ram[MOCK_CODE + 4095] = 0x43;
}

/* The last instruction of a cluster changes at the exit before it. */
static void run_tail(uint64_t slide)
{
	struct mock *m = begin_as(3, slide);

	MOCK_LOAD(m, tail);
	move_to(m, 0, 1);
	mock_warm(m);
	assert_int_equal(m->exits, 2);
	m->on_exit = change_tail;
	mock_run(m);
	assert_int_equal(m->exits, 1);
	mock_free(m);
}

static void test_last_byte(void **state)
{
	(void)state;
	run_tail(place(1));
	/* Where it was met first, addresses end there. */
	run_tail(place(1) + MOCK_CODE + 0x1000);
}

/* Code that has changed where nothing has moved says nothing about programs that do. */
static void test_changed_elsewhere(void **state)
{
	struct mock *m = begin();

	(void)state;
	MOCK_LOAD(m, program);
	mock_warm(m);
	move_to(m, 0, 1);
	mock_warm(m);
	move_to(m, 1, 2);
	mock_run(m);
	assert_int_equal(m->engine->slides.last, place(1));
	MOCK_LOAD(m, other);
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_CODE_CHANGED);
	assert_int_equal(nx_slide_of(&m->engine->slides, place(3) + MOCK_CODE), place(2));
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_moved),          cmocka_unit_test(test_made_while_moving),
	    cmocka_unit_test(test_other_code),     cmocka_unit_test(test_no_address),
	    cmocka_unit_test(test_beside_another), cmocka_unit_test(test_host),
	    cmocka_unit_test(test_pass),           cmocka_unit_test(test_kernel),
	    cmocka_unit_test(test_rows),           cmocka_unit_test(test_made_in_turns),
	    cmocka_unit_test(test_last_byte),      cmocka_unit_test(test_changed_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
