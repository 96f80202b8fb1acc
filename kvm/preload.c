/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * preload.c - the functions of the C library that libnoexit-kvm.so interposes.
 *
 * This code lives in a foreign process. Its rules:
 *
 *  1. Fail open. Before start-up is complete, in a forked child, and for every descriptor that is
 *     not a VM or vCPU of this process, the real function is called and nothing else happens.
 *  2. errno is what the real function left; calls of the library's own do not change it.
 *  3. The library never exits, aborts, or prints to standard output. It prints one line on standard
 *     error, and only if that is still the file that it was at start-up.
 *  4. No locks are held across a real call that may block, except vm->lock over the ioctls that
 *     change a VM's memory or devices.
 *  5. A forked child must not trust the tables (process.c). A vfork child shares the memory but
 *     closes descriptors of its own, so functions that change the table compare the process id
 *     first.
 *  6. Until the process creates a VM, LD_PRELOAD and the NOEXIT_ variables stay in the environment,
 *     so that `noexit run` also works on wrappers that exec or start the VMM. The first VM removes
 *     them: the VMM's children run without noexit.
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
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef void (*handler)(int);
typedef void (*handler_with_info)(int, siginfo_t *, void *);
#define SIGACTION_ARGUMENTS (int, const struct sigaction *, struct sigaction *)

/* The real functions are found on first use, since other libraries' constructors may run first. */
#define REALS(X)                                                    \
	X(ioctl, int, (int, unsigned long, ...))                    \
	X(close, int, (int))                                        \
	X(dup, int, (int))                                          \
	X(dup2, int, (int, int))                                    \
	X(dup3, int, (int, int, int))                               \
	X(fcntl, int, (int, int, ...))                              \
	X(fcntl64, int, (int, int, ...))                            \
	X(close_range, int, (unsigned, unsigned, int))              \
	X(closefrom, void, (int))                                   \
	X(mmap, void *, (void *, size_t, int, int, int, off_t))     \
	X(mmap64, void *, (void *, size_t, int, int, int, off64_t)) \
	X(munmap, int, (void *, size_t))                            \
	X(mremap, void *, (void *, size_t, size_t, int, ...))       \
	X(mprotect, int, (void *, size_t, int))                     \
	X(pkey_mprotect, int, (void *, size_t, int, int))           \
	X(sigaction, int, SIGACTION_ARGUMENTS)                      \
	X(signal, handler, (int, handler))                          \
	X(sysv_signal, handler, (int, handler))                     \
	X(__sysv_signal, handler, (int, handler))                   \
	X(_exit, void, (int))                                       \
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

static bool has_forked;
static int kvm_access_errno;

/* Remove a variable in place; unsetenv() could race with the VMM's own use of it. */
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

/*
 * Choose the statistics file. Of several VMMs below one `noexit run` the first gets the named file,
 * and the others add their process id to the name. The first one holds the lock, or has ended and
 * left the file full.
 */
