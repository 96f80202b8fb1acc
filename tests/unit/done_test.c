/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * done_test.c - exits that the host ends by executing the instruction itself
 * (nx_engine_exit_done()), and which exits cost the engine what it knows of the guest's mappings.
 */
#include "stage.h"

#define CLASSES (NX_EXITS_CPUID | NX_EXITS_MSR | NX_EXITS_CR | NX_EXITS_INVALIDATE | NX_EXITS_VMX)

GUEST(mixed, 64, "cpuid",
      "mov [rsi], eax; cpuid; mov [rsi+8], edx; rdmsr; mov [rsi+16], eax; wrmsr; mov ebx, [rsi];"
      "mov cr8, rbx; add ebx, [rsi+8]; mov cr3, rdi; mov ebp, [rsi+16]; invlpg [rsi]",
      "hlt");

static struct mock *new_mock(void)
{
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_LOOPS, CLASSES);

	m->first_class = NX_CLASS_CPUID;
	MOCK_LOAD(m, mixed);
	m->start.gpr[NX_RSI] = MOCK_DATA;
	m->start.gpr[NX_RDI] = m->start.cr3;
	m->start.gpr[NX_RCX] = 0x830; /* the x2APIC's interrupt command */
	return m;
}

/* What a host in the kernel has its own handlers do: CPUID's four registers, and rip. */
static void execute(struct nx_state *s, const struct nx_exit *exit)
{
	static const uint8_t length[] = {
	    [NX_INSN_CPUID] = 2,  [NX_INSN_RDMSR] = 2,  [NX_INSN_WRMSR] = 2,
	    [NX_INSN_MOV_CR] = 3, [NX_INSN_INVLPG] = 3,
	};

	if (exit->insn == NX_INSN_CPUID) {
		s->gpr[NX_RAX] = 0x16;
		s->gpr[NX_RBX] = 0x756e6547;
		s->gpr[NX_RDX] = 0x49656e69;
	} else if (exit->insn == NX_INSN_RDMSR) {
		s->gpr[NX_RAX] = 0x11223344;
		s->gpr[NX_RDX] = 0;
	}
	s->rip += length[exit->insn];
	if (exit->insn == NX_INSN_MOV_CR && exit->reg == 8)
		s->rip++; /* REX.R */
}

enum end { DONE, DONE_SEGMENTS, DONE_FLUSHED, COMPLETED };

struct result {
	struct nx_state state;
	unsigned exits, forgotten;
	uint64_t misses, enters;
};

/* One stay. forgotten: a bit for each exit behind which no translation was left. */
static struct result stay(struct mock *m, enum end end)
{
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	struct nx_state *s = nx_engine_state(m->engine);
	uint64_t misses = counters->tlb_misses, enters = counters->enters;
	struct nx_exit exit = {.data = 0};
	struct result result = {.exits = 0};

	*s = m->start;
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	assert_true(mock_worth_resuming(m, m->code_rip, NX_CLASS_CPUID));
	while (nx_engine_resume(m->engine, &exit) == NX_EXIT) {
		struct nx_state after = *s;

		execute(&after, &exit);
		if (end == COMPLETED) {
			exit.data = 0x11223344;
			if (exit.insn == NX_INSN_CPUID)
				memcpy(s->gpr, after.gpr, sizeof(s->gpr));
			assert_int_equal(nx_engine_complete_exit(m->engine, &exit),
					 NX_COMPLETION_DONE);
			assert_memory_equal(s, &after, sizeof(after));
		} else {
			if (end == DONE_SEGMENTS)
				after.seg[NX_FS].base = 0x1000 * (result.exits + 1);
			*s = after;
			nx_engine_exit_done(m->engine, end == DONE_FLUSHED || nx_exit_flushes(&exit)
							   ? NX_CHANGES_ALL
						       : end == DONE_SEGMENTS
							   ? NX_CHANGES_SEGMENTS
							   : NX_CHANGES_REGISTERS);
		}
		if (!m->engine->guest.tlb_used_count)
			result.forgotten |= 1u << result.exits;
		result.exits++;
	}
	m->reason = exit.reason;
	result.state = *s;
	result.misses = counters->tlb_misses - misses;
	result.enters = counters->enters - enters;
	return result;
}

static void warm(struct mock *m)
{
	for (unsigned i = 0; i < 2; i++)
		assert_false(mock_worth_resuming(m, m->code_rip, NX_CLASS_CPUID));
	for (unsigned i = 0; i < 8; i++)
		stay(m, DONE);
}

