/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * verify.c - prove that emitted code is harmless before it becomes executable.
 *
 * Guest code chooses what the translator emits, so this file treats the code as hostile. It refuses
 * any instruction that is not on the list, and any listed one in a form that is not proven. The
 *rules are those of context.h; docs/verifier.md has the argument why they suffice. It shares no
 *code with the translator, only the decoder and the rules.
 *
 * Three passes, all linear, no recursion:
 *
 *  1. Every instruction is decoded once, in the order of addresses, and checked as if the
 *     only way to it were the fall through. The map notes per byte of code where instructions
 *     start, where branches go, and where an instruction relies on what came before it.
 *  2. The map alone is walked: branches land on instructions that may be branched to, and no
 *     branch lands between an instruction that relies on r14 and what established it.
 *  3. Control is followed depth first, from branch to branch: no way comes back to where it has
 *     been without having counted a turn. So the code ends.
 *
 * r14 is the only register that ever holds a host pointer, and only after a check sequence. What
 * is known of it, in pass 1:
 *
 *	UNKNOWN   at entries and branch targets, after a helper: may be overwritten, nothing else
 *	VALUE     overwritten since: a number like any other
 *	POINTER   after a check: [r14 + disp] may be used; the pointer itself must not be
 *	          read, since the guest must not learn host addresses
 */
#include "verify/verifier.h"

/* The number of instructions that one step of pass 1 checks. */
#define STEP_INSNS 64

/* Compute a direct branch's target; return false if it lies outside this translation. */
static bool branch_target(const struct nx_verifier *v, uint32_t *target)
{
	int64_t to = (int64_t)v->next + v->d->op[0].imm.value.s;

	if (to < 0 || to >= (int64_t)v->size)
		return false;
	*target = (uint32_t)to;
	return true;
}

/* Note that the instruction ends a basic block, with these edges. Branches have two bytes at
 * least. */
static void note_control(struct nx_verifier *v, unsigned ways, uint32_t target)
{
	v->map[v->at] |= (uint16_t)(NXV_CONTROL | ways);
	v->link[v->at + 1] = (uint16_t)target;
}

/* add or sub, as the mnemonic says, r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND] */
static bool is_addend(const struct nx_verifier *v, ZydisMnemonic mnemonic)
{
	return v->d->insn.mnemonic == mnemonic && is_reg(v, 0, ZYDIS_REGISTER_R14) &&
	       is_context(v, 1, ZYDIS_REGISTER_R11, NX_CTX_TLB + NX_TLB_ADDEND, 8);
}

/* mov [r15 + NX_CTX_LINEAR], r14 */
static bool is_linear_store(const struct nx_verifier *v)
{
	return v->d->insn.mnemonic == ZYDIS_MNEMONIC_MOV &&
	       is_context(v, 0, ZYDIS_REGISTER_NONE, NX_CTX_LINEAR, 8) &&
	       is_reg(v, 1, ZYDIS_REGISTER_R14);
}

/* A branch to one of the thunks in the form that is asked for: [r15 + slot], or their addresses. */
static bool leads_to_thunk(const struct nx_verifier *v, int64_t slot)
{
	const struct nx_thunks *thunks = v->thunks;

	if (v->d->insn.meta.branch_type != ZYDIS_BRANCH_TYPE_NEAR)
		return false;
	if (thunks->branches == NX_BRANCHES_INDIRECT)
		return is_context(v, 0, ZYDIS_REGISTER_NONE, slot, 8);
	return is_direct(v) && v->d->insn.raw.prefix_count == 0 &&
	       thunks->code + v->next + v->d->op[0].imm.value.u ==
		   (slot == NX_CTX_THUNK_EXIT   ? thunks->exit
		    : slot == NX_CTX_THUNK_MISS ? thunks->miss
						: thunks->helper);
}

/* jmp or call, as the mnemonic says, to the thunk that has this slot */
static bool is_thunk(const struct nx_verifier *v, ZydisMnemonic mnemonic, int64_t slot)
{
	return v->d->insn.mnemonic == mnemonic && leads_to_thunk(v, slot);
}

