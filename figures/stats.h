/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * stats.h - what is counted, each list once. A struct nx_stats belongs to its vCPU's thread;
 * others only read it, and may see a figure that is one exit old. It lies in memory that other
 * processes read: share.h.
 */
#ifndef NX_KVM_STATS_H
#define NX_KVM_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel_stats.h"
#include "noexit.h"

/* Marks the code that every exit runs through, whether the engine enters or not. It is
 * placed side by side, on a page or two, because an exit finds caches and TLBs cold. */
#define NX_HOT __attribute__((hot))

/* X(name, description). */
#define NX_KVM_COUNTERS(X)                                                          \
	X(runs, "KVM_RUN calls by the VMM")                                         \
	X(takeovers, "stays begun: times the engine entered")                       \
	X(completions, "KVM_RUN calls by noexit that only completed an exit")       \
	X(completions_new_exit, "of these, found a further exit (split access)")    \
	X(repeats_stopped, "of these, had KVM stop inside a string instruction")    \
	X(completions_kicked, "of these, met a kick by the VMM")                    \
	X(kicked_runs, "KVM_RUN calls with immediate_exit set by the VMM")          \
	X(signalled, "writes by the engine that only signalled an eventfd")         \
	X(queued, "writes by the engine put into the VMM's ring, as KVM does")      \
	X(windows, "times that KVM was asked whether an interrupt waits")           \
	X(internal, "exits by the engine with which KVM would not have returned")   \
	X(flushes, "register write-backs because the VMM looked at the vCPU")       \
	X(disturbed, "engine exits during which the VMM changed the vCPU")          \
	X(stays_ns, "nanoseconds of stays, the VMM's work on their exits included") \
	X(engine_ns, "of these, in the engine: an estimate from every 13th resume")

/* The reasons for which the host, and not the engine, ended a stay. */
#define NX_HOST_LEAVES(X)                                                                \
	X(BOUND, "latency_bound", "the latency bound was reached")                       \
	X(INTERRUPT, "interrupt", "the VMM raised an interrupt that the guest can take") \
	X(WINDOW, "interrupt_window", "the VMM asked for an interrupt window")           \
	X(SIGNAL, "signal", "a signal that must interrupt KVM_RUN is pending")           \
	X(KICK, "kick", "the VMM set immediate_exit")                                    \
	X(VMM_STATE, "vmm_state", "the VMM changed the vCPU's state")                    \
	X(FLUSH, "tlb_flush", "another vCPU left a TLB flush to KVM")                    \
	X(MEMSLOTS, "memslots", "the VMM was changing memory slots")                     \
	X(TURNED_OFF, "turned_off", "clustering was turned off")

enum nx_host_leave {
#define NX_X(name, word, text) NX_HOST_LEAVE_##name,
	NX_HOST_LEAVES(NX_X)
#undef NX_X
	    NX_HOST_LEAVE_COUNT
};

/* The reasons for which the engine did not take over at an exit that had been completed for it. */
#define NX_UNFITS(X)                                                                             \
	X(EVENT, "event", "an exception, interrupt or NMI is pending or being injected")         \
	X(SHADOW, "shadow", "interrupt shadow")                                                  \
	X(SMM, "smm", "system management mode")                                                  \
	X(SINGLE_STEP, "single_step", "the trap flag is set")                                    \
	X(BREAKPOINTS, "breakpoints", "the guest uses hardware breakpoints")                     \
	X(DEBUG, "guest_debug", "the VMM debugs the guest")                                      \
	X(VIRTUALIZATION, "virtualization", "the guest may run guests of its own")               \
	X(PRIORITY, "priority", "real mode with a task priority that writing back would change") \
	X(SEGMENTS, "segments", "KVM does not accept segment registers written back")            \
	X(INTERRUPT_DUE, "interrupt_due", "an interrupt should get in first")

enum nx_unfit {
	NX_FIT,
#define NX_X(name, word, text) NX_UNFIT_##name,
	NX_UNFITS(NX_X)
#undef NX_X
	    NX_UNFIT_COUNT
};

/* Costs that are measured while the guest runs, in nanoseconds; 0 until they have been measured.
 * X(name, word, description). The exits come first, in the order of enum nx_exit_class. */
