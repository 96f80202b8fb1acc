// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Clusters with loops and with accesses that are known to exit from earlier executions only.
 */
#include "mock.h"

#define PATIENCE 0x08u /* the bit that the polling loops wait for */

static void build_log(struct mock_access *log, unsigned from, unsigned count, uint64_t where,
		      const uint64_t *input)
{
	for (unsigned i = 0; i < count; i++)
		log[from + i] = (struct mock_access)IN(where, 1, input[from + i] & 0xff);
}

/* Two polling loops and three writes. */

GUEST(polls, 32, "in al, dx",
      "test al, 8; jnz polls; 1: in al, dx; test al, 8; jz 1b; mov bx, dx; mov [esp+0x18], al;"
      "out dx, al; inc dx; mov [esp+0x1c], al; out dx, al; mov [esp+0x20], al; out dx, al",
      "ret");

static void two_polling_loops_in(enum mock_mode mode, unsigned first, unsigned second)
{
	struct mock *m = mock_new(mode, 0, NX_LEVEL_LOOPS);
	static struct mock_access log[MOCK_LOG]; /* too large for a kernel's stack */
	const unsigned ins = first + second;

	MOCK_LOAD(m, polls);
	m->start.gpr[NX_RDX] = 0x3da;
	m->start.gpr[NX_RAX] = 0x5500 | (first ? PATIENCE : 0);
	for (unsigned i = 0; i < ins; i++) {
		/* The first loop's last and the second one's others have the bit clear. */
		bool set = i + 1 < first || i + 1 == ins;

		m->input[i] = 0xf0 | (i & 7) | (set ? PATIENCE : 0);
	}
	build_log(log, 0, ins, 0x3da, m->input);
	for (unsigned i = 0; i < 3; i++)
		log[ins + i] = (struct mock_access)OUT(i ? 0x3db : 0x3da, 1, m->input[ins - 1]);
	mock_warm(m);
	mock_check_log(m, log, ins + 3);
	mock_check_ended(m);
	mock_check_native(m);

	/* The stop flag is honoured at each turn. */
	for (unsigned stop = 1; stop < ins; stop += 1 + ins / 5) {
		m->stop_at = stop;
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_STOP);
		mock_check_log(m, log, stop);
	}
	mock_free(m);
}

/* The paper saw so many turns in one execution. */
#define TURNS 20000u

static unsigned turns;

static void next_turn(struct mock *m, unsigned number)
{
	(void)number;
	/* The log holds one turn, always the last; the first loop waits, the second does not. */
	m->exits = 1;
	m->inputs = 0;
	m->input[0] = ++turns == TURNS ? 0 : PATIENCE;
}

static void two_polling_loops_long(void)
{
	struct mock *m = mock_new(MOCK_FLAT32, 0, NX_LEVEL_LOOPS);
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	uint64_t ins;

	MOCK_LOAD(m, polls);
	m->start.gpr[NX_RDX] = 0x3da;
	m->start.gpr[NX_RAX] = PATIENCE;
	m->input[1] = PATIENCE;
	m->input[0] = 0;
	mock_warm(m);
	mock_check_ended(m);
	ins = counters->exits_io;
	m->on_exit = next_turn;
	mock_run(m);
	mock_check_ended(m);
	/* The turns of the first loop, one of the second, and three writes: the hardware saw none.
	 */
	assert_int_equal(counters->exits_io - ins, TURNS + 1 + 3);
	mock_free(m);
}

static void two_polling_loops(void **state)
{
	(void)state;
	turns = 0;
	two_polling_loops_long();
	for (enum mock_mode mode = MOCK_FLAT32; mode <= MOCK_PAE32; mode++) {
		two_polling_loops_in(mode, 0, 1);
		two_polling_loops_in(mode, 3, 5);
		two_polling_loops_in(mode, 100, 120);
	}
}

/* Nested polling loops that patch themselves. */

extern const uint8_t nested_jz[], nested_store[], nested_c[], nested_after[];
GUEST(nested, 16, "in al, dx",
      "test al, 8; nested_jz: jz nested_c; loop nested; dec bx; jnz nested; nested_store:"
      "mov byte ptr cs:[0x103], 0xeb; nested_c: mov bx, 0x40; sub cx, cx;"
      "nested_d: in al, dx; test al, 8; jnz nested_after; loop nested_d; dec bx; jnz nested_d;"
      "nested_after:",
      "ret");

