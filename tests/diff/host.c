/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * host.c - the engine's side: guest RAM, page tables in each format, scripted devices.
 *
 * The guest-physical pages lie in another order than the linear ones, so that a pointer that runs
 * over a page's end is noticed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../mock/near.h"
#include "../mock/secret.h"
#include "diff.h"
#include "quiet_host.h"
#include "x86.h"

const uint8_t page_use[PAGES] = {CODE,       CODE, HOLE,       READ_WRITE, READ_WRITE, READ_ONLY,
				 READ_WRITE, HOLE, READ_WRITE, DEVICE,     READ_WRITE, READ_WRITE,
				 HOLE,       HOLE, READ_WRITE, READ_WRITE, HOLE};

/* Frames of guest-physical memory: tables, then the pages. */
enum { TOP = TABLES_AT / PAGE, LOW_1, LOW_2, LOW_3, HIGH_1, HIGH_2, HIGH_3, TABLES_END };

_Static_assert(TABLES_END - TOP == TABLES, "diff.h");
#define FIRST_FRAME 0x200u

#define PTE_PRESENT 1u
#define PTE_WRITE 2u
#define PTE_USER 4u
#define PTE_ACCESSED 0x20u
#define PTE_DIRTY 0x40u

static uint8_t tables[TABLES][PAGE] __attribute__((aligned(4096)));
static uint8_t pages[PAGES][PAGE] __attribute__((aligned(4096)));
static uint8_t initial[PAGES][PAGE];

/* Of a sequence with paths that have to be learnt: the last one counts. */
#define LIVES 6u

struct engine {
	struct nx_engine *nx;
	struct nx_memory memory;
	const struct sequence *seq;
	vector_registers vectors;
	uint64_t
	    exit_rip; /* a new one for each sequence: the tracker's memory is no subject here */
};

const uint8_t *initial_page(unsigned page)
{
	if (!initial[0][0]) {
		struct random random = {1};

		memset(initial, 0xf4, CODE_SIZE);
		for (unsigned i = CODE_SIZE; i < sizeof(initial); i += 8) {
			uint64_t value = random_next(&random);

			memcpy(&initial[0][0] + i, &value, 8);
		}
	}
	return initial[page];
}

const uint8_t *engine_page(unsigned page)
{
	return pages[page];
}

const struct nx_counters *engine_counters(const struct engine *engine)
{
	return nx_engine_counters(engine->nx);
}

struct nx_engine *engine_nx(const struct engine *engine)
{
	return engine->nx;
}

/* ---- Guest-physical memory ---- */

uint64_t page_gpa(unsigned page)
{
	return (FIRST_FRAME + page * 7 % PAGES) * (uint64_t)PAGE;
}

const uint8_t *engine_tables(void)
{
	return tables[0];
}

static void map_page(void *data, uint64_t gpa, struct nx_page *page)
{
	const struct engine *engine = data;

	page->kind = NX_PAGE_LEAVE;
	page->writable = true;
	page->store_is_mmio = false;
	page->host = NULL;
	if (engine->seq->paging == PAGING_NONE) {
		unsigned number = page_at(gpa);

		if (number == PAGES || page_use[number] == HOLE)
			return;
		page->kind = page_use[number] == DEVICE ? NX_PAGE_DEVICE : NX_PAGE_RAM;
		page->writable = page_use[number] != READ_ONLY;
		page->host = pages[number];
		return;
	}
	if (gpa >= TOP * PAGE && gpa < TABLES_END * PAGE) {
		page->kind = NX_PAGE_RAM;
		page->host = tables[gpa / PAGE - TOP];
		return;
	}
	for (unsigned i = 0; i < PAGES; i++) {
		if (page_gpa(i) != gpa)
			continue;
		page->kind = page_use[i] == DEVICE ? NX_PAGE_DEVICE : NX_PAGE_RAM;
		page->host = pages[i];
	}
}

static bool read_vector(void *data, unsigned number, void *to)
{
	const struct engine *engine = data;

	return vector_read(engine->vectors, number, to);
}

static bool write_vector(void *data, unsigned number, const void *from)
{
	struct engine *engine = data;

	return vector_write(engine->vectors, number, from);
}

static struct nx_host host = QUIET_HOST(map_page);

/* ---- Page tables ---- */

static void set_entry(uint8_t (*to)[PAGE], unsigned frame, uint64_t index, bool wide,
		      uint64_t value)
{
	memcpy(to[frame - TOP] + index * (wide ? 8 : 4), &value, wide ? 8 : 4);
}

