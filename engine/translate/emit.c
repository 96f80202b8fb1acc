/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* emit.c - see emit.h. */
#include "translate/emit.h"

#define REX 0x40u
#define REX_W 8u
#define REX_R 4u
#define REX_X 2u
#define REX_B 1u

void nx_emit_bytes(struct nx_emitter *e, const uint8_t *bytes, unsigned len)
{
	if (e->failed || e->capacity - e->size < len) {
		e->failed = true;
		return;
	}
	nx_memcpy(e->to + e->size, bytes, len);
	e->size += len;
}

/* ---- ModRM ---- */

/* An instruction as it is written; the prefixes are put in front at the end. */
struct written {
	uint8_t rex; /* its lower four bits */
	uint8_t length;
	uint8_t bytes[15]; /* from ModRM on */
};

static void put(struct written *w, int64_t value, unsigned size)
{
	nx_memcpy(w->bytes + w->length, &value, size);
	w->length += (uint8_t)size;
}

static unsigned number_of(uint16_t reg)
{
	return (unsigned)(reg - ZYDIS_REGISTER_RAX);
}

static bool fits8(int64_t value)
{
	return value == (int8_t)value;
}

static bool fits32(int64_t value)
{
	return value == (int32_t)value;
}

/*
 * Base and index are 64-bit registers. The numbers 4 (rsp, r12) as a base need SIB, and 5 (rbp,
 * r13) a displacement, since ModRM has another meaning for them.
 */
static void put_memory(struct written *w, unsigned reg, const nx_operand *m)
{
	bool has_base = m->reg != ZYDIS_REGISTER_NONE, has_index = m->index != ZYDIS_REGISTER_NONE;
	unsigned base = has_base ? number_of(m->reg) : 5;
	unsigned index = has_index ? number_of(m->index) : 4;
	bool has_sib = has_index || !has_base || (base & 7) == 4;
	unsigned mod = !has_base || (m->value == 0 && (base & 7) != 5) ? 0
		       : fits8(m->value)                               ? 1
								       : 2;

	w->rex |= (reg & 8 ? REX_R : 0) | (index & 8 ? REX_X : 0) | (base & 8 ? REX_B : 0);
	put(w, mod << 6 | (reg & 7) << 3 | (has_sib ? 4 : base & 7), 1);
	if (has_sib)
		put(w,
		    (m->scale ? (unsigned)__builtin_ctz(m->scale) : 0) << 6 | (index & 7) << 3 |
			(base & 7),
		    1);
	if (mod || !has_base)
		put(w, m->value, mod == 1 ? 1 : 4);
}

void nx_emit_encoded(struct nx_emitter *e, const struct nx_encoding *x)
{
	struct written w = {.rex = x->wide ? REX_W : 0};
	uint8_t bytes[15];
	unsigned n = 0, opcode = x->opcode;

	if (x->memory && !fits32(x->memory->value))
		e->failed = true;
	if (x->in_opcode) {
		opcode |= x->rm & 7;
		w.rex |= x->rm & 8 ? REX_B : 0;
	} else if (x->memory) {
		put_memory(&w, x->reg, x->memory);
	} else if (x->has_modrm) {
		w.rex |= (x->reg & 8 ? REX_R : 0) | (x->rm & 8 ? REX_B : 0);
		put(&w, 0xc0 | (x->reg & 7) << 3 | (x->rm & 7), 1);
	}
	put(&w, x->immediate, x->immediate_size);
	if (x->lock)
		bytes[n++] = 0xf0;
	if (x->narrow)
		bytes[n++] = 0x66;
	if (x->repeat)
		bytes[n++] = x->repeat;
	/* With REX the numbers of AH, CH, DH and BH mean other registers. */
	if (w.rex || x->low_byte) {
		bytes[n++] = (uint8_t)(REX | w.rex);
		e->failed |= x->high_byte;
	}
	if (x->two_bytes)
		bytes[n++] = 0x0f;
	bytes[n++] = (uint8_t)opcode;
	nx_emit_bytes(e, bytes, n);
	nx_emit_bytes(e, w.bytes, w.length);
}

