/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * guest.h - the guest's memory, mode and code as the processor sees them: walk.c (linear to
 * guest-physical addresses), memory.c (accesses by C code, the software TLB), ioperm.c (ports that
 * the task's bitmap allows), mode.c (mode and segments), consistency.c (code that has changed).
 */
#ifndef NX_GUEST_H
#define NX_GUEST_H

#include "common.h"
#include "context.h"

struct nx_cluster;

#define NX_MAX_CODE_PAGES 24

#define NX_MAX_LOAD 8 /* bytes of one operand that is loaded and not stored */

/* What has been looked up of the guest's and the host's mappings, and when it may be used. */
struct nx_guest {
	bool in_session; /* between the host's guest_enter() and guest_leave() */
	/* Host pages that the code of this stay's clusters lies on: stores to them leave. */
	void *code_page[NX_MAX_CODE_PAGES];
	uint64_t code_linear[NX_MAX_CODE_PAGES]; /* where each is mapped */
	unsigned code_pages;
	/* TLB entries in use, so that a flush costs what was used. */
	uint8_t tlb_used[NX_TLB_ENTRIES];
	unsigned tlb_used_count;
	/* ioperm.c: where this stay found the task's segment and its bitmap. */
	struct nx_io_page {
		uint64_t linear; /* of the page; host NULL: unknown */
		const uint8_t *host;
	} io_page[2];
	uint8_t across[NX_MAX_LOAD]; /* memory.c: what a load finds on two pages */
};

/* NX_READ_SYSTEM: by the processor for itself, whatever the privilege level. */
enum nx_access { NX_READ, NX_WRITE, NX_FETCH, NX_READ_SYSTEM };

/*
 * The guest-physical address of a linear address, by the guest's page tables, with all rights
 * checked and accessed and dirty bits set as the processor sets them (SDM vol. 3, chapter 4).
 * Paging off: the address itself, truncated to 32 bits. The access must not cross a page. On
 * anything but NX_OK nothing that the guest could see as a fault's effect has happened.
 */
enum nx_status nx_walk(struct nx_engine *engine, uint64_t linear, enum nx_access access,
		       uint64_t *gpa);

/* Where an access ended up. */
struct nx_target {
	bool device, traced;
	void *host;   /* !device */
	uint64_t gpa; /* both */
};

/*
 * Resolves a linear access of size bytes within one page: walk, host page, rights of the host.
 * Fills the TLB for RAM. A store to bytes that the running translation was made from gives
 * NX_LEAVE_CODE_WRITE.
 */
enum nx_status nx_resolve(struct nx_engine *engine, uint64_t linear, unsigned size,
			  enum nx_access access, struct nx_target *target);
/* Where an access from C ends up, a device included. */
enum nx_status nx_guest_resolve(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
				unsigned size, bool write, struct nx_target *target);
/*
 * Reads or writes guest memory from C, at most 8 bytes, segment:offset with all checks, for
 * helpers. A value read is zero-extended.
 */
enum nx_status nx_guest_read(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			     uint64_t *to, unsigned size);
enum nx_status nx_guest_write(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			      const uint64_t *from, unsigned size);
/* Does the segment allow the access? Marks nothing. */
bool nx_guest_is_inside(const struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
			unsigned size, bool write);
/* The host's pointer to guest memory that can be written. */
enum nx_status nx_guest_pointer(struct nx_engine *engine, enum nx_sreg seg, uint64_t offset,
				unsigned size, void **host);
void nx_tlb_flush(struct nx_engine *engine);
/* nx_session_begin() and nx_session_end() (engine.h) with a host that lends memory by session. */
enum nx_status nx_session_open(struct nx_engine *engine);
void nx_session_close(struct nx_engine *engine);
/*
 * Load from two pages of memory: *host is a copy of the bytes. A store would be half done where the
 * second page turns out not to be there, so stores leave.
 */
enum nx_status nx_read_across(struct nx_engine *engine, uint64_t linear, unsigned size,
			      void **host);
/*
 * A store to a page of code that has been looked up in this stay: where to, or NULL. As in
 * the TLB lookup of memory.c there is no pointer on a mispredicted way.
 */
void *nx_guarded_lookup(const struct nx_engine *engine, uint64_t linear, unsigned size);
/* The host's view of the page that holds guest code at a linear address, by a walk for fetching. */
enum nx_status nx_code_page(struct nx_engine *engine, uint64_t linear, const uint8_t **host);

/*
 * Whether the bitmap in the task's segment allows a port access: NX_OK, or the reason to leave
 * (SDM vol. 1, 19.5.2).
 */
enum nx_status nx_io_permitted(struct nx_engine *engine, uint16_t port, unsigned size);
/* Whether there is such a bitmap at all. */
bool nx_io_bitmap_exists(const struct nx_state *state);

/* Fills mode, cpl and the context's segments; NX_OK, or why the engine does not run in this. */
enum nx_status nx_load_mode(struct nx_engine *engine);

/*
 * Compares the guest code under the cluster with what it was made from, through the mapping that
 * is valid now, and notes its host pages in the vCPU (stores to them leave).
 */
enum nx_status nx_check_code(struct nx_engine *engine, const struct nx_cluster *cluster,
			     uint32_t offset);

#endif
