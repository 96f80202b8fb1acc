// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Code without loops and calls, a branch at most between its exits. "n to m" of each: the hardware
 * delivers one exit, the engine all others in one stay; so m is 1 throughout and n is one more than
 * the log is long.
 */
#include "mock.h"

#define ARITHMETIC 0x8d5u
#define CF 0x01u
#define PF 0x04u
#define AF 0x10u
#define ZF 0x40u
#define SF 0x80u

static void want_flags(struct mock *m, uint64_t flags)
{
	m->want.rflags = (m->start.rflags & ~(uint64_t)ARITHMETIC) | flags;
}

static void check_shape(const struct mock *m, unsigned instructions, unsigned exiting)
{
	struct nx_cluster_info info;

	mock_cluster(m, m->resume_rip, &info);
	assert_int_equal(info.instructions, instructions);
	assert_int_equal(info.exiting, exiting);
	assert_int_equal(info.bits, m->mode <= MOCK_PROT16 ? 16 : m->mode == MOCK_LONG64 ? 64 : 32);
}

/* A BIOS reads PCI configuration space. */

GUEST(bios_pci, 16, "out dx, eax",
      "out 0xed, al; mov dx, 0xcfc; mov al, cl; and al, 3; add dl, al; xchg ecx, eax;"
      "xchg ah, al; in al, dx",
      "xchg ah, al; xor cl, cl; jmp bx");

static void pci_configuration_in(enum mock_mode mode)
{
	static const struct mock_access log[] = {OUT(0xed, 1, 0x08), IN(0xcfe, 1, 0x77)};
	struct mock *m = mock_new(mode, 0, NX_LEVEL_STRAIGHT);

	MOCK_LOAD(m, bios_pci);
	m->start.gpr[NX_RAX] = 0x80001008;
	m->start.gpr[NX_RCX] = 0x1234560a;
	m->start.gpr[NX_RDX] = 0xabcd0cf8;
	m->input[0] = 0xffffff77;
	mock_warm(m);
	mock_check_log(m, log, 2);
	m->want.gpr[NX_RCX] = 0x80001002;
	m->want.gpr[NX_RAX] = 0x12340a77;
	m->want.gpr[NX_RDX] = 0xabcd0cfe;
	m->want.rip = m->stop_rip;
	want_flags(m, SF);
	mock_check(m);
	mock_check_ended(m);
	check_shape(m, 8, 2);
	mock_free(m);
}

static void pci_configuration(void **state)
{
	(void)state;
	pci_configuration_in(MOCK_REAL16);
	pci_configuration_in(MOCK_PROT16);
}

/* Linux, with a write to port 0x80 as a delay after each access. */

GUEST(delayed_16, 16, "in al, dx",
      "out 0x80, al; mov cl, al; mov dl, 0xc0; out dx, al; out 0x80, al; out dx, al; out 0x80, al",
      "ret");
GUEST(delayed_32, 32, "in al, dx",
      "out 0x80, al; mov cl, al; mov dl, 0xc0; out dx, al; out 0x80, al; out dx, al; out 0x80, al",
      "ret");
GUEST(delayed_64, 64, "in al, dx",
      "out 0x80, al; mov cl, al; mov dl, 0xc0; out dx, al; out 0x80, al; out dx, al; out 0x80, al",
      "ret");

static void delay_port_in(enum mock_mode mode, unsigned cpl)
{
	static const struct mock_access log[] = {OUT(0x80, 1, 0x3c), OUT(0x1c0, 1, 0x3c),
						 OUT(0x80, 1, 0x3c), OUT(0x1c0, 1, 0x3c),
						 OUT(0x80, 1, 0x3c)};
	struct mock *m = mock_new(mode, cpl, NX_LEVEL_STRAIGHT);

	if (mode <= MOCK_PROT16)
		MOCK_LOAD(m, delayed_16);
	else if (mode == MOCK_LONG64)
		MOCK_LOAD(m, delayed_64);
	else
		MOCK_LOAD(m, delayed_32);
	m->start.gpr[NX_RAX] = 0x9876543c;
	m->start.gpr[NX_RDX] = 0x555501a0;
	m->start.rflags |= CF | PF | AF | ZF | SF | 0x800;
	mock_warm(m);
	mock_check_log(m, log, 5);
	m->want.gpr[NX_RCX] = (m->start.gpr[NX_RCX] & ~0xffull) | 0x3c;
	m->want.gpr[NX_RDX] = 0x555501c0;
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_check_ended(m);
	check_shape(m, 7, 5);
	mock_check_native(m);
	mock_free(m);
}

