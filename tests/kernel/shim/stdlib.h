/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef NX_SHIM_STDLIB_H
#define NX_SHIM_STDLIB_H

#include <stddef.h>

void *shim_calloc(size_t count, size_t size);
void shim_free(void *memory);
#define calloc shim_calloc
#define free shim_free

#endif
