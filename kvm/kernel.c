/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kernel.c - have noexit.ko, the host in the kernel, avoid exits of a VM as well. */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "device.h"

/* Return 0 or errno. */
static int request(unsigned long number, int vm_fd)
{
	int device = open(NXK_DEVICE, O_RDONLY | O_CLOEXEC);
	int error =
	    device < 0 || nx_real.ioctl(device, number, (void *)(intptr_t)vm_fd) ? errno : 0;

	if (device >= 0)
		nx_real.close(device);
	return error;
}

void nx_kernel_alone(int vm_fd)
{
	int saved = errno;

	if (!nx_options.off && nx_options.kernel != NX_KERNEL_OFF)
		request(NXK_ALONE, vm_fd);
	errno = saved;
}

void nx_kernel_enable(int vm_fd)
{
	int error;

	if (nx_options.off || nx_options.kernel == NX_KERNEL_OFF)
		return;
	/* Who leaves the choice to us gets the module where it pays. */
	error = request(nx_options.kernel == NX_KERNEL_ON ? NXK_ENABLE_BESIDE
							  : NXK_ENABLE_BESIDE_WEIGHED,
			vm_fd);
	if (error && nx_options.kernel == NX_KERNEL_ON)
		nx_say("the kernel avoids no exits of this VM: " NXK_DEVICE ": %s",
		       strerror(error));
}
