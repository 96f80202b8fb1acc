// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Segments of odd shapes: expand-down ones, where what lies above the limit is inside, up to 64 KiB
 * or 4 GiB; real mode's, with loads and large limits; and the A20 gate.
 */
#include "mock.h"

#define EXPAND_DOWN 7u /* writable */
#define LIMIT 0x0fffu  /* offsets from 0x1000 on are inside */

GUEST(plain_16, 16, "in al, dx", "mov cx, [bx]; mov [di], cx; out 0x80, al", "ret");
GUEST(plain_32, 32, "in al, dx", "mov cx, [ebx]; mov [edi], cx; out 0x80, al", "ret");
GUEST(string_16, 16, "in al, dx", "lodsw; out 0x80, al", "ret");
GUEST(string_32, 32, "in al, dx", "lodsw; out 0x80, al", "ret");
GUEST(stack_16, 16, "in al, dx", "push cx; pusha; popa; pop bp; out 0x80, al", "ret");
GUEST(stack_32, 32, "in al, dx", "push ecx; pusha; popa; pop ebp; out 0x80, al", "ret");

enum { PLAIN, STRING, STACK };

static struct mock *new_guest(enum mock_mode mode, unsigned code)
{
	struct nx_segment *ds, *ss;
	struct nx_config config;
	struct mock *m;

	nx_config_default(&config);
	config.level = NX_LEVEL_STRAIGHT;
	config.max_gap_accesses = 8;
	m = mock_new_config(mode, 0, &config);
	ds = &m->start.seg[NX_DS];
	ss = &m->start.seg[NX_SS];
	if (mode == MOCK_PROT16) {
		if (code == PLAIN)
			MOCK_LOAD(m, plain_16);
		else if (code == STRING)
			MOCK_LOAD(m, string_16);
		else
			MOCK_LOAD(m, stack_16);
	} else {
		if (code == PLAIN)
			MOCK_LOAD(m, plain_32);
		else if (code == STRING)
			MOCK_LOAD(m, string_32);
		else
			MOCK_LOAD(m, stack_32);
	}
	ds->base = MOCK_DATA;
	ds->limit = LIMIT;
	ds->type = EXPAND_DOWN;
	ss->base = MOCK_STACK;
	ss->limit = LIMIT;
	ss->type = EXPAND_DOWN;
	m->start.gpr[NX_RSP] = 0x2000;
	m->start.gpr[NX_RBX] = m->start.gpr[NX_RSI] = LIMIT + 1;
	m->start.gpr[NX_RDI] = LIMIT + 3;
	mock_warm(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	return m;
}

static void check_refused(struct mock *m)
{
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_SEGMENT);
	assert_int_equal(m->exits, 0);
}

static void check_run(struct mock *m)
{
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
}

static uint16_t word_at(const struct mock *m, uint32_t offset)
{
	return (uint16_t)(m->start_ram[MOCK_DATA + offset] | m->start_ram[MOCK_DATA + offset + 1]
								 << 8);
}

static void accesses_in(enum mock_mode mode)
{
	struct mock *m = new_guest(mode, PLAIN);
	struct nx_segment *ds = &m->start.seg[NX_DS];
	const uint32_t top = ds->db ? 0xffffffff : 0xffff;

	/* The lowest offset that is inside; the result is the value there. */
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX] & 0xffff, word_at(m, LIMIT + 1));
	assert_memory_equal(m->ram + MOCK_DATA + LIMIT + 3, m->start_ram + MOCK_DATA + LIMIT + 1,
			    2);
	/* The first byte decides, though the second one would be inside. */
	m->start.gpr[NX_RBX] = LIMIT;
	check_refused(m);
	mock_check(m);
	m->start.gpr[NX_RBX] = 0;
	check_refused(m);
	/* The other end: the last word, and one byte too far. */
	m->start.gpr[NX_RBX] = top - 1;
	ds->base = (uint32_t)(MOCK_DATA + 0x100 - (top - 1));
	m->start.gpr[NX_RDI] = top - 0x21;
	check_run(m);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX] & 0xffff, word_at(m, 0x100));
	m->start.gpr[NX_RBX] = top;
	check_refused(m);
	mock_check(m);
	/* Another limit needs no other translation. */
	ds->base = MOCK_DATA;
	ds->limit = 0x17ff;
	m->start.gpr[NX_RBX] = 0x1800;
	m->start.gpr[NX_RDI] = 0x17ff;
	check_refused(m);
	m->start.gpr[NX_RDI] = 0x1802;
	check_run(m);
	/* Readable only. */
	ds->type = EXPAND_DOWN & ~2u;
	check_refused(m);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX] & 0xffff, word_at(m, 0x1800));
	/* The same limit upwards: another kind of code. */
	ds->type = EXPAND_DOWN & ~4u;
	m->start.gpr[NX_RBX] = 0x200;
	m->start.gpr[NX_RDI] = 0x17fe;
	mock_warm(m);
	assert_int_equal(m->exits, 1);
	m->start.gpr[NX_RDI] = 0x17ff;
	check_refused(m);
	mock_free(m);
}

