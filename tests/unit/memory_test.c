// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* memory.c: the software TLB, and guest memory for C code. */
#include <pthread.h>

#include "stage.h"

#define DATA MOCK_DATA

static struct nx_tlb_entry *entry_of(struct mock *m, uint64_t linear)
{
	return &m->engine->context.tlb[linear / 4096 % NX_TLB_ENTRIES];
}

static void test_fill(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	struct nx_tlb_entry *entry = entry_of(m, DATA);
	struct nx_target target;

	(void)state;
	mock_set_pte(m, DATA, MOCK_EXTRA | 7);
	stage_begin(m);
	assert_int_equal(entry->read, 1);
	assert_int_equal(nx_guest_resolve_linear(m->engine, DATA + 0x123, 4, NX_READ, &target),
			 NX_OK);
	assert_false(target.device);
	assert_int_equal(target.gpa, MOCK_EXTRA + 0x123);
	assert_ptr_equal(target.host, m->ram + MOCK_EXTRA + 0x123);
	assert_int_equal(entry->read, DATA);
	assert_int_equal(entry->write, 1);
	assert_ptr_equal((void *)(uintptr_t)(DATA + entry->addend), m->ram + MOCK_EXTRA);
	assert_int_equal(nx_guest_resolve_linear(m->engine, DATA + 0xffc, 4, NX_WRITE, &target),
			 NX_OK);
	assert_int_equal(entry->write, DATA);
	/* Reading once more takes no right away. */
	assert_int_equal(nx_guest_resolve_linear(m->engine, DATA, 8, NX_READ, &target), NX_OK);
	assert_int_equal(entry->write, DATA);
	/* Fetching fills nothing. */
	assert_int_equal(nx_guest_resolve_linear(m->engine, DATA + 0x1000, 1, NX_FETCH, &target),
			 NX_OK);
	assert_int_equal(entry_of(m, DATA + 0x1000)->read, 1);
	mock_free(m);
}

/* Two pages that share an entry: neither's rights may be the other's. */
static void test_conflict(void **state)
{
	const uint64_t other = DATA + NX_TLB_ENTRIES * 4096;
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	struct nx_tlb_entry *entry = entry_of(m, DATA);
	struct nx_target target;

	(void)state;
	stage_begin(m);
	assert_ptr_equal(entry, entry_of(m, other));
	assert_int_equal(nx_guest_resolve_linear(m->engine, DATA, 4, NX_WRITE, &target), NX_OK);
	assert_int_equal(nx_guest_resolve_linear(m->engine, other, 4, NX_READ, &target), NX_OK);
	assert_int_equal(entry->read, other);
	assert_int_equal(entry->write, 1);
	assert_ptr_equal((void *)(uintptr_t)(other + entry->addend), m->ram + other);
	/* The same page, mapped again while it was known to be writable. */
	assert_int_equal(nx_guest_resolve_linear(m->engine, other, 4, NX_WRITE, &target), NX_OK);
	mock_set_pte(m, (uint32_t)other, MOCK_EXTRA | 7);
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	nx_walk_forget(m->engine);
	assert_int_equal(nx_guest_resolve_linear(m->engine, other, 4, NX_READ, &target), NX_OK);
	assert_int_equal(entry->write, 1);
	assert_ptr_equal((void *)(uintptr_t)(other + entry->addend), m->ram + MOCK_EXTRA);
	mock_free(m);
}

static void test_flush_and_protect(void **state)
{
	enum { PAGES = 2 * NX_TLB_ENTRIES };
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	struct nx_target target;

	(void)state;
	stage_begin(m);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < PAGES; i++)
			assert_int_equal(nx_guest_resolve_linear(m->engine, DATA + i * 4096ull, 8,
								 NX_WRITE, &target),
					 NX_OK);
		assert_int_equal(m->engine->guest.tlb_used_count, NX_TLB_ENTRIES);
		nx_tlb_protect(m->engine, m->ram + DATA + (PAGES - 1) * 4096);
		/* That one, for writing only, and no other. */
		for (unsigned i = PAGES / 2; i < PAGES; i++) {
			const uint64_t linear = DATA + i * 4096ull;

			assert_int_equal(entry_of(m, linear)->read, linear);
			assert_int_equal(entry_of(m, linear)->write, i < PAGES - 1 ? linear : 1);
		}
		nx_tlb_flush(m->engine);
		for (unsigned i = 0; i < NX_TLB_ENTRIES; i++) {
			assert_int_equal(m->engine->context.tlb[i].read, 1);
			assert_int_equal(m->engine->context.tlb[i].write, 1);
		}
	}
	mock_free(m);
}

