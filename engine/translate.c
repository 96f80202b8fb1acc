/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * translate.c - a graph to host code: blocks, branches, exits and what lies out of line. The
 * instructions themselves are lower.c's. context.h has the rules of the code that comes out.
 */
#include "translate.h"

_Static_assert(NX_SNIPPET_COUNT == NX_SNIPPETS, "vcpu.h counts them too");

uint16_t nx_add_site(struct nx_translator *t, enum nx_site_kind kind, const struct nx_insn *insn)
{
	struct nx_site *site = &t->out->site[t->out->sites];

	if (t->out->sites == NX_MAX_SITES) {
		t->e.failed = true;
		return 0;
	}
	nx_memset(site, 0, sizeof(*site));
	site->kind = (uint8_t)kind;
	site->insn = t->insn;
	site->rip = insn->rip;
	site->next = nx_next_rip(&t->graph->mode, insn);
	site->size = insn->size;
	site->len = insn->len;
	nx_memcpy(site->bytes, insn->bytes, sizeof(site->bytes));
	return t->out->sites++;
}

void nx_add_stub(struct nx_translator *t, int kind, uint32_t from, uint32_t back, uint16_t site)
{
	if (t->s->stubs == NX_MAX_STUBS) {
		t->e.failed = true;
		return;
	}
	t->s->stub[t->s->stubs++] = (struct nx_stub){kind, from, back, site, NX_NOWHERE};
}

void nx_keep_flags_in_context(struct nx_translator *t)
{
	if (!t->flags_in_context)
		nx_emit_snippet(t, NX_SNIPPET_SAVE_FLAGS);
	t->flags_in_context = true;
}

void nx_keep_flags_in_host(struct nx_translator *t)
{
	if (!t->flags_in_host)
		nx_emit_snippet(t, NX_SNIPPET_RESTORE_FLAGS);
	t->flags_in_host = true;
}

void nx_emit_exit(struct nx_translator *t, uint16_t site)
{
	nx_emit_site_snippet(t, NX_SNIPPET_EXIT, site);
}

static uint16_t add_leave(struct nx_translator *t, const struct nx_insn *insn, uint64_t rip,
			  enum nx_leave_reason reason)
{
	uint16_t site = nx_add_site(t, NX_SITE_LEAVE, insn);

	t->out->site[site].rip = rip;
	t->out->site[site].reason = (uint8_t)reason;
	return site;
}

static void add_fixup(struct nx_translator *t, uint16_t block)
{
	if (t->s->fixups == NX_MAX_FIXUPS) {
		t->e.failed = true;
		return;
	}
	t->s->fixup[t->s->fixups++] = (struct nx_fixup){t->e.size, block};
}

/*
 * A backedge that may be taken so often only: counts, and leaves when the turns are used up. The
 * flags are in the host before and after it.
 */
static void emit_counted(struct nx_translator *t, uint16_t leave_site, uint16_t block)
{
	nx_emit_snippet(t, NX_SNIPPET_SAVE_FLAGS);
	nx_emit2(&t->e, ZYDIS_MNEMONIC_SUB, nx_op_slot(NX_CTX_TURNS, 4), nx_op_imm(1));
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JB, false);
	nx_add_stub(t, NX_STUB_LEAVE, t->e.size, 0, leave_site);
	nx_emit_snippet(t, NX_SNIPPET_RESTORE_FLAGS);
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JMP, false);
	add_fixup(t, block);
}

/* The branch that was just emitted is the guest's, to a block or out of the cluster. */
static void link_taken(struct nx_translator *t, const struct nx_insn *insn, uint16_t block,
		       bool weak)
{
	if (block != NX_NOWHERE && weak) {
		nx_add_stub(t, NX_STUB_BACKEDGE, t->e.size, 0,
			    add_leave(t, insn, insn->target, NX_LEAVE_TURNS));
		t->s->stub[t->s->stubs - 1].block = block;
	} else if (block != NX_NOWHERE)
		add_fixup(t, block);
	else
		nx_add_stub(t, NX_STUB_LEAVE_SAVE, t->e.size, 0,
			    add_leave(t, insn, insn->target, NX_LEAVE_CLUSTER_END));
}

/* Goes on at a block, or leaves at rip; the block that is laid out next needs no branch. */
static void continue_at(struct nx_translator *t, const struct nx_insn *insn, uint16_t block,
			uint64_t rip, uint16_t following, bool weak)
{
	if (block == NX_NOWHERE) {
		nx_keep_flags_in_context(t);
		nx_emit_exit(t, add_leave(t, insn, rip, NX_LEAVE_CLUSTER_END));
		return;
	}
	nx_keep_flags_in_host(t);
	if (weak) {
		emit_counted(t, add_leave(t, insn, rip, NX_LEAVE_TURNS), block);
		return;
	}
	/* A joined entry begins with a restore for those who enter; others pass it. */
	if (block == following && !t->graph->block[block].entry)
		return;
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JMP, false);
	add_fixup(t, block);
}

static void emit_conditional(struct nx_translator *t, const struct nx_insn *insn)
{
	struct nx_decoded d;

	if (!nx_decode_full(&t->graph->mode, insn->bytes, insn->len, &d)) {
		t->e.failed = true;
		return;
	}
	nx_keep_flags_in_host(t);
	switch (d.insn.mnemonic) {
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
		nx_lower_count_branch(t, &d);
		break;
	default:
		nx_emit_branch(&t->e, d.insn.mnemonic, false);
		break;
	}
}

