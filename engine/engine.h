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

#define NX_MAX_LOAD 8 /* bytes of one operand that is loaded and not stored */

struct nx_engine {
	struct nx_context context; /* first: r15 in emitted code points to the vCPU */
	struct nx_state state;
	volatile int stop;

	struct nx_memory memory;
	const struct nx_host *host;
	void *host_data;
	struct nx_config config;
	struct nx_counters counters;

	/* Of the current resume. */
	struct nx_mode mode;
	struct nx_cluster *running;
	uint8_t cpl;
	/* Host pages that the code of this stay's clusters lies on: stores to them leave. */
	void *code_page[NX_MAX_CODE_PAGES];
	uint64_t code_linear[NX_MAX_CODE_PAGES]; /* where each is mapped */
	unsigned code_pages;
	/* What emitted code asked for and the miss handler or a helper decided. */
	enum nx_status stop_reason;
	bool
	    stop_is_mmio; /* stop_reason aside: the access at the site is a device's, at stop_gpa */
	uint64_t stop_gpa;
	bool stop_traced; /* and it is on a page that the host traces */
	/* stop_reason is NX_STOP_EXIT: a helper has an exit to deliver. */
	struct nx_exit stop_exit;
	bool hot; /* the host was told that resuming here is worth it: translate at once */
	uint64_t hot_rip;
	bool forced;         /* and only because the tracker leaks */
	uint64_t barren_pc;  /* whom to note a barren formation for */
	uint64_t stay_exits; /* exits delivered since the last one of the hardware's */
	uint64_t stay_began; /* time of the first resume since then, if latency_ns is set */
	bool in_stay;
	bool in_session;  /* between the host's guest_enter() and guest_leave() */
	bool resume_flag; /* RF was set when the stay began, here: */
	uint64_t resume_rip;
	uint64_t stay_instructions;
	/* cost.c: what the exits of a stay are worth. The stay at hot_rip is open until the next.
	 */
	struct nx_costs costs;
	enum nx_exit_class class; /* of the exit that the guest met last */
	bool stay_open, stay_timed;
	uint64_t stay_saved;   /* by the exits delivered in it */
	uint64_t stay_made;    /* nanoseconds that making something took in it */
	uint64_t stay_lost;    /* by the host's client, with exits that the hardware has not */
	uint64_t stay_spent;   /* if timed: nanoseconds in resumes, without that */
	uint32_t stay_resumes; /* that it had */
	enum nx_route routed;  /* what the host said of the exit that is about to be delivered */
	struct nx_account account[NX_ACCOUNTS];
	uint64_t making_ns[NX_MAKINGS];  /* medians */
	uint8_t making_seen[NX_MAKINGS]; /* measurements, up to what makes no difference */

	/* An exit that the host owes us, with what completes it. */
	enum nx_pending_kind pending;
	struct nx_site pending_site;
	bool pending_flushes; /* nx_exit_flushes() */
	bool exit_done;       /* the host has executed it: nx_engine_exit_done() */
	struct nx_string_pending string_pending;
	unsigned elements; /* that string instructions may still do in this resume */
	uint8_t string[NX_STRING_BYTES];
	/* device.c: a device operand on loan to an instruction, at its linear address. */
	bool bounce_active;
	uint64_t bounce, bounce_linear, bounce_gpa;
	uint8_t across[NX_MAX_LOAD]; /* memory.c: what a load finds on two pages */
	const struct nx_single *bounced;
	struct nx_cluster bouncing; /* what runs then */
	struct nx_single single[NX_SINGLES];
	uint32_t single_code; /* offset of their code, in the order of the table */
	unsigned singles, single_turn;
	/* trace.c: the ways that the present trace has taken. */
	struct {
		uint64_t from, to;
	} trace_edge[NX_TRACE_STEPS];
	unsigned trace_edges;
	struct nx_contexts trace_contexts;
	uint16_t trace_context;
	uint64_t trace_via;
	/* The code after the exit that was delivered last; cluster NULL: to be looked up. */
	struct nx_cluster *resume_cluster;
	uint32_t resume_offset;

	/* TLB entries in use, so that a flush costs what was used. */
	uint8_t tlb_used[NX_TLB_ENTRIES];
	unsigned tlb_used_count;
	/* ioperm.c: where this stay found the task's segment and its bitmap. */
	struct nx_io_page {
		uint64_t linear; /* of the page; host NULL: unknown */
		const uint8_t *host;
	} io_page[2];

	struct nx_tracker tracker;
	struct nx_paths paths;
	struct nx_cache cache;  /* clusters */
	struct nx_cache blocks; /* single blocks that traces consist of */
	/* Scratch of the translation pipeline. What was emitted is no code until it is verified. */
	uint64_t form_scratch[NX_FORM_SCRATCH_SIZE / 8];
	uint8_t emitted[NX_VERIFY_MAX_BYTES];
	uint64_t translate_scratch[NX_TRANSLATE_SCRATCH_SIZE / 8];
	struct nx_snippet snippet[NX_SNIPPETS];
	struct nx_maker maker;
	struct nx_graph graph;
	struct nx_translation translation;
	struct nx_verify_scratch verify;
};

/* Begin a session (nx_host.guest_enter): NX_OK, or NX_LEAVE_SESSION where the host refuses. */
static inline enum nx_status nx_session_begin(struct nx_engine *engine)
{
	return engine->host->guest_enter ? nx_session_open(engine) : NX_OK;
}

/* End the session, if one is open, and forget every pointer into guest memory. */
static inline void nx_session_end(struct nx_engine *engine)
{
	if (engine->in_session)
		nx_session_close(engine);
}

/* The linear address of guest code. */
static inline uint64_t nx_code_linear(const struct nx_engine *engine, uint64_t rip)
{
	uint64_t linear = engine->state.seg[NX_CS].base + rip;

	return engine->mode.bits == 64 ? rip : (uint32_t)linear;
}

#endif
