/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The verifier: good programs are proven, for every rule of context.h a program that breaks it is
 * refused for that reason at that instruction.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "verify_programs.h"

static struct nx_verify_scratch scratch;
static struct nx_translation translation;

/* Return the number of programs with another outcome than they state. */
static unsigned run(const struct verify_program *program, const struct verify_program *end)
{
	unsigned wrong = 0;

	for (; program < end; program++) {
		const struct nx_thunks thunks = verify_program_thunks(program);
		uint32_t where = UINT32_MAX;
		enum nx_verify_result result;

		verify_program_translation(program, &translation);
		/* What earlier runs left behind must not matter. */
		memset(&scratch, 0xff, sizeof(scratch));
		result = nx_verify(program->code, (uint32_t)program->size, &translation, &thunks,
				   &scratch, &where);
		if (strcmp(verify_result_name(result), program->result) == 0 &&
		    (program->where == VERIFY_NOWHERE || program->where == where))
			continue;
		wrong++;
		print_error("%s (branches %u): %s at %#x, must be %s at %#llx\n", program->name,
			    (unsigned)program->branches, verify_result_name(result), where,
			    program->result, (unsigned long long)program->where);
	}
	return wrong;
}

static void test_good_programs(void **state)
{
	(void)state;
	assert_true(verify_good_end - verify_good >= 3 * 8);
	assert_int_equal(run(verify_good, verify_good_end), 0);
}

static void test_bad_programs(void **state)
{
	(void)state;
	assert_true(verify_bad_end - verify_bad >= 2 * 300);
	assert_int_equal(run(verify_bad, verify_bad_end), 0);
}

/*
 * Nor may it matter if what they left behind fits: a link to every offset, and behind it the
 * site that most programs use.
 */
static void test_stale_links(void **state)
{
	uint32_t where;

	(void)state;
	for (const struct verify_program *p = verify_bad; p < verify_bad_end; p++) {
		const struct nx_thunks thunks = verify_program_thunks(p);

		verify_program_translation(p, &translation);
		for (uint32_t to = 0; to < 2 * p->size; to++) {
			memset(scratch.map, 0xff, sizeof(scratch.map));
			for (uint32_t i = 0; i < p->size; i++)
				scratch.link[i] = (to + i) % 2 ? 4 /* READ8 */ : (uint16_t)(to / 2);
			if (nx_verify(p->code, (uint32_t)p->size, &translation, &thunks, &scratch,
				      &where) == NX_VERIFY_OK)
				fail_msg("%s is accepted with links to %#x", p->name, to / 2);
		}
	}
}

/* Every reason to refuse has a program that shows it. */
static void test_all_results_met(void **state)
{
	(void)state;
	for (unsigned result = NX_VERIFY_OK + 1; result < NX_VERIFY_TOO_LARGE; result++) {
		const struct verify_program *program = verify_bad;

		while (program < verify_bad_end &&
		       strcmp(program->result, verify_result_name(result)) != 0)
			program++;
		assert_true(program < verify_bad_end);
		assert_true(strlen(nx_verify_text(result)) > 5);
	}
	assert_string_equal(nx_verify_text(NX_VERIFY_OK), "proven");
}

static void test_limits(void **state)
{
	const struct nx_thunks thunks = {.branches = NX_BRANCHES_INDIRECT};
	static uint8_t code[NX_VERIFY_MAX_BYTES + 1];
	uint32_t where;

	(void)state;
	assert_int_equal(verify_good->branches, NX_BRANCHES_INDIRECT);
	verify_program_translation(verify_good, &translation);
	memset(code, 0x90, sizeof(code));
	memcpy(code + NX_VERIFY_MAX_BYTES - verify_good->size, verify_good->code,
	       verify_good->size);
	assert_int_equal(
	    nx_verify(code, NX_VERIFY_MAX_BYTES, &translation, &thunks, &scratch, &where),
	    NX_VERIFY_OK);
	assert_int_equal(
	    nx_verify(code, NX_VERIFY_MAX_BYTES + 1, &translation, &thunks, &scratch, &where),
	    NX_VERIFY_TOO_LARGE);
	translation.sites = NX_MAX_SITES + 1;
	assert_int_equal(nx_verify(verify_good->code, (uint32_t)verify_good->size, &translation,
				   &thunks, &scratch, &where),
			 NX_VERIFY_TOO_LARGE);
	verify_program_translation(verify_good, &translation);
	translation.entries = NX_MAX_BLOCKS + 1;
	assert_int_equal(nx_verify(verify_good->code, (uint32_t)verify_good->size, &translation,
				   &thunks, &scratch, &where),
			 NX_VERIFY_TOO_LARGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good_programs), cmocka_unit_test(test_bad_programs),
	    cmocka_unit_test(test_stale_links),   cmocka_unit_test(test_all_results_met),
	    cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
