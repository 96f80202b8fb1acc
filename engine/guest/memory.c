/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * memory.c - guest memory: the software TLB behind emitted code's inline checks, and access from C.
 *
 * A TLB entry lives as long as a stay at most: from an exit that the hardware delivered to the
 * return to guest mode. Guest page tables may change meanwhile, but a processor may use old
 * translations too until it is told otherwise, and it is told in guest mode. With a host that
 * grants sessions (nx_host.guest_enter) an entry is used in the next one only if the host says that
 * its pages are still there.
 */
#include "engine.h"

void nx_io_forget(struct nx_engine *engine)
{
	engine->guest.io_page[0].host = engine->guest.io_page[1].host = NULL;
}

void nx_tlb_flush(struct nx_engine *engine)
{
	for (unsigned i = 0; i < engine->guest.tlb_used_count; i++) {
		struct nx_tlb_entry *entry = &engine->context.tlb[engine->guest.tlb_used[i]];

		entry->read = entry->write = entry->guarded = 1;
	}
	engine->guest.tlb_used_count = 0;
	engine->guest.stored_in = (struct nx_page_filter){.bits = {0}};
	nx_walk_forget(engine);
	nx_io_forget(engine);
}

void nx_code_forget(struct nx_engine *engine)
{
	struct nx_guest *guest = &engine->guest;

	guest->code_pages = 0;
	guest->code_pages_in = guest->code_linear_in = (struct nx_page_filter){.bits = {0}};
	guest->last_code_page = NULL;
	if (!++guest->code_time)
		nx_walk_clear(engine);
}

void nx_guest_forget(struct nx_engine *engine)
{
	nx_tlb_flush(engine);
	nx_code_forget(engine);
	/* A host without sessions does not say that its pages hold any longer. */
	if (!engine->host->guest_enter)
		nx_walk_drop(engine);
}

void nx_engine_flush(struct nx_engine *engine)
{
	nx_guest_forget(engine);
	nx_walk_drop(engine);
}

void nx_tlb_protect(struct nx_engine *engine, const void *page)
{
	if (!nx_filter_may_have(&engine->guest.stored_in, (uintptr_t)page))
		return;
	for (unsigned i = 0; i < engine->guest.tlb_used_count; i++) {
		struct nx_tlb_entry *entry = &engine->context.tlb[engine->guest.tlb_used[i]];

		if (entry->read + entry->addend != (uint64_t)(uintptr_t)page || entry->write == 1)
			continue;
		entry->guarded = entry->write;
		entry->write = 1;
	}
}

enum nx_status nx_session_forgets(struct nx_engine *engine, enum nx_session session)
{
	if (session == NX_SESSION_REFUSED)
		return NX_LEAVE_SESSION;
	if (session == NX_SESSION_FRESH)
		nx_engine_flush(engine);
	else if (session == NX_SESSION_FLUSHED)
		nx_guest_forget(engine);
	engine->guest.in_session = true;
	return NX_OK;
}

/* Return what stores may do to a page that is entered in the TLB. */
enum stores { STORES_UNKNOWN, STORES_FREE, STORES_GUARDED };

static void tlb_fill(struct nx_engine *engine, uint64_t linear, uint8_t *page, enum stores stores)
{
	unsigned index = (unsigned)(linear >> 12) % NX_TLB_ENTRIES;
	struct nx_tlb_entry *entry = &engine->context.tlb[index];
	uint64_t tag = linear & NX_PAGE_MASK;

	if (entry->read == 1 && entry->write == 1)
		engine->guest.tlb_used[engine->guest.tlb_used_count++] = (uint8_t)index;
	/* Another page, or another mapping of this one since: all tags must speak of this addend.
	 */
	if (entry->addend != (uint64_t)(uintptr_t)page - tag || entry->read != tag)
		entry->write = entry->guarded = 1;
	entry->addend = (uint64_t)(uintptr_t)page - tag;
	entry->read = tag;
	if (stores == STORES_FREE) {
		entry->write = tag;
		nx_filter_add(&engine->guest.stored_in, (uintptr_t)page);
	} else if (stores == STORES_GUARDED) {
		entry->guarded = tag;
	}
}

