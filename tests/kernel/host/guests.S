/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * guests.S - the programs of vmm.c's guests, each assembled for 16, 32 and 64 bits.
 *
 * EDI holds the number of turns, and ESI a digest of all values that the program has read. A program
 * ends by writing the digest to port 0xf4. EBP holds the address of a device if the program uses
 * one.
 */
	.intel_syntax noprefix
	.section .rodata

	.macro fold register
	rol	esi, 5
	add	esi, \register
	.endm

	.macro fold_cpuid
	fold	eax
	fold	ebx
	fold	ecx
	fold	edx
	.endm

	.macro again label
	dec	edi
	jnz	\label
	mov	eax, esi
	mov	dx, 0xf4
	out	dx, eax
	.endm

	/* Sixteen CPUIDs back to back. */
	.macro program_cpuid16
1:	mov	eax, 1
	xor	ecx, ecx
	.rept	16
	cpuid
	.endr
	fold_cpuid
	again	1b
	.endm

	/* Four CPUIDs: a turn of the comparison for nested guests. */
	.macro program_cpuid4
1:	mov	eax, 1
	xor	ecx, ecx
	.rept	4
	cpuid
	.endr
	fold_cpuid
	again	1b
	.endm

	/* CPUIDs with instructions and a store in between. */
	.macro program_cpuid_gap
1:	xor	eax, eax
	cpuid
	fold_cpuid
	mov	eax, 1
	cpuid
	fold_cpuid
	mov	[0x8000], esi
	mov	eax, 0x80000000
	cpuid
	fold_cpuid
	add	esi, [0x8000]
	again	1b
	.endm

	/* CPUIDs with instructions on vector registers in between, as C libraries have them. XMM3 and
	 * XMM7 keep sums from turn to turn. */
	.macro program_vectors
1:	xor	eax, eax
	cpuid
	movd	xmm0, ebx
	movd	xmm1, edx
	movd	xmm2, ecx
	punpckldq xmm0, xmm1
	punpcklqdq xmm0, xmm2
	movaps	[0x8000], xmm0
	mov	eax, 1
	cpuid
	movd	xmm4, edi
	pshufd	xmm5, xmm4, 0x1b
	pxor	xmm5, [0x8000]
	paddd	xmm3, xmm5
	movups	[0x8011], xmm3
	mov	eax, 0x80000000
	cpuid
	movq	xmm6, [0x8014]
	movhps	xmm6, [0x8008]
	pand	xmm6, xmm0
	movq	[0x8030], xmm6
	mov	eax, 1
	xor	ecx, ecx
	cpuid
	movdqu	xmm7, [0x8029]
	movdqa	xmm1, xmm7
	psrldq	xmm1, 4
	por	xmm7, xmm1
	pmovmskb eax, xmm7
	fold	eax
	movd	eax, xmm3
	fold	eax
	movd	eax, xmm7
	fold	eax
	add	esi, [0x8030]
	xor	eax, eax
	cpuid
	fold_cpuid
	again	1b
	.endm

	/* A segment that a stay has loaded gets the value back that it had before the stay, from the
	 * processor: FNINIT ends the stay. */
	.macro program_segment_back
1:	xor	eax, eax
	mov	es, ax
	mov	dx, 0x304
	in	al, dx
	mov	ax, di
	mov	es, ax
	fninit
	xor	eax, eax
	mov	es, ax
	in	al, dx
	mov	ax, es
	fold	eax
	in	al, dx
	mov	es:[0x8000], edi
	fold	[0x8000]
	again	1b
	.endm

	/* Reads of the APIC base, PAT, an MTRR and the microcode's version. */
	.macro program_msr
1:	mov	ecx, 0x1b
	rdmsr
	fold	eax
	mov	ecx, 0x277
	rdmsr
	fold	eax
	fold	edx
	mov	ecx, 0x200
	rdmsr
	fold	eax
	mov	ecx, 0x8b
	rdmsr
	fold	edx
	again	1b
	.endm

	/* Writes to the APIC base and to an MTRR, with a new value in each turn, read back. */
	.macro program_wrmsr