static void delay_port(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_REAL16; mode < MOCK_MODES; mode++) {
		delay_port_in(mode, 0);
		if (mode != MOCK_REAL16)
			delay_port_in(mode, 3);
	}
}

/* A branch in the gap. */

GUEST(branch_16, 16, "in ax, dx",
      "and dword ptr ds:[0xd0], 0xfffffeff; test ax, 0x20; jnz 1f; or dword ptr ds:[0xd0], 0x100;"
      "1: mov cx, 0xff; in ax, dx",
      "ret");
GUEST(branch_32, 32, "in ax, dx",
      "and dword ptr ds:[0xd0], 0xfffffeff; test ax, 0x20; jnz 1f; or dword ptr ds:[0xd0], 0x100;"
      "1: mov cx, 0xff; in ax, dx",
      "ret");
GUEST(branch_64, 64, "in ax, dx",
      "and dword ptr ds:[0xd0], 0xfffffeff; test ax, 0x20; jnz 1f; or dword ptr ds:[0xd0], 0x100;"
      "1: mov cx, 0xff; in ax, dx",
      "ret");

static const uint8_t *branch_code(enum mock_mode mode)
{
	return mode <= MOCK_PROT16   ? branch_16_resume
	       : mode == MOCK_LONG64 ? branch_64_resume
				     : branch_32_resume;
}

/* Offset of the conditional branch from the resume point: found by its opcode. */
static unsigned find_branch(enum mock_mode mode)
{
	const uint8_t *code = branch_code(mode);
	unsigned at = 8;

	while (code[at] != 0x75)
		at++;
	return at;
}

static void branch_in_the_gap_in(enum mock_mode mode, unsigned cpl, enum nx_level level, bool taken)
{
	static const struct mock_access log[] = {IN(0x1f7, 2, 0xbeef)};
	const bool within = level >= NX_LEVEL_BRANCHES || !taken;
	const unsigned branch = find_branch(mode);
	struct mock *m = mock_new(mode, cpl, level);
	uint32_t word = (uint32_t)m->start.seg[NX_DS].base + 0xd0, value = 0xdeadbfff, after;

	if (mode <= MOCK_PROT16)
		MOCK_LOAD(m, branch_16);
	else if (mode == MOCK_LONG64)
		MOCK_LOAD(m, branch_64);
	else
		MOCK_LOAD(m, branch_32);
	m->start.gpr[NX_RAX] = taken ? 0x12340020 : 0x123400df;
	m->start.gpr[NX_RDX] = 0x1f7;
	m->start.rflags |= CF | 0x800;
	m->input[0] = 0xbeef;
	mock_poke(m, word, &value, 4);
	mock_warm(m);

	after = value & 0xfffffeff;
	if (!taken)
		after |= 0x100;
	/* Of the TEST: 0x20. Of the OR: negative, 0xff in the low byte. AF is undefined. */
	want_flags(m, (taken ? 0 : SF | PF) | (nx_engine_state(m->engine)->rflags & AF));
	mock_want_memory(m, word, 4, after);
	if (within) {
		mock_check_log(m, log, 1);
		m->want.gpr[NX_RAX] = 0x1234beef;
		m->want.gpr[NX_RCX] = (m->start.gpr[NX_RCX] & ~0xffffull) | 0xff;
		m->want.rip = m->stop_rip;
		mock_check(m);
		mock_check_ended(m);
		if (level >= NX_LEVEL_BRANCHES)
			check_shape(m, 6, 1);
	} else {
		/* The stay ends at the branch, or behind it on the path that was not formed. */
		uint64_t target = m->resume_rip + branch + 2 + branch_code(mode)[branch + 1];

		mock_check_log(m, log, 0);
		m->want.rip = nx_engine_state(m->engine)->rip;
		assert_true(m->want.rip == m->resume_rip + branch || m->want.rip == target);
		mock_check(m);
	}
	mock_free(m);
}

static void branch_in_the_gap(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_REAL16; mode < MOCK_MODES; mode++) {
		for (unsigned cpl = 0; cpl <= (mode == MOCK_REAL16 ? 0 : 3); cpl += 3) {
			for (enum nx_level level = NX_LEVEL_STRAIGHT; level <= NX_LEVEL_BRANCHES;
			     level++) {
				branch_in_the_gap_in(mode, cpl, level, true);
				branch_in_the_gap_in(mode, cpl, level, false);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(pci_configuration),
	    cmocka_unit_test(delay_port),
	    cmocka_unit_test(branch_in_the_gap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
