// SPDX-License-Identifier: GPL-2.0-only OR MIT
#define _GNU_SOURCE
#include "mock.h"
#include "near.h"
#include "secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE_CACHE (1u << 20)
#define FILLER 0xcc /* int3: code that runs on past its end is not ours */

/* Page tables live at the top of RAM. */
#define TABLES 0xf0000u
#define TABLE(n) (TABLES + 0x1000u * (n))
#define PRESENT_ALL 7u /* present, writable, user */

#define ARITHMETIC 0x8d5u

#ifndef MOCK_BRANCHES
#define MOCK_BRANCHES NX_BRANCHES_INDIRECT
#endif
enum nx_branches mock_branches = MOCK_BRANCHES;
#ifndef MOCK_BLIND
#define MOCK_BLIND 0
#endif
uint64_t mock_blind = MOCK_BLIND;

static void map_page(void *data, uint64_t gpa, struct nx_page *page)
{
	struct mock *m = data;
	enum mock_page kind =
	    gpa < MOCK_RAM_SIZE ? (enum mock_page)m->page[gpa / 4096] : MOCK_PAGE_DEVICE;

	assert_int_equal(gpa % 4096, 0);
	memset(page, 0, sizeof(*page));
	switch (kind) {
	case MOCK_PAGE_DEVICE:
		page->kind = NX_PAGE_DEVICE;
		return;
	case MOCK_PAGE_LEAVE:
		page->kind = NX_PAGE_LEAVE;
		return;
	case MOCK_PAGE_RAM:
		page->writable = true;
		break;
	case MOCK_PAGE_TRACED:
		page->traced = true;
		/* fall through */
	case MOCK_PAGE_ROM:
		page->store_is_mmio = true;
		break;
	case MOCK_PAGE_READONLY:
		break;
	}
	page->kind = NX_PAGE_RAM;
	if (m->host.guest_enter)
		assert_non_null(m->window);
	page->host = (m->window ? m->window : m->ram) + gpa;
}

static enum nx_route route_io(void *data, uint16_t port, unsigned size, bool write, uint64_t value)
{
	const struct mock *m = data;

	assert_true(size == 1 || size == 2 || size == 4);
	/* A route may depend on the value written (ioeventfd): it must be there, and only that. */
	assert_int_equal(write ? value >> (8 * size) : value, 0);
	return port == m->leave_port ? NX_ROUTE_LEAVE : NX_ROUTE_EXIT;
}

static enum nx_route route_mmio(void *data, uint64_t gpa, unsigned size, bool write, uint64_t value)
{
	const struct mock *m = data;

	assert_true(size == 1 || size == 2 || size == 4 || size == 8);
	assert_int_equal(write && size < 8 ? value >> (8 * size) : 0, 0);
	return m->leave_gpa && gpa / 4096 == m->leave_gpa / 4096 ? NX_ROUTE_LEAVE : NX_ROUTE_EXIT;
}

static uint64_t now(void *data)
{
	struct mock *m = data;

	return m->time += 100;
}

static const struct nx_host host = {
    .map_page = map_page,
    .route_io = route_io,
    .route_mmio = route_mmio,
    .now = now,
};

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, 4);
}

static void put64(uint8_t *at, uint64_t value)
{
	memcpy(at, &value, 8);
}

/* One to one from 0 to MOCK_DEVICE_END, in 4 KiB pages whose accessed bits are clear. */
static void make_tables(struct mock *m)
{
	uint8_t *ram = m->start_ram;
	const bool narrow = m->mode == MOCK_PAGED32;

	for (uint32_t page = 0; page < MOCK_DEVICE_END / 4096; page++) {
		uint32_t at = TABLE(3) + page * (narrow ? 4 : 8);

		if (narrow)
			put32(ram + at, page * 4096 | PRESENT_ALL);
		else
			put64(ram + at, page * 4096 | PRESENT_ALL);
	}
	if (narrow) {
		for (unsigned i = 0; i < 3; i++)
			put32(ram + TABLE(0) + i * 4, TABLE(3 + i) | PRESENT_ALL);
		m->start.cr3 = TABLE(0);
		return;
	}
	for (unsigned i = 0; i < 5; i++)
		put64(ram + TABLE(2) + i * 8, TABLE(3 + i) | PRESENT_ALL);
	put64(ram + TABLE(1), TABLE(2) | (m->mode == MOCK_LONG64 ? PRESENT_ALL : 1));
	put64(ram + TABLE(0), TABLE(1) | PRESENT_ALL);
	m->start.cr3 = m->mode == MOCK_LONG64 ? TABLE(0) : TABLE(1);
}

