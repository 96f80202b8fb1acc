/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * operand.c - registers, immediates and addresses for the generator.
 *
 * An address is made backwards: first where the access is to go, then a form of addressing from
 * the registers whose values are known, and the displacement that is missing.
 */
#include "generate.h"

ZydisRegister register_of(unsigned number, unsigned size)
{
	switch (size) {
	case 1:
		return number < 4 ? ZYDIS_REGISTER_AL + number : ZYDIS_REGISTER_SPL + (number - 4);
	case 2:
		return ZYDIS_REGISTER_AX + number;
	case 4:
		return ZYDIS_REGISTER_EAX + number;
	default:
		return ZYDIS_REGISTER_RAX + number;
	}
}

ZydisEncoderOperand plain_register(unsigned number, unsigned size)
{
	ZydisEncoderOperand operand = {.type = ZYDIS_OPERAND_TYPE_REGISTER};

	operand.reg.value = register_of(number, size);
	return operand;
}

ZydisEncoderOperand random_register(struct generator *g, unsigned size)
{
	unsigned number = pick(&g->random, g->seq->bits == 64 ? 16 : 8);
	ZydisEncoderOperand operand = {.type = ZYDIS_OPERAND_TYPE_REGISTER};

	/* The registers that the engine keeps in memory deserve more than their share. */
	if (g->seq->bits == 64 && once_in(&g->random, 4)) {
		static const uint8_t homed[] = {NX_RSP, NX_R10, NX_R11, NX_R14, NX_R15};

		number = homed[pick(&g->random, 5)];
	}
	if (size == 1 && (g->seq->bits != 64 || once_in(&g->random, 3))) {
		number = pick(&g->random, 8);
		operand.reg.value = ZYDIS_REGISTER_AL + number;
		return operand;
	}
	return plain_register(number, size);
}

ZydisEncoderOperand random_immediate(struct generator *g, unsigned size)
{
	ZydisEncoderOperand operand = {.type = ZYDIS_OPERAND_TYPE_IMMEDIATE};
	int64_t value = (int64_t)random_next(&g->random);

	if (size == 1 || once_in(&g->random, 2))
		operand.imm.s = (int64_t)(uint8_t)value - 128;
	else if (size == 2)
		operand.imm.s = (int16_t)value;
	else
		operand.imm.s = (int32_t)value;
	return operand;
}

static uint64_t hostile_target(struct generator *g, unsigned size, bool write)
{
	static const uint8_t holes[] = {2, 7, 7, 12, 13};
	unsigned across = size > 1 ? 1 + pick(&g->random, size - 1) : 0;

	switch (pick(&g->random, 6)) {
	case 0: /* across two pages that are there */
		return LOW + DATA_AT + PAGE - across;
	case 1: /* into a page that is not there, or is read-only */
		return LOW + DATA_AT + (once_in(&g->random, 2) ? 4 : 2) * PAGE - across;
	case 2:
		return page_linear(holes[pick(&g->random, sizeof(holes))]) +
		       pick(&g->random, PAGE - size);
	case 3:
		return LOW + DATA_AT + 2 * PAGE + pick(&g->random, PAGE - size);
	case 4:
		/* A load from the code would see the breakpoint of native.c. */
		if (write) /* what comes next, or anywhere */
			return LOW + CODE_AT +
			       (once_in(&g->random, 2) ? g->at + 8 + pick(&g->random, 100)
						       : pick(&g->random, CODE_SIZE - size));
		return LOW + DATA_AT + PAGE + PAGE - across;
	default:
		return g->seq->bits == 64 ? HIGH + 2 * PAGE - across
					  : LOW + STACK_AT + STACK_SIZE - across;
	}
}

uint64_t random_target(struct generator *g, unsigned size, bool write, bool atomic)
{
	static const uint8_t low[] = {3, 3, 4, 4, 6, 8, 10, 5};
	static const uint8_t high[] = {3, 4, 6, 10, 14, 14, 15, 5};
	const uint8_t *pages = g->seq->bits == 64 ? high : low;
	unsigned page = pages[pick(&g->random, write ? 7 : 8)], offset;

	if (g->hostile && !atomic && !g->centered && once_in(&g->random, 10))
		return hostile_target(g, size, write);
	if (g->devices && !g->centered && !g->no_devices && size <= 8 && once_in(&g->random, 5)) {
		g->on_device = true;
		return LOW + DEVICE_AT + (pick(&g->random, PAGE - 8) & ~(atomic ? size - 1 : 0));
	}
	/* The last bytes that a segment allows. */
	if (g->seq->bits != 64 && !atomic && !g->centered && once_in(&g->random, 16)) {
		uint64_t last = (uint32_t)(g->seg[NX_DS].base + g->seg[NX_DS].limit);

		if (page_at(last) < PAGES && page_use[page_at(last)] == READ_WRITE &&
		    (last & (PAGE - 1)) >= size)
			return last + 1 - size;
	}
	switch (g->centered ? 4 : pick(&g->random, 4)) {
	case 4:
		offset = 0x200 + pick(&g->random, PAGE - 0x400);
		break;
	case 0:
		offset = PAGE - size - pick(&g->random, 2) * pick(&g->random, 8);
		break;
	case 1:
		offset = pick(&g->random, 8);
		break;
	default:
		offset = pick(&g->random, PAGE - size);
		break;
	}
	if (atomic)
		offset &= ~(size - 1);
	return page_linear(page) + offset;
}

