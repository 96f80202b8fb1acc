/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kernel_stats.h - the module's counters for each vCPU. X(name, description). */
#ifndef NXK_STATS_H
#define NXK_STATS_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
#endif

#define NXK_STATS(X)                                                        \
	X(exits, "exits that the hardware delivered")                       \
	X(exits_to_vmm, "of these, exits that went on to the VMM")          \
	X(stays, "times that the engine took a vCPU over")                  \
	X(delivered, "exits that the engine delivered to KVM's handlers")   \
	X(delivered_cpuid, "of these, CPUID")                               \
	X(delivered_msr, "of these, RDMSR and WRMSR")                       \
	X(delivered_deadline, "of these, writes to TSC_DEADLINE")           \
	X(delivered_cr, "of these, accesses to control registers")          \
	X(delivered_io, "of these, port accesses")                          \
	X(delivered_mmio, "of these, accesses to device memory")            \
	X(delivered_hlt, "of these, HLT")                                   \
	X(to_vmm, "of all delivered, exits that went on to the VMM")        \
	X(to_vmm_mmio, "of these, accesses to device memory")               \
	X(unfit, "exits behind which the vCPU's state forbade a stay")      \
	X(sessions, "sessions")                                             \
	X(sessions_refused, "sessions refused since a request was pending") \
	X(sessions_kicked, "sessions during which the vCPU was kicked")     \
	X(longest_session_ns, "nanoseconds of the longest session")         \
	X(checked, "exits left to the hardware and compared (check=N)")     \
	X(check_differences, "of these, such as were different")            \
	X(check_lost, "comparisons that an interrupt has spoiled")          \
	X(audited, "pages looked at again at a session's end (audit_us=N)") \
	X(audit_zapped, "of these, taken from the guest meanwhile")         \
	X(audit_freed, "of these, freed meanwhile")                         \
	X(audit_changed, "of these, changed meanwhile")                     \
	X(declined, "exits that the engine left to the hardware")           \
	X(aborted, "exits delivered that KVM answered with an exception")

struct nxk_stats {
#define NX_X(name, text) uint64_t name;
	NXK_STATS(NX_X)
#undef NX_X
};

#endif
