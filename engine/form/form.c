/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * form.c - decide which guest instructions become a cluster.
 *
 * One algorithm serves every level: explore the guest's control flow from the entry on, as far as
 * an exiting instruction may be away (explore); keep only what still leads to one (prune); cut or
 * count cycles without one (find_backedges). graph.c makes blocks of the rest. The levels only
 * restrict which edges exploration follows (successors). A branch to an instruction that is not
 * kept becomes an edge to nowhere, which the translation takes as a side exit.
 *
 * The paper's rule bounds static exploration, which would otherwise grow into code that is never
 * executed. Along paths that control was seen to take from one exit to the next ("on path",
 * paths.c) exploration goes much farther, through calls, returns and indirect branches.
 */
#include "form/former.h"

_Static_assert(sizeof(struct nx_form_scratch) <= NX_FORM_SCRATCH_SIZE, "scratch too small");

/* Instructions explored in one step. */
#define STEP_NODES 16

struct former {
	struct nx_engine *engine;
	const struct nx_mode *mode;
	struct nx_form_scratch *s;
	unsigned max_path;
};

/* Return whether the instruction exits whenever it is executed. */
static bool is_strong(const struct nx_node *node)
{
	return nx_op_exits(node->insn.op);
}

/*
 * Return whether this access has been seen to exit. Exits that the engine met are noted with the
 * instruction's bytes. For those that the hardware met only rip is known, which is on the
 * instruction or, after a store, past it.
 */
static bool is_weak(const struct former *f, const struct nx_insn *insn)
{
	const struct nx_tracker *tracker = &f->engine->tracker;
	uint64_t rip = insn->memory_write ? nx_next_rip(f->mode, insn) : insn->rip;

	if ((f->engine->config.level < NX_LEVEL_DYNAMIC && !f->engine->config.merge_stores) ||
	    !insn->device_form)
		return false;
	return ((nx_tracker_properties(tracker, insn->rip, insn->bytes, insn->len) |
		 nx_tracker_properties(tracker, insn->rip, NULL, 0) |
		 nx_tracker_properties(tracker, rip, NULL, 0)) &
		NX_TRACK_MMIO) != 0;
}

