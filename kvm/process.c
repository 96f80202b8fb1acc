/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * process.c - the process that the KVM host lives in, whether the library is preloaded (preload.c)
 * or linked (library.c). This file knows whether the process is still the one that started the
 * host, and what may be written to its standard error.
 *
 * A fork copies the host's tables, but KVM refuses the descriptors in the child, so a child must
 * not trust them. `alive` lies in a page that the kernel clears in every forked child. A vfork
 * child shares the memory instead; functions that change a table therefore compare the process id
 * as well.
 */
#define _GNU_SOURCE
#include "host.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CPUID_VMX (1u << 5)
#define CPUID_SVM (1u << 2)

struct nx_real nx_real;
struct nx_options nx_options;
struct nx_process nx_process;

static volatile int *alive;
static struct stat stderr_at_start;
static bool stderr_known;

bool nx_process_alive(void)
{
	return alive && *alive;
}

bool nx_process_ours(void)
{
	return nx_process_alive() && nx_process.id == getpid();
}

void nx_process_end(void)
{
	*alive = 0;
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
	nx_process.id = getpid();
}

/* A forked child of a process without a VM may use the host just as its parent does. */
bool nx_process_may_begin(void)
{
	if (!nx_process.ready)
		return false;
	if (nx_process_ours())
		return true;
	if (nx_process.has_vm || (nx_process_alive() && nx_process.id != getpid()))
		return false;
	alive_set();
	return nx_process_alive();
}

static bool stderr_is_ours(void)
{
	struct stat now;

	return stderr_known && !fstat(STDERR_FILENO, &now) &&
	       now.st_dev == stderr_at_start.st_dev && now.st_ino == stderr_at_start.st_ino;
}

void nx_say(const char *format, ...)
{
	static const char prefix[] = "noexit: ";
	char line[512];
	size_t begin = sizeof(prefix) - 1, length;
	va_list arguments;
	int saved = errno;

	memcpy(line, prefix, sizeof(prefix));
	va_start(arguments, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is, in the line above */
	vsnprintf(line + begin, sizeof(line) - begin - 1, format, arguments);
	va_end(arguments);
	if (nx_process.log) {
		nx_process.log(line + begin);
	} else if (stderr_is_ours()) {
		length = strlen(line);
		line[length++] = '\n';
		if (write(STDERR_FILENO, line, length) < 0) {
			/* No reader is left for the line. */
		}
	}
	errno = saved;
}

/* ---- struct nx_real ---- */

static void *map_vcpu(int fd, size_t size)
{
	void *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (run == MAP_FAILED)
		return NULL;
	madvise(run, size, MADV_DONTFORK);
	return run;
}

static void unmap_vcpu(void *run, size_t size)
{
	munmap(run, size);
}

static bool is_kvm_object(int fd, const char *what)
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

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/*
 * Only VMX and SVM let the processor add an offset to the guest's RDTSC. A TSC that Linux does not
 * trust is not its clock source, and KVM then corrects the guest's counter while it runs.
 */
static bool tsc_is_offset(void)
{
	unsigned a, b, c = 0, d;
	char sources[256];
	ssize_t length;
	int fd;

	if (!(__get_cpuid(1, &a, &b, &c, &d) && c & CPUID_VMX) &&
	    !(__get_cpuid(0x80000001, &a, &b, &c, &d) && c & CPUID_SVM))
		return false;
	fd = open("/sys/devices/system/clocksource/clocksource0/available_clocksource",
		  O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, sources, sizeof(sources) - 1);
	nx_real.close(fd);
	sources[length > 0 ? length : 0] = 0;
	return !strncmp(sources, "tsc ", 4) || strstr(sources, " tsc ");
}

void nx_process_start(int (*ioctl)(int, unsigned long, void *), int (*close)(int))
{
	stderr_known = !fstat(STDERR_FILENO, &stderr_at_start);
	nx_options_default(&nx_options);
	nx_real = (struct nx_real){
	    .ioctl = ioctl,
	    .map_vcpu = map_vcpu,
	    .unmap_vcpu = unmap_vcpu,
	    .is_kvm_object = is_kvm_object,
	    .now = now,
	    .close = close,
	    .tsc_is_offset = tsc_is_offset,
	};
	alive_set();
	nx_process.ready = true;
}

void nx_process_has_vm(void)
{
	if (!nx_process.has_vm && nx_process.first_vm)
		nx_process.first_vm();
	nx_process.has_vm = true;
}
