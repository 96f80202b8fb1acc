/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* msr.c - ask KVM for one of a vCPU's MSRs. */
#include "host.h"

int nx_kvm_get_msr(int fd, uint32_t index, uint64_t *value)
{
	/* struct kvm_msrs ends in a flexible array: room for one entry of it. */
	union {
		struct kvm_msrs msrs;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} ask = {.msrs.nmsrs = 1};
	int answers;

	ask.msrs.entries[0].index = index;
	answers = nx_real.ioctl(fd, KVM_GET_MSRS, &ask);
	*value = ask.msrs.entries[0].data;
	return answers;
}
