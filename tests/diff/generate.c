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

#include "engine.h"

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

bool decode_bytes(const struct sequence *seq, const uint8_t *bytes, unsigned len,
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
		unsigned number = pick(random, table_segments());
		struct nx_segment s = table_segment(number);
		bool fits = (s.type & 8) != 0;

		if (code != fits || (db >= 0 && s.db != (bool)db))
			continue;
		if ((stack || (writable && !code)) && (s.type & 14) != 2)
			continue;
		if (stack &&
		    ((uint32_t)(LOW + STACK_AT + STACK_SIZE - s.base) > (uint64_t)s.limit + 1))
			continue;
		return number;
	}
}

/* Make a segment as a load in real mode does, from which the data (code, the stack) can be
 * reached; now and then with a base and limit that only protected mode can have left there. */
struct nx_segment real_segment(struct generator *g, enum nx_sreg seg)
{
	uint32_t base = LOW;

	if (seg == NX_CS)
		base -= 16 * pick(&g->random, 0xd00);
	else if (seg == NX_SS)
		base += 16 * pick(&g->random, 0x900);
	else
		base += 16 * pick(&g->random, 0x400) - 0x1000;
	return (struct nx_segment){.base = base,
				   .limit = 0xffff,
				   .selector = (uint16_t)(base >> 4),
				   .type = 3,
				   .s = true,
				   .present = true};
}

/* A segment register that cannot be used: a null selector, in protected mode. */
static bool can_be_null(const struct generator *g, enum nx_sreg seg)
{
	return processor->whole && g->hostile && seg != NX_CS && seg != NX_SS &&
	       g->seq->mode != MODE_LONG64 && g->seq->mode != MODE_REAL16;
}

static void make_segments(struct generator *g)
{
	struct sequence *seq = g->seq;
	bool segmented = seq->mode != MODE_LONG64 && seq->mode != MODE_FLAT32;
	bool real = seq->mode == MODE_REAL16 && processor->whole && !once_in(&g->random, 4);

	for (unsigned i = 0; i < NX_SREGS; i++) {
		struct nx_segment *s = &seq->seg[i];
		bool special = (i == NX_FS || i == NX_GS) && processor->has_segments();

		if (seq->mode == MODE_LONG64)
			*s = flat_segment(i == NX_CS   ? 0x33
					  : i == NX_SS ? 0x2b
						       : 0,
					  i == NX_CS, true);
		else if (real)
			*s = real_segment(g, i);
		else if (!segmented && (!special || once_in(&g->random, 2)))
			*s = flat_segment(i == NX_CS ? 0x23 : 0x2b, i == NX_CS, false);
		else
			*s = table_segment(pick_segment(&g->random, i == NX_CS, i == NX_SS,
							seq->mode == MODE_REAL16,
							i == NX_CS ? seq->bits == 32 : -1));
		s->dpl = seq->user ? 3 : 0;
		if (processor->whole && !seq->user && !real)
			s->selector &= 0xfffc; /* VMX wants them to agree */
		if (can_be_null(g, i) && once_in(&g->random, 10))
			*s = (struct nx_segment){.unusable = true};
	}
	/* A stack pointer that wraps around. */
	if (g->hostile && seq->bits == 16 && once_in(&g->random, 6)) {
		uint8_t dpl = seq->seg[NX_SS].dpl;

		seq->seg[NX_SS] = table_segment(WRAPPING_STACK);
		seq->seg[NX_SS].dpl = dpl;
	}
	if (seq->mode == MODE_LONG64) {
		seq->seg[NX_GS].base = once_in(&g->random, 2) ? HIGH - 0x12345 : LOW + 0x777;
		seq->seg[NX_FS].base = once_in(&g->random, 2) ? HIGH + 0x5432 : LOW + DATA_AT + 1;
	}
	seq->stack_bits = seq->bits == 64 ? 64 : seq->seg[NX_SS].db ? 32 : 16;
	memcpy(g->seg, seq->seg, sizeof(g->seg));
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
	seq->write_protect = !processor->whole || !once_in(&g->random, 3);
	seq->roomy = once_in(&g->random, 3);
	g->hostile = once_in(&g->random, 3);
	g->loops = once_in(&g->random, 3);
	g->skipping = g->hostile || once_in(&g->random, 4);
	g->devices = once_in(&g->random, 4);
	/* Device accesses that nobody has seen before end clusters. */
	seq->strict = !g->hostile && !g->skipping && !g->devices;
	for (unsigned i = DATA_AT / PAGE; processor->whole && g->hostile && i < PAGES; i++)
		seq->supervisor |= (uint32_t)once_in(&g->random, 12) << i;
	/* #NM or #UD. */
	if (processor->whole && g->hostile && once_in(&g->random, 4)) {
		static const uint32_t cr0[] = {NX_CR0_TS, NX_CR0_EM, 0, NX_CR0_TS | NX_CR0_EM};
		unsigned which = pick(&g->random, 4);

		seq->without_vectors_cr0 = cr0[which];
		seq->without_vectors_cr4 = which == 2 ? NX_CR4_OSFXSR : 0;
	}
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

/* Make a register constant and give it a value that addresses can be made from. */
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
	for (unsigned i = 0; i < VECTOR_REGISTERS; i++) {
		seq->vectors[i][0] = random_value(g);
		seq->vectors[i][1] = random_value(g);
	}
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
	if (seq->seg[NX_SS].selector == table_segment(WRAPPING_STACK).selector)
		stack = 0xffd8 + pick(&g->random, 40);
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
	/* With interrupts disabled, too: then the engine runs CLI. */
	seq->rflags = 2 | (random_next(&g->random) & 0xad5);
	if (once_in(&g->random, 8))
		seq->rflags |= NX_FL_DF;
	if (seq->user)
		seq->rflags |= 0x3000;
	else if (once_in(&g->random, 3))
		seq->rflags |= random_next(&g->random) & 0x3000;
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
		if (row_usable(&table[i], g->seq))
			return &table[i];
	}
}

