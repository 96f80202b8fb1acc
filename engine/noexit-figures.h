/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * noexit-figures.h - what the engine tells about its work: why it left, classes of exits, counters,
 * the places that it leaves to the hardware, and clusters as they are shown to people. noexit.h
 * includes this header, and its rules on threads and ownership hold here.
 */
#ifndef NX_NOEXIT_FIGURES_H
#define NX_NOEXIT_FIGURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NX_API __attribute__((visibility("default")))

struct nx_engine;
struct nx_cluster;

/* ---- Why the engine left ---- */

/* The reasons for which the engine gives the guest back. X(name, description printed to people). */
#define NX_LEAVE_REASONS(X)                                                                   \
	X(NO_CLUSTER, "no cluster starts here")                                               \
	X(COLD, "below the hot threshold, so not translated yet")                             \
	X(CLUSTER_END, "a side exit of the cluster")                                          \
	X(GUARD, "an indirect branch to a target that was not observed")                      \
	X(CODE_CHANGED, "the guest code differs from what was translated")                    \
	X(CODE_WRITE, "a store to the cluster's own code")                                    \
	X(CODE_UNREADABLE, "the guest code cannot be read")                                   \
	X(PAGE_FAULT, "an access that needs the processor (missing page or access rights)")   \
	X(PAGE_CROSSING, "an access that crosses a page")                                     \
	X(SPLIT_LOCK, "a locked access across two cache lines")                               \
	X(SEGMENT, "an access outside a segment's limit or rights")                           \
	X(HOST_PAGE, "memory that the host does not let the engine touch")                    \
	X(SESSION, "the host refused access to guest memory for the moment")                  \
	X(HOST_ROUTE, "an exit that the host declines")                                       \
	X(DEVICE_FORM, "a device access by an instruction that the engine does not complete") \
	X(FAULT, "an instruction that would fault")                                           \
	X(STATE, "a processor state that the engine does not run in")                         \
	X(WINDOW, "an instruction that enables or disables interrupts")                       \
	X(STOP, "the stop flag was set")                                                      \
	X(TURNS, "a loop without a certain exit has used up its turns")                       \
	X(LATENCY, "the latency bound was reached")                                           \
	X(CACHE_FULL, "the code cache was full and has been flushed")                         \
	X(UNTRANSLATED, "the cluster is too large to be translated")                          \
	X(REFUSED, "the verifier refused the translation")                                    \
	X(OFF, "clustering is off for this vCPU")

/* The result of a step of the engine: success, or the reason to leave. */
enum nx_status {
	NX_OK,
#define NX_X(name, text) NX_LEAVE_##name,
	NX_LEAVE_REASONS(NX_X)
#undef NX_X
	    NX_LEAVE_REASON_COUNT,
	/* Used inside the engine only: a helper has prepared an exit. */
	NX_STOP_EXIT = NX_LEAVE_REASON_COUNT
};

/* Return the reason's name as above without NX_LEAVE_, or its description: string constants, "?"
 * for what is no reason. Any thread may call these. */
NX_API const char *nx_leave_reason_name(enum nx_status reason);
NX_API const char *nx_leave_reason_text(enum nx_status reason);

/* ---- Counters ---- */

/* Classes of exits that differ in cost: a VMREAD, a port access that goes to the VMM and an
 * entry of a nested guest have little in common. X(name, word, description). */
#define NX_EXIT_CLASSES(X)                                                    \
	X(IO, "io", "port accesses")                                          \
	X(MMIO, "mmio", "device-memory accesses")                             \
	X(CPUID, "cpuid", "CPUID")                                            \
	X(MSR, "msr", "RDMSR and WRMSR")                                      \
	X(CR, "cr", "accesses to control registers")                          \
	X(DR, "dr", "accesses to debug registers")                            \
	X(HLT, "hlt", "HLT")                                                  \
	X(INVALIDATE, "invalidate", "INVLPG, INVD and WBINVD")                \
	X(DESCRIPTOR, "descriptor", "accesses to descriptor-table registers") \
	X(VMCS, "vmcs", "VMREAD and VMWRITE")                                 \
	X(VMX, "vmx", "other instructions of VMX")                            \
	X(SVM, "svm", "instructions of SVM")                                  \
	X(VM_ENTRY, "vm_entry", "VMLAUNCH, VMRESUME and VMRUN")

