/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* share_write.h - a host's side of share.h: fill a vCPU's slot from what its engine tells. */
#ifndef NX_KVM_SHARE_WRITE_H
#define NX_KVM_SHARE_WRITE_H

#include "share.h"

/* One vCPU's; its thread alone uses it. */
struct nx_share_writer {
	struct nx_share_vcpu *shared;
	const struct nx_engine *engine;
	uint64_t code; /* where translations run */
	const struct nx_cluster *shown;
	uint64_t refreshed; /* the time when clusters' figures were shown last */
	/* Called with each cluster that is shown first, and with NULL when all have gone. May be
	 * NULL. */
	void (*named)(void *data, const struct nx_share_cluster *cluster);
	void *data;
};

/* Fill in the header of a VM, so that readers take it for one. */
void nx_share_header_make(struct nx_share_header *header, unsigned vm, bool clustering);
/* Show why clustering is off; shared is the member `off` of a VM or vCPU. */
void nx_share_off(char *shared, const char *why);
/* Show the engine's counters and clusters as they are now. */
void nx_share_write(struct nx_share_writer *writer, uint64_t now);
/* Return whether the engine has clusters to show, or figures of them that are NX_SHARE_LAZY_NS
 * old. */
bool nx_share_is_due(const struct nx_share_writer *writer, uint64_t now);
/* Empty a slot whose vCPU has gone, into the figures of those that are gone. */
void nx_share_slot_empty(struct nx_share_header *header, struct nx_share_vcpu *shared);

#endif
