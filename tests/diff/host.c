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

#include "diff.h"

const uint8_t page_use[PAGES] = {CODE,       CODE, HOLE,       READ_WRITE, READ_WRITE, READ_ONLY,
				 READ_WRITE, HOLE, READ_WRITE, DEVICE,     READ_WRITE, READ_WRITE,
				 HOLE,       HOLE, READ_WRITE, READ_WRITE, HOLE};

/* Frames of guest-physical memory: tables, then the pages. */
enum { TOP = 0x10, LOW_1, LOW_2, LOW_3, HIGH_1, HIGH_2, HIGH_3, TABLES_END };

#define FRAMES (TABLES_END - TOP)
#define FIRST_FRAME 0x200u

#define PTE_PRESENT 1u
#define PTE_WRITE 2u
#define PTE_USER 4u
#define PTE_ACCESSED 0x20u
#define PTE_DIRTY 0x40u

static uint8_t tables[FRAMES][PAGE] __attribute__((aligned(4096)));
static uint8_t pages[PAGES][PAGE] __attribute__((aligned(4096)));
static uint8_t initial[PAGES][PAGE];

/* Of a sequence with paths that have to be learnt: the last one counts. */
#define LIVES 6u

struct engine {
	struct nx_vcpu *vcpu;
	struct nx_memory memory;
	const struct sequence *seq;
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
	return nx_vcpu_counters(engine->vcpu);
}

struct nx_vcpu *engine_vcpu(const struct engine *engine)
{
	return engine->vcpu;
}

/* ---- Guest-physical memory ---- */

static uint64_t frame_of(unsigned page)
{
	return (FIRST_FRAME + page * 7 % PAGES) * (uint64_t)PAGE;
}

static uint8_t *table_at(unsigned frame)
{
	return tables[frame - TOP];
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
		page->host = table_at((unsigned)(gpa / PAGE));
		return;
	}
	for (unsigned i = 0; i < PAGES; i++) {
		if (frame_of(i) != gpa)
			continue;
		page->kind = page_use[i] == DEVICE ? NX_PAGE_DEVICE : NX_PAGE_RAM;
		page->host = pages[i];
	}
}

static enum nx_route route_io(void *data, uint16_t port, unsigned size, bool write, uint64_t value)
{
	(void)data, (void)port, (void)size, (void)write, (void)value;
	return NX_ROUTE_EXIT;
}

static enum nx_route route_mmio(void *data, uint64_t gpa, unsigned size, bool write, uint64_t value)
{
	(void)data, (void)gpa, (void)size, (void)write, (void)value;
	return NX_ROUTE_EXIT;
}

static uint64_t now(void *data)
{
	(void)data;
	return 0;
}

static const struct nx_host host = {map_page, route_io, route_mmio, now};

/* ---- Page tables ---- */

static void set_entry(unsigned frame, unsigned index, bool wide, uint64_t value)
{
	memcpy(table_at(frame) + index * (wide ? 8 : 4), &value, wide ? 8 : 4);
}

static uint64_t get_entry(unsigned frame, unsigned index, bool wide)
{
	uint64_t value = 0;

	memcpy(&value, table_at(frame) + index * (wide ? 8 : 4), wide ? 8 : 4);
	return value;
}

static void leaf_of(enum paging paging, unsigned page, unsigned *frame, unsigned *index)
{
	uint64_t linear = page_linear(page);

	*frame = page < LOW_PAGES ? LOW_3 : HIGH_3;
	*index = (unsigned)(linear >> 12) & (paging == PAGING_32 ? 1023 : 511);
}

static void build_tables(const struct sequence *seq)
{
	const uint64_t rights = PTE_PRESENT | PTE_WRITE | PTE_USER;
	bool wide = seq->paging != PAGING_32;

	memset(tables, 0, sizeof(tables));
	switch (seq->paging) {
	case PAGING_NONE:
		return;
	case PAGING_32:
		set_entry(TOP, LOW >> 22, false, LOW_3 * PAGE | rights);
		break;
	case PAGING_PAE:
		set_entry(TOP, LOW >> 30, true, LOW_2 * PAGE | PTE_PRESENT);
		set_entry(LOW_2, LOW >> 21 & 511, true, LOW_3 * PAGE | rights);
		break;
	case PAGING_LONG:
		set_entry(TOP, 0, true, LOW_1 * PAGE | rights);
		set_entry(LOW_1, LOW >> 30, true, LOW_2 * PAGE | rights);
		set_entry(LOW_2, LOW >> 21 & 511, true, LOW_3 * PAGE | rights);
		set_entry(TOP, HIGH >> 39 & 511, true, HIGH_1 * PAGE | rights);
		set_entry(HIGH_1, HIGH >> 30 & 511, true, HIGH_2 * PAGE | rights);
		set_entry(HIGH_2, HIGH >> 21 & 511, true, HIGH_3 * PAGE | rights);
		break;
	}
	for (unsigned i = 0; i < (seq->bits == 64 ? PAGES : LOW_PAGES); i++) {
		unsigned frame, index;

		if (page_use[i] == HOLE)
			continue;
		leaf_of(seq->paging, i, &frame, &index);
		set_entry(frame, index, wide,
			  frame_of(i) |
			      (page_use[i] == READ_ONLY ? PTE_PRESENT | PTE_USER : rights));
	}
}

unsigned engine_page_bits(const struct sequence *seq, unsigned page)
{
	unsigned frame, index;
	uint64_t entry;

	leaf_of(seq->paging, page, &frame, &index);
	entry = get_entry(frame, index, seq->paging != PAGING_32);
	return (entry & PTE_ACCESSED ? 1u : 0) | (entry & PTE_DIRTY ? 2u : 0);
}

