/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* machine.c - see machine.h. */
#define _GNU_SOURCE
#include "machine.h"
#include "quiet_host.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define RAM BENCH_DEVICE
#define TABLES 0x10000u
#define PORT 0x3f8
#define CODE_CACHE (1u << 20)

double machine_now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* ---- A host that costs next to nothing ---- */

static void map_page(void *data, uint64_t gpa, struct nx_page *page)
{
	const struct machine *m = data;

	page->kind = gpa < RAM ? NX_PAGE_RAM : NX_PAGE_DEVICE;
	page->writable = true;
	page->store_is_mmio = false;
	page->host = m->ram + gpa;
}

static const struct nx_host host = QUIET_HOST(map_page);

/* ---- A machine in 64-bit mode, memory mapped one to one ---- */

static void set_state(struct machine *m)
{
	struct nx_state *s = nx_engine_state(m->engine);
	uint64_t *table = (uint64_t *)(m->ram + TABLES);

	table[0] = (TABLES + 0x1000) | 7;
	table[512] = (TABLES + 0x2000) | 7;
	table[1024] = 0 | 0x87;
	table[1025] = BENCH_DEVICE | 0x87;
	memset(s, 0, sizeof(*s));
	for (unsigned i = 0; i < NX_SREGS; i++)
		s->seg[i] = (struct nx_segment){.limit = 0xffffffff,
						.selector = 0x10,
						.type = i == NX_CS ? 11 : 3,
						.s = true,
						.present = true,
						.l = i == NX_CS,
						.db = i != NX_CS};
	s->cr0 = 0x80010033;
	s->cr3 = TABLES;
	s->cr4 = 0x620;
	s->efer = 0x500;
	s->rflags = 0x202;
	s->gpr[NX_RDX] = PORT;
	s->gpr[NX_RSP] = BENCH_STACK;
	s->gpr[NX_RSI] = BENCH_DATA;
	s->gpr[NX_RDI] = BENCH_DATA + 0x100;
	*(uint64_t *)(m->ram + BENCH_DATA) = BENCH_DATA;
}

void machine_free(struct machine *m)
{
	if (m->memory.arena)
		munmap(m->memory.arena, m->memory.arena_size);
	if (m->memory.code_rw)
		munmap(m->memory.code_rw, CODE_CACHE);
	if (m->memory.code_rx)
		munmap(m->memory.code_rx, CODE_CACHE);
	if (m->ram)
		munmap(m->ram, RAM);
}

static void *map(size_t size, int sharing)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

bool machine_make(struct machine *m, const struct nx_config *config)
{
	*m = (struct machine){.ram = map(RAM, MAP_PRIVATE)};
	m->memory.arena_size = nx_engine_arena_size();
	m->memory.arena = map(m->memory.arena_size, MAP_PRIVATE);
	m->memory.code_size = CODE_CACHE;
	m->memory.code_rw = map(CODE_CACHE, MAP_SHARED);
	if (!m->ram || !m->memory.arena || !m->memory.code_rw)
		return false;
	/* The same pages once more; never writable and executable in one mapping. */
	m->memory.code_rx = mremap(m->memory.code_rw, 0, CODE_CACHE, MREMAP_MAYMOVE);
	if (m->memory.code_rx == MAP_FAILED) {
		m->memory.code_rx = NULL;
		return false;
	}
	if (mprotect(m->memory.code_rx, CODE_CACHE, PROT_READ | PROT_EXEC))
		return false;
	m->engine = nx_engine_create(&m->memory, &host, m, config);
	if (m->engine)
		set_state(m);
	return m->engine;
}

enum nx_outcome machine_take_over(struct machine *m, uint64_t rip, unsigned length)
{
	nx_engine_state(m->engine)->rip = rip + length;
	if (!nx_engine_worth_resuming(m->engine, rip, NX_CLASS_IO, 0, 0))
		return NX_LEAVE;
	return nx_engine_resume(m->engine, &m->exit);
}

bool machine_load(struct machine *m, const uint8_t *code, const uint8_t *end)
{
	memcpy(m->ram + BENCH_CODE, code, (size_t)(end - code));
	for (unsigned i = 0; i < 16; i++) {
		if (machine_take_over(m, BENCH_CODE, 1) == NX_EXIT)
			return true;
	}
	return false;
}

double machine_time_exits(struct machine *m, unsigned batch, bool *good)
{
	double began = machine_now_ns();

	for (unsigned i = 0; i < batch; i++)
		*good &= nx_engine_resume(m->engine, &m->exit) == NX_EXIT;
	return (machine_now_ns() - began) / batch;
}