static void test_kinds(void **state)
{
	static const struct {
		enum mock_page page;
		enum nx_status read, write;
		bool read_device, write_device;
	} rows[] = {
	    {MOCK_PAGE_RAM, NX_OK, NX_OK, false, false},
	    {MOCK_PAGE_READONLY, NX_OK, NX_LEAVE_HOST_PAGE, false, false},
	    {MOCK_PAGE_ROM, NX_OK, NX_OK, false, true},
	    {MOCK_PAGE_DEVICE, NX_OK, NX_OK, true, true},
	    {MOCK_PAGE_LEAVE, NX_LEAVE_HOST_PAGE, NX_LEAVE_HOST_PAGE, false, false},
	};
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);

	(void)state;
	stage_begin(m);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nx_target target = {.device = false};
		uint64_t value = 0;

		m->page[DATA / 4096] = (uint8_t)rows[i].page;
		nx_engine_flush(m->engine);
		assert_int_equal(nx_guest_resolve_linear(m->engine, DATA, 4, NX_WRITE, &target),
				 rows[i].write);
		assert_int_equal(target.device, rows[i].write_device);
		if (rows[i].write != NX_OK || rows[i].write_device)
			assert_int_equal(entry_of(m, DATA)->write, 1);
		assert_int_equal(nx_guest_resolve_linear(m->engine, DATA, 4, NX_READ, &target),
				 rows[i].read);
		assert_int_equal(target.device, rows[i].read_device);
		/* A helper cannot reach a device. */
		nx_engine_flush(m->engine);
		assert_int_equal(nx_guest_read(m->engine, NX_DS, DATA, &value, 4),
				 rows[i].read_device ? NX_LEAVE_DEVICE_FORM : rows[i].read);
		assert_int_equal(nx_guest_write(m->engine, NX_DS, DATA, &value, 4),
				 rows[i].write_device ? NX_LEAVE_DEVICE_FORM : rows[i].write);
	}
	mock_free(m);
}

static void test_crossing(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	struct nx_target target;

	(void)state;
	stage_begin(m);
	for (unsigned size = 1; size <= 8; size *= 2) {
		uint64_t last = DATA + 0x1000 - size, value = 0;

		assert_int_equal(nx_guest_resolve_linear(m->engine, last, size, NX_READ, &target),
				 NX_OK);
		assert_int_equal(nx_guest_read(m->engine, NX_DS, last, &value, size), NX_OK);
		for (unsigned over = 1; over < size; over++) {
			assert_int_equal(
			    nx_guest_resolve_linear(m->engine, last + over, size, NX_READ, &target),
			    NX_LEAVE_PAGE_CROSSING);
			/* A load takes what is on both pages; nothing is stored, TLB or not. */
			value = ~0ull;
			assert_int_equal(
			    nx_guest_write(m->engine, NX_DS, last + over, &value, size),
			    NX_LEAVE_PAGE_CROSSING);
			assert_int_equal(nx_guest_read(m->engine, NX_DS, last + over, &value, size),
					 NX_OK);
			assert_memory_equal(&value, m->ram + last + over, size);
		}
	}
	assert_memory_equal(m->ram + DATA, m->start_ram + DATA, 0x2000);
	mock_free(m);
}

static void test_sizes(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	const uint64_t pattern = 0x8877665544332211;

	(void)state;
	stage_begin(m);
	for (unsigned size = 1; size <= 8; size *= 2) {
		/* Also where it is not aligned. */
		for (unsigned at = 0x100; at < 0x104; at++) {
			uint8_t want[24];
			uint64_t value = ~0ull, low = pattern;

			memset(m->ram + DATA + 0xf8, 0xee, sizeof(want));
			memset(want, 0xee, sizeof(want));
			memcpy(want + at - 0xf8, &pattern, size);
			assert_int_equal(
			    nx_guest_write(m->engine, NX_DS, DATA + at, &pattern, size), NX_OK);
			assert_memory_equal(m->ram + DATA + 0xf8, want, sizeof(want));
			if (size < 8)
				low &= (1ull << 8 * size) - 1;
			assert_int_equal(nx_guest_read(m->engine, NX_DS, DATA + at, &value, size),
					 NX_OK);
			assert_int_equal(value, low);
		}
	}
	mock_free(m);
}

/* Segments: limits, rights, and linear addresses that wrap at 4 GiB. */
static void test_segments(void **state)
{
	struct mock *m = mock_new(MOCK_FLAT32, 0, NX_LEVEL_STRAIGHT);
	const uint32_t stored = 0x12345678;
	uint64_t value = 0;
	void *host;

	(void)state;
	m->start.seg[NX_ES].base = 0xfffffff0;
	m->start.seg[NX_FS].limit = 0xfff;
	m->start.seg[NX_GS].type = 1; /* may not be written */
	mock_poke(m, 0x10, &stored, 4);
	stage_begin(m);
	assert_int_equal(nx_guest_read(m->engine, NX_ES, 0x20, &value, 4), NX_OK);
	assert_int_equal(value, stored);
	/* It begins below 4 GiB and ends above: not ours. */
	assert_int_equal(nx_guest_read(m->engine, NX_ES, 0xe, &value, 4), NX_LEAVE_PAGE_CROSSING);
	assert_int_equal(nx_guest_read(m->engine, NX_DS, 0xfffffffd, &value, 4), NX_LEAVE_SEGMENT);
	assert_int_equal(nx_guest_read(m->engine, NX_FS, 0xffc, &value, 4), NX_OK);
	assert_int_equal(nx_guest_read(m->engine, NX_FS, 0xffd, &value, 4), NX_LEAVE_SEGMENT);
	assert_int_equal(nx_guest_read(m->engine, NX_GS, 0x10, &value, 4), NX_OK);
	assert_int_equal(nx_guest_write(m->engine, NX_GS, 0x10, &value, 4), NX_LEAVE_SEGMENT);
	assert_int_equal(nx_guest_pointer(m->engine, NX_GS, 0x10, 4, &host), NX_LEAVE_SEGMENT);
	mock_free(m);
}