static bool is_code_page(const struct nx_engine *engine, const void *page)
{
	if (!nx_filter_may_have(&engine->guest.code_pages_in, (uintptr_t)page))
		return false;
	for (unsigned i = 0; i < engine->guest.code_pages; i++)
		if (engine->guest.code_page[i] == page)
			return true;
	return false;
}

/*
 * Return whether a store to the host's bytes changes code that may run before it is compared again.
 * That is the running translation's alone: whatever is entered next is compared at its entry, so
 * data and stack beside code, or beside other clusters' code, may be stored to.
 */
static bool changes_code(const struct nx_engine *engine, const uint8_t *host, unsigned size)
{
	const struct nx_cluster *running = engine->running;

	for (unsigned i = 0; i < engine->guest.code_pages; i++) {
		uint64_t at = (uint64_t)(host - (const uint8_t *)engine->guest.code_page[i]);

		if (at >= NX_PAGE_SIZE)
			continue;
		if (!running)
			return true;
		for (unsigned f = 0; f < running->fragments; f++) {
			const struct nx_fragment *fragment = &running->fragment[f];
			uint64_t linear = nx_code_linear(engine, fragment->rip);
			uint64_t code = linear & ~NX_PAGE_MASK;

			if ((linear & NX_PAGE_MASK) == engine->guest.code_linear[i] &&
			    at < code + fragment->len && code < at + size)
				return true;
		}
	}
	return false;
}

void *nx_tlb_lookup_guarded(const struct nx_engine *engine, uint64_t linear, unsigned size)
{
	const struct nx_tlb_entry *entry = &engine->context.tlb[(linear >> 12) % NX_TLB_ENTRIES];
	uint64_t first = linear & NX_PAGE_MASK, last = (linear + size - 1) & NX_PAGE_MASK;
	uint64_t differs = (entry->guarded ^ first) | (entry->guarded ^ last);
	uint8_t *host =
	    (uint8_t *)(uintptr_t)((linear + entry->addend) & nx_mask_below(differs, 1));

	return host && !changes_code(engine, host, size) ? host : NULL;
}

/* Find the place by a walk, and keep the page, if it is memory that may be stored to. */
static NX_NOINLINE enum nx_status find_target(struct nx_engine *engine, uint64_t linear,
					      enum nx_access access, struct nx_target *target,
					      bool *stored_to)
{
	struct nx_page page = {.kind = NX_PAGE_LEAVE};
	uint64_t gpa;
	enum nx_status status = nx_walk(engine, linear, access, &gpa);

	if (status != NX_OK)
		return status;
	engine->host->map_page(engine->host_data, gpa & NX_PAGE_MASK, &page);
	target->gpa = gpa;
	target->traced = page.traced;
	target->host = NULL;
	target->device =
	    page.kind == NX_PAGE_DEVICE || (page.kind == NX_PAGE_RAM && access == NX_WRITE &&
					    !page.writable && page.store_is_mmio);
	if (target->device)
		return NX_OK;
	if (page.kind != NX_PAGE_RAM || (access == NX_WRITE && !page.writable))
		return NX_LEAVE_HOST_PAGE;
	target->host = (uint8_t *)page.host + (gpa & ~NX_PAGE_MASK);
	/* Most pages that are loaded from are stored to, too. */
	*stored_to = access == NX_WRITE || (engine->guest.found.stores && page.writable);
	if (page.writable && !page.traced)
		nx_walk_keep(engine, linear, access, gpa, page.host);
	return NX_OK;
}

enum nx_status nx_guest_resolve_linear(struct nx_engine *engine, uint64_t linear, unsigned size,
				       enum nx_access access, struct nx_target *target)
{
	const struct nx_walk_page *known;
	enum stores stores = STORES_UNKNOWN;
	bool stored_to = false;
	uint8_t *page;

