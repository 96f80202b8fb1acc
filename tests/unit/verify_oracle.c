/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#include <stdbool.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "verify_oracle.h"

/* What is known at the start of an instruction, on all paths that were seen to lead there. */
struct __attribute__((packed)) facts { /* packed: compared as bytes */
	bool seen;
	/* RAW: a number and an addend of the TLB's, which need not belong together. */
	enum { UNKNOWN, NUMBER, RAW, HOST } r14;
	uint16_t bytes; /* HOST */
	uint8_t write;
	/* How r11, r10 and the flags follow from the r14 of now, or before the addend. */
	enum { R11_ANY, R11_COPY, R11_SHIFTED, R11_INDEX } r11;
	enum { R10_ANY, R10_LAST, R10_PAGE } r10;
	uint16_t r10_bytes;
	bool compared, hit; /* flags say whether the tag fits; it does */
	uint16_t tag_bytes;
	uint8_t tag_write;
	bool counted; /* flags say whether there was a turn left */
	bool spent;   /* there was none */
	bool linear;  /* NX_CTX_LINEAR is r14 */
	int32_t site; /* in NX_CTX_SITE, -1: any */
};

struct oracle {
	const uint8_t *code;
	uint32_t size;
	const struct nx_translation *t;
	const struct nx_thunks *thunks;
	ZydisDecoder decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint32_t work[8192], works;
	uint32_t at; /* the instruction at hand */
	const char *error;
};

static struct facts at_offset[NX_VERIFY_MAX_BYTES];
/* Where each instruction leads without counting a turn. */
static struct ways {
	uint32_t to[2];
	uint8_t count;
	bool endless;
} ways[NX_VERIFY_MAX_BYTES];

static void merge(struct facts *into, const struct facts *from)
{
	if (into->r14 != from->r14)
		into->r14 = UNKNOWN;
	if (from->bytes < into->bytes)
		into->bytes = from->bytes;
	into->write &= from->write;
	if (into->r11 != from->r11)
		into->r11 = R11_ANY;
	if (into->r10 != from->r10 || into->r10_bytes != from->r10_bytes)
		into->r10 = R10_ANY;
	if (into->tag_bytes != from->tag_bytes || into->tag_write != from->tag_write)
		into->compared = into->hit = false;
	into->counted &= from->counted;
	into->spent |= from->spent;
	into->compared &= from->compared;
	into->hit &= from->hit;
	into->linear &= from->linear;
	if (into->site != from->site)
		into->site = -1;
}

static void flow(struct oracle *o, uint32_t to, const struct facts *facts)
{
	struct facts merged;

	if (to >= o->size) {
		o->error = "control leaves the code";
		return;
	}
	memset(&merged, 0, sizeof(merged));
	merged = at_offset[to];
	if (merged.seen)
		merge(&merged, facts);
	else
		merged = *facts;
	merged.seen = true;
	if (memcmp(&merged, &at_offset[to], sizeof(merged)) == 0)
		return;
	at_offset[to] = merged;
	if (o->works == sizeof(o->work) / sizeof(o->work[0]))
		o->error = "too much code for the oracle";
	else
		o->work[o->works++] = to;
}

/* Likewise, without counting a turn. */
static void flow_on(struct oracle *o, uint32_t to, const struct facts *facts)
{
	struct ways *w = &ways[o->at];

	if (!w->count || (w->count == 1 && w->to[0] != to))
		w->to[w->count++] = to;
	flow(o, to, facts);
}

/*
 * Return whether a path has no end. Exclude all instructions whose successors are excluded, until
 * nothing changes.
 */
static bool is_endless(uint32_t size, uint32_t *where)
{
	bool changed = true;

	for (uint32_t at = 0; at < size; at++)
		ways[at].endless = ways[at].count > 0;
	while (changed) {
		changed = false;
		for (uint32_t at = size; at-- > 0;) {
			bool goes_on = false;

			for (unsigned i = 0; i < ways[at].count; i++)
				goes_on |= ways[ways[at].to[i]].endless;
			changed |= ways[at].endless && !goes_on;
			ways[at].endless &= goes_on;
		}
	}
	for (*where = 0; *where < size; ++*where)
		if (ways[*where].endless)
			return true;
	return false;
}

static ZydisRegister whole(ZydisRegister reg)
{
	return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
}