#define NX_COSTS(X)                                                                             \
	X(IO, "exit_io", "a port exit to the VMM and back, without its emulation")              \
	X(MMIO, "exit_mmio", "a device-memory exit to the VMM and back, likewise")              \
	X(CPUID, "exit_cpuid", "an exit by CPUID")                                              \
	X(MSR, "exit_msr", "an exit by RDMSR or WRMSR")                                         \
	X(CR, "exit_cr", "an exit by an access to a control register")                          \
	X(DR, "exit_dr", "an exit by an access to a debug register")                            \
	X(HLT, "exit_hlt", "an exit by HLT")                                                    \
	X(INVALIDATE, "exit_invalidate", "an exit by INVLPG, INVD or WBINVD")                   \
	X(DESCRIPTOR, "exit_descriptor", "an exit by an access to a descriptor-table register") \
	X(VMCS, "exit_vmcs", "an exit by VMREAD or VMWRITE")                                    \
	X(VMX, "exit_vmx", "an exit by another instruction of VMX")                             \
	X(SVM, "exit_svm", "an exit by an instruction of SVM")                                  \
	X(VM_ENTRY, "exit_vm_entry", "an exit by VMLAUNCH, VMRESUME or VMRUN")                  \
	X(TAKEOVER, "takeover", "completing an exit and fetching the guest's registers")        \
	X(RESUME, "resume", "an exit delivered by the engine, guest instructions included")     \
	X(THOUSAND, "thousand", "a thousand guest instructions in translations")                \
	X(CLIENT, "client", "the VMM's work on a write that KVM would have put into its ring")

enum nx_cost {
#define NX_X(name, word, text) NX_COST_##name,
	NX_COSTS(NX_X)
#undef NX_X
	    NX_COST_COUNT
};

