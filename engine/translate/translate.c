/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * translate.c - translate a graph to host code: blocks, branches, exits and stubs out of line.
 * lower.c translates the instructions themselves; context.h has the rules of emitted code.
 */
#include "translate/translator.h"

_Static_assert(NX_SNIPPET_COUNT == NX_SNIPPETS, "engine.h counts them too");

/* The number of stubs that one step emits. */
#define STEP_STUBS 16

/* Return the calling context at the target of the instruction's edge. */
static uint16_t context_after(struct nx_translator *t, const struct nx_insn *insn)
{
	/* Formation has made the context already, if there was room. */
	if (insn->op == NX_OP_CALL || insn->op == NX_OP_CALL_INDIRECT)
		return nx_context_push(&t->engine->graph.contexts, insn->context,
				       nx_next_rip(&t->graph->mode, insn));
	if (insn->op == NX_OP_RET)
		return nx_context_pop(&t->graph->contexts, insn->context);
	return insn->context;
}

static uint16_t add_leave(struct nx_translator *t, const struct nx_insn *insn, uint64_t rip,
			  enum nx_status reason)
{
	uint16_t number = nx_site_add(t, NX_SITE_LEAVE, insn);
	struct nx_site *site = &t->out->site[number];

	site->rip = rip;
	site->reason = (uint8_t)reason;
	site->from = nx_decides(insn->op) ? insn->path : 0;
	if (reason == NX_LEAVE_GUARD) {
		site->context = insn->context;
		site->via = insn->via;
	} else {
		site->context = context_after(t, insn);
		site->via = insn->op == NX_OP_JMP ? insn->rip : 0;
	}
	return number;
}

static void add_fixup(struct nx_translator *t, uint32_t from, uint16_t block)
{
	if (t->s->fixups == NX_MAX_FIXUPS) {
		t->e.failed = true;
		return;
	}
	t->s->fixup[t->s->fixups++] = (struct nx_fixup){from, block};
}

/* Go to a block: move the flags to where it expects them, and branch unless it follows. */
static void go_to(struct nx_translator *t, uint16_t block, uint16_t following)
{
	if (t->s->flags_in_context[block])
		nx_flags_keep_in_context(t);
	else
		nx_flags_keep_in_host(t);
	if (block == following)
		return;
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JMP, false);
	add_fixup(t, t->e.size, block);
	nx_emit_trap(&t->e);
}

/* Count a turn at a limited backedge, and leave when the turns are used up. */
static void emit_count(struct nx_translator *t, const struct nx_insn *insn, uint64_t rip,
		       unsigned counted)
{
	unsigned slot = counted == NX_EDGE_WEAK ? NX_CTX_TURNS : NX_CTX_IDLE_TURNS;

	nx_flags_keep_in_context(t);
	t->flags_in_host = false;
	nx_emit2(&t->e, ZYDIS_MNEMONIC_SUB, nx_op_slot(slot, 4), nx_op_imm(1));
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JB, false);
	nx_stub_add(t, NX_STUB_LEAVE, t->e.size, add_leave(t, insn, rip, NX_LEAVE_TURNS));
}

/* Follow an edge of a block, or leave at rip if it leads nowhere. */
static void emit_edge(struct nx_translator *t, const struct nx_insn *insn,
		      const struct nx_block *block, unsigned edge, uint64_t rip, uint16_t following)
{
	if (block->edge[edge] == NX_NOWHERE) {
		nx_flags_keep_in_context(t);
		nx_emit_exit(t, add_leave(t, insn, rip, NX_LEAVE_CLUSTER_END));
		return;
	}
	if (block->counted[edge])
		emit_count(t, insn, rip, block->counted[edge]);
	go_to(t, block->edge[edge], following);
}

/*
 * Direct the guest's branch, which was just emitted and ends at from: straight to the block if
 * possible, else to code out of line that does the same as emit_edge().
 */
