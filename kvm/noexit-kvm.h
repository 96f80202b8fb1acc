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
 *  - While a memory slot uses memory, it is unmapped, mapped again or protected only between
 *    nx_kvm_memory_changes() and nx_kvm_memory_changed().
 *  - A signal that is to get a thread out of KVM_RUN has a handler that sets run->immediate_exit or
 *    calls nx_kvm_signalled(), or KVM_SET_SIGNAL_MASK lets it through.
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

/* Do what ioctl(2) does and return what it returns. A call that does not concern KVM is passed
 * on. */
NX_API int nx_ioctl(int fd, unsigned long request, ...);

/* Do what close(2) does. Other descriptors may be closed with it, too. */
NX_API int nx_close(int fd);

/*
 * Around a change of mappings (munmap, mmap over them, mremap, mprotect, guard pages, a memory file
 * cut short) while memory slots use them, or may: what no slot uses costs little.
 *
 *	nx_kvm_memory_changes(at, size);
 *	munmap(at, size);
 *	nx_kvm_memory_changed(at, size);
 *
 * In between, and for what the process may no longer touch afterwards, KVM alone accesses the
 * memory of these slots, and answers as it does without noexit. Always both, with the same range;
 * from any thread, also with several changes at once; not from a signal handler.
 */
NX_API void nx_kvm_memory_changes(const void *at, size_t size);
NX_API void nx_kvm_memory_changed(const void *at, size_t size);

/*
 * For signal handlers, anywhere in them: if the thread is in KVM_RUN, it returns with EINTR or an
 * exit, as when a signal arrives in the kernel. Without it the guest may go on after the handler,
 * should that run while noexit is at work.
 */
NX_API void nx_kvm_signalled(void);

/*
 * Set an option of `noexit run` by its name, before the first VM is made: nx_kvm_option("latency",
 * "100"). Flags take "1" and "0". value must stay as it is until the process ends. Return NULL, or
 * what is wrong as a sentence's end: "must be a whole number ...". The environment has no
 * influence.
 */
NX_API const char *nx_kvm_option(const char *name, const char *value);

/*
 * Set the function that gets the lines by which noexit says why it avoids no exits, on any thread,
 * without "noexit: " and line end. With NULL, the default, they go to standard error. Call it
 * before the first VM is made.
 */
NX_API void nx_kvm_log(void (*log)(const char *line));

/* Set whether VMs that are made from now on are shown to `noexit stat`, `top` and `explain`, as
 * they are by default. A VM that only measures something should not be. */
NX_API void nx_kvm_watched(bool watched);

/* Return whether this process may have memory for translated code, of the default size. */
NX_API bool nx_kvm_can_execute(void);

/* The figures of all vCPUs of the process so far. Read while vCPUs run, they may be one exit
 * old. */
struct nx_kvm_totals {
	uint64_t taken;   /* returns of KVM_RUN with an exit from the kernel */
	uint64_t avoided; /* exits without one */
};

NX_API void nx_kvm_totals(struct nx_kvm_totals *totals);

/*
 * Do what `noexit run` does at a VMM's end: print one line with the totals, and write the file of
 * option "stats". Call it once, when no vCPU runs any more.
 */
NX_API void nx_kvm_report(void);

#ifdef __cplusplus
}
#endif

#endif
