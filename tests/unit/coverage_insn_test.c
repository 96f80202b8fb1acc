// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Every instruction that can exit as such: what the host is told of it, and that the guest goes on
 * behind it.
 */
#include <stdio.h>

#include "mock.h"

#define ALL_EXITS 0x2ffu

/* Registers, by number; memory operands are at MOCK_DATA + 0x1234. */
#define OFFSET 0x1234u
static const uint32_t registers[8] = {0x11111140, 0x400,      0x33333333, 0x1000,
				      0x8000,     0x66666666, 0x77777777, 0x34};

/*
 * What the host is told. NONE: no memory operand. 64: 64-bit code only, 32: not 16-bit code.
 * X(name, instruction, enum nx_insn_exit, write, size, reg, operand, memory, data)
 */
#define MEM_16 "[bx+di+0x200]"
#define MEM_32 "[ebx+edi+0x200]"
#define MEM_64 "[rbx+rdi+0x200]"

/* The same text in all modes: 32-bit operands (or 16 by nature), no memory. */
#define CASES(X)                                      \
	X(cpuid, "cpuid", CPUID, true, 0, 0)          \
	X(rdmsr, "rdmsr", RDMSR, false, 0, 0x400)     \
	X(wrmsr, "wrmsr", WRMSR, true, 0, 0x400)      \
	X(clts, "clts", CLTS, true, 0, 0)             \
	X(lmsw, "lmsw cx", LMSW, true, 0, 0x400)      \
	X(hlt, "hlt", HLT, true, 0, 0)                \
	X(invd, "invd", INVD, true, 0, 0)             \
	X(wbinvd, "wbinvd", WBINVD, true, 0, 0)       \
	X(vmlaunch, "vmlaunch", VMLAUNCH, true, 0, 0) \
	X(vmresume, "vmresume", VMRESUME, true, 0, 0) \
	X(vmxoff, "vmxoff", VMXOFF, true, 0, 0)       \
	X(vmcall, "vmcall", VMCALL, true, 0, 0)       \
	X(vmmcall, "vmmcall", VMMCALL, true, 0, 0)    \
	X(stgi, "stgi", STGI, true, 0, 0)             \
	X(clgi, "clgi", CLGI, true, 0, 0)             \
	X(sldt, "sldt cx", SLDT, true, 0, 0x400)      \
	X(str, "str cx", STR, true, 0, 0x400)

/* With a memory operand: the second text is its size. */
#define MEMORY_CASES(X)                                   \
	X(m_lmsw, "lmsw word ptr ", LMSW, true)           \
	X(m_invlpg, "invlpg ", INVLPG, true)              \
	X(m_vmptrld, "vmptrld qword ptr ", VMPTRLD, true) \
	X(m_vmptrst, "vmptrst qword ptr ", VMPTRST, true) \
	X(m_vmclear, "vmclear qword ptr ", VMCLEAR, true) \
	X(m_vmxon, "vmxon qword ptr ", VMXON, true)       \
	X(m_sgdt, "sgdt ", SGDT, true)                    \
	X(m_sidt, "sidt ", SIDT, true)                    \
	X(m_lgdt, "lgdt ", LGDT, true)                    \
	X(m_lidt, "lidt ", LIDT, true)                    \
	X(m_sldt, "sldt word ptr ", SLDT, true)           \
	X(m_str, "str word ptr ", STR, true)

