// SPDX-License-Identifier: GPL-2.0-only OR MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"

enum { P = 1, W = 2, U = 4, A = 32, D = 64, PS = 128, RWX = P | W | U };
#define NX (1ull << 63)

/* Guest-physical memory: PAGES pages from 0 on; a device above. Page 0 stays unused. */
#define PAGES 16
#define DEVICE 0xe0000000ull

static uint8_t memory[PAGES][NX_PAGE_SIZE] __attribute__((aligned(4096)));
static bool readonly[PAGES];
static struct nx_engine engine;

/* What another vCPU does just before the engine reads a page for the countdown'th time. */
static struct {
	unsigned countdown;
	bool again;
	uint64_t *entry;
	uint64_t flip;
} other;

/* Pages that the engine has asked for. */
static unsigned asked;

static void map_page(void *data, uint64_t gpa, struct nx_page *page)
{
	asked++;
	assert_ptr_equal(data, memory);
	assert_int_equal(gpa % NX_PAGE_SIZE, 0);
	memset(page, 0, sizeof(*page));
	if (other.countdown && --other.countdown == 0) {
		*other.entry ^= other.flip;
		if (other.again)
			other.countdown = 4;
	}
	if (gpa >= sizeof(memory)) {
		page->kind = NX_PAGE_DEVICE;
		return;
	}
	page->kind = NX_PAGE_RAM;
	page->host = memory[gpa / NX_PAGE_SIZE];
	page->writable = !readonly[gpa / NX_PAGE_SIZE];
}

static const struct nx_host host = {.map_page = map_page};

/* Pages of the tables, in every mode: the root, then one per level. */
#define ROOT 0x1000ull
#define TABLE(n) (ROOT + 0x1000ull * (n))
#define LINEAR 0x12345678ull

static uint64_t *wide(unsigned table, unsigned index)
{
	return (uint64_t *)memory[1 + table] + index;
}

static uint32_t *narrow(unsigned table, unsigned index)
{
	return (uint32_t *)memory[1 + table] + index;
}

static void reset(void)
{
	memset(memory, 0, sizeof(memory));
	memset(readonly, 0, sizeof(readonly));
	memset(&engine.state, 0, sizeof(engine.state));
	memset(&other, 0, sizeof(other));
	engine.host = &host;
	engine.host_data = memory;
	engine.context.rflags = 2;
	engine.cpl = 0;
	engine.state.physical_bits = 40;
	engine.state.cr0 = NX_CR0_PE | NX_CR0_PG | NX_CR0_WP;
	engine.state.cr3 = ROOT;
}

/* Everything allowed at every level; leaf at the returned place. */
static uint32_t *make_32(uint32_t leaf)
{
	reset();
	*narrow(0, LINEAR >> 22) = (uint32_t)TABLE(1) | RWX;
	*narrow(1, LINEAR >> 12 & 1023) = leaf;
	return narrow(1, LINEAR >> 12 & 1023);
}

static uint64_t *make_pae(uint64_t leaf)
{
	reset();
	engine.state.cr4 = NX_CR4_PAE;
	engine.state.efer = NX_EFER_NXE;
	*wide(0, LINEAR >> 30) = TABLE(1) | P;
	*wide(1, LINEAR >> 21 & 511) = TABLE(2) | RWX;
	*wide(2, LINEAR >> 12 & 511) = leaf;
	return wide(2, LINEAR >> 12 & 511);
}

static uint64_t *make_long(unsigned levels, uint64_t linear, uint64_t leaf)
{
	unsigned table = 0;

	reset();
	engine.state.cr4 = NX_CR4_PAE | (levels == 5 ? NX_CR4_LA57 : 0);
	engine.state.efer = NX_EFER_NXE | NX_EFER_LMA;
	for (unsigned level = levels; level > 1; level--, table++)
		*wide(table, linear >> (3 + 9 * level) & 511) = TABLE(table + 1) | RWX;
	*wide(table, linear >> 12 & 511) = leaf;
	return wide(table, linear >> 12 & 511);
}

/*
 * A walk after others of the same stay. Also proves that a walk that is refused changes nothing in
 * memory.
 */
static enum nx_status walk_on(uint64_t linear, enum nx_access access, uint64_t *gpa)
{
	static uint8_t before[sizeof(memory)];
	enum nx_status status;