static void link_taken(struct nx_translator *t, const struct nx_insn *insn,
		       const struct nx_block *block, uint32_t from)
{
	uint16_t to = block->edge[NX_EDGE_TAKEN];

	if (to != NX_NOWHERE && !block->counted[NX_EDGE_TAKEN] && !t->s->flags_in_context[to]) {
		add_fixup(t, from, to);
		return;
	}
	nx_stub_add(t, NX_STUB_EDGE, from, 0);
	if (!t->e.failed) {
		struct nx_stub *stub = &t->s->stub[t->s->stubs - 1];

		stub->block = (uint16_t)(block - t->graph->block);
		stub->insn = (uint16_t)(insn - t->graph->insn);
		stub->flags_in_context = t->flags_in_context;
	}
}

/* Return the end of the branch that is taken if the guest's is. */
static uint32_t emit_conditional(struct nx_translator *t, const struct nx_insn *insn)
{
	const struct nx_decoded *d = nx_decoded_insn(t, insn);

	if (!d) {
		t->e.failed = true;
		return 0;
	}
	nx_flags_keep_in_host(t);
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
		return nx_lower_count_branch(t, d);
	default:
		nx_emit_branch(&t->e, d->insn.mnemonic, false);
		return t->e.size;
	}
}

/* Emit an IN or OUT, whose emulation the host owes; the next resume enters the code behind it. */
static void emit_io_exit(struct nx_translator *t, const struct nx_insn *insn)
{
	uint16_t site = nx_site_add(t, NX_SITE_IO, insn);

	t->out->site[site].write = insn->op == NX_OP_OUT;
	t->out->site[site].port_in_dx = insn->port_in_dx;
	t->out->site[site].port = (uint16_t)insn->target;
	nx_flags_keep_in_context(t);
	nx_emit_exit(t, site);
}

/*
 * Emit a return, or a call or jump by a register or memory: compare its target with the observed
 * ones (guards). If none matches, nothing of the instruction has happened, and the processor
 * executes it.
 */
static void emit_indirect(struct nx_translator *t, const struct nx_block *block,
			  const struct nx_insn *insn)
{
	uint16_t site;

	for (unsigned i = 0; i < block->targets; i++) {
		bool call = insn->op == NX_OP_CALL_INDIRECT;
		uint32_t other;

		nx_emit2(&t->e, ZYDIS_MNEMONIC_MOV, nx_op_gpr(NX_R11, 8),
			 nx_op_imm((int64_t)block->target[i]));
		nx_emit2(&t->e, ZYDIS_MNEMONIC_CMP, nx_op_gpr(NX_R10, 8), nx_op_gpr(NX_R11, 8));
		nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JNZ, false);
		other = t->e.size;
		if (call)
			nx_lower_call(t, insn);
		else if (insn->op == NX_OP_RET)
			nx_lower_ret(t, insn);
		emit_edge(t, insn, block, NX_EDGE_TARGET + i, block->target[i], NX_NOWHERE);
		t->flags_in_host = false;
		t->flags_in_context = true;
		nx_branch_patch(&t->e, other, t->e.size);
	}
	site = add_leave(t, insn, insn->rip, NX_LEAVE_GUARD);
	nx_emit_exit(t, site);
}

