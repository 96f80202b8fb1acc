/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * generate.c - a seed becomes a sequence.
 *
 * What makes a difference meaningful is decided here:
 *  - registers that addresses are made from keep their values (generator.constant);
 *  - no instruction reads a flag that may be undefined: flags that may be are followed along all
 *    paths, and masked where the engine stops;
 *  - in a strict sequence nothing gives the engine a reason to leave before its end.
 */
#include "generate.h"

#include <string.h>

#include "internal.h"

const char *const mode_text[MODE_COUNT] = {
#define X(name, text, bits) text,
    MODES(X)
#undef X
};

ZydisMachineMode machine_mode(const struct sequence *seq)
{
	return seq->bits == 64   ? ZYDIS_MACHINE_MODE_LONG_64
	       : seq->bits == 32 ? ZYDIS_MACHINE_MODE_LEGACY_32
				 : ZYDIS_MACHINE_MODE_LEGACY_16;
}

static bool decode_bytes(const struct sequence *seq, const uint8_t *bytes, unsigned len,
			 ZydisDecodedInstruction *decoded, ZydisDecodedOperand *operands)
{
	ZydisDecoder decoder;
	ZydisStackWidth stack = seq->stack_bits == 64   ? ZYDIS_STACK_WIDTH_64
				: seq->stack_bits == 32 ? ZYDIS_STACK_WIDTH_32
							: ZYDIS_STACK_WIDTH_16;

	return ZYAN_SUCCESS(ZydisDecoderInit(&decoder, machine_mode(seq), stack)) &&
	       ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, len, decoded, operands));
}

bool decode(const struct sequence *seq, const struct instruction *insn,
	    ZydisDecodedInstruction *decoded, ZydisDecodedOperand *operands)
{
	uint64_t at = sequence_linear(seq, insn->rip) - LOW - CODE_AT;

	return decode_bytes(seq, seq->code + at, 15, decoded, operands);
}

const struct instruction *instruction_at(const struct sequence *seq, uint64_t rip)
{
	for (unsigned i = 0; i <= seq->instructions; i++)
		if (seq->insn[i].rip == rip)
			return &seq->insn[i];
	return NULL;
}

/* ---- The environment ---- */

static struct nx_segment flat_segment(uint16_t selector, bool code, bool is64)
{
	return (struct nx_segment){.limit = 0xffffffff,
				   .selector = selector,
				   .type = code ? 11 : 3,
				   .s = true,
				   .present = true,
				   .l = code && is64,
				   .db = !(code && is64)};
}

/* writable: real mode knows no other data segments, and none that grow down. */
static unsigned pick_segment(struct random *random, bool code, bool stack, bool writable, int db)
{
	for (;;) {
		unsigned number = pick(random, native_segments());
		struct nx_segment s = native_segment(number);
		bool fits = (s.type & 8) != 0;

		if (code != fits || (db >= 0 && s.db != (bool)db))
			continue;
		if ((stack || (writable && !code)) && (s.type & 14) != 2)
			continue;
		if (stack && (LOW + STACK_AT + STACK_SIZE - s.base > (uint64_t)s.limit + 1))
			continue;
		return number;
	}
}

static void make_segments(struct generator *g)
{
	struct sequence *seq = g->seq;
	bool segmented = seq->mode != MODE_LONG64 && seq->mode != MODE_FLAT32;

	for (unsigned i = 0; i < NX_SREGS; i++) {
		struct nx_segment *s = &seq->seg[i];
		bool special = (i == NX_FS || i == NX_GS) && native_has_fs();

		if (seq->mode == MODE_LONG64)
			*s = flat_segment(i == NX_CS   ? 0x33
					  : i == NX_SS ? 0x2b
						       : 0,
					  i == NX_CS, true);
		else if (!segmented && (!special || once_in(&g->random, 2)))
			*s = flat_segment(i == NX_CS ? 0x23 : 0x2b, i == NX_CS, false);
		else
			*s = native_segment(pick_segment(&g->random, i == NX_CS, i == NX_SS,
							 seq->mode == MODE_REAL16,
							 i == NX_CS ? seq->bits == 32 : -1));
		s->dpl = seq->user ? 3 : 0;
	}
	if (seq->mode == MODE_LONG64) {
		seq->seg[NX_GS].base = once_in(&g->random, 2) ? HIGH - 0x12345 : LOW + 0x777;
		seq->seg[NX_FS].base = once_in(&g->random, 2) ? HIGH + 0x5432 : LOW + DATA_AT + 1;
	}
	seq->stack_bits = seq->bits == 64 ? 64 : seq->seg[NX_SS].db ? 32 : 16;
}

