/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The verifier under attack by mutants of many translations: the differential tester's sequences
 * are run in all modes and at all levels, and whatever the engine translates is mutated at random.
 * The verifier refuses a mutant, or both judges of verify_oracle.h find it harmless.
 *
 *	verify_generated_test [--per-cell=N] [--mutants=M] [--seed=S] [--collect-only]
 *
 * A cell is a mode at a level: N different translations of each, M mutants of every one.
 * --collect-only runs the engine and nothing else, for valgrind, which knows no segments.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../diff/diff.h"
#include "../mock/secret.h"
#include "engine.h"
#include "mock.h"
#include "verify_mutate.h"
#include "verify_oracle.h"

#define MAX_SEQUENCES 400u /* per translation wanted: then there is not enough variety */

/* What the sequences lack: instruction exits, pairs, turns that are counted. */
#define PAIRS "in al, dx; in eax, dx; out dx, ax; out dx, al"
GUEST(insn64, 64, "in al, dx",
      "cpuid; mov r9, rax; rdmsr; wrmsr; mov rcx, cr0; mov [rsi], rcx; mov cr3, r9; invlpg [rdi];"
      "mov r10, dr7; clts; vmread r11, rax; vmwrite rcx, [rdi]; out dx, al",
      "ret");
GUEST(insn32, 32, "in al, dx",
      "cpuid; mov [esi], eax; rdmsr; add eax, [edi]; wrmsr; mov ecx, cr0; mov cr3, ecx; clts;"
      "vmcall; lmsw [esi]; out dx, al",
      "ret");
GUEST(insn16, 16, "in al, dx", "cpuid; mov [si], eax; mov ecx, cr0; clts; wbinvd; out dx, al",
      "ret");
GUEST(pairs64, 64, "in al, dx", PAIRS, "ret");
GUEST(pairs32, 32, "in al, dx", PAIRS, "ret");
GUEST(pairs16, 16, "in al, dx", PAIRS, "ret");
GUEST(turns64, 64, "in al, dx",
      "mov ecx, 5; 1: inc rbx; dec ecx; jnz 1b; 2: in al, dx; test al, 1; jz 3f; out dx, al;"
      "3: mov r9, [rsi]; cmp r9, 7; je 2b; out dx, eax; mov ecx, 9; 4: add r14, [rdi]; loop 4b;"
      "in eax, dx",
      "ret");
GUEST(turns32, 32, "in al, dx",
      "mov ecx, 5; 1: inc ebx; dec ecx; jnz 1b; 2: mov eax, [esi]; dec ebp; jns 2b; out dx, eax;"
      "mov ecx, 9; 4: add ebx, [edi]; loop 4b; in eax, dx",
      "ret");
GUEST(turns16, 16, "in al, dx",
      "mov cx, 5; 1: inc bx; dec cx; jnz 1b; out dx, al; mov cx, 9; 4: add bx, [di]; loop 4b;"
      "in ax, dx",
      "ret");

/* A translation, kept after its engine is gone. */
struct kept {
	struct kept *next;
	struct nx_site *site;
	struct nx_entry *entry;
	uint8_t *code;
	uint32_t size;
	uint16_t sites, entries;
	struct nx_thunks thunks;
	uint64_t seed;
	const char *name;
};

#define PER_CELL 22u
#define MUTANTS 220u

static struct {
	unsigned per_cell, mutants;
	uint64_t seed;
	bool collect_only;
} options = {.per_cell = PER_CELL, .mutants = MUTANTS, .seed = 1};

static struct kept *all;
static unsigned kept_count, too_long, cell[MODE_COUNT][NX_LEVEL_COUNT];
/* What has to occur in them. */
static struct {
	unsigned guards, turns, helpers, instructions, ports, mmio_forms, contexts;
} with;

static void *copy(const void *from, size_t bytes)
{
	void *to = malloc(bytes);

	assert_non_null(to);
	return memcpy(to, from, bytes);
}

static bool is_new(const uint8_t *code, uint32_t size)
{
	for (const struct kept *k = all; k; k = k->next)
		if (k->size == size && memcmp(k->code, code, size) == 0)
			return false;
	return true;
}

