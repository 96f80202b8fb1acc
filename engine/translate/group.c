/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * group.c - let accesses share one check: a run of pushes, the fields of a structure.
 *
 * A group is a stretch of a block whose memory accesses all go through the same registers, none of
 * which changes but by a constant, and lie within NX_CHECK_BYTES of each other. One check, of the
 * whole range and for writing if there is a store, makes r14 a pointer for all of them. It hits
 * only if all of it is on one page that has been accessed in the same way before: then none of the
 * accesses can fault, meet a device, mark the page again or change code, and none needs a side
 * exit.
 *
 * If the check misses, the same instructions run out of line with a check each, in the guest's
 * order and with all consequences. They fill the TLB, so the check hits the next time unless the
 * range crosses into another page.
 */
#include "translate/translator.h"

/* The effect of an instruction on a group. */
struct part {
	bool ends;     /* not for groups: before it */
	bool accesses; /* at place, size bytes */
	bool writes;
	struct nx_place place;
	unsigned size;
	/* What it does to the group's registers: adds to the base, or else. */
	int64_t change;
	bool changes;
};

static void access_stack(const struct nx_translator *t, struct part *part, int64_t displacement,
			 unsigned size, bool write)
{
	part->accesses = true;
	part->writes = write;
	part->size = size;
	part->place = nx_stack_place(t, displacement);
}

static void access_operand(const struct nx_insn *insn, const struct nx_decoded *d,
			   const ZydisDecodedOperand *m, struct part *part)
{
	part->accesses = true;
	part->writes = insn->memory_write;
	part->size = insn->size;
	part->place = nx_place_of(insn, d, m);
	part->ends = insn->size == 0 || (insn->op == NX_OP_PLAIN && nx_is_locked(d));
}

/* Describe the accesses alone; an indirect call pushes later, when its target is known. */
static void find_access(const struct nx_translator *t, const struct nx_insn *insn,
			const struct nx_decoded *d, struct part *part)
{
	const ZydisDecodedOperand *m = nx_memory_operand(d);

	switch ((enum nx_op)insn->op) {
	case NX_OP_NOP:
	case NX_OP_MOV_FROM_SREG:
		break;
	case NX_OP_PLAIN:
		if (m && d->insn.mnemonic != ZYDIS_MNEMONIC_LEA)
			access_operand(insn, d, m, part);
		break;
	case NX_OP_PUSH:
		part->ends = m != NULL; /* two accesses */
		access_stack(t, part, -(int64_t)insn->size, insn->size, true);
		break;
	case NX_OP_CALL:
		access_stack(t, part, -(int64_t)insn->size, insn->size, true);
		break;
	case NX_OP_POP:
	case NX_OP_RET:
		access_stack(t, part, 0, insn->size, false);
		break;
	case NX_OP_JMP_INDIRECT:
	case NX_OP_CALL_INDIRECT:
		if (m)
			access_operand(insn, d, m, part);
		break;
	default:
		part->ends = true;
		break;
	}
}

/* Return whether an instruction that writes the register adds a constant to it. */
static bool adds_constant(const struct nx_decoded *d, unsigned base, unsigned bits, int64_t *change)
{
	struct nx_reg reg, from;

	if (!nx_reg_of(d->op[0].reg.value, &reg) || reg.number != base || 8u * reg.size != bits)
		return false;
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		*change = d->op[1].imm.value.s;
		if (d->insn.mnemonic == ZYDIS_MNEMONIC_SUB)
			*change = -*change;
		return d->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
		*change = d->insn.mnemonic == ZYDIS_MNEMONIC_INC ? 1 : -1;
		return true;
	case ZYDIS_MNEMONIC_LEA:
		*change = d->op[1].mem.disp.value;
		return d->insn.address_width == bits && d->op[1].mem.index == ZYDIS_REGISTER_NONE &&
		       nx_reg_of(d->op[1].mem.base, &from) && from.number == base;
	default:
		return false;
	}
}

