/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* no_noexit.c - the functions of the library that examples/minivmm.c calls, without noexit. */
#include <noexit-kvm.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <unistd.h>

int nx_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	return ioctl(fd, request, argument);
}

int nx_close(int fd)
{
	return close(fd);
}

const char *nx_kvm_option(const char *name, const char *value)
{
	(void)name;
	(void)value;
	return NULL;
}

void nx_kvm_report(void)
{
}
