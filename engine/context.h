/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * context.h - what emitted code and the engine share: the context that r15 points to while a
 * translation runs, and the rules of emitted code. Included by C and by assembly; the offsets are
 * proven against the C structure at the end.
 *
 * Rules of emitted code (what translate.c emits and verify.c, independently, proves)
 *
 *  1. Host registers. r15 holds the context, rsp the host's stack; neither is ever written, and
 *     rsp is never read by an operand. r14 (pointer), r11 and r10 are scratch. The other eleven
 *     hold the guest registers of the same number. Guest rsp, r10, r11, r14 and r15 live in
 *     their context slots (their "home") and visit a scratch register for one instruction.
 *     r15 is named as the base of a context slot, never read as a value but by the check sequence
 *     (rule 4). nx_enter and the thunks leave no host address in r10 and r11, nor in r14 but for
 *     the pointer after a miss and the entry's own address there.
 *  2. Memory is reached in three forms only:
 *       [r15 + disp]         a context slot, by rule 3;
 *       [r15 + r11 + disp]   the software TLB, inside the check sequence (rule 4) only;
 *       [r14 + disp]         a guest access: no index, within the bytes that the check that
 *                            dominates it asked for, and a store only after a check for writing.
 *  3. Context slots: emitted code may read the slots below NX_CTX_TLB, may write those below
 *     NX_CTX_WRITABLE, without lock. NX_CTX_SITE is written by mov dword [r15 + NX_CTX_SITE], K
 *     only, with K a site of the translation, and the thunk that it is for follows at once. The
 *     counts of turns are written by rule 9 only, the TLB is read by the check sequence only, the
 *     thunk pointers by jmp and call only.
 *  4. The check sequence, with r14 the linear address, for an access of N bytes, read or write:
 *       mov r11, r14
 *       shr r11, 7
 *       and r11d, NX_TLB_MASK
 *       lea r10, [r14 + N - 1]
 *       and r10, -4096
 *       add r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
 *       cmp r10, [r15 + r11 + NX_CTX_TLB + NX_TLB_READ (or NX_TLB_WRITE)]
 *       jne miss
 *       cmovne r14, r15
 *     back:
 *     and, out of line,
 *     miss:
 *       sub r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
 *       mov [r15 + NX_CTX_LINEAR], r14
 *       mov dword [r15 + NX_CTX_SITE], K
 *       call [r15 + NX_CTX_THUNK_MISS], or what rule 6 has in its place
 *       jmp back
 *     where site K is an access of at least N bytes, for writing if the check is (then it may be
 *     read as well). N is 1 to NX_CHECK_BYTES. Each check has a stub of its own. Nothing falls
 *     into the stub; only its jne leads there; nothing but the fall through and the stub's jmp
 *     leads to back; no branch and no entry lands inside either.
 *     Instead of a stub, jne may lead forward to code like any other, which does in another way
 *     what was to be done with the pointer. There r14 has to be overwritten, as at any target.
 *     The cmovne is for a branch that is mispredicted: what follows then waits for the comparison,
 *     and is done to the first slots, the guest's own registers.
 *     At back, r14 is a host pointer to N bytes, until r14 is overwritten, control arrives, or
 *     a helper runs. As long as r14 may be a pointer it is used by rule 2, or overwritten in full
 *     by an instruction that does not read it (so not by xor, cmov or bsf): the guest must not
 *     learn host addresses. After an entry, a branch target or a helper r14 may be one: compute
 *     it again between there and its use, the check included. Otherwise r14 is a number like
 *     those in r10 and r11.
 *  5. Flags. The guest's six arithmetic flags are in the host's flags or, as lahf/seto leave
 *     them in ax, in NX_CTX_FLAGS; the rest of rflags never leaves memory. DF of the host is 0.
 *  6. Calls are call [r15 + NX_CTX_THUNK_MISS] and call [r15 + NX_CTX_THUNK_HELPER], the latter
 *     with a site in NX_CTX_SITE, stored by the instruction before it. After the helper, no
 *     pointer is valid. With direct branches (nx_memory.branches) they are call nx_thunk_miss and
 *     call nx_thunk_helper, the displacement counted from where the code will run.
 *  7. A translation ends a path with jmp [r15 + NX_CTX_THUNK_EXIT], or with direct branches jmp
 *     nx_thunk_exit, the instruction before it having stored a site in NX_CTX_SITE. Every other
 *     branch is direct, to the start of an instruction of the same translation. No path falls off
 *     the end. With direct branches int3 follows each jmp (straight-line speculation). With
 *     tracked ones each entry is an endbr64, and the bytes of one occur nowhere else.
 *  8. Instructions are integer instructions of user mode only, from the list in
 *     verify/operand.c: none that faults on valid operands (div, idiv; cmpxchg16b when
 *     misaligned), none that some processors lack (popcnt, movbe), no string instruction, no push
 *     or pop, no bit test of memory with its offset in a register, no movsxd without REX.W.
 *     Prefixes: 66, lock and REX, each at most once, REX last; on direct branches none. Padding
 *     is int3, where nothing leads.
 *  9. Every cycle counts its turns, so that a translation ends whatever the guest does:
 *       sub dword [r15 + NX_CTX_TURNS (or NX_CTX_IDLE_TURNS)], 1
 *       jb leave
 *     with nothing landing between the two, and at leave the two instructions of rule 7.
 * 10. With nx_memory.blind no constant of more than 16 bits stands in the code as the guest chose
 *     it. The immediate of a mov to a register, and the displacement of a lea, are less than they
 *     should be by a key, which the next instruction adds:
 *       mov r, constant - key
 *       lea r, [r + key]
 *     or
 *       lea r, [... + constant - key]
 *       lea r, [r + key]
 *     The key is that of the place of the mov or lea (nx_blind_key()), which the guest cannot know.
 *     Of an immediate of 64 bits each half has a key, the second that of the place one byte on:
 *       mov r, constant
 *       lea r, [r + key]
 *       bswap r
 *       lea r, [r + second key]
 *     No other instruction has such a constant but branches, which lead into the code or to the
 *     thunks.
 */