/* Control does not go on behind the instruction, a jump. */
static void end_stretch(struct nx_verifier *v)
{
	v->falls = false;
	v->r14 = NXV_R14_UNKNOWN;
	v->trap_due = v->thunks->branches != NX_BRANCHES_INDIRECT;
}

static enum nx_verify_result verify_branch(struct nx_verifier *v)
{
	uint32_t target;

	if (!is_direct(v))
		return NX_VERIFY_CALL;
	if (v->d->insn.raw.prefix_count != 0)
		return NX_VERIFY_FORBIDDEN;
	if (!branch_target(v, &target))
		return NX_VERIFY_BRANCH;
	v->map[target] |= NXV_TARGET;
	if (v->expect == EXPECT_COUNT)
		note_control(v, NXV_TAKEN | NXV_COUNTS, target);
	else
		note_control(v, v->listing == NXV_JUMP ? NXV_TAKEN : NXV_TAKEN | NXV_FALLS, target);
	if (v->listing == NXV_JUMP)
		end_stretch(v);
	return NX_VERIFY_OK;
}

/* A turn has been counted: away if there was none left, and no other way here. */
static enum nx_verify_result verify_count(struct nx_verifier *v)
{
	enum nx_verify_result result = NX_VERIFY_COUNT;

	if (v->d->insn.mnemonic == ZYDIS_MNEMONIC_JB)
		result = verify_branch(v);
	v->map[v->at] |= NXV_FIXED;
	v->expect = EXPECT_ANY;
	return result;
}

/* jmp or call outside the sequences that they belong to. */
static enum nx_verify_result verify_stray_thunk(const struct nx_verifier *v)
{
	if (is_thunk(v, ZYDIS_MNEMONIC_CALL, NX_CTX_THUNK_MISS))
		return NX_VERIFY_CHECK;
	if (is_thunk(v, ZYDIS_MNEMONIC_JMP, NX_CTX_THUNK_EXIT) ||
	    is_thunk(v, ZYDIS_MNEMONIC_CALL, NX_CTX_THUNK_HELPER))
		return NX_VERIFY_SITE;
	return NX_VERIFY_CALL;
}

/* Check that a store of a site is followed by its thunk. */
static enum nx_verify_result verify_thunk(struct nx_verifier *v)
{
	v->expect = EXPECT_ANY;
	v->map[v->at] |= NXV_FIXED;
	v->r14 = NXV_R14_UNKNOWN;
	if (is_thunk(v, ZYDIS_MNEMONIC_JMP, NX_CTX_THUNK_EXIT)) {
		note_control(v, 0, 0);
		v->map[v->site_at] |= NXV_LEAVES;
		end_stretch(v);
		return NX_VERIFY_OK;
	}
	if (is_thunk(v, ZYDIS_MNEMONIC_CALL, NX_CTX_THUNK_HELPER))
		return v->translation->site[v->site].kind == NX_SITE_HELPER ? NX_VERIFY_OK
									    : NX_VERIFY_SITE;
	if (is_thunk(v, ZYDIS_MNEMONIC_CALL, NX_CTX_THUNK_MISS))
		return NX_VERIFY_CHECK;
	return v->listing == NXV_CALL || (v->listing == NXV_JUMP && !is_direct(v)) ? NX_VERIFY_CALL
										   : NX_VERIFY_SITE;
}

/* After the first instruction of a miss stub, demand exactly the other four. */
static enum nx_verify_result verify_stub(struct nx_verifier *v)
{
	uint32_t back;