static void stats_claim(void)
{
	struct stat status;
	char *own;
	int fd = open(nx_options.stats, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	if (fd < 0)
		return; /* nx_report_final() reports it */
	if (fstat(fd, &status) || !S_ISREG(status.st_mode)) {
		REAL(close)(fd);
	} else if (flock(fd, LOCK_EX | LOCK_NB) || status.st_size) {
		REAL(close)(fd);
		if (asprintf(&own, "%s.%d", nx_options.stats, (int)getpid()) > 0)
			nx_options.stats = own;
	} else {
		nx_fd_move_up(fd);
	}
}

static void first_vm(void)
{
	if (nx_options.stats)
		stats_claim();
	environment_clean();
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

/* ---- Start and end ---- */

static void finish(void)
{
	struct rusage children;
	const char *pid;

	if (!nx_process_ours())
		return;
	nx_process_end();
	if (nx_process.has_vm) {
		nx_report_final();
		return;
	}
	/* A child, of a wrapper or by -daemonize, may use KVM; it prints a report of its own. */
	pid = getenv(NX_ENV_PID);
	if (!pid || strtol(pid, NULL, 10) != nx_process.id || has_forked ||
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
	kvm_access_errno = faccessat(AT_FDCWD, "/dev/kvm", R_OK | W_OK, AT_EACCESS) ? errno : 0;
	nx_process_start(plain_ioctl, plain_close);
	nx_process.first_vm = first_vm;
	nx_options_from_environment(&nx_options);
	if (nx_options.stats)
		nx_options.stats = strdup(nx_options.stats); /* outlives the environment */
	at_quick_exit(finish);
	pthread_atfork(NULL, note_fork, NULL);
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

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (_IOC_TYPE(request) != KVMIO || !nx_process.ready)
		return REAL(ioctl)(fd, request, argument);
	return nx_process_ioctl(fd, request, argument);
}

/* ---- Descriptors ---- */

EXPORT int close(int fd)
{
	int saved = errno;

	if (nx_process.has_vm && nx_fd_known(fd) && nx_process_ours()) {
		nx_fd_clear(fd);
		errno = saved;
	}
	return REAL(close)(fd);
}

static int copied(int old, int result)
{
	if (result >= 0 && nx_process.has_vm && nx_process_ours()) {
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

/* dup2() and dup3() close their target; rule 1 of fdtable.c applies. */
static void replaced(int old, int new_fd)
{
	int saved = errno;

	if (nx_process.has_vm && old != new_fd && nx_fd_known(new_fd) && nx_process_ours() &&
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

typedef int fcntl_call(int fd, int command, ...);

static int duplicated(fcntl_call *call, int fd, int command, void *argument)
{
	int result = call(fd, command, argument);

	return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}

EXPORT int fcntl(int fd, int command, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, command);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	return duplicated(REAL(fcntl), fd, command, argument);
}

EXPORT int fcntl64(int fd, int command, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, command);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	return duplicated(REAL(fcntl64), fd, command, argument);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	/* CLOSE_RANGE_CLOEXEC closes nothing yet. */
	if (!(flags & 4) && nx_process.has_vm && nx_process_ours())
		nx_fd_clear_range(first, last);
	return REAL(close_range)(first, last, flags);
}

EXPORT void closefrom(int first)
{
	if (nx_process.has_vm && nx_process_ours())
		nx_fd_clear_range(first < 0 ? 0 : (unsigned)first, ~0u);
	REAL(closefrom)(first);
}

/* ---- Signal handlers ---- */

/*
 * KVM_RUN must return after a signal handler has run, even if the engine had the vCPU (rule 5 of
 * run.c). Therefore a handler of the library's counts each run and then calls the VMM's. Nothing
 * else about the signal changes, and sigaction() still reports the VMM's own handler. The kernel
 * passes three arguments in any case.
 */
static _Atomic(handler) handlers[NSIG];

static void handle(int number, siginfo_t *info, void *context)
{
	nx_handlers_note();
	((handler_with_info)(uintptr_t)atomic_load(&handlers[number]))(number, info, context);
}

#define OUR_HANDLER ((handler)(uintptr_t)handle)

static bool is_handler(handler what)
{
	return what != SIG_DFL && what != SIG_IGN && what != SIG_ERR && what != SIG_HOLD;
}

/* Return the handler to install instead; *before gets the handler so far. */
static handler handler_take(int number, handler wanted, handler *before)
{
	if (number <= 0 || number >= NSIG)
		return wanted;
	*before = atomic_load(&handlers[number]);
	if (!is_handler(wanted) || wanted == OUR_HANDLER)
		return wanted;
	atomic_store(&handlers[number], wanted);
	return OUR_HANDLER;
}

static handler handler_told(handler told, handler before)
{
	return told == OUR_HANDLER ? before : told;
}

EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction ours;
	handler before = SIG_DFL;
	int result;

	if (action) {
		ours = *action;
		ours.sa_handler = handler_take(number, action->sa_handler, &before);
	} else if (number > 0 && number < NSIG) {
		before = atomic_load(&handlers[number]);
	}
	result = REAL(sigaction)(number, action ? &ours : NULL, old);
	if (!result && old)
		old->sa_handler = handler_told(old->sa_handler, before);
	return result;
}

static handler install(handler (*real)(int, handler), int number, handler wanted)
{
	handler before = SIG_DFL, ours = handler_take(number, wanted, &before);

	return handler_told(real(number, ours), before);
}

EXPORT handler signal(int number, handler wanted)
{
	return install(REAL(signal), number, wanted);
}

/* Programs for strict X/Open call this function as signal(). */
EXPORT handler sysv_signal(int number, handler wanted)
{
	return install(REAL(sysv_signal), number, wanted);
}

EXPORT handler __sysv_signal(int number, handler wanted)
{
	return install(REAL(__sysv_signal), number, wanted);
}

/* ---- Mappings: hostmem.c ---- */

static bool mapping_changes(const void *at, size_t size)
{
	if (!nx_process.has_vm || !size || !nx_process_ours() ||
	    !nx_host_covers((uintptr_t)at, size))
		return false;
	nx_host_changes((uintptr_t)at, size);
	return true;
}

static void mapping_changed(const void *at, size_t size)
{
	nx_host_changed((uintptr_t)at, size);
}

EXPORT void *mmap(void *at, size_t size, int rights, int flags, int fd, off_t offset)
{
	bool changes = flags & MAP_FIXED && mapping_changes(at, size);
	void *result = REAL(mmap)(at, size, rights, flags, fd, offset);

	if (changes)
		mapping_changed(at, size);
	return result;
}

EXPORT void *mmap64(void *at, size_t size, int rights, int flags, int fd, off64_t offset)
{
	bool changes = flags & MAP_FIXED && mapping_changes(at, size);
	void *result = REAL(mmap64)(at, size, rights, flags, fd, offset);

	if (changes)
		mapping_changed(at, size);
	return result;
}

EXPORT int munmap(void *at, size_t size)
{
	bool changes = mapping_changes(at, size);
	int result = REAL(munmap)(at, size);

	if (changes)
		mapping_changed(at, size);
	return result;
}

EXPORT void *mremap(void *old, size_t old_size, size_t size, int flags, ...)
{
	bool changes = mapping_changes(old, old_size), also = false;
	va_list arguments;
	void *to, *result;

	va_start(arguments, flags);
	to = va_arg(arguments, void *);
	va_end(arguments);
	if (flags & MREMAP_FIXED)
		also = mapping_changes(to, size);
	result = REAL(mremap)(old, old_size, size, flags, to);
	if (changes)
		mapping_changed(old, old_size);
	if (also)
		mapping_changed(to, size);
	return result;
}

EXPORT int mprotect(void *at, size_t size, int rights)
{
	bool changes = mapping_changes(at, size);
	int result = REAL(mprotect)(at, size, rights);

	if (changes)
		mapping_changed(at, size);
	return result;
}

EXPORT int pkey_mprotect(void *at, size_t size, int rights, int key)
{
	bool changes = mapping_changes(at, size);
	int result = REAL(pkey_mprotect)(at, size, rights, key);

	if (changes)
		mapping_changed(at, size);
	return result;
}
