/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* memory_test.c - kvm/memory.c: an arena, and a code cache in two mappings. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

static struct nx_memory memory;

static int setup(void **state)
{
	(void)state;
	nx_options_default(&nx_options);
	nx_real.close = close;
	memset(&memory, 0xff, sizeof(memory));
	return 0;
}

/* The rights of the mapping that an address is in, as the kernel has them ("rw-p"). */
static const char *rights_of(const void *address)
{
	static char line[512], rights[5];
	FILE *maps = fopen("/proc/self/maps", "re");

	memcpy(rights, "none", 5);
	while (maps && fgets(line, sizeof(line), maps)) {
		char *after;
		unsigned long first = strtoul(line, &after, 16),
			      last = strtoul(after + 1, &after, 16);

		if ((uintptr_t)address >= first && (uintptr_t)address < last)
			memcpy(rights, after + 1, 4);
	}
	if (maps)
		fclose(maps);
	return rights;
}

static void test_no_page_is_writable_and_executable(void **state)
{
	(void)state;
	assert_true(nx_memory_get(&memory, 64 * 1024));
	assert_string_equal(rights_of(memory.code_rw), "rw-s");
	assert_string_equal(rights_of(memory.code_rx), "r-xs");
	assert_string_equal(rights_of(memory.arena), "rw-p");
	/* Both show one memory. */
	memset(memory.code_rw, 0xc3, memory.code_size);
	assert_memory_equal(memory.code_rw, memory.code_rx, memory.code_size);
	nx_memory_put(&memory);
}

static void test_sizes(void **state)
{
	(void)state;
	assert_true(nx_memory_get(&memory, 1));
	assert_int_equal(memory.code_size, NX_HOST_PAGE);
	assert_true(memory.arena_size >= nx_engine_arena_size());
	assert_int_equal(memory.arena_size % NX_HOST_PAGE, 0);
	memset(memory.arena, 1, memory.arena_size);
	nx_memory_put(&memory);
}

static void test_given_back(void **state)
{
	struct nx_memory before;

	(void)state;
	assert_true(nx_memory_get(&memory, 4096));
	before = memory;
	nx_memory_put(&memory);
	assert_null(memory.arena);
	assert_null(memory.code_rw);
	assert_string_equal(rights_of(before.code_rx), "none");
	assert_string_equal(rights_of(before.arena), "none");
	nx_memory_put(&memory);
}

static void test_each_step_that_fails(void **state)
{
	static const enum nx_fault steps[] = {NX_FAULT_ARENA, NX_FAULT_MEMFD, NX_FAULT_EXECUTABLE};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		nx_options.fault = steps[i];
		memset(&memory, 0xff, sizeof(memory));
		assert_false(nx_memory_get(&memory, 4096));
		/* Nothing is left behind. */
		assert_null(memory.arena);
		assert_null(memory.code_rw);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
	    TEST(test_no_page_is_writable_and_executable),
	    TEST(test_sizes),
	    TEST(test_given_back),
	    TEST(test_each_step_that_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