/* ---- The engine ---- */

static bool map_code(struct nx_memory *memory)
{
	int fd = memfd_create("noexit-diff", MFD_CLOEXEC);

	memory->code_size = 1 << 20;
	if (fd < 0 || ftruncate(fd, (off_t)memory->code_size))
		return false;
	memory->code_rw = mmap(NULL, memory->code_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memory->code_rx = mmap(NULL, memory->code_size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	close(fd);
	return memory->code_rw != MAP_FAILED && memory->code_rx != MAP_FAILED;
}

struct engine *engine_new(bool roomy)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	struct nx_config config;

	nx_config_default(&config);
	config.guest_features = ~0u;
	if (roomy) {
		config.level = NX_LEVEL_LOOPS;
		config.max_gap = 40;
		config.max_gap_accesses = 40;
	}
	if (!engine)
		abort();
	engine->memory.arena_size = (nx_arena_size() + 63) / 64 * 64;
	engine->memory.arena = aligned_alloc(64, engine->memory.arena_size);
	if (!engine->memory.arena || !map_code(&engine->memory))
		abort();
	memset(engine->memory.arena, 0, engine->memory.arena_size);
	engine->vcpu = nx_vcpu_create(&engine->memory, &host, engine, &config);
	if (!engine->vcpu)
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
	build_tables(seq);
}

static void load_state(struct nx_state *state, const struct sequence *seq)
{
	memset(state, 0, sizeof(*state));
	memcpy(state->gpr, seq->gpr, sizeof(seq->gpr));
	memcpy(state->seg, seq->seg, sizeof(seq->seg));
	state->rip = seq->insn[0].rip;
	state->rflags = seq->rflags;
	state->cr0 = seq->mode == MODE_REAL16 ? 0x10 : 0x11;
	state->cr3 = TOP * PAGE;
	if (seq->paging != PAGING_NONE)
		state->cr0 |= 0x80010000;
	if (seq->paging >= PAGING_PAE)
		state->cr4 |= 0x20;
	if (seq->paging == PAGING_LONG)
		state->efer = 0x500;
}

/* Notes an exit, and answers it. */
static void answer(const struct sequence *seq, const struct nx_state *state, struct nx_exit *exit,
		   struct engine_result *result)
{
	const struct instruction *insn = instruction_at(seq, state->rip);
	struct access *access = &result->r.access[result->r.accesses];
	bool port = insn && (insn->kind == KIND_IN || insn->kind == KIND_OUT);

	if (!insn || exit->rip != state->rip || exit->kind != (port ? NX_EXIT_IO : NX_EXIT_MMIO))
		result->broken = "an exit of another kind than its instruction";
	access->write = exit->write;
	access->memory = exit->kind == NX_EXIT_MMIO;
	access->size = exit->size;
	access->where = exit->port;
	access->data = exit->write ? exit->data : 0;
	if (access->memory) {
		access->where = exit->gpa;
		if (seq->paging != PAGING_NONE)
			access->where += LOW + DEVICE_AT - frame_of(DEVICE_AT / PAGE);
	}
	/* Devices' answers may have anything in the bytes that do not count. */
	exit->data = seq->input[result->r.accesses++];
}

/* A host that thinks that going on pays wherever the engine has come to. */
static void insist(struct engine *engine)
{
	engine->exit_rip++;
	while (!nx_worth_resuming(engine->vcpu, engine->exit_rip, NX_EXIT_IO))
		;
}

/*
 * The processor takes over, as in a real host: up to behind its next port access. false: it does
 * not come there.
 */
static bool advance(const struct sequence *seq, struct nx_state *state, struct result *r)
{
	static struct native_result native;

	native_advance(seq, r->accesses + 1, &native);
	if (!native.stopped)
		return false;
	*r = native.r;
	memcpy(state->gpr, r->gpr, sizeof(r->gpr));
	state->rip = r->rip;
	state->rflags = (state->rflags & ~0xed5ull) | (r->rflags & 0xed5);
	for (unsigned i = 0; i < PAGES; i++)
		if (page_use[i] == READ_WRITE)
			memcpy(pages[i], native_page(i), PAGE);
	return true;
}

/* One life of the guest: from the sequence's start until the engine leaves for good. */
static void run(struct engine *engine, const struct sequence *seq, bool teach,
		struct engine_result *result)
{
	struct nx_state *state = nx_vcpu_state(engine->vcpu);
	const uint64_t end = seq->insn[seq->instructions].rip;
	struct nx_exit exit = {.data = 0};
	struct result *r = &result->r;
	uint64_t last = ~0ull;

	memset(result, 0, sizeof(*result));
	load_state(state, seq);
	for (;;) {
		if (nx_resume(engine->vcpu, &exit) == NX_EXIT) {
			if (r->accesses == MAX_ACCESSES) {
				result->broken = "more exits than the sequence can make";
				nx_forget_exit(engine->vcpu);
				break;
			}
			answer(seq, state, &exit, result);
			continue;
		}
		/* Behind a device access that it did not expect there is no cluster yet. */
		if (teach && state->rip != end && advance(seq, state, r)) {
			insist(engine);
			continue;
		}
		if (exit.reason != NX_LEAVE_COLD || state->rip == end || state->rip == last)
			break;
		last = state->rip;
		insist(engine);
	}
	result->reason = exit.reason;
	memcpy(r->gpr, state->gpr, sizeof(r->gpr));
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
		/* What an earlier sequence left at this address. */
		if (result->reason == NX_LEAVE_CODE_CHANGED)
			continue;
		/* Paths over indirect jumps are learnt: the last life counts. */
		if (!seq->jumps || ++lives == LIVES)
			return;
	}
	result->broken = "the code never changes, but the engine says so again and again";
}
