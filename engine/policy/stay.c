/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* stay.c - begin a stay, and limit how long it keeps the guest out of guest mode. */
#include "engine.h"

/*
 * Begin a stay at the first resume since the hardware delivered an exit. A host may complete exits
 * itself, so the absence of a pending exit does not mark the beginning.
 */
void nx_stay_begin(struct nx_engine *engine)
{
	engine->stay.active = true;
	/*
	 * RF is set between the elements of a repeated instruction, and cleared by the next
	 * instruction that completes. No host takes a guest over with breakpoints armed.
	 */
	engine->stay.resume_flag = (engine->state.rflags & NX_FL_RF) != 0;
	engine->stay.resume_rip = engine->state.rip;
	engine->state.rflags &= ~(uint64_t)NX_FL_RF;
	engine->stay.window_asked = false;
	engine->stay.sti_rip = engine->stay.shadow_rip = 0;
	engine->context.turns = NX_WEAK_TURNS;
	engine->stay.exits = engine->stay.instructions = 0;
}

void nx_stay_take_back_sti(struct nx_engine *engine)
{
	if (nx_stay_in_shadow(&engine->stay, engine->state.rip)) {
		engine->state.rip = engine->stay.sti_rip;
		engine->state.rflags &= ~(uint64_t)NX_FL_IF;
	}
	engine->stay.shadow_rip = engine->stay.sti_rip;
}

enum nx_status nx_stay_must_pause(struct nx_engine *engine)
{
	if (engine->stop)
		return NX_LEAVE_STOP;
	if (nx_stay_is_long(engine) ||
	    (engine->host->time_is_up && engine->host->time_is_up(engine->host_data)))
		return NX_LEAVE_LATENCY;
	return NX_OK;
}