static struct mock *new_nested(void)
{
	struct mock *m = mock_new(MOCK_REAL16, 0, NX_LEVEL_LOOPS);

	MOCK_LOAD(m, nested);
	/* Not every assembler takes a difference of labels for the address in the code. */
	assert_int_equal(MOCK_CODE16 + (nested_jz - nested), 0x103);
	m->start.gpr[NX_RDX] = 0x3da;
	m->start.gpr[NX_RAX] = PATIENCE;
	m->start.gpr[NX_RCX] = 0x55550003;
	m->start.gpr[NX_RBX] = 0x66660002;
	return m;
}

static void nested_polling_loops(void **state)
{
	struct mock *m = new_nested();
	static struct mock_access log[MOCK_LOG]; /* too large for a kernel's stack */

	(void)state;
	/* Two turns of the outer loop's inner one, out of it; ten turns of the second, out. */
	for (unsigned i = 0; i < 12; i++)
		m->input[i] = i == 0 || i == 11 ? PATIENCE : 0x40;
	build_log(log, 0, 12, 0x3da, m->input);
	mock_warm(m);
	mock_check_log(m, log, 12);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RBX], 0x66660040);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 0x5555fff7);
	assert_int_equal(nx_engine_state(m->engine)->rip,
			 m->code_rip + (uint64_t)(nested_after - nested));
	mock_check_native(m);
	mock_free(m);
}

static void nested_loops_patched(void **state)
{
	struct mock *m = new_nested();
	const uint64_t store = MOCK_CODE16 + (uint64_t)(nested_store - nested);
	const uint32_t jz = MOCK_CODE + MOCK_CODE16 + (uint32_t)(nested_jz - nested);
	const uint8_t jmp = 0xeb;
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	uint64_t translated;

	(void)state;
	m->input[0] = 0;
	m->input[1] = PATIENCE;
	mock_warm(m);
	m->start.gpr[NX_RCX] = 1;
	m->start.gpr[NX_RBX] = 1;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_CODE_WRITE);
	assert_int_equal(nx_engine_state(m->engine)->rip, store);
	assert_int_equal(m->ram[jz], 0x74);
	assert_int_equal(m->exits, 0);
	/* Up to here the engine does what the processor does; the store is left to the
	 * processor. */
	mock_check_native(m);
	/* The processor has stored. The next entry fails its check; the one after it jumps. */
	translated = counters->translated;
	mock_poke(m, jz, &jmp, 1);
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_CODE_CHANGED);
	assert_int_equal(counters->stale, 1);
	assert_int_equal(m->exits, 0);
	mock_check(m);
	mock_warm(m);
	assert_int_equal(m->exits, 2);
	assert_int_equal(counters->translated, translated + 1);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RBX] & 0xffff, 0x40);
	mock_check_native(m);
	mock_free(m);
}

/* Copying from a device, or from what turns out to be memory. */

GUEST(copies, 64, "mov rbp, [rcx]", "add rcx, 8; dec r9; jnz copies", "ret");

static void copying_from_a_device(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	struct mock_access log[10];

	(void)state;
	m->first_class = NX_CLASS_MMIO;
	MOCK_LOAD(m, copies);
	m->start.gpr[NX_RCX] = MOCK_DEVICE;
	m->start.gpr[NX_R9] = 11;
	for (unsigned i = 0; i < 10; i++) {
		m->input[i] = 0x0123456789abcdef * (i + 1);
		log[i] = (struct mock_access)LOAD(MOCK_DEVICE + 8 + 8 * i, 8, m->input[i]);
	}
	mock_warm(m);
	mock_check_log(m, log, 10);
	assert_int_equal(nx_engine_state(m->engine)->rip, m->stop_rip);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_R9], 0);
	mock_check_native(m);

	/* Ordinary memory: nothing exits. Ten times back, then the cluster is left and retired. */
	m->start.gpr[NX_RCX] = MOCK_DATA;
	m->start.gpr[NX_R9] = 100;
	mock_run(m);
	assert_int_equal(m->exits, 0);
	assert_int_equal(m->reason, NX_LEAVE_TURNS);
	m->want.gpr[NX_R9] = 100 - 11;
	m->want.gpr[NX_RCX] = MOCK_DATA + 11 * 8;
	memcpy(&m->want.gpr[NX_RBP], m->start_ram + MOCK_DATA + 11 * 8, 8);
	m->want.rflags = nx_engine_state(m->engine)->rflags;
	mock_check(m);
	assert_int_equal(counters->retired, 1);
	/* The cluster is not built again at the next exit either. */
	for (unsigned i = 0; i < 4; i++) {
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_COLD);
	}
	assert_int_equal(counters->translated, 1);
	mock_free(m);
}