bool offset_in(struct generator *g, enum nx_sreg seg, uint64_t linear, unsigned size, bool write,
	       uint64_t *offset)
{
	const struct nx_segment *s = &g->seg[seg];

	*offset = linear - s->base;
	if (g->seq->bits == 64)
		return true;
	*offset = (uint32_t)*offset;
	/* Natively real mode's code segment is a protected one. */
	if (g->hostile && once_in(&g->random, 8) &&
	    !(g->seq->mode == MODE_REAL16 && (s->type & 8) && write))
		return true;
	if (s->unusable || *offset + size - 1 > s->limit || (s->type & 12) == 4)
		return false;
	if (s->type & 8)
		return !write && (s->type & 2);
	return !write || (s->type & 2);
}

enum nx_sreg random_segment(struct generator *g, bool stack_base)
{
	enum nx_sreg standard = stack_base ? NX_SS : NX_DS;

	if (g->seq->bits == 64) {
		if (once_in(&g->random, 6))
			return once_in(&g->random, 2) ? NX_FS : NX_GS;
		return standard;
	}
	if (!once_in(&g->random, 3))
		return standard;
	switch (pick(&g->random, 6)) {
	case 0:
		return NX_ES;
	case 1:
		return NX_CS;
	case 2:
		return NX_SS;
	case 3:
		return NX_DS;
	case 4:
		return NX_FS;
	default:
		return NX_GS;
	}
}

static uint64_t segment_prefix(const struct generator *g, enum nx_sreg seg, bool stack_base)
{
	static const uint64_t prefix[NX_SREGS] = {
	    ZYDIS_ATTRIB_HAS_SEGMENT_ES, ZYDIS_ATTRIB_HAS_SEGMENT_CS, ZYDIS_ATTRIB_HAS_SEGMENT_SS,
	    ZYDIS_ATTRIB_HAS_SEGMENT_DS, ZYDIS_ATTRIB_HAS_SEGMENT_FS, ZYDIS_ATTRIB_HAS_SEGMENT_GS};

	if (seg == (stack_base ? NX_SS : NX_DS) || (g->seq->bits == 64 && seg < NX_FS))
		return 0;
	return prefix[seg];
}

unsigned segment_byte(const struct generator *g, enum nx_sreg seg)
{
	static const uint8_t byte[NX_SREGS] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

	return segment_prefix(g, seg, false) ? byte[seg] : 0;
}

#define NO_REGISTER 16u

/* A register whose value is known, or none. The stack pointer's is known roughly. */
static unsigned known_register(struct generator *g, bool index, bool atomic)
{
	unsigned count = g->seq->bits == 64 ? 16 : 8;

	for (unsigned tries = 0; tries < 24; tries++) {
		unsigned number = pick(&g->random, count);

		if (number == NX_RSP && (index || atomic))
			continue;
		if (is_constant(g, number) || (number == NX_RSP && once_in(&g->random, 3)))
			return number;
		if (g->hostile && once_in(&g->random, 400))
			return number;
	}
	return NO_REGISTER;
}

static uint64_t value_of(const struct generator *g, unsigned reg)
{
	uint64_t value = reg == NO_REGISTER ? 0 : g->seq->gpr[reg];

	return reg == NX_RSP ? value + (uint64_t)g->stack_moved : value;
}

/* BX or BP, SI or DI, both or none. */
static void registers_16(struct generator *g, unsigned *base, unsigned *index)
{
	static const uint8_t bases[] = {NX_RBX, NX_RBP}, indexes[] = {NX_RSI, NX_RDI};

	*base = bases[pick(&g->random, 2)];
	*index = indexes[pick(&g->random, 2)];
	if (!is_constant(g, *base) || once_in(&g->random, 3))
		*base = NO_REGISTER;
	if (!is_constant(g, *index) || once_in(&g->random, 3))
		*index = NO_REGISTER;
	if (*base == NO_REGISTER) {
		*base = *index;
		*index = NO_REGISTER;
	}
}

/* Return the difference of the registers and the address, in an address of this width. */
static bool displacement(unsigned width, uint64_t offset, uint64_t have, int64_t *out)
{
	int64_t rest = (int64_t)(offset - have);

	switch (width) {
	case 16:
		*out = (int16_t)rest;
		return offset <= 0xffff;
	case 32:
		*out = (int32_t)rest;
		return offset <= 0xffffffff;
	default:
		*out = rest;
		return rest == (int32_t)rest;
	}
}

static unsigned random_width(struct generator *g)
{
	bool other = once_in(&g->random, 5);

	switch (g->seq->bits) {
	case 64:
		return other ? 32 : 64;
	case 32:
		return other ? 16 : 32;
	default:
		return other ? 32 : 16;
	}
}

