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
	bool kernel;             /* as noexit.ko sees it */
	char off[NX_SHARE_TEXT]; /* the reason why nothing is avoided, or empty */
	struct nx_figures figures;
	struct nx_share_clusters *clusters; /* NULL: not asked for */
};

struct watch {
	pid_t pid;
	char command[64];
	bool clustering;
	/* The library is in the VMM: then the figures are its own, and noexit.ko's stand beside. */
	bool library;
	unsigned vms;   /* of those whose figures they are */
	unsigned vcpus; /* of both */
	unsigned kernel_vcpus;
	struct watch_vcpu *vcpu; /* those that exist; in the order of their VMs and of age */
	unsigned vcpus_ever;
	struct nx_figures total;  /* of vCPUs that are gone, too */
	struct nx_figures kernel; /* the same, as noexit.ko sees them */
	uint64_t time_ns;         /* CLOCK_MONOTONIC, of the copy */
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

/*
 * An exit that goes to the VMM is seen by both hosts, so their figures are not added up. Return
 * whether those of the vCPU are in the total.
 */
bool watch_counts(const struct watch *watch, const struct watch_vcpu *vcpu);
/* Return how many vCPUs' are. */
unsigned watch_counted(const struct watch *watch);

/* Return WATCH_OK if a process maps its counter files, or noexit.ko shows VMs of it, or why neither
 * is known. A forked child has the descriptors, but not the mapping. */
enum watch_result watch_is_shown(pid_t pid);
/* Return WATCH_OK if the process shows a VM, or why it is not known to. */
enum watch_result watch_has_vm(pid_t pid);
/* Return the process's name, or "?". */
void watch_command(pid_t pid, char *to, size_t size);

/* Write the range of a histogram class, as "4-7". The classes are 0, 1, 2 to 3, 4 to 7 and so
 * on. */
void watch_class_name(unsigned class, unsigned classes, char *name, size_t size);

#endif
