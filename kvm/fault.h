/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * fault.h - steps that can be made to fail (--fault, NOEXIT_FAULT), to see that the VM then runs as
 * without noexit, and that one line says why nothing is avoided.
 */
#ifndef NX_KVM_FAULT_H
#define NX_KVM_FAULT_H

/* X(NAME, word, what happens). */
#define NX_FAULTS(X)                                                              \
	X(ARENA, "arena", "no memory for an engine")                              \
	X(MEMFD, "memfd", "no memory file for the code cache")                    \
	X(EXECUTABLE, "executable", "no executable memory")                       \
	X(ENGINE, "engine", "the engine refuses its memory")                      \
	X(CACHE, "cache-full", "no translation fits in the code cache")           \
	X(VERIFIER, "verifier", "the verifier refuses every translation")         \
	X(PAGE_WALK, "page-walk", "guest memory is not where its slots say")      \
	X(COUNTERS, "counters", "no memory for a VM's counters")                  \
	X(WATCH, "watch", "no memory file for those who watch")                   \
	X(SLOTS, "slots", "no memory to note a memory slot in")                   \
	X(RUN_PAGE, "run-page", "a vCPU's run page cannot be mapped")             \
	X(SYNC_REGS, "sync-regs", "KVM without KVM_CAP_SYNC_REGS")                \
	X(IMMEDIATE_EXIT, "immediate-exit", "KVM without KVM_CAP_IMMEDIATE_EXIT") \
	X(COMPLETION, "completion", "KVM_RUN refuses to complete an exit for us") \
	X(SEGMENTS, "segments", "KVM does not take segment registers back")       \
	X(UNKNOWN_IOCTL, "unknown-ioctl", "vCPU ioctls are none that noexit knows")

enum nx_fault {
	NX_FAULT_NONE,
#define NX_X(NAME, word, text) NX_FAULT_##NAME,
	NX_FAULTS(NX_X)
#undef NX_X
	    NX_FAULT_COUNT
};

#endif