	if ((linear & ~NX_PAGE_MASK) + size > NX_PAGE_SIZE)
		return NX_LEAVE_PAGE_CROSSING;
	known = nx_walk_known_page(engine, linear, access);
	if (known) {
		target->gpa = known->gpa + (linear & ~NX_PAGE_MASK);
		target->device = target->traced = false;
		target->host = known->host + (linear & ~NX_PAGE_MASK);
		stored_to = known->allows >> NX_WRITE & 1;
	} else {
		enum nx_status status = find_target(engine, linear, access, target, &stored_to);

		if (status != NX_OK || target->device)
			return status;
	}
	if (access != NX_READ && access != NX_WRITE)
		return NX_OK;
	page = (uint8_t *)target->host - (linear & ~NX_PAGE_MASK);
	if (stored_to)
		stores = is_code_page(engine, page) ? STORES_GUARDED : STORES_FREE;
	tlb_fill(engine, linear, page, stores);
	if (access == NX_WRITE && stores == STORES_GUARDED &&
	    changes_code(engine, target->host, size))
		return NX_LEAVE_CODE_WRITE;
	return NX_OK;
}

enum nx_status nx_code_page(struct nx_engine *engine, uint64_t linear, const uint8_t **host)
{
	const struct nx_walk_page *known = nx_walk_known_page(engine, linear, NX_FETCH);
	struct nx_target target = {.host = NULL};
	enum nx_status status;
	bool stored_to;

	if (known) {
		*host = known->host;
		return NX_OK;
	}
	status = find_target(engine, linear, NX_FETCH, &target, &stored_to);
	if (status != NX_OK)
		return status;
	if (target.device)
		return NX_LEAVE_CODE_UNREADABLE;
	*host = (const uint8_t *)target.host - (linear & ~NX_PAGE_MASK);
	return NX_OK;
}

enum nx_status nx_guest_read_across(struct nx_engine *engine, uint64_t linear, unsigned size,
				    void **host)
{
	unsigned first = NX_PAGE_SIZE - (unsigned)(linear & ~NX_PAGE_MASK);
	struct nx_target low, high;
	enum nx_status status;

	/* An access must not wrap either. */
	if (size > sizeof(engine->guest.across) ||
	    (engine->mode.bits != 64 && linear + size - 1 > UINT32_MAX))
		return NX_LEAVE_PAGE_CROSSING;
	status = nx_guest_resolve_linear(engine, linear, first, NX_READ, &low);
	if (status == NX_OK)
		status =
		    nx_guest_resolve_linear(engine, linear + first, size - first, NX_READ, &high);
	if (status != NX_OK)
		return status;
	if (low.device || high.device)
		return NX_LEAVE_PAGE_CROSSING;
	nx_memcpy(engine->guest.across, low.host, first);
	nx_memcpy(engine->guest.across + first, high.host, size - first);
	*host = engine->guest.across;
	return NX_OK;
}

/* Compute the linear address of an offset in a segment, if the segment allows the access. */
static enum nx_status segment_linear(const struct nx_engine *engine, enum nx_sreg seg,
				     uint64_t offset, unsigned size, bool write, uint64_t *linear)
{
	const struct nx_context_seg *s = &engine->context.seg[seg];

	if (engine->mode.bits == 64) {
		*linear = offset + (seg == NX_FS || seg == NX_GS ? s->base : 0);
		return NX_OK;
	}
	if (offset + size > (write ? s->write_end : s->read_end) ||
	    offset < engine->context.seg_lower[seg])
		return NX_LEAVE_SEGMENT;
	*linear = (uint32_t)(s->base + offset);
	return NX_OK;
}

bool nx_guest_is_inside(const struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			unsigned size, bool write)
{
	uint64_t linear;

	return segment_linear(engine, seg, offset, size, write, &linear) == NX_OK;
}

/* Look the TLB up: what emitted code checks inline, and no pointer on a mispredicted path either.
 */
