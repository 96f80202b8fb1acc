/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * access.c - guest memory in emitted code: from an operand to a host operand.
 *
 * Emitted code computes an address in r14, makes it linear and checks it; r14 is then a pointer.
 * Every access may end the translation before its instruction. Therefore the guest's state must not
 * have changed by then, and the flags must be in the context, since the check destroys the host's.
 * In a group (group.c) r14 is a pointer already.
 */
#include "translate/translator.h"

static uint8_t number_of(ZydisRegister reg)
{
	struct nx_reg guest;

	return nx_reg_of(reg, &guest) ? guest.number : NX_GPRS;
}

/* XCHG with memory locks even without a prefix. */
bool nx_is_locked(const struct nx_decoded *d)
{
	return (d->insn.attributes & ZYDIS_ATTRIB_HAS_LOCK) ||
	       d->insn.mnemonic == ZYDIS_MNEMONIC_XCHG;
}

struct nx_place nx_place_of(const struct nx_insn *insn, const struct nx_decoded *d,
			    const ZydisDecodedOperand *m)
{
	struct nx_place place = {
	    .base = number_of(m->mem.base),
	    .index = number_of(m->mem.index),
	    .scale = m->mem.scale,
	    .seg = (uint8_t)nx_segment_of(m),
	    .width = d->insn.address_width,
	    .displacement = m->mem.disp.has_displacement ? m->mem.disp.value : 0,
	};

	if (m->mem.base == ZYDIS_REGISTER_RIP || m->mem.base == ZYDIS_REGISTER_EIP) {
		place.relative = true;
		place.displacement += (int64_t)(insn->rip + insn->len);
	}
	return place;
}

struct nx_place nx_stack_place(const struct nx_translator *t, int64_t displacement)
{
	return (struct nx_place){.base = NX_RSP,
				 .index = NX_GPRS,
				 .seg = NX_SS,
				 .width = t->graph->mode.stack_bits,
				 .displacement = displacement};
}

/*
 * Return the host register that holds a guest register of an address as 64 bits: the register
 * itself, or scratch after its home has been loaded into it.
 */
static ZydisRegister address_register(struct nx_translator *t, unsigned guest, unsigned scratch)
{
	if (guest == NX_GPRS)
		return ZYDIS_REGISTER_NONE;
	if (!nx_is_homed(guest))
		return nx_zydis_reg(guest, 8);
	nx_emit_mov(&t->e, nx_op_gpr(scratch, 8), nx_op_home(guest, 8));
	return nx_zydis_reg(scratch, 8);
}

void nx_emit_slide(struct nx_translator *t, unsigned to, unsigned size)
{
	if (!nx_mode_slides(&t->graph->mode))
		return;
	nx_emit_mov(&t->e, nx_op_gpr(NX_R11, 8), nx_op_slot(NX_CTX_SLIDE, 8));
	/* The flags may be the guest's. */
	nx_emit2(&t->e, ZYDIS_MNEMONIC_LEA, nx_op_gpr(to, size),
		 nx_op_mem(nx_zydis_reg(to, 8), ZYDIS_REGISTER_R11, 1, 0, 8));
}

void nx_emit_address(struct nx_translator *t, const struct nx_place *place, unsigned to)
{
	unsigned width = place->width;
	int64_t displacement = place->displacement;
	ZydisRegister base, index;

	if (place->base == NX_GPRS && place->index == NX_GPRS) {
		if (width == 32)
			displacement = (uint32_t)displacement;
		else if (width == 16)
			displacement = (uint16_t)displacement;
		nx_emit_mov(&t->e, nx_op_gpr(to, 8), nx_op_imm(displacement));
		if (place->relative)
			nx_emit_slide(t, to, width / 8);
		return;
	}
	base = address_register(t, place->base, to);
	index = address_register(t, place->index, NX_R11);
	/* Moves add no latency between an address and its data; additions do. */
	if (width == 64 && index == ZYDIS_REGISTER_NONE && displacement == 0) {
		if (base != nx_zydis_reg(to, 8))
			nx_emit_mov(&t->e, nx_op_gpr(to, 8), nx_op_reg(base));
		return;
	}
	nx_emit2(&t->e, ZYDIS_MNEMONIC_LEA, nx_op_gpr(to, width == 64 ? 8 : 4),
		 nx_op_mem(base, index, index == ZYDIS_REGISTER_NONE ? 0 : place->scale,
			   displacement, 8));
	if (width == 16)
		nx_emit2(&t->e, ZYDIS_MNEMONIC_MOVZX, nx_op_gpr(to, 4), nx_op_gpr(to, 2));
}

bool nx_seg_is_flat(const struct nx_mode *mode, unsigned seg, bool write)
{
	if (mode->bits == 64)
		return seg != NX_FS && seg != NX_GS;
	return mode->flat &&
	       (seg == NX_DS || seg == NX_ES || seg == NX_SS || (seg == NX_CS && !write));
}

