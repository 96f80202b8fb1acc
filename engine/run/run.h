/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * run.h - nx_engine_resume() and what it does by itself: execute.c and enter.S (run a translation),
 * callback.c (what that calls), exits.c, complete.c and device.c (exits), trace.c (paths to the
 * next exit).
 */
#ifndef NX_RUN_H
#define NX_RUN_H

#include "cluster/cluster.h"
#include "context.h"
#include "form/paths.h"
#include "insn/insn.h"
#include "policy/policy.h"
#include "translate/site.h"

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

/* An exit whose emulation the host owes, and the way in which it is completed. */
struct nx_pending {
	enum nx_pending_kind kind;
	/* Where it is: in its cluster, which outlives it even if it is dropped, or kept here. */
	const struct nx_site *site;
	struct nx_site kept;
	bool done;      /* the host has executed it: nx_engine_exit_done() */
	bool same_mode; /* and it has changed nothing that nx_mode_load() looks at but rflags */
	/* The code after the exit that was delivered last; it is looked up if cluster is NULL. */
	struct nx_cluster *cluster;
	uint32_t offset;
};

/* The request of emitted code at its last site, as the miss handler or a helper has decided it. */
struct nx_stopped {
	enum nx_status reason;
	bool is_mmio; /* reason aside: the access at the site is a device's, at gpa */
	uint64_t gpa;
	bool traced; /* and it is on a page that the host traces */
	/* reason is NX_STOP_EXIT: a helper has an exit to deliver. */
	struct nx_exit exit;
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

/* The table of callbacks. */
struct nx_singles {
	struct nx_single single[NX_SINGLES];
	uint32_t code; /* offset of their code, in the order of the table */
	unsigned count, turn;
};

/* device.c: a device operand on loan to an instruction, at its linear address. */
struct nx_bounce {
	bool active;
	uint64_t data, linear, gpa;
	const struct nx_single *single;
	struct nx_cluster cluster; /* what runs then */
};

/* Blocks that one trace may run through: some hundred instructions. */
#define NX_TRACE_STEPS 128

/* trace.c: the edges that the present trace has taken. */
struct nx_trace_state {
	struct {
		uint64_t from, to;
	} edge[NX_TRACE_STEPS];
	unsigned edges;
	struct nx_contexts contexts;
	uint16_t context;
	uint64_t via;
};

/* ---- execute.c, enter.S, and what it calls ---- */

/* Run the cluster's code from an offset; the state is up to date before and after. */
void nx_execute(struct nx_engine *engine, struct nx_cluster *cluster, uint32_t offset);
/* Run emitted code until it stores a site and exits; the site is in the context then. */
void nx_enter(struct nx_context *context, const void *code);
void nx_thunk_exit(void);
void nx_thunk_miss(void);
void nx_thunk_helper(void);
/* callback.c: the pointer for the access at the context's site; NULL: stopped.reason says why not.
 */
void *nx_runtime_miss(struct nx_context *context);
/* Run the instruction at the context's site; return false to stop before it. */
bool nx_runtime_helper(struct nx_context *context);

/* ---- exits.c ---- */

/* Do nx_engine_complete_exit(), the state's rip being that of the translations (slide.c). */
enum nx_completion nx_run_complete_exit(struct nx_engine *engine, struct nx_exit *exit);
/* End the stay before the instruction at the state's rip, for a reason that *exit gets, too. */
enum nx_outcome nx_run_leave(struct nx_engine *engine, struct nx_exit *exit, enum nx_status reason);
/* Deliver the exit at the context's site, at which the running translation has ended, or leave. */
enum nx_outcome nx_run_end_at_site(struct nx_engine *engine, struct nx_exit *exit);

/* ---- complete.c ---- */

/* Describe the instruction exit at a site. */
void nx_exit_describe_insn(struct nx_engine *engine, const struct nx_site *site,
			   struct nx_exit *exit);
/* Return the value that a device store at the site would write. */
uint64_t nx_store_value(struct nx_engine *engine, const struct nx_site *site);
/* Finish a pending exit of the simple kinds with the host's data: set registers and rip. */
void nx_pending_finish(struct nx_engine *engine, uint64_t data);

/* ---- device.c ---- */

/* Begin a device access, at the site and stopped.gpa, by an instruction that is not a mere MOV.
 * Fill *exit and return its pending kind, or NX_PENDING_NONE to leave before it. */
unsigned nx_bounce_begin(struct nx_engine *engine, const struct nx_site *site,
			 struct nx_exit *exit);
/* Run the instruction after the device has answered; return whether *exit is now the write half. */
bool nx_bounce_finish_read(struct nx_engine *engine, struct nx_exit *exit);

/* ---- trace.c ---- */

/* Run the guest from the state's rip to its next exiting instruction and note the path. Return
 * true if the running translation stands at the site of the exit; otherwise *status says why
 * not, and the state is at an instruction boundary. */
bool nx_trace(struct nx_engine *engine, const struct nx_site *from, enum nx_making making,
	      enum nx_status *status);

#endif
