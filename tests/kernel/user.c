// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * user.c - the self-test as a process: the module has to print the same lines in a kernel.
 */
#define _GNU_SOURCE
#include "selftest.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../mock/near.h"

/* The size of the mapping is stored in front of the memory, for munmap(). */
#define HEADER 4096ul

void *selftest_alloc(unsigned long size)
{
	unsigned long *memory =
	    mmap(NULL, size + HEADER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	*memory = size + HEADER;
	return (char *)memory + HEADER;
}

void selftest_free(void *memory)
{
	unsigned long *header = (unsigned long *)((char *)memory - HEADER);

	munmap(header, *header);
}

int selftest_code_make(struct selftest_code *code, unsigned long size)
{
	int file = memfd_create("noexit-selftest", MFD_CLOEXEC);

	if (file < 0)
		return 0;
	if (ftruncate(file, (off_t)size)) {
		close(file);
		return 0;
	}
	code->size = size;
	code->rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	code->rx =
	    map_near((const void *)selftest_run, size, PROT_READ | PROT_EXEC, MAP_SHARED, file);
	close(file);
	return code->rw != MAP_FAILED && code->rx != MAP_FAILED;
}

void selftest_code_free(struct selftest_code *code)
{
	munmap(code->rw, code->size);
	munmap(code->rx, code->size);
}

void selftest_print(const char *line)
{
	puts(line);
}

int main(void)
{
	return selftest_run() ? 1 : 0;
}
