/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * runtime.c - nx_engine_resume(): from a guest state to the next exit or to the reason for leaving.
 */
#include "engine.h"

/* Return whether this exit is hot; count the exits that are so because the tracker leaks. */
static bool note_exit(struct nx_engine *engine, uint64_t pc, unsigned properties)
{
	enum nx_track_verdict verdict =
	    nx_tracker_note(&engine->tracker, pc, NULL, 0, properties, engine->stay.time);

	engine->stay.forced = verdict == NX_TRACK_FORCE;
	/* The tracker may have evicted an exit whose cluster still exists. */
	if (engine->tracker.fresh && nx_cache_has_entry_near(engine, pc))
		return nx_tracker_remember(&engine->tracker, pc, NULL, 0);
	return verdict != NX_TRACK_COLD;
}

/* Return whether the cost model allows a take-over at the exit at pc. */
static bool open_stay(struct nx_engine *engine, uint64_t pc)
{
	/* A cluster that was made for another exit may have an entry here, too. */
	if (nx_cost_waits(engine, pc) && !nx_cache_has_entry_near(engine, pc))
		return false;
	return nx_waste_open(engine, pc) && nx_cost_open(engine, pc);
}

static enum nx_exit_kind kind_of(enum nx_exit_class class)
{
	return class == NX_CLASS_IO     ? NX_EXIT_IO
	       : class == NX_CLASS_MMIO ? NX_EXIT_MMIO
					: NX_EXIT_INSN;
}

bool nx_engine_worth_resuming(struct nx_engine *engine, uint64_t exit_rip, enum nx_exit_class class,
			      uint16_t port, uint64_t now)
{
	engine->pending.done = false;
	nx_cost_settle(engine);
	nx_waste_settle(engine);
	engine->context.slide = nx_slide_note(&engine->slides, exit_rip);
	exit_rip -= engine->context.slide;
	engine->stay.class = class;
	engine->stay.time = now;
	engine->stay.hot_rip = exit_rip;
	engine->stay.hot_port = port;
	engine->stay.hot =
	    note_exit(engine, exit_rip, 1u << kind_of(class)) && open_stay(engine, exit_rip);
	engine->stay.active = false;
	if (!engine->stay.hot)
		nx_alone_count(engine, exit_rip);
	return engine->stay.hot;
}

unsigned nx_engine_pass(struct nx_engine *engine, uint64_t exit_rip, unsigned most)
{
	unsigned times;

	exit_rip -= nx_slide_of(&engine->slides, exit_rip);
	times = nx_tracker_pass(&engine->tracker, exit_rip, NULL, 0, most);
	if (!times)
		times = nx_cost_pass(engine, exit_rip, most);
	if (!times)
		times = nx_waste_pass(engine, exit_rip, most);
	nx_alone_pass(engine, exit_rip, times);
	return times;
}

void nx_engine_not_resumed(struct nx_engine *engine)
{
	nx_cost_close(engine);
	nx_waste_close(engine);
	engine->stay.hot = false;
}

/* Note that no exit is in reach behind the one at pc. */
static void barren(struct nx_engine *engine, uint64_t pc, enum nx_status status)
{
	nx_tracker_barren(&engine->tracker, pc, NULL, 0);
	nx_alone_ended(engine, pc, status);
}

/* ---- Clusters ---- */

/*
 * Return whether the path may be open once the processor has run the instruction and had its page
 * mapped. With costs the place's account tells whether it pays to try again; without, a place and
 * a branch are each forgiven one such failure until they lead to an exit again. A page that the
 * processor never maps, such as one that KVM write-protects, would have them searched for ever.
 */
static bool needs_page(const struct nx_engine *engine, enum nx_status status)
{
	return !nx_cost_known(engine) &&
	       (status == NX_LEAVE_PAGE_FAULT || status == NX_LEAVE_CODE_UNREADABLE ||
		status == NX_LEAVE_HOST_PAGE);
}

/* Return whether the place's search is to be made again at the next exit for that reason. */
static bool place_is_excused(struct nx_engine *engine, uint64_t pc, enum nx_status status)
{
	return needs_page(engine, status) && nx_tracker_excuse(&engine->tracker, pc, NULL, 0);
}

