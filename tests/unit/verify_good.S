/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * verify_good.S - programs that the verifier must accept: every permitted construct. They also run
 * (verify_sandbox.c): rsi points into the sandbox's guest memory, and each ends at an exit.
 */
#define TABLE verify_good_table
#include "verify_macros.inc"

	program	leave_only
	exit	LEAVE
	end	leave_only, OK

	program	integer_registers
	mov	eax, 0x12345678
	mov	rcx, 0x123456789abcdef0
	mov	dl, ah
	movzx	ebx, cl
	movzx	r8d, cx
	movsx	r9, al
	movsx	r12d, ax
	movsxd	r13, eax
	lea	rdi, [rax + rcx * 4 + 0x1234]
	lea	edi, [rdi + rbp]
	add	rax, rcx
	or	ebx, 0x80
	adc	dx, 7
	sbb	al, ah
	and	rbp, rdi
	sub	ecx, ebx
	xor	r8, r8
	cmp	rax, -1
	test	ebx, 0x40
	inc	r9
	dec	cl
	neg	r12d
	not	r13
	shl	rax, 3
	shr	ebx, cl
	sar	dx, 1
	rol	r8b, 2
	ror	rdi, 60
	rcl	eax, 5
	rcr	rbx, 1
	shld	rax, rcx, 4
	shrd	ebx, edx, cl
	imul	rcx
	imul	eax, edx, 77
	imul	rdi, rax
	mul	r9d
	bt	eax, 3
	btr	rbx, 60
	bts	ecx, edx
	btc	rdi, rax
	bsf	eax, ebx
	bsr	rcx, rdx
	lzcnt	eax, edx
	tzcnt	r8, r9
	cmovz	rax, rcx
	cmovnle	ebx, edx
	setb	al
	seto	r9b
	xchg	rbx, rdx
	xchg	eax, ecx
	xadd	rdi, r8
	cmpxchg	ecx, edx
	bswap	rbp
	bswap	r12d
	cbw
	cwde
	cdqe
	cwd
	cdq
	cqo
	lahf
	seto	al
	sahf
	clc
	stc
	cmc
	nop
	xchg	ax, ax
	nop	dword ptr [rax + rax]
	pause
	mfence
	lfence
	sfence
	.if	BRANCHES != TRACKED
	endbr64
	.endif
	exit	IO
	end	integer_registers, OK

	program	context_slots
	mov	rax, [r15 + NX_CTX_RFLAGS]
	mov	ecx, [r15 + NX_CTX_SEG]
	mov	rdx, [r15 + NX_CTX_TLB - 8]
	mov	r14, [r15 + NX_CTX_GPR + 8 * NX_RSP]
	lea	r14, [r14 + rcx - 8]
	cmp	r14, [r15 + NX_CTX_SEG + NX_SEG_SIZE * 3 + NX_SEG_READ_END]
	mov	[r15 + NX_CTX_GPR + 8 * NX_RSP], r14
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	r10d, [r15 + NX_CTX_GPR + 8 * NX_R10]
	add	r10w, ax
	mov	[r15 + NX_CTX_GPR + 8 * NX_R10], r10
	mov	[r15 + NX_CTX_FLAGS], ax
	movzx	eax, word ptr [r15 + NX_CTX_FLAGS]
	add	qword ptr [r15 + NX_CTX_GPR + 8 * NX_R15], 4
	inc	byte ptr [r15 + NX_CTX_GPR + 8 * NX_R11]
	xchg	rbx, [r15 + NX_CTX_TEMP]
	xadd	[r15 + NX_CTX_WRITABLE - 8], rbx
	bts	dword ptr [r15 + NX_CTX_TEMP + 4], 3
	setz	byte ptr [r15 + NX_CTX_WRITABLE - 1]
	cmovz	rax, [r15 + NX_CTX_TEMP + 8]
	exit	LEAVE
	end	context_slots, OK

	program	loads
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	add	ecx, [r14]
	movzx	ebx, byte ptr [r14]
	cmp	[r14], dx
	mov	r14d, [r14]
	mov	[r15 + NX_CTX_GPR + 8 * NX_R14], r14
	lea	r14, [rsi + 64]
	check	1, NX_TLB_READ, 4f
