// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* consistency.c: translated code is run only where the guest's bytes are still the same. */
#include "stage.h"

GUEST(code, 64, "in al, dx", "out dx, al; mov ecx, 0x12345678; mov ebx, ecx; out dx, al", "hlt");

/* No entry's offset. */
#define ALL UINT32_MAX
#define CODE_BYTES ((unsigned)(code_stop - code_resume))
#define FIRST_OUT_BYTES 1u

/* The engine's graph as a cluster of the cache. */
static struct nx_cluster *keep_graph(struct nx_engine *engine)
{
	assert_int_equal(nx_make_emitted(engine, engine->cache.code_used), NX_OK);
	assert_int_equal(nx_cache_place(engine, &engine->cache), NX_OK);
	nx_engine_flush(engine);
	return nx_cache_insert(engine, &engine->cache);
}

/* A cluster of the code at rip, as the cache keeps it. */
static struct nx_cluster *make_cluster(struct mock *m, uint64_t rip)
{
	mock_poke(m, (uint32_t)rip, code_resume, CODE_BYTES);
	m->start.rip = rip;
	stage_begin(m);
	assert_true(stage_form(m, NX_LEVEL_STRAIGHT));
	return keep_graph(m->engine);
}

static void test_each_byte(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	struct nx_cluster *cluster = make_cluster(m, MOCK_CODE);

	(void)state;
	assert_non_null(cluster);
	assert_int_equal(nx_code_check(m->engine, cluster, cluster->entry[0].offset), NX_OK);
	for (unsigned i = 0; i < CODE_BYTES; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			m->ram[MOCK_CODE + i] ^= (uint8_t)(1u << bit);
			/* From the beginning to the first OUT, and from there to the second. */
			for (unsigned e = 0; e < 2; e++)
				assert_int_equal(
				    nx_code_check(m->engine, cluster, cluster->entry[e].offset),
				    (i >= FIRST_OUT_BYTES) == e ? NX_LEAVE_CODE_CHANGED : NX_OK);
			assert_int_equal(nx_code_check(m->engine, cluster, ALL),
					 NX_LEAVE_CODE_CHANGED);
			m->ram[MOCK_CODE + i] ^= (uint8_t)(1u << bit);
		}
	}
	/* What lies around it is not in the cluster. */
	m->ram[MOCK_CODE - 1] ^= 0xff;
	m->ram[MOCK_CODE + CODE_BYTES] ^= 0xff;
	assert_int_equal(nx_code_check(m->engine, cluster, cluster->entry[0].offset), NX_OK);
	/* One page, looked up once. */
	assert_int_equal(m->engine->guest.code_pages, 1);
	mock_free(m);
}

static void test_two_pages(void **state)
{
	const uint64_t border = MOCK_CODE + 0x1000;
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	struct nx_cluster *cluster = make_cluster(m, border - 4);

	(void)state;
	assert_non_null(cluster);
	assert_int_equal(cluster->fragments, 2);
	assert_int_equal(nx_code_check(m->engine, cluster, ALL), NX_OK);
	assert_int_equal(m->engine->guest.code_pages, 2);
	for (uint64_t at = border - 4; at < border - 4 + CODE_BYTES; at++) {
		m->ram[at] ^= 0x10;
		assert_int_equal(nx_code_check(m->engine, cluster, ALL), NX_LEAVE_CODE_CHANGED);
		m->ram[at] ^= 0x10;
	}
	nx_engine_flush(m->engine);
	/* The second page is gone: nothing to compare with. */
	mock_set_pte(m, (uint32_t)border, 0);
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	assert_int_equal(nx_code_check(m->engine, cluster, ALL), NX_LEAVE_CODE_UNREADABLE);
	mock_free(m);
}

