/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * noexit.h - the engine's public interface, and its manual.
 *
 * The engine runs stretches of guest code ("clusters") outside guest mode, so that the
 * exiting instructions in them reach the host without a hardware exit. It is a freestanding
 * library: it calls no libc, allocates nothing outside the memory it was given, has no threads,
 * no floating point and no mutable globals. Everything it knows of the world comes through
 * struct nx_host and struct nx_state.
 *
 * The one verb is nx_engine_resume() (docs/engine.md):
 *
 *	struct nx_engine *v = nx_engine_create(&memory, &host, host_data, &config);
 *	struct nx_state *s = nx_engine_state(v);
 *	... the guest stands at an instruction boundary after an emulated exit: fill *s ...
 *	while (nx_engine_resume(v, &exit) == NX_EXIT)
 *		emulate(&exit);			(input goes to exit.data)
 *	... NX_LEAVE: *s is the guest's state; enter guest mode with it ...
 *
 * Threads: a struct nx_engine belongs to one thread at a time. Different vCPUs may run
 * concurrently; they share nothing inside the engine. Only the stop flag may be written by
 * other threads and by signal handlers.
 *
 * Ownership: a pointer that a function returns leads into the memory that the host gave, and lasts
 * as long, or to a string constant. One that the host passes is used for the length of the call;
 * nx_engine_create() says what it keeps.
 */
#ifndef NX_NOEXIT_H
#define NX_NOEXIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "noexit-figures.h"

#ifdef __cplusplus
extern "C" {
#endif

/* General registers, in the processor's encoding order (Intel SDM vol. 2, table 3-1). */
enum nx_gpr {
	NX_RAX,
	NX_RCX,
	NX_RDX,
	NX_RBX,
	NX_RSP,
	NX_RBP,
	NX_RSI,
	NX_RDI,
	NX_R8,
	NX_R9,
	NX_R10,
	NX_R11,
	NX_R12,
	NX_R13,
	NX_R14,
	NX_R15,
	NX_GPRS
};

/* Segment registers, in the processor's encoding order. */
enum nx_sreg { NX_ES, NX_CS, NX_SS, NX_DS, NX_FS, NX_GS, NX_SREGS };

/*
 * A segment register with its hidden part, as VMCS and struct kvm_segment hold it.
 * limit is in bytes, inclusive (granularity already applied).
 */
struct nx_segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint8_t type; /* 4 bits, SDM vol. 3, 3.4.5.1 */
	uint8_t dpl;
	bool s, present, l, db, unusable;
};

/* The guest's architectural state as far as the engine looks at it. It is owned by the engine,
 * filled by the host before nx_engine_resume(), and valid for the host after it. The engine
 * changes gpr, rip and rflags, and seg only for a host that set segment_loads in the
 * configuration; the rest is input. It changes IF in rflags only where the host has said that no
 * interrupt waits (no_interrupt_waits); otherwise it leaves before an instruction that would open
 * or close the interrupt window, and the host delivers what is pending. */
struct nx_state {
	uint64_t rip;
	uint64_t rflags;
	struct nx_segment seg[NX_SREGS];
	/* The task register: where the guest's IOPL does not allow port accesses, the bitmap in
	 * this segment may. If it is not present, the engine leaves before such an access. */
	struct nx_segment tr;
	uint64_t cr0, cr3, cr4, efer;
	/* With nx_config.system_registers only: */
	uint64_t cr2, gdt_base;
	uint16_t gdt_limit;
	uint32_t pkru; /* used with CR4.PKE only */
	/*
	 * Bits of guest-physical addresses that the guest may use (CPUID 0x80000008 EAX[7:0]);
	 * 0 stands for 52. Higher bits set in a page-table entry are reserved: the engine leaves.
	 */
	uint8_t physical_bits;
	/* Set by the engine with seg; cleared by the host. */
	bool segments_changed;
	/* A host may set it that has changed neither seg nor tr since the last resume, or has told
	 * nx_engine_exit_done() that it had; the engine clears it. */
	bool same_segments;
	uint64_t gpr[NX_GPRS]; /* the last ones: translations work on them where they are */
};

