/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cache.c - keep translations, and find them by the guest address of an entry.
 *
 * Translations are appended and only freed all at once: a dropped cluster is merely marked, and a
 * full cache is flushed as a whole. The cache thus needs no free lists and cannot fragment.
 */
#include "engine.h"

#define CODE_ALIGN 16u
/* Each re-formation that changed nothing doubles the side-exit cost to wait for. */
#define MAX_REFORM_FAILURES 8u

static uint32_t slot_of(uint64_t rip)
{
	return nx_hash_row(rip, NX_ENTRY_BUCKETS);
}

static bool same_mode(const struct nx_mode *a, const struct nx_mode *b)
{
	return a->bits == b->bits && a->stack_bits == b->stack_bits && a->flat == b->flat &&
	       a->io_allowed == b->io_allowed && a->io_bitmap == b->io_bitmap &&
	       a->user == b->user && a->protected_mode == b->protected_mode &&
	       a->segment_loads == b->segment_loads && a->exits == b->exits &&
	       a->features == b->features && a->lower == b->lower;
}

bool nx_mode_is_current(const struct nx_engine *engine, const struct nx_mode *mode,
			uint64_t cs_base, uint32_t cs_limit)
{
	const struct nx_segment *cs = &engine->state.seg[NX_CS];

	return same_mode(mode, &engine->mode) &&
	       (mode->bits == 64 || (cs_base == cs->base && cs_limit == cs->limit));
}

bool nx_cluster_is_current(const struct nx_engine *engine, const struct nx_cluster *cluster)
{
	return cluster->state == NX_CLUSTER_VALID &&
	       nx_mode_is_current(engine, &cluster->mode, cluster->cs_base, cluster->cs_limit);
}

struct nx_cluster *nx_cache_find(struct nx_engine *engine, const struct nx_cache *cache,
				 uint64_t rip, uint32_t *offset)
{
	uint32_t slot = slot_of(rip);

	for (; cache->bucket[slot].cluster; slot = (slot + 1) % NX_ENTRY_BUCKETS) {
		const struct nx_cluster *cluster = &cache->cluster[cache->bucket[slot].cluster - 1];
		const struct nx_entry *entry = &cluster->entry[cache->bucket[slot].entry];

		if (entry->rip == rip && nx_cluster_is_current(engine, cluster)) {
			*offset = entry->offset;
			return (struct nx_cluster *)(uintptr_t)cluster;
		}
	}
	return NULL;
}

/* A number below 64 * NX_NEAR_WORDS for each 16 bytes of guest code. */
static uint32_t near_of(uint64_t rip)
{
	return (uint32_t)(rip >> 4) % (64 * NX_NEAR_WORDS);
}

static bool is_near(const struct nx_cache *cache, uint64_t rip)
{
	uint32_t bit = near_of(rip);

	return cache->near[bit / 64] >> (bit % 64) & 1;
}

bool nx_cache_has_entry_near(const struct nx_engine *engine, uint64_t rip)
{
	const struct nx_cache *cache = &engine->cache;

	/* Most exits are far from every entry, and each exit of the hardware gets here. */
	if (!is_near(cache, rip) && !is_near(cache, rip + 15))
		return false;
	for (unsigned len = 0; len <= 15; len++) {
		uint32_t slot = slot_of(rip + len);

		for (; cache->bucket[slot].cluster; slot = (slot + 1) % NX_ENTRY_BUCKETS) {
			const struct nx_cluster *cluster =
			    &cache->cluster[cache->bucket[slot].cluster - 1];

			if (cluster->entry[cache->bucket[slot].entry].rip == rip + len &&
			    cluster->state == NX_CLUSTER_VALID)
				return true;
		}
	}
	return false;
}

/* Return whether the emitted code can run at this offset of the code memory. */
static bool is_made_for(const struct nx_engine *engine, uint32_t place)
{
	return engine->memory.branches == NX_BRANCHES_INDIRECT ||
	       engine->thunks.code == (uintptr_t)engine->memory.code_rx + place;
}

enum nx_status nx_cache_place(struct nx_engine *engine, const struct nx_cache *cache)
{
	if (engine->config.experiment.fail & NX_FAIL_CACHE ||
	    engine->translation.size > cache->code_end - cache->code_used ||
	    !is_made_for(engine, cache->code_used))
		return NX_LEAVE_CACHE_FULL;
	nx_memcpy((uint8_t *)engine->memory.code_rw + cache->code_used, engine->emitted,
		  engine->translation.size);
	return NX_OK;
}

