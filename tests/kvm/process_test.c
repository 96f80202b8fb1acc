/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* process_test.c - kvm/process.c: whose process this is, what it may say, and the real functions.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

static int no_ioctl(int fd, unsigned long request, void *argument)
{
	(void)fd;
	(void)request;
	(void)argument;
	errno = ENOTTY;
	return -1;
}

static int setup(void **state)
{
	(void)state;
	nx_process = (struct nx_process){0};
	nx_process_start(no_ioctl, close);
	return 0;
}

/* ---- Whose process it is ---- */

/* What a forked child sees: bit 0 alive, 1 ours, 2 may begin, 3 and ours after that. */
static int in_a_child(void)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		int seen = nx_process_alive() | nx_process_ours() << 1;

		seen |= nx_process_may_begin() << 2;
		_exit(seen | nx_process_ours() << 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_start(void **state)
{
	(void)state;
	assert_true(nx_process.ready);
	assert_int_equal(nx_process.id, getpid());
	assert_true(nx_process_alive());
	assert_true(nx_process_ours());
	assert_true(nx_process_may_begin());
	assert_ptr_equal(nx_real.ioctl, no_ioctl);
	assert_int_equal(nx_options.latency, 50);
}

static void test_not_started(void **state)
{
	(void)state;
	nx_process.ready = false;
	assert_false(nx_process_may_begin());
}

/* A child of a process without a VM may have one of its own; that of one with a VM has copies of
 * tables whose descriptors are not its own. */
static void test_children(void **state)
{
	(void)state;
	assert_int_equal(in_a_child(), 4 | 8);
	nx_process_has_vm();
	assert_int_equal(in_a_child(), 0);
	assert_true(nx_process_ours());
}

/* A vfork child shares the memory, and only its number tells it from its parent. */
static void test_shared_memory(void **state)
{
	(void)state;
	nx_process.id = getpid() + 1;
	assert_true(nx_process_alive());
	assert_false(nx_process_ours());
	assert_false(nx_process_may_begin());
}

static void test_end(void **state)
{
	(void)state;
	nx_process_end();
	assert_false(nx_process_alive());
	assert_false(nx_process_ours());
}

static unsigned first_vms;

static void first_vm(void)
{
	assert_false(nx_process.has_vm);
	first_vms++;
}

static void test_first_vm(void **state)
{
	(void)state;
	first_vms = 0;
	nx_process.first_vm = first_vm;
	nx_process_has_vm();
	nx_process_has_vm();
	assert_int_equal(first_vms, 1);
	assert_true(nx_process.has_vm);
}

/* ---- Lines ---- */

static char said[1024];

static void listen(const char *line)
{
	snprintf(said, sizeof(said), "%s", line);
}

static void test_log(void **state)
{
	char longer[1000];

	(void)state;
	nx_process.log = listen;
	errno = EXDEV;
	nx_say("%d exits", 7);
	assert_string_equal(said, "7 exits");
	assert_int_equal(errno, EXDEV);
	/* A line that is too long is cut, and is still one. */
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	nx_say("%s", longer);
	assert_in_range(strlen(said), 400, 511);
	assert_memory_equal(said, longer, strlen(said));
}

/* Standard error is a file of the test's for the length of action(), and *text what comes there. */
static void with_stderr(void (*action)(void), char *text, size_t size)
{
	int before = dup(STDERR_FILENO), file = memfd_create("stderr", 0);
	ssize_t length;

	assert_true(before >= 0 && file >= 0);
	assert_int_equal(dup2(file, STDERR_FILENO), STDERR_FILENO);
	action();
	assert_int_equal(dup2(before, STDERR_FILENO), STDERR_FILENO);
	length = pread(file, text, size - 1, 0);
	text[length > 0 ? length : 0] = 0;
	close(before);
	close(file);
}

static void say(void)
{
	nx_process_start(no_ioctl, close);
	errno = EXDEV;
	nx_say("one %s", "line");
	assert_int_equal(errno, EXDEV);
}

static void say_elsewhere(void)
{
	nx_say("one line");
}

static void say_without_a_reader(void)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
	while (write(ends[1], said, sizeof(said)) > 0)
		;
	nx_process_start(no_ioctl, close);
	errno = EXDEV;
	nx_say("one line");
	assert_int_equal(errno, EXDEV);
	close(ends[0]);
	close(ends[1]);
}

static void test_standard_error(void **state)
{
	char text[256];

	(void)state;
	with_stderr(say, text, sizeof(text));
	assert_string_equal(text, "noexit: one line\n");
	/* The VMM has put something else in its place: that is none of ours. */
	with_stderr(say_elsewhere, text, sizeof(text));
	assert_string_equal(text, "");
	with_stderr(say_without_a_reader, text, sizeof(text));
}

/* ---- struct nx_real ---- */

static void test_what_is_a_kvm_object(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC), file = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_false(nx_real.is_kvm_object(fd, "vm"));
	assert_false(nx_real.is_kvm_object(file, "vm"));
	assert_false(nx_real.is_kvm_object(-1, "vm"));
	close(fd);
	close(file);
}

/* The run page is shared with the kernel, and a forked child does not get it. */
static void test_run_page(void **state)
{
	int fd = memfd_create("run", MFD_CLOEXEC), status;
	uint32_t *page, value = 0;
	pid_t child;

	(void)state;
	assert_int_equal(ftruncate(fd, NX_HOST_PAGE), 0);
	page = nx_real.map_vcpu(fd, NX_HOST_PAGE);
	assert_non_null(page);
	*page = 4711;
	assert_int_equal(pread(fd, &value, sizeof(value), 0), sizeof(value));
	assert_int_equal(value, 4711);
	child = fork();
	if (!child) {
		unsigned char resident;

		_exit(mincore(page, NX_HOST_PAGE, &resident) ? errno == ENOMEM : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WEXITSTATUS(status), 1);
	nx_real.unmap_vcpu(page, NX_HOST_PAGE);
	close(fd);
	assert_null(nx_real.map_vcpu(-1, NX_HOST_PAGE));
}

static void test_clock(void **state)
{
	struct timespec before, after;
	uint64_t now;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &before);
	now = nx_real.now();
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true(now >= (uint64_t)before.tv_sec * 1000000000u + (uint64_t)before.tv_nsec);
	assert_true(now <= (uint64_t)after.tv_sec * 1000000000u + (uint64_t)after.tv_nsec);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
	    TEST(test_start),    TEST(test_not_started),
	    TEST(test_children), TEST(test_shared_memory),
	    TEST(test_end),      TEST(test_first_vm),
	    TEST(test_log),      TEST(test_standard_error),
	    TEST(test_run_page), TEST(test_what_is_a_kvm_object),
	    TEST(test_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
