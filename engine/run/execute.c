/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* execute.c - load the guest's state, run a translation, and store the state. */
#include "engine.h"

static void load_context(struct nx_engine *engine)
{
	/* Outside 64-bit mode addresses are computed from registers whose upper halves are clear.
	 */
	if (engine->mode.bits != 64)
		for (unsigned i = 0; i < NX_R8; i++)
			engine->state.gpr[i] = (uint32_t)engine->state.gpr[i];
	engine->context.flags = nx_flags_to_context(engine->state.rflags);
	engine->context.rflags = engine->state.rflags & ~(uint64_t)NX_FL_ARITHMETIC;
}

static void store_context(struct nx_engine *engine)
{
	engine->state.rflags =
	    engine->context.rflags | nx_flags_from_context(engine->context.flags);
}

void nx_execute(struct nx_engine *engine, struct nx_cluster *cluster, uint32_t offset)
{
	engine->running = cluster;
	engine->stopped.reason = NX_LEAVE_FAULT;
	engine->stopped.is_mmio = false;
	load_context(engine);
	nx_enter(&engine->context,
		 (const uint8_t *)engine->memory.code_rx + cluster->code + offset);
	store_context(engine);
}
