/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kernel.c - have noexit.ko, the host in the kernel, avoid exits of a VM as well. */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "device.h"

void nx_kernel_enable(int vm_fd)
{
	int device, error;

	if (nx_options.off || nx_options.kernel == NX_KERNEL_OFF)
		return;
	device = open(NXK_DEVICE, O_RDONLY | O_CLOEXEC);
	error =
	    device < 0 || nx_real.ioctl(device, NXK_ENABLE, (void *)(intptr_t)vm_fd) ? errno : 0;
	if (device >= 0)
		nx_real.close(device);
	if (error && nx_options.kernel == NX_KERNEL_ON)
		nx_say("the kernel avoids no exits of this VM: " NXK_DEVICE ": %s",
		       strerror(error));
}