/* Read up to 15 bytes of guest code; return how many could be read. */
static unsigned read_code(struct former *f, uint64_t rip, uint8_t *bytes)
{
	const struct nx_segment *cs = &f->engine->state.seg[NX_CS];
	unsigned got = 0, want = 15;

	if (f->mode->bits != 64) {
		if (rip > cs->limit)
			return 0;
		if (cs->limit - rip < want - 1)
			want = (unsigned)(cs->limit - rip) + 1;
	}
	while (got < want) {
		uint64_t linear = nx_code_linear(f->engine, rip + got);
		unsigned offset = (unsigned)(linear & ~NX_PAGE_MASK);
		unsigned part = NX_PAGE_SIZE - offset;

		if (f->s->code_linear != (linear & NX_PAGE_MASK)) {
			f->s->code_linear = 1;
			if (nx_code_page(f->engine, linear, &f->s->code) != NX_OK)
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

static unsigned hash_slot(struct nx_form_scratch *s, uint64_t name)
{
	unsigned slot = (unsigned)((name * NX_HASH_FACTOR) >> 53) % NX_FORM_HASH;

	while (s->hash[slot] && s->node[s->hash[slot] - 1].insn.path != name)
		slot = (slot + 1) % NX_FORM_HASH;
	return slot;
}

static void decode_at(struct former *f, uint64_t rip, struct nx_insn *insn)
{
	uint8_t bytes[15];

	nx_decode(&f->engine->decoded, f->mode, rip, bytes, read_code(f, rip, bytes), insn);
}

/* Merge a store that exits with an adjacent one right behind it into one instruction. */
static void merge_stores(struct former *f, struct nx_insn *insn)
{
	const struct nx_tracker *tracker = &f->engine->tracker;
	struct nx_insn second;

	if (!f->engine->config.merge_stores || !insn->weak || insn->op != NX_OP_PLAIN ||
	    (nx_tracker_properties(tracker, insn->rip, insn->bytes, insn->len) & NX_TRACK_APART))
		return;
	decode_at(f, nx_next_rip(f->mode, insn), &second);
	if (second.op != NX_OP_PLAIN || insn->len + second.len > 15u || !is_weak(f, &second))
		return;
	nx_memcpy(insn->bytes + insn->len, second.bytes, second.len);
	if (!nx_is_store_pair(&f->engine->decoded, f->mode, insn->rip, insn->bytes, insn->len,
			      insn->len + second.len))
		return;
	insn->first_len = insn->len;
	insn->len += second.len;
	insn->op = NX_OP_STORE_PAIR;
	insn->size = 8;
}

/* Shadow stacks and branch tracking see every call and return, and their state is unknown here. */
static bool follows_calls(const struct former *f)
{
	return f->engine->config.level >= NX_LEVEL_PATHS && !(f->engine->state.cr4 & NX_CR4_CET);
}

/* Return whether formation can continue through this instruction at all. */
static bool is_passable(const struct former *f, const struct nx_insn *insn)
{
	switch ((enum nx_op)insn->op) {
	case NX_OP_LEAVE:
		return false;
	case NX_OP_JMP:
		return f->engine->config.level >= NX_LEVEL_BRANCHES;
	case NX_OP_CALL:
	case NX_OP_RET:
	case NX_OP_JMP_INDIRECT:
	case NX_OP_CALL_INDIRECT:
		return follows_calls(f);
	default:
		/* This includes branches: one that may not be followed is a side exit if taken. */
		return true;
	}
}

/* The state in which exploration arrives at an instruction. */
struct way {
	unsigned gap, accesses; /* since the last exiting instruction */
	bool on_path;
	uint16_t context;
	uint64_t via; /* a jump that led straight here */
};

static bool within_reach(const struct former *f, const struct nx_node *node, const struct way *way)
{
	const struct nx_config *config = &f->engine->config;

	if (way->on_path)
		return way->gap < f->max_path;
	if (way->gap > config->max_gap || way->accesses > config->max_gap_accesses)
		return false;
	return nx_node_exits(node) ||
	       (way->gap < config->max_gap && config->level > NX_LEVEL_PAIRS);
}

/*
 * Return the node at rip, and queue it if it is new or was only reached by a longer path before.
 * Return NX_NOWHERE if it is out of reach or not passable, or the graph is full.
 */
static uint16_t reach(struct former *f, uint64_t rip, struct way way)
{
	struct nx_form_scratch *s = f->s;
	uint64_t context = nx_context_hash(&s->contexts, way.context);
	struct nx_node *node;
	unsigned slot;

	if (way.via) {
		/* Only a jump that leads straight to an indirect branch becomes part of its name.
		 */
		decode_at(f, rip, &s->peek);
		if (!nx_is_indirect(s->peek.op))
			way.via = 0;
	}
	slot = hash_slot(s, nx_path_name(rip, context, way.via));
	if (!s->hash[slot]) {
		if (s->nodes == s->limit)
			return NX_NOWHERE;
		node = &s->node[s->nodes];
		nx_memset(node, 0, sizeof(*node));
		decode_at(f, rip, &node->insn);
		node->insn.path = nx_path_name(rip, context, way.via);
		node->insn.context = way.context;
		node->insn.via = way.via;
		node->insn.weak = is_weak(f, &node->insn);
		merge_stores(f, &node->insn);
		for (unsigned e = 0; e < NX_EDGES; e++)
			node->edge[e] = NX_NOWHERE;
		node->gap = node->accesses = 0xffff;
		s->hash[slot] = (uint16_t)++s->nodes;
	}
	node = &s->node[s->hash[slot] - 1];
	if (!is_passable(f, &node->insn) || !within_reach(f, node, &way))
		return NX_NOWHERE;
	/* Two paths may differ in instructions and in accesses; fewer instructions decide. */
	if ((way.gap < node->gap || (way.on_path && !node->on_path)) && s->tail < NX_FORM_QUEUE) {
		if (way.gap < node->gap) {
			node->gap = (uint16_t)way.gap;
			node->accesses = (uint16_t)way.accesses;
		}
		node->on_path |= way.on_path;
		s->queue[s->tail++] = (uint16_t)(node - s->node);
	}
	return (uint16_t)(node - s->node);
}

/* Apply the static rule: one level admits forward branches, a later one backward branches. */
static bool may_branch_to(const struct former *f, const struct nx_insn *insn)
{
	const enum nx_level level = f->engine->config.level;

	return level >= (insn->target > insn->rip ? NX_LEVEL_BRANCHES : NX_LEVEL_LOOPS);
}

static void conditional_successors(struct former *f, struct nx_node *node, struct way way)
{
	const struct nx_paths *paths = &f->engine->paths;
	uint64_t next = nx_next_rip(f->mode, &node->insn);
	bool on_path = way.on_path;

	way.on_path = on_path && nx_paths_seen(paths, node->insn.path, next);
	node->edge[NX_EDGE_NEXT] = reach(f, next, way);
	way.on_path = on_path && nx_paths_seen(paths, node->insn.path, node->insn.target);
	if (way.on_path || may_branch_to(f, &node->insn))
		node->edge[NX_EDGE_TAKEN] = reach(f, node->insn.target, way);
}

static void indirect_successors(struct former *f, struct nx_node *node, struct way way)
{
	struct nx_contexts *contexts = &f->s->contexts;

	if (node->insn.op == NX_OP_RET)
		way.context = nx_context_pop(contexts, way.context);
	else if (node->insn.op == NX_OP_CALL_INDIRECT)
		way.context =
		    nx_context_push(contexts, way.context, nx_next_rip(f->mode, &node->insn));
	node->targets = (uint8_t)nx_paths_targets(&f->engine->paths, node->insn.path, node->target);
	/* It may have been here with more of them, which have been forgotten. */
	for (unsigned e = nx_node_edges(node); e < NX_EDGES; e++)
		node->edge[e] = NX_NOWHERE;
	for (unsigned i = 0; i < node->targets && way.on_path; i++)
		node->edge[NX_EDGE_TARGET + i] = reach(f, node->target[i], way);
}

static void successors(struct former *f, uint16_t number)
{
	struct nx_node *node = &f->s->node[number];
	const struct nx_insn *insn = &node->insn;
	struct way way = {node->gap + 1u, node->accesses + insn->accesses, node->on_path,
			  insn->context, 0};

	if (nx_node_exits(node)) {
		way.gap = way.accesses = 0;
		way.on_path = follows_calls(f);
	}
	switch ((enum nx_op)insn->op) {
	case NX_OP_JMP:
		way.via = insn->rip;
		if (way.on_path || may_branch_to(f, insn))
			node->edge[NX_EDGE_TAKEN] = reach(f, insn->target, way);
		break;
	case NX_OP_CALL:
		/* Most calls lead far away and to no exit, so only observed ones are followed. */
		way.on_path =
		    way.on_path && nx_paths_seen(&f->engine->paths, insn->path, insn->target);
		way.context =
		    nx_context_push(&f->s->contexts, insn->context, nx_next_rip(f->mode, insn));
		if (way.on_path)
			node->edge[NX_EDGE_TAKEN] = reach(f, insn->target, way);
		break;
	case NX_OP_JCC:
		conditional_successors(f, node, way);
		break;
	case NX_OP_RET:
	case NX_OP_JMP_INDIRECT:
	case NX_OP_CALL_INDIRECT:
		indirect_successors(f, node, way);
		break;
	default:
		node->edge[NX_EDGE_NEXT] = reach(f, nx_next_rip(f->mode, insn), way);
		break;
	}
}

static void begin_exploring(struct former *f)
{
	struct nx_form_scratch *s = f->s;

	nx_memset(s->hash, 0, sizeof(s->hash));
	s->nodes = s->head = s->tail = 0;
	s->contexts.count = 1;
	s->begun = false;
}

/* Explore some instructions from rip on; return NX_DONE when none are left. */
static enum nx_progress explore(struct former *f, uint64_t rip)
{
	struct nx_form_scratch *s = f->s;

	if (nx_session_begin(f->engine) != NX_OK)
		return NX_BLOCKED;
	/* The page may have moved since the last session. */
	s->code_linear = 1;
	if (!s->begun)
		reach(f, rip, (struct way){0, 0, follows_calls(f), 0, 0});
	s->begun = true;
	for (unsigned i = 0; i < STEP_NODES && s->head < s->tail; i++)
		successors(f, s->queue[s->head++]);
	nx_session_end(f->engine);
	return s->head < s->tail ? NX_MORE : NX_DONE;
}

static bool kept(const struct nx_form_scratch *s, uint16_t number)
{
	return number != NX_NOWHERE && s->node[number].keep;
}

static bool leads_to_kept(const struct nx_form_scratch *s, const struct nx_node *node)
{
	for (unsigned e = 0; e < nx_node_edges(node); e++)
		if (kept(s, node->edge[e]))
			return true;
	return false;
}

/* Keep the nodes that lead to an exiting instruction; edges to all others go nowhere. */
static void prune(struct nx_form_scratch *s)
{
	bool changed = true;

	for (unsigned i = 0; i < s->nodes; i++)
		s->node[i].keep = nx_node_exits(&s->node[i]) && s->node[i].gap != 0xffff;
	while (changed) {
		changed = false;
		for (unsigned i = s->nodes; i-- > 0;) {
			struct nx_node *node = &s->node[i];

			if (!node->keep && leads_to_kept(s, node))
				node->keep = changed = true;
		}
	}
	for (unsigned i = 0; i < s->nodes; i++)
		for (unsigned e = 0; e < nx_node_edges(&s->node[i]); e++)
			if (!kept(s, s->node[i].edge[e]))
				s->node[i].edge[e] = NX_NOWHERE;
}

typedef bool node_test(const struct nx_node *node);
typedef void edge_action(struct nx_node *from, unsigned edge);

/* Return the next unvisited successor of a node, and report the edges that close a cycle. */
static uint16_t descend(struct nx_form_scratch *s, struct nx_node *node, node_test *ends,
			edge_action *found, unsigned *count)
{
	for (unsigned e = 0; e < nx_node_edges(node); e++) {
		uint16_t to = node->edge[e];

		if (to == NX_NOWHERE || ends(&s->node[to]))
			continue;
		if (s->node[to].mark == 1) {
			found(node, e);
			*count += 1;
		} else if (!s->node[to].mark) {
			return to;
		}
	}
	return NX_NOWHERE;
}

/*
 * Find the backedges of cycles that meet no exiting instruction of a kind. The search is depth
 * first with an explicit stack (the queue's memory). Its path ends at the exiting nodes, so a
 * successor on the path closes such a cycle. Return how many were found; an edge may count more
 * than once.
 */
static unsigned find_backedges(struct nx_form_scratch *s, node_test *ends, edge_action *found)
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
			struct nx_node *node = &s->node[s->queue[depth - 1]];
			uint16_t to = descend(s, node, ends, found, &count);

			if (to == NX_NOWHERE) {
				node->mark = 2;
				depth--;
			} else {
				s->node[to].mark = 1;
				s->queue[depth++] = to;
			}
		}
	}
	return count;
}