/* By Zydis's classes, not by mnemonic. */
static bool harmless_kind(const ZydisDecodedInstruction *i)
{
	switch (i->meta.isa_set) {
	case ZYDIS_ISA_SET_I86:
	case ZYDIS_ISA_SET_I186:
	case ZYDIS_ISA_SET_I386:
	case ZYDIS_ISA_SET_I486REAL:
	case ZYDIS_ISA_SET_PENTIUMREAL:
	case ZYDIS_ISA_SET_LONGMODE:
	case ZYDIS_ISA_SET_CMOV:
	case ZYDIS_ISA_SET_LAHF:
	case ZYDIS_ISA_SET_FAT_NOP:
	case ZYDIS_ISA_SET_PAUSE:
	case ZYDIS_ISA_SET_SSE:
	case ZYDIS_ISA_SET_SSE2:
	case ZYDIS_ISA_SET_SSE_PREFETCH:
	case ZYDIS_ISA_SET_PREFETCH_NOP:
	case ZYDIS_ISA_SET_LZCNT:
	case ZYDIS_ISA_SET_BMI1:
	case ZYDIS_ISA_SET_CET:
		break;
	default:
		return false;
	}
	switch (i->meta.category) {
	case ZYDIS_CATEGORY_BINARY:
		return i->mnemonic != ZYDIS_MNEMONIC_DIV && i->mnemonic != ZYDIS_MNEMONIC_IDIV;
	case ZYDIS_CATEGORY_FLAGOP:
		return !i->cpu_flags ||
		       !((i->cpu_flags->modified | i->cpu_flags->set_0 | i->cpu_flags->set_1) &
			 (ZYDIS_CPUFLAG_IF | ZYDIS_CPUFLAG_DF | ZYDIS_CPUFLAG_AC));
	case ZYDIS_CATEGORY_NOP:
	case ZYDIS_CATEGORY_WIDENOP:
	case ZYDIS_CATEGORY_SHIFT:
	case ZYDIS_CATEGORY_ROTATE:
	case ZYDIS_CATEGORY_DATAXFER:
	case ZYDIS_CATEGORY_CONVERT:
	case ZYDIS_CATEGORY_SETCC:
	case ZYDIS_CATEGORY_BITBYTE:
	case ZYDIS_CATEGORY_LOGICAL:
	case ZYDIS_CATEGORY_SEMAPHORE:
	case ZYDIS_CATEGORY_CMOV:
	case ZYDIS_CATEGORY_PREFETCH:
	case ZYDIS_CATEGORY_LZCNT:
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
		return i->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
	case ZYDIS_CATEGORY_BMI1:
		return i->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY; /* tzcnt */
	case ZYDIS_CATEGORY_CET:
		return i->mnemonic == ZYDIS_MNEMONIC_ENDBR64 ||
		       i->mnemonic == ZYDIS_MNEMONIC_ENDBR32;
	case ZYDIS_CATEGORY_MISC:
		return i->mnemonic == ZYDIS_MNEMONIC_LEA || i->mnemonic == ZYDIS_MNEMONIC_PAUSE ||
		       i->mnemonic == ZYDIS_MNEMONIC_MFENCE ||
		       i->mnemonic == ZYDIS_MNEMONIC_LFENCE || i->mnemonic == ZYDIS_MNEMONIC_SFENCE;
	default:
		return false;
	}
}

