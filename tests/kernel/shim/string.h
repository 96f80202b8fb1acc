/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef NX_SHIM_STRING_H
#define NX_SHIM_STRING_H

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
int strcmp(const char *a, const char *b);

#endif
