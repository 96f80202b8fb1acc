// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* control.c - /dev/noexit, which enables and shows VMs, and the counters in debugfs. */
#include "host.h"

#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/uaccess.h>

static struct dentry *directory;
static struct nx_figures totals;
static DEFINE_SPINLOCK(lock);

void nxk_totals_add(const struct nx_figures *figures)
{
	spin_lock(&lock);
	nx_figures_add(&totals, figures);
	spin_unlock(&lock);
}

/* Show the engine counters of vCPUs that have been freed: tests read them when the VMM has ended.
 */
static int engine_show(struct seq_file *file, void *unused)
{
	spin_lock(&lock);
#define NX_X(name, text) seq_printf(file, "%-24s %llu\n", #name, totals.engine.name);
	NX_COUNTERS(NX_X)
#undef NX_X
	/* There is no reason 0. */
	for (unsigned int i = 1; i < NX_LEAVE_REASON_COUNT; i++)
		seq_printf(file, "leave_%-18s %llu\n", nx_leave_word(i), totals.engine.leaves[i]);
	spin_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(engine);

static int totals_show(struct seq_file *file, void *unused)
{
	spin_lock(&lock);
	seq_printf(file, "%-20s %llu\n", "exits", nx_stats_taken_total(&totals.host));
	seq_printf(file, "%-20s %llu\n", "stays", totals.host.takeovers);
	seq_printf(file, "%-20s %llu\n", "longest_stay_ns", totals.host.longest_stay_ns);
	seq_printf(file, "%-20s %llu\n", "delivered", nx_stats_avoided_total(&totals.host));
#define NX_X(name, word, text) \
	seq_printf(file, "delivered_%-10s %llu\n", word, totals.host.avoided[NX_CLASS_##name]);
	NX_EXIT_CLASSES(NX_X)
#undef NX_X
#define NX_X(name, text) seq_printf(file, "%-20s %llu\n", #name, totals.kernel.name);
	NXK_STATS(NX_X)
#undef NX_X
	spin_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(totals);

/* ---- /dev/noexit ---- */

static long watch(struct nxk_watch __user *argument)
{
	struct nxk_watch request;
	int fd;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	fd = nxk_watch(&request);
	/* The descriptor stays open if the caller's memory is not there to be told the size. */
	return fd >= 0 && copy_to_user(argument, &request, sizeof(request)) ? -EFAULT : fd;
}

static long device_ioctl(struct file *file, unsigned int request, unsigned long argument)
{
	struct file *vm;
	long result = 0;

	if (request == NXK_WATCH)
		return watch((struct nxk_watch __user *)argument);
	vm = fget((unsigned int)argument);
	if (!vm)
		return -EBADF;
	if (!file_is_kvm(vm))
		result = -EINVAL;
	else if (request == NXK_ENABLE)
		result = nxk_enable(vm->private_data, false, false);
	else if (request == NXK_ENABLE_BESIDE || request == NXK_ENABLE_BESIDE_WEIGHED)
		result = nxk_enable(vm->private_data, true, request != NXK_ENABLE_BESIDE);
	else if (request == NXK_ALONE)
		nxk_alone(vm->private_data);
	else if (request == NXK_DISABLE)
		nxk_disable(vm->private_data);
	else
		result = -ENOTTY;
	fput(vm);
	return result;
}

static const struct file_operations operations = {
    .owner = THIS_MODULE,
    .open = nonseekable_open,
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