static void accesses(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_PROT16; mode <= MOCK_PAE32; mode++)
		accesses_in(mode);
}

static void helpers(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_PROT16; mode <= MOCK_PAE32; mode++) {
		struct mock *m = new_guest(mode, STRING);

		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RAX] & 0xffff,
				 word_at(m, LIMIT + 1));
		m->start.gpr[NX_RSI] = LIMIT;
		check_refused(m);
		mock_check(m);
		mock_free(m);
	}
}

/* What such segments are for: a stack that grows by making the limit lower. */
static void stacks(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_PROT16; mode <= MOCK_PAE32; mode++) {
		struct mock *m = new_guest(mode, STACK);
		const unsigned size = mode == MOCK_PROT16 ? 2 : 4;
		const uint64_t mask = size == 2 ? 0xffff : 0xffffffff;

		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RBP] & mask,
				 m->start.gpr[NX_RCX] & mask);
		/* Nine words are pushed: they fit exactly; then the last does not. */
		m->start.gpr[NX_RSP] = LIMIT + 1 + 9 * size;
		check_run(m);
		m->start.gpr[NX_RSP]--;
		check_refused(m);
		m->start.gpr[NX_RSP] = LIMIT + size;
		check_refused(m);
		mock_check(m);
		mock_free(m);
	}
}

GUEST(pusha_32, 32, "in al, dx", "pusha; popa; out 0x80, al", "ret");

/* Two of eight words fit: the page is not marked for an instruction that faults. */
static void half_a_pusha_marks_nothing(void **state)
{
	const uint64_t marks = 0x60, stack = MOCK_STACK | 7;
	struct nx_config config;
	struct mock *m;

	(void)state;
	nx_config_default(&config);
	config.max_gap_accesses = 16;
	m = mock_new_config(MOCK_PAE32, 0, &config);
	MOCK_LOAD(m, pusha_32);
	mock_set_pte(m, MOCK_STACK, stack);
	m->start.seg[NX_SS].base = MOCK_STACK;
	m->start.seg[NX_SS].limit = 0xfff;
	m->start.gpr[NX_RSP] = 32;
	mock_warm(m);
	assert_int_equal(m->exits, 1);
	assert_int_equal(mock_pte(m, m->ram, MOCK_STACK) & marks, marks);
	m->start.gpr[NX_RSP] = 8;
	mock_run(m);
	assert_int_equal(m->exits, 0);
	assert_int_equal(m->reason, NX_LEAVE_SEGMENT);
	assert_int_equal(mock_pte(m, m->ram, MOCK_STACK) & marks, 0);
	mock_check(m);
	/* The last four are on a page that is not there. */
	m->start.seg[NX_SS].limit = 0x1fff;
	m->start.gpr[NX_RSP] = 0x1010;
	mock_set_pte(m, MOCK_STACK, 0);
	mock_set_pte(m, MOCK_STACK + 0x1000, stack + 0x1000);
	mock_run(m);
	assert_int_equal(m->exits, 0);
	assert_int_equal(m->reason, NX_LEAVE_PAGE_CROSSING);
	assert_int_equal(mock_pte(m, m->ram, MOCK_STACK + 0x1000) & marks, 0);
	mock_check(m);
	mock_free(m);
}

/* ---- Real mode: loads of segment registers, for a host that takes them back ---- */

