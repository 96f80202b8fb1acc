// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Instructions that only some guests may execute: run for those, left to the processor for others.
 */
#include "mock.h"
#include "x86.h"

#define ARITHMETIC 0x8d5u
#define TSC 0x123456789abcdef0ull
#define CR2 0xffff8123456789f0ull

#define CASES(X)                                                                                  \
	X(movbe, NX_FEATURE_MOVBE,                                                                \
	  "movbe rax, [rsi+1]; movbe [rdi], rax; movbe r11d, [rsi]; movbe [rdi+8], r11d; "        \
	  "movbe cx, [rsi+3]; movbe [rdi+13], cx; movbe r14w, [rsi]")                             \
	X(popcnt, NX_FEATURE_POPCNT,                                                              \
	  "popcnt rcx, rcx; popcnt r10, [rsi+1]; popcnt ebp, r9d; popcnt r8w, bx; popcnt bx, "    \
	  "[rsi]")                                                                                \
	X(popcnt_zero, NX_FEATURE_POPCNT, "xor ecx, ecx; stc; popcnt ebp, ecx; setc bl; setz bh") \
	X(popcnt_last, NX_FEATURE_POPCNT, "popcnt ecx, esi")                                      \
	X(cmpxchg16b, NX_FEATURE_CMPXCHG16B, "xor ebx, ebx; lock cmpxchg16b [rdi]")

#define DEFINE(name, feature, code) GUEST(g_##name, 64, "in al, dx", code "; out 0x80, al", "ret");
CASES(DEFINE)

struct row {
	uint32_t feature;
	const uint8_t *code, *resume, *stop, *end;
};

#define ROW(name, feature, code)                                                    \
	static const struct row name##_row = {feature, g_##name, g_##name##_resume, \
					      g_##name##_stop, g_##name##_end};
CASES(ROW)

static struct mock *new_guest(const struct row *row, uint32_t features)
{
	struct nx_config config;
	struct mock *m;

	nx_config_default(&config);
	config.guest_features = features;
	config.max_gap_accesses = 8;
	m = mock_new_config(MOCK_LONG64, 0, &config);
	mock_load(m, row->code, row->resume, row->stop, row->end);
	m->start.gpr[NX_RSI] = MOCK_DATA;
	m->start.gpr[NX_RDI] = MOCK_EXTRA;
	m->start.rflags |= ARITHMETIC;
	return m;
}

/* Where this processor lacks the instruction there is nothing to compare with. */
static bool host_has(uint32_t feature)
{
	__builtin_cpu_init();
	return feature != NX_FEATURE_MOVBE && __builtin_cpu_supports("popcnt");
}

static void run_with_the_feature(void **state)
{
	const struct row *row = *state;
	struct mock *m = new_guest(row, row->feature);

	mock_warm(m);
	assert_int_equal(m->exits, 1);
	mock_check_ended(m);
	if (host_has(row->feature))
		mock_check_native(m);
	mock_free(m);
}

static void leave_without_it(void **state)
{
	const struct row *row = *state;
	struct mock *m = new_guest(row, ~row->feature);

	for (unsigned i = 0; i < 8; i++) {
		mock_run(m);
		assert_int_equal(m->exits, 0);
	}
	mock_free(m);
}

GUEST(movbe_values, 64, "in al, dx",
      "movbe rax, [rsi]; movbe ecx, [rsi]; movbe r11w, [rsi]; movbe [rdi], rbx; movbe [rdi+8], ebx;"
      "movbe [rdi+12], bx; out 0x80, al",
      "ret");

static void movbe_is_right(void **state)
{
	static const struct row row = {NX_FEATURE_MOVBE, movbe_values, movbe_values_resume,
				       movbe_values_stop, movbe_values_end};
	static const struct mock_access log[] = {OUT(0x80, 1, 0x11)};
	struct mock *m = new_guest(&row, NX_FEATURE_MOVBE);
	const uint64_t value = 0x1122334455667788;

	(void)state;
	mock_poke(m, MOCK_DATA, &value, 8);
	m->start.gpr[NX_RBX] = 0xa1a2a3a4a5a6a7a8;
	m->start.gpr[NX_R11] = 0xf1f2f3f4f5f6f7f8;
	mock_warm(m);
	mock_check_log(m, log, 1);
	m->want.gpr[NX_RAX] = 0x8877665544332211;
	m->want.gpr[NX_RCX] = 0x88776655;
	m->want.gpr[NX_R11] = 0xf1f2f3f4f5f68877;
	mock_want_memory(m, MOCK_EXTRA, 8, 0xa8a7a6a5a4a3a2a1);
	mock_want_memory(m, MOCK_EXTRA + 8, 4, 0xa8a7a6a5);
	mock_want_memory(m, MOCK_EXTRA + 12, 2, 0xa8a7);
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_free(m);
}