/* Cut a cycle that meets no exiting instruction: no check would ever stop it. */
static void cut(struct nx_node *from, unsigned edge)
{
	from->edge[edge] = NX_NOWHERE;
}

/* Count the turns of such a cycle on a path: it is a waiting loop or a copy of a few bytes. */
static void count_idle(struct nx_node *from, unsigned edge)
{
	from->counted[edge] = NX_EDGE_IDLE;
}

/* Count the turns of a cycle whose only exits are accesses that may turn out to be to memory. */
static void count_weak(struct nx_node *from, unsigned edge)
{
	if (from->counted[edge] == NX_EDGE_FREE)
		from->counted[edge] = NX_EDGE_WEAK;
}

/* Drop the islands that pruning and cutting have left: nodes that node 0 no longer reaches. */
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
		const struct nx_node *node = &s->node[s->queue[head++]];

		for (unsigned e = 0; e < nx_node_edges(node); e++) {
			if (node->edge[e] == NX_NOWHERE || s->node[node->edge[e]].mark)
				continue;
			s->node[node->edge[e]].mark = 1;
			s->queue[tail++] = node->edge[e];
		}
	}
	for (unsigned i = 0; i < s->nodes; i++)
		s->node[i].keep &= s->node[i].mark != 0;
}

/* Count the backward branches, and those of them that stay in the cluster when taken. */
static void count_backedges(struct nx_engine *engine, const struct nx_form_scratch *s)
{
	for (unsigned i = 0; i < s->nodes; i++) {
		const struct nx_node *node = &s->node[i];

		if (!node->keep || (node->insn.op != NX_OP_JCC && node->insn.op != NX_OP_JMP) ||
		    node->insn.target > node->insn.rip)
			continue;
		engine->counters.backedges++;
		engine->counters.backedges_kept += node->edge[NX_EDGE_TAKEN] != NX_NOWHERE;
	}
}