static void index_entries(struct nx_cache *cache, const struct nx_cluster *cluster)
{
	for (uint16_t i = 0; i < cluster->entries; i++) {
		uint32_t slot = slot_of(cluster->entry[i].rip),
			 bit = near_of(cluster->entry[i].rip);

		cache->near[bit / 64] |= 1ull << (bit % 64);
		while (cache->bucket[slot].cluster)
			slot = (slot + 1) % NX_ENTRY_BUCKETS;
		cache->bucket[slot].cluster = (uint16_t)(cluster - cache->cluster + 1);
		cache->bucket[slot].entry = i;
		cache->entries++;
	}
}

/* Copy the part of the graph that is shown to users. */
static void keep_blocks(struct nx_cluster *cluster, const struct nx_graph *graph, uint8_t *shape)
{
	for (uint16_t i = 0; i < graph->blocks; i++) {
		const struct nx_block *from = &graph->block[i];
		const struct nx_insn *insn = &graph->insn[from->first];
		struct nx_cluster_block *to = &cluster->block[i];

		*to = (struct nx_cluster_block){.rip = insn->rip,
						.instructions = from->count,
						.entry = from->entry,
						.shape = shape};
		for (uint16_t c = insn->context; c; c = graph->contexts.call[c].outer)
			to->calls++;
		/* Of more targets the first ones are shown. */
		to->targets =
		    from->targets < NX_CLUSTER_EDGES - 2 ? from->targets : NX_CLUSTER_EDGES - 2;
		nx_memcpy(to->edge, from->edge, sizeof(to->edge));
		nx_memcpy(to->limit, from->counted, sizeof(to->limit));
		nx_memcpy(to->target, from->target, sizeof(to->target));
		for (uint16_t n = 0; n < from->count; n++, insn++) {
			to->bytes = (uint16_t)(to->bytes + insn->len);
			*shape++ =
			    (uint8_t)(insn->len | (nx_insn_exits(insn) ? NX_SHAPE_EXITS : 0));
		}
	}
}

/* ---- What may run from an entry ---- */

/* For each block, collect the set of fragments in which it lies. */
struct reach {
	uint64_t fragments[NX_MAX_BLOCKS][NX_FRAGMENT_WORDS];
	uint16_t queue[NX_MAX_BLOCKS];
	bool queued[NX_MAX_BLOCKS];
};
_Static_assert(sizeof(struct reach) <= NX_FORM_SCRATCH_SIZE, "scratch too small");

/* Return whether the fragments are in the order of their addresses, so that a byte is in one only.
 */
static bool in_order(const struct nx_graph *graph)
{
	for (unsigned i = 1; i < graph->fragments; i++) {
		const struct nx_fragment *before = &graph->fragment[i - 1];

		if (graph->fragment[i].rip < before->rip + before->len ||
		    before->rip + before->len < before->rip)
			return false;
	}
	return true;
}

static bool is_in(const struct nx_fragment *fragment, uint64_t rip)
{
	return rip - fragment->rip < fragment->len;
}

/* Collect the fragments that the byte is in; near: one that it may be in, if it is in one only. */
static void note_byte(const struct nx_graph *graph, uint64_t rip, uint64_t *fragments,
		      unsigned *near)
{
	if (*near < graph->fragments && is_in(&graph->fragment[*near], rip)) {
		fragments[*near / 64] |= 1ull << *near % 64;
		return;
	}
	for (unsigned i = 0; i < graph->fragments; i++) {
		if (!is_in(&graph->fragment[i], rip))
			continue;
		fragments[i / 64] |= 1ull << i % 64;
		if (*near < graph->fragments)
			*near = i;
	}
}

/* An instruction may extend from one page, and thus fragment, into the next. */
static void find_fragments(const struct nx_graph *graph, struct reach *reach)
{
	unsigned near = in_order(graph) ? 0 : UINT32_MAX;

	nx_memset(reach->fragments, 0, graph->blocks * sizeof(reach->fragments[0]));
	for (unsigned i = 0; i < graph->blocks; i++) {
		const struct nx_block *block = &graph->block[i];

		for (unsigned n = block->first; n < block->first + (unsigned)block->count; n++) {
			const struct nx_insn *insn = &graph->insn[n];

			note_byte(graph, insn->rip, reach->fragments[i], &near);
			note_byte(graph, insn->rip + insn->len - 1, reach->fragments[i], &near);
		}
	}
}

