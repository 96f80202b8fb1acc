/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* fdtable_test.c - kvm/fdtable.c: which descriptor stands for what, and for how long. */
#include <fcntl.h>
#include <unistd.h>

#include "unit.h"

struct thing {
	struct nx_object object;
	int value;
};

static unsigned released;
static struct nx_object *last_released;

static void release(struct nx_object *object)
{
	released++;
	last_released = object;
}

static struct nx_object *make(enum nx_object_type type)
{
	return nx_object_new(type, sizeof(struct thing), release);
}

static int setup(void **state)
{
	(void)state;
	nx_real.close = close;
	nx_fd_clear_range(0, UINT32_MAX);
	released = 0;
	last_released = NULL;
	return 0;
}

static void test_life(void **state)
{
	struct nx_object *object = make(NX_OBJECT_VM);

	(void)state;
	assert_false(nx_fd_known(700));
	assert_null(nx_object_get(700));
	nx_fd_set(700, object);
	assert_true(nx_fd_known(700));
	assert_true(nx_fd_is(700, object));
	assert_ptr_equal(nx_object_get(700), object);
	/* A call in flight keeps it after the last descriptor. */
	nx_fd_clear(700);
	assert_false(nx_fd_known(700));
	assert_null(nx_object_get(700));
	assert_int_equal(released, 0);
	nx_object_put(object);
	assert_int_equal(released, 1);
	assert_ptr_equal(last_released, object);
}

static void test_duplicates(void **state)
{
	struct nx_object *object = make(NX_OBJECT_VCPU);

	(void)state;
	nx_fd_set(701, object);
	nx_fd_copy(701, 702);
	nx_fd_copy(703, 704); /* stands for nothing */
	assert_true(nx_fd_is(702, object));
	assert_false(nx_fd_known(704));
	nx_fd_clear(701);
	assert_int_equal(released, 0);
	nx_fd_clear(702);
	nx_fd_clear(702);
	assert_int_equal(released, 1);
}

static void test_set_over_another(void **state)
{
	struct nx_object *first = make(NX_OBJECT_VM), *second = make(NX_OBJECT_VM);

	(void)state;
	nx_fd_set(705, first);
	nx_fd_set(705, second);
	assert_int_equal(released, 1);
	assert_ptr_equal(last_released, first);
	assert_true(nx_fd_is(705, second));
}

static void test_beyond_the_table(void **state)
{
	(void)state;
	nx_fd_set(1 << 20, make(NX_OBJECT_VM));
	assert_int_equal(released, 1);
	nx_fd_set(-1, make(NX_OBJECT_VM));
	assert_int_equal(released, 2);
	assert_false(nx_fd_known(1 << 20));
	assert_null(nx_object_get(-1));
	nx_fd_clear(-1);
}

/* A stale pointer may still be read: memory serves the same type again, and comes back zeroed. */
static void test_recycling(void **state)
{
	struct nx_object *object = make(NX_OBJECT_EVENTFD), *other;

	(void)state;
	((struct thing *)object)->value = 5;
	nx_object_put(object);
	other = make(NX_OBJECT_VM);
	assert_ptr_not_equal(other, object);
	nx_object_put(other);
	other = make(NX_OBJECT_EVENTFD);
	assert_ptr_equal(other, object);
	assert_int_equal(((struct thing *)other)->value, 0);
	assert_int_equal(atomic_load(&other->count), 1);
	nx_object_put(other);
}

static void visit(struct nx_object *object, void *data)
{
	/* Counted for the visitor. */
	assert_true(atomic_load(&object->count) > 1);
	++*(unsigned *)data;
}

static void test_ranges(void **state)
{
	unsigned seen = 0;

	(void)state;
	for (int fd = 710; fd < 720; fd++)
		nx_fd_set(fd, make(NX_OBJECT_VM));
	nx_fd_for_each(visit, &seen);
	assert_int_equal(seen, 10);
	nx_fd_clear_range(712, 714);
	assert_int_equal(released, 3);
	assert_true(nx_fd_known(711));
	assert_true(nx_fd_known(715));
	nx_fd_clear_range(716, UINT32_MAX);
	assert_int_equal(released, 7);
}

static void test_out_of_the_way(void **state)
{
	int low = open("/dev/null", O_RDONLY | O_CLOEXEC), high = nx_fd_private(low);

	(void)state;
	assert_true(low >= 0 && low < 512);
	assert_true(high >= 512);
	assert_true(fcntl(high, F_GETFD) & FD_CLOEXEC);
	close(high);
	high = nx_fd_move_up(low);
	assert_true(high >= 512);
	assert_int_equal(fcntl(low, F_GETFD), -1);
	close(high);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
	    TEST(test_life),
	    TEST(test_duplicates),
	    TEST(test_set_over_another),
	    TEST(test_beyond_the_table),
	    TEST(test_recycling),
	    TEST(test_ranges),
	    TEST(test_out_of_the_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
