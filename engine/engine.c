/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* engine.c - a vCPU's engine: its settings, its memory, and what the host sees of it. */
#include "engine.h"

void nx_config_default(struct nx_config *config)
{
	*config = (struct nx_config){
	    .level = NX_LEVEL_COUNT - 1, .max_gap = 16, .max_gap_accesses = 4, .max_path = 512};
}

void nx_config_limits(struct nx_config *config, enum nx_limits limits)
{
	switch (limits) {
	case NX_LIMITS_UNWEIGHED:
		config->experiment.ignore_costs = true;
		break;
	case NX_LIMITS_PAPER:
		config->level = NX_LEVEL_LOOPS;
		config->experiment.ignore_costs = true;
		break;
	case NX_LIMITS_VBOX:
		/* EMAll.cpp: EMEXITENTRY's hits, cMaxInstructionsWithoutExits, cMaxInstructions. */
		config->experiment.skip_first =
		    256 - 2; /* the first exit makes the entry, the last is taken */
		config->max_gap = config->max_gap_accesses = config->max_path = 24;
		config->experiment.max_stay = 8192;
		config->experiment.give_up = config->experiment.ignore_costs = true;
		break;
	default:
		break;
	}
}

/* Return whether a direct branch leads from everywhere in the code memory to the address. */
static bool is_in_reach(const struct nx_memory *memory, const void *to)
{
	uint64_t first = (uintptr_t)to - (uintptr_t)memory->code_rx;
	uint64_t last = first - memory->code_size;

	return (int64_t)first == (int32_t)first && (int64_t)last == (int32_t)last;
}

static bool branches_reach(const struct nx_memory *memory)
{
	return memory->branches == NX_BRANCHES_INDIRECT ||
	       (is_in_reach(memory, (const void *)nx_thunk_exit) &&
		is_in_reach(memory, (const void *)nx_thunk_miss) &&
		is_in_reach(memory, (const void *)nx_thunk_helper));
}

size_t nx_engine_arena_size(void)
{
	return sizeof(struct nx_engine);
}

struct nx_engine *nx_engine_create(const struct nx_memory *memory, const struct nx_host *host,
				   void *host_data, const struct nx_config *config)
{
	struct nx_engine *engine = memory->arena;
	uint32_t traces;

	if (!engine || (uintptr_t)engine % 64 || memory->arena_size < sizeof(*engine) ||
	    !memory->code_rw || !memory->code_rx || memory->code_size < 65536 ||
	    memory->code_size > INT32_MAX || !branches_reach(memory))
		return NULL;
	/* Most of the memory is never touched: the host has zeroed it. */
	traces = (uint32_t)(memory->code_size / 4 * 3);
	engine->memory = *memory;
	engine->host = host;
	engine->host_data = host_data;
	engine->config = *config;
	engine->context.thunk_exit = nx_thunk_exit;
	engine->context.thunk_miss = nx_thunk_miss;
	engine->context.thunk_helper = nx_thunk_helper;
	engine->thunks = (struct nx_thunks){.branches = memory->branches,
					    .exit = (uintptr_t)nx_thunk_exit,
					    .miss = (uintptr_t)nx_thunk_miss,
					    .helper = (uintptr_t)nx_thunk_helper,
					    .blind = memory->blind};
	for (unsigned i = 0; i < NX_TLB_ENTRIES; i++)
		engine->context.tlb[i].read = engine->context.tlb[i].write =
		    engine->context.tlb[i].guarded = 1;
	nx_cache_init(&engine->cache, 0, traces);
	/* An eighth of what traces have, at most. */
	engine->singles.count = (uint32_t)(memory->code_size / 32 / NX_SINGLE_CODE);
	engine->singles.count &= ~(NX_SINGLE_WAYS - 1u);
	if (engine->singles.count > NX_SINGLES)
		engine->singles.count = NX_SINGLES;
	engine->singles.code = (uint32_t)memory->code_size - engine->singles.count * NX_SINGLE_CODE;
	nx_cache_init(&engine->blocks, traces, engine->singles.code);
	engine->tracker.skip_first = config->experiment.skip_first;
	engine->tracker.give_up = config->experiment.give_up;
	engine->slides.forced = config->experiment.slide;
	engine->tracker.eager = engine->paths.eager = config->eager;
	nx_engine_set_costs(engine, &(struct nx_costs){.takeover = 0});
	nx_snippets_init(engine);
	return engine;
}

struct nx_state *nx_engine_state(struct nx_engine *engine)
{
	return &engine->state;
}

volatile int *nx_engine_stop_flag(struct nx_engine *engine)
{
	return &engine->stop;
}

const struct nx_counters *nx_engine_counters(const struct nx_engine *engine)
{
	return &engine->counters;
}
