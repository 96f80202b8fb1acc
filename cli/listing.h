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

/* Print the cluster as annotated disassembly: exiting instructions have a star, resume points a
 * '>', branches the blocks that they lead to. */
void listing_print(const struct nx_share_clusters *in, const struct nx_share_cluster *cluster);

/* Write a benefit as "1.25 ms" or "-12.0 us", or as "-" if it has not been measured yet. */
void listing_benefit(const struct nx_share_cluster *cluster, char *text, size_t size);

/* Make an element of the array "clusters" the only cluster in *to. Return false if there is no
 * such element, or if it is not what noexit writes. */
bool listing_from_json(struct json_object *element, struct nx_share_clusters *to);

#endif
