/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* helpers.c - which instructions C executes, in which mode. */
#include "insn/decode.h"

static bool is_sreg(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_ES &&
	       op->reg.value <= ZYDIS_REGISTER_GS;
}

/* Forms of MOV, PUSH, POP and BT that lower.c does not do, and what is run in some modes only. */
static enum nx_helper_id helper_for_form(const struct nx_mode *mode, const struct nx_decoded *d)
{
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_POP:
		if (d->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return NX_HELP_POP_MEMORY;
		/* fall through */
	case ZYDIS_MNEMONIC_MOV:
		/* SS holds interrupts off for one instruction; CS cannot be loaded so. */
		if (is_sreg(&d->op[0]) && mode->segment_loads &&
		    d->op[0].reg.value != ZYDIS_REGISTER_SS &&
		    d->op[0].reg.value != ZYDIS_REGISTER_CS)
			return NX_HELP_LOAD_SREG;
		return NX_HELP_NONE;
	case ZYDIS_MNEMONIC_LDS:
	case ZYDIS_MNEMONIC_LES:
	case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS:
		return mode->segment_loads ? NX_HELP_LOAD_FAR : NX_HELP_NONE;
	case ZYDIS_MNEMONIC_PUSH:
		return is_sreg(&d->op[0]) && d->insn.operand_width == 16 ? NX_HELP_PUSH_SREG
									 : NX_HELP_NONE;
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return d->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			       d->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER
			   ? NX_HELP_BIT_STRING
			   : NX_HELP_NONE;
	default:
		return NX_HELP_NONE;
	}
}

/* A repeat prefix that the decoder does not take for one: what it does then is undocumented. */
static bool has_stray_repeat(const struct nx_decoded *d)
{
	for (unsigned i = 0; i < d->insn.raw.prefix_count; i++)
		if ((d->insn.raw.prefixes[i].value == 0xf2 ||
		     d->insn.raw.prefixes[i].value == 0xf3) &&
		    d->insn.raw.prefixes[i].type != ZYDIS_PREFIX_TYPE_MANDATORY)
			return !nx_is_repeated(d);
	return false;
}

/* What nx_mode.features has to have for an instruction. */
static uint32_t needed_features(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOVBE:
		return NX_FEATURE_MOVBE;
	case ZYDIS_MNEMONIC_POPCNT:
		return NX_FEATURE_POPCNT;
	case ZYDIS_MNEMONIC_CMPXCHG16B:
		return NX_FEATURE_CMPXCHG16B;
	case ZYDIS_MNEMONIC_RDTSC:
		return NX_HAS_TSC;
	case ZYDIS_MNEMONIC_RDTSCP:
		return NX_HAS_TSC | NX_FEATURE_RDTSCP;
	case ZYDIS_MNEMONIC_STI:
		return NX_HAS_WINDOW;
	case ZYDIS_MNEMONIC_VERW:
		return NX_HAS_SYSTEM;
	default:
		return 0;
	}
}

static bool needs_io_privilege(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_CLI:
	case ZYDIS_MNEMONIC_STI:
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
	case ZYDIS_MNEMONIC_OUTSB:
	case ZYDIS_MNEMONIC_OUTSW:
	case ZYDIS_MNEMONIC_OUTSD:
		return true;
	default:
		return false;
	}
}

static bool is_vector_mnemonic(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
#define NX_X(name, operation, size) case ZYDIS_MNEMONIC_##name:
		NX_VECTORS(NX_X)
#undef NX_X
		return true;
	default:
		return false;
	}
}

/* Return whether the registers are those with which vector.c works: not MMX', that is. */
static bool has_vector_operands(const struct nx_decoded *d)
{
	for (unsigned i = 0; i < d->insn.operand_count_visible; i++) {
		if (d->op[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		switch (ZydisRegisterGetClass(d->op[i].reg.value)) {
		case ZYDIS_REGCLASS_XMM:
		case ZYDIS_REGCLASS_GPR32:
		case ZYDIS_REGCLASS_GPR64:
			break;
		default:
			return false;
		}
	}
	return true;
}

/* Several prefixes each of which could choose the instruction: no compiler writes them. */
static bool has_rival_prefixes(const struct nx_decoded *d)
{
	unsigned count = 0;

	for (unsigned i = 0; i < d->insn.raw.prefix_count; i++)
		count += d->insn.raw.prefixes[i].value == 0x66 ||
			 d->insn.raw.prefixes[i].value == 0xf2 ||
			 d->insn.raw.prefixes[i].value == 0xf3;
	return count > 1;
}

static bool is_vector(const struct nx_decoded *d)
{
	return d->insn.opcode_map == ZYDIS_OPCODE_MAP_0F && is_vector_mnemonic(d->insn.mnemonic);
}

/* MOVSD and CMPSD of SSE2, which have the names of string instructions. */
static bool is_namesake(const struct nx_decoded *d)
{
	return (d->insn.mnemonic == ZYDIS_MNEMONIC_MOVSD ||
		d->insn.mnemonic == ZYDIS_MNEMONIC_CMPSD) &&
	       d->insn.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT;
}

enum nx_helper_id nx_helper_for(const struct nx_mode *mode, const struct nx_decoded *d)
{
	if (is_vector(d))
		return mode->features & NX_HAS_VECTORS && has_vector_operands(d) &&
			       !has_rival_prefixes(d)
			   ? NX_HELP_VECTOR
			   : NX_HELP_NONE;
	if (is_namesake(d))
		return NX_HELP_NONE;
	/* CPL above IOPL: a fault, or with VME and PVI the virtual interrupt flag. */
	if (needs_io_privilege(d->insn.mnemonic) && !mode->io_allowed)
		return NX_HELP_NONE;
	if (has_stray_repeat(d) || needed_features(d->insn.mnemonic) & ~mode->features)
		return NX_HELP_NONE;
	/* NOLINTBEGIN(bugprone-branch-clone): one helper does several sizes */
	switch (d->insn.mnemonic) {
#define NX_X(mnemonic, helper, accesses) \
	case ZYDIS_MNEMONIC_##mnemonic:  \
		return NX_HELP_##helper;
		NX_HELPERS(NX_X)
#undef NX_X
	default:
		return helper_for_form(mode, d);
	}
	/* NOLINTEND(bugprone-branch-clone) */
}

uint8_t nx_helper_accesses(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
#define NX_X(mnemonic, helper, accesses) \
	case ZYDIS_MNEMONIC_##mnemonic:  \
		return accesses;
		NX_HELPERS(NX_X)
#undef NX_X
	default:
		return 1; /* forms of MOV, PUSH, POP and BT */
	}
}