static void leaf_of(enum paging paging, uint64_t linear, unsigned *frame, unsigned *index)
{
	*frame = linear < HIGH ? LOW_3 : HIGH_3;
	*index = (unsigned)(linear >> 12) & (paging == PAGING_32 ? 1023 : 511);
}

static void set_leaf(const struct sequence *seq, uint8_t (*to)[PAGE], uint64_t linear,
		     uint64_t entry)
{
	unsigned frame, index;

	leaf_of(seq->paging, linear, &frame, &index);
	set_entry(to, frame, index, seq->paging != PAGING_32, entry);
}

static uint64_t rights_of(const struct sequence *seq, unsigned page)
{
	uint64_t rights = PTE_PRESENT;

	if (page_use[page] != READ_ONLY)
		rights |= PTE_WRITE;
	if (!(seq->supervisor >> page & 1))
		rights |= PTE_USER;
	return rights;
}

void build_tables(const struct sequence *seq, uint8_t (*to)[PAGE])
{
	const uint64_t rights = PTE_PRESENT | PTE_WRITE | PTE_USER;

	memset(to, 0, (size_t)TABLES * PAGE);
	switch (seq->paging) {
	case PAGING_NONE:
		return;
	case PAGING_32:
		set_entry(to, TOP, LOW >> 22, false, LOW_3 * PAGE | rights);
		break;
	case PAGING_PAE:
		set_entry(to, TOP, LOW >> 30, true, LOW_2 * PAGE | PTE_PRESENT);
		set_entry(to, LOW_2, LOW >> 21 & 511, true, LOW_3 * PAGE | rights);
		break;
	case PAGING_LONG:
		set_entry(to, TOP, 0, true, LOW_1 * PAGE | rights);
		set_entry(to, LOW_1, LOW >> 30, true, LOW_2 * PAGE | rights);
		set_entry(to, LOW_2, LOW >> 21 & 511, true, LOW_3 * PAGE | rights);
		set_entry(to, TOP, HIGH >> 39 & 511, true, HIGH_1 * PAGE | rights);
		set_entry(to, HIGH_1, HIGH >> 30 & 511, true, HIGH_2 * PAGE | rights);
		set_entry(to, HIGH_2, HIGH >> 21 & 511, true, HIGH_3 * PAGE | rights);
		break;
	}
	for (unsigned i = 0; i < (seq->bits == 64 ? PAGES : LOW_PAGES); i++)
		if (page_use[i] != HOLE)
			set_leaf(seq, to, page_linear(i), page_gpa(i) | rights_of(seq, i));
	for (unsigned i = 0; processor->whole && i < SYSTEM_PAGES; i++)
		set_leaf(seq, to, SYSTEM_AT + i * PAGE,
			 (SYSTEM_AT + i * PAGE) | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED |
			     PTE_DIRTY);
}

unsigned engine_page_bits(const struct sequence *seq, unsigned page)
{
	bool wide = seq->paging != PAGING_32;
	unsigned frame, index;
	uint64_t entry = 0;

	leaf_of(seq->paging, page_linear(page), &frame, &index);
	memcpy(&entry, tables[frame - TOP] + index * (wide ? 8 : 4), wide ? 8 : 4);
	return (entry & PTE_ACCESSED ? 1u : 0) | (entry & PTE_DIRTY ? 2u : 0);
}

/* ---- The engine ---- */

static bool map_code(struct nx_memory *memory, enum nx_branches branches)
{
	int fd = memfd_create("noexit-diff", MFD_CLOEXEC);

	memory->code_size = 1 << 20;
	if (fd < 0 || ftruncate(fd, (off_t)memory->code_size))
		return false;
	memory->code_rw = mmap(NULL, memory->code_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memory->branches = branches;
	/* As a kernel's host, which has direct branches, has it. */
	memory->blind = branches == NX_BRANCHES_INDIRECT ? 0 : MOCK_SECRET;
	memory->code_rx = map_near((const void *)nx_engine_create, memory->code_size,
				   PROT_READ | PROT_EXEC, MAP_SHARED, fd);
	close(fd);
	return memory->code_rw != MAP_FAILED && memory->code_rx != MAP_FAILED;
}

struct engine *engine_new(bool roomy)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	struct nx_config config;

	nx_config_default(&config);
	config.guest_features = ~0u;
	config.segment_loads = processor->whole;
	if (roomy) {
		config.level = NX_LEVEL_LOOPS;
		config.max_gap = 40;
		config.max_gap_accesses = 40;
		/* So that an address that is computed without it is a wrong one. */
		config.experiment.slide = 0x5a3b9c7d1000;
	}
	if (!engine)
		abort();
	host.read_vector = read_vector;
	host.write_vector = write_vector;
	engine->memory.arena_size = (nx_engine_arena_size() + 63) / 64 * 64;
	engine->memory.arena = aligned_alloc(64, engine->memory.arena_size);
	if (!engine->memory.arena ||
	    !map_code(&engine->memory, roomy ? NX_BRANCHES_TRACKED : NX_BRANCHES_INDIRECT))
		abort();
	memset(engine->memory.arena, 0, engine->memory.arena_size);
	engine->nx = nx_engine_create(&engine->memory, &host, engine, &config);
	if (!engine->nx)
		abort();
	initial_page(0);
	return engine;
}

