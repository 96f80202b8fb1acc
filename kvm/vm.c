/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * vm.c - ioctls of a VM. An ioctl that is on none of the lists here turns clustering off: an
 * interface that we do not know may give meaning to memory or devices that the engine would get
 * wrong.
 */
#include "host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* Of kernels newer than the headers that this may be built with. */
#define SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, uint64_t[20])
#define CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, uint64_t[8])

struct memory_region2 {
	uint32_t slot, flags;
	uint64_t gpa, size, host;
	/* guest_memfd fields follow. */
};

#define MEM_KNOWN_FLAGS (KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY | 1u << 2)

/* ---- Creation and the end ---- */

static void vm_release(struct nx_object *object)
{
	struct nx_kvm_vm *vm = (struct nx_kvm_vm *)object;

	nx_share_close(vm);
	free(vm->slot);
	free(vm->slot_gpa);
	nx_ioeventfd_clear(vm);
	nx_ring_clear(vm);
	pthread_rwlock_destroy(&vm->lock);
}

static bool can_sync_regs(int kvm_fd)
{
	int needed = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	int has = nx_real.ioctl(kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_SYNC_REGS);

	if (nx_faulty(NX_FAULT_SYNC_REGS) || nx_faulty(NX_FAULT_IMMEDIATE_EXIT))
		return false;
	return has > 0 && (has & needed) == needed &&
	       nx_real.ioctl(kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_IMMEDIATE_EXIT) > 0;
}

void nx_vm_created(int kvm_fd, int vm_fd, unsigned long type)
{
	pthread_rwlockattr_t attributes;
	struct nx_kvm_vm *vm;
	int size;

	if (!nx_real.is_kvm_object(vm_fd, "vm"))
		return;
	nx_process_has_vm();
	nx_kernel_enable(vm_fd);
	nx_timeline_begin();
	size = nx_real.ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	vm = (struct nx_kvm_vm *)nx_object_new(NX_OBJECT_VM, sizeof(*vm), vm_release);
	if (size < (int)(2 * NX_HOST_PAGE) || !vm || nx_faulty(NX_FAULT_COUNTERS) ||
	    !nx_share_open(vm)) {
		nx_say("exits are neither counted nor avoided: %s",
		       size < (int)(2 * NX_HOST_PAGE)
			   ? "this kernel's vCPUs have no run page as noexit knows it"
			   : "out of memory");
		free(vm);
		return;
	}
	vm->fd = vm_fd;
	vm->run_size = (size_t)size;
	nx_ring_find(vm, kvm_fd);
	vm->binary_stats = nx_options.stats && nx_real.ioctl(kvm_fd, KVM_CHECK_EXTENSION,
							     (void *)KVM_CAP_BINARY_STATS_FD) > 0;
	/* Readers come and go with each exit: without preference a writer would starve. */
	pthread_rwlockattr_init(&attributes);
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&vm->lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	if (nx_options.off)
		nx_vm_off(vm, "asked for with --off");
	else if (type)
		nx_vm_off(vm, "it is of a protected type, whose memory noexit cannot read");
	else if (!can_sync_regs(kvm_fd))
		nx_vm_off(vm, "this kernel's KVM cannot pass registers through the run page "
			      "(KVM_CAP_SYNC_REGS, Linux 4.17); use a newer kernel");
	nx_fd_set(vm_fd, &vm->object);
}

/* ---- Memory ---- */

/*
 * Run an ioctl while no vCPU is in the engine, and, if it has succeeded, what follows from it for
 * the engine.
 */
static int quiesced_ioctl(struct nx_kvm_vm *vm, int fd, unsigned long request, void *argument,
			  void (*after)(struct nx_kvm_vm *, unsigned long, const void *))
{
	int result, saved;

	nx_vm_quiesce(vm);
	result = nx_real.ioctl(fd, request, argument);
	saved = errno;
	if (!result)
		after(vm, request, argument);
	nx_vm_unquiesce(vm);
	errno = saved;
	return result;
}

