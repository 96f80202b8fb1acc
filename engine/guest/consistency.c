/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * consistency.c - check that the guest code is still the code that was translated.
 *
 * The comparison goes through the page tables that are valid now, so it also notices another
 * address space, a remapped page and a store from any source, device DMA included. Between it and
 * the end of the cluster only other vCPUs can change the code; the processor gives no stronger
 * promise to code that another one modifies without synchronising (SDM vol. 3, 9.1.3).
 *
 * An entry compares the code that can run from there until the next exit. Control returns through
 * another entry, which compares the code that can run from it.
 */
#include "engine.h"

/* Return the host's view of a page that is noted, or NULL. */
static const uint8_t *noted_page(const struct nx_guest *guest, uint64_t page)
{
	if (nx_filter_may_have(&guest->code_linear_in, page))
		for (unsigned i = 0; i < guest->code_pages; i++)
			if (guest->code_linear[i] == page)
				return guest->code_page[i];
	return NULL;
}

/*
 * Note a page of code and return the host's view of it, or NULL. The TLB does not hold it for
 * writing from here on, so the miss handler sees every store to it.
 */
static const uint8_t *note_page(struct nx_engine *engine, uint64_t linear)
{
	struct nx_guest *guest = &engine->guest;
	uint64_t page = linear & NX_PAGE_MASK;
	const uint8_t *host;

	if (guest->code_pages == NX_MAX_CODE_PAGES || nx_code_page(engine, linear, &host) != NX_OK)
		return NULL;
	nx_tlb_protect(engine, host);
	nx_filter_add(&guest->code_linear_in, page);
	nx_filter_add(&guest->code_pages_in, (uintptr_t)host);
	guest->code_linear[guest->code_pages] = page;
	guest->code_page[guest->code_pages++] = (void *)(uintptr_t)host;
	return host;
}

/* Return the host's view of a page of code, whose mapping is looked up once a stay, or NULL. */
static NX_NOINLINE const uint8_t *code_page(struct nx_engine *engine, uint64_t linear)
{
	struct nx_guest *guest = &engine->guest;
	uint64_t page = linear & NX_PAGE_MASK;
	struct nx_walk_page *kept = nx_walk_kept_page(engine, linear);
	const uint8_t *host;

	if (kept && kept->noted == guest->code_time) {
		host = kept->host;
	} else {
		host = noted_page(guest, page);
		if (!host)
			host = note_page(engine, linear);
		if (!host)
			return NULL;
		kept = nx_walk_kept_page(engine, linear);
		/* It may be another one than the one that was noted. */
		if (kept && kept->host == host)
			kept->noted = guest->code_time;
	}
	guest->last_code_linear = page;
	guest->last_code_page = host;
	return host;
}

/* The size is a constant of at most 8, so that nothing is called. */
static inline bool differ(const uint8_t *a, const uint8_t *b, unsigned size)
{
	uint64_t x = 0, y = 0;

	nx_memcpy(&x, a, size);
	nx_memcpy(&y, b, size);
	return x != y;
}

/*
 * Compare inline: fragments are short, and a call of memcmp() would cost more than its work. The
 * last bytes are compared together with some before them, which have been compared already.
 */
static inline bool same_bytes(const uint8_t *a, const uint8_t *b, unsigned len)
{
	if (len >= 8) {
		for (unsigned i = 0; i + 8 < len; i += 8)
			if (differ(a + i, b + i, 8))
				return false;
		return !differ(a + len - 8, b + len - 8, 8);
	}
	if (len >= 4)
		return !differ(a, b, 4) && !differ(a + len - 4, b + len - 4, 4);
	return !len || (a[0] == b[0] && a[len / 2] == b[len / 2] && a[len - 1] == b[len - 1]);
}