/* Emit the control transfer behind the block's last instruction. */
static void end_block(struct nx_translator *t, const struct nx_block *block,
		      const struct nx_insn *insn, uint16_t following)
{
	uint64_t next = nx_next_rip(&t->graph->mode, insn);

	switch ((enum nx_op)insn->op) {
	case NX_OP_IN:
	case NX_OP_OUT:
		emit_io_exit(t, insn);
		break;
	case NX_OP_INSN_EXIT:
		nx_flags_keep_in_context(t);
		nx_emit_exit(t, nx_site_add(t, NX_SITE_INSN, insn));
		break;
	case NX_OP_JMP:
		emit_edge(t, insn, block, NX_EDGE_TAKEN, insn->target, following);
		break;
	case NX_OP_JCC:
		link_taken(t, insn, block, emit_conditional(t, insn));
		emit_edge(t, insn, block, NX_EDGE_NEXT, next, following);
		break;
	case NX_OP_CALL:
		emit_edge(t, insn, block, NX_EDGE_TAKEN, insn->target, following);
		break;
	case NX_OP_RET:
	case NX_OP_JMP_INDIRECT:
	case NX_OP_CALL_INDIRECT:
		emit_indirect(t, block, insn);
		break;
	default:
		emit_edge(t, insn, block, NX_EDGE_NEXT, next, following);
		break;
	}
}

static void add_entry(struct nx_translator *t, uint64_t rip)
{
	/* A block has at most one of these. */
	t->out->entry[t->out->entries++] = (struct nx_entry){.rip = rip, .offset = t->e.size};
	if (t->engine->memory.branches == NX_BRANCHES_TRACKED)
		nx_emit0(&t->e, ZYDIS_MNEMONIC_ENDBR64);
}

static void emit_block(struct nx_translator *t, uint16_t number)
{
	const struct nx_block *block = &t->graph->block[number];
	uint16_t last = (uint16_t)(block->first + block->count - 1u);

	t->flags_in_context = t->s->flags_in_context[number];
	t->flags_in_host = !t->flags_in_context;
	t->s->block_offset[number] = t->e.size;
	if (block->entry)
		add_entry(t, t->graph->insn[block->first].rip);
	for (unsigned i = block->first; i <= last; i++)
		t->s->block_of[i] = number;
	for (unsigned i = block->first; i <= last && !t->e.failed;) {
		unsigned group = nx_emit_group(t, (uint16_t)i, last + 1u - i);

		i += group;
		if (group)
			continue;
		t->insn = (uint16_t)i++;
		nx_lower(t, &t->graph->insn[t->insn]);
	}
	t->insn = last;
	end_block(t, block, &t->graph->insn[last], (uint16_t)(number + 1u));
}

/*
 * Decide where each block expects the flags. A resume at an entry has them in the context, and a
 * call or an indirect branch has just saved them there; all other predecessors keep them in the
 * host.
 */
static void place_flags(struct nx_translator *t)
{
	const struct nx_graph *graph = t->graph;

	for (unsigned i = 0; i < graph->blocks; i++)
		t->s->flags_in_context[i] = graph->block[i].entry;
	for (unsigned i = 0; i < graph->blocks; i++) {
		const struct nx_block *block = &graph->block[i];
		unsigned op = graph->insn[block->first + block->count - 1].op;

		for (unsigned e = NX_EDGE_TAKEN; e < nx_block_edges(block); e++)
			if (block->edge[e] != NX_NOWHERE &&
			    (e >= NX_EDGE_TARGET || op == NX_OP_CALL))
				t->s->flags_in_context[block->edge[e]] = true;
	}
}

static void emit_stub(struct nx_translator *t, const struct nx_stub *stub)
{
	const struct nx_block *block = &t->graph->block[stub->block];
	const struct nx_insn *insn = &t->graph->insn[stub->insn];

	nx_branch_patch(&t->e, stub->from, t->e.size);
	switch (stub->kind) {
	case NX_STUB_MISS:
		nx_emit_site_snippet(t, NX_SNIPPET_MISS, stub->site);
		nx_branch_patch(&t->e, t->e.size, stub->back);
		nx_emit_trap(&t->e);
		break;
	case NX_STUB_LEAVE:
		nx_emit_exit(t, stub->site);
		break;
	case NX_STUB_GROUP:
		nx_emit_apart(t, stub);
		break;
	case NX_STUB_EDGE:
		t->insn = stub->insn;
		t->flags_in_host = true;
		t->flags_in_context = stub->flags_in_context;
		emit_edge(t, insn, block, NX_EDGE_TAKEN, insn->target, NX_NOWHERE);
		break;
	}
}