static void make_environment(struct generator *g, unsigned mode_mask)
{
	static const uint8_t bits[MODE_COUNT] = {
#define X(name, text, b) b,
	    MODES(X)
#undef X
	};
	struct sequence *seq = g->seq;

	do
		seq->mode = pick(&g->random, MODE_COUNT);
	while (!(mode_mask & 1u << seq->mode));
	seq->bits = bits[seq->mode];
	seq->user = once_in(&g->random, 2) && seq->mode != MODE_REAL16;
	if (seq->mode == MODE_LONG64)
		seq->paging = PAGING_LONG;
	else if (seq->mode == MODE_REAL16)
		seq->paging = PAGING_NONE;
	else
		seq->paging = pick(&g->random, PAGING_LONG);
	seq->roomy = once_in(&g->random, 3);
	g->hostile = once_in(&g->random, 3);
	g->skipping = g->hostile || once_in(&g->random, 4);
	seq->strict = !g->hostile && !g->skipping;
	make_segments(g);
}

static uint64_t random_value(struct generator *g)
{
	static const uint64_t odd[] = {0,
				       1,
				       2,
				       0x7f,
				       0x80,
				       0xff,
				       0x7fff,
				       0x8000,
				       0xffff,
				       0x7fffffff,
				       0x80000000,
				       0xffffffff,
				       0x7fffffffffffffff,
				       0x8000000000000000,
				       ~0ull,
				       0x100000000};
	uint64_t value = random_next(&g->random);

	switch (pick(&g->random, 4)) {
	case 0:
		return odd[pick(&g->random, sizeof(odd) / sizeof(odd[0]))];
	case 1:
		return value >> pick(&g->random, 64);
	default:
		return value;
	}
}

/* Makes a register constant and gives it a value that addresses can be made from. */
static void add_constant(struct generator *g, unsigned reg)
{
	uint64_t near = random_target(g, 8, false, false);

	g->constant |= 1u << reg;
	if (once_in(&g->random, 3))
		near = pick(&g->random, 0x400);
	else if (once_in(&g->random, 4))
		near = random_next(&g->random);
	g->seq->gpr[reg] = near;
}

static void make_registers(struct generator *g)
{
	struct sequence *seq = g->seq;
	unsigned count = seq->bits == 64 ? 16 : 8;
	uint64_t stack = LOW + STACK_AT + 0x400 + pick(&g->random, STACK_SIZE - 0x800);

	for (unsigned i = 0; i < NX_GPRS; i++)
		seq->gpr[i] = random_value(g);
	for (unsigned i = 0; i < 3; i++) {
		unsigned reg = pick(&g->random, count);

		if (reg != NX_RSP && (reg != NX_RAX || once_in(&g->random, 4)))
			add_constant(g, reg);
	}
	if (seq->bits != 64) {
		add_constant(g, once_in(&g->random, 2) ? NX_RBX : NX_RBP);
		add_constant(g, once_in(&g->random, 2) ? NX_RSI : NX_RDI);
	}
	if (!g->hostile && ((stack & 0xfff) < 0x200 || (stack & 0xfff) > 0xe00))
		stack ^= 0x800;
	if (g->hostile && once_in(&g->random, 8))
		stack = LOW + STACK_AT + pick(&g->random, 3) * PAGE + pick(&g->random, 16);
	stack -= seq->seg[NX_SS].base;
	if (!once_in(&g->random, 4))
		stack &= ~7ull;
	seq->gpr[NX_RSP] = stack;
	/* For LEAVE. */
	if (once_in(&g->random, 4)) {
		g->constant |= 1u << NX_RBP;
		seq->gpr[NX_RBP] = stack + pick(&g->random, 64);
	}
	if (seq->bits != 64)
		for (unsigned i = 0; i < NX_GPRS; i++)
			seq->gpr[i] = (uint32_t)seq->gpr[i];
	/* Above a 16-bit stack pointer anything may stand. */
	if (seq->stack_bits == 16 && once_in(&g->random, 2))
		seq->gpr[NX_RSP] = (uint16_t)stack | (random_next(&g->random) & 0xffff0000);
	seq->rflags = 0x202 | (random_next(&g->random) & 0x8d5);
	if (once_in(&g->random, 8))
		seq->rflags |= NX_FL_DF;
	seq->rflags |= seq->user ? 0x3000 : random_next(&g->random) & 0x3000;
}

/* ---- Is this instruction one that may come here? ---- */

