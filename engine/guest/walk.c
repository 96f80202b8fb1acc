// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * walk.c - from a linear to a guest-physical address, as the processor does it
 * (SDM vol. 3, chapter 4; APM vol. 2, chapter 5).
 *
 *  1. A walk first reads and checks, and only then writes: an access that would fault leaves the
 *     page tables as they were, so that the processor meets the same fault again.
 *  2. Accessed and dirty bits are set by compare-and-swap on the host page, since other vCPUs
 *     and the processor itself set and clear bits there at the same time. If an entry is no
 *     longer what was checked, the whole walk starts again.
 *  3. Whatever depends on state that the engine does not have (PKRS) leaves.
 *  4. Within a stay a walk may begin at a page table that an earlier one has gone through, and in a
 *     later stay if all entries above it are what they were. If that does not lead to the page, all
 *     levels are read: an old entry never makes a fault. No walk is needed for a page that an
 *     earlier one has led to, if its own entry is what it was as well, its marks included.
 *  5. It is assumed that the guest's processor has PAT and, where the guest uses them, 4 MiB and
 *     1 GiB pages: bits that are reserved only without these features are not treated so.
 */
#include "engine.h"

#define PTE_PRESENT (1ull << 0)
#define PTE_WRITE (1ull << 1)
#define PTE_USER (1ull << 2)
#define PTE_ACCESSED (1ull << 5)
#define PTE_DIRTY (1ull << 6)
#define PTE_LARGE (1ull << 7)
#define PTE_GLOBAL (1ull << 8)
#define PTE_NX (1ull << 63)
/* PDPTEs of PAE paging have neither rights nor accessed bits. */
#define PDPTE_RESERVED (PTE_WRITE | PTE_USER | PTE_ACCESSED | PTE_DIRTY | PTE_LARGE | PTE_GLOBAL)

#define PTE_KEY_SHIFT 59
#define PKRU_ACCESS_DISABLE 1u
#define PKRU_WRITE_DISABLE 2u

#define MAX_LEVELS 5

/*
 * How often a walk is begun again because an entry changed under it. Nobody changes entries of
 * live mappings in a tight loop; a guest that does so anyway must not hold us here.
 */
#define MAX_TRIES 8

struct walk_step {
	void *entry;
	uint64_t value;
	bool writable; /* by us: the host page */
};

struct walk {
	const struct nx_engine *engine;
	uint64_t linear;
	enum nx_access access;
	bool wide; /* 8-byte entries */
	unsigned steps;
	struct walk_step
	    step[MAX_LEVELS]; /* the entries that have accessed bits; the last is the leaf */
	/*
	 * The conjunction of all entries, with PTE_NX inverted: rights are given by a bit at every
	 * level and NX takes one away at any level.
	 */
	uint64_t rights;
	/* The rights of the entries above the page table with the leaf; not used with large pages.
	 */
	uint64_t above;
	unsigned page_shift; /* of the page */
};

static enum nx_status read_entry(struct walk *walk, uint64_t gpa, struct walk_step *step)
{
	const struct nx_engine *engine = walk->engine;
	struct nx_page page;

	engine->host->map_page(engine->host_data, gpa & NX_PAGE_MASK, &page);
	if (page.kind != NX_PAGE_RAM)
		return NX_LEAVE_HOST_PAGE;
	step->entry = (uint8_t *)page.host + (gpa & ~NX_PAGE_MASK);
	step->writable = page.writable;
	if (walk->wide)
		step->value = __atomic_load_n((uint64_t *)step->entry, __ATOMIC_ACQUIRE);
	else
		step->value = __atomic_load_n((uint32_t *)step->entry, __ATOMIC_ACQUIRE);
	return NX_OK;
}

/*
 * Take an entry that a walk goes through, with the rights that it leaves. Return false if it is not
 * present or has one of the bits that are reserved.
 */
static bool take_entry(struct walk *walk, uint64_t value, uint64_t reserved)
{
	if (!(value & PTE_PRESENT) || (value & reserved))
		return false;
	walk->rights &= value ^ PTE_NX;
	return true;
}

/* Bits 51 to physical_bits, and all above where the format has nothing else there. */
static uint64_t address_reserved(const struct nx_state *state)
{
	unsigned bits = state->physical_bits;

	if (bits == 0 || bits > 52)
		bits = 52;
	return ~0ull << bits;
}