/*
 * Return whether a failed trace says nothing about the path: it was cut off, and the next one gets
 * farther with the blocks that this one made, or the host refused a session.
 */
static bool was_cut_off(const struct nx_engine *engine, enum nx_status status,
			uint64_t blocks_before)
{
	return status == NX_LEAVE_SESSION ||
	       (nx_status_is_pause(status) && engine->counters.blocks != blocks_before);
}

/* Form the cluster for the state's rip now if the exit there is hot. */
static struct nx_cluster *form_cluster(struct nx_engine *engine, bool hot, uint32_t *offset,
				       enum nx_status *status)
{
	struct nx_cluster *cluster;
	uint64_t pc = engine->state.rip;

	if (hot) {
		/* A barren formation is noted for the exit that the host asked about. */
		pc = engine->stay.hot_rip;
	} else if (!note_exit(engine, pc, 0) || nx_cost_waits(engine, pc)) {
		nx_alone_count(engine, pc);
		*status = NX_LEAVE_COLD;
		return NULL;
	}
	if (engine->stay.cut_rip == engine->state.rip && !nx_make_is_busy(engine)) {
		engine->stay.barren_pc = pc;
		*status = NX_LEAVE_NO_CLUSTER;
		return NULL;
	}
	cluster = nx_make_cluster(engine, engine->state.rip, pc, false, status);
	if (!cluster) {
		if (*status == NX_LEAVE_NO_CLUSTER)
			engine->stay.barren_pc = pc;
		else if (*status != NX_LEAVE_COLD && !nx_status_is_pause(*status) &&
			 !place_is_excused(engine, pc, *status))
			barren(engine, pc, *status);
		return NULL;
	}
	*offset = cluster->entry[0].offset;
	for (unsigned i = 0; i < cluster->entries; i++)
		if (cluster->entry[i].rip == engine->state.rip)
			*offset = cluster->entry[i].offset;
	return cluster;
}

/* Return the cluster with an entry at the state's rip, and form it now if the exit is hot. */
static struct nx_cluster *find_cluster(struct nx_engine *engine, uint32_t *offset,
				       enum nx_status *status)
{
	struct nx_cluster *cluster = engine->pending.cluster;
	bool hot = engine->stay.hot;

	/* The code after the exit that has just been completed; an entry's rip alone may be shared.
	 */
	engine->pending.cluster = NULL;
	*offset = engine->pending.offset;
	if (!cluster || engine->state.rip != engine->pending.site->next ||
	    !nx_cluster_is_current(engine, cluster))
		cluster = nx_cache_find(engine, &engine->cache, engine->state.rip, offset);
	engine->stay.hot = false;
	return cluster ? cluster : form_cluster(engine, hot, offset, status);
}

/* Run the guest on in a trace, since no exit is in static reach; the trace may find a path. */
static NX_NOINLINE enum nx_outcome trace_on(struct nx_engine *engine, struct nx_exit *exit)
{
	uint64_t rip = engine->state.rip, blocks = engine->counters.blocks;
	enum nx_outcome outcome;
	enum nx_status status = NX_LEAVE_NO_CLUSTER;
	bool follows = engine->config.level >= NX_LEVEL_PATHS;
	bool at_once = engine->stay.cut_rip == rip;

	engine->stay.cut_rip = 0;
	if (follows && !nx_cost_ripe(engine, engine->stay.barren_pc, NX_MAKE_TRACE, 1))
		return nx_run_leave(engine, exit, NX_LEAVE_COLD);
	if (!follows || !nx_trace(engine, NULL, NX_MAKE_TRACE, &status)) {
		/* The time may have gone by while nothing was formed: the next trace has it all. */
		if (was_cut_off(engine, status, blocks) ||
		    place_is_excused(engine, engine->stay.barren_pc, status) ||
		    (nx_status_is_pause(status) && !at_once)) {
			engine->stay.cut_rip = rip;
			return nx_run_leave(engine, exit, status);
		}
		engine->counters.barren++;
		barren(engine, engine->stay.barren_pc, status);
		return nx_run_leave(engine, exit, status);
	}
	nx_tracker_fruitful(&engine->tracker, engine->stay.barren_pc, NULL, 0);
	outcome = nx_run_end_at_site(engine, exit);
	if (!nx_make_cluster(engine, rip, engine->stay.barren_pc, true, &status) &&
	    !nx_status_is_pause(status) &&
	    !place_is_excused(engine, engine->stay.barren_pc, status)) {
		engine->counters.barren++;
		barren(engine, engine->stay.barren_pc, status);
	}
	return outcome;
}

