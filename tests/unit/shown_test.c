// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* What the engine tells people of a cluster: its blocks, its code, and how far apart exits are. */
#include "mock.h"

/* A branch between two exits, and a polling loop behind it. */
GUEST(shown, 64, "in ax, dx",
      "and dword ptr [rsi], 0xfffffeff; test ax, 0x20; jnz 1f; or dword ptr [rsi], 0x100;"
      "1: mov cx, 0xff; 2: in ax, dx; test ax, 0x40; jz 2b; out dx, al",
      "ret");

static const struct nx_cluster *warm(struct mock *m)
{
	MOCK_LOAD(m, shown);
	m->start.gpr[NX_RDX] = 0x3da;
	m->start.gpr[NX_RSI] = MOCK_DATA;
	m->input[0] = 0;
	m->input[1] = 0x40;
	mock_warm(m);
	return nx_cluster_next(m->engine, NULL);
}

static void check_code(const struct mock *m, const struct nx_cluster *cluster,
		       const struct nx_cluster_block *block)
{
	uint8_t code[64];
	unsigned length = 0;

	assert_int_equal(nx_cluster_code(cluster, block->rip, code, block->bytes), block->bytes);
	assert_memory_equal(code, shown + (block->rip - m->code_rip), block->bytes);
	for (unsigned i = 0; i < block->instructions; i++)
		length += block->shape[i] & NX_SHAPE_LENGTH;
	assert_int_equal(length, block->bytes);
}

static unsigned find(const struct nx_cluster *cluster, unsigned blocks, uint64_t rip)
{
	for (unsigned i = 0; i < blocks; i++) {
		struct nx_cluster_block block;

		nx_cluster_block(cluster, i, &block);
		if (block.rip == rip)
			return i;
	}
	fail_msg("no block begins at %#lx", (long)rip);
	return 0;
}

static void test_blocks(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);
	const struct nx_cluster *cluster = warm(m);
	struct nx_cluster_block block;
	struct nx_cluster_info info;
	unsigned exits = 0, instructions = 0, in;

	(void)state;
	assert_non_null(cluster);
	nx_cluster_describe(cluster, &info);
	assert_false(info.dropped);
	for (unsigned i = 0; i < info.blocks; i++) {
		nx_cluster_block(cluster, i, &block);
		check_code(m, cluster, &block);
		instructions += block.instructions;
		for (unsigned n = 0; n < block.instructions; n++)
			exits += (block.shape[n] & NX_SHAPE_EXITS) != 0;
	}
	assert_int_equal(instructions, info.instructions);
	assert_int_equal(exits, info.exiting);
	assert_int_equal(exits, 2);

	/* The first one branches around the OR; the IN is gone back to. */
	nx_cluster_block(cluster, find(cluster, info.blocks, m->resume_rip), &block);
	assert_true(block.entry);
	assert_int_equal(block.instructions, 3);
	assert_int_not_equal(block.edge[0], NX_CLUSTER_NOWHERE);
	assert_int_not_equal(block.edge[1], NX_CLUSTER_NOWHERE);
	in = find(cluster, info.blocks, m->stop_rip - 9);
	nx_cluster_block(cluster, in, &block);
	assert_int_equal(block.shape[0], 2 | NX_SHAPE_EXITS);
	nx_cluster_block(cluster, block.edge[0], &block);
	assert_true(block.entry);
	assert_int_equal(block.edge[1], in);
	assert_int_equal(block.limit[1], NX_EDGE_FREE);
	mock_free(m);
}

/* Code is told as it was translated, across fragments, and no further. */
static void test_code_ends(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);
	const struct nx_cluster *cluster = warm(m);
	size_t whole = (size_t)(m->stop_rip - m->resume_rip);
	uint8_t code[64];

	(void)state;
	assert_int_equal(nx_cluster_code(cluster, m->resume_rip, code, sizeof(code)), whole);
	assert_int_equal(nx_cluster_code(cluster, m->resume_rip, code, 3), 3);
	assert_int_equal(nx_cluster_code(cluster, m->stop_rip, code, sizeof(code)), 0);
	assert_int_equal(nx_cluster_code(cluster, m->code_rip, code, sizeof(code)), 0);
	mock_free(m);
}

static void test_distance(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);
	const struct nx_counters *counters;
	struct nx_counters before;
	uint64_t sum = 0;

	(void)state;
	warm(m);
	counters = nx_engine_counters(m->engine);
	before = *counters;
	mock_run(m);
	/* Two instructions before each: the shortest way to the IN is the one around the loop. */
	assert_int_equal(m->exits, 3);
	assert_int_equal(counters->distance[2] - before.distance[2], 3);
	assert_int_equal(counters->instructions - before.instructions, 3 * 3);
	for (unsigned i = 0; i < NX_DISTANCES; i++)
		sum += counters->distance[i];
	assert_int_equal(sum, counters->exits_io - counters->exits_traced);
	mock_free(m);
}

/* What a benefit is reckoned from: exits by kind, stays, and the time it took to make. */
static void test_worth(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);
	const struct nx_cluster *cluster = warm(m);
	struct nx_cluster_info before, after;

	(void)state;
	nx_cluster_describe(cluster, &before);
	/* The clock of the test goes on by 100 at each look. */
	assert_int_equal(before.made_ns, 100);
	mock_run(m);
	nx_cluster_describe(cluster, &after);
	assert_int_equal(after.exits - before.exits, 3);
	assert_int_equal(after.exits_mmio, 0);
	assert_int_equal(after.stays - before.stays, 1);
	/* From the hardware's exit, and again after each of its own but the last. */
	assert_int_equal(after.executions - before.executions, 3);
	assert_int_equal(after.made_ns, before.made_ns);
	mock_free(m);
}

GUEST(devices, 64, "in ax, dx", "mov eax, [rdi]; out dx, eax; mov ecx, [rdi + 4]", "ret");

/* Of all clusters together. */
static struct nx_cluster_info sum(const struct mock *m)
{
	const struct nx_cluster *cluster = NULL;
	struct nx_cluster_info all = {0}, one;

	while ((cluster = nx_cluster_next(m->engine, cluster))) {
		nx_cluster_describe(cluster, &one);
		all.exits += one.exits;
		all.exits_mmio += one.exits_mmio;
		all.stays += one.stays;
	}
	return all;
}

static void test_worth_kinds(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);
	struct nx_cluster_info before, after;

	(void)state;
	MOCK_LOAD(m, devices);
	m->start.gpr[NX_RDI] = MOCK_DEVICE;
	mock_warm(m);
	before = sum(m);
	mock_run(m);
	after = sum(m);
	assert_int_equal(after.exits - before.exits, 3);
	assert_int_equal(after.exits_mmio - before.exits_mmio, 2);
	assert_int_equal(after.stays - before.stays, 1);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_blocks),      cmocka_unit_test(test_code_ends),
	    cmocka_unit_test(test_distance),    cmocka_unit_test(test_worth),
	    cmocka_unit_test(test_worth_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
