// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* form.c and graph.c: which instructions become a cluster, level by level, and its shape. */
#include "stage.h"

#define NEVER 0 /* instructions, where no cluster is formed */

static struct mock *load(const uint8_t *code, const uint8_t *resume, const uint8_t *stop,
			 const uint8_t *end)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);

	mock_load(m, code, resume, stop, end);
	stage_begin(m);
	return m;
}

#define LOAD_GUEST(name) load(name, name##_resume, name##_stop, name##_end)

static void check_levels(struct mock *m, const unsigned want[NX_LEVEL_COUNT])
{
	for (unsigned level = 0; level < NX_LEVEL_COUNT; level++) {
		bool formed = stage_form(m, level);

		if (formed != (want[level] != NEVER) ||
		    (formed && m->engine->graph.insns != want[level]))
			fail_msg("level %u: %s, %u instructions, expected %u", level,
				 formed ? "formed" : "not formed", m->engine->graph.insns,
				 want[level]);
	}
}

/* The block that ends with the instruction of this number of the graph. */
static const struct nx_block *block_ending(const struct nx_graph *graph, unsigned insn)
{
	for (unsigned i = 0; i < graph->blocks; i++)
		if (graph->block[i].first + graph->block[i].count == insn + 1u)
			return &graph->block[i];
	fail_msg("no block ends with instruction %u", insn);
	return NULL;
}

GUEST(gaps, 64, "in al, dx", "out dx, al; nop; out dx, al", "hlt");
GUEST(forward, 64, "in al, dx", "test al, al; jz 1f; inc ecx; 1: out dx, al", "hlt");
GUEST(jump, 64, "in al, dx", "jmp 1f; hlt; 1: out dx, al", "hlt");
GUEST(polling, 64, "in al, dx", "1: in al, dx; test al, 8; jnz 1b", "hlt");
GUEST(back_jump, 64, "1: in al, dx", "inc ecx; jmp 1b", "hlt");

static void test_levels(void **state)
{
	static const struct {
		const uint8_t *code, *resume, *stop, *end;
		unsigned want[NX_LEVEL_COUNT];
	} rows[] = {
#define ROW(name, ...)                                        \
	{                                                     \
		name, name##_resume, name##_stop, name##_end, \
		{                                             \
			__VA_ARGS__                           \
		}                                             \
	}
	    ROW(gaps, 1, 3, 3, 3, 3, 3),
	    /* Below branches the fall through only; either way there are four. */
	    ROW(forward, NEVER, 4, 4, 4, 4, 4),
	    ROW(jump, NEVER, NEVER, NEVER, 2, 2, 2),
	    ROW(polling, 1, 1, 1, 1, 3, 3),
	    ROW(back_jump, NEVER, NEVER, NEVER, NEVER, 3, 3),
#undef ROW
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct mock *m = load(rows[i].code, rows[i].resume, rows[i].stop, rows[i].end);

		check_levels(m, rows[i].want);
		mock_free(m);
	}
}

static void test_forward_edges(void **state)
{
	struct mock *m = LOAD_GUEST(forward);
	const struct nx_graph *graph = &m->engine->graph;
	const struct nx_block *block;

	(void)state;
	assert_true(stage_form(m, NX_LEVEL_STRAIGHT));
	block = block_ending(graph, 1);
	assert_int_equal(block->edge[NX_EDGE_TAKEN], NX_NOWHERE);
	assert_int_not_equal(block->edge[NX_EDGE_NEXT], NX_NOWHERE);

	assert_true(stage_form(m, NX_LEVEL_BRANCHES));
	assert_int_equal(graph->exiting, 1);
	assert_int_equal(graph->blocks, 3);
	block = block_ending(graph, 1);
	assert_true(block->entry);
	assert_int_equal(graph->block[block->edge[NX_EDGE_TAKEN]].first, 3);
	assert_int_equal(graph->block[block->edge[NX_EDGE_NEXT]].first, 2);
	assert_int_equal(block_ending(graph, 2)->edge[NX_EDGE_NEXT], block->edge[NX_EDGE_TAKEN]);
	/* Nothing is behind the last one. */
	for (unsigned e = 0; e < NX_EDGES; e++)
		assert_int_equal(block_ending(graph, 3)->edge[e], NX_NOWHERE);
	mock_free(m);
}

extern const uint8_t accesses_store[];
GUEST(accesses, 64, "in al, dx", "mov ecx, [rsi]; accesses_store: mov [rdi], ebx", "hlt");
GUEST(loads, 64, "in al, dx", "mov ecx, [rsi]", "mov ecx, 1; hlt");

