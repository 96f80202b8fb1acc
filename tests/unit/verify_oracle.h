/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * verify_oracle.h - two judges of code that the verifier accepted, neither of which knows how the
 * verifier works. Both return NULL or what is wrong with the code.
 */
#ifndef NX_TESTS_VERIFY_ORACLE_H
#define NX_TESTS_VERIFY_ORACLE_H

#include "engine.h"

/*
 * Follows every path from every entry, with what is known of r14, r11, r10, the flags and two
 * slots, to a fixed point: by meaning, where the verifier goes by form and by address. What it saw
 * of control must end once all edges that count a turn are cut.
 */
const char *verify_oracle(const uint8_t *code, uint32_t size, const struct nx_translation *t,
			  const struct nx_thunks *thunks, uint32_t *where);

/* Its part with nx_memory.blind: no constant stands in the code but in the form for it, with its
 * key. */
const char *verify_oracle_constants(const uint8_t *code, uint32_t size,
				    const struct nx_thunks *thunks, uint32_t *where);

/*
 * Run the code natively from every entry, the context and the guest's memory between guard
 * pages, and look for faults, writes to what is not the code's, leaked host addresses, and code
 * that does not end with its turns. Direct branches to the thunks are led to the sandbox's.
 */
const char *verify_sandbox(const uint8_t *code, uint32_t size, const struct nx_translation *t,
			   const struct nx_thunks *thunks, uint64_t seed);

struct verify_sandbox_stats {
	unsigned long runs, exits, misses, helpers;
};
extern struct verify_sandbox_stats verify_sandbox_stats;

#endif
