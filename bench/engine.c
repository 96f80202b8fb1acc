/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * engine.c - what the engine's steps cost on this machine. The host here does nothing, so the
 * figures are the engine's alone; they are compared with a hardware exit's round trip, or with the
 * same code run natively.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "machine.h"

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

/* ---- The figures ---- */

/* limit: that of formation, or 0 for the default. */
static bool make(struct machine *m, uint16_t limit)
{
	struct nx_config config;

	nx_config_default(&config);
	if (limit)
		config.max_gap = config.max_gap_accesses = config.max_path = limit;
	return machine_make(m, &config);
}

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

static bool bench_next(const char *name, const uint8_t *code, const uint8_t *end)
{
	struct bench_samples samples = {.count = 0};
	struct machine m;
	bool good = make(&m, 0) && machine_load(&m, code, end);

	for (unsigned i = 0; good && i < BENCH_SAMPLES; i++) {
		double engine = machine_time_exits(&m, 2000, &good);

		bench_sample(&samples, bench_round_trip(), engine);
	}
	return finish(&m, name, "an exit to the next, ns", &samples, good);
}

static bool bench_takeover(const char *name)
{
	const unsigned batch = 1000;
	struct bench_samples samples = {.count = 0};
	struct machine m;
	bool good = make(&m, 0) && machine_load(&m, bench_code_takeover, bench_code_takeover_end);

	for (unsigned i = 0; good && i < BENCH_SAMPLES; i++) {
		double began = machine_now_ns();

		for (unsigned n = 0; n < batch; n++) {
			nx_engine_forget_exit(m.engine);
			good &= machine_take_over(&m, BENCH_CODE, 1) == NX_EXIT;
		}
		bench_sample(&samples, bench_round_trip(), (machine_now_ns() - began) / batch);
	}
	return finish(&m, name, "take-over at an exit, ns", &samples, good);
}

/* The first time that a copy of the code is found worth translating. */
static double time_translation(struct machine *m, uint64_t rip)
{
	const struct nx_counters *counters = nx_engine_counters(m->engine);

	for (unsigned tries = 0; tries < 16; tries++) {
		uint64_t translated = counters->translated;
		double began = machine_now_ns(), ended;
		enum nx_outcome outcome = machine_take_over(m, rip - 1, 1);

		ended = machine_now_ns();
		if (outcome == NX_EXIT && counters->translated == translated + 1) {
			nx_engine_forget_exit(m->engine);
			return ended - began;
		}
	}
	return 0;
}

static bool bench_translate(const char *name)
{
	struct bench_samples samples = {.count = 0};
	struct machine m;
	bool good = make(&m, 0);

	for (unsigned i = 0; good && i < BENCH_SAMPLES; i++) {
		uint64_t rip = BENCH_CODE + i * COPY_SIZE;
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
	began = machine_now_ns();
	for (unsigned i = 0; i < batch; i++)
		filler->native(to, from);
	return (machine_now_ns() - began) / batch;
}

/* Measure what an exit costs with nothing between it and the next. */
static double exit_alone(bool *good)
{
	double value[BENCH_SAMPLES];
	struct machine m;

	*good = make(&m, 0) && machine_load(&m, bench_code_nothing, bench_code_nothing_end);
	for (unsigned i = 0; *good && i < BENCH_SAMPLES; i++)
		value[i] = machine_time_exits(&m, 1000, good);
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

	good = make(&m, 400) && good && machine_load(&m, filler->code, filler->end);
	for (unsigned i = 0; good && i < BENCH_SAMPLES; i++) {
		double native = time_native(filler, 20);

		bench_sample(&samples, native / each,
			     (machine_time_exits(&m, 20, &good) - alone) / each);
	}
	return finish(&m, name, "a gap filler, ns", &samples, good);
}
