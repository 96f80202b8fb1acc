/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * engine.h - one vCPU's engine: everything it owns, laid out in the arena. It embeds what the
 * stages keep, so it includes their headers; those do not include it.
 */
#ifndef NX_ENGINE_H
#define NX_ENGINE_H

#include "cluster/cluster.h"
#include "context.h"
#include "form/graph.h"
#include "guest/guest.h"
#include "helper/string_exit.h"
#include "policy/policy.h"
#include "run/run.h"
#include "translate/translate.h"
#include "verify/verify.h"

/*
 * The guest's registers are the end of the state and the beginning of the context, so that nothing
 * is copied before and after a translation.
 */
#define NX_BEFORE_GPR offsetof(struct nx_state, gpr)
_Static_assert(NX_BEFORE_GPR + sizeof(((struct nx_state *)0)->gpr) == sizeof(struct nx_state),
	       "gpr is not the last member");
_Static_assert(NX_CTX_GPR == 0, "gpr is not the first slot");

struct nx_engine {
	uint8_t pad[63 - (NX_BEFORE_GPR + 63) % 64]; /* the context begins at a cache line */
	union {
		struct nx_state state;
		struct {
			uint8_t before[NX_BEFORE_GPR];
			struct nx_context context; /* r15 in emitted code points to it */
		};
	};
	volatile int stop;

	/* The host's callbacks, configuration and memory. */
	struct nx_memory memory;
	const struct nx_host *host;
	void *host_data;
	struct nx_config config;
	struct nx_costs costs; /* nx_engine_set_costs() */
	struct nx_counters counters;

	/* insn/ */
	struct nx_decode_cache decoded; /* the guest's instructions */

	/* guest/ */
	struct nx_mode mode;
	/* What it was loaded with. */
	uint64_t mode_rflags, mode_cr0, mode_cr4, mode_efer;
	bool mode_known; /* and with the state's segments; otherwise it has to be loaded again */
	uint8_t cpl;
	struct nx_guest guest;

	/* policy/ */
	struct nx_tracker tracker;
	struct nx_prices prices;
	struct nx_accounts accounts;
	struct nx_waste waste;
	struct nx_stay stay;
	struct nx_slides slides;
	struct nx_alone alone[NX_ALONE_PLACES];
	/* Of the last exit left alone at each: nx_cost_name() knows its port only then. */
	uint64_t alone_account[NX_ALONE_PLACES];

	/* run/ */
	struct nx_cluster *running;
	struct nx_stopped stopped;
	struct nx_pending pending;
	struct nx_bounce bounce;
	struct nx_singles singles;
	struct nx_trace_state trace;

	/* helper/ */
	struct nx_string string;

	/* cluster/ */
	struct nx_cache cache;  /* clusters */
	struct nx_cache blocks; /* single blocks that traces consist of */
	struct nx_maker maker;

	/* form/ */
	struct nx_paths paths;
	struct nx_graph graph;
	uint64_t form_scratch[NX_FORM_SCRATCH_SIZE / 8];

	/* translate/ What was emitted is no code until it is verified; direct branches make it code
	 * for one place only. */
	struct nx_thunks thunks;
	struct nx_snippet snippet[NX_SNIPPETS];
	struct nx_translation translation;
	uint64_t translate_scratch[NX_TRANSLATE_SCRATCH_SIZE / 8];
	uint8_t emitted[NX_VERIFY_MAX_BYTES];

	/* verify/ */
	struct nx_verify_scratch verify;
};

_Static_assert(offsetof(struct nx_engine, context) % 64 == 0, "the context's cache lines");
_Static_assert(offsetof(struct nx_engine, state.gpr) == offsetof(struct nx_engine, context.gpr),
	       "two sets of registers");

/* Return the engine of a context. */
static inline struct nx_engine *nx_engine_of(struct nx_context *context)
{
	return (struct nx_engine *)(void *)((uint8_t *)context -
					    offsetof(struct nx_engine, context));
}

/* Begin a session (nx_host.guest_enter): NX_OK, or NX_LEAVE_SESSION where the host refuses. */
static inline enum nx_status nx_session_begin(struct nx_engine *engine)
{
	enum nx_session session;

	if (!engine->host->guest_enter)
		return NX_OK;
	session = engine->host->guest_enter(engine->host_data);
	if (session != NX_SESSION_KEPT)
		return nx_session_forgets(engine, session);
	engine->guest.in_session = true;
	return NX_OK;
}

/* End the session, if one is open. Pointers into guest memory are of no use from here on. */
static inline void nx_session_end(struct nx_engine *engine)
{
	if (!engine->guest.in_session)
		return;
	engine->guest.in_session = false;
	engine->host->guest_leave(engine->host_data);
}

/* Return whether a walk may begin at the table: its upper entries have been read in this time. */
static inline bool nx_walk_table_holds(struct nx_engine *engine, struct nx_walk_table *row)
{
	if (row->pages != engine->guest.walk_pages)
		return false;
	if (row->time != engine->guest.walk_time) {
		if (!nx_walk_is_unchanged(engine, row))
			return false;
		row->time = engine->guest.walk_time;
	}
	return true;
}

/* The flags that the mode depends on. */
#define NX_MODE_FLAGS (NX_FL_TF | NX_FL_VM | NX_FL_AC | NX_FL_IOPL)

/*
 * Return whether the mode that was loaded last still holds, if nothing but the state's rflags and
 * general registers has changed. The context's rflags are then the state's: walks need AC.
 */
static inline bool nx_mode_flags_hold(struct nx_engine *engine)
{
	uint64_t rflags = engine->state.rflags;

	if ((rflags ^ engine->mode_rflags) & NX_MODE_FLAGS)
		return false;
	engine->context.rflags = rflags & ~(uint64_t)NX_FL_ARITHMETIC;
	return true;
}

/* Return how many turns of a loop without an exit take the time of an exit like the last one. */
static inline uint32_t nx_cost_idle_turns(const struct nx_engine *engine)
{
	return engine->prices.idle_turns[engine->stay.class];
}

/* Return whether clusters have run as many instructions as nx_experiment allows in one stay. */
static inline bool nx_stay_is_long(const struct nx_engine *engine)
{
	uint32_t most = engine->config.experiment.max_stay;

	return most && engine->stay.instructions > most;
}

/* Return the linear address of guest code. */
static inline uint64_t nx_code_linear(const struct nx_engine *engine, uint64_t rip)
{
	uint64_t linear = engine->state.seg[NX_CS].base + rip;

	return engine->mode.bits == 64 ? rip + engine->context.slide : (uint32_t)linear;
}

#endif