/*
 * Descend through tables of 8-byte entries from the given level. reserved holds the bits that no
 * entry may have.
 */
static enum nx_status descend_wide(struct walk *walk, uint64_t table, unsigned level,
				   uint64_t reserved, uint64_t *gpa)
{
	const uint64_t address_bits = ~address_reserved(&walk->engine->state);

	for (;; level--) {
		const unsigned shift = 12 + 9 * (level - 1);
		const uint64_t offset = (1ull << shift) - 1;
		struct walk_step *step = &walk->step[walk->steps++];
		enum nx_status status;
		uint64_t value;

		walk->above = walk->rights;
		walk->page_shift = shift;
		status = read_entry(walk, table + ((walk->linear >> shift) & 511) * 8, step);
		if (status != NX_OK)
			return status;
		value = step->value;
		if (!take_entry(walk, value, reserved))
			return NX_LEAVE_PAGE_FAULT;
		if (level == 1) {
			*gpa = (value & address_bits & NX_PAGE_MASK) | (walk->linear & offset);
			return NX_OK;
		}
		if (value & PTE_LARGE) {
			/* Bit 12 is PAT; the others below the frame's address must be zero. */
			if (level > 3 || (value & offset & ~0x1fffull))
				return NX_LEAVE_PAGE_FAULT;
			*gpa = (value & address_bits & ~offset) | (walk->linear & offset);
			return NX_OK;
		}
		table = value & address_bits & NX_PAGE_MASK;
	}
}

/* The bits that no entry of 4 and 5 levels may have. */
static uint64_t long_reserved(const struct nx_state *state)
{
	uint64_t reserved = address_reserved(state) & ((1ull << 52) - 1);

	return state->efer & NX_EFER_NXE ? reserved : reserved | PTE_NX;
}

/* 4 and 5 levels. */
static enum nx_status walk_long(struct walk *walk, uint64_t *gpa)
{
	const struct nx_state *state = &walk->engine->state;
	const unsigned levels = state->cr4 & NX_CR4_LA57 ? 5 : 4;
	const unsigned unused = 64 - (12 + 9 * levels);
	uint64_t address = address_reserved(state);

	/* Not canonical: #GP or #SS, not a page fault. */
	if ((uint64_t)((int64_t)(walk->linear << unused) >> unused) != walk->linear)
		return NX_LEAVE_FAULT;
	return descend_wide(walk, state->cr3 & ~address & NX_PAGE_MASK, levels,
			    long_reserved(state), gpa);
}

/*
 * The processor reads the four PDPTEs when CR3 is loaded and keeps them. The engine reads memory:
 * a guest that has changed them without a new CR3 relies on nothing but a processor's caching,
 * and processors with nested paging of AMD's kind read them at every walk, too.
 */
static enum nx_status walk_pae(struct walk *walk, uint64_t *gpa)
{
	const struct nx_state *state = &walk->engine->state;
	const uint64_t address = address_reserved(state);
	const uint64_t reserved = state->efer & NX_EFER_NXE ? address & ~PTE_NX : address;
	const uint64_t pdpte_reserved = address | PDPTE_RESERVED;
	struct walk_step pdpte;
	enum nx_status status;

	status = read_entry(walk, (state->cr3 & 0xffffffe0) + (walk->linear >> 30) * 8, &pdpte);
	if (status != NX_OK)
		return status;
	if (!(pdpte.value & PTE_PRESENT) || (pdpte.value & pdpte_reserved))
		return NX_LEAVE_PAGE_FAULT;
	return descend_wide(walk, pdpte.value & ~address & NX_PAGE_MASK, 2, reserved, gpa);
}

static enum nx_status walk_32(struct walk *walk, uint64_t *gpa)
{
	const struct nx_state *state = &walk->engine->state;
	struct walk_step *step = &walk->step[walk->steps++];
	const uint64_t directory = state->cr3 & 0xfffff000;
	enum nx_status status = read_entry(walk, directory + (walk->linear >> 22) * 4, step);
	uint64_t value;

