/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * fuzz.h - what the fuzz targets share.
 *
 * Each target is one file with LLVMFuzzerTestOneInput(), built twice: with libFuzzer under the
 * address and undefined-behaviour sanitizers, where clang is there, and with replay.c by the
 * build's own compiler, which runs the inputs of the corpus once. A broken promise of the engine
 * ends the process with a sentence and abort(); libFuzzer then keeps the input.
 */
#ifndef NX_TESTS_FUZZ_H
#define NX_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition, ...)                               \
	do {                                                     \
		if (!(condition)) {                              \
			fprintf(stderr, "broken: " __VA_ARGS__); \
			fprintf(stderr, " (%s)\n", #condition);  \
			abort();                                 \
		}                                                \
	} while (0)

/* Compare as bytes, padding included, copies of one another that nobody may have written to. */
static inline bool fuzz_same(const void *a, const void *b, size_t size)
{
	return memcmp(a, b, size) == 0;
}

struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

/* An input that is too short reads as zeros: every input means something. */
static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
	if (!input->size)
		return 0;
	input->size--;
	return *input->data++;
}

static inline uint64_t fuzz_word(struct fuzz_input *input, unsigned bytes)
{
	uint64_t word = 0;

	for (unsigned i = 0; i < bytes; i++)
		word |= (uint64_t)fuzz_byte(input) << 8 * i;
	return word;
}

#endif
