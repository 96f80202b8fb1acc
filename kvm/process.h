/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * process.h - the process that the host is in: how it reaches the kernel, and which object a file
 * descriptor stands for. Everything in kvm/ stands on it; it is private to kvm/, as host.h is.
 */
#ifndef NX_KVM_PROCESS_H
#define NX_KVM_PROCESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "options.h"

/* The functions by which the host reaches the outside world. process.c fills it with the C
 * library's; tests fill it with a kernel of their own. */
struct nx_real {
	int (*ioctl)(int fd, unsigned long request, void *argument);
	void *(*map_vcpu)(int fd, size_t size);
	void (*unmap_vcpu)(void *run, size_t size);
	/* Return whether fd really is the object that KVM claims to have made: "vm" or "vcpu". */
	bool (*is_kvm_object)(int fd, const char *what);
	uint64_t (*now)(void); /* a monotonic clock, in nanoseconds */
	int (*close)(int fd);
	/* Return whether a guest's RDTSC is the host's counter plus KVM's offset, uncorrected. */
	bool (*tsc_is_offset)(void);
};
extern struct nx_real nx_real;
extern struct nx_options nx_options;

static inline bool nx_faulty(enum nx_fault fault)
{
	return nx_options.fault == fault;
}

/* ---- kernel.c ---- */

/* Have noexit.ko avoid exits of a new VM, too, if the options ask for it. Where they insist, a line
 * says why it does not. errno may change. */
void nx_kernel_enable(int vm_fd);
/* Tell noexit.ko that the library avoids no exits of the VM any more. errno stays. */
void nx_kernel_alone(int vm_fd);

/* ---- process.c ---- */

/* Print one line on standard error, if that is still the file that it was at the start. */
void nx_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct nx_process {
	pid_t id;
	bool ready;  /* nx_process_start() has been called */
	bool has_vm; /* or had one */
	/* Called when the process makes its first VM; may be NULL. */
	void (*first_vm)(void);
	bool unwatched; /* VMs made from now on are for measuring and are not shown to anyone */
	/* Gets the lines of nx_say() instead of standard error, unless it is NULL. */
	void (*log)(const char *line);
};
extern struct nx_process nx_process;

/* Set up nx_real and default options; ioctl and close are the C library's own. */
void nx_process_start(int (*ioctl)(int, unsigned long, void *), int (*close)(int));
/* From here on no descriptor is taken for ours. */
void nx_process_end(void);
/* Return true, except in a forked child. */
bool nx_process_alive(void);
/* Return true, except in a forked or vforked child. */
bool nx_process_ours(void);
/* Return whether this process may have a VM of ours. A child that was forked before any VM was
 * made starts over here. */
bool nx_process_may_begin(void);
/* Note that the process makes a VM. */
void nx_process_has_vm(void);
/* Move a descriptor out of the way of the VMM's numbers, if the limit allows. */
int nx_fd_move_up(int fd);

/* ---- fdtable.c ---- */

enum nx_object_type { NX_OBJECT_VM, NX_OBJECT_VCPU, NX_OBJECT_EVENTFD, NX_OBJECT_TYPES };

struct nx_object {
	enum nx_object_type type;
	atomic_int count; /* file descriptors and calls in flight */
	void (*release)(struct nx_object *object);
	struct nx_object *next_free;
};

/* Return the object behind fd with its count raised, or NULL. */
struct nx_object *nx_object_get(int fd);
/* Lower the count; at zero the object is released and recycled. */
void nx_object_put(struct nx_object *object);
/* Make fd stand for the object; one count passes to the table. */
void nx_fd_set(int fd, struct nx_object *object);
/* Return whether fd stands for an object; this is cheap. */
bool nx_fd_known(int fd);
/* Return whether fd stands for this object. */
bool nx_fd_is(int fd, const struct nx_object *object);
/* Duplicate fd for ourselves, out of the way of the VMM's numbers; return -1 if there is no
 * number left. */
int nx_fd_private(int fd);
/* Call this before fd is closed: from now on fd stands for nothing. */
void nx_fd_clear(int fd);
void nx_fd_clear_range(unsigned first, unsigned last);
/* Call this after new_fd has become a duplicate of old. */
void nx_fd_copy(int old, int new_fd);
/* Call visit for every object that has a file descriptor. */
void nx_fd_for_each(void (*visit)(struct nx_object *object, void *data), void *data);
/* Return a recycled or new object, zeroed beyond the header. */
struct nx_object *nx_object_new(enum nx_object_type type, size_t size,
				void (*release)(struct nx_object *object));

#endif