/* Device registers with ordinary work between. */

extern const uint8_t work_second[], work_third[];
GUEST(work, 64, "mov edx, [rax-0x201000]",
      "mov eax, [rsi*8-0x7fc4215c]; and eax, 0xfff; sub rcx, rax;"
      "work_second: mov r8d, [rdi-0x200ff0]; mov eax, [rsi*8-0x7fc4215c]; mov [rsp+0x60], edx;"
      "and eax, 0xfff; sub rcx, rax; work_third: mov edi, [rbx-0x201000]",
      "mov [rip+0x21f1a1], rcx; ret");

static void work_between_registers(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_DYNAMIC);
	static const struct mock_access log[] = {LOAD(MOCK_DEVICE + 0x10, 4, 0x11223344),
						 LOAD(MOCK_DEVICE + 0x20, 4, 0x55667788)};
	const uint64_t second = MOCK_CODE + (uint64_t)(work_second - work);
	const uint64_t third = MOCK_CODE + (uint64_t)(work_third - work);
	struct nx_cluster_info info;

	(void)state;
	m->first_class = NX_CLASS_MMIO;
	MOCK_LOAD(m, work);
	m->start.gpr[NX_RSI] = (MOCK_DATA + 4 + 0x7fc4215cull) / 8;
	m->start.gpr[NX_RDI] = MOCK_DEVICE + 0x10 + 0x200ff0;
	m->start.gpr[NX_RBX] = MOCK_DEVICE + 0x20 + 0x201000;
	m->start.gpr[NX_RDX] = 0xfeed;
	m->input[0] = 0x11223344;
	m->input[1] = 0x55667788;
	/* The hardware meets three exits in each of the executions before. */
	for (unsigned i = 0; i < 2; i++) {
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_COLD);
		assert_false(mock_worth_resuming(m, second, NX_CLASS_MMIO));
		assert_false(mock_worth_resuming(m, third, NX_CLASS_MMIO));
	}
	mock_warm(m);
	mock_check_log(m, log, 2);
	mock_check_ended(m);
	mock_check_native(m);
	mock_cluster(m, m->resume_rip, &info);
	assert_int_equal(info.instructions, 9);
	assert_int_equal(info.exiting, 2);
	mock_free(m);
}

/* The exit is in the middle of a loop's body. */

GUEST(prints, 64, "mov al, [rsi]; out dx, al", "inc rsi; dec ecx; jnz prints", "ret");

static void exit_in_a_loops_middle(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 3, NX_LEVEL_LOOPS);
	static struct mock_access log[200];

	(void)state;
	MOCK_LOAD(m, prints);
	m->start.gpr[NX_RSI] = MOCK_DATA;
	m->start.gpr[NX_RCX] = 201;
	m->start.gpr[NX_RDX] = 0x3f8;
	for (unsigned i = 0; i < 200; i++)
		log[i] = (struct mock_access)OUT(0x3f8, 1, m->start_ram[MOCK_DATA + 1 + i]);
	mock_warm(m);
	mock_check_log(m, log, 200);
	assert_int_equal(nx_engine_state(m->engine)->rip, m->stop_rip);
	mock_check_native(m);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(work_between_registers), cmocka_unit_test(two_polling_loops),
	    cmocka_unit_test(nested_polling_loops),   cmocka_unit_test(nested_loops_patched),
	    cmocka_unit_test(copying_from_a_device),  cmocka_unit_test(exit_in_a_loops_middle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