static enum nx_status compare(struct nx_engine *engine, const struct nx_cluster *cluster,
			      const uint64_t fragments[NX_FRAGMENT_WORDS])
{
	const uint8_t *host = NULL;
	uint64_t page = 1;

	/* Fragments are in the order of their addresses, so most share a page with the last one.
	 * None goes on where another of the same page ends: there is nothing to merge. */
	for (unsigned word = 0; word < NX_FRAGMENT_WORDS; word++) {
		for (uint64_t left = fragments[word]; left; left &= left - 1) {
			const struct nx_fragment *fragment =
			    &cluster->fragment[word * 64 + (unsigned)__builtin_ctzll(left)];
			uint64_t linear = nx_code_linear(engine, fragment->rip);

			if ((linear & NX_PAGE_MASK) != page)
				host = code_page(engine, linear);
			if (!host)
				return NX_LEAVE_CODE_UNREADABLE;
			page = linear & NX_PAGE_MASK;
			if (!same_bytes(host + (linear & ~NX_PAGE_MASK),
					cluster->bytes + fragment->bytes, fragment->len))
				return NX_LEAVE_CODE_CHANGED;
		}
	}
	return NX_OK;
}

/* A stay may come to more pages of code than are noted; what is entered now needs its own only. */
static NX_NOINLINE enum nx_status check(struct nx_engine *engine, const struct nx_cluster *cluster,
					const uint64_t fragments[NX_FRAGMENT_WORDS])
{
	enum nx_status status = compare(engine, cluster, fragments);

	if (status != NX_LEAVE_CODE_UNREADABLE || engine->guest.code_pages < NX_MAX_CODE_PAGES)
		return status;
	nx_code_forget(engine);
	return compare(engine, cluster, fragments);
}

/* Return the entry at an offset, or NULL if there is none; entries are sorted by offset. */
static NX_NOINLINE const struct nx_entry *find_entry(const struct nx_cluster *cluster,
						     uint32_t offset)
{
	unsigned low = 0, high = cluster->entries;

	while (high - low > 1) {
		unsigned middle = (low + high) / 2;

		if (cluster->entry[middle].offset <= offset)
			low = middle;
		else
			high = middle;
	}
	return high && cluster->entry[low].offset == offset ? &cluster->entry[low] : NULL;
}

static inline const struct nx_entry *entry_at(const struct nx_cluster *cluster, uint32_t offset,
					      unsigned guess)
{
	if (guess < cluster->entries && cluster->entry[guess].offset == offset)
		return &cluster->entry[guess];
	return find_entry(cluster, offset);
}

/* Return the page of the code at the address, most often the one that was looked at last. */
static inline const uint8_t *page_of(struct nx_engine *engine, uint64_t linear)
{
	const struct nx_guest *guest = &engine->guest;

	if (guest->last_code_page && guest->last_code_linear == (linear & NX_PAGE_MASK))
		return guest->last_code_page;
	return code_page(engine, linear);
}

/* Compare what may run from an entry that has a fragment alone. */
static enum nx_status check_only(struct nx_engine *engine, const struct nx_cluster *cluster,
				 const struct nx_entry *entry)
{
	const struct nx_fragment *fragment = &cluster->fragment[entry->only - 1u];
	uint64_t linear = nx_code_linear(engine, fragment->rip + entry->only_begin);
	const uint8_t *page = page_of(engine, linear);

	/* There may be too many pages: the long way makes room. */
	if (!page)
		return check(engine, cluster, entry->fragments);
	return same_bytes(page + (linear & ~NX_PAGE_MASK),
			  cluster->bytes + fragment->bytes + entry->only_begin, entry->only_len)
		   ? NX_OK
		   : NX_LEAVE_CODE_CHANGED;
}

/* Compare all of a cluster that has no such entry. */
static NX_NOINLINE enum nx_status check_all(struct nx_engine *engine,
					    const struct nx_cluster *cluster)
{
	uint64_t all[NX_FRAGMENT_WORDS];

	nx_memset(all, 0, sizeof(all));
	for (unsigned i = 0; i < cluster->fragments; i++)
		all[i / 64] |= 1ull << i % 64;
	return check(engine, cluster, all);
}

enum nx_status nx_code_check(struct nx_engine *engine, const struct nx_cluster *cluster,
			     uint32_t offset)
{
	/* Most often the one behind the last. */
	const struct nx_entry *entry = entry_at(cluster, offset, engine->guest.next_entry);

	if (!entry)
		return check_all(engine, cluster);
	engine->guest.next_entry = (unsigned)(entry - cluster->entry) + 1;
	return entry->only ? check_only(engine, cluster, entry)
			   : check(engine, cluster, entry->fragments);
}
