/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* share_read.c - reading what another process may be writing, or may have written wrongly. */
#include <sched.h>
#include <string.h>

#include "share.h"

#define TRIES 1000

bool nx_share_clusters_copy(struct nx_share_clusters *to, const struct nx_share_clusters *from)
{
	for (unsigned i = 0; i < TRIES; i++) {
		uint32_t before = __atomic_load_n(&from->sequence, __ATOMIC_ACQUIRE);

		memcpy(to, from, offsetof(struct nx_share_clusters, data));
		if (to->count > NX_SHARE_CLUSTERS || to->used > NX_SHARE_DATA)
			break;
		memcpy(to->data, from->data, to->used);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (!(before & 1) && __atomic_load_n(&from->sequence, __ATOMIC_RELAXED) == before)
			return true;
		sched_yield();
	}
	to->count = to->used = 0;
	return false;
}

static size_t block_size(const struct nx_share_block *block)
{
	return (sizeof(*block) + block->instructions + block->bytes + 7) & ~(size_t)7;
}

const struct nx_share_block *nx_share_block_next(const struct nx_share_clusters *clusters,
						 const struct nx_share_cluster *cluster,
						 const struct nx_share_block *block)
{
	size_t at = cluster->data, end = at + cluster->data_bytes;

	if (end > clusters->used || at % 8)
		return NULL;
	if (block)
		at = (size_t)((const uint8_t *)block - clusters->data) + block_size(block);
	if (at + sizeof(*block) > end)
		return NULL;
	block = (const struct nx_share_block *)(const void *)(clusters->data + at);
	return at + block_size(block) <= end ? block : NULL;
}
