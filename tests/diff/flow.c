/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* flow.c - loops, and jumps to where a register, memory or the stack's top says. */
#include "generate.h"

/*
 * A few turns of some instructions: MOV to the counter here, LOOP at the end. No branch from before
 * may lead between, past the MOV. What flags the second turn finds is not followed: none.
 */
bool begin_loop(struct generator *g)
{
	unsigned body = 1 + pick(&g->random, 10), end = g->index + 1 + body;

	if (g->loop_at || is_constant(g, NX_RCX) || g->index == g->next_io ||
	    end + 1 >= g->planned || g->is_io[end])
		return false;
	for (unsigned i = g->index + 1; i <= end; i++)
		if (g->branch_target[i])
			return false;
	if (!prepare_mov(g, NX_RCX, g->seq->bits == 16 ? 4 : g->seq->bits / 8,
			 1 + pick(&g->random, 5)))
		return false;
	g->loop_head = g->index + 1;
	g->loop_at = end;
	return true;
}

bool make_loop_end(struct generator *g, const struct row **row)
{
	unsigned which = pick(&g->random, 3);

	*row = table;
	while ((*row)->mnemonic != ZYDIS_MNEMONIC_LOOP)
		++*row;
	/* LOOP, LOOPE, LOOPNE in the table. */
	*row += which;
	g->len = 0;
	if (once_in(&g->random, 3))
		put(g, 0x67);
	put(g, 0xe2 - which);
	put(g, 0);
	g->target = g->loop_head;
	g->has_displacement = false;
	return true;
}

static unsigned jump_target(struct generator *g)
{
	unsigned last = (g->skipping ? g->planned - 1 : g->next_io) - (g->index + 1);

	return g->index + 2 + pick(&g->random, last < 6 ? last : 6);
}

/* Forward to where a register or the stack's top says; the address itself is known later. */
bool compose_jump(struct generator *g, const struct row *row)
{
	unsigned last = g->skipping ? g->planned - 1 : g->next_io, reg = pick(&g->random, 8);
	bool ret = row->form == FORM_RET;
	/* 32 bits in 16-bit code: the address is made of as many. */
	bool wide = g->seq->bits == 16 && once_in(&g->random, 2);
	const struct row *first = table;

	/* With a code address in rbp a LEAVE would find native.c's breakpoint on its stack. */
	if (!room(g, 2) || last < g->index + 2 ||
	    (!ret && (reg == NX_RSP || reg == NX_RBP || is_constant(g, reg))))
		return false;
	while (ret ? first->form != FORM_PUSH : first->form != FORM_RM_IMM)
		first++;
	g->len = 0;
	if (wide)
		put(g, 0x66);
	put(g, ret ? 0x68 : 0xb8 + reg);
	for (unsigned i = 0; i < (wide ? 4 : natural_size(g)); i++)
		put(g, 0);
	prepare(g, first, false);
	g->len = 0;
	if (wide)
		put(g, 0x66);
	if (ret) {
		bool drops = once_in(&g->random, 3);

		put(g, drops ? 0xc2 : 0xc3);
		if (drops) {
			put(g, pick(&g->random, 8) * 4);
			put(g, 0);
		}
	} else {
		put(g, 0xff);
		put(g, (row->mnemonic == ZYDIS_MNEMONIC_CALL ? 0xd0 : 0xe0) + reg);
	}
	prepare(g, row, false);
	g->prepared[1].target = g->prepared[0].address_of = jump_target(g);
	return true;
}

/* The same, where memory says: the address is stored there first. */
bool compose_memory_jump(struct generator *g, const struct row *row)
{
	unsigned last = g->skipping ? g->planned - 1 : g->next_io, size = g->seq->bits / 8u;
	ZydisEncoderRequest store = {.machine_mode = machine_mode(g->seq),
				     .mnemonic = ZYDIS_MNEMONIC_MOV,
				     .operand_count = 2};
	ZydisEncoderRequest jump = {
	    .machine_mode = machine_mode(g->seq), .mnemonic = row->mnemonic, .operand_count = 1};
	const struct row *first = table;
	bool made;

	if (!room(g, 2) || last < g->index + 2)
		return false;
	while (first->mnemonic != ZYDIS_MNEMONIC_MOV || first->form != FORM_RM_IMM)
		first++;
	g->centered = g->no_devices = true;
	made = random_memory(g, size, true, false, &store.operands[0], &store.prefixes);
	g->centered = g->no_devices = false;
	if (!made || is_relative_operand(&store.operands[0]))
		return false;
	jump.operands[0] = store.operands[0];
	jump.prefixes = store.prefixes;
	store.operands[1].type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
	if (!encode_request(g, &store))
		return false;
	prepare(g, first, true);
	if (!encode_request(g, &jump))
		return false;
	prepare(g, row, true);
	g->prepared[1].target = g->prepared[0].address_of = jump_target(g);
	return true;
}
