/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * guest.h - the guest's memory, mode and code as the processor sees them: walk.c (linear to
 * guest-physical addresses), pages.c (where walks have led), memory.c (accesses by C code, the
 * software TLB), ioperm.c (ports that the task's bitmap allows), mode.c (mode and segments),
 * consistency.c (code that has changed).
 */
#ifndef NX_GUEST_H
#define NX_GUEST_H

#include "common.h"
#include "context.h"

struct nx_cluster;

#define NX_MAX_CODE_PAGES 48

#define NX_MAX_LOAD 16 /* bytes of one operand that is loaded and not stored */

/*
 * walk.c: where the last walks of 4 and 5 levels have led to, as a processor's paging-structure
 * caches keep it (SDM vol. 3, 4.10.3): to a page table or, with large pages, to a page. As long as
 * a TLB's entry could live that is taken as it is; after that the entries are read again, and it
 * holds if all of them are what they were. The pointers hold as long as the host says so.
 */
#define NX_WALK_TABLES 256 /* a power of two */
#define NX_WALK_UPPER 4
struct nx_walk_table {
	uint64_t tag;    /* the linear address without the bits below 2 MiB, and 1; 0: none */
	uint32_t pages;  /* nx_guest.walk_pages, as of the pointers */
	uint32_t time;   /* nx_guest.walk_time, when the entries were read last */
	uint64_t number; /* no other walk's has it */
	uint64_t cr3, cr4, efer;
	uint64_t rights;    /* of the entries, all of which are marked as accessed */
	uint64_t *table;    /* NULL: the last entry is that of a large page */
	bool writable;      /* the table, by us */
	uint8_t upper;      /* entries, the last one's being that of the table or large page */
	uint8_t page_shift; /* of the large page */
	const uint64_t *entry[NX_WALK_UPPER];
	uint64_t value[NX_WALK_UPPER];
};

/*
 * pages.c: the pages of memory that walks have led to, with the host's. Within walk_time they hold
 * as they are. Later one holds if the table above it does, its own entry is what it was, and the
 * rights are judged by the same rules.
 */
#define NX_WALK_PAGES 128 /* a power of two: rows, of two pages each */
struct nx_walk_page {
	uint64_t linear; /* of the page, and 1; 0: none */
	uint64_t gpa;    /* likewise, without the 1 */
	uint8_t *host;
	/* The table, that it is the one, and its entry for the page, or a large page's own. */
	struct nx_walk_table *table; /* NULL: the page holds within walk_time only */
	uint64_t table_number;
	const uint64_t *entry;
	uint64_t value;
	uint64_t rules; /* nx_guest.rules, by which it was found */
	uint32_t time;  /* nx_guest.walk_time, when it was found or proven last */
	uint32_t noted; /* nx_guest.code_time, when it was noted as a page of code last */
	uint8_t allows; /* 1 << enum nx_access: nothing is to be marked for these */
};

/* A set of pages that says of most others that they are not in it. */
struct nx_page_filter {
	uint64_t bits[4];
};

static inline void nx_filter_add(struct nx_page_filter *filter, uint64_t address)
{
	filter->bits[address >> 18 & 3] |= 1ull << (address >> 12 & 63);
}

static inline bool nx_filter_may_have(const struct nx_page_filter *filter, uint64_t address)
{
	return filter->bits[address >> 18 & 3] >> (address >> 12 & 63) & 1;
}

/* Cached translations of guest addresses, and when they may be used. */
struct nx_guest {
	bool in_session; /* between the host's guest_enter() and guest_leave() */
	/* Host pages with code of this stay's clusters, stores to which leave. */
	void *code_page[NX_MAX_CODE_PAGES];
	uint64_t code_linear[NX_MAX_CODE_PAGES]; /* where each is mapped */
	unsigned code_pages;
	uint32_t code_time; /* counts the times that the list was emptied */
	/* Filters of both, and of the pages that the TLB lets be stored to. */
	struct nx_page_filter code_pages_in, code_linear_in, stored_in;
	/* What was looked at last. */
	uint64_t last_code_linear; /* valid if last_code_page is not NULL */
	const uint8_t *last_code_page;
	/* TLB entries in use, so that a flush costs what was used. */
	uint8_t tlb_used[NX_TLB_ENTRIES];
	unsigned tlb_used_count;
	struct nx_walk_table walk_table[NX_WALK_TABLES];
	struct nx_walk_page walk_page[NX_WALK_PAGES][2]; /* a row's last one first */
	uint32_t walk_pages, walk_time;
	/*
	 * What decides on rights beside the entries, and CR4 and EFER, which a table has: numbered,
	 * and when it was asked last.
	 */
	uint64_t rules;
	uint32_t rules_time;
	struct nx_walk_rules {
		uint64_t cr0;
		uint32_t pkru;
		uint8_t cpl;
		bool ac;
	} by_rules;
	uint64_t walk_number; /* of the last table */
	/* Of the last walk: what nx_walk_keep() keeps. */
	struct nx_walk_found {
		struct nx_walk_table *table;
		const uint64_t *entry;
		uint64_t value;
		bool stores; /* it would do for a store, too, with nothing to be marked */
	} found;
	/* ioperm.c: the task's segment and its bitmap, as found in this stay. */
	struct nx_io_page {
		uint64_t linear; /* of the page, unknown if host is NULL */
		const uint8_t *host;
	} io_page[2];
	unsigned next_entry;         /* consistency.c: the number behind that of the last entry */
	uint8_t across[NX_MAX_LOAD]; /* memory.c: the bytes of a load that crosses a page */
};

/* NX_READ_SYSTEM: a read by the processor for itself, at any privilege level. */
enum nx_access { NX_READ, NX_WRITE, NX_FETCH, NX_READ_SYSTEM };

/* Translate a linear address by the guest's page tables, with all rights checked and accessed
 * and dirty bits set as the processor sets them (SDM vol. 3, chapter 4). With paging off the
 * result is the address itself, truncated to 32 bits. The access must not cross a page. On
 * anything but NX_OK nothing that the guest could see as a fault's effect has happened. */
enum nx_status nx_walk(struct nx_engine *engine, uint64_t linear, enum nx_access access,
		       uint64_t *gpa);
/* Return whether the entries above a table are what they were. */
bool nx_walk_is_unchanged(const struct nx_engine *engine, const struct nx_walk_table *table);
/*
 * Return the page at a linear address, if a walk has led there before, another one would lead there
 * now, and mark nothing that is not marked; or NULL.
 */
struct nx_walk_page *nx_walk_known_page(struct nx_engine *engine, uint64_t linear,
					enum nx_access access);
/* Return the page at the address if one is kept, which may be in the past, or NULL. */
struct nx_walk_page *nx_walk_kept_page(struct nx_engine *engine, uint64_t linear);
/* Keep the page that the last walk has led to: memory that may be stored to, as to the host. */
void nx_walk_keep(struct nx_engine *engine, uint64_t linear, enum nx_access access, uint64_t gpa,
		  void *host);
/* Have the next walks read the entries of all levels. */
void nx_walk_forget(struct nx_engine *engine);
/* Have them look up pages as well: what the host has said of any no longer holds. */
void nx_walk_drop(struct nx_engine *engine);
/* Have nothing left of earlier walks: what is from one turn of a counter before would be taken for
 * something of now. */
void nx_walk_clear(struct nx_engine *engine);
/* Forget the translations of guest addresses, but not what the host has said of its pages. */
void nx_guest_forget(struct nx_engine *engine);

/* The place of an access. */
struct nx_target {
	bool device, traced;
	void *host;   /* !device */
	uint64_t gpa; /* both */
};

/* Resolve a linear access of size bytes within one page: walk, host page, rights of the host.
 * Fill the TLB for RAM. A store to bytes from which the running translation was made gives
 * NX_LEAVE_CODE_WRITE. */
enum nx_status nx_guest_resolve_linear(struct nx_engine *engine, uint64_t linear, unsigned size,
				       enum nx_access access, struct nx_target *target);
/* Find the place of an access from C, a device included. */
enum nx_status nx_guest_resolve(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
				unsigned size, bool write, struct nx_target *target);
/* Read or write guest memory from C for helpers, at most 8 bytes, at segment:offset with all
 * checks. A value read is zero-extended. */
enum nx_status nx_guest_read(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			     uint64_t *to, unsigned size);
enum nx_status nx_guest_write(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			      const uint64_t *from, unsigned size);
/*
 * Return the host's pointer to as many bytes, which are to be read or to be written. What is read
 * may be a copy, if it lies on two pages. Where the address is no multiple of alignment, a power of
 * two, the instruction faults.
 */
enum nx_status nx_guest_bytes(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			      unsigned size, unsigned alignment, bool write, void **host);
/* Return whether the segment allows the access; mark nothing. */
bool nx_guest_is_inside(const struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			unsigned size, bool write);
/* Return the host's pointer to guest memory that can be written. */
enum nx_status nx_guest_pointer(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
				unsigned size, void **host);
void nx_tlb_flush(struct nx_engine *engine);
/* Empty the list of code pages. */
void nx_code_forget(struct nx_engine *engine);

/* A part of nx_session_begin() (engine.h): the host has not said that all is as it was. */
enum nx_status nx_session_forgets(struct nx_engine *engine, enum nx_session session);
/* Load from two pages of memory: *host is a copy of the bytes. Stores leave, because a store
 * would be half done if the second page were missing. */
enum nx_status nx_guest_read_across(struct nx_engine *engine, uint64_t linear, unsigned size,
				    void **host);
/* Return the place of a store to a page of code that has been looked up in this stay, or NULL.
 * As in the TLB lookup of memory.c there is no pointer under misprediction. */
void *nx_tlb_lookup_guarded(const struct nx_engine *engine, uint64_t linear, unsigned size);
/* Find the host's view of the page that holds guest code at a linear address, by a walk for
 * fetching. */
enum nx_status nx_code_page(struct nx_engine *engine, uint64_t linear, const uint8_t **host);

/* Check that the bitmap in the task's segment allows a port access; return NX_OK or the reason
 * to leave (SDM vol. 1, 19.5.2). */
enum nx_status nx_io_permitted(struct nx_engine *engine, uint16_t port, unsigned size);
/* Forget the bitmap: the task's segment is another one, or its pages are. */
void nx_io_forget(struct nx_engine *engine);
/* Return whether there is such a bitmap. */
bool nx_io_bitmap_exists(const struct nx_state *state);

/* Fill in mode, cpl, and the context's segments and rflags (walks need AC); return NX_OK, or why
 * the engine does not run in this state. */
enum nx_status nx_mode_load(struct nx_engine *engine);

/* Compare the guest code under the cluster with the bytes from which it was made, through the
 * mapping that is valid now, and note its host pages in the engine (stores to them leave). */
enum nx_status nx_code_check(struct nx_engine *engine, const struct nx_cluster *cluster,
			     uint32_t offset);

#endif
