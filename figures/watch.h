/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * watch.h - finding the VMMs that run under noexit and copying what they show (figures/share.h).
 *
 * What is copied has been checked: numbers may be wrong, but nothing that is used as a length, and
 * texts end and contain nothing but printable ASCII.
 */
#ifndef NX_WATCH_H
#define NX_WATCH_H

#include <sys/types.h>

#include "share.h"

struct watch_vcpu {
	unsigned vm, number;
	char off[NX_SHARE_TEXT]; /* the reason why nothing is avoided, or empty */
	struct nx_figures figures;
	struct nx_share_clusters *clusters; /* NULL: not asked for */
};

struct watch {
	pid_t pid;
	char command[64];
	bool clustering;
	unsigned vms, vcpus;
	struct watch_vcpu *vcpu; /* those that exist; in the order of their VMs and of age */
	unsigned vcpus_ever;
	struct nx_figures total; /* of vCPUs that are gone, too */
	uint64_t time_ns;        /* CLOCK_MONOTONIC, of the copy */
};

/* The results of watch_read(). */
enum watch_result {
	WATCH_OK,
	WATCH_NO_PROCESS,
	WATCH_NO_VM,
	WATCH_NO_RIGHT,
	WATCH_OTHER_VERSION,
	WATCH_NO_MEMORY,
};

/* Copy everything, clusters only if asked for. The caller calls watch_free() on WATCH_OK. */
enum watch_result watch_read(pid_t pid, bool clusters, struct watch *watch);
void watch_free(struct watch *watch);

/* Return WATCH_OK if a process maps its counter files, or why it is not known to. A forked child
 * has the descriptors, but not the mapping. */
enum watch_result watch_is_shown(pid_t pid);
/* Return WATCH_OK if the process shows a VM, or why it is not known to. */
enum watch_result watch_has_vm(pid_t pid);
/* Return the process's name, or "?". */
void watch_command(pid_t pid, char *to, size_t size);

/* Write the range of a histogram class, as "4-7". The classes are 0, 1, 2 to 3, 4 to 7 and so
 * on. */
void watch_class_name(unsigned class, unsigned classes, char *name, size_t size);
/* Return how many exits of the kind that KVM calls reason (KVM_EXIT_*) were avoided. */
uint64_t watch_avoided(const struct nx_stats *stats, unsigned reason);

#endif