static bool reads_tlb(const ZydisDecodedOperand *op, int64_t slot)
{
	return op->mem.base == ZYDIS_REGISTER_R15 && op->mem.index == ZYDIS_REGISTER_R11 &&
	       op->mem.scale == 1 && op->mem.disp.value == NX_CTX_TLB + slot && op->size == 64 &&
	       !(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
}

/* sub dword [a count of turns], 1 */
static bool counts_turn(const struct oracle *o)
{
	const ZydisDecodedOperand *op = &o->op[0];

	return o->insn.mnemonic == ZYDIS_MNEMONIC_SUB && op->type == ZYDIS_OPERAND_TYPE_MEMORY &&
	       op->mem.base == ZYDIS_REGISTER_R15 && op->mem.index == ZYDIS_REGISTER_NONE &&
	       op->size == 32 && o->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
	       o->op[1].imm.value.u == 1 &&
	       (op->mem.disp.value == NX_CTX_TURNS || op->mem.disp.value == NX_CTX_IDLE_TURNS);
}

/* r14, and the addend of the entry that r14 belongs to */
static bool has_addend(const struct oracle *o, const struct facts *f)
{
	return o->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       o->op[0].reg.value == ZYDIS_REGISTER_R14 &&
	       o->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY && f->r11 == R11_INDEX &&
	       reads_tlb(&o->op[1], NX_TLB_ADDEND);
}

/* To a number; and off again, which gives the number back. */
static bool adds_addend(const struct oracle *o, const struct facts *f)
{
	return o->insn.mnemonic == ZYDIS_MNEMONIC_ADD && f->r14 == NUMBER && has_addend(o, f);
}

static bool subtracts_addend(const struct oracle *o, const struct facts *f)
{
	return o->insn.mnemonic == ZYDIS_MNEMONIC_SUB && f->r14 == RAW && has_addend(o, f);
}

/*
 * cmovne r14, r15: after it r14 is a pointer, also where the branch behind the comparison has been
 * mispredicted.
 */
static bool selects(const struct oracle *o, const struct facts *f)
{
	return o->insn.mnemonic == ZYDIS_MNEMONIC_CMOVNZ &&
	       o->op[0].reg.value == ZYDIS_REGISTER_R14 &&
	       o->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       o->op[1].reg.value == ZYDIS_REGISTER_R15 && f->r14 == RAW && f->compared && f->hit;
}

static const char *judge_memory(const struct oracle *o, const ZydisDecodedOperand *op,
				const struct facts *f)
{
	bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	int64_t first = op->mem.disp.value, last = first + (op->size ? op->size / 8 : 1) - 1;

	if (counts_turn(o))
		return NULL;
	if (op->mem.base == ZYDIS_REGISTER_R15 && op->mem.index == ZYDIS_REGISTER_NONE)
		return first < 0 || last >= (write ? NX_CTX_WRITABLE : NX_CTX_TLB)
			   ? "a slot out of bounds"
			   : NULL;
	if (op->mem.base == ZYDIS_REGISTER_R15 && op->mem.index == ZYDIS_REGISTER_R11) {
		if (f->r11 != R11_INDEX)
			return "a TLB access with any index";
		if (o->insn.mnemonic == ZYDIS_MNEMONIC_CMP &&
		    o->op[0].reg.value == ZYDIS_REGISTER_R10 &&
		    (reads_tlb(op, NX_TLB_READ) || reads_tlb(op, NX_TLB_WRITE)))
			return NULL;
		if (adds_addend(o, f) || subtracts_addend(o, f))
			return NULL;
		return "a TLB access that is not a check";
	}
	if (op->mem.base != ZYDIS_REGISTER_R14 || op->mem.index != ZYDIS_REGISTER_NONE || first < 0)
		return "memory that is neither slot nor pointer";
	if (f->r14 != HOST || last >= f->bytes)
		return "an access beyond what was checked";
	return write && !f->write ? "a store that was checked for reading" : NULL;
}

/* Reading r14 while it may be a pointer; r15 and rsp at any time. */
static const char *judge_register(const struct oracle *o, const ZydisDecodedOperand *op,
				  const struct facts *f)
{
	ZydisRegister reg = whole(op->reg.value);
	bool kept =
	    op->actions != ZYDIS_OPERAND_ACTION_WRITE || op->size < 32 ||
	    o->insn.mnemonic == ZYDIS_MNEMONIC_BSF || o->insn.mnemonic == ZYDIS_MNEMONIC_BSR ||
	    o->insn.mnemonic == ZYDIS_MNEMONIC_LZCNT || o->insn.mnemonic == ZYDIS_MNEMONIC_TZCNT;

	if (selects(o, f))
		return NULL;
	if (reg == ZYDIS_REGISTER_R15 || reg == ZYDIS_REGISTER_RSP)
		return "a reserved register";
	if (reg == ZYDIS_REGISTER_R14 && kept && f->r14 != NUMBER && !subtracts_addend(o, f))
		return "the pointer is read";
	if (ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_SEGMENT ||
	    ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_CONTROL ||
	    ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_DEBUG)
		return "a system register";
	return NULL;
}

static const char *judge_address(const ZydisDecodedOperand *op, const struct facts *f)
{
	ZydisRegister part[] = {op->mem.base, op->mem.index};

	for (unsigned i = 0; i < 2; i++) {
		if (whole(part[i]) == ZYDIS_REGISTER_R15 || whole(part[i]) == ZYDIS_REGISTER_RSP ||
		    part[i] == ZYDIS_REGISTER_RIP || part[i] == ZYDIS_REGISTER_EIP)
			return "a host address is computed";
		if (whole(part[i]) == ZYDIS_REGISTER_R14 && f->r14 != NUMBER)
			return "the pointer is computed with";
	}
	return NULL;
}

static const char *judge_operands(const struct oracle *o, const struct facts *f)
{
	const ZydisDecodedOperand *last = o->op + o->insn.operand_count;
	bool computes =
	    o->insn.mnemonic == ZYDIS_MNEMONIC_LEA || o->insn.mnemonic == ZYDIS_MNEMONIC_NOP;
	bool bits = o->insn.meta.category == ZYDIS_CATEGORY_BITBYTE &&
		    o->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER;

	if (o->insn.attributes & (ZYDIS_ATTRIB_HAS_SEGMENT | ZYDIS_ATTRIB_HAS_ADDRESSSIZE |
				  ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPNE))
		return "a prefix";
	for (const ZydisDecodedOperand *op = o->op; op < last; op++) {
		const char *error = NULL;

		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER)
			error = judge_register(o, op, f);
		else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY)
			error = computes ? judge_address(op, f)
				: bits   ? "a bit anywhere"
					 : judge_memory(o, op, f);
		else if (op->type == ZYDIS_OPERAND_TYPE_POINTER)
			error = "a far pointer";
		if (error)
			return error;
	}
	return NULL;
}