static void count_features(const struct nx_cluster *c)
{
	bool guard = false, turns = false, helper = false, insn = false, io = false, mmio = false;

	for (unsigned i = 0; i < c->sites; i++) {
		const struct nx_site *site = &c->site[i];

		guard |= site->kind == NX_SITE_LEAVE && site->reason == NX_LEAVE_GUARD;
		turns |= site->kind == NX_SITE_LEAVE && site->reason == NX_LEAVE_TURNS;
		helper |= site->kind == NX_SITE_HELPER;
		insn |= site->kind == NX_SITE_INSN;
		io |= site->kind == NX_SITE_IO;
		mmio |= site->kind == NX_SITE_ACCESS && site->mmio_form;
	}
	with.guards += guard;
	with.turns += turns;
	with.helpers += helper;
	with.instructions += insn;
	with.ports += io;
	with.mmio_forms += mmio;
	with.contexts += c->contexts > 1;
}

static bool keep(const struct nx_engine *nx, const struct nx_cluster *c, const char *name,
		 uint64_t seed)
{
	const uint8_t *code = (const uint8_t *)nx->memory.code_rw + c->code;
	struct kept *k;

	if (c->code_size > VERIFY_MUTATE_MAX_CODE) {
		too_long++;
		return false;
	}
	if (!is_new(code, c->code_size))
		return false;
	k = copy(&(struct kept){.next = all,
				.size = c->code_size,
				.sites = c->sites,
				.entries = c->entries,
				.thunks = nx->thunks,
				.seed = seed,
				.name = name},
		 sizeof(*k));
	k->thunks.code = (uintptr_t)nx->memory.code_rx + c->code;
	k->code = copy(code, c->code_size);
	k->site = copy(c->site, c->sites * sizeof(*c->site));
	k->entry = copy(c->entry, c->entries * sizeof(*c->entry));
	all = k;
	kept_count++;
	count_features(c);
	return true;
}

/* ---- Translations of sequences ---- */

static bool cells_full(void)
{
	for (unsigned mode = 0; mode < MODE_COUNT; mode++)
		/* Pairs are rare in sequences. */
		for (unsigned level = NX_LEVEL_STRAIGHT; level < NX_LEVEL_COUNT; level++)
			if (cell[mode][level] < options.per_cell)
				return false;
	return true;
}

static void try_sequence(struct engine *engine, enum nx_level level, const struct sequence *seq)
{
	static struct engine_result result;
	struct nx_engine *nx = engine_nx(engine);
	const struct nx_cache *cache = &nx->cache;
	uint32_t before = cache->clusters;

	nx->config.level = level;
	engine_run(engine, seq, &result);
	assert_null(result.broken);
	/* After a flush all are new. */
	for (uint32_t i = before <= cache->clusters ? before : 0; i < cache->clusters; i++)
		if (cell[seq->mode][level] < options.per_cell)
			cell[seq->mode][level] +=
			    keep(nx, &cache->cluster[i], mode_text[seq->mode], seq->seed);
}

/* modes: those that the processor under us runs, natively. */
static void collect_sequences(unsigned modes)
{
	static struct sequence seq;
	struct engine *engines[2][NX_LEVEL_COUNT];
	uint64_t last = options.seed + (uint64_t)options.per_cell * MODE_COUNT * MAX_SEQUENCES;

	for (unsigned level = 0; level < NX_LEVEL_COUNT; level++)
		for (unsigned roomy = 0; roomy < 2; roomy++)
			engines[roomy][level] = engine_new(roomy);
	for (uint64_t seed = options.seed; seed < last && !cells_full(); seed++) {
		generate(&seq, seed, (1u << MODE_COUNT) - 1);
		/* Learning where they go takes the processor. */
		seq.jumps &= modes >> seq.mode & 1;
		for (unsigned level = 0; level < NX_LEVEL_COUNT; level++)
			if (cell[seq.mode][level] < options.per_cell)
				try_sequence(engines[seq.roomy][level], level, &seq);
	}
	for (unsigned level = 0; level < NX_LEVEL_COUNT; level++)
		for (unsigned roomy = 0; roomy < 2; roomy++) {
			assert_int_equal(engine_counters(engines[roomy][level])->refused, 0);
			engine_free(engines[roomy][level]);
		}
}

/* ---- Of directed code ---- */