/* What to do after a side exit at a branch. */
enum growth {
	GROWTH_NONE,   /* leave */
	GROWTH_TRACE,  /* trace on from here: does an exit follow? */
	GROWTH_FOLLOW, /* it does: run the known path block by block, cheaper than leaving */
	GROWTH_KNOWN,  /* it does, and leaving is cheaper */
};

static enum growth choose_growth(struct nx_engine *engine, const struct nx_site *left)
{
	uint64_t to = left->reason == NX_LEAVE_GUARD ? engine->context.temp[0] : left->rip;
	bool leads;

	if (engine->config.level < NX_LEVEL_PATHS || !left->from)
		return GROWTH_NONE;
	leads = nx_paths_leads(&engine->paths, left->from, to);
	if (nx_cost_known(engine) && leads)
		return nx_cost_follow(engine) ? GROWTH_FOLLOW : GROWTH_KNOWN;
	if (!nx_make_is_busy(engine) &&
	    nx_paths_leave(&engine->paths, left->from, nx_cost_first_leaves(engine)))
		return GROWTH_TRACE;
	return leads ? GROWTH_FOLLOW : GROWTH_NONE;
}

/* Trace on from a side exit; return whether the trace has met an exit. */
static bool trace_from(struct nx_engine *engine, const struct nx_site *left, enum growth growth,
		       enum nx_status *status)
{
	uint64_t blocks = engine->counters.blocks;
	bool known = growth == GROWTH_FOLLOW;
	bool found = nx_trace(engine, left, known ? NX_MAKE_STEPS : NX_MAKE_TRACE, status);

	engine->counters.followed += known;
	/* A known path is news only if it has failed; a trace that was cut off says nothing. */
	if (found && known)
		nx_paths_fruitful(&engine->paths, left->from);
	else if (found)
		nx_paths_traced(&engine->paths, left->from, true);
	else if (!was_cut_off(engine, *status, blocks) &&
		 !(needs_page(engine, *status) && nx_paths_excuse(&engine->paths, left->from)))
		nx_paths_traced(&engine->paths, left->from, false);
	return found;
}

/*
 * Side exit at a branch. If a trace from here reaches an exit, record the path, and have the
 * cluster rebuilt with it once such side exits have cost as much as a rebuild. Return whether the
 * guest has run on.
 */
static NX_NOINLINE bool grow(struct nx_engine *engine, const struct nx_site *site,
			     enum nx_status *status)
{
	struct nx_cluster *cluster = engine->running;
	const struct nx_site left = *site;
	enum growth growth = choose_growth(engine, &left);

	if (growth == GROWTH_NONE)
		return false;
	if (growth != GROWTH_KNOWN && !trace_from(engine, &left, growth, status))
		return true;
	if (left.reason != NX_LEAVE_GUARD)
		nx_paths_note(&engine->paths, left.from, left.rip);
	if (nx_cost_outgrown(engine, cluster)) {
		cluster->state = NX_CLUSTER_OUTGROWN;
		engine->counters.grown++;
	}
	return growth != GROWTH_KNOWN;
}

static NX_NOINLINE enum nx_outcome end_at_branch(struct nx_engine *engine, struct nx_exit *exit,
						 const struct nx_site *site)
{
	enum nx_status status = NX_OK;

	engine->state.rip = site->rip;
	if (grow(engine, site, &status) && status != NX_OK)
		return nx_run_leave(engine, exit, status);
	return nx_run_end_at_site(engine, exit);
}