#ifndef NX_CONTEXT_H
#define NX_CONTEXT_H

/* Slots that emitted code may write, all within an 8-bit displacement: gpr[16] first. */
#define NX_CTX_GPR 0
#define NX_CTX_FLAGS 128
#define NX_CTX_SITE 136
#define NX_CTX_LINEAR 144
#define NX_CTX_TEMP 152 /* two scratch quadwords */
#define NX_CTX_WRITABLE 168
/* Counted down by emitted code (rule 9), 32 bits of each. */
#define NX_CTX_TURNS 168      /* weak backedges still allowed */
#define NX_CTX_IDLE_TURNS 176 /* backedges without an exit still allowed */

/* Read-only for emitted code. */
#define NX_CTX_RFLAGS 184
#define NX_CTX_SEG 192 /* NX_SREGS * NX_SEG_SIZE */
#define NX_SEG_SIZE 32
#define NX_SEG_BASE 0
#define NX_SEG_READ_END 8   /* offsets below it may be read; 0: none */
#define NX_SEG_WRITE_END 16 /* likewise for writing */
#define NX_SEG_SELECTOR 24
#define NX_CTX_SEG_LOWER 384 /* 8 bytes for each: offsets below it may not be accessed */
#define NX_CTX_SLIDE 432     /* added to what 64-bit user code computes from rip (slide.c) */
#define NX_CTX_TLB 448
#define NX_TLB_ENTRIES 64
#define NX_TLB_ENTRY_SIZE 32
#define NX_TLB_MASK ((NX_TLB_ENTRIES - 1) * NX_TLB_ENTRY_SIZE)
#define NX_TLB_SHIFT 7 /* linear address >> 7, masked, is an entry's offset: 4096 / 32 = 1 << 7 */
#define NX_CHECK_BYTES 168 /* that a check vouches for, at most: of slots that may be written */
#define NX_TLB_READ 0
#define NX_TLB_WRITE 8
#define NX_TLB_ADDEND 16
#define NX_CTX_READABLE (NX_CTX_TLB + NX_TLB_ENTRIES * NX_TLB_ENTRY_SIZE)

/* For jmp and call only. */
#define NX_CTX_THUNK_EXIT NX_CTX_READABLE
#define NX_CTX_THUNK_MISS (NX_CTX_READABLE + 8)
#define NX_CTX_THUNK_HELPER (NX_CTX_READABLE + 16)

/* Not for emitted code. */
#define NX_CTX_HOST_RSP (NX_CTX_READABLE + 24)

#ifndef __ASSEMBLER__

#include "common.h"

struct nx_context_seg {
	uint64_t base;
	uint64_t read_end, write_end;
	uint64_t selector;
};