#define NX_X(name, word, text) \
	_Static_assert((int)NX_COST_##name == (int)NX_CLASS_##name, "in the classes' order");
NX_EXIT_CLASSES(NX_X)
#undef NX_X

#define NX_COST_SAMPLES 16      /* in a window */
#define NX_COST_INSTRUCTIONS 32 /* that a resume has at least, to tell what a thousand cost */

/*
 * How a cost is measured, in nanoseconds: by the least of a window of samples, since any of them
 * may contain guest time or an interrupt. Windows are not merged, because costs change with load
 * and migration. All zero at first; its vCPU's thread alone uses it.
 */
struct nx_cost_window {
	uint32_t least, samples;
};

/* Add a sample. Return whether the window is full: then its least is the cost, and the next sample
 * begins another. */
static inline bool nx_cost_sample(struct nx_cost_window *window, uint64_t ns)
{
	uint32_t sample = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;

	if (!window->samples || sample < window->least)
		window->least = sample;
	if (++window->samples < NX_COST_SAMPLES)
		return false;
	window->samples = 0;
	return true;
}

/*
 * Add a sample of what a thousand instructions cost: a resume of so many took ns, of which alone is
 * a resume's own cost, or 0 if that is unknown. Fewer would be hidden by it. Return as
 * nx_cost_sample() does.
 */
static inline bool nx_cost_sample_thousand(struct nx_cost_window *window, uint64_t instructions,
					   uint64_t ns, uint64_t alone)
{
	return instructions >= NX_COST_INSTRUCTIONS && alone && ns > alone &&
	       nx_cost_sample(window, (ns - alone) * 1000 / instructions);
}

#define NX_EXIT_REASONS 64  /* KVM_EXIT_*; the last one takes whatever is beyond */
#define NX_STATS_PLACES 512 /* power of two */
#define NX_KVM_STATS 96
/* Stays by length: less than 1 us, 1, 2 to 3, 4 to 7 us and so on; the last class has no end. */
#define NX_STAY_CLASSES 16

/* The exits at one port or in one page of device memory; kind is an enum nx_exit_kind. */
struct nx_exit_place {
	uint8_t used; /* 1: yes */
	uint8_t kind;
	uint64_t address; /* port, or the page's guest-physical address */
	uint64_t taken, avoided;
};

struct nx_kvm_stat {
	char name[48];
	uint64_t value;
};

struct nx_stats {
#define NX_X(name, text) uint64_t name;
	NX_KVM_COUNTERS(NX_X)
#undef NX_X
	uint64_t taken[NX_EXIT_REASONS]; /* by KVM_EXIT_* */
	uint64_t intr;                   /* KVM_RUN returned EINTR after entering the guest */
	/* Taken and handled by the kernel: noexit.ko alone sees these. */
	uint64_t handled[NX_EXIT_CLASS_COUNT];
	uint64_t handled_other; /* interrupts, page faults and all else */
	uint64_t avoided[NX_EXIT_CLASS_COUNT];
	uint64_t leaves[NX_HOST_LEAVE_COUNT];
	uint64_t unfit[NX_UNFIT_COUNT];
	uint64_t stay[NX_STAY_CLASSES];
	uint32_t cost_ns[NX_COST_COUNT];
	uint64_t longest_stay_ns;
	struct nx_exit_place place[NX_STATS_PLACES];
	uint64_t place_overflow_taken, place_overflow_avoided;
	unsigned kvm_stats;
	struct nx_kvm_stat kvm_stat[NX_KVM_STATS];
};

/* The counters of the host and of the engine, for one vCPU or for several together. */
struct nx_figures {
	struct nx_stats host;
	struct nx_counters engine;
	struct nx_alone alone[NX_ALONE_PLACES]; /* times 0: none */
	struct nxk_stats kernel;                /* of noexit.ko alone */
};

struct kvm_run;

/* Count a return of KVM_RUN with an exit. */
void nx_stats_taken(struct nx_stats *stats, const struct kvm_run *run);
/* Count an exit that the kernel handled; address is the port or guest-physical address for
 * NX_CLASS_IO and NX_CLASS_MMIO. */
void nx_stats_handled(struct nx_stats *stats, enum nx_exit_class class, uint64_t address);
void nx_stats_avoided(struct nx_stats *stats, const struct nx_exit *exit);
/* Count a stay. */
void nx_stats_stay(struct nx_stats *stats, uint64_t ns);
/* Add the counters of *from to *to. An index in *from that would lead outside of *to is ignored,
 * since another process may have written it. */
void nx_figures_add(struct nx_figures *to, const struct nx_figures *from);
/* Fill in the places at which exits were met, most exits first; return how many there are. */
unsigned nx_stats_places(const struct nx_stats *stats,
			 const struct nx_exit_place *order[NX_STATS_PLACES]);
/* Fill in the places that are left alone, the one left most often first; return how many there
 * are. */
unsigned nx_figures_alone(const struct nx_figures *figures,
			  const struct nx_alone *order[NX_ALONE_PLACES]);
/* Return "declined" for NX_ALONE_DECLINED, and what such a word means; "" for what is unknown. */
const char *nx_alone_word(uint32_t reason);
const char *nx_alone_explained(const char *word);
/* Return "cpuid" for NX_CLASS_CPUID. */
const char *nx_class_word(enum nx_exit_class class);
/* Return "COLD" for NX_LEAVE_COLD, "" for what is none; and what such a word means, NULL for what
 * is unknown. */
const char *nx_leave_word(uint32_t reason);
const char *nx_leave_explained(const char *word);
/* Return how many exits were taken, or avoided, of all kinds. */
uint64_t nx_stats_taken_total(const struct nx_stats *stats);
uint64_t nx_stats_avoided_total(const struct nx_stats *stats);
/* Return how many exits of the class were taken, whoever handled them. */
uint64_t nx_stats_taken_of(const struct nx_stats *stats, enum nx_exit_class class);
/* Return the class of the exits that KVM calls reason (KVM_EXIT_*), or NX_EXIT_CLASS_COUNT. */
unsigned nx_stats_class_of(unsigned reason);

/* Return "io", "mmio", "hlt", ... for KVM_EXIT_*. */
const char *nx_exit_reason_name(unsigned reason);
/* Return the PC device that usually is at a port or device-memory page, or "" if none is known. */
const char *nx_device_name(enum nx_exit_kind kind, uint64_t address);

#endif