	v->map[v->at] |= NXV_FIXED;
	switch (v->expect) {
	case EXPECT_STUB_LINEAR:
		v->expect = EXPECT_STUB_SITE;
		return is_linear_store(v) ? NX_VERIFY_OK : NX_VERIFY_CHECK;
	case EXPECT_STUB_SITE:
		if (!is_site_store(v))
			return NX_VERIFY_CHECK;
		v->site = (uint32_t)v->d->op[1].imm.value.u;
		if (v->site >= v->translation->sites ||
		    v->translation->site[v->site].kind != NX_SITE_ACCESS)
			return NX_VERIFY_SITE;
		v->expect = EXPECT_STUB_CALL;
		return NX_VERIFY_OK;
	case EXPECT_STUB_CALL:
		if (!is_thunk(v, ZYDIS_MNEMONIC_CALL, NX_CTX_THUNK_MISS))
			return NX_VERIFY_CHECK;
		v->expect = EXPECT_STUB_JUMP;
		return NX_VERIFY_OK;
	default:
		if (v->listing != NXV_JUMP || !is_direct(v) || v->d->insn.raw.prefix_count != 0)
			return NX_VERIFY_CHECK;
		if (!branch_target(v, &back))
			return NX_VERIFY_BRANCH;
		note_control(v, NXV_TAKEN, back);
		v->link[v->stub] = (uint16_t)back;
		v->link[v->stub + 1] = (uint16_t)v->site;
		v->expect = EXPECT_ANY;
		end_stretch(v);
		return NX_VERIFY_OK;
	}
}

/* ---- The check sequence ---- */

/* Whether the instruction is the given one of the sequence. */
static bool matches_check(struct nx_verifier *v, unsigned step)
{
	ZydisMnemonic mnemonic = v->d->insn.mnemonic;
	int64_t disp;

	switch (step) {
	case NXV_CHECK_COPY:
		return mnemonic == ZYDIS_MNEMONIC_MOV && is_reg(v, 0, ZYDIS_REGISTER_R11) &&
		       is_reg(v, 1, ZYDIS_REGISTER_R14);
	case NXV_CHECK_SHIFT:
		return mnemonic == ZYDIS_MNEMONIC_SHR && is_reg(v, 0, ZYDIS_REGISTER_R11) &&
		       is_imm(v, 1, NX_TLB_SHIFT);
	case NXV_CHECK_MASK:
		return mnemonic == ZYDIS_MNEMONIC_AND && is_reg(v, 0, ZYDIS_REGISTER_R11D) &&
		       is_imm(v, 1, NX_TLB_MASK);
	case NXV_CHECK_LAST_BYTE:
		if (mnemonic != ZYDIS_MNEMONIC_LEA || !is_reg(v, 0, ZYDIS_REGISTER_R10) ||
		    v->d->op[1].mem.base != ZYDIS_REGISTER_R14 ||
		    v->d->op[1].mem.index != ZYDIS_REGISTER_NONE)
			return false;
		disp = v->d->op[1].mem.disp.value;
		if (disp < 0 || disp >= NX_CHECK_BYTES)
			return false;
		v->check_bytes = (uint32_t)disp + 1;
		return true;
	case NXV_CHECK_PAGE:
		return mnemonic == ZYDIS_MNEMONIC_AND && is_reg(v, 0, ZYDIS_REGISTER_R10) &&
		       is_imm(v, 1, -4096);
	case NXV_CHECK_ADD:
		return is_addend(v, ZYDIS_MNEMONIC_ADD);
	case NXV_CHECK_COMPARE:
		v->check_write = is_context(v, 1, ZYDIS_REGISTER_R11, NX_CTX_TLB + NX_TLB_WRITE, 8);
		return mnemonic == ZYDIS_MNEMONIC_CMP && is_reg(v, 0, ZYDIS_REGISTER_R10) &&
		       (v->check_write ||
			is_context(v, 1, ZYDIS_REGISTER_R11, NX_CTX_TLB + NX_TLB_READ, 8));
	case NXV_CHECK_BRANCH:
		return mnemonic == ZYDIS_MNEMONIC_JNZ && is_direct(v) &&
		       v->d->insn.raw.prefix_count == 0 && branch_target(v, &v->check_stub);
	default:
		return mnemonic == ZYDIS_MNEMONIC_CMOVNZ && is_reg(v, 0, ZYDIS_REGISTER_R14) &&
		       is_reg(v, 1, ZYDIS_REGISTER_R15);
	}
}

/*
 * Follows the sequence. *taken: the instruction is one that is allowed in it only, and done with.
 * From the addition on there is no way but to the end.
 */