GUEST(loads_16, 16, "in al, dx",
      "mov es, [si]; mov ax, es:[di]; mov bx, 0x3000; mov fs, bx; mov cx, fs:[di]; push ds; .byte "
      "0x0f, 0xa9;"
      "mov bp, gs:[di]; out 0x80, al",
      "ret");

static void real_mode_loads(void **state)
{
	static const struct mock_access log[] = {OUT(0x80, 1, 0xcd)};
	const uint16_t selector = MOCK_EXTRA >> 4, in_extra = 0xabcd, in_stack = 0x1234;
	struct nx_config config;
	struct nx_state got;
	struct mock *m;

	(void)state;
	nx_config_default(&config);
	config.max_gap_accesses = 8;
	config.segment_loads = true;
	m = mock_new_config(MOCK_REAL16, 0, &config);
	MOCK_LOAD(m, loads_16);
	m->start.gpr[NX_RSI] = 0x200;
	m->start.gpr[NX_RDI] = 0x300;
	mock_poke(m, MOCK_DATA + 0x200, &selector, 2);
	mock_poke(m, MOCK_EXTRA + 0x300, &in_extra, 2);
	mock_poke(m, MOCK_STACK + 0x300, &in_stack, 2);
	m->start.seg[NX_ES].base = MOCK_STACK; /* not yet */
	m->start.seg[NX_ES].selector = MOCK_STACK >> 4;
	mock_warm(m);
	mock_check_log(m, log, 1);
	got = *nx_engine_state(m->engine);
	assert_true(got.segments_changed);
	assert_int_equal(got.seg[NX_ES].selector, selector);
	assert_int_equal(got.seg[NX_ES].base, MOCK_EXTRA);
	assert_int_equal(got.seg[NX_FS].base, MOCK_STACK);
	assert_int_equal(got.seg[NX_GS].base, MOCK_DATA);
	assert_int_equal(got.gpr[NX_RAX] & 0xffff, in_extra);
	assert_int_equal(got.gpr[NX_RCX] & 0xffff, in_stack);
	assert_int_equal(got.gpr[NX_RBP] & 0xffff,
			 m->start_ram[MOCK_DATA + 0x300] | m->start_ram[MOCK_DATA + 0x301] << 8);
	mock_free(m);
}

GUEST(fars_16, 16, "in al, dx",
      "les bx, [si]; mov ax, es:[bx]; lgs ebp, [si+4]; mov cx, gs:[bp]; lfs di, es:[bx+4]; "
      "lds si, [si+4]; mov dx, [si]; out 0x80, al",
      "ret");

static struct mock *new_fars(void)
{
	static const uint16_t words[] = {0x300, MOCK_EXTRA >> 4, 0x310, 0x5a, MOCK_STACK >> 4};
	static const uint16_t in_extra[] = {0xabcd, 0, 0x7777, 0x8888};
	struct nx_config config;
	struct mock *m;

	nx_config_default(&config);
	config.max_gap_accesses = 12;
	config.segment_loads = true;
	m = mock_new_config(MOCK_REAL16, 0, &config);
	MOCK_LOAD(m, fars_16);
	m->start.gpr[NX_RSI] = 0x200;
	mock_poke(m, MOCK_DATA + 0x200, words, 4);
	/* A 32-bit offset of which all counts for LGS, and 16 bits, selector behind, for LDS. */
	mock_poke(m, MOCK_DATA + 0x204, words + 2, 6);
	mock_poke(m, MOCK_EXTRA + 0x300, in_extra, 8);
	return m;
}

static void real_mode_far_pointers(void **state)
{
	static const struct mock_access log[] = {OUT(0x80, 1, 0xcd)};
	struct mock *m = new_fars();
	struct nx_state got;

	(void)state;
	mock_warm(m);
	mock_check_log(m, log, 1);
	got = *nx_engine_state(m->engine);
	assert_true(got.segments_changed);
	assert_int_equal(got.seg[NX_ES].selector, MOCK_EXTRA >> 4);
	assert_int_equal(got.seg[NX_ES].base, MOCK_EXTRA);
	assert_int_equal(got.seg[NX_ES].limit, m->start.seg[NX_ES].limit);
	assert_int_equal(got.gpr[NX_RBX] & 0xffff, 0x300);
	assert_int_equal(got.seg[NX_GS].base, MOCK_STACK);
	assert_int_equal(got.gpr[NX_RBP], 0x5a0310);
	assert_int_equal(got.seg[NX_FS].base, 0x88880);
	assert_int_equal(got.gpr[NX_RDI] & 0xffff, 0x7777);
	assert_int_equal(got.seg[NX_DS].base, 0x5a0);
	assert_int_equal(got.gpr[NX_RSI], 0x310);
	mock_free(m);
}

