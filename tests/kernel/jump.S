/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * jump.S - setjmp() and longjmp() for the self-test, which leaves a failed test by them.
 *
 * int shim_save(uint64_t state[8]) returns 0, and 1 when shim_leave(state) returns to it.
 */
	.intel_syntax noprefix
	.text

	.globl	shim_save
	.type	shim_save, @function
shim_save:
	mov	[rdi], rbx
	mov	[rdi + 8], rbp
	mov	[rdi + 16], r12
	mov	[rdi + 24], r13
	mov	[rdi + 32], r14
	mov	[rdi + 40], r15
	mov	rax, [rsp]
	mov	[rdi + 48], rax
	mov	[rdi + 56], rsp
	xor	eax, eax
	ret
	.size	shim_save, . - shim_save

	.globl	shim_leave
	.type	shim_leave, @function
shim_leave:
	mov	rbx, [rdi]
	mov	rbp, [rdi + 8]
	mov	r12, [rdi + 16]
	mov	r13, [rdi + 24]
	mov	r14, [rdi + 32]
	mov	r15, [rdi + 40]
	mov	rsp, [rdi + 56]
	mov	rax, [rdi + 48]
	mov	[rsp], rax
	mov	eax, 1
	ret
	.size	shim_leave, . - shim_leave

	.section .note.GNU-stack, "", @progbits
