/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * internal.h - what the engine's stages share. Data flows in this order:
 *
 *	tracker.c    is this exit worth taking over?
 *	decode.c     guest bytes to struct nx_insn
 *	form.c       what belongs to a cluster; graph.c: its blocks and fragments (struct nx_graph)
 *	paths.c      which ways control went, for clusters across indirect branches
 *	translate.c  graph to host code (lower.c: instructions; access.c, group.c: their memory
 *	             accesses; emit.c: one host instruction)
 *	verify.c     proves the host code harmless; shares no code with translate.c
 *	trace.c      follows the guest to its next exit where formation knows no way
 *	cache.c      keeps translations, finds them by entry
 *	walk.c       linear to guest-physical address, as the processor does
 *	memory.c     guest memory for C code, the software TLB, the miss handler
 *	ioperm.c     which ports the task's bitmap allows
 *	helper.c     guest instructions that emitted code calls C for
 *	mode.c       the processor's mode and segments
 *	runtime.c    nx_engine_resume()
 *	enter.S      the way into a translation and out of it
 */
#ifndef NX_INTERNAL_H
#define NX_INTERNAL_H

#include "context.h"
#include "noexit.h"

#define NX_PAGE_SIZE 4096u
#define NX_PAGE_MASK (~(uint64_t)(NX_PAGE_SIZE - 1))
#define NX_CACHE_LINE 64u

/* Calls of memcpy and friends, which gcc emits on its own as well; freestanding.c has them. */
#define nx_memcpy __builtin_memcpy
#define nx_memset __builtin_memset
#define nx_memcmp __builtin_memcmp

/* rflags and control-register bits that the engine looks at (SDM vol. 3, 2.3 and 2.5). */
#define NX_FL_CF (1u << 0)
#define NX_FL_PF (1u << 2)
#define NX_FL_AF (1u << 4)
#define NX_FL_ZF (1u << 6)
#define NX_FL_SF (1u << 7)
#define NX_FL_TF (1u << 8)
#define NX_FL_IF (1u << 9)
#define NX_FL_DF (1u << 10)
#define NX_FL_OF (1u << 11)
#define NX_FL_IOPL (3u << 12)
#define NX_FL_NT (1u << 14)
#define NX_FL_RF (1u << 16)
#define NX_FL_VM (1u << 17)
#define NX_FL_AC (1u << 18)
#define NX_FL_ARITHMETIC (NX_FL_CF | NX_FL_PF | NX_FL_AF | NX_FL_ZF | NX_FL_SF | NX_FL_OF)

#define NX_CR0_PE (1ull << 0)
#define NX_CR0_WP (1ull << 16)
#define NX_CR0_AM (1ull << 18)
#define NX_CR0_PG (1ull << 31)
#define NX_CR4_TSD (1ull << 2)
#define NX_CR4_PSE (1ull << 4)
#define NX_CR4_PAE (1ull << 5)
#define NX_CR4_LA57 (1ull << 12)
#define NX_CR4_SMEP (1ull << 20)
#define NX_CR4_SMAP (1ull << 21)
#define NX_CR4_PKE (1ull << 22)
#define NX_CR4_CET (1ull << 23)
#define NX_CR4_PKS (1ull << 24)
#define NX_EFER_LMA (1ull << 10)
#define NX_EFER_NXE (1ull << 11)

/* ---- The context (context.h has the offsets and the rules) ---- */

struct nx_context_seg {
	uint64_t base;
	uint64_t read_end, write_end;
	uint64_t selector;
};

/* A tag is the linear page's address, or 1: matches nothing. */
struct nx_tlb_entry {
	uint64_t read, write;
	uint64_t addend;  /* host address minus linear address */
	uint64_t guarded; /* for C: may be written, but code lies on it, so write does not match */
};

struct nx_context {
	uint64_t gpr[NX_GPRS];
	uint64_t flags;
	uint32_t site, unused_site;
	uint64_t linear;
	uint64_t temp[2];
	uint64_t turns, idle_turns;
	uint64_t rflags; /* without the arithmetic flags, which are in flags */
	struct nx_context_seg seg[NX_SREGS];
	uint64_t seg_lower[NX_SREGS], unused_lower[2]; /* 0 but for expand-down segments */
	struct nx_tlb_entry tlb[NX_TLB_ENTRIES];
	const void *thunk_exit, *thunk_miss, *thunk_helper;
	uint64_t host_rsp;
	uint64_t target;
};