/* An address near the neighbour's: on its page, or, in hostile sequences, on the data's next. */
static bool near_neighbour(struct generator *g, unsigned size, bool write, uint64_t *linear)
{
	const struct neighbour *n = &g->neighbour;
	uint64_t first = n->linear + pick(&g->random, 256) - 128, last = first + size - 1;
	uint64_t data = LOW + DATA_AT;

	if (!n->valid || g->centered || (write && !n->write && !g->hostile))
		return false;
	if (n->on_device && (!g->devices || g->no_devices || size > 8))
		return false;
	*linear = first;
	if ((first & -(uint64_t)PAGE) == (n->linear & -(uint64_t)PAGE) &&
	    (last & -(uint64_t)PAGE) == (n->linear & -(uint64_t)PAGE)) {
		g->on_device |= n->on_device;
		return true;
	}
	return g->hostile && first >= data && last < data + 4 * PAGE;
}

static bool still_known(const struct generator *g, unsigned reg)
{
	return reg == NO_REGISTER || is_constant(g, reg);
}

/* Through the same registers as the last. */
static bool neighbour_memory(struct generator *g, unsigned size, bool write,
			     ZydisEncoderOperand *operand, uint64_t *segment)
{
	const struct neighbour *n = &g->neighbour;
	uint64_t linear, offset;

	*operand = (ZydisEncoderOperand){.type = ZYDIS_OPERAND_TYPE_MEMORY};
	operand->mem.size = (ZyanU16)size;
	if (!still_known(g, n->base) || !still_known(g, n->index) ||
	    !near_neighbour(g, size, write, &linear) ||
	    !offset_in(g, n->seg, linear, size, write, &offset))
		return false;
	*segment = segment_prefix(g, n->seg, n->base == NX_RBP);
	if (n->base != NO_REGISTER)
		operand->mem.base = register_of(n->base, n->width / 8);
	if (n->index != NO_REGISTER)
		operand->mem.index = register_of(n->index, n->width / 8);
	operand->mem.scale = (ZyanU8)n->scale;
	if (!displacement(n->width, offset, value_of(g, n->base) + value_of(g, n->index) * n->scale,
			  &operand->mem.displacement))
		return false;
	g->has_displacement = true;
	g->displacement = operand->mem.displacement;
	return true;
}

bool random_memory(struct generator *g, unsigned size, bool write, bool atomic,
		   ZydisEncoderOperand *operand, uint64_t *segment)
{
	unsigned width = random_width(g), base = NO_REGISTER, index = NO_REGISTER, scale = 0;
	uint64_t linear = random_target(g, size, write, atomic), offset;
	enum nx_sreg seg;
	bool stack_base;

	if (!atomic && g->neighbour.valid && !once_in(&g->random, 3))
		return neighbour_memory(g, size, write, operand, segment);
	g->neighbour.valid = false;
	*operand = (ZydisEncoderOperand){.type = ZYDIS_OPERAND_TYPE_MEMORY};
	operand->mem.size = (ZyanU16)size;
	if (width == 16) {
		registers_16(g, &base, &index);
		scale = index != NO_REGISTER;
	} else {
		if (!once_in(&g->random, 4))
			base = known_register(g, false, atomic);
		if (once_in(&g->random, 2))
			index = known_register(g, true, atomic);
		if (index != NO_REGISTER)
			scale = base == NO_REGISTER ? 2u << pick(&g->random, 3)
						    : 1u << pick(&g->random, 4);
		if (base == NX_RSP) /* somewhere around the stack's top */
			linear =
			    g->seg[NX_SS].base + value_of(g, NX_RSP) + pick(&g->random, 256) - 128;
	}
	/* Somewhere around the stack's top: the device may be next to it. */
	if (base == NX_RSP && linear < LOW + STACK_AT + 0x200)
		g->on_device = true;
	stack_base = base == NX_RSP || base == NX_RBP;
	seg = base == NX_RSP ? NX_SS : random_segment(g, stack_base);
	if (!offset_in(g, seg, linear, size, write, &offset))
		return false;
	*segment = segment_prefix(g, seg, stack_base);
	if (width == 64 && base == NO_REGISTER && index == NO_REGISTER && once_in(&g->random, 2)) {
		/* The encoder turns it into a relative one. */
		operand->mem.base = ZYDIS_REGISTER_RIP;
		operand->mem.displacement = (int64_t)offset;
		return offset < LOW + 0x70000000ull;
	}
	/* Without registers the encoder takes the mode's own width. */
	if (base == NO_REGISTER && index == NO_REGISTER && width != g->seq->bits)
		return false;
	if (base != NO_REGISTER)
		operand->mem.base = register_of(base, width / 8);
	if (index != NO_REGISTER)
		operand->mem.index = register_of(index, width / 8);
	operand->mem.scale = (ZyanU8)scale;
	if (!displacement(width, offset, value_of(g, base) + value_of(g, index) * scale,
			  &operand->mem.displacement))
		return false;
	if (base != NX_RSP && !atomic)
		g->neighbour = (struct neighbour){true, write, g->on_device, linear, seg,
						  base, index, scale,        width};
	g->has_displacement = true;
	g->displacement = operand->mem.displacement;
	return true;
}
