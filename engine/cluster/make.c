/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * make.c - drive the pipeline from formation over translation and verification into the cache.
 *
 * Making a large cluster takes several times the latency bound. The work is therefore divided into
 * steps, and between two of them the guest may run on (nx_stay_must_pause()). The scratch memory
 * keeps the intermediate result, and the next exit at the same place continues with it.
 *
 * Invariant: while the maker is not idle, it owns the scratch memory (form_scratch,
 * translate_scratch, the graph, the translation, the emitted code and its place, the verifier's
 * state). Any other user must call nx_make_abandon() first. The verifier therefore sees exactly
 * what was translated, whatever happened in between.
 */
#include "engine.h"

/*
 * An unfinished cluster is abandoned after so many attempts to make another one: the guest may
 * never come back to its place.
 */
#define PATIENCE 32u
/*
 * Each resume takes at least so many steps, or a slow machine would need hundreds of exits for one
 * cluster. On other machines so many steps take less time than the latency bound.
 */
#define LEAST_STEPS 16u

void nx_make_abandon(struct nx_engine *engine)
{
	engine->maker.stage = NX_MAKER_IDLE;
}

bool nx_make_is_busy(struct nx_engine *engine)
{
	return engine->maker.stage != NX_MAKER_IDLE && ++engine->maker.others <= PATIENCE;
}

/* ---- Translation and verification of the graph ---- */

/* Emit code that is to run at this offset of the code memory, as far as that matters to it. */
static void set_place(struct nx_engine *engine, uint32_t place)
{
	engine->thunks.code = (uintptr_t)engine->memory.code_rx + place;
}

static void begin_translating(struct nx_engine *engine, uint32_t place)
{
	set_place(engine, place);
	nx_translate_begin(engine, &engine->graph, engine->emitted, sizeof(engine->emitted),
			   &engine->translation);
}

static void begin_verifying(struct nx_engine *engine)
{
	nx_verify_begin(engine->emitted, engine->translation.size, &engine->translation,
			&engine->thunks, &engine->verify);
}

static enum nx_progress verify_step(struct nx_engine *engine)
{
	enum nx_verify_result result;
	enum nx_progress progress = nx_verify_step(&engine->verify, &result);

	if (engine->config.experiment.fail & NX_FAIL_VERIFY)
		progress = NX_FAILED;
	engine->counters.refused += progress == NX_FAILED;
	return progress;
}

/* Translate and verify the graph without pausing. */
enum nx_status nx_make_emitted(struct nx_engine *engine, uint32_t place)
{
	enum nx_progress progress;

	set_place(engine, place);
	if (!nx_translate(engine, &engine->graph, engine->emitted, sizeof(engine->emitted),
			  &engine->translation))
		return NX_LEAVE_UNTRANSLATED;
	begin_verifying(engine);
	do
		progress = verify_step(engine);
	while (progress == NX_MORE);
	return progress == NX_FAILED ? NX_LEAVE_REFUSED : NX_OK;
}

struct nx_cluster *nx_make_block(struct nx_engine *engine, enum nx_status *status)
{
	struct nx_cluster *block = NULL;

	do {
		*status = nx_make_emitted(engine, engine->blocks.code_used);
		if (*status == NX_OK)
			block = nx_cache_add(engine, &engine->blocks, status);
	} while (!block && *status == NX_OK);
	return block;
}

/* ---- Clusters ---- */

static bool goes_on_at(const struct nx_engine *engine, uint64_t rip)
{
	const struct nx_maker *maker = &engine->maker;

	return maker->stage != NX_MAKER_IDLE && maker->rip == rip &&
	       nx_mode_is_current(engine, &engine->graph.mode, maker->cs_base, maker->cs_limit);
}

static void begin(struct nx_engine *engine, uint64_t rip)
{
	const struct nx_segment *cs = &engine->state.seg[NX_CS];

	nx_form_begin(engine, &engine->mode, rip, &engine->graph);
	engine->maker = (struct nx_maker){
	    .stage = NX_MAKER_FORMS,
	    .rip = rip,
	    .cs_base = cs->base,
	    .cs_limit = cs->limit,
	};
}

