// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Guest code that changes, and guest code that is never the engine's business.
 */
#include "mock.h"

#define PTE_ALL 7u
#define IF 0x200u
#define TF 0x100u
#define RF (1u << 16)
#define DF 0x400u

/* ---- Code that changes between two executions ---- */

extern const uint8_t patched_here[];
GUEST(patched, 32, "in al, dx", "patched_here: mov cl, 0x11; mov al, cl; out dx, al", "ret");

static struct mock *new_patched(enum mock_mode mode)
{
	static const struct mock_access log[] = {OUT(0x1f0, 1, 0x11)};
	struct mock *m = mock_new(mode, 0, NX_LEVEL_BRANCHES);

	MOCK_LOAD(m, patched);
	m->start.gpr[NX_RDX] = 0x1f0;
	mock_warm(m);
	mock_check_log(m, log, 1);
	return m;
}

/* The engine left without having done anything; within the next executions it knows the code. */
static void check_formed_again(struct mock *m, uint8_t value)
{
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	const uint64_t stale = counters->stale, translated = counters->translated;
	const struct mock_access log[] = {OUT(0x1f0, 1, value)};

	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_CODE_CHANGED);
	assert_int_equal(m->exits, 0);
	mock_check(m);
	assert_int_equal(counters->stale, stale + 1);
	for (unsigned i = 0; i < 3; i++)
		mock_run(m);
	mock_check_log(m, log, 1);
	mock_check_ended(m);
	assert_int_equal(counters->stale, stale + 1);
	assert_int_equal(counters->translated, translated + 1);
}

static void changed_code_is_formed_again(void **state)
{
	struct mock *m = new_patched(MOCK_FLAT32);
	const uint32_t at = m->code_gpa + (uint32_t)(patched_here - patched) + 1;

	(void)state;
	for (uint8_t value = 0x22; value < 0x28; value++) {
		mock_poke(m, at, &value, 1);
		check_formed_again(m, value);
	}
	mock_free(m);
}

static void code_may_change_around_the_cluster(void **state)
{
	struct mock *m = new_patched(MOCK_FLAT32);
	const uint8_t value = 0x90;

	(void)state;
	/* A change of bytes that the cluster was not made from does not matter. */
	mock_poke(m, m->code_gpa, &value, 1);
	mock_poke(m, (uint32_t)m->stop_rip, &value, 1);
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	assert_int_equal(nx_engine_counters(m->engine)->stale, 0);
	mock_free(m);
}

static void same_address_with_other_code(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_PAGED32; mode <= MOCK_PAE32; mode++) {
		struct mock *m = new_patched(mode);
		const uint32_t other = MOCK_EXTRA;
		const uint8_t value = 0x77;

		/* The same bytes in another frame: another address space with the same program. */
		mock_poke(m, other, m->start_ram + MOCK_CODE, 0x1000);
		mock_set_pte(m, MOCK_CODE, other | PTE_ALL);
		mock_run(m);
		mock_check_ended(m);
		assert_int_equal(m->exits, 1);
		/* Another program there. */
		mock_poke(m, other + (uint32_t)(patched_here - patched) + 1, &value, 1);
		check_formed_again(m, value);
		/* The same holds where there is no page at all. */
		mock_set_pte(m, MOCK_CODE, 0);
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_CODE_UNREADABLE);
		assert_int_equal(m->exits, 0);
		mock_check(m);
		/* Not executable: as little. */
		if (mode == MOCK_PAE32) {
			m->start.efer |= 0x800;
			mock_set_pte(m, MOCK_CODE, other | PTE_ALL | 1ull << 63);
			mock_run(m);
			assert_int_equal(m->reason, NX_LEAVE_CODE_UNREADABLE);
			assert_int_equal(m->exits, 0);
		}
		mock_free(m);
	}
}

static void same_address_in_another_mode(void **state)
{
	/* The same bytes are other instructions in 16-bit code. */
	struct mock *m = new_patched(MOCK_FLAT32);
	const uint64_t translated = nx_engine_counters(m->engine)->translated;

	(void)state;
	m->start.seg[NX_CS].db = false;
	for (unsigned i = 0; i < 4; i++)
		mock_run(m);
	mock_check_ended(m);
	assert_int_equal(nx_engine_counters(m->engine)->translated, translated + 1);
	/* Both are kept. */
	m->start.seg[NX_CS].db = true;
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(nx_engine_counters(m->engine)->translated, translated + 1);
	mock_free(m);
}

