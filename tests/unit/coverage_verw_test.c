// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * VERW, which looks into the guest's descriptor table; apart, since valgrind does not know the
 * instruction.
 */
#include "mock.h"

GUEST(
    verifies, 64, "in al, dx",
    "verw [rbx]; pushfq; pop rax; verw r8w; pushfq; pop r9; or al, r9b; and al, 0x40; out 0x80, al",
    "ud2");

static struct mock *new_guest(void)
{
	struct nx_config config;
	struct mock *m;

	nx_config_default(&config);
	config.system_registers = true;
	m = mock_new_config(MOCK_LONG64, 0, &config);
	MOCK_LOAD(m, verifies);
	m->start.gpr[NX_RBX] = MOCK_EXTRA;
	return m;
}

/* Of two selectors the first or the second is of a segment that can be written, or none. */
static void verw_looks_into_the_gdt(void **state)
{
	static const uint64_t gdt[] = {0x00cf93000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff,
				       0x00cf91000000ffff, 0x00cff3000000ffff, 0x0000830000000000};
	static const struct {
		uint16_t selector;
		bool writable;
	} cases[] = {{0, false},   {8, false},   {0x10, true},  {0x11, false}, {0x18, false},
		     {0x20, true}, {0x23, true}, {0x28, false}, {0x30, false}, {0xfff8, false}};

	(void)state;
	for (unsigned i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		const uint16_t selector = cases[i / 2].selector;
		const struct mock_access log[] = {OUT(0x80, 1, cases[i / 2].writable ? 0x40 : 0)};
		struct mock *m = new_guest();

		m->start.gdt_base = MOCK_EXTRA + 0x80;
		m->start.gdt_limit = sizeof(gdt) - 1;
		mock_poke(m, MOCK_EXTRA + 0x80, gdt, sizeof(gdt));
		m->start.gpr[NX_R8] = i % 2 ? selector : 0;
		mock_poke(m, MOCK_EXTRA, i % 2 ? &(uint16_t){0} : &selector, 2);
		mock_warm(m);
		mock_check_log(m, log, 1);
		mock_free(m);
	}
}

/* The local table's place is not known. */
static void verw_of_the_local_table_leaves(void **state)
{
	struct mock *m = new_guest();

	(void)state;
	m->start.gpr[NX_R8] = 0x14;
	for (unsigned i = 0; i < 8; i++) {
		mock_run(m);
		assert_int_equal(m->exits, 0);
	}
	assert_int_equal(m->reason, NX_LEAVE_STATE);
	mock_free(m);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(verw_looks_into_the_gdt),
	    cmocka_unit_test(verw_of_the_local_table_leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
