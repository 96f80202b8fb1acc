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

.macro measured name, fillers:vararg
	.text
	.globl bench_native_\name
	.type bench_native_\name, @function
bench_native_\name:
	keep_registers
	turns \fillers
	drop_registers
	ret
	.section .rodata
	.globl bench_\name, bench_\name\()_resume, bench_\name\()_stop, bench_\name\()_end
bench_\name:
	out dx, al
bench_\name\()_resume:
	turns \fillers
	jmp bench_\name
bench_\name\()_stop:
	hlt
bench_\name\()_end:
.endm

	measured registers, registers_only
	measured homed, homed_registers
	measured mixed, mixed
	measured loads, loads
	measured chase, chase
	measured stores, stores
	.section .note.GNU-stack, "", @progbits
