// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * engine_bench.c - what the engine's steps cost on this machine: no test, the figures are for
 * people. The host is a mock that does nothing, so they are the engine's alone.
 *
 * Each figure is the median of many batches, with the batches' tenth and ninetieth percentile.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mock.h"
#include "vcpu.h"

#define SAMPLES 301
#define FILLERS 320. /* of each kind in fillers.inc */
#define TURNS 100    /* of them, between two exits */

/* 16 instructions as a driver has them between two exits, the last one the exit. */
GUEST(sixteen, 64, "in al, dx",
      "movzx eax, al; test al, 0x20; jz 1f; mov rbx, [rsi]; lea rcx, [rbx+8]; add ecx, 3;"
      "and ecx, 0xff; mov [rdi], ecx; inc r9; 1: shr eax, 2; xor r8d, r8d; cmp eax, 7;"
      "cmovb r8, rax; or r8d, 1; mov eax, r8d; out dx, al",
      "hlt");
/* Ten gap fillers from an exit to the next one, one of them a load. */
GUEST(chain, 64, "out dx, al",
      "mov rbx, [rsi]; add ebx, 5; and ebx, 0xff; mov ecx, ebx; shl ecx, 2; xor r8d, ecx;"
      "lea r9, [r8+rcx]; cmp r9, r8; setb al; jmp chain",
      "hlt");
GUEST(nothing, 64, "out dx, al", "jmp nothing", "hlt");
/* What the hardware's exit is followed by at once. */
GUEST(takeover, 64, "in al, dx", "out dx, al", "hlt");
GUEST(takeover_load, 64, "in al, dx", "mov rbx, [rsi]; out dx, al", "hlt");

#define DECLARE_BENCH(name)                                                                  \
	extern const uint8_t bench_##name[], bench_##name##_resume[], bench_##name##_stop[], \
	    bench_##name##_end[];                                                            \
	void bench_native_##name(void *, void *)

DECLARE_BENCH(registers);
DECLARE_BENCH(homed);
DECLARE_BENCH(mixed);
DECLARE_BENCH(loads);
DECLARE_BENCH(chase);
DECLARE_BENCH(stores);

struct figure {
	double low, median, high;
};

static double sample[SAMPLES];

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static struct figure summary(void)
{
	qsort(sample, SAMPLES, sizeof(sample[0]), compare);
	return (struct figure){sample[SAMPLES / 10], sample[SAMPLES / 2],
			       sample[SAMPLES - 1 - SAMPLES / 10]};
}

static void print(const char *what, struct figure f, const char *goal)
{
	printf("  %-48s %9.1f ns  (%.1f .. %.1f)  %s\n", what, f.median, f.low, f.high, goal);
}

/* ---- A host that costs next to nothing ---- */

static enum nx_route route_io(void *data, uint16_t port, unsigned size, bool write, uint64_t value)
{
	(void)data, (void)port, (void)size, (void)write, (void)value;
	return NX_ROUTE_EXIT;
}

static void map_page(void *data, uint64_t gpa, struct nx_page *page)
{
	const struct mock *m = data;

	page->kind = gpa < MOCK_RAM_SIZE ? NX_PAGE_RAM : NX_PAGE_DEVICE;
	page->writable = true;
	page->store_is_mmio = false;
	page->host = m->ram + gpa;
}

/* The guest's code translated, the guest at its start. limit: of formation, if not the default. */
static struct mock *machine(uint16_t limit, const uint8_t *code, const uint8_t *resume,
			    const uint8_t *stop, const uint8_t *end)
{
	struct nx_config config;
	struct mock *m;

	nx_config_default(&config);
	if (limit)
		config.max_gap = config.max_gap_accesses = config.max_path = limit;
	m = mock_new_config(MOCK_LONG64, 0, &config);
	m->host.route_io = route_io;
	m->host.map_page = map_page;
	mock_load(m, code, resume, stop, end);
	m->start.gpr[NX_RDX] = 0x3f8;
	m->start.gpr[NX_RSI] = MOCK_DATA;
	m->start.gpr[NX_RDI] = MOCK_DATA + 0x100;
	mock_poke(m, MOCK_DATA, &m->start.gpr[NX_RSI], 8);
	m->stop_at = 8;
	for (unsigned i = 0; i < 10; i++)
		mock_run(m);
	if (!m->exits) {
		fprintf(stderr, "engine_bench: the guest's code was not translated\n");
		exit(1);
	}
	*nx_vcpu_stop_flag(m->vcpu) = 0;
	*nx_vcpu_state(m->vcpu) = m->start;
	return m;
}

#define MACHINE(name) machine(0, name, name##_resume, name##_stop, name##_end)

/* ---- (a) ---- */

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "engine_bench: %s\n", what);
	exit(1);
}

