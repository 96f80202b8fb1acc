/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * arith.c - execute division (which may fault), bit strings in memory, operands that must be
 * aligned, and instructions that not every processor has.
 */
#include "helper/helper.h"

/* Read the first operand, a register or memory. */
static enum nx_status read_operand(struct nx_engine *engine, const struct nx_decoded *d,
				   const ZydisDecodedOperand *op, uint64_t *value)
{
	struct nx_reg reg;

	*value = 0;
	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY)
		return nx_guest_read(engine, nx_segment_of(op), nx_effective_address(engine, d, op),
				     value, op->size / 8u);
	if (!nx_reg_of(op->reg.value, &reg))
		return NX_LEAVE_FAULT;
	*value = nx_reg_get(engine, &reg);
	return NX_OK;
}

/* Divide 128 by 64 bits; the caller has made sure that the quotient fits. */
static uint64_t divide(uint64_t high, uint64_t low, uint64_t divisor, uint64_t *remainder)
{
	uint64_t quotient;

	__asm__("divq %4"
		: "=a"(quotient), "=d"(*remainder)
		: "0"(low), "1"(high), "r"(divisor)
		: "cc");
	return quotient;
}

/* Return the dividend of twice the operand's size: AX, DX:AX, EDX:EAX or RDX:RAX. */
static void read_dividend(const struct nx_engine *engine, unsigned size, uint64_t *high,
			  uint64_t *low)
{
	uint64_t rax = engine->context.gpr[NX_RAX], rdx = engine->context.gpr[NX_RDX];

	*high = 0;
	switch (size) {
	case 1:
		*low = rax & 0xffff;
		break;
	case 2:
		*low = (rdx & 0xffff) << 16 | (rax & 0xffff);
		break;
	case 4:
		*low = rdx << 32 | (rax & 0xffffffff);
		break;
	default:
		*low = rax;
		*high = rdx;
		break;
	}
}

static void write_results(struct nx_engine *engine, unsigned size, uint64_t quotient,
			  uint64_t remainder)
{
	const struct nx_reg first = {.number = NX_RAX, .size = (uint8_t)size};
	const struct nx_reg ah = {.number = NX_RAX, .size = 1, .high = true};
	const struct nx_reg rdx = {.number = NX_RDX, .size = (uint8_t)size};

	nx_reg_set(engine->context.gpr, &first, quotient);
	nx_reg_set(engine->context.gpr, size == 1 ? &ah : &rdx, remainder);
}

enum nx_status nx_help_div(struct nx_engine *engine, const struct nx_decoded *d)
{
	unsigned size = d->op[0].size / 8u;
	uint64_t divisor, high, low, quotient, remainder;
	enum nx_status status = read_operand(engine, d, &d->op[0], &divisor);

	if (status != NX_OK)
		return status;
	read_dividend(engine, size, &high, &low);
	if (divisor <= high || !divisor)
		return NX_LEAVE_FAULT;
	quotient = divide(high, low, divisor, &remainder);
	if (quotient > nx_size_mask(size))
		return NX_LEAVE_FAULT;
	write_results(engine, size, quotient, remainder);
	return NX_OK;
}

/* By absolute values: the quotient truncates towards zero, the remainder has the dividend's sign.
 */
enum nx_status nx_help_idiv(struct nx_engine *engine, const struct nx_decoded *d)
{
	unsigned size = d->op[0].size / 8u;
	uint64_t raw, high, low, divisor, quotient, remainder, limit;
	bool negative, divisor_negative, quotient_negative;
	enum nx_status status = read_operand(engine, d, &d->op[0], &raw);

	if (status != NX_OK)
		return status;
	read_dividend(engine, size, &high, &low);
	if (size < 8) {
		low = (uint64_t)nx_sign_extend(low, size * 2);
		high = (int64_t)low < 0 ? ~0ull : 0;
	}
	divisor_negative = nx_sign_extend(raw, size) < 0;
	divisor = divisor_negative ? -(uint64_t)nx_sign_extend(raw, size) : raw;
	negative = (int64_t)high < 0;
	if (negative) {
		low = -low;
		high = ~high + (low == 0);
	}
	if (divisor <= high || !divisor)
		return NX_LEAVE_FAULT;
	quotient = divide(high, low, divisor, &remainder);
	quotient_negative = negative != divisor_negative;
	limit = (nx_size_mask(size) >> 1) + quotient_negative;
	if (quotient > limit)
		return NX_LEAVE_FAULT;
	write_results(engine, size, quotient_negative ? -quotient : quotient,
		      negative ? -remainder : remainder);
	return NX_OK;
}

