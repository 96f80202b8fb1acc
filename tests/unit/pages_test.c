// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* pages.c: a page that is known is where a walk leads now, with the same rights and marks. */
#include <stdlib.h>

#include "stage.h"

#include "x86.h"

#define PTE_BITS (1ull << 0 | 1ull << 1 | 1ull << 2)
#define ACCESSED (1ull << 5)
#define DIRTY (1ull << 6)
#define NX_BIT (1ull << 63)
#define TABLES 0xf0000u /* to the end of memory */
#define TABLES_SIZE (MOCK_RAM_SIZE - TABLES)
#define OTHER_ROOT 0xff000u /* a copy of the highest table */
#define PAGES 4

/* The next stay, in which the host has said that its pages hold. */
static void next_stay(struct mock *m)
{
	nx_tlb_flush(m->engine);
	nx_code_forget(m->engine);
}

static uint64_t *entry_at(struct mock *m, uint64_t linear, unsigned last)
{
	uint64_t gpa = m->start.cr3, *entry = NULL;

	for (unsigned level = 4; level >= last; level--) {
		entry = (uint64_t *)(void *)(m->ram + (gpa & 0xfffff000)) +
			(linear >> (12 + 9 * (level - 1)) & 511);
		gpa = *entry;
	}
	return entry;
}

static uint64_t *pte(struct mock *m, uint64_t linear)
{
	return entry_at(m, linear, 1);
}

static enum nx_status resolve(struct mock *m, uint64_t linear, enum nx_access access, void **host)
{
	struct nx_target target = {.host = NULL};
	enum nx_status status =
	    nx_guest_resolve_linear(m->engine, linear + 0x40, 8, access, &target);

	if (status == NX_OK && !target.device)
		assert_ptr_equal(target.host, m->ram + target.gpa);
	*host = target.host;
	return status;
}

static struct mock *begin(void)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);

	stage_begin(m);
	return m;
}

static void test_known_and_not(void **state)
{
	struct mock *m = begin();
	const uint64_t page = MOCK_DATA;
	uint64_t *entry = pte(m, page);
	const struct nx_walk_page *known;
	void *host;

	(void)state;
	*entry = MOCK_EXTRA | PTE_BITS;
	assert_null(nx_walk_known_page(m->engine, page, NX_READ));
	assert_int_equal(resolve(m, page, NX_READ, &host), NX_OK);
	known = nx_walk_known_page(m->engine, page + 0x123, NX_READ);
	assert_non_null(known);
	assert_ptr_equal(known->host, m->ram + MOCK_EXTRA);
	assert_int_equal(known->gpa, MOCK_EXTRA);
	/* Not for a store, which has to mark the page, nor for what nobody has asked. */
	assert_null(nx_walk_known_page(m->engine, page, NX_WRITE));
	assert_null(nx_walk_known_page(m->engine, page, NX_FETCH));
	assert_null(nx_walk_known_page(m->engine, page, NX_READ_SYSTEM));
	assert_int_equal(resolve(m, page, NX_WRITE, &host), NX_OK);
	assert_int_equal(*entry, MOCK_EXTRA | PTE_BITS | ACCESSED | DIRTY);
	/* Loads and stores go together, and the next stay knows of both. */
	for (unsigned stay = 0; stay < 3; stay++) {
		assert_non_null(nx_walk_known_page(m->engine, page, NX_READ));
		assert_non_null(nx_walk_known_page(m->engine, page, NX_WRITE));
		next_stay(m);
	}
	/* Within a stay an old entry may be used as a processor uses it; in the next it is not. */
	assert_int_equal(resolve(m, page, NX_WRITE, &host), NX_OK);
	*entry = MOCK_STACK | PTE_BITS;
	assert_non_null(nx_walk_known_page(m->engine, page, NX_WRITE));
	next_stay(m);
	assert_null(nx_walk_known_page(m->engine, page, NX_WRITE));
	assert_int_equal(resolve(m, page, NX_READ, &host), NX_OK);
	assert_ptr_equal(host, m->ram + MOCK_STACK + 0x40);
	/* A mark that the guest takes away is set again. */
	assert_int_equal(resolve(m, page, NX_WRITE, &host), NX_OK);
	*entry &= ~DIRTY;
	next_stay(m);
	assert_int_equal(resolve(m, page, NX_WRITE, &host), NX_OK);
	assert_true(*entry & DIRTY);
	/* What the host has said no longer holds. */
	nx_walk_drop(m->engine);
	assert_null(nx_walk_known_page(m->engine, page, NX_READ));
	mock_free(m);
}

/* Only memory that the host lets be stored to is kept. */
static void test_kinds_of_pages(void **state)
{
	struct mock *m = begin();
	void *host;

	(void)state;
	for (unsigned kind = MOCK_PAGE_READONLY; kind <= MOCK_PAGE_LEAVE; kind++) {
		m->page[MOCK_DATA / 4096] = (uint8_t)kind;
		nx_engine_flush(m->engine);
		(void)resolve(m, MOCK_DATA, NX_READ, &host);
		assert_null(nx_walk_kept_page(m->engine, MOCK_DATA));
	}
	mock_free(m);
}

