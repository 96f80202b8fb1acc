/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * vcpu.c - a vCPU's life, and every ioctl on it but KVM_RUN.
 *
 * While the engine holds the guest's registers (enum nx_phase) the kernel's are old. So before
 * any ioctl is forwarded they are written back, with rip where KVM itself would have it at such
 * an exit: past it for what KVM has done by then (final_at_exit() in exit.c), else on the
 * instruction. Ioctls that only look leave it at that. After one that changes something the
 * kernel's state is the truth (NX_PHASE_DISTURBED), and the next KVM_RUN only finishes the exit, by
 * the rule of KVM's fast path: if rip still is on the instruction.
 */
#define _GNU_SOURCE
#include "host.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- Life ---- */

static void unlink_vcpu(struct nx_kvm_vcpu *vcpu)
{
	for (struct nx_kvm_vcpu **at = &vcpu->vm->vcpus; *at; at = &(*at)->next_in_vm) {
		if (*at == vcpu) {
			*at = vcpu->next_in_vm;
			break;
		}
	}
}

static void vcpu_release(struct nx_object *object)
{
	struct nx_kvm_vcpu *vcpu = (struct nx_kvm_vcpu *)object;
	struct nx_kvm_vm *vm = vcpu->vm;

	nx_kvm_stats_read(vcpu);
	if (vcpu->engine)
		nx_share_publish(vcpu, nx_real.now());
	nx_totals_fold(vcpu->shared, true);
	nx_vcpus_lock(vm);
	unlink_vcpu(vcpu);
	nx_share_vcpu_close(vcpu);
	nx_vcpus_unlock(vm);
	nx_kvm_stats_close(vcpu);
	nx_real.unmap_vcpu(vcpu->run, vcpu->run_size);
	nx_memory_put(&vcpu->memory);
	nx_object_put(&vm->object);
}

void nx_vcpu_created(struct nx_kvm_vm *vm, int fd)
{
	struct nx_kvm_vcpu *vcpu;
	bool shared;

	if (!nx_real.is_kvm_object(fd, "vcpu"))
		return;
	vcpu = (struct nx_kvm_vcpu *)nx_object_new(NX_OBJECT_VCPU, sizeof(*vcpu), vcpu_release);
	if (!vcpu) {
		nx_vm_off(vm, "out of memory");
		return;
	}
	vcpu->run_size = vm->run_size;
	vcpu->run = nx_faulty(NX_FAULT_RUN_PAGE) ? NULL : nx_real.map_vcpu(fd, vm->run_size);
	if (!vcpu->run) {
		nx_vm_off(vm, "a vCPU's run page cannot be mapped");
		free(vcpu);
		return;
	}
	vcpu->vm = vm;
	vcpu->fd = fd;
	nx_vcpus_lock(vm);
	shared = nx_share_vcpu_open(vcpu);
	if (shared) {
		vcpu->next_in_vm = vm->vcpus;
		vm->vcpus = vcpu;
	}
	nx_vcpus_unlock(vm);
	if (!shared) {
		nx_vm_off(vm, "out of memory");
		nx_real.unmap_vcpu(vcpu->run, vm->run_size);
		free(vcpu);
		return;
	}
	vcpu->stats_fd = nx_kvm_stats_open(vm, fd);
	vcpu->engine_host = nx_kvm_engine_host;
	nx_tsc_vcpu_created(vcpu, fd);
	nx_steal_vcpu_created(vcpu, fd);
	atomic_fetch_add(&vm->object.count, 1);
	nx_fd_set(fd, &vcpu->object);
	nx_hyperv_check(vm);
}

/* ---- Write-back ---- */