static void test_dynamic(void **state)
{
	static const unsigned never[NX_LEVEL_COUNT] = {0};
	static const unsigned load_only[NX_LEVEL_COUNT] = {0, 0, 1, 1, 1, 1};
	static const unsigned both[NX_LEVEL_COUNT] = {0, 0, 2, 2, 2, 2};
	struct mock *m = LOAD_GUEST(accesses);
	struct nx_tracker *tracker = &m->engine->tracker;

	(void)state;
	check_levels(m, never);
	/* As the engine notes it, with the bytes; other bytes there would be another access. */
	nx_tracker_note(tracker, m->start.rip, accesses_store, 2, NX_TRACK_MMIO, m->time);
	check_levels(m, never);
	nx_tracker_note(tracker, m->start.rip, accesses_resume, 2, NX_TRACK_MMIO, m->time);
	check_levels(m, load_only);
	assert_true(m->engine->graph.insn[0].weak);
	/* As the hardware delivers a store: rip is past it. */
	nx_tracker_note(tracker, m->stop_rip, NULL, 0, NX_TRACK_MMIO, m->time);
	check_levels(m, both);
	assert_int_equal(m->engine->graph.exiting, 2);
	mock_free(m);

	/* And a load: rip is on it. Past it another access would begin. */
	m = LOAD_GUEST(loads);
	tracker = &m->engine->tracker;
	nx_tracker_note(tracker, m->stop_rip, NULL, 0, NX_TRACK_MMIO, m->time);
	check_levels(m, never);
	nx_tracker_note(tracker, m->start.rip, NULL, 0, NX_TRACK_MMIO, m->time);
	check_levels(m, load_only);
	mock_free(m);
}

GUEST(gap16, 64, "in al, dx", ".rept 16; inc ecx; .endr; out dx, al", "hlt");
GUEST(gap17, 64, "in al, dx", ".rept 17; inc ecx; .endr; out dx, al", "hlt");
GUEST(loads4, 64, "in al, dx", ".rept 4; mov ecx, [rsi]; .endr; out dx, al", "hlt");
GUEST(loads5, 64, "in al, dx", ".rept 5; mov ecx, [rsi]; .endr; out dx, al", "hlt");
GUEST(stack5, 64, "in al, dx", ".rept 3; push qword ptr [rsi]; .endr; out dx, al", "hlt");
GUEST(twice16, 64, "in al, dx",
      ".rept 16; inc ecx; .endr; out dx, al; .rept 16; inc ecx; .endr; out dx, al", "hlt");
GUEST(path511, 64, "in al, dx", ".rept 511; inc ecx; .endr; out dx, al", "hlt");
GUEST(path512, 64, "in al, dx", ".rept 512; inc ecx; .endr; out dx, al", "hlt");

static void check_limit(struct mock *m, unsigned statically, unsigned on_path)
{
	unsigned want[NX_LEVEL_COUNT] = {NEVER,      statically, statically,
					 statically, statically, on_path};

	check_levels(m, want);
	mock_free(m);
}

static void test_limits(void **state)
{
	struct mock *m = LOAD_GUEST(gap17);

	(void)state;
	/* The configuration decides. */
	m->engine->config.max_gap = 17;
	assert_true(stage_form(m, NX_LEVEL_LOOPS));
	m->engine->config.max_gap = 16;
	check_limit(m, NEVER, 18);
	check_limit(LOAD_GUEST(gap16), 17, 17);
	check_limit(LOAD_GUEST(loads4), 5, 5);
	check_limit(LOAD_GUEST(loads5), NEVER, 6);
	check_limit(LOAD_GUEST(stack5), NEVER, 4);
	/* Counted from the last exiting instruction. */
	check_limit(LOAD_GUEST(twice16), 34, 34);
	check_limit(LOAD_GUEST(path511), NEVER, 512);
	check_limit(LOAD_GUEST(path512), NEVER, NEVER);
}

GUEST(barren, 64, "in al, dx",
      "test al, al; jz 1f; out dx, al; inc ecx; 1: inc ebx; cmp ebx, 7; jz 2f; inc edi; 2:", "hlt");

static void test_pruning(void **state)
{
	static const unsigned want[NX_LEVEL_COUNT] = {0, 3, 3, 3, 3, 3};
	struct mock *m = LOAD_GUEST(barren);
	const struct nx_graph *graph = &m->engine->graph;

	(void)state;
	check_levels(m, want);
	assert_int_equal(block_ending(graph, 1)->edge[NX_EDGE_TAKEN], NX_NOWHERE);
	assert_int_equal(block_ending(graph, 2)->edge[NX_EDGE_NEXT], NX_NOWHERE);
	/* Only bytes of what is kept are compared later. */
	assert_int_equal(graph->fragments, 1);
	assert_int_equal(graph->byte_count, 5);
	mock_free(m);
}