/* Another vCPU, or the device that is being accessed, writes into the code during an exit. */

GUEST(two_exits, 32, "in al, dx",
      "out 0x80, al; mov al, 0x33; out dx, al; mov al, 0x44; out dx, al", "ret");

static void patch_in_exit(struct mock *m, unsigned number)
{
	/* The last immediate, after the first and before the second exit of the engine. */
	if (number == 2)
		m->ram[m->stop_rip - 2] = 0x55;
}

static void change_during_an_exit_is_seen(void **state)
{
	static const struct mock_access log[] = {OUT(0x80, 1, 1), OUT(0x1f0, 1, 0x33)};
	struct mock *m = mock_new(MOCK_FLAT32, 0, NX_LEVEL_BRANCHES);

	(void)state;
	MOCK_LOAD(m, two_exits);
	m->start.gpr[NX_RDX] = 0x1f0;
	m->start.gpr[NX_RAX] = 1;
	mock_warm(m);
	assert_int_equal(m->exits, 3);
	m->on_exit = patch_in_exit;
	mock_run(m);
	mock_check_log(m, log, 2);
	assert_int_equal(m->reason, NX_LEAVE_CODE_CHANGED);
	/* The second exit is completed, nothing more. */
	assert_int_equal(nx_engine_state(m->engine)->rip, m->stop_rip - 3);
	mock_free(m);
}

/* ---- Stores into the cluster's own code ---- */

extern const uint8_t own_store[], own_after[];
GUEST(own, 32, "in al, dx",
      "inc ebx; own_store: mov [esi], cl; own_after: mov al, 0x66; out dx, al", "ret");

static void store_into_own_code_ends_the_cluster(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_FLAT32; mode <= MOCK_PAE32; mode++) {
		struct mock *m = mock_new(mode, 0, NX_LEVEL_BRANCHES);
		uint64_t after = MOCK_CODE + (uint64_t)(own_after - own);

		MOCK_LOAD(m, own);
		m->start.gpr[NX_RDX] = 0x1f0;
		m->start.gpr[NX_RCX] = 0x99;
		m->start.gpr[NX_RSI] = MOCK_DATA;
		mock_warm(m);
		mock_check_ended(m);
		assert_int_equal(m->exits, 1);
		/* The immediate of the next instruction: the processor would use the new one. */
		m->start.gpr[NX_RSI] = after + 1;
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_CODE_WRITE);
		assert_int_equal(m->exits, 0);
		/* Before the store, with nothing of it done and all before it. */
		assert_int_equal(m->ram[after + 1], 0x66);
		m->want.rip = MOCK_CODE + (uint64_t)(own_store - own);
		m->want.gpr[NX_RBX]++;
		m->want.rflags = nx_engine_state(m->engine)->rflags;
		mock_check(m);
		mock_check_native(m);
		/* By another address, too. */
		if (mode != MOCK_FLAT32) {
			mock_set_pte(m, MOCK_EXTRA, MOCK_CODE | PTE_ALL);
			m->start.gpr[NX_RSI] = MOCK_EXTRA + (after + 1) % 4096;
			mock_run(m);
			assert_int_equal(m->reason, NX_LEAVE_CODE_WRITE);
			assert_int_equal(m->exits, 0);
		}
		mock_free(m);
	}
}

/* Boot sectors have their stack, and small programs their data, on the page of their code. */

extern const uint8_t beside_call[];
GUEST(beside, 32, "in al, dx",
      "push eax; mov [esi], cl; beside_call: call 1f; out dx, al; jmp 2f;"
      "1: mov ebx, [esi]; xchg [esi+4], ebx; ret; 2: pop edi; mov [esi+8], edi; out 0x80, al",
      "hlt");

