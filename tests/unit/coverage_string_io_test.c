// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * INS and OUTS: which elements reach the host in which exits, and where the guest stands when it
 * cannot go on.
 */
#include "mock.h"

#define DF 0x400u
#define PORT 0x1f0u

#define CASES(X)                  \
	X(outsb, "outsb")         \
	X(outsw, "outsw")         \
	X(outsd, "outsd")         \
	X(rep_outsb, "rep outsb") \
	X(rep_outsw, "rep outsw") \
	X(insb, "insb")           \
	X(rep_insb, "rep insb")   \
	X(rep_insw, "rep insw")   \
	X(rep_insd, "rep insd")

#define DEFINE(name, code)                                             \
	GUEST(s16_##name, 16, "in al, dx", code, "out 0x80, al; ret"); \
	GUEST(s32_##name, 32, "in al, dx", code, "out 0x80, al; ret"); \
	GUEST(s64_##name, 64, "in al, dx", code, "out 0x80, al; ret");
CASES(DEFINE)

struct code {
	const uint8_t *code, *resume, *stop, *end;
};

enum {
#define ID(name, code) name,
	CASES(ID)
};

#define ROW(bits, name)                                                        \
	{s##bits##_##name, s##bits##_##name##_resume, s##bits##_##name##_stop, \
	 s##bits##_##name##_end},
#define ROW_16(name, code) ROW(16, name)
#define ROW_32(name, code) ROW(32, name)
#define ROW_64(name, code) ROW(64, name)
static const struct code codes[3][9] = {{CASES(ROW_16)}, {CASES(ROW_32)}, {CASES(ROW_64)}};

/* What the last run did. */
struct result {
	unsigned exits;
	unsigned count[16];  /* of elements in each */
	uint8_t bytes[8192]; /* sent by OUTS, one exit's after the other's */
	unsigned size;       /* of them */
	bool ended;          /* all elements are done: at the OUT behind */
	enum nx_status reason;
};

static struct mock *new_guest(enum mock_mode mode, unsigned id)
{
	struct mock *m = mock_new(mode, 0, NX_LEVEL_LOOPS);
	const struct code *code = &codes[mode <= MOCK_PROT16 ? 0 : mode == MOCK_LONG64 ? 2 : 1][id];
	const bool based = mode <= MOCK_PROT16;

	mock_load(m, code->code, code->resume, code->stop, code->end);
	m->start.gpr[NX_RDX] = PORT;
	m->start.gpr[NX_RCX] = 3;
	m->start.gpr[NX_RSI] = based ? 0x100 : MOCK_DATA + 0x100;
	m->start.gpr[NX_RDI] = based ? 0x100 : MOCK_EXTRA + 0x100;
	return m;
}

/* What the device answers: the position in the whole. */
static void answer(struct mock *m, struct nx_exit *exit, struct result *result, bool write,
		   unsigned size)
{
	assert_int_equal(exit->kind, NX_EXIT_IO);
	assert_int_equal(exit->write, write);
	assert_int_equal(exit->size, size);
	assert_int_equal(exit->port, PORT);
	assert_non_null(exit->string);
	assert_in_range(exit->count, 1, NX_STRING_BYTES / size);
	assert_int_equal(nx_engine_state(m->engine)->rip, m->resume_rip);
	assert_in_range(result->exits, 0, 15);
	assert_in_range(result->size + exit->count * size, 0, sizeof(result->bytes));
	result->count[result->exits++] = exit->count;
	for (unsigned i = 0; i < exit->count * size; i++, result->size++) {
		if (write)
			result->bytes[result->size] = exit->string[i];
		else
			exit->string[i] = (uint8_t)(result->size * 3 + (result->size >> 8) + 1);
	}
}

static void run(struct mock *m, bool write, unsigned size, struct result *result)
{
	for (unsigned tries = 0; tries < 8; tries++) {
		struct nx_exit exit = {.size = 0};

		memset(result, 0, sizeof(*result));
		*nx_engine_state(m->engine) = m->start;
		memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
		if (!mock_worth_resuming(m, m->code_rip, NX_CLASS_IO))
			continue;
		while (nx_engine_resume(m->engine, &exit) == NX_EXIT) {
			result->ended = exit.rip == m->stop_rip;
			if (result->ended)
				break;
			answer(m, &exit, result, write, size);
		}
		nx_engine_forget_exit(m->engine);
		result->reason = result->ended ? NX_LEAVE_REASON_COUNT : exit.reason;
		if (result->reason != NX_LEAVE_COLD)
			return;
	}
	fail_msg("never translated");
}

static void check_registers(const struct mock *m, unsigned elements, int step_si, int step_di)
{
	const struct nx_state *got = nx_engine_state(m->engine);

	assert_int_equal(got->gpr[NX_RCX], m->start.gpr[NX_RCX] - elements);
	assert_int_equal(got->gpr[NX_RSI], m->start.gpr[NX_RSI] + (uint64_t)(int64_t)step_si);
	assert_int_equal(got->gpr[NX_RDI], m->start.gpr[NX_RDI] + (uint64_t)(int64_t)step_di);
}

static void check_sent(const struct mock *m, const struct result *result, uint32_t from,
		       unsigned size)
{
	assert_int_equal(result->size, size);
	assert_memory_equal(result->bytes, m->start_ram + from, size);
}

static void check_received(const struct mock *m, uint32_t to, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		assert_int_equal(m->ram[to + i], (uint8_t)(i * 3 + (i >> 8) + 1));
	/* And nothing else. */
	assert_memory_equal(m->ram + to + size, m->start_ram + to + size, 64);
	assert_memory_equal(m->ram + to - 64, m->start_ram + to - 64, 64);
}

static const enum mock_mode modes[] = {MOCK_REAL16, MOCK_PROT16, MOCK_FLAT32, MOCK_PAE32,
				       MOCK_LONG64};
#define FOR_MODES                                                                               \
	for (const enum mock_mode *mode = modes; mode < modes + sizeof(modes) / sizeof(*modes); \
	     mode++)

static void single_elements(void **state)
{
	static const struct {
		unsigned id, size;
		bool write;
	} rows[] = {{outsb, 1, true}, {outsw, 2, true}, {outsd, 4, true}, {insb, 1, false}};

	(void)state;
	FOR_MODES
	{
		for (unsigned i = 0; i < 8; i++) {
			const unsigned size = rows[i % 4].size;
			struct mock *m = new_guest(*mode, rows[i % 4].id);
			const int step = i < 4 ? (int)size : -(int)size;
			struct result result;

			if (i >= 4)
				m->start.rflags |= DF;
			m->start.gpr[NX_RCX] = 0; /* does not count */
			run(m, rows[i % 4].write, size, &result);
			assert_true(result.ended);
			assert_int_equal(result.exits, 1);
			assert_int_equal(result.count[0], 1);
			check_registers(m, 0, rows[i % 4].write ? step : 0,
					rows[i % 4].write ? 0 : step);
			if (rows[i % 4].write)
				check_sent(m, &result, MOCK_DATA + 0x100, size);
			else
				check_received(m, MOCK_EXTRA + 0x100, size);
			mock_free(m);
		}
	}
}

static void repeated(void **state)
{
	(void)state;
	FOR_MODES
	{
		struct mock *m = new_guest(*mode, rep_outsw);
		struct result result;

		run(m, true, 2, &result);
		assert_true(result.ended);
		assert_int_equal(result.exits, 1);
		check_registers(m, 3, 6, 0);
		check_sent(m, &result, MOCK_DATA + 0x100, 6);
		mock_free(m);
		m = new_guest(*mode, rep_insw);
		run(m, false, 2, &result);
		assert_true(result.ended);
		assert_int_equal(result.exits, 1);
		check_registers(m, 3, 0, 6);
		check_received(m, MOCK_EXTRA + 0x100, 6);
		mock_free(m);
	}
}

static void no_elements(void **state)
{
	(void)state;
	FOR_MODES
	{
		for (unsigned id = rep_outsb; id <= rep_insb; id += rep_insb - rep_outsb) {
			struct mock *m = new_guest(*mode, id);
			struct result result;

			/* Only what the address size counts. */
			m->start.gpr[NX_RCX] = *mode <= MOCK_PROT16 ? 0x50000 : 0;
			run(m, id == rep_outsb, 1, &result);
			assert_true(result.ended);
			assert_int_equal(result.exits, 0);
			check_registers(m, 0, 0, 0);
			mock_free(m);
		}
	}
}

static void one_buffer_at_a_time(void **state)
{
	(void)state;
	FOR_MODES
	{
		struct mock *m = new_guest(*mode, rep_outsb);
		struct result result;

		m->start.gpr[NX_RCX] = 2500;
		run(m, true, 1, &result);
		assert_true(result.ended);
		assert_int_equal(result.exits, 3);
		assert_int_equal(result.count[0], 1024);
		assert_int_equal(result.count[1], 1024);
		assert_int_equal(result.count[2], 452);
		check_registers(m, 2500, 2500, 0);
		check_sent(m, &result, MOCK_DATA + 0x100, 2500);
		mock_free(m);
		m = new_guest(*mode, rep_insd);
		m->start.gpr[NX_RCX] = 300;
		run(m, false, 4, &result);
		assert_true(result.ended);
		assert_int_equal(result.exits, 2);
		assert_int_equal(result.count[0], 256);
		check_registers(m, 300, 0, 1200);
		check_received(m, MOCK_EXTRA + 0x100, 1200);
		mock_free(m);
	}
}

static void backwards(void **state)
{
	(void)state;
	FOR_MODES
	{
		struct mock *m = new_guest(*mode, rep_outsb);
		struct result result;

		m->start.rflags |= DF;
		run(m, true, 1, &result);
		assert_true(result.ended);
		assert_int_equal(result.exits, 3);
		check_registers(m, 3, -3, 0);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(result.bytes[i], m->start_ram[MOCK_DATA + 0x100 - i]);
		mock_free(m);
		m = new_guest(*mode, rep_insb);
		m->start.rflags |= DF;
		run(m, false, 1, &result);
		assert_true(result.ended);
		check_registers(m, 3, 0, -3);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(m->ram[MOCK_EXTRA + 0x100 - i], i * 3 + 1);
		mock_free(m);
	}
}

static void page_ends(void **state)
{
	(void)state;
	FOR_MODES
	{
		struct mock *m = new_guest(*mode, rep_insd);
		const uint64_t base = m->start.gpr[NX_RDI] - 0x100;
		struct result result;

		m->start.gpr[NX_RCX] = 4;
		m->start.gpr[NX_RDI] = base + 0xff8;
		run(m, false, 4, &result);
		assert_true(result.ended);
		assert_int_equal(result.exits, 2);
		assert_int_equal(result.count[0], 2);
		check_registers(m, 4, 0, 16);
		check_received(m, MOCK_EXTRA + 0xff8, 16);
		/* An element that lies in two pages is the processor's. */
		m->start.gpr[NX_RDI] = base + 0xffa;
		run(m, false, 4, &result);
		assert_int_equal(result.reason, NX_LEAVE_PAGE_CROSSING);
		assert_int_equal(result.exits, 1);
		assert_int_equal(nx_engine_state(m->engine)->rip, m->resume_rip);
		check_registers(m, 1, 0, 4);
		check_received(m, MOCK_EXTRA + 0xffa, 4);
		mock_free(m);
	}
}

static void segment_ends(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_PROT16; mode <= MOCK_PAE32; mode++) {
		struct mock *m = new_guest(mode, rep_insw);
		struct result result;

		m->start.seg[NX_ES].limit = (uint32_t)m->start.gpr[NX_RDI] + 4;
		run(m, false, 2, &result);
		assert_int_equal(result.reason, NX_LEAVE_SEGMENT);
		assert_int_equal(nx_engine_state(m->engine)->rip, m->resume_rip);
		check_registers(m, 2, 0, 4);
		check_received(m, MOCK_EXTRA + 0x100, 4);
		mock_free(m);
		m = new_guest(mode, rep_outsw);
		m->start.seg[NX_DS].limit = (uint32_t)m->start.gpr[NX_RSI] + 4;
		run(m, true, 2, &result);
		assert_int_equal(result.reason, NX_LEAVE_SEGMENT);
		check_registers(m, 2, 4, 0);
		check_sent(m, &result, MOCK_DATA + 0x100, 4);
		mock_free(m);
	}
}

/* The address wraps at 64 KiB; each element on its own does not. */
static void sixteen_bit_wrap(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_REAL16; mode <= MOCK_PROT16; mode++) {
		struct mock *m = new_guest(mode, rep_outsb);
		const uint8_t last[] = {0xe1, 0xe2};
		struct result result;

		mock_poke(m, MOCK_DATA + 0xfffe, last, 2);
		m->start.gpr[NX_RSI] = 0x7777fffe;
		m->start.gpr[NX_RCX] = 4;
		run(m, true, 1, &result);
		assert_true(result.ended);
		assert_int_equal(result.size, 4);
		assert_memory_equal(result.bytes, last, 2);
		assert_memory_equal(result.bytes + 2, m->start_ram + MOCK_DATA, 2);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RSI], 0x77770002);
		mock_free(m);
	}
}