/* CPUID, RDMSR, WRMSR to the APIC and CR8, CR3, INVLPG. */
#define EXITS 6u
#define FLUSHING (1u << 4 | 1u << 5)

static void the_stay_goes_on(void **state)
{
	struct mock *m = new_mock();
	struct result result;

	(void)state;
	warm(m);
	result = stay(m, DONE);
	assert_int_equal(result.exits, EXITS);
	assert_int_equal(result.enters, EXITS);
	assert_int_equal(result.state.rip, m->stop_rip);
	assert_int_equal(result.state.gpr[NX_RBX], (uint32_t)(m->start.gpr[NX_RAX] + 0x49656e69));
	assert_int_equal(result.state.gpr[NX_RBP], 0x11223344);
	mock_free(m);
}

static void mappings_are_kept_by_class(void **state)
{
	struct mock *m = new_mock();
	struct result result;

	(void)state;
	warm(m);
	result = stay(m, DONE);
	assert_int_equal(result.forgotten, FLUSHING);
	/* One for writing, and one for reading behind the new CR3. */
	assert_int_equal(result.misses, 2);
	assert_int_equal(stay(m, DONE_FLUSHED).forgotten, (1u << EXITS) - 1);
	/* Segments may change without the mappings, and are loaded again then. */
	result = stay(m, DONE_SEGMENTS);
	assert_int_equal(result.forgotten, FLUSHING);
	assert_int_equal(result.misses, 2);
	assert_int_equal(m->engine->context.seg[NX_FS].base, 0x1000 * EXITS);
	/* The engine completes by the same table. */
	result = stay(m, COMPLETED);
	assert_int_equal(result.exits, EXITS);
	mock_free(m);
}

/* The next resume completes what the host has answered: by the same table. */
static void completion_keeps_them_too(void **state)
{
	struct mock *m = new_mock();
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	struct nx_exit exit = {.data = 0};
	unsigned exits = 0;
	uint64_t misses;

	(void)state;
	warm(m);
	*nx_engine_state(m->engine) = m->start;
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	assert_true(mock_worth_resuming(m, m->code_rip, NX_CLASS_CPUID));
	misses = counters->tlb_misses;
	while (nx_engine_resume(m->engine, &exit) == NX_EXIT)
		exits++;
	assert_int_equal(exits, EXITS);
	assert_int_equal(counters->tlb_misses - misses, 2);
	mock_free(m);
}

/* What the host did is forgotten with the stay: the next begins with a look at everything. */
static void it_does_not_outlive_the_stay(void **state)
{
	struct mock *m = new_mock();
	struct nx_exit exit = {.data = 0};

	(void)state;
	warm(m);
	*nx_engine_state(m->engine) = m->start;
	assert_true(mock_worth_resuming(m, m->code_rip, NX_CLASS_CPUID));
	assert_int_equal(nx_engine_resume(m->engine, &exit), NX_EXIT);
	execute(nx_engine_state(m->engine), &exit);
	nx_engine_exit_done(m->engine, NX_CHANGES_REGISTERS);
	assert_true(m->engine->guest.tlb_used_count > 0);
	/* The host went to the hardware after all, where the page table changed. */
	*nx_engine_state(m->engine) = m->start;
	mock_set_pte(m, MOCK_DATA, 0);
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	assert_true(mock_worth_resuming(m, m->code_rip, NX_CLASS_CPUID));
	assert_int_equal(nx_engine_resume(m->engine, &exit), NX_LEAVE);
	assert_int_equal(exit.reason, NX_LEAVE_PAGE_FAULT);
	mock_free(m);
}

GUEST(loads, 64, "cpuid", "mov eax, fs:[rsi]; cpuid; mov ebx, fs:[rsi+8]; cpuid", "hlt");

/* The stay ends with an exit that has changed a segment: the next one knows the new one, though the
 * host then says, truly, that it has not changed since. */
