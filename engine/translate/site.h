/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * site.h - what the runtime and the verifier know of emitted code: its sites, where it stops, and
 * its entries.
 */
#ifndef NX_SITE_H
#define NX_SITE_H

#include "form/graph.h"

enum nx_site_kind {
	NX_SITE_LEAVE,  /* leave at rip */
	NX_SITE_ACCESS, /* a memory access by the instruction at rip */
	NX_SITE_IO,     /* a port exit */
	NX_SITE_INSN,   /* an instruction exit */
	NX_SITE_HELPER, /* a helper call for the instruction at rip */
};

/* A point in emitted code at which the runtime is called. */
struct nx_site {
	uint64_t rip;  /* of the instruction; LEAVE: where to go on */
	uint64_t from; /* LEAVE at a branch: its name (nx_path_name()); 0: at none */
	uint64_t via;
	uint32_t resume;  /* offset of the code after the exit, plus 1; 0: none */
	uint16_t context; /* LEAVE: the calls around rip, with via as nx_path_name() takes it */
	uint16_t form;    /* HELPER: where nx_decode_again() has found its form */
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
 * each that has code which may run from there before an exit; only: the number of the one such,
 * plus 1, or 0 if there are more, and where in it that code begins and how long it is. The cache
 * fills all of this.
 */
#define NX_FRAGMENT_WORDS ((NX_MAX_FRAGMENTS + 63) / 64)
struct nx_entry {
	uint64_t rip;
	uint32_t offset;
	uint8_t only;
	uint16_t only_begin, only_len;
	uint64_t fragments[NX_FRAGMENT_WORDS];
};

#define NX_MAX_SITES 1536

struct nx_translation {
	uint32_t size;
	uint16_t sites, entries;
	struct nx_site site[NX_MAX_SITES];
	struct nx_entry entry[NX_MAX_BLOCKS];
};

#endif
