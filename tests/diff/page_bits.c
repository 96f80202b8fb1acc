/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * page_bits.c - accessed and dirty bits. A whole processor has page tables to compare with;
 * natively, what the instructions executed, one by one, must have left in them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "diff.h"

static void add_page(uint8_t *bits, uint64_t linear, unsigned size, bool write)
{
	for (unsigned i = 0; i < 2; i++) {
		unsigned page = page_at(i ? linear + size - 1 : linear);

		if (page < PAGES)
			bits[page] |= write ? 3 : 1;
	}
}

/* The stack that the instruction uses without naming it. */
static void add_stack(const struct sequence *seq, const struct step *step,
		      const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands,
		      bool possible, uint8_t *bits)
{
	uint64_t mask = seq->stack_bits == 64 ? ~0ull : (1ull << seq->stack_bits) - 1;
	uint64_t base = seq->seg[NX_SS].base, at = step->gpr[NX_RSP];
	unsigned size = decoded->operand_width / 8, count = 1;
	bool push = false;

	switch (decoded->mnemonic) {
	case ZYDIS_MNEMONIC_ENTER:
		/* It is not documented whether the processor marks the new top, which it checks. */
		if (possible)
			add_page(bits, base + ((at - size - operands[0].imm.value.u) & mask), size,
				 true);
		/* fall through */
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
		push = true;
		break;
	case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD:
		count = 8;
		push = true;
		break;
	case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD:
		count = 8;
		break;
	case ZYDIS_MNEMONIC_LEAVE:
		at = step->gpr[NX_RBP];
		break;
	default:
		break;
	}
	for (unsigned i = 0; i < count; i++) {
		if (push)
			at -= size;
		add_page(bits, base + (at & mask), size, push);
		if (!push)
			at += size;
	}
}

static const ZydisRegister stack_pointer[] = {ZYDIS_REGISTER_SP, ZYDIS_REGISTER_ESP,
					      ZYDIS_REGISTER_RSP};

static void fill_context(const struct step *step, ZydisRegisterContext *context)
{
	memset(context, 0, sizeof(*context));
	for (unsigned i = 0; i < NX_GPRS; i++) {
		context->values[ZYDIS_REGISTER_RAX + i] = step->gpr[i];
		context->values[ZYDIS_REGISTER_EAX + i] = (uint32_t)step->gpr[i];
		context->values[ZYDIS_REGISTER_AX + i] = (uint16_t)step->gpr[i];
	}
}

static uint64_t truncated(uint64_t value, unsigned width)
{
	return width == 64 ? value : value & ((1ull << width) - 1);
}

static bool moves_stack(const ZydisDecodedOperand *operand)
{
	switch (operand->mem.base) {
	case ZYDIS_REGISTER_SP:
	case ZYDIS_REGISTER_ESP:
	case ZYDIS_REGISTER_RSP:
	case ZYDIS_REGISTER_BP:
	case ZYDIS_REGISTER_EBP:
	case ZYDIS_REGISTER_RBP:
		return operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
	default:
		return false;
	}
}

