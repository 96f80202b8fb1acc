/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Each of fillers.inc, a hundred times, as a function (rdi, rsi: memory), and as a guest's loop around
 * an OUT: a resume checks the cluster's whole code, which is not to be measured here.
 */
	.intel_syntax noprefix
	.include "fillers.inc"

.macro keep_registers
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
.endm

.macro drop_registers
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
.endm

.macro turns fillers:vararg
	mov dword ptr [rdi + 0x80], 100
1:
	\fillers
	dec dword ptr [rdi + 0x80]
	jnz 1b
.endm

/* Guest code around an exit, for ever. */
.macro code name, body:vararg
	.section .rodata
	.globl bench_code_\name, bench_code_\name\()_end
bench_code_\name:
	out dx, al
	\body
	jmp bench_code_\name
bench_code_\name\()_end:
.endm

.macro measured name, fillers:vararg
	.text
	.globl bench_native_\name
	.type bench_native_\name, @function
bench_native_\name:
	keep_registers
	turns \fillers
	drop_registers
	ret
	code \name, turns \fillers
.endm

	measured registers, registers_only
	measured homed, homed_registers
	measured mixed, mixed
	measured loads, loads
	measured chase, chase
	measured stores, stores

/* Ten gap fillers from an exit to the next one, one of them a load. */
.macro ten_fillers
	mov rbx, [rsi]
	add ebx, 5
	and ebx, 0xff
	mov ecx, ebx
	shl ecx, 2
	xor r8d, ecx
	lea r9, [r8 + rcx]
	cmp r9, r8
	setb al
.endm

	code nothing
	code chain, ten_fillers

/* 16 instructions as a driver has them between two exits, the last one the exit. */
	.globl bench_code_sixteen, bench_code_sixteen_end
bench_code_sixteen:
	movzx eax, al
	test al, 0x20
	jz 1f
	mov rbx, [rsi]
	lea rcx, [rbx + 8]
	add ecx, 3
	and ecx, 0xff
	mov [rdi], ecx
	inc r9
1:	shr eax, 2
	xor r8d, r8d
	cmp eax, 7
	cmovb r8, rax
	or r8d, 1
	mov eax, r8d
	out dx, al
	hlt
bench_code_sixteen_end:

/* What the hardware's exit is followed by at once. */
	.globl bench_code_takeover, bench_code_takeover_end
bench_code_takeover:
	in al, dx
	out dx, al
	hlt
bench_code_takeover_end:
	.section .note.GNU-stack, "", @progbits
