/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * compose.c - instructions whose operands are fixed registers: what goes into these registers is
 * made first, by instructions of its own. And other one-byte instructions that the encoder is not
 * needed for.
 */
#include <string.h>

#include "generate.h"

void prepare(struct generator *g, const struct row *row, bool memory)
{
	struct prepared *prepared = &g->prepared[g->prepared_count++];

	prepared->row = row;
	prepared->len = g->len;
	prepared->target = prepared->address_of = 0;
	prepared->has_displacement = memory && g->has_displacement;
	prepared->displacement = g->displacement;
	memcpy(prepared->bytes, g->bytes, sizeof(prepared->bytes));
}

bool room(const struct generator *g, unsigned count)
{
	if (g->index + count > g->next_io || g->accesses < 2)
		return false;
	for (unsigned i = 1; i < count; i++)
		if (g->branch_target[g->index + i])
			return false;
	return true;
}

bool prepare_mov(struct generator *g, unsigned reg, unsigned size, uint64_t value)
{
	ZydisEncoderRequest request = {.machine_mode = machine_mode(g->seq),
				       .mnemonic = ZYDIS_MNEMONIC_MOV,
				       .operand_count = 2};
	const struct row *row = table;

	while (row->mnemonic != ZYDIS_MNEMONIC_MOV || row->form != FORM_RM_IMM)
		row++;
	request.operands[0] = plain_register(reg, size);
	request.operands[1].type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
	request.operands[1].imm.u = value;
	if (!encode_request(g, &request))
		return false;
	prepare(g, row, false);
	return true;
}

unsigned natural_size(const struct generator *g)
{
	return g->seq->bits == 16 ? 2 : 4;
}

static void put_size(struct generator *g, unsigned size)
{
	if ((size == 2 || size == 4) && size != natural_size(g))
		put(g, 0x66);
}

static unsigned random_address_width(struct generator *g)
{
	bool narrow = once_in(&g->random, 4);

	switch (g->seq->bits) {
	case 64:
		return narrow ? 32 : 64;
	case 32:
		return narrow ? 16 : 32;
	default:
		return narrow ? 32 : 16;
	}
}

/*
 * An offset in seg with room on both sides for what a string instruction walks over; all of it is a
 * device's, or nothing.
 */
static bool string_offset(struct generator *g, enum nx_sreg seg, unsigned width, bool write,
			  bool device, uint64_t *offset)
{
	uint64_t linear, first, last;

	g->centered = !g->hostile || !once_in(&g->random, 4);
	g->no_devices = true;
	linear = random_target(g, 8, write, false);
	g->centered = g->no_devices = false;
	if (device)
		linear = LOW + DEVICE_AT + 0x200 + pick(&g->random, PAGE - 0x400);
	else if (page_at(linear - 0x90) == DEVICE_AT / PAGE ||
		 page_at(linear + 0x98) == DEVICE_AT / PAGE)
		return false;
	if (!offset_in(g, seg, linear - 0x90, 1, write, &first) ||
	    !offset_in(g, seg, linear + 0x90, 8, write, &last) ||
	    !offset_in(g, seg, linear, 8, write, offset))
		return false;
	return width == 64 || *offset >> width == 0;
}

static unsigned string_opcode(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ:
		return 0xa4;
	case ZYDIS_MNEMONIC_CMPSB:
	case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD:
	case ZYDIS_MNEMONIC_CMPSQ:
		return 0xa6;
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
		return 0xaa;
	case ZYDIS_MNEMONIC_LODSB:
	case ZYDIS_MNEMONIC_LODSW:
	case ZYDIS_MNEMONIC_LODSD:
	case ZYDIS_MNEMONIC_LODSQ:
		return 0xac;
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
		return 0x6c;
	case ZYDIS_MNEMONIC_OUTSB:
	case ZYDIS_MNEMONIC_OUTSW:
	case ZYDIS_MNEMONIC_OUTSD:
		return 0x6e;
	default:
		return 0xae;
	}
}