/* Collect the fragments of an entry's blocks; return how many blocks they are, those in the queue.
 */
static unsigned collect(const struct nx_graph *graph, struct reach *reach, uint16_t from,
			uint64_t *fragments)
{
	unsigned count = 1;

	nx_memset(reach->queued, 0, graph->blocks * sizeof(reach->queued[0]));
	nx_memset(fragments, 0, sizeof(uint64_t) * NX_FRAGMENT_WORDS);
	reach->queue[0] = from;
	reach->queued[from] = true;
	for (unsigned i = 0; i < count; i++) {
		const struct nx_block *block = &graph->block[reach->queue[i]];

		for (unsigned w = 0; w < NX_FRAGMENT_WORDS; w++)
			fragments[w] |= reach->fragments[reach->queue[i]][w];
		/* Behind an instruction that always exits control continues through an entry. */
		if (nx_op_exits(graph->insn[block->first + block->count - 1].op))
			continue;
		for (unsigned e = 0; e < nx_block_edges(block); e++) {
			uint16_t to = block->edge[e];

			if (to == NX_NOWHERE || reach->queued[to])
				continue;
			reach->queued[to] = true;
			reach->queue[count++] = to;
		}
	}
	return count;
}

/* Return the number of the only fragment of a set, plus 1; 0: it has more. */
static uint8_t only_fragment(const uint64_t *fragments)
{
	unsigned only = 0;

	for (unsigned w = 0; w < NX_FRAGMENT_WORDS; w++) {
		if (!fragments[w])
			continue;
		if (only || fragments[w] & (fragments[w] - 1))
			return 0;
		only = 64 * w + (unsigned)__builtin_ctzll(fragments[w]) + 1;
	}
	return (uint8_t)only;
}
_Static_assert(NX_MAX_FRAGMENTS < UINT8_MAX, "nx_entry.only is too small");

/* Find what of its only fragment may run from the entry; the blocks are those in the queue. */
static void find_only(const struct nx_graph *graph, const struct reach *reach, unsigned count,
		      struct nx_entry *entry)
{
	uint64_t first = UINT64_MAX, end = 0;

	entry->only = only_fragment(entry->fragments);
	if (!entry->only)
		return;
	for (unsigned i = 0; i < count; i++) {
		const struct nx_block *block = &graph->block[reach->queue[i]];

		for (unsigned n = block->first; n < block->first + (unsigned)block->count; n++) {
			const struct nx_insn *insn = &graph->insn[n];
			/* The code may end where addresses do. */
			uint64_t at = insn->rip - graph->fragment[entry->only - 1].rip;

			first = at < first ? at : first;
			end = at + insn->len > end ? at + insn->len : end;
		}
	}
	entry->only_begin = (uint16_t)first;
	entry->only_len = (uint16_t)(end - first);
}

/* A translation's entries are in the order of the blocks that are entries. */
static void find_reach(struct nx_engine *engine, struct nx_entry *entry)
{
	const struct nx_graph *graph = &engine->graph;
	struct reach *reach = (struct reach *)engine->form_scratch;

	find_fragments(graph, reach);
	for (uint16_t i = 0; i < graph->blocks; i++) {
		if (!graph->block[i].entry)
			continue;
		find_only(graph, reach, collect(graph, reach, i, entry->fragments), entry);
		entry++;
	}
}

/* ---- Making and keeping ---- */

/* Hash everything on which the graph's translation depends, except the mode. */
static uint64_t hash_of(const struct nx_graph *graph)
{
	uint64_t hash = graph->insns + 1u;

	for (unsigned i = 0; i < graph->insns; i++) {
		const struct nx_insn *insn = &graph->insn[i];

		hash = nx_mix(hash, insn->path);
		hash =
		    nx_mix(hash, insn->rip ^ (uint64_t)insn->op << 56 ^ (uint64_t)insn->weak << 55 ^
				     (uint64_t)insn->first_len << 48);
		for (unsigned b = 0; b < insn->len; b++)
			hash = hash * 31 + insn->bytes[b];
	}
	for (unsigned i = 0; i < graph->blocks; i++) {
		const struct nx_block *block = &graph->block[i];

		hash = nx_mix(hash, (uint64_t)block->count << 1 | block->entry);
		for (unsigned e = 0; e < nx_block_edges(block); e++)
			hash = nx_mix(hash, (uint64_t)block->edge[e] << 8 | block->counted[e]);
		for (unsigned t = 0; t < block->targets; t++)
			hash = nx_mix(hash, block->target[t]);
	}
	return hash;
}

