/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * library_test.c - kvm/library.c: what the functions of noexit-kvm.h do in a process without a VM.
 * real_test.py has one with a VM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "noexit-kvm.h"
#include "unit.h"

static char said[256];

static void listen(const char *line)
{
	snprintf(said, sizeof(said), "%s", line);
}

/* First of all: what does not concern KVM starts nothing. */
static void test_other_ioctls(void **state)
{
	int ends[2], waiting = 0;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(write(ends[1], "abc", 3), 3);
	assert_int_equal(nx_ioctl(ends[0], FIONREAD, &waiting), 0);
	assert_int_equal(waiting, 3);
	assert_false(nx_process.ready);
	/* KVM's numbers start the host; the kernel still says that this is a pipe. */
	errno = 0;
	assert_int_equal(nx_ioctl(ends[0], KVM_GET_API_VERSION, 0), -1);
	assert_int_equal(errno, ENOTTY);
	assert_true(nx_process.ready);
	assert_int_equal(nx_close(ends[0]), 0);
	assert_int_equal(nx_close(ends[1]), 0);
	assert_int_equal(fcntl(ends[0], F_GETFD), -1);
	assert_int_equal(nx_close(-1), -1);
	assert_int_equal(errno, EBADF);
}

static unsigned released;

static void note_release(struct nx_object *object)
{
	(void)object;
	released++;
	errno = EXDEV;
}

static void test_close(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	nx_fd_set(fd, nx_object_new(NX_OBJECT_EVENTFD, sizeof(struct nx_object), note_release));
	errno = 0;
	assert_int_equal(nx_close(fd), 0);
	assert_int_equal(errno, 0);
	assert_int_equal(released, 1);
	assert_false(nx_fd_known(fd));
}

static void test_options(void **state)
{
	(void)state;
	errno = EXDEV;
	assert_null(nx_kvm_option("latency", "77"));
	assert_int_equal(nx_options.latency, 77);
	assert_int_equal(errno, EXDEV);
	assert_non_null(nx_kvm_option("latency", "much"));
	assert_int_equal(nx_options.latency, 77);
	assert_string_equal(nx_kvm_option("latecy", "77"), "is no option of noexit");
}

static void test_log_and_report(void **state)
{
	struct nx_kvm_totals totals = {1, 1};

	(void)state;
	nx_kvm_totals(&totals);
	assert_int_equal(totals.taken, 0);
	assert_int_equal(totals.avoided, 0);
	nx_kvm_log(listen);
	nx_kvm_report();
	assert_string_equal(said, "0 exits taken, 0 avoided (0.00%)");
	nx_kvm_log(NULL);
}

static void test_watched(void **state)
{
	(void)state;
	nx_kvm_watched(false);
	assert_true(nx_process.unwatched);
	nx_kvm_watched(true);
	assert_false(nx_process.unwatched);
}

static void test_signalled(void **state)
{
	unsigned before = nx_handlers_count();

	(void)state;
	nx_kvm_signalled();
	assert_int_equal(nx_handlers_count(), before + 1);
}

/* The slot is left alone from one call to the other, and is looked at again then. */
static void test_memory_changes(void **state)
{
	void *memory = mmap(NULL, NX_HOST_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct nx_slot slot = {
	    .host = (uintptr_t)memory, .size = NX_HOST_PAGE, .access = NX_HOST_UNKNOWN};

	(void)state;
	nx_kvm_memory_changes(memory, NX_HOST_PAGE);
	assert_int_equal(nx_host_slot_access(&slot), 0);
	assert_int_equal(mprotect(memory, NX_HOST_PAGE, PROT_READ | PROT_WRITE), 0);
	nx_kvm_memory_changed(memory, NX_HOST_PAGE);
	assert_int_equal(nx_host_slot_access(&slot), NX_HOST_READ | NX_HOST_WRITE);
	munmap(memory, NX_HOST_PAGE);
}

static unsigned maps(void)
{
	char line[512];
	unsigned lines = 0;
	FILE *file = fopen("/proc/self/maps", "r");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		lines += strstr(line, "noexit") != NULL;
	fclose(file);
	return lines;
}

/* It is a question: the memory is given back. */
static void test_can_execute(void **state)
{
	unsigned before = maps();
	struct nx_memory memory;
	bool can;

	(void)state;
	can = nx_kvm_can_execute();
	assert_int_equal(maps(), before);
	assert_int_equal(nx_memory_get(&memory, NX_HOST_PAGE), can);
	assert_true(!can || maps() > before);
	nx_memory_put(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_other_ioctls),   cmocka_unit_test(test_close),
	    cmocka_unit_test(test_options),        cmocka_unit_test(test_log_and_report),
	    cmocka_unit_test(test_watched),        cmocka_unit_test(test_signalled),
	    cmocka_unit_test(test_memory_changes), cmocka_unit_test(test_can_execute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
