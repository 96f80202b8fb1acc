// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Interrupt windows: the engine neither opens nor closes one, and leaves before what would. */
#include "mock.h"

/* X(name, code that is not to be run); the first row with interrupts enabled, the second without.
 */
#define CLOSES_64(X)                \
	X(cli, "cli")               \
	X(popf, "push 2; popfq")    \
	X(iret, "iretq")            \
	X(trap, "int 0x20")         \
	X(priority, "mov cr8, rax") \
	X(stack, "mov ss, eax")     \
	X(far, "lss eax, [rsi]")    \
	X(syscall, "syscall")
#define OPENS_64(X)                        \
	X(sti, "sti")                      \
	X(popf_opens, "push 0x202; popfq") \
	X(iret_opens, "iretq")             \
	X(lower, "mov cr8, rbx")
#define CLOSES_16(X)            \
	X(cli, "cli")           \
	X(popf, "push 2; popf") \
	X(iret, "iret")         \
	X(trap, "int 0x20")     \
	X(stack, "mov ss, ax")  \
	X(pop, "pop ss")
#define OPENS_16(X)   \
	X(sti, "sti") \
	X(popf_opens, "push 0x202; popf")
#define WINDOW(name, bits, code)            \
	extern const uint8_t name##_last[]; \
	GUEST(name, bits, "in al, dx", "out dx, al; " code "; " #name "_last: out dx, al", "ret");
#define DEFINE(name, code) WINDOW(window64_##name, 64, code)
CLOSES_64(DEFINE)
OPENS_64(DEFINE)
#undef DEFINE
#define DEFINE(name, code) WINDOW(window16_##name, 16, code)
CLOSES_16(DEFINE)
OPENS_16(DEFINE)
#undef DEFINE

struct window {
	const char *name;
	const uint8_t *code, *resume, *last, *stop, *end;
};

#define ROW(name) {#name, name, name##_resume, name##_last, name##_stop, name##_end},
#define ROW_OF_64(name, code) ROW(window64_##name)
#define ROW_OF_16(name, code) ROW(window16_##name)
static const struct window closes_64[] = {CLOSES_64(ROW_OF_64)}, opens_64[] = {OPENS_64(ROW_OF_64)},
			   closes_16[] = {CLOSES_16(ROW_OF_16)}, opens_16[] = {OPENS_16(ROW_OF_16)};

/* The access before it is delivered, the one behind it is not, and the flag is as it was. */
static void check_window(const struct window *window, enum mock_mode mode, bool enabled)
{
	const uint64_t flag = 1u << 9;
	struct mock *m = mock_new(mode, 0, NX_LEVEL_PATHS);
	const struct nx_state *state = nx_engine_state(m->engine);

	mock_load(m, window->code, window->resume, window->stop, window->end);
	m->start.rflags = enabled ? m->start.rflags | flag : m->start.rflags & ~flag;
	m->start.gpr[NX_RSI] = mode == MOCK_LONG64 ? MOCK_DATA : 0;
	m->start.gpr[NX_RDX] = 0x1f0;
	for (unsigned i = 0; i < 12; i++) {
		mock_run(m);
		if (m->exits > 1 || (bool)(state->rflags & flag) != enabled)
			fail_msg("%s, mode %u: %u exits, rflags %#llx", window->name, mode,
				 m->exits, (unsigned long long)state->rflags);
	}
	if (m->exits != 1 || state->rip < m->resume_rip ||
	    state->rip >= m->code_rip + (uint64_t)(window->last - window->code))
		fail_msg("%s, mode %u: %u exits, left at %#llx: %s", window->name, mode, m->exits,
			 (unsigned long long)state->rip, nx_leave_reason_text(m->reason));
	mock_free(m);
}

static void interrupts_are_neither_enabled_nor_disabled(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(closes_64) / sizeof(closes_64[0]); i++)
		check_window(&closes_64[i], MOCK_LONG64, true);
	for (unsigned i = 0; i < sizeof(opens_64) / sizeof(opens_64[0]); i++)
		check_window(&opens_64[i], MOCK_LONG64, false);
	for (unsigned i = 0; i < sizeof(closes_16) / sizeof(closes_16[0]); i++) {
		check_window(&closes_16[i], MOCK_REAL16, true);
		check_window(&closes_16[i], MOCK_PROT16, true);
	}
	for (unsigned i = 0; i < sizeof(opens_16) / sizeof(opens_16[0]); i++)
		check_window(&opens_16[i], MOCK_REAL16, false);
}

GUEST(window_same, 64, "in al, dx", "cli; pushfq; popfq; out dx, al", "ret");
GUEST(window_open, 64, "in al, dx", "pushfq; popfq; out dx, al", "ret");

/* The engine runs an instruction that leaves interrupts as they are. */
static void flags_that_stay_do_not_leave(void **state)
{
	for (int enabled = 0; enabled < 2; enabled++) {
		struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_BRANCHES);

		(void)state;
		if (enabled)
			MOCK_LOAD(m, window_open);
		else
			MOCK_LOAD(m, window_same);
		m->start.rflags &= ~(uint64_t)(1u << 9);
		m->start.rflags |= (uint64_t)enabled << 9;
		m->start.gpr[NX_RDX] = 0x1f0;
		mock_warm(m);
		mock_check_ended(m);
		assert_int_equal(m->exits, 1);
		assert_int_equal(nx_engine_state(m->engine)->rflags >> 9 & 1, enabled);
		mock_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(interrupts_are_neither_enabled_nor_disabled),
	    cmocka_unit_test(flags_that_stay_do_not_leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
