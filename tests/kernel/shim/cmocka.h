/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cmocka.h - the part of cmocka's interface that tests/mock and tests/clusters use, without libc,
 * so that the same test sources run inside a kernel. shim.c implements it.
 */
#ifndef NX_SHIM_CMOCKA_H
#define NX_SHIM_CMOCKA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct CMUnitTest {
	const char *name;
	void (*test_func)(void **state);
	int (*setup_func)(void **state);
	int (*teardown_func)(void **state);
	void *initial_state;
};

/*
 * End the running test. These functions do not return, but have no attribute that says so, since
 * objtool believes it of the kernel's own functions only. The sentence is printed without its
 * figures, since there is no printf().
 */
void shim_fail(const char *file, int line, const char *what, ...);
void shim_skip(void);
bool shim_same(const void *a, const void *b, size_t size);
int shim_run(const char *group, const struct CMUnitTest *tests, size_t count);

#define cmocka_unit_test(function)                    \
	{                                             \
#function, function, NULL, NULL, NULL \
	}
#define cmocka_run_group_tests(tests, setup, teardown) \
	shim_run(__FILE__, tests, sizeof(tests) / sizeof((tests)[0]))

#define skip() shim_skip()
#define fail_msg(...) shim_fail(__FILE__, __LINE__, __VA_ARGS__)
#define shim_assert(condition, text)                         \
	do {                                                 \
		if (!(condition))                            \
			shim_fail(__FILE__, __LINE__, text); \
	} while (0)
#define assert_true(c) shim_assert(c, #c)
#define assert_false(c) shim_assert(!(c), "not " #c)
#define assert_non_null(p) shim_assert((p) != NULL, #p)
#define assert_ptr_equal(a, b) shim_assert((const void *)(a) == (const void *)(b), #a " == " #b)
#define assert_ptr_not_equal(a, b) shim_assert((const void *)(a) != (const void *)(b), #a " != " #b)
#define assert_int_equal(a, b) shim_assert((uint64_t)(a) == (uint64_t)(b), #a " == " #b)
#define assert_int_not_equal(a, b) shim_assert((uint64_t)(a) != (uint64_t)(b), #a " != " #b)
#define assert_in_range(value, low, high)                                                          \
	shim_assert((uint64_t)(value) >= (uint64_t)(low) && (uint64_t)(value) <= (uint64_t)(high), \
		    #value)
#define assert_memory_equal(a, b, size) shim_assert(shim_same(a, b, size), #a " == " #b)
#define assert_memory_not_equal(a, b, size) shim_assert(!shim_same(a, b, size), #a " != " #b)

#endif