/* Change *word as BTS, BTR or BTC does, in one atomic operation; return the old value. */
#define CHANGE_BIT(type, word, mask, mnemonic)                                      \
	((mnemonic) == ZYDIS_MNEMONIC_BTS                                           \
	     ? __atomic_fetch_or((type *)(word), (type)(mask), __ATOMIC_SEQ_CST)    \
	 : (mnemonic) == ZYDIS_MNEMONIC_BTR                                         \
	     ? __atomic_fetch_and((type *)(word), (type) ~(mask), __ATOMIC_SEQ_CST) \
	     : __atomic_fetch_xor((type *)(word), (type)(mask), __ATOMIC_SEQ_CST))

static uint64_t change_bit_locked(void *word, unsigned size, uint64_t mask, ZydisMnemonic mnemonic)
{
	switch (size) {
	case 2:
		return CHANGE_BIT(uint16_t, word, mask, mnemonic);
	case 4:
		return CHANGE_BIT(uint32_t, word, mask, mnemonic);
	default:
		return CHANGE_BIT(uint64_t, word, mask, mnemonic);
	}
}

static uint64_t changed_bit(uint64_t old, uint64_t mask, ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_BTS:
		return old | mask;
	case ZYDIS_MNEMONIC_BTR:
		return old & ~mask;
	default:
		return old ^ mask;
	}
}

/*
 * BT and relatives with memory and a register: the register counts bits from the operand's address
 * on, in both directions.
 */
enum nx_status nx_help_bit_string(struct nx_engine *engine, const struct nx_decoded *d)
{
	const bool locked = (d->insn.attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0;
	const ZydisDecodedOperand *m = &d->op[0];
	const enum nx_sreg seg = nx_segment_of(m);
	unsigned size = m->size / 8u, bits = size * 8;
	uint64_t address = nx_effective_address(engine, d, m), index, mask, old = 0, new;
	enum nx_status status = read_operand(engine, d, &d->op[1], &index);
	int64_t position = nx_sign_extend(index, size);
	void *host = NULL;

	/* Arithmetic shift: division of a negative offset rounds down. */
	address += (uint64_t)(position >> __builtin_ctz(bits)) * size;
	address &= nx_size_mask(d->insn.address_width / 8u);
	mask = 1ull << (index & (bits - 1));
	if (status == NX_OK && locked)
		status = nx_guest_pointer(engine, seg, address, size, &host);
	else if (status == NX_OK)
		status = nx_guest_read(engine, seg, address, &old, size);
	if (status == NX_OK && locked && (uintptr_t)host % NX_CACHE_LINE + size > NX_CACHE_LINE)
		status = NX_LEAVE_SPLIT_LOCK;
	if (status == NX_OK && locked) {
		old = change_bit_locked(host, size, mask, d->insn.mnemonic);
	} else if (status == NX_OK && d->insn.mnemonic != ZYDIS_MNEMONIC_BT) {
		new = changed_bit(old, mask, d->insn.mnemonic);
		status = nx_guest_write(engine, seg, address, &new, size);
	}
	if (status != NX_OK)
		return status;
	nx_rflags_set_arithmetic(engine, (nx_rflags_get(engine) & ~(uint64_t)NX_FL_CF) |
					     (old & mask ? NX_FL_CF : 0));
	return NX_OK;
}

enum nx_status nx_help_cmpxchg16b(struct nx_engine *engine, const struct nx_decoded *d)
{
	uint64_t *gpr = engine->context.gpr, address = nx_effective_address(engine, d, &d->op[0]);
	enum nx_sreg seg = nx_segment_of(&d->op[0]);
	uint64_t linear = address;
	void *host;
	enum nx_status status;
	bool equal;