struct nx_cluster *nx_cache_revive(struct nx_engine *engine)
{
	uint64_t hash = hash_of(&engine->graph);

	for (uint32_t i = 0; i < engine->cache.clusters; i++) {
		struct nx_cluster *cluster = &engine->cache.cluster[i];

		if (cluster->state != NX_CLUSTER_OUTGROWN || cluster->graph_hash != hash ||
		    cluster->rip != engine->graph.rip ||
		    !nx_mode_is_current(engine, &cluster->mode, cluster->cs_base,
					cluster->cs_limit))
			continue;
		cluster->state = NX_CLUSTER_VALID;
		cluster->side_exit_cost_ns = cluster->side_exits = 0;
		if (cluster->reform_failures < MAX_REFORM_FAILURES)
			cluster->reform_failures++;
		engine->counters.same++;
		return cluster;
	}
	return NULL;
}

/* Where the parts of a cluster are, from the free end of the store, and how much they take. */
struct layout {
	uint32_t contexts, blocks, shape, fragments, bytes, sites, entries, last, size;
};

static uint32_t reserve(struct layout *layout, uint32_t count, size_t each)
{
	uint32_t at = layout->size;

	layout->size += (count * (uint32_t)each + 7u) & ~7u;
	return at;
}

/* Only a block of a trace keeps its last instruction. */
static struct layout lay_out(const struct nx_graph *graph, const struct nx_translation *made,
			     bool is_block)
{
	struct layout l = {.size = 0};

	l.contexts = reserve(&l, graph->contexts.count, sizeof(struct nx_context_call));
	l.blocks = reserve(&l, graph->blocks, sizeof(struct nx_cluster_block));
	l.shape = reserve(&l, graph->insns, 1);
	l.fragments = reserve(&l, graph->fragments, sizeof(struct nx_fragment));
	l.bytes = reserve(&l, graph->byte_count, 1);
	l.sites = reserve(&l, made->sites, sizeof(struct nx_site));
	l.entries = reserve(&l, made->entries, sizeof(struct nx_entry));
	l.last = reserve(&l, is_block, sizeof(struct nx_insn));
	return l;
}

/* Copy what is kept of the graph and its translation to the store. */
static void keep_parts(struct nx_engine *engine, struct nx_cluster *cluster,
		       const struct layout *layout, uint8_t *store, bool is_block)
{
	const struct nx_translation *made = &engine->translation;
	const struct nx_graph *graph = &engine->graph;

	cluster->contexts = graph->contexts.count;
	cluster->context = nx_memcpy(store + layout->contexts, graph->contexts.call,
				     cluster->contexts * sizeof(struct nx_context_call));
	cluster->block = (struct nx_cluster_block *)(store + layout->blocks);
	keep_blocks(cluster, graph, store + layout->shape);
	cluster->fragment = nx_memcpy(store + layout->fragments, graph->fragment,
				      graph->fragments * sizeof(struct nx_fragment));
	cluster->bytes = nx_memcpy(store + layout->bytes, graph->bytes, graph->byte_count);
	cluster->site =
	    nx_memcpy(store + layout->sites, made->site, made->sites * sizeof(struct nx_site));
	cluster->entry = nx_memcpy(store + layout->entries, made->entry,
				   made->entries * sizeof(struct nx_entry));
	find_reach(engine, cluster->entry);
	if (is_block)
		cluster->last = nx_memcpy(store + layout->last, &graph->insn[graph->insns - 1],
					  sizeof(struct nx_insn));
}

struct nx_cluster *nx_cache_insert(struct nx_engine *engine, struct nx_cache *cache)
{
	const struct nx_translation *made = &engine->translation;
	const struct nx_graph *graph = &engine->graph;
	const bool is_block = cache == &engine->blocks;
	const struct layout layout = lay_out(graph, made, is_block);
	struct nx_cluster *cluster;