static void put_string(struct generator *g, const struct row *row, unsigned width,
		       enum nx_sreg source, bool repeat)
{
	unsigned opcode = string_opcode(row->mnemonic);
	bool compares = opcode == 0xa6 || opcode == 0xae;

	g->len = 0;
	if (segment_byte(g, source))
		put(g, segment_byte(g, source));
	if (width != g->seq->bits)
		put(g, 0x67);
	put_size(g, row->sizes);
	if (repeat)
		put(g, compares && once_in(&g->random, 2) ? 0xf2 : 0xf3);
	if (row->sizes == SIZE_8)
		put(g, 0x48);
	put(g, opcode + (row->sizes != SIZE_1));
}

static bool compose_string(struct generator *g, const struct row *row)
{
	unsigned width = random_address_width(g), count = pick(&g->random, 18), device;
	enum nx_sreg source = random_segment(g, false);
	bool repeat = once_in(&g->random, 2), same;
	uint64_t from, to;

	if (!room(g, 4) || is_constant(g, NX_RSI) || is_constant(g, NX_RDI) ||
	    is_constant(g, NX_RCX) || is_constant(g, NX_RAX))
		return false;
	/* Random bytes are never equal, and never overlap: sometimes the same ones twice. */
	same = once_in(&g->random, 3) && g->seg[source].base == g->seg[NX_ES].base;
	device = g->devices ? pick(&g->random, 6) : 0;
	if (!string_offset(g, source, width, same, device & 1, &from) ||
	    !string_offset(g, NX_ES, width, true, device & 2, &to))
		return false;
	if (same && !device)
		to = from + pick(&g->random, 3);
	if (!prepare_mov(g, NX_RSI, width / 8, from) || !prepare_mov(g, NX_RDI, width / 8, to) ||
	    (repeat && !prepare_mov(g, NX_RCX, width / 8, count)))
		return false;
	put_string(g, row, width, source, repeat);
	prepare(g, row, false);
	return true;
}

static bool compose_string_io(struct generator *g, const struct row *row)
{
	unsigned width = random_address_width(g), count = pick(&g->random, 18);
	bool in = string_opcode(row->mnemonic) == 0x6c, repeat = once_in(&g->random, 2);
	enum nx_sreg seg = in ? NX_ES : random_segment(g, false);
	unsigned pointer = in ? NX_RDI : NX_RSI;
	uint64_t offset;

	if (!room(g, 4) || is_constant(g, pointer) || is_constant(g, NX_RCX) ||
	    is_constant(g, NX_RDX) || !string_offset(g, seg, width, in, false, &offset))
		return false;
	if (!prepare_mov(g, NX_RDX, 2, pick(&g->random, 0x10000)) ||
	    !prepare_mov(g, pointer, width / 8, offset) ||
	    (repeat && !prepare_mov(g, NX_RCX, width / 8, count)))
		return false;
	put_string(g, row, width, in ? NX_DS : seg, repeat);
	prepare(g, row, false);
	return true;
}

bool is_relative_operand(const ZydisEncoderOperand *operand)
{
	return operand->mem.base == ZYDIS_REGISTER_RIP;
}

/* With dividends that mostly fit: one that does not is a fault. */
static bool compose_division(struct generator *g, const struct row *row, unsigned size)
{
	ZydisEncoderRequest request = {
	    .machine_mode = machine_mode(g->seq), .mnemonic = row->mnemonic, .operand_count = 1};
	uint64_t segment = 0, high = pick(&g->random, 3);
	uint64_t mask = size == 8 ? ~0ull : (1ull << (size == 1 ? 2 : size) * 8) - 1;

	if (!room(g, 2) || is_constant(g, NX_RAX) || is_constant(g, NX_RDX))
		return false;
	if (size == 1)
		high = pick(&g->random, 600);
	if (once_in(&g->random, 2))
		high = -high;
	if (!once_in(&g->random, 4) &&
	    !prepare_mov(g, size == 1 ? NX_RAX : NX_RDX, size == 1 ? 2 : size, high & mask))
		return false;
	if (once_in(&g->random, 2))
		request.operands[0] = random_register(g, size);
	else if (!random_memory(g, size, false, false, &request.operands[0], &segment) ||
		 is_relative_operand(&request.operands[0]))
		return false;
	request.prefixes = segment;
	if (!encode_request(g, &request))
		return false;
	prepare(g, row, true);
	return true;
}

