/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * snippet.c - the sequences of context.h that occur in every translation. Zydis encodes them once
 * per engine, and they are copied from then on, since encoding dominates the time of translation.
 */
#include "translate/translator.h"

static nx_operand tlb(unsigned field)
{
	return nx_op_mem(NX_HOST_CONTEXT, ZYDIS_REGISTER_R11, 1, NX_CTX_TLB + field, 8);
}

/*
 * lahf and seto work on ah and al only, so no scratch register can take their place; pushf is slow
 * and includes IF and TF. mov leaves the flags alone.
 */
static void save_flags(struct nx_emitter *e)
{
	nx_emit2(e, ZYDIS_MNEMONIC_MOV, nx_op_gpr(NX_R10, 8), nx_op_gpr(NX_RAX, 8));
	nx_emit0(e, ZYDIS_MNEMONIC_LAHF);
	nx_emit1(e, ZYDIS_MNEMONIC_SETO, nx_op_gpr(NX_RAX, 1));
	nx_emit2(e, ZYDIS_MNEMONIC_MOV, nx_op_slot(NX_CTX_FLAGS, 2), nx_op_gpr(NX_RAX, 2));
	nx_emit2(e, ZYDIS_MNEMONIC_MOV, nx_op_gpr(NX_RAX, 8), nx_op_gpr(NX_R10, 8));
}

/* al is 0 or 1: adding 0x7f overflows for 1 only; sahf leaves OF alone. */
static void restore_flags(struct nx_emitter *e)
{
	nx_emit2(e, ZYDIS_MNEMONIC_MOV, nx_op_gpr(NX_R10, 8), nx_op_gpr(NX_RAX, 8));
	nx_emit2(e, ZYDIS_MNEMONIC_MOVZX, nx_op_gpr(NX_RAX, 4), nx_op_slot(NX_CTX_FLAGS, 2));
	nx_emit2(e, ZYDIS_MNEMONIC_ADD, nx_op_gpr(NX_RAX, 1), nx_op_imm(0x7f));
	nx_emit0(e, ZYDIS_MNEMONIC_SAHF);
	nx_emit2(e, ZYDIS_MNEMONIC_MOV, nx_op_gpr(NX_RAX, 8), nx_op_gpr(NX_R10, 8));
}

/* Returns the offset of the site's number. A large placeholder keeps the encoder at 32 bits. */
static uint32_t store_site(struct nx_emitter *e)
{
	nx_emit2(e, ZYDIS_MNEMONIC_MOV, nx_op_slot(NX_CTX_SITE, 4), nx_op_imm(0x7fffffff));
	return e->size - 4;
}

static uint32_t check(struct nx_emitter *e, unsigned size, bool write, uint32_t *last_byte)
{
	uint32_t branch;

	nx_emit2(e, ZYDIS_MNEMONIC_MOV, nx_op_gpr(NX_R11, 8), nx_op_gpr(NX_R14, 8));
	nx_emit2(e, ZYDIS_MNEMONIC_SHR, nx_op_gpr(NX_R11, 8), nx_op_imm(NX_TLB_SHIFT));
	nx_emit2(e, ZYDIS_MNEMONIC_AND, nx_op_gpr(NX_R11, 4), nx_op_imm(NX_TLB_MASK));
	nx_emit2(e, ZYDIS_MNEMONIC_LEA, nx_op_gpr(NX_R10, 8),
		 nx_op_mem(ZYDIS_REGISTER_R14, ZYDIS_REGISTER_NONE, 0, size - 1, 8));
	*last_byte = e->size - 4; /* of a large one: 32 bits */
	nx_emit2(e, ZYDIS_MNEMONIC_AND, nx_op_gpr(NX_R10, 8), nx_op_imm(-(int64_t)NX_PAGE_SIZE));
	nx_emit2(e, ZYDIS_MNEMONIC_ADD, nx_op_gpr(NX_R14, 8), tlb(NX_TLB_ADDEND));
	nx_emit2(e, ZYDIS_MNEMONIC_CMP, nx_op_gpr(NX_R10, 8),
		 tlb(write ? NX_TLB_WRITE : NX_TLB_READ));
	nx_emit_branch(e, ZYDIS_MNEMONIC_JNZ, false);
	branch = e->size;
	nx_emit2(e, ZYDIS_MNEMONIC_CMOVNZ, nx_op_gpr(NX_R14, 8), nx_op_reg(NX_HOST_CONTEXT));
	return branch;
}