static void set_segment(struct mock *m, enum nx_sreg reg, uint32_t base,
			uint16_t protected_selector, unsigned cpl)
{
	struct nx_segment *seg = &m->start.seg[reg];
	const bool sixteen = m->mode == MOCK_REAL16 || m->mode == MOCK_PROT16;

	seg->base = sixteen ? base : 0;
	seg->limit = sixteen ? 0xffff : 0xffffffff;
	seg->selector =
	    m->mode == MOCK_REAL16 ? (uint16_t)(base >> 4) : (uint16_t)(protected_selector | cpl);
	seg->type = reg == NX_CS ? 11 : 3;
	seg->dpl = (uint8_t)cpl;
	seg->s = true;
	seg->present = true;
	seg->db = !sixteen && !(m->mode == MOCK_LONG64 && reg == NX_CS);
	seg->l = m->mode == MOCK_LONG64 && reg == NX_CS;
}

static void set_state(struct mock *m, unsigned cpl)
{
	struct nx_state *state = &m->start;

	memset(state, 0, sizeof(*state));
	/* Values that show which register landed where, none of them an address. */
	for (unsigned i = 0; i < NX_GPRS; i++)
		state->gpr[i] = (0x1111111111111111ull * (i + 1)) ^ 0x0f00000000000000ull;
	if (m->mode != MOCK_LONG64) {
		for (unsigned i = 0; i < NX_GPRS; i++)
			state->gpr[i] = i < 8 ? (uint32_t)state->gpr[i] : 0;
	}
	state->rflags = 0x202 | (cpl == 3 ? 0x3000 : 0); /* IF; IOPL, so that CPL 3 may do I/O */
	set_segment(m, NX_CS, MOCK_CODE, 0x08, cpl);
	set_segment(m, NX_DS, MOCK_DATA, 0x10, cpl);
	set_segment(m, NX_SS, MOCK_STACK, 0x18, cpl);
	set_segment(m, NX_ES, MOCK_EXTRA, 0x20, cpl);
	set_segment(m, NX_FS, MOCK_DATA, 0x28, cpl);
	set_segment(m, NX_GS, MOCK_DATA, 0x30, cpl);
	state->gpr[NX_RSP] = state->seg[NX_SS].base ? 0x1000 : MOCK_STACK + 0x1000;
	state->physical_bits = 40;
	state->cr0 = 0x10;
	if (m->mode != MOCK_REAL16)
		state->cr0 |= 1;
	if (m->mode >= MOCK_PAGED32) {
		state->cr0 |= 0x80010000;
		make_tables(m);
	}
	if (m->mode >= MOCK_PAE32)
		state->cr4 = 0x20;
	if (m->mode == MOCK_LONG64)
		state->efer = 0xd01;
}

