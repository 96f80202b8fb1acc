// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * share.c - what a VM shows to `noexit stat`, `top` and `explain`: the structures of
 * figures/share.h in memory of the kernel, which readers map through a descriptor of NXK_WATCH.
 *
 * A slot is made with its vCPU's structure and freed with the VM's, on which each such descriptor
 * holds a reference; pages that are mapped longer have references of their own.
 */
#include "host.h"

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

bool nxk_share_open(struct nxk_vm *vm)
{
	vm->share = vmalloc_user(nx_share_slot_offset(0));
	if (!vm->share)
		return false;
	nx_share_header_make(vm->share, 0, true);
	return true;
}

void nxk_share_close(struct nxk_vm *vm)
{
	for (unsigned int i = 0; i < vm->slots; i++)
		vfree(vm->slot[i]);
	vfree(vm->share);
}

bool nxk_share_vcpu_open(struct nxk_vcpu *v)
{
	struct nxk_vm *vm = v->vm;
	unsigned int slot;

	v->shared = vmalloc_user(nx_share_page_round(sizeof(*v->shared)));
	if (!v->shared)
		return false;
	v->shared->number = v->vcpu->vcpu_id;
	v->shared->living = 1;
	v->host = &v->shared->figures.host;
	v->stats = &v->shared->figures.kernel;
	v->writer.shared = v->shared;
	spin_lock(&vm->slots_lock);
	slot = vm->slots;
	if (slot < ARRAY_SIZE(vm->slot)) {
		vm->slot[slot] = v->shared;
		/* A reader that finds the number finds the slot. */
		smp_store_release(&vm->slots, slot + 1);
	}
	spin_unlock(&vm->slots_lock);
	if (slot < ARRAY_SIZE(vm->slot))
		return true;
	vfree(v->shared);
	return false;
}

void nxk_share_vcpu_close(struct nxk_vcpu *v)
{
	spin_lock(&v->vm->slots_lock);
	nx_share_slot_empty(v->vm->share, v->shared);
	spin_unlock(&v->vm->slots_lock);
}

void nxk_share_engine(struct nxk_vcpu *v)
{
	v->writer.engine = v->engine;
	v->writer.code = (uintptr_t)v->memory.code_rx;
}

void nxk_share_stay(struct nxk_vcpu *v)
{
	/* Ticks will do to refresh by. */
	u64 now = (u64)jiffies * (NSEC_PER_SEC / HZ);

	nx_stats_stay(v->host, nxk_ns_since(v->stay_began));
	if (nx_share_is_due(&v->writer, now))
		nx_share_write(&v->writer, now);
}

/* ---- Readers ---- */

static int insert(struct vm_area_struct *area, u64 offset, const void *memory, size_t size)
{
	int result = 0;

	for (size_t at = 0; at < size && !result; at += PAGE_SIZE) {
		unsigned long address = area->vm_start + offset + at;

		if (address >= area->vm_end)
			break;
		result = vm_insert_page(area, address, vmalloc_to_page(memory + at));
	}
	return result;
}

static int share_mmap(struct file *file, struct vm_area_struct *area)
{
	struct nxk_vm *vm = file->private_data;
	unsigned int slots = smp_load_acquire(&vm->slots);
	int result;

	if (area->vm_flags & VM_WRITE || area->vm_pgoff)
		return -EINVAL;
	result = insert(area, 0, vm->share, nx_share_slot_offset(0));
	for (unsigned int i = 0; i < slots && !result; i++)
		result = insert(area, nx_share_slot_offset(i), vm->slot[i],
				nx_share_page_round(sizeof(*vm->slot[i])));
	return result;
}

static int share_release(struct inode *inode, struct file *file)
{
	nxk_vm_put(file->private_data);
	return 0;
}

static const struct file_operations operations = {
    .owner = THIS_MODULE,
    .mmap = share_mmap,
    .release = share_release,
};

int nxk_watch(struct nxk_watch *request)
{
	struct nxk_vm *vm = nxk_vm_of_process(request->process, request->number);
	int fd;

	if (IS_ERR(vm))
		return PTR_ERR(vm);
	request->size = nx_share_slot_offset(smp_load_acquire(&vm->slots));
	fd = anon_inode_getfd("[noexit-counters]", &operations, vm, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		nxk_vm_put(vm);
	return fd;
}
