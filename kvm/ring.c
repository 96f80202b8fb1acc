/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * ring.c - writes into coalesced ranges, which KVM puts into a ring for the VMM instead of leaving.
 *
 * The ring is the VM's, one page that each vCPU's mapping shows. The kernel appends under a lock of
 * its own, the VMM takes out. As long as the VM has one vCPU only, the kernel appends for that vCPU
 * alone, inside KVM_RUN, so that its own thread is the only writer while it is outside. The
 * engine's writes are then appended as the kernel would append them. With several vCPUs, or where
 * the ring is full, the VMM gets an exit, as it does from KVM when the ring is full.
 */
#include "host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RING_MAX                                                              \
	((unsigned)((NX_HOST_PAGE - sizeof(struct kvm_coalesced_mmio_ring)) / \
		    sizeof(struct kvm_coalesced_mmio)))

/* ---- Ranges ---- */

/* Return whether the range lies wholly inside the zone, as coalesced_mmio_in_range() decides it. */
static bool holds(const struct kvm_coalesced_mmio_zone *zone, bool pio, uint64_t address,
		  uint32_t size)
{
	return !!zone->pio == pio && address + size >= address && address >= zone->addr &&
	       address + size <= zone->addr + zone->size;
}

/* KVM removes each zone in which the given one lies. */
static void remove_zones(struct nx_kvm_vm *vm, const struct kvm_coalesced_mmio_zone *args)
{
	unsigned kept = 0, count = atomic_load(&vm->zones);

	for (unsigned i = 0; i < count; i++) {
		if (!holds(&vm->zone[i], args->pio, args->addr, args->size))
			vm->zone[kept++] = vm->zone[i];
	}
	atomic_store(&vm->zones, kept);
}

bool nx_ring_zone(struct nx_kvm_vm *vm, const struct kvm_coalesced_mmio_zone *args, bool add)
{
	unsigned count = atomic_load(&vm->zones);
	struct kvm_coalesced_mmio_zone *zone;

	if (!add) {
		remove_zones(vm, args);
		return true;
	}
	zone = nx_array_room(vm->zone, &vm->zone_capacity, count, sizeof(*zone));
	if (!zone)
		return false;
	vm->zone = zone;
	zone[count] = *args;
	atomic_store(&vm->zones, count + 1);
	return true;
}

void nx_ring_clear(struct nx_kvm_vm *vm)
{
	free(vm->zone);
}

static bool coalesced(const struct nx_kvm_vm *vm, bool pio, uint64_t address, uint32_t size)
{
	unsigned count = atomic_load(&vm->zones);

	for (unsigned i = 0; i < count; i++) {
		if (holds(&vm->zone[i], pio, address, size))
			return true;
	}
	return false;
}

/* ---- The ring ---- */

void nx_ring_find(struct nx_kvm_vm *vm, int kvm_fd)
{
	int page = nx_real.ioctl(kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_COALESCED_MMIO);

	if (page > 0 && (size_t)page < vm->run_size / NX_HOST_PAGE)
		vm->ring_offset = (size_t)page * NX_HOST_PAGE;
}

static struct kvm_coalesced_mmio_ring *ring_of(const struct nx_kvm_vcpu *vcpu)
{
	if (!vcpu->vm->ring_offset || vcpu->vm->vcpus_begun != 1)
		return NULL;
	return (struct kvm_coalesced_mmio_ring *)((char *)vcpu->run + vcpu->vm->ring_offset);
}

/* Return whether the ring takes one more entry; the VMM may be taking some out meanwhile. */
static bool has_room(const struct kvm_coalesced_mmio_ring *ring)
{
	uint32_t last = ring->last;

	return last < RING_MAX &&
	       (last + 1) % RING_MAX != __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE);
}

static bool append(struct kvm_coalesced_mmio_ring *ring, bool pio, uint64_t address, uint32_t size,
		   const void *data)
{
	struct kvm_coalesced_mmio *entry;

	if (!has_room(ring))
		return false;
	entry = &ring->coalesced_mmio[ring->last];
	entry->phys_addr = address;
	entry->len = size;
	entry->pio = pio;
	memcpy(entry->data, data, size);
	__atomic_store_n(&ring->last, (ring->last + 1) % RING_MAX, __ATOMIC_RELEASE);
	return true;
}

enum nx_route nx_ring_route(const struct nx_kvm_vcpu *vcpu, bool pio, uint64_t address,
			    unsigned size)
{
	const struct kvm_coalesced_mmio_ring *ring;

	if (!coalesced(vcpu->vm, pio, address, size) ||
	    nx_ioeventfd_covers(vcpu->vm, pio, address, size))
		return NX_ROUTE_EXIT;
	ring = ring_of(vcpu);
	if (!ring)
		return NX_ROUTE_INSTEAD;
	return has_room(ring) ? NX_ROUTE_QUEUE : NX_ROUTE_EXIT;
}

/* Append each element of an OUTS by itself; the elements that do not fit remain in the exit. */
static bool append_string(struct kvm_coalesced_mmio_ring *ring, struct nx_exit *exit)
{
	uint32_t done = 0;

	while (done < exit->count &&
	       append(ring, true, exit->port, exit->size, exit->string + (size_t)done * exit->size))
		done++;
	exit->count -= done;
	memmove(exit->string, exit->string + (size_t)done * exit->size,
		(size_t)exit->count * exit->size);
	return !exit->count;
}

bool nx_ring_append(const struct nx_kvm_vcpu *vcpu, struct nx_exit *exit)
{
	bool pio = exit->kind == NX_EXIT_IO;
	uint64_t address = pio ? exit->port : exit->gpa;
	struct kvm_coalesced_mmio_ring *ring = ring_of(vcpu);

	if (!ring || !coalesced(vcpu->vm, pio, address, exit->size) ||
	    nx_ioeventfd_covers(vcpu->vm, pio, address, exit->size))
		return false;
	return exit->string ? append_string(ring, exit)
			    : append(ring, pio, address, exit->size, &exit->data);
}

bool nx_ring_queue(void *data, uint64_t gpa, unsigned size, uint64_t value)
{
	struct nx_kvm_vcpu *vcpu = data;
	struct kvm_coalesced_mmio_ring *ring = ring_of(vcpu);
	bool queued = ring && append(ring, false, gpa, size, &value);

	vcpu->stats->queued += queued;
	return queued;
}