static bool is(const struct oracle *o, ZydisMnemonic mnemonic, ZydisRegister reg)
{
	return o->insn.mnemonic == mnemonic && o->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       o->op[0].reg.value == reg;
}

/* What an instruction writes of the registers that a check computes with. */
struct written {
	bool r10, r11, r14;
};

/* Note writes of the context's fields; return which of these registers are written. */
static struct written update_written(const struct oracle *o, struct facts *f)
{
	struct written sets = {0};

	for (unsigned i = 0; i < o->insn.operand_count; i++) {
		const ZydisDecodedOperand *op = &o->op[i];
		int64_t first = op->mem.disp.value, last = first + op->size / 8;

		if (!(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			sets.r14 |= whole(op->reg.value) == ZYDIS_REGISTER_R14;
			sets.r11 |= whole(op->reg.value) == ZYDIS_REGISTER_R11;
			sets.r10 |= whole(op->reg.value) == ZYDIS_REGISTER_R10;
		} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY &&
			   op->mem.base == ZYDIS_REGISTER_R15) {
			if (first < NX_CTX_LINEAR + 8 && last > NX_CTX_LINEAR)
				f->linear = first == NX_CTX_LINEAR && op->size == 64 &&
					    o->op[1].reg.value == ZYDIS_REGISTER_R14;
			if (first < NX_CTX_SITE + 4 && last > NX_CTX_SITE)
				f->site = first == NX_CTX_SITE && op->size == 32 &&
						  o->insn.mnemonic == ZYDIS_MNEMONIC_MOV &&
						  o->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE
					      ? (int32_t)o->op[1].imm.value.u
					      : -1;
		}
	}
	return sets;
}

/* The index of the TLB's entry is made in r11. */
static void update_r11(const struct oracle *o, struct facts *f, const struct facts *was)
{
	const ZydisDecodedOperand *from = &o->op[1];
	bool constant = from->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

	if (is(o, ZYDIS_MNEMONIC_MOV, ZYDIS_REGISTER_R11) &&
	    from->type == ZYDIS_OPERAND_TYPE_REGISTER && from->reg.value == ZYDIS_REGISTER_R14)
		f->r11 = R11_COPY;
	if (is(o, ZYDIS_MNEMONIC_SHR, ZYDIS_REGISTER_R11) && was->r11 == R11_COPY && constant &&
	    from->imm.value.u == NX_TLB_SHIFT)
		f->r11 = R11_SHIFTED;
	if ((is(o, ZYDIS_MNEMONIC_AND, ZYDIS_REGISTER_R11D) ||
	     is(o, ZYDIS_MNEMONIC_AND, ZYDIS_REGISTER_R11)) &&
	    was->r11 == R11_SHIFTED && constant && from->imm.value.u == NX_TLB_MASK)
		f->r11 = R11_INDEX;
}

