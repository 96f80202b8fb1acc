/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * guestmem.c - answer the engine's questions: where guest-physical memory is, and whether the VMM
 * or the kernel handles an access.
 *
 * The callbacks run inside nx_engine_resume() with vm->lock read-held. A change of memslots sets
 * the vCPUs' stop flags, waits for the lock, and does the real ioctl while it holds it, so no
 * engine uses a page that the kernel no longer has at that address.
 */
#include "host.h"

#include <stdlib.h>
#include <string.h>

#define MEM_GUEST_MEMFD (1u << 2) /* KVM_MEM_GUEST_MEMFD, of Linux 6.8 */

/* ---- Slots ---- */

/* Return the index of the first slot that begins there or later. A VM may have 32,764 slots. */
static unsigned slot_from(const struct nx_kvm_vm *vm, uint64_t gpa)
{
	unsigned low = 0, high = vm->slots;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (vm->slot[middle].gpa < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void slot_remove(struct nx_kvm_vm *vm, uint32_t id)
{
	unsigned at;

	if (id >= vm->slot_ids || vm->slot_gpa[id] == NX_SLOT_NONE)
		return;
	at = slot_from(vm, vm->slot_gpa[id]);
	vm->slot_gpa[id] = NX_SLOT_NONE;
	memmove(&vm->slot[at], &vm->slot[at + 1], (vm->slots - at - 1) * sizeof(*vm->slot));
	vm->slots--;
}

/* Make room for one more slot, and for the number of it. */
static bool slot_room(struct nx_kvm_vm *vm, uint32_t id)
{
	struct nx_slot *slot =
	    nx_array_room(vm->slot, &vm->slot_capacity, vm->slots, sizeof(*slot));

	if (!slot)
		return false;
	vm->slot = slot;
	if (id >= vm->slot_ids) {
		unsigned ids = 2 * id + 32;
		uint64_t *gpa = realloc(vm->slot_gpa, ids * sizeof(*gpa));

		if (!gpa)
			return false;
		for (unsigned i = vm->slot_ids; i < ids; i++)
			gpa[i] = NX_SLOT_NONE;
		vm->slot_gpa = gpa;
		vm->slot_ids = ids;
	}
	return true;
}

bool nx_slot_set(struct nx_kvm_vm *vm, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size,
		 uint64_t host)
{
	unsigned at;

	/* Address space 1 is SMM's, where the engine never is. */
	if (id >> 16)
		return true;
	slot_remove(vm, id);
	if (!size)
		return true;
	nx_host_covered(host, size);
	if (!slot_room(vm, id))
		return false;
	at = slot_from(vm, gpa);
	memmove(&vm->slot[at + 1], &vm->slot[at], (vm->slots - at) * sizeof(*vm->slot));
	vm->slot[at] = (struct nx_slot){
	    .gpa = gpa, .size = size, .host = host, .flags = flags, .access = NX_HOST_UNKNOWN};
	vm->slot_gpa[id] = gpa;
	vm->slots++;
	return true;
}

static struct nx_slot *slot_find(struct nx_kvm_vcpu *vcpu, uint64_t gpa)
{
	struct nx_kvm_vm *vm = vcpu->vm;
	unsigned low = 0, high = vm->slots;

	if (vcpu->slot_hint < vm->slots) {
		struct nx_slot *slot = &vm->slot[vcpu->slot_hint];

		if (gpa - slot->gpa < slot->size)
			return slot;
	}
	while (low < high) {
		unsigned middle = (low + high) / 2;
		struct nx_slot *slot = &vm->slot[middle];

		if (gpa < slot->gpa) {
			high = middle;
		} else if (gpa - slot->gpa < slot->size) {
			vcpu->slot_hint = middle;
			return slot;
		} else {
			low = middle + 1;
		}
	}
	return NULL;
}

/* ---- Devices inside the kernel ---- */

static bool overlaps(uint64_t address, unsigned size, uint64_t first, uint64_t last)
{
	return address <= last && address + size > first;
}

/* Only the kernel knows where a partial overlap goes, so the engine leaves before it as well. */
static bool port_in_kernel(const struct nx_kvm_vm *vm, uint16_t port, unsigned size)
{
	static const struct {
		uint16_t first, last;
	} pic[] = {{0x20, 0x21}, {0xa0, 0xa1}, {0x4d0, 0x4d1}};

	for (unsigned i = 0; vm->irqchip_full && i < 3; i++) {
		if (overlaps(port, size, pic[i].first, pic[i].last))
			return true;
	}
	return (vm->pit && overlaps(port, size, 0x40, 0x43)) ||
	       (vm->pit_speaker && overlaps(port, size, 0x61, 0x61));
}

static bool gpa_in_kernel(const struct nx_kvm_vcpu *vcpu, uint64_t gpa, unsigned size)
{
	const struct nx_kvm_vm *vm = vcpu->vm;
	uint64_t page = vcpu->sregs.apic_base & ~(uint64_t)(NX_HOST_PAGE - 1) & NX_GPA_BITS;

	if (vm->irqchip_full && overlaps(gpa, size, 0xfec00000, 0xfec000ff))
		return true;
	/* A LAPIC that is off or in x2APIC mode still answers there: KVM_X86_QUIRK_LAPIC_MMIO_HOLE.
	 */
	return (vm->irqchip_full || vm->irqchip_split) &&
	       overlaps(gpa, size, page, page + NX_HOST_PAGE - 1);
}

/* ---- The engine's callbacks ---- */

void nx_guest_map_page(void *data, uint64_t gpa, struct nx_page *page)
{
	struct nx_kvm_vcpu *vcpu = data;
	struct nx_slot *slot;
	uint8_t access;

	*page = (struct nx_page){.kind = NX_PAGE_LEAVE};
	/* The kernel backs the LAPIC page with a slot of its own where the VMM may have RAM. */
	if (gpa_in_kernel(vcpu, gpa, NX_HOST_PAGE)) {
		/* The rest of the IOAPIC's page is the VMM's: nx_guest_route_mmio() decides there.
		 */
		if ((gpa & ~0xfffull) == 0xfec00000)
			page->kind = NX_PAGE_DEVICE;
		return;
	}
	/*
	 * Were a store to raise the task priority there, KVM would still enter the guest with an
	 * interrupt below it: in guest mode that interrupt makes the processor leave first.
	 */
	if (vcpu->vapic_page && (gpa & ~(uint64_t)(NX_HOST_PAGE - 1)) == vcpu->vapic_page)
		return;
	slot = slot_find(vcpu, gpa);
	if (!slot) {
		page->kind = NX_PAGE_DEVICE;
		return;
	}
	access = slot->flags & MEM_GUEST_MEMFD ? 0 : nx_host_slot_access(slot);
	if (!(access & NX_HOST_READ) || nx_faulty(NX_FAULT_PAGE_WALK)) {
		vcpu->pages_refused++;
		return;
	}
	vcpu->pages_given = true;
	page->kind = NX_PAGE_RAM;
	page->host = (void *)(uintptr_t)(slot->host + nx_confine(gpa - slot->gpa, slot->size));
	page->store_is_mmio = slot->flags & KVM_MEM_READONLY;
	page->writable =
	    access & NX_HOST_WRITE && !(slot->flags & (KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES));
}

uint8_t *nx_guest_byte(struct nx_kvm_vcpu *vcpu, uint64_t gpa)
{
	struct nx_slot *slot = slot_find(vcpu, gpa);

	if (!slot || slot->flags & (MEM_GUEST_MEMFD | KVM_MEM_READONLY) ||
	    !(nx_host_slot_access(slot) & NX_HOST_WRITE))
		return NULL;
	return (uint8_t *)(uintptr_t)(slot->host + nx_confine(gpa - slot->gpa, slot->size));
}

enum nx_route nx_guest_route_io(void *data, uint16_t port, unsigned size, bool write,
				uint64_t value)
{
	struct nx_kvm_vcpu *vcpu = data;

	(void)value;
	if (port_in_kernel(vcpu->vm, port, size) ||
	    (write && nx_ioeventfd_foreign(vcpu->vm, true, port, size)))
		return NX_ROUTE_LEAVE;
	vcpu->route = write ? nx_ring_route(vcpu, true, port, size) : NX_ROUTE_EXIT;
	return vcpu->route;
}

enum nx_route nx_guest_route_mmio(void *data, uint64_t gpa, unsigned size, bool write,
				  uint64_t value)
{
	struct nx_kvm_vcpu *vcpu = data;

	(void)value;
	if (gpa_in_kernel(vcpu, gpa, size) ||
	    (write && nx_ioeventfd_foreign(vcpu->vm, false, gpa, size)))
		return NX_ROUTE_LEAVE;
	vcpu->route = write ? nx_ring_route(vcpu, false, gpa, size) : NX_ROUTE_EXIT;
	return vcpu->route;
}
