/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* paths.c - the edges that branches were seen to take, and the calls around them; see paths.h. */
#include "engine.h"

/* The side exits at one branch before a trace starts there; each trace doubles the number. */
#define FIRST_LEAVES 2u
/* The same with nx_config.eager and without costs. */
#define EAGER_LEAVES 1u
#define MAX_TRACES 6u

uint64_t nx_path_name(uint64_t rip, uint64_t context_hash, uint64_t via)
{
	/* 0 stands for no branch. */
	return nx_mix(nx_mix(rip, context_hash), via) | 1;
}

uint16_t nx_context_push(struct nx_contexts *contexts, uint16_t context, uint64_t back)
{
	uint64_t hash = nx_mix(nx_context_hash(contexts, context) + 1, back);
	struct nx_context_call *call;

	for (uint16_t i = 1; i < contexts->count; i++)
		if (contexts->call[i].hash == hash && contexts->call[i].outer == context)
			return i;
	if (contexts->count == NX_MAX_CONTEXTS)
		return context;
	call = &contexts->call[contexts->count];
	*call = (struct nx_context_call){back, hash, context};
	return contexts->count++;
}

uint16_t nx_context_pop(const struct nx_contexts *contexts, uint16_t context)
{
	return context ? contexts->call[context].outer : 0;
}

static unsigned first_slot(uint64_t from)
{
	return (unsigned)((from * NX_HASH_FACTOR) >> 54) % NX_PATH_SLOTS;
}

static struct nx_path *find(const struct nx_paths *paths, uint64_t from)
{
	unsigned slot = first_slot(from);

	for (unsigned i = 0; i < NX_PATH_PROBES; i++, slot = (slot + 1) % NX_PATH_SLOTS)
		if (paths->slot[slot].from == from)
			return (struct nx_path *)(uintptr_t)&paths->slot[slot];
	return NULL;
}

static struct nx_path *find_or_make(struct nx_paths *paths, uint64_t from)
{
	struct nx_path *path = find(paths, from);
	unsigned slot = first_slot(from);

	for (unsigned i = 0; !path && i < NX_PATH_PROBES; i++)
		if (!paths->slot[(slot + i) % NX_PATH_SLOTS].from)
			path = &paths->slot[(slot + i) % NX_PATH_SLOTS];
	if (!path)
		path = &paths->slot[(slot + paths->victim++ % NX_PATH_PROBES) % NX_PATH_SLOTS];
	if (path->from != from) {
		nx_memset(path, 0, sizeof(*path));
		path->from = from;
	}
	return path;
}

void nx_paths_note(struct nx_paths *paths, uint64_t from, uint64_t to)
{
	struct nx_path *path = find_or_make(paths, from);

	for (unsigned i = 0; i < path->targets; i++)
		if (path->to[i] == to)
			return;
	if (path->targets < NX_MAX_TARGETS) {
		path->to[path->targets++] = to;
		return;
	}
	/* Drop the oldest target: a branch with many of them is followed to the latest ones. */
	for (unsigned i = 1; i < NX_MAX_TARGETS; i++)
		path->to[i - 1] = path->to[i];
	path->to[NX_MAX_TARGETS - 1] = to;
}

bool nx_paths_seen(const struct nx_paths *paths, uint64_t from, uint64_t to)
{
	const struct nx_path *path = find(paths, from);

	for (unsigned i = 0; path && i < path->targets; i++)
		if (path->to[i] == to)
			return true;
	return false;
}

bool nx_paths_leads(const struct nx_paths *paths, uint64_t from, uint64_t to)
{
	return nx_paths_seen(paths, from, to) && !find(paths, from)->failed;
}

unsigned nx_paths_targets(const struct nx_paths *paths, uint64_t from, uint64_t *to)
{
	const struct nx_path *path = find(paths, from);

	if (!path)
		return 0;
	nx_memcpy(to, path->to, path->targets * sizeof(*to));
	return path->targets;
}

bool nx_paths_leave(struct nx_paths *paths, uint64_t from, unsigned first)
{
	struct nx_path *path = find_or_make(paths, from);
	unsigned least = paths->eager && !first ? EAGER_LEAVES : FIRST_LEAVES;

	path->free = !first;
	if (path->leaves < UINT16_MAX)
		path->leaves++;
	if (first < least)
		first = least;
	return path->leaves >= first << path->traces;
}

/*
 * Back off after a success, too: a branch may have more targets than fit. Without costs, where each
 * exit is worth a trace, one success makes up for one failure: a guest that begins again and again
 * in new memory meets a page that is not there yet every time, and an exit behind it the next. An
 * eager engine backs off after failures only.
 */
void nx_paths_traced(struct nx_paths *paths, uint64_t from, bool found)
{
	struct nx_path *path = find_or_make(paths, from);
	uint8_t least = paths->eager ? 0 : 1;

	path->failed = !found;
	if (found)
		path->excused = false;
	path->leaves = 0;
	if (found && path->free)
		path->traces = path->traces > least ? path->traces - 1 : least;
	else if (path->traces < MAX_TRACES)
		path->traces++;
}

bool nx_paths_excuse(struct nx_paths *paths, uint64_t from)
{
	struct nx_path *path = find_or_make(paths, from);

	if (path->excused)
		return false;
	path->excused = true;
	return true;
}

void nx_paths_fruitful(struct nx_paths *paths, uint64_t from)
{
	find_or_make(paths, from)->excused = false;
}
