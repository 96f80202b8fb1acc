/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * device.h - /dev/noexit: two requests, with a VM's file descriptor as argument. A process that has
 * such a descriptor is the VMM, or may trace it.
 *
 * Reading it gives text about the vCPUs of the reader's user, or about all vCPUs for root. For each
 * vCPU there is a line "vcpu PROCESS NUMBER", with the reason if it is off, and then a line "NAME
 * FIGURE" for each counter of kernel_stats.h.
 */
#ifndef NXK_DEVICE_H
#define NXK_DEVICE_H

#include <linux/ioctl.h>

#define NXK_DEVICE "/dev/noexit"
#define NXK_ENABLE _IO('N', 0x40)
#define NXK_DISABLE _IO('N', 0x41)

#endif