/* The register's value moves the access by some bytes, in either direction. */
static bool compose_bit_string(struct generator *g, const struct row *row, unsigned size)
{
	ZydisEncoderRequest request = {
	    .machine_mode = machine_mode(g->seq), .mnemonic = row->mnemonic, .operand_count = 2};
	bool lock = row->lockable && once_in(&g->random, 3), made;
	int64_t index = (int64_t)pick(&g->random, 800) - 400;
	unsigned reg = pick(&g->random, g->seq->bits == 64 ? 16 : 8);

	if (!room(g, 2) || reg == NX_RSP || is_constant(g, reg))
		return false;
	g->centered = true;
	made = random_memory(g, size, true, lock, &request.operands[0], &request.prefixes);
	g->centered = false;
	if (!made || is_relative_operand(&request.operands[0]) ||
	    !prepare_mov(g, reg, size, (uint64_t)index))
		return false;
	request.operands[1] = plain_register(reg, size);
	if (lock)
		request.prefixes |= ZYDIS_ATTRIB_HAS_LOCK;
	if (!encode_request(g, &request))
		return false;
	prepare(g, row, true);
	return true;
}

static bool compose_xlat(struct generator *g, const struct row *row)
{
	unsigned width = random_address_width(g);
	enum nx_sreg source = random_segment(g, false);
	uint64_t offset, last;

	if (!room(g, 2) || is_constant(g, NX_RBX) || is_constant(g, NX_RAX))
		return false;
	if (!string_offset(g, source, width, false, false, &offset) ||
	    !offset_in(g, source, g->seg[source].base + offset + 255, 1, false, &last) ||
	    (width < 64 && last >> width) || !prepare_mov(g, NX_RBX, width / 8, offset))
		return false;
	g->len = 0;
	if (segment_byte(g, source))
		put(g, segment_byte(g, source));
	if (width != g->seq->bits)
		put(g, 0x67);
	put(g, 0xd7);
	prepare(g, row, false);
	return true;
}

/* LDS and so on: the two halves of the pointer are stored first. */
static bool prepare_load_far(struct generator *g, const struct row *row, unsigned reg)
{
	ZydisEncoderRequest request = {.machine_mode = machine_mode(g->seq),
				       .mnemonic = ZYDIS_MNEMONIC_MOV,
				       .operand_count = 2};
	unsigned size = once_in(&g->random, 2) ? 2 : 4;
	const struct row *store = table;
	ZydisEncoderOperand pointer;
	uint64_t segment = 0;
	bool made;

	while (store->mnemonic != ZYDIS_MNEMONIC_MOV || store->form != FORM_RM_IMM)
		store++;
	g->centered = g->no_devices = true;
	made = random_memory(g, 8, true, false, &pointer, &segment);
	g->centered = g->no_devices = false;
	if (!made)
		return false;
	for (unsigned half = 0; half < 2; half++) {
		request.operands[0] = pointer;
		request.operands[0].mem.size = (uint16_t)(half ? 2 : size);
		request.operands[0].mem.displacement += half ? size : 0;
		g->displacement = request.operands[0].mem.displacement;
		request.operands[1].type = ZYDIS_OPERAND_TYPE_IMMEDIATE;
		request.operands[1].imm.u = half ? g->loading : random_next(&g->random) & 0xffff;
		request.prefixes = segment;
		if (!encode_request(g, &request))
			return false;
		prepare(g, store, true);
	}
	request.mnemonic = row->mnemonic;
	request.operands[0] = plain_register(reg, size);
	request.operands[1] = pointer;
	request.operands[1].mem.size = (uint16_t)(size + 2);
	request.prefixes = segment;
	g->displacement = pointer.mem.displacement;
	if (!encode_request(g, &request))
		return false;
	prepare(g, row, true);
	return true;
}

