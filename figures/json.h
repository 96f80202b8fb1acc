/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * json.h - figures as JSON, for `noexit run --stats` and `noexit stat --json`: docs/kvm.md has the
 * keys.
 *
 * Printed by hand: this may run inside _exit(), where nothing may be allocated, and a JSON library
 * in the VMM's address space could take the place of the VMM's own (two of them share function
 * names).
 */
#ifndef NX_KVM_JSON_H
#define NX_KVM_JSON_H

#include "share.h"

struct nx_json {
	int fd;
	bool failed; /* errno of the failed write is left */
	bool comma;
	unsigned depth;
	size_t used;
	char text[4096];
};

/* Begin and end a whole file or line, which is one object and is written out at its end. */
void nx_json_open(struct nx_json *out);
void nx_json_close(struct nx_json *out);
/* Add a member to the object that is open. */
void nx_json_begin(struct nx_json *out, const char *name, char bracket);
void nx_json_end(struct nx_json *out, char bracket);
void nx_json_number(struct nx_json *out, const char *name, uint64_t value);
void nx_json_text(struct nx_json *out, const char *name, const char *value);
void nx_json_list(struct nx_json *out, const char *name, const uint64_t *value, unsigned count);
/* Open an element of the array that is open; the element's members follow. */
void nx_json_element(struct nx_json *out);
/* Add a text to the array that is open. */
void nx_json_string(struct nx_json *out, const char *value);

/* At most so many clusters are listed. */
#define NX_REPORT_CLUSTERS 4096

struct nx_report {
	bool clustering;
	unsigned vcpus;
	const struct nx_figures *figures;
	const struct nx_share_clusters *const *part;
	unsigned parts;
};

/* Add all members that describe the figures to the object that is open. */
void nx_json_report(struct nx_json *out, const struct nx_report *report);

/* Add a place that is left alone as an element of the array that is open. */
void nx_json_alone(struct nx_json *out, const struct nx_alone *place);

/* Add a cluster as an element of the array that is open. */
void nx_json_cluster(struct nx_json *out, const struct nx_share_clusters *in,
		     const struct nx_share_cluster *cluster);

/* Return part of whole in hundredths of a percent, rounded. */
unsigned nx_hundredths(uint64_t part, uint64_t whole);

#endif