static enum nx_verify_result verify_check(struct nx_verifier *v, bool *taken)
{
	*taken = false;
	if (!matches_check(v, v->step)) {
		if (v->step > NXV_CHECK_ADD)
			return NX_VERIFY_CHECK;
		v->step = NXV_CHECK_COPY;
		if (!matches_check(v, NXV_CHECK_COPY))
			return NX_VERIFY_OK;
	}
	v->step_at[v->step++] = v->at;
	if (v->step <= NXV_CHECK_ADD)
		return NX_VERIFY_OK;
	*taken = true;
	if (v->step == NXV_CHECK_BRANCH + 1)
		note_control(v, NXV_TAKEN | NXV_FALLS, v->check_stub);
	if (v->step < NXV_CHECK_STEPS)
		return NX_VERIFY_OK;
	v->step = NXV_CHECK_COPY;
	for (unsigned i = NXV_CHECK_COPY + 1; i < NXV_CHECK_STEPS; i++)
		v->map[v->step_at[i]] |= NXV_FIXED;
	if (v->next >= v->size)
		return NX_VERIFY_FALLS_OFF;
	v->map[v->next] |= NXV_FIXED | NXV_BACK;
	v->link[v->next] = (uint16_t)v->check_stub;
	/* The last byte of the selection is nobody's start: room for what the check asked for. */
	v->link[v->next - 1] = (uint16_t)(v->check_bytes << 1 | v->check_write);
	v->r14 = NXV_R14_POINTER;
	v->pointer_bytes = v->check_bytes;
	v->pointer_write = v->check_write;
	return NX_VERIFY_OK;
}

/*
 * The check that ends before back, and its stub, belong together and ask for the same. What is no
 * stub is a target like any other; it is still to come, so that pass 2 sees that.
 */
static enum nx_verify_result verify_link(const struct nx_verifier *v, uint32_t back)
{
	uint32_t stub = v->link[back];
	const struct nx_site *site;

	if (!(v->map[stub] & NXV_STUB) && stub > back) {
		v->map[stub] |= NXV_TARGET;
		return NX_VERIFY_OK;
	}
	if (!(v->map[stub] & NXV_STUB) || v->link[stub] != back)
		return NX_VERIFY_CHECK;
	site = &v->translation->site[v->link[stub + 1]];
	if (site->size < v->link[back - 1] >> 1 || (!site->write && (v->link[back - 1] & 1)))
		return NX_VERIFY_SITE;
	return NX_VERIFY_OK;
}

/* ---- The passes ---- */

/* Prefixes are a part of the head, as is the size of its constants. */
static bool has_good_prefixes(struct nx_verifier *v)
{
	const ZydisDecodedInstructionRaw *raw = &v->d->insn.raw;

	if (!(v->d->notes & NXV_NOTE_SEEN))
		v->d->notes =
		    NXV_NOTE_SEEN | (nx_verify_prefixes(v) ? NXV_NOTE_PREFIXES : 0) |
		    (raw->imm[0].size > 16 || raw->disp.size > 16 ? NXV_NOTE_CONSTANT : 0);
	return v->d->notes & NXV_NOTE_PREFIXES;
}

static enum nx_verify_result verify_instruction(struct nx_verifier *v)
{
	bool taken;
	enum nx_verify_result result;

