/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * verifier.h - private to verify/: what its files share. verify.c follows control, operand.c knows
 * instructions and operands, end.c proves that the code ends.
 */
#ifndef NX_VERIFIER_H
#define NX_VERIFIER_H

#include "insn/decode.h"
#include "verify/verify.h"

/* Facts about a byte of code. */
#define NXV_START (1u << 0)   /* an instruction starts here */
#define NXV_TARGET (1u << 1)  /* a branch lands here, or it is an entry point */
#define NXV_FIXED (1u << 2)   /* only what comes before it may lead here */
#define NXV_BACK (1u << 3)    /* r14 becomes a pointer before this instruction; link: its stub */
#define NXV_STUB (1u << 4)    /* first instruction of a miss stub; link: its back, then its site */
#define NXV_POINTER (1u << 5) /* uses r14 as a pointer */
#define NXV_VALUE (1u << 6)   /* uses r14 as a number */
#define NXV_SETS (1u << 7)    /* overwrites r14 with a number */
#define NXV_CONTROL (1u << 8) /* ends a straight stretch; link + 1: where TAKEN leads */
#define NXV_TAKEN (1u << 9)   /* may go elsewhere */
#define NXV_FALLS (1u << 10)  /* may fall through without counting a turn */
#define NXV_COUNTS (1u << 11) /* falls through with a turn counted */
#define NXV_LEAVES (1u << 12) /* stores the site that the translation is left with */
/* Of CONTROL, on the way through the code: */
#define NXV_VISITED (1u << 13)
#define NXV_ON_PATH (1u << 14) /* link: the one before it */
#define NXV_ENTRY (1u << 15)   /* an entry point */

/* A mispredicted check's accesses go to the first slots (rule 4). */
_Static_assert(NX_CHECK_BYTES <= NX_CTX_WRITABLE, "that emitted code may write anyway");

enum nx_listing {
	NXV_REFUSED,  /* what is not in the list */
	NXV_PLAIN,    /* reads and writes its operands */
	NXV_KEEPING,  /* may leave the old value in its first operand */
	NXV_BIT_TEST, /* a register bit offset addresses outside the operand */
	NXV_WIDE,     /* without REX.W vendors differ in the operand's size */
	NXV_NO_FORM,  /* no operands of its own, no prefix but a mandatory one */
	NXV_HINT,     /* addresses memory without accessing it */
	NXV_PREFETCH,
	NXV_TRAP,
	NXV_BRANCH,
	NXV_JUMP,
	NXV_CALL,
};

/* Notes on all instructions with the same head (struct nx_decoded). */
#define NXV_NOTE_SEEN (1u << 0)     /* the notes have been made */
#define NXV_NOTE_PREFIXES (1u << 1) /* the prefixes are permitted */
#define NXV_NOTE_HARMLESS (1u << 2) /* the operands are proven, whatever was before */
#define NXV_NOTE_CONSTANT (1u << 3) /* there is room for a long constant */

/* The check sequence's instructions, in order; see context.h. */
enum nx_check_step {
	NXV_CHECK_COPY,
	NXV_CHECK_SHIFT,
	NXV_CHECK_MASK,
	NXV_CHECK_LAST_BYTE,
	NXV_CHECK_PAGE,
	NXV_CHECK_ADD,
	NXV_CHECK_COMPARE,
	NXV_CHECK_BRANCH,
	NXV_CHECK_SELECT,
	NXV_CHECK_STEPS
};

struct nx_verifier {
	const uint8_t *code;
	uint32_t size;
	const struct nx_translation *translation;
	const struct nx_thunks *thunks;
	uint16_t *map;
	uint16_t *link;
	struct nx_decode_cache *cache;

	enum { PASS_CODE, PASS_MAP, PASS_END } pass;
	/* The instruction at hand. */
	uint32_t at, next;
	enum nx_listing listing;
	struct nx_decoded *d; /* in the cache */

