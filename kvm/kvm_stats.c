/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kvm_stats.c - KVM's own statistics of a vCPU. */
#define _GNU_SOURCE
#include "host.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

/*
 * A VMM may have set its limit of descriptors to what it opens itself. Ours, one for each vCPU, are
 * at most this part of them; a process with more vCPUs goes without all of KVM's statistics, since
 * those of some would be taken for the sum.
 */
#define OUR_PART 16
static atomic_ulong held;
static atomic_bool given_up;

static bool leaves_enough(unsigned long descriptors)
{
	struct rlimit limit;

	return !getrlimit(RLIMIT_NOFILE, &limit) && descriptors <= limit.rlim_cur / OUR_PART;
}

int nx_kvm_stats_open(const struct nx_kvm_vm *vm, int fd)
{
	int low;

	if (!vm->binary_stats || atomic_load(&given_up))
		return -1;
	if (!leaves_enough(atomic_load(&held) + 1)) {
		if (!atomic_exchange(&given_up, true))
			nx_say(
			    "KVM's own statistics are left out: for so many vCPUs they would take "
			    "too many of the descriptors that the VMM may have (ulimit -n)");
		return -1;
	}
	low = nx_real.ioctl(fd, KVM_GET_STATS_FD, NULL);
	if (low < 0)
		return -1;
	atomic_fetch_add(&held, 1);
	return nx_fd_move_up(low);
}

void nx_kvm_stats_close(struct nx_kvm_vcpu *vcpu)
{
	if (vcpu->stats_fd < 0)
		return;
	nx_real.close(vcpu->stats_fd);
	atomic_fetch_sub(&held, 1);
}

static bool read_at(int fd, void *to, size_t size, uint64_t offset)
{
	return pread(fd, to, size, (off_t)offset) == (ssize_t)size;
}

bool nx_kvm_stats_has(int fd, const char *name)
{
	struct kvm_stats_header header;
	char found[64];

	if (!read_at(fd, &header, sizeof(header), 0) || header.name_size > sizeof(found))
		return false;
	for (unsigned i = 0; i < header.num_desc; i++) {
		uint64_t at = header.desc_offset +
			      (uint64_t)i * (sizeof(struct kvm_stats_desc) + header.name_size);

		if (!read_at(fd, found, header.name_size, at + sizeof(struct kvm_stats_desc)))
			return false;
		if (!strncmp(found, name, header.name_size))
			return true;
	}
	return false;
}

void nx_kvm_stats_read(struct nx_kvm_vcpu *vcpu)
{
	struct kvm_stats_header header;
	struct nx_stats *stats = vcpu->stats;

	stats->kvm_stats = 0;
	if (vcpu->stats_fd < 0 || atomic_load(&given_up) ||
	    !read_at(vcpu->stats_fd, &header, sizeof(header), 0))
		return;
	for (unsigned i = 0; i < header.num_desc && stats->kvm_stats < NX_KVM_STATS; i++) {
		uint64_t at = header.desc_offset +
			      (uint64_t)i * (sizeof(struct kvm_stats_desc) + header.name_size);
		struct nx_kvm_stat *stat = &stats->kvm_stat[stats->kvm_stats];
		struct kvm_stats_desc desc;

		if (!read_at(vcpu->stats_fd, &desc, sizeof(desc), at) || desc.size != 1)
			continue;
		memset(stat, 0, sizeof(*stat));
		if (pread(vcpu->stats_fd, stat->name,
			  header.name_size < sizeof(stat->name) - 1 ? header.name_size
								    : sizeof(stat->name) - 1,
			  (off_t)(at + sizeof(desc))) > 0 &&
		    read_at(vcpu->stats_fd, &stat->value, sizeof(stat->value),
			    header.data_offset + desc.offset))
			stats->kvm_stats++;
	}
}