/* Emit jmp or call, as the mnemonic says, to a thunk. Returns the end of a direct branch, or 0. */
static uint32_t reach_thunk(struct nx_emitter *e, ZydisMnemonic mnemonic, unsigned slot)
{
	/* Traps and direct branches come together. */
	if (!e->traps) {
		nx_emit1(e, mnemonic, nx_op_slot(slot, 8));
		return 0;
	}
	nx_emit_branch(e, mnemonic, false);
	return e->size;
}

/* Returns what is to be patched; *range and *thunk as well, as in struct nx_snippet. */
static uint32_t encode(struct nx_emitter *e, unsigned kind, uint32_t *range, uint32_t *thunk)
{
	uint32_t patch = 0;

	switch (kind) {
	case NX_SNIPPET_SAVE_FLAGS:
		save_flags(e);
		break;
	case NX_SNIPPET_RESTORE_FLAGS:
		restore_flags(e);
		break;
	case NX_SNIPPET_EXIT:
		patch = store_site(e);
		*thunk = reach_thunk(e, ZYDIS_MNEMONIC_JMP, NX_CTX_THUNK_EXIT);
		nx_emit_trap(e);
		break;
	case NX_SNIPPET_HELPER:
		patch = store_site(e);
		*thunk = reach_thunk(e, ZYDIS_MNEMONIC_CALL, NX_CTX_THUNK_HELPER);
		break;
	case NX_SNIPPET_MISS:
		nx_emit2(e, ZYDIS_MNEMONIC_SUB, nx_op_gpr(NX_R14, 8), tlb(NX_TLB_ADDEND));
		nx_emit2(e, ZYDIS_MNEMONIC_MOV, nx_op_slot(NX_CTX_LINEAR, 8), nx_op_gpr(NX_R14, 8));
		patch = store_site(e);
		*thunk = reach_thunk(e, ZYDIS_MNEMONIC_CALL, NX_CTX_THUNK_MISS);
		nx_emit_branch(e, ZYDIS_MNEMONIC_JMP, false);
		break;
	case NX_SNIPPET_RANGE:
	case NX_SNIPPET_RANGE + 1:
		patch = check(e, NX_CHECK_BYTES, kind == NX_SNIPPET_RANGE + 1, range);
		break;
	default:
		patch = check(e, 1u << (kind - NX_SNIPPET_CHECK) / 2, (kind - NX_SNIPPET_CHECK) % 2,
			      range);
		break;
	}
	return patch;
}

void nx_snippets_init(struct nx_engine *engine)
{
	for (unsigned kind = 0; kind < NX_SNIPPET_COUNT; kind++) {
		struct nx_snippet *snippet = &engine->snippet[kind];
		struct nx_emitter e = {.to = snippet->bytes,
				       .capacity = sizeof(snippet->bytes),
				       .traps = engine->memory.branches != NX_BRANCHES_INDIRECT};
		uint32_t range = 0, thunk = 0;

		snippet->patch = (uint8_t)encode(&e, kind, &range, &thunk);
		snippet->range = (uint8_t)range;
		snippet->thunk = (uint8_t)thunk;
		snippet->len = e.failed ? 0 : (uint8_t)e.size;
	}
}

uint32_t nx_emit_snippet(struct nx_translator *t, unsigned kind)
{
	const struct nx_snippet *snippet = &t->engine->snippet[kind];
	uint32_t at = t->e.size;

	if (!snippet->len)
		t->e.failed = true;
	nx_emit_bytes(&t->e, snippet->bytes, snippet->len);
	return at + snippet->patch;
}

void nx_emit_site_snippet(struct nx_translator *t, unsigned kind, uint16_t site)
{
	const struct nx_thunks *thunks = &t->engine->thunks;
	uint32_t end = t->e.size + t->engine->snippet[kind].thunk, number = site;
	uint32_t at = nx_emit_snippet(t, kind);

	if (t->e.failed)
		return;
	nx_memcpy(t->e.to + at, &number, 4);
	if (t->engine->snippet[kind].thunk)
		nx_branch_patch(&t->e, end,
				(uint32_t)((kind == NX_SNIPPET_EXIT     ? thunks->exit
					    : kind == NX_SNIPPET_HELPER ? thunks->helper
									: thunks->miss) -
					   thunks->code));
}

uint32_t nx_emit_range_snippet(struct nx_translator *t, unsigned bytes, bool write)
{
	uint32_t at = t->e.size, last = bytes - 1;
	unsigned kind = NX_SNIPPET_RANGE + write;
	uint32_t branch = nx_emit_snippet(t, kind);

	if (!t->e.failed)
		nx_memcpy(t->e.to + at + t->engine->snippet[kind].range, &last, 4);
	return branch;
}

unsigned nx_snippet_check(unsigned size, bool write)
{
	return NX_SNIPPET_CHECK + 2 * (unsigned)__builtin_ctz(size) + write;
}
