/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * vcpu.h - one vCPU's engine: everything it owns, laid out in the arena.
 */
#ifndef NX_VCPU_H
#define NX_VCPU_H

#include "internal.h"

#define NX_MAX_CLUSTERS 512
#define NX_CLUSTER_BYTES 640 /* guest code bytes of one cluster */
#define NX_ENTRY_BUCKETS 1024
#define NX_STORE_BYTES (448u * 1024) /* sites, entries and guest bytes of all clusters */

/* A translated cluster. Immutable from translation to the next flush, but for the counters. */
struct nx_cluster {
	uint64_t rip;
	struct nx_mode mode;
	bool dropped; /* stale: never found again, its memory comes back with the next flush */
	uint16_t insns, exiting, blocks, fragments, sites, entries;
	uint32_t code, code_size; /* offset in the code cache */
	struct nx_fragment fragment[NX_MAX_FRAGMENTS];
	uint8_t *bytes; /* of the fragments, one after the other */
	struct nx_site *site;
	struct nx_entry *entry;
	uint64_t executions, exits;
};

struct nx_cache {
	struct nx_cluster cluster[NX_MAX_CLUSTERS];
	uint32_t clusters;
	/* Open hash of entry points: cluster and entry index plus one each, 0: free. */
	struct {
		uint16_t cluster, entry;
	} bucket[NX_ENTRY_BUCKETS * 2];
	uint32_t entries;
	uint8_t store[NX_STORE_BYTES] __attribute__((aligned(8)));
	uint32_t store_used;
	uint32_t code_used;
};

enum nx_pending_kind { NX_PENDING_NONE, NX_PENDING_IO, NX_PENDING_MMIO };

struct nx_vcpu {
	struct nx_context context; /* first: r15 in emitted code points to the vCPU */
	struct nx_state state;
	volatile int stop;

	struct nx_memory memory;
	const struct nx_host *host;
	void *host_data;
	struct nx_config config;
	struct nx_counters counters;

	/* Of the current resume. */
	struct nx_mode mode;
	struct nx_cluster *running;
	uint8_t cpl;
	uint64_t rip; /* where the resume began */
	/* Host pages that the running cluster's code lies on: stores to them leave. */
	void *code_page[NX_MAX_FRAGMENTS];
	unsigned code_pages;
	/* What emitted code asked for and the miss handler or a helper decided. */
	nx_status stop_reason;
	struct nx_exit *exit;

	/* An exit that the host owes us, with what completes it. */
	enum nx_pending_kind pending;
	struct nx_site pending_site;

	/* TLB entries in use, so that a flush costs what was used. */
	uint8_t tlb_used[NX_TLB_ENTRIES];
	unsigned tlb_used_count;

	struct nx_tracker tracker;
	struct nx_cache cache;
	/* Scratch of the translation pipeline. */
	struct nx_graph graph;
	struct nx_translation translation;
	struct nx_verify_scratch verify;
};

#endif
