/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * common.h - what every stage uses: the builtins that stand for libc's functions, and how a step of
 * the translation pipeline ends.
 */
#ifndef NX_COMMON_H
#define NX_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "noexit.h"
#include "x86.h"

struct nx_engine;

/*
 * A variable that is written before it is read, on a path that is short: kernels have the compiler
 * fill all others with zeros first.
 */
#if defined(__has_attribute) && __has_attribute(uninitialized)
#define NX_UNINITIALIZED __attribute__((uninitialized))
#else
#define NX_UNINITIALIZED
#endif

/* Its own function, so that the frequent way into it does not pay for its registers and stack. */
#define NX_NOINLINE __attribute__((__noinline__))

/* Calls of memcpy and its like, which the compiler emits on its own as well; the host has them. */
#define nx_memcpy __builtin_memcpy
#define nx_memset __builtin_memset
#define nx_memcmp __builtin_memcmp

/* The result of a step of the translation pipeline. A step takes some microseconds. NX_BLOCKED:
 * the host refused the session that the step takes; the step can be repeated. */
enum nx_progress { NX_MORE, NX_DONE, NX_FAILED, NX_BLOCKED };

/* 2^64 divided by the golden ratio: multiplicative hashing takes the product's upper bits. */
#define NX_HASH_FACTOR 0x9e3779b97f4a7c15ull

/* Return the row of a table with so many rows, at most 4096, in which a guest rip is looked for. */
static inline uint32_t nx_hash_row(uint64_t rip, uint32_t rows)
{
	return (uint32_t)(rip * NX_HASH_FACTOR >> 52) % rows;
}

/* Do one step of a hash. */
static inline uint64_t nx_mix(uint64_t a, uint64_t b)
{
	a = (a ^ (b << 23 | b >> 41)) * NX_HASH_FACTOR;
	return a ^ a >> 29;
}

#endif
