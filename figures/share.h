/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * share.h - what a VM shows to `noexit stat`, `top` and `explain`: the layout of its shared memory.
 *
 * Each VM has one memory file without a name (memfd) that the library keeps open in the VMM, sealed
 * against shrinking. A reader finds it as /proc/PID/fd/N, a link to "/memfd:noexit-counters
 * (deleted)", and maps it read-only. So the kernel decides who may look (who may trace the VMM),
 * nothing has to be removed, and nothing is left of a VMM that was killed. A forked child has
 * the descriptor but not the mapping: it does not count.
 *
 * noexit.ko shows the same structures for the VMs that it is switched on for: NXK_WATCH of
 * kernel/interface/device.h gives a descriptor that is mapped as the file is.
 *
 * The file holds a struct nx_share_header, then slot after slot, each a struct nx_share_vcpu; the
 * offsets are nx_share_slot_offset()'s, the number of slots follows from the file's size.
 *
 * Rules
 *  1. A slot is written by its vCPU's thread alone, with plain stores of aligned quadwords; readers
 *     may see figures of one vCPU that are some exits apart. engine is as of the end of the last
 *     stay; the counters in clusters may be NX_SHARE_LAZY_NS of the vCPU's activity old.
 *  2. Which clusters there are, and what they look like, is written under `sequence`: odd while it
 *     changes. nx_share_clusters_copy() is the reader's side.
 *  3. Readers trust nothing: a VMM can write there what it likes.
 *  4. Whoever changes a structure here, or one that it contains, changes NX_SHARE_VERSION.
 */
#ifndef NX_KVM_SHARE_H
#define NX_KVM_SHARE_H

#include "stats.h"

#define NX_SHARE_NAME "noexit-counters"
#define NX_SHARE_MAGIC 0x30746978656f6eull /* "noexit0" */
#define NX_SHARE_VERSION 11
#define NX_SHARE_CLUSTERS 512
#define NX_SHARE_DATA (512u * 1024)
#define NX_SHARE_LAZY_NS 20000000u
#define NX_SHARE_TEXT 160
#define NX_SHARE_UNMEASURED INT64_MIN

/* A cluster; see struct nx_cluster_info. */
struct nx_share_cluster {
	uint64_t entry_rip;
	uint64_t executions, exits, exits_mmio, exits_insn, stays, made_ns;
	/* Nanoseconds that the cluster has saved the guest so far: the cost of its exits in
	 * hardware, less the time that the engine took to deliver them, to enter where a stay
	 * began in this cluster, and to build it. The costs are those measured last
	 * (nx_stats.cost_ns); the value is NX_SHARE_UNMEASURED until there are some. */
	int64_t benefit_ns;
	uint64_t code; /* host address of the translation */
	uint32_t instructions, exiting, blocks, code_bytes;
	/* The place of its blocks in nx_share_clusters.data. A size of 0 means that there was no
	 * room for them. */
	uint32_t data, data_bytes;
	uint8_t bits;
	uint8_t dropped;
};

/*
 * A block as struct nx_cluster_block describes it. It is followed by a byte for each instruction
 * (its shape), then by the guest code, and padded to eight bytes.
 */
struct nx_share_block {
	uint64_t rip;
	uint64_t target[NX_CLUSTER_EDGES - 2];
	uint16_t edge[NX_CLUSTER_EDGES];
	uint8_t limit[NX_CLUSTER_EDGES];
	uint16_t instructions, bytes, calls;
	uint8_t entry, targets;
};

struct nx_share_clusters {
	uint32_t sequence;
	uint32_t count;
	uint32_t used; /* bytes of data */
	uint32_t unused;
	struct nx_share_cluster cluster[NX_SHARE_CLUSTERS];
	uint8_t data[NX_SHARE_DATA];
};

_Static_assert(offsetof(struct nx_share_clusters, data) % 8 == 0, "blocks are aligned");

struct nx_share_vcpu {
	uint32_t living;
	uint32_t number;         /* in the VM, by age */
	char off[NX_SHARE_TEXT]; /* the reason why no exits are avoided; empty while they are */
	struct nx_figures figures;
	struct nx_share_clusters clusters;
};

struct nx_share_header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_size, slot_size;
	uint32_t vm;         /* of this process, from 0 */
	uint32_t clustering; /* 0: --off */
	char off[NX_SHARE_TEXT];
	/* Of vCPUs that are gone. */
	uint32_t gone;
	struct nx_figures gone_figures;
};

static inline uint64_t nx_share_page_round(uint64_t size)
{
	return (size + 4095) & ~(uint64_t)4095;
}

static inline uint64_t nx_share_slot_offset(unsigned slot)
{
	return nx_share_page_round(sizeof(struct nx_share_header)) +
	       slot * nx_share_page_round(sizeof(struct nx_share_vcpu));
}

/* Copy what a vCPU shows of its clusters, from memory that is being written. Return false if no
 * consistent copy could be made; *to is empty then. */
bool nx_share_clusters_copy(struct nx_share_clusters *to, const struct nx_share_clusters *from);

/* Return the next block of a cluster, with its shape and its guest code; pass NULL for the
 * first. NULL means that there is no further block, or that the bytes there make no sense. */
const struct nx_share_block *nx_share_block_next(const struct nx_share_clusters *clusters,
						 const struct nx_share_cluster *cluster,
						 const struct nx_share_block *block);
static inline const uint8_t *nx_share_block_shape(const struct nx_share_block *block)
{
	return (const uint8_t *)(block + 1);
}

static inline const uint8_t *nx_share_block_code(const struct nx_share_block *block)
{
	return nx_share_block_shape(block) + block->instructions;
}

#endif