/* ---- Instructions of the translator's own ---- */

/* Put a register into the encoding, of which this returns the number. */
static uint8_t encode_register(struct nx_encoding *x, const nx_operand *op)
{
	struct nx_reg reg = {.number = 0};

	nx_reg_of((ZydisRegister)op->reg, &reg);
	nx_encode_size(x, reg.size);
	return nx_encode_reg(x, &reg);
}

/* Put a register or a place in memory into the encoding, as what ModRM says besides reg. */
static void encode_rm(struct nx_encoding *x, const nx_operand *op)
{
	x->has_modrm = true;
	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		nx_encode_size(x, op->size);
		x->memory = op;
	} else {
		x->rm = encode_register(x, op);
	}
}

static bool is_register(const nx_operand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER;
}

static bool is_immediate(const nx_operand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

static unsigned size_of(const nx_operand *op)
{
	struct nx_reg reg = {.size = 0};

	if (!is_register(op))
		return op->size;
	nx_reg_of((ZydisRegister)op->reg, &reg);
	return reg.size;
}

/* An immediate operand has as many bytes as the other one, and not more than four. */
static void encode_immediate(struct nx_emitter *e, struct nx_encoding *x, unsigned size,
			     int64_t value)
{
	x->immediate = value;
	x->immediate_size = (uint8_t)(size < 4 ? size : 4);
	e->failed |= size >= 4 && nx_needs_blinding(e, value);
	e->failed |= !fits32(value) && (size == 8 || value != (int64_t)(uint32_t)value);
}

/* The opcodes of most instructions differ by one for bytes and larger operands, and by two for the
 * direction. */
static void emit_both_ways(struct nx_emitter *e, unsigned opcode, const nx_operand *a,
			   const nx_operand *b)
{
	bool load = !is_register(b);
	const nx_operand *reg = load ? a : b, *rm = load ? b : a;
	struct nx_encoding x = {.opcode = (uint8_t)(opcode + 2u * load + (size_of(reg) > 1))};

	encode_rm(&x, rm);
	x.reg = encode_register(&x, reg);
	nx_emit_encoded(e, &x);
}

/* ---- Blinded constants (context.h, rule 10) ---- */

/* Return the key for a constant in the instruction that begins at this offset. */
static int64_t key_for(const struct nx_emitter *e, uint32_t offset, int64_t value)
{
	int64_t key = nx_blind_key(e->blind, offset);

	return value < 0 ? ~key : key;
}

/* lea r, [m]; r has this size. */
static void emit_lea(struct nx_emitter *e, unsigned number, unsigned size, const nx_operand *m)
{
	struct nx_encoding x = {.opcode = 0x8d, .memory = m, .has_modrm = true};

	nx_encode_size(&x, size);
	x.reg = (uint8_t)number;
	nx_emit_encoded(e, &x);
}

/* Add a key to a register. */
static void add_key(struct nx_emitter *e, unsigned number, unsigned size, int64_t key)
{
	nx_operand sum = nx_op_mem(nx_zydis_reg(number, 8), ZYDIS_REGISTER_NONE, 0, key, 8);

	emit_lea(e, number, size, &sum);
}

/* Return what stands in the code for a constant of 32 bits. */
static int64_t stand_in(const struct nx_emitter *e, int64_t value)
{
	return value - key_for(e, e->size, value);
}

/* Return the same for one of 64 bits: its second half is behind the first one there. */
static int64_t swapped_stand_in(const struct nx_emitter *e, int64_t value)
{
	uint64_t part = (uint64_t)value - (uint64_t)key_for(e, e->size + 1, 0);

	return (int64_t)(__builtin_bswap64(part) - (uint64_t)key_for(e, e->size, 0));
}

/*
 * The verifier knows a constant that is to be undone by its being long. What stands for one may be
 * short by chance, one in some ten thousand: there is another key behind a nop.
 */
static void avoid_short(struct nx_emitter *e, int64_t (*in)(const struct nx_emitter *, int64_t),
			int64_t value)
{
	static const uint8_t nop = 0x90;

	while (!e->failed && nx_is_short(in(e, value)))
		nx_emit_bytes(e, &nop, 1);
}

static void emit_blinded_lea(struct nx_emitter *e, const nx_operand *to, const nx_operand *from)
{
	nx_operand part = *from;
	struct nx_reg reg = {.number = 0};
	int64_t key;

	avoid_short(e, stand_in, from->value);
	key = key_for(e, e->size, from->value);
	nx_reg_of((ZydisRegister)to->reg, &reg);
	part.value = stand_in(e, from->value);
	emit_lea(e, reg.number, reg.size, &part);
	add_key(e, reg.number, reg.size, key);
}

/* mov r, value; the encoding says how many bytes the immediate has. */
static void emit_load(struct nx_emitter *e, struct nx_encoding *x, unsigned number, int64_t value)
{
	x->rm = (uint8_t)number;
	x->immediate = value;
	nx_emit_encoded(e, x);
}

static void emit_blinded_mov(struct nx_emitter *e, unsigned number, unsigned size, int64_t value)
{
	struct nx_encoding half = {.opcode = 0xb8, .in_opcode = true, .immediate_size = 4};
	struct nx_encoding extended = {
	    .opcode = 0xc7, .has_modrm = true, .wide = true, .immediate_size = 4};
	struct nx_encoding whole = {
	    .opcode = 0xb8, .in_opcode = true, .wide = true, .immediate_size = 8};
	struct nx_encoding bswap = {.two_bytes = true,
				    .opcode = 0xc8,
				    .in_opcode = true,
				    .wide = true,
				    .rm = (uint8_t)number};
	uint32_t at;
	bool is_half = size == 4 || value == (int64_t)(uint32_t)value;

	if (is_half || fits32(value)) {
		value = (int32_t)value;
		avoid_short(e, stand_in, value);
		at = e->size;
		emit_load(e, is_half ? &half : &extended, number, stand_in(e, value));
		add_key(e, number, is_half ? 4 : 8, key_for(e, at, value));
	} else {
		avoid_short(e, swapped_stand_in, value);
		at = e->size;
		emit_load(e, &whole, number, swapped_stand_in(e, value));
		add_key(e, number, 8, key_for(e, at, 0));
		nx_emit_encoded(e, &bswap);
		add_key(e, number, 8, key_for(e, at + 1, 0));
	}
}

static void emit_mov_immediate(struct nx_emitter *e, const nx_operand *to, int64_t value)
{
	struct nx_encoding x = {.opcode = 0xc7};
	unsigned size = size_of(to);

	if (is_register(to) && size >= 4 && nx_needs_blinding(e, value)) {
		struct nx_reg reg = {.number = 0};

		nx_reg_of((ZydisRegister)to->reg, &reg);
		emit_blinded_mov(e, reg.number, size, value);
		return;
	}
	if (is_register(to) &&
	    (size == 4 || (size == 8 && (value == (int64_t)(uint32_t)value || !fits32(value))))) {
		x.opcode = 0xb8;
		x.in_opcode = true;
		x.rm = encode_register(&x, to);
		x.immediate = value;
		/* Four bytes are enough where the upper half of the register becomes zero. */
		x.wide = size == 8 && value != (int64_t)(uint32_t)value;
		x.immediate_size = x.wide ? 8 : 4;
		e->failed |= size == 4 && !fits32(value) && value != (int64_t)(uint32_t)value;
	} else {
		x.opcode = size == 1 ? 0xc6 : 0xc7;
		encode_rm(&x, to);
		encode_immediate(e, &x, size, value);
	}
	nx_emit_encoded(e, &x);
}

/* ADD, OR, AND, SUB, XOR and CMP, by their number in the opcode. */
static void emit_arithmetic(struct nx_emitter *e, unsigned number, const nx_operand *a,
			    const nx_operand *b)
{
	struct nx_encoding x = {.opcode = 0x81, .reg = (uint8_t)number};
	unsigned size = size_of(a);

	if (!is_immediate(b)) {
		emit_both_ways(e, number * 8, a, b);
		return;
	}
	encode_rm(&x, a);
	encode_immediate(e, &x, size, b->value);
	if (size == 1) {
		x.opcode = 0x80;
	} else if (fits8(b->value)) {
		x.opcode = 0x83;
		x.immediate_size = 1;
	}
	nx_emit_encoded(e, &x);
}

/* An instruction with an immediate operand and an opcode that ModRM goes on with. */
static void emit_extended(struct nx_emitter *e, uint8_t opcode, unsigned extension,
			  const nx_operand *a, const nx_operand *b, unsigned bytes)
{
	struct nx_encoding x = {.opcode = opcode, .reg = (uint8_t)extension};

	e->failed |= !is_immediate(b) || size_of(a) == 1;
	encode_rm(&x, a);
	encode_immediate(e, &x, bytes, b->value);
	nx_emit_encoded(e, &x);
}

/* An instruction that writes a register, of whose size it is. */
static void emit_to_register(struct nx_emitter *e, bool two_bytes, uint8_t opcode,
			     const nx_operand *a, const nx_operand *b)
{
	struct nx_encoding x = {.two_bytes = two_bytes, .opcode = opcode};

	encode_rm(&x, b);
	x.reg = encode_register(&x, a);
	nx_emit_encoded(e, &x);
}

void nx_emit0(struct nx_emitter *e, ZydisMnemonic mnemonic)
{
	static const uint8_t lahf = 0x9f, sahf = 0x9e, endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};

	switch (mnemonic) {
	case ZYDIS_MNEMONIC_LAHF:
		nx_emit_bytes(e, &lahf, 1);
		break;
	case ZYDIS_MNEMONIC_SAHF:
		nx_emit_bytes(e, &sahf, 1);
		break;
	case ZYDIS_MNEMONIC_ENDBR64:
		nx_emit_bytes(e, endbr64, sizeof(endbr64));
		break;
	default:
		e->failed = true;
		break;
	}
}