static void *map_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static void make_engine(struct mock *m, const struct nx_config *config)
{
	int file = memfd_create("noexit-code", MFD_CLOEXEC);

	assert_true(file >= 0);
	assert_int_equal(ftruncate(file, CODE_CACHE), 0);
	m->memory.arena_size = nx_engine_arena_size();
	m->memory.arena = map_memory(m->memory.arena_size);
	m->memory.code_size = CODE_CACHE;
	m->memory.code_rw = mmap(NULL, CODE_CACHE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	m->memory.branches = mock_branches;
	m->memory.blind = mock_blind;
	m->memory.code_rx = map_near((const void *)nx_engine_create, CODE_CACHE,
				     PROT_READ | PROT_EXEC, MAP_SHARED, file);
	assert_ptr_not_equal(m->memory.code_rw, MAP_FAILED);
	assert_ptr_not_equal(m->memory.code_rx, MAP_FAILED);
	close(file);

	m->host = host;
#ifdef MOCK_SESSIONS
	mock_use_sessions(m);
#endif
	m->engine = nx_engine_create(&m->memory, &m->host, m, config);
	assert_non_null(m->engine);
}

struct mock *mock_new(enum mock_mode mode, unsigned cpl, enum nx_level level)
{
	return mock_new_exits(mode, cpl, level, 0);
}

struct mock *mock_new_exits(enum mock_mode mode, unsigned cpl, enum nx_level level, uint32_t exits)
{
	struct nx_config config;

	nx_config_default(&config);
	config.level = level;
	config.exits = exits;
	config.guest_features = ~0u;
	return mock_new_config(mode, cpl, &config);
}

struct mock *mock_new_config(enum mock_mode mode, unsigned cpl, const struct nx_config *config)
{
	struct mock *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->mode = mode;
	m->start_ram = map_memory(MOCK_RAM_SIZE);
	m->ram = map_memory(MOCK_RAM_SIZE);
	m->want_ram = map_memory(MOCK_RAM_SIZE);
	m->leave_port = -1;
	m->first_class = NX_CLASS_IO;
	m->time = 1000000000;
	memset(m->input, 0xa5, sizeof(m->input));
	memset(m->start_ram + MOCK_CODE, FILLER, 0x1000);
	for (uint32_t gpa = MOCK_DATA; gpa < MOCK_DATA + 0x2000; gpa++)
		m->start_ram[gpa] = (uint8_t)(gpa * 7 + (gpa >> 8));
	set_state(m, cpl);
	make_engine(m, config);
	return m;
}

void mock_free(struct mock *m)
{
	if (m->end_sessions)
		m->end_sessions(m);
	munmap(m->start_ram, MOCK_RAM_SIZE);
	munmap(m->ram, MOCK_RAM_SIZE);
	munmap(m->want_ram, MOCK_RAM_SIZE);
	munmap(m->memory.arena, m->memory.arena_size);
	munmap(m->memory.code_rw, m->memory.code_size);
	munmap(m->memory.code_rx, m->memory.code_size);
	free(m);
}

void mock_load(struct mock *m, const uint8_t *code, const uint8_t *resume, const uint8_t *stop,
	       const uint8_t *end)
{
	const uint32_t base = (uint32_t)m->start.seg[NX_CS].base;

	m->code_rip = base ? MOCK_CODE16 : MOCK_CODE;
	m->code_gpa = base + (uint32_t)m->code_rip;
	m->code_size = (uint32_t)(end - code);
	memcpy(m->start_ram + m->code_gpa, code, m->code_size);
	m->resume_rip = m->code_rip + (uint64_t)(resume - code);
	m->stop_rip = m->code_rip + (uint64_t)(stop - code);
	m->start.rip = m->resume_rip;
}

static uint32_t pte_at(const struct mock *m, uint32_t linear)
{
	assert_true(m->mode >= MOCK_PAGED32 && linear < MOCK_DEVICE_END);
	return TABLE(3) + linear / 4096 * (m->mode == MOCK_PAGED32 ? 4 : 8);
}

void mock_set_pte(struct mock *m, uint32_t linear, uint64_t entry)
{
	if (m->mode == MOCK_PAGED32)
		put32(m->start_ram + pte_at(m, linear), (uint32_t)entry);
	else
		put64(m->start_ram + pte_at(m, linear), entry);
}

uint64_t mock_pte(const struct mock *m, const uint8_t *ram, uint32_t linear)
{
	uint64_t entry = 0;

	memcpy(&entry, ram + pte_at(m, linear), m->mode == MOCK_PAGED32 ? 4 : 8);
	return entry;
}

void mock_poke(struct mock *m, uint32_t gpa, const void *bytes, size_t count)
{
	memcpy(m->start_ram + gpa, bytes, count);
}

void mock_want_memory(struct mock *m, uint32_t gpa, unsigned size, uint64_t value)
{
	memcpy(m->want_ram + gpa, &value, size);
}

/* Check that what the engine hands out makes sense. */
static void answer(struct mock *m, struct nx_exit *exit)
{
	struct mock_access *access = &m->log[m->exits];

	assert_true(m->exits < MOCK_LOG);
	assert_int_equal(exit->rip, nx_engine_state(m->engine)->rip);
	assert_in_range(exit->next - exit->rip, 1, 15);
	m->exits++;
	if (m->on_exit)
		m->on_exit(m, m->exits);
	if (!exit->write)
		exit->data = m->input[m->inputs++];
	access->kind = exit->kind;
	access->write = exit->write;
	access->size = exit->size;
	access->where = exit->kind == NX_EXIT_IO ? exit->port : exit->gpa;
	access->insn = 0;
	if (exit->kind == NX_EXIT_INSN) {
		access->insn = exit->insn;
		access->where = exit->insn == NX_INSN_MOV_CR || exit->insn == NX_INSN_MOV_DR
				    ? exit->reg
				    : exit->operand;
	}
	/* Bits above the size are ignored; an MSR has 64 bits whatever the size. */
	access->data = exit->data;
	if (exit->kind != NX_EXIT_INSN && exit->size < 8)
		access->data &= (1ull << 8 * exit->size) - 1;
	if (exit->kind == NX_EXIT_MMIO)
		assert_true(exit->gpa / 4096 == (exit->gpa + exit->size - 1) / 4096);
	if (m->stop_at == m->exits)
		*nx_engine_stop_flag(m->engine) = 1;
}

bool mock_worth_resuming(struct mock *m, uint64_t rip, enum nx_exit_class exit_class)
{
	return nx_engine_worth_resuming(m->engine, rip, exit_class, 0, now(m));
}

static enum nx_status run(struct mock *m)
{
	/* Nothing may be read from the exit of another stay. */
	struct nx_exit exit = {.data = 0xdeadbeefdeadbeef, .size = 0xff};

	*nx_engine_state(m->engine) = m->start;
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	m->exits = 0;
	m->inputs = 0;
	*nx_engine_stop_flag(m->engine) = 0;
	if (!mock_worth_resuming(m, m->code_rip, m->first_class))
		return m->reason = NX_LEAVE_COLD;
	while (nx_engine_resume(m->engine, &exit) == NX_EXIT)
		answer(m, &exit);
	return m->reason = exit.reason;
}

static void want_start(struct mock *m)
{
	m->want = m->start;
	memcpy(m->want_ram, m->start_ram, MOCK_RAM_SIZE);
}

enum nx_status mock_run(struct mock *m)
{
	want_start(m);
	return run(m);
}

enum nx_status mock_warm(struct mock *m)
{
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	unsigned quiet = 0;
	uint64_t busy;

	want_start(m);
	for (unsigned tries = 0; tries < 64; tries++) {
		busy = counters->translated + counters->formed;
		run(m);
		if (m->reason == NX_LEAVE_COLD && m->exits == 0) {
			mock_check(m);
			/* First exit, second exit; the third is translated. */
			assert_true(tries < 2);
			continue;
		}
		/* Paths that begin at later exits take three executions each to become hot. */
		quiet = busy == counters->translated + counters->formed ? quiet + 1 : 0;
		if (quiet == 4)
			return m->reason;
	}
	fail_msg("translation does not come to rest");
	return m->reason;
}

void mock_check_log(const struct mock *m, const struct mock_access *want, unsigned count)
{
	static const char *const kinds[] = {"port", "memory", "instruction"};

	for (unsigned i = 0; i < count && i < m->exits; i++) {
		const struct mock_access *got = &m->log[i];

		if (got->kind != want[i].kind || got->write != want[i].write ||
		    got->insn != want[i].insn || got->size != want[i].size ||
		    got->where != want[i].where || got->data != want[i].data)
			fail_msg("access %u: %s %s %#llx size %u data %#llx, expected %s %s %#llx "
				 "size %u data %#llx",
				 i, kinds[got->kind], got->write ? "write" : "read",
				 (unsigned long long)got->where, got->size,
				 (unsigned long long)got->data, kinds[want[i].kind],
				 want[i].write ? "write" : "read",
				 (unsigned long long)want[i].where, want[i].size,
				 (unsigned long long)want[i].data);
	}
	if (m->exits != count)
		fail_msg("%u accesses, expected %u; left at %#llx: %s", m->exits, count,
			 (unsigned long long)nx_engine_state(m->engine)->rip,
			 nx_leave_reason_name(m->reason));
}

static void check_register(const char *name, uint64_t got, uint64_t want)
{
	if (got != want)
		fail_msg("%s is %#llx, expected %#llx", name, (unsigned long long)got,
			 (unsigned long long)want);
}

static void check_state(const struct nx_state *got, const struct nx_state *want)
{
	static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
	struct nx_state rest = *got;

	check_register("rip", got->rip, want->rip);
	for (unsigned i = 0; i < NX_GPRS; i++)
		check_register(names[i], got->gpr[i], want->gpr[i]);
	check_register("rflags", got->rflags, want->rflags);
	/* The rest is the host's. */
	memcpy(rest.gpr, want->gpr, sizeof(rest.gpr));
	rest.rip = want->rip;
	rest.rflags = want->rflags;
	assert_memory_equal(&rest, want, sizeof(rest));
}

static void check_memory(const struct mock *m, const uint8_t *want, const char *whose)
{
	const uint32_t end = m->mode >= MOCK_PAGED32 ? TABLES : MOCK_RAM_SIZE;

	if (memcmp(m->ram, want, end) == 0)
		return;
	for (uint32_t gpa = 0; gpa < end; gpa++)
		if (m->ram[gpa] != want[gpa])
			fail_msg("memory at %#x is %#x, %s %#x", gpa, m->ram[gpa], whose,
				 want[gpa]);
}

void mock_check(const struct mock *m)
{
	check_state(nx_engine_state(m->engine), &m->want);
	check_memory(m, m->want_ram, "expected");
}

void mock_check_ended(const struct mock *m)
{
	check_register("rip", nx_engine_state(m->engine)->rip, m->stop_rip);
	if (m->reason != NX_LEAVE_CLUSTER_END && m->reason != NX_LEAVE_NO_CLUSTER &&
	    m->reason != NX_LEAVE_COLD)
		fail_msg("left because: %s", nx_leave_reason_text(m->reason));
}

void mock_cluster(const struct mock *m, uint64_t entry_rip, struct nx_cluster_info *info)
{
	const struct nx_cluster *cluster = NULL;
	unsigned found = 0;

	while ((cluster = nx_cluster_next(m->engine, cluster))) {
		struct nx_cluster_info next;

		nx_cluster_describe(cluster, &next);
		if (next.entry_rip != entry_rip)
			continue;
		*info = next;
		found++;
	}
	assert_int_equal(found, 1);
}

void mock_compare_native(const struct mock *m, const struct nx_state *native,
			 const uint8_t *native_ram)
{
	struct nx_state want = m->start, got = *nx_engine_state(m->engine);

	memcpy(want.gpr, native->gpr, sizeof(want.gpr));
	want.rip = native->rip;
	want.rflags = (m->start.rflags & ~(uint64_t)ARITHMETIC) | (native->rflags & ARITHMETIC);
	/* DF is guest state that the processor under us keeps as well. */
	want.rflags = (want.rflags & ~0x400ull) | (native->rflags & 0x400);
	check_state(&got, &want);
	check_memory(m, native_ram, "natively");
}
