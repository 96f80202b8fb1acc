/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * paths.h - the paths on which control went from one exit to the next, for clusters across indirect
 * branches, and the calls around a branch.
 */
#ifndef NX_PATHS_H
#define NX_PATHS_H

#include "common.h"

#define NX_MAX_TARGETS 4 /* of one indirect branch */

/*
 * The calls that a path has made and not returned from, innermost first: a list by index; 0 is the
 * outermost, whatever it is. Small functions that everybody calls (accessors, return thunks) are
 * told apart by it, as if they were inlined.
 */
#define NX_MAX_CONTEXTS 64

struct nx_context_call {
	uint64_t back; /* where the call returns to */
	uint64_t hash; /* of this and all outer ones */
	uint16_t outer;
};

struct nx_contexts {
	struct nx_context_call call[NX_MAX_CONTEXTS];
	uint16_t count; /* with the outermost, which is never looked at */
};

/* The context after a call that returns to back; the same one when there is no room. */
uint16_t nx_context_push(struct nx_contexts *contexts, uint16_t context, uint64_t back);
/* The context after a return. */
uint16_t nx_context_pop(const struct nx_contexts *contexts, uint16_t context);
static inline uint64_t nx_context_hash(const struct nx_contexts *contexts, uint16_t context)
{
	return context ? contexts->call[context].hash : 0;
}
/*
 * A branch's name: its rip, the calls around it, and the jump that led straight to it (0: none),
 * which tells the users of a shared return instruction apart.
 */
uint64_t nx_path_name(uint64_t rip, uint64_t context_hash, uint64_t via);

/*
 * Observed control flow: for branches, by name, which ways they went on paths that led from one
 * exit to the next. Lossy: an old branch gives way to a new one.
 */
#define NX_PATH_SLOTS 1024
#define NX_PATH_PROBES 8

struct nx_path {
	uint64_t from; /* the branch's name */
	uint64_t to[NX_MAX_TARGETS];
	uint8_t targets;
	uint16_t leaves; /* how often clusters were left here since the last trace */
	uint8_t traces;  /* made from here: each doubles the leaves to wait for */
	bool failed;     /* the latest one met no exit */
};

struct nx_paths {
	struct nx_path slot[NX_PATH_SLOTS];
	unsigned victim;
};

void nx_paths_note(struct nx_paths *paths, uint64_t from, uint64_t to);
bool nx_paths_seen(const struct nx_paths *paths, uint64_t from, uint64_t to);
/* Copies the targets seen; returns how many. */
unsigned nx_paths_targets(const struct nx_paths *paths, uint64_t from, uint64_t *to);
/* A cluster was left at this branch, the first time after so many: time to trace on from there? */
bool nx_paths_leave(struct nx_paths *paths, uint64_t from, unsigned first);
/* found: the trace met an exit. */
void nx_paths_traced(struct nx_paths *paths, uint64_t from, bool found);
/* The way was seen, and following it from here has not failed lately. */
bool nx_paths_leads(const struct nx_paths *paths, uint64_t from, uint64_t to);

#endif
