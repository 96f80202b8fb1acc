/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * paths.h - the paths on which control went from one exit to the next, for clusters across indirect
 * branches, and the calls around a branch.
 */
#ifndef NX_PATHS_H
#define NX_PATHS_H

#include "common.h"

/* Of one indirect branch. A function with a switch and a dozen callers, such as the C library's for
 * the sizes of caches, has as many. */
#define NX_MAX_TARGETS 12

/* The calls that a path has made and not returned from, innermost first, as a list by index; 0
 * is the outermost, which is unknown. It tells apart the callers of small functions (accessors,
 * return thunks), as if these were inlined. */
#define NX_MAX_CONTEXTS 64

struct nx_context_call {
	uint64_t back; /* the call's return address */
	uint64_t hash; /* of this and all outer ones */
	uint16_t outer;
};

struct nx_contexts {
	struct nx_context_call call[NX_MAX_CONTEXTS];
	uint16_t count; /* with the outermost, which is never looked at */
};

/* Return the context after a call that returns to back, or the same one if there is no room. */
uint16_t nx_context_push(struct nx_contexts *contexts, uint16_t context, uint64_t back);
/* Return the context after a return. */
uint16_t nx_context_pop(const struct nx_contexts *contexts, uint16_t context);
static inline uint64_t nx_context_hash(const struct nx_contexts *contexts, uint16_t context)
{
	return context ? contexts->call[context].hash : 0;
}
/* Return a branch's name, made of its rip, the calls around it, and the jump that led straight
 * to it (or 0), which tells the users of a shared return instruction apart. */
uint64_t nx_path_name(uint64_t rip, uint64_t context_hash, uint64_t via);

/* Observed control flow: the edges that branches, by name, took on paths from one exit to the
 * next. The table is lossy: a new branch replaces an old one. */
#define NX_PATH_SLOTS 1024
#define NX_PATH_PROBES 8

struct nx_path {
	uint64_t from; /* the branch's name */
	uint64_t to[NX_MAX_TARGETS];
	uint8_t targets;
	uint16_t leaves; /* how often clusters were left here since the last trace */
	uint8_t traces;  /* traces from here: each doubles the number of side exits to wait for */
	bool failed;     /* the latest one met no exit */
	bool excused;    /* one since the last success met a missing page instead */
	bool free;       /* there were no costs when it was left last */
};

struct nx_paths {
	struct nx_path slot[NX_PATH_SLOTS];
	unsigned victim;
	bool eager; /* nx_config */
};

void nx_paths_note(struct nx_paths *paths, uint64_t from, uint64_t to);
bool nx_paths_seen(const struct nx_paths *paths, uint64_t from, uint64_t to);
/* Copy the observed targets; return how many there are. */
unsigned nx_paths_targets(const struct nx_paths *paths, uint64_t from, uint64_t *to);
/* Count a side exit at this branch, the first one after so many; return whether to trace from
 * there. */
bool nx_paths_leave(struct nx_paths *paths, uint64_t from, unsigned first);
/* Note the end of a trace; found says that it met an exit. */
void nx_paths_traced(struct nx_paths *paths, uint64_t from, bool found);
/* A trace has met a missing page: return whether that is forgiven, which it is once until a trace
 * meets an exit. */
bool nx_paths_excuse(struct nx_paths *paths, uint64_t from);
/* Note that a known path from here has led to an exit. */
void nx_paths_fruitful(struct nx_paths *paths, uint64_t from);
/* Return whether the edge was observed and following it from here has not failed lately. */
bool nx_paths_leads(const struct nx_paths *paths, uint64_t from, uint64_t to);

#endif