	*gpa = 0xdead;
	memcpy(before, memory, sizeof(memory));
	status = nx_walk(&engine, linear, access, gpa);
	if (status != NX_OK && !other.entry)
		assert_memory_equal(before, memory, sizeof(memory));
	return status;
}

static enum nx_status walk_to(uint64_t linear, enum nx_access access, uint64_t *gpa)
{
	nx_walk_drop(&engine);
	return walk_on(linear, access, gpa);
}

static enum nx_status walk(enum nx_access access)
{
	uint64_t gpa;

	return walk_to(LINEAR, access, &gpa);
}

#define assert_walk(linear, access, expected)                            \
	do {                                                             \
		uint64_t gpa_;                                           \
		assert_int_equal(walk_to(linear, access, &gpa_), NX_OK); \
		assert_int_equal(gpa_, expected);                        \
	} while (0)

static void paging_off_truncates(void **state)
{
	(void)state;
	reset();
	engine.state.cr0 = NX_CR0_PE;
	assert_walk(0x12345678, NX_WRITE, 0x12345678);
	assert_walk(0x10010ffef0, NX_READ, 0x010ffef0);
	engine.state.cr0 = 0;
	assert_walk(0x10fff0, NX_FETCH, 0x10fff0);
}

static void legacy_small_page(void **state)
{
	uint32_t *leaf = make_32(0xabcde000 | RWX);

	(void)state;
	assert_walk(LINEAR, NX_READ, 0xabcde678);
	assert_int_equal(*leaf, 0xabcde000 | RWX | A);
	assert_int_equal(*narrow(0, LINEAR >> 22), TABLE(1) | RWX | A);
	/* Above 4 GiB there is nothing: the address wraps. */
	assert_walk(LINEAR | 1ull << 32, NX_WRITE, 0xabcde678);
	assert_int_equal(*leaf, 0xabcde000 | RWX | A | D);
	assert_int_equal(*narrow(0, LINEAR >> 22), TABLE(1) | RWX | A);
	/* PAT in a leaf is not a size. */
	*leaf |= PS;
	assert_walk(LINEAR, NX_READ, 0xabcde678);
	/* The neighbours are untouched. */
	assert_int_equal(leaf[1], 0);
	*leaf = 0xabcde000 | W | U;
	assert_int_equal(walk(NX_READ), NX_LEAVE_PAGE_FAULT);
	*narrow(0, LINEAR >> 22) &= ~(uint32_t)P;
	*leaf |= P;
	assert_int_equal(walk(NX_READ), NX_LEAVE_PAGE_FAULT);
}

static void legacy_large_page(void **state)
{
	uint32_t *pde;

	(void)state;
	make_32(0xabcde000 | RWX);
	pde = narrow(0, LINEAR >> 22);
	/* Without CR4.PSE the bit is ignored. */
	*pde |= PS;
	assert_walk(LINEAR, NX_READ, 0xabcde678);
	engine.state.cr4 = NX_CR4_PSE;
	*pde = 0xab400000 | RWX | PS;
	assert_walk(LINEAR, NX_WRITE, 0xab400000 | (LINEAR & 0x3fffff));
	assert_int_equal(*pde, 0xab400000 | RWX | PS | A | D);
	/* PAT is bit 12 here. */
	*pde |= 1u << 12;
	assert_walk(LINEAR, NX_WRITE, 0xab400000 | (LINEAR & 0x3fffff));
	/* PSE-36: bits 39 to 32 of the address in 20 to 13. */
	*pde = 0xab400000 | RWX | PS | 0xa5u << 13;
	assert_walk(LINEAR, NX_READ, 0xa5ab400000 | (LINEAR & 0x3fffff));
	engine.state.physical_bits = 36;
	assert_int_equal(walk(NX_READ), NX_LEAVE_PAGE_FAULT);
	*pde = 0xab400000 | RWX | PS | 0x5u << 13;
	assert_walk(LINEAR, NX_READ, 0x5ab400000 | (LINEAR & 0x3fffff));
	*pde = 0xab400000 | RWX | PS | 1u << 21;
	assert_int_equal(walk(NX_READ), NX_LEAVE_PAGE_FAULT);
}