static void *tlb_lookup(const struct nx_engine *engine, uint64_t linear, unsigned size, bool write)
{
	const struct nx_tlb_entry *entry = &engine->context.tlb[(linear >> 12) % NX_TLB_ENTRIES];
	uint64_t last = (linear + size - 1) & NX_PAGE_MASK;
	uint64_t differs = (write ? entry->write : entry->read) ^ last;

	return (void *)(uintptr_t)((linear + entry->addend) & nx_mask_below(differs, 1));
}

static enum nx_status guest_access(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
				   unsigned size, bool write, void **host)
{
	struct nx_target target = {.host = NULL};
	uint64_t linear;
	enum nx_status status = segment_linear(engine, seg, offset, size, write, &linear);

	if (status != NX_OK)
		return status;
	*host = tlb_lookup(engine, linear, size, write);
	if (!*host && write)
		*host = nx_tlb_lookup_guarded(engine, linear, size);
	if (*host)
		return NX_OK;
	status = nx_guest_resolve_linear(engine, linear, size, write ? NX_WRITE : NX_READ, &target);
	if (status == NX_OK && target.device)
		status = NX_LEAVE_DEVICE_FORM;
	*host = target.host;
	return status;
}

/*
 * Access memory once, with the guest's width: other vCPUs must not see halves of an aligned value,
 * and memcpy() does not promise that.
 */
typedef uint16_t __attribute__((may_alias, aligned(1))) any16;
typedef uint32_t __attribute__((may_alias, aligned(1))) any32;
typedef uint64_t __attribute__((may_alias, aligned(1))) any64;

static uint64_t load(const void *from, unsigned size)
{
	switch (size) {
	case 1:
		return *(const volatile uint8_t *)from;
	case 2:
		return *(const volatile any16 *)from;
	case 4:
		return *(const volatile any32 *)from;
	default:
		return *(const volatile any64 *)from;
	}
}

static void store(void *to, uint64_t value, unsigned size)
{
	switch (size) {
	case 1:
		*(volatile uint8_t *)to = (uint8_t)value;
		break;
	case 2:
		*(volatile any16 *)to = (uint16_t)value;
		break;
	case 4:
		*(volatile any32 *)to = (uint32_t)value;
		break;
	default:
		*(volatile any64 *)to = value;
		break;
	}
}

enum nx_status nx_guest_bytes(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			      unsigned size, unsigned alignment, bool write, void **host)
{
	uint64_t linear;
	enum nx_status status = segment_linear(engine, seg, offset, size, write, &linear);

	if (status != NX_OK)
		return status;
	/* Before anything is marked as accessed. */
	if (linear & (alignment - 1))
		return NX_LEAVE_FAULT;
	status = guest_access(engine, seg, offset, size, write, host);
	if (status == NX_LEAVE_PAGE_CROSSING && !write)
		status = nx_guest_read_across(engine, linear, size, host);
	return status;
}

enum nx_status nx_guest_read(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			     uint64_t *to, unsigned size)
{
	void *host;
	enum nx_status status = nx_guest_bytes(engine, seg, offset, size, 1, false, &host);

	if (status == NX_OK)
		*to = load(host, size);
	return status;
}

enum nx_status nx_guest_write(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			      const uint64_t *from, unsigned size)
{
	void *host;
	enum nx_status status = guest_access(engine, seg, offset, size, true, &host);

	if (status == NX_OK)
		store(host, *from, size);
	return status;
}

enum nx_status nx_guest_resolve(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
				unsigned size, bool write, struct nx_target *target)
{
	uint64_t linear;
	enum nx_status status = segment_linear(engine, seg, offset, size, write, &linear);

	if (status != NX_OK)
		return status;
	return nx_guest_resolve_linear(engine, linear, size, write ? NX_WRITE : NX_READ, target);
}

enum nx_status nx_guest_pointer(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
				unsigned size, void **host)
{
	return guest_access(engine, seg, offset, size, true, host);
}