static void memory_set(struct nx_kvm_vm *vm, unsigned long request, const void *argument)
{
	struct memory_region2 region;

	(void)request;
	/* The newer structure begins as the older one does. */
	memcpy(&region, argument, sizeof(region));
	if (region.flags & ~MEM_KNOWN_FLAGS)
		nx_vm_off(vm, "the VMM uses a memory slot flag that noexit does not know");
	else if (nx_faulty(NX_FAULT_SLOTS) ||
		 !nx_slot_set(vm, region.slot, region.flags, region.gpa, region.size, region.host))
		nx_vm_off(vm, "out of memory");
}

/* ---- Devices ---- */

static void ioeventfd_set(struct nx_kvm_vm *vm, unsigned long request, const void *argument)
{
	(void)request;
	if (!nx_ioeventfd_set(vm, argument))
		nx_vm_off(vm, "out of memory");
}

static void zone_set(struct nx_kvm_vm *vm, unsigned long request, const void *argument)
{
	if (!nx_ring_zone(vm, argument, (uint32_t)request == KVM_REGISTER_COALESCED_MMIO))
		nx_vm_off(vm, "out of memory");
}

static void device_created(struct nx_kvm_vm *vm, unsigned long request, const void *argument)
{
	const struct kvm_pit_config *pit = argument;

	switch ((uint32_t)request) {
	case KVM_CREATE_IRQCHIP:
		vm->irqchip_full = true;
		break;
	case KVM_CREATE_PIT:
		vm->pit = vm->pit_speaker = true;
		break;
	case KVM_CREATE_PIT2:
		vm->pit = true;
		vm->pit_speaker = pit->flags & KVM_PIT_SPEAKER_DUMMY;
		break;
	}
}

/*
 * Capabilities that change nothing that the engine depends on. Not here, because they do: dirty
 * rings (the engine's writes would be missing), Xen, encrypted memory, bus lock exits
 * (a locked access in a cluster would cause none), and whatever came after Linux 6.1.
 */
static bool capability_harmless(uint32_t cap)
{
	switch (cap) {
	case KVM_CAP_DISABLE_QUIRKS:
	case KVM_CAP_DISABLE_QUIRKS2:
	case KVM_CAP_X2APIC_API:
	case KVM_CAP_X86_DISABLE_EXITS:
	case KVM_CAP_MSR_PLATFORM_INFO:
	case KVM_CAP_EXCEPTION_PAYLOAD:
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
	case KVM_CAP_X86_USER_SPACE_MSR:
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
	case KVM_CAP_HALT_POLL:
	case KVM_CAP_SGX_ATTRIBUTE:
	case KVM_CAP_EXIT_HYPERCALL:
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
	case KVM_CAP_PMU_CAPABILITY:
	case KVM_CAP_VM_DISABLE_NX_HUGE_PAGES:
	case KVM_CAP_X86_NOTIFY_VMEXIT:
	case KVM_CAP_MAX_VCPU_ID:
	case KVM_CAP_ENFORCE_PV_FEATURE_CPUID:
		return true;
	default:
		return false;
	}
}

static void capability_enabled(struct nx_kvm_vm *vm, unsigned long request, const void *argument)
{
	const struct kvm_enable_cap *cap = argument;

	(void)request;
	if (cap->cap == KVM_CAP_SPLIT_IRQCHIP)
		vm->irqchip_split = true;
	else if (cap->cap == KVM_CAP_DISABLE_QUIRKS || cap->cap == KVM_CAP_DISABLE_QUIRKS2)
		vm->quirk_out_7e_off = cap->args[0] & KVM_X86_QUIRK_OUT_7E_INC_RIP;
	else if (!capability_harmless(cap->cap))
		nx_vm_off(vm, "the VMM enabled a KVM capability that noexit does not know or that "
			      "rules it out (dirty ring, Xen, encryption, bus locks)");
}

/* ---- The rest ---- */