/* The page of the access's last byte is made in r10, and compared with the entry. */
static void update_r10(const struct oracle *o, struct facts *f, const struct facts *was)
{
	const ZydisDecodedOperand *from = &o->op[1];

	if (is(o, ZYDIS_MNEMONIC_LEA, ZYDIS_REGISTER_R10) && from->mem.base == ZYDIS_REGISTER_R14 &&
	    from->mem.index == ZYDIS_REGISTER_NONE && from->mem.disp.value >= 0 &&
	    from->mem.disp.value < NX_CHECK_BYTES) {
		f->r10 = R10_LAST;
		f->r10_bytes = (uint16_t)(from->mem.disp.value + 1);
	}
	if (is(o, ZYDIS_MNEMONIC_AND, ZYDIS_REGISTER_R10) && was->r10 == R10_LAST &&
	    from->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && from->imm.value.s == -4096)
		f->r10 = R10_PAGE;
	if (is(o, ZYDIS_MNEMONIC_CMP, ZYDIS_REGISTER_R10) && was->r10 == R10_PAGE &&
	    was->r14 == RAW && was->r11 == R11_INDEX && from->type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    (reads_tlb(from, NX_TLB_READ) || reads_tlb(from, NX_TLB_WRITE))) {
		f->compared = true;
		f->tag_bytes = was->r10_bytes;
		f->tag_write = from->mem.disp.value == NX_CTX_TLB + NX_TLB_WRITE;
	}
}

/* What a data instruction does to the facts. */
static void update(const struct oracle *o, struct facts *f)
{
	const struct facts was = *f;
	struct written sets = update_written(o, f);

	if (o->insn.cpu_flags && (o->insn.cpu_flags->modified | o->insn.cpu_flags->set_0 |
				  o->insn.cpu_flags->set_1 | o->insn.cpu_flags->undefined))
		f->compared = f->counted = false;
	if (sets.r11 || sets.r10)
		f->compared = f->hit = false;
	if (sets.r11)
		f->r11 = R11_ANY;
	if (sets.r10)
		f->r10 = R10_ANY;
	if (adds_addend(o, &was)) {
		f->r14 = RAW;
		f->linear = f->hit = false;
	} else if (sets.r14) {
		f->r14 = NUMBER;
		f->r11 = R11_ANY;
		f->r10 = R10_ANY;
		f->linear = f->compared = f->hit = false;
	}
	if (counts_turn(o))
		f->counted = true;
	update_r11(o, f, &was);
	update_r10(o, f, &was);
	if (selects(o, &was)) {
		f->r14 = HOST;
		f->bytes = was.tag_bytes;
		f->write = was.tag_write;
	}
}