static void what_is_not_memory(void **state)
{
	(void)state;
	FOR_MODES
	{
		for (unsigned kind = 0; kind < 2; kind++) {
			struct mock *m = new_guest(*mode, kind ? rep_insb : rep_outsb);
			const uint32_t page = kind ? MOCK_EXTRA : MOCK_DATA;
			struct result result;

			m->page[page / 4096] = MOCK_PAGE_DEVICE;
			run(m, !kind, 1, &result);
			assert_int_equal(result.reason, NX_LEAVE_DEVICE_FORM);
			assert_int_equal(result.exits, 0);
			check_registers(m, 0, 0, 0);
			m->page[page / 4096] = kind ? MOCK_PAGE_READONLY : MOCK_PAGE_LEAVE;
			run(m, !kind, 1, &result);
			assert_int_equal(result.reason, NX_LEAVE_HOST_PAGE);
			check_registers(m, 0, 0, 0);
			m->page[page / 4096] = MOCK_PAGE_RAM;
			m->leave_port = PORT;
			run(m, !kind, 1, &result);
			assert_int_equal(result.reason, NX_LEAVE_HOST_ROUTE);
			check_registers(m, 0, 0, 0);
			mock_free(m);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(single_elements),    cmocka_unit_test(repeated),
	    cmocka_unit_test(no_elements),        cmocka_unit_test(one_buffer_at_a_time),
	    cmocka_unit_test(backwards),          cmocka_unit_test(page_ends),
	    cmocka_unit_test(segment_ends),       cmocka_unit_test(sixteen_bit_wrap),
	    cmocka_unit_test(what_is_not_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