static void pae_pages(void **state)
{
	uint64_t *leaf = make_pae(0x9abcde000 | RWX), *pde = wide(1, LINEAR >> 21 & 511);

	(void)state;
	assert_walk(LINEAR, NX_WRITE, 0x9abcde678);
	assert_int_equal(*leaf, 0x9abcde000 | RWX | A | D);
	assert_int_equal(*pde, TABLE(2) | RWX | A);
	/* A PDPTE has no accessed bit. */
	assert_int_equal(*wide(0, 0), TABLE(1) | P);

	*pde = 0x9ab400000 | RWX | PS | 1 << 12;
	assert_walk(LINEAR, NX_READ, 0x9ab400000 | (LINEAR & 0x1fffff));
	assert_int_equal(*pde, 0x9ab400000 | RWX | PS | A | 1 << 12);
	for (unsigned bit = 13; bit < 21; bit++) {
		*pde = 0x9ab400000 | RWX | PS | 1ull << bit;
		assert_int_equal(walk(NX_READ), NX_LEAVE_PAGE_FAULT);
	}
	/* The directory-pointer table is 32-byte aligned and may lie anywhere in a page. */
	make_pae(0x9abcde000 | RWX);
	*wide(0, 0) = 0;
	*wide(0, 4) = TABLE(1) | P;
	engine.state.cr3 = ROOT + 32;
	assert_walk(LINEAR, NX_READ, 0x9abcde678);
	/* Addresses from 3 GiB on take the last of the four. */
	make_pae(0x9abcde000 | RWX);
	*wide(0, 3) = TABLE(1) | P;
	*wide(0, 0) = 0;
	assert_walk(LINEAR | 0xc0000000, NX_READ, 0x9abcde678);
}

static void pae_reserved_bits(void **state)
{
	uint64_t *leaf = make_pae(0x1000 | RWX), *pdpte = wide(0, 0);

	(void)state;
	for (unsigned bit = 1; bit < 64; bit++) {
		bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 40;

		/* Bits 15 and up of the address select a table that is not there. */
		if (!reserved && bit >= 12)
			continue;
		*pdpte = TABLE(1) | P | 1ull << bit;
		assert_int_equal(walk(NX_READ), reserved ? NX_LEAVE_PAGE_FAULT : NX_OK);
	}
	*pdpte = TABLE(1) | P;
	/* Bits 62 to 52 are ignored with four levels, reserved here. */
	for (unsigned bit = 40; bit < 63; bit++) {
		*leaf = 0x1000 | RWX | 1ull << bit;
		assert_int_equal(walk(NX_READ), NX_LEAVE_PAGE_FAULT);
	}
	*leaf = 0x1000 | RWX | NX;
	assert_int_equal(walk(NX_READ), NX_OK);
	engine.state.efer = 0;
	assert_int_equal(walk(NX_READ), NX_LEAVE_PAGE_FAULT);
}

static void long_pages(void **state)
{
	(void)state;
	for (unsigned levels = 4; levels <= 5; levels++) {
		uint64_t linear = levels == 5 ? 0xff23456789abcdef : 0xffff923456789abc;
		uint64_t *leaf = make_long(levels, linear, 0x9abcde000 | RWX);
		uint64_t large = 0x9a40000000, *entry;

		assert_walk(linear, NX_READ, 0x9abcde000 | (linear & 0xfff));
		assert_int_equal(*leaf, 0x9abcde000 | RWX | A);
		for (unsigned i = 0; i < levels - 1; i++)
			assert_int_equal(*wide(i, linear >> (3 + 9 * (levels - i)) & 511),
					 TABLE(i + 1) | RWX | A);
		assert_walk(linear, NX_WRITE, 0x9abcde000 | (linear & 0xfff));
		assert_int_equal(*leaf, 0x9abcde000 | RWX | A | D);

		/* 2 MiB, then 1 GiB, with PAT, then not aligned. */
		for (unsigned level = 2; level <= 3; level++) {
			unsigned shift = 3 + 9 * level;

			entry = wide(levels - level, linear >> shift & 511);
			*entry = large | RWX | PS | 1 << 12;
			assert_walk(linear, NX_WRITE, large | (linear & ((1ull << shift) - 1)));
			assert_int_equal(*entry, large | RWX | PS | 1 << 12 | A | D);
			for (unsigned bit = 13; bit < shift; bit++) {
				uint64_t gpa;

				*entry = large | RWX | PS | 1ull << bit;
				assert_int_equal(walk_to(linear, NX_READ, &gpa),
						 NX_LEAVE_PAGE_FAULT);
			}
		}
		/* From the fourth level up the size bit is reserved. */
		for (unsigned level = 4; level <= levels; level++) {
			uint64_t gpa;

			make_long(levels, linear, 0x9abcde000 | RWX);
			*wide(levels - level, linear >> (3 + 9 * level) & 511) |= PS;
			assert_int_equal(walk_to(linear, NX_READ, &gpa), NX_LEAVE_PAGE_FAULT);
		}
	}
}

