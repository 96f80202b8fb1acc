/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * former.h - what form.c hands to graph.c, and small things about guest code that formation,
 * translation and the runtime share.
 */
#ifndef NX_FORM_H
#define NX_FORM_H

#include "engine.h"

/* An instruction while the graph grows. Edges are node numbers. */
struct nx_node {
	struct nx_insn insn;
	uint16_t gap;      /* instructions since the last exiting one, on the shortest way */
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
	uint64_t code_linear; /* page that code points to; 1: none */
	const uint8_t *code;
};

/* Instructions of one block of a trace. */
#define NX_TRACE_BLOCK 64

bool nx_make_graph(const struct nx_engine *engine, struct nx_form_scratch *s,
		   struct nx_graph *graph);
/*
 * Adds an instruction's bytes to the fragments: contiguous stretches within pages. They come in the
 * order of their rip; false: no room.
 */
bool nx_graph_add_bytes(const struct nx_engine *engine, const struct nx_insn *insn,
			struct nx_graph *graph);

static inline uint64_t nx_code_linear(const struct nx_engine *engine, uint64_t rip)
{
	uint64_t linear = engine->state.seg[NX_CS].base + rip;

	return engine->mode.bits == 64 ? rip : (uint32_t)linear;
}

/* Exits whenever it is executed. */
static inline bool nx_op_exits(unsigned op)
{
	return op == NX_OP_IN || op == NX_OP_OUT || op == NX_OP_INSN_EXIT;
}

/* Exits, or was seen to. */
static inline bool nx_insn_exits(const struct nx_insn *insn)
{
	return nx_op_exits(insn->op) || insn->weak || insn->string_io;
}

/* Where it goes is known only when it is executed. */
static inline bool nx_is_indirect(unsigned op)
{
	return op == NX_OP_RET || op == NX_OP_JMP_INDIRECT || op == NX_OP_CALL_INDIRECT;
}

/* Decides where control goes. */
static inline bool nx_decides(unsigned op)
{
	return op == NX_OP_JMP || op == NX_OP_JCC || op == NX_OP_CALL || op == NX_OP_RET ||
	       op == NX_OP_JMP_INDIRECT || op == NX_OP_CALL_INDIRECT;
}

static inline bool nx_node_exits(const struct nx_node *node)
{
	return nx_insn_exits(&node->insn);
}

/*
 * The rip after an instruction. It is not truncated to 16 bits: running past a segment's end is
 * a fault there, which formation meets as code beyond the limit.
 */
static inline uint64_t nx_next_rip(const struct nx_mode *mode, const struct nx_insn *insn)
{
	uint64_t next = insn->rip + insn->len;

	return mode->bits == 64 ? next : (uint32_t)next;
}

#endif
