/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* graph.c - make blocks and fragments of the instructions that form.c has chosen. */
#include "form/former.h"

/* Merge two sorted runs; of nodes with the same rip those of the first one come first. */
static void merge(const struct nx_form_scratch *s, const uint16_t *a, unsigned a_count,
		  const uint16_t *b, unsigned b_count, uint16_t *out)
{
	while (a_count && b_count) {
		if (s->node[*b].insn.rip < s->node[*a].insn.rip) {
			*out++ = *b++;
			b_count--;
		} else {
			*out++ = *a++;
			a_count--;
		}
	}
	nx_memcpy(out, a_count ? a : b, (a_count + b_count) * sizeof(*out));
}

/* Sort the kept nodes by rip, so that the host code lies as the guest's does. */
static unsigned sort_nodes(struct nx_form_scratch *s)
{
	/* Formation needs its queue no longer. */
	uint16_t *from = s->order, *to = s->queue;
	unsigned count = 0;

	for (unsigned i = 0; i < s->nodes; i++)
		if (s->node[i].keep)
			from[count++] = (uint16_t)i;
	for (unsigned run = 1; run < count; run *= 2) {
		uint16_t *sorted = to;

		for (unsigned at = 0; at < count; at += 2 * run) {
			unsigned left = count - at, a = left < run ? left : run,
				 b = left - a < run ? left - a : run;

			merge(s, from + at, a, from + at + a, b, to + at);
		}
		to = from;
		from = sorted;
	}
	if (from != s->order)
		nx_memcpy(s->order, from, count * sizeof(s->order[0]));
	return count;
}

static void mark_leaders(struct nx_form_scratch *s)
{
	s->node[0].leader = s->node[0].entry = true;
	for (unsigned i = 0; i < s->nodes; i++) {
		struct nx_node *node = &s->node[i];
		uint16_t next = node->edge[NX_EDGE_NEXT];

		if (!node->keep)
			continue;
		for (unsigned e = NX_EDGE_TAKEN; e < nx_node_edges(node); e++)
			if (node->edge[e] != NX_NOWHERE)
				s->node[node->edge[e]].leader = true;
		/* A repeated string instruction is entered again while elements remain. */
		if (nx_node_exits(node) && node->insn.repeated)
			node->leader = node->entry = true;
		if (next == NX_NOWHERE)
			continue;
		if (node->insn.op == NX_OP_JCC || nx_node_exits(node) ||
		    node->counted[NX_EDGE_NEXT])
			s->node[next].leader = true;
		if (nx_node_exits(node))
			s->node[next].entry = true;
	}
}

/* Make a block from a leader up to the next leader or to a branch. */
static bool make_block(struct nx_form_scratch *s, uint16_t leader, struct nx_graph *graph)
{
	struct nx_block *block = &graph->block[s->node[leader].block];
	const struct nx_node *node = &s->node[leader];

	nx_memset(block, 0, sizeof(*block));
	block->first = graph->insns;
	block->entry = node->entry;
	for (;; node = &s->node[node->edge[NX_EDGE_NEXT]]) {
		if (graph->insns == NX_MAX_INSNS)
			return false;
		graph->insn[graph->insns] = node->insn;
		graph->insn[graph->insns++].gap = node->gap;
		graph->exiting += nx_node_exits(node);
		if (node->edge[NX_EDGE_NEXT] == NX_NOWHERE || node->insn.op == NX_OP_JCC ||
		    s->node[node->edge[NX_EDGE_NEXT]].leader)
			break;
	}
	for (unsigned e = 0; e < NX_EDGES; e++) {
		block->edge[e] =
		    node->edge[e] == NX_NOWHERE ? NX_NOWHERE : s->node[node->edge[e]].block;
		block->counted[e] = node->counted[e];
	}
	block->targets = node->targets;
	nx_memcpy(block->target, node->target, sizeof(block->target));
	block->count = (uint16_t)(graph->insns - block->first);
	return true;
}

static bool make_blocks(struct nx_form_scratch *s, unsigned count, struct nx_graph *graph)
{
	mark_leaders(s);
	for (unsigned i = 0; i < count; i++) {
		struct nx_node *node = &s->node[s->order[i]];

		if (!node->leader)
			continue;
		if (graph->blocks == NX_MAX_BLOCKS)
			return false;
		node->block = graph->blocks++;
	}
	for (unsigned i = 0; i < count; i++)
		if (s->node[s->order[i]].leader && !make_block(s, s->order[i], graph))
			return false;
	return true;
}

bool nx_graph_add_bytes(const struct nx_engine *engine, const struct nx_insn *insn,
			struct nx_graph *graph)
{
	for (unsigned byte = 0; byte < insn->len; byte++) {
		uint64_t rip = insn->rip + byte;
		struct nx_fragment *last =
		    graph->fragments ? &graph->fragment[graph->fragments - 1] : NULL;

		/*
		 * Overlaps an instruction before, which may have been read in another step: by now
		 * another program may be there. Only what has been kept is compared at an entry, so
		 * both must have read the same.
		 */
		if (last && rip - last->rip + NX_PAGE_SIZE < NX_PAGE_SIZE + last->len) {
			uint64_t back = last->rip + last->len - rip;

			if (graph->bytes[graph->byte_count - back] != insn->bytes[byte])
				return false;
			continue;
		}
		if (graph->byte_count == NX_CLUSTER_BYTES)
			return false;
		if (!last || rip != last->rip + last->len ||
		    !(nx_code_linear(engine, rip) & ~NX_PAGE_MASK)) {
			if (graph->fragments == NX_MAX_FRAGMENTS)
				return false;
			last = &graph->fragment[graph->fragments++];
			last->rip = rip;
			last->len = 0;
			last->bytes = graph->byte_count;
		}
		last->len++;
		graph->bytes[graph->byte_count++] = insn->bytes[byte];
	}
	return true;
}

bool nx_graph_make(const struct nx_engine *engine, struct nx_form_scratch *s,
		   struct nx_graph *graph)
{
	unsigned count = sort_nodes(s);

	graph->contexts = s->contexts;
	if (!make_blocks(s, count, graph))
		return false;
	for (unsigned i = 0; i < count; i++)
		if (!nx_graph_add_bytes(engine, &s->node[s->order[i]].insn, graph))
			return false;
	return true;
}
