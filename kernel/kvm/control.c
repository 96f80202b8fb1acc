// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* control.c - /dev/noexit, which enables VMs, and the counters in debugfs. */
#include "device.h"
#include "host.h"

#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/miscdevice.h>

static struct dentry *directory;
static struct nxk_stats totals;
static struct nx_counters engine_totals;
static DEFINE_SPINLOCK(lock);

static void add_engine(const struct nx_counters *from)
{
	const u64 *word = (const u64 *)from;
	u64 *sum = (u64 *)&engine_totals;

	for (unsigned int i = 0; i < sizeof(*from) / sizeof(*word); i++)
		sum[i] += word[i];
}

void nxk_totals_add(const struct nxk_vcpu *v)
{
	const struct nxk_stats *stats = &v->stats;
	u64 longest;

	spin_lock(&lock);
	if (v->engine)
		add_engine(nx_engine_counters(v->engine));
	longest = max(totals.longest_session_ns, stats->longest_session_ns);
#define NX_X(name, text) totals.name += stats->name;
	NXK_STATS(NX_X)
#undef NX_X
	totals.longest_session_ns = longest;
	spin_unlock(&lock);
}

/* Show the engine counters of vCPUs that have been freed: tests read them when the VMM has ended.
 */
static int engine_show(struct seq_file *file, void *unused)
{
	static const char *const reasons[] = {
#define NX_X(name, text) #name,
	    NX_LEAVE_REASONS(NX_X)
#undef NX_X
	};

	spin_lock(&lock);
#define NX_X(name, text) seq_printf(file, "%-24s %llu\n", #name, engine_totals.name);
	NX_COUNTERS(NX_X)
#undef NX_X
	/* There is no reason 0. */
	for (unsigned int i = 0; i < ARRAY_SIZE(reasons); i++)
		seq_printf(file, "leave_%-18s %llu\n", reasons[i], engine_totals.leaves[i + 1]);
	spin_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(engine);

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

/* ---- /dev/noexit ---- */

static long device_ioctl(struct file *file, unsigned int request, unsigned long fd)
{
	struct file *vm = fget((unsigned int)fd);
	long result = 0;

	if (!vm)
		return -EBADF;
	if (!file_is_kvm(vm))
		result = -EINVAL;
	else if (request == NXK_ENABLE)
		result = nxk_enable(vm->private_data);
	else if (request == NXK_DISABLE)
		nxk_disable(vm->private_data);
	else
		result = -ENOTTY;
	fput(vm);
	return result;
}

static int device_show(struct seq_file *file, void *unused)
{
	nxk_vcpus_show(file);
	return 0;
}

static int device_open(struct inode *inode, struct file *file)
{
	/* misc_open() has stored its own structure there. */
	file->private_data = NULL;
	return single_open(file, device_show, NULL);
}

static const struct file_operations operations = {
    .owner = THIS_MODULE,
    .open = device_open,
    .read = seq_read,
    .llseek = seq_lseek,
    .release = single_release,
    .unlocked_ioctl = device_ioctl,
    .compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice device = {
    .minor = MISC_DYNAMIC_MINOR, .name = "noexit", .fops = &operations, .mode = 0660};

int nxk_control_init(void)
{
	int result = misc_register(&device);

	if (result) {
		pr_err("/dev/noexit cannot be made (error %d)\n", result);
		return result;
	}
	directory = debugfs_create_dir("noexit", NULL);
	debugfs_create_file("totals", 0444, directory, NULL, &totals_fops);
	debugfs_create_file("engine", 0444, directory, NULL, &engine_fops);
	return 0;
}

void nxk_control_exit(void)
{
	misc_deregister(&device);
	debugfs_remove(directory);
}