/* Turn the offset in r14 into a linear address; leave if the segment refuses the access. */
static void emit_segment(struct nx_translator *t, const struct nx_insn *insn, unsigned seg,
			 unsigned size, bool write)
{
	const struct nx_mode *mode = &t->graph->mode;
	unsigned slot = NX_CTX_SEG + NX_SEG_SIZE * seg;
	uint16_t site;
	uint32_t below = 0;

	if (nx_seg_is_flat(mode, seg, write))
		return;
	if (mode->bits == 64) {
		nx_emit2(&t->e, ZYDIS_MNEMONIC_ADD, nx_op_gpr(NX_R14, 8),
			 nx_op_slot(slot + NX_SEG_BASE, 8));
		return;
	}
	if (mode->lower & 1u << seg) {
		nx_emit2(&t->e, ZYDIS_MNEMONIC_CMP, nx_op_gpr(NX_R14, 8),
			 nx_op_slot(NX_CTX_SEG_LOWER + 8 * seg, 8));
		nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JB, false);
		below = t->e.size;
	}
	nx_emit2(&t->e, ZYDIS_MNEMONIC_LEA, nx_op_gpr(NX_R11, 8),
		 nx_op_mem(ZYDIS_REGISTER_R14, ZYDIS_REGISTER_NONE, 0, size, 8));
	nx_emit2(&t->e, ZYDIS_MNEMONIC_CMP, nx_op_gpr(NX_R11, 8),
		 nx_op_slot(slot + (write ? NX_SEG_WRITE_END : NX_SEG_READ_END), 8));
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JNBE, false);
	site = nx_site_add(t, NX_SITE_LEAVE, insn);
	t->out->site[site].reason = NX_LEAVE_SEGMENT;
	nx_stub_add(t, NX_STUB_LEAVE, t->e.size, site);
	if (below)
		nx_stub_add(t, NX_STUB_LEAVE, below, site);
	nx_emit2(&t->e, ZYDIS_MNEMONIC_ADD, nx_op_gpr(NX_R14, 4),
		 nx_op_slot(slot + NX_SEG_BASE, 4));
}

/* Turn the linear address in r14 into a host pointer for size bytes, with flags in the context. */
static void emit_check(struct nx_translator *t, const struct nx_insn *insn, unsigned size,
		       bool write, bool mmio_form)
{
	uint16_t site = nx_site_add(t, NX_SITE_ACCESS, insn);
	uint32_t branch;

	t->out->site[site].size = (uint8_t)size;
	t->out->site[site].write = write;
	t->out->site[site].mmio_form = mmio_form;
	branch = nx_emit_snippet(t, nx_snippet_check(size, write));
	nx_stub_add(t, NX_STUB_MISS, branch, site);
	t->flags_in_host = false;
}

/*
 * Leave before a locked access across two cache lines: it would stop all processors, or this
 * process (split-lock detection). r14 is the linear address, whose low bits equal the host
 * address's.
 */
static void emit_line_check(struct nx_translator *t, const struct nx_insn *insn)
{
	uint16_t site;

	/* The access crosses lines if its first and last byte differ above the line offset. */
	nx_emit2(&t->e, ZYDIS_MNEMONIC_LEA, nx_op_gpr(NX_R11, 8),
		 nx_op_mem(ZYDIS_REGISTER_R14, ZYDIS_REGISTER_NONE, 0, insn->size - 1, 8));
	nx_emit2(&t->e, ZYDIS_MNEMONIC_XOR, nx_op_gpr(NX_R11, 8), nx_op_gpr(NX_R14, 8));
	nx_emit2(&t->e, ZYDIS_MNEMONIC_TEST, nx_op_gpr(NX_R11, 4), nx_op_imm(-(int)NX_CACHE_LINE));
	nx_emit_branch(&t->e, ZYDIS_MNEMONIC_JNZ, false);
	site = nx_site_add(t, NX_SITE_LEAVE, insn);
	t->out->site[site].reason = NX_LEAVE_SPLIT_LOCK;
	nx_stub_add(t, NX_STUB_LEAVE, t->e.size, site);
}

static nx_operand pointer(int64_t displacement, unsigned size)
{
	return nx_op_mem(NX_HOST_POINTER, ZYDIS_REGISTER_NONE, 0, displacement, size);
}

/* Return the offset of a place in the active group. */
static int64_t group_offset(const struct nx_translator *t, const struct nx_place *place)
{
	return place->displacement + t->group.delta - t->group.place.displacement;
}

nx_operand nx_emit_access(struct nx_translator *t, const struct nx_insn *insn,
			  const struct nx_place *place, struct nx_access_kind kind)
{
	if (t->group.active)
		return pointer(group_offset(t, place), kind.size);
	nx_flags_keep_in_context(t);
	nx_emit_address(t, place, NX_R14);
	emit_segment(t, insn, place->seg, kind.size, kind.write);
	if (kind.locked && kind.size > 1)
		emit_line_check(t, insn);
	emit_check(t, insn, kind.size, kind.write, kind.mmio_form);
	return pointer(0, kind.size);
}

uint32_t nx_emit_range_check(struct nx_translator *t, const struct nx_place *place, unsigned bytes,
			     bool write)
{
	nx_flags_keep_in_context(t);
	nx_emit_address(t, place, NX_R14);
	/* A group contains only places whose segments cannot refuse an access. */
	emit_segment(t, NULL, place->seg, bytes, write);
	t->flags_in_host = false;
	return nx_emit_range_snippet(t, bytes, write);
}
