// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* control.c - how VMs are switched on, and the figures for people. */
#include "host.h"

#include <linux/debugfs.h>
#include <linux/seq_file.h>

static struct dentry *directory;
static struct nxk_stats totals;
static DEFINE_SPINLOCK(lock);

void nxk_totals_add(const struct nxk_stats *stats)
{
	u64 longest;

	spin_lock(&lock);
	longest = max(totals.longest_session_ns, stats->longest_session_ns);
#define NX_X(name, text) totals.name += stats->name;
	NXK_STATS(NX_X)
#undef NX_X
	totals.longest_session_ns = longest;
	spin_unlock(&lock);
}

/* Of vCPUs that are gone: tests look here when the VMM has ended. */
static int totals_show(struct seq_file *file, void *unused)
{
	spin_lock(&lock);
#define NX_X(name, text) seq_printf(file, "%-20s %llu\n", #name, totals.name);
	NXK_STATS(NX_X)
#undef NX_X
	spin_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(totals);

int nxk_control_init(void)
{
	directory = debugfs_create_dir("noexit", NULL);
	debugfs_create_file("totals", 0444, directory, NULL, &totals_fops);
	return 0;
}

void nxk_control_exit(void)
{
	debugfs_remove(directory);
}
