/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* hostmem_test.c - kvm/hostmem.c: what this process may do with a slot's memory. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unit.h"

#define PAGES 8u
#define ALL (NX_HOST_READ | NX_HOST_WRITE)

static const struct model_insn program[] = {{M_HLT, 0}};
static uint8_t *memory;

static uint64_t page(unsigned number)
{
	return (uintptr_t)memory + (uint64_t)number * NX_HOST_PAGE;
}

static int setup(void **state)
{
	(void)state;
	nx_options_default(&nx_options);
	fake_start(program, 1, (struct fake_style){false, false});
	memory = mmap(NULL, (size_t)PAGES * NX_HOST_PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return memory == MAP_FAILED;
}

static int teardown(void **state)
{
	(void)state;
	munmap(memory, (size_t)PAGES * NX_HOST_PAGE);
	fake_stop();
	return 0;
}

static uint8_t look(unsigned first, unsigned pages)
{
	struct nx_slot slot = {
	    .host = page(first), .size = (uint64_t)pages * NX_HOST_PAGE, .access = NX_HOST_UNKNOWN};

	return nx_host_slot_access(&slot);
}

static void protect(unsigned number, int rights)
{
	assert_int_equal(mprotect(memory + (size_t)number * NX_HOST_PAGE, NX_HOST_PAGE, rights), 0);
}

static void test_rights(void **state)
{
	(void)state;
	errno = EXDEV;
	assert_int_equal(look(0, PAGES), ALL);
	protect(2, PROT_READ);
	protect(4, PROT_NONE);
	assert_int_equal(look(0, 2), ALL);
	/* A slot may do what its weakest page may. */
	assert_int_equal(look(0, 3), NX_HOST_READ);
	assert_int_equal(look(2, 1), NX_HOST_READ);
	assert_int_equal(look(3, 2), 0);
	assert_int_equal(look(5, 3), ALL);
	assert_int_equal(errno, EXDEV);
}

static void test_holes(void **state)
{
	(void)state;
	assert_int_equal(munmap(memory + 3 * NX_HOST_PAGE, NX_HOST_PAGE), 0);
	assert_int_equal(look(0, 3), ALL);
	assert_int_equal(look(0, 4), 0);
	assert_int_equal(look(3, 1), 0);
	assert_int_equal(look(3, 2), 0);
	assert_int_equal(look(4, 2), ALL);
}

static void test_looked_up_once(void **state)
{
	struct nx_slot slot = {.host = page(0), .size = NX_HOST_PAGE, .access = NX_HOST_UNKNOWN};

	(void)state;
	assert_int_equal(nx_host_slot_access(&slot), ALL);
	protect(0, PROT_NONE);
	assert_int_equal(nx_host_slot_access(&slot), ALL);
	slot.access = NX_HOST_UNKNOWN;
	assert_int_equal(nx_host_slot_access(&slot), 0);
}

static void test_covered(void **state)
{
	(void)state;
	nx_host_covered(page(2), 2ull * NX_HOST_PAGE);
	assert_true(nx_host_covers(page(2), 1));
	assert_true(nx_host_covers(page(0), 2ull * NX_HOST_PAGE + 1));
	/* The bounds only grow. */
	nx_host_covered(page(6), NX_HOST_PAGE);
	assert_true(nx_host_covers(page(2), 1));
	assert_true(nx_host_covers(page(5), 1));
	assert_false(nx_host_covers(page(7) + (1ull << 45), 1));
}

static void test_changes(void **state)
{
	struct nx_kvm_vm *vm = fake_vm();
	unsigned generation;

	(void)state;
	assert_true(nx_slot_set(vm, 0, 0, 0, 2ull * NX_HOST_PAGE, page(0)));
	assert_true(nx_slot_set(vm, 1, 0, 1 << 20, NX_HOST_PAGE, page(2)));
	assert_int_equal(nx_host_slot_access(&vm->slot[0]), ALL);
	assert_int_equal(nx_host_slot_access(&vm->slot[1]), ALL);
	generation = vm->generation;
	nx_host_changes(page(1), NX_HOST_PAGE);
	/* Until the change is over the slot is left alone, and nothing is looked up. */
	assert_int_equal(nx_host_slot_access(&vm->slot[0]), 0);
	assert_int_equal(nx_host_slot_access(&vm->slot[1]), ALL);
	assert_int_equal(look(0, 1), 0);
	assert_int_not_equal(vm->generation, generation);
	protect(1, PROT_READ);
	nx_host_changed(page(1), NX_HOST_PAGE);
	assert_int_equal(nx_host_slot_access(&vm->slot[0]), NX_HOST_READ);
	assert_int_equal(nx_host_slot_access(&vm->slot[1]), ALL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_rights),  TEST(test_holes),   TEST(test_looked_up_once),
	    TEST(test_covered), TEST(test_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
