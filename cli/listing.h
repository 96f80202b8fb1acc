/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* listing.h - clusters as people read them, from a running VMM or from a file of noexit run
 * --stats. */
#ifndef NX_CLI_LISTING_H
#define NX_CLI_LISTING_H

#include <json-c/json.h>

#include "share.h"

/* An instruction of a cluster. */
struct listing_line {
	unsigned block; /* its number in the cluster */
	uint64_t rip;
	bool first; /* of its block */
	bool entry; /* a resume may begin here */
	bool exits;
	const char *text; /* the disassembly */
	const char *note; /* where the block goes from here; "" in its middle */
};

typedef void (*listing_show)(void *data, const struct listing_line *line);

/* Show a cluster's instructions in order; return the number of its blocks. */
unsigned listing_walk(const struct nx_share_clusters *in, const struct nx_share_cluster *cluster,
		      listing_show show, void *data);

/*
 * Prints the cluster as annotated disassembly: exiting instructions starred, places where a resume
 * may begin marked '>', branches with the blocks that they lead to.
 */
void listing_print(const struct nx_share_clusters *in, const struct nx_share_cluster *cluster);

/* "1.25 ms", "-12.0 us"; "-": not measured yet. */
void listing_benefit(const struct nx_share_cluster *cluster, char *text, size_t size);

/*
 * Makes an element of the array "clusters" the only one in *to; false: it is none, or is not what
 * noexit writes.
 */
bool listing_from_json(struct json_object *element, struct nx_share_clusters *to);

#endif