static void bench_pipeline(void)
{
	static double part[4][SAMPLES];
	static const char *const names[] = {"form a cluster of 16 instructions", "translate it",
					    "verify the translation", "all three"};
	struct mock *m = MACHINE(sixteen);
	struct nx_vcpu *v = m->vcpu;
	uint32_t where;

	for (unsigned i = 0; i < SAMPLES; i++) {
		double t0 = now_ns(), t1, t2, t3;

		check(nx_form(v, &v->mode, m->start.rip, &v->graph), "no cluster was formed");
		t1 = now_ns();
		check(nx_translate(v, &v->graph, v->emitted, sizeof(v->emitted), &v->translation),
		      "it cannot be translated");
		t2 = now_ns();
		check(nx_verify(v->emitted, v->translation.size, &v->translation, &v->verify,
				&where) == NX_VERIFY_OK,
		      "the verifier refused it");
		t3 = now_ns();
		part[0][i] = t1 - t0;
		part[1][i] = t2 - t1;
		part[2][i] = t3 - t2;
		part[3][i] = t3 - t0;
	}
	check(v->graph.insns == 16, "the cluster has not 16 instructions");
	for (unsigned p = 0; p < 4; p++) {
		memcpy(sample, part[p], sizeof(sample));
		print(names[p], summary(), p == 3 ? "goal 50000" : "");
	}
	mock_free(m);
}

/* ---- (b) and the engine's half of (d) ---- */

static struct figure time_chain(struct mock *m, unsigned batch)
{
	struct nx_exit exit = {.data = 0};

	for (unsigned i = 0; i < SAMPLES; i++) {
		double begin = now_ns();

		for (unsigned n = 0; n < batch; n++)
			check(nx_resume(m->vcpu, &exit) == NX_EXIT, "the guest left the engine");
		sample[i] = (now_ns() - begin) / batch;
	}
	mock_free(m);
	return summary();
}

/* ---- (c) ---- */

static void bench_takeover(struct mock *m, const char *what, const char *goal)
{
	const unsigned batch = 1000;
	struct nx_exit exit = {.data = 0};

	for (unsigned i = 0; i < SAMPLES; i++) {
		double begin = now_ns();

		for (unsigned n = 0; n < batch; n++) {
			nx_vcpu_state(m->vcpu)->rip = m->start.rip;
			check(nx_worth_resuming(m->vcpu, m->code_rip, NX_EXIT_IO) &&
				  nx_resume(m->vcpu, &exit) == NX_EXIT,
			      "the engine did not take over");
			nx_forget_exit(m->vcpu);
		}
		sample[i] = (now_ns() - begin) / batch;
	}
	print(what, summary(), goal);
	mock_free(m);
}

/* ---- (d) ---- */

static struct figure time_native(void (*run)(void *, void *))
{
	static uint64_t to[64], from[64];
	const unsigned batch = 20;

	from[0] = (uint64_t)from;

	for (unsigned i = 0; i < SAMPLES; i++) {
		double begin = now_ns();

		for (unsigned n = 0; n < batch; n++)
			run(to, from);
		sample[i] = (now_ns() - begin) / batch;
	}
	return summary();
}

struct code {
	const uint8_t *code, *resume, *stop, *end;
	void (*native)(void *, void *);
};

#define CODE(name)                                                                            \
	&(struct code)                                                                        \
	{                                                                                     \
		bench_##name, bench_##name##_resume, bench_##name##_stop, bench_##name##_end, \
		    bench_native_##name                                                       \
	}

static void bench_fillers(const char *what, const struct code *c, double exit_alone,
			  const char *goal)
{
	struct figure engine = time_chain(machine(400, c->code, c->resume, c->stop, c->end), 20);
	double real = time_native(c->native).median / TURNS / FILLERS;
	const double scale = TURNS * FILLERS * real;

	printf("  %-48s %9.3f ns, natively %.3f: %.2f times  (%.2f .. %.2f)  %s\n", what,
	       (engine.median - exit_alone) / scale * real, real,
	       (engine.median - exit_alone) / scale, (engine.low - exit_alone) / scale,
	       (engine.high - exit_alone) / scale, goal);
}

int main(void)
{
	struct figure exit_alone;

	printf("median (10th .. 90th percentile) of %d batches\n", SAMPLES);
	bench_pipeline();
	exit_alone = time_chain(MACHINE(nothing), 1000);
	print("one exit to the next, nothing between", exit_alone, "");
	print("one exit to the next, 10 gap fillers, 1 load", time_chain(MACHINE(chain), 1000),
	      "goal 100");
	bench_takeover(MACHINE(takeover), "take-over at a hardware exit, 1 page walk", "goal 300");
	bench_takeover(MACHINE(takeover_load), "the same with a load: 2 page walks", "");
	bench_fillers("a gap filler, registers only", CODE(registers), exit_alone.median,
		      "goal 1.3");
	bench_fillers("half of them with r10, r11, r14, r15", CODE(homed), exit_alone.median, "");
	bench_fillers("mixed: of ten, two loads and a store", CODE(mixed), exit_alone.median, "");
	bench_fillers("with a load each, independent ones", CODE(loads), exit_alone.median,
		      "goal 3");
	bench_fillers("with a load each, of the next one's address", CODE(chase), exit_alone.median,
		      "goal 3");
	bench_fillers("with a store each", CODE(stores), exit_alone.median, "goal 3");
	return 0;
}
