/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * preload_test.c - kvm/preload.c: the C library's functions in a process that has had a VM. Those
 * that this program calls are preload.c's, as they are where it is preloaded; command_test.py
 * preloads it.
 */
#define _GNU_SOURCE
/* As in preload.c: both sets of names are called here. */
#undef _FILE_OFFSET_BITS
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

static struct nx_object *object;
static unsigned released;

static void note_release(struct nx_object *which)
{
	(void)which;
	released++;
	errno = EXDEV;
}

/* A descriptor that stands for an object, as a VM's does. */
static int known(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	object = nx_object_new(NX_OBJECT_EVENTFD, sizeof(*object), note_release);
	nx_fd_set(fd, object);
	released = 0;
	return fd;
}

/* ---- The environment ---- */

/* First of all: until there is a VM, all is as `noexit run` left it. */
static void test_first_vm(void **state)
{
	(void)state;
	assert_true(nx_process.ready);
	assert_false(nx_process.has_vm);
	assert_non_null(nx_process.first_vm);
	setenv(NX_ENV_LIBRARY, "/lib/ours.so", 1);
	setenv("LD_PRELOAD", "/lib/ours.so:/lib/theirs.so", 1);
	setenv("NOEXIT_LATENCY", "70", 1);
	setenv("HARMLESS", "1", 1);
	nx_process.first_vm();
	assert_string_equal(getenv("LD_PRELOAD"), "/lib/theirs.so");
	assert_null(getenv("NOEXIT_LATENCY"));
	assert_null(getenv(NX_ENV_LIBRARY));
	assert_non_null(getenv("HARMLESS"));
	/* Ours alone, and one that is another's. */
	setenv(NX_ENV_LIBRARY, "/lib/ours.so", 1);
	setenv("LD_PRELOAD", "/lib/ours.so", 1);
	nx_process.first_vm();
	assert_null(getenv("LD_PRELOAD"));
	setenv(NX_ENV_LIBRARY, "/lib/ours.so", 1);
	setenv("LD_PRELOAD", "/lib/theirs.so", 1);
	nx_process_has_vm();
	assert_string_equal(getenv("LD_PRELOAD"), "/lib/theirs.so");
	unsetenv("LD_PRELOAD");
}

/* ---- Descriptors ---- */

static void test_close(void **state)
{
	int fd = known();

	(void)state;
	errno = 0;
	assert_int_equal(close(fd), 0);
	assert_int_equal(errno, 0);
	assert_false(nx_fd_known(fd));
	assert_int_equal(released, 1);
	assert_int_equal(close(fd), -1);
	assert_int_equal(errno, EBADF);
}

/* Each way to a duplicate keeps the object until the last one has been closed. */
static void test_duplicates(void **state)
{
	int fd = known(), other[6];

	(void)state;
	other[0] = dup(fd);
	other[1] = fcntl(fd, F_DUPFD, 100);
	other[2] = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	other[3] = dup2(fd, 200);
	other[4] = dup3(fd, 201, O_CLOEXEC);
	other[5] = fcntl64(fd, F_DUPFD_CLOEXEC, 100);
	for (unsigned i = 0; i < 6; i++) {
		assert_true(other[i] >= 0);
		assert_true(nx_fd_is(other[i], object));
	}
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(released, 0);
		close(other[i]);
	}
	assert_int_equal(released, 1);
}

/* A number that the kernel takes for something else no longer stands for the object. */
static void test_replaced(void **state)
{
	int fd = known(), plain = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	/* These fail, or do nothing. */
	assert_int_equal(dup2(-1, fd), -1);
	assert_int_equal(dup2(fd, fd), fd);
	assert_int_equal(dup3(fd, fd, 0), -1);
	assert_true(nx_fd_known(fd));
	assert_int_equal(dup2(plain, fd), fd);
	assert_false(nx_fd_known(fd));
	assert_int_equal(released, 1);
	close(fd);
	/* A number that the host has not heard of being closed, and that is given again. */
	fd = known();
	syscall(SYS_close, fd);
	assert_int_equal(dup(plain), fd);
	assert_false(nx_fd_known(fd));
	close(fd);
	close(plain);
}

static void test_ranges(void **state)
{
	int fd = fcntl(known(), F_DUPFD_CLOEXEC, 300), after = fcntl(fd, F_DUPFD_CLOEXEC, 310);

	(void)state;
	assert_true(nx_fd_known(fd) && nx_fd_known(after));
	assert_int_equal(close_range(300, 305, CLOSE_RANGE_CLOEXEC), 0);
	assert_true(nx_fd_known(fd));
	assert_int_equal(close_range(300, 305, 0), 0);
	assert_false(nx_fd_known(fd));
	assert_true(nx_fd_known(after));
	closefrom(306);
	assert_false(nx_fd_known(after));
	assert_int_equal(fcntl(after, F_GETFD), -1);
}

/* A forked child's descriptors are copies that KVM refuses: the real function, and nothing else. */
static void test_child(void **state)
{
	int fd = known(), status;
	pid_t child = fork();

	(void)state;
	if (!child) {
		close(fd);
		_Exit(released || !nx_fd_known(fd));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WEXITSTATUS(status), 0);
	close(fd);
	assert_int_equal(released, 1);
}

/* ---- Signal handlers ---- */

static volatile int handled;
static siginfo_t *volatile with_info;

