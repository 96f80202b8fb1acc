/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * alone.c - remember the places that are left to the hardware, so that a user can be told why.
 *
 * Each row of the table counts one place. A place that meets another one's row lowers that one's
 * count and takes the row over at zero, so that a place that is met often holds its row.
 */
#include "engine.h"

static struct nx_alone *row_of(struct nx_engine *engine, uint64_t pc)
{
	return &engine->alone[nx_hash_row(pc, NX_ALONE_PLACES)];
}

void nx_alone_count(struct nx_engine *engine, uint64_t pc)
{
	struct nx_alone *row = row_of(engine, pc);

	if (row->rip != pc) {
		if (row->times) {
			row->times--;
			return;
		}
		*row = (struct nx_alone){.rip = pc};
	}
	row->times++;
	engine->alone_account[row - engine->alone] = nx_cost_name(engine, pc);
}

void nx_alone_pass(struct nx_engine *engine, uint64_t pc, unsigned times)
{
	struct nx_alone *row = row_of(engine, pc);

	if (row->rip == pc)
		row->times += times;
}

void nx_alone_ended(struct nx_engine *engine, uint64_t pc, enum nx_status status)
{
	struct nx_alone *row = row_of(engine, pc);

	if (row->rip == pc)
		row->leave = status;
}

bool nx_engine_alone(const struct nx_engine *engine, unsigned number, struct nx_alone *place)
{
	if (number >= NX_ALONE_PLACES || !engine->alone[number].times)
		return false;
	*place = engine->alone[number];
	place->reason = nx_waste_rests(engine, place->rip)
			    ? NX_ALONE_DECLINED
			    : nx_cost_alone(engine, engine->alone_account[number]);
	if (place->reason != NX_ALONE_DECLINED &&
	    nx_tracker_is_barren(&engine->tracker, place->rip))
		place->reason = NX_ALONE_BARREN;
	if (place->reason != NX_ALONE_BARREN)
		place->leave = NX_OK;
	return true;
}
