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
	hostile input, mov %ecx, %r12d; mov $6, %ecx; mov %rdi, %r13; mov $0x170, %edx; rep insl; mov %r13, %rdi; mov %r12d, %ecx
	/*
	 * It maps the two megabytes around the address again at each turn, where nothing was (a page
	 * directory is at 0x12000), and goes there.
	 */
	hostile tables, mov %rbx, %r8; and $~0x1fffff, %r8; or $0x87, %r8; lea 2(%rcx), %edx; mov %r8, 0x12000(, %rdx, 8); shl $21, %edx; mov %rbx, %r8; and $0x1fffff, %r8d; mov (%rdx, %r8), %r9d; mov %r10d, 4(%rdx, %r8)
	/* It changes the port of its first instruction at each turn. */
	hostile code, inc %r10b; mov %r10b, 1b+1(%rip); mov (%rbx), %r8b

/* It never comes back to an exit. */
	.global hostile_spin, hostile_spin_end
hostile_spin:
1:	in $0x61, %al
	out %al, $0x80
	dec %ecx
	jnz 1b
2:	inc %r8
	mov %r8, (%rbx)
	jmp 2b
hostile_spin_end:

	.section .note.GNU-stack, "", @progbits