1:	mov	ecx, 0x1b
	rdmsr
	wrmsr
	rdmsr
	fold	eax
	mov	ecx, 0x200
	rdmsr
	mov	eax, edi
	and	eax, 0xfff00000
	or	eax, 6
	xor	edx, edx
	wrmsr
	rdmsr
	fold	eax
	fold	edx
	again	1b
	.endm

	/* Ports of devices in the kernel: the timer's second channel, the interrupt controller's mask. */
	.macro program_port_kernel
1:	in	al, 0x21
	movzx	eax, al
	fold	eax
	mov	eax, edi
	out	0x21, al
	in	al, 0x21
	movzx	eax, al
	fold	eax
	in	al, 0xa1
	movzx	eax, al
	fold	eax
	again	1b
	.endm

	/* Ports of the VMM. */
	.macro program_port_vmm
1:	mov	dx, 0x300
	in	eax, dx
	fold	eax
	mov	dx, 0x304
	out	dx, eax
	in	ax, dx
	movzx	eax, ax
	fold	eax
	out	dx, al
	again	1b
	.endm

	/* Ports of the VMM and of the kernel, CPUID and MSR by turns. */
	.macro program_mixed
1:	mov	dx, 0x300
	in	al, dx
	movzx	eax, al
	fold	eax
	mov	eax, 1
	cpuid
	fold_cpuid
	in	al, 0x21
	movzx	eax, al
	fold	eax
	mov	ecx, 0x1b
	rdmsr
	fold	eax
	mov	dx, 0x304
	mov	eax, esi
	out	dx, eax
	again	1b
	.endm

	/*
	 * Bits of CR0 and CR4 changed and read back, and LMSW. The instructions' bytes are the same in
	 * all modes. Reading CR0 and CLTS do not exit and end a stay, so they are in program cr_leave.
	 */
	.macro program_cr
	.byte	0x0f, 0x20, 0xc3	/* mov ebx, cr0 */
1:	.byte	0x0f, 0x20, 0xe0	/* mov eax, cr4 */
	fold	eax
	xor	eax, 0x40		/* MCE */
	.byte	0x0f, 0x22, 0xe0	/* mov cr4, eax */
	.byte	0x0f, 0x20, 0xe2	/* mov edx, cr4 */
	fold	edx
	xor	eax, 0x40
	.byte	0x0f, 0x22, 0xe0	/* mov cr4, eax */
	xor	ebx, 0x40000		/* AM */
	.byte	0x0f, 0x22, 0xc3	/* mov cr0, ebx */
	mov	eax, edi
	and	eax, 6			/* MP, EM */
	lmsw	ax
	again	1b
	.endm

	.macro program_cr_leave
1:	.byte	0x0f, 0x20, 0xc0	/* mov eax, cr0 */
	fold	eax
	xor	eax, 0x4000a		/* AM, TS, MP */
	.byte	0x0f, 0x22, 0xc0	/* mov cr0, eax */
	.byte	0x0f, 0x20, 0xc2	/* mov edx, cr0 */
	fold	edx
	clts
	.byte	0x0f, 0x20, 0xc2	/* mov edx, cr0 */
	fold	edx
	again	1b
	.endm

	/* CR8, which has an encoding in 64-bit mode alone. */
	.macro program_cr8
1:	mov	eax, edi
	and	eax, 0xf
	.byte	0x44, 0x0f, 0x22, 0xc0	/* mov cr8, rax */
	.byte	0x44, 0x0f, 0x20, 0xc2	/* mov rdx, cr8 */
	fold	edx
	mov	eax, 1
	cpuid
	fold_cpuid
	again	1b
	.endm

	/* A burst of MOV DR, of which KVM makes one exit: it drops the intercepts at the first. */
	.macro program_dr
