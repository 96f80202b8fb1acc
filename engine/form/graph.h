/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* graph.h - the result of formation: the graph of a cluster. */
#ifndef NX_GRAPH_H
#define NX_GRAPH_H

#include "form/paths.h"
#include "insn/insn.h"

#define NX_MAX_INSNS 640
#define NX_MAX_BLOCKS 256
#define NX_MAX_FRAGMENTS 96
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

/* The edges of an instruction that decides where control goes. */
enum nx_edge {
	NX_EDGE_NEXT,   /* the fall-through, also after an exit */
	NX_EDGE_TAKEN,  /* a direct branch or call */
	NX_EDGE_TARGET, /* and those behind it: observed targets of an indirect branch */
	NX_EDGES = NX_EDGE_TARGET + NX_MAX_TARGETS,
};

/* A block: instructions first..first+count-1 of the graph, entered at the first only. The last
 * one's edges lead to blocks, or out of the cluster (NX_NOWHERE). */
struct nx_block {
	uint16_t first, count;
	bool entry; /* begins after an exiting instruction, or where formation began */
	uint8_t targets;
	uint16_t edge[NX_EDGES];
	uint8_t counted[NX_EDGES];       /* enum nx_edge_limit */
	uint64_t target[NX_MAX_TARGETS]; /* guest rip of each */
};

/* Return how many of a block's edges there may be, the others lead nowhere. */
static inline unsigned nx_block_edges(const struct nx_block *block)
{
	return NX_EDGE_TARGET + (unsigned)block->targets;
}

_Static_assert(NX_EDGES >= NX_CLUSTER_EDGES && NX_NOWHERE == NX_CLUSTER_NOWHERE,
	       "noexit.h has the first of them");

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

/* Form the cluster that begins at rip, step by step. DONE: it is in *graph. FAILED: no exiting
 * instruction is in reach. Guest memory and its mapping may change between two steps; the check
 * at the cluster's entry finds that (consistency.c). */
void nx_form_begin(struct nx_engine *engine, const struct nx_mode *mode, uint64_t rip,
		   struct nx_graph *graph);
enum nx_progress nx_form_step(struct nx_engine *engine, struct nx_graph *graph);
/* Form one block for tracing, from rip up to and including the first exiting instruction or
 * branch, whose edges all leave. Return false if the engine does not run the first instruction. */
bool nx_form_block(struct nx_engine *engine, const struct nx_mode *mode, uint64_t rip,
		   struct nx_graph *graph);

#define NX_FORM_SCRATCH_SIZE (216u * 1024)

#endif