/*
 * Firmware made by a compiler: it returns by 32 bits, loads ES on the way to its next exit, and
 * branches around the exits in static reach.
 */
GUEST(returns_16, 16, "in al, 0x92", "test al, al; jnz 1f; out 0x92, al; 1: .byte 0x66; ret 4",
      "mov es, si; mov es:[0x10], al; mov ax, ss; mov es:[0x12], ax; in al, 0x70; cli; cpuid");

static void wide_returns(void **state)
{
	static const struct mock_access log[] = {IN(0x70, 1, 0x8f)};
	struct nx_config config;
	uint64_t back;
	struct mock *m;

	(void)state;
	nx_config_default(&config);
	config.segment_loads = true;
	m = mock_new_config(MOCK_REAL16, 0, &config);
	MOCK_LOAD(m, returns_16);
	m->start.gpr[NX_RAX] = 2;
	m->start.gpr[NX_RSI] = MOCK_EXTRA >> 4;
	m->start.gpr[NX_RSP] = 0xf00;
	m->input[0] = 0x8f;
	back = m->stop_rip;
	mock_poke(m, MOCK_STACK + 0xf00, &back, 4);
	mock_warm(m);
	mock_check_log(m, log, 1);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RSP], 0xf08);
	assert_int_equal(m->ram[MOCK_EXTRA + 0x10], 2);

	/* The upper half is not 0: a fault, and the processor's. */
	back |= 0x10000;
	mock_poke(m, MOCK_STACK + 0xf00, &back, 4);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(mock_run(m), NX_LEAVE_GUARD);
		assert_int_equal(m->exits, 0);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RSP], 0xf00);
	}
	mock_free(m);
}

/* The pointer is one operand: across the segment's end it faults, and does not wrap around. */
static void far_pointer_at_the_limit(void **state)
{
	struct mock *m = new_fars();

	(void)state;
	mock_warm(m);
	for (unsigned beyond = 0; beyond < 4; beyond++) {
		m->start.gpr[NX_RSI] = 0xfffc + beyond;
		mock_run(m);
		if (!beyond) {
			assert_int_not_equal(nx_engine_state(m->engine)->rip, m->resume_rip);
			continue;
		}
		assert_int_equal(m->reason, NX_LEAVE_SEGMENT);
		assert_int_equal(nx_engine_state(m->engine)->rip, m->resume_rip);
		mock_check(m);
	}
	mock_free(m);
}

/* ---- Real mode with limits left over from protected mode ---- */

GUEST(big_16, 16, "in al, dx", "mov ecx, [esi]; mov [edi], ecx; out 0x80, al", "ret");

static void real_mode_with_large_limits(void **state)
{
	struct mock *m = mock_new(MOCK_REAL16, 0, NX_LEVEL_STRAIGHT);
	struct nx_segment *ds = &m->start.seg[NX_DS];
	const uint32_t far = MOCK_EXTRA - MOCK_DATA; /* 128 KiB above DS */

	(void)state;
	MOCK_LOAD(m, big_16);
	m->start.gpr[NX_RSI] = far + 4;
	m->start.gpr[NX_RDI] = far + 0x10008;
	ds->limit = 0xffffffff;
	mock_poke(m, MOCK_EXTRA + 4, "\x12\x34\x56\x78", 4);
	mock_warm(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	m->want.gpr[NX_RCX] = 0x78563412;
	m->want.rip = m->stop_rip;
	mock_want_memory(m, MOCK_EXTRA + 0x10008, 4, 0x78563412);
	mock_check(m);
	/* 4 GiB, but no more: the sum wraps, an access across the end is none. */
	m->start.gpr[NX_RSI] = 0xfffffffd;
	check_refused(m);
	m->start.gpr[NX_RSI] = 0u - MOCK_DATA + MOCK_EXTRA + 4;
	m->start.gpr[NX_RDI] = 0u - MOCK_DATA + MOCK_EXTRA + 8;
	check_run(m);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 0x78563412);
	/* Between 64 KiB and 4 GiB. */
	m->start.gpr[NX_RSI] = far + 4;
	m->start.gpr[NX_RDI] = far + 8;
	ds->limit = far + 11;
	check_run(m);
	ds->limit = far + 10;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_SEGMENT);
	ds->limit = 0xffff;
	check_refused(m);
	mock_check(m);
	/* An expand-down one: processors differ in what its limit means here. */
	ds->type = EXPAND_DOWN;
	for (unsigned i = 0; i < 4; i++)
		mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_SEGMENT);
	mock_free(m);
}

