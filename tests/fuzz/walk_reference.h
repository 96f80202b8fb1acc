/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * walk_reference.h - what the processor does to translate a linear address, written a second time:
 * straight from the manual's tables, one entry after the other, for the walk's fuzz target.
 */
#ifndef NX_TESTS_WALK_REFERENCE_H
#define NX_TESTS_WALK_REFERENCE_H

#include "engine.h"

enum reference_result {
	REFERENCE_OK,
	REFERENCE_FAULT,    /* #PF, #GP or #SS: memory unchanged */
	REFERENCE_UNKNOWN,  /* depends on what an engine does not know (PKRS) */
	REFERENCE_NO_TABLE, /* an entry does not lie in memory */
};

#define REFERENCE_LEVELS 5

struct reference {
	enum reference_result result;
	uint64_t gpa;
	/* OK: the entries that get bits, from the root on, and which. */
	unsigned entries;
	uint64_t entry[REFERENCE_LEVELS], set[REFERENCE_LEVELS];
	uint64_t pdpte; /* where the PDPTE was read, which gets none; or 0 */
};

/* Read an entry of guest-physical memory; return false if there is none. */
typedef bool reference_read(uint64_t gpa, unsigned size, uint64_t *value);

void reference_walk(const struct nx_state *state, bool user, bool ac, uint64_t linear,
		    enum nx_access access, reference_read *read, struct reference *out);

#endif