static void long_ignored_and_reserved_bits(void **state)
{
	uint64_t *leaf = make_long(4, LINEAR, 0);

	(void)state;
	for (unsigned bit = 7; bit < 63; bit++) {
		*leaf = 0x1000 | RWX | 1ull << bit;
		assert_int_equal(walk(NX_READ),
				 bit >= 40 && bit < 52 ? NX_LEAVE_PAGE_FAULT : NX_OK);
	}
	/* 0 stands for 52 bits. */
	engine.state.physical_bits = 0;
	*leaf = 1ull << 51 | RWX | 1ull << 52;
	assert_walk(LINEAR, NX_READ, 1ull << 51 | 0x678);
	*leaf = 0x1000 | RWX | NX;
	assert_int_equal(walk(NX_READ), NX_OK);
	engine.state.efer &= ~NX_EFER_NXE;
	assert_int_equal(walk(NX_READ), NX_LEAVE_PAGE_FAULT);
	/* CR3: PCID and the caching bits are no address. */
	engine.state.efer |= NX_EFER_NXE;
	engine.state.cr3 = ROOT | 0xfff;
	assert_int_equal(walk(NX_READ), NX_OK);
}

static void addresses_must_be_canonical(void **state)
{
	static const struct {
		unsigned levels;
		uint64_t linear;
		enum nx_status status;
	} cases[] = {
	    {4, 0x00007ffffffff000, NX_OK},          {4, 0x0000800000000000, NX_LEAVE_FAULT},
	    {4, 0xffff7ffffffff000, NX_LEAVE_FAULT}, {4, 0xffff800000000000, NX_OK},
	    {4, 0x8000000000000000, NX_LEAVE_FAULT}, {5, 0x0000800000000000, NX_OK},
	    {5, 0x00fffffffffff000, NX_OK},          {5, 0x0100000000000000, NX_LEAVE_FAULT},
	    {5, 0xfeffffffffffffff, NX_LEAVE_FAULT}, {5, 0xff00000000000000, NX_OK},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t gpa;

		make_long(cases[i].levels, cases[i].linear, 0x1000 | RWX);
		assert_int_equal(walk_to(cases[i].linear, NX_READ, &gpa), cases[i].status);
	}
}

/* SDM vol. 3, 4.6.1, sentence by sentence, for every combination of what it depends on. */
static bool allowed(enum nx_access access, bool user_mode, bool user_page, bool writable, bool nx,
		    uint64_t cr0, uint64_t cr4, bool ac)
{
	if (user_mode) {
		if (!user_page)
			return false;
		return access == NX_READ || (access == NX_WRITE && writable) ||
		       (access == NX_FETCH && !nx);
	}
	if (!user_page)
		return access == NX_READ || (access == NX_FETCH && !nx) ||
		       (access == NX_WRITE && (writable || !(cr0 & NX_CR0_WP)));
	switch (access) {
	case NX_READ:
		return !(cr4 & NX_CR4_SMAP) || ac;
	case NX_WRITE:
		if (cr0 & NX_CR0_WP)
			return writable && (!(cr4 & NX_CR4_SMAP) || ac);
		return !(cr4 & NX_CR4_SMAP) || ac;
	default:
		return !(cr4 & NX_CR4_SMEP) && !nx;
	}
}

