/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kvm_stats.c - KVM's own statistics of a vCPU. */
#define _GNU_SOURCE
#include "host.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int nx_kvm_stats_open(const struct nx_kvm_vm *vm, int fd)
{
	int low;

	if (!vm->binary_stats)
		return -1;
	low = nx_real.ioctl(fd, KVM_GET_STATS_FD, NULL);
	return low < 0 ? -1 : nx_fd_move_up(low);
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
	if (vcpu->stats_fd < 0 || !read_at(vcpu->stats_fd, &header, sizeof(header), 0))
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
