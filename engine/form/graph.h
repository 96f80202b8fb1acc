/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * graph.h - what formation works on and hands to translation: observed paths and a cluster's graph.
 * Part of internal.h, which includes it where its types are known.
 */
#ifndef NX_GRAPH_H
#define NX_GRAPH_H

/* ---- paths.c ---- */

/* One step of a hash. */
static inline uint64_t nx_mix(uint64_t a, uint64_t b)
{
	a = (a ^ (b << 23 | b >> 41)) * 0x9e3779b97f4a7c15ull;
	return a ^ a >> 29;
}

#define NX_MAX_TARGETS 4 /* of one indirect branch */

/*
 * The calls that a path has made and not returned from, innermost first: a list by index; 0 is the
 * outermost, whatever it is. Small functions that everybody calls (accessors, return thunks) are
 * told apart by it, as if they were inlined.
 */
#define NX_MAX_CONTEXTS 64

struct nx_context_call {
	uint64_t back; /* where the call returns to */
	uint64_t hash; /* of this and all outer ones */
	uint16_t outer;
};

struct nx_contexts {
	struct nx_context_call call[NX_MAX_CONTEXTS];
	uint16_t count; /* with the outermost, which is never looked at */
};

/* The context after a call that returns to back; the same one when there is no room. */
uint16_t nx_context_push(struct nx_contexts *contexts, uint16_t context, uint64_t back);
/* The context after a return. */
uint16_t nx_context_pop(const struct nx_contexts *contexts, uint16_t context);
static inline uint64_t nx_context_hash(const struct nx_contexts *contexts, uint16_t context)
{
	return context ? contexts->call[context].hash : 0;
}
/*
 * A branch's name: its rip, the calls around it, and the jump that led straight to it (0: none),
 * which tells the users of a shared return instruction apart.
 */
uint64_t nx_path_name(uint64_t rip, uint64_t context_hash, uint64_t via);

/*
 * Observed control flow: for branches, by name, which ways they went on paths that led from one
 * exit to the next. Lossy: an old branch gives way to a new one.
 */
#define NX_PATH_SLOTS 1024
#define NX_PATH_PROBES 8

struct nx_path {
	uint64_t from; /* the branch's name */
	uint64_t to[NX_MAX_TARGETS];
	uint8_t targets;
	uint16_t leaves; /* how often clusters were left here since the last trace */
	uint8_t traces;  /* made from here: each doubles the leaves to wait for */
	bool failed;     /* the latest one met no exit */
};

struct nx_paths {
	struct nx_path slot[NX_PATH_SLOTS];
	unsigned victim;
};

void nx_paths_note(struct nx_paths *paths, uint64_t from, uint64_t to);
bool nx_paths_seen(const struct nx_paths *paths, uint64_t from, uint64_t to);
/* Copies the targets seen; returns how many. */
unsigned nx_paths_targets(const struct nx_paths *paths, uint64_t from, uint64_t *to);
/* A cluster was left at this branch, the first time after so many: time to trace on from there? */
bool nx_paths_leave(struct nx_paths *paths, uint64_t from, unsigned first);
/* found: the trace met an exit. */
void nx_paths_traced(struct nx_paths *paths, uint64_t from, bool found);
/* The way was seen, and following it from here has not failed lately. */
bool nx_paths_leads(const struct nx_paths *paths, uint64_t from, uint64_t to);

/* ---- form.c ---- */

#define NX_MAX_INSNS 640
#define NX_MAX_BLOCKS 256
#define NX_MAX_FRAGMENTS 96
#define NX_MAX_CODE_PAGES 24
#define NX_CLUSTER_BYTES 4096 /* guest code bytes of one cluster */
#define NX_NOWHERE 0xffff
#define NX_WEAK_TURNS 10 /* per stay in the engine; the paper's figure */
#define NX_IDLE_TURNS 256

/* A contiguous stretch of guest code that the cluster was made from. Within one page. */
struct nx_fragment {
	uint64_t rip;
	uint16_t len;
	uint16_t bytes; /* offset of the copy in the cluster's bytes */
};

/* Where control goes after an instruction that decides about it. */
enum nx_edge {
	NX_EDGE_NEXT,   /* falling through, also after an exit */
	NX_EDGE_TAKEN,  /* a direct branch or call */
	NX_EDGE_TARGET, /* and the ones behind it: observed targets of an indirect one */
	NX_EDGES = NX_EDGE_TARGET + NX_MAX_TARGETS,
};

/*
 * A block: instructions first..first+count-1 of the graph, entered at the first only. The last
 * one's edges lead to blocks, or NX_NOWHERE: leave there.
 */
struct nx_block {
	uint16_t first, count;
	bool entry; /* begins after an exiting instruction, or where formation began */
	uint8_t targets;
	uint16_t edge[NX_EDGES];
	uint8_t counted[NX_EDGES];       /* enum nx_edge_limit */
	uint64_t target[NX_MAX_TARGETS]; /* guest rip of each */
};

_Static_assert(NX_EDGES == NX_CLUSTER_EDGES && NX_NOWHERE == NX_CLUSTER_NOWHERE,
	       "noexit.h counts them too");

struct nx_graph {
	struct nx_mode mode;
	uint64_t rip; /* where formation began */
	uint16_t insns, blocks, fragments;
	uint16_t exiting; /* exiting instructions, weak ones included */
	uint16_t byte_count;
	uint8_t bytes[NX_CLUSTER_BYTES]; /* of the fragments, one after the other */
	struct nx_insn insn[NX_MAX_INSNS];
	struct nx_block block[NX_MAX_BLOCKS];
	struct nx_fragment fragment[NX_MAX_FRAGMENTS];
	struct nx_contexts contexts;
};

/*
 * Forms the cluster that begins at rip, a step after the other: DONE: it is in *graph; FAILED: no
 * exiting instruction is in reach. Guest memory and its mapping may change between two steps; what
 * came of both is found out where the cluster is entered (consistency.c).
 */
void nx_form_begin(struct nx_engine *engine, const struct nx_mode *mode, uint64_t rip,
		   struct nx_graph *graph);
enum nx_progress nx_form_step(struct nx_engine *engine, struct nx_graph *graph);
/*
 * For tracing: one block from rip up to and with the first exiting instruction or decision about
 * control, all of whose edges leave. false: the first instruction is none that we run.
 */
bool nx_form_block(struct nx_engine *engine, const struct nx_mode *mode, uint64_t rip,
		   struct nx_graph *graph);

#endif