static void check_rights(unsigned mode, unsigned mix)
{
	const bool user_mode = mix & 1, smep = mix & 2, smap = mix & 4, ac = mix & 8, wp = mix & 16;
	const uint64_t upper = (mix & 32 ? W : 0) | (mix & 64 ? U : 0);
	const uint64_t lower = (mix & 128 ? W : 0) | (mix & 256 ? U : 0);
	const bool upper_nx = mix & 512, lower_nx = mix & 1024;
	const uint64_t both = upper & lower;

	for (enum nx_access access = NX_READ; access <= NX_FETCH; access++) {
		bool nx = mode && (upper_nx || lower_nx);
		uint64_t *table = NULL, *leaf = NULL;

		if (mode == 0) {
			*make_32(0) = (uint32_t)(0x1000 | P | lower);
			*narrow(0, LINEAR >> 22) = (uint32_t)(TABLE(1) | P | upper);
		} else {
			leaf = mode == 1 ? make_pae(0) : make_long(4, LINEAR, 0);
			table =
			    mode == 1 ? wide(1, LINEAR >> 21 & 511) : wide(2, LINEAR >> 21 & 511);
			*leaf = 0x1000 | P | lower | (lower_nx ? NX : 0);
			*table = (*table & ~(uint64_t)RWX) | P | upper | (upper_nx ? NX : 0);
		}
		engine.cpl = user_mode ? 3 : 0;
		engine.state.cr0 = NX_CR0_PE | NX_CR0_PG | (wp ? NX_CR0_WP : 0);
		engine.state.cr4 |= (smep ? NX_CR4_SMEP : 0) | (smap ? NX_CR4_SMAP : 0);
		engine.context.rflags = 2 | (ac ? NX_FL_AC : 0);
		assert_int_equal(walk(access) == NX_OK,
				 allowed(access, user_mode, both & U, both & W, nx,
					 engine.state.cr0, engine.state.cr4, ac));
	}
}

static void rights_as_the_manual_says(void **state)
{
	(void)state;
	for (unsigned mode = 0; mode < 3; mode++)
		for (unsigned mix = 0; mix < 2048; mix++)
			check_rights(mode, mix);
}

static void protection_keys(void **state)
{
	(void)state;
	for (unsigned mix = 0; mix < 128; mix++) {
		const bool ad = mix & 1, wd = mix & 2, pke = mix & 4, user_mode = mix & 8;
		const bool wp = mix & 16, user_page = mix & 32, is_long = mix & 64;

		for (enum nx_access access = NX_READ; access <= NX_FETCH; access++) {
			bool refused = user_mode && !user_page;

			if (is_long)
				*make_long(4, LINEAR, 0) =
				    0x1000 | P | W | (user_page ? U : 0) | 11ull << 59;
			else
				*make_pae(0) = 0x1000 | P | W | (user_page ? U : 0);
			engine.cpl = user_mode ? 3 : 0;
			engine.state.cr4 |= pke ? NX_CR4_PKE : 0;
			engine.state.cr0 = NX_CR0_PE | NX_CR0_PG | (wp ? NX_CR0_WP : 0);
			/* All other keys the other way round. */
			engine.state.pkru = (ad ? 0 : 0x55555555) | (wd ? 0 : 0xaaaaaaaa);
			engine.state.pkru ^= 3u << 22;
			if (is_long && pke && user_page && access != NX_FETCH)
				refused |= ad || (access == NX_WRITE && wd && (user_mode || wp));
			assert_int_equal(walk(access), refused ? NX_LEAVE_PAGE_FAULT : NX_OK);
		}
	}
}

static void supervisor_keys_are_unknown(void **state)
{
	uint64_t *leaf = make_long(4, LINEAR, 0x1000 | P | W);

	(void)state;
	engine.state.cr4 |= NX_CR4_PKS;
	assert_int_equal(walk(NX_READ), NX_LEAVE_STATE);
	assert_int_equal(walk(NX_WRITE), NX_LEAVE_STATE);
	/* They govern neither fetches nor user pages. */
	assert_int_equal(walk(NX_FETCH), NX_OK);
	*leaf |= U;
	assert_int_equal(walk(NX_READ), NX_OK);
}

static void shadow_stacks_take_no_plain_stores(void **state)
{
	uint64_t *leaf = make_long(4, LINEAR, 0x1000 | P | D);

	(void)state;
	engine.state.cr0 = NX_CR0_PE | NX_CR0_PG;
	assert_int_equal(walk(NX_WRITE), NX_OK);
	engine.state.cr4 |= NX_CR4_CET;
	assert_int_equal(walk(NX_WRITE), NX_LEAVE_PAGE_FAULT);
	assert_int_equal(walk(NX_READ), NX_OK);
	*leaf |= W;
	assert_int_equal(walk(NX_WRITE), NX_OK);
}