	if (status != NX_OK)
		return status;
	value = step->value;
	if (!take_entry(walk, value, 0))
		return NX_LEAVE_PAGE_FAULT;
	if ((value & PTE_LARGE) && (state->cr4 & NX_CR4_PSE)) {
		/* PSE-36: bits 20 to 13 are bits 39 to 32 of the frame; bit 21 is reserved. */
		uint64_t frame = (value & 0xffc00000) | ((value >> 13 & 0xff) << 32);

		if ((value & 1u << 21) || (frame & address_reserved(state)))
			return NX_LEAVE_PAGE_FAULT;
		*gpa = frame | (walk->linear & 0x3fffff);
		return NX_OK;
	}

	step = &walk->step[walk->steps++];
	status = read_entry(walk, (value & 0xfffff000) + ((walk->linear >> 12) & 1023) * 4, step);
	if (status != NX_OK)
		return status;
	if (!take_entry(walk, step->value, 0))
		return NX_LEAVE_PAGE_FAULT;
	*gpa = (step->value & 0xfffff000) | (walk->linear & 0xfff);
	return NX_OK;
}

/* Keys exist with 4 and 5 levels only and do not apply to fetches. */
static enum nx_status check_keys(const struct walk *walk, bool user_page)
{
	const struct nx_engine *engine = walk->engine;
	const struct nx_state *state = &engine->state;
	unsigned key;

	if (!user_page)
		return state->cr4 & NX_CR4_PKS ? NX_LEAVE_STATE : NX_OK;
	if (!(state->cr4 & NX_CR4_PKE))
		return NX_OK;
	key = state->pkru >> 2 * (walk->step[walk->steps - 1].value >> PTE_KEY_SHIFT & 15);
	if (key & PKRU_ACCESS_DISABLE)
		return NX_LEAVE_PAGE_FAULT;
	if (walk->access == NX_WRITE && (key & PKRU_WRITE_DISABLE) &&
	    (engine->cpl == 3 || (state->cr0 & NX_CR0_WP)))
		return NX_LEAVE_PAGE_FAULT;
	return NX_OK;
}

static enum nx_status check_rights(const struct walk *walk)
{
	const struct nx_engine *engine = walk->engine;
	const struct nx_state *state = &engine->state;
	const bool user = engine->cpl == 3 && walk->access != NX_READ_SYSTEM;
	const bool user_page = walk->rights & PTE_USER;

	if (user && !user_page)
		return NX_LEAVE_PAGE_FAULT;

	if (walk->access == NX_FETCH) {
		/* Without NXE, NX is a reserved bit or does not exist: no need to ask again. */
		if (!(walk->rights & PTE_NX))
			return NX_LEAVE_PAGE_FAULT;
		if (!user && user_page && (state->cr4 & NX_CR4_SMEP))
			return NX_LEAVE_PAGE_FAULT;
		return NX_OK;
	}

	/* The processor's own accesses have no AC to lift SMAP with. */
	if (!user && user_page && (state->cr4 & NX_CR4_SMAP) &&
	    (walk->access == NX_READ_SYSTEM || !(engine->context.rflags & NX_FL_AC)))
		return NX_LEAVE_PAGE_FAULT;
	/*
	 * With CR4.CET a page that is not writable, but dirty, is a shadow stack: a plain store to
	 * it faults whatever CR0.WP says. (The processor lets nobody set CET without WP.)
	 */
	if (walk->access == NX_WRITE && !(walk->rights & PTE_WRITE) &&
	    (user || (state->cr0 & NX_CR0_WP) || (state->cr4 & NX_CR4_CET)))
		return NX_LEAVE_PAGE_FAULT;
	return state->efer & NX_EFER_LMA ? check_keys(walk, user_page) : NX_OK;
}

enum marked { MARKED, MARK_CHANGED, MARK_FORBIDDEN };

static enum marked mark(const struct walk *walk, const struct walk_step *step, uint64_t bits)
{
	uint64_t wide = step->value;
	uint32_t narrow = (uint32_t)step->value;
	bool same;