/* The result of nx_engine_resume(). */
enum nx_outcome {
	/* The guest stands at an exiting instruction whose emulation the host owes. */
	NX_EXIT,
	/* The guest stands at an instruction boundary and goes on in guest mode. */
	NX_LEAVE,
	/*
	 * Only with nx_host.guest_enter: the host refused the session in which an exit's input was
	 * to be stored to guest memory. The exit is still pending; resume again to retry.
	 */
	NX_REFUSED,
};

enum nx_exit_kind {
	NX_EXIT_IO,
	NX_EXIT_MMIO,
	/* An instruction of one of the classes that the host named in nx_config.exits. */
	NX_EXIT_INSN,
};

/* Instructions that exit as such. X(name, bit, class): the bit of nx_config.exits and the class
 * of cost. The host chooses which of them exit, since a host in userspace sees none of these
 * exits and one inside KVM sees most. */
#define NX_INSN_EXITS(X)     \
	NX_INSN_MNEMONICS(X) \
	X(MOV_CR, CR, CR)    \
	X(MOV_DR, DR, DR)

/* Those that have a mnemonic of their own. */
#define NX_INSN_MNEMONICS(X)              \
	X(CPUID, CPUID, CPUID)            \
	X(RDMSR, MSR, MSR)                \
	X(WRMSR, MSR, MSR)                \
	X(CLTS, CR, CR)                   \
	X(LMSW, CR, CR)                   \
	X(HLT, HLT, HLT)                  \
	X(INVLPG, INVALIDATE, INVALIDATE) \
	X(INVD, INVALIDATE, INVALIDATE)   \
	X(WBINVD, INVALIDATE, INVALIDATE) \
	X(SGDT, DESCRIPTOR, DESCRIPTOR)   \
	X(SIDT, DESCRIPTOR, DESCRIPTOR)   \
	X(LGDT, DESCRIPTOR, DESCRIPTOR)   \
	X(LIDT, DESCRIPTOR, DESCRIPTOR)   \
	X(SLDT, DESCRIPTOR, DESCRIPTOR)   \
	X(STR, DESCRIPTOR, DESCRIPTOR)    \
	X(VMREAD, VMX, VMCS)              \
	X(VMWRITE, VMX, VMCS)             \
	X(VMPTRLD, VMX, VMX)              \
	X(VMPTRST, VMX, VMX)              \
	X(VMCLEAR, VMX, VMX)              \
	X(VMLAUNCH, VMX, VM_ENTRY)        \
	X(VMRESUME, VMX, VM_ENTRY)        \
	X(VMXON, VMX, VMX)                \
	X(VMXOFF, VMX, VMX)               \
	X(VMCALL, VMX, VMX)               \
	X(INVEPT, VMX, VMX)               \
	X(INVVPID, VMX, VMX)              \
	X(VMRUN, SVM, VM_ENTRY)           \
	X(VMLOAD, SVM, SVM)               \
	X(VMSAVE, SVM, SVM)               \
	X(VMMCALL, SVM, SVM)              \
	X(STGI, SVM, SVM)                 \
	X(CLGI, SVM, SVM)                 \
	X(SKINIT, SVM, SVM)               \
	X(INVLPGA, SVM, SVM)

enum nx_insn_exit {
#define NX_X(name, bit, class) NX_INSN_##name,
	NX_INSN_EXITS(NX_X)
#undef NX_X
};

/*
 * Bits of nx_config.exits. They are met at CPL 0 only, since elsewhere the instructions fault.
 * CPUID does not: nx_config.user_exits says whether it is met there.
 */
#define NX_EXITS_CPUID (1u << 0)
#define NX_EXITS_MSR (1u << 1)
#define NX_EXITS_CR (1u << 2)
#define NX_EXITS_DR (1u << 3)
#define NX_EXITS_HLT (1u << 4)
#define NX_EXITS_INVALIDATE (1u << 5)
#define NX_EXITS_VMX (1u << 6)
#define NX_EXITS_SVM (1u << 7)
/* Of NX_EXITS_CR: MOV to CR0, MOV to and from CR4, and LMSW. A hypervisor with two-dimensional
 * paging intercepts these and hardly any other. */
#define NX_EXITS_CR_MODE (1u << 8)
/* SGDT, SIDT, LGDT, LIDT, SLDT and STR. A hypervisor that hides them from user code on a processor
 * without UMIP intercepts these. */