void engine_free(struct engine *engine)
{
	if (!engine)
		return;
	munmap(engine->memory.code_rw, engine->memory.code_size);
	munmap(engine->memory.code_rx, engine->memory.code_size);
	free(engine->memory.arena);
	free(engine);
}

static void load_memory(const struct sequence *seq)
{
	for (unsigned i = 0; i < PAGES; i++)
		memcpy(pages[i], initial[i], PAGE);
	memcpy(pages[0], seq->code, CODE_SIZE);
	build_tables(seq, tables);
}

void set_control(struct nx_state *state, const struct sequence *seq)
{
	state->cr0 = seq->mode == MODE_REAL16 ? 0x10 : 0x11;
	state->cr3 = TABLES_AT;
	state->cr4 = seq->paging >= PAGING_PAE ? 0x20 : 0;
	state->cr0 |= seq->without_vectors_cr0;
	state->cr4 |= NX_CR4_OSFXSR & ~(uint64_t)seq->without_vectors_cr4;
	state->efer = seq->paging == PAGING_LONG ? 0x500 : 0;
	if (seq->paging != PAGING_NONE)
		state->cr0 |= 0x80000000 | (seq->write_protect ? 0x10000 : 0);
}

static void load_state(struct nx_state *state, const struct sequence *seq)
{
	memset(state, 0, sizeof(*state));
	memcpy(state->gpr, seq->gpr, sizeof(seq->gpr));
	memcpy(state->seg, seq->seg, sizeof(seq->seg));
	state->rip = seq->insn[0].rip;
	state->rflags = seq->rflags;
	set_control(state, seq);
}

static bool is_port(const struct instruction *insn)
{
	return insn->kind == KIND_IN || insn->kind == KIND_OUT || insn->kind == KIND_STRING_IO;
}

/* Notes an exit, element by element, and answers it. */
static void answer(const struct sequence *seq, const struct nx_state *state, struct nx_exit *exit,
		   struct engine_result *result)
{
	const struct instruction *insn = instruction_at(seq, state->rip);
	struct result *r = &result->r;
	uint8_t *data = exit->string ? exit->string : (uint8_t *)&exit->data;

	if (!insn || exit->rip != state->rip ||
	    exit->kind != (is_port(insn) ? NX_EXIT_IO : NX_EXIT_MMIO) ||
	    (exit->string && insn->kind != KIND_STRING_IO))
		result->broken = "an exit of another kind than its instruction";
	for (unsigned i = 0; i < exit->count && r->accesses < MAX_ACCESSES; i++) {
		struct access *access = &r->access[r->accesses];

		*access = (struct access){.write = exit->write,
					  .memory = exit->kind == NX_EXIT_MMIO,
					  .size = exit->size,
					  .where = exit->port};
		if (access->memory) {
			access->where = exit->gpa;
			if (seq->paging != PAGING_NONE)
				access->where += LOW + DEVICE_AT - page_gpa(DEVICE_AT / PAGE);
		}
		if (exit->write)
			memcpy(&access->data, data + (size_t)i * exit->size, exit->size);
		else if (exit->string)
			memcpy(data + (size_t)i * exit->size, &seq->input[r->accesses], exit->size);
		else /* Devices' answers may have anything in the bytes that do not count. */
			exit->data = seq->input[r->accesses];
		r->accesses++;
	}
}

/* A host that thinks that going on pays wherever the engine has come to. */
static void insist(struct engine *engine)
{
	engine->exit_rip++;
	while (!nx_engine_worth_resuming(engine->nx, engine->exit_rip, NX_CLASS_IO, 0, 0))
		;
}

