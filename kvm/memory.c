/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * memory.c - what an engine lives in: an arena, and a code cache in two mappings of one file that
 * has no name, so that nothing in this process is ever writable and executable at one address.
 */
#define _GNU_SOURCE
#include "host.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_round(size_t size)
{
	return (size + NX_HOST_PAGE - 1) & ~(size_t)(NX_HOST_PAGE - 1);
}

static bool code_cache_get(struct nx_memory *memory, size_t size)
{
	int fd = nx_faulty(NX_FAULT_MEMFD) ? -1 : memfd_create("noexit-code", MFD_CLOEXEC);
	void *rw = MAP_FAILED, *rx = MAP_FAILED;

	if (fd < 0)
		return false;
	if (!ftruncate(fd, (off_t)size)) {
		rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (!nx_faulty(NX_FAULT_EXECUTABLE))
			rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	}
	nx_real.close(fd);
	if (rw == MAP_FAILED || rx == MAP_FAILED) {
		if (rw != MAP_FAILED)
			munmap(rw, size);
		if (rx != MAP_FAILED)
			munmap(rx, size);
		return false;
	}
	/* A forked child must not scribble on its parent's translations. */
	madvise(rw, size, MADV_DONTFORK);
	madvise(rx, size, MADV_DONTFORK);
	memory->code_rw = rw;
	memory->code_rx = rx;
	memory->code_size = size;
	return true;
}

bool nx_memory_get(struct nx_memory *memory, size_t code_size)
{
	size_t size = page_round(nx_engine_arena_size());
	void *arena = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*memory = (struct nx_memory){0};
	if (arena == MAP_FAILED)
		return false;
	memory->arena = arena;
	memory->arena_size = size;
	if (!nx_faulty(NX_FAULT_ARENA) && code_cache_get(memory, page_round(code_size)))
		return true;
	nx_memory_put(memory);
	return false;
}

void nx_memory_put(struct nx_memory *memory)
{
	if (memory->arena)
		munmap(memory->arena, memory->arena_size);
	if (memory->code_rw) {
		munmap(memory->code_rw, memory->code_size);
		munmap(memory->code_rx, memory->code_size);
	}
	*memory = (struct nx_memory){0};
}