3:	test	byte ptr [r14], 3
	bt	dword ptr [r15 + NX_CTX_GPR], 4
	prefetcht0 [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	int3
	int3
4:	stub	READ2, 3b
	end	loads, OK

	program	stores
	lea	r14, [rsi + 16]
	check	16, NX_TLB_WRITE, 2f
1:	mov	[r14], rax
	mov	byte ptr [r14], 5
	add	[r14], ecx
	lock add dword ptr [r14], 3
	xchg	[r14], rbx
	lock xadd [r14], edx
	lock cmpxchg [r14], rcx
	lock cmpxchg8b [r14]
	bts	dword ptr [r14], 31
	setz	byte ptr [r14]
	not	qword ptr [r14]
	mov	rax, [r14]
	prefetchw [r14]
	mov	r14, rdi
	exit	LEAVE
2:	stub	WRITE16, 1b
	end	stores, OK

	/* One check for many, and what is done instead: a check each, in places. */
	program	group
	lea	r14, [rsi - 8]
	check	NX_CHECK_BYTES, NX_TLB_WRITE, 4f
	mov	rax, [r14]
	add	[r14 + 8], eax
	mov	byte ptr [r14 + NX_CHECK_BYTES - 1], 5
	inc	rbx
	lock xadd [r14 + 24], rbx
	mov	[r14 + NX_CHECK_BYTES - 8], rax
	cmp	rax, [r14 + 100]
1:	exit	IO
4:	lea	r14, [rsi - 8]
	check	8, NX_TLB_READ, 5f
2:	mov	rax, [r14]
	mov	r14, rsi
	check	4, NX_TLB_WRITE, 6f
3:	add	[r14], eax
	jump	1b
5:	stub	READ8, 2b
6:	stub	WRITE4, 3b
	end	group, OK

	/* Or nothing at all. */
	program	group_or_leave
	mov	r14, rsi
	check	9, NX_TLB_READ, 2f
	mov	r14, [r14 + 1]
	check	8, NX_TLB_READ, 2f
	mov	eax, [r14 + 4]
2:	exit	LEAVE
	end	group_or_leave, OK

	program	branches
	mov	ecx, 3
	cmp	eax, ebx
	jl	1f
	inc	rax
	jump	2f
1:	dec	rax
2:	loop	4f
	jrcxz	3f
	exit	LEAVE
	int3
3:	landing
	js	4f
	xor	edx, edx
4:	lea	r14, [rsi + 8]
	check	4, NX_TLB_READ, 6f
5:	mov	edx, [r14]
	test	edx, edx
	jz	7f
	exit	IO
6:	stub	READ4, 5b
7:	exit	LEAVE
	end	branches, OK, , 3b

	/* Backward, and no cycle: all go on to an exit. */
	program	backward
	mov	rbx, [r15 + NX_CTX_TURNS]
	jump	2f
1:	exit	LEAVE
3:	test	al, 2
	jz	1b
	inc	edx
	jump	1b
2:	test	al, 1
	jz	3b
	jump	3b
	end	backward, OK

	program	counted
	mov	ecx, 3
	mov	r14, rsi
1:	count	NX_CTX_TURNS, 8f
	lea	r14, [rsi + rcx]
	check	2, NX_TLB_READ, 6f
2:	mov	dx, [r14]
	dec	ecx
	jnz	1b
3:	landing
	test	dl, 1
	jz	4f
	count	NX_CTX_IDLE_TURNS, 8f
	helper	HELPER
	jump	3b
4:	test	al, 4
	jz	5f
	inc	rax
	count	NX_CTX_IDLE_TURNS, 7f
	jump	1b
5:	exit	IO
6:	stub	READ8, 2b
7:	exit	LEAVE
8:	exit	LEAVE
	end	counted, OK, , 3b

	program	helpers
	lea	r14, [rsi + 8]
	mov	[r15 + NX_CTX_LINEAR], r14
	helper	HELPER
	mov	r14, rsi
	check	2, NX_TLB_WRITE, 2f
1:	mov	[r14], ax
	helper	HELPER
3:	landing
	exit	IO
2:	stub	WRITE8, 1b
	end	helpers, OK, , 3b

	program	second_entry
	mov	r14, [r15 + NX_CTX_GPR + 8 * NX_RSI]
	check	4, NX_TLB_READ, 2f
1:	mov	eax, [r14]
	exit	IO
3:	landing
	lea	r14, [rsi + rax]
	check	4, NX_TLB_READ, 5f
4:	mov	edx, [r14]
	exit	IO
2:	stub	READ4, 1b
5:	stub	READ4, 4b
	end	second_entry, OK, , 3b

	.section .note.GNU-stack, "", @progbits