	/* In 64-bit mode only, where FS and GS alone have a base. */
	if (seg == NX_FS || seg == NX_GS)
		linear += engine->context.seg[seg].base;
	if (linear & 15)
		return NX_LEAVE_FAULT;
	status = nx_guest_pointer(engine, seg, address, 16, &host);
	if (status != NX_OK)
		return status;
	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(equal), "+m"(*(unsigned __int128 *)host), "+a"(gpr[NX_RAX]),
			   "+d"(gpr[NX_RDX])
			 : "b"(gpr[NX_RBX]), "c"(gpr[NX_RCX])
			 : "memory");
	nx_rflags_set_arithmetic(engine, (nx_rflags_get(engine) & ~(uint64_t)NX_FL_ZF) |
					     (equal ? NX_FL_ZF : 0));
	return NX_OK;
}

enum nx_status nx_help_xlat(struct nx_engine *engine, const struct nx_decoded *d)
{
	const struct nx_reg al = {.number = NX_RAX, .size = 1};
	const ZydisDecodedOperand *m = NULL;
	uint64_t address, value = 0;
	enum nx_status status;

	for (unsigned i = 0; i < d->insn.operand_count; i++)
		if (d->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			m = &d->op[i];
	if (!m)
		return NX_LEAVE_FAULT;
	address = (engine->context.gpr[NX_RBX] + nx_reg_get(engine, &al)) &
		  nx_size_mask(d->insn.address_width / 8u);
	status = nx_guest_read(engine, nx_segment_of(m), address, &value, 1);
	if (status == NX_OK)
		nx_reg_set(engine->context.gpr, &al, value);
	return status;
}

/* ---- Instructions that the host's processor may lack, though the guest's has them ---- */

static uint64_t reverse_bytes(uint64_t value, unsigned size)
{
	return __builtin_bswap64(value) >> (64 - size * 8);
}

enum nx_status nx_help_movbe(struct nx_engine *engine, const struct nx_decoded *d)
{
	const bool loads = d->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY;
	const ZydisDecodedOperand *m = &d->op[loads ? 1 : 0];
	unsigned size = m->size / 8u;
	struct nx_reg reg;
	uint64_t value;
	enum nx_status status;

	if (!nx_reg_of(d->op[loads ? 0 : 1].reg.value, &reg))
		return NX_LEAVE_FAULT;
	if (loads) {
		status = read_operand(engine, d, m, &value);
		if (status == NX_OK)
			nx_reg_set(engine->context.gpr, &reg, reverse_bytes(value, size));
		return status;
	}
	value = reverse_bytes(nx_reg_get(engine, &reg), size);
	return nx_guest_write(engine, nx_segment_of(m), nx_effective_address(engine, d, m), &value,
			      size);
}

enum nx_status nx_help_popcnt(struct nx_engine *engine, const struct nx_decoded *d)
{
	uint64_t value, count = 0;
	enum nx_status status = read_operand(engine, d, &d->op[1], &value);
	struct nx_reg to;

	if (status != NX_OK)
		return status;
	if (!nx_reg_of(d->op[0].reg.value, &to))
		return NX_LEAVE_FAULT;
	for (; value; value &= value - 1)
		count++;
	nx_reg_set(engine->context.gpr, &to, count);
	nx_rflags_set_arithmetic(engine, count ? 0 : NX_FL_ZF);
	return NX_OK;
}

/* RDTSC, and RDTSCP, which differs in ECX and in what it waits for: here all is done. */
enum nx_status nx_help_rdtsc(struct nx_engine *engine, const struct nx_decoded *d)
{
	const bool with_aux = d->insn.mnemonic == ZYDIS_MNEMONIC_RDTSCP;
	uint64_t tsc;
	uint32_t aux;

	if (!engine->host->read_tsc(engine->host_data, &tsc, with_aux ? &aux : NULL))
		return NX_LEAVE_STATE;
	engine->context.gpr[NX_RAX] = (uint32_t)tsc;
	engine->context.gpr[NX_RDX] = tsc >> 32;
	if (with_aux)
		engine->context.gpr[NX_RCX] = aux;
	return NX_OK;
}