#define NX_EXITS_DESCRIPTOR (1u << 9)

/* Bits of nx_config.guest_features: instructions that not every guest's processor has. The
 * engine runs them only if the host says that this guest's processor does; otherwise they raise
 * #UD, which is left to the processor. */
#define NX_FEATURE_MOVBE (1u << 0)
#define NX_FEATURE_POPCNT (1u << 1)
#define NX_FEATURE_CMPXCHG16B (1u << 2)
#define NX_FEATURE_RDTSCP (1u << 3) /* and nx_host.read_tsc */

/* Bits of nx_experiment.fail. */
#define NX_FAIL_CACHE (1u << 0)  /* no translation fits in the code cache */
#define NX_FAIL_VERIFY (1u << 1) /* the verifier refuses every translation */

/*
 * An exit. The engine fills it at NX_EXIT; for input (write == false) the host stores the
 * device's answer in data before it calls nx_engine_resume() again. The state's rip stays on the
 * exiting instruction until the exit is completed: by that resume, or by nx_engine_complete_exit().
 * To abandon an exit (reset, state loaded from a snapshot), call nx_engine_forget_exit().
 *
 * NX_EXIT_INSN: write says that the instruction hands data over; reg is the control or debug
 * register, operand the MSR's number (ECX), the VMCS field or the descriptor's register, and linear
 * the memory operand's address, if there is one: the host accesses it. For input with a register as
 * destination (MOV from CR and DR, VMREAD, RDMSR) the host answers in data. What else the
 * instruction does (CPUID's four registers, VMREAD's flags, new CR values, all that SLDT and LGDT
 * do) the host stores in the vCPU's state; the engine moves rip on.
 */
#define NX_STRING_BYTES 1024

struct nx_exit {
	enum nx_exit_kind kind;
	bool write;
	uint8_t size;  /* bytes: 1, 2, 4, and 8 for MMIO */
	uint16_t port; /* NX_EXIT_IO */
	uint64_t gpa;  /* NX_EXIT_MMIO; never crosses a page */
	uint64_t data; /* little endian, low size bytes count */
	/*
	 * NX_EXIT_IO by INS and OUTS: count elements of size bytes in string, which belongs to the
	 * engine and holds NX_STRING_BYTES; data does not count then. Otherwise NULL and 1.
	 */
	uint32_t count;
	uint8_t *string;
	/* The answer goes to guest memory, so completing the exit takes a session. */
	bool to_memory;
	uint64_t rip;  /* of the exiting instruction */
	uint64_t next; /* of the one behind it */
	/* NX_EXIT_INSN */
	enum nx_insn_exit insn;
	uint8_t reg;
	bool memory; /* linear is used, and data is not */
	uint64_t operand;
	uint64_t linear;
	/* At NX_LEAVE: */
	enum nx_status reason;
	/* Always: in this resume the engine has built something for later ones, or a part of it, so
	 * that its duration does not tell what a resume costs. */
	bool built;
};

/* The class of an exit that the engine has delivered. */
static inline enum nx_exit_class nx_exit_class_of(const struct nx_exit *exit)
{
	if (exit->kind == NX_EXIT_IO)
		return NX_CLASS_IO;
	if (exit->kind == NX_EXIT_MMIO)
		return NX_CLASS_MMIO;
	switch (exit->insn) {
#define NX_X(name, bit, class) \
	case NX_INSN_##name:   \
		return NX_CLASS_##class;
		NX_INSN_EXITS(NX_X)
#undef NX_X
	}
	return NX_CLASS_CPUID;
}

/* How the host backs a guest-physical page. */
enum nx_page_kind {
	NX_PAGE_RAM,    /* host memory */
	NX_PAGE_DEVICE, /* nothing is mapped: an access is an MMIO exit */
	NX_PAGE_LEAVE,  /* the host declines: leave before an access */
};

struct nx_page {
	enum nx_page_kind kind;
	bool writable; /* RAM: stores go to memory; otherwise store_is_mmio says what a store is */
	bool store_is_mmio; /* RAM that is not writable: a store is an MMIO exit (ROM); otherwise
			       the engine leaves */
	void *host; /* RAM: the page's first byte; stays valid until the session ends, or without
		     * sessions until the stay ends or nx_engine_flush() is called; see enum
		     * nx_session */
	/* RAM that is not writable, with store_is_mmio: a page that the host traces, such as a
	 * page table. Adjacent stores to it may reach the host as one (nx_config.merge_stores). */
	bool traced;
};