#define NX_AT(member, offset) \
	_Static_assert(offsetof(struct nx_context, member) == (offset), #member)
NX_AT(gpr, NX_CTX_GPR);
NX_AT(flags, NX_CTX_FLAGS);
NX_AT(site, NX_CTX_SITE);
NX_AT(linear, NX_CTX_LINEAR);
NX_AT(temp, NX_CTX_TEMP);
NX_AT(turns, NX_CTX_TURNS);
NX_AT(idle_turns, NX_CTX_IDLE_TURNS);
NX_AT(rflags, NX_CTX_RFLAGS);
NX_AT(seg, NX_CTX_SEG);
NX_AT(seg[0].selector, NX_CTX_SEG + NX_SEG_SELECTOR);
NX_AT(seg[1], NX_CTX_SEG + NX_SEG_SIZE);
NX_AT(seg_lower, NX_CTX_SEG_LOWER);
NX_AT(tlb, NX_CTX_TLB);
NX_AT(tlb[0].write, NX_CTX_TLB + NX_TLB_WRITE);
NX_AT(tlb[0].addend, NX_CTX_TLB + NX_TLB_ADDEND);
NX_AT(tlb[1], NX_CTX_TLB + NX_TLB_ENTRY_SIZE);
NX_AT(thunk_exit, NX_CTX_THUNK_EXIT);
NX_AT(thunk_miss, NX_CTX_THUNK_MISS);
NX_AT(thunk_helper, NX_CTX_THUNK_HELPER);
NX_AT(host_rsp, NX_CTX_HOST_RSP);
NX_AT(target, NX_CTX_TARGET);
#undef NX_AT

/* ---- tracker.c ---- */

/*
 * The leakage-aware exit tracker of the paper (section 3.2 of DESIGN.md): 512 rows of 8-deep
 * FIFOs; a 35-bit hash gives a 9-bit row and a 26-bit tag.
 */
#define NX_TRACKER_ROWS 512
#define NX_TRACKER_DEPTH 8

struct nx_tracker_entry {
	uint32_t tag : 26;
	uint32_t count : 2; /* saturating */
	uint32_t age : 4;   /* epoch of insertion, modulo 16 */
	uint8_t properties; /* NX_TRACK_* */
	uint8_t valid;
	uint16_t skip; /* exits still to pass before the next try: after a barren formation */
};

/* Kinds of exits that were met at an instruction: 1u << enum nx_exit_kind. */
#define NX_TRACK_IO (1u << NX_EXIT_IO)
#define NX_TRACK_MMIO (1u << NX_EXIT_MMIO)
#define NX_TRACK_APART (1u << 3) /* a store that must not be merged with the next one */
#define NX_TRACK_ALL (NX_TRACK_APART * 2 - 1)
#define NX_TRACK_BARREN_SHIFT 4 /* 4 bits: how often formation found nothing here */

struct nx_tracker {
	struct nx_tracker_entry row[NX_TRACKER_ROWS][NX_TRACKER_DEPTH]; /* [0] is the newest */
	uint64_t epoch_ns; /* when the current epoch began */
	uint8_t epoch;     /* modulo 16; an epoch is 1 s */
	uint64_t leaks;
	uint16_t skip_first; /* nx_config */
	bool give_up;
};

enum nx_track_verdict {
	NX_TRACK_COLD,  /* leave it */
	NX_TRACK_HOT,   /* translate */
	NX_TRACK_FORCE, /* translate: we leak */
};

/*
 * Notes an exit at pc, whose instruction bytes (may be unknown: len 0) are hashed with it, at
 * time now in nanoseconds.
 */
enum nx_track_verdict nx_tracker_note(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
				      unsigned len, unsigned properties, uint64_t now);
/* It has been translated before: if it is known since its last exit only, it is hot. */
bool nx_tracker_remember(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
			 unsigned len);
/* Properties noted for this instruction, 0: none. Counts nothing. */
unsigned nx_tracker_properties(const struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
			       unsigned len);
/* The instruction's accesses go to memory after all. */
void nx_tracker_forget(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes, unsigned len);
/* Formation found nothing for this pc: passes over it for a while that doubles each time. */
void nx_tracker_barren(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes, unsigned len);

/* ---- walk.c ---- */

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

/* ---- memory.c ---- */

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
/* From now on stores to this host page miss. */
void nx_tlb_protect(struct nx_engine *engine, const void *page);

/* rflags' arithmetic bits, in the form that lahf and seto leave in ax (context.h, rule 5). */
static inline uint64_t nx_flags_to_context(uint64_t rflags)
{
	return (rflags & (NX_FL_SF | NX_FL_ZF | NX_FL_AF | NX_FL_PF | NX_FL_CF)) << 8 | 2u << 8 |
	       ((rflags & NX_FL_OF) != 0);
}

static inline uint64_t nx_flags_from_context(uint64_t flags)
{
	return (flags >> 8 & (NX_FL_SF | NX_FL_ZF | NX_FL_AF | NX_FL_PF | NX_FL_CF)) |
	       (flags & 1 ? NX_FL_OF : 0);
}
/* The host's view of the page that holds guest code at a linear address, by a walk for fetching. */
enum nx_status nx_code_page(struct nx_engine *engine, uint64_t linear, const uint8_t **host);

/* ---- ioperm.c ---- */

/*
 * Whether the bitmap in the task's segment allows a port access: NX_OK, or the reason to leave
 * (SDM vol. 1, 19.5.2).
 */
enum nx_status nx_io_permitted(struct nx_engine *engine, uint16_t port, unsigned size);
/* Whether there is such a bitmap at all. */
bool nx_io_bitmap_exists(const struct nx_state *state);

/* ---- decode.c ---- */

enum nx_op {
	NX_OP_LEAVE, /* not ours: leave before it */
	NX_OP_PLAIN, /* registers and at most one memory operand: re-encoded as it is */
	NX_OP_NOP,
	NX_OP_MOV_FROM_SREG,
	NX_OP_PUSH,
	NX_OP_POP,
	NX_OP_JMP,
	NX_OP_JCC, /* with loop and jcxz */
	NX_OP_CALL,
	NX_OP_RET,
	NX_OP_JMP_INDIRECT,
	NX_OP_CALL_INDIRECT,
	NX_OP_IN,
	NX_OP_OUT,
	NX_OP_INSN_EXIT,  /* an instruction that exits as such; target: enum nx_insn_exit */
	NX_OP_STORE_PAIR, /* two stores as one, by form.c */
	NX_OP_HELPER,     /* emitted code calls helper.c */
};

struct nx_insn {
	uint64_t rip;    /* guest rip (offset in CS) */
	uint64_t target; /* JMP, JCC, CALL: guest rip; IN, OUT: the port, if fixed */
	uint8_t len;
	uint8_t op;       /* enum nx_op */
	uint8_t size;     /* IN, OUT: bytes; PUSH, POP: operand bytes; memory: bytes accessed */
	uint8_t accesses; /* memory accesses, the stack's included */
	bool port_in_dx;  /* IN, OUT */
	bool memory_read, memory_write; /* of the explicit memory operand */
	bool device_form;               /* can exit: mmio_form, device.c, or a string instruction */
	bool string_io;                 /* INS, OUTS */
	bool repeated;                  /* a string instruction with a repeat prefix */
	uint16_t gap;   /* instructions since the last exiting one, on the shortest way */
	bool weak;      /* seen to exit before: an exit to formation, an access to translation */
	bool mmio_form; /* a device access by this form can be completed */
	uint8_t bytes[15];
	uint8_t first_len; /* STORE_PAIR: of the first store; both are in bytes */
	uint8_t helper;    /* HELPER: enum nx_helper_id */
	/* On paths: the calls around it (NX_CONTEXT_*) and, for a branch, its name in paths.c. */
	uint16_t context;
	uint64_t path, via;
};

/* How guest code is to be read: part of a translation's key. */
struct nx_mode {
	uint8_t bits;       /* 16, 32 or 64: of the code segment */
	uint8_t stack_bits; /* 16, 32 or 64 */
	bool flat;          /* CS, DS, ES and SS: base 0, limit 4 GiB, readable and writable */
	bool io_allowed;    /* CPL <= IOPL or real mode: IN, OUT, CLI do not fault */
	bool io_bitmap;     /* not io_allowed: IN and OUT ask the task's bitmap (ioperm.c) */
	bool user;          /* CPL 3 */
	bool protected_mode;
	uint32_t exits;     /* NX_EXITS_* that are in force at this CPL */
	bool segment_loads; /* real mode, and the host takes segment registers back */
	uint32_t features;  /* NX_FEATURE_* that the guest has, and NX_HAS_TSC */
	uint8_t lower;      /* segments with a lower bound: bits by enum nx_sreg */
};

/* In nx_mode.features: the host knows the guest's time-stamp counter, and CR4.TSD lets it be read.
 */
#define NX_HAS_TSC (1u << 31)

/* Decodes one instruction of at most 15 bytes. Never fails: what is not ours is NX_OP_LEAVE. */
void nx_decode(const struct nx_mode *mode, uint64_t rip, const uint8_t *bytes, unsigned available,
	       struct nx_insn *insn);

/* ---- paths.c and form.c ---- */

/*
 * What a step of the translation pipeline has led to. A step takes some microseconds. NX_BLOCKED:
 * the host refused the session that the step needs; it can be repeated.
 */
enum nx_progress { NX_MORE, NX_DONE, NX_FAILED, NX_BLOCKED };

#include "form/graph.h"

/* ---- translate.c ---- */

enum nx_site_kind {
	NX_SITE_LEAVE,  /* leave at rip */
	NX_SITE_ACCESS, /* a memory access by the instruction at rip */
	NX_SITE_IO,     /* a port exit */
	NX_SITE_INSN,   /* an instruction exit */
	NX_SITE_HELPER, /* a helper call for the instruction at rip */
};

/* What the runtime knows of a point in emitted code. */
struct nx_site {
	uint64_t rip;  /* of the instruction; LEAVE: where to go on */
	uint64_t from; /* LEAVE at a branch: its name (nx_path_name()); 0: at none */
	uint64_t via;
	uint32_t resume;  /* offset of the code after the exit, plus 1; 0: none */
	uint16_t context; /* LEAVE: the calls around rip, with via as nx_path_name() takes it */
	uint64_t next;    /* of the next instruction */
	uint8_t kind;     /* enum nx_site_kind */
	uint8_t size;     /* ACCESS, IO: bytes */
	bool write;       /* ACCESS, IO: direction; a read-modify-write is a write */
	uint8_t reason;   /* LEAVE */
	bool port_in_dx;
	bool mmio_form; /* ACCESS: the runtime can deliver it as an MMIO exit */
	uint16_t port;
	uint16_t insn;     /* index of the guest instruction in the cluster */
	uint16_t gap;      /* its nx_insn.gap */
	uint8_t len;       /* of the instruction */
	uint8_t first_len; /* of a store pair's first; 0: no pair */
	uint8_t helper;    /* HELPER: enum nx_helper_id */
	uint8_t bytes[15];
};

/*
 * An entry point: resuming at guest rip starts at this offset of the code. fragments: a bit for
 * each that has code which may run from there before an exit; the cache fills it.
 */
#define NX_FRAGMENT_WORDS ((NX_MAX_FRAGMENTS + 63) / 64)
struct nx_entry {
	uint64_t rip;
	uint32_t offset;
	uint64_t fragments[NX_FRAGMENT_WORDS];
};

#define NX_MAX_SITES 1536

struct nx_translation {
	uint32_t size;
	uint16_t sites, entries;
	struct nx_site site[NX_MAX_SITES];
	struct nx_entry entry[NX_MAX_BLOCKS];
};

/*
 * Emits host code for the graph to code_rw, which will run wherever it is (position
 * independent). false: something could not be encoded, or it did not fit.
 */
bool nx_translate(struct nx_engine *engine, const struct nx_graph *graph, uint8_t *code_rw,
		  size_t capacity, struct nx_translation *out);
/* The same in steps. Everything that was passed stays as it is until the last one. */
void nx_translate_begin(struct nx_engine *engine, const struct nx_graph *graph, uint8_t *code_rw,
			size_t capacity, struct nx_translation *out);
enum nx_progress nx_translate_step(struct nx_engine *engine);

/* ---- make.c ---- */

struct nx_cluster;
struct nx_cache;
/*
 * The pipeline's last stages: translates the vCPU's graph in scratch memory, has it verified, and
 * only then copies the code to the code cache's free end. NX_OK, or why there is no code:
 * NX_LEAVE_UNTRANSLATED, NX_LEAVE_REFUSED, NX_LEAVE_CACHE_FULL.
 */
enum nx_status nx_make_code(struct nx_engine *engine, struct nx_cache *cache);
/* The same, but for the copy: the verified code is in the scratch memory (emitted). */
enum nx_status nx_make_emitted(struct nx_engine *engine);
/* nx_make_code(), and kept; a full cache is flushed. NULL: *status says why. */
struct nx_cluster *nx_make_block(struct nx_engine *engine, enum nx_status *status);
/*
 * The cluster that begins at rip, for exits at pc, made as far as time permits and, if that was not
 * enough, from there on by later calls. NULL: *status is a pause (nx_is_pause()) where it goes on
 * next time; NX_LEAVE_COLD where making one has not been earned (unless this one is:
 * earned) or another one is being made; NX_LEAVE_NO_CLUSTER where formation has found nothing; or
 * as nx_make_code().
 */
struct nx_cluster *nx_make_cluster(struct nx_engine *engine, uint64_t rip, uint64_t pc, bool earned,
				   enum nx_status *status);
/* Is another cluster being made, and not for too long? Whoever makes something asks first. */
bool nx_make_is_busy(struct nx_engine *engine);
/* Something else needs the scratch memory: what was being made is begun anew some time. */
void nx_make_abandon(struct nx_engine *engine);
/* Between two steps: NX_OK, or the reason to leave. */
enum nx_status nx_must_pause(struct nx_engine *engine);
static inline bool nx_is_pause(enum nx_status status)
{
	return status == NX_LEAVE_STOP || status == NX_LEAVE_LATENCY || status == NX_LEAVE_SESSION;
}

/* ---- enter.S, and what it calls ---- */

/* Runs emitted code until it stores a site and exits; the site is in the context then. */
void nx_enter(struct nx_engine *engine, const void *code);
void nx_thunk_exit(void);
void nx_thunk_miss(void);
void nx_thunk_helper(void);
/* callback.c: the pointer for the access at the context's site; NULL: stop_reason says why not. */
void *nx_runtime_miss(struct nx_engine *engine);
/* Runs the instruction at the context's site; false: stop before it. */
bool nx_runtime_helper(struct nx_engine *engine);

/* ---- cache.c ---- */

/* An empty cache for the code memory from begin to end, offsets. */
void nx_cache_init(struct nx_cache *cache, uint32_t begin, uint32_t end);
/* The cluster with an entry at rip, in the vCPU's current mode; *offset: of its code. */
struct nx_cluster *nx_cache_find(struct nx_engine *engine, const struct nx_cache *cache,
				 uint64_t rip, uint32_t *offset);
/* Is there an entry, in whatever mode, at rip or behind an instruction at rip? */
bool nx_cache_has_entry_near(const struct nx_engine *engine, uint64_t rip);
/* Would guest code be read now as it was then, in this mode and code segment? */
bool nx_mode_is_current(const struct nx_engine *engine, const struct nx_mode *mode,
			uint64_t cs_base, uint32_t cs_limit);
/* Is it valid, in the vCPU's current mode? */
bool nx_cluster_is_current(const struct nx_engine *engine, const struct nx_cluster *cluster);
/*
 * Copies verified code (nx_make_code()) to the code cache's free end; NX_OK or NX_LEAVE_CACHE_FULL.
 */
enum nx_status nx_cache_place(struct nx_engine *engine, const struct nx_cache *cache);
/* Keeps what has been placed there; NULL: no room. */
struct nx_cluster *nx_cache_insert(struct nx_engine *engine, struct nx_cache *cache);
/*
 * Both: the vCPU's graph, whose code has been verified, becomes a cluster of the cache. A full
 * cache is flushed, and it is tried once more. NULL: *status says why.
 */
struct nx_cluster *nx_cache_add(struct nx_engine *engine, struct nx_cache *cache,
				enum nx_status *status);
void nx_cache_drop(struct nx_engine *engine, struct nx_cluster *cluster);
/* The cluster that was outgrown, if what has been formed in its place is the same; else NULL. */
struct nx_cluster *nx_cache_revive(struct nx_engine *engine);
void nx_cache_flush(struct nx_engine *engine, struct nx_cache *cache);

/* ---- consistency.c ---- */

/*
 * Compares the guest code under the cluster with what it was made from, through the mapping that
 * is valid now, and notes its host pages in the vCPU (stores to them leave).
 */
enum nx_status nx_check_code(struct nx_engine *engine, const struct nx_cluster *cluster,
			     uint32_t offset);

/* ---- complete.c ---- */

/* Finishes a pending exit of the simple kinds with the host's data: registers and rip. */
void nx_finish_pending(struct nx_engine *engine, uint64_t data);

/* ---- device.c ---- */

struct nx_string_pending; /* engine.h */

/*
 * Begins a device access, at the site and stop_gpa, by an instruction that is not a mere MOV: fills
 * *exit and returns its pending kind, or NX_PENDING_NONE: leave before it.
 */
unsigned nx_begin_bounce(struct nx_engine *engine, const struct nx_site *site,
			 struct nx_exit *exit);
/* The device has answered: runs the instruction. Returns whether *exit is now the write half. */
bool nx_finish_bounce_read(struct nx_engine *engine, struct nx_exit *exit);
/* Return whether the string exit is finished; false: the host refused the session. */
bool nx_finish_string(struct nx_engine *engine, const struct nx_exit *exit);
/* The element's load is done, the store is to come: *exit is that. */
void nx_finish_string_load(struct nx_engine *engine, struct nx_exit *exit);
/* Prepares the exit of a string instruction's elements on a device, or of INS and OUTS. */
enum nx_status nx_string_exit(struct nx_engine *engine, const struct nx_string_pending *pending,
			      const struct nx_exit *exit);

/* ---- trace.c ---- */

/* What the engine makes once, with the median of the nanoseconds that each takes. */
enum nx_making {
	NX_MAKE_INSN,  /* an instruction of a cluster formed, translated and verified */
	NX_MAKE_TRACE, /* a path followed that may lead nowhere */
	NX_MAKE_STEPS, /* a path followed that is known, of blocks that are there */
	NX_MAKINGS
};

/*
 * Runs the guest on from the state's rip to its next exiting instruction and notes the way. true:
 * the running translation stands at the site of the exit. false: *status says why not; the state is
 * at an instruction boundary.
 */
bool nx_trace(struct nx_engine *engine, const struct nx_site *from, enum nx_making making,
	      enum nx_status *status);

/* ---- cost.c ---- */

/* The hardware's exit at pc may be taken over, as far as cost goes: then a stay is open. */
bool nx_cost_open(struct nx_engine *engine, uint64_t pc);
/* An exit of the engine's class is delivered in the stay, by the way that the host has named
 * (routed). */
void nx_cost_avoided(struct nx_engine *engine);
/* Likewise, for the write half of what the hardware met as one exit. */
void nx_cost_avoided_half(struct nx_engine *engine);
/* Making something has taken so long: on the account of where the stay began. */
void nx_cost_made(struct nx_engine *engine, uint64_t ns);
/* A resume of a timed stay has, what was made in it aside. */
void nx_cost_spent(struct nx_engine *engine, uint64_t ns);
/* The stay, if one is open, is over: into the account of where it began. */
void nx_cost_settle(struct nx_engine *engine);
/* Making count of it has taken so long. */
void nx_cost_learn(struct nx_engine *engine, enum nx_making making, unsigned count, uint64_t ns);
/*
 * Have exits at pc cost enough for so many of it to be made? If so, count anew; else the next exits
 * there wait.
 */
bool nx_cost_ripe(struct nx_engine *engine, uint64_t pc, enum nx_making making, unsigned count);
/* Counts an exit at pc. Does it wait for something that is not ripe yet? */
bool nx_cost_waits(struct nx_engine *engine, uint64_t pc);
/* Leaves at one branch that have cost enough for a first trace from there. */
unsigned nx_cost_first_leaves(const struct nx_engine *engine);
/* Is following a known path cheaper than leaving? */
bool nx_cost_follow(const struct nx_engine *engine);
/* Turns of a loop without an exit, as many as take the time of an exit. */
uint32_t nx_cost_idle_turns(const struct nx_engine *engine);
/*
 * A cluster was left on a way that is known but not in it: have such ways cost as much by now as
 * forming it did?
 */
bool nx_cost_outgrown(const struct nx_engine *engine, struct nx_cluster *cluster);
/* Have costs been measured, and do they count? */
bool nx_cost_known(const struct nx_engine *engine);
/* Instructions on a path between two exits, likewise. */
unsigned nx_cost_max_path(const struct nx_engine *engine);

/* ---- mode.c ---- */

/* Fills mode, cpl and the context's segments; NX_OK, or why the engine does not run in this. */
enum nx_status nx_load_mode(struct nx_engine *engine);

/* ---- runtime.c, for device.c and trace.c ---- */

/* Runs the cluster's code from an offset; the state is up to date before and after. */
void nx_run(struct nx_engine *engine, struct nx_cluster *cluster, uint32_t offset);
/* Fill the context from the state: walks need its rflags (AC). */
void nx_load_context(struct nx_engine *engine);
/* Begin a stay: the first resume since the hardware delivered an exit. */
void nx_stay_begin(struct nx_engine *engine);
/* Have interrupts waited for as long as nx_config.latency_ns lets them? */
bool nx_stay_is_long(struct nx_engine *engine);
/* Describes the instruction exit at a site. */
void nx_describe_insn(struct nx_engine *engine, const struct nx_site *site, struct nx_exit *exit);
/* Do two stores fill adjacent halves of a quadword? Bytes of both, one after the other. */
bool nx_is_store_pair(const struct nx_mode *mode, uint64_t rip, const uint8_t *bytes,
		      unsigned first_len, unsigned len);
/* What a device store at the site would write. */
uint64_t nx_store_value(struct nx_engine *engine, const struct nx_site *site);

/* ---- verify.c ---- */

#define NX_VERIFY_RESULTS(X)                                                          \
	X(OK, "proven")                                                               \
	X(UNDECODABLE, "not an instruction")                                          \
	X(FORBIDDEN, "an instruction that is not on the list")                        \
	X(RESERVED_REGISTER, "misuses r14 or r15, or uses the host's stack pointer")  \
	X(MEMORY, "a memory operand that is not proven")                              \
	X(CHECK, "a check sequence that is not as it must be")                        \
	X(BRANCH, "a branch that does not land on an instruction of the translation") \
	X(CALL, "a call or jump that is not to a runtime entry")                      \
	X(SITE, "a site that does not exist or does not fit")                         \
	X(ENTRY, "an entry point that is not an instruction")                         \
	X(FALLS_OFF, "control falls off the end")                                     \
	X(COUNT, "a count of turns that is not as it must be")                        \
	X(ENDLESS, "a cycle that counts no turns")                                    \
	X(TOO_LARGE, "too large for the verifier")

enum nx_verify_result {
#define NX_X(name, text) NX_VERIFY_##name,
	NX_VERIFY_RESULTS(NX_X)
#undef NX_X
};

/* Scratch memory for the verifier, from the arena. */
#define NX_VERIFY_MAX_BYTES 65536
struct nx_verify_scratch {
	uint16_t map[NX_VERIFY_MAX_BYTES];  /* per byte of code: what is known of it */
	uint16_t link[NX_VERIFY_MAX_BYTES]; /* other places in the code that belong to it */
	uint64_t state[320];                /* struct nx_verifier */
};

/*
 * Proves that the code obeys the rules of context.h. *where is the offset of the offending
 * instruction. Reads the sites' kind, size and write, and the entries' offset.
 */
enum nx_verify_result nx_verify(const uint8_t *code, uint32_t size,
				const struct nx_translation *translation,
				struct nx_verify_scratch *scratch, uint32_t *where);
/*
 * The same in steps, between which nobody touches what was passed. Proven: DONE. FAILED: the result
 * is in *result.
 */
void nx_verify_begin(const uint8_t *code, uint32_t size, const struct nx_translation *translation,
		     struct nx_verify_scratch *scratch);
enum nx_progress nx_verify_step(struct nx_verify_scratch *scratch, enum nx_verify_result *result);

const char *nx_verify_text(enum nx_verify_result result);

#endif