void nx_emit1(struct nx_emitter *e, ZydisMnemonic mnemonic, nx_operand a)
{
	struct nx_encoding x = {.opcode = 0xff};

	encode_rm(&x, &a);
	/* The operand of a branch has 64 bits without REX.W. */
	x.wide = false;
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_SETO:
		x.two_bytes = true;
		x.opcode = 0x90;
		break;
	case ZYDIS_MNEMONIC_CALL:
		x.reg = 2;
		break;
	case ZYDIS_MNEMONIC_JMP:
		x.reg = 4;
		break;
	default:
		e->failed = true;
		break;
	}
	nx_emit_encoded(e, &x);
}

void nx_emit2(struct nx_emitter *e, ZydisMnemonic mnemonic, nx_operand a, nx_operand b)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		if (is_immediate(&b))
			emit_mov_immediate(e, &a, b.value);
		else
			emit_both_ways(e, 0x88, &a, &b);
		break;
	case ZYDIS_MNEMONIC_ADD:
		emit_arithmetic(e, 0, &a, &b);
		break;
	case ZYDIS_MNEMONIC_OR:
		emit_arithmetic(e, 1, &a, &b);
		break;
	case ZYDIS_MNEMONIC_AND:
		emit_arithmetic(e, 4, &a, &b);
		break;
	case ZYDIS_MNEMONIC_SUB:
		emit_arithmetic(e, 5, &a, &b);
		break;
	case ZYDIS_MNEMONIC_XOR:
		emit_arithmetic(e, 6, &a, &b);
		break;
	case ZYDIS_MNEMONIC_CMP:
		emit_arithmetic(e, 7, &a, &b);
		break;
	case ZYDIS_MNEMONIC_TEST:
		emit_extended(e, 0xf7, 0, &a, &b, size_of(&a));
		break;
	case ZYDIS_MNEMONIC_SHL:
		emit_extended(e, 0xc1, 4, &a, &b, 1);
		break;
	case ZYDIS_MNEMONIC_SHR:
		emit_extended(e, 0xc1, 5, &a, &b, 1);
		break;
	case ZYDIS_MNEMONIC_XCHG:
		e->failed |= !is_register(&b);
		emit_both_ways(e, 0x86, &a, &b);
		break;
	case ZYDIS_MNEMONIC_LEA:
		if (nx_needs_blinding(e, b.value))
			emit_blinded_lea(e, &a, &b);
		else
			emit_to_register(e, false, 0x8d, &a, &b);
		break;
	case ZYDIS_MNEMONIC_MOVZX:
		emit_to_register(e, true, size_of(&b) == 1 ? 0xb6 : 0xb7, &a, &b);
		break;
	case ZYDIS_MNEMONIC_CMOVNZ:
		emit_to_register(e, true, 0x45, &a, &b);
		break;
	default:
		e->failed = true;
		break;
	}
}