/* After a translation has ended, perhaps follow it with a trace. */
static inline enum nx_outcome end_cluster(struct nx_engine *engine, struct nx_exit *exit)
{
	const struct nx_site *site = &engine->running->site[engine->context.site];

	if (site->kind == NX_SITE_LEAVE &&
	    (site->reason == NX_LEAVE_CLUSTER_END || site->reason == NX_LEAVE_GUARD))
		return end_at_branch(engine, exit, site);
	return nx_run_end_at_site(engine, exit);
}

/* Run on block by block, without a cluster. */
static NX_NOINLINE enum nx_outcome step_on(struct nx_engine *engine, struct nx_exit *exit,
					   enum nx_making making)
{
	enum nx_status status;

	engine->pending.cluster = NULL;
	return nx_trace(engine, NULL, making, &status) ? nx_run_end_at_site(engine, exit)
						       : nx_run_leave(engine, exit, status);
}

/* Compare the guest's code and run the cluster, in one session; NX_OK: it has run. */
static enum nx_status enter_cluster(struct nx_engine *engine, struct nx_cluster *cluster,
				    uint32_t offset)
{
	enum nx_status status = nx_session_begin(engine);

	if (status != NX_OK)
		return status;
	status = nx_code_check(engine, cluster, offset);
	if (status == NX_OK)
		nx_execute(engine, cluster, offset);
	nx_session_end(engine);
	return status;
}

/*
 * Return whether the stay goes on in the translation that ended with the last exit, right behind
 * it: the host has executed the exit's instruction and has changed nothing else that matters. The
 * cluster was current then, so its mode is the present one.
 */
static bool goes_on(struct nx_engine *engine)
{
	const struct nx_pending *pending = &engine->pending;

	return engine->stay.active && pending->done && pending->same_mode && pending->cluster &&
	       pending->cluster->state == NX_CLUSTER_VALID &&
	       engine->state.rip == pending->site->next && engine->mode.bits == 64 &&
	       nx_mode_flags_hold(engine);
}

/* Return OK, or the reason for leaving before anything is run. */
static enum nx_status must_leave(const struct nx_engine *engine)
{
	if (engine->stop)
		return NX_LEAVE_STOP;
	/* A stay's first resume always runs, so that a guest progresses on a slow machine, too.
	 */
	return engine->stay.exits && nx_stay_is_long(engine) ? NX_LEAVE_LATENCY : NX_OK;
}

static void prepare(struct nx_engine *engine, struct nx_exit *exit)
{
	engine->pending.done = false;
	exit->count = 1;
	exit->string = NULL;
	exit->to_memory = false;
	engine->context.idle_turns = nx_cost_idle_turns(engine);
	engine->string.elements = NX_STRING_ELEMENTS;
}

/* Leave, since the cluster could not be entered, or run on without it. */
static NX_NOINLINE enum nx_outcome not_entered(struct nx_engine *engine, struct nx_exit *exit,
					       struct nx_cluster *cluster, enum nx_status status)
{
	if (status == NX_LEAVE_CODE_CHANGED) {
		nx_cache_drop(engine, cluster);
		/* Elsewhere it is no mistake about a program. */
		if (engine->context.slide)
			nx_slide_changed(&engine->slides);
	}
	/* Blocks need no more than the pages that the guest comes to. */
	if (status == NX_LEAVE_CODE_UNREADABLE && engine->config.level >= NX_LEVEL_PATHS &&
	    nx_cost_follow(engine))
		return step_on(engine, exit, NX_MAKE_STEPS);
	return nx_run_leave(engine, exit, status);
}

/* Run the cluster, or leave before it. */
static enum nx_outcome run_cluster(struct nx_engine *engine, struct nx_exit *exit,
				   struct nx_cluster *cluster, uint32_t offset, bool first)
{
	enum nx_status status = enter_cluster(engine, cluster, offset);

	if (status != NX_OK)
		return not_entered(engine, exit, cluster, status);
	cluster->executions++;
	cluster->stays += first;
	engine->counters.enters++;
	return end_cluster(engine, exit);
}

/*
 * What exits at a program's address is none: it is known by its own addresses. Within a stay no
 * mode ends that slides, since the engine does not run what leads to the guest's kernel.
 */