GUEST(reads_tsc, 64, "in al, dx", "rdtsc; mov r8, rax; mov r9, rdx; out 0x80, al", "ud2");
GUEST(reads_cr2, 64, "in al, dx", "mov rax, cr2; mov r8, rax; out 0x80, al", "ud2");
GUEST(reads_tscp, 64, "in al, dx", "rdtscp; mov r8, rax; mov r9, rdx; out 0x80, al", "ud2");

static bool read_tsc(void *data, uint64_t *tsc, uint32_t *aux)
{
	struct mock *m = data;

	if (m->leave_port == 0x7777)
		return false;
	*tsc = TSC;
	if (aux)
		*aux = 0x80000001;
	return true;
}

static struct mock *new_clock(unsigned cpl, bool tscp, uint32_t features)
{
	struct nx_config config;
	struct mock *m;

	nx_config_default(&config);
	config.guest_features = features;
	m = mock_new_config(MOCK_LONG64, cpl, &config);
	m->host.read_tsc = read_tsc;
	if (tscp)
		MOCK_LOAD(m, reads_tscp);
	else
		MOCK_LOAD(m, reads_tsc);
	m->start.rflags |= ARITHMETIC;
	return m;
}

static struct mock *new_cr2(unsigned cpl, bool filled_in)
{
	struct nx_config config;
	struct mock *m;

	nx_config_default(&config);
	config.system_registers = filled_in;
	m = mock_new_config(MOCK_LONG64, cpl, &config);
	MOCK_LOAD(m, reads_cr2);
	m->start.cr2 = CR2;
	return m;
}

static void cr2_of_the_guest(void **state)
{
	static const struct mock_access log[] = {OUT(0x80, 1, 0xf0)};
	struct mock *m = new_cr2(0, true);

	(void)state;
	mock_warm(m);
	mock_check_log(m, log, 1);
	m->want.gpr[NX_RAX] = m->want.gpr[NX_R8] = CR2;
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_free(m);
}

static void tsc_of_the_guest(void **state)
{
	static const struct mock_access log[] = {OUT(0x80, 1, 0xf0)};

	(void)state;
	for (unsigned tscp = 0; tscp < 2; tscp++) {
		struct mock *m = new_clock(3, tscp, NX_FEATURE_RDTSCP);

		mock_warm(m);
		mock_check_log(m, log, 1);
		m->want.gpr[NX_RAX] = m->want.gpr[NX_R8] = (uint32_t)TSC;
		m->want.gpr[NX_RDX] = m->want.gpr[NX_R9] = TSC >> 32;
		if (tscp)
			m->want.gpr[NX_RCX] = 0x80000001;
		m->want.rip = m->stop_rip;
		mock_check(m);

		/* The host does not know it now: before the instruction. */
		m->leave_port = 0x7777;
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_STATE);
		mock_check(m);
		mock_free(m);
	}
}

static void check_not_read(struct mock *m)
{
	for (unsigned i = 0; i < 8; i++) {
		mock_run(m);
		assert_int_equal(m->exits, 0);
		mock_check(m);
	}
	mock_free(m);
}

/* A user's access is a fault, whatever the host has filled in. */
static void cr2_is_not_run(void **state)
{
	(void)state;
	check_not_read(new_cr2(0, false));
	check_not_read(new_cr2(3, true));
}

static void tsc_that_faults_or_is_unknown(void **state)
{
	struct mock *m = new_clock(3, false, 0);

	(void)state;
	m->start.cr4 |= NX_CR4_TSD;
	check_not_read(m);
	m = new_clock(0, true, 0);
	check_not_read(m);
	m = new_clock(0, false, 0);
	m->host.read_tsc = NULL;
	check_not_read(m);
	/* CR4.TSD is about CPL 1 to 3 only. */
	m = new_clock(0, false, 0);
	m->start.cr4 |= NX_CR4_TSD;
	mock_warm(m);
	assert_int_equal(m->exits, 1);
	/* The same code at the same place, no longer allowed to. */
	for (unsigned i = 0; i < NX_SREGS; i++)
		m->start.seg[i].dpl = 3;
	m->start.rflags |= 0x3000;
	check_not_read(m);
}

#define TESTS(name_, feature, code)              \
	{.name = #name_,                         \
	 .test_func = run_with_the_feature,      \
	 .initial_state = (void *)&name_##_row}, \
	    {.name = #name_ " lacking",          \
	     .test_func = leave_without_it,      \
	     .initial_state = (void *)&name_##_row},

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASES(TESTS) cmocka_unit_test(movbe_is_right),
	    cmocka_unit_test(cr2_of_the_guest),
	    cmocka_unit_test(cr2_is_not_run),
	    cmocka_unit_test(tsc_of_the_guest),
	    cmocka_unit_test(tsc_that_faults_or_is_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
