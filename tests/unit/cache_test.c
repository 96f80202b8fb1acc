// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* cache.c: what is kept is found where it holds, and nowhere else; a full cache takes no more. */
#include "stage.h"

/* Put a cluster of no particular code into the cache: entries at rip, rip + 1 and so on. */
static struct nx_cluster *insert(struct mock *m, uint64_t rip, unsigned entries, unsigned sites,
				 unsigned bytes)
{
	struct nx_engine *engine = m->engine;
	struct nx_graph *graph = &engine->graph;
	struct nx_translation *made = &engine->translation;

	memset(graph, 0, sizeof(*graph));
	graph->mode = engine->mode;
	graph->rip = rip;
	graph->contexts.count = 1;
	graph->fragments = 1;
	graph->fragment[0] = (struct nx_fragment){rip, (uint16_t)bytes, 0};
	graph->byte_count = (uint16_t)bytes;
	memset(graph->bytes, (int)rip, bytes);
	made->size = 100;
	made->entries = (uint16_t)entries;
	made->sites = (uint16_t)sites;
	for (unsigned i = 0; i < entries; i++)
		made->entry[i] = (struct nx_entry){rip + i, 3 * i};
	for (unsigned i = 0; i < sites; i++)
		made->site[i] = (struct nx_site){.rip = rip + i};
	return nx_cache_insert(engine, &engine->cache);
}

static struct mock *begin(enum mock_mode mode)
{
	struct mock *m = mock_new(mode, 0, NX_LEVEL_STRAIGHT);

	m->start.rip = mode <= MOCK_PROT16 ? MOCK_CODE16 : MOCK_CODE;
	stage_begin(m);
	return m;
}

static struct nx_cluster *find(struct mock *m, uint64_t rip)
{
	uint32_t offset = 0;

	return nx_cache_find(m->engine, &m->engine->cache, rip, &offset);
}

static void check_contents(const struct nx_cluster *cluster, uint64_t rip, unsigned sites,
			   unsigned bytes)
{
	assert_int_equal(cluster->rip, rip);
	assert_int_equal(cluster->fragment[0].rip, rip);
	for (unsigned i = 0; i < sites; i++)
		assert_int_equal(cluster->site[i].rip, rip + i);
	for (unsigned i = 0; i < bytes; i++)
		assert_int_equal(cluster->bytes[i], (uint8_t)rip);
}

static void test_find(void **state)
{
	struct mock *m = begin(MOCK_LONG64);
	struct nx_cluster *a = insert(m, 0x1000, 3, 2, 5), *b = insert(m, 0x2000, 1, 1, 9);
	uint32_t offset;

	(void)state;
	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal(b->code % 16, 0);
	assert_true(b->code >= a->code + a->code_size);
	for (unsigned i = 0; i < 3; i++) {
		assert_ptr_equal(nx_cache_find(m->engine, &m->engine->cache, 0x1000 + i, &offset),
				 a);
		assert_int_equal(offset, 3 * i);
	}
	assert_ptr_equal(find(m, 0x2000), b);
	assert_null(find(m, 0x1003));
	assert_null(find(m, 0x2001));
	assert_null(find(m, 0));
	check_contents(a, 0x1000, 2, 5);
	check_contents(b, 0x2000, 1, 9);
	/* Walked in order, and told. */
	assert_ptr_equal(nx_cluster_next(m->engine, NULL), a);
	assert_ptr_equal(nx_cluster_next(m->engine, a), b);
	assert_null(nx_cluster_next(m->engine, b));
	mock_free(m);
}

static void test_drop_and_flush(void **state)
{
	struct mock *m = begin(MOCK_LONG64);
	struct nx_cluster *a = insert(m, 0x1000, 2, 1, 1), *b = insert(m, 0x2000, 1, 1, 1), *c;

	(void)state;
	nx_cache_drop(m->engine, a);
	assert_int_equal(m->engine->counters.stale, 1);
	assert_null(find(m, 0x1000));
	assert_null(find(m, 0x1001));
	assert_ptr_equal(find(m, 0x2000), b);
	/* The one made in its place. */
	c = insert(m, 0x1000, 1, 1, 1);
	assert_ptr_equal(find(m, 0x1000), c);
	assert_null(find(m, 0x1001));
	assert_true(m->engine->cache.code_used > 0);
	nx_cache_flush(m->engine, &m->engine->cache);
	assert_int_equal(m->engine->cache.code_used, 0);
	assert_int_equal(m->engine->counters.flushes, 1);
	assert_null(find(m, 0x1000));
	assert_null(find(m, 0x2000));
	assert_null(nx_cluster_next(m->engine, NULL));
	a = insert(m, 0x2000, 1, 1, 1);
	assert_ptr_equal(find(m, 0x2000), a);
	assert_int_equal(a->state, NX_CLUSTER_VALID);
	mock_free(m);
}

