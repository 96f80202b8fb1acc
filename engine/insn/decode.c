/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * decode.c - decode guest bytes to struct nx_insn, which formation works on.
 *
 * The list of instructions that the engine runs is an allow-list. Every other one is NX_OP_LEAVE
 * and ends a cluster before it, which is always correct.
 */
#include "insn/decode.h"

static enum nx_code code_of(const struct nx_mode *mode)
{
	bool wide_stack = mode->stack_bits == 32;

	switch (mode->bits) {
	case 64:
		return NX_CODE_64;
	case 32:
		return wide_stack ? NX_CODE_32 : NX_CODE_32_STACK_16;
	default:
		if (mode->protected_mode)
			return wide_stack ? NX_CODE_16_STACK_32 : NX_CODE_16;
		return wide_stack ? NX_CODE_REAL_STACK_32 : NX_CODE_REAL;
	}
}

static const struct nx_decoded *if_operands_fit(const struct nx_decoded *d)
{
	return d && d->insn.operand_count_visible <= NX_MAX_OPERANDS ? d : NULL;
}

const struct nx_decoded *nx_decode_full(struct nx_decode_cache *cache, const struct nx_mode *mode,
					const uint8_t *bytes, unsigned available)
{
	return if_operands_fit(nx_decode_form(cache, code_of(mode), bytes, available));
}

const struct nx_decoded *nx_decode_again(struct nx_decode_cache *cache, const struct nx_mode *mode,
					 uint16_t *form, const uint8_t *bytes, unsigned available)
{
	return if_operands_fit(nx_decode_form_again(cache, form, code_of(mode), bytes, available));
}

bool nx_reg_of(ZydisRegister reg, struct nx_reg *out)
{
	out->high = false;
	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL) {
		out->number = (uint8_t)(reg - ZYDIS_REGISTER_AL);
		out->size = 1;
	} else if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
		out->number = (uint8_t)(reg - ZYDIS_REGISTER_AH);
		out->size = 1;
		out->high = true;
	} else if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B) {
		out->number = (uint8_t)(NX_RSP + (reg - ZYDIS_REGISTER_SPL));
		out->size = 1;
	} else if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W) {
		out->number = (uint8_t)(reg - ZYDIS_REGISTER_AX);
		out->size = 2;
	} else if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D) {
		out->number = (uint8_t)(reg - ZYDIS_REGISTER_EAX);
		out->size = 4;
	} else if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15) {
		out->number = (uint8_t)(reg - ZYDIS_REGISTER_RAX);
		out->size = 8;
	} else {
		return false;
	}
	return true;
}

ZydisRegister nx_zydis_reg(unsigned number, unsigned size)
{
	switch (size) {
	case 1:
		return number < NX_RSP ? ZYDIS_REGISTER_AL + number
				       : ZYDIS_REGISTER_SPL + (number - NX_RSP);
	case 2:
		return ZYDIS_REGISTER_AX + number;
	case 4:
		return ZYDIS_REGISTER_EAX + number;
	default:
		return ZYDIS_REGISTER_RAX + number;
	}
}

