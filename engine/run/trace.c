/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * trace.c - follow the guest through unknown control flow to its next exiting instruction.
 *
 * Formation cannot tell where a return or a call through a pointer goes, nor which of a hundred
 * branches lead to the next exit. So, where an exit recurs and nothing is in static reach, the
 * guest runs on in here, block by block, each translated, verified and run as clusters are, and
 * the path that it takes is noted if it meets an exiting instruction soon enough. Formation then
 * follows it. Nothing is lost where it does not: the guest has run, only slower.
 *
 * Blocks are kept, since traces share most of what they run through. So a block knows nothing of
 * the trace: it leaves at its end, and the runtime works out where that is in the guest's calls.
 */
#include "engine.h"

static void note(struct nx_engine *engine, uint64_t from, uint64_t to)
{
	if (engine->trace.edges < NX_TRACE_STEPS) {
		engine->trace.edge[engine->trace.edges].from = from;
		engine->trace.edge[engine->trace.edges++].to = to;
	}
}

static void commit(struct nx_engine *engine)
{
	for (unsigned i = 0; i < engine->trace.edges; i++)
		nx_paths_note(&engine->paths, engine->trace.edge[i].from, engine->trace.edge[i].to);
}

/* Return whether a return or an indirect branch may go to this target without a fault. */
static bool is_plausible(const struct nx_engine *engine, uint64_t to)
{
	unsigned bits = engine->state.cr4 & NX_CR4_LA57 ? 57 : 48;

	/* 16-bit code can return by 32 bits, of which the upper half is to be 0. */
	if (engine->mode.bits == 16 && to > 0xffff)
		return false;
	if (engine->mode.bits != 64)
		return to <= engine->state.seg[NX_CS].limit;
	return (uint64_t)((int64_t)(to << (64 - bits)) >> (64 - bits)) == to;
}

/* The stack pointer, of which a narrower stack uses the lower bits only. */
static uint64_t stack_mask(const struct nx_engine *engine)
{
	return ~0ull >> (64 - engine->mode.stack_bits);
}

static void move_stack(struct nx_engine *engine, uint64_t by)
{
	uint64_t *rsp = &engine->state.gpr[NX_RSP], mask = stack_mask(engine);

	*rsp = (*rsp & ~mask) | ((*rsp + by) & mask);
}

/*
 * A return, or a call or jump by a register or memory, for which the block has only found out where
 * it goes: executes the rest of it.
 */
static enum nx_status finish_indirect(struct nx_engine *engine, const struct nx_insn *insn,
				      uint64_t to)
{
	uint64_t back = nx_next_rip(&engine->mode, insn) + engine->context.slide, size = insn->size;

	if (!is_plausible(engine, to + engine->context.slide))
		return NX_LEAVE_GUARD;
	if (insn->op == NX_OP_CALL_INDIRECT) {
		uint64_t top = (engine->state.gpr[NX_RSP] - size) & stack_mask(engine);
		enum nx_status status = nx_guest_write(engine, NX_SS, top, &back, (unsigned)size);

		if (status != NX_OK)
			return status;
		move_stack(engine, -size);
	} else if (insn->op == NX_OP_RET) {
		move_stack(engine, size + insn->target);
	}
	engine->state.rip = to;
	return NX_OK;
}

/* The block has run to its end, at the state's rip or, GUARD, at its last instruction. */
static enum nx_status follow(struct nx_engine *engine, const struct nx_cluster *block,
			     unsigned reason)
{
	struct nx_contexts *contexts = &engine->trace.contexts;
	const struct nx_insn *last = block->last;
	/* As formation names it: only a branch that stands alone is told apart by the jump to it.
	 */
	uint64_t via = block->insns == 1 && nx_is_indirect(last->op) ? engine->trace.via : 0;
	uint64_t name =
	    nx_path_name(last->rip, nx_context_hash(contexts, engine->trace.context), via);
	enum nx_status status;

	if (reason == NX_LEAVE_GUARD) {
		status = finish_indirect(engine, last, engine->context.temp[0]);
		if (status != NX_OK)
			return status;
	} else if (reason != NX_LEAVE_CLUSTER_END) {
		return reason;
	}
	engine->trace.via = last->op == NX_OP_JMP ? last->rip : 0;
	if (nx_decides(last->op) && last->op != NX_OP_JMP)
		note(engine, name, engine->state.rip);
	if (last->op == NX_OP_CALL || last->op == NX_OP_CALL_INDIRECT)
		engine->trace.context = nx_context_push(contexts, engine->trace.context,
							nx_next_rip(&engine->mode, last));
	else if (last->op == NX_OP_RET)
		engine->trace.context = nx_context_pop(contexts, engine->trace.context);
	return NX_OK;
}

/* Return whether the translation stopped at an instruction that exits. */
static bool is_exit(const struct nx_engine *engine, const struct nx_site *site)
{
	switch ((enum nx_site_kind)site->kind) {
	case NX_SITE_IO:
	case NX_SITE_INSN:
		return true;
	case NX_SITE_ACCESS:
		return engine->stopped.is_mmio;
	case NX_SITE_HELPER:
		return engine->stopped.reason == NX_STOP_EXIT;
	default:
		return false;
	}
}

