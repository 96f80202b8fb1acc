/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * kernel_stats.h - what noexit.ko alone counts, for each vCPU, beside struct nx_stats.
 * X(name, description). Of names that begin with "longest" the greatest counts, of others the sum.
 */
#ifndef NXK_STATS_H
#define NXK_STATS_H

#include <stdint.h>

#define NXK_STATS(X)                                                        \
	X(delivered_deadline, "writes to TSC_DEADLINE that were avoided")   \
	X(delivered_eoi, "ends of the local APIC's interrupts, likewise")   \
	X(to_vmm, "of all avoided, exits that went on to the VMM")          \
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
	X(aborted, "exits delivered that KVM answered with an exception")

struct nxk_stats {
#define NX_X(name, text) uint64_t name;
	NXK_STATS(NX_X)
#undef NX_X
};

#endif
