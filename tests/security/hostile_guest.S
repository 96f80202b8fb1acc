/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * hostile_guest.S - the guests of hostile_kvm_test.c, in 64-bit mode: ecx turns with the good address
 * in rbx and rdi, one more with the bad one, which comes in rbp.
 */
	.section .rodata
	.macro hostile name, body:vararg
	.global hostile_\name, hostile_\name\()_end
hostile_\name:
1:	in $0x61, %al
	\body
	out %al, $0x80
	dec %ecx
	js 2f
	jnz 1b
	mov %rbp, %rbx
	mov %rbp, %rdi
	jmp 1b
2:	out %al, $0xf4
	hlt
hostile_\name\()_end:
	.endm

	.code64
	hostile load, mov (%rbx), %r8; add %r8, %r9
	hostile store, mov %r10, (%rbx)
	hostile locked, lock xadd %r10, (%rbx)
	hostile indexed, mov -0x7ffffff8(%rbx, %r11, 8), %r8d
	hostile stack, xchg %rbx, %rsp; push %r10; pop %r8; xchg %rbx, %rsp
	hostile fill, mov %ecx, %r12d; mov $24, %ecx; mov %rdi, %r13; rep stosb; mov %r13, %rdi; mov %r12d, %ecx
	/* It changes the port of its first instruction at each turn. */
	hostile code, inc %r10b; mov %r10b, 1b+1(%rip); mov (%rbx), %r8b

	.section .note.GNU-stack, "", @progbits