#define DEFINE(name, text, ...)                                        \
	GUEST(i16_##name, 16, "in al, dx", text, "out 0x80, al; ret"); \
	GUEST(i32_##name, 32, "in al, dx", text, "out 0x80, al; ret"); \
	GUEST(i64_##name, 64, "in al, dx", text, "out 0x80, al; ret");
#define DEFINE_MEMORY(name, text, ...)                                        \
	GUEST(i16_##name, 16, "in al, dx", text MEM_16, "out 0x80, al; ret"); \
	GUEST(i32_##name, 32, "in al, dx", text MEM_32, "out 0x80, al; ret"); \
	GUEST(i64_##name, 64, "in al, dx", text MEM_64, "out 0x80, al; ret");
CASES(DEFINE)
MEMORY_CASES(DEFINE_MEMORY)

/* Whose operands are as wide as the mode; those in 16-bit code are 32 bits wide. */
#define WIDE_CASES(X)                                              \
	X(mov_from_cr, "mov ", "cx, cr0", MOV_CR, false, 0, 0, 0)  \
	X(mov_from_cr4, "mov ", "bp, cr4", MOV_CR, false, 4, 0, 0) \
	X(mov_to_cr, "mov cr3, ", "cx", MOV_CR, true, 3, 0, 0x400) \
	X(mov_from_dr, "mov ", "cx, dr7", MOV_DR, false, 7, 0, 0)  \
	X(mov_to_dr, "mov dr6, ", "cx", MOV_DR, true, 6, 0, 0x400)
#define DEFINE_WIDE(name, first, second, ...)                                      \
	GUEST(i16_##name, 16, "in al, dx", first "e" second, "out 0x80, al; ret"); \
	GUEST(i32_##name, 32, "in al, dx", first "e" second, "out 0x80, al; ret"); \
	GUEST(i64_##name, 64, "in al, dx", first "r" second, "out 0x80, al; ret");
WIDE_CASES(DEFINE_WIDE)

/* The rest is different in each mode. 16-bit code is written with 32-bit registers. */
#define MODE_CASES(X)                                                                              \
	X(vmread, "vmread esi, ecx", "vmread esi, ecx", "vmread rsi, rcx", VMREAD, false, 0x400,   \
	  false, 0)                                                                                \
	X(vmwrite, "vmwrite ecx, ebp", "vmwrite ecx, ebp", "vmwrite rcx, rbp", VMWRITE, true,      \
	  0x400, false, 0x66666666)                                                                \
	X(m_vmread, "vmread dword ptr " MEM_16 ", ecx", "vmread dword ptr " MEM_32 ", ecx",        \
	  "vmread qword ptr " MEM_64 ", rcx", VMREAD, false, 0x400, true, 0)                       \
	X(m_vmwrite, "vmwrite ecx, dword ptr " MEM_16, "vmwrite ecx, dword ptr " MEM_32,           \
	  "vmwrite rcx, qword ptr " MEM_64, VMWRITE, true, 0x400, true, 0)                         \
	X(m_invept, "invept ecx, xmmword ptr " MEM_16, "invept ecx, xmmword ptr " MEM_32,          \
	  "invept rcx, xmmword ptr " MEM_64, INVEPT, true, 0x400, true, 0)                         \
	X(m_invvpid, "invvpid ecx, xmmword ptr " MEM_16, "invvpid ecx, xmmword ptr " MEM_32,       \
	  "invvpid rcx, xmmword ptr " MEM_64, INVVPID, true, 0x400, true, 0)                       \
	X(vmrun, ".byte 0x67, 0x0f, 0x01, 0xd8", "vmrun", "vmrun", VMRUN, true, 0x11111140, false, \
	  0)                                                                                       \
	X(vmload, ".byte 0x67, 0x0f, 0x01, 0xda", "vmload", "vmload", VMLOAD, true, 0x11111140,    \
	  false, 0)                                                                                \
	X(vmsave, ".byte 0x67, 0x0f, 0x01, 0xdb", "vmsave", "vmsave", VMSAVE, true, 0x11111140,    \
	  false, 0)                                                                                \
	X(skinit, "skinit", "skinit", "skinit", SKINIT, true, 0x11111140, false, 0)                \
	X(invlpga, ".byte 0x67, 0x0f, 0x01, 0xdf", "invlpga", "invlpga", INVLPGA, true,            \
	  0x11111140, false, 0)
#define DEFINE_MODE(name, in_16, in_32, in_64, ...)                     \
	GUEST(i16_##name, 16, "in al, dx", in_16, "out 0x80, al; ret"); \
	GUEST(i32_##name, 32, "in al, dx", in_32, "out 0x80, al; ret"); \
	GUEST(i64_##name, 64, "in al, dx", in_64, "out 0x80, al; ret");
MODE_CASES(DEFINE_MODE)

struct row {
	const char *name;
	struct {
		const uint8_t *code, *resume, *stop, *end;
	} code[3];
	enum nx_insn_exit insn;
	bool write;
	uint8_t reg;
	uint64_t operand;
	bool memory;
	uint64_t data;
};

#define CODE(bits, name)                                                              \
	{                                                                             \
		i##bits##_##name, i##bits##_##name##_resume, i##bits##_##name##_stop, \
		    i##bits##_##name##_end                                            \
	}
#define CODES(name)                                            \
#name,                                                 \
	{                                                      \
		CODE(16, name), CODE(32, name), CODE(64, name) \
	}
#define ROW(name, text, insn, write, reg, operand) \
	{CODES(name), NX_INSN_##insn, write, reg, operand, false, 0},
#define ROW_MEMORY(name, text, insn, write) {CODES(name), NX_INSN_##insn, write, 0, 0, true, 0},
#define ROW_WIDE(name, first, second, insn, write, reg, operand, data) \
	{CODES(name), NX_INSN_##insn, write, reg, operand, false, data},
#define ROW_MODE(name, in_16, in_32, in_64, insn, write, operand, memory, data) \
	{CODES(name), NX_INSN_##insn, write, 0, operand, memory, data},

static const struct row rows[] = {CASES(ROW) MEMORY_CASES(ROW_MEMORY) WIDE_CASES(ROW_WIDE)
				      MODE_CASES(ROW_MODE)};

static bool run(struct mock *m, struct nx_exit *exit)
{
	for (unsigned tries = 0; tries < 8; tries++) {
		*nx_engine_state(m->engine) = m->start;
		memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
		if (mock_worth_resuming(m, m->code_rip, NX_CLASS_CPUID) &&
		    nx_engine_resume(m->engine, exit) == NX_EXIT)
			return true;
	}
	return false;
}

static void check_told(const struct mock *m, const struct row *row, const struct nx_exit *exit)
{
	const bool based = m->mode <= MOCK_PROT16;
	uint64_t data = row->data, operand = row->operand;

	if (row->insn == NX_INSN_WRMSR)
		data = 0x3333333311111140;
	if (exit->kind != NX_EXIT_INSN || exit->insn != row->insn || exit->write != row->write ||
	    exit->reg != row->reg || exit->operand != operand || exit->memory != row->memory ||
	    exit->data != data || exit->rip != m->resume_rip)
		fail_msg("%s, mode %u: kind %u insn %u write %u reg %u operand %#llx memory %u "
			 "data %#llx",
			 row->name, m->mode, exit->kind, exit->insn, exit->write, exit->reg,
			 (unsigned long long)exit->operand, exit->memory,
			 (unsigned long long)exit->data);
	/* rbx + rdi + 0x200 = 0x1234, and the base that is the data segment's in 16-bit code. */
	if (row->memory)
		assert_int_equal(exit->linear, OFFSET + (based ? MOCK_DATA : 0));
}

static void check_completed(struct mock *m, const struct row *row, struct nx_exit *exit)
{
	const struct nx_state *state = nx_engine_state(m->engine);
	const bool wide = m->mode == MOCK_LONG64;
	const uint64_t answer = 0xfedcba9876543210;
	unsigned to = NX_GPRS;

	exit->data = answer;
	assert_int_equal(nx_engine_complete_exit(m->engine, exit), NX_COMPLETION_DONE);
	if (row->insn == NX_INSN_MOV_CR || row->insn == NX_INSN_MOV_DR)
		to = strcmp(row->name, "mov_from_cr4") ? NX_RCX : NX_RBP;
	else if (row->insn == NX_INSN_VMREAD)
		to = NX_RSI;
	if (row->write || row->memory)
		to = NX_GPRS;
	assert_int_equal(state->rip, m->stop_rip);
	for (unsigned i = 0; i < NX_GPRS; i++) {
		uint64_t want = m->start.gpr[i];

		if (i == to)
			want = wide ? answer : (uint32_t)answer;
		if (row->insn == NX_INSN_RDMSR && i == NX_RAX)
			want = (uint32_t)answer;
		if (row->insn == NX_INSN_RDMSR && i == NX_RDX)
			want = answer >> 32;
		if (state->gpr[i] != want)
			fail_msg("%s, mode %u: register %u is %#llx, expected %#llx", row->name,
				 m->mode, i, (unsigned long long)state->gpr[i],
				 (unsigned long long)want);
	}
	/* And on. */
	assert_int_equal(nx_engine_resume(m->engine, exit), NX_EXIT);
	assert_int_equal(exit->kind, NX_EXIT_IO);
	assert_int_equal(exit->port, 0x80);
}

static struct mock *new_guest(const struct row *row, enum mock_mode mode, unsigned cpl,
			      uint32_t exits)
{
	struct mock *m = mock_new_exits(mode, cpl, NX_LEVEL_STRAIGHT, exits);
	const unsigned which = mode <= MOCK_PROT16 ? 0 : mode == MOCK_LONG64 ? 2 : 1;

	mock_load(m, row->code[which].code, row->code[which].resume, row->code[which].stop,
		  row->code[which].end);
	for (unsigned i = 0; i < 8; i++)
		m->start.gpr[i] = registers[i];
	return m;
}

static void what_the_host_is_told(void **state)
{
	bool seen[64] = {false};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (enum mock_mode mode = MOCK_PROT16; mode <= MOCK_LONG64; mode++) {
			struct mock *m = new_guest(&rows[i], mode, 0, ALL_EXITS);
			struct nx_exit exit = {.size = 0};

			if (!run(m, &exit))
				fail_msg("%s, mode %u: no exit", rows[i].name, mode);
			check_told(m, &rows[i], &exit);
			check_completed(m, &rows[i], &exit);
			mock_free(m);
		}
		seen[rows[i].insn] = true;
	}
#define SEEN(name, bit, class) assert_true(seen[NX_INSN_##name]);
	NX_INSN_EXITS(SEEN)
}

/* At CPL 3 they fault, and a host that has not named the class does not get them: left before. */
static void nothing_otherwise(void **state)
{
	static const uint32_t classes[] = {
#define CLASS(name, bit, class) [NX_INSN_##name] = NX_EXITS_##bit,
	    NX_INSN_EXITS(CLASS)};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (unsigned user = 0; user < 2; user++) {
			struct mock *m =
			    new_guest(&rows[i], MOCK_LONG64, user ? 3 : 0,
				      user ? ALL_EXITS : ALL_EXITS & ~classes[rows[i].insn]);
			struct nx_exit exit = {.size = 0};

			assert_false(run(m, &exit));
			assert_int_equal(nx_engine_state(m->engine)->rip, m->resume_rip);
			assert_memory_equal(nx_engine_state(m->engine)->gpr, m->start.gpr,
					    sizeof(m->start.gpr));
			mock_free(m);
		}
	}
}

/* Neighbours of theirs in tables and encodings, which exit to no host. */

GUEST(no_xtest, 64, "in al, dx", "xtest", "out 0x80, al; ret");
GUEST(no_swapgs, 64, "in al, dx", "swapgs", "out 0x80, al; ret");
GUEST(no_smsw, 64, "in al, dx", "smsw cx", "out 0x80, al; ret");
GUEST(no_rdpmc, 64, "in al, dx", "rdpmc", "out 0x80, al; ret");
GUEST(no_lldt, 64, "in al, dx", "lldt cx", "out 0x80, al; ret");
GUEST(no_ltr, 64, "in al, dx", "ltr cx", "out 0x80, al; ret");
GUEST(no_sreg, 64, "in al, dx", "mov es, ecx", "out 0x80, al; ret");

static void no_other_instruction(void **state)
{
	static const struct row others[] = {
#define OTHER(guest)                                                             \
	{                                                                        \
		.name = #guest, .code = {                                        \
			[2] = {guest, guest##_resume, guest##_stop, guest##_end} \
		}                                                                \
	}
	    OTHER(no_xtest), OTHER(no_swapgs), OTHER(no_smsw), OTHER(no_rdpmc),
	    OTHER(no_lldt),  OTHER(no_ltr),    OTHER(no_sreg),
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct mock *m = new_guest(&others[i], MOCK_LONG64, 0, ALL_EXITS);
		struct nx_exit exit = {.size = 0};

		if (run(m, &exit))
			fail_msg("%s exits", others[i].name);
		assert_int_equal(nx_engine_state(m->engine)->rip, m->resume_rip);
		mock_free(m);
	}
}

/* An exit that moves the guest to another address space: nothing that was looked up counts. */
GUEST(switches, 64, "in al, dx", "mov rax, [rsi]; mov cr3, rbx; mov rcx, [rsi]; out 0x80, al",
      "ret");

static void another_address_space(void **state)
{
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT, NX_EXITS_CR);
	struct nx_exit exit = {.size = 0};
	uint64_t old = 0x1111, new = 0x2222;

	(void)state;
	MOCK_LOAD(m, switches);
	m->start.gpr[NX_RSI] = MOCK_DATA;
	mock_poke(m, MOCK_DATA, &old, 8);
	mock_poke(m, MOCK_EXTRA, &new, 8);
	for (unsigned i = 0; i < 4; i++) {
		bool switched = run(m, &exit);
		uint64_t entry = MOCK_EXTRA | 7;
		uint32_t at;

		if (!switched)
			continue;
		assert_int_equal(exit.insn, NX_INSN_MOV_CR);
		/* The same tables, one leaf of which is different: as good as another CR3. */
		for (at = 0; at < MOCK_RAM_SIZE; at += 8) {
			uint64_t found;

			memcpy(&found, m->ram + at, 8);
			if ((found & ~0x60ull) == (MOCK_DATA | 7))
				break;
		}
		assert_true(at < MOCK_RAM_SIZE);
		memcpy(m->ram + at, &entry, 8);
		assert_int_equal(nx_engine_resume(m->engine, &exit), NX_EXIT);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RAX], old);
		assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], new);
		nx_engine_forget_exit(m->engine);
	}
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_the_host_is_told),
	    cmocka_unit_test(nothing_otherwise),
	    cmocka_unit_test(no_other_instruction),
	    cmocka_unit_test(another_address_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
