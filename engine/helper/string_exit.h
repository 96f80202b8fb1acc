/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * string_exit.h - exits for a string instruction's elements on a device, and for INS and OUTS.
 */
#ifndef NX_STRING_EXIT_H
#define NX_STRING_EXIT_H

#include "common.h"

/* The elements of repeated string instructions from one exit to the next, which take some
 * microseconds. */
#define NX_STRING_ELEMENTS 4096

/* The work that remains for a string instruction's elements when the device has answered. */
struct nx_string_pending {
	uint32_t count;
	uint8_t size, address_bytes;
	bool repeated;            /* counts down rCX */
	bool source, destination; /* rSI, rDI move on */
	bool backwards;
	enum { NX_INPUT_NONE, NX_INPUT_MEMORY, NX_INPUT_RAX, NX_INPUT_DEVICE } input;
	uint64_t gpa;        /* MEMORY, DEVICE: the input's destination, within one page */
	enum nx_route route; /* DEVICE: of the store */
};

struct nx_string {
	struct nx_string_pending pending;
	unsigned elements; /* elements that string instructions may still do in this resume */
	uint8_t bytes[NX_STRING_BYTES];
};

/* Finish a string exit; return false if the host refused the session. */
bool nx_string_finish(struct nx_engine *engine, const struct nx_exit *exit);
/* Prepare in *exit the store of an element whose load is done. */
void nx_string_finish_load(struct nx_engine *engine, struct nx_exit *exit);
/* Prepare the exit of a string instruction's elements on a device, or of INS and OUTS. */
enum nx_status nx_string_exit(struct nx_engine *engine, const struct nx_string_pending *pending,
			      const struct nx_exit *exit);

#endif