/* Let the processor run, as in a real host, up to behind its next port access. Return false if
 * it does not come there. */
static bool advance(struct engine *engine, const struct sequence *seq, struct nx_state *state,
		    struct result *r)
{
	static struct processor_result native;

	processor->advance(seq, r->accesses + 1, &native);
	if (!native.stopped)
		return false;
	*r = native.r;
	memcpy(state->gpr, r->gpr, sizeof(r->gpr));
	memcpy(engine->vectors, r->vectors, sizeof(r->vectors));
	if (processor->whole) {
		memcpy(state->seg, r->seg, sizeof(r->seg));
		memcpy(tables, processor->tables(), sizeof(tables));
	}
	state->rip = r->rip;
	state->rflags =
	    processor->whole ? r->rflags : (state->rflags & ~0xed5ull) | (r->rflags & 0xed5);
	for (unsigned i = 0; i < PAGES; i++)
		if (page_use[i] == READ_WRITE || (processor->whole && page_use[i] == READ_ONLY))
			memcpy(pages[i], processor->page(i), PAGE);
	return true;
}

/* The next instruction may be another one now, with a boundary of its own. */
static bool code_changed(const struct sequence *seq)
{
	return memcmp(pages[0], seq->code, CODE_SIZE) != 0;
}

/* Can the processor not be stopped at rip, since the sequence has written there, or before it? */
static bool is_lost(const struct sequence *seq, uint64_t rip)
{
	uint64_t at = sequence_linear(seq, rip) - LOW - CODE_AT;
	unsigned count = at < CODE_SIZE - 15 ? 15 : 0;

	return code_changed(seq) &&
	       (!instruction_at(seq, rip) || memcmp(pages[0] + at, seq->code + at, count) != 0);
}

/* One life of the guest: from the sequence's start until the engine leaves for good. */
static void run(struct engine *engine, const struct sequence *seq, bool teach,
		struct engine_result *result)
{
	struct nx_state *state = nx_engine_state(engine->nx);
	const uint64_t end = seq->insn[seq->instructions].rip;
	struct nx_exit exit = {.data = 0};
	struct result *r = &result->r;
	uint64_t last = ~0ull;

	memset(result, 0, sizeof(*result));
	load_state(state, seq);
	memcpy(engine->vectors, seq->vectors, sizeof(seq->vectors));
	for (;;) {
		if (nx_engine_resume(engine->nx, &exit) == NX_EXIT) {
			if (r->accesses == MAX_ACCESSES) {
				result->broken = "more exits than the sequence can make";
				nx_engine_forget_exit(engine->nx);
				break;
			}
			answer(seq, state, &exit, result);
			if (!code_changed(seq))
				continue;
			while (nx_engine_complete_exit(engine->nx, &exit) == NX_COMPLETION_EXIT)
				answer(seq, state, &exit, result);
			exit.reason = NX_LEAVE_CODE_WRITE;
			break;
		}
		/* Behind a device access that it did not expect there is no cluster yet. */
		if (teach && state->rip != end && advance(engine, seq, state, r)) {
			insist(engine);
			continue;
		}
		if (exit.reason != NX_LEAVE_COLD || state->rip == end || state->rip == last ||
		    code_changed(seq))
			break;
		last = state->rip;
		insist(engine);
	}
	result->reason = exit.reason;
	result->lost = is_lost(seq, state->rip);
	memcpy(r->gpr, state->gpr, sizeof(r->gpr));
	memcpy(r->vectors, engine->vectors, sizeof(r->vectors));
	memcpy(r->seg, state->seg, sizeof(r->seg));
	r->rip = state->rip;
	r->rflags = state->rflags;
}

void engine_run(struct engine *engine, const struct sequence *seq, struct engine_result *result)
{
	engine->seq = seq;
	for (unsigned tries = 0, lives = 0; tries < 16; tries++) {
		load_memory(seq);
		insist(engine);
		run(engine, seq, seq->jumps && lives < LIVES - 1, result);
		/* Forget what an earlier sequence left at this address. */
		if (result->reason == NX_LEAVE_CODE_CHANGED)
			continue;
		/* Paths over indirect jumps are learnt: the last life counts. */
		if (!seq->jumps || ++lives == LIVES)
			return;
	}
	result->broken = "the code never changes, but the engine says so again and again";
}