/* An outgrown cluster comes back if what is formed in its place is the same, and only then. */
static void test_revive(void **state)
{
	struct mock *m = begin(MOCK_LONG64);
	struct nx_graph *graph = &m->engine->graph;
	struct nx_cluster *a = insert(m, 0x1000, 1, 1, 1);

	(void)state;
	/* Stale is not outgrown. */
	a->state = NX_CLUSTER_DROPPED;
	assert_null(nx_cache_revive(m->engine));
	a->state = NX_CLUSTER_OUTGROWN;
	a->side_exit_cost_ns = a->side_exits = 7;
#define OTHER(change)                                            \
	do {                                                     \
		change;                                          \
		assert_null(nx_cache_revive(m->engine));         \
		assert_int_equal(a->state, NX_CLUSTER_OUTGROWN); \
	} while (0)
	OTHER(graph->rip++);
	graph->rip--;
	OTHER(graph->insns = 1);
	graph->insns = 0;
	OTHER(graph->blocks = 1);
	graph->blocks = 0;
	OTHER(m->engine->mode.user = !m->engine->mode.user);
	m->engine->mode.user = !m->engine->mode.user;
#undef OTHER
	assert_ptr_equal(nx_cache_revive(m->engine), a);
	assert_int_equal(m->engine->counters.same, 1);
	assert_ptr_equal(find(m, 0x1000), a);
	assert_int_equal(a->reform_failures, 1);
	assert_int_equal(a->side_exit_cost_ns, 0);
	assert_int_equal(a->side_exits, 0);
	assert_null(nx_cache_revive(m->engine));
	mock_free(m);
}

/* The shape of a graph is in its instructions' bytes and in the edges of its blocks. */
static void test_shape(void **state)
{
	struct mock *m = begin(MOCK_LONG64);
	struct nx_graph *graph = &m->engine->graph;
	struct nx_cluster *a;

	(void)state;
	insert(m, 0x1000, 1, 1, 1);
	graph->insns = graph->blocks = 1;
	graph->insn[0] = (struct nx_insn){.rip = 0x1000, .len = 2, .bytes = {0x90, 0x91}};
	graph->block[0] = (struct nx_block){.count = 1, .targets = 1, .target = {0x2000}};
	a = nx_cache_insert(m->engine, &m->engine->cache);
	a->state = NX_CLUSTER_OUTGROWN;
#define OTHER(place)                                     \
	do {                                             \
		(place) ^= 1;                            \
		assert_null(nx_cache_revive(m->engine)); \
		(place) ^= 1;                            \
	} while (0)
	OTHER(graph->insn[0].bytes[1]);
	OTHER(graph->insn[0].path);
	OTHER(graph->insn[0].op);
	OTHER(graph->insn[0].first_len);
	OTHER(graph->block[0].edge[NX_EDGE_TAKEN]);
	OTHER(graph->block[0].counted[NX_EDGE_NEXT]);
	OTHER(graph->block[0].target[0]);
#undef OTHER
	graph->insn[0].weak = true;
	assert_null(nx_cache_revive(m->engine));
	graph->insn[0].weak = false;
	assert_ptr_equal(nx_cache_revive(m->engine), a);
	mock_free(m);
}

/* The same rip under another mode is other code. */
static void test_modes(void **state)
{
	struct mock *m = begin(MOCK_FLAT32);
	const struct nx_mode mode = m->engine->mode;
	struct nx_mode *now = &m->engine->mode;
	struct nx_cluster *cluster = insert(m, MOCK_CODE, 1, 1, 1);

	(void)state;
	assert_ptr_equal(find(m, MOCK_CODE), cluster);
#define DIFFERS(change)                          \
	do {                                     \
		*now = mode;                     \
		change;                          \
		assert_null(find(m, MOCK_CODE)); \
	} while (0)
	DIFFERS(now->bits = 16);
	DIFFERS(now->stack_bits = 16);
	DIFFERS(now->flat = !mode.flat);
	DIFFERS(now->io_allowed = !mode.io_allowed);
	DIFFERS(now->user = !mode.user);
	DIFFERS(now->protected_mode = !mode.protected_mode);
	DIFFERS(now->segment_loads = !mode.segment_loads);
	DIFFERS(now->exits ^= NX_EXITS_MSR);
	DIFFERS(now->features ^= NX_HAS_TSC);
	DIFFERS(now->lower ^= 1u << NX_SS);
	*now = mode;
	assert_ptr_equal(find(m, MOCK_CODE), cluster);
	mock_free(m);
}

