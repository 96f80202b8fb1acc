/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * hyperv.c - which Hyper-V enlightenments the engine cannot run with. docs/kvm.md says of each why
 * it can or cannot.
 *
 * The one that it cannot run with is the flush hypercall. KVM answers it by requests to vCPUs, and
 * a vCPU outside KVM_RUN obeys its request only when it enters the guest: the caller goes on while
 * the engine of the other vCPU still uses the translations that it looked up in its stay. With one
 * vCPU there is no caller beside the engine.
 *
 * A guest knows of the hypercall by a hint in CPUID, and that is what is judged by. KVM answers a
 * guest that calls without having been told (unless the VMM enforces CPUID), and a host outside the
 * kernel cannot see the call. Linux and Windows call only where the hint is.
 */
#include "host.h"

#include <linux/kvm.h>

#define INTERFACE 1u
#define HINTS 4u
#define HV_1 0x31237648u /* "Hv#1" */
#define HINT_REMOTE_TLB_FLUSH (1u << 2)

/* KVM's own leaves move up by 0x100 where both are given. */
static const uint32_t bases[] = {0x40000000, 0x40000100};

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *cpuid, uint32_t function)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	}
	return NULL;
}

static bool has_flush(const struct kvm_cpuid2 *cpuid, uint32_t base)
{
	const struct kvm_cpuid_entry2 *interface = find(cpuid, base + INTERFACE);
	const struct kvm_cpuid_entry2 *hints = find(cpuid, base + HINTS);

	return interface && interface->eax == HV_1 && hints && hints->eax & HINT_REMOTE_TLB_FLUSH;
}

void nx_hyperv_check(struct nx_kvm_vm *vm)
{
	bool several;

	if (!atomic_load(&vm->hyperv_flush) || !nx_vcpus_lock(vm))
		return;
	several = vm->vcpus && vm->vcpus->next_in_vm;
	nx_vcpus_unlock(vm);
	if (several)
		nx_vm_off(vm, "the VMM gives several vCPUs Hyper-V's hypercall for TLB flushes, "
			      "which may return before the engine has flushed; drop hv-tlbflush to "
			      "have exits avoided");
}

void nx_hyperv_cpuid(struct nx_kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid)
{
	for (unsigned i = 0; i < sizeof(bases) / sizeof(*bases); i++) {
		if (has_flush(cpuid, bases[i]))
			atomic_store(&vcpu->vm->hyperv_flush, true);
	}
	nx_hyperv_check(vcpu->vm);
}

bool nx_hyperv_capability(struct nx_kvm_vcpu *vcpu, uint32_t cap)
{
	switch (cap) {
	/* Messages, event flags and timers: KVM writes guest memory and raises interrupts. */
	case KVM_CAP_HYPERV_SYNIC:
	case KVM_CAP_HYPERV_SYNIC2:
		atomic_store(&vcpu->vm->hidden_timers, true);
		return true;
	/* A nested guest's state; while one runs, no stay begins. */
	case KVM_CAP_HYPERV_ENLIGHTENED_VMCS:
	/* KVM refuses the guest whatever its CPUID does not have. */
	case KVM_CAP_HYPERV_ENFORCE_CPUID:
		return true;
	/* A Hyper-V below this kernel answers the hypercall by itself. */
	case KVM_CAP_HYPERV_DIRECT_TLBFLUSH:
		atomic_store(&vcpu->vm->hyperv_flush, true);
		nx_hyperv_check(vcpu->vm);
		return true;
	default:
		return false;
	}
}
