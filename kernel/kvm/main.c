// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * main.c - loads and unloads the module. A KVM or a machine that is not supported is refused with
 * one sentence.
 */
#include "host.h"

#include <linux/cc_platform.h>
#include <linux/fs.h>

const struct nxk_vendor *nxk_vendor;
static struct module *pinned;
static const u64 *dirty_mask;

u64 nxk_dirty_mask(void)
{
	return *dirty_mask;
}

/* ---- Refusing another KVM than the module was built for ---- */

/* The build ID lies at the end of the note: 20 bytes after the header and "GNU". */
static bool build_id_is(const char *module, const char *expected)
{
	char path[64], note[36], text[41];
	struct file *file;
	loff_t at = 0;
	ssize_t size;

	snprintf(path, sizeof(path), "/sys/module/%s/notes/.note.gnu.build-id", module);
	file = filp_open(path, O_RDONLY, 0);
	if (IS_ERR(file))
		return false;
	size = kernel_read(file, note, sizeof(note), &at);
	filp_close(file, NULL);
	if (size != sizeof(note))
		return false;
	for (unsigned int i = 0; i < 20; i++)
		snprintf(text + 2 * i, 3, "%02x", (unsigned char)note[16 + i]);
	return !strcmp(text, expected);
}

static int check_build(const char *module, const char *expected)
{
	if (build_id_is(module, expected))
		return 0;
	pr_err("the running %s is not the one that noexit was built for (" NXK_RELEASE
	       ", build ID %s)\n",
	       module, expected);
	return -ENOEXEC;
}

static int find_vendor(void)
{
	if (nxk_lookup("svm_handle_exit"))
		nxk_vendor = &nxk_svm;
	else if (nxk_lookup("vmx_handle_exit"))
		nxk_vendor = &nxk_vmx;
	if (nxk_vendor)
		return 0;
	pr_err("neither kvm_amd nor kvm_intel is loaded\n");
	return -ENODEV;
}

/*
 * Keep the vendor module loaded while hooks are attached. Otherwise loading it again would
 * overwrite our hooks, and detaching would write back pointers into memory that has been freed.
 */
static int pin_vendor(void)
{
	struct file_operations *operations = nxk_lookup("kvm_chardev_ops");

	if (operations && operations->owner && try_module_get(operations->owner)) {
		pinned = operations->owner;
		return 0;
	}
	pr_err("KVM's vendor module cannot be kept loaded\n");
	return -ENOENT;
}

/* Then it makes no request of the vCPUs (memory.c). The name depends on the kernel. */
static bool flushes_by_hypercall(void)
{
	const struct static_call_key *key = nxk_lookup("__SCK__kvm_x86_tlb_remote_flush");

	if (!key)
		key = nxk_lookup("__SCK__kvm_x86_flush_remote_tlbs");
	return key && key->func;
}

static int check_machine(void)
{
	/* The first holds what npt or ept allow. The parameter tdp_mmu stays on without them. */
	const bool *hardware = nxk_lookup("tdp_enabled"), *tdp = nxk_lookup("tdp_mmu_enabled");

	dirty_mask = nxk_lookup("shadow_dirty_mask");
	if (!hardware || !tdp || !dirty_mask) {
		pr_err("the running KVM does not say how it maps memory (tdp_enabled, "
		       "tdp_mmu_enabled, shadow_dirty_mask)\n");
		return -ENOENT;
	}
	if (!*hardware || !*tdp) {
		pr_err("KVM uses shadow paging or the old page-table code; noexit needs npt=1 or "
		       "ept=1, and tdp_mmu=1\n");
		return -EOPNOTSUPP;
	}
	if (flushes_by_hypercall()) {
		pr_err("KVM flushes its guests' TLBs by hypercalls of Hyper-V, of which noexit is "
		       "not told\n");
		return -EOPNOTSUPP;
	}
	if (!nxk_clock_init()) {
		pr_err("the kernel does not know the time-stamp counter's frequency\n");
		return -EOPNOTSUPP;
	}
	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT)) {
		pr_err("this machine encrypts its memory, which noexit does not know\n");
		return -EOPNOTSUPP;
	}
	return 0;
}

static int __init noexit_init(void)
{
	int result = nxk_names_init();

	if (!result)
		result = find_vendor();
	if (!result)
		result = check_build("kvm", NXK_BUILD_ID_kvm);
	if (!result)
		result = check_build(nxk_vendor->module, nxk_vendor->build_id);
	if (!result)
		result = check_machine();
	if (!result)
		result = pin_vendor();
	if (!result)
		result = nxk_control_init();
	if (!result) {
		nxk_vms_init();
		nxk_nested_init();
		result = nxk_hooks_attach();
		if (result)
			nxk_control_exit();
	}
	if (result) {
		module_put(pinned);
		return result;
	}
	pr_info("beside %s; a VM's exits are avoided when it is switched on\n", nxk_vendor->module);
	return 0;
}

static void __exit noexit_exit(void)
{
	nxk_control_exit();
	nxk_hooks_detach();
	rcu_barrier_tasks();
	module_put(pinned);
	/* An enabled VM holds a reference on the module, so no VM can have left anything. */
	WARN_ON(!nxk_code_unused() || !nxk_engines_unused() || !nxk_tables_empty());
}

module_init(noexit_init);
module_exit(noexit_exit);

MODULE_DESCRIPTION("Runs clusters of exiting guest instructions beside KVM");
MODULE_VERSION(NXK_VERSION);
MODULE_LICENSE("Dual MIT/GPL");
