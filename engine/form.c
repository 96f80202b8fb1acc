/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * form.c - which guest instructions become a cluster (DESIGN.md 3.3).
 *
 * One algorithm serves every level: explore the guest's control flow from the entry on, as far as
 * an exiting instruction may be away (explore); keep only what still leads to one (prune); cut
 * cycles without one (find_backedges); make blocks of the rest (make_blocks). The levels only
 * restrict which edges exploration follows (successors). A path that ends in nothing kept becomes
 * an edge to nowhere: the translation leaves there.
 */
#include "form.h"

/* An instruction while the graph grows. Successors are node numbers. */
struct node {
	struct nx_insn insn;
	uint16_t gap;      /* instructions since the last exiting one, on the shortest path */
	uint16_t accesses; /* memory accesses likewise */
	uint16_t next, taken;
	uint16_t block;
	bool keep, leader, entry;
	bool weak_next, weak_taken; /* backedges that need a count */
	uint8_t mark;               /* find_backedges(): 0 new, 1 on the path, 2 done */
};

#define HASH_SIZE 512

struct nx_form_scratch {
	struct node node[NX_MAX_INSNS];
	uint16_t hash[HASH_SIZE]; /* node + 1 by rip */
	uint16_t order[NX_MAX_INSNS];
	uint16_t queue[NX_MAX_INSNS * 4];
	unsigned nodes, head, tail;
	uint64_t code_linear; /* page that code points to; 1: none */
	const uint8_t *code;
};

_Static_assert(sizeof(struct nx_form_scratch) <= NX_FORM_SCRATCH_SIZE, "scratch too small");

struct former {
	struct nx_vcpu *vcpu;
	const struct nx_mode *mode;
	struct nx_form_scratch *s;
};

/* Exits whenever it is executed. */
static bool is_strong(const struct node *node)
{
	return nx_op_exits(node->insn.op);
}

static bool is_exiting(const struct node *node)
{
	return is_strong(node) || node->insn.weak || node->insn.string_io;
}

/*
 * Has this access been seen to exit? Exits that the engine met are noted with the instruction's
 * bytes. Of those that the hardware met only rip is known: on the instruction for a load, past it
 * for a store.
 */
static bool is_weak(const struct former *f, const struct nx_insn *insn)
{
	const struct nx_tracker *tracker = &f->vcpu->tracker;
	uint64_t rip = insn->memory_write ? nx_next_rip(f->mode, insn) : insn->rip;

	if (f->vcpu->config.level < NX_LEVEL_DYNAMIC || !insn->device_form)
		return false;
	return ((nx_tracker_properties(tracker, insn->rip, insn->bytes, insn->len) |
		 nx_tracker_properties(tracker, rip, NULL, 0)) &
		NX_TRACK_MMIO) != 0;
}

/* Reads up to 15 bytes of guest code; returns how many there are. */
static unsigned read_code(struct former *f, uint64_t rip, uint8_t *bytes)
{
	const struct nx_segment *cs = &f->vcpu->state.seg[NX_CS];
	unsigned got = 0, want = 15;

	if (f->mode->bits != 64) {
		if (rip > cs->limit)
			return 0;
		if (cs->limit - rip < want - 1)
			want = (unsigned)(cs->limit - rip) + 1;
	}
	while (got < want) {
		uint64_t linear = nx_code_linear(f->vcpu, rip + got);
		unsigned offset = (unsigned)(linear & ~NX_PAGE_MASK);
		unsigned part = NX_PAGE_SIZE - offset;

		if (f->s->code_linear != (linear & NX_PAGE_MASK)) {
			f->s->code_linear = 1;
			if (nx_code_page(f->vcpu, linear, &f->s->code) != NX_OK)
				break;
			f->s->code_linear = linear & NX_PAGE_MASK;
		}
		if (part > want - got)
			part = want - got;
		nx_memcpy(bytes + got, f->s->code + offset, part);
		got += part;
	}
	return got;
}

static unsigned hash_slot(struct nx_form_scratch *s, uint64_t rip)
{
	unsigned slot = (unsigned)((rip * 0x9e3779b97f4a7c15ull) >> 55) % HASH_SIZE;

	while (s->hash[slot] && s->node[s->hash[slot] - 1].insn.rip != rip)
		slot = (slot + 1) % HASH_SIZE;
	return slot;
}

