/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* accept.c - whether an instruction may come next in a sequence, and what follows from it. */
#include <string.h>

#include "engine.h"
#include "generate.h"

/* ---- Is this instruction one that may come here? ---- */

static struct nx_decode_cache cache;

static struct nx_mode engine_mode(const struct sequence *seq)
{
	return (struct nx_mode){.bits = seq->bits,
				.stack_bits = seq->stack_bits,
				.io_allowed = true,
				.user = seq->user,
				.protected_mode = seq->mode != MODE_REAL16,
				.segment_loads = processor->whole && seq->mode == MODE_REAL16,
				.features = ~NX_HAS_TSC &
					    ~(uint32_t)(uses_vectors(seq) ? 0 : NX_HAS_VECTORS)};
}

static unsigned number_of(ZydisRegister reg)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15)
		return NX_GPRS;
	return whole - ZYDIS_REGISTER_RAX;
}

/* By how many operands the stack pointer moves. */
static int moves_stack_by(const struct row *row)
{
	switch (row->form) {
	case FORM_PUSH:
	case FORM_PUSHF:
	case FORM_PUSH_SREG:
	case FORM_ENTER:
	case FORM_CALL:
		return -1;
	case FORM_REGISTER_JUMP:
	case FORM_MEMORY_JUMP:
		return row->mnemonic == ZYDIS_MNEMONIC_CALL ? -1 : 0;
	case FORM_LOAD_SREG:
		return row->mnemonic == ZYDIS_MNEMONIC_POP ? 1 : 0;
	case FORM_POP:
	case FORM_POPF:
	case FORM_POP_M:
	case FORM_RET:
		return 1;
	case FORM_PUSHA:
		return -8;
	case FORM_POPA:
		return 8;
	default:
		return 0;
	}
}

/* It must not write a register from which addresses are made. */
static bool writes_allowed(struct generator *g, const ZydisDecodedInstruction *decoded,
			   const ZydisDecodedOperand *operands, const struct row *row)
{
	bool moves_stack = row->form == FORM_STACK_ADJUST || moves_stack_by(row);
	bool wild = g->hostile && once_in(&g->random, 40);

	for (unsigned i = 0; i < decoded->operand_count; i++) {
		unsigned number;

		if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		number = number_of(operands[i].reg.value);
		if (number == NX_RCX && g->loop_at && g->index != g->loop_at)
			return false;
		if (number == NX_GPRS || wild)
			continue;
		if (row->mnemonic == ZYDIS_MNEMONIC_LEAVE || row->form == FORM_POPA)
			continue;
		/* The counter of a loop is its own. */
		if (is_constant(g, number) && !(g->loop_at && g->index == g->loop_at))
			return false;
		if (number == NX_RSP && !(moves_stack && (row->form == FORM_STACK_ADJUST ||
							  i >= decoded->operand_count_visible)))
			return false;
	}
	return true;
}

static bool leave_allowed(const struct generator *g)
{
	uint64_t mask = g->seq->stack_bits == 64 ? ~0ull : (1ull << g->seq->stack_bits) - 1;
	uint64_t top = g->seq->gpr[NX_RBP] & mask;

	return g->hostile || (is_constant(g, NX_RBP) && top - (g->seq->gpr[NX_RSP] & mask) < 64);
}

