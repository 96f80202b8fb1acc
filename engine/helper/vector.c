/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * vector.c - instructions on the registers XMM0 to XMM15: moves, and the integer operations that
 * compilers put beside them.
 *
 * The registers are the host's business (nx_host.read_vector): nothing here is executed by them, so
 * the upper halves of wider registers and MXCSR stay as they are, and no exception of floating
 * point can be raised. A move of 16 bytes between memory and a register is one access of the
 * host's.
 */
#include "helper/helper.h"

union vector {
	uint64_t q[2];
	uint8_t b[16];
};

enum operation {
	/* Moves: of the low bytes, the others of a register that is loaded become 0. LOOSE: the
	 * address may be any. */
	MOVE,
	LOOSE,
	SCALAR, /* between registers the others stay as they are */
	LOW_HALF,
	HIGH_HALF,
	/* MOVHLPS and MOVLHPS. */
	HIGH_TO_LOW,
	LOW_TO_HIGH,
	MASK, /* the bytes' highest bits, to a general register */
	/* Of each element of the destination and the one of the source. */
	AND,
	AND_NOT,
	OR,
	XOR,
	EQUAL,
	GREATER,
	ADD,
	SUBTRACT,
	MINIMUM,
	MAXIMUM,
	/* By a number that the source is. */
	SHIFT_LEFT,
	SHIFT_RIGHT,
	SHIFT_SIGNED,
	BYTES_LEFT,
	BYTES_RIGHT,
	/* Elements in another order. */
	UNPACK_LOW,
	UNPACK_HIGH,
	SHUFFLE,
	SHUFFLE_LOW,
	SHUFFLE_HIGH,
	SHUFFLE_BOTH,
};

struct form {
	uint8_t operation, size; /* of an element, in bytes */
};

static struct form form_of(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
#define NX_X(name, operation, size) \
	case ZYDIS_MNEMONIC_##name: \
		return (struct form){operation, size};
		NX_VECTORS(NX_X)
#undef NX_X
	default: /* helpers.c has the same list */
		return (struct form){MOVE, 16};
	}
}

/* ---- Operations ---- */

static uint64_t get(const union vector *v, unsigned size, unsigned number)
{
	uint64_t value = 0;

	for (unsigned i = size; i-- > 0;)
		value = value << 8 | v->b[number * size + i];
	return value;
}

static void set(union vector *v, unsigned size, unsigned number, uint64_t value)
{
	for (unsigned i = 0; i < size; i++)
		v->b[number * size + i] = (uint8_t)(value >> 8 * i);
}

/* Return what becomes of element a, with b as the source's or as the number to shift by. */
static uint64_t combine(enum operation operation, unsigned size, uint64_t a, uint64_t b)
{
	const unsigned bits = size * 8;

	switch (operation) {
	case AND:
		return a & b;
	case AND_NOT:
		return ~a & b;
	case OR:
		return a | b;
	case XOR:
		return a ^ b;
	case EQUAL:
		return a == b ? ~0ull : 0;
	case GREATER:
		return nx_sign_extend(a, size) > nx_sign_extend(b, size) ? ~0ull : 0;
	case ADD:
		return a + b;
	case SUBTRACT:
		return a - b;
	case MINIMUM:
		return a < b ? a : b;
	case MAXIMUM:
		return a > b ? a : b;
	case SHIFT_LEFT:
		return b < bits ? a << b : 0;
	case SHIFT_RIGHT:
		return b < bits ? a >> b : 0;
	case SHIFT_SIGNED:
		return (uint64_t)(nx_sign_extend(a, size) >> (b < bits ? b : bits - 1));
	default:
		return a;
	}
}

static void combine_all(struct form form, union vector *to, const union vector *from)
{
	const bool shifts = form.operation >= SHIFT_LEFT;

	for (unsigned i = 0; i < 16u / form.size; i++)
		set(to, form.size, i,
		    combine(form.operation, form.size, get(to, form.size, i),
			    shifts ? from->q[0] : get(from, form.size, i)));
}

static void shift_bytes(union vector *to, bool left, uint64_t count)
{
	const union vector old = *to;

	for (unsigned i = 0; i < 16; i++) {
		uint64_t source = left ? i - count : i + count;

		to->b[i] = count < 16 && source < 16 ? old.b[source] : 0;
	}
}

static void unpack(struct form form, union vector *to, const union vector *from)
{
	const unsigned half = 8u / form.size, first = form.operation == UNPACK_HIGH ? half : 0;
	const union vector old = *to;

	for (unsigned i = 0; i < half; i++) {
		set(to, form.size, 2 * i, get(&old, form.size, first + i));
		set(to, form.size, 2 * i + 1, get(from, form.size, first + i));
	}
}

/* The order's two bits, for eight-byte elements one, say which element comes to each place. */
static void shuffle(struct form form, union vector *to, const union vector *from, uint64_t order)
{
	const unsigned bits = form.size == 8 ? 1 : 2, count = form.size == 8 ? 2 : 4;
	const unsigned first = form.operation == SHUFFLE_HIGH ? 4 : 0;
	const union vector old = *to;

	if (form.operation != SHUFFLE_BOTH)
		*to = *from;
	for (unsigned i = 0; i < count; i++) {
		unsigned which = order >> bits * i & (count - 1);
		bool own = form.operation == SHUFFLE_BOTH && i < count / 2;

		set(to, form.size, first + i, get(own ? &old : from, form.size, first + which));
	}
}