void nx_vcpu_flush(struct nx_kvm_vcpu *vcpu, int fd)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (nx_kernel_has_regs(vcpu) || nx_phase(vcpu) == NX_PHASE_DISTURBED)
		return;
	nx_exit_settle(vcpu);
	nx_state_export_regs(vcpu->state, &regs);
	/* Otherwise it has them already, from an earlier look at the same exit. */
	if (memcmp(&regs, &vcpu->regs, sizeof(regs)) != 0) {
		vcpu->regs = regs;
		nx_real.ioctl(fd, KVM_SET_REGS, &regs);
		vcpu->stats->flushes++;
	}
	if (nx_state_segments_due(vcpu, &sregs))
		nx_real.ioctl(fd, KVM_SET_SREGS, &sregs);
}

/* ---- Ioctls ---- */

enum effect { LOOKS, CHANGES, UNKNOWN };

static enum effect effect_of(uint32_t request)
{
	if (nx_faulty(NX_FAULT_UNKNOWN_IOCTL))
		return UNKNOWN;
	switch (request) {
	case KVM_GET_REGS:
	case KVM_GET_SREGS:
	case KVM_GET_SREGS2:
	case KVM_GET_MSRS:
	case KVM_GET_FPU:
	case KVM_GET_LAPIC:
	case KVM_GET_CPUID2:
	case KVM_GET_SUPPORTED_HV_CPUID:
	case KVM_GET_VCPU_EVENTS:
	case KVM_GET_DEBUGREGS:
	case KVM_GET_XSAVE:
	case KVM_GET_XSAVE2:
	case KVM_GET_XCRS:
	case KVM_GET_TSC_KHZ:
	case KVM_GET_NESTED_STATE:
	case KVM_GET_STATS_FD:
	case KVM_GET_DEVICE_ATTR:
	case KVM_HAS_DEVICE_ATTR:
	case KVM_TRANSLATE:
	case KVM_SET_SIGNAL_MASK:
	case KVM_KVMCLOCK_CTRL:
		return LOOKS;
	case KVM_GET_MP_STATE: /* takes an INIT or SIPI that waits, and so may reset the vCPU */
	case KVM_SET_REGS:
	case KVM_SET_SREGS:
	case KVM_SET_SREGS2:
	case KVM_SET_MSRS:
	case KVM_SET_FPU:
	case KVM_SET_LAPIC:
	case KVM_SET_CPUID:
	case KVM_SET_CPUID2:
	case KVM_SET_MP_STATE:
	case KVM_SET_VCPU_EVENTS:
	case KVM_SET_DEBUGREGS:
	case KVM_SET_XSAVE:
	case KVM_SET_XCRS:
	case KVM_SET_TSC_KHZ:
	case KVM_SET_NESTED_STATE:
	case KVM_SET_GUEST_DEBUG:
	case KVM_SET_DEVICE_ATTR:
	case KVM_SET_VAPIC_ADDR:
	case KVM_TPR_ACCESS_REPORTING:
	case KVM_X86_SETUP_MCE:
	case KVM_X86_SET_MCE:
	case KVM_ENABLE_CAP:
	case KVM_INTERRUPT:
	case KVM_NMI:
	case KVM_SMI:
		return CHANGES;
	default:
		return UNKNOWN;
	}
}

/* SDM vol. 2, CPUID. */
static uint32_t features_of(const struct kvm_cpuid_entry2 *entry)
{
	uint32_t features = 0;

	if (entry->function == 1)
		features = (entry->ecx & 1u << 13 ? NX_FEATURE_CMPXCHG16B : 0) |
			   (entry->ecx & 1u << 22 ? NX_FEATURE_MOVBE : 0) |
			   (entry->ecx & 1u << 23 ? NX_FEATURE_POPCNT : 0);
	else if (entry->function == 0x80000001)
		features = entry->edx & 1u << 27 ? NX_FEATURE_RDTSCP : 0;
	return features;
}

static void note_cpuid(struct nx_kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid)
{
	uint32_t before = vcpu->guest_features;

	vcpu->guest_features = 0;
	for (unsigned i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		vcpu->guest_features |= features_of(entry);
		if (entry->function == 0x80000008)
			vcpu->physical_bits = (uint8_t)entry->eax;
		/* It flushes the processor's TLB, whichever guest runs there. */
		if (entry->function == 0x80000008 && entry->ebx & 1u << 3)
			nx_vcpu_off(vcpu, "the VMM gives the guest INVLPGB, which the engine's own "
					  "TLB would not hear of");
	}
	nx_hyperv_cpuid(vcpu, cpuid);
	/* KVM itself forbids it since Linux 5.17. */
	if (vcpu->engine && vcpu->guest_features != before)
		nx_vcpu_off(vcpu, "the VMM changed the processor that the guest runs on");
}

