/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * share.c - the library's side of share.h: make the shared memory, and have it filled.
 *
 * If no file can be made, private memory holds the same structures: the figures at the end of the
 * process are complete, but no other process can watch.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"

/* ---- The file ---- */

/*
 * A VMM may close descriptors that it does not know and open its own under the same number.
 * Therefore every use of this descriptor first checks which file it is.
 */
static bool file_is_ours(const struct nx_kvm_vm *vm)
{
	struct stat status;

	return vm->share_fd >= 0 && !fstat(vm->share_fd, &status) &&
	       status.st_ino == vm->share_inode && status.st_dev == vm->share_device;
}

static void *map_private(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* Map a part of the file, which grows as needed, or private memory if that fails. */
static void *map_part(struct nx_kvm_vm *vm, uint64_t offset, size_t size)
{
	off_t end = (off_t)nx_share_page_round(offset + size);
	struct stat status;
	void *memory;

	if (!file_is_ours(vm) || fstat(vm->share_fd, &status) ||
	    (status.st_size < end && ftruncate(vm->share_fd, end)))
		return map_private(size);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->share_fd, (off_t)offset);
	if (memory == MAP_FAILED)
		return map_private(size);
	/* A forked child must not count. */
	madvise(memory, size, MADV_DONTFORK);
	return memory;
}

static void file_make(struct nx_kvm_vm *vm)
{
	struct stat status;
	int fd = -1;

	vm->share_fd = -1;
	if (nx_process.unwatched)
		return;
	if (nx_faulty(NX_FAULT_WATCH))
		errno = ENOSYS;
	else
		fd = memfd_create(NX_SHARE_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) || fchmod(fd, 0600) ||
	    fstat(fd, &status)) {
		nx_say("this VM cannot be watched (noexit stat): no memory file could be made: %s",
		       strerror(errno));
		if (fd >= 0)
			nx_real.close(fd);
		return;
	}
	vm->share_fd = nx_fd_move_up(fd);
	vm->share_inode = status.st_ino;
	vm->share_device = status.st_dev;
}

bool nx_share_open(struct nx_kvm_vm *vm)
{
	static atomic_uint vms;
	struct nx_share_header *header;

	file_make(vm);
	header = map_part(vm, 0, nx_share_slot_offset(0));
	if (!header) {
		nx_share_close(vm);
		return false;
	}
	nx_share_header_make(header, atomic_fetch_add(&vms, 1), !nx_options.off);
	vm->share = header;
	return true;
}

void nx_share_close(struct nx_kvm_vm *vm)
{
	if (vm->share)
		munmap(vm->share, nx_share_slot_offset(0));
	if (file_is_ours(vm))
		nx_real.close(vm->share_fd);
}

/* ---- A vCPU's part ---- */

static bool slot_taken(const struct nx_kvm_vm *vm, unsigned slot)
{
	for (const struct nx_kvm_vcpu *at = vm->vcpus; at; at = at->next_in_vm) {
		if (at->slot == slot)
			return true;
	}
	return false;
}

bool nx_share_vcpu_open(struct nx_kvm_vcpu *vcpu)
{
	struct nx_kvm_vm *vm = vcpu->vm;

	while (slot_taken(vm, vcpu->slot))
		vcpu->slot++;
	vcpu->shared = map_part(vm, nx_share_slot_offset(vcpu->slot), sizeof(*vcpu->shared));
	if (!vcpu->shared)
		return false;
	vcpu->stats = &vcpu->shared->figures.host;
	vcpu->shared->number = vm->vcpus_made++;
	__atomic_store_n(&vcpu->shared->living, 1, __ATOMIC_RELEASE);
	return true;
}

void nx_share_vcpu_close(struct nx_kvm_vcpu *vcpu)
{
	struct nx_share_vcpu *shared = vcpu->shared;

	nx_names_forget(vcpu);
	nx_share_slot_empty(vcpu->vm->share, shared);
	munmap(shared, sizeof(*shared));
}

/* ---- What the engine tells ---- */

/* A name in profilers and debuggers, for a cluster that is shown. */
static void named(void *data, const struct nx_share_cluster *cluster)
{
	if (cluster)
		nx_names_add(data, cluster);
	else
		nx_names_forget(data);
}

void nx_share_publish(struct nx_kvm_vcpu *vcpu, uint64_t now)
{
	struct nx_share_writer *writer = &vcpu->writer;

	writer->shared = vcpu->shared;
	writer->engine = vcpu->engine;
	writer->code = (uintptr_t)vcpu->memory.code_rx;
	writer->named = named;
	writer->data = vcpu;
	nx_share_write(writer, now);
}
