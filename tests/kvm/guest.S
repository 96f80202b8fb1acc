/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * guest.S - the guests of guest_vmm.c, position independent. Each turns over port accesses, and
 * where there is a flat address space device memory, with work in between that depends on every
 * answer, and ends with OUT to port 0xf4.
 *
 * On entry: (e)cx turns, (e)si device memory (not in 16 bits), (e)sp a stack.
 */
	.section .rodata
	.macro guest name
	.global guest_\name, guest_\name\()_end
guest_\name:
	.endm

	.code16
	guest 16
	xor %bx, %bx
1:	mov $0x3fd, %dx
	in %dx, %al
	out %al, $0x80
	add %al, %bl
	mov $0x3f8, %dx
	mov %bl, %al
	out %al, %dx
	inc %dx
	in %dx, %ax
	push %ax
	xor %ax, %bx
	out %al, $0xed
	mov $0xcfc, %dx
	in %dx, %eax
	pop %di
	add %eax, %ebx
	add %di, %bx
	mov %bx, %es
	test $1, %bl
	jz 2f
	in $0x61, %al
	rol $3, %ebx
2:	push %bx
	pop %fs
	out %al, $0x80
	mov %es, %ax
	add %ax, %bx
	calll 3f /* as compilers return in 16-bit code */
	loop 1b
	mov %ebx, %eax
	mov $0xf4, %dx
	out %eax, %dx
	hlt
3:	in $0x60, %al
	mov %bx, %ds
	add %al, %bl
	retl
guest_16_end:

	.macro flat bits, a, b, c, s, t, sp
	guest \bits
	xor %ebx, %ebx
1:	mov $0x3fd, %edx
	in %dx, %al
	out %al, $0x80
	movzbl %al, %eax
	add %eax, %ebx
	mov $0x3f8, %edx
	mov %ebx, %eax
	out %al, %dx
	mov (%\s), %eax
	lea 3(%\a, %\b), %edi
	mov %edi, 8(%\s)
	push %\b
	movzwl 0x10(%\s), %eax
	add %eax, %ebx
	mov %bl, 0x13(%\s)
	pop %\t
	xor %edi, %ebx
	mov $0xcf8, %edx
	mov $0x80000810, %eax
	out %eax, %dx
	add $4, %edx
	in %dx, %eax
	add %eax, %ebx
	test $1, %bl
	jz 2f
	in $0x61, %al
	rol $3, %ebx
2:	dec %ecx
	jnz 1b
	mov %ebx, %eax
	mov $0xf4, %edx
	out %eax, %dx
	hlt
guest_\bits\()_end:
	.endm

	.code32
	flat 32, eax, ebx, ecx, esi, edi, esp
	.code64
	flat 64, rax, rbx, rcx, rsi, rdi, rsp

/* Counts in ebx how often time goes back. */
	guest tsc
	xor %ebx, %ebx
	xor %r8d, %r8d
1:	mov $0x3fd, %edx
	in %dx, %al
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	cmp %r8, %rax
	jae 2f
	inc %ebx
2:	mov %rax, %r8
	xor %eax, %eax
	out %al, $0x80
	dec %ecx
	jnz 1b
	mov %ebx, %eax
	mov $0xf4, %edx
	out %eax, %dx
	hlt
guest_tsc_end:

/* Strings, from the stack and to it, none of them, and behind a page's end. */
	guest strings
	xor %ebx, %ebx
	lea -0x1003(%rsp), %r8
	and $~0xfff, %r8
1:	mov %ecx, %ebp
	push %rbx
	mov %rsp, %rsi
	mov $8, %ecx
	mov $0x170, %edx
	rep outsb
	mov %rsp, %rdi
	mov $2, %ecx
	rep insl
	rep insw
	pop %rbx
	lea 0xffd(%r8), %rdi
	mov $6, %ecx
	rep insb
	add 0xffd(%r8), %rbx
	add %rdi, %rbx
	lea 8(%r8), %rsi
	std
	mov $3, %ecx
	rep outsw
	cld
	add %rsi, %rbx
	mov %ebx, %eax
	out %al, $0x80
	mov %ebp, %ecx
	dec %ecx
	jnz 1b
	mov %ebx, %eax
	mov $0xf4, %edx
	out %eax, %dx
	hlt
guest_strings_end:

/* From a device to memory, which KVM emulates as a whole: forwards, backwards, over a page's end, with
 * 32-bit addresses. Everything that the instructions leave goes into what follows. */
	guest copies
	xor %ebx, %ebx
	lea -0x400(%rsp), %r8
	mov %rsi, %r9
1:	mov %ecx, %ebp
	mov %r9, %rsi
	mov %r8, %rdi
	mov $24, %ecx
	rep movsl
	add %rsi, %rbx
	sub %rdi, %rbx
	std
	mov $12, %ecx
	rep movsw
	cld
	add %rsi, %rbx
	add %rdi, %rbx
	lea 0xff3(%r9), %rsi
	mov %r8, %rdi
	mov $9, %ecx
	rep movsl
	movabs $0x500000000, %rax
	or %rax, %rsi
	mov $9, %ecx
	rep movsl (%esi), (%edi)
	sub %rsi, %rbx
	add %rdi, %rbx
	add %rcx, %rbx
	mov $7, %ecx
	rep movsq
2:	add (%r8, %rcx, 4), %ebx
	rol $1, %ebx
	inc %ecx
	cmp $24, %ecx
	jb 2b
	mov %ebx, %eax
	out %al, $0x80
	mov %ebp, %ecx
	dec %ecx
	jnz 1b
	mov %ebx, %eax
	mov $0xf4, %edx
	out %eax, %dx
	hlt
guest_copies_end:

	.section .note.GNU-stack, "", @progbits
