/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * uncached.c - what translations that are kept bring: the same engine, which decodes, translates,
 * verifies and runs each instruction up to the next exit by itself and forgets it
 * (nx_experiment.uncached), against clusters. The first is what an interpreter that checks as much
 * would be, in kind; its figure is a bound for it from above. Nothing else is in the figures: the
 * host does nothing.
 */
#include "bench.h"
#include "machine.h"

#define BATCH_NS 2e5
#define WARM_UP 20000 /* exits: paths get hot one after the other */
#define POLLS 50      /* that a status port is read before it answers */
#define READY 0x28    /* to send, and what polling loops wait for */

#define NX_X(name) extern const uint8_t bench_endless_##name[], bench_endless_##name##_end[];
BENCH_UNCACHED(NX_X)
#undef NX_X

static const struct {
	const uint8_t *code, *end;
} guests[] = {
#define NX_X(name) {bench_endless_##name, bench_endless_##name##_end},
    BENCH_UNCACHED(NX_X)
#undef NX_X
};

struct side {
	struct machine m;
	uint64_t reads;
	unsigned batch;
};

/* Run to so many exits that the engine delivered; where it leaves, the hardware is back at the
 * start. */
static bool run(struct side *side, unsigned exits)
{
	struct machine *m = &side->m;
	unsigned left = 0;

	for (unsigned i = 0; i < exits;) {
		if (nx_engine_resume(m->engine, &m->exit) == NX_EXIT) {
			i++;
			left = 0;
			m->exit.data = side->reads++ / POLLS % 2 ? READY : READY & ~0x08u;
			continue;
		}
		nx_engine_forget_exit(m->engine);
		/* A cold exit is one that the engine is only told of. */
		nx_engine_state(m->engine)->rip = BENCH_CODE + 1;
		nx_engine_worth_resuming(m->engine, BENCH_CODE, NX_CLASS_IO, 0, 0);
		if (++left > 1000)
			return false;
	}
	return true;
}

static double time_exit(struct side *side, bool *good)
{
	double began = machine_now_ns();

	*good &= run(side, side->batch);
	return (machine_now_ns() - began) / side->batch;
}

static bool begin(struct side *side, unsigned number, bool uncached)
{
	struct nx_config config;
	bool good = true;
	double ns;

	nx_config_default(&config);
	config.experiment.uncached = uncached;
	side->reads = 0;
	side->batch = WARM_UP;
	if (!machine_make(&side->m, &config))
		return false;
	nx_engine_state(side->m.engine)->gpr[NX_RDI] = BENCH_DEVICE;
	if (!machine_load(&side->m, guests[number].code, guests[number].end))
		return false;
	if (uncached)
		side->batch = 100;
	ns = time_exit(side, &good);
	side->batch = (unsigned)(BATCH_NS / (ns > 1 ? ns : 1)) + 1;
	return good;
}

bool bench_uncached(const char *name, unsigned number)
{
	unsigned samples = bench_options.quick ? 5 : BENCH_SAMPLES;
	struct bench_samples time = {.count = 0};
	static struct side without, with;
	struct bench_figure figure;
	bool good = begin(&without, number, true);

	good &= begin(&with, number, false);

	for (unsigned i = 0; good && i < samples; i++) {
		double plain = time_exit(&without, &good);

		bench_sample(&time, plain, time_exit(&with, &good));
	}
	machine_free(&without.m);
	machine_free(&with.m);
	if (!good) {
		bench_skip(
		    name, "the engine got no memory that may be executed, or did not run the code");
		return false;
	}
	figure = bench_figure(&time);
	bench_report(name, "an exit to the next, ns", &figure);
	return true;
}