/*
 * QUEUE and INSTEAD are writes that the hardware's exit would not bring to the host's client: they
 * would go into a ring that the client reads some time. QUEUE: the host will put the write there,
 * too. INSTEAD: the client gets an exit in its place, which saves only what such an exit would have
 * cost without the client, and costs what the client takes (nx_costs.client).
 *
 * FREE is an instruction with which the hardware delivers no exit, though the engine does: the host
 * executes it, and nothing is avoided.
 */
enum nx_route {
	NX_ROUTE_EXIT,
	NX_ROUTE_LEAVE,
	NX_ROUTE_QUEUE,
	NX_ROUTE_INSTEAD,
	NX_ROUTE_FREE,
};

/* The answers to nx_host.guest_enter. */
enum nx_session {
	NX_SESSION_REFUSED, /* the engine leaves */
	NX_SESSION_FRESH,   /* what map_page() has said before no longer holds */
	/* It does, but in the same stay guest addresses may lead elsewhere now. */
	NX_SESSION_FLUSHED,
	/* All that map_page() has said since a session was fresh still holds, in this stay and
	 * before it. */
	NX_SESSION_KEPT,
};

/* Return all bits set if a is below b, otherwise none. The value is computed without a branch,
 * so that it holds also where the processor speculates past a comparison of the two. */
static inline uint64_t nx_mask_below(uint64_t a, uint64_t b)
{
	uint64_t mask;

	__asm__ volatile("cmpq %2, %1; sbbq %0, %0" : "=r"(mask) : "r"(a), "r"(b) : "cc");
	return mask;
}

/* Return offset if it is below size, otherwise 0; this holds under misprediction, too. */
static inline uint64_t nx_confine(uint64_t offset, uint64_t size)
{
	return offset & nx_mask_below(offset, size);
}

/* The host's callbacks. They run on the thread that called nx_engine_resume(), must not call
 * back into the engine for the same vCPU, and must not block for long. */
struct nx_host {
	/* Fill in the page at gpa, which is 4096-byte aligned. A host that models the A20 gate
	 * clears bit 20 here while the gate is closed, and in nx_exit.gpa: the engine knows
	 * nothing of it. Compute a page's place in the host's memory with nx_confine(), or a
	 * guest may read beside it under speculation. */
	void (*map_page)(void *data, uint64_t gpa, struct nx_page *page);
	/* Whether the host takes this access as an exit; LEAVE: it declines. */
	enum nx_route (*route_io)(void *data, uint16_t port, unsigned size, bool write,
				  uint64_t value);
	enum nx_route (*route_mmio)(void *data, uint64_t gpa, unsigned size, bool write,
				    uint64_t value);
	/*
	 * The same for an instruction exit, which *exit describes: an MSR by its number (operand),
	 * a control register by reg. May be NULL: the host takes all of them. VMRUN is delivered
	 * in STI's shadow, too: a host that then leaves it to the hardware has to decline it here,
	 * unless no interrupt can be taken before it.
	 */
	enum nx_route (*route_insn)(void *data, const struct nx_exit *exit);
	/*
	 * May be NULL. Does a write for which NX_ROUTE_QUEUE was the answer. false: it cannot just
	 * now, and the write is delivered as an exit. Called for elements of string instructions,
	 * which need not be left for each of them; other writes always are delivered.
	 */
	bool (*queue)(void *data, uint64_t gpa, unsigned size, uint64_t value);
	/* Return the time of a monotonic clock in nanoseconds. */
	uint64_t (*now)(void *data);
	/* Read the time-stamp counter as the guest would now, with its offset and scaling; aux,
	 * if not NULL, gets IA32_TSC_AUX. Return false to have the engine leave. May be NULL:
	 * RDTSC and RDTSCP then leave. */
	bool (*read_tsc)(void *data, uint64_t *tsc, uint32_t *aux);
	/* Return true to interrupt the building of a cluster or a trace: the engine leaves, and
	 * builds the rest at the next exits there. Asked between the steps of building, which
	 * take some microseconds each. May be NULL. A host that bounds how long a stay lasts
	 * also looks at its clock itself, between an exit and the next resume. */
	bool (*time_is_up)(void *data);
	/* Return true if no interrupt waits that the guest would take if it enabled interrupts
	 * now. Asked before STI and POPF, which then enable them, and before what disables them
	 * again in a window of which nothing has been asked since the last exit. false: the
	 * engine leaves. May be NULL: the engine then leaves wherever the flag would change. */
	bool (*no_interrupt_waits)(void *data);
	/*
	 * Copy one of the guest's registers XMM0 to XMM15, 16 bytes, to memory or from it: by one
	 * access where the address is a multiple of 16, since guests may rely on that. They are
	 * called inside sessions only. false: the engine leaves. Both may be NULL together: then it
	 * leaves before every instruction that uses such a register.
	 */
	bool (*read_vector)(void *data, unsigned number, void *to);
	bool (*write_vector)(void *data, unsigned number, const void *from);
	/* These two bracket a session: the engine reads and writes guest memory between them
	 * only. A session covers one comparison of guest code and the run of its translation,
	 * one step of exploring guest code, or one block of a trace; forming, translating and
	 * verifying are outside. Sessions do not nest. map_page() is called inside sessions
	 * only, and its pointers are not used outside of them, nor in a session before which the
	 * host has not said that they still hold. The other callbacks may be
	 * called inside one, so a host that disables interrupts in guest_enter() must be able to
	 * answer them in that state. Both may be NULL together. */
	enum nx_session (*guest_enter)(void *data);
	void (*guest_leave)(void *data);
};

