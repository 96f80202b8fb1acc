/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* ioctl.c - dispatch each ioctl of the VMM on /dev/kvm, a VM or a vCPU. */
#include "host.h"

#include <errno.h>

NX_HOT int nx_kvm_ioctl(int fd, unsigned long request, void *argument)
{
	struct nx_object *object = nx_object_get(fd);
	int result, saved;

	if (!object)
		return nx_real.ioctl(fd, request, argument);
	if (object->type == NX_OBJECT_VM)
		result = nx_vm_ioctl((struct nx_kvm_vm *)object, fd, request, argument);
	else if (object->type == NX_OBJECT_VCPU)
		result = nx_kvm_vcpu_ioctl((struct nx_kvm_vcpu *)object, fd, request, argument);
	else
		result = nx_real.ioctl(fd, request, argument);
	saved = errno;
	nx_object_put(object);
	errno = saved;
	return result;
}

NX_HOT int nx_process_ioctl(int fd, unsigned long request, void *argument)
{
	uint32_t number = (uint32_t)request; /* some callers sign-extend it */
	int result;

	if (number == KVM_CREATE_VM) {
		result = nx_real.ioctl(fd, request, argument);
		if (result >= 0 && nx_process_may_begin()) {
			int saved = errno;

			nx_vm_created(fd, result, (unsigned long)argument);
			errno = saved;
		}
		return result;
	}
	return nx_process_alive() ? nx_kvm_ioctl(fd, request, argument)
				  : nx_real.ioctl(fd, request, argument);
}