/* Can formation go through this instruction at all? */
static bool is_passable(const struct former *f, const struct nx_insn *insn)
{
	switch ((enum nx_op)insn->op) {
	case NX_OP_PLAIN:
	case NX_OP_NOP:
	case NX_OP_MOV_FROM_SREG:
	case NX_OP_PUSH:
	case NX_OP_POP:
	case NX_OP_HELPER:
	case NX_OP_IN:
	case NX_OP_OUT:
	case NX_OP_INSN_EXIT:
	case NX_OP_JCC: /* where it may not be followed, taken ends the cluster */
		return true;
	case NX_OP_JMP:
		return f->vcpu->config.level >= NX_LEVEL_BRANCHES;
	default:
		return false;
	}
}

/*
 * The node at rip, reached with this gap; queued if it is new or was reached by a longer path
 * before. NX_NOWHERE: out of reach, not passable, or the graph is full.
 */
static uint16_t reach(struct former *f, uint64_t rip, unsigned gap, unsigned accesses)
{
	struct nx_form_scratch *s = f->s;
	const struct nx_config *config = &f->vcpu->config;
	unsigned slot = hash_slot(s, rip);
	struct node *node;
	uint8_t bytes[15];

	if (!s->hash[slot]) {
		if (s->nodes == NX_MAX_INSNS)
			return NX_NOWHERE;
		node = &s->node[s->nodes];
		nx_memset(node, 0, sizeof(*node));
		nx_decode(f->mode, rip, bytes, read_code(f, rip, bytes), &node->insn);
		node->insn.weak = is_weak(f, &node->insn);
		node->next = node->taken = NX_NOWHERE;
		node->gap = node->accesses = 0xffff;
		s->hash[slot] = (uint16_t)++s->nodes;
	}
	node = &s->node[s->hash[slot] - 1];
	if (!is_passable(f, &node->insn))
		return NX_NOWHERE;
	if (gap > config->max_gap || accesses > config->max_gap_accesses)
		return NX_NOWHERE;
	if (!is_exiting(node) && (gap == config->max_gap || config->level == NX_LEVEL_PAIRS))
		return NX_NOWHERE;
	/* Paths differ in instructions and in accesses; fewer instructions decide. */
	if (gap < node->gap && s->tail < sizeof(s->queue) / sizeof(s->queue[0])) {
		node->gap = (uint16_t)gap;
		node->accesses = (uint16_t)accesses;
		s->queue[s->tail++] = (uint16_t)(node - s->node);
	}
	return (uint16_t)(node - s->node);
}

static bool may_branch_to(const struct former *f, const struct nx_insn *insn)
{
	const enum nx_level level = f->vcpu->config.level;

	return level >= (insn->target > insn->rip ? NX_LEVEL_BRANCHES : NX_LEVEL_LOOPS);
}

static void successors(struct former *f, uint16_t number)
{
	struct node *node = &f->s->node[number];
	const struct nx_insn *insn = &node->insn;
	unsigned gap = node->gap + 1u, accesses = node->accesses + insn->accesses;

	if (is_exiting(node))
		gap = accesses = 0;
	if (insn->op != NX_OP_JMP)
		node->next = reach(f, nx_next_rip(f->mode, insn), gap, accesses);
	if ((insn->op == NX_OP_JMP || insn->op == NX_OP_JCC) && may_branch_to(f, insn))
		node->taken = reach(f, insn->target, gap, accesses);
}

static void explore(struct former *f, uint64_t rip)
{
	struct nx_form_scratch *s = f->s;

	nx_memset(s->hash, 0, sizeof(s->hash));
	s->nodes = s->head = s->tail = 0;
	s->code_linear = 1;
	reach(f, rip, 0, 0);
	while (s->head < s->tail)
		successors(f, s->queue[s->head++]);
}

static bool kept(const struct nx_form_scratch *s, uint16_t number)
{
	return number != NX_NOWHERE && s->node[number].keep;
}

