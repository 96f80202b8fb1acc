/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * operand.c - the verifier's list of instructions, and the proof of their operands.
 */
#include "verify/verifier.h"

#define M(name, as) [ZYDIS_MNEMONIC_##name] = (as)
#define CONDITIONS(prefix, as)                                                          \
	M(prefix##O, as), M(prefix##NO, as), M(prefix##B, as), M(prefix##NB, as),       \
	    M(prefix##Z, as), M(prefix##NZ, as), M(prefix##BE, as), M(prefix##NBE, as), \
	    M(prefix##S, as), M(prefix##NS, as), M(prefix##P, as), M(prefix##NP, as),   \
	    M(prefix##L, as), M(prefix##NL, as), M(prefix##LE, as), M(prefix##NLE, as)

/*
 * Only what cannot fault on operands that are proven, and exists on every 64-bit processor with
 * virtualization. So no div, no cmpxchg16b (faults when misaligned), no popcnt and movbe (newer);
 * lzcnt and tzcnt run as bsr and bsf where they are missing.
 */
static const uint8_t list[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
    M(MOV, PLAIN),
    M(MOVZX, PLAIN),
    M(MOVSX, PLAIN),
    M(MOVSXD, WIDE),
    M(LEA, PLAIN),
    M(ADD, PLAIN),
    M(OR, PLAIN),
    M(ADC, PLAIN),
    M(SBB, PLAIN),
    M(AND, PLAIN),
    M(SUB, PLAIN),
    M(XOR, PLAIN),
    M(CMP, PLAIN),
    M(TEST, PLAIN),
    M(INC, PLAIN),
    M(DEC, PLAIN),
    M(NEG, PLAIN),
    M(NOT, PLAIN),
    M(SHL, PLAIN),
    M(SHR, PLAIN),
    M(SAR, PLAIN),
    M(ROL, PLAIN),
    M(ROR, PLAIN),
    M(RCL, PLAIN),
    M(RCR, PLAIN),
    M(SHLD, PLAIN),
    M(SHRD, PLAIN),
    M(IMUL, PLAIN),
    M(MUL, PLAIN),
    M(XCHG, PLAIN),
    M(XADD, PLAIN),
    M(CMPXCHG, PLAIN),
    M(CMPXCHG8B, PLAIN),
    M(BSWAP, PLAIN),
    M(CBW, PLAIN),
    M(CWDE, PLAIN),
    M(CDQE, PLAIN),
    M(CWD, PLAIN),
    M(CDQ, PLAIN),
    M(CQO, PLAIN),
    M(BT, BIT_TEST),
    M(BTR, BIT_TEST),
    M(BTS, BIT_TEST),
    M(BTC, BIT_TEST),
    M(BSF, KEEPING),
    M(BSR, KEEPING),
    M(LZCNT, KEEPING),
    M(TZCNT, KEEPING),
    M(LAHF, NO_FORM),
    M(SAHF, NO_FORM),
    M(CLC, NO_FORM),
    M(STC, NO_FORM),
    M(CMC, NO_FORM),
    M(PAUSE, NO_FORM),
    M(MFENCE, NO_FORM),
    M(LFENCE, NO_FORM),
    M(SFENCE, NO_FORM),
    M(ENDBR32, NO_FORM),
    M(ENDBR64, NO_FORM),
    M(NOP, HINT),
    M(PREFETCH, PREFETCH),
    M(PREFETCHW, PREFETCH),
    M(PREFETCHNTA, PREFETCH),
    M(PREFETCHT0, PREFETCH),
    M(PREFETCHT1, PREFETCH),
    M(PREFETCHT2, PREFETCH),
    M(INT3, TRAP),
    M(LOOP, BRANCH),
    M(LOOPE, BRANCH),
    M(LOOPNE, BRANCH),
    M(JRCXZ, BRANCH),
    M(JMP, JUMP),
    M(CALL, CALL),
    CONDITIONS(J, BRANCH),
    CONDITIONS(CMOV, PLAIN),
    CONDITIONS(SET, PLAIN),
};

enum nx_listing nx_verify_listing(ZydisMnemonic mnemonic)
{
	return (enum nx_listing)list[mnemonic];
}

/* Return the number of the general register that contains reg, or NX_GPRS for any other. */
static unsigned gpr_of(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
		return reg - ZYDIS_REGISTER_RAX;
	if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
		return reg - ZYDIS_REGISTER_EAX;
	if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
		return reg - ZYDIS_REGISTER_AX;
	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
		return reg - ZYDIS_REGISTER_AL;
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		return reg - ZYDIS_REGISTER_AH;
	if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		return reg - ZYDIS_REGISTER_SPL + NX_RSP;
	return NX_GPRS;
}

/*
 * Each prefix at most once, REX last: what processors do with others is not written down in one
 * voice. No segment, no address size, no repeat but as part of an opcode; and no operand size on
 * branches, which some processors obey by cutting rip.
 */
bool nx_verify_prefixes(const struct nx_verifier *v)
{
	enum { SIZE = 1, LOCK = 2, REPEAT = 4, REX = 8 };
	const ZydisDecodedInstructionRaw *raw = &v->insn.raw;
	unsigned allowed = SIZE | LOCK | REX, seen = 0;

	if (v->listing == NO_FORM || v->listing == TRAP || v->listing == BRANCH)
		allowed = 0;
	else if (v->listing == JUMP || v->listing == CALL)
		allowed = REX;
	else if (v->listing == HINT && v->insn.opcode == 0x90)
		allowed = SIZE; /* with REX.B it exchanges registers */
	for (unsigned i = 0; i < raw->prefix_count; i++) {
		uint8_t value = raw->prefixes[i].value;
		unsigned bit;

		if (value == 0x66)
			bit = SIZE;
		else if (value == 0xf0)
			bit = LOCK;
		else if (value == 0xf3 && raw->prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
			bit = REPEAT;
		else if ((value & 0xf0) == 0x40 && i + 1u == raw->prefix_count)
			bit = REX;
		else
			return false;
		if ((seen & bit) || !(bit & (allowed | REPEAT)))
			return false;
		seen |= bit;
	}
	return true;
}

/* ---- One operand ---- */

static enum nx_verify_result use_r14_value(struct nx_verifier *v)
{
	if (v->r14 != R14_VALUE)
		return NX_VERIFY_RESERVED_REGISTER;
	v->map[v->at] |= VALUE;
	return NX_VERIFY_OK;
}

static enum nx_verify_result verify_register(struct nx_verifier *v, unsigned i, bool *sets_r14)
{
	const ZydisDecodedOperand *op = &v->op[i];
	unsigned number = gpr_of(op->reg.value);

	if (op->reg.value == ZYDIS_REGISTER_RFLAGS || op->reg.value == ZYDIS_REGISTER_RIP)
		return op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ? NX_VERIFY_OK
									 : NX_VERIFY_FORBIDDEN;
	if (number == NX_GPRS)
		return NX_VERIFY_FORBIDDEN;
	if (number == NX_RSP || number == NX_R15)
		return NX_VERIFY_RESERVED_REGISTER;
	if (number != NX_R14)
		return NX_VERIFY_OK;
	/* Only a write of the whole register does not read its old value. */
	if (op->actions == ZYDIS_OPERAND_ACTION_WRITE && op->size >= 32 && v->listing != KEEPING) {
		*sets_r14 = true;
		return NX_VERIFY_OK;
	}
	return use_r14_value(v);
}

/* Check a register of an address that is only computed. */
static enum nx_verify_result verify_address_part(struct nx_verifier *v, ZydisRegister reg)
{
	unsigned number = gpr_of(reg);

	if (reg == ZYDIS_REGISTER_NONE)
		return NX_VERIFY_OK;
	if (number == NX_GPRS) /* rip: the guest must not learn where its translation is */
		return NX_VERIFY_MEMORY;
	if (number == NX_RSP || number == NX_R15)
		return NX_VERIFY_RESERVED_REGISTER;
	return number == NX_R14 ? use_r14_value(v) : NX_VERIFY_OK;
}

static enum nx_verify_result verify_slot(struct nx_verifier *v, const ZydisDecodedOperand *op,
					 unsigned bytes)
{
	bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	int64_t end = write ? NX_CTX_WRITABLE : NX_CTX_TLB;
	int64_t first = op->mem.disp.value;

	if (v->insn.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		return NX_VERIFY_MEMORY;
	if (is_count(v)) {
		v->expect = EXPECT_COUNT;
		return NX_VERIFY_OK;
	}
	if (first < 0 || first + bytes > end)
		return NX_VERIFY_MEMORY;
	/* The runtime acts on the site, so it may only be a constant that a thunk consumes at once.
	 */
	if (write && first < NX_CTX_LINEAR && first + bytes > NX_CTX_SITE) {
		if (!is_site_store(v))
			return NX_VERIFY_MEMORY;
		v->site = (uint32_t)v->op[1].imm.value.u;
		v->site_at = v->at;
		if (v->site >= v->translation->sites)
			return NX_VERIFY_SITE;
		v->expect = EXPECT_THUNK;
	}
	return NX_VERIFY_OK;
}

static enum nx_verify_result verify_memory(struct nx_verifier *v, unsigned i)
{
	const ZydisDecodedOperand *op = &v->op[i];
	unsigned bytes = (op->size + 7u) / 8;
	bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

	if (v->listing == HINT ||
	    (op->mem.type == ZYDIS_MEMOP_TYPE_AGEN && v->listing != PREFETCH)) {
		enum nx_verify_result result = verify_address_part(v, op->mem.base);

		return result == NX_VERIFY_OK ? verify_address_part(v, op->mem.index) : result;
	}
	if (v->listing == PREFETCH) /* touches the line of a byte, and its size is not stated */
		bytes = 1;
	else if (op->mem.type != ZYDIS_MEMOP_TYPE_MEM || bytes == 0)
		return NX_VERIFY_MEMORY;
	if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
		return NX_VERIFY_MEMORY;
	if (gpr_of(op->mem.base) == NX_RSP)
		return NX_VERIFY_RESERVED_REGISTER;
	if (op->mem.index != ZYDIS_REGISTER_NONE)
		return op->mem.base == ZYDIS_REGISTER_R15 && op->mem.index == ZYDIS_REGISTER_R11
			   ? NX_VERIFY_CHECK
			   : NX_VERIFY_MEMORY;
	if (op->mem.base == ZYDIS_REGISTER_R15)
		return verify_slot(v, op, bytes);
	if (op->mem.base != ZYDIS_REGISTER_R14 || v->r14 != R14_POINTER || op->mem.disp.value < 0 ||
	    op->mem.disp.value > NX_CHECK_BYTES || op->mem.disp.value + bytes > v->pointer_bytes ||
	    (write && !v->pointer_write))
		return NX_VERIFY_MEMORY;
	v->map[v->at] |= POINTER;
	return NX_VERIFY_OK;
}

/* ---- One instruction ---- */

enum nx_verify_result nx_verify_operands(struct nx_verifier *v)
{
	bool sets_r14 = false;

	/* A register as bit offset counts from the operand on, in both directions, without limit.
	 */
	if (v->listing == BIT_TEST && v->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    v->op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return NX_VERIFY_MEMORY;
	if (v->listing == WIDE && !(v->insn.attributes & ZYDIS_ATTRIB_HAS_REX && v->insn.raw.rex.W))
		return NX_VERIFY_FORBIDDEN;
	/* Other opcodes that are nops today have become instructions before. */
	if (v->listing == HINT && v->insn.opcode != 0x90 && v->insn.opcode != 0x1f)
		return NX_VERIFY_FORBIDDEN;
	for (unsigned i = 0; i < v->insn.operand_count; i++) {
		enum nx_verify_result result;

		switch (v->op[i].type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			result = verify_register(v, i, &sets_r14);
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			result = verify_memory(v, i);
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			result = NX_VERIFY_OK;
			break;
		default:
			result = NX_VERIFY_FORBIDDEN;
			break;
		}
		if (result != NX_VERIFY_OK)
			return result;
	}
	if (sets_r14) {
		v->r14 = R14_VALUE;
		v->map[v->at] |= SETS;
	}
	return NX_VERIFY_OK;
}