static void a_segment_changed_by_the_last_exit(void **state)
{
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_LOOPS, CLASSES);
	struct nx_state *s = nx_engine_state(m->engine);
	struct nx_exit exit = {.data = 0};
	unsigned stays = 0;

	(void)state;
	MOCK_LOAD(m, loads);
	m->start.gpr[NX_RSI] = MOCK_DATA;
	for (unsigned i = 0; i < 10; i++) {
		*s = m->start;
		s->same_segments = false;
		memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
		if (!mock_worth_resuming(m, m->code_rip, NX_CLASS_CPUID))
			continue;
		assert_int_equal(nx_engine_resume(m->engine, &exit), NX_EXIT);
		s->seg[NX_FS].base = 8;
		execute(s, &exit);
		nx_engine_exit_done(m->engine, NX_CHANGES_SEGMENTS);
		nx_engine_forget_exit(m->engine);
		s->same_segments = true;
		assert_int_equal(nx_engine_resume(m->engine, &exit), NX_EXIT);
		assert_int_equal(m->engine->context.seg[NX_FS].base, 8);
		nx_engine_forget_exit(m->engine);
		stays++;
	}
	assert_true(stays > 0);
	mock_free(m);
}

static void the_table(void **state)
{
	static const struct {
		struct nx_exit exit;
		bool flushes;
	} rows[] = {
	    {{.kind = NX_EXIT_IO, .write = true}, false},
	    {{.kind = NX_EXIT_MMIO, .write = true}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_CPUID, .write = true}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_LGDT, .write = true}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_VMREAD}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_VMWRITE, .write = true}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_VMLOAD, .write = true}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_VMRUN, .write = true}, true},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_VMRESUME, .write = true}, true},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_VMCALL, .write = true}, true},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_MOV_DR, .write = true, .reg = 7}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_MOV_CR, .reg = 3}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_MOV_CR, .write = true, .reg = 0}, true},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_MOV_CR, .write = true, .reg = 2}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_MOV_CR, .write = true, .reg = 4}, true},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_MOV_CR, .write = true, .reg = 8}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_RDMSR, .operand = 0xc0000080}, false},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_WRMSR, .operand = 0xc0000080, .write = true},
	     true},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_WRMSR, .operand = 0x277, .write = true}, true},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_WRMSR, .operand = 0x1b, .write = true}, true},
	    {{.kind = NX_EXIT_INSN, .insn = NX_INSN_WRMSR, .operand = 0x6e0, .write = true}, false},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(nx_exit_flushes(&rows[i].exit), rows[i].flushes);
}

GUEST(plain_16, 16, "cpuid", "nop", "hlt");
GUEST(plain_32, 32, "cpuid", "nop", "hlt");
GUEST(plain_64, 64, "cpuid", "nop", "hlt");

/* A prefix that changes nothing makes the engine decode the instruction; plain ones are known. */
static void prefixed_and_plain_are_described_alike(void **state)
{
	static const uint8_t second[] = {0xa2, 0x32, 0x30};
	static const enum mock_mode modes[] = {MOCK_REAL16, MOCK_PAGED32, MOCK_LONG64};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct mock *m = mock_new_exits(modes[i], 0, NX_LEVEL_LOOPS, CLASSES);
		struct nx_engine *engine;

		if (i == 0)
			MOCK_LOAD(m, plain_16);
		else if (i == 1)
			MOCK_LOAD(m, plain_32);
		else
			MOCK_LOAD(m, plain_64);
		m->start.gpr[NX_RAX] = 0x1122334455667788;
		m->start.gpr[NX_RCX] = 0x99aabbccc0000080;
		m->start.gpr[NX_RDX] = 0xddeeff0012345678;
		engine = stage_begin(m);
		for (unsigned n = 0; n < sizeof(second); n++) {
			struct nx_site plain = {.len = 2, .bytes = {0x0f, second[n]}};
			struct nx_site prefixed = {.len = 3, .bytes = {0x2e, 0x0f, second[n]}};
			struct nx_exit known = {.kind = NX_EXIT_INSN}, decoded = known;

			nx_exit_describe_insn(engine, &plain, &known);
			nx_exit_describe_insn(engine, &prefixed, &decoded);
			assert_int_equal(known.size, modes[i] == MOCK_REAL16 ? 2 : 4);
			assert_memory_equal(&known, &decoded, sizeof(known));
		}
		mock_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(prefixed_and_plain_are_described_alike),
	    cmocka_unit_test(the_stay_goes_on),
	    cmocka_unit_test(mappings_are_kept_by_class),
	    cmocka_unit_test(completion_keeps_them_too),
	    cmocka_unit_test(it_does_not_outlive_the_stay),
	    cmocka_unit_test(a_segment_changed_by_the_last_exit),
	    cmocka_unit_test(the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