/* The same linear address leads elsewhere: what is there counts. */
static void test_remapped(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	struct nx_cluster *cluster = make_cluster(m, MOCK_CODE);

	(void)state;
	assert_int_equal(nx_code_check(m->engine, cluster, ALL), NX_OK);
	mock_set_pte(m, MOCK_CODE, MOCK_EXTRA | 7);
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	nx_engine_flush(m->engine);
	assert_int_equal(nx_code_check(m->engine, cluster, ALL), NX_LEAVE_CODE_CHANGED);
	/* The same code there will do, and it is that page that is guarded. */
	memcpy(m->ram + MOCK_EXTRA, code_resume, CODE_BYTES);
	nx_engine_flush(m->engine);
	assert_int_equal(nx_code_check(m->engine, cluster, ALL), NX_OK);
	assert_ptr_equal(m->engine->guest.code_page[0], m->ram + MOCK_EXTRA);
	/* To a device, or to what the host does not hand out. */
	m->page[MOCK_EXTRA / 4096] = MOCK_PAGE_DEVICE;
	nx_engine_flush(m->engine);
	assert_int_equal(nx_code_check(m->engine, cluster, ALL), NX_LEAVE_CODE_UNREADABLE);
	m->page[MOCK_EXTRA / 4096] = MOCK_PAGE_LEAVE;
	nx_engine_flush(m->engine);
	assert_int_equal(nx_code_check(m->engine, cluster, ALL), NX_LEAVE_CODE_UNREADABLE);
	mock_free(m);
}

/* Fragments that run from an entry to the next exit, and not what is behind that. */
static void test_what_may_run(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);
	const uint32_t far = 0x800;
	struct nx_cluster *cluster;
	struct nx_engine *engine = m->engine;
	/* out; jmp far / far: out; jmp back to a third out */
	const uint8_t first[] = {0x89, 0xc8, 0xee, 0xe9},
		      second[] = {0x89, 0xd8, 0xee, 0xeb, 0x02, 0x90, 0x90, 0xee};
	const uint32_t jump = far - sizeof(first) - 4;

	(void)state;
	mock_poke(m, MOCK_CODE, first, sizeof(first));
	mock_poke(m, MOCK_CODE + sizeof(first), &jump, 4);
	mock_poke(m, MOCK_CODE + far, second, sizeof(second));
	m->start.rip = MOCK_CODE;
	stage_begin(m);
	assert_true(stage_form(m, NX_LEVEL_LOOPS));
	cluster = keep_graph(engine);
	assert_non_null(cluster);
	assert_true(cluster->fragments >= 3);
	assert_true(cluster->entries >= 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(nx_code_check(engine, cluster, cluster->entry[i].offset), NX_OK);
	for (unsigned i = 0; i < 16; i++) {
		const uint32_t at[] = {0,       1,       2,       3,       4,       7,
				       far,     far + 1, far + 2, far + 3, far + 4, far + 5,
				       far + 6, far + 7, far + 8, far + 9};
		/*
		 * By which entries each byte runs, or another of its fragment if they run more than
		 * one; 0 0 0: the cluster does not have it.
		 */
		static const char *const runs[] = {"110", "110", "110", "010", "010", "010",
						   "011", "011", "011", "011", "011", "000",
						   "000", "001", "000", "000"};

		m->ram[MOCK_CODE + at[i]] ^= 0x40;
		for (unsigned e = 0; e < 3; e++)
			assert_int_equal(nx_code_check(engine, cluster, cluster->entry[e].offset),
					 runs[i][e] == '1' ? NX_LEAVE_CODE_CHANGED : NX_OK);
		/* Where no entry is, everything is compared. */
		assert_int_equal(nx_code_check(engine, cluster, ALL),
				 strcmp(runs[i], "000") ? NX_LEAVE_CODE_CHANGED : NX_OK);
		m->ram[MOCK_CODE + at[i]] ^= 0x40;
	}
	mock_free(m);
}

static enum nx_status store(struct mock *m, uint64_t linear, unsigned size)
{
	struct nx_target target = {.host = NULL};
	enum nx_status status = nx_guest_resolve_linear(m->engine, linear, size, NX_WRITE, &target);

	if (status == NX_OK)
		assert_ptr_equal(target.host, m->ram + linear % 0x1000 + MOCK_CODE);
	return status;
}

/*
 * While a cluster runs, stores to its code's page miss and are compared with its bytes: what lies
 * beside them is data like any other, by whatever address it is stored to.
 */