static void collect_directed(enum mock_mode mode, const char *name, const uint8_t *code,
			     const uint8_t *resume, const uint8_t *stop, const uint8_t *end)
{
	mock_branches = NX_BRANCHES_TRACKED;
	mock_blind = MOCK_SECRET;
	for (unsigned level = 0; level < NX_LEVEL_COUNT; level++) {
		struct mock *m = mock_new_exits(mode, 0, level, ~0u);

		mock_load(m, code, resume, stop, end);
		m->start.gpr[NX_RDX] = 0x3f8;
		m->start.gpr[NX_RSI] = mode <= MOCK_PROT16 ? 0x40 : MOCK_DATA;
		m->start.gpr[NX_RDI] = m->start.gpr[NX_RSI] + 0x100;
		for (unsigned i = 0; i < 20; i++)
			mock_run(m);
		assert_int_equal(nx_engine_counters(m->engine)->refused, 0);
		for (uint32_t i = 0; i < m->engine->cache.clusters; i++)
			keep(m->engine, &m->engine->cache.cluster[i], name, level);
		mock_free(m);
	}
}

#define COLLECT(mode, guest) \
	collect_directed(mode, #guest, guest, guest##_resume, guest##_stop, guest##_end)
#define COLLECT_ALL(name)                       \
	do {                                    \
		COLLECT(MOCK_REAL16, name##16); \
		COLLECT(MOCK_PROT16, name##16); \
		COLLECT(MOCK_FLAT32, name##32); \
		COLLECT(MOCK_PAE32, name##32);  \
		COLLECT(MOCK_LONG64, name##64); \
	} while (0)

/* ---- The attack ---- */

static void attack(const struct kept *k, struct verify_mutation *sum)
{
	static struct nx_translation t;
	unsigned long refused = sum->refused;
	char name[64];

	memset(&t, 0, sizeof(t));
	t.size = k->size;
	t.sites = k->sites;
	t.entries = k->entries;
	memcpy(t.site, k->site, k->sites * sizeof(t.site[0]));
	memcpy(t.entry, k->entry, k->entries * sizeof(t.entry[0]));
	snprintf(name, sizeof(name), "%s, seed %llu", k->name, (unsigned long long)k->seed);
	verify_mutate_sample(name, k->code, &t, &k->thunks, k->seed * 2 + 1, options.mutants, sum);
	/* Whatever the translation, most of what can be done to it is harmful. */
	assert_true(sum->refused - refused >= options.mutants / 4);
}

static void test_generated(void **state)
{
	struct verify_mutation sum = {0};
	const bool whole = options.per_cell >= PER_CELL && options.mutants >= MUTANTS;
	unsigned modes = options.collect_only ? 0 : processor->init();

	(void)state;
	if (!options.collect_only && processor->missing())
		print_message("no jumps to learn in some modes: %s\n", processor->missing());
	/* All of them first: from then on the sandbox's signal handlers are in place. */
	collect_sequences(modes);
	COLLECT_ALL(insn);
	COLLECT_ALL(pairs);
	COLLECT_ALL(turns);
	print_message("%u translations (%u too long): with helpers %u, device forms %u, ports %u, "
		      "instruction exits %u, guards %u, counted turns %u, calls %u\n",
		      kept_count, too_long, with.helpers, with.mmio_forms, with.ports,
		      with.instructions, with.guards, with.turns, with.contexts);
	assert_true(cells_full());
	if (options.collect_only)
		return;
	assert_true(with.helpers && with.mmio_forms && with.ports && with.instructions &&
		    with.turns);
	if (modes)
		assert_true(with.guards && with.contexts);
	for (const struct kept *k = all; k; k = k->next)
		attack(k, &sum);
	verify_mutation_print(&sum);
	assert_true(sum.mutants >= (unsigned long)kept_count * options.mutants);
	/* What the test is there for. */
	if (whole)
		assert_true(kept_count >= 500 && sum.mutants >= 100000);
	assert_true(sum.accepted > sum.mutants / 100); /* else the judges had nothing to judge */
	assert_int_equal(sum.harmful, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_generated),
	};

	for (int i = 1; i < argc; i++) {
		if (!strncmp(argv[i], "--per-cell=", 11))
			options.per_cell = (unsigned)strtoul(argv[i] + 11, NULL, 0);
		else if (!strncmp(argv[i], "--mutants=", 10))
			options.mutants = (unsigned)strtoul(argv[i] + 10, NULL, 0);
		else if (!strncmp(argv[i], "--seed=", 7))
			options.seed = strtoull(argv[i] + 7, NULL, 0);
		else if (!strcmp(argv[i], "--collect-only"))
			options.collect_only = true;
		else {
			fprintf(stderr,
				"usage: %s [--per-cell=N] [--mutants=M] [--seed=S] "
				"[--collect-only]\n",
				argv[0]);
			return 2;
		}
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
