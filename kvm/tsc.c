/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * tsc.c - compute the time-stamp counter that the guest would read: the host's plus an offset.
 * KVM reports the exact offset since Linux 5.16. The engine leaves before RDTSC unless the
 * processor itself adds the offset, KVM does not correct the host's counter, and the counter is not
 * scaled.
 */
#include "host.h"

#include <x86intrin.h>

static struct kvm_device_attr offset_attribute(uint64_t *offset)
{
	return (struct kvm_device_attr){
	    .group = KVM_VCPU_TSC_CTRL,
	    .attr = KVM_VCPU_TSC_OFFSET,
	    .addr = (uintptr_t)offset,
	};
}

void nx_tsc_vcpu_created(struct nx_kvm_vcpu *vcpu, int fd)
{
	struct kvm_device_attr attribute = offset_attribute(NULL);
	int khz;

	if (!nx_real.tsc_is_offset() || vcpu->vm->tsc_set)
		return;
	khz = nx_real.ioctl(fd, KVM_GET_TSC_KHZ, NULL);
	if (khz > 0 && !nx_real.ioctl(fd, KVM_HAS_DEVICE_ATTR, &attribute)) {
		vcpu->native_tsc_khz = (unsigned)khz;
		vcpu->engine_host.read_tsc = nx_tsc_read;
	}
}

void nx_tsc_set_khz(struct nx_kvm_vcpu *vcpu, unsigned khz)
{
	bool native = vcpu->native_tsc_khz && (!khz || khz == vcpu->native_tsc_khz);

	vcpu->engine_host.read_tsc = native ? nx_tsc_read : NULL;
}

static bool ask_offset(struct nx_kvm_vcpu *vcpu)
{
	struct kvm_device_attr attribute = offset_attribute(&vcpu->tsc_offset);

	vcpu->tsc_known =
	    vcpu->tsc_known || !nx_real.ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attribute);
	return vcpu->tsc_known;
}

static bool ask_aux(struct nx_kvm_vcpu *vcpu)
{
	uint64_t aux;

	if (!vcpu->tsc_aux_known) {
		vcpu->tsc_aux_known = nx_kvm_get_msr(vcpu->fd, NX_MSR_TSC_AUX, &aux) == 1;
		vcpu->tsc_aux = (uint32_t)aux;
	}
	return vcpu->tsc_aux_known;
}

bool nx_tsc_read(void *data, uint64_t *tsc, uint32_t *aux)
{
	struct nx_kvm_vcpu *vcpu = data;

	if (!ask_offset(vcpu) || (aux && !ask_aux(vcpu)))
		return false;
	if (aux)
		*aux = vcpu->tsc_aux;
	/* The fence keeps the reading behind the guest's earlier loads. */
	_mm_lfence();
	*tsc = __rdtsc() + vcpu->tsc_offset;
	return true;
}