static void tables_outside_memory_leave(void **state)
{
	uint64_t *leaf;

	(void)state;
	make_long(4, LINEAR, 0x1000 | RWX);
	engine.state.cr3 = DEVICE;
	assert_int_equal(walk(NX_READ), NX_LEAVE_HOST_PAGE);
	make_long(4, LINEAR, 0x1000 | RWX);
	*wide(1, 0) = DEVICE | RWX;
	assert_int_equal(walk(NX_READ), NX_LEAVE_HOST_PAGE);

	/* A table that may not be written does as long as no bit is to be set. */
	leaf = make_long(4, LINEAR, 0x1000 | RWX);
	assert_int_equal(walk(NX_READ), NX_OK);
	for (unsigned i = 0; i < PAGES; i++)
		readonly[i] = true;
	assert_int_equal(walk(NX_READ), NX_OK);
	assert_int_equal(walk(NX_WRITE), NX_LEAVE_HOST_PAGE);
	*leaf |= D;
	assert_int_equal(walk(NX_WRITE), NX_OK);
	*wide(0, 0) &= ~(uint64_t)A;
	assert_int_equal(walk(NX_READ), NX_LEAVE_HOST_PAGE);
}

static void entry_changed_meanwhile_is_seen(void **state)
{
	uint64_t gpa, *leaf;

	(void)state;
	/* The second level moves to another table while we read the leaf: follow it. */
	leaf = make_long(4, LINEAR, 0x1000 | RWX);
	memcpy(memory[8], memory[4], NX_PAGE_SIZE);
	*(uint64_t *)&memory[8][(LINEAR >> 12 & 511) * 8] = 0x2000 | RWX;
	other.entry = wide(2, LINEAR >> 21 & 511);
	other.flip = TABLE(3) ^ 0x8000;
	other.countdown = 4;
	assert_int_equal(walk_to(LINEAR, NX_WRITE, &gpa), NX_OK);
	assert_int_equal(gpa, 0x2678);
	assert_int_equal(*other.entry, 0x8000 | RWX | A);
	/* The old leaf's dirty bit was never set: the page was not written. */
	assert_int_equal(*leaf, 0x1000 | RWX);

	/* The right to write goes: the fault is seen. */
	make_long(4, LINEAR, 0x1000 | RWX);
	other.entry = wide(2, LINEAR >> 21 & 511);
	other.flip = W;
	other.countdown = 4;
	assert_int_equal(walk_to(LINEAR, NX_WRITE, &gpa), NX_LEAVE_PAGE_FAULT);
	assert_int_equal(*other.entry, TABLE(3) | P | U);

	/* One that changes without end does not hold us. */
	make_long(4, LINEAR, 0x1000 | RWX);
	other.entry = wide(2, LINEAR >> 21 & 511);
	other.flip = 1ull << 52;
	other.countdown = 4;
	other.again = true;
	assert_int_equal(walk_to(LINEAR, NX_WRITE, &gpa), NX_LEAVE_PAGE_FAULT);
}