	/* What the instructions before it lead to. */
	bool falls;    /* control may fall through to it */
	bool trap_due; /* it has to be int3 */
	enum { NXV_R14_UNKNOWN, NXV_R14_VALUE, NXV_R14_POINTER } r14;
	unsigned pointer_bytes;
	bool pointer_write;
	enum {
		EXPECT_ANY,
		EXPECT_THUNK,
		EXPECT_COUNT,
		EXPECT_STUB_LINEAR,
		EXPECT_STUB_SITE,
		EXPECT_STUB_CALL,
		EXPECT_STUB_JUMP
	} expect;
	/* Of a blinded constant (context.h, rule 10): the instruction that has it, whose register
	 * it is, and what has to follow. */
	uint32_t key_at;
	ZydisRegister key_reg;
	enum { UNDO_NOTHING, UNDO_BY_KEY, UNDO_BOTH_HALVES, UNDO_BY_SWAP } undo;
	uint32_t site, site_at; /* stored by the instruction before, which is there */
	uint32_t stub;          /* the stub that has begun */
	/* The check sequence that may have begun. */
	unsigned step;
	uint32_t step_at[NXV_CHECK_STEPS];
	uint32_t check_bytes, check_stub;
	bool check_write;
};

/* Return the first byte from at on, or the code's size, of which one of the facts is known. */
static inline uint32_t next_with(const struct nx_verifier *v, uint32_t at, uint16_t facts)
{
	const uint64_t in_each = facts * 0x0001000100010001ull;
	uint64_t four;

	while (v->size - at >= 4) {
		nx_memcpy(&four, v->map + at, sizeof(four));
		four &= in_each;
		if (four)
			return at + (uint32_t)__builtin_ctzll(four) / 16;
		at += 4;
	}
	while (at < v->size && !(v->map[at] & facts))
		at++;
	return at;
}

/* Likewise, about which there is any. */
static inline uint32_t next_fact(const struct nx_verifier *v, uint32_t at)
{
	return next_with(v, at, UINT16_MAX);
}

static inline bool is_reg(const struct nx_verifier *v, unsigned i, ZydisRegister reg)
{
	return v->d->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && v->d->op[i].reg.value == reg;
}

static inline bool is_imm(const struct nx_verifier *v, unsigned i, int64_t value)
{
	return v->d->op[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && v->d->op[i].imm.value.s == value;
}

/* [r15 + index + disp], or [r15 + disp] */
static inline bool is_context(const struct nx_verifier *v, unsigned i, ZydisRegister index,
			      int64_t disp, unsigned bytes)
{
	const ZydisDecodedOperand *op = &v->d->op[i];

	return op->type == ZYDIS_OPERAND_TYPE_MEMORY && op->mem.type == ZYDIS_MEMOP_TYPE_MEM &&
	       op->mem.base == ZYDIS_REGISTER_R15 && op->mem.index == index &&
	       (index == ZYDIS_REGISTER_NONE || op->mem.scale == 1) && op->mem.disp.value == disp &&
	       op->size == 8 * bytes;
}

/* A branch to an address in the code itself. */
static inline bool is_direct(const struct nx_verifier *v)
{
	return v->d->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && v->d->op[0].imm.is_relative;
}

/* mov dword [r15 + NX_CTX_SITE], K */
static inline bool is_site_store(const struct nx_verifier *v)
{
	return v->d->insn.mnemonic == ZYDIS_MNEMONIC_MOV &&
	       is_context(v, 0, ZYDIS_REGISTER_NONE, NX_CTX_SITE, 4) &&
	       v->d->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

/* sub dword [r15 + NX_CTX_TURNS or NX_CTX_IDLE_TURNS], 1 */
static inline bool is_count(const struct nx_verifier *v)
{
	return v->d->insn.mnemonic == ZYDIS_MNEMONIC_SUB && is_imm(v, 1, 1) &&
	       (is_context(v, 0, ZYDIS_REGISTER_NONE, NX_CTX_TURNS, 4) ||
		is_context(v, 0, ZYDIS_REGISTER_NONE, NX_CTX_IDLE_TURNS, 4));
}

/* Check the constants of an instruction: each long one is blinded. */
enum nx_verify_result nx_verify_constants(struct nx_verifier *v);
/* Return how the instruction is listed, or REFUSED. */
enum nx_listing nx_verify_listing(ZydisMnemonic mnemonic);
bool nx_verify_prefixes(const struct nx_verifier *v);
/* Check all operands, hidden ones included, of an instruction without effect on control. */
enum nx_verify_result nx_verify_operands(struct nx_verifier *v);
/* Check, after all else, that each path through the code ends. */
enum nx_verify_result nx_verify_end(struct nx_verifier *v);

#endif
