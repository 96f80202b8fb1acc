/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Mutants of good programs: the verifier refuses them, or two independent judges find them
 * harmless.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <Zydis/Zydis.h>

#include "verify_mutate.h"
#include "verify_oracle.h"
#include "verify_programs.h"

static struct nx_translation translation;

/* The judges can say no: otherwise what follows would prove nothing. */
static void test_oracle_objects(void **state)
{
	unsigned objections = 0, programs = 0;
	uint32_t where;

	(void)state;
	for (const struct verify_program *p = verify_bad; p < verify_bad_end; p++) {
		const struct nx_thunks thunks = verify_program_thunks(p);
		/* Where the verifier is stricter than harm demands the oracle may be content. */
		if (strcmp(p->result, "MEMORY") != 0 &&
		    strcmp(p->result, "RESERVED_REGISTER") != 0 &&
		    strcmp(p->result, "ENDLESS") != 0 && strcmp(p->result, "TRAP") != 0 &&
		    strcmp(p->result, "LANDING") != 0)
			continue;
		verify_program_translation(p, &translation);
		programs++;
		if (verify_oracle(p->code, (uint32_t)p->size, &translation, &thunks, &where))
			objections++;
		else
			print_message("the oracle does not object to %s\n", p->name);
	}
	print_message("the oracle objects to %u of %u bad programs\n", objections, programs);
	assert_true(programs > 100);
	assert_true(objections * 10 > programs * 9);
}

static void test_sandbox_objects(void **state)
{
	static const struct {
		const char *name, *complaint;
	} expected[] = {
	    {"ud2", "does not exist"},
	    {"int3", "breakpoint"},
	    {"cli", "not there"},
	    {"std", "DF"},
	    {"endless_conditional", "does not end"},
	    {"memory_absolute", "not there"},
	    {"slot_below", "not there"},
	    {"r15_written", "not there"},
	    {"slot_rflags_written", "wrote to the context"},
	    {"slot_tlb_written", "wrote to the context"},
	    {"slot_bts_seg", "wrote to the context"},
	    {"read_only_store", "not there"},
	    {"check_last_byte_negative", "not there"},
	    {"r15_read", "leaked"},
	    {"rsp_stored", "leaked"},
	    {"memory_lea_rip", "leaked"},
	    {"slot_thunk_read", "leaked"},
	    {"pointer_copied", "leaked"},
	    {"pointer_stored_in_guest", "leaked"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		const struct verify_program *p = verify_bad;
		const char *error = NULL;
		struct nx_thunks thunks;

		while (p < verify_bad_end && strcmp(p->name, expected[i].name) != 0)
			p++;
		assert_true(p < verify_bad_end);
		thunks = verify_program_thunks(p);
		verify_program_translation(p, &translation);
		for (uint64_t seed = 1; seed <= 20 && !error; seed++)
			error =
			    verify_sandbox(p->code, (uint32_t)p->size, &translation, &thunks, seed);
		if (!error || !strstr(error, expected[i].complaint))
			print_error("%s: %s\n", p->name, error ? error : "no objection");
		assert_non_null(error);
		assert_non_null(strstr(error, expected[i].complaint));
	}
}

/* Good programs pass both judges, and run to their exits. */
static void test_good_programs_run(void **state)
{
	uint32_t where;

	(void)state;
	for (const struct verify_program *p = verify_good; p < verify_good_end; p++) {
		const struct nx_thunks thunks = verify_program_thunks(p);
		unsigned long runs = verify_sandbox_stats.runs, exits = verify_sandbox_stats.exits;
		const char *error;

		verify_program_translation(p, &translation);
		error = verify_oracle(p->code, (uint32_t)p->size, &translation, &thunks, &where);
		if (error)
			print_error("%s: %s at %#x\n", p->name, error, where);
		assert_null(error);
		for (uint64_t seed = 1; seed <= 100; seed++) {
			error =
			    verify_sandbox(p->code, (uint32_t)p->size, &translation, &thunks, seed);
			if (error)
				print_error("%s: %s\n", p->name, error);
			assert_null(error);
		}
		assert_int_equal(verify_sandbox_stats.runs - runs, 300 * translation.entries);
		assert_int_equal(verify_sandbox_stats.exits - exits, 300 * translation.entries);
	}
	assert_true(verify_sandbox_stats.misses > 100);
	assert_true(verify_sandbox_stats.helpers > 100);
}

/*
 * The branch of every check, mispredicted: without it the code goes on with what is no pointer of
 * the guest's. Returns how many checks there are; selection: whether they keep the cmovne.
 */
static unsigned mispredict(const struct verify_program *p, uint8_t *code, bool selection)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint32_t before = 0;
	unsigned checks = 0;

	memcpy(code, p->code, p->size);
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (uint32_t at = 0; at < p->size; at += insn.length) {
		assert_true(ZYAN_SUCCESS(
		    ZydisDecoderDecodeFull(&decoder, code + at, p->size - at, &insn, op)));
		if (insn.mnemonic == ZYDIS_MNEMONIC_CMOVNZ &&
		    op[1].reg.value == ZYDIS_REGISTER_R15) {
			memset(code + before, 0x90, at - before);
			if (!selection)
				memset(code + at, 0x90, insn.length);
			checks++;
		}
		before = at;
	}
	return checks;
}

/* What follows a mispredicted check accesses the first slots, and nothing else. */
static void test_mispredicted_checks(void **state)
{
	static uint8_t code[VERIFY_MUTATE_MAX_CODE];
	unsigned checks = 0, harmful = 0;

	(void)state;
	for (const struct verify_program *p = verify_good; p < verify_good_end; p++) {
		const struct nx_thunks thunks = verify_program_thunks(p);
		const char *error;

		verify_program_translation(p, &translation);
		if (!mispredict(p, code, true))
			continue;
		checks++;
		for (uint64_t seed = 1; seed <= 100; seed++) {
			error =
			    verify_sandbox(code, (uint32_t)p->size, &translation, &thunks, seed);
			if (error)
				print_error("%s: %s\n", p->name, error);
			assert_null(error);
		}
		mispredict(p, code, false);
		error = NULL;
		for (uint64_t seed = 1; seed <= 100 && !error; seed++)
			error =
			    verify_sandbox(code, (uint32_t)p->size, &translation, &thunks, seed);
		harmful += error != NULL;
	}
	assert_true(checks >= 5);
	assert_int_equal(harmful, checks);
}

static void test_mutants(void **state)
{
	struct verify_mutation sum = {0};

	(void)state;
	for (const struct verify_program *p = verify_good; p < verify_good_end; p++) {
		const struct nx_thunks thunks = verify_program_thunks(p);

		/* What is demanded of these is demanded of tracked branches, too. */
		if (thunks.branches == NX_BRANCHES_DIRECT)
			continue;
		verify_program_translation(p, &translation);
		verify_mutate(p->name, p->code, &translation, &thunks, 1, &sum);
	}
	verify_mutation_print(&sum);
	assert_true(sum.refused >= 1000);
	assert_true(sum.accepted > 100); /* else the judges had nothing to judge */
	assert_int_equal(sum.harmful, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_oracle_objects),    cmocka_unit_test(test_sandbox_objects),
	    cmocka_unit_test(test_good_programs_run), cmocka_unit_test(test_mispredicted_checks),
	    cmocka_unit_test(test_mutants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