GUEST(idle, 64, "in al, dx", "1: dec ecx; jnz 1b; out dx, al", "hlt");
GUEST(copying, 64, "in al, dx", "1: mov rdx, [rcx]; add rcx, 8; dec r9; jnz 1b", "hlt");
GUEST(nested, 64, "in al, dx", "1: mov ebx, 9; 2: dec ebx; jnz 2b; in al, dx; test al, 8; jz 1b",
      "hlt");

static void test_cycles(void **state)
{
	struct mock *m = LOAD_GUEST(idle);
	const struct nx_graph *graph = &m->engine->graph;
	const struct nx_block *block;

	(void)state;
	assert_true(stage_form(m, NX_LEVEL_LOOPS));
	assert_int_equal(block_ending(graph, 1)->edge[NX_EDGE_TAKEN], NX_NOWHERE);
	assert_true(stage_form(m, NX_LEVEL_PATHS));
	block = block_ending(graph, 1);
	assert_int_equal(block->edge[NX_EDGE_TAKEN], 0);
	assert_int_equal(block->counted[NX_EDGE_TAKEN], NX_EDGE_IDLE);
	assert_int_equal(block->counted[NX_EDGE_NEXT], NX_EDGE_FREE);
	mock_free(m);

	m = LOAD_GUEST(polling);
	graph = &m->engine->graph;
	assert_true(stage_form(m, NX_LEVEL_LOOPS));
	assert_int_equal(block_ending(graph, 2)->edge[NX_EDGE_TAKEN], 0);
	assert_int_equal(block_ending(graph, 2)->counted[NX_EDGE_TAKEN], NX_EDGE_FREE);
	mock_free(m);

	for (enum nx_level level = NX_LEVEL_LOOPS; level <= NX_LEVEL_PATHS; level++) {
		m = LOAD_GUEST(copying);
		graph = &m->engine->graph;
		nx_tracker_note(&m->engine->tracker, m->start.rip, copying_resume, 3, NX_TRACK_MMIO,
				m->time);
		assert_true(stage_form(m, level));
		assert_int_equal(graph->insns, 4);
		assert_int_equal(block_ending(graph, 3)->edge[NX_EDGE_TAKEN], 0);
		assert_int_equal(block_ending(graph, 3)->counted[NX_EDGE_TAKEN], NX_EDGE_WEAK);
		mock_free(m);
	}

	/* The inner cycle meets no exit, the outer one does. */
	m = LOAD_GUEST(nested);
	graph = &m->engine->graph;
	assert_true(stage_form(m, NX_LEVEL_PATHS));
	assert_int_equal(graph->insns, 6);
	assert_int_equal(block_ending(graph, 2)->counted[NX_EDGE_TAKEN], NX_EDGE_IDLE);
	assert_int_equal(block_ending(graph, 5)->edge[NX_EDGE_TAKEN], 0);
	assert_int_equal(block_ending(graph, 5)->counted[NX_EDGE_TAKEN], NX_EDGE_FREE);
	mock_free(m);
}

GUEST(two_loops, 64, "in al, dx",
      "1: in al, dx; test al, 8; jnz 1b; 2: dec ecx; jnz 2b; out dx, al", "hlt");

/* A loop over an exit is kept; one over nothing is cut or, on paths, counted. */
static void test_backedges_counted(void **state)
{
	struct mock *m = LOAD_GUEST(two_loops);
	const struct nx_counters *counters = nx_engine_counters(m->engine);

	(void)state;
	assert_true(stage_form(m, NX_LEVEL_BRANCHES));
	assert_int_equal(counters->backedges, 2);
	assert_int_equal(counters->backedges_kept, 0);
	assert_true(stage_form(m, NX_LEVEL_LOOPS));
	assert_int_equal(counters->backedges, 4);
	assert_int_equal(counters->backedges_kept, 1);
	assert_true(stage_form(m, NX_LEVEL_PATHS));
	assert_int_equal(counters->backedges, 6);
	assert_int_equal(counters->backedges_kept, 3);
	mock_free(m);
}

GUEST(calling, 64, "in al, dx",
      "call calling_fn; calling_back: out dx, al; hlt; calling_fn: inc ecx; calling_ret: ret",
      "hlt");
extern const uint8_t calling_back[], calling_fn[], calling_ret[];