/* Note the code behind each exit, for the resume that completes the exit. */
static void link_exits(struct nx_translator *t)
{
	const struct nx_graph *graph = t->graph;

	for (unsigned i = 0; i < t->out->sites; i++) {
		struct nx_site *site = &t->out->site[i];
		const struct nx_block *block = &graph->block[t->s->block_of[site->insn]];
		uint16_t next = block->edge[NX_EDGE_NEXT];

		if (site->kind != NX_SITE_LEAVE && next != NX_NOWHERE && graph->block[next].entry &&
		    site->insn == block->first + block->count - 1)
			site->resume = t->s->block_offset[next] + 1;
	}
}

void nx_translate_begin(struct nx_engine *engine, const struct nx_graph *graph, uint8_t *code_rw,
			size_t capacity, struct nx_translation *out)
{
	struct nx_translate_scratch *s = (struct nx_translate_scratch *)engine->translate_scratch;

	s->translator = (struct nx_translator){
	    .engine = engine,
	    .graph = graph,
	    .out = out,
	    .s = s,
	    .e = {.to = code_rw,
		  .capacity = capacity,
		  .traps = engine->memory.branches != NX_BRANCHES_INDIRECT,
		  .blind = engine->memory.blind ? &engine->thunks : NULL},
	};
	out->sites = out->entries = 0;
	s->stubs = s->fixups = s->blocks_done = s->stubs_done = 0;
	place_flags(&s->translator);
}

/*
 * Return whether an endbr64 stands elsewhere than at the entries: in a constant that the guest
 * chose, say. With tracked branches the verifier refuses such code, and the guest's is left to the
 * hardware.
 */
static bool has_stray_landing(const struct nx_translator *t)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	unsigned landings = 0;

	if (t->engine->memory.branches != NX_BRANCHES_TRACKED)
		return false;
	for (uint32_t at = 0; at + sizeof(endbr64) <= t->e.size; at++)
		landings += !nx_memcmp(t->e.to + at, endbr64, sizeof(endbr64));
	return landings != t->out->entries;
}

/* Finish the translation after all blocks and stubs have been emitted. */
static void finish(struct nx_translator *t)
{
	for (unsigned i = 0; i < t->s->fixups && !t->e.failed; i++)
		nx_branch_patch(&t->e, t->s->fixup[i].from,
				t->s->block_offset[t->s->fixup[i].block]);
	t->out->size = t->e.size;
	if (t->e.failed)
		return;
	link_exits(t);
	t->e.failed = has_stray_landing(t);
}

enum nx_progress nx_translate_step(struct nx_engine *engine)
{
	struct nx_translate_scratch *s = (struct nx_translate_scratch *)engine->translate_scratch;
	struct nx_translator *t = &s->translator;
	bool more = true;

	if (s->blocks_done < t->graph->blocks) {
		emit_block(t, (uint16_t)s->blocks_done++);
	} else if (s->stubs_done < s->stubs) {
		for (unsigned i = 0; i < STEP_STUBS && s->stubs_done < s->stubs; i++) {
			/* By value: a stub may add another. */
			struct nx_stub stub = s->stub[s->stubs_done++];

			if (!t->e.failed)
				emit_stub(t, &stub);
		}
	} else {
		finish(t);
		more = false;
	}
	if (t->e.failed)
		return NX_FAILED;
	return more ? NX_MORE : NX_DONE;
}

bool nx_translate(struct nx_engine *engine, const struct nx_graph *graph, uint8_t *code_rw,
		  size_t capacity, struct nx_translation *out)
{
	enum nx_progress progress;

	nx_translate_begin(engine, graph, code_rw, capacity, out);
	do
		progress = nx_translate_step(engine);
	while (progress == NX_MORE);
	return progress == NX_DONE;
}
