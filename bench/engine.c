/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * engine.c - what the engine's steps cost on this machine. The host here does nothing, so the
 * figures are the engine's alone; they are compared with a hardware exit's round trip, or with the
 * same code run natively.
 */
#define _GNU_SOURCE
#include <math.h>
#include <noexit.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench.h"

#define RAM 0x200000u
#define TABLES 0x10000u
#define DATA 0x20000u
#define CODE 0x40000u
#define PORT 0x3f8
#define CODE_CACHE (1u << 20)
#define FILLERS 320. /* of each kind in fillers.inc */
#define TURNS 100    /* of them, between two exits */
#define COPY_SIZE 64 /* bytes between copies of a piece of code */

#define DECLARE(name) extern const uint8_t bench_code_##name[], bench_code_##name##_end[];
DECLARE(nothing)
DECLARE(chain)
DECLARE(sixteen)
DECLARE(takeover)
#define NX_X(name, help) DECLARE(name) void bench_native_##name(void *to, void *from);
BENCH_FILLERS(NX_X)
#undef NX_X

static const struct filler {
	const uint8_t *code, *end;
	void (*native)(void *to, void *from);
} fillers[] = {
#define NX_X(name, help) {bench_code_##name, bench_code_##name##_end, bench_native_##name},
    BENCH_FILLERS(NX_X)
#undef NX_X
};

struct machine {
	struct nx_memory memory;
	struct nx_vcpu *vcpu;
	uint8_t *ram;
	struct nx_exit exit;
};

static double now_ns(void)
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

static const struct nx_host host = {
    .map_page = map_page, .route_io = route_io, .route_mmio = route_mmio, .now = now};

/* ---- A machine in 64-bit mode, memory mapped one to one ---- */

static void set_state(struct machine *m)
{
	struct nx_state *s = nx_vcpu_state(m->vcpu);
	uint64_t *table = (uint64_t *)(m->ram + TABLES);

	table[0] = (TABLES + 0x1000) | 7;
	table[512] = (TABLES + 0x2000) | 7;
	table[1024] = 0 | 0x87;
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
	s->gpr[NX_RSI] = DATA;
	s->gpr[NX_RDI] = DATA + 0x100;
	*(uint64_t *)(m->ram + DATA) = DATA;
}

static void machine_free(struct machine *m)
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

/* limit: of formation, 0: the default. */
static bool machine_make(struct machine *m, uint16_t limit)
{
	struct nx_config config;

	*m = (struct machine){.ram = map(RAM, MAP_PRIVATE)};
	m->memory.arena_size = nx_arena_size();
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
	nx_config_default(&config);
	if (limit)
		config.max_gap = config.max_gap_accesses = config.max_path = limit;
	m->vcpu = nx_vcpu_create(&m->memory, &host, m, &config);
	if (m->vcpu)
		set_state(m);
	return m->vcpu;
}

/* The hardware has executed the exiting instruction at rip, which is length bytes long. */
static enum nx_outcome take_over(struct machine *m, uint64_t rip, unsigned length)
{
	nx_vcpu_state(m->vcpu)->rip = rip + length;
	if (!nx_worth_resuming(m->vcpu, rip, NX_EXIT_IO))
		return NX_LEAVE;
	return nx_resume(m->vcpu, &m->exit);
}

/* Loads code that begins with a one-byte exit, and has it translated. */
static bool load(struct machine *m, const uint8_t *code, const uint8_t *end)
{
	memcpy(m->ram + CODE, code, (size_t)(end - code));
	for (unsigned i = 0; i < 16; i++) {
		if (take_over(m, CODE, 1) == NX_EXIT)
			return true;
	}
	return false;
}

/* ---- The figures ---- */

static bool say_failed(const char *name)
{
	bench_skip(name, "the engine got no memory that may be executed, or did not run the code");
	return false;
}

static bool finish(struct machine *m, const char *name, const char *metric,
		   const struct bench_samples *samples, bool good)
{
	struct bench_figure figure;

	machine_free(m);
	if (!good)
		return say_failed(name);
	figure = bench_figure(samples);
	bench_report(name, metric, &figure);
	return true;
}

/* Nanoseconds from one exit that the engine delivered to the next. */
static double time_exits(struct machine *m, unsigned batch, bool *good)
{
	double began = now_ns();

	for (unsigned i = 0; i < batch; i++)
		*good &= nx_resume(m->vcpu, &m->exit) == NX_EXIT;
	return (now_ns() - began) / batch;
}