/* A row has room for two; what is pushed out is walked to again. */
static void test_rows(void **state)
{
	struct mock *m = begin();
	void *host;

	(void)state;
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t page = MOCK_DATA + i * NX_WALK_PAGES * 4096ull;

		*pte(m, page) = (MOCK_EXTRA + i * 4096) | PTE_BITS;
		assert_int_equal(resolve(m, page, NX_READ, &host), NX_OK);
		assert_ptr_equal(host, m->ram + MOCK_EXTRA + i * 4096 + 0x40);
	}
	assert_null(nx_walk_kept_page(m->engine, MOCK_DATA));
	assert_non_null(nx_walk_kept_page(m->engine, MOCK_DATA + NX_WALK_PAGES * 4096ull));
	assert_non_null(nx_walk_kept_page(m->engine, MOCK_DATA + 2 * NX_WALK_PAGES * 4096ull));
	assert_int_equal(resolve(m, MOCK_DATA, NX_READ, &host), NX_OK);
	assert_ptr_equal(host, m->ram + MOCK_EXTRA + 0x40);
	mock_free(m);
}

static uint64_t random_below(uint64_t *seed, uint64_t below)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return (*seed >> 33) % below;
}

/* Change something that a walk depends on; most of what is drawn allows most accesses. */
static void disturb(struct mock *m, uint64_t *seed)
{
	struct nx_engine *engine = m->engine;
	struct nx_state *s = &engine->state;
	uint64_t linear = MOCK_DATA + random_below(seed, PAGES) * 4096;
	uint64_t *entry = pte(m, linear);

	switch (random_below(seed, 18)) {
	case 0:
		*entry ^= 1ull << random_below(seed, 8);
		break;
	case 1:
		*entry ^= NX_BIT;
		break;
	case 2:
		*entry = (*entry & ~0xff000ull) | (0x40000 + random_below(seed, PAGES) * 4096);
		break;
	case 3:
	case 12:
	case 13:
	case 14:
	case 15:
		*entry =
		    0x40000 | PTE_BITS | random_below(seed, 4) << 5 | random_below(seed, 16) << 59;
		for (unsigned level = 2; level <= 4; level++) {
			entry = entry_at(m, linear, level);
			*entry = (*entry | PTE_BITS) & ~NX_BIT;
		}
		break;
	case 4:
		engine->cpl = (uint8_t)(random_below(seed, 2) * 3);
		break;
	case 5:
		s->cr0 ^= NX_CR0_WP;
		break;
	case 6:
		s->cr4 ^= random_below(seed, 2) ? NX_CR4_SMEP : NX_CR4_SMAP;
		break;
	case 7:
		engine->context.rflags ^= NX_FL_AC;
		break;
	case 8:
		s->cr4 ^= NX_CR4_PKE;
		break;
	case 9:
		s->pkru = (uint32_t)random_below(seed, 1ull << 31) << 1;
		break;
	case 10:
		s->efer ^= NX_EFER_NXE;
		break;
	case 16:
	case 17:
		entry = entry_at(m, linear, 2 + (unsigned)random_below(seed, 3));
		*entry ^= random_below(seed, 2) ? 1ull << (1 + random_below(seed, 2)) : NX_BIT;
		break;
	default:
		s->cr3 = s->cr3 == m->start.cr3 ? OTHER_ROOT : m->start.cr3;
		break;
	}
}

/*
 * By whatever has been changed since the stay before: the result, the place and the page tables
 * are those of a walk that knows nothing.
 */
static void test_random(void **state)
{
	struct mock *m = begin();
	uint8_t *before = malloc(TABLES_SIZE), *after = malloc(TABLES_SIZE);
	unsigned known = 0, ok = 0;
	uint64_t seed = 1;

	(void)state;
	memcpy(m->ram + OTHER_ROOT, m->ram + m->start.cr3, 4096);
	for (unsigned i = 0; i < PAGES; i++)
		*pte(m, MOCK_DATA + i * 4096) = (MOCK_EXTRA + i * 4096) | PTE_BITS;
	for (unsigned turn = 0; turn < 100000; turn++) {
		uint64_t linear = MOCK_DATA + random_below(&seed, PAGES) * 4096;
		enum nx_access access = (enum nx_access)random_below(&seed, 4);
		void *host, *again;
		enum nx_status status;

		if (turn % 8 == 0)
			disturb(m, &seed);
		next_stay(m);
		memcpy(before, m->ram + TABLES, TABLES_SIZE);
		known += nx_walk_known_page(m->engine, linear, access) != NULL;
		status = resolve(m, linear, access, &host);
		memcpy(after, m->ram + TABLES, TABLES_SIZE);
		if (turn % 3)
			continue;
		memcpy(m->ram + TABLES, before, TABLES_SIZE);
		nx_walk_drop(m->engine);
		assert_int_equal(resolve(m, linear, access, &again), status);
		assert_ptr_equal(again, host);
		assert_memory_equal(m->ram + TABLES, after, TABLES_SIZE);
		ok += status == NX_OK;
	}
	/* Both have happened often. */
	assert_in_range(known, 5000, 95000);
	assert_in_range(ok, 5000, 30000);
	free(before);
	free(after);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_known_and_not),
	    cmocka_unit_test(test_kinds_of_pages),
	    cmocka_unit_test(test_rows),
	    cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