/* The levels of formation; each may add more to a cluster and contains the ones before it. */
#define NX_LEVELS(X)                                                                  \
	X(PAIRS, "pairs", "two exiting instructions back to back")                    \
	X(STRAIGHT, "straight", "exiting instructions with gap fillers between them") \
	X(DYNAMIC, "dynamic", "and memory accesses that have been observed to exit")  \
	X(BRANCHES, "branches", "and forward branches inside the cluster")            \
	X(LOOPS, "loops", "and backedges over exiting instructions")                  \
	X(PATHS, "paths", "and calls, returns and indirect branches along observed paths")

enum nx_level {
#define NX_X(name, word, text) NX_LEVEL_##name,
	NX_LEVELS(NX_X)
#undef NX_X
	    NX_LEVEL_COUNT
};

/* Settings to compare with and to test by. Zero is how the engine is meant to run. */
struct nx_experiment {
	uint16_t skip_first; /* exits of an instruction before the tracker judges it */
	uint32_t max_stay;   /* instructions that clusters run per stay; 0 for any number */
	bool give_up;        /* no formation is tried again where one found no cluster */
	bool ignore_costs;   /* entering is taken to pay always */
	uint32_t fail;       /* NX_FAIL_*: steps that fail, for testing */
	/*
	 * No clusters; each instruction up to the next exit is decoded, translated, verified and
	 * run by itself, every time again.
	 */
	bool uncached;
	/* 64-bit code at CPL 3 is taken to have been met first so many bytes below where it is
	 * (policy/slide.c); a multiple of 4096, 0: where it was. */
	uint64_t slide;
};

struct nx_config {
	enum nx_level level;
	uint16_t max_gap;          /* instructions between two exiting ones; paper: 16 */
	uint16_t max_gap_accesses; /* memory accesses between two exiting ones; paper: 4 */
	uint16_t max_path;         /* instructions between two exiting ones on an observed path */
	/*
	 * Two adjacent 32-bit stores, one after the other, that were seen to exit reach the host as
	 * one of 64 bits: a PAE guest's page-table entry. Only on pages that the host calls traced;
	 * the host asks the engine before it emulates the first of them.
	 */
	bool merge_stores;
	bool no_user_code; /* cluster at CPL 0 only */
	/* While no costs are known, leave places alone at which more is made than exits are
	 * avoided. */
	bool counts_waste;
	/* Make something at a place's second exit already, and not at its third, and while no costs
	 * are known follow the first side exit at a branch: for a host to which each exit counts.
	 */
	bool eager;
	uint32_t exits; /* NX_EXITS_*: instructions that exit, beside port and device accesses */
	uint32_t user_exits; /* those of them that exit at CPL 3, too: NX_EXITS_CPUID or nothing */
	bool segment_loads;  /* the host takes state.seg back, so loads of segments in real mode are
				run */
	/* The host fills in state.cr2 and the GDT's place, so that at CPL 0 MOV from CR2 and VERW
	 * are run where they do not exit. */
	bool system_registers;
	uint32_t guest_features; /* NX_FEATURE_*: features of the guest's processor */
	struct nx_experiment experiment;
};