static struct nx_mode engine_mode(const struct sequence *seq)
{
	return (struct nx_mode){.bits = seq->bits,
				.stack_bits = seq->stack_bits,
				.io_allowed = true,
				.user = seq->user,
				.protected_mode = seq->mode != MODE_REAL16};
}

static unsigned number_of(ZydisRegister reg)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15)
		return NX_GPRS;
	return whole - ZYDIS_REGISTER_RAX;
}

/* What it writes must not be what addresses are made from. */
static bool writes_allowed(struct generator *g, const ZydisDecodedInstruction *decoded,
			   const ZydisDecodedOperand *operands, const struct row *row)
{
	bool moves_stack =
	    row->form == FORM_PUSH || row->form == FORM_POP || row->form == FORM_STACK_ADJUST;
	bool wild = g->hostile && once_in(&g->random, 40);

	for (unsigned i = 0; i < decoded->operand_count; i++) {
		unsigned number;

		if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		number = number_of(operands[i].reg.value);
		if (number == NX_GPRS || wild)
			continue;
		if (row->mnemonic == ZYDIS_MNEMONIC_LEAVE)
			continue;
		if (is_constant(g, number))
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

/* By how much the stack pointer moves, on the path that executes it. */
static int64_t stack_move(const struct row *row, const ZydisDecodedInstruction *decoded,
			  const ZydisDecodedOperand *operands)
{
	switch (row->form) {
	case FORM_PUSH:
		return -(int64_t)(decoded->operand_width / 8);
	case FORM_POP:
		return decoded->operand_width / 8;
	case FORM_STACK_ADJUST:
		return operands[1].type == ZYDIS_OPERAND_TYPE_MEMORY ? operands[1].mem.disp.value
								     : operands[1].imm.value.s;
	default:
		return 0;
	}
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
	/* A shift by zero writes no flags. */
	if (!is_shift(row))
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

static bool acceptable(struct generator *g, const struct row *row, struct nx_insn *engine,
		       const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands)
{
	struct nx_mode mode = engine_mode(g->seq);
	int64_t moved = g->stack_moved + stack_move(row, decoded, operands);

	if (row->form == FORM_JCC || row->form == FORM_COUNT
		? decoded->meta.category != ZYDIS_CATEGORY_COND_BR
		: decoded->mnemonic != row->mnemonic)
		return false;
	if (!displacement_kept(g, decoded, operands))
		return false;
	if (decoded->cpu_flags && (decoded->cpu_flags->tested & g->undefined))
		return false;
	if (!writes_allowed(g, decoded, operands, row))
		return false;
	if (row->mnemonic == ZYDIS_MNEMONIC_LEAVE && !leave_allowed(g))
		return false;
	if (!g->hostile && (moved > 200 || moved < -200))
		return false;
	nx_decode(&mode, rip_here(g), g->bytes, g->len, engine);
	if (engine->op == NX_OP_LEAVE && !(g->hostile && once_in(&g->random, 8)))
		return false;
	return g->index == g->next_io || engine->accesses <= g->accesses;
}

/* Prefixes that mean nothing here are legal, and compilers and hands put them there. */
static void add_idle_prefix(struct generator *g, const struct row *row)
{
	static const uint8_t prefix[] = {0x2e, 0x3e, 0x26, 0x36};
	bool has_memory = row->form != FORM_NONE && row->form != FORM_REG_REG &&
			  row->form != FORM_R && row->form != FORM_JCC;

	if (g->len > 11 || !once_in(&g->random, 24) || row->form == FORM_MOFFS ||
	    (has_memory && g->seq->bits != 64))
		return;
	memmove(g->bytes + 1, g->bytes, g->len);
	g->bytes[0] = prefix[pick(&g->random, 4)];
	g->len++;
}

static const struct row *random_row(struct generator *g)
{
	static unsigned total;

	if (!total)
		for (unsigned i = 0; i < table_rows; i++)
			total += table[i].weight;
	for (;;) {
		unsigned at = pick(&g->random, total), i = 0;

		while (at >= table[i].weight)
			at -= table[i++].weight;
		if (row_usable(&table[i], g->seq->bits))
			return &table[i];
	}
}

static const struct row *io_row(struct generator *g)
{
	bool in = !is_constant(g, NX_RAX) && once_in(&g->random, 2);

	return &table[table_rows - (in ? 2 : 1)];
}

static bool is_relative(const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands)
{
	for (unsigned i = 0; i < decoded->operand_count_visible; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (operands[i].mem.base == ZYDIS_REGISTER_RIP ||
		     operands[i].mem.base == ZYDIS_REGISTER_EIP))
			return true;
	return false;
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
		return row->form == FORM_JCC || row->form == FORM_JMP || row->form == FORM_COUNT
			   ? KIND_BRANCH
			   : KIND_PLAIN;
	}
}

/* Puts the instruction in the sequence, and what follows from it in the generator. */
static void append(struct generator *g, const struct row *row, const struct nx_insn *engine,
		   const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands)
{
	struct instruction *insn = &g->seq->insn[g->index];

	*insn = (struct instruction){.rip = rip_here(g),
				     .len = (uint8_t)g->len,
				     .kind = kind_of(row),
				     .row = (uint16_t)(row - table),
				     .target = (uint16_t)g->target,
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
	if (row->mnemonic == ZYDIS_MNEMONIC_LEAVE)
		g->constant &= ~(1u << NX_RBP);
	g->undefined = undefined_after(g, row, decoded, operands);
	if (g->target)
		g->from_branches[g->target] |= g->undefined;
	g->dead = row->form == FORM_JMP;
}

static bool add_instruction(struct generator *g)
{
	ZydisDecodedInstruction decoded;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	struct nx_insn engine;

	if (g->dead)
		g->undefined = 0;
	g->undefined |= g->from_branches[g->index];
	for (unsigned tries = 0; tries < 400; tries++) {
		const struct row *row = g->index == g->next_io ? io_row(g) : random_row(g);

		if (!make_instruction(g, row) ||
		    !decode_bytes(g->seq, g->bytes, g->len, &decoded, operands))
			continue;
		if (!is_relative(&decoded, operands)) {
			add_idle_prefix(g, row);
			if (!decode_bytes(g->seq, g->bytes, g->len, &decoded, operands))
				continue;
		}
		if (!acceptable(g, row, &engine, &decoded, operands))
			continue;
		append(g, row, &engine, &decoded, operands);
		return true;
	}
	return false;
}

/* Branch displacements, when all places are known. */
static bool link_branches(struct sequence *seq)
{
	for (unsigned i = 0; i < seq->instructions; i++) {
		const struct instruction *insn = &seq->insn[i];
		uint8_t *end =
		    seq->code + (sequence_linear(seq, insn->rip) - LOW - CODE_AT) + insn->len;
		ZydisDecodedInstruction decoded;
		ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
		uint64_t by;

		if (insn->kind != KIND_BRANCH)
			continue;
		by = seq->insn[insn->target].rip - insn->rip - insn->len;
		if (!decode(seq, insn, &decoded, operands) ||
		    (decoded.raw.imm[0].size == 8 && by > 127))
			return false;
		memcpy(end - decoded.raw.imm[0].size / 8, &by, decoded.raw.imm[0].size / 8);
	}
	return true;
}

static bool try_generate(struct generator *g, unsigned mode_mask)
{
	struct sequence *seq = g->seq;
	unsigned exits, io[4], exit = 0;

	memset(seq->code, 0xf4, sizeof(seq->code));
	make_environment(g, mode_mask);
	make_registers(g);
	exits = 1 + pick(&g->random, 4);
	g->at = pick(&g->random, CODE_SIZE - 1200);
	if (once_in(&g->random, 4))
		g->at = PAGE - pick(&g->random, 200);
	for (unsigned i = 0; i < exits; i++) {
		io[i] = g->planned + pick(&g->random, 17);
		g->planned = io[i] + 1;
	}
	for (; g->index < g->planned; g->index++) {
		g->next_io = io[exit];
		if (g->index == 0 || g->index == io[exit - (exit > 0)] + 1)
			g->accesses = seq->roomy ? 12 : 4;
		if (!add_instruction(g))
			return false;
		exit += g->index == g->next_io;
	}
	seq->instructions = g->index;
	seq->insn[g->index] = (struct instruction){
	    .rip = rip_here(g), .undefined = g->undefined | g->from_branches[g->index]};
	for (unsigned i = 0; i < MAX_ACCESSES; i++)
		seq->input[i] = random_value(g);
	return sequence_linear(seq, seq->insn[g->index].rip) -
		       sequence_linear(seq, seq->insn[0].rip) <
		   600 &&
	       link_branches(seq);
}

void generate(struct sequence *seq, uint64_t seed, unsigned mode_mask)
{
	for (uint64_t attempt = 0;; attempt++) {
		struct generator g = {.random = {seed ^ attempt << 48}, .seq = seq};

		memset(seq, 0, sizeof(*seq));
		seq->seed = seed;
		if (try_generate(&g, mode_mask))
			return;
	}
}