/*
 * MOV and POP to ES, DS, FS or GS, and far pointers. Nothing may jump over it, or nobody knows the
 * segment after it.
 */
static bool compose_load_sreg(struct generator *g, const struct row *row)
{
	static const uint8_t segs[] = {NX_ES, NX_DS, NX_FS, NX_GS};
	static const uint16_t pops[] = {
	    [NX_ES] = 0x07, [NX_DS] = 0x1f, [NX_FS] = 0xa10f, [NX_GS] = 0xa90f};
	unsigned seg = segs[pick(&g->random, 4)], reg = pick(&g->random, 8);
	const struct row *push = table;

	if (!room(g, 3) || g->accesses < 3 || g->loop_at || reg == NX_RSP || is_constant(g, reg))
		return false;
	for (unsigned i = g->index; i <= g->planned; i++)
		if (g->branch_target[i])
			return false;
	if (row->mnemonic != ZYDIS_MNEMONIC_MOV && row->mnemonic != ZYDIS_MNEMONIC_POP)
		seg = loaded_by(row->mnemonic);
	g->loading = real_segment(g, seg).selector;
	if (row->mnemonic == ZYDIS_MNEMONIC_MOV) {
		if (!prepare_mov(g, reg, 2, g->loading))
			return false;
		g->len = 0;
		put(g, 0x8e);
		put(g, 0xc0 | seg << 3 | reg);
		prepare(g, row, false);
		return true;
	}
	if (row->mnemonic != ZYDIS_MNEMONIC_POP)
		return prepare_load_far(g, row, reg);
	while (push->form != FORM_PUSH)
		push++;
	g->len = 0;
	put(g, 0x68);
	put(g, g->loading & 0xff);
	put(g, g->loading >> 8);
	prepare(g, push, false);
	g->len = 0;
	put(g, pops[seg] & 0xff);
	if (pops[seg] >> 8)
		put(g, pops[seg] >> 8);
	prepare(g, row, false);
	return true;
}

/*
 * Instructions that the engine leaves to the processor: that fault always, or by privilege, or go
 * elsewhere, or change what is not the sequence's to change.
 */
static bool make_foreign(struct generator *g)
{
	static const struct {
		uint8_t len, bytes[3];
		bool not_64;
	} foreign[] = {
	    {2, {0x0f, 0x0b}, false},       /* ud2 */
	    {1, {0xcc}, false},             /* int3 */
	    {2, {0xcd, 0x03}, false},       /* int 3 */
	    {1, {0xce}, true},              /* into */
	    {1, {0xf1}, false},             /* int1 */
	    {1, {0xf4}, false},             /* hlt */
	    {1, {0xfb}, false},             /* sti */
	    {1, {0xcf}, false},             /* iret */
	    {1, {0xcb}, false},             /* retf */
	    {2, {0xd4, 0x00}, true},        /* aam 0 */
	    {2, {0x0f, 0xa2}, false},       /* cpuid */
	    {2, {0x0f, 0x32}, false},       /* rdmsr */
	    {3, {0x0f, 0x00, 0xd0}, false}, /* lldt ax */
	    {2, {0x8e, 0xd0}, false},       /* mov ss, ax */
	    {2, {0x8e, 0xc8}, false},       /* mov cs, ax: #UD */
	    {3, {0x0f, 0x20, 0xc0}, false}, /* mov eax, cr0 */
	    {3, {0xf0, 0x89, 0xc0}, false}, /* lock mov: #UD */
	};
	unsigned which = pick(&g->random, sizeof(foreign) / sizeof(foreign[0]));

	if (foreign[which].not_64 && g->seq->bits == 64)
		return false;
	memcpy(g->bytes, foreign[which].bytes, foreign[which].len);
	g->len = foreign[which].len;
	return g->hostile;
}