/* Fill *config with the defaults. */
NX_API void nx_config_default(struct nx_config *config);

/* Sets of limits: the engine's own, by measured cost or without regard to it, and for comparison
 * the constants of its predecessors. X(name, word, help). */
#define NX_LIMITS(X)                                                                             \
	X(ADAPTIVE, "adaptive", "enter and build where it pays by the measured costs")           \
	X(UNWEIGHED, "unweighed", "the same, but enter wherever that is possible")               \
	X(PAPER, "paper", "16 instructions and 4 accesses ahead, loops, no paths, always taken") \
	X(VBOX, "vbox",                                                                          \
	  "VirtualBox's exit history: after 256 exits, 24 instructions ahead along any path, "   \
	  "at most 8192 in a stay, and never again where nothing was found")

enum nx_limits {
#define NX_X(name, word, help) NX_LIMITS_##name,
	NX_LIMITS(NX_X)
#undef NX_X
	    NX_LIMITS_COUNT
};

/* Set the limits in *config; level may be lowered afterwards. */
NX_API void nx_config_limits(struct nx_config *config, enum nx_limits limits);

/* Costs on this machine in nanoseconds, as far as the host has measured them. A cost of zero has
 * not been measured; then everything pays. The engine enters only where the exits that it avoids
 * are worth it. */
struct nx_costs {
	/* An exit from the guest to the host and back, without the emulation. A class that has
	 * not been measured is taken to cost as much as the dearest one that has. */
	uint32_t exit[NX_EXIT_CLASS_COUNT];
	uint32_t takeover; /* completing a hardware exit, fetching and writing back registers */
	uint32_t resume;   /* one exit delivered by the engine, guest instructions included */
	uint32_t thousand; /* a thousand guest instructions in translations */
	uint32_t client;   /* the client's work on an exit that it gets */
};

/* How translations branch to the engine. */
enum nx_branches {
	NX_BRANCHES_INDIRECT, /* through pointers, which reach the engine from everywhere */
	/* Directly, and int3 stops what goes straight on behind a jump: for a host that protects
	 * its indirect branches. All of code_rx has to be within 2 GiB of the engine's own code. */
	NX_BRANCHES_DIRECT,
	/* Likewise, and each entry is an endbr64, which occurs nowhere else: for a host whose
	 * processor tracks indirect branches (IBT). */
	NX_BRANCHES_TRACKED,
};

/* The memory of one vCPU's engine. The host owns it and releases it after the last call. arena
 * is zeroed, 64-byte aligned and at least nx_engine_arena_size() bytes long. code_rw and code_rx
 * are the same code_size bytes (at least 64 KiB, at most 2 GiB), mapped writable and executable;
 * no mapping is both. code_rx must not move. blind is 0, or a random number that the guest cannot
 * know: then no constant of more than 16 bits stands in translations as the guest chose it, for a
 * host in whose own privilege level translations run. */
struct nx_memory {
	void *arena;
	size_t arena_size;
	void *code_rw;
	void *code_rx;
	size_t code_size;
	enum nx_branches branches;
	uint64_t blind;
};

struct nx_engine;

/* Return how many bytes of arena a vCPU needs. */
NX_API size_t nx_engine_arena_size(void);

/* Create an engine for one vCPU inside *memory. host and host_data must outlive it; *config and
 * *memory are copied. Return NULL if *memory does not meet the requirements above. */
NX_API struct nx_engine *nx_engine_create(const struct nx_memory *memory,
					  const struct nx_host *host, void *host_data,
					  const struct nx_config *config);

/* Return the guest's state, which the host reads and writes in place, outside of calls. */
NX_API struct nx_state *nx_engine_state(struct nx_engine *engine);

/* Return the stop flag. Any non-zero value asks the engine to leave at the next exit or
 * backedge. Any thread and any signal handler may set it; the host clears it. */
