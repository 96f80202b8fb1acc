/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * enter.S - the way into a translation, out of it, and to C from inside it.
 *
 * Between nx_enter and nx_thunk_exit the host registers hold guest values (context.h, rule 1), so
 * every thunk first stores the eleven resident guest registers to their slots and reloads them
 * before it goes back. r10, r11 and r14 never carry a host value into emitted code, but for r14
 * after a miss, which is the pointer that the code asked for, and at an entry, of which it is the
 * address: the verifier takes it for a pointer there. Guest code must not learn host addresses. The
 * stack is 16-byte aligned while a translation runs.
 *
 * nx_enter's jump is the only indirect branch, and the returns the only other ones that a predictor
 * is asked for; a host may define NX_JUMP_R14 and a macro ret that protect them. int3 stops what
 * goes straight on behind them. A host whose tools read the object code defines
 * NX_FUNCTION as well, which begins a function.
 *
 * A host in whose own privilege level guest code must not train predictors defines NX_FORGET_BRANCHES, which
 * comes before any C, with the guest's registers stored; it may change the registers that C functions may.
 *
 * Calls and returns come in pairs, also where the translation ends in a call: a return that is predicted to go back into
 * emitted code would run it with the host's registers otherwise.
 *
 * Every way into emitted code ends with lfence: what C did on a mispredicted way, and stores that a
 * load could still overtake (the TLB's), are settled by then (docs/verifier.md, Speculation).
 */
#include "context.h"

#ifndef NX_JUMP_R14
#define NX_JUMP_R14 jmp r14
#endif
#ifndef NX_FORGET_BRANCHES
#define NX_FORGET_BRANCHES
#endif
#ifndef NX_FUNCTION
#define NX_FUNCTION(name) .globl name; .hidden name; .type name, @function; name:
#endif

	.intel_syntax noprefix
	.text

	.macro store_guest
	mov	[r15 + NX_CTX_GPR + 8 * 0], rax
	mov	[r15 + NX_CTX_GPR + 8 * 1], rcx
	mov	[r15 + NX_CTX_GPR + 8 * 2], rdx
	mov	[r15 + NX_CTX_GPR + 8 * 3], rbx
	mov	[r15 + NX_CTX_GPR + 8 * 5], rbp
	mov	[r15 + NX_CTX_GPR + 8 * 6], rsi
	mov	[r15 + NX_CTX_GPR + 8 * 7], rdi
	mov	[r15 + NX_CTX_GPR + 8 * 8], r8
	mov	[r15 + NX_CTX_GPR + 8 * 9], r9
	mov	[r15 + NX_CTX_GPR + 8 * 12], r12
	mov	[r15 + NX_CTX_GPR + 8 * 13], r13
	NX_FORGET_BRANCHES
	.endm

	.macro load_guest
	mov	rax, [r15 + NX_CTX_GPR + 8 * 0]
	mov	rcx, [r15 + NX_CTX_GPR + 8 * 1]
	mov	rdx, [r15 + NX_CTX_GPR + 8 * 2]
	mov	rbx, [r15 + NX_CTX_GPR + 8 * 3]
	mov	rbp, [r15 + NX_CTX_GPR + 8 * 5]
	mov	rsi, [r15 + NX_CTX_GPR + 8 * 6]
	mov	rdi, [r15 + NX_CTX_GPR + 8 * 7]
	mov	r8, [r15 + NX_CTX_GPR + 8 * 8]
	mov	r9, [r15 + NX_CTX_GPR + 8 * 9]
	mov	r12, [r15 + NX_CTX_GPR + 8 * 12]
	mov	r13, [r15 + NX_CTX_GPR + 8 * 13]
	xor	r10d, r10d
	xor	r11d, r11d
	.endm

/* void nx_enter(struct nx_context *context, const void *code): returns when the code reaches an exit. */
	NX_FUNCTION(nx_enter)
	push	rbx
	push	rbp
	push	r12
	push	r13
	push	r14
	push	r15
	sub	rsp, 8
	mov	r15, rdi
	mov	[r15 + NX_CTX_HOST_RSP], rsp
	mov	r14, rsi
	load_guest
	lfence
	NX_JUMP_R14
	int3
	.size	nx_enter, . - nx_enter

/* Emitted code jumps here, the site stored. */
	NX_FUNCTION(nx_thunk_exit)
	store_guest
.Lleave:
	mov	rsp, [r15 + NX_CTX_HOST_RSP]
	add	rsp, 8
	pop	r15
	pop	r14
	pop	r13
	pop	r12
	pop	rbp
	pop	rbx
	ret
	int3
	.size	nx_thunk_exit, . - nx_thunk_exit

/*
 * Emitted code calls here on a software TLB miss, address and site stored. nx_runtime_miss()
 * returns the pointer, or NULL: the translation ends here, the instruction not executed.
 */
	NX_FUNCTION(nx_thunk_miss)
	store_guest
	sub	rsp, 8
	mov	rdi, r15
	call	nx_runtime_miss
	add	rsp, 8
	test	rax, rax
	jz	.Labandon
	mov	r14, rax
	load_guest
	lfence
	ret
	int3

/*
 * The translation ends in its call. The return is predicted to go behind the call, so what might run there finds what a
 * mispredicted check leaves: the guest's registers, and the context for a pointer.
 */
.Labandon:
	lea	rax, [rip + .Lleave]
	mov	[rsp], rax
	mov	r14, r15
	load_guest
	lfence
	ret
	int3
	.size	nx_thunk_miss, . - nx_thunk_miss

/*
 * Emitted code calls here for an instruction that C executes, flags and site stored.
 * nx_runtime_helper() returns false to end the translation before the instruction.
 */
	NX_FUNCTION(nx_thunk_helper)
	store_guest
	sub	rsp, 8
	mov	rdi, r15
	call	nx_runtime_helper
	add	rsp, 8
	test	al, al
	jz	.Labandon
	load_guest
	xor	r14d, r14d
	lfence
	ret
	int3
	.size	nx_thunk_helper, . - nx_thunk_helper

	.section .note.GNU-stack, "", @progbits
