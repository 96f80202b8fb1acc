// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * names.c - finds symbols of KVM's that are not exported.
 *
 * kallsyms_lookup_name() is not exported either. But a kprobe may be registered on it and then
 * holds its address; it is unregistered at once. Functions that are found are called through static
 * calls of ours only, since a function whose address the kernel never takes has no ENDBR for an
 * indirect call.
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
