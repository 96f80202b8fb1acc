/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * noexit-kvm.h - exits avoided in a VMM that links libnoexit: the KVM host as a library.
 *
 * A VMM talks to KVM through nx_ioctl() and nx_close() instead of ioctl() and close(). That is all:
 *
 *	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
 *	int vm = nx_ioctl(kvm, KVM_CREATE_VM, 0ul);
 *	int vcpu = nx_ioctl(vm, KVM_CREATE_VCPU, 0ul);
 *	...
 *	while (!nx_ioctl(vcpu, KVM_RUN, 0ul))
 *		emulate(run);			(run: the mapping of vcpu, as ever)
 *	nx_close(vcpu);
 *
 * Some KVM_RUNs then return with an exit that no hardware exit preceded. To the VMM they are
 * exits like all others: the run page says what they are, the answer goes into the run page, and
 * every other ioctl on the vCPU sees and sets the registers of that moment. docs/kvm.md has the
 * rules; examples/minivmm.c is a whole VMM.
 *
 * What is asked of the VMM:
 *  - Every ioctl on /dev/kvm, on a VM and on a vCPU goes through nx_ioctl(). An ioctl that
 *    noexit does not know turns clustering off for that VM or vCPU, and is passed on.
 *  - Descriptors of VMs and vCPUs are closed with nx_close() and not duplicated.
 *  - Memory stays mapped as long as a memory slot uses it.
 *
 * Threads: as with ioctl() on KVM, one thread at a time runs a vCPU; everything else may be called
 * at any time, and run->immediate_exit set from anywhere, signal handlers included. A forked
 * child must not use its parent's descriptors, as ever with KVM.
 *
 * Errors: those of ioctl() and close(). noexit adds none of its own: what it cannot do, KVM does.
 */
#ifndef NX_NOEXIT_KVM_H
#define NX_NOEXIT_KVM_H

#include <noexit.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As ioctl(2): -1 and errno, or the ioctl's result. What does not concern KVM is passed on. */
NX_API int nx_ioctl(int fd, unsigned long request, ...);

/* As close(2). Other descriptors may be closed with it, too. */
NX_API int nx_close(int fd);

/*
 * Sets an option of `noexit run` by its name, before the first VM is made: nx_kvm_option("latency",
 * "100"). Flags take "1" and "0". value must stay as it is until the process ends. Returns NULL, or
 * what is wrong as a sentence's end: "must be a whole number ...". The environment has no
 * influence.
 */
NX_API const char *nx_kvm_option(const char *name, const char *value);

/*
 * Where the lines go by which noexit says why it avoids no exits: without "noexit: " and line
 * end, on any thread. NULL, the default: to standard error. Call it before the first VM is made.
 */
NX_API void nx_kvm_log(void (*log)(const char *line));

/* Of all vCPUs of the process so far; read while they run, figures may be one exit old. */
struct nx_kvm_totals {
	uint64_t taken;   /* returns of KVM_RUN with an exit from the kernel */
	uint64_t avoided; /* exits without one */
};

NX_API void nx_kvm_totals(struct nx_kvm_totals *totals);

/*
 * What `noexit run` does at a VMM's end: one line with the totals, and the file of option "stats".
 * Once, when no vCPU runs any more.
 */
NX_API void nx_kvm_report(void);

#ifdef __cplusplus
}
#endif

#endif