/* Describe the instruction's effect on the registers of a place. */
static void find_change(const struct nx_translator *t, const struct nx_insn *insn,
			const struct nx_decoded *d, const struct nx_place *place, struct part *part)
{
	bool stack = insn->op == NX_OP_PUSH || insn->op == NX_OP_POP || insn->op == NX_OP_CALL;

	if (stack && place->base == NX_RSP)
		part->change = insn->op == NX_OP_POP ? (int64_t)insn->size : -(int64_t)insn->size;
	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		struct nx_reg reg;

		if (d->op[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(d->op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) ||
		    !nx_reg_of(d->op[i].reg.value, &reg))
			continue;
		/* The stack pointer is a hidden operand of those that move it. */
		if (stack && d->op[i].visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
			continue;
		part->changes |= reg.number == place->index;
		if (reg.number == place->base &&
		    !(i == 0 && adds_constant(d, place->base, t->graph->mode.bits, &part->change)))
			part->changes = true;
	}
	/* A larger change leads out of any group. */
	part->changes |= part->change > NX_CHECK_BYTES || part->change < -NX_CHECK_BYTES;
}

/* Return whether addresses in it wrap where the address space does and no segment refuses one. */
static bool may_be_grouped(const struct nx_translator *t, const struct part *part)
{
	const struct nx_mode *mode = &t->graph->mode;

	return part->place.width == mode->bits &&
	       (mode->bits == 64 || nx_seg_is_flat(mode, part->place.seg, part->writes));
}

/* Return whether two places have the same registers and the same segment base. */
static bool same_registers(const struct nx_translator *t, const struct nx_place *a,
			   const struct nx_place *b)
{
	const struct nx_mode *mode = &t->graph->mode;

	return a->base == b->base && a->index == b->index && a->relative == b->relative &&
	       (a->index == NX_GPRS || a->scale == b->scale) &&
	       (a->seg == b->seg ||
		(nx_seg_is_flat(mode, a->seg, false) && nx_seg_is_flat(mode, b->seg, false)));
}

/* Take an access into the group; return false if it is too far away. */
static bool widen(struct nx_group *group, const struct part *part)
{
	int64_t low = group->place.displacement, first = 0, end = group->bytes;
	/*
	 * From the group's lowest byte. Two absolute addresses may lie further apart than a signed
	 * number counts, which then wraps as addresses do.
	 */
	int64_t at =
	    (int64_t)((uint64_t)part->place.displacement + (uint64_t)group->delta - (uint64_t)low);

	if (at < -(int64_t)NX_CHECK_BYTES || at > (int64_t)NX_CHECK_BYTES)
		return false;
	if (at < first)
		first = at;
	if (at + part->size > end)
		end = at + part->size;
	if (end - first > NX_CHECK_BYTES)
		return false;
	low = (int64_t)((uint64_t)low + (uint64_t)first);
	/* The displacement is what an address has besides registers. */
	if (low != (int32_t)low && (group->place.base != NX_GPRS || group->place.index != NX_GPRS))
		return false;
	group->place.displacement = low;
	group->bytes = (unsigned)(end - first);
	group->write |= part->writes;
	return true;
}

/*
 * Find the group that begins at the first instruction; return how many instructions it has, 0 for
 * none.
 */
static unsigned find_group(struct nx_translator *t, const struct nx_insn *insn, unsigned available,
			   struct nx_group *group)
{
	const struct nx_decoded *d;
	unsigned accesses = 0, length = 0;

	*group = (struct nx_group){.bytes = 0};
	for (unsigned i = 0; i < available; i++) {
		struct part part = {.ends = false};

		d = nx_decoded_insn(t, &insn[i]);
		if (!d)
			break;
		find_access(t, &insn[i], d, &part);
		if (part.ends || (part.accesses && !may_be_grouped(t, &part)))
			break;
		if (i == 0) {
			if (!part.accesses)
				break;
			group->place = part.place;
		}
		if (part.accesses) {
			if (!same_registers(t, &group->place, &part.place) || !widen(group, &part))
				break;
			accesses++;
			length = i + 1;
		}
		find_change(t, &insn[i], d, &group->place, &part);
		if (part.changes)
			break;
		group->delta += part.change;
		t->s->change[&insn[i] - t->graph->insn] = (int16_t)part.change;
	}
	group->delta = 0;
	return accesses > 1 ? length : 0;
}

static void lower(struct nx_translator *t, uint16_t first, unsigned length)
{
	for (unsigned i = 0; i < length; i++) {
		t->insn = (uint16_t)(first + i);
		nx_lower(t, &t->graph->insn[t->insn]);
		t->group.delta += t->s->change[t->insn];
	}
}

unsigned nx_emit_group(struct nx_translator *t, uint16_t first, unsigned available)
{
	struct nx_group group;
	unsigned length = find_group(t, &t->graph->insn[first], available, &group);
	struct nx_stub *stub;
	uint32_t branch;

	if (!length)
		return 0;
	branch = nx_emit_range_check(t, &group.place, group.bytes, group.write);
	t->group = group;
	t->group.active = true;
	lower(t, first, length);
	t->group.active = false;
	nx_stub_add(t, NX_STUB_GROUP, branch, 0);
	if (t->e.failed)
		return length;
	stub = &t->s->stub[t->s->stubs - 1];
	stub->insn = first;
	stub->count = (uint16_t)length;
	stub->flags_in_host = t->flags_in_host;
	stub->flags_in_context = t->flags_in_context;
	return length;
}

void nx_emit_apart(struct nx_translator *t, const struct nx_stub *stub)
{
	/* The flags start out as after the check, and end as the code behind the group expects. */
	t->flags_in_host = false;
	t->flags_in_context = true;
	lower(t, stub->insn, stub->count);
	if (stub->flags_in_host)
		nx_flags_keep_in_host(t);
	if (stub->flags_in_context)
		nx_flags_keep_in_context(t);
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JMP, false);
	nx_branch_patch(&t->e, t->e.size, stub->back);
	nx_emit_trap(&t->e);
}
