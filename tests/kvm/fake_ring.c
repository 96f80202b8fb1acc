/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* fake_ring.c - KVM's coalesced ranges, and a VMM that takes their entries out of the ring. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "fake.h"

static struct kvm_coalesced_mmio_ring *ring(void)
{
	return (struct kvm_coalesced_mmio_ring *)((char *)fake.run +
						  KVM_COALESCED_MMIO_PAGE_OFFSET * 4096);
}

/* coalesced_mmio_in_range() */
static bool in_range(const struct kvm_coalesced_mmio_zone *zone, bool pio, uint64_t address,
		     uint32_t size)
{
	return zone->size && !!zone->pio == pio && address >= zone->addr &&
	       address + size <= zone->addr + zone->size;
}

int fake_ring_zone(bool add, const struct kvm_coalesced_mmio_zone *args)
{
	for (unsigned i = 0; i < FAKE_ZONES; i++) {
		struct kvm_coalesced_mmio_zone *zone = &fake.zone[i];

		if (add && !zone->size) {
			*zone = *args;
			return 0;
		}
		if (!add && in_range(zone, args->pio, args->addr, args->size))
			zone->size = 0;
	}
	errno = ENOSPC;
	return add ? -1 : 0;
}

/* coalesced_mmio_write() */
bool fake_ring_takes(bool pio, uint64_t address, unsigned size, uint64_t value)
{
	struct kvm_coalesced_mmio *entry = &ring()->coalesced_mmio[ring()->last];

	for (unsigned i = 0; i < FAKE_ZONES; i++) {
		if (!in_range(&fake.zone[i], pio, address, size))
			continue;
		if ((ring()->last + 1) % FAKE_RING_ENTRIES == ring()->first)
			return false;
		entry->phys_addr = address;
		entry->len = size;
		entry->pio = pio;
		memcpy(entry->data, &value, size);
		ring()->last = (ring()->last + 1) % FAKE_RING_ENTRIES;
		fake.queued++;
		return true;
	}
	return false;
}

void vmm_drain(struct vmm *vmm)
{
	while (ring()->first != ring()->last) {
		const struct kvm_coalesced_mmio *entry = &ring()->coalesced_mmio[ring()->first];
		struct access *access = &vmm->access[vmm->accesses++];

		assert(vmm->accesses <= MAX_ACCESSES && entry->len <= sizeof(access->data));
		memset(access, 0, sizeof(*access));
		access->reason = FROM_RING;
		access->write = true;
		access->size = (uint8_t)entry->len;
		access->address = entry->phys_addr;
		memcpy(&access->data, entry->data, entry->len);
		ring()->first = (ring()->first + 1) % FAKE_RING_ENTRIES;
	}
}

unsigned fake_ring_entries(void)
{
	return (ring()->last + FAKE_RING_ENTRIES - ring()->first) % FAKE_RING_ENTRIES;
}
