/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* former.h - what form.c hands to graph.c; private to form/. */
#ifndef NX_FORMER_H
#define NX_FORMER_H

#include "engine.h"

/* An instruction while the graph grows. Edges are node numbers. */
struct nx_node {
	struct nx_insn insn;
	uint16_t gap;      /* instructions since the last exiting one, on the shortest path */
	uint16_t accesses; /* memory accesses likewise */
	uint16_t edge[NX_EDGES];
	uint16_t block;
	uint8_t counted[NX_EDGES]; /* enum nx_edge_limit */
	uint8_t targets;
	uint8_t mark; /* find_backedges(): 0 new, 1 on the path, 2 done */
	bool on_path, keep, leader, entry;
	uint64_t target[NX_MAX_TARGETS];
};

#define NX_FORM_HASH 2048
#define NX_FORM_QUEUE (NX_MAX_INSNS * 4)

struct nx_form_scratch {
	struct nx_node node[NX_MAX_INSNS];
	uint16_t hash[NX_FORM_HASH]; /* node + 1 by rip */
	uint16_t order[NX_MAX_INSNS];
	uint16_t queue[NX_FORM_QUEUE];
	struct nx_contexts contexts;
	struct nx_insn peek;
	unsigned nodes, limit, head, tail;
	bool begun;           /* the entry's node is there */
	uint64_t code_linear; /* page that code points to, or 1 */
	const uint8_t *code;
};

/* The instructions of one block of a trace. */
#define NX_TRACE_BLOCK 64

bool nx_graph_make(const struct nx_engine *engine, struct nx_form_scratch *s,
		   struct nx_graph *graph);
/* Add an instruction's bytes to the fragments, which are contiguous stretches within pages. They
 * come in the order of their rip. Return false if there is no room. */
bool nx_graph_add_bytes(const struct nx_engine *engine, const struct nx_insn *insn,
			struct nx_graph *graph);

/* Return how many of a node's edges there may be. */
static inline unsigned nx_node_edges(const struct nx_node *node)
{
	return NX_EDGE_TARGET + (unsigned)node->targets;
}

static inline bool nx_node_exits(const struct nx_node *node)
{
	return nx_insn_exits(&node->insn);
}

#endif