	if (v->d->insn.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || v->d->has_more ||
	    v->listing == NXV_REFUSED || !has_good_prefixes(v))
		return NX_VERIFY_FORBIDDEN;
	if (v->trap_due && v->listing != NXV_TRAP)
		return NX_VERIFY_TRAP;
	v->trap_due = false;
	if (v->thunks->blind && (v->undo != UNDO_NOTHING || v->d->notes & NXV_NOTE_CONSTANT)) {
		result = nx_verify_constants(v);
		if (result != NX_VERIFY_OK)
			return result;
	}
	if (v->expect == EXPECT_THUNK)
		return verify_thunk(v);
	if (v->expect == EXPECT_COUNT)
		return verify_count(v);
	if (v->expect != EXPECT_ANY)
		return verify_stub(v);
	result = verify_check(v, &taken);
	if (result != NX_VERIFY_OK || taken)
		return result;
	if (!v->falls && is_addend(v, ZYDIS_MNEMONIC_SUB)) {
		/* Only the check's jne may lead here, so that r14 becomes a number. */
		v->map[v->at] |= NXV_STUB | NXV_FIXED;
		v->stub = v->at;
		v->expect = EXPECT_STUB_LINEAR;
		v->falls = true;
		return NX_VERIFY_OK;
	}
	switch (v->listing) {
	case NXV_TRAP: /* padding where nothing leads; stops what gets there in spite of all */
		v->map[v->at] |= NXV_FIXED;
		return v->falls ? NX_VERIFY_FORBIDDEN : NX_VERIFY_OK;
	case NXV_JUMP:
	case NXV_CALL:
		v->falls = true;
		result = verify_stray_thunk(v);
		return result == NX_VERIFY_CALL && v->listing == NXV_JUMP ? verify_branch(v)
									  : result;
	case NXV_BRANCH:
		v->falls = true;
		return verify_branch(v);
	default:
		v->falls = true;
		return v->d->notes & NXV_NOTE_HARMLESS ? NX_VERIFY_OK : nx_verify_operands(v);
	}
}

static bool decode(struct nx_verifier *v, uint32_t at)
{
	v->d = nx_decode_form(v->cache, NX_CODE_64, v->code + at, v->size - at);
	if (!v->d)
		return false;
	v->at = at;
	v->next = at + v->d->insn.length;
	v->listing = nx_verify_listing(v->d->insn.mnemonic);
	return true;
}

/* Run pass 1 over so many instructions from v->next on. */
static enum nx_verify_result verify_code(struct nx_verifier *v)
{
	enum nx_verify_result result;

	for (unsigned i = 0; i < STEP_INSNS && v->next < v->size; i++) {
		uint32_t at = v->next;

		v->at = at;
		if (!decode(v, at))
			return NX_VERIFY_UNDECODABLE;
		v->map[at] |= NXV_START;
		result = verify_instruction(v);
		if (result != NX_VERIFY_OK)
			return result;
	}
	if (v->next < v->size)
		return NX_VERIFY_OK;
	v->pass++;
	if (v->trap_due)
		return NX_VERIFY_TRAP;
	return v->falls ? NX_VERIFY_FALLS_OFF : NX_VERIFY_OK;
}

static enum nx_verify_result verify_entries(struct nx_verifier *v)
{
	const struct nx_translation *t = v->translation;

	for (unsigned i = 0; i < t->entries; i++) {
		uint32_t at = t->entry[i].offset;

		v->at = at;
		if (at >= v->size || (v->map[at] & (NXV_START | NXV_FIXED)) != NXV_START)
			return NX_VERIFY_ENTRY;
		v->map[at] |= NXV_TARGET | NXV_ENTRY;
	}
	return NX_VERIFY_OK;
}

/* Check that each entry is an endbr64, and that no other bytes could be taken for one: those of a
 * constant that the guest chose, say. */
static enum nx_verify_result verify_landings(struct nx_verifier *v)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};

	for (uint32_t at = 0; at < v->size; at++) {
		bool lands = v->size - at >= sizeof(endbr64) &&
			     !nx_memcmp(v->code + at, endbr64, sizeof(endbr64));

		v->at = at;
		if (lands != !!(v->map[at] & NXV_ENTRY))
			return NX_VERIFY_LANDING;
	}
	return NX_VERIFY_OK;
}

/* Pass 2. */
static enum nx_verify_result verify_map(struct nx_verifier *v)
{
	bool known = false; /* nothing lands between what established r14 and here */