/* The page beside the last one is found through the same page table, and checked as the last. */
static void page_tables_are_kept_within_a_stay(void **state)
{
	uint64_t gpa, *leaf, *upper;

	(void)state;
	for (unsigned levels = 4; levels <= 5; levels++) {
		leaf = make_long(levels, LINEAR, 0xa000 | RWX);
		leaf[1] = 0xb000 | RWX;
		leaf[2] = 0xc000 | P | U;
		leaf[3] = 0xd000 | RWX | NX;
		leaf[4] = 0xe000 | W | U;
		assert_walk(LINEAR, NX_READ, 0xa678);
		asked = 0;
		assert_int_equal(walk_on(LINEAR + 0x1000, NX_WRITE, &gpa), NX_OK);
		assert_int_equal(gpa, 0xb678);
		assert_int_equal(asked, 0);
		assert_int_equal(leaf[1], 0xb000 | RWX | A | D);
		assert_int_equal(walk_on(LINEAR + 0x2000, NX_WRITE, &gpa), NX_LEAVE_PAGE_FAULT);
		assert_int_equal(walk_on(LINEAR + 0x3000, NX_FETCH, &gpa), NX_LEAVE_PAGE_FAULT);
		assert_int_equal(walk_on(LINEAR + 0x4000, NX_READ, &gpa), NX_LEAVE_PAGE_FAULT);
		/* Another 2 MiB, and another address space's half, have tables of their own. */
		assert_int_equal(walk_on(LINEAR + 0x200000, NX_READ, &gpa), NX_LEAVE_PAGE_FAULT);
		assert_int_equal(walk_on(LINEAR | ~0ull << 47, NX_READ, &gpa), NX_LEAVE_PAGE_FAULT);
		assert_int_equal(walk_on(LINEAR | 1ull << 60, NX_READ, &gpa), NX_LEAVE_FAULT);
	}

	/* Rights are those of all levels, as they were found. */
	leaf = make_long(4, LINEAR, 0xa000 | RWX);
	leaf[1] = 0xb000 | RWX;
	upper = wide(1, LINEAR >> 30 & 511);
	*upper = (*upper & ~(uint64_t)(W | U)) | NX;
	assert_walk(LINEAR, NX_READ, 0xa678);
	assert_int_equal(walk_on(LINEAR + 0x1000, NX_READ, &gpa), NX_OK);
	assert_int_equal(walk_on(LINEAR + 0x1000, NX_WRITE, &gpa), NX_LEAVE_PAGE_FAULT);
	assert_int_equal(walk_on(LINEAR + 0x1000, NX_FETCH, &gpa), NX_LEAVE_PAGE_FAULT);
	engine.cpl = 3;
	assert_int_equal(walk_on(LINEAR + 0x1000, NX_READ, &gpa), NX_LEAVE_PAGE_FAULT);
	/* What is given since is seen, what is taken away is not until all is forgotten. */
	*upper = (*upper | W | U) & ~NX;
	assert_int_equal(walk_on(LINEAR + 0x1000, NX_WRITE, &gpa), NX_OK);
	*upper &= ~(uint64_t)P;
	assert_int_equal(walk_on(LINEAR, NX_WRITE, &gpa), NX_OK);
	nx_walk_forget(&engine);
	assert_int_equal(walk_on(LINEAR, NX_WRITE, &gpa), NX_LEAVE_PAGE_FAULT);
}

/*
 * In a later stay what an earlier one has found holds if all entries are what they were, and the
 * host is not asked. Any bit of any of them makes the walk read all of them through the host.
 */
static void page_tables_hold_if_unchanged(void **state)
{
	static const unsigned bits[] = {0, 1, 2, 5, 6, 12, 40, 51, 52, 63};
	uint64_t gpa, again, *leaf;

	(void)state;
	for (unsigned levels = 4; levels <= 5; levels++) {
		leaf = make_long(levels, LINEAR, 0xa000 | RWX);
		assert_walk(LINEAR, NX_WRITE, 0xa678);
		nx_walk_forget(&engine);
		asked = 0;
		assert_int_equal(walk_on(LINEAR, NX_WRITE, &gpa), NX_OK);
		assert_int_equal(gpa, 0xa678);
		assert_int_equal(asked, 0);
		/* The page itself is always read. */
		*leaf = 0xb000 | RWX;
		assert_int_equal(walk_on(LINEAR, NX_WRITE, &gpa), NX_OK);
		assert_int_equal(gpa, 0xb678);
		assert_int_equal(asked, 0);
		nx_walk_drop(&engine);
		assert_int_equal(walk_on(LINEAR, NX_WRITE, &gpa), NX_OK);
		assert_int_equal(asked, levels);

		for (unsigned level = 0; level + 1 < levels; level++) {
			for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
				uint64_t *entry =
				    wide(level, LINEAR >> (3 + 9 * (levels - level)) & 511);
				enum nx_status status;

				make_long(levels, LINEAR, 0xa000 | RWX);
				assert_walk(LINEAR, NX_WRITE, 0xa678);
				*entry ^= 1ull << bits[i];
				nx_walk_forget(&engine);
				asked = 0;
				status = walk_on(LINEAR, NX_WRITE, &gpa);
				assert_in_range(asked, 1, levels);
				nx_walk_drop(&engine);
				assert_int_equal(walk_on(LINEAR, NX_WRITE, &again), status);
				assert_int_equal(again, gpa);
			}
		}
		/* Another root, and another set of features. */
		make_long(levels, LINEAR, 0xa000 | RWX);
		assert_walk(LINEAR, NX_READ, 0xa678);
		nx_walk_forget(&engine);
		engine.state.efer ^= NX_EFER_NXE;
		asked = 0;
		assert_int_equal(walk_on(LINEAR, NX_READ, &gpa), NX_OK);
		assert_int_equal(asked, levels);
		nx_walk_forget(&engine);
		engine.state.cr3 = TABLE(levels + 1);
		memcpy(memory[levels + 2], memory[1], NX_PAGE_SIZE);
		asked = 0;
		assert_int_equal(walk_on(LINEAR, NX_READ, &gpa), NX_OK);
		assert_int_equal(asked, levels);
	}
}