static void test_code_segment(void **state)
{
	struct mock *m = begin(MOCK_REAL16);
	struct nx_segment *cs = &m->engine->state.seg[NX_CS];
	struct nx_cluster *low = insert(m, 0x100, 1, 1, 1), *high;

	(void)state;
	cs->base += 0x100;
	assert_null(find(m, 0x100));
	high = insert(m, 0x100, 1, 1, 1);
	assert_ptr_equal(find(m, 0x100), high);
	cs->limit = 0xfffe;
	assert_null(find(m, 0x100));
	cs->limit = 0xffff;
	cs->base -= 0x100;
	assert_ptr_equal(find(m, 0x100), low);
	mock_free(m);

	/* In 64-bit mode base and limit mean nothing. */
	m = begin(MOCK_LONG64);
	low = insert(m, 0x100, 1, 1, 1);
	m->engine->state.seg[NX_CS].base = 0x1000;
	m->engine->state.seg[NX_CS].limit = 5;
	assert_ptr_equal(find(m, 0x100), low);
	mock_free(m);
}

/* Inserts until there is no room; all that was taken is there, and a flush makes room again. */
static void check_full(unsigned entries, unsigned sites, unsigned bytes, unsigned want)
{
	struct mock *m = begin(MOCK_LONG64);
	unsigned count = 0;

	while (insert(m, 0x10000 + 0x1000ull * count, entries, sites, bytes))
		count++;
	/* 0: as many as the bytes allow, which is most of the store. */
	if (want)
		assert_int_equal(count, want);
	else
		assert_in_range(count, NX_STORE_BYTES / (bytes + 512), NX_STORE_BYTES / bytes);
	for (unsigned i = 0; i < count; i++) {
		const uint64_t rip = 0x10000 + 0x1000ull * i;
		const struct nx_cluster *cluster = find(m, rip);

		assert_ptr_equal(cluster, &m->engine->cache.cluster[i]);
		assert_ptr_equal(find(m, rip + entries - 1), cluster);
		check_contents(cluster, rip, sites, bytes);
	}
	assert_null(find(m, 0x10000 + 0x1000ull * count));
	assert_true(m->engine->cache.store_used <= NX_STORE_BYTES);
	nx_cache_flush(m->engine, &m->engine->cache);
	assert_non_null(insert(m, 0x10000, entries, sites, bytes));
	mock_free(m);
}

static void test_full(void **state)
{
	const unsigned site = sizeof(struct nx_site);

	(void)state;
	check_full(1, 1, 1, NX_MAX_CLUSTERS);
	check_full(NX_MAX_BLOCKS, 1, 1, NX_ENTRY_BUCKETS * 3 / 4 / NX_MAX_BLOCKS);
	/* Sites, and little else in comparison. */
	check_full(1, NX_MAX_SITES, 1, NX_STORE_BYTES / (NX_MAX_SITES * site + 512));
	check_full(1, 1, NX_CLUSTER_BYTES, 0);
}

/* The room for code shrinks by what was made, and never goes below nothing. */
static void test_code_room(void **state)
{
	struct mock *m = begin(MOCK_LONG64);
	uint32_t last = m->engine->cache.code_used;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		assert_non_null(insert(m, 0x1000 + i, 1, 1, 1));
		assert_int_equal(m->engine->cache.code_used - last, 112);
		last = m->engine->cache.code_used;
	}
	/* Code that ends at the very end: rounding up must not pass it. */
	m->engine->cache.code_end -= 4;
	m->engine->cache.code_used = m->engine->cache.code_end - 100;
	assert_non_null(insert(m, 0x9000, 1, 1, 1));
	assert_int_equal(m->engine->cache.code_used, m->engine->cache.code_end);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_find),  cmocka_unit_test(test_drop_and_flush),
	    cmocka_unit_test(test_modes), cmocka_unit_test(test_revive),
	    cmocka_unit_test(test_shape), cmocka_unit_test(test_code_segment),
	    cmocka_unit_test(test_full),  cmocka_unit_test(test_code_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
