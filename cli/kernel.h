/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kernel.h - what the commands know of noexit.ko, the host in the kernel. */
#ifndef NX_CLI_KERNEL_H
#define NX_CLI_KERNEL_H

/* The device's descriptor; below 0: errno says why not, and cli_refuse_kernel() says it. */
int cli_open_kernel(void);
int cli_refuse_kernel(void);

#endif