static void test_data_beside_code(void **state)
{
	const uint32_t alias = MOCK_EXTRA, at = 0x400;
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	struct nx_cluster *cluster = make_cluster(m, MOCK_CODE + at);
	const struct nx_tlb_entry *tlb = m->engine->context.tlb;
	const uint64_t page[] = {MOCK_CODE, alias};

	(void)state;
	mock_set_pte(m, alias, MOCK_CODE | 7);
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	assert_int_equal(nx_code_check(m->engine, cluster, cluster->entry[0].offset), NX_OK);
	/* Nobody runs: then any store is to code. */
	assert_int_equal(store(m, MOCK_CODE, 1), NX_LEAVE_CODE_WRITE);
	m->engine->running = cluster;
	for (unsigned i = 0; i < 2; i++) {
		const struct nx_tlb_entry *entry = &tlb[page[i] / 4096 % NX_TLB_ENTRIES];

		for (unsigned size = 1; size <= 8; size *= 2) {
			assert_int_equal(store(m, page[i] + at - size, size), NX_OK);
			assert_int_equal(store(m, page[i] + at - size + 1, size),
					 NX_LEAVE_CODE_WRITE);
			assert_int_equal(store(m, page[i] + at + CODE_BYTES - 1, size),
					 NX_LEAVE_CODE_WRITE);
			assert_int_equal(store(m, page[i] + at + CODE_BYTES, size), NX_OK);
		}
		/* A check in emitted code never hits there; C need not walk again. */
		assert_int_equal(entry->read, page[i]);
		assert_int_equal(entry->write, 1);
		assert_int_equal(entry->guarded, page[i]);
	}
	m->engine->running = NULL;
	mock_free(m);
}

/* Data that was stored to before its page became code is stored to as before, but compared. */
static void test_data_becomes_code(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	struct nx_cluster *cluster = make_cluster(m, MOCK_CODE);
	const struct nx_tlb_entry *entry =
	    &m->engine->context.tlb[MOCK_CODE / 4096 % NX_TLB_ENTRIES];
	uint64_t value = 0x99;

	(void)state;
	assert_int_equal(store(m, MOCK_CODE + 0x800, 4), NX_OK);
	assert_int_equal(entry->write, MOCK_CODE);
	assert_int_equal(entry->guarded, 1);
	assert_int_equal(nx_code_check(m->engine, cluster, cluster->entry[0].offset), NX_OK);
	assert_int_equal(entry->write, 1);
	assert_int_equal(entry->guarded, MOCK_CODE);
	m->engine->running = cluster;
	assert_int_equal(nx_guest_write(m->engine, NX_DS, MOCK_CODE + 0x800, &value, 1), NX_OK);
	assert_int_equal(m->ram[MOCK_CODE + 0x800], 0x99);
	assert_int_equal(nx_guest_write(m->engine, NX_DS, MOCK_CODE, &value, 1),
			 NX_LEAVE_CODE_WRITE);
	assert_int_equal(m->ram[MOCK_CODE], code_resume[0]);
	/* Nor does a store that begins beside it get in by reaching over. */
	assert_int_equal(nx_guest_write(m->engine, NX_DS, MOCK_CODE - 1, &value, 2),
			 NX_LEAVE_PAGE_CROSSING);
	nx_engine_flush(m->engine);
	assert_int_equal(entry->guarded, 1);
	m->engine->running = NULL;
	mock_free(m);
}