static bool accesses_memory(const ZydisDecodedInstruction *decoded, const struct step *step)
{
	uint64_t count = truncated(step->gpr[NX_RCX], decoded->address_width);

	if ((decoded->attributes &
	     (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) &&
	    !count)
		return false;
	return decoded->meta.category != ZYDIS_CATEGORY_PREFETCH &&
	       decoded->meta.category != ZYDIS_CATEGORY_NOP &&
	       decoded->meta.category != ZYDIS_CATEGORY_WIDENOP;
}

/* Return how far a bit's number in a register moves the access (BT and relatives). */
static uint64_t bit_offset(const ZydisDecodedInstruction *decoded,
			   const ZydisDecodedOperand *operands, const struct step *step)
{
	unsigned size = operands[0].size / 8u;
	uint64_t index;

	if (decoded->meta.category != ZYDIS_CATEGORY_BITBYTE ||
	    operands[0].type != ZYDIS_OPERAND_TYPE_MEMORY ||
	    operands[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return 0;
	index = step->gpr[ZydisRegisterGetId(operands[1].reg.value)];
	index <<= 64 - size * 8;
	return (uint64_t)((int64_t)index >> (64 - size * 8) >> __builtin_ctz(size * 8)) * size;
}

/* Note the pages that an instruction reads and writes, by its operands and the registers before
 * it. */
static void add_operands(const struct sequence *seq, const struct step *step, bool possible,
			 uint8_t *bits)
{
	const struct instruction *insn = instruction_at(seq, step->rip);
	ZydisDecodedInstruction decoded;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisRegisterContext context;

	if (!insn || insn == &seq->insn[seq->instructions] ||
	    !decode(seq, insn, &decoded, operands) || !accesses_memory(&decoded, step))
		return;
	fill_context(step, &context);
	/* POP to memory computes its address when the stack pointer has moved on (SDM vol. 2, POP).
	 */
	if (decoded.mnemonic == ZYDIS_MNEMONIC_POP)
		for (unsigned i = 0; i < 3; i++)
			context.values[stack_pointer[i]] += decoded.operand_width / 8u;
	for (unsigned i = 0; i < decoded.operand_count; i++) {
		const ZydisDecodedOperand *operand = &operands[i];
		unsigned size = operand->size / 8;
		uint64_t offset, base;

		if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    operand->mem.type != ZYDIS_MEMOP_TYPE_MEM)
			continue;
		if (moves_stack(operand)) {
			add_stack(seq, step, &decoded, operands, possible, bits);
			continue;
		}
		if (decoded.mnemonic == ZYDIS_MNEMONIC_XLAT)
			offset = truncated(step->gpr[NX_RBX] + (uint8_t)step->gpr[NX_RAX],
					   decoded.address_width);
		else if (ZYAN_FAILED(ZydisCalcAbsoluteAddressEx(&decoded, operand, step->rip,
								&context, &offset)))
			continue;
		offset =
		    truncated(offset + bit_offset(&decoded, operands, step), decoded.address_width);
		base = seq->seg[operand->mem.segment - ZYDIS_REGISTER_ES].base;
		offset += base;
		add_page(bits, seq->bits == 64 ? offset : (uint32_t)offset, size,
			 operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
	}
}

bool compare_page_bits(const struct sequence *seq, const struct processor_result *native)
{
	uint8_t must[PAGES] = {0}, may[PAGES] = {0};
	bool equal = true;

	if (seq->paging == PAGING_NONE || !native->steps || native->steps == MAX_STEPS)
		return true;
	for (unsigned i = 0; i < native->steps; i++) {
		/* An instruction at which the engine left may have got as far as marking the
		 * pages. */
		if (i + 1 < native->steps)
			add_operands(seq, &native->step[i], false, must);
		add_operands(seq, &native->step[i], true, may);
	}
	for (unsigned page = 0; page < (seq->bits == 64 ? PAGES : LOW_PAGES); page++) {
		unsigned bits = engine_page_bits(seq, page);

		if (page_use[page] == CODE) /* fetched, and looked at by formation */
			bits &= 2, must[page] &= 2, may[page] &= 2;
		if ((bits & ~may[page]) || (must[page] & ~bits)) {
			fprintf(stderr,
				"  page %" PRIx64 ": accessed and dirty bits %x, must %x, may %x\n",
				page_linear(page), bits, must[page], may[page]);
			equal = false;
		}
	}
	return equal;
}

#define ACCESSED 0x20ull
#define ACCESSED_DIRTY 0x60ull

static uint64_t entry_at(const uint8_t *tables, unsigned at, unsigned width)
{
	uint64_t entry = 0;

	memcpy(&entry, tables + at, width);
	return entry;
}

/* The page that the entry maps, or HOLE for another table. */
static enum page_use use_of(uint64_t entry)
{
	for (unsigned page = 0; page < PAGES; page++)
		if ((entry & 0xffffffff000) == page_gpa(page))
			return page_use[page];
	return HOLE;
}

/*
 * The bits of an entry that may differ. Code: formation reads ahead, and a fetch may reach into the
 * next page. Devices: KVM's emulator does not walk the tables again for the second half of a
 * read-modify-write. And an emulated AMD processor marks PAE's first level, which has no such bits.
 */
static uint64_t bits_ignored(const struct sequence *seq, unsigned at, uint64_t entry)
{
	if (seq->paging == PAGING_PAE && at < PAGE)
		return 0x20;
	switch (use_of(entry)) {
	case CODE:
		return 0x20;
	case DEVICE:
		return ACCESSED_DIRTY;
	default:
		return 0;
	}
}

/* It is not documented whether the processor marks the stack's new top, which ENTER checks; the
 * engine does. */
static bool enters(const struct sequence *seq)
{
	for (unsigned i = 0; i < seq->instructions; i++)
		if (table[seq->insn[i].row].form == FORM_ENTER)
			return true;
	return false;
}

static bool maps_stack(uint64_t entry)
{
	return (entry & 0xffffffff000) == page_gpa(STACK_AT / PAGE) ||
	       (entry & 0xffffffff000) == page_gpa(STACK_AT / PAGE + 1);
}

/* It has two operands to load, in an order that is not documented: if the second one faults... */
static bool loads_two(const struct instruction *insn)
{
	switch (table[insn->row].mnemonic) {
	case ZYDIS_MNEMONIC_CMPSB:
	case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD:
	case ZYDIS_MNEMONIC_CMPSQ:
		return true;
	default:
		return false;
	}
}

bool compare_tables(const struct sequence *seq, uint64_t rip, enum beyond beyond)
{
	const bool end = rip == seq->insn[seq->instructions].rip, entering = enters(seq);
	const bool two = !end && beyond != BEYOND_RUNS && loads_two(instruction_at(seq, rip));
	const uint8_t *e = engine_tables(), *p = processor->tables();
	unsigned width = seq->paging == PAGING_32 ? 4 : 8;
	bool equal = true;

	if (seq->paging == PAGING_NONE)
		return true;
	for (unsigned at = 0; at < TABLES * PAGE; at += width) {
		uint64_t engine = entry_at(e, at, width), other = entry_at(p, at, width);
		uint64_t differ = (engine ^ other) & ~bits_ignored(seq, at, engine);

		/* The engine may have marked less than the processor one instruction on... */
		if (!end && beyond != BEYOND_UNKNOWN)
			differ &= ~ACCESSED_DIRTY | engine;
		/* ... and more than one that has not gone on. */
		if ((!end && beyond == BEYOND_UNKNOWN) || (entering && maps_stack(engine)))
			differ &= ~ACCESSED_DIRTY | other;
		/* ... the page of the first one has been accessed, whichever it was. */
		if (two)
			differ &= ~ACCESSED;
		if (!differ)
			continue;
		fprintf(stderr, "  page table at %x: engine %" PRIx64 ", processor %" PRIx64 "\n",
			TABLES_AT + at, engine, other);
		equal = false;
	}
	return equal;
}