static void stack_and_data_beside_code(void **state)
{
	static const struct mock_access log[] = {OUT(0x1f0, 1, 0x21), OUT(0x80, 1, 0x21)};

	(void)state;
	for (enum mock_mode mode = MOCK_FLAT32; mode <= MOCK_PAE32; mode++) {
		struct mock *m = mock_new(mode, 0, NX_LEVEL_PATHS);

		MOCK_LOAD(m, beside);
		m->start.gpr[NX_RDX] = 0x1f0;
		m->start.gpr[NX_RAX] = 0x21;
		m->start.gpr[NX_RSI] = m->code_gpa + m->code_size;
		m->start.gpr[NX_RSP] = m->code_gpa + 0x800;
		mock_warm(m);
		mock_check_log(m, log, 2);
		mock_check_ended(m);
		assert_int_equal(nx_engine_counters(m->engine)->leaves[NX_LEAVE_CODE_WRITE], 0);
		mock_check_native(m);
		/* A push over the code that follows it is the processor's. */
		m->start.gpr[NX_RSP] = MOCK_CODE + (uint64_t)(beside_call - beside) + 9;
		mock_run(m);
		assert_int_equal(m->reason, NX_LEAVE_CODE_WRITE);
		assert_int_equal(m->exits, 0);
		mock_free(m);
	}
}

/* ---- Instructions that are not the engine's ---- */

/* X(name, code) */
#define FORBIDDEN_64(X)                           \
	X(cpuid, "cpuid")                         \
	X(rdmsr, "rdmsr")                         \
	X(wrmsr, "wrmsr")                         \
	X(hlt, "hlt")                             \
	X(int3, "int3")                           \
	X(int80, "int 0x80")                      \
	X(syscall, "syscall")                     \
	X(sysret, ".byte 0x48, 0x0f, 0x07")       \
	X(sysenter, "sysenter")                   \
	X(iret, "iretq")                          \
	X(far_return, ".byte 0xcb")               \
	X(far_jump, "jmp fword ptr [rsi]")        \
	X(load_gdt, "lgdt [rsi]")                 \
	X(load_idt, "lidt [rsi]")                 \
	X(store_gdt, "sgdt [rsi]")                \
	X(store_idt, "sidt [rsi]")                \
	X(store_ldt, "sldt ecx")                  \
	X(store_tr, "str ecx")                    \
	X(store_msw, "smsw ecx")                  \
	X(load_msw, "lmsw cx")                    \
	X(verify, "verr cx")                      \
	X(access_rights, "lar ecx, ecx")          \
	X(segment_limit, "lsl ecx, ecx")          \
	X(load_ss, "mov ss, ecx")                 \
	X(load_fs, "mov fs, ecx")                 \
	X(from_cr, "mov rcx, cr0")                \
	X(to_cr, "mov cr3, rcx")                  \
	X(from_dr, "mov rcx, dr7")                \
	X(to_dr, "mov dr7, rcx")                  \
	X(invlpg, "invlpg [rsi]")                 \
	X(wbinvd, "wbinvd")                       \
	X(swapgs, "swapgs")                       \
	X(clts, "clts")                           \
	X(sti, "sti")                             \
	X(stac, "stac")                           \
	X(clac, "clac")                           \
	X(rdtsc, "rdtsc")                         \
	X(rdtscp, "rdtscp")                       \
	X(rdpmc, "rdpmc")                         \
	X(rdpid, "rdpid rcx")                     \
	X(rdfsbase, "rdfsbase rcx")               \
	X(wrgsbase, "wrgsbase rcx")               \
	X(rdpkru, "rdpkru")                       \
	X(wrpkru, "wrpkru")                       \
	X(xgetbv, "xgetbv")                       \
	X(xsetbv, "xsetbv")                       \
	X(xsave, "xsave [rsi]")                   \
	X(fxrstor, "fxrstor [rsi]")               \
	X(vmcall, "vmcall")                       \
	X(vmmcall, "vmmcall")                     \
	X(ud2, "ud2")                             \
	X(monitor, "monitor")                     \
	X(mwait, "mwait")                         \
	X(x87, "fld1")                            \
	X(mmx, "movq mm0, [rsi]")                 \
	X(sse, "movups xmm0, [rsi]")              \
	X(sse_to_gpr, "movd ecx, xmm0")           \
	X(avx, "vzeroupper")                      \
	X(xbegin, "xbegin 1f; 1:")                \
	X(not_an_instruction, ".byte 0x0f, 0xff") \
	X(invalid_in_64, ".byte 0x37")

