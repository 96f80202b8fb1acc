/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* array_test.c - kvm/array.c: there is room for each element, and those before it stay. */
#include <stdlib.h>

#include "unit.h"

#define COUNT 100u

static void test_grows(void **state)
{
	unsigned capacity = 0, moves = 0;
	uint64_t *array = NULL;

	(void)state;
	for (unsigned count = 0; count < COUNT; count++) {
		unsigned before = capacity;

		array = nx_array_room(array, &capacity, count, sizeof(*array));
		assert_non_null(array);
		assert_true(capacity > count);
		moves += capacity != before;
		array[count] = count * 3;
	}
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(array[i], i * 3);
	/* Not for each element. */
	assert_in_range(moves, 2, 10);
	free(array);
}

/* An address sanitizer ends the program otherwise. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

/* What cannot be had leaves all as it was. */
static void test_no_memory(void **state)
{
	unsigned capacity = 1;
	uint64_t *array = malloc(sizeof(*array));

	(void)state;
	assert_non_null(array);
	*array = 4711;
	assert_null(nx_array_room(array, &capacity, 1, SIZE_MAX / 4));
	assert_int_equal(capacity, 1);
	assert_int_equal(*array, 4711);
	free(array);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_grows),
	    cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