static void begin_graph(struct nx_graph *graph, const struct nx_mode *mode, uint64_t rip)
{
	graph->mode = *mode;
	graph->rip = rip;
	graph->insns = graph->blocks = graph->fragments = graph->exiting = graph->byte_count = 0;
}

/* After exploration, prune and cut, and make the graph. */
static enum nx_progress finish(struct former *f, struct nx_graph *graph)
{
	prune(f->s);
	if (follows_calls(f)) {
		find_backedges(f->s, nx_node_exits, count_idle);
	} else {
		while (find_backedges(f->s, nx_node_exits, cut))
			prune(f->s);
	}
	find_backedges(f->s, is_strong, count_weak);
	drop_islands(f->s);
	if (!f->s->nodes || !f->s->node[0].keep)
		return NX_FAILED;
	if (nx_graph_make(f->engine, f->s, graph)) {
		count_backedges(f->engine, f->s);
		return NX_DONE;
	}
	/* With too many blocks or fragments, the nearest nodes make a smaller cluster. */
	if ((f->s->limit /= 2) < NX_MAX_INSNS / 8)
		return NX_FAILED;
	begin_graph(graph, &graph->mode, graph->rip);
	begin_exploring(f);
	return NX_MORE;
}

static struct former former_of(struct nx_engine *engine, const struct nx_mode *mode)
{
	return (struct former){engine, mode, (struct nx_form_scratch *)engine->form_scratch,
			       nx_cost_max_path(engine)};
}

