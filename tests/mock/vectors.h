/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* vectors.h - the registers XMM0 to XMM15 of a guest, as the hosts of tests keep them. */
#ifndef NX_TEST_VECTORS_H
#define NX_TEST_VECTORS_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define VECTOR_REGISTERS 16u

typedef uint64_t vector_registers[VECTOR_REGISTERS][2];

/* What nx_host.read_vector and nx_host.write_vector do. */
static inline bool vector_read(const uint64_t (*registers)[2], unsigned number, void *to)
{
	assert(number < VECTOR_REGISTERS);
	memcpy(to, registers[number], sizeof(registers[number]));
	return true;
}

static inline bool vector_write(uint64_t (*registers)[2], unsigned number, const void *from)
{
	assert(number < VECTOR_REGISTERS);
	memcpy(registers[number], from, sizeof(registers[number]));
	return true;
}

#endif
