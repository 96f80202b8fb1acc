// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* trace.c: following the guest to its next exit, and what is remembered of the path. */
#include "stage.h"

static struct mock *load(const uint8_t *code, const uint8_t *resume, const uint8_t *stop,
			 const uint8_t *end)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);

	mock_load(m, code, resume, stop, end);
	m->start.gpr[NX_RSI] = MOCK_DATA;
	return m;
}

#define LOAD_GUEST(name) load(name, name##_resume, name##_stop, name##_end)

static unsigned branches_noted(const struct mock *m)
{
	unsigned count = 0;

	for (unsigned i = 0; i < NX_PATH_SLOTS; i++)
		count += m->engine->paths.slot[i].from != 0;
	return count;
}

static bool trace(struct mock *m, enum nx_status *status)
{
	stage_begin(m);
	return nx_trace(m->engine, NULL, NX_MAKE_TRACE, status);
}

static void check_register(const struct mock *m, enum nx_gpr reg, uint64_t want)
{
	assert_int_equal(m->engine->state.gpr[reg], want);
}

/* The trace stands at an exit of this kind, at the rip of the site. */
static void check_stands_at(const struct mock *m, enum nx_site_kind kind, uint64_t rip)
{
	const struct nx_site *site = &m->engine->running->site[m->engine->context.site];

	assert_int_equal(site->kind, kind);
	assert_int_equal(site->rip, rip);
}

extern const uint8_t winding_out[], winding_end_fn[];
GUEST(winding, 64, "in al, dx",
      "mov ecx, 3; 1: dec ecx; jnz 1b; call winding_fn; mov eax, 0x7; lea rbx, [rip+2f]; jmp rbx;"
      "hlt; 2: winding_out: out dx, al; hlt; winding_fn: lea rdi, [rip+winding_leaf]; call rdi;"
      "inc ebp; ret; winding_leaf: mov r10d, 0x1234; winding_end_fn: ret",
      "hlt");

static void test_finds_exit(void **state)
{
	struct mock *m = LOAD_GUEST(winding);
	const uint64_t out = m->code_rip + (uint64_t)(winding_out - winding);
	enum nx_status status;

	(void)state;
	assert_true(trace(m, &status));
	assert_int_equal(status, NX_OK);
	check_stands_at(m, NX_SITE_IO, out);
	/* The guest has run all of it: by what the code leaves behind. */
	check_register(m, NX_RCX, 0);
	check_register(m, NX_RAX, 7);
	check_register(m, NX_R10, 0x1234);
	check_register(m, NX_RBP, (uint32_t)m->start.gpr[NX_RBP] + 1);
	check_register(m, NX_RSP, m->start.gpr[NX_RSP]);
	assert_int_equal(m->engine->counters.traces, 1);
	assert_int_equal(m->engine->counters.traces_failed, 0);
	/* jnz, call, call rdi, two returns, jmp rbx. */
	assert_int_equal(branches_noted(m), 6);

	/* Formation follows the path now, where it would not before. */
	stage_begin(m);
	assert_true(stage_form(m, NX_LEVEL_PATHS));
	assert_int_equal(m->engine->graph.exiting, 1);
	assert_int_equal(m->engine->graph.insns, 14);
	assert_false(stage_form(m, NX_LEVEL_LOOPS));
	mock_free(m);
}

GUEST(device, 64, "in al, dx", "jmp 1f; hlt; 1: mov ecx, [rsi]; mov ebx, [rdi]", "hlt");

/* A device access is an exit, once it turns out to be one. */
static void test_finds_device(void **state)
{
	struct mock *m = LOAD_GUEST(device);
	enum nx_status status;

	(void)state;
	m->start.gpr[NX_RDI] = MOCK_DEVICE + 0x10;
	assert_true(trace(m, &status));
	check_stands_at(m, NX_SITE_ACCESS, m->stop_rip - 2);
	assert_true(m->engine->stopped.is_mmio);
	assert_int_equal(m->engine->stopped.gpa, MOCK_DEVICE + 0x10);
	check_register(m, NX_RBX, m->start.gpr[NX_RBX]);
	mock_free(m);
}