/* Forwarded as they are: they neither change guest memory's meaning nor who handles an access. */
static bool ioctl_harmless(uint32_t request)
{
	switch (request) {
	case KVM_CHECK_EXTENSION:
	case KVM_GET_DIRTY_LOG:
	case KVM_CLEAR_DIRTY_LOG:
	case KVM_SET_NR_MMU_PAGES:
	case KVM_GET_NR_MMU_PAGES:
	case KVM_SET_TSS_ADDR:
	case KVM_SET_IDENTITY_MAP_ADDR:
	case KVM_GET_IRQCHIP:
	case KVM_SET_IRQCHIP:
	case KVM_GET_PIT:
	case KVM_SET_PIT:
	case KVM_GET_PIT2:
	case KVM_SET_PIT2:
	case KVM_REINJECT_CONTROL:
	case KVM_SET_GSI_ROUTING:
	case KVM_IRQFD:
	case KVM_HYPERV_EVENTFD: /* the kernel signals it by itself */
	case KVM_SET_BOOT_CPU_ID:
	case KVM_SET_CLOCK:
	case KVM_GET_CLOCK:
	case KVM_GET_TSC_KHZ:
	case KVM_CREATE_DEVICE:
	case KVM_GET_DEVICE_ATTR:
	case KVM_SET_DEVICE_ATTR:
	case KVM_HAS_DEVICE_ATTR:
	case KVM_X86_SET_MSR_FILTER:
	case KVM_SET_PMU_EVENT_FILTER:
	case KVM_GET_STATS_FD:
	case (uint32_t)CREATE_GUEST_MEMFD: /* slots that use it have a flag */
		return true;
	default:
		return false;
	}
}

static int create_vcpu(struct nx_kvm_vm *vm, int fd, unsigned long request, void *argument)
{
	int result, saved;

	/* Before the kernel may write the ring for another vCPU, the engine stops doing so. */
	nx_vm_quiesce(vm);
	vm->vcpus_begun++;
	nx_vm_unquiesce(vm);
	result = nx_real.ioctl(fd, request, argument);
	saved = errno;
	if (result >= 0)
		nx_vcpu_created(vm, result);
	errno = saved;
	return result;
}

static int other_ioctl(struct nx_kvm_vm *vm, int fd, unsigned long request, void *argument)
{
	int result, saved;

	switch ((uint32_t)request) {
	case KVM_CREATE_VCPU:
		return create_vcpu(vm, fd, request, argument);
	case KVM_SET_USER_MEMORY_REGION:
	case (uint32_t)SET_USER_MEMORY_REGION2:
		return quiesced_ioctl(vm, fd, request, argument, memory_set);
	case KVM_REGISTER_COALESCED_MMIO:
	case KVM_UNREGISTER_COALESCED_MMIO:
		return quiesced_ioctl(vm, fd, request, argument, zone_set);
	case KVM_IOEVENTFD:
		return quiesced_ioctl(vm, fd, request, argument, ioeventfd_set);
	case KVM_CREATE_IRQCHIP:
	case KVM_CREATE_PIT:
	case KVM_CREATE_PIT2:
		return quiesced_ioctl(vm, fd, request, argument, device_created);
	case KVM_ENABLE_CAP:
		return quiesced_ioctl(vm, fd, request, argument, capability_enabled);
	case KVM_SET_TSC_KHZ:
		vm->tsc_set = true;
		return nx_real.ioctl(fd, request, argument);
	case KVM_SIGNAL_MSI:
		result = nx_real.ioctl(fd, request, argument);
		if (result > 0)
			nx_vm_interrupt_raised(vm);
		return result;
	}
	result = nx_real.ioctl(fd, request, argument);
	saved = errno;
	if (result >= 0 && !ioctl_harmless((uint32_t)request))
		nx_vm_off(vm,
			  "the VMM uses a KVM interface that noexit does not know or that rules "
			  "it out (Xen, encrypted or private memory)");
	errno = saved;
	return result;
}

static int set_line(struct nx_kvm_vm *vm, int fd, unsigned long request, void *argument)
{
	int result = nx_lines_set(vm, fd, request, argument);

	if (result >= 0 && ((struct kvm_irq_level *)argument)->level)
		nx_vm_interrupt_raised(vm);
	return result;
}

int nx_vm_ioctl(struct nx_kvm_vm *vm, int fd, unsigned long request, void *argument)
{
	int result;

	if ((uint32_t)request == KVM_IRQ_LINE || (uint32_t)request == KVM_IRQ_LINE_STATUS)
		return set_line(vm, fd, request, argument);
	nx_lines_touch(vm);
	result = other_ioctl(vm, fd, request, argument);
	nx_lines_touch(vm);
	return result;
}
