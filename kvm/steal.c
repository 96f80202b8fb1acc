/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * steal.c - a vCPU that the engine runs must not look preempted to the guest's other ones.
 *
 * With steal time a guest shares a few bytes per vCPU with KVM. One of them marks the vCPU as
 * preempted. A vCPU that flushes TLBs sends a marked one no interrupt and does not wait for it; it
 * sets a flush request beside the mark, and KVM flushes before the vCPU runs again. The engine
 * would run on without that flush.
 *
 * Since Linux 5.19 (and stable kernels of that time) KVM sets the mark only if a host interrupt
 * stopped the guest between two instructions, which an exit to the VMM is not. Those kernels have a
 * statistic that counts the other cases, and are recognised by it. Older kernels set the mark at
 * each return from KVM_RUN. On them the host does what KVM does before it enters a guest: it clears
 * the mark and reads the flush request in one atomic step. If a flush is requested already, the
 * stay does not begin, or ends.
 */
#include "host.h"

#define MSR_KVM_STEAL_TIME 0x4b564d03u
#define STEAL_ENABLED 1u
#define STEAL_ADDRESS (~0x3full)
#define PREEMPTED_AT 16 /* in struct kvm_steal_time */
#define PREEMPTED 1u

void nx_steal_vcpu_created(struct nx_kvm_vcpu *vcpu, int fd)
{
	int stats = nx_real.ioctl(fd, KVM_GET_STATS_FD, NULL);

	vcpu->looks_preempted = true;
	if (stats < 0)
		return;
	vcpu->looks_preempted = !nx_kvm_stats_has(stats, "preemption_other");
	nx_real.close(stats);
}

bool nx_steal_begin(struct nx_kvm_vcpu *vcpu, int fd)
{
	uint64_t steal_time;
	int answers;

	vcpu->steal_gpa = 0;
	if (!vcpu->looks_preempted)
		return true;
	answers = nx_kvm_get_msr(fd, MSR_KVM_STEAL_TIME, &steal_time);
	/* The value is 0 if the guest has not set up steal time. */
	if (answers == 1 && steal_time & STEAL_ENABLED)
		vcpu->steal_gpa = (steal_time & STEAL_ADDRESS & NX_GPA_BITS) + PREEMPTED_AT;
	if (answers < 0)
		nx_vcpu_off(vcpu, "KVM does not say where the guest looks whether this processor "
				  "runs; use Linux 5.19 or newer");
	return answers >= 0;
}

bool nx_steal_claim(struct nx_kvm_vcpu *vcpu)
{
	uint8_t *byte, seen;

	if (!vcpu->steal_gpa)
		return true;
	/* KVM could not write to such memory either. KVM itself logs this page as dirty. */
	byte = nx_guest_byte(vcpu, vcpu->steal_gpa);
	if (!byte)
		return true;
	seen = __atomic_load_n(byte, __ATOMIC_SEQ_CST);
	while (seen == PREEMPTED) {
		if (__atomic_compare_exchange_n(byte, &seen, 0, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			return true;
	}
	return !seen;
}
