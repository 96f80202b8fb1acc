/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cluster.h - translations: make.c drives formation, translation and verification; cache.c keeps
 * what they make and finds it by entry.
 */
#ifndef NX_CLUSTER_H
#define NX_CLUSTER_H

#include "form/graph.h"
#include "translate/site.h"

#define NX_MAX_CLUSTERS 1024
#define NX_ENTRY_BUCKETS 4096 /* a power of 2; filled to three quarters at most */
#define NX_NEAR_WORDS 64
#define NX_STORE_BYTES (1024u * 1024) /* sites, entries and guest bytes of all clusters */

/* A translated cluster. Immutable from translation to the next flush, but for the counters. */
struct nx_cluster {
	uint64_t rip, cs_base;
	uint32_t cs_limit;
	struct nx_mode mode;
	/* Lookup finds valid clusters only. The memory of the others is reclaimed by the next
	 * flush. */
	enum {
		NX_CLUSTER_VALID,
		NX_CLUSTER_DROPPED,  /* stale, or of no use */
		NX_CLUSTER_OUTGROWN, /* to be rebuilt with a path that is not in it */
	} state;
	uint64_t graph_hash;
	uint64_t side_exit_cost_ns; /* the cost of side exits onto known paths that it lacks */
	uint16_t side_exits;        /* onto such paths, counted without costs */
	uint8_t reform_failures;    /* rebuilds that gave the same graph: each doubles the wait */
	uint16_t insns, exiting, blocks, fragments, sites, entries;
	uint32_t code, code_size; /* offset in the code cache */
	struct nx_fragment *fragment;
	struct nx_cluster_block *block;
	struct nx_context_call *context; /* contexts of them */
	uint16_t contexts;
	uint8_t *bytes; /* of the fragments, one after the other */
	struct nx_site *site;
	struct nx_entry *entry;
	const struct nx_insn
	    *last; /* of a trace's block: the instruction that decides where control goes */
	uint64_t executions, exits;
	uint64_t stays, exits_mmio, exits_insn, made_ns; /* as nx_cluster_info has them */
};

struct nx_cache {
	uint32_t code_begin, code_end, code_used; /* offsets in the code memory */
	struct nx_cluster cluster[NX_MAX_CLUSTERS];
	uint32_t clusters;
	/* Open hash of entry points: cluster + 1 (0 if free) and its entry's index. */
	struct nx_bucket {
		uint16_t cluster, entry;
	} bucket[NX_ENTRY_BUCKETS];
	/* A bit for each 16 bytes of guest code in which an entry lies, and for some others. */
	uint64_t near[NX_NEAR_WORDS];
	uint32_t entries;
	uint8_t store[NX_STORE_BYTES] __attribute__((aligned(8)));
	uint32_t store_used;
};

/* A cluster that is being built (make.c). */
struct nx_maker {
	enum { NX_MAKER_IDLE, NX_MAKER_FORMS, NX_MAKER_TRANSLATES, NX_MAKER_VERIFIES } stage;
	uint64_t rip, cs_base; /* the mode is the graph's */
	uint32_t cs_limit;
	bool earned; /* exits have cost enough for it */
	uint64_t spent_ns;
	unsigned others; /* other build requests since work on this one went on */
};

/* ---- make.c ---- */

/* Translate the engine's graph in scratch memory (emitted) and have it verified. The code is for
 * this offset of the code memory if its branches are direct. Return NX_OK, or why there is no code:
 * NX_LEAVE_UNTRANSLATED, NX_LEAVE_REFUSED. */
enum nx_status nx_make_emitted(struct nx_engine *engine, uint32_t place);
/* Do nx_make_emitted() and keep the result among the blocks, as nx_cache_add() does. On NULL
 * *status says why. */
struct nx_cluster *nx_make_block(struct nx_engine *engine, enum nx_status *status);
/* Return the cluster that begins at rip, for exits at pc, building it as far as time permits;
 * later calls go on from there. On NULL *status is a pause (nx_status_is_pause()) if building goes
 * on next time; NX_LEAVE_COLD if it has not been earned (unless earned says that it has) or another
 * one is being built; NX_LEAVE_NO_CLUSTER if formation has found nothing; or that of
 * nx_make_emitted() or nx_cache_add(). */
struct nx_cluster *nx_make_cluster(struct nx_engine *engine, uint64_t rip, uint64_t pc, bool earned,
				   enum nx_status *status);
/* Return whether another cluster is being built, and not for too long. Call this before
 * building. */
bool nx_make_is_busy(struct nx_engine *engine);
/* Give up the cluster that is being built, because something else needs the scratch memory. */
void nx_make_abandon(struct nx_engine *engine);

/* ---- cache.c ---- */

/* Make an empty cache for the code memory between the offsets begin and end. */
void nx_cache_init(struct nx_cache *cache, uint32_t begin, uint32_t end);
/* Return the cluster with an entry at rip in the engine's current mode, and its code's *offset. */
struct nx_cluster *nx_cache_find(struct nx_engine *engine, const struct nx_cache *cache,
				 uint64_t rip, uint32_t *offset);
/* Return whether there is an entry, in any mode, at rip or behind an instruction at rip. */
bool nx_cache_has_entry_near(const struct nx_engine *engine, uint64_t rip);
/* Return whether guest code would be read now as it was then, in this mode and code segment. */
bool nx_mode_is_current(const struct nx_engine *engine, const struct nx_mode *mode,
			uint64_t cs_base, uint32_t cs_limit);
/* Return whether it is valid in the engine's current mode. */
bool nx_cluster_is_current(const struct nx_engine *engine, const struct nx_cluster *cluster);
/* Copy verified code (nx_make_emitted()) to the code cache's free end; return NX_OK or
 * NX_LEAVE_CACHE_FULL. */
enum nx_status nx_cache_place(struct nx_engine *engine, const struct nx_cache *cache);
/* Keep the code that has been placed there; return NULL if there is no room. */
struct nx_cluster *nx_cache_insert(struct nx_engine *engine, struct nx_cache *cache);
/* Do both: the engine's graph, whose code has been verified, becomes a cluster of the cache. A
 * full cache is flushed, and this is tried once more. On NULL *status says why; NX_OK: there is
 * room now, but the code is for another place, and has to be made again. */
struct nx_cluster *nx_cache_add(struct nx_engine *engine, struct nx_cache *cache,
				enum nx_status *status);
void nx_cache_drop(struct nx_engine *engine, struct nx_cluster *cluster);
/* Return the outgrown cluster if the one formed in its place is the same, else NULL. */
struct nx_cluster *nx_cache_revive(struct nx_engine *engine);
void nx_cache_flush(struct nx_engine *engine, struct nx_cache *cache);

#endif