/* Flags that user mode can set, and that the engine takes: the others must be as they are. */
static bool compose_popf(struct generator *g, const struct row *row)
{
	unsigned size = row->sizes;
	uint32_t image =
	    (uint32_t)(random_next(&g->random) & 0xcd5) | (uint32_t)(g->seq->rflags & 0x3202);
	const struct row *push = table;

	/* Others than TF, with which nothing could be stopped at. */
	if (processor->whole && g->hostile && once_in(&g->random, 3))
		image ^= (uint32_t)(random_next(&g->random) & 0x7200);
	if (!room(g, 2) || g->cleared_if)
		return false;
	while (push->form != FORM_PUSH)
		push++;
	g->len = 0;
	put_size(g, size);
	put(g, 0x68);
	for (unsigned i = 0; i < (size == 2 ? 2 : 4); i++)
		put(g, image >> 8 * i & 0xff);
	prepare(g, push, false);
	g->len = 0;
	put_size(g, size);
	put(g, 0x9d);
	prepare(g, row, false);
	return true;
}

static bool make_push_sreg(struct generator *g)
{
	static const uint16_t opcode[] = {0x0fa0, 0x0fa8, 0x06, 0x0e, 0x16, 0x1e};
	unsigned which = opcode[pick(&g->random, g->seq->bits == 64 ? 2 : 6)];

	g->len = 0;
	put_size(g, 2);
	if (which >> 8)
		put(g, which >> 8);
	put(g, which & 0xff);
	return true;
}

static bool make_enter(struct generator *g, unsigned size)
{
	bool nested = g->hostile && once_in(&g->random, 8);

	if (size != 2 && size != (g->seq->bits == 64 ? 8u : 4u))
		return false;
	g->len = 0;
	put_size(g, size);
	put(g, 0xc8);
	put(g, pick(&g->random, 48));
	put(g, 0);
	put(g, nested ? 1 + pick(&g->random, 3) : 0);
	return true;
}

static bool make_pop_memory(struct generator *g, unsigned size)
{
	ZydisEncoderRequest request = {.machine_mode = machine_mode(g->seq),
				       .mnemonic = ZYDIS_MNEMONIC_POP,
				       .operand_count = 1};

	return size != (g->seq->bits == 64 ? 4u : 8u) &&
	       random_memory(g, size, true, false, &request.operands[0], &request.prefixes) &&
	       encode_request(g, &request);
}

static bool make_byte(struct generator *g, unsigned size, unsigned opcode)
{
	g->len = 0;
	put_size(g, size);
	put(g, opcode);
	return true;
}

bool compose(struct generator *g, const struct row *row)
{
	unsigned size = 1u << pick(&g->random, g->seq->bits == 64 ? 4 : 3);

	if (!(row->sizes & size) && (row->sizes & (row->sizes - 1)))
		return false;
	switch (row->form) {
	case FORM_STRING:
		return compose_string(g, row);
	case FORM_DIVIDE:
		return compose_division(g, row, size);
	case FORM_BIT_STRING:
		return compose_bit_string(g, row, size);
	case FORM_XLAT:
		return compose_xlat(g, row);
	case FORM_RET:
	case FORM_REGISTER_JUMP:
		return compose_jump(g, row);
	case FORM_MEMORY_JUMP:
		return compose_memory_jump(g, row);
	case FORM_STRING_IO:
		return compose_string_io(g, row);
	case FORM_LOAD_SREG:
		return compose_load_sreg(g, row);
	case FORM_FOREIGN:
		return make_foreign(g);
	case FORM_POPF:
		return compose_popf(g, row);
	case FORM_PUSHF:
		return make_byte(g, row->sizes, 0x9c);
	case FORM_PUSHA:
		return make_byte(g, row->sizes, 0x60);
	case FORM_POPA:
		return make_byte(g, row->sizes, 0x61);
	case FORM_PUSH_SREG:
		return make_push_sreg(g);
	case FORM_ENTER:
		return make_enter(g, size);
	case FORM_POP_M:
		return make_pop_memory(g, size);
	default:
		return false;
	}
}
