/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * ioeventfd.c - signal the eventfd of a guest write that KVM would turn into a signal.
 *
 * The host signals a duplicate, because KVM keeps the eventfd when the VMM closes its descriptor.
 * The duplicate is registered in the descriptor table. If a VMM closes every open descriptor, the
 * entry is cleared, the write is left to KVM, and no other file can receive it.
 */
#define _GNU_SOURCE
#include "host.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define IDENTITY (KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH)

static void descriptor_release(struct nx_object *object)
{
	(void)object;
}

/* Duplicate fd into *number. Return NULL if that fails; KVM then signals the eventfd. */
static struct nx_object *descriptor_get(int fd, int *number)
{
	struct nx_object *object;

	*number = nx_fd_private(fd);
	if (*number < 0)
		return NULL;
	object = nx_object_new(NX_OBJECT_EVENTFD, sizeof(*object), descriptor_release);
	if (object) {
		atomic_fetch_add(&object->count, 1);
		nx_fd_set(*number, object);
	} else {
		nx_real.close(*number);
	}
	return object;
}

static bool is_ours(const struct nx_ioeventfd *event)
{
	return event->object && nx_fd_is(event->own_fd, event->object);
}

static void event_put(struct nx_ioeventfd *event)
{
	bool ours = is_ours(event);

	if (!event->object)
		return;
	if (ours) {
		nx_fd_clear(event->own_fd);
		nx_real.close(event->own_fd);
	}
	nx_object_put(event->object);
}

/* Return whether the arguments name this ioeventfd; KVM keeps these members unique together. */
static bool same(const struct nx_ioeventfd *event, const struct kvm_ioeventfd *args)
{
	return event->address == args->addr && event->len == args->len &&
	       event->flags == (args->flags & IDENTITY) &&
	       (!(event->flags & KVM_IOEVENTFD_FLAG_DATAMATCH) ||
		event->datamatch == args->datamatch);
}

static void deassign(struct nx_kvm_vm *vm, const struct kvm_ioeventfd *args)
{
	unsigned count = atomic_load(&vm->ioeventfds);

	for (unsigned i = 0; i < count; i++) {
		if (same(&vm->ioeventfd[i], args)) {
			event_put(&vm->ioeventfd[i]);
			vm->ioeventfd[i] = vm->ioeventfd[count - 1];
			atomic_store(&vm->ioeventfds, count - 1);
			return;
		}
	}
}

bool nx_ioeventfd_set(struct nx_kvm_vm *vm, const struct kvm_ioeventfd *args)
{
	unsigned count = atomic_load(&vm->ioeventfds);
	struct nx_ioeventfd *event;

	/* This flag belongs to s390 and never matches here. */
	if (args->flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY)
		return true;
	if (args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN) {
		deassign(vm, args);
		return true;
	}
	event = nx_array_room(vm->ioeventfd, &vm->ioeventfd_capacity, count, sizeof(*event));
	if (!event)
		return false;
	vm->ioeventfd = event;
	event += count;
	*event = (struct nx_ioeventfd){
	    .address = args->addr,
	    .datamatch = args->datamatch,
	    .len = args->len,
	    .flags = args->flags & IDENTITY,
	};
	event->object = descriptor_get(args->fd, &event->own_fd);
	atomic_store(&vm->ioeventfds, count + 1);
	return true;
}

void nx_ioeventfd_clear(struct nx_kvm_vm *vm)
{
	for (unsigned i = 0; i < atomic_load(&vm->ioeventfds); i++)
		event_put(&vm->ioeventfd[i]);
	free(vm->ioeventfd);
}

/* Return whether bus, address and length match; the data is compared elsewhere. */
static bool covers(const struct nx_ioeventfd *event, bool pio, uint64_t address, unsigned size)
{
	return event->address == address && !!(event->flags & KVM_IOEVENTFD_FLAG_PIO) == pio &&
	       (!event->len || event->len == size);
}

bool nx_ioeventfd_foreign(const struct nx_kvm_vm *vm, bool pio, uint64_t address, unsigned size)
{
	unsigned count = atomic_load(&vm->ioeventfds);

	for (unsigned i = 0; i < count; i++) {
		if (covers(&vm->ioeventfd[i], pio, address, size) && !is_ours(&vm->ioeventfd[i]))
			return true;
	}
	return false;
}

bool nx_ioeventfd_covers(const struct nx_kvm_vm *vm, bool pio, uint64_t address, unsigned size)
{
	unsigned count = atomic_load(&vm->ioeventfds);

	for (unsigned i = 0; i < count; i++) {
		if (covers(&vm->ioeventfd[i], pio, address, size))
			return true;
	}
	return false;
}

static bool signal_one(const struct nx_kvm_vm *vm, bool pio, uint64_t address, unsigned size,
		       uint64_t value)
{
	static const uint64_t one = 1;
	unsigned count = atomic_load(&vm->ioeventfds);

	for (unsigned i = 0; i < count; i++) {
		const struct nx_ioeventfd *event = &vm->ioeventfd[i];

		/* KVM compares all 64 bits of datamatch. */
		if (!covers(event, pio, address, size) ||
		    (event->flags & KVM_IOEVENTFD_FLAG_DATAMATCH && event->datamatch != value))
			continue;
		return is_ours(event) && write(event->own_fd, &one, sizeof(one)) == sizeof(one);
	}
	return false;
}

/* Signal each element of an OUTS by itself, and move the VMM's elements together. */
static bool signal_string(const struct nx_kvm_vm *vm, struct nx_exit *exit)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < exit->count; i++) {
		const uint8_t *element = exit->string + (size_t)i * exit->size;
		uint64_t value = 0;

		__builtin_memcpy(&value, element, exit->size);
		if (!signal_one(vm, true, exit->port, exit->size, value))
			__builtin_memmove(exit->string + (size_t)left++ * exit->size, element,
					  exit->size);
	}
	exit->count = left;
	return !left;
}

bool nx_ioeventfd_signal(const struct nx_kvm_vm *vm, struct nx_exit *exit)
{
	bool io = exit->kind == NX_EXIT_IO, all;
	int saved = errno;

	if (exit->string)
		all = signal_string(vm, exit);
	else
		all = signal_one(vm, io, io ? exit->port : exit->gpa, exit->size, exit->data);
	errno = saved;
	return all;
}