static void handle(int number)
{
	handled = number;
}

static void handle_info(int number, siginfo_t *info, void *context)
{
	handled = context ? number : 0;
	with_info = info;
}

static void expect_handled(void)
{
	unsigned before = nx_handlers_count();

	handled = 0;
	raise(SIGUSR1);
	assert_int_equal(handled, SIGUSR1);
	assert_int_equal(nx_handlers_count(), before + 1);
}

/* The host counts each run, and the VMM is told of its own handlers only. */
static void test_sigaction(void **state)
{
	struct sigaction action = {.sa_sigaction = handle_info, .sa_flags = SA_SIGINFO}, old;

	(void)state;
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	expect_handled();
	assert_non_null(with_info);
	assert_int_equal(sigaction(SIGUSR1, NULL, &old), 0);
	assert_ptr_equal(old.sa_sigaction, handle_info);
	assert_true(old.sa_flags & SA_SIGINFO);
	action = (struct sigaction){.sa_handler = handle};
	assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
	assert_ptr_equal(old.sa_sigaction, handle_info);
	expect_handled();
	assert_int_equal(sigaction(NSIG + 1, &action, NULL), -1);
	assert_int_equal(errno, EINVAL);
}

static void test_signal(void **state)
{
	(void)state;
	assert_true(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
	raise(SIGUSR1);
	assert_ptr_equal(signal(SIGUSR1, handle), SIG_IGN);
	expect_handled();
	assert_ptr_equal(sysv_signal(SIGUSR1, SIG_DFL), handle);
	assert_ptr_equal(sysv_signal(SIGUSR1, handle), SIG_DFL);
	/* System V's: one signal, and the default again. */
	expect_handled();
	assert_ptr_equal(signal(SIGUSR1, SIG_DFL), SIG_DFL);
	/* What is no handler is not called. */
	assert_ptr_equal(signal(SIGCHLD, SIG_DFL), SIG_DFL);
	raise(SIGCHLD);
}

/* ---- Mappings ---- */

#define SIZE ((size_t)NX_HOST_PAGE)

static struct nx_kvm_vm *vm;
static uint8_t *memory;

static void nothing(struct nx_object *which)
{
	(void)which;
}

static int map(void **state)
{
	(void)state;
	memory = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	vm = (struct nx_kvm_vm *)nx_object_new(NX_OBJECT_VM, sizeof(*vm), nothing);
	pthread_rwlock_init(&vm->lock, NULL);
	nx_fd_set(400, &vm->object);
	nx_slot_set(vm, 0, 0, 0, SIZE, (uintptr_t)memory);
	return memory == MAP_FAILED;
}

static int unmap(void **state)
{
	(void)state;
	free(vm->slot);
	free(vm->slot_gpa);
	nx_fd_clear(400);
	munmap(memory, 2 * SIZE);
	return 0;
}

/* What the engine may do with the slot's memory, as found out at the first use after a change. */
static uint8_t rights(void)
{
	return nx_host_slot_access(&vm->slot[0]);
}

#define ALL (NX_HOST_READ | NX_HOST_WRITE)

static void test_protected(void **state)
{
	(void)state;
	assert_int_equal(rights(), ALL);
	assert_int_equal(mprotect(memory, SIZE, PROT_READ), 0);
	assert_int_equal(rights(), NX_HOST_READ);
	assert_int_equal(pkey_mprotect(memory, SIZE, PROT_READ | PROT_WRITE, -1), 0);
	assert_int_equal(rights(), ALL);
}

static void test_unmapped(void **state)
{
	(void)state;
	assert_int_equal(rights(), ALL);
	assert_int_equal(munmap(memory, SIZE), 0);
	assert_int_equal(rights(), 0);
	assert_ptr_equal(mmap(memory, SIZE, PROT_READ | PROT_WRITE,
			      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
			 memory);
	assert_int_equal(rights(), ALL);
	assert_ptr_equal(
	    mmap64(memory, SIZE, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	    memory);
	assert_int_equal(rights(), NX_HOST_READ);
}

static void test_moved(void **state)
{
	void *other = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_int_equal(rights(), ALL);
	/* Something else comes to where the slot is; then that goes away. */
	assert_ptr_equal(mremap(other, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, memory), memory);
	assert_int_equal(rights(), NX_HOST_READ);
	other = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_equal(mremap(memory, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, other), other);
	assert_int_equal(rights(), 0);
	munmap(other, SIZE);
}

/* What no slot uses is the VMM's own: no engine is bothered. */
static void test_elsewhere(void **state)
{
	unsigned generation;

	(void)state;
	assert_int_equal(rights(), ALL);
	generation = vm->generation;
	assert_int_equal(mprotect(memory + SIZE, SIZE, PROT_NONE), 0);
	assert_int_equal(vm->generation, generation);
}

int main(void)
{
#define MAPPED(name) cmocka_unit_test_setup_teardown(name, map, unmap)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_first_vm),
	    cmocka_unit_test(test_close),
	    cmocka_unit_test(test_duplicates),
	    cmocka_unit_test(test_replaced),
	    cmocka_unit_test(test_ranges),
	    cmocka_unit_test(test_child),
	    cmocka_unit_test(test_sigaction),
	    cmocka_unit_test(test_signal),
	    MAPPED(test_protected),
	    MAPPED(test_unmapped),
	    MAPPED(test_moved),
	    MAPPED(test_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
