/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kernel_test.c - kvm/kernel.c: who asks the module for help, and who hears that there is none. */
#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

#include "device.h"
#include "unit.h"

#define DEVICE_FD 950

static int device_error, ioctl_error; /* errno, or 0 */
static unsigned opened, asked, asked_to_weigh, left_alone, closed;

/* Stands in for the C library's: with 64-bit file offsets its name is this. */
int open64(const char *path, int flags, ...);
int open64(const char *path, int flags, ...)
{
	(void)flags;
	assert_string_equal(path, NXK_DEVICE);
	opened++;
	errno = device_error;
	return device_error ? -1 : DEVICE_FD;
}

static int device_ioctl(int fd, unsigned long request, void *argument)
{
	assert_int_equal(fd, DEVICE_FD);
	assert_int_equal((intptr_t)argument, FAKE_VM_FD);
	asked += request == NXK_ENABLE_BESIDE;
	asked_to_weigh += request == NXK_ENABLE_BESIDE_WEIGHED;
	left_alone += request == NXK_ALONE;
	errno = ioctl_error;
	return ioctl_error ? -1 : 0;
}

static int device_close(int fd)
{
	assert_int_equal(fd, DEVICE_FD);
	closed++;
	errno = EXDEV;
	return -1;
}

static void enable(enum nx_kernel how, bool off)
{
	opened = asked = asked_to_weigh = left_alone = closed = 0;
	*fake_said = 0;
	nx_options_default(&nx_options);
	nx_options.kernel = how;
	nx_options.off = off;
	nx_real.ioctl = device_ioctl;
	nx_real.close = device_close;
	nx_kernel_enable(FAKE_VM_FD);
}

static void test_not_asked_for(void **state)
{
	(void)state;
	enable(NX_KERNEL_OFF, false);
	assert_int_equal(opened, 0);
	enable(NX_KERNEL_ON, true);
	assert_int_equal(opened, 0);
	assert_string_equal(fake_said, "");
}

static void test_asked_for(void **state)
{
	(void)state;
	device_error = ioctl_error = 0;
	for (enum nx_kernel how = NX_KERNEL_ON; how <= NX_KERNEL_AUTO; how++) {
		enable(how, false);
		assert_int_equal(asked, how == NX_KERNEL_ON);
		assert_int_equal(asked_to_weigh, how == NX_KERNEL_AUTO);
		assert_int_equal(closed, 1);
		assert_string_equal(fake_said, "");
	}
}

static void test_no_module(void **state)
{
	(void)state;
	device_error = EACCES;
	enable(NX_KERNEL_ON, false);
	assert_int_equal(asked, 0);
	assert_int_equal(closed, 0);
	assert_non_null(strstr(fake_said, strerror(EACCES)));
	/* Whoever said "if it is there" hears nothing. */
	enable(NX_KERNEL_AUTO, false);
	assert_int_equal(opened, 1);
	assert_string_equal(fake_said, "");
	device_error = 0;
}

/* The reason is that of the request, not that of the close after it. */
static void test_module_refuses(void **state)
{
	(void)state;
	ioctl_error = EOPNOTSUPP;
	enable(NX_KERNEL_ON, false);
	assert_int_equal(closed, 1);
	assert_non_null(strstr(fake_said, strerror(EOPNOTSUPP)));
	enable(NX_KERNEL_AUTO, false);
	assert_int_equal(closed, 1);
	assert_string_equal(fake_said, "");
	ioctl_error = 0;
}

/* The module then has all exits, also those that go to the VMM. */
static void test_library_goes_off(void **state)
{
	(void)state;
	enable(NX_KERNEL_ON, false);
	assert_int_equal(left_alone, 0);
	nx_kernel_alone(FAKE_VM_FD);
	assert_int_equal(left_alone, 1);
	assert_int_equal(closed, 2);
	enable(NX_KERNEL_OFF, false);
	nx_kernel_alone(FAKE_VM_FD);
	assert_int_equal(opened, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_not_asked_for),    cmocka_unit_test(test_asked_for),
	    cmocka_unit_test(test_no_module),        cmocka_unit_test(test_module_refuses),
	    cmocka_unit_test(test_library_goes_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