1:	mov	eax, edi
	.rept	8
	.byte	0x0f, 0x23, 0xc0	/* mov dr0, eax */
	.byte	0x0f, 0x21, 0xc2	/* mov edx, dr0 */
	fold	edx
	inc	eax
	.endr
	again	1b
	.endm

	/*
	 * Descriptor-table registers, which exit with UMIP, where KVM emulates that. Real mode has no
	 * SLDT and no STR. The tables' limits change, and no segment is loaded.
	 */
	.macro program_descriptor
	mov	eax, 7
	xor	ecx, ecx
	cpuid
	shl	ecx, 9			/* UMIP: bit 2 here, bit 11 of CR4 */
	and	ecx, 0x800
	.byte	0x0f, 0x20, 0xe0	/* mov eax, cr4 */
	or	eax, ecx
	.byte	0x0f, 0x22, 0xe0	/* mov cr4, eax */
1:	sgdt	[0x8000]
	fold	[0x8000]
	mov	[0x8000], di
	lgdt	[0x8000]
	sidt	[0x8010]
	fold	[0x8010]
	mov	ebx, 0x8000
	mov	[ebx + 0x10], si
	lidt	[ebx + 0x10]
	sgdt	[ebx + 0x20]
	fold	[0x8020]
	.if	mode != 16
	mov	[0x8030], esi
	sldt	word ptr [0x8032]
	fold	[0x8030]
	mov	eax, edi
	sldt	ax
	fold	eax
	str	eax
	fold	eax
	str	word ptr [0x8030]
	fold	[0x8030]
	.endif
	again	1b
	.endm

	/* A window for interrupts that opens before one exit and closes before the next. */
	.macro program_window
1:	sti
	mov	eax, 1
	cpuid
	fold_cpuid
	cli
	mov	eax, 0x80000000
	cpuid
	fold_cpuid
	again	1b
	.endm

	/* The time-stamp counter between exits, in units of 65536; what is folded says that it went back. */
	.macro program_tsc
	xor	ebp, ebp
1:	mov	eax, 1
	cpuid
	fold_cpuid
	rdtsc
	shrd	eax, edx, 16
	mov	edx, eax
	sub	edx, ebp
	mov	ebp, eax
	shr	edx, 31
	fold	edx
	mov	eax, 0x80000000
	cpuid
	fold_cpuid
	again	1b
	.endm

	/* A segment that is loaded between exits, read back, and used. */
	.macro program_segment
1:	mov	eax, edi
	mov	es, ax
	mov	dx, 0x300
	in	eax, dx
	fold	eax
	mov	es:[0x8000], eax
	mov	dx, 0x304
	xor	eax, eax
	mov	es, ax
	in	al, dx
	mov	eax, edi
	mov	es, ax
	mov	eax, esi
	out	dx, eax
	mov	ax, es
	fold	eax
	fold	es:[0x8000]
	again	1b
	.endm

	/* The LAPIC's page: the version, the task priority written and read back, an error register. */
	.macro program_mmio_lapic
1:	mov	ebp, 0xfee00000
	mov	eax, [ebp + 0x30]
	fold	eax
	mov	eax, edi
	and	eax, 0xf0
	mov	[ebp + 0x80], eax
	mov	edx, [ebp + 0x80]
	fold	edx
	mov	dword ptr [ebp + 0x280], 0
	or	esi, [ebp + 0x280]
	again	1b
	.endm

	/* The VMM's device memory: loads and stores of all sizes, and read-modify-writes. */
	.macro program_mmio_vmm
