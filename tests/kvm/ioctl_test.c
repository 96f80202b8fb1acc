/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* ioctl_test.c - kvm/ioctl.c: whose an ioctl is, and that what is not ours reaches the kernel. */
#include <errno.h>
#include <unistd.h>

#include "unit.h"

static const struct model_insn program[] = {{M_OUT, 0x11}, {M_HLT, 0}};
static int (*kernel)(int fd, unsigned long request, void *argument);
static unsigned calls, last_fd;
static unsigned long last_request;

static int watched_ioctl(int fd, unsigned long request, void *argument)
{
	calls++;
	last_fd = (unsigned)fd;
	last_request = request;
	/* These are calls that the fake kernel does not know. */
	if (fd == 77 || fd == -1) {
		errno = EXDEV;
		return -1;
	}
	if (request == KVM_CREATE_VM && argument == (void *)1) {
		errno = EINVAL;
		return -1;
	}
	return kernel(fd, request, argument);
}

static int setup(void **state)
{
	(void)state;
	nx_options_default(&nx_options);
	fake_start(program, 2, (struct fake_style){false, false});
	kernel = nx_real.ioctl;
	nx_real.ioctl = watched_ioctl;
	calls = 0;
	return 0;
}

static void test_what_is_not_ours(void **state)
{
	(void)state;
	assert_int_equal(nx_kvm_ioctl(77, 0x1234, NULL), -1);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(nx_process_ioctl(77, KVM_RUN, NULL), -1);
	assert_int_equal(nx_process_ioctl(-1, 0x1234, NULL), -1);
	assert_int_equal(calls, 3);
	/* Even if it names a VM's or a vCPU's: the request goes as it is. */
	assert_int_equal(nx_process_ioctl(77, KVM_CREATE_VCPU, NULL), -1);
	assert_int_equal(last_fd, 77);
	assert_int_equal(last_request, KVM_CREATE_VCPU);
}

static void nothing(struct nx_object *object)
{
	(void)object;
}

/* An eventfd of ours is no VM: nothing of it is looked at. */
static void test_another_kind_of_object(void **state)
{
	(void)state;
	nx_fd_set(77, nx_object_new(NX_OBJECT_EVENTFD, sizeof(struct nx_object), nothing));
	assert_int_equal(nx_kvm_ioctl(77, KVM_RUN, NULL), -1);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(calls, 1);
	nx_fd_clear(77);
}

static void test_by_object(void **state)
{
	struct kvm_regs regs;

	(void)state;
	assert_int_equal(nx_process_ioctl(FAKE_VCPU_FD, KVM_RUN, NULL), 0);
	assert_int_equal(fake.runs, 1);
	assert_int_equal(nx_process_ioctl(FAKE_VCPU_FD, KVM_GET_REGS, &regs), 0);
	assert_int_equal(last_fd, FAKE_VCPU_FD);
	assert_false(fake_vm()->tsc_set);
	assert_int_equal(nx_process_ioctl(FAKE_VM_FD, KVM_SET_TSC_KHZ, (void *)FAKE_TSC_KHZ), 0);
	assert_true(fake_vm()->tsc_set);
	assert_int_equal(last_fd, FAKE_VM_FD);
}

/* A VM that KVM did not make is none of ours; errno is the kernel's. */
static void test_vm_that_is_refused(void **state)
{
	(void)state;
	fake_stop();
	assert_false(nx_fd_known(FAKE_VM_FD));
	assert_int_equal(nx_process_ioctl(FAKE_KVM_FD, KVM_CREATE_VM, (void *)1), -1);
	assert_int_equal(errno, EINVAL);
	assert_false(nx_fd_known(FAKE_VM_FD));
	fake_start(program, 2, (struct fake_style){false, false});
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_what_is_not_ours),
	    TEST(test_another_kind_of_object),
	    TEST(test_by_object),
	    TEST(test_vm_that_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
