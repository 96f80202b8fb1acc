/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * device.h - /dev/noexit: requests, most of them with a VM's file descriptor as argument. A process
 * that has such a descriptor is the VMM, or may trace it. NXK_ENABLE_BESIDE is what the library in
 * a VMM asks for: it avoids exits that go to the VMM itself, and the module leaves those to it
 * until NXK_ALONE says that the library avoids none any more. With NXK_ENABLE_BESIDE_WEIGHED stays
 * begin in that VM only where they pay in measured time, whatever the module's parameter is.
 *
 * NXK_WATCH gives what is counted (figures/share.h): it takes the number of a process and of a VM
 * of it, counted from 0 among those that the module knows, and returns a descriptor and the size
 * with which it can be mapped, for reading. Its errors: ENOENT, there is no such VM; EACCES, it is
 * another user's, and the caller is not root.
 */
#ifndef NXK_DEVICE_H
#define NXK_DEVICE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define NXK_DEVICE "/dev/noexit"
#define NXK_ENABLE _IO('N', 0x40)
#define NXK_DISABLE _IO('N', 0x41)
#define NXK_ENABLE_BESIDE _IO('N', 0x42)
#define NXK_ALONE _IO('N', 0x44)
#define NXK_ENABLE_BESIDE_WEIGHED _IO('N', 0x45)

struct nxk_watch {
	__s32 process;
	__u32 number;
	__u64 size;
};
#define NXK_WATCH _IOWR('N', 0x43, struct nxk_watch)

#endif
