/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * device.h - /dev/noexit: two requests, with the number of a file descriptor of a VM as argument.
 * Whoever has such a descriptor is the VMM, or may trace it.
 *
 * Read, it is text about the vCPUs of the reader's user, or of all for root: for each a line
 * "vcpu PROCESS NUMBER" and why it is off, if it is; then a line "NAME FIGURE" for each of
 * kernel_stats.h.
 */
#ifndef NXK_DEVICE_H
#define NXK_DEVICE_H

#include <linux/ioctl.h>

#define NXK_DEVICE "/dev/noexit"
#define NXK_ENABLE _IO('N', 0x40)
#define NXK_DISABLE _IO('N', 0x41)

#endif
