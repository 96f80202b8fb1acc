// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * helper/vector.c: that instructions on vector registers are run where the host has the registers
 * and the guest may use them, and that a move of 16 bytes is one access. What they compute is
 * compared with the processor by tests/diff.
 */
#include "mock.h"
#include "vectors.h"
#include "x86.h"

#define ALIGNED (MOCK_DATA + 0x20)

GUEST(moves, 64, "in al, dx",
      "movaps xmm1, [rsi]; movups [rdi+3], xmm1; movaps [rdi+0x20], xmm1; movhps [rdi+0x30], xmm1; "
      "movd ecx, xmm1; movq xmm9, rbx; paddb xmm1, xmm9; movq r8, xmm1; out 0x80, al",
      "ud2");
GUEST(misaligned, 64, "in al, dx", "movaps xmm1, [rsi+1]; out 0x80, al", "ud2");
GUEST(crosses, 64, "in al, dx", "movups xmm1, [rsi]; movq rcx, xmm1; out 0x80, al", "ud2");
GUEST(crosses_store, 64, "in al, dx", "movups [rsi], xmm1; out 0x80, al", "ud2");

static struct {
	vector_registers reg;
	bool refuses;
	/* The memory that whole registers have been moved to and from, in order. */
	unsigned moves;
	const uint8_t *place[16];
} vectors;

static void note(const void *place)
{
	vectors.place[vectors.moves++ % 16] = place;
}

static bool read_vector(void *data, unsigned number, void *to)
{
	(void)data;
	note(to);
	return !vectors.refuses && vector_read(vectors.reg, number, to);
}

static bool write_vector(void *data, unsigned number, const void *from)
{
	(void)data;
	note(from);
	return !vectors.refuses && vector_write(vectors.reg, number, from);
}

static struct mock *new_guest(bool has_registers)
{
	struct nx_config config;
	struct mock *m;

	memset(&vectors, 0, sizeof(vectors));
	nx_config_default(&config);
	config.max_gap_accesses = 8;
	m = mock_new_config(MOCK_LONG64, 3, &config);
	if (has_registers) {
		m->host.read_vector = read_vector;
		m->host.write_vector = write_vector;
	}
	return m;
}

static void load_moves(struct mock *m)
{
	static const uint64_t value[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

	MOCK_LOAD(m, moves);
	m->start.cr4 |= NX_CR4_OSFXSR;
	m->start.gpr[NX_RSI] = ALIGNED;
	m->start.gpr[NX_RDI] = MOCK_EXTRA;
	m->start.gpr[NX_RBX] = 0x00000000000000ff;
	mock_poke(m, ALIGNED, value, sizeof(value));
}

static bool is_memory(const struct mock *m, unsigned move, uint32_t gpa)
{
	return vectors.place[move] == m->ram + gpa;
}

static void registers_and_memory(void **state)
{
	static const struct mock_access log[] = {OUT(0x80, 1, 0x11)};
	struct mock *m = new_guest(true);

	(void)state;
	load_moves(m);
	mock_warm(m);
	vectors.moves = 0;
	mock_run(m);
	mock_check_log(m, log, 1);
	for (unsigned i = 0; i < 2; i++) {
		mock_want_memory(m, MOCK_EXTRA + (i ? 3 : 0x20), 8, 0x0706050403020100);
		mock_want_memory(m, MOCK_EXTRA + (i ? 11 : 0x28), 8, 0x0f0e0d0c0b0a0908);
	}
	mock_want_memory(m, MOCK_EXTRA + 0x30, 8, 0x0f0e0d0c0b0a0908);
	m->want.gpr[NX_RCX] = 0x03020100;
	m->want.gpr[NX_R8] = 0x07060504030201ff;
	m->want.rip = m->stop_rip;
	mock_check(m);
	assert_int_equal(vectors.reg[1][1], 0x0f0e0d0c0b0a0908);
	assert_int_equal(vectors.reg[9][0], 0xff);
	assert_int_equal(vectors.reg[9][1], 0);
	/* The first three by one access each, to the guest's memory itself. */
	assert_true(is_memory(m, 0, ALIGNED));
	assert_true(is_memory(m, 1, MOCK_EXTRA + 3));
	assert_true(is_memory(m, 2, MOCK_EXTRA + 0x20));
	mock_free(m);
}

static void check_not_run(struct mock *m)
{
	for (unsigned i = 0; i < 8; i++) {
		mock_run(m);
		assert_int_equal(m->exits, 0);
		mock_check(m);
	}
	assert_int_equal(vectors.moves, 0);
}

static void not_for_the_guest(void **state)
{
	static const uint64_t cr0[] = {NX_CR0_TS, NX_CR0_EM, 0};
	struct mock *m;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		m = new_guest(true);
		load_moves(m);
		m->start.cr0 |= cr0[i];
		if (!cr0[i])
			m->start.cr4 &= ~NX_CR4_OSFXSR;
		check_not_run(m);
		mock_free(m);
	}
	m = new_guest(false);
	load_moves(m);
	check_not_run(m);
	mock_free(m);
	/* The same code at the same place, no longer allowed to. */
	m = new_guest(true);
	load_moves(m);
	mock_warm(m);
	assert_int_equal(m->exits, 1);
	vectors.moves = 0;
	m->start.cr0 |= NX_CR0_TS;
	check_not_run(m);
	mock_free(m);
}