	if (cache->clusters == NX_MAX_CLUSTERS ||
	    cache->entries + made->entries > NX_ENTRY_BUCKETS * 3 / 4 ||
	    NX_STORE_BYTES - cache->store_used < layout.size)
		return NULL;
	cluster = &cache->cluster[cache->clusters++];
	nx_memset(cluster, 0, sizeof(*cluster));
	cluster->rip = graph->rip;
	/* Only clusters are ever formed again. */
	if (!is_block)
		cluster->graph_hash = hash_of(graph);
	cluster->mode = graph->mode;
	cluster->cs_base = engine->state.seg[NX_CS].base;
	cluster->cs_limit = engine->state.seg[NX_CS].limit;
	cluster->insns = graph->insns;
	cluster->exiting = graph->exiting;
	cluster->blocks = graph->blocks;
	cluster->fragments = graph->fragments;
	cluster->sites = made->sites;
	cluster->entries = made->entries;
	cluster->code = cache->code_used;
	cluster->code_size = made->size;
	keep_parts(engine, cluster, &layout, cache->store + cache->store_used, is_block);
	cache->store_used += layout.size;
	cache->code_used += (made->size + CODE_ALIGN - 1) & ~(CODE_ALIGN - 1);
	if (cache->code_used > cache->code_end)
		cache->code_used = cache->code_end;
	index_entries(cache, cluster);
	return cluster;
}

void nx_cache_drop(struct nx_engine *engine, struct nx_cluster *cluster)
{
	cluster->state = NX_CLUSTER_DROPPED;
	engine->counters.stale++;
}

void nx_cache_init(struct nx_cache *cache, uint32_t begin, uint32_t end)
{
	cache->code_begin = cache->code_used = begin;
	cache->code_end = end;
	cache->clusters = cache->entries = cache->store_used = 0;
	nx_memset(cache->bucket, 0, sizeof(cache->bucket));
	nx_memset(cache->near, 0, sizeof(cache->near));
}

void nx_cache_flush(struct nx_engine *engine, struct nx_cache *cache)
{
	for (uint32_t i = 0; i < cache->clusters; i++)
		engine->counters.exits_flushed += cache->cluster[i].exits;
	nx_cache_init(cache, cache->code_begin, cache->code_end);
	if (cache == &engine->cache) {
		engine->pending.cluster = NULL;
		engine->counters.flushes++;
	} else {
		engine->counters.flushes_blocks++;
	}
}

struct nx_cluster *nx_cache_add(struct nx_engine *engine, struct nx_cache *cache,
				enum nx_status *status)
{
	for (unsigned attempt = 0; attempt < 2; attempt++) {
		struct nx_cluster *cluster = NULL;

		*status = nx_cache_place(engine, cache);
		if (*status == NX_OK)
			cluster = nx_cache_insert(engine, cache);
		if (cluster)
			return cluster;
		nx_cache_flush(engine, cache);
		if (!is_made_for(engine, cache->code_used)) {
			*status = NX_OK;
			return NULL;
		}
	}
	*status = NX_LEAVE_CACHE_FULL;
	return NULL;
}

const struct nx_cluster *nx_cluster_next(const struct nx_engine *engine,
					 const struct nx_cluster *cluster)
{
	const struct nx_cluster *next = cluster ? cluster + 1 : engine->cache.cluster;

	return next < engine->cache.cluster + engine->cache.clusters ? next : NULL;
}

void nx_cluster_describe(const struct nx_cluster *cluster, struct nx_cluster_info *info)
{
	*info = (struct nx_cluster_info){
	    .entry_rip = cluster->rip,
	    .instructions = cluster->insns,
	    .exiting = cluster->exiting,
	    .blocks = cluster->blocks,
	    .code_bytes = cluster->code_size,
	    .executions = cluster->executions,
	    .exits = cluster->exits,
	    .exits_mmio = cluster->exits_mmio,
	    .exits_insn = cluster->exits_insn,
	    .stays = cluster->stays,
	    .made_ns = cluster->made_ns,
	    .bits = cluster->mode.bits,
	    .dropped = cluster->state != NX_CLUSTER_VALID,
	    .code_offset = cluster->code,
	};
}

void nx_cluster_block(const struct nx_cluster *cluster, unsigned number,
		      struct nx_cluster_block *block)
{
	*block = cluster->block[number];
}

static const struct nx_fragment *fragment_at(const struct nx_cluster *cluster, uint64_t rip)
{
	for (unsigned i = 0; i < cluster->fragments; i++)
		if (rip - cluster->fragment[i].rip < cluster->fragment[i].len)
			return &cluster->fragment[i];
	return NULL;
}

size_t nx_cluster_code(const struct nx_cluster *cluster, uint64_t rip, void *to, size_t size)
{
	uint8_t *at = to;
	size_t done = 0;

	while (done < size) {
		const struct nx_fragment *fragment = fragment_at(cluster, rip + done);

		if (!fragment)
			break;
		at[done] = cluster->bytes[fragment->bytes + (rip + done - fragment->rip)];
		done++;
	}
	return done;
}