static void note_signal_mask(struct nx_kvm_vcpu *vcpu, const struct kvm_signal_mask *mask)
{
	vcpu->has_signal_mask = mask && mask->len == sizeof(vcpu->signal_mask);
	if (vcpu->has_signal_mask)
		memcpy(&vcpu->signal_mask, mask->sigset, sizeof(vcpu->signal_mask));
}

static void note_capability(struct nx_kvm_vcpu *vcpu, uint32_t cap)
{
	if (cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID && !nx_hyperv_capability(vcpu, cap))
		nx_vcpu_off(vcpu, "the VMM enabled a capability on the vCPU that noexit does not "
				  "know");
}

/* Note what a successful ioctl has told us. */
static void note(struct nx_kvm_vcpu *vcpu, uint32_t request, void *argument)
{
	switch (request) {
	case KVM_SET_CPUID2:
		note_cpuid(vcpu, argument);
		break;
	case KVM_SET_TSC_KHZ:
		nx_tsc_set_khz(vcpu, (unsigned)(uintptr_t)argument);
		break;
	case KVM_SET_SIGNAL_MASK:
		note_signal_mask(vcpu, argument);
		break;
	case KVM_SET_VAPIC_ADDR:
		vcpu->vapic_page = ((struct kvm_vapic_addr *)argument)->vapic_addr & ~0xfffull;
		break;
	case KVM_SET_GUEST_DEBUG:
		vcpu->guest_debug =
		    ((struct kvm_guest_debug *)argument)->control & KVM_GUESTDBG_ENABLE;
		break;
	case KVM_ENABLE_CAP:
		note_capability(vcpu, ((struct kvm_enable_cap *)argument)->cap);
		break;
	}
}

static int forward(struct nx_kvm_vcpu *vcpu, int fd, unsigned long request, void *argument)
{
	int result = nx_real.ioctl(fd, request, argument);
	int saved = errno;

	if (result >= 0)
		note(vcpu, (uint32_t)request, argument);
	errno = saved;
	return result;
}

NX_HOT int nx_kvm_vcpu_ioctl(struct nx_kvm_vcpu *vcpu, int fd, unsigned long request,
			     void *argument)
{
	enum effect effect;
	int result;

	if ((uint32_t)request == KVM_RUN)
		return nx_kvm_run(vcpu, fd, argument);
	effect = effect_of((uint32_t)request);
	if (effect == UNKNOWN)
		nx_vcpu_off(vcpu, "the VMM uses a vCPU interface that noexit does not know");
	if (!nx_vcpu_acquire(vcpu)) {
		/* A signal handler interrupted our own KVM_RUN: nothing can be written back. */
		nx_vcpu_off(vcpu, "the VMM uses a vCPU from a signal handler");
		return nx_real.ioctl(fd, request, argument);
	}
	if (!nx_kernel_has_regs(vcpu)) {
		/* Nobody is in the real KVM_RUN, so this does not block, and the lock may stay. */
		nx_vcpu_flush(vcpu, fd);
		if (effect != LOOKS)
			nx_stay_disturb(vcpu);
		result = forward(vcpu, fd, request, argument);
		nx_vcpu_release(vcpu);
		return result;
	}
	nx_vcpu_release(vcpu);
	if (effect == LOOKS)
		return forward(vcpu, fd, request, argument);
	atomic_fetch_add(&vcpu->disturbing, 1);
	atomic_fetch_add(&vcpu->disturbances, 1);
	result = forward(vcpu, fd, request, argument);
	atomic_fetch_sub(&vcpu->disturbing, 1);
	return result;
}