1:	mov	ebp, 0xd0000000
	mov	eax, [ebp]
	fold	eax
	mov	[ebp + 4], esi
	movzx	eax, word ptr [ebp + 8]
	fold	eax
	mov	byte ptr [ebp + 9], 0x5a
	movsx	eax, byte ptr [ebp + 3]
	fold	eax
	add	[ebp + 12], eax
	fold	eax
	xor	eax, [ebp + 16]
	fold	eax
	again	1b
	.endm

	/* Enter the guest of the VMCB in r8, as a hypervisor does, and fold how it has come back. */
	.macro svm_enter
	mov	rax, r8
	clgi
	vmload
	vmrun
	vmsave
	stgi
	.irp	at, 0x70, 0x74, 0x78, 0x80, 0xc8, 0x578, 0x5f8
	mov	eax, [r8 + \at]
	fold	eax
	.endr
	.endm

	/*
	 * A hypervisor, whose guest changes the VMCB that it was entered by: it takes the intercept of
	 * CPUID away, which has no effect before the next entry, and RAX, which has none. Each eighth
	 * entry is refused for its ASID, and each sixteenth guest ends in a triple fault.
	 */
	.macro program_svm
	.if	mode == 64
	mov	r8d, 0x100000
	mov	ecx, 0xc0000080		/* EFER */
	rdmsr
	or	eax, 0x1000		/* SVME */
	wrmsr
	mov	[r8 + 0x4d0], eax
	mov	ecx, 0xc0010117		/* VM_HSAVE_PA */
	mov	eax, 0x101000
	xor	edx, edx
	wrmsr
	mov	rax, r8
	vmsave				/* FS, GS, TR, LDTR and what goes with them */
	mov	dword ptr [r8 + 0x410], 0x0a9b0008 /* CS */
	mov	dword ptr [r8 + 0x414], -1
	.irp	segment, 0x400, 0x420, 0x430 /* ES, SS, DS */
	mov	dword ptr [r8 + \segment], 0x0c930010
	mov	dword ptr [r8 + \segment + 4], -1
	.endr
	mov	rax, cr4
	mov	[r8 + 0x548], rax
	mov	rax, cr3
	mov	[r8 + 0x550], rax
	mov	rax, cr0
	mov	[r8 + 0x558], rax
	mov	dword ptr [r8 + 0x560], 0x400 /* DR7 */
	mov	dword ptr [r8 + 0x568], 0xffff0ff0
	mov	dword ptr [r8 + 0x10], 3 /* VMRUN and VMMCALL are intercepted */
1:	mov	dword ptr [r8 + 0xc], 0x80040000 /* CPUID and shutdown, too */
	lea	rax, [rip + 5f]
	lea	rcx, [rip + 6f]
	mov	edx, edi
	and	edx, 15
	cmp	edx, 1
	cmove	rax, rcx
	mov	[r8 + 0x578], rax	/* RIP */
	mov	dword ptr [r8 + 0x570], 2
	mov	dword ptr [r8 + 0x5d8], 0x9800
	mov	dword ptr [r8 + 0x5f8], esi
	xor	eax, eax
	test	edi, 7
	setne	al
	mov	[r8 + 0x58], eax	/* ASID */
	neg	eax
	test	edi, 2
	cmove	eax, edx
	and	eax, edx
	mov	[r8 + 0xc0], eax	/* clean bits, of which some are a lie */
	mov	eax, 1
	cpuid
	fold_cpuid
	test	edi, 15
	jnz	3f
	mov	eax, 0x7777		/* a hypercall that KVM does not have */
	vmmcall
	fold	eax
3:
	svm_enter
	cmp	dword ptr [r8 + 0x70], 0x72
	jne	2f
	svm_enter
	fold_cpuid
2:	again	1b
	jmp	2b
	/* Its guest. */
5:	mov	dword ptr [r8 + 0xc], 0x80000000
	mov	dword ptr [r8 + 0x5f8], 0x1234
	mov	eax, 1
	cpuid
	vmmcall
6:	ud2				/* no interrupt table: a triple fault */
	.else
	hlt
	.endif
	.endm

#include "vmx.inc"

	.macro emit name, bits
	.code\bits
	.set	mode, \bits
	.balign	16
guest_\name\()_\bits:
	program_\name
	.globl	guest_\name\()_\bits\()_size
	.set	guest_\name\()_\bits\()_size, . - guest_\name\()_\bits
	.globl	guest_\name\()_\bits
	.endm

	.macro program name
	emit	\name, 16
	emit	\name, 32
	emit	\name, 64
	.endm

#define X(name) program name
#include "programs.h"

	.section .note.GNU-stack, "", @progbits
