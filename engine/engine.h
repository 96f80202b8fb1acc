/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * engine.h - one vCPU's engine: everything it owns, laid out in the arena.
 */
#ifndef NX_ENGINE_H
#define NX_ENGINE_H

#include "internal.h"

#define NX_MAX_CLUSTERS 1024
/* Of repeated string instructions from one exit to the next: some microseconds. */
#define NX_STRING_ELEMENTS 4096
#define NX_MAX_LOAD 8 /* bytes of one operand that is loaded and not stored */
#define NX_FORM_SCRATCH_SIZE (160u * 1024)
#define NX_TRANSLATE_SCRATCH_SIZE (64u * 1024)
#define NX_SNIPPETS 17
#define NX_ENTRY_BUCKETS 4096         /* a power of 2; filled to three quarters at most */
#define NX_STORE_BYTES (1024u * 1024) /* sites, entries and guest bytes of all clusters */

/* Blocks that one trace may run through: some hundred instructions. */
#define NX_TRACE_STEPS 128

/* A translated cluster. Immutable from translation to the next flush, but for the counters. */
struct nx_cluster {
	uint64_t rip, cs_base;
	uint32_t cs_limit;
	struct nx_mode mode;
	bool dropped; /* stale: never found again, its memory comes back with the next flush */
	/* Dropped for a way that is not in it; the graph was this; forming anew gave the same. */
	bool outgrown;
	uint64_t shape;
	uint8_t futile;
	uint64_t lost; /* nanoseconds, since it was left at ways that are known but not in it */
	uint16_t insns, exiting, blocks, fragments, sites, entries;
	uint32_t code, code_size; /* offset in the code cache */
	struct nx_fragment *fragment;
	struct nx_cluster_block *block;
	struct nx_context_call *context; /* contexts of them */
	uint16_t contexts;
	uint8_t *bytes; /* of the fragments, one after the other */
	struct nx_site *site;
	struct nx_entry *entry;
	const struct nx_insn *last; /* of a trace's block: what decides where control goes on */
	uint64_t executions, exits;
	uint64_t stays, exits_mmio, exits_insn, made_ns; /* as nx_cluster_info has them */
};

struct nx_cache {
	uint32_t code_begin, code_end, code_used; /* offsets in the code memory */
	struct nx_cluster cluster[NX_MAX_CLUSTERS];
	uint32_t clusters;
	/* Open hash of entry points: cluster + 1 (0: free) and its entry's index. */
	struct nx_bucket {
		uint16_t cluster, entry;
	} bucket[NX_ENTRY_BUCKETS];
	uint32_t entries;
	uint8_t store[NX_STORE_BYTES] __attribute__((aligned(8)));
	uint32_t store_used;
};

/* An encoded sequence, see snippet.c. */
struct nx_snippet {
	uint8_t len, patch;
	uint8_t range; /* RANGE: where the bytes' number less 1 is */
	uint8_t bytes[61];
};

enum nx_pending_kind {
	NX_PENDING_NONE,
	NX_PENDING_IO,
	NX_PENDING_MMIO,
	NX_PENDING_INSN,
	NX_PENDING_STRING,       /* elements of a string instruction: nx_string_pending */
	NX_PENDING_STRING_COPY,  /* the load of one that goes from device to device */
	NX_PENDING_BOUNCE_READ,  /* device.c: the instruction runs on the device's answer */
	NX_PENDING_BOUNCE_WRITE, /* it has run: what it wrote goes to the device */
};

/* What remains to be done of a string instruction's elements when the device has answered. */
struct nx_string_pending {
	uint32_t count;
	uint8_t size, address_bytes;
	bool repeated;            /* counts down rCX */
	bool source, destination; /* rSI, rDI move on */
	bool backwards;
	enum { NX_INPUT_NONE, NX_INPUT_MEMORY, NX_INPUT_RAX, NX_INPUT_DEVICE } input;
	uint64_t gpa;        /* MEMORY, DEVICE: where the input goes, within one page */
	enum nx_route route; /* DEVICE: of the store */
};

/* device.c: the translation of one instruction with a device operand; len 0: none. */
#define NX_SINGLES 64
#define NX_SINGLE_WAYS 4
#define NX_SINGLE_CODE 512u /* bytes of host code, at most */
#define NX_SINGLE_SITES 4

struct nx_single {
	struct nx_mode mode;
	uint64_t rip;
	uint8_t len, bytes[15];
	uint8_t size; /* bytes of the operand */
	bool reads, writes;
	uint16_t sites;
	uint32_t entry; /* offset in its code */
	struct nx_site site[NX_SINGLE_SITES];
};

#define NX_ACCOUNTS 1024

/* Of an exiting instruction that stays begin at: cost.c. */
struct nx_account {
	uint64_t pc;
	int64_t saved; /* nanoseconds net of the engine's, by the stays since the last decision */
	uint64_t owed; /* what was made for stays that began here and has not come back yet */
	uint64_t made; /* of it, since the last decision */
	uint32_t each; /* nanoseconds of a resume in its stays, a median; 0: not measured */
	uint8_t each_seen;  /* measurements, up to what makes no difference */
	uint8_t founded;    /* stays that made something and were no trial for that */
	bool invested;      /* a decision has been made: what is made from now on has to pay soon */
	uint32_t declined;  /* exits still to be left alone */
	uint32_t exits;     /* since something was made for them */
	uint32_t waits_for; /* so much to be made; 0: nothing is waited for */
	uint8_t making;     /* of what */
	uint8_t stays;
	uint8_t losses; /* decisions against it in a row */
	uint8_t class;  /* enum nx_exit_class: of the exits there */
};

/* A cluster that is being made: make.c. */
struct nx_maker {
	enum { NX_MAKER_IDLE, NX_MAKER_FORMS, NX_MAKER_TRANSLATES, NX_MAKER_VERIFIES } stage;
	uint64_t rip, cs_base; /* the mode is the graph's */
	uint32_t cs_limit;
	bool earned; /* exits have cost enough for it */
	uint64_t spent_ns;
	unsigned others; /* that wanted to make something, since this one was gone on with */
};

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

#endif