#define FORBIDDEN_32(X)                             \
	X(load_ds, "mov ds, ecx")                   \
	X(pop_es, "pop es")                         \
	X(load_far, "lds ecx, [esi]")               \
	X(far_call, ".byte 0x9a, 0, 0, 1, 0, 8, 0") \
	X(overflow, "into")                         \
	X(bounds, "bound ecx, [esi]")               \
	X(adjust_rpl, "arpl [esi], cx")             \
	X(interrupt_return, "iret")                 \
	X(sti, "sti")                               \
	X(store_gdt, "sgdt [esi]")

#define DEFINE_64(name, code) \
	GUEST(forbidden64_##name, 64, "in al, dx", code "; out dx, al", "ret");
#define DEFINE_32(name, code) \
	GUEST(forbidden32_##name, 32, "in al, dx", code "; out dx, al", "ret");
FORBIDDEN_64(DEFINE_64)
FORBIDDEN_32(DEFINE_32)

struct forbidden {
	const char *name;
	const uint8_t *code, *resume, *stop, *end;
};

#define ROW_64(name, code)                                                                  \
	{#name, forbidden64_##name, forbidden64_##name##_resume, forbidden64_##name##_stop, \
	 forbidden64_##name##_end},
#define ROW_32(name, code)                                                                  \
	{#name, forbidden32_##name, forbidden32_##name##_resume, forbidden32_##name##_stop, \
	 forbidden32_##name##_end},
static const struct forbidden forbidden_64[] = {FORBIDDEN_64(ROW_64)};
static const struct forbidden forbidden_32[] = {FORBIDDEN_32(ROW_32)};

static void check_forbidden(const struct forbidden *row, enum mock_mode mode, unsigned cpl)
{
	struct mock *m = mock_new(mode, cpl, NX_LEVEL_LOOPS);

	mock_load(m, row->code, row->resume, row->stop, row->end);
	m->start.gpr[NX_RDX] = 0x1f0;
	m->start.gpr[NX_RSI] = MOCK_DATA;
	m->start.gpr[NX_RDI] = MOCK_DATA;
	m->start.gpr[NX_RCX] = 1;
	for (unsigned i = 0; i < 8; i++) {
		mock_run(m);
		if (m->exits || nx_engine_state(m->engine)->rip != m->resume_rip)
			fail_msg("%s in mode %u was run", row->name, mode);
		mock_check(m);
	}
	mock_free(m);
}

static void forbidden_instructions_are_never_run(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(forbidden_64) / sizeof(forbidden_64[0]); i++)
		for (unsigned cpl = 0; cpl <= 3; cpl += 3)
			check_forbidden(&forbidden_64[i], MOCK_LONG64, cpl);
	for (unsigned i = 0; i < sizeof(forbidden_32) / sizeof(forbidden_32[0]); i++)
		for (unsigned cpl = 0; cpl <= 3; cpl += 3)
			check_forbidden(&forbidden_32[i], MOCK_FLAT32, cpl);
}

/* An exit before such an instruction is delivered; the engine leaves between them. */

extern const uint8_t sti_here[], popf_here[];
GUEST(before_sti, 32, "in al, dx", "out 0x80, al; sti_here: sti; out dx, al", "ret");
GUEST(before_popf, 32, "in al, dx", "out 0x80, al; popf_here: popfd; out dx, al", "ret");

static void sti_waits_for_the_processor(void **state)
{
	static const struct mock_access log[] = {OUT(0x80, 1, 0x12)};
	struct mock *m = mock_new(MOCK_FLAT32, 0, NX_LEVEL_BRANCHES);

	(void)state;
	MOCK_LOAD(m, before_sti);
	m->start.gpr[NX_RAX] = 0x12;
	m->start.rflags &= ~(uint64_t)IF;
	mock_warm(m);
	mock_check_log(m, log, 1);
	m->want.rip = MOCK_CODE + (uint64_t)(sti_here - before_sti);
	mock_check(m);
	mock_free(m);
}

static void popf_of_arithmetic_flags_only(void **state)
{
	static const struct {
		uint32_t before, popped;
		bool here; /* leaves before it */
	} cases[] = {
	    {0x202, 0xad7, false},    /* arithmetic flags: all */
	    {0x202, 0x602, false},    /* DF */
	    {0x202, 0x200202, false}, /* ID, by which programs find out whether there is CPUID */
	    {0x200202, 0x202, false}, /* and back */
	    {0x202, 0x302, true},     /* TF */
	    {0x002, 0x202, true},     /* IF comes on */
	};
	struct mock *m = mock_new(MOCK_FLAT32, 0, NX_LEVEL_BRANCHES);
	const uint64_t here = MOCK_CODE + (uint64_t)(popf_here - before_popf);
	uint32_t flags = 0x202;

	(void)state;
	MOCK_LOAD(m, before_popf);
	m->start.gpr[NX_RDX] = 0x1f0;
	mock_poke(m, MOCK_STACK + 0x1000, &flags, 4);
	mock_warm(m);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool left;

		m->start.rflags = cases[i].before;
		mock_poke(m, MOCK_STACK + 0x1000, &cases[i].popped, 4);
		mock_run(m);
		left = nx_engine_state(m->engine)->rip == here;
		assert_int_equal(left, cases[i].here);
		if (!left) {
			mock_check_ended(m);
			m->want.gpr[NX_RSP] += 4;
			m->want.rflags = cases[i].popped;
		}
		assert_int_equal(m->exits, left ? 1 : 2);
		m->want.rip = left ? here : m->stop_rip;
		mock_check(m);
	}
	mock_free(m);
}

/* ---- States that the engine does not run in ---- */

GUEST(plain, 32, "in al, dx", "out 0x80, al; out dx, al", "ret");

static void check_state_refused(struct mock *m, enum nx_status reason)
{
	mock_run(m);
	assert_int_equal(m->exits, 0);
	if (m->reason != reason)
		fail_msg("left because: %s", nx_leave_reason_text(m->reason));
	mock_check(m);
}

static void single_step_and_alignment_checks(void **state)
{
	struct mock *m = mock_new(MOCK_PAE32, 3, NX_LEVEL_BRANCHES);
	const struct nx_state good = m->start;

	(void)state;
	MOCK_LOAD(m, plain);
	mock_warm(m);
	assert_int_equal(m->exits, 2);
	m->start.rflags |= TF;
	check_state_refused(m, NX_LEAVE_STATE);
	/* RF stays where no instruction has completed, and goes with the first one. */
	m->start.rflags |= RF;
	check_state_refused(m, NX_LEAVE_STATE);
	assert_true(nx_engine_state(m->engine)->rflags & RF);
	m->start.rflags = good.rflags | RF;
	mock_run(m);
	assert_int_equal(m->exits, 2);
	assert_false(nx_engine_state(m->engine)->rflags & RF);
	m->start.rflags = good.rflags | 1u << 17; /* VM */
	check_state_refused(m, NX_LEAVE_STATE);
	m->start.rflags = good.rflags | 1u << 18; /* AC, with CR0.AM: alignment checks */
	m->start.cr0 |= 1u << 18;
	check_state_refused(m, NX_LEAVE_STATE);
	m->start.cr0 = good.cr0;
	m->start.rflags = good.rflags;
	mock_run(m);
	assert_int_equal(m->exits, 2);
	mock_free(m);
}

static void ports_without_rights_fault(void **state)
{
	(void)state;
	/* CPL 3 without IOPL: the permission bitmap decides, which is the processor's to read. */
	for (enum mock_mode mode = MOCK_PROT16; mode <= MOCK_PAE32; mode++) {
		struct mock *m = mock_new(mode, 3, NX_LEVEL_BRANCHES);

		MOCK_LOAD(m, plain);
		m->start.rflags &= ~0x3000ull;
		for (unsigned i = 0; i < 8; i++) {
			mock_run(m);
			assert_int_equal(m->exits, 0);
			mock_check(m);
		}
		mock_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(changed_code_is_formed_again),
	    cmocka_unit_test(code_may_change_around_the_cluster),
	    cmocka_unit_test(same_address_with_other_code),
	    cmocka_unit_test(same_address_in_another_mode),
	    cmocka_unit_test(change_during_an_exit_is_seen),
	    cmocka_unit_test(store_into_own_code_ends_the_cluster),
	    cmocka_unit_test(stack_and_data_beside_code),
	    cmocka_unit_test(forbidden_instructions_are_never_run),
	    cmocka_unit_test(sti_waits_for_the_processor),
	    cmocka_unit_test(popf_of_arithmetic_flags_only),
	    cmocka_unit_test(single_step_and_alignment_checks),
	    cmocka_unit_test(ports_without_rights_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
