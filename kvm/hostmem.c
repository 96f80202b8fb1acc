/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * hostmem.c - decide whether this process itself may access the memory of a slot.
 *
 * KVM answers an access that the mapping forbids with an error, whereas the engine would die of a
 * signal. A slot's memory is therefore looked up in /proc/self/maps before its first use, and KVM
 * handles every access that the mapping does not allow.
 *
 * A VMM may unmap or protect memory while a slot uses it. preload.c interposes the functions that
 * do so, and a VMM that links the library announces such changes. The engines leave the slot alone
 * until the change is over, and then look it up again.
 */
#define _GNU_SOURCE
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct range {
	uint64_t at, end;
	uint8_t access; /* that every line so far allows */
};

/* Account one line of the map. Return false past the range or at a hole in it. */
static bool account(struct range *range, const char *line)
{
	char *after;
	uint64_t first = strtoul(line, &after, 16), last;
	const char *rights;

	if (*after != '-')
		return false;
	last = strtoul(after + 1, &after, 16);
	rights = after + 1; /* "rwxp" */
	if (*after != ' ')
		return false;
	if (last <= range->at)
		return true;
	if (first > range->at)
		return false;
	if (rights[0] != 'r')
		range->access &= (uint8_t)~NX_HOST_READ;
	if (rights[1] != 'w')
		range->access &= (uint8_t)~NX_HOST_WRITE;
	/* KVM alone accesses a device's registers, with exactly the guest's access. */
	if (strstr(line, "vfio"))
		range->access = 0;
	range->at = last;
	return range->at < range->end;
}

static void read_map(int fd, struct range *range)
{
	char text[8192];
	size_t used = 0;
	ssize_t n;

	while ((n = read(fd, text + used, sizeof(text) - 1 - used)) > 0) {
		char *line = text, *newline;

		used += (size_t)n;
		text[used] = 0;
		while ((newline = strchr(line, '\n'))) {
			*newline = 0;
			if (!account(range, line))
				return;
			line = newline + 1;
		}
		used -= (size_t)(line - text);
		memmove(text, line, used);
		if (used == sizeof(text) - 1)
			return;
	}
}

static uint8_t look_up(uint64_t host, uint64_t size)
{
	struct range range = {host, host + size, NX_HOST_READ | NX_HOST_WRITE};
	int saved = errno;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		read_map(fd, &range);
		nx_real.close(fd);
	}
	errno = saved;
	return range.at >= range.end ? range.access : 0;
}

/* ---- Changes of the process's mappings ---- */

/* The bounds of all memory that slots ever covered; most changes lie outside and end here. */
static _Atomic uint64_t covered_from = UINT64_MAX, covered_to;

void nx_host_covered(uint64_t host, uint64_t size)
{
	uint64_t from = atomic_load(&covered_from), to = atomic_load(&covered_to);

	while (host < from && !atomic_compare_exchange_weak(&covered_from, &from, host))
		;
	while (host + size > to && !atomic_compare_exchange_weak(&covered_to, &to, host + size))
		;
}

/* Count the changes in progress. A look-up during one may be stale at once. */
static atomic_uint changing;

struct change {
	uint64_t host, size;
	uint8_t access;
};

static void change_vm(struct nx_object *object, void *data)
{
	struct nx_kvm_vm *vm = (struct nx_kvm_vm *)object;
	const struct change *change = data;

	if (object->type != NX_OBJECT_VM)
		return;
	nx_vm_quiesce(vm);
	for (unsigned i = 0; i < vm->slots; i++) {
		struct nx_slot *slot = &vm->slot[i];

		if (slot->host < change->host + change->size &&
		    change->host < slot->host + slot->size)
			atomic_store(&slot->access, change->access);
	}
	nx_vm_unquiesce(vm);
}

static void set_access(uint64_t host, uint64_t size, uint8_t access)
{
	struct change change = {.host = host, .size = size, .access = access};
	int saved = errno;

	if (nx_host_covers(host, size))
		nx_fd_for_each(change_vm, &change);
	errno = saved;
}

bool nx_host_covers(uint64_t host, uint64_t size)
{
	return host < atomic_load(&covered_to) && atomic_load(&covered_from) < host + size;
}

void nx_host_changes(uint64_t host, uint64_t size)
{
	atomic_fetch_add(&changing, 1);
	set_access(host, size, 0);
}

void nx_host_changed(uint64_t host, uint64_t size)
{
	atomic_fetch_sub(&changing, 1);
	set_access(host, size, NX_HOST_UNKNOWN);
}

/*
 * The caller is inside nx_engine_resume(), and a change waits until every engine is out, so none
 * begins during the look-up. Several vCPUs may look up one slot at a time; all find the same.
 */
uint8_t nx_host_slot_access(struct nx_slot *slot)
{
	uint8_t access = atomic_load_explicit(&slot->access, memory_order_relaxed);

	if (access != NX_HOST_UNKNOWN)
		return access;
	if (atomic_load(&changing))
		return 0;
	access = look_up(slot->host, slot->size);
	atomic_store_explicit(&slot->access, access, memory_order_relaxed);
	return access;
}
