// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * waste.c - leave alone the places at which the engine makes more than it avoids, by counting.
 *
 * Without costs a stay begins wherever exits can be avoided. That may lose many times what it gains
 * where the guest never goes the same way twice, or where the code cache is too small for the ways
 * that it goes: then stays make something again and again, and to make a block takes as long as
 * tens of exits. So each place has a credit of things to be made, which is enough for a new place.
 * Exits that are avoided earn more. If it is used up, the next exits there are left alone, twice as
 * many each time, and then there is a smaller one. This is exact: the same guest gives the same
 * decisions, on every machine.
 */
#include "engine.h"

/* Credits are in exits: that many for a block or cluster, for a trace that meets no exit, and for a
 * stay that neither makes nor avoids anything. */
#define THING 16
#define TRACE 4
#define NOTHING 4
#define CREDIT_MOST (256 * THING)
#define CREDIT_AGAIN (128 * THING)
/* With so much the place has shown that it pays. */
#define CREDIT_GOOD (192 * THING)
/*
 * A place may be where all exits of a nested guest lead to, which has many ways on, so it has to be
 * tried again. 128 blocks for 2048 exits are still a fraction of what such exits cost.
 */
#define MOST_DOUBLINGS 5u

static struct nx_waste_place *row_of(const struct nx_engine *engine, uint64_t pc)
{
	return (struct nx_waste_place *)(uintptr_t)&engine->waste
	    .place[nx_hash_row(pc, NX_WASTE_PLACES)];
}

/* What has been made, in credits. */
static uint64_t made(const struct nx_engine *engine)
{
	return (engine->counters.blocks + engine->counters.translated) * THING +
	       engine->counters.traces_failed * TRACE;
}

static uint64_t avoided(const struct nx_engine *engine)
{
	return engine->counters.exits_io + engine->counters.exits_mmio +
	       engine->counters.exits_insn;
}

/* Enter a stay that has made so much and avoided so many exits. */
static void enter(struct nx_waste_place *place, uint64_t things, uint64_t exits)
{
	int64_t credit = place->credit + (int64_t)exits - (int64_t)things;

	if (credit > CREDIT_MOST)
		credit = CREDIT_MOST;
	if (credit >= CREDIT_GOOD)
		place->backoff.times = 0;
	if (credit < 0) {
		credit = CREDIT_AGAIN;
		nx_backoff_begin(&place->backoff, MOST_DOUBLINGS);
	}
	place->credit = (int32_t)credit;
}

bool nx_waste_open(struct nx_engine *engine, uint64_t pc)
{
	struct nx_waste_place *place = row_of(engine, pc);

	if (!engine->config.counts_waste || nx_cost_known(engine))
		return true;
	if (place->pc != pc)
		*place = (struct nx_waste_place){.pc = pc, .credit = CREDIT_MOST};
	if (place->backoff.left) {
		engine->counters.declined += nx_backoff_pass(&place->backoff, 1);
		return false;
	}
	engine->waste.pc = pc;
	engine->waste.open = true;
	engine->waste.made = made(engine);
	engine->waste.avoided = avoided(engine);
	engine->waste.resumes = engine->counters.resumes;
	return true;
}

void nx_waste_close(struct nx_engine *engine)
{
	engine->waste.open = false;
}

void nx_waste_settle(struct nx_engine *engine)
{
	struct nx_waste_place *place;
	uint64_t things, exits;

	/* Each exit of the hardware's gets here, and most have no stay before them. */
	if (!engine->waste.open)
		return;
	place = row_of(engine, engine->waste.pc);
	things = made(engine) - engine->waste.made;
	exits = avoided(engine) - engine->waste.avoided;
	/* The host may have had a reason of its own not to begin it. */
	if (!things && !exits && engine->counters.resumes != engine->waste.resumes)
		things = NOTHING;
	if (place->pc == engine->waste.pc)
		enter(place, things, exits);
	nx_waste_close(engine);
}

unsigned nx_waste_pass(struct nx_engine *engine, uint64_t pc, unsigned most)
{
	struct nx_waste_place *place = row_of(engine, pc);

	if (place->pc != pc)
		return 0;
	most = nx_backoff_pass(&place->backoff, most);
	engine->counters.declined += most;
	return most;
}

bool nx_waste_rests(const struct nx_engine *engine, uint64_t pc)
{
	const struct nx_waste_place *place = row_of(engine, pc);

	return place->pc == pc && place->backoff.times;
}
