// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * names.c - addresses of what KVM has and does not export.
 *
 * kallsyms_lookup_name() is not exported either, but a probe may be put on it, and a probe knows
 * the address that it was put on. It is taken off again at once. What is found is called through
 * static calls of ours only: functions whose address the kernel never takes have no landing pad for
 * indirect branches.
 */
#include "host.h"

#include <linux/kprobes.h>

static unsigned long (*lookup)(const char *name);

int nxk_names_init(void)
{
	struct kprobe probe = {.symbol_name = "kallsyms_lookup_name"};
	int result = register_kprobe(&probe);

	if (result) {
		pr_err("this kernel does not let a module find KVM's functions by name (kprobes: "
		       "error %d)\n",
		       result);
		return result;
	}
	lookup = (void *)probe.addr;
	unregister_kprobe(&probe);
	return 0;
}

void *nxk_lookup(const char *name)
{
	return (void *)lookup(name);
}