/* A large page is found again likewise; a store to one that was only read marks it. */
static void large_pages_hold_if_unchanged(void **state)
{
	uint64_t gpa, *entry;

	(void)state;
	make_long(4, LINEAR, 0xa000 | RWX);
	entry = wide(2, LINEAR >> 21 & 511);
	*entry = 0 | RWX | PS;
	assert_int_equal(walk_to(LINEAR, NX_READ, &gpa), NX_OK);
	assert_int_equal(gpa, LINEAR & 0x1fffff);
	nx_walk_forget(&engine);
	asked = 0;
	assert_int_equal(walk_on(LINEAR + 0x3000, NX_READ, &gpa), NX_OK);
	assert_int_equal(gpa, (LINEAR + 0x3000) & 0x1fffff);
	assert_int_equal(asked, 0);
	assert_int_equal(walk_on(LINEAR, NX_WRITE, &gpa), NX_OK);
	assert_int_equal(*entry, 0 | RWX | PS | A | D);
	asked = 0;
	nx_walk_forget(&engine);
	assert_int_equal(walk_on(LINEAR, NX_WRITE, &gpa), NX_OK);
	assert_int_equal(asked, 0);
	*entry = 0x200000 | RWX | PS | A | D;
	nx_walk_forget(&engine);
	assert_int_equal(walk_on(LINEAR, NX_WRITE, &gpa), NX_OK);
	assert_int_equal(gpa, 0x200000 | (LINEAR & 0x1fffff));
}

/* A walk for a load says whether a store would pass and find everything marked already. */
static void loads_tell_of_stores(void **state)
{
	uint64_t gpa, *leaf;

	(void)state;
	for (unsigned known = 0; known < 2; known++) {
		leaf = make_long(4, LINEAR, 0xa000 | RWX | D);
		assert_int_equal(walk_to(LINEAR, NX_READ, &gpa), NX_OK);
		if (known)
			assert_int_equal(walk_on(LINEAR, NX_READ, &gpa), NX_OK);
		assert_true(engine.guest.found.stores);
		for (unsigned i = 0; i < 3; i++) {
			*leaf = 0xa000 | (i == 0 ? RWX : i == 1 ? P | U | D : RWX | D);
			if (!known)
				nx_walk_drop(&engine);
			assert_int_equal(walk_on(LINEAR, i == 2 ? NX_FETCH : NX_READ, &gpa), NX_OK);
			assert_false(engine.guest.found.stores);
			/* The dirty bit stays as it was. */
			assert_int_equal(*leaf & D, i == 0 ? 0 : D);
		}
		/* A fault says nothing of stores either. */
		*leaf = 0;
		assert_int_equal(walk_on(LINEAR, NX_READ, &gpa), NX_LEAVE_PAGE_FAULT);
		assert_false(engine.guest.found.stores);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(loads_tell_of_stores),
	    cmocka_unit_test(page_tables_hold_if_unchanged),
	    cmocka_unit_test(large_pages_hold_if_unchanged),
	    cmocka_unit_test(paging_off_truncates),
	    cmocka_unit_test(legacy_small_page),
	    cmocka_unit_test(legacy_large_page),
	    cmocka_unit_test(pae_pages),
	    cmocka_unit_test(pae_reserved_bits),
	    cmocka_unit_test(long_pages),
	    cmocka_unit_test(long_ignored_and_reserved_bits),
	    cmocka_unit_test(addresses_must_be_canonical),
	    cmocka_unit_test(rights_as_the_manual_says),
	    cmocka_unit_test(protection_keys),
	    cmocka_unit_test(supervisor_keys_are_unknown),
	    cmocka_unit_test(shadow_stacks_take_no_plain_stores),
	    cmocka_unit_test(tables_outside_memory_leave),
	    cmocka_unit_test(entry_changed_meanwhile_is_seen),
	    cmocka_unit_test(page_tables_are_kept_within_a_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