/* A trace that finds nothing: where it ended, why, and that direct branches are not noted. */
static void check_fails(struct mock *m, enum nx_status want, uint64_t rip)
{
	enum nx_status status = NX_OK;

	assert_false(trace(m, &status));
	assert_int_equal(status, want);
	assert_int_equal(m->engine->state.rip, rip);
	assert_int_equal(branches_noted(m), 0);
	assert_int_equal(m->engine->counters.traces_failed, 1);
}

extern const uint8_t unsupported_at[], dividing_at[], faulting_at[], spinning_at[], across_at[];
GUEST(unsupported, 64, "in al, dx",
      "test al, al; jz 1f; inc ecx; 1: call 2f; 2: unsupported_at: wrmsr; out dx, al", "hlt");
GUEST(dividing, 64, "in al, dx", "xor ecx, ecx; jz 1f; hlt; 1: dividing_at: div ecx; out dx, al",
      "hlt");
GUEST(faulting, 64, "in al, dx",
      "jmp 1f; hlt; 1: mov ebx, 5; faulting_at: mov ecx, [rsi]; out dx, al", "hlt");
GUEST(spinning, 64, "in al, dx", "xor ecx, ecx; 1: spinning_at: inc ecx; jmp 1b", "hlt");
/* The last instruction but one lies across two pages. */
GUEST(across, 64, "in al, dx",
      ".byte 0xe9; .long 1f - 0f; 0: .skip 4085, 0x90; 1: inc ecx;"
      "across_at: mov rax, 0x1122334455667788; out dx, al",
      "hlt");

static void test_stops(void **state)
{
	struct mock *m = LOAD_GUEST(unsupported);

	(void)state;
	check_fails(m, NX_LEAVE_NO_CLUSTER, m->code_rip + (uint64_t)(unsupported_at - unsupported));
	mock_free(m);

	m = LOAD_GUEST(dividing);
	check_fails(m, NX_LEAVE_FAULT, m->code_rip + (uint64_t)(dividing_at - dividing));
	check_register(m, NX_RCX, 0);
	mock_free(m);

	m = LOAD_GUEST(faulting);
	mock_set_pte(m, MOCK_DATA, 0);
	check_fails(m, NX_LEAVE_PAGE_FAULT, m->code_rip + (uint64_t)(faulting_at - faulting));
	check_register(m, NX_RBX, 5);
	mock_free(m);

	/* It need not meet an exit at all; so many turns have been made then. */
	m = LOAD_GUEST(spinning);
	check_fails(m, NX_LEAVE_NO_CLUSTER, m->code_rip + (uint64_t)(spinning_at - spinning));
	check_register(m, NX_RCX, NX_TRACE_STEPS);
	mock_free(m);

	/* Code that is not there. */
	m = LOAD_GUEST(spinning);
	mock_set_pte(m, MOCK_CODE, 0);
	check_fails(m, NX_LEAVE_CODE_UNREADABLE, m->start.rip);
	mock_free(m);

	/* An instruction of which a part is not there. */
	m = LOAD_GUEST(across);
	mock_set_pte(m, MOCK_CODE + 0x1000, 0);
	check_fails(m, NX_LEAVE_CODE_UNREADABLE, m->code_rip + (uint64_t)(across_at - across));
	mock_free(m);
}

static void test_stop_flag(void **state)
{
	struct mock *m = LOAD_GUEST(winding);
	enum nx_status status = NX_OK;

	(void)state;
	stage_begin(m);
	*nx_engine_stop_flag(m->engine) = 1;
	assert_false(nx_trace(m->engine, NULL, NX_MAKE_TRACE, &status));
	assert_int_equal(status, NX_LEAVE_STOP);
	assert_int_equal(m->engine->state.rip, m->start.rip);
	assert_int_equal(branches_noted(m), 0);
	mock_free(m);
}

