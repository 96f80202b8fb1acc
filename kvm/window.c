/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * window.c - whether an interrupt waits in KVM for the guest to enable interrupts.
 *
 * KVM has no call that says so. What it goes by when it enters the guest can be read: the requests
 * in the LAPIC and the output of the 8259s. The exception is a LAPIC timer that has expired, which
 * KVM makes a request only as it enters: there the time is what tells. The answer may err in one
 * direction only, since who is told that one may wait lets the hardware run the instruction.
 */
#include "host.h"

#include <string.h>

enum {
	LAPIC_IRR = 0x200,
	LAPIC_LVTT = 0x320,
	LAPIC_LVT0 = 0x350,
	LAPIC_TMICT = 0x380,
	LAPIC_TMCCT = 0x390,
	LAPIC_STRIDE = 0x10,
	LAPIC_IRR_WORDS = 8,
};

#define LVT_MASKED (1u << 16)
#define LVTT_MODE (3u << 17)
#define LVTT_ONE_SHOT 0u
#define LVTT_DEADLINE (2u << 17)
#define NS_PER_MS 1000000ull

static uint32_t lapic_register(const struct kvm_lapic_state *lapic, unsigned offset)
{
	uint32_t value;

	memcpy(&value, lapic->regs + offset, sizeof(value));
	return value;
}

static bool lapic_requests(const struct kvm_lapic_state *lapic)
{
	uint32_t requests = 0;

	for (unsigned i = 0; i < LAPIC_IRR_WORDS; i++)
		requests |= lapic_register(lapic, LAPIC_IRR + i * LAPIC_STRIDE);
	return requests;
}

/*
 * Return when the LAPIC's deadline is, by our clock: 0 if that cannot be known, UINT64_MAX if none
 * is set. The engine runs no WRMSR, so it stays the same for a stay.
 */
static uint64_t find_deadline(const struct nx_kvm_vcpu *vcpu)
{
	uint64_t deadline, tsc, now = nx_real.now();
	int khz;

	if (nx_kvm_get_msr(vcpu->fd, NX_MSR_TSC_DEADLINE, &deadline) != 1)
		return 0;
	if (!deadline)
		return UINT64_MAX;
	khz = nx_real.ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
	if (khz <= 0 || nx_kvm_get_msr(vcpu->fd, NX_MSR_TSC, &tsc) != 1 || tsc >= deadline)
		return 0;
	if (deadline - tsc > UINT64_MAX / NS_PER_MS)
		return UINT64_MAX;
	return now + (deadline - tsc) * NS_PER_MS / (unsigned)khz;
}

static bool timer_may_wait(struct nx_kvm_vcpu *vcpu, const struct kvm_lapic_state *lapic)
{
	uint32_t lvtt = lapic_register(lapic, LAPIC_LVTT);

	if (lvtt & LVT_MASKED)
		return false;
	if ((lvtt & LVTT_MODE) == LVTT_DEADLINE) {
		if (!vcpu->deadline_known)
			vcpu->deadline = find_deadline(vcpu);
		vcpu->deadline_known = true;
		return nx_real.now() >= vcpu->deadline;
	}
	/* Of one that counts down again and again nobody knows whether it has been at the end. */
	return lapic_register(lapic, LAPIC_TMICT) &&
	       ((lvtt & LVTT_MODE) != LVTT_ONE_SHOT || !lapic_register(lapic, LAPIC_TMCCT));
}

/* The 8259s' interrupts, where the LAPIC lets them through. Those of the VMM's own are not seen. */
static bool pic_may_request(const struct nx_kvm_vcpu *vcpu, const struct kvm_lapic_state *lapic)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER};

	if (vcpu->run->apic_base & NX_APIC_BASE_ENABLED &&
	    lapic_register(lapic, LAPIC_LVT0) & LVT_MASKED)
		return false;
	return !vcpu->vm->irqchip_full || nx_real.ioctl(vcpu->vm->fd, KVM_GET_IRQCHIP, &chip) ||
	       chip.chip.pic.irr & ~chip.chip.pic.imr;
}

static bool has_lapic(const struct nx_kvm_vcpu *vcpu)
{
	return vcpu->vm->irqchip_full || vcpu->vm->irqchip_split;
}

static bool nothing_waits(struct nx_kvm_vcpu *vcpu)
{
	struct kvm_lapic_state lapic;

	if (__atomic_load_n(&vcpu->run->request_interrupt_window, __ATOMIC_RELAXED) ||
	    atomic_load(&vcpu->vm->hidden_timers))
		return false;
	/* A VMM that has the LAPIC stops KVM_RUN when it has an interrupt, or asks for a window. A
	 * signal handler that runs meanwhile sets the stop flag. */
	if (!has_lapic(vcpu))
		return !__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_ACQUIRE) &&
		       !__atomic_load_n(nx_engine_stop_flag(vcpu->engine), __ATOMIC_ACQUIRE);
	vcpu->stats->windows++;
	return !nx_real.ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) && !lapic_requests(&lapic) &&
	       !timer_may_wait(vcpu, &lapic) && !pic_may_request(vcpu, &lapic);
}

bool nx_window_still_quiet(struct nx_kvm_vcpu *vcpu)
{
	uint64_t now = nx_real.now();

	if (!has_lapic(vcpu) || !nothing_waits(vcpu))
		return false;
	vcpu->nothing_waited = now;
	return true;
}

/* Old kernels take each call on the vCPU for the end of its run (steal.c). */
bool nx_window_quiet(void *data)
{
	struct nx_kvm_vcpu *vcpu = data;
	uint64_t now = nx_real.now();

	if (!nothing_waits(vcpu) || !nx_steal_claim(vcpu))
		return false;
	vcpu->nothing_waited = now;
	return true;
}
