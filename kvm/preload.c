/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * preload.c - the functions of the C library that libnoexit-kvm.so stands before.
 *
 * This code lives in somebody else's process. Its rules:
 *
 *  1. Fail open. Before start-up is complete, in a forked child, and for every descriptor that is
 *     not a VM or vCPU of this process, the real function is called and nothing else happens.
 *  2. errno is what the real function left; our own calls do not change it.
 *  3. We never exit, abort, or print to standard output. What we say is one line on standard
 *     error, and only if that is still the file that it was at start-up.
 *  4. No locks are held across a real call that may block, except vm->lock over the ioctls that
 *     change a VM's memory or devices.
 *  5. A fork of the process copies our tables, but KVM refuses its descriptors there: the child
 *     must not believe them. `alive` is in a page that the kernel clears in every child, however
 *     it was made. A vfork child shares our memory instead; what it closes are its own
 *     descriptors, so functions that change the table look at the process id first.
 *  6. Until the process creates a VM, LD_PRELOAD and our variables stay in the environment, so
 *     that `noexit run` also works on wrappers that exec or start the VMM. From the first VM on
 *     they are gone: the VMM's children run without us.
 *
 * Example: `LD_PRELOAD=libnoexit-kvm.so qemu-system-x86_64 -accel kvm` counts and avoids exits with
 * the defaults of options.h.
 */
#define _GNU_SOURCE
/* With 64-bit file offsets asked for, glibc's header makes fcntl() an alias of fcntl64(). */
#undef _FILE_OFFSET_BITS
#include "host.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct nx_real nx_real;
struct nx_options nx_options;

/* The real functions: found on first use, since other libraries' constructors may run first. */
#define REALS(X)                                       \
	X(ioctl, int, (int, unsigned long, ...))       \
	X(close, int, (int))                           \
	X(dup, int, (int))                             \
	X(dup2, int, (int, int))                       \
	X(dup3, int, (int, int, int))                  \
	X(fcntl, int, (int, int, ...))                 \
	X(fcntl64, int, (int, int, ...))               \
	X(close_range, int, (unsigned, unsigned, int)) \
	X(closefrom, void, (int))                      \
	X(_exit, void, (int))                          \
	X(_Exit, void, (int))

/* NOLINTBEGIN(bugprone-macro-parentheses): types and parameter lists take none */
#define NX_X(name, type, arguments) static type(*real_##name) arguments;
REALS(NX_X)
#undef NX_X

static void real_find(void)
{
	int saved = errno;

#define NX_X(name, type, arguments) \
	if (!real_##name)           \
		real_##name = (type(*) arguments)dlsym(RTLD_NEXT, #name);
	REALS(NX_X)
#undef NX_X
	errno = saved;
}

/* NOLINTEND(bugprone-macro-parentheses) */

#define REAL(name) (__builtin_expect(!real_##name, 0) ? (real_find(), real_##name) : real_##name)

#define EXPORT __attribute__((visibility("default")))

/* ---- The process ---- */

/* In a page of its own that a fork clears: rule 5. */
static volatile int *alive;
static pid_t process;
static bool has_vm, ready, has_forked;
static int kvm_access_errno;
static struct stat stderr_at_start;
static bool stderr_known;

static bool is_alive(void)
{
	return alive && *alive;
}

/* Neither a fork nor a vfork child. */
static bool is_ours(void)
{
	return is_alive() && process == getpid();
}

void nx_say(const char *format, ...)
{
	char line[512];
	struct stat now;
	va_list arguments;
	int saved = errno, length;

	if (fstat(STDERR_FILENO, &now) || !stderr_known || now.st_dev != stderr_at_start.st_dev ||
	    now.st_ino != stderr_at_start.st_ino)
		goto out;
	va_start(arguments, format);
	length = snprintf(line, sizeof(line), "noexit: ");
	length += vsnprintf(line + length, sizeof(line) - (size_t)length - 1, format, arguments);
	va_end(arguments);
	if (length > (int)sizeof(line) - 2)
		length = (int)sizeof(line) - 2;
	line[length++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)length) < 0) {
		/* Nobody is left to be told. */
	}