/* The miss handler, as emitted code calls it. */
static void *miss(struct mock *m, uint64_t linear, uint8_t size, bool write)
{
	static struct nx_site site;
	static struct nx_cluster cluster = {.site = &site, .sites = 1};

	site = (struct nx_site){.kind = NX_SITE_ACCESS, .size = size, .write = write};
	m->engine->running = &cluster;
	m->engine->context.site = 0;
	m->engine->context.linear = linear;
	m->engine->stopped.is_mmio = false;
	return nx_runtime_miss(&m->engine->context);
}

static void test_miss(void **state)
{
	struct mock *m = mock_new(MOCK_PAE32, 0, NX_LEVEL_STRAIGHT);

	(void)state;
	mock_set_pte(m, DATA + 0x1000, 0);
	stage_begin(m);
	assert_ptr_equal(miss(m, DATA + 8, 4, true), m->ram + DATA + 8);
	assert_int_equal(entry_of(m, DATA)->write, DATA);
	assert_null(miss(m, DATA + 0x1000, 4, false));
	assert_int_equal(m->engine->stopped.reason, NX_LEAVE_PAGE_FAULT);
	assert_false(m->engine->stopped.is_mmio);
	assert_null(miss(m, DATA + 0xffe, 4, false));
	assert_int_equal(m->engine->stopped.reason, NX_LEAVE_PAGE_FAULT);
	assert_null(miss(m, DATA - 2, 4, true));
	assert_int_equal(m->engine->stopped.reason, NX_LEAVE_PAGE_CROSSING);
	assert_memory_equal(miss(m, DATA - 2, 4, false), m->ram + DATA - 2, 4);
	/* Half of it is a device's. */
	m->page[DATA / 4096 + 2] = MOCK_PAGE_DEVICE;
	assert_null(miss(m, DATA + 0x2fff, 2, false));
	assert_int_equal(m->engine->stopped.reason, NX_LEAVE_PAGE_CROSSING);
	assert_false(m->engine->stopped.is_mmio);
	/* A linear address has 32 bits here; emitted code adds in 64. */
	assert_null(miss(m, 0xfffffffe, 4, false));
	assert_int_equal(m->engine->stopped.reason, NX_LEAVE_PAGE_CROSSING);
	assert_null(miss(m, 0x100000000, 1, false));
	assert_int_equal(m->engine->stopped.reason, NX_LEAVE_PAGE_CROSSING);
	assert_null(miss(m, MOCK_DEVICE + 4, 4, true));
	assert_true(m->engine->stopped.is_mmio);
	assert_int_equal(m->engine->stopped.gpa, MOCK_DEVICE + 4);
	assert_int_equal(m->engine->counters.tlb_misses, 9);
	mock_free(m);
}

/* Another processor sees and makes whole values only. */

#define SWAPS 200000u

static void *swap(void *data)
{
	volatile uint64_t *at = data;

	for (unsigned i = 0; i < SWAPS; i++) {
		uint64_t seen;

		*at = i & 1 ? 0 : ~0ull;
		seen = at[8];
		if (seen != 0 && seen != ~0ull)
			return data;
	}
	return NULL;
}

static void test_whole_values(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	uint64_t *at = (uint64_t *)(void *)(m->ram + DATA);
	void *torn = NULL;
	pthread_t other;

	(void)state;
	stage_begin(m);
	memset(at, 0, 4096);
	assert_int_equal(pthread_create(&other, NULL, swap, at), 0);
	for (unsigned i = 0; i < SWAPS; i++) {
		const uint64_t next = i & 1 ? 0 : ~0ull;
		uint64_t value = 1;

		assert_int_equal(nx_guest_read(m->engine, NX_DS, DATA, &value, 8), NX_OK);
		assert_true(value == 0 || value == ~0ull);
		assert_int_equal(nx_guest_write(m->engine, NX_DS, DATA + 64, &next, 8), NX_OK);
	}
	assert_int_equal(pthread_join(other, &torn), 0);
	assert_null(torn);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fill),         cmocka_unit_test(test_conflict),
	    cmocka_unit_test(test_kinds),        cmocka_unit_test(test_flush_and_protect),
	    cmocka_unit_test(test_crossing),     cmocka_unit_test(test_sizes),
	    cmocka_unit_test(test_segments),     cmocka_unit_test(test_miss),
	    cmocka_unit_test(test_whole_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