NX_API volatile int *nx_engine_stop_flag(struct nx_engine *engine);

/* Return whether entering at an exit that the hardware delivered can pay; if not, the host goes
 * on as without the engine. exit_rip is the guest's rip as the host sees it at that exit (on the
 * exiting instruction or past it); port is that of a port access, or 0: where one instruction
 * serves several ports, as in a function that is called for all of them, each is weighed by itself.
 * now is a clock in nanoseconds, of which the engine needs no more than the seconds. This is cheap
 * and reads no guest memory. No exit of the engine's is open then: it has been completed or given
 * up (nx_engine_complete_exit(), nx_engine_forget_exit()). */
NX_API bool nx_engine_worth_resuming(struct nx_engine *engine, uint64_t exit_rip,
				     enum nx_exit_class exit_class, uint16_t port, uint64_t now);

/*
 * After nx_engine_worth_resuming() has returned false for exit_rip: return how many more exits
 * there, at the same port and at most so many, it would say the same of, all else being equal. They
 * count as if it had been asked about them, so the host need not ask.
 */
NX_API unsigned nx_engine_pass(struct nx_engine *engine, uint64_t exit_rip, unsigned most);

/* Tell the engine that the host does not take over behind the exit that it was last asked about,
 * and has lost nothing by it: it has a reason of its own, or the exit has led to another one of the
 * same instruction, at which the engine is asked again. */
NX_API void nx_engine_not_resumed(struct nx_engine *engine);

/* Run the guest from the instruction boundary in the vCPU's state: complete the pending exit, if
 * any, from exit->data, then execute. NX_LEAVE never leaves an instruction half executed: no
 * effect of the instruction at the new rip has taken place. A host must not resume a guest that
 * has breakpoints armed in its debug registers. */
NX_API enum nx_outcome nx_engine_resume(struct nx_engine *engine, struct nx_exit *exit);

enum nx_completion {
	NX_COMPLETION_NONE,    /* no exit was pending */
	NX_COMPLETION_DONE,    /* the state is the guest's after the instruction */
	NX_COMPLETION_EXIT,    /* the instruction goes on with another exit, now in *exit: the write
				* half of a read-modify-write */
	NX_COMPLETION_REFUSED, /* the host refused the session that completion takes; the exit is
				  still pending */
};

/* Complete the pending exit, if any, from *exit and run nothing else. */
NX_API enum nx_completion nx_engine_complete_exit(struct nx_engine *engine, struct nx_exit *exit);

/* What an exit's instruction has changed; each includes the ones before it. */
enum nx_changes {
	NX_CHANGES_REGISTERS, /* gpr, rip and rflags */
	NX_CHANGES_SEGMENTS,  /* FS, GS and the task register, as VMLOAD loads them */
	/* Anything: the engine forgets its translations of guest addresses. It has to if
	 * nx_exit_flushes() says so. */
	NX_CHANGES_ALL,
};

/* Tell the engine that the host has executed the pending exit's instruction by its own means, as
 * KVM's handlers do: the state is the guest's after the instruction, rip included, and the stay
 * goes on with the next resume. changes says what the state may differ in. */
NX_API void nx_engine_exit_done(struct nx_engine *engine, enum nx_changes changes);

/* Return whether the instruction may change address spaces, access rights or memory types: MOV
 * to CR3 may, CPUID may not. A host that moves memory or changes mappings for a reason of its
 * own flushes as well. */
NX_API bool nx_exit_flushes(const struct nx_exit *exit);

/* Drop the pending exit; the state that the host sets is the guest's. */
NX_API void nx_engine_forget_exit(struct nx_engine *engine);

/* Forget the translations of guest addresses and the host's page pointers. A stay lasts from an
 * exit that the hardware delivered (a resume without a pending exit) to NX_LEAVE; the engine
 * keeps page pointers during it. A host that changes its memory map in between calls this first. */
NX_API void nx_engine_flush(struct nx_engine *engine);

/* Tell the engine the vCPU's costs, which the host keeps up to date between calls. Until then
 * none has been measured. */
NX_API void nx_engine_set_costs(struct nx_engine *engine, const struct nx_costs *costs);

#ifdef __cplusplus
}
#endif

#endif