static bool bench_next(const char *name, const uint8_t *code, const uint8_t *end)
{
	struct bench_samples samples = {.count = 0};
	struct machine m;
	bool good = machine_make(&m, 0) && load(&m, code, end);

	for (unsigned i = 0; good && i < BENCH_SAMPLES; i++) {
		double engine = time_exits(&m, 2000, &good);

		bench_sample(&samples, bench_round_trip(), engine);
	}
	return finish(&m, name, "an exit to the next, ns", &samples, good);
}

static bool bench_takeover(const char *name)
{
	const unsigned batch = 1000;
	struct bench_samples samples = {.count = 0};
	struct machine m;
	bool good = machine_make(&m, 0) && load(&m, bench_code_takeover, bench_code_takeover_end);

	for (unsigned i = 0; good && i < BENCH_SAMPLES; i++) {
		double began = now_ns();

		for (unsigned n = 0; n < batch; n++) {
			nx_forget_exit(m.vcpu);
			good &= take_over(&m, CODE, 1) == NX_EXIT;
		}
		bench_sample(&samples, bench_round_trip(), (now_ns() - began) / batch);
	}
	return finish(&m, name, "take-over at an exit, ns", &samples, good);
}

/* The first time that a copy of the code is found worth translating. */
static double time_translation(struct machine *m, uint64_t rip)
{
	const struct nx_counters *counters = nx_vcpu_counters(m->vcpu);

	for (unsigned tries = 0; tries < 16; tries++) {
		uint64_t translated = counters->translated;
		double began = now_ns(), ended;
		enum nx_outcome outcome = take_over(m, rip - 1, 1);

		ended = now_ns();
		if (outcome == NX_EXIT && counters->translated == translated + 1) {
			nx_forget_exit(m->vcpu);
			return ended - began;
		}
	}
	return 0;
}

static bool bench_translate(const char *name)
{
	struct bench_samples samples = {.count = 0};
	struct machine m;
	bool good = machine_make(&m, 0);

	for (unsigned i = 0; good && i < BENCH_SAMPLES; i++) {
		uint64_t rip = CODE + i * COPY_SIZE;
		double time;

		memcpy(m.ram + rip, bench_code_sixteen,
		       (size_t)(bench_code_sixteen_end - bench_code_sixteen));
		time = time_translation(&m, rip);
		good = time > 0;
		bench_sample(&samples, bench_round_trip(), time);
	}
	return finish(&m, name, "forming 16 instructions, ns", &samples, good);
}

bool bench_engine(const char *name, unsigned number)
{
	char full[64];
	bool good;

	(void)number;
	snprintf(full, sizeof(full), "%s/next", name);
	good = bench_next(full, bench_code_nothing, bench_code_nothing_end);
	snprintf(full, sizeof(full), "%s/next-10-fillers", name);
	good &= bench_next(full, bench_code_chain, bench_code_chain_end);
	snprintf(full, sizeof(full), "%s/take-over", name);
	good &= bench_takeover(full);
	snprintf(full, sizeof(full), "%s/translate", name);
	return bench_translate(full) && good;
}

/* ---- Gap fillers against the same code run natively ---- */

static double time_native(const struct filler *filler, unsigned batch)
{
	static uint64_t to[64], from[64];
	double began;

	from[0] = (uint64_t)from;
	began = now_ns();
	for (unsigned i = 0; i < batch; i++)
		filler->native(to, from);
	return (now_ns() - began) / batch;
}

/* What an exit costs with nothing between it and the next. */
static double exit_alone(bool *good)
{
	double value[BENCH_SAMPLES];
	struct machine m;

	*good = machine_make(&m, 0) && load(&m, bench_code_nothing, bench_code_nothing_end);
	for (unsigned i = 0; *good && i < BENCH_SAMPLES; i++)
		value[i] = time_exits(&m, 1000, good);
	machine_free(&m);
	return *good ? bench_median(value, BENCH_SAMPLES) : 0;
}

bool bench_filler(const char *name, unsigned number)
{
	const struct filler *filler = &fillers[number];
	struct bench_samples samples = {.count = 0};
	const double each = TURNS * FILLERS;
	struct machine m;
	bool good;
	double alone = exit_alone(&good);

	good = machine_make(&m, 400) && good && load(&m, filler->code, filler->end);
	for (unsigned i = 0; good && i < BENCH_SAMPLES; i++) {
		double native = time_native(filler, 20);

		bench_sample(&samples, native / each, (time_exits(&m, 20, &good) - alone) / each);
	}
	return finish(&m, name, "a gap filler, ns", &samples, good);
}