/*
 * Return why no block was formed: either the engine does not run the first instruction, or not all
 * of it is there, since the processor has not touched one of its pages yet.
 */
static enum nx_status why_unformed(struct nx_engine *engine)
{
	uint64_t linear = nx_code_linear(engine, engine->state.rip);
	const unsigned longest = sizeof(engine->graph.insn[0].bytes);
	const uint8_t *host;

	if (!engine->graph.insn[0].len &&
	    (nx_code_page(engine, linear, &host) != NX_OK ||
	     nx_code_page(engine, linear + longest - 1, &host) != NX_OK))
		return NX_LEAVE_CODE_UNREADABLE;
	return NX_LEAVE_NO_CLUSTER;
}

/* Make the block at the state's rip. A session is open before; after it, too, if there is one. */
static struct nx_cluster *make_block(struct nx_engine *engine, uint32_t *offset,
				     enum nx_status *status)
{
	struct nx_cluster *block;
	bool formed;

	nx_make_abandon(engine);
	formed = nx_form_block(engine, &engine->mode, engine->state.rip, &engine->graph);
	if (!formed) {
		*status = why_unformed(engine);
		return NULL;
	}
	nx_session_end(engine);
	block = nx_make_block(engine, status);
	if (!block)
		return NULL;
	engine->counters.blocks++;
	*offset = block->entry[0].offset;
	*status = nx_session_begin(engine);
	if (*status == NX_OK)
		*status = nx_code_check(engine, block, *offset);
	return *status == NX_OK ? block : NULL;
}

/*
 * The block at the state's rip, made now if it is not there. It is found in the session that it is
 * to be run in, which the caller ends.
 */
static struct nx_cluster *find_block(struct nx_engine *engine, uint32_t *offset,
				     enum nx_status *status)
{
	struct nx_cluster *block = NULL;

	*status = nx_session_begin(engine);
	if (*status != NX_OK)
		return NULL;
	if (!engine->config.experiment.uncached)
		block = nx_cache_find(engine, &engine->blocks, engine->state.rip, offset);
	*status = block ? nx_code_check(engine, block, *offset) : NX_OK;
	if (*status == NX_LEAVE_CODE_CHANGED)
		block->state = NX_CLUSTER_DROPPED;
	else if (block || *status != NX_OK)
		return *status == NX_OK ? block : NULL;
	return make_block(engine, offset, status);
}

static enum nx_status run_block(struct nx_engine *engine, bool *exits)
{
	const struct nx_site *site;
	struct nx_cluster *block;
	enum nx_status status;
	uint32_t offset;

	block = find_block(engine, &offset, &status);
	if (!block)
		return status;
	nx_execute(engine, block, offset);
	site = &block->site[engine->context.site];
	engine->state.rip = site->rip;
	*exits = is_exit(engine, site);
	if (*exits)
		return NX_OK;
	return site->kind == NX_SITE_LEAVE ? follow(engine, block, site->reason)
					   : engine->stopped.reason;
}

static enum nx_status step(struct nx_engine *engine, bool *exits)
{
	enum nx_status status = run_block(engine, exits);

	nx_session_end(engine);
	return status;
}

static bool trace(struct nx_engine *engine, const struct nx_site *from, enum nx_status *status)
{
	struct nx_contexts *contexts = &engine->trace.contexts;
	bool exits = false;

	contexts->count = 1;
	engine->trace.context = 0;
	engine->trace.via = 0;
	if (from) {
		contexts->count = engine->running->contexts;
		nx_memcpy(contexts->call, engine->running->context,
			  contexts->count * sizeof(contexts->call[0]));
		engine->trace.context = from->context;
		engine->trace.via = from->via;
	}
	engine->counters.traces++;
	engine->trace.edges = 0;
	*status = NX_OK;
	for (unsigned i = 0; i < NX_TRACE_STEPS && *status == NX_OK && !exits; i++) {
		/* The first block runs however late it is, or a slow machine would run none. */
		if (i || engine->stop)
			*status = nx_stay_must_pause(engine);
		if (*status == NX_OK)
			*status = step(engine, &exits);
	}
	if (exits) {
		commit(engine);
		return true;
	}
	if (*status == NX_OK)
		*status = NX_LEAVE_NO_CLUSTER;
	engine->counters.traces_failed++;
	return false;
}

bool nx_trace(struct nx_engine *engine, const struct nx_site *from, enum nx_making making,
	      enum nx_status *status)
{
	uint64_t began = engine->host->now(engine->host_data);
	bool found = trace(engine, from, status);
	uint64_t took = engine->host->now(engine->host_data) - began;

	nx_cost_learn(engine, making, 1, took);
	/* Following a known path is part of running the guest and is timed as such. */
	if (making != NX_MAKE_STEPS)
		nx_cost_made(engine, took);
	return found;
}