	if ((step->value & bits) == bits)
		return MARKED;
	if (!step->writable)
		return MARK_FORBIDDEN;
	/* A full barrier: no access through this translation may be seen before its mark. */
	if (walk->wide)
		same = __atomic_compare_exchange_n((uint64_t *)step->entry, &wide, wide | bits,
						   false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	else
		same = __atomic_compare_exchange_n((uint32_t *)step->entry, &narrow,
						   narrow | (uint32_t)bits, false, __ATOMIC_SEQ_CST,
						   __ATOMIC_RELAXED);
	return same ? MARKED : MARK_CHANGED;
}

/* Top down, like the processor: nobody may find an accessed page under a table never accessed. */
static enum marked mark_all(const struct walk *walk)
{
	for (unsigned i = 0; i < walk->steps; i++) {
		const bool leaf = i == walk->steps - 1;
		const uint64_t dirty = leaf && walk->access == NX_WRITE ? PTE_DIRTY : 0;
		enum marked marked = mark(walk, &walk->step[i], PTE_ACCESSED | dirty);

		if (marked != MARKED)
			return marked;
	}
	return MARKED;
}

/* ---- Page tables that walks have gone through ---- */

static uint64_t table_tag(uint64_t linear)
{
	return (linear >> 21 << 1) | 1;
}

static struct nx_walk_table *table_row(struct nx_engine *engine, uint64_t linear)
{
	/* Kernels map their own memory twice, with the same bits at the bottom. */
	return &engine->guest.walk_table[(linear >> 21 ^ linear >> 30) & (NX_WALK_TABLES - 1)];
}

static struct nx_walk_table *known_table(struct nx_engine *engine, uint64_t linear)
{
	struct nx_walk_table *row = table_row(engine, linear);

	return row->tag == table_tag(linear) && nx_walk_table_holds(engine, row) ? row : NULL;
}

bool nx_walk_is_unchanged(const struct nx_engine *engine, const struct nx_walk_table *table)
{
	const struct nx_state *state = &engine->state;

	if (table->cr3 != state->cr3 || table->cr4 != state->cr4 || table->efer != state->efer)
		return false;
	for (unsigned i = 0; i < table->upper; i++)
		if (__atomic_load_n(table->entry[i], __ATOMIC_ACQUIRE) != table->value[i])
			return false;
	return true;
}

static void keep_table(struct nx_engine *engine, const struct walk *walk)
{
	const struct nx_state *state = &engine->state;
	const struct walk_step *last = &walk->step[walk->steps - 1];
	const bool large = walk->page_shift > 12;
	struct nx_walk_table *row = table_row(engine, walk->linear);

	row->tag = table_tag(walk->linear);
	row->pages = engine->guest.walk_pages;
	row->time = engine->guest.walk_time;
	row->number = ++engine->guest.walk_number;
	row->cr3 = state->cr3;
	row->cr4 = state->cr4;
	row->efer = state->efer;
	row->rights = large ? walk->rights : walk->above;
	row->table = large ? NULL : (uint64_t *)((uintptr_t)last->entry & NX_PAGE_MASK);
	row->writable = last->writable;
	row->page_shift = (uint8_t)walk->page_shift;
	row->upper = (uint8_t)(walk->steps - !large);
	for (unsigned i = 0; i < row->upper; i++) {
		row->entry[i] = walk->step[i].entry;
		row->value[i] = walk->step[i].value | PTE_ACCESSED;
	}
	if (large && walk->access == NX_WRITE)
		row->value[row->upper - 1] |= PTE_DIRTY;
}

void nx_walk_clear(struct nx_engine *engine)
{
	for (unsigned i = 0; i < NX_WALK_TABLES; i++)
		engine->guest.walk_table[i].tag = 0;
	for (unsigned i = 0; i < NX_WALK_PAGES; i++)
		engine->guest.walk_page[i][0].linear = engine->guest.walk_page[i][1].linear = 0;
}

void nx_walk_forget(struct nx_engine *engine)
{
	if (!++engine->guest.walk_time)
		nx_walk_clear(engine);
}

void nx_walk_drop(struct nx_engine *engine)
{
	/* A page of this time is not asked how old its pointer is. */
	nx_walk_forget(engine);
	if (!++engine->guest.walk_pages)
		nx_walk_clear(engine);
}

/* Walk on from what is known; anything but NX_OK and MARKED says that all has to be read. */
static enum nx_status walk_known(struct walk *walk, const struct nx_walk_table *known,
				 uint64_t *gpa, enum marked *marked)
{
	const struct nx_state *state = &walk->engine->state;
	struct walk_step *step = &walk->step[0];
	uint64_t offset = (1ull << known->page_shift) - 1;
	enum nx_status status;

	walk->rights = known->rights;
	walk->steps = 1;
	if (known->table) {
		step->entry = &known->table[walk->linear >> 12 & 511];
		step->value = __atomic_load_n((uint64_t *)step->entry, __ATOMIC_ACQUIRE);
		step->writable = known->writable;
		if (!take_entry(walk, step->value, long_reserved(state)))
			return NX_LEAVE_PAGE_FAULT;
	} else {
		*step = (struct walk_step){.value = known->value[known->upper - 1]};
	}
	/* The loop of descend_wide() keeps the address bits: one function for both takes longer. */
	*gpa = (step->value & ~address_reserved(state) & NX_PAGE_MASK & ~offset) |
	       (walk->linear & offset);
	status = check_rights(walk);
	if (status == NX_OK)
		*marked = mark_all(walk);
	return status;
}

/* ---- A walk ---- */

/* Walk once; *marked is what has become of the marks if the status is NX_OK. */
static enum nx_status walk_once(struct walk *walk, uint64_t *gpa, enum marked *marked)
{
	enum nx_status status;