static const struct row *io_row(struct generator *g)
{
	bool in = !is_constant(g, NX_RAX) && once_in(&g->random, 2);

	return &table[table_rows - (in ? 2 : 1)];
}

/* Add the instruction in g->bytes, if it may come here. */
static bool take(struct generator *g, const struct row *row)
{
	ZydisDecodedInstruction decoded;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	struct nx_insn engine;

	if (!decode_bytes(g->seq, g->bytes, g->len, &decoded, operands))
		return false;
	if (!is_relative(&decoded, operands)) {
		add_idle_prefix(g, row);
		if (!decode_bytes(g->seq, g->bytes, g->len, &decoded, operands))
			return false;
	}
	if (!acceptable(g, row, &engine, &decoded, operands))
		return false;
	append(g, row, &engine, &decoded, operands);
	return true;
}

static bool take_prepared(struct generator *g)
{
	const struct prepared *prepared = &g->prepared[g->prepared_next++];

	memcpy(g->bytes, prepared->bytes, sizeof(g->bytes));
	g->len = prepared->len;
	g->target = prepared->target;
	g->address_of = prepared->address_of;
	g->has_displacement = prepared->has_displacement;
	g->displacement = prepared->displacement;
	return take(g, prepared->row);
}

static bool end_loop(struct generator *g)
{
	int64_t moved = g->stack_moved - g->loop_stack;
	const struct row *row;

	/* LOOPE and LOOPNE may not come where ZF is undefined: then plain LOOP does. */
	for (unsigned tries = 0; tries < 20; tries++) {
		if (!make_loop_end(g, &row) || !take(g, row))
			continue;
		g->loop_at = 0;
		g->constant &= ~(1u << NX_RCX);
		return moved < 40 && moved > -40;
	}
	return false;
}

/* In a loop the flags of the turn before may be anything. */
static void enter_loop(struct generator *g)
{
	g->undefined = 0x8d5;
	g->constant |= 1u << NX_RCX;
	g->loop_stack = g->stack_moved;
	g->seq->strict = false;
}

static bool add_instruction(struct generator *g)
{
	if (g->dead)
		g->undefined = 0;
	g->undefined |= g->from_branches[g->index];
	if (g->loop_at && g->index == g->loop_head)
		enter_loop(g);
	if (g->prepared_next < g->prepared_count)
		return take_prepared(g);
	g->prepared_count = g->prepared_next = 0;
	if (g->loop_at && g->index == g->loop_at)
		return end_loop(g);
	if (g->loops && once_in(&g->random, 12) && begin_loop(g))
		return take_prepared(g);
	for (unsigned tries = 0; tries < 400; tries++) {
		const struct row *row = g->index == g->next_io ? io_row(g) : random_row(g);

		g->prepared_count = g->prepared_next = 0;
		if (!make_instruction(g, row))
			continue;
		if (g->prepared_count ? take_prepared(g) : take(g, row))
			return true;
	}
	return false;
}

static bool has_operand_prefix(const uint8_t *code)
{
	return code[0] == 0x66;
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
		int64_t by;

		if (insn->address_of) {
			/* Code in 16 bits lies below 64 KiB. */
			unsigned size =
			    seq->bits == 16 && !has_operand_prefix(end - insn->len) ? 2 : 4;

			memcpy(end - size, &seq->insn[insn->address_of].rip, size);
		}
		if (insn->kind != KIND_BRANCH)
			continue;
		by = (int64_t)(seq->insn[insn->target].rip - insn->rip - insn->len);
		if (!decode(seq, insn, &decoded, operands) ||
		    (decoded.raw.imm[0].size == 8 && by != (int8_t)by))
			return false;
		memcpy(end - decoded.raw.imm[0].size / 8, &by, decoded.raw.imm[0].size / 8);
	}
	return true;
}

static bool try_generate(struct generator *g, unsigned mode_mask)
{
	struct sequence *seq = g->seq;
	unsigned exits, io[4] = {0}, exit = 0;

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
		g->is_io[io[i]] = true;
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