/* An IN or OUT: the host owes its emulation. Code after it is entered by the next resume. */
static void emit_io_exit(struct nx_translator *t, const struct nx_insn *insn)
{
	uint16_t site = nx_add_site(t, NX_SITE_IO, insn);

	t->out->site[site].write = insn->op == NX_OP_OUT;
	t->out->site[site].port_in_dx = insn->port_in_dx;
	t->out->site[site].port = (uint16_t)insn->target;
	nx_keep_flags_in_context(t);
	nx_emit_exit(t, site);
}

/* The block's last instruction, where control flow is decided. */
static void end_block(struct nx_translator *t, const struct nx_block *block,
		      const struct nx_insn *insn, uint16_t following)
{
	switch ((enum nx_op)insn->op) {
	case NX_OP_IN:
	case NX_OP_OUT:
		emit_io_exit(t, insn);
		break;
	case NX_OP_INSN_EXIT:
		nx_keep_flags_in_context(t);
		nx_emit_exit(t, nx_add_site(t, NX_SITE_INSN, insn));
		break;
	case NX_OP_JMP:
		continue_at(t, insn, block->taken, insn->target, following, block->weak_taken);
		break;
	case NX_OP_JCC:
		emit_conditional(t, insn);
		link_taken(t, insn, block->taken, block->weak_taken);
		continue_at(t, insn, block->next, nx_next_rip(&t->graph->mode, insn), following,
			    block->weak_next);
		break;
	default:
		nx_lower(t, insn);
		continue_at(t, insn, block->next, nx_next_rip(&t->graph->mode, insn), following,
			    block->weak_next);
		break;
	}
}

static void add_entry(struct nx_translator *t, uint64_t rip)
{
	/* At most one a block. */
	t->out->entry[t->out->entries++] = (struct nx_entry){rip, t->e.size};
}

static void emit_block(struct nx_translator *t, uint16_t number)
{
	const struct nx_block *block = &t->graph->block[number];
	const struct nx_insn *insn = &t->graph->insn[block->first];
	uint16_t following = (uint16_t)(number + 1u);

	t->flags_in_host = true;
	t->flags_in_context = false;
	if (block->entry) {
		add_entry(t, insn->rip);
		t->flags_in_host = false;
		t->flags_in_context = true;
		if (t->s->joined[number]) {
			nx_keep_flags_in_host(t);
			t->flags_in_context = false;
		}
	}
	t->s->block_offset[number] = t->e.size;
	for (unsigned i = 0; i < block->count; i++) {
		t->insn = (uint16_t)(block->first + i);
		if (i + 1u == block->count)
			end_block(t, block, &insn[i], following);
		else
			nx_lower(t, &insn[i]);
	}
}

/* Blocks that control reaches from inside the translation, not by a resume only. */
static void find_joined(struct nx_translator *t)
{
	const struct nx_graph *graph = t->graph;

	nx_memset(t->s->joined, 0, sizeof(t->s->joined));
	for (unsigned i = 0; i < graph->blocks; i++) {
		const struct nx_block *block = &graph->block[i];
		const struct nx_insn *last = &graph->insn[block->first + block->count - 1];
		bool exits = nx_op_exits(last->op);

		if (block->taken != NX_NOWHERE)
			t->s->joined[block->taken] = true;
		if (block->next != NX_NOWHERE && !exits)
			t->s->joined[block->next] = true;
	}
}

static void emit_stub(struct nx_translator *t, const struct nx_stub *stub)
{
	nx_patch_branch(&t->e, stub->from, t->e.size);
	switch (stub->kind) {
	case NX_STUB_MISS:
		nx_emit_site_snippet(t, NX_SNIPPET_MISS, stub->site);
		nx_patch_branch(&t->e, t->e.size, stub->back);
		break;
	case NX_STUB_LEAVE_SAVE:
		nx_emit_snippet(t, NX_SNIPPET_SAVE_FLAGS);
		nx_emit_exit(t, stub->site);
		break;
	case NX_STUB_LEAVE:
		nx_emit_exit(t, stub->site);
		break;
	case NX_STUB_BACKEDGE:
		emit_counted(t, stub->site, stub->block);
		break;
	}
}

bool nx_translate(struct nx_vcpu *vcpu, const struct nx_graph *graph, uint8_t *code_rw,
		  size_t capacity, struct nx_translation *out)
{
	struct nx_translator t = {
	    .vcpu = vcpu,
	    .graph = graph,
	    .out = out,
	    .s = (struct nx_translate_scratch *)vcpu->translate_scratch,
	    .e = {.to = code_rw, .capacity = capacity},
	};

	out->sites = out->entries = 0;
	t.s->stubs = t.s->fixups = 0;
	find_joined(&t);
	for (uint16_t i = 0; i < graph->blocks && !t.e.failed; i++)
		emit_block(&t, i);
	/* A backedge's stub adds one more. */
	for (unsigned i = 0; i < t.s->stubs && !t.e.failed; i++)
		emit_stub(&t, &t.s->stub[i]);
	for (unsigned i = 0; i < t.s->fixups && !t.e.failed; i++)
		nx_patch_branch(&t.e, t.s->fixup[i].from, t.s->block_offset[t.s->fixup[i].block]);
	out->size = t.e.size;
	return !t.e.failed;
}
