/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kernel.h - what the commands know of noexit.ko, the host in the kernel. */
#ifndef NX_CLI_KERNEL_H
#define NX_CLI_KERNEL_H

#include <stdbool.h>
#include <sys/types.h>

#include "json.h"
#include "kernel_stats.h"

/* Of a process's vCPUs together. */
struct kernel_figures {
	unsigned vcpus;
	struct nxk_stats sum;
};

/* The device's descriptor; below 0: errno says why not, and cli_refuse_kernel() says it. */
int cli_open_kernel(void);
int cli_refuse_kernel(void);

/* false: the module does not know the process, or we do not know the module. */
bool cli_read_kernel(pid_t pid, struct kernel_figures *figures);
void cli_print_kernel(const struct kernel_figures *figures);
void cli_json_kernel(struct nx_json *out, const struct kernel_figures *figures);

#endif
