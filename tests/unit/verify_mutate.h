/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * verify_mutate.h - attacks the verifier with mutants of a translation: every bit flipped, bytes
 * replaced, instructions deleted, doubled, swapped and inserted, immediate and displacement
 * fields set to telling values; and chains of mutants of accepted mutants. What the verifier
 * refuses is counted; what it accepts is judged by verify_oracle() and verify_sandbox().
 */
#ifndef NX_TESTS_VERIFY_MUTATE_H
#define NX_TESTS_VERIFY_MUTATE_H

#include "engine.h"

#define VERIFY_MUTATE_MAX_CODE 16384u /* bytes of a translation */

struct verify_mutation {
	unsigned long mutants, refused, accepted;
	/* Accepted, and harmful in a judge's eyes: must stay 0. Each is printed. */
	unsigned long harmful;
};

/* Add to *sum. The code itself must be one that the verifier accepts. */
void verify_mutate(const char *name, const uint8_t *code, const struct nx_translation *t,
		   const struct nx_thunks *thunks, uint64_t seed, struct verify_mutation *sum);

/* So many mutants of all kinds, picked at random, instead of thousands: for many translations. */
void verify_mutate_sample(const char *name, const uint8_t *code, const struct nx_translation *t,
			  const struct nx_thunks *thunks, uint64_t seed, unsigned count,
			  struct verify_mutation *sum);

void verify_mutation_print(const struct verify_mutation *sum);

#endif