const ZydisDecodedOperand *nx_memory_operand(const struct nx_decoded *decoded)
{
	for (unsigned i = 0; i < decoded->insn.operand_count_visible; i++)
		if (decoded->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return &decoded->op[i];
	return NULL;
}

uint32_t nx_flags_read(const struct nx_decoded *decoded)
{
	const ZydisAccessedFlags *flags = decoded->insn.cpu_flags;

	return flags ? flags->tested & NX_FL_ARITHMETIC : 0;
}

uint32_t nx_flags_written(const struct nx_decoded *decoded)
{
	const ZydisAccessedFlags *flags = decoded->insn.cpu_flags;

	if (!flags)
		return 0;
	return (flags->modified | flags->set_0 | flags->set_1 | flags->undefined) &
	       NX_FL_ARITHMETIC;
}

enum nx_sreg nx_segment_of(const ZydisDecodedOperand *memory)
{
	return (enum nx_sreg)(memory->mem.segment - ZYDIS_REGISTER_ES);
}

/* Instructions that may be re-encoded with their operands replaced. None of them can fault but by
 * its memory access, and none touches state outside general registers, flags and memory. */
static bool is_plain_mnemonic(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_LEA:
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_ADC:
	case ZYDIS_MNEMONIC_SBB:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
	case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_NOT:
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR:
	case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
	case ZYDIS_MNEMONIC_IMUL:
	case ZYDIS_MNEMONIC_MUL:
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_BSF:
	case ZYDIS_MNEMONIC_BSR:
	case ZYDIS_MNEMONIC_LZCNT:
	case ZYDIS_MNEMONIC_TZCNT:
	case ZYDIS_MNEMONIC_XCHG:
	case ZYDIS_MNEMONIC_XADD:
	case ZYDIS_MNEMONIC_CMPXCHG:
	case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_BSWAP:
	case ZYDIS_MNEMONIC_CBW:
	case ZYDIS_MNEMONIC_CWDE:
	case ZYDIS_MNEMONIC_CDQE:
	case ZYDIS_MNEMONIC_CWD:
	case ZYDIS_MNEMONIC_CDQ:
	case ZYDIS_MNEMONIC_CQO:
	case ZYDIS_MNEMONIC_LAHF:
	case ZYDIS_MNEMONIC_SAHF:
	case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_STC:
	case ZYDIS_MNEMONIC_CMC:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_SFENCE:
		return true;
	default:
		return (mnemonic >= ZYDIS_MNEMONIC_CMOVB && mnemonic <= ZYDIS_MNEMONIC_CMOVZ) ||
		       (mnemonic >= ZYDIS_MNEMONIC_SETB && mnemonic <= ZYDIS_MNEMONIC_SETZ &&
			mnemonic != ZYDIS_MNEMONIC_SETSSBSY);
	}
}

/* Instructions without effect on the guest's state are left out of the translation. */
static bool is_nop_mnemonic(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR32:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_PAUSE:
	case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHNTA:
	case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2:
	case ZYDIS_MNEMONIC_PREFETCHW:
		return true;
	default:
		return false;
	}
}

/*
 * A register with itself. Zydis encodes that of RAX as a NOP with REX, which the verifier does not
 * take for an exchange; that of EAX clears the upper half, and is none of these.
 */
static bool is_void_exchange(const struct nx_decoded *d)
{
	return d->insn.mnemonic == ZYDIS_MNEMONIC_XCHG &&
	       d->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       d->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       d->op[0].reg.value == d->op[1].reg.value && d->op[0].size == 64;
}

/*
 * Whether the operands of a plain instruction are of a form that translate.c can carry over: at
 * most one memory operand, general registers, immediates, no hidden stack or string operand.
 */
static bool has_plain_operands(const struct nx_decoded *d)
{
	const ZydisDecodedOperand *memory = NULL;
	bool high = false, homed = false, rax = false, bit_offset = false;

	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		const ZydisDecodedOperand *op = &d->op[i];
		struct nx_reg reg;

		switch (op->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			if (op->reg.value == ZYDIS_REGISTER_FLAGS ||
			    op->reg.value == ZYDIS_REGISTER_EFLAGS ||
			    op->reg.value == ZYDIS_REGISTER_RFLAGS)
				break;
			if (!nx_reg_of(op->reg.value, &reg))
				return false;
			if (op->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT && i > 0)
				bit_offset = true;
			high |= reg.high;
			homed |= nx_is_homed(reg.number);
			rax |= reg.number == NX_RAX && !reg.high;
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			if (memory || op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ||
			    op->mem.type == ZYDIS_MEMOP_TYPE_MIB ||
			    op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
				return false;
			memory = op;
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			break;
		default:
			return false;
		}
	}
	/* A scratch register needs a REX prefix, which AH, CH, DH and BH cannot have. */
	if (high && homed)
		return false;
	if (!memory)
		return true;
	/* translate.c exchanges AH and AL around it, so RAX must not be used otherwise. */
	if (high && (rax || d->insn.mnemonic == ZYDIS_MNEMONIC_CMPXCHG))
		return false;
	/* A bit offset in a register reaches beyond the operand. */
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return !bit_offset;
	default:
		return true;
	}
}