void nx_form_begin(struct nx_engine *engine, const struct nx_mode *mode, uint64_t rip,
		   struct nx_graph *graph)
{
	struct former f = former_of(engine, mode);

	f.s->limit = NX_MAX_INSNS;
	begin_graph(graph, mode, rip);
	begin_exploring(&f);
}

enum nx_progress nx_form_step(struct nx_engine *engine, struct nx_graph *graph)
{
	struct former f = former_of(engine, &graph->mode);
	enum nx_progress progress = explore(&f, graph->rip);

	return progress == NX_DONE ? finish(&f, graph) : progress;
}

bool nx_form_block(struct nx_engine *engine, const struct nx_mode *mode, uint64_t rip,
		   struct nx_graph *graph)
{
	struct former f = former_of(engine, mode);
	struct nx_block *block = &graph->block[0];

	begin_graph(graph, mode, rip);
	f.s->code_linear = 1;
	nx_memset(block, 0, sizeof(*block));
	block->entry = true;
	for (unsigned e = 0; e < NX_EDGES; e++)
		block->edge[e] = NX_NOWHERE;
	while (graph->insns < NX_TRACE_BLOCK) {
		struct nx_insn *insn = &graph->insn[graph->insns];

		decode_at(&f, rip, insn);
		if (!is_passable(&f, insn) || !nx_graph_add_bytes(engine, insn, graph))
			break;
		graph->insns++;
		if (nx_decides(insn->op) || nx_op_exits(insn->op) || insn->string_io ||
		    engine->config.experiment.uncached)
			break;
		rip = nx_next_rip(mode, insn);
	}
	graph->contexts.count = 1;
	block->count = graph->insns;
	graph->blocks = 1;
	return graph->insns > 0;
}