/* ---- Branches ---- */

/* Return the lower half of a conditional branch's opcode, or -1. */
static int condition_of(ZydisMnemonic mnemonic)
{
	static const uint16_t conditions[] = {
	    ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JB,  ZYDIS_MNEMONIC_JNB,
	    ZYDIS_MNEMONIC_JZ, ZYDIS_MNEMONIC_JNZ, ZYDIS_MNEMONIC_JBE, ZYDIS_MNEMONIC_JNBE,
	    ZYDIS_MNEMONIC_JS, ZYDIS_MNEMONIC_JNS, ZYDIS_MNEMONIC_JP,  ZYDIS_MNEMONIC_JNP,
	    ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JLE, ZYDIS_MNEMONIC_JNLE};

	for (int i = 0; i < 16; i++)
		if (conditions[i] == mnemonic)
			return i;
	return -1;
}

void nx_emit_branch(struct nx_emitter *e, ZydisMnemonic mnemonic, bool short_form)
{
	int condition = condition_of(mnemonic);
	struct nx_encoding x = {.immediate_size = short_form ? 1 : 4};

	if (condition >= 0) {
		x.two_bytes = !short_form;
		x.opcode = (uint8_t)((short_form ? 0x70 : 0x80) + condition);
	} else if (mnemonic == ZYDIS_MNEMONIC_JMP) {
		x.opcode = short_form ? 0xeb : 0xe9;
	} else if (mnemonic == ZYDIS_MNEMONIC_CALL && !short_form) {
		x.opcode = 0xe8;
	} else if (mnemonic == ZYDIS_MNEMONIC_JRCXZ && short_form) {
		x.opcode = 0xe3;
	} else {
		e->failed = true;
	}
	nx_emit_encoded(e, &x);
}

void nx_emit_trap(struct nx_emitter *e)
{
	static const uint8_t int3 = 0xcc;

	if (e->traps)
		nx_emit_bytes(e, &int3, 1);
}

void nx_branch_patch(struct nx_emitter *e, uint32_t end, uint32_t target)
{
	int32_t displacement = (int32_t)(target - end);

	if (!e->failed)
		nx_memcpy(e->to + end - 4, &displacement, 4);
}

void nx_branch_patch8(struct nx_emitter *e, uint32_t end, uint32_t target)
{
	int32_t displacement = (int32_t)(target - end);

	if (displacement < -128 || displacement > 127)
		e->failed = true;
	if (!e->failed)
		e->to[end - 1] = (uint8_t)displacement;
}
