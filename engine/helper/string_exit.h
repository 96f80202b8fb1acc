/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * string_exit.h - exits for a string instruction's elements on a device, and for INS and OUTS.
 */
#ifndef NX_STRING_EXIT_H
#define NX_STRING_EXIT_H

#include "common.h"

/* Of repeated string instructions from one exit to the next: some microseconds. */
#define NX_STRING_ELEMENTS 4096

/* What remains to be done of a string instruction's elements when the device has answered. */
struct nx_string_pending {
	uint32_t count;
	uint8_t size, address_bytes;
	bool repeated;            /* counts down rCX */
	bool source, destination; /* rSI, rDI move on */
	bool backwards;
	enum { NX_INPUT_NONE, NX_INPUT_MEMORY, NX_INPUT_RAX, NX_INPUT_DEVICE } input;
	uint64_t gpa;        /* MEMORY, DEVICE: where the input goes, within one page */
	enum nx_route route; /* DEVICE: of the store */
};

struct nx_string {
	struct nx_string_pending pending;
	unsigned elements; /* that string instructions may still do in this resume */
	uint8_t bytes[NX_STRING_BYTES];
};

/* Return whether the string exit is finished; false: the host refused the session. */
bool nx_finish_string(struct nx_engine *engine, const struct nx_exit *exit);
/* The element's load is done, the store is to come: *exit is that. */
void nx_finish_string_load(struct nx_engine *engine, struct nx_exit *exit);
/* Prepares the exit of a string instruction's elements on a device, or of INS and OUTS. */
enum nx_status nx_string_exit(struct nx_engine *engine, const struct nx_string_pending *pending,
			      const struct nx_exit *exit);

#endif
