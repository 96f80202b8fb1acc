/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* library.c - the KVM host for VMMs that link it: noexit-kvm.h. */
#define _GNU_SOURCE
#include "noexit-kvm.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "host.h"

static int plain_ioctl(int fd, unsigned long request, void *argument)
{
	return ioctl(fd, request, argument);
}

static void start(void)
{
	nx_process_start(plain_ioctl, close);
}

/* Start the host once, before anything else is done with it. */
static void begin(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int saved = errno;

	pthread_once(&once, start);
	errno = saved;
}

NX_HOT int nx_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (_IOC_TYPE(request) != KVMIO)
		return ioctl(fd, request, argument);
	begin();
	return nx_process_ioctl(fd, request, argument);
}

int nx_close(int fd)
{
	int saved = errno;

	if (nx_fd_known(fd) && nx_process_ours())
		nx_fd_clear(fd);
	errno = saved;
	return close(fd);
}

void nx_kvm_memory_changes(const void *at, size_t size)
{
	nx_host_changes((uintptr_t)at, size);
}

void nx_kvm_memory_changed(const void *at, size_t size)
{
	nx_host_changed((uintptr_t)at, size);
}

void nx_kvm_signalled(void)
{
	nx_handlers_note();
}

const char *nx_kvm_option(const char *name, const char *value)
{
	enum nx_option option = nx_option_find(name);

	begin();
	return option == NX_OPTION_COUNT ? "is no option of noexit"
					 : nx_option_set(&nx_options, option, value);
}

void nx_kvm_log(void (*log)(const char *line))
{
	begin();
	nx_process.log = log;
}

void nx_kvm_watched(bool watched)
{
	begin();
	nx_process.unwatched = !watched;
}

bool nx_kvm_can_execute(void)
{
	struct nx_options options;
	struct nx_memory memory;

	nx_options_default(&options);
	if (!nx_memory_get(&memory, (size_t)options.code_cache * 1024))
		return false;
	nx_memory_put(&memory);
	return true;
}

void nx_kvm_totals(struct nx_kvm_totals *totals)
{
	nx_totals_sum(&totals->taken, &totals->avoided);
}

void nx_kvm_report(void)
{
	begin();
	nx_report_final();
}