/* Stores to the code miss from the check on, by whatever address they come. */
static void test_stores_are_caught(void **state)
{
	const uint32_t alias = MOCK_EXTRA;
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
	struct nx_cluster *cluster = make_cluster(m, MOCK_CODE);
	const struct nx_tlb_entry *tlb = m->engine->context.tlb;
	struct nx_target target;

	(void)state;
	mock_set_pte(m, alias, MOCK_CODE | 7);
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	assert_int_equal(nx_guest_resolve_linear(m->engine, MOCK_CODE, 4, NX_WRITE, &target),
			 NX_OK);
	assert_int_equal(nx_guest_resolve_linear(m->engine, MOCK_DATA, 4, NX_WRITE, &target),
			 NX_OK);
	assert_int_equal(tlb[MOCK_CODE / 4096 % NX_TLB_ENTRIES].write, MOCK_CODE);
	assert_int_equal(nx_code_check(m->engine, cluster, cluster->entry[0].offset), NX_OK);
	assert_int_equal(tlb[MOCK_CODE / 4096 % NX_TLB_ENTRIES].write, 1);
	assert_int_equal(tlb[MOCK_CODE / 4096 % NX_TLB_ENTRIES].read, MOCK_CODE);
	assert_int_equal(tlb[MOCK_DATA / 4096 % NX_TLB_ENTRIES].write, MOCK_DATA);
	assert_int_equal(
	    nx_guest_resolve_linear(m->engine, MOCK_CODE + 0x800, 1, NX_WRITE, &target),
	    NX_LEAVE_CODE_WRITE);
	assert_int_equal(nx_guest_resolve_linear(m->engine, alias, 1, NX_WRITE, &target),
			 NX_LEAVE_CODE_WRITE);
	assert_int_equal(nx_guest_resolve_linear(m->engine, alias, 1, NX_READ, &target), NX_OK);
	/* Only as long as the stay lasts. */
	nx_engine_flush(m->engine);
	assert_int_equal(nx_guest_resolve_linear(m->engine, alias, 1, NX_WRITE, &target), NX_OK);
	mock_free(m);
}

/* Pages of code are guarded; where no more fit, code is not run. */
static void test_too_many_pages(void **state)
{
	enum { PAGES = NX_MAX_CODE_PAGES + 1 };
	struct nx_fragment fragment[PAGES];
	uint8_t bytes[PAGES];
	struct nx_cluster cluster = {.fragment = fragment, .bytes = bytes};
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);

	(void)state;
	stage_begin(m);
	for (unsigned i = 0; i < PAGES; i++) {
		uint32_t rip = MOCK_CODE + 0x1000 * i + (i & 1 ? 0xfff : 0);

		fragment[i] = (struct nx_fragment){.rip = rip, .len = 1, .bytes = (uint16_t)i};
		bytes[i] = m->ram[rip];
	}
	cluster.fragments = NX_MAX_CODE_PAGES;
	assert_int_equal(nx_code_check(m->engine, &cluster, ALL), NX_OK);
	assert_int_equal(m->engine->guest.code_pages, NX_MAX_CODE_PAGES);
	cluster.fragments = PAGES;
	assert_int_equal(nx_code_check(m->engine, &cluster, ALL), NX_LEAVE_CODE_UNREADABLE);
	/* The others are known by now. */
	cluster.fragments = NX_MAX_CODE_PAGES;
	assert_int_equal(nx_code_check(m->engine, &cluster, ALL), NX_OK);
	assert_int_equal(m->engine->guest.code_pages, NX_MAX_CODE_PAGES);
	/* Another translation's code takes the place of what is not needed any more. */
	cluster.fragment = &fragment[1];
	for (unsigned i = 0; i < PAGES; i++)
		fragment[i].bytes = (uint16_t)(i - 1);
	cluster.bytes = bytes + 1;
	assert_int_equal(nx_code_check(m->engine, &cluster, ALL), NX_OK);
	assert_int_equal(m->engine->guest.code_pages, NX_MAX_CODE_PAGES);
	assert_int_equal(m->engine->guest.code_linear[0], MOCK_CODE + 0x1000);
	bytes[PAGES - 1] ^= 1;
	assert_int_equal(nx_code_check(m->engine, &cluster, ALL), NX_LEAVE_CODE_CHANGED);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_each_byte),         cmocka_unit_test(test_two_pages),
	    cmocka_unit_test(test_what_may_run),      cmocka_unit_test(test_remapped),
	    cmocka_unit_test(test_stores_are_caught), cmocka_unit_test(test_too_many_pages),
	    cmocka_unit_test(test_data_beside_code),  cmocka_unit_test(test_data_becomes_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