	for (uint32_t at = next_fact(v, 0); at < v->size; at = next_fact(v, at + 1)) {
		unsigned is = v->map[at];

		v->at = at;
		if (is & NXV_TARGET) {
			if ((is & (NXV_START | NXV_FIXED)) != NXV_START)
				return NX_VERIFY_BRANCH;
			known = false;
		}
		if (is & NXV_BACK) {
			enum nx_verify_result result = verify_link(v, at);

			if (result != NX_VERIFY_OK)
				return result;
			known = true;
		}
		if ((is & NXV_STUB) &&
		    (!(v->map[v->link[at]] & NXV_BACK) || v->link[v->link[at]] != at))
			return NX_VERIFY_CHECK;
		if ((is & NXV_COUNTS) && !(v->map[v->link[at + 1]] & NXV_LEAVES))
			return NX_VERIFY_COUNT;
		if (!known && (is & NXV_POINTER))
			return NX_VERIFY_MEMORY;
		if (!known && (is & NXV_VALUE))
			return NX_VERIFY_RESERVED_REGISTER;
		if (is & NXV_SETS)
			known = true;
	}
	return NX_VERIFY_OK;
}

/* For the report: the first branch to the offset, or the offset itself. */
static uint32_t find_branch(struct nx_verifier *v, uint32_t to)
{
	uint32_t target;

	for (uint32_t at = 0; at < v->size && decode(v, at); at = v->next)
		if ((v->listing == NXV_BRANCH || v->listing == NXV_JUMP) && is_direct(v) &&
		    branch_target(v, &target) && target == to)
			return at;
	return to;
}

_Static_assert(sizeof(struct nx_verifier) <= sizeof(((struct nx_verify_scratch *)NULL)->state),
	       "scratch too small");

void nx_verify_begin(const uint8_t *code, uint32_t size, const struct nx_translation *translation,
		     const struct nx_thunks *thunks, struct nx_verify_scratch *scratch)
{
	struct nx_verifier *v = (struct nx_verifier *)scratch->state;

	*v = (struct nx_verifier){
	    .code = code,
	    .size = size,
	    .translation = translation,
	    .thunks = thunks,
	    .map = scratch->map,
	    .link = scratch->link,
	    .cache = &scratch->decoded,
	    .falls = true,
	};
	if (size > NX_VERIFY_MAX_BYTES)
		return;
	nx_memset(v->map, 0, size * sizeof(v->map[0]));
}

static enum nx_verify_result verify_some(struct nx_verifier *v)
{
	enum nx_verify_result result;

	if (v->size > NX_VERIFY_MAX_BYTES || v->translation->sites > NX_MAX_SITES ||
	    v->translation->entries > NX_MAX_BLOCKS)
		return NX_VERIFY_TOO_LARGE;
	if (v->pass == PASS_CODE)
		return verify_code(v);
	if (v->pass++ == PASS_END)
		return nx_verify_end(v);
	result = verify_entries(v);
	if (result == NX_VERIFY_OK && v->thunks->branches == NX_BRANCHES_TRACKED)
		result = verify_landings(v);
	if (result == NX_VERIFY_OK)
		result = verify_map(v);
	if (result == NX_VERIFY_BRANCH)
		v->at = find_branch(v, v->at);
	return result;
}

enum nx_progress nx_verify_step(struct nx_verify_scratch *scratch, enum nx_verify_result *result)
{
	struct nx_verifier *v = (struct nx_verifier *)scratch->state;

	*result = verify_some(v);
	if (*result != NX_VERIFY_OK)
		return NX_FAILED;
	return v->pass > PASS_END ? NX_DONE : NX_MORE;
}

enum nx_verify_result nx_verify(const uint8_t *code, uint32_t size,
				const struct nx_translation *translation,
				const struct nx_thunks *thunks, struct nx_verify_scratch *scratch,
				uint32_t *where)
{
	const struct nx_verifier *v = (const struct nx_verifier *)scratch->state;
	enum nx_verify_result result;

	nx_verify_begin(code, size, translation, thunks, scratch);
	while (nx_verify_step(scratch, &result) == NX_MORE)
		;
	*where = result == NX_VERIFY_OK ? 0 : v->at;
	return result;
}

const char *nx_verify_text(enum nx_verify_result result)
{
	static const char *const text[] = {
#define NX_X(name, words) words,
	    NX_VERIFY_RESULTS(NX_X)
#undef NX_X
	};

	return (unsigned)result < sizeof(text) / sizeof(text[0]) ? text[result] : "?";
}