static NX_NOINLINE enum nx_status stand_still(struct nx_engine *engine, bool first)
{
	if (!first)
		return NX_LEAVE_COLD;
	engine->state.rip += engine->context.slide;
	engine->stay.resume_rip += engine->context.slide;
	engine->stay.hot_rip += engine->context.slide;
	engine->context.slide = engine->slides.last = 0;
	return NX_OK;
}

static NX_NOINLINE enum nx_outcome find_and_run(struct nx_engine *engine, struct nx_exit *exit)
{
	bool same_mode = engine->stay.active && engine->pending.done && engine->pending.same_mode;
	struct nx_cluster *cluster;
	bool first = !engine->stay.active;
	uint32_t offset;
	enum nx_status status;

	/* In either way the host has said that the mode's segments are what they were. */
	engine->mode_known &= same_mode || engine->state.same_segments;
	engine->state.same_segments = false;
	switch (nx_run_complete_exit(engine, exit)) {
	case NX_COMPLETION_EXIT:
		return NX_EXIT;
	case NX_COMPLETION_REFUSED:
		return NX_REFUSED;
	case NX_COMPLETION_NONE:
		if (engine->pending.done)
			break;
		engine->pending.cluster = NULL;
		nx_guest_forget(engine);
		break;
	case NX_COMPLETION_DONE:
		break;
	}
	prepare(engine, exit);
	if (first)
		nx_stay_begin(engine);
	status = must_leave(engine);
	if (status == NX_OK)
		status = nx_mode_load(engine);
	if (status == NX_OK && engine->context.slide && !nx_mode_slides(&engine->mode))
		status = stand_still(engine, first);
	if (status != NX_OK)
		return nx_run_leave(engine, exit, status);
	if (engine->config.experiment.uncached)
		return step_on(engine, exit, NX_MAKE_TRACE);
	cluster = find_cluster(engine, &offset, &status);
	if (!cluster && status == NX_LEAVE_NO_CLUSTER)
		return trace_on(engine, exit);
	if (!cluster)
		return nx_run_leave(engine, exit, status);
	return run_cluster(engine, exit, cluster, offset, first);
}

static enum nx_outcome resume(struct nx_engine *engine, struct nx_exit *exit)
{
	struct nx_cluster *cluster = engine->pending.cluster;
	enum nx_status status;

	engine->counters.resumes++;
	if (!goes_on(engine))
		return find_and_run(engine, exit);
	prepare(engine, exit);
	status = must_leave(engine);
	if (status != NX_OK)
		return nx_run_leave(engine, exit, status);
	engine->pending.cluster = NULL;
	engine->stay.hot = false;
	return run_cluster(engine, exit, cluster, engine->pending.offset, false);
}

/* A stay whose resumes are timed represents others at its place (cost.c). */
static NX_NOINLINE enum nx_outcome timed_resume(struct nx_engine *engine, struct nx_exit *exit)
{
	uint64_t began = engine->host->now(engine->host_data), made = engine->accounts.made;
	enum nx_outcome outcome = resume(engine, exit);

	nx_cost_spent(engine, engine->host->now(engine->host_data) - began -
				  (engine->accounts.made - made));
	return outcome;
}

enum nx_outcome nx_engine_resume(struct nx_engine *engine, struct nx_exit *exit)
{
	enum nx_outcome outcome;

	engine->accounts.resumes++;
	engine->accounts.built = false;
	/* In here, rip is where the code was met first; the host's is where it is. */
	engine->state.rip -= engine->context.slide;
	outcome = engine->accounts.timed ? timed_resume(engine, exit) : resume(engine, exit);
	engine->state.rip += engine->context.slide;
	exit->built = engine->accounts.built;
	return outcome;
}

const char *nx_leave_reason_name(enum nx_status reason)
{
	switch (reason) {
#define NX_X(name, text)      \
	case NX_LEAVE_##name: \
		return #name;
		NX_LEAVE_REASONS(NX_X)
#undef NX_X
	default:
		return "?";
	}
}

const char *nx_leave_reason_text(enum nx_status reason)
{
	switch (reason) {
#define NX_X(name, text)      \
	case NX_LEAVE_##name: \
		return text;
		NX_LEAVE_REASONS(NX_X)
#undef NX_X
	default:
		return "?";
	}
}
