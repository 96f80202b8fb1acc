/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Memory as tests/mock asks for it: zeroed pages, and a file that is mapped writable and
 * executable, once each. */
#ifndef NX_SHIM_SYS_MMAN_H
#define NX_SHIM_SYS_MMAN_H

#include <stddef.h>

#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_ANONYMOUS 0x20
#define MAP_FAILED ((void *)-1)
#define MFD_CLOEXEC 1

void *shim_mmap(void *where, size_t size, int protection, int flags, int file, long offset);
int shim_munmap(void *memory, size_t size);
int shim_memfd_create(const char *name, unsigned flags);
#define mmap shim_mmap
#define munmap shim_munmap
#define memfd_create shim_memfd_create

#endif