GUEST(astray, 64, "in al, dx", "xor ecx, ecx; jmp rbx; out dx, al", "hlt");

/* Where an indirect branch would fault, the branch is the processor's. */
static void test_implausible(void **state)
{
	struct mock *m = LOAD_GUEST(astray);

	(void)state;
	m->start.gpr[NX_RBX] = 0x0000800000000000;
	check_fails(m, NX_LEAVE_GUARD, m->start.rip + 2);
	check_register(m, NX_RCX, 0);
	mock_free(m);
}

extern const uint8_t patching_at[];
GUEST(patching, 64, "in al, dx",
      "mov ecx, 1; jmp 1f; hlt; 1: patching_at: mov byte ptr [rip+2f], 0x90; 2: inc ecx; hlt",
      "hlt");

/* A store into the code that is being followed ends the trace before it. */
static void test_code_write(void **state)
{
	struct mock *m = LOAD_GUEST(patching);
	const uint64_t at = m->code_rip + (uint64_t)(patching_at - patching);

	(void)state;
	check_fails(m, NX_LEAVE_CODE_WRITE, at);
	assert_memory_equal(m->ram, m->start_ram, 0xf0000);
	mock_free(m);
}

/* Blocks serve every trace that comes through them, until their code changes. */
static void test_blocks_are_kept(void **state)
{
	struct mock *m = LOAD_GUEST(winding);
	const uint64_t out = m->code_rip + (uint64_t)(winding_out - winding);
	enum nx_status status;
	unsigned blocks;

	(void)state;
	assert_true(trace(m, &status));
	blocks = m->engine->blocks.clusters;
	assert_true(blocks > 3);
	assert_true(trace(m, &status));
	check_stands_at(m, NX_SITE_IO, out);
	assert_int_equal(m->engine->blocks.clusters, blocks);
	/* None of them is a cluster: a resume does not find them. */
	assert_int_equal(m->engine->cache.clusters, 0);

	/* The first block's constant. */
	*nx_engine_state(m->engine) = m->start;
	m->ram[m->start.rip + 1] = 2;
	nx_engine_flush(m->engine);
	assert_true(nx_trace(m->engine, NULL, NX_MAKE_TRACE, &status));
	check_stands_at(m, NX_SITE_IO, out);
	assert_true(m->engine->blocks.clusters > blocks);
	assert_int_equal(m->engine->blocks.cluster[0].state, NX_CLUSTER_DROPPED);
	mock_free(m);
}

/* nx_experiment.uncached: to the same exit with the same registers, one instruction at a time. */
static void test_uncached(void **state)
{
	struct nx_config config;
	struct mock *m;

	(void)state;
	nx_config_default(&config);
	config.experiment.uncached = true;
	m = mock_new_config(MOCK_LONG64, 0, &config);
	MOCK_LOAD(m, winding);
	mock_warm(m);
	assert_int_equal(m->exits, 1);
	assert_int_equal(m->log[0].kind, NX_EXIT_IO);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_R10], 0x1234);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RSP], m->start.gpr[NX_RSP]);
	assert_int_equal(m->engine->cache.clusters, 0);
	for (unsigned i = 0; i < m->engine->blocks.clusters; i++)
		assert_int_equal(m->engine->blocks.cluster[i].insns, 1);
	/* 20 instructions from the first exit to the second, and each run makes them all again. */
	assert_in_range(m->engine->blocks.clusters, 2 * 20, 1000);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_finds_exit),      cmocka_unit_test(test_finds_device),
	    cmocka_unit_test(test_stops),           cmocka_unit_test(test_stop_flag),
	    cmocka_unit_test(test_implausible),     cmocka_unit_test(test_code_write),
	    cmocka_unit_test(test_blocks_are_kept), cmocka_unit_test(test_uncached),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