/* A tag is the linear page's address, or 1: matches nothing. */
struct nx_tlb_entry {
	uint64_t read, write;
	uint64_t addend;  /* host address minus linear address */
	uint64_t guarded; /* for C: may be written, but code lies on it, so write does not match */
};

struct nx_context {
	uint64_t gpr[NX_GPRS];
	uint64_t flags;
	uint32_t site, unused_site;
	uint64_t linear;
	uint64_t temp[2];
	uint64_t turns, idle_turns;
	uint64_t rflags; /* without the arithmetic flags, which are in flags */
	struct nx_context_seg seg[NX_SREGS];
	uint64_t seg_lower[NX_SREGS]; /* 0 but for expand-down segments */
	uint64_t slide, unused_slide;
	struct nx_tlb_entry tlb[NX_TLB_ENTRIES];
	const void *thunk_exit, *thunk_miss, *thunk_helper;
	uint64_t host_rsp;
};

/* What rules 6 and 7 depend on: the form of the branches to the thunks, and for direct ones where
 * the translation will run and where the thunks are. And what rule 10 depends on. */
struct nx_thunks {
	enum nx_branches branches;
	uint64_t code;
	uint64_t exit, miss, helper;
	uint64_t blind; /* 0: constants need not be blinded */
};

/* Return whether rule 10 lets a constant stand as it is. */
static inline bool nx_is_short(int64_t value)
{
	return value >= INT16_MIN && value <= UINT16_MAX;
}

/*
 * Return the key of rule 10 for this offset of the code, 31 bits of it. For a negative constant it
 * is the complement of that: so the difference of the two, as their sum, has 32 bits.
 */
static inline int32_t nx_blind_key(const struct nx_thunks *thunks, uint32_t offset)
{
	uint64_t place = nx_mix(thunks->blind, thunks->code + offset);

	return (int32_t)(nx_mix(nx_mix(place, thunks->blind), place) >> 33);
}

#define NX_AT(member, offset) \
	_Static_assert(offsetof(struct nx_context, member) == (offset), #member)
NX_AT(gpr, NX_CTX_GPR);
NX_AT(flags, NX_CTX_FLAGS);
NX_AT(site, NX_CTX_SITE);
NX_AT(linear, NX_CTX_LINEAR);
NX_AT(temp, NX_CTX_TEMP);
NX_AT(turns, NX_CTX_TURNS);
NX_AT(idle_turns, NX_CTX_IDLE_TURNS);
NX_AT(rflags, NX_CTX_RFLAGS);
NX_AT(seg, NX_CTX_SEG);
NX_AT(seg[0].selector, NX_CTX_SEG + NX_SEG_SELECTOR);
NX_AT(seg[1], NX_CTX_SEG + NX_SEG_SIZE);
NX_AT(seg_lower, NX_CTX_SEG_LOWER);
NX_AT(slide, NX_CTX_SLIDE);
NX_AT(tlb, NX_CTX_TLB);
NX_AT(tlb[0].write, NX_CTX_TLB + NX_TLB_WRITE);
NX_AT(tlb[0].addend, NX_CTX_TLB + NX_TLB_ADDEND);
NX_AT(tlb[1], NX_CTX_TLB + NX_TLB_ENTRY_SIZE);
NX_AT(thunk_exit, NX_CTX_THUNK_EXIT);
NX_AT(thunk_miss, NX_CTX_THUNK_MISS);
NX_AT(thunk_helper, NX_CTX_THUNK_HELPER);
NX_AT(host_rsp, NX_CTX_HOST_RSP);
#undef NX_AT

/* From now on stores to this host page miss. */
void nx_tlb_protect(struct nx_engine *engine, const void *page);

/* rflags' arithmetic bits, in the form that lahf and seto leave in ax (context.h, rule 5). */
static inline uint64_t nx_flags_to_context(uint64_t rflags)
{
	return (rflags & (NX_FL_SF | NX_FL_ZF | NX_FL_AF | NX_FL_PF | NX_FL_CF)) << 8 | 2u << 8 |
	       ((rflags & NX_FL_OF) != 0);
}

static inline uint64_t nx_flags_from_context(uint64_t flags)
{
	return (flags >> 8 & (NX_FL_SF | NX_FL_ZF | NX_FL_AF | NX_FL_PF | NX_FL_CF)) |
	       (flags & 1 ? NX_FL_OF : 0);
}

#endif /* __ASSEMBLER__ */
#endif