/* The thunk, by its slot, that the jump or call leads to; 0: none. */
static int64_t thunk_of(const struct oracle *o, uint32_t next)
{
	const struct nx_thunks *thunks = o->thunks;
	uint64_t to = thunks->code + next + (uint64_t)o->op[0].imm.value.s;

	if (o->insn.meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR)
		return 0;
	if (thunks->branches != NX_BRANCHES_INDIRECT) {
		if (o->op[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || o->insn.length != 5 ||
		    (o->code[o->at] != 0xe8 && o->code[o->at] != 0xe9))
			return 0;
		return to == thunks->exit     ? NX_CTX_THUNK_EXIT
		       : to == thunks->miss   ? NX_CTX_THUNK_MISS
		       : to == thunks->helper ? NX_CTX_THUNK_HELPER
					      : 0;
	}
	if (o->op[0].type != ZYDIS_OPERAND_TYPE_MEMORY || o->op[0].size != 64 ||
	    o->op[0].mem.base != ZYDIS_REGISTER_R15 || o->op[0].mem.index != ZYDIS_REGISTER_NONE ||
	    (o->insn.attributes & ZYDIS_ATTRIB_HAS_SEGMENT))
		return 0;
	return o->op[0].mem.disp.value;
}

/* jmp or call to a thunk. */
static void step_thunk(struct oracle *o, uint32_t next, struct facts *f)
{
	int64_t slot = thunk_of(o, next);
	const struct nx_site *site;
	bool jump = o->insn.mnemonic == ZYDIS_MNEMONIC_JMP;

	o->error = "a jump or call to somewhere";
	if (!slot)
		return;
	if (f->site < 0 || f->site >= o->t->sites) {
		o->error = "a thunk without site";
		return;
	}
	site = &o->t->site[f->site];
	if (jump && slot == NX_CTX_THUNK_EXIT) {
		o->error = NULL;
		return;
	}
	if (jump)
		return;
	if (slot == NX_CTX_THUNK_MISS && site->kind == NX_SITE_ACCESS && f->linear) {
		f->r14 = HOST;
		f->bytes = site->size;
		f->write = site->write;
	} else if (slot == NX_CTX_THUNK_HELPER && site->kind == NX_SITE_HELPER) {
		f->r14 = UNKNOWN;
	} else {
		return;
	}
	o->error = NULL;
	f->r11 = R11_ANY;
	f->r10 = R10_ANY;
	f->compared = f->counted = f->hit = f->linear = false;
	f->site = -1;
	flow_on(o, next, f);
}

static void step(struct oracle *o, uint32_t at)
{
	struct facts f = at_offset[at];
	uint32_t next;

	o->at = at;
	ways[at].count = 0;
	if (!ZYAN_SUCCESS(
		ZydisDecoderDecodeFull(&o->decoder, o->code + at, o->size - at, &o->insn, o->op))) {
		o->error = "not an instruction";
		return;
	}
	next = at + o->insn.length;
	if (!harmless_kind(&o->insn)) {
		o->error = "a kind of instruction";
		return;
	}
	if (o->insn.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE) {
		bool direct = o->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
		bool call_or_jump = o->insn.mnemonic == ZYDIS_MNEMONIC_CALL ||
				    o->insn.mnemonic == ZYDIS_MNEMONIC_JMP;
		uint32_t to = next + (uint32_t)o->op[0].imm.value.s;
		struct facts through = f;

		if (o->thunks->branches != NX_BRANCHES_INDIRECT &&
		    o->insn.mnemonic == ZYDIS_MNEMONIC_JMP &&
		    (next >= o->size || o->code[next] != 0xcc)) {
			o->error = "a jump that something follows";
			return;
		}
		if (!direct || (call_or_jump && thunk_of(o, next))) {
			step_thunk(o, next, &f);
			return;
		}
		if (f.spent) {
			o->error = "a branch with no turns left";
			return;
		}
		if (o->insn.mnemonic == ZYDIS_MNEMONIC_CALL ||
		    (o->insn.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE)) {
			o->error = "a call, or a branch that is cut";
			return;
		}
		through.hit = f.compared && o->insn.mnemonic == ZYDIS_MNEMONIC_JNZ;
		if (f.counted && o->insn.mnemonic == ZYDIS_MNEMONIC_JB) {
			flow(o, next, &through);
			f.spent = true;
		} else if (o->insn.mnemonic != ZYDIS_MNEMONIC_JMP) {
			flow_on(o, next, &through);
		}
		flow_on(o, to, &f);
		return;
	}
	o->error = judge_operands(o, &f);
	if (o->error)
		return;
	update(o, &f);
	flow_on(o, next, &f);
}

/* Whether the processor would take these bytes for the target of an indirect branch. */
static bool can_land(const struct oracle *o, uint32_t at)
{
	return at + 4 <= o->size && o->code[at] == 0xf3 && o->code[at + 1] == 0x0f &&
	       o->code[at + 2] == 0x1e && o->code[at + 3] == 0xfa;
}

static const char *judge_landings(const struct oracle *o, uint32_t *where)
{
	for (uint32_t at = 0; at < o->size; at++) {
		bool entry = false;

		for (unsigned i = 0; i < o->t->entries; i++)
			entry |= o->t->entry[i].offset == at;
		*where = at;
		if (can_land(o, at) != entry)
			return "an entry that cannot be entered, or something else that can";
	}
	return NULL;
}

const char *verify_oracle(const uint8_t *code, uint32_t size, const struct nx_translation *t,
			  const struct nx_thunks *thunks, uint32_t *where)
{
	static struct oracle o;
	struct facts start;

	memset(&start, 0, sizeof(start));
	start.site = -1;
	memset(&o, 0, sizeof(o));
	memset(at_offset, 0, size * sizeof(at_offset[0]));
	memset(ways, 0, size * sizeof(ways[0]));
	o.code = code;
	o.size = size;
	o.t = t;
	o.thunks = thunks;
	ZydisDecoderInit(&o.decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (thunks->branches == NX_BRANCHES_TRACKED)
		o.error = judge_landings(&o, where);
	if (thunks->blind && !o.error)
		o.error = verify_oracle_constants(code, size, thunks, where);
	for (unsigned i = 0; i < t->entries && !o.error; i++)
		flow(&o, t->entry[i].offset, &start);
	while (o.works && !o.error) {
		*where = o.work[--o.works];
		step(&o, *where);
	}
	if (!o.error && is_endless(size, where))
		return "a way without end";
	return o.error;
}
