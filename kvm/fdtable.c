/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * fdtable.c - which file descriptor is which VM or vCPU.
 *
 * Rules
 *  1. An entry is cleared before its descriptor is closed: from the close on, another thread may
 *     get the same number for something else.
 *  2. An object's memory is recycled for the same type only and never unmapped, so a reader that
 *     loses a race against a close still reads a count, finds it zero, and gives up.
 *  3. Descriptors that we do not see (duplicates made by system calls of the VMM's own, numbers
 *     beyond the table) are passed through: no entry, no clustering.
 */
#include "host.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define NX_FD_MAX 65536

static _Atomic(struct nx_object *) table[NX_FD_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* writers of table, free_list */
static struct nx_object *free_list[NX_OBJECT_TYPES];
static atomic_int highest = -1;

int nx_fd_private(int fd)
{
	int number = fcntl(fd, F_DUPFD_CLOEXEC, 512);

	return number >= 0 ? number : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

int nx_fd_move_up(int fd)
{
	int number = nx_fd_private(fd);

	if (number < 0)
		return fd;
	nx_real.close(fd);
	return number;
}

NX_HOT static bool count_get(struct nx_object *object)
{
	int count = atomic_load(&object->count);

	while (count > 0) {
		if (atomic_compare_exchange_weak(&object->count, &count, count + 1))
			return true;
	}
	return false;
}

NX_HOT struct nx_object *nx_object_get(int fd)
{
	if ((unsigned)fd >= NX_FD_MAX)
		return NULL;
	for (;;) {
		struct nx_object *object = atomic_load(&table[fd]);

		if (!object)
			return NULL;
		if (count_get(object)) {
			if (atomic_load(&table[fd]) == object)
				return object;
			nx_object_put(object);
		}
	}
}

NX_HOT void nx_object_put(struct nx_object *object)
{
	if (atomic_fetch_sub(&object->count, 1) != 1)
		return;
	object->release(object);
	pthread_mutex_lock(&lock);
	object->next_free = free_list[object->type];
	free_list[object->type] = object;
	pthread_mutex_unlock(&lock);
}

struct nx_object *nx_object_new(enum nx_object_type type, size_t size,
				void (*release)(struct nx_object *object))
{
	struct nx_object *object;

	pthread_mutex_lock(&lock);
	object = free_list[type];
	if (object)
		free_list[type] = object->next_free;
	pthread_mutex_unlock(&lock);

	if (object)
		memset((char *)object + sizeof(*object), 0, size - sizeof(*object));
	else
		object = calloc(1, size);
	if (!object)
		return NULL;
	object->type = type;
	object->release = release;
	object->next_free = NULL;
	atomic_store(&object->count, 1);
	return object;
}

static struct nx_object *exchange(int fd, struct nx_object *object)
{
	struct nx_object *before;

	pthread_mutex_lock(&lock);
	before = atomic_exchange(&table[fd], object);
	if (object && fd > atomic_load(&highest))
		atomic_store(&highest, fd);
	pthread_mutex_unlock(&lock);
	return before;
}

void nx_fd_set(int fd, struct nx_object *object)
{
	struct nx_object *before = object;

	if ((unsigned)fd < NX_FD_MAX)
		before = exchange(fd, object);
	if (before)
		nx_object_put(before);
}

bool nx_fd_known(int fd)
{
	return (unsigned)fd < NX_FD_MAX && atomic_load(&table[fd]);
}

bool nx_fd_is(int fd, const struct nx_object *object)
{
	return (unsigned)fd < NX_FD_MAX && atomic_load(&table[fd]) == object;
}

void nx_fd_clear(int fd)
{
	struct nx_object *before;

	if (!nx_fd_known(fd))
		return;
	before = exchange(fd, NULL);
	if (before)
		nx_object_put(before);
}

void nx_fd_clear_range(unsigned first, unsigned last)
{
	int end = atomic_load(&highest);

	for (unsigned fd = first; (int)fd <= end && fd <= last; fd++)
		nx_fd_clear((int)fd);
}

void nx_fd_copy(int old, int new_fd)
{
	struct nx_object *object = nx_object_get(old);

	if (object)
		nx_fd_set(new_fd, object);
}

void nx_fd_for_each(void (*visit)(struct nx_object *object, void *data), void *data)
{
	int end = atomic_load(&highest);

	for (int fd = 0; fd <= end; fd++) {
		struct nx_object *object = nx_object_get(fd);

		if (object) {
			visit(object, data);
			nx_object_put(object);
		}
	}
}