static uint64_t truncate(const struct nx_mode *mode, uint64_t rip)
{
	return mode->bits == 64 ? rip : (uint32_t)rip;
}

/*
 * An operand-size prefix in 64-bit mode, which vendors differ on: Intel's processors ignore it,
 * AMD's truncate rip. REX.W makes it void.
 */
static bool has_vendor_width(const struct nx_mode *mode, const struct nx_decoded *d)
{
	return mode->bits == 64 && (d->insn.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) &&
	       !d->insn.raw.rex.W;
}

static void decode_branch(const struct nx_mode *mode, const struct nx_decoded *d,
			  struct nx_insn *insn)
{
	uint64_t target = insn->rip + insn->len + (uint64_t)d->op[0].imm.value.s;

	if (d->op[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !d->op[0].imm.is_relative ||
	    d->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return;
	/* To Zydis the beginning of a transaction is a conditional branch. */
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_XBEGIN)
		return;
	if (has_vendor_width(mode, d))
		return;
	/* A 16-bit operand size truncates rip. */
	insn->target = d->insn.operand_width == 16 ? (uint16_t)target : truncate(mode, target);
	switch (d->insn.meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
		insn->op = NX_OP_JCC;
		break;
	case ZYDIS_CATEGORY_UNCOND_BR:
		insn->op = NX_OP_JMP;
		break;
	case ZYDIS_CATEGORY_CALL:
		insn->op = NX_OP_CALL;
		insn->size = (uint8_t)(d->insn.operand_width / 8u);
		insn->accesses = 1;
		break;
	default:
		break;
	}
}

static bool is_branch(const struct nx_decoded *d)
{
	switch (d->insn.meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
		return true;
	default:
		return false;
	}
}

/*
 * RET, and CALL and JMP by a register or memory. A 16-bit operand size is left to the processor in
 * other code than 16-bit; there 32 bits are a compiler's habit, and all of them are the target.
 */
static void decode_indirect(const struct nx_mode *mode, const struct nx_decoded *d,
			    struct nx_insn *insn)
{
	const ZydisDecodedOperand *op = &d->op[0];
	struct nx_reg reg;
	bool ret = d->insn.meta.category == ZYDIS_CATEGORY_RET;
	bool call = d->insn.meta.category == ZYDIS_CATEGORY_CALL;
	bool wide = mode->bits == 16 && d->insn.operand_width == 32;