out:
	errno = saved;
}

/* Removes a variable in place: unsetenv() would be as good, but is not ours to race with. */
static void environment_remove(const char *prefix)
{
	size_t length = strlen(prefix);
	char **to = environ;

	if (!to)
		return;
	for (char **from = environ; *from; from++) {
		if (strncmp(*from, prefix, length) != 0)
			*to++ = *from;
	}
	*to = NULL;
}

static void environment_clean(void)
{
	const char *library = getenv(NX_ENV_LIBRARY);
	char *preload = getenv("LD_PRELOAD");

	if (library && preload) {
		size_t length = strlen(library);

		if (!strncmp(preload, library, length)) {
			char *rest = preload + length;

			rest += strspn(rest, ": ");
			memmove(preload, rest, strlen(rest) + 1);
			if (!*preload)
				environment_remove("LD_PRELOAD=");
		}
	}
	environment_remove(NX_ENV_PREFIX);
}

static void alive_set(void)
{
	if (!alive) {
		void *page = mmap(NULL, NX_HOST_PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (page == MAP_FAILED)
			return;
		if (madvise(page, NX_HOST_PAGE, MADV_WIPEONFORK)) {
			munmap(page, NX_HOST_PAGE);
			return;
		}
		alive = page;
	}
	*alive = 1;
	process = getpid();
}

/* A child of a process that has no VM is as good as its parent: rules 5 and 6. */
static bool may_begin(void)
{
	if (!ready)
		return false;
	if (is_ours())
		return true;
	if (has_vm || (is_alive() && process != getpid()))
		return false;
	alive_set();
	return is_alive();
}

void nx_process_has_vm(void)
{
	if (!has_vm)
		environment_clean();
	has_vm = true;
}

/* ---- struct nx_real ---- */

static int plain_ioctl(int fd, unsigned long request, void *argument)
{
	return REAL(ioctl)(fd, request, argument);
}

static int plain_close(int fd)
{
	return REAL(close)(fd);
}

static void *plain_map_vcpu(int fd, size_t size)
{
	void *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (run == MAP_FAILED)
		return NULL;
	madvise(run, size, MADV_DONTFORK);
	return run;
}

static void plain_unmap_vcpu(void *run, size_t size)
{
	munmap(run, size);
}

static bool plain_is_kvm_object(int fd, const char *what)
{
	char path[64], target[64], expected[32];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = 0;
	snprintf(expected, sizeof(expected), "anon_inode:kvm-%s", what);
	return !strncmp(target, expected, strlen(expected));
}

static uint64_t plain_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- Start and end ---- */

static void finish(void)
{
	struct rusage children;
	const char *pid;

	if (!is_ours())
		return;
	*alive = 0;
	if (has_vm) {
		nx_report_final();
		return;
	}
	/* Children, of a wrapper or by -daemonize, may use KVM; they speak for themselves. */
	pid = getenv(NX_ENV_PID);
	if (!pid || strtol(pid, NULL, 10) != process || has_forked ||
	    (!getrusage(RUSAGE_CHILDREN, &children) && children.ru_minflt))
		return;
	if (kvm_access_errno)
		nx_say("the command did not use KVM, and could not have: /dev/kvm: %s; %s",
		       strerror(kvm_access_errno),
		       kvm_access_errno == EACCES
			   ? "run it as a member of the group kvm, or as root"
			   : "load the module kvm_intel or kvm_amd, or pass the device on");
	else
		nx_say("the command never used KVM, so there was no exit to avoid; give a VMM the "
		       "option that makes it use KVM (QEMU: -accel kvm)");
}

static void note_fork(void)
{
	has_forked = true;
}

__attribute__((constructor)) static void start(void)
{
	int saved = errno;

	real_find();
	stderr_known = !fstat(STDERR_FILENO, &stderr_at_start);
	kvm_access_errno = faccessat(AT_FDCWD, "/dev/kvm", R_OK | W_OK, AT_EACCESS) ? errno : 0;
	nx_options_default(&nx_options);
	nx_options_from_environment(&nx_options);
	if (nx_options.stats)
		nx_options.stats = strdup(nx_options.stats); /* outlives the environment */
	nx_real = (struct nx_real){
	    .ioctl = plain_ioctl,
	    .map_vcpu = plain_map_vcpu,
	    .unmap_vcpu = plain_unmap_vcpu,
	    .is_kvm_object = plain_is_kvm_object,
	    .now = plain_now,
	    .close = plain_close,
	};
	alive_set();
	at_quick_exit(finish);
	pthread_atfork(NULL, note_fork, NULL);
	ready = true;
	errno = saved;
}

__attribute__((destructor)) static void end(void)
{
	int saved = errno;

	finish();
	errno = saved;
}

EXPORT void _exit(int status)
{
	finish();
	if (REAL(_exit))
		real__exit(status);
	for (;;)
		syscall(SYS_exit_group, status);
}

EXPORT void _Exit(int status)
{
	_exit(status);
}

/* ---- ioctl ---- */

static int kvm_ioctl(int fd, unsigned long request, void *argument)
{
	uint32_t number = (uint32_t)request; /* some callers sign-extend it */
	int result;

	if (number == KVM_CREATE_VM) {
		result = real_ioctl(fd, request, argument);
		if (result >= 0 && may_begin()) {
			int saved = errno;

			nx_vm_created(fd, result, (unsigned long)argument);
			errno = saved;
		}
		return result;
	}
	return is_alive() ? nx_kvm_ioctl(fd, request, argument) : real_ioctl(fd, request, argument);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (_IOC_TYPE(request) != KVMIO || !ready)
		return REAL(ioctl)(fd, request, argument);
	return kvm_ioctl(fd, request, argument);
}

/* ---- Descriptors ---- */

EXPORT int close(int fd)
{
	int saved = errno;

	if (has_vm && nx_fd_known(fd) && is_ours()) {
		nx_fd_clear(fd);
		errno = saved;
	}
	return REAL(close)(fd);
}

static int copied(int old, int result)
{
	if (result >= 0 && has_vm && is_ours()) {
		int saved = errno;

		nx_fd_clear(result);
		nx_fd_copy(old, result);
		errno = saved;
	}
	return result;
}

EXPORT int dup(int old)
{
	return copied(old, REAL(dup)(old));
}

/* The target of dup2() and dup3() is closed by them: rule 1 of fdtable.c. */
static void replaced(int old, int new_fd)
{
	int saved = errno;

	if (has_vm && old != new_fd && nx_fd_known(new_fd) && is_ours() &&
	    REAL(fcntl)(old, F_GETFD) >= 0)
		nx_fd_clear(new_fd);
	errno = saved;
}

EXPORT int dup2(int old, int new_fd)
{
	replaced(old, new_fd);
	return old == new_fd ? REAL(dup2)(old, new_fd) : copied(old, REAL(dup2)(old, new_fd));
}

EXPORT int dup3(int old, int new_fd, int flags)
{
	replaced(old, new_fd);
	return copied(old, REAL(dup3)(old, new_fd, flags));
}

EXPORT int fcntl(int fd, int command, ...)
{
	va_list arguments;
	void *argument;
	int result;

	va_start(arguments, command);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	result = REAL(fcntl)(fd, command, argument);
	return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}

EXPORT int fcntl64(int fd, int command, ...)
{
	va_list arguments;
	void *argument;
	int result;

	va_start(arguments, command);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	result = REAL(fcntl64)(fd, command, argument);
	return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	/* CLOSE_RANGE_CLOEXEC closes nothing yet. */
	if (!(flags & 4) && has_vm && is_ours())
		nx_fd_clear_range(first, last);
	return REAL(close_range)(first, last, flags);
}

EXPORT void closefrom(int first)
{
	if (has_vm && is_ours())
		nx_fd_clear_range(first < 0 ? 0 : (unsigned)first, ~0u);
	REAL(closefrom)(first);
}
