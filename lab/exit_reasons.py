# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Names of the hardware's exit reasons, as the processors' manuals have them."""

NAMES = {
    "amd": {0x60: "INTR", 0x61: "NMI", 0x64: "VINTR", 0x65: "CR0 write", 0x6e: "RDTSC", 0x72: "CPUID", 0x73: "RSM",
            0x74: "IRET", 0x77: "PAUSE", 0x78: "HLT", 0x79: "INVLPG", 0x7a: "INVLPGA", 0x7b: "IN, OUT",
            0x7c: "RDMSR, WRMSR", 0x7d: "task switch", 0x7f: "shutdown", 0x80: "VMRUN", 0x81: "VMMCALL",
            0x82: "VMLOAD", 0x83: "VMSAVE", 0x84: "STGI", 0x85: "CLGI", 0x86: "SKINIT", 0x89: "WBINVD",
            0x8d: "XSETBV", 0x400: "nested page fault",
            **{number: f"CR{number} read" for number in (0, 3, 4, 8)},
            **{0x10 + number: f"CR{number} write" for number in (0, 3, 4, 8)},
            **{0x20 + number: f"DR{number} read" for number in range(8)},
            **{0x30 + number: f"DR{number} write" for number in range(8)},
            **{0x40 + number: f"exception {number}" for number in range(32)}},
    "intel": {0: "exception, NMI", 1: "external interrupt", 2: "triple fault", 7: "interrupt window", 8: "NMI window",
              9: "task switch", 10: "CPUID", 12: "HLT", 13: "INVD", 14: "INVLPG", 15: "RDPMC", 16: "RDTSC",
              18: "VMCALL", 19: "VMCLEAR", 20: "VMLAUNCH", 21: "VMPTRLD", 22: "VMPTRST", 23: "VMREAD",
              24: "VMRESUME", 25: "VMWRITE", 26: "VMXOFF", 27: "VMXON", 28: "CR access", 29: "DR access",
              30: "IN, OUT", 31: "RDMSR", 32: "WRMSR", 33: "invalid state", 40: "PAUSE", 43: "TPR below threshold",
              44: "APIC access", 48: "EPT violation", 49: "EPT misconfiguration", 50: "INVEPT",
              52: "preemption timer", 53: "INVVPID", 54: "WBINVD", 55: "XSETBV"},
}


def reason_name(cpu, number):
    """Returns an exit's name: cpu is the lab's kind."""
    return NAMES[cpu].get(number, f"{number:#x}")
