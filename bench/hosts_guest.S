/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * hosts_guest.S - the guests of hosts.c, position-independent 64-bit code: ecx turns of a few exits
 * of one kind, then an OUT to TINYVM_END. rdi is the LAPIC's page.
 */
	.section .rodata

/* Nothing that either host runs: the next exit comes from the hardware again. rsi is memory. */
	.macro guest name, body:vararg
	.globl bench_hosts_\name, bench_hosts_\name\()_end
bench_hosts_\name:
	mov %ecx, %r15d
1:	\body
	fnstcw 0xff0(%rsi)
	dec %r15d
	jnz 1b
	out %al, $0xf4
	hlt
bench_hosts_\name\()_end:
	.endm

	.macro cpuid_times count
	.rept \count
	xor %eax, %eax
	cpuid
	.endr
	.endm

	.macro msr_times count
	mov $0x277, %ecx	/* PAT, which KVM keeps for the guest */
	.rept \count
	rdmsr
	.endr
	.endm

	.macro vmm_ports
	mov $0x3fd, %edx
	in %dx, %al
	out %al, $0x80
	.endm

	/* The interrupt controller's mask. */
	.macro kernel_ports
	in $0x21, %al
	out %al, $0x21
	.endm

	/* The task priority is written and read, then the spurious vector, the version, an error register. */
	.macro apic_burst
	movl $0x10, 0x80(%rdi)
	mov 0x80(%rdi), %eax
	mov 0xf0(%rdi), %eax
	mov 0x30(%rdi), %eax
	movl $0, 0x280(%rdi)
	mov 0x280(%rdi), %eax
	.endm

	.code64
	guest cpuid_1, cpuid_times 1
	guest cpuid_2, cpuid_times 2
	guest cpuid_16, cpuid_times 16
	guest msr_16, msr_times 16
	guest port_vmm, vmm_ports
	guest port_kernel, kernel_ports
	guest apic, apic_burst

	.section .note.GNU-stack, "", @progbits