	if (d->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || has_vendor_width(mode, d) ||
	    (d->insn.operand_width != mode->bits && !wide) ||
	    (ret && d->insn.mnemonic != ZYDIS_MNEMONIC_RET))
		return;
	/* Zydis takes 3E for NOTRACK only; elsewhere than in 64-bit mode it means DS as well. */
	if (mode->bits != 64 && (d->insn.attributes & ZYDIS_ATTRIB_HAS_NOTRACK) &&
	    op->type == ZYDIS_OPERAND_TYPE_MEMORY)
		return;
	if (!ret && op->type != ZYDIS_OPERAND_TYPE_MEMORY &&
	    (op->type != ZYDIS_OPERAND_TYPE_REGISTER || !nx_reg_of(op->reg.value, &reg)))
		return;
	insn->size = (uint8_t)(d->insn.operand_width / 8);
	insn->accesses = (uint8_t)(ret + call + (op->type == ZYDIS_OPERAND_TYPE_MEMORY && !ret));
	if (ret && d->insn.operand_count_visible)
		insn->target = op->imm.value.u & 0xffff;
	insn->op = ret ? NX_OP_RET : call ? NX_OP_CALL_INDIRECT : NX_OP_JMP_INDIRECT;
}

/* IN and OUT; the string forms are other mnemonics. */
static void decode_io(const struct nx_decoded *d, struct nx_insn *insn)
{
	bool in = d->insn.mnemonic == ZYDIS_MNEMONIC_IN;
	const ZydisDecodedOperand *port = &d->op[in ? 1 : 0], *data = &d->op[in ? 0 : 1];
	struct nx_reg reg;

	if (!nx_reg_of(data->reg.value, &reg))
		return;
	insn->op = in ? NX_OP_IN : NX_OP_OUT;
	insn->size = reg.size;
	if (port->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		insn->target = port->imm.value.u & 0xff;
	else
		insn->port_in_dx = true;
}

static void decode_stack(const struct nx_decoded *d, struct nx_insn *insn)
{
	bool push = d->insn.mnemonic == ZYDIS_MNEMONIC_PUSH;
	const ZydisDecodedOperand *op = &d->op[0];
	struct nx_reg reg;

	insn->size = (uint8_t)(d->insn.operand_width / 8);
	insn->accesses = 1;
	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && nx_reg_of(op->reg.value, &reg))
		insn->op = push ? NX_OP_PUSH : NX_OP_POP;
	else if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && push)
		insn->op = NX_OP_PUSH;
	else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY && push) {
		insn->op = NX_OP_PUSH;
		insn->accesses = 2;
	}
}

static void decode_plain(const struct nx_decoded *d, struct nx_insn *insn)
{
	const ZydisDecodedOperand *memory;

	if (!has_plain_operands(d)) {
		if (d->insn.mnemonic == ZYDIS_MNEMONIC_MOV &&
		    d->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    d->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    d->op[1].reg.value >= ZYDIS_REGISTER_ES &&
		    d->op[1].reg.value <= ZYDIS_REGISTER_GS)
			insn->op = NX_OP_MOV_FROM_SREG;
		return;
	}
	/* Without REX.W it is a MOV that no compiler writes; the verifier does not know it. */
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_MOVSXD && d->insn.operand_width != 64)
		return;
	insn->op = NX_OP_PLAIN;
	memory = nx_memory_operand(d);
	if (!memory || d->insn.mnemonic == ZYDIS_MNEMONIC_LEA)
		return;
	insn->size = (uint8_t)(memory->size / 8);
	insn->accesses = 1;
	insn->memory_read = (memory->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
	insn->memory_write = (memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
	insn->device_form = true;
	insn->mmio_form =
	    d->insn.mnemonic == ZYDIS_MNEMONIC_MOV || d->insn.mnemonic == ZYDIS_MNEMONIC_MOVZX ||
	    d->insn.mnemonic == ZYDIS_MNEMONIC_MOVSX || d->insn.mnemonic == ZYDIS_MNEMONIC_MOVSXD;
}

/* String instructions that can exit, always (INS, OUTS) or once they were seen to. */
static void decode_string(const struct nx_decoded *d, struct nx_insn *insn)
{
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
	case ZYDIS_MNEMONIC_OUTSB:
	case ZYDIS_MNEMONIC_OUTSW:
	case ZYDIS_MNEMONIC_OUTSD:
		insn->string_io = true;
		break;
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ:
		insn->memory_write = true;
		/* fall through */
	case ZYDIS_MNEMONIC_LODSB:
	case ZYDIS_MNEMONIC_LODSW:
	case ZYDIS_MNEMONIC_LODSD:
	case ZYDIS_MNEMONIC_LODSQ:
		insn->device_form = true;
		break;
	default:
		return;
	}
	insn->repeated = nx_is_repeated(d);
}

static void decode_helper(const struct nx_decoded *d, struct nx_insn *insn)
{
	insn->op = NX_OP_HELPER;
	if (insn->helper == NX_HELP_VECTOR) {
		insn->accesses = nx_memory_operand(d) != NULL;
		return;
	}
	insn->accesses = nx_helper_accesses(d->insn.mnemonic);
	decode_string(d, insn);
}