/* Keeps what leads to an exiting instruction; edges to the rest go nowhere. */
static void prune(struct nx_form_scratch *s)
{
	bool changed = true;

	for (unsigned i = 0; i < s->nodes; i++)
		s->node[i].keep = is_exiting(&s->node[i]) && s->node[i].gap != 0xffff;
	while (changed) {
		changed = false;
		for (unsigned i = s->nodes; i-- > 0;) {
			struct node *node = &s->node[i];

			if (!node->keep && (kept(s, node->next) || kept(s, node->taken)))
				node->keep = changed = true;
		}
	}
	for (unsigned i = 0; i < s->nodes; i++) {
		if (!kept(s, s->node[i].next))
			s->node[i].next = NX_NOWHERE;
		if (!kept(s, s->node[i].taken))
			s->node[i].taken = NX_NOWHERE;
	}
}

/*
 * Finds the backedges of cycles that meet none of some exiting instructions: depth first with an
 * explicit stack (the queue's memory); the path ends at the exiting nodes, so a successor on the
 * path closes a cycle. Returns how many there are.
 */
static unsigned find_backedges(struct nx_form_scratch *s, bool (*ends)(const struct node *),
			       void (*found)(struct node *from, bool taken))
{
	unsigned count = 0;

	for (unsigned i = 0; i < s->nodes; i++)
		s->node[i].mark = 0;
	for (unsigned root = 0; root < s->nodes; root++) {
		unsigned depth = 0;

		if (!s->node[root].keep || s->node[root].mark || ends(&s->node[root]))
			continue;
		s->queue[depth++] = (uint16_t)root;
		s->node[root].mark = 1;
		while (depth) {
			struct node *node = &s->node[s->queue[depth - 1]];
			const uint16_t edges[2] = {node->next, node->taken};
			bool down = false;

			for (unsigned e = 0; e < 2 && !down; e++) {
				uint16_t to = edges[e];

				if (to == NX_NOWHERE || ends(&s->node[to]))
					continue;
				if (s->node[to].mark == 1) {
					found(node, e == 1);
					count++;
				} else if (!s->node[to].mark) {
					s->node[to].mark = 1;
					s->queue[depth++] = to;
					down = true;
				}
			}
			if (!down) {
				node->mark = 2;
				depth--;
			}
		}
	}
	return count;
}

/* Nobody would notice a cycle that meets no exiting instruction turn and turn. */
static void cut(struct node *from, bool taken)
{
	*(taken ? &from->taken : &from->next) = NX_NOWHERE;
}

/* What meets only accesses that may turn out to be to memory has to be counted. */
static void count_turns(struct node *from, bool taken)
{
	*(taken ? &from->weak_taken : &from->weak_next) = true;
}

/* What still can be reached from node 0: pruning and cutting leave islands. */
static void drop_islands(struct nx_form_scratch *s)
{
	unsigned head = 0, tail = 0;

	for (unsigned i = 0; i < s->nodes; i++)
		s->node[i].mark = 0;
	if (!s->node[0].keep)
		return;
	s->node[0].mark = 1;
	s->queue[tail++] = 0;
	while (head < tail) {
		const struct node *node = &s->node[s->queue[head++]];
		const uint16_t edges[2] = {node->next, node->taken};

		for (unsigned e = 0; e < 2; e++) {
			if (edges[e] == NX_NOWHERE || s->node[edges[e]].mark)
				continue;
			s->node[edges[e]].mark = 1;
			s->queue[tail++] = edges[e];
		}
	}
	for (unsigned i = 0; i < s->nodes; i++)
		s->node[i].keep &= s->node[i].mark != 0;
}

/* Orders the kept nodes by rip: the host code then lies as the guest's does. */
static unsigned sort_nodes(struct nx_form_scratch *s)
{
	unsigned count = 0;

	for (unsigned i = 0; i < s->nodes; i++) {
		unsigned at = count;

		if (!s->node[i].keep)
			continue;
		while (at > 0 && s->node[s->order[at - 1]].insn.rip > s->node[i].insn.rip) {
			s->order[at] = s->order[at - 1];
			at--;
		}
		s->order[at] = (uint16_t)i;
		count++;
	}
	return count;
}