/* ---- The A20 gate, which is the host's: its pages are ---- */

#define BIT_20 0x100000u

static void (*open_map)(void *data, uint64_t gpa, struct nx_page *page);

static void closed_map(void *data, uint64_t gpa, struct nx_page *page)
{
	open_map(data, gpa & ~(uint64_t)BIT_20, page);
}

GUEST(gate_16, 16, "in al, dx", "mov cx, [bx]; mov [bx+2], cx; out 0x80, al", "ret");
GUEST(gate_32, 32, "in al, dx", "mov [esi], cl; out 0x80, al", "ret");

static void a20(void **state)
{
	const uint32_t low = 0x10;
	struct mock *m = mock_new(MOCK_REAL16, 0, NX_LEVEL_STRAIGHT);
	const struct mock_access above[] = {LOAD(BIT_20 + low, 2, 0x5a5a),
					    STORE(BIT_20 + low + 2, 2, 0x5a5a), OUT(0x80, 1, 0x11)};

	(void)state;
	MOCK_LOAD(m, gate_16);
	m->start.seg[NX_DS].base = 0xffff0;
	m->start.seg[NX_DS].selector = 0xffff;
	m->start.gpr[NX_RBX] = low + 0x10;
	m->start.gpr[NX_RAX] = 0x11;
	m->input[0] = 0x5a5a;
	mock_poke(m, low, "\xcd\xab", 2);
	/* Open: real-mode addresses go on above 1 MiB, which is a device here. */
	mock_warm(m);
	mock_check_log(m, above, 3);
	/* Closed: they begin again at 0. */
	open_map = m->host.map_page;
	m->host.map_page = closed_map;
	check_run(m);
	m->want.gpr[NX_RCX] = (m->start.gpr[NX_RCX] & ~0xffffull) | 0xabcd;
	m->want.rip = m->stop_rip;
	mock_want_memory(m, low + 2, 2, 0xabcd);
	mock_check(m);
	mock_free(m);

	/* Its own code by the other address, and what lies beside it. */
	m = mock_new(MOCK_FLAT32, 0, NX_LEVEL_STRAIGHT);
	MOCK_LOAD(m, gate_32);
	m->host.map_page = closed_map;
	m->start.gpr[NX_RSI] = MOCK_DATA | BIT_20;
	mock_warm(m);
	mock_check_ended(m);
	assert_int_equal(m->ram[MOCK_DATA], m->start.gpr[NX_RCX] & 0xff);
	m->start.gpr[NX_RSI] = (MOCK_CODE + 0x800) | BIT_20;
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->ram[MOCK_CODE + 0x800], m->start.gpr[NX_RCX] & 0xff);
	m->start.gpr[NX_RSI] = m->resume_rip | BIT_20;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_CODE_WRITE);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(accesses),
	    cmocka_unit_test(helpers),
	    cmocka_unit_test(stacks),
	    cmocka_unit_test(half_a_pusha_marks_nothing),
	    cmocka_unit_test(real_mode_loads),
	    cmocka_unit_test(real_mode_far_pointers),
	    cmocka_unit_test(wide_returns),
	    cmocka_unit_test(far_pointer_at_the_limit),
	    cmocka_unit_test(real_mode_with_large_limits),
	    cmocka_unit_test(a20),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