static void test_paths(void **state)
{
	static const unsigned never[NX_LEVEL_COUNT] = {0};
	static const unsigned paths_only[NX_LEVEL_COUNT] = {0, 0, 0, 0, 0, 4};
	struct mock *m = LOAD_GUEST(calling);
	struct nx_paths *paths = &m->engine->paths;
	const struct nx_graph *graph = &m->engine->graph;
	struct nx_contexts contexts = {.count = 1};
	uint64_t back = m->code_rip + (uint64_t)(calling_back - calling);
	uint64_t fn = m->code_rip + (uint64_t)(calling_fn - calling);
	uint64_t ret = m->code_rip + (uint64_t)(calling_ret - calling);
	uint16_t inside = nx_context_push(&contexts, 0, back);

	(void)state;
	check_levels(m, never);
	nx_paths_note(paths, nx_path_name(m->start.rip, 0, 0), fn);
	check_levels(m, never);
	/* A return of the same instruction for another caller does not count. */
	nx_paths_note(paths, nx_path_name(ret, 0, 0), back);
	check_levels(m, never);
	nx_paths_note(paths, nx_path_name(ret, nx_context_hash(&contexts, inside), 0), back);
	check_levels(m, paths_only);
	/* By rip: call, out, inc, ret. */
	assert_int_equal(graph->insn[3].op, NX_OP_RET);
	assert_int_equal(block_ending(graph, 3)->targets, 1);
	assert_int_equal(block_ending(graph, 3)->target[0], back);
	assert_int_equal(graph->block[block_ending(graph, 3)->edge[NX_EDGE_TARGET]].first, 1);
	assert_int_equal(graph->fragments, 2);
	/* Shadow stacks see calls: none is followed then. */
	m->engine->state.cr4 |= NX_CR4_CET;
	check_levels(m, never);
	mock_free(m);
}

GUEST(border, 64, "in al, dx", "out dx, al; mov ecx, 0x12345678; mov ebx, ecx; out dx, al", "hlt");

/* The code's second instruction lies on two pages; the copy is in two fragments. */
static void test_page_border(void **state)
{
	const unsigned size = (unsigned)(border_stop - border_resume);

	(void)state;
	for (unsigned before = 0; before <= 6; before++) {
		struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT);
		const struct nx_graph *graph = &m->engine->graph;
		uint64_t rip = MOCK_CODE + 0x1000 - before;

		mock_poke(m, (uint32_t)rip, border_resume, size);
		m->start.rip = rip;
		stage_begin(m);
		assert_true(stage_form(m, NX_LEVEL_STRAIGHT));
		assert_int_equal(graph->insns, 4);
		assert_int_equal(graph->fragments, before ? 2 : 1);
		assert_int_equal(graph->byte_count, size);
		assert_memory_equal(graph->bytes, border_resume, size);
		for (unsigned i = 0; i < graph->fragments; i++) {
			const struct nx_fragment *f = &graph->fragment[i];

			assert_int_equal(f->rip / 4096, (f->rip + f->len - 1) / 4096);
			assert_int_equal(f->rip, rip + f->bytes);
		}
		/* Without the second page there is only what is whole on the first. */
		mock_set_pte(m, MOCK_CODE + 0x1000, 0);
		stage_begin(m);
		assert_int_equal(stage_form(m, NX_LEVEL_STRAIGHT), before >= 1);
		assert_int_equal(graph->insns, before >= 1 ? 1 : 0);
		mock_free(m);
	}
}

GUEST(long_run, 64, "in al, dx", ".rept 200; out dx, al; inc ecx; inc ebx; xchg eax, ecx; .endr",
      "hlt");

/* More than a graph holds: what fits is formed, and left at its end. */
static void test_full_graph(void **state)
{
	struct mock *m = LOAD_GUEST(long_run);
	const struct nx_graph *graph = &m->engine->graph;

	(void)state;
	assert_true(stage_form(m, NX_LEVEL_STRAIGHT));
	/* The last exiting one that fits, three gap fillers behind it. */
	assert_int_equal(graph->insns, NX_MAX_INSNS - 3);
	assert_int_equal(graph->exiting, NX_MAX_INSNS / 4);
	assert_int_equal(block_ending(graph, graph->insns - 1u)->edge[NX_EDGE_NEXT], NX_NOWHERE);
	mock_free(m);
}

GUEST(many_blocks, 64, "in al, dx", ".rept 300; out dx, al; .endr", "hlt");

/* More blocks than a graph holds, of fewer instructions: a smaller cluster, not none. */
static void test_many_blocks(void **state)
{
	struct mock *m = LOAD_GUEST(many_blocks);
	const struct nx_graph *graph = &m->engine->graph;

	(void)state;
	for (enum nx_level level = NX_LEVEL_PAIRS; level <= NX_LEVEL_PATHS; level++) {
		assert_true(stage_form(m, level));
		assert_true(graph->insns >= NX_MAX_BLOCKS / 2 && graph->insns <= NX_MAX_BLOCKS);
		assert_int_equal(graph->exiting, graph->insns);
		assert_int_equal(graph->blocks, graph->insns);
		assert_int_equal(graph->byte_count, graph->insns);
	}
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_levels),
	    cmocka_unit_test(test_forward_edges),
	    cmocka_unit_test(test_dynamic),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_pruning),
	    cmocka_unit_test(test_cycles),
	    cmocka_unit_test(test_backedges_counted),
	    cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_page_border),
	    cmocka_unit_test(test_full_graph),
	    cmocka_unit_test(test_many_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
