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
    M(MOV, NXV_PLAIN),
    M(MOVZX, NXV_PLAIN),
    M(MOVSX, NXV_PLAIN),
    M(MOVSXD, NXV_WIDE),
    M(LEA, NXV_PLAIN),
    M(ADD, NXV_PLAIN),
    M(OR, NXV_PLAIN),
    M(ADC, NXV_PLAIN),
    M(SBB, NXV_PLAIN),
    M(AND, NXV_PLAIN),
    M(SUB, NXV_PLAIN),
    M(XOR, NXV_PLAIN),
    M(CMP, NXV_PLAIN),
    M(TEST, NXV_PLAIN),
    M(INC, NXV_PLAIN),
    M(DEC, NXV_PLAIN),
    M(NEG, NXV_PLAIN),
    M(NOT, NXV_PLAIN),
    M(SHL, NXV_PLAIN),
    M(SHR, NXV_PLAIN),
    M(SAR, NXV_PLAIN),
    M(ROL, NXV_PLAIN),
    M(ROR, NXV_PLAIN),
    M(RCL, NXV_PLAIN),
    M(RCR, NXV_PLAIN),
    M(SHLD, NXV_PLAIN),
    M(SHRD, NXV_PLAIN),
    M(IMUL, NXV_PLAIN),
    M(MUL, NXV_PLAIN),
    M(XCHG, NXV_PLAIN),
    M(XADD, NXV_PLAIN),
    M(CMPXCHG, NXV_PLAIN),
    M(CMPXCHG8B, NXV_PLAIN),
    M(BSWAP, NXV_PLAIN),
    M(CBW, NXV_PLAIN),
    M(CWDE, NXV_PLAIN),
    M(CDQE, NXV_PLAIN),
    M(CWD, NXV_PLAIN),
    M(CDQ, NXV_PLAIN),
    M(CQO, NXV_PLAIN),
    M(BT, NXV_BIT_TEST),
    M(BTR, NXV_BIT_TEST),
    M(BTS, NXV_BIT_TEST),
    M(BTC, NXV_BIT_TEST),
    M(BSF, NXV_KEEPING),
    M(BSR, NXV_KEEPING),
    M(LZCNT, NXV_KEEPING),
    M(TZCNT, NXV_KEEPING),
    M(LAHF, NXV_NO_FORM),
    M(SAHF, NXV_NO_FORM),
    M(CLC, NXV_NO_FORM),
    M(STC, NXV_NO_FORM),
    M(CMC, NXV_NO_FORM),
    M(PAUSE, NXV_NO_FORM),
    M(MFENCE, NXV_NO_FORM),
    M(LFENCE, NXV_NO_FORM),
    M(SFENCE, NXV_NO_FORM),
    M(ENDBR32, NXV_NO_FORM),
    M(ENDBR64, NXV_NO_FORM),
    M(NOP, NXV_HINT),
    M(PREFETCH, NXV_PREFETCH),
    M(PREFETCHW, NXV_PREFETCH),
    M(PREFETCHNTA, NXV_PREFETCH),
    M(PREFETCHT0, NXV_PREFETCH),
    M(PREFETCHT1, NXV_PREFETCH),
    M(PREFETCHT2, NXV_PREFETCH),
    M(INT3, NXV_TRAP),
    M(LOOP, NXV_BRANCH),
    M(LOOPE, NXV_BRANCH),
    M(LOOPNE, NXV_BRANCH),
    M(JRCXZ, NXV_BRANCH),
    M(JMP, NXV_JUMP),
    M(CALL, NXV_CALL),
    CONDITIONS(J, NXV_BRANCH),
    CONDITIONS(CMOV, NXV_PLAIN),
    CONDITIONS(SET, NXV_PLAIN),
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
	const ZydisDecodedInstructionRaw *raw = &v->d->insn.raw;
	unsigned allowed = SIZE | LOCK | REX, seen = 0;

	if (v->listing == NXV_NO_FORM || v->listing == NXV_TRAP || v->listing == NXV_BRANCH)
		allowed = 0;
	else if (v->listing == NXV_JUMP || v->listing == NXV_CALL)
		allowed = REX;
	else if (v->listing == NXV_HINT && v->d->insn.opcode == 0x90)
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
	if (v->r14 != NXV_R14_VALUE)
		return NX_VERIFY_RESERVED_REGISTER;
	v->map[v->at] |= NXV_VALUE;
	return NX_VERIFY_OK;
}

