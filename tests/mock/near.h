/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * near.h - memory within reach of a direct branch: a process maps its code and what it asks for in
 * different parts of its addresses.
 */
#ifndef NX_TESTS_NEAR_H
#define NX_TESTS_NEAR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

/* Map memory as mmap() does, within 1 GiB of the place if the addresses there are free. */
static inline void *map_near(const void *place, size_t size, int protection, int flags, int fd)
{
	uint64_t page = (uintptr_t)place & ~(uint64_t)0xfff;
	void *at = MAP_FAILED;

	for (int64_t i = 2; i < 2 * 64; i++) {
		uint64_t wanted = page + (uint64_t)((i % 2 ? i / 2 : -i / 2) * (1 << 24));
		int64_t distance;

		/* Without MAP_FIXED the address is a wish. */
		at = mmap((void *)(uintptr_t)wanted, size, protection, flags, fd, 0);
		distance = (int64_t)((uintptr_t)at - page);
		if (at == MAP_FAILED || (distance > -(1 << 30) && distance < 1 << 30))
			return at;
		munmap(at, size);
	}
	return mmap(NULL, size, protection, flags, fd, 0);
}

#endif