static struct nx_cluster *keep(struct nx_engine *engine, enum nx_status *status)
{
	struct nx_cluster *cluster = nx_cache_add(engine, &engine->cache, status);

	if (!cluster && *status == NX_OK) {
		begin_translating(engine, engine->cache.code_used);
		engine->maker.stage = NX_MAKER_TRANSLATES;
	}
	if (!cluster)
		return NULL;
	engine->counters.translated++;
	engine->counters.forced += engine->stay.forced;
	engine->stay.forced = false;
	return cluster;
}

/* After formation, return a cluster that exists already. On NULL, translation begins if *status is
 * NX_OK. */
static struct nx_cluster *formed(struct nx_engine *engine, uint64_t pc, enum nx_status *status)
{
	struct nx_cluster *cluster;

	if (!engine->maker.earned && !nx_cost_ripe(engine, pc, NX_MAKE_INSN, engine->graph.insns)) {
		*status = NX_LEAVE_COLD;
		return NULL;
	}
	engine->counters.formed++;
	cluster = nx_cache_revive(engine);
	if (!cluster)
		begin_translating(engine, engine->cache.code_used);
	return cluster;
}

/* Take one step. The work has ended when there is a cluster or *status is not NX_OK. */
static struct nx_cluster *step(struct nx_engine *engine, uint64_t pc, enum nx_status *status)
{
	struct nx_maker *maker = &engine->maker;
	enum nx_progress progress;

	switch (maker->stage) {
	case NX_MAKER_FORMS:
		progress = nx_form_step(engine, &engine->graph);
		if (progress == NX_FAILED)
			*status = NX_LEAVE_NO_CLUSTER;
		else if (progress == NX_BLOCKED)
			*status = NX_LEAVE_SESSION;
		if (progress != NX_DONE)
			return NULL;
		maker->stage = NX_MAKER_TRANSLATES;
		return formed(engine, pc, status);
	case NX_MAKER_TRANSLATES:
		progress = nx_translate_step(engine);
		if (progress == NX_FAILED)
			*status = NX_LEAVE_UNTRANSLATED;
		if (progress != NX_DONE)
			return NULL;
		maker->stage = NX_MAKER_VERIFIES;
		begin_verifying(engine);
		return NULL;
	default:
		progress = verify_step(engine);
		if (progress == NX_FAILED)
			*status = NX_LEAVE_REFUSED;
		return progress == NX_DONE ? keep(engine, status) : NULL;
	}
}

struct nx_cluster *nx_make_cluster(struct nx_engine *engine, uint64_t rip, uint64_t pc, bool earned,
				   enum nx_status *status)
{
	uint64_t translated = engine->counters.translated, began, took;
	struct nx_maker *maker = &engine->maker;
	struct nx_cluster *cluster;
	unsigned steps = 0;

	*status = NX_LEAVE_COLD;
	if (!goes_on_at(engine, rip)) {
		if (nx_make_is_busy(engine))
			return NULL;
		begin(engine, rip);
	}
	*status = NX_OK;
	maker->others = 0;
	maker->earned |= earned;
	began = engine->host->now(engine->host_data);
	do {
		cluster = step(engine, pc, status);
		if (!cluster && *status == NX_OK && (++steps >= LEAST_STEPS || engine->stop))
			*status = nx_stay_must_pause(engine);
	} while (!cluster && *status == NX_OK);
	took = engine->host->now(engine->host_data) - began;
	maker->spent_ns += took;
	nx_cost_made(engine, took);
	if (!cluster && nx_status_is_pause(*status)) {
		engine->counters.paused++;
		return NULL;
	}
	maker->stage = NX_MAKER_IDLE;
	if (cluster && engine->counters.translated != translated) {
		cluster->made_ns = maker->spent_ns;
		nx_cost_learn(engine, NX_MAKE_INSN, cluster->insns, cluster->made_ns);
	}
	return cluster;
}
