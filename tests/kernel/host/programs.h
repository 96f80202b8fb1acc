/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* programs.h - the names of the guests' programs, for guests.S and vmm.c. */
X(cpuid16)
X(cpuid_gap)
X(msr)
X(wrmsr)
X(port_kernel)
X(port_vmm)
X(mixed)
X(mmio_lapic)
X(mmio_vmm)
