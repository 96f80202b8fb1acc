/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* share_write.c - see share_write.h. Both hosts use this file, the one in the kernel as well. */
#include "share_write.h"

#include <string.h>

void nx_share_header_make(struct nx_share_header *header, unsigned vm, bool clustering)
{
	header->version = NX_SHARE_VERSION;
	header->header_size = sizeof(*header);
	header->slot_size = sizeof(struct nx_share_vcpu);
	header->vm = vm;
	header->clustering = clustering;
	__atomic_store_n(&header->magic, NX_SHARE_MAGIC, __ATOMIC_RELEASE);
}

void nx_share_off(char *shared, const char *why)
{
	size_t length = strlen(why);

	memcpy(shared, why, length < NX_SHARE_TEXT ? length : NX_SHARE_TEXT - 1);
}

void nx_share_slot_empty(struct nx_share_header *header, struct nx_share_vcpu *shared)
{
	nx_figures_add(&header->gone_figures, &shared->figures);
	header->gone++;
	/* Another vCPU may get the slot next. */
	__atomic_store_n(&shared->living, 0, __ATOMIC_RELEASE);
	memset(&shared->figures, 0, sizeof(shared->figures));
	memset(shared->off, 0, sizeof(shared->off));
	shared->clusters.count = shared->clusters.used = 0;
}

/* ---- Clusters ---- */

static int64_t benefit(const uint32_t cost[NX_COST_COUNT], const struct nx_cluster_info *info)
{
	uint64_t by_port = info->exits - info->exits_mmio - info->exits_insn;
	int64_t saved, spent;

	/* Instructions' exits are not counted by class, and so have no cost. */
	if (info->exits_insn || !cost[NX_COST_TAKEOVER] || !cost[NX_COST_RESUME] ||
	    (by_port && !cost[NX_COST_IO]) || (info->exits_mmio && !cost[NX_COST_MMIO]))
		return NX_SHARE_UNMEASURED;
	saved = (int64_t)(by_port * cost[NX_COST_IO] + info->exits_mmio * cost[NX_COST_MMIO]);
	spent = (int64_t)(info->exits * cost[NX_COST_RESUME] +
			  info->stays * cost[NX_COST_TAKEOVER] + info->made_ns);
	return saved - spent;
}

static void refresh_cluster(const struct nx_share_writer *writer, struct nx_share_cluster *to,
			    const struct nx_cluster *from)
{
	struct nx_cluster_info info;

	nx_cluster_describe(from, &info);
	to->executions = info.executions;
	to->exits = info.exits;
	to->exits_mmio = info.exits_mmio;
	to->exits_insn = info.exits_insn;
	to->stays = info.stays;
	to->made_ns = info.made_ns;
	to->benefit_ns = benefit(writer->shared->figures.host.cost_ns, &info);
	to->dropped = info.dropped;
}

static bool append_block(struct nx_share_clusters *to, const struct nx_cluster *cluster,
			 unsigned number)
{
	struct nx_share_block *block = (void *)(to->data + to->used);
	struct nx_cluster_block from;
	size_t size;

	nx_cluster_block(cluster, number, &from);
	size = (sizeof(*block) + from.instructions + from.bytes + 7) & ~(size_t)7;
	if (NX_SHARE_DATA - to->used < size)
		return false;
	*block = (struct nx_share_block){
	    .rip = from.rip,
	    .instructions = from.instructions,
	    .bytes = from.bytes,
	    .calls = from.calls,
	    .entry = from.entry,
	    .targets = from.targets,
	};
	memcpy(block->target, from.target, sizeof(block->target));
	memcpy(block->edge, from.edge, sizeof(block->edge));
	memcpy(block->limit, from.limit, sizeof(block->limit));
	memcpy(block + 1, from.shape, from.instructions);
	nx_cluster_code(cluster, from.rip, (uint8_t *)(block + 1) + from.instructions, from.bytes);
	to->used += (uint32_t)size;
	return true;
}

static void append_cluster(struct nx_share_writer *writer, const struct nx_cluster *from)
{
	struct nx_share_clusters *clusters = &writer->shared->clusters;
	struct nx_share_cluster *to = &clusters->cluster[clusters->count];
	struct nx_cluster_info info;
	bool room = true;

	if (clusters->count == NX_SHARE_CLUSTERS)
		return;
	nx_cluster_describe(from, &info);
	*to = (struct nx_share_cluster){
	    .entry_rip = info.entry_rip,
	    .code = writer->code + info.code_offset,
	    .instructions = info.instructions,
	    .exiting = info.exiting,
	    .blocks = info.blocks,
	    .code_bytes = info.code_bytes,
	    .data = clusters->used,
	    .bits = info.bits,
	};
	for (unsigned i = 0; i < info.blocks && room; i++)
		room = append_block(clusters, from, i);
	if (room)
		to->data_bytes = clusters->used - to->data;
	else
		clusters->used = to->data;
	refresh_cluster(writer, to, from);
	clusters->count++;
	if (writer->named)
		writer->named(writer->data, to);
}

/* The engine keeps clusters in the order in which they were made, until all are flushed. */
static void show_new(struct nx_share_writer *writer, bool flushed)
{
	struct nx_share_clusters *clusters = &writer->shared->clusters;
	const struct nx_cluster *next;

	__atomic_store_n(&clusters->sequence, clusters->sequence + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (flushed) {
		clusters->count = clusters->used = 0;
		writer->shown = NULL;
		if (writer->named)
			writer->named(writer->data, NULL);
	}
	while ((next = nx_cluster_next(writer->engine, writer->shown))) {
		append_cluster(writer, next);
		writer->shown = next;
	}
	__atomic_store_n(&clusters->sequence, clusters->sequence + 1, __ATOMIC_RELEASE);
}

static void refresh(struct nx_share_writer *writer)
{
	struct nx_share_clusters *clusters = &writer->shared->clusters;
	const struct nx_cluster *at = NULL;

	for (uint32_t i = 0; i < clusters->count && (at = nx_cluster_next(writer->engine, at)); i++)
		refresh_cluster(writer, &clusters->cluster[i], at);
}

static void show_alone(struct nx_share_writer *writer)
{
	struct nx_alone *to = writer->shared->figures.alone;

	for (unsigned i = 0; i < NX_ALONE_PLACES; i++) {
		struct nx_alone place = {0};

		nx_engine_alone(writer->engine, i, &place);
		to[i] = place;
	}
}

bool nx_share_is_due(const struct nx_share_writer *writer, uint64_t now)
{
	const struct nx_counters *from = nx_engine_counters(writer->engine);
	const struct nx_counters *to = &writer->shared->figures.engine;

	return from->translated != to->translated || from->flushes != to->flushes ||
	       now - writer->refreshed >= NX_SHARE_LAZY_NS;
}

void nx_share_write(struct nx_share_writer *writer, uint64_t now)
{
	const struct nx_counters *from = nx_engine_counters(writer->engine);
	struct nx_counters *to = &writer->shared->figures.engine;
	bool flushed = from->flushes != to->flushes;

	if (flushed || from->translated != to->translated)
		show_new(writer, flushed);
	*to = *from;
	if (now - writer->refreshed >= NX_SHARE_LAZY_NS) {
		refresh(writer);
		show_alone(writer);
		writer->refreshed = now;
	}
}