/* Do the operation on registers' values. */
static void operate(const struct nx_decoded *d, struct form form, union vector *to,
		    const union vector *from)
{
	switch ((enum operation)form.operation) {
	case MOVE:
	case LOOSE:
		*to = *from;
		break;
	case SCALAR:
		if (d->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY)
			*to = *from;
		else
			set(to, form.size, 0, get(from, form.size, 0));
		break;
	case LOW_HALF:
		to->q[0] = from->q[0];
		break;
	case HIGH_HALF:
	case LOW_TO_HIGH:
		to->q[1] = from->q[0];
		break;
	case HIGH_TO_LOW:
		to->q[0] = from->q[1];
		break;
	case BYTES_LEFT:
	case BYTES_RIGHT:
		shift_bytes(to, form.operation == BYTES_LEFT, from->q[0]);
		break;
	case UNPACK_LOW:
	case UNPACK_HIGH:
		unpack(form, to, from);
		break;
	case SHUFFLE:
	case SHUFFLE_LOW:
	case SHUFFLE_HIGH:
	case SHUFFLE_BOTH:
		shuffle(form, to, from, d->op[2].imm.value.u);
		break;
	default:
		combine_all(form, to, from);
		break;
	}
}

static uint64_t mask_of(const union vector *v)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < 16; i++)
		mask |= (uint64_t)(v->b[i] >> 7) << i;
	return mask;
}

/* ---- Operands ---- */

static bool read_register(struct nx_engine *engine, ZydisRegister reg, void *to)
{
	unsigned number;

	return nx_vector_of(reg, &number) &&
	       engine->host->read_vector(engine->host_data, number, to);
}

static bool write_register(struct nx_engine *engine, ZydisRegister reg, const void *from)
{
	unsigned number;

	return nx_vector_of(reg, &number) &&
	       engine->host->write_vector(engine->host_data, number, from);
}

/* Find the 16 bytes of a memory operand. */
static enum nx_status find(struct nx_engine *engine, const struct nx_decoded *d, struct form form,
			   const ZydisDecodedOperand *op, bool write, void **host)
{
	return nx_guest_bytes(engine, nx_segment_of(op), nx_effective_address(engine, d, op), 16,
			      form.operation == LOOSE ? 1 : 16, write, host);
}

/* Read the second operand: a register, a number, or what memory has, zero-extended. */
static enum nx_status read_source(struct nx_engine *engine, const struct nx_decoded *d,
				  struct form form, union vector *from)
{
	const ZydisDecodedOperand *op = &d->op[1];
	enum nx_status status;
	struct nx_reg reg;
	void *host;

	from->q[0] = from->q[1] = 0;
	switch (op->type) {
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		from->q[0] = op->imm.value.u;
		return NX_OK;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		if (op->size != 128)
			return nx_guest_read(engine, nx_segment_of(op),
					     nx_effective_address(engine, d, op), &from->q[0],
					     op->size / 8u);
		status = find(engine, d, form, op, false, &host);
		if (status == NX_OK)
			nx_memcpy(from, host, sizeof(*from));
		return status;
	default:
		if (nx_reg_of(op->reg.value, &reg))
			from->q[0] = nx_reg_get(engine, &reg);
		else if (!read_register(engine, op->reg.value, from))
			return NX_LEAVE_STATE;
		/* The destination has the number of bytes that are moved. */
		if (form.operation == MOVE && form.size < 16) {
			from->q[0] &= nx_size_mask(form.size);
			from->q[1] = 0;
		}
		return NX_OK;
	}
}

/* ---- Instructions ---- */

static enum nx_status store(struct nx_engine *engine, const struct nx_decoded *d, struct form form)
{
	const ZydisDecodedOperand *op = &d->op[0];
	enum nx_status status;
	union vector value;
	void *host;

	if (op->size == 128) {
		status = find(engine, d, form, op, true, &host);
		if (status == NX_OK && !read_register(engine, d->op[1].reg.value, host))
			return NX_LEAVE_STATE;
		return status;
	}
	if (!read_register(engine, d->op[1].reg.value, &value))
		return NX_LEAVE_STATE;
	return nx_guest_write(engine, nx_segment_of(op), nx_effective_address(engine, d, op),
			      &value.q[form.operation == HIGH_HALF], op->size / 8u);
}

/* Load 16 bytes of memory, by one access. */
static enum nx_status load(struct nx_engine *engine, const struct nx_decoded *d, struct form form)
{
	void *host;
	enum nx_status status = find(engine, d, form, &d->op[1], false, &host);

	if (status == NX_OK && !write_register(engine, d->op[0].reg.value, host))
		return NX_LEAVE_STATE;
	return status;
}

enum nx_status nx_help_vector(struct nx_engine *engine, const struct nx_decoded *d)
{
	const struct form form = form_of(d->insn.mnemonic);
	const bool moves = form.operation == MOVE || form.operation == LOOSE;
	union vector to, from;
	enum nx_status status;
	struct nx_reg reg;

	if (d->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
		return store(engine, d, form);
	if (moves && d->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY && d->op[1].size == 128)
		return load(engine, d, form);
	status = read_source(engine, d, form, &from);
	if (status != NX_OK)
		return status;
	if (nx_reg_of(d->op[0].reg.value, &reg)) {
		nx_reg_set(engine->context.gpr, &reg,
			   form.operation == MASK ? mask_of(&from) : from.q[0]);
		return NX_OK;
	}
	if (!moves && !read_register(engine, d->op[0].reg.value, &to))
		return NX_LEAVE_STATE;
	operate(d, form, &to, &from);
	return write_register(engine, d->op[0].reg.value, &to) ? NX_OK : NX_LEAVE_STATE;
}