/* Zydis 4.0 cuts some 32-bit displacements in 16-bit code to 16 bits. */
static bool displacement_kept(const struct generator *g, const ZydisDecodedInstruction *decoded,
			      const ZydisDecodedOperand *operands)
{
	if (!g->has_displacement)
		return true;
	for (unsigned i = 0; i < decoded->operand_count_visible; i++) {
		int64_t value = operands[i].mem.disp.value;

		if (operands[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (decoded->address_width == 16)
			return (int16_t)value == (int16_t)g->displacement;
		return (int32_t)value == (int32_t)g->displacement;
	}
	return false;
}

bool is_relative(const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands)
{
	for (unsigned i = 0; i < decoded->operand_count_visible; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (operands[i].mem.base == ZYDIS_REGISTER_RIP ||
		     operands[i].mem.base == ZYDIS_REGISTER_EIP))
			return true;
	return false;
}

/* By how much the stack pointer moves, on the path that executes it. */
static int64_t stack_move(const struct row *row, const ZydisDecodedInstruction *decoded,
			  const ZydisDecodedOperand *operands)
{
	int64_t move = moves_stack_by(row) * (decoded->operand_width / 8);

	if (row->form == FORM_RET && decoded->operand_count_visible)
		return move + (int64_t)operands[0].imm.value.u;
	if (row->form == FORM_ENTER)
		return move - (int64_t)operands[0].imm.value.u;
	if (row->form == FORM_STACK_ADJUST)
		return operands[1].type == ZYDIS_OPERAND_TYPE_MEMORY ? operands[1].mem.disp.value
								     : operands[1].imm.value.s;
	return move;
}

static bool is_shift(const struct row *row)
{
	return row->form == FORM_SHIFT || row->form == FORM_SHIFT_DOUBLE;
}

/* The flags that may be undefined after it. */
static uint32_t undefined_after(const struct generator *g, const struct row *row,
				const ZydisDecodedInstruction *decoded,
				const ZydisDecodedOperand *operands)
{
	const ZydisAccessedFlags *flags = decoded->cpu_flags;
	const ZydisDecodedOperand *count = &operands[decoded->operand_count_visible - 1];
	uint32_t undefined = g->undefined;

	if (!flags)
		return undefined;
	/* A shift by zero and a comparison of nothing write no flags. */
	if (!is_shift(row) && row->form != FORM_STRING)
		undefined &= ~(flags->modified | flags->set_0 | flags->set_1);
	undefined |= flags->undefined & NX_FL_ARITHMETIC;
	if (is_shift(row) &&
	    (count->type != ZYDIS_OPERAND_TYPE_IMMEDIATE || count->imm.value.u != 1)) {
		undefined |= NX_FL_OF;
		/* Counts of 8 and 16 bits and more shift out what is not there. */
		if (decoded->operand_width < 32 && (flags->modified & (NX_FL_SF | NX_FL_ZF)))
			undefined |= NX_FL_CF;
	}
	return undefined;
}

/*
 * KVM's emulator, which executes instructions with a device operand, takes LZCNT and TZCNT for BSR
 * and BSF, and does not know POPCNT.
 */
static bool emulator_differs(ZydisMnemonic mnemonic)
{
	return mnemonic == ZYDIS_MNEMONIC_LZCNT || mnemonic == ZYDIS_MNEMONIC_TZCNT ||
	       mnemonic == ZYDIS_MNEMONIC_POPCNT;
}

bool acceptable(struct generator *g, const struct row *row, struct nx_insn *engine,
		const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands)
{
	struct nx_mode mode = engine_mode(g->seq);
	int64_t moved = g->stack_moved + stack_move(row, decoded, operands);

	if (row->form == FORM_FOREIGN)
		return g->hostile && !g->loop_at;
	if (row->form == FORM_JCC || row->form == FORM_COUNT
		? decoded->meta.category != ZYDIS_CATEGORY_COND_BR
		: decoded->mnemonic != row->mnemonic)
		return false;
	if (!displacement_kept(g, decoded, operands))
		return false;
	if (processor->whole && g->on_device && emulator_differs(row->mnemonic))
		return false;
	if (processor->differs(decoded, is_relative(decoded, operands), g->on_device))
		return false;
	/* An instruction that can run once only cannot be in a loop. */
	if (g->loop_at && (row->form == FORM_POPA || row->mnemonic == ZYDIS_MNEMONIC_LEAVE ||
			   row->mnemonic == ZYDIS_MNEMONIC_CLI))
		return false;
	if (decoded->cpu_flags && (decoded->cpu_flags->tested & g->undefined))
		return false;
	if (!writes_allowed(g, decoded, operands, row))
		return false;
	if (row->mnemonic == ZYDIS_MNEMONIC_LEAVE && !leave_allowed(g))
		return false;
	if (!g->hostile && (moved > 200 || moved < -200))
		return false;
	/* A step would show TF. IF and IOPL are not the same natively. */
	if (row->form == FORM_PUSHF &&
	    (g->undefined || g->loop_at ||
	     (!processor->whole && (g->cleared_if || !(g->seq->rflags & NX_FL_IF) || g->seq->user ||
				    (g->seq->rflags & NX_FL_IOPL)))))
		return false;
	nx_decode(&cache, &mode, rip_here(g), g->bytes, g->len, engine);
	if (engine->op == NX_OP_LEAVE && !(g->hostile && once_in(&g->random, 8)))
		return false;
	return g->index == g->next_io || engine->accesses <= g->accesses;
}

static uint8_t kind_of(const struct row *row)
{
	switch (row->mnemonic) {
	case ZYDIS_MNEMONIC_IN:
		return KIND_IN;
	case ZYDIS_MNEMONIC_OUT:
		return KIND_OUT;
	case ZYDIS_MNEMONIC_CLI:
		return KIND_CLI;
	default:
		if (row->form == FORM_STRING_IO)
			return KIND_STRING_IO;
		return row->form == FORM_JCC || row->form == FORM_JMP || row->form == FORM_COUNT ||
			       row->form == FORM_CALL
			   ? KIND_BRANCH
			   : KIND_PLAIN;
	}
}

unsigned loaded_by(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_LDS:
		return NX_DS;
	case ZYDIS_MNEMONIC_LES:
		return NX_ES;
	case ZYDIS_MNEMONIC_LFS:
		return NX_FS;
	case ZYDIS_MNEMONIC_LGS:
		return NX_GS;
	default:
		return NX_SREGS;
	}
}

/* The value was made by an instruction before it (compose.c). */
static void load_segment(struct generator *g, unsigned seg)
{
	g->seg[seg].selector = g->loading;
	g->seg[seg].base = (uint64_t)g->loading << 4;
}

/* Put the instruction in the sequence, and what follows from it in the generator. */
void append(struct generator *g, const struct row *row, const struct nx_insn *engine,
	    const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands)
{
	struct instruction *insn = &g->seq->insn[g->index];
	bool jumps;

	*insn = (struct instruction){.rip = rip_here(g),
				     .len = (uint8_t)g->len,
				     .kind = kind_of(row),
				     .row = (uint16_t)(row - table),
				     .target = (uint16_t)g->target,
				     .address_of = (uint16_t)g->address_of,
				     .undefined = g->undefined};
	if (row->form == FORM_IO) {
		unsigned data = row->mnemonic == ZYDIS_MNEMONIC_IN ? 0 : 1;

		insn->size = (uint8_t)(operands[data].size / 8);
		insn->port_in_dx = operands[1 - data].type == ZYDIS_OPERAND_TYPE_REGISTER;
	}
	memcpy(g->seq->code + g->at, g->bytes, g->len);
	g->at += g->len;
	if (g->index != g->next_io)
		g->accesses -= engine->accesses;
	g->stack_moved += stack_move(row, decoded, operands);
	if (row->mnemonic == ZYDIS_MNEMONIC_CLI && (g->seq->rflags & NX_FL_IF)) {
		g->cleared_if = true;
		/* The engine leaves it to the processor to close an interrupt window. */
		g->seq->strict = false;
	}
	g->seq->pushes_flags |= row->form == FORM_PUSHF;
	if (row->form == FORM_POPA)
		g->constant = 0;
	if (row->form == FORM_LOAD_SREG && loaded_by(row->mnemonic) < NX_SREGS)
		load_segment(g, loaded_by(row->mnemonic));
	else if (row->form == FORM_LOAD_SREG)
		load_segment(g, operands[0].reg.value - ZYDIS_REGISTER_ES);
	if (row->mnemonic == ZYDIS_MNEMONIC_LEAVE)
		g->constant &= ~(1u << NX_RBP);
	g->undefined = undefined_after(g, row, decoded, operands);
	if (g->target > g->index) {
		g->branch_target[g->target] = true;
		g->from_branches[g->target] |= g->undefined;
	}
	jumps = row->form == FORM_CALL || row->form == FORM_RET ||
		row->form == FORM_REGISTER_JUMP || row->form == FORM_MEMORY_JUMP;
	g->dead = row->form == FORM_JMP || jumps;
	if (jumps) {
		g->seq->jumps = true;
		g->seq->strict = false;
	}
}