static enum nx_verify_result verify_register(struct nx_verifier *v, unsigned i, bool *sets_r14)
{
	const ZydisDecodedOperand *op = &v->d->op[i];
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
	if (op->actions == ZYDIS_OPERAND_ACTION_WRITE && op->size >= 32 &&
	    v->listing != NXV_KEEPING) {
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

	if (v->d->insn.attributes & ZYDIS_ATTRIB_HAS_LOCK)
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
		v->site = (uint32_t)v->d->op[1].imm.value.u;
		v->site_at = v->at;
		if (v->site >= v->translation->sites)
			return NX_VERIFY_SITE;
		v->expect = EXPECT_THUNK;
	}
	return NX_VERIFY_OK;
}

static enum nx_verify_result verify_memory(struct nx_verifier *v, unsigned i)
{
	const ZydisDecodedOperand *op = &v->d->op[i];
	unsigned bytes = (op->size + 7u) / 8;
	bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

	if (v->listing == NXV_HINT ||
	    (op->mem.type == ZYDIS_MEMOP_TYPE_AGEN && v->listing != NXV_PREFETCH)) {
		enum nx_verify_result result = verify_address_part(v, op->mem.base);

		return result == NX_VERIFY_OK ? verify_address_part(v, op->mem.index) : result;
	}
	if (v->listing == NXV_PREFETCH) /* touches the line of a byte, and its size is not stated */
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
	if (op->mem.base != ZYDIS_REGISTER_R14 || v->r14 != NXV_R14_POINTER ||
	    op->mem.disp.value < 0 || op->mem.disp.value > NX_CHECK_BYTES ||
	    op->mem.disp.value + bytes > v->pointer_bytes || (write && !v->pointer_write))
		return NX_VERIFY_MEMORY;
	v->map[v->at] |= NXV_POINTER;
	return NX_VERIFY_OK;
}

/* ---- One instruction ---- */

enum nx_verify_result nx_verify_operands(struct nx_verifier *v)
{
	bool sets_r14 = false, harmless = true;

	/* A register as bit offset counts from the operand on, in both directions, without limit.
	 */
	if (v->listing == NXV_BIT_TEST && v->d->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    v->d->op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return NX_VERIFY_MEMORY;
	if (v->listing == NXV_WIDE &&
	    !(v->d->insn.attributes & ZYDIS_ATTRIB_HAS_REX && v->d->insn.raw.rex.W))
		return NX_VERIFY_FORBIDDEN;
	/* Other opcodes that are nops today have become instructions before. */
	if (v->listing == NXV_HINT && v->d->insn.opcode != 0x90 && v->d->insn.opcode != 0x1f)
		return NX_VERIFY_FORBIDDEN;
	for (unsigned i = 0; i < v->d->insn.operand_count; i++) {
		enum nx_verify_result result;

		switch (v->d->op[i].type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			result = verify_register(v, i, &sets_r14);
			harmless &= gpr_of(v->d->op[i].reg.value) != NX_R14;
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			result = verify_memory(v, i);
			harmless = false;
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
	/* Registers are a part of the head, and r14 the only one with anything to prove. */
	if (harmless)
		v->d->notes |= NXV_NOTE_HARMLESS;
	if (sets_r14) {
		v->r14 = NXV_R14_VALUE;
		v->map[v->at] |= NXV_SETS;
	}
	return NX_VERIFY_OK;
}