static void registers_out_of_reach(void **state)
{
	struct mock *m = new_guest(true);

	(void)state;
	load_moves(m);
	mock_warm(m);
	vectors.refuses = true;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_STATE);
	assert_int_equal(m->exits, 0);
	mock_check(m);
	mock_free(m);
}

/* The fault comes first: nothing has been accessed. */
static void misaligned_moves_fault(void **state)
{
	struct mock *m = new_guest(true);

	(void)state;
	MOCK_LOAD(m, misaligned);
	m->start.cr4 |= NX_CR4_OSFXSR;
	m->start.gpr[NX_RSI] = ALIGNED;
	mock_set_pte(m, MOCK_DATA, MOCK_DATA | 7);
	for (unsigned i = 0; i < 8; i++) {
		mock_run(m);
		assert_int_equal(m->exits, 0);
		mock_check(m);
		assert_int_equal(mock_pte(m, m->ram, MOCK_DATA) & 0x60, 0);
	}
	assert_int_equal(m->reason, NX_LEAVE_FAULT);
	assert_int_equal(vectors.moves, 0);
	mock_free(m);
}

static void page_crossing(void **state)
{
	static const uint64_t value[2] = {0x1122334455667788, 0x99aabbccddeeff00};
	struct mock *m = new_guest(true);

	(void)state;
	MOCK_LOAD(m, crosses);
	m->start.cr4 |= NX_CR4_OSFXSR;
	m->start.gpr[NX_RSI] = MOCK_DATA + 0xff5;
	mock_poke(m, MOCK_DATA + 0xff5, value, sizeof(value));
	mock_warm(m);
	assert_int_equal(m->exits, 1);
	m->want.gpr[NX_RCX] = value[0];
	m->want.rip = m->stop_rip;
	mock_check(m);
	assert_memory_equal(vectors.reg[1], value, sizeof(value));
	mock_free(m);

	m = new_guest(true);
	MOCK_LOAD(m, crosses_store);
	m->start.cr4 |= NX_CR4_OSFXSR;
	m->start.gpr[NX_RSI] = MOCK_DATA + 0xff5;
	for (unsigned i = 0; i < 8; i++) {
		mock_run(m);
		assert_int_equal(m->exits, 0);
		mock_check(m);
	}
	assert_int_equal(m->reason, NX_LEAVE_PAGE_CROSSING);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(registers_and_memory),   cmocka_unit_test(not_for_the_guest),
	    cmocka_unit_test(registers_out_of_reach), cmocka_unit_test(misaligned_moves_fault),
	    cmocka_unit_test(page_crossing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
