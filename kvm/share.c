/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * share.c - the library's side of share.h: make the shared memory, and publish the clusters in it.
 *
 * If no file can be made, private memory holds the same structures: the figures at the end of the
 * process are complete, but no other process can watch.
 */
#define _GNU_SOURCE
#include "share.h"

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
	header->version = NX_SHARE_VERSION;
	header->header_size = sizeof(*header);
	header->slot_size = sizeof(struct nx_share_vcpu);
	header->vm = atomic_fetch_add(&vms, 1);
	header->clustering = !nx_options.off;
	__atomic_store_n(&header->magic, NX_SHARE_MAGIC, __ATOMIC_RELEASE);
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

void nx_share_off(char *shared, const char *why)
{
	size_t length = strlen(why);

	memcpy(shared, why, length < NX_SHARE_TEXT ? length : NX_SHARE_TEXT - 1);
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
	nx_figures_add(&vcpu->vm->share->gone_figures, &shared->figures);
	vcpu->vm->share->gone++;
	/* Another vCPU gets the slot next. */
	__atomic_store_n(&shared->living, 0, __ATOMIC_RELEASE);
	memset(&shared->figures, 0, sizeof(shared->figures));
	memset(shared->off, 0, sizeof(shared->off));
	shared->clusters.count = shared->clusters.used = 0;
	munmap(shared, sizeof(*shared));
}

/* ---- Clusters ---- */

static int64_t benefit(const struct nx_kvm_vcpu *vcpu, const struct nx_cluster_info *info)
{
	const uint32_t *cost = vcpu->stats->cost_ns;
	uint64_t by_port = info->exits - info->exits_mmio - info->exits_insn;
	int64_t saved, spent;

	/* This host sees no instruction exits and therefore has no cost for them. */
	if (info->exits_insn || !cost[NX_COST_TAKEOVER] || !cost[NX_COST_RESUME] ||
	    (by_port && !cost[NX_COST_IO]) || (info->exits_mmio && !cost[NX_COST_MMIO]))
		return NX_SHARE_UNMEASURED;
	saved = (int64_t)(by_port * cost[NX_COST_IO] + info->exits_mmio * cost[NX_COST_MMIO]);
	spent = (int64_t)(info->exits * cost[NX_COST_RESUME] +
			  info->stays * cost[NX_COST_TAKEOVER] + info->made_ns);
	return saved - spent;
}

static void refresh_cluster(const struct nx_kvm_vcpu *vcpu, struct nx_share_cluster *to,
			    const struct nx_cluster *from)
{
	struct nx_cluster_info info;

	nx_cluster_describe(from, &info);
	to->executions = info.executions;
	to->exits = info.exits;
	to->exits_mmio = info.exits_mmio;
	to->exits_insn = info.exits_insn;
	to->stays = info.stays;
	to->made_ns = info.made_ns;
	to->benefit_ns = benefit(vcpu, &info);
	to->dropped = info.dropped;
}

static bool append_block(struct nx_share_clusters *to, const struct nx_cluster *cluster,
			 unsigned number)
{
	struct nx_share_block *block = (void *)(to->data + to->used);
	struct nx_cluster_block from;
	size_t size;

	nx_cluster_block(cluster, number, &from);
	size = (sizeof(*block) + from.instructions + from.bytes + 7) & ~(size_t)7;
	if (NX_SHARE_DATA - to->used < size)
		return false;
	*block = (struct nx_share_block){
	    .rip = from.rip,
	    .instructions = from.instructions,
	    .bytes = from.bytes,
	    .calls = from.calls,
	    .entry = from.entry,
	    .targets = from.targets,
	};
	memcpy(block->target, from.target, sizeof(block->target));
	memcpy(block->edge, from.edge, sizeof(block->edge));
	memcpy(block->limit, from.limit, sizeof(block->limit));
	memcpy(block + 1, from.shape, from.instructions);
	nx_cluster_code(cluster, from.rip, (uint8_t *)(block + 1) + from.instructions, from.bytes);
	to->used += (uint32_t)size;
	return true;
}

static void append_cluster(struct nx_kvm_vcpu *vcpu, const struct nx_cluster *from)
{
	struct nx_share_clusters *clusters = &vcpu->shared->clusters;
	struct nx_share_cluster *to = &clusters->cluster[clusters->count];
	struct nx_cluster_info info;
	bool room = true;

	if (clusters->count == NX_SHARE_CLUSTERS)
		return;
	nx_cluster_describe(from, &info);
	*to = (struct nx_share_cluster){
	    .entry_rip = info.entry_rip,
	    .code = (uintptr_t)vcpu->memory.code_rx + info.code_offset,
	    .instructions = info.instructions,
	    .exiting = info.exiting,
	    .blocks = info.blocks,
	    .code_bytes = info.code_bytes,
	    .data = clusters->used,
	    .bits = info.bits,
	};
	for (unsigned i = 0; i < info.blocks && room; i++)
		room = append_block(clusters, from, i);
	if (room)
		to->data_bytes = clusters->used - to->data;
	else
		clusters->used = to->data;
	refresh_cluster(vcpu, to, from);
	clusters->count++;
	nx_names_add(vcpu, to);
}

/* The engine keeps clusters in the order in which they were made, until all are flushed. */
static void show_new(struct nx_kvm_vcpu *vcpu, bool flushed)
{
	struct nx_share_clusters *clusters = &vcpu->shared->clusters;
	const struct nx_cluster *next;

	__atomic_store_n(&clusters->sequence, clusters->sequence + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (flushed) {
		clusters->count = clusters->used = 0;
		vcpu->cluster_shown = NULL;
		nx_names_forget(vcpu);
	}
	while ((next = nx_cluster_next(vcpu->engine, vcpu->cluster_shown))) {
		append_cluster(vcpu, next);
		vcpu->cluster_shown = next;
	}
	__atomic_store_n(&clusters->sequence, clusters->sequence + 1, __ATOMIC_RELEASE);
}

static void refresh(struct nx_kvm_vcpu *vcpu)
{
	struct nx_share_clusters *clusters = &vcpu->shared->clusters;
	const struct nx_cluster *at = NULL;

	for (uint32_t i = 0; i < clusters->count && (at = nx_cluster_next(vcpu->engine, at)); i++)
		refresh_cluster(vcpu, &clusters->cluster[i], at);
}

static void show_alone(struct nx_kvm_vcpu *vcpu)
{
	struct nx_alone *to = vcpu->shared->figures.alone;

	for (unsigned i = 0; i < NX_ALONE_PLACES; i++) {
		struct nx_alone place = {0};

		nx_engine_alone(vcpu->engine, i, &place);
		to[i] = place;
	}
}

void nx_share_publish(struct nx_kvm_vcpu *vcpu, uint64_t now)
{
	const struct nx_counters *from = nx_engine_counters(vcpu->engine);
	struct nx_counters *to = &vcpu->shared->figures.engine;
	bool flushed = from->flushes != to->flushes;

	if (flushed || from->translated != to->translated)
		show_new(vcpu, flushed);
	*to = *from;
	if (now - vcpu->clusters_refreshed >= NX_SHARE_LAZY_NS) {
		refresh(vcpu);
		show_alone(vcpu);
		vcpu->clusters_refreshed = now;
	}
}