static void mark_leaders(struct nx_form_scratch *s)
{
	s->node[0].leader = s->node[0].entry = true;
	for (unsigned i = 0; i < s->nodes; i++) {
		const struct node *node = &s->node[i];

		if (!node->keep)
			continue;
		if (node->taken != NX_NOWHERE)
			s->node[node->taken].leader = true;
		if (node->next == NX_NOWHERE)
			continue;
		if (node->insn.op == NX_OP_JCC || is_exiting(node))
			s->node[node->next].leader = true;
		if (is_exiting(node))
			s->node[node->next].entry = true;
		/* A repeated string instruction is come back to while elements remain. */
		if (is_exiting(node) && node->insn.repeated)
			s->node[i].leader = s->node[i].entry = true;
	}
}

/* A block from a leader on: up to the next leader, or to where control flow divides. */
static bool make_block(struct nx_form_scratch *s, uint16_t leader, struct nx_graph *graph)
{
	struct nx_block *block = &graph->block[s->node[leader].block];
	const struct node *node = &s->node[leader];

	block->first = graph->insns;
	block->entry = node->entry;
	block->next = block->taken = NX_NOWHERE;
	for (;;) {
		if (graph->insns == NX_MAX_INSNS)
			return false;
		graph->insn[graph->insns++] = node->insn;
		graph->exiting += is_exiting(node);
		if (node->taken != NX_NOWHERE)
			block->taken = s->node[node->taken].block;
		if (node->next == NX_NOWHERE)
			break;
		if (s->node[node->next].leader || node->insn.op == NX_OP_JCC) {
			block->next = s->node[node->next].block;
			break;
		}
		node = &s->node[node->next];
	}
	block->weak_next = node->weak_next;
	block->weak_taken = node->weak_taken;
	block->count = (uint16_t)(graph->insns - block->first);
	return true;
}

static bool make_blocks(struct nx_form_scratch *s, unsigned count, struct nx_graph *graph)
{
	mark_leaders(s);
	for (unsigned i = 0; i < count; i++) {
		struct node *node = &s->node[s->order[i]];

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

/* The guest bytes that the graph was made from: contiguous stretches within pages. */
static bool make_fragments(const struct nx_vcpu *vcpu, struct nx_form_scratch *s, unsigned count,
			   struct nx_graph *graph)
{
	for (unsigned i = 0; i < count; i++) {
		const struct nx_insn *insn = &s->node[s->order[i]].insn;

		for (unsigned byte = 0; byte < insn->len; byte++) {
			uint64_t rip = insn->rip + byte;
			struct nx_fragment *last =
			    graph->fragments ? &graph->fragment[graph->fragments - 1] : NULL;
			uint8_t *to;

			if (last && rip < last->rip + last->len)
				continue; /* overlaps the instruction before */
			if (graph->byte_count == NX_CLUSTER_BYTES)
				return false;
			to = &graph->bytes[graph->byte_count];
			if (!last || rip != last->rip + last->len ||
			    !(nx_code_linear(vcpu, rip) & ~NX_PAGE_MASK)) {
				if (graph->fragments == NX_MAX_FRAGMENTS)
					return false;
				last = &graph->fragment[graph->fragments++];
				last->rip = rip;
				last->len = 0;
				last->bytes = graph->byte_count;
			}
			last->len++;
			*to = insn->bytes[byte];
			graph->byte_count++;
		}
	}
	return true;
}

bool nx_form(struct nx_vcpu *vcpu, const struct nx_mode *mode, uint64_t rip, struct nx_graph *graph)
{
	struct former f = {vcpu, mode, (struct nx_form_scratch *)vcpu->form_scratch};
	unsigned count;

	graph->mode = *mode;
	graph->rip = rip;
	graph->insns = graph->blocks = graph->fragments = graph->exiting = graph->byte_count = 0;
	explore(&f, rip);
	do
		prune(f.s);
	while (find_backedges(f.s, is_exiting, cut));
	find_backedges(f.s, is_strong, count_turns);
	drop_islands(f.s);
	if (!f.s->nodes || !f.s->node[0].keep)
		return false;
	count = sort_nodes(f.s);
	return make_blocks(f.s, count, graph) && make_fragments(vcpu, f.s, count, graph);
}