enum nx_exit_class {
#define NX_X(name, word, text) NX_CLASS_##name,
	NX_EXIT_CLASSES(NX_X)
#undef NX_X
	    NX_EXIT_CLASS_COUNT
};

/* Counters, monotonic, written by the vCPU's thread only. X(name, description). */
#define NX_COUNTERS(X)                                                       \
	X(resumes, "nx_engine_resume() calls")                               \
	X(exits_io, "port exits delivered by the engine")                    \
	X(exits_mmio, "device-memory exits delivered by the engine")         \
	X(exits_insn, "instruction exits delivered by the engine")           \
	X(enters, "entries into translations")                               \
	X(tlb_misses, "software TLB misses")                                 \
	X(formed, "clusters formed")                                         \
	X(barren, "formations that found no exiting instruction in reach")   \
	X(backedges, "backward branches in the clusters formed")             \
	X(backedges_kept, "of these, taken inside the cluster")              \
	X(translated, "clusters translated and verified")                    \
	X(paused, "builds of a cluster interrupted for latency")             \
	X(refused, "translations that the verifier refused")                 \
	X(flushes, "code cache flushes")                                     \
	X(flushes_blocks, "flushes of the single blocks kept for paths")     \
	X(stale, "clusters dropped because the guest code changed")          \
	X(retired, "clusters dropped because they avoided nothing")          \
	X(exits_traced, "exits delivered on traces, by no cluster")          \
	X(exits_flushed, "exits that flushed clusters had delivered")        \
	X(declined, "exits at which entering has not paid before")           \
	X(waited, "exits that have cost less than building a cluster there") \
	X(traces, "paths followed from one exit to the next")                \
	X(followed, "of these, known paths that the cluster lacks")          \
	X(traces_failed, "paths that led to no exit in reach")               \
	X(grown, "clusters dropped to be formed again with a new path")      \
	X(same, "clusters formed again that turned out to be the same")      \
	X(blocks, "single blocks translated and verified for paths")         \
	X(singles, "instructions translated for device operands")            \
	X(forced, "translations forced by the tracker's leak detection")     \
	X(instructions, "guest instructions that clusters ran, at least")

/* Guest instructions on the shortest path between one exit and the next that a cluster
 * delivered: 0, 1, 2 to 3, 4 to 7, and so on; the last class has no end. */
#define NX_DISTANCES 11

struct nx_counters {
#define NX_X(name, text) uint64_t name;
	NX_COUNTERS(NX_X)
#undef NX_X
	uint64_t leaves[NX_LEAVE_REASON_COUNT]; /* by enum nx_status; the first stays 0 */
	uint64_t distance[NX_DISTANCES];
};

/* Return the counters, which go on counting. Another thread may read them, too, and may find some
 * of them older than others. */
NX_API const struct nx_counters *nx_engine_counters(const struct nx_engine *engine);

/* ---- Places that are left alone ---- */

/* Why a place is left to the hardware. X(name, word, description). */
#define NX_ALONE_REASONS(X)                                                           \
	X(COLD, "cold", "there have been few exits so far")                           \
	X(BARREN, "barren", "behind it no exit is in reach")                          \
	X(UNEARNED, "unearned", "its exits have not cost what a cluster there would") \
	X(DECLINED, "declined", "taking over there has cost more than it saved")

enum nx_alone_reason {
#define NX_X(name, word, text) NX_ALONE_##name,
	NX_ALONE_REASONS(NX_X)
#undef NX_X
	    NX_ALONE_REASON_COUNT
};

#define NX_ALONE_PLACES 64

/*
 * A place that is left alone: where the host was told not to take over, or where a stay ended
 * because nothing was translated for it.
 */