	walk->steps = 0;
	walk->rights = ~0ull;
	if (walk->engine->state.efer & NX_EFER_LMA)
		status = walk_long(walk, gpa);
	else if (walk->wide)
		status = walk_pae(walk, gpa);
	else
		status = walk_32(walk, gpa);
	if (status == NX_OK)
		status = check_rights(walk);
	if (status == NX_OK)
		*marked = mark_all(walk);
	return status;
}

/* Return whether the walk, which was one for a load, would do for a store and mark nothing more. */
static bool allows_stores(struct walk *walk)
{
	if (walk->access != NX_READ || !(walk->step[walk->steps - 1].value & PTE_DIRTY))
		return false;
	walk->access = NX_WRITE;
	return check_rights(walk) == NX_OK;
}

/* Note what nx_walk_keep() needs of a walk that has led to a page, by a table if that is known. */
static void note_found(struct nx_engine *engine, struct walk *walk, struct nx_walk_table *table)
{
	struct nx_walk_found *found = &engine->guest.found;
	uint64_t marks = walk->access == NX_WRITE ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED;

	if (table) {
		found->table = table;
		found->entry = table->table ? &table->table[walk->linear >> 12 & 511]
					    : table->entry[table->upper - 1];
		found->value = walk->step[walk->steps - 1].value | marks;
	}
	found->stores = allows_stores(walk);
}

enum nx_status nx_walk(struct nx_engine *engine, uint64_t linear, enum nx_access access,
		       uint64_t *gpa)
{
	const struct nx_state *state = &engine->state;
	const bool is_long = state->efer & NX_EFER_LMA;
	struct nx_walk_table *known;
	struct walk walk NX_UNINITIALIZED;
	enum marked marked;
	uint64_t found;

	if (!is_long)
		linear = (uint32_t)linear;
	engine->guest.found = (struct nx_walk_found){.table = NULL};
	if (!(state->cr0 & NX_CR0_PG)) {
		*gpa = linear;
		return NX_OK;
	}

	walk.engine = engine;
	walk.linear = linear;
	walk.access = access;
	walk.wide = is_long || (state->cr4 & NX_CR4_PAE);
	known = is_long ? known_table(engine, linear) : NULL;
	if (known && walk_known(&walk, known, &found, &marked) == NX_OK && marked == MARKED) {
		note_found(engine, &walk, known);
		*gpa = found;
		return NX_OK;
	}
	for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
		enum nx_status status = walk_once(&walk, &found, &marked);

		if (status != NX_OK)
			return status;
		switch (marked) {
		case MARKED:
			if (is_long)
				keep_table(engine, &walk);
			note_found(engine, &walk, is_long ? table_row(engine, linear) : NULL);
			*gpa = found;
			return NX_OK;
		case MARK_FORBIDDEN:
			return NX_LEAVE_HOST_PAGE;
		case MARK_CHANGED:
			break;
		}
	}
	return NX_LEAVE_PAGE_FAULT;
}