static bool moves_register_class(const struct nx_decoded *d, ZydisRegisterClass wanted)
{
	return d->insn.mnemonic == ZYDIS_MNEMONIC_MOV &&
	       d->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       d->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       (ZydisRegisterGetClass(d->op[0].reg.value) == wanted ||
		ZydisRegisterGetClass(d->op[1].reg.value) == wanted);
}

/* Return the bits of nx_config.exits that have this access to a control register exit. */
static uint32_t control_class(const struct nx_decoded *d)
{
	bool mode =
	    d->insn.mnemonic == ZYDIS_MNEMONIC_LMSW || d->op[0].reg.value == ZYDIS_REGISTER_CR0 ||
	    d->op[0].reg.value == ZYDIS_REGISTER_CR4 || d->op[1].reg.value == ZYDIS_REGISTER_CR4;

	return mode ? NX_EXITS_CR | NX_EXITS_CR_MODE : NX_EXITS_CR;
}

bool nx_decode_insn_exit(const struct nx_decoded *d, enum nx_insn_exit *insn, uint32_t *class)
{
	if (moves_register_class(d, ZYDIS_REGCLASS_CONTROL)) {
		*insn = NX_INSN_MOV_CR;
		*class = control_class(d);
		return true;
	}
	if (moves_register_class(d, ZYDIS_REGCLASS_DEBUG)) {
		*insn = NX_INSN_MOV_DR;
		*class = NX_EXITS_DR;
		return true;
	}
	switch (d->insn.mnemonic) {
#define NX_X(name, group, price)           \
	case ZYDIS_MNEMONIC_##name:        \
		*insn = NX_INSN_##name;    \
		*class = NX_EXITS_##group; \
		break;
		NX_INSN_MNEMONICS(NX_X)
#undef NX_X
	default:
		return false;
	}
	if (*class == NX_EXITS_CR)
		*class = control_class(d);
	return true;
}

void nx_decode(struct nx_decode_cache *cache, const struct nx_mode *mode, uint64_t rip,
	       const uint8_t *bytes, unsigned available, struct nx_insn *insn)
{
	const struct nx_decoded *d = nx_decode_full(cache, mode, bytes, available);
	enum nx_insn_exit insn_exit;
	uint32_t class;

	nx_memset(insn, 0, sizeof(*insn));
	insn->rip = rip;
	insn->op = NX_OP_LEAVE;
	if (!d)
		return;
	insn->len = d->insn.length;
	nx_memcpy(insn->bytes, bytes, insn->len);

	if (nx_decode_insn_exit(d, &insn_exit, &class)) {
		if (mode->exits & class) {
			insn->op = NX_OP_INSN_EXIT;
			insn->target = insn_exit;
		} else if (insn_exit == NX_INSN_MOV_CR && mode->features & NX_HAS_SYSTEM &&
			   d->op[1].reg.value == ZYDIS_REGISTER_CR2) {
			insn->op = NX_OP_HELPER;
			insn->helper = NX_HELP_READ_CR2;
		}
		return;
	}
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_IN:
	case ZYDIS_MNEMONIC_OUT:
		if (mode->io_allowed || mode->io_bitmap)
			decode_io(d, insn);
		break;
	default:
		insn->helper = (uint8_t)nx_helper_for(mode, d);
		if (insn->helper) {
			decode_helper(d, insn);
		} else if (d->insn.mnemonic == ZYDIS_MNEMONIC_PUSH ||
			   d->insn.mnemonic == ZYDIS_MNEMONIC_POP) {
			decode_stack(d, insn);
		} else if (is_nop_mnemonic(d->insn.mnemonic) || is_void_exchange(d))
			insn->op = NX_OP_NOP;
		else if (is_branch(d) && d->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
			 d->op[0].imm.is_relative)
			decode_branch(mode, d, insn);
		else if (is_branch(d))
			decode_indirect(mode, d, insn);
		else if (is_plain_mnemonic(d->insn.mnemonic))
			decode_plain(d, insn);
		break;
	}
}