struct nx_alone {
	uint64_t rip;    /* as the host named it, or where the guest stood */
	uint64_t times;  /* at least */
	uint32_t reason; /* enum nx_alone_reason */
	uint32_t leave;  /* BARREN: enum nx_status that the search for an exit ended with */
};

/*
 * Describe one of the places that are met most often, whose number is below NX_ALONE_PLACES. Return
 * false, with *place as it was, if there is none of that number.
 */
NX_API bool nx_engine_alone(const struct nx_engine *engine, unsigned number,
			    struct nx_alone *place);

/* ---- Clusters ---- */

/* One cluster, as shown to people (nx_cluster_next() and nx_cluster_describe()). */
struct nx_cluster_info {
	uint64_t entry_rip;    /* where it was formed: after its first exiting instruction */
	uint32_t instructions; /* guest instructions in the graph */
	uint32_t exiting;      /* of these, exiting ones */
	uint32_t blocks;
	uint32_t code_bytes;  /* of host code */
	uint64_t executions;  /* entries from a resume */
	uint64_t exits;       /* exits that it delivered */
	uint64_t exits_mmio;  /* of these, device-memory exits */
	uint64_t exits_insn;  /* likewise, exits by an instruction as such */
	uint64_t stays;       /* stays that began in this cluster */
	uint64_t made_ns;     /* the time that forming, translating and verifying took */
	uint8_t bits;         /* 16, 32 or 64 */
	bool dropped;         /* dropped as stale, retired or grown; it will not run again */
	uint32_t code_offset; /* of the host code, in nx_memory.code_rx */
};

#define NX_CLUSTER_EDGES 6 /* the fall-through, the branch taken, four observed targets */
#define NX_CLUSTER_NOWHERE 0xffff

/* The limit on how often an edge may be taken before the cluster is left. */
enum nx_edge_limit {
	NX_EDGE_FREE, /* unlimited: each turn of the loop meets an exiting instruction */
	NX_EDGE_WEAK, /* some turns per stay: the loop meets an access that may exit */
	NX_EDGE_IDLE, /* some turns from one exit to the next: the loop meets no exit */
};

/* A block of a cluster, as shown to people: instructions that lie one after the other, entered
 * at the first only. The last one's edges lead to blocks or out of the cluster. */
struct nx_cluster_block {
	uint64_t rip;
	uint16_t instructions;
	uint16_t bytes;
	uint16_t calls; /* its depth in the calls that the cluster makes */
	bool entry;     /* a resume may begin here */
	uint8_t targets;
	uint64_t target[NX_CLUSTER_EDGES - 2]; /* guest rip of each observed target */
	uint16_t edge[NX_CLUSTER_EDGES];       /* numbers of blocks, or NX_CLUSTER_NOWHERE */
	uint8_t limit[NX_CLUSTER_EDGES];       /* enum nx_edge_limit */
	/* A byte for each instruction: its length, with NX_SHAPE_EXITS if it exits. Valid until
	 * the next resume. */
	const uint8_t *shape;
};

#define NX_SHAPE_LENGTH 0x7f
#define NX_SHAPE_EXITS 0x80

/*
 * Return the cluster that was made behind this one, or the first for NULL; NULL: there is none. A
 * cluster stays where it is until all are flushed, which nx_counters.flushes counts.
 */
NX_API const struct nx_cluster *nx_cluster_next(const struct nx_engine *engine,
						const struct nx_cluster *cluster);
NX_API void nx_cluster_describe(const struct nx_cluster *cluster, struct nx_cluster_info *info);
/* Describe one of its blocks; number is below nx_cluster_info.blocks. */
NX_API void nx_cluster_block(const struct nx_cluster *cluster, unsigned number,
			     struct nx_cluster_block *block);
/* Copy the guest code at rip as it was translated, at most size bytes. Return how many there are:
 * fewer where the cluster was made of no more. */
NX_API size_t nx_cluster_code(const struct nx_cluster *cluster, uint64_t rip, void *to,
			      size_t size);

#ifdef __cplusplus
}
#endif

#endif
