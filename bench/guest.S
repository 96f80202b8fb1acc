/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * guest.S - the guests of workload.h, position-independent 64-bit code.
 *
 * On entry: rcx turns, rsi memory of its own, rdi device memory, rsp a stack, dx a port. Each ends
 * with an OUT to TINYVM_END.
 */
	.intel_syntax noprefix
	.section .rodata

/* Nothing that noexit runs: the next exit comes from the hardware again. */
.macro barrier
	fnstcw [rsi + 0xff0]
.endm

.macro guest name, body:vararg
	.globl bench_guest_\name, bench_guest_\name\()_end
bench_guest_\name:
0:
	\body
	barrier
	dec ecx
	jnz 0b
	out 0xf4, al
	hlt
bench_guest_\name\()_end:
.endm

.macro pair
	in al, dx
	out 0x80, al
.endm

.macro straight
	in al, dx
	mov ah, al
	and ah, 0x60
	mov [rsi], ah
	out 0x80, al
	movzx eax, al
	lea rbx, [rax + rax * 2]
	xor ebx, 0x55
	mov eax, ebx
	out dx, al
.endm

.macro cluster
.rept 8
	in al, dx
	movzx ebx, al
	add r8d, ebx
	mov eax, r8d
	out 0x80, al
	inc r9d
	xor r9d, r8d
	mov [rsi + 8], r9d
.endr
.endm

.macro polling
1:	in al, dx
	test al, 8
	jz 1b
.endm

.macro nested
1:	in al, dx
	test al, 8
	jnz 1b
2:	in al, dx
	test al, 8
	jz 2b
	mov bx, dx
	mov [rsi], al
	out dx, al
	inc dx
	mov [rsi + 4], al
	out dx, al
	mov [rsi + 8], al
	out dx, al
	dec dx
.endm

.macro timeout
	mov ebx, 0x40
1:	mov r8d, 0x100
2:	in al, dx
	test al, 8
	jnz 3f
	dec r8d
	jnz 2b
	dec ebx
	jnz 1b
3:
.endm

.macro string
	mov ebx, 64
	mov r8, rsi
1:	mov al, [r8]
	out dx, al
	inc r8
	dec ebx
	jnz 1b
.endm

/* As an operating system's driver has it: every access by a function behind a pointer. */
.macro console
	lea r12, [rip + 4f]
	lea r13, [rip + 5f]
	mov ebx, 64
	mov r8, rsi
	jmp 1f
4:	mov edx, edi		/* the reader */
	in al, dx
	movzx eax, al
	ret
5:	mov edx, edi		/* the writer */
	mov eax, r9d
	out dx, al
	ret
1:	mov edi, 0x3fd
	call r12
	test al, 0x20
	jz 1b
	mov edi, 0x3f8
	movzx r9d, byte ptr [r8]
	call r13
	inc r8
	dec ebx
	jnz 1b
.endm

.macro registers
	mov edx, [rdi + 0x10]
	mov eax, [rsi + 0x40]
	and eax, 0xfff
	sub r8, rax
	mov r9d, [rdi + 0x20]
	mov eax, [rsi + 0x48]
	mov [rsp - 0x60], edx
	and eax, 0xfff
	sub r8, rax
	mov ebx, [rdi + 0x30]
.endm

.macro copy
	mov r8, rdi
	mov ebx, 64
1:	mov edx, [r8]
	add r8, 4
	add r9d, edx
	dec ebx
	jnz 1b
.endm

.macro delay
	mov ebx, 16
1:	in al, dx
	mov r8d, 1000
2:	dec r8d
	jnz 2b
	dec ebx
	jnz 1b
.endm

.macro sparse
	in al, dx
	mov r8d, 100000
1:	dec r8d
	jnz 1b
.endm

.macro compute
	mov r8d, 100000
1:	add r9, r8
	xor r9, [rsi]
	mov [rsi + 8], r9
	dec r8d
	jnz 1b
.endm

/* As Linux reads the date (mc146818-lib.c): accessors, and the update flag first. */
.macro timer_rtc
	lea r12, [rip + 4f]
	jmp 1f
4:	mov eax, edi		/* the accessor */
	out 0x70, al
	in al, 0x71
	movzx eax, al
	ret
1:	mov edi, 0x0a
	call r12
	test al, 0x80
	jnz 1b
	xor ebx, ebx
	lea rbp, [rip + 5f]
	lea r8, [rsi + 0x100]
2:	movzx edi, byte ptr [rbp + rbx]
	call r12
	mov [r8 + rbx * 4], eax
	inc ebx
	cmp ebx, 6
	jb 2b
	jmp 6f
5:	.byte 0, 2, 4, 7, 8, 9
6:
.endm

/* As Linux reads it where the chip may err (acpi_pm.c): three times, until they are in order. */
.macro timer_acpi
	mov r9d, 16
1:	mov edx, 0x608
	in eax, dx
	mov r8d, eax
	and r8d, 0xffffff
	in eax, dx
	mov ebx, eax
	and ebx, 0xffffff
	in eax, dx
	and eax, 0xffffff
	cmp r8d, ebx
	ja 1b
	cmp ebx, eax
	ja 1b
	mov [rsi + 0x80], ebx
	dec r9d
	jnz 1b
	mov edx, 0x3fd
.endm

/* As Linux reads it (hpet.c): a lock, the counter, and who else waits. rdi: its registers. */
.macro timer_hpet
	mov r9d, 16
1:	mov eax, 1
	xor r8d, r8d
	lock cmpxchg [rsi + 0x80], r8d
	mov eax, [rdi + 0xf0]
	mov [rsi + 0x88], eax
	mov dword ptr [rsi + 0x80], 0
	dec r9d
	jnz 1b
.endm

	guest pair, pair
	guest straight, straight
	guest cluster, cluster
	guest polling, polling
	guest nested, nested
	guest timeout, timeout
	guest string, string
	guest console, console
	guest registers, registers
	guest copy, copy
	guest delay, delay
	guest sparse, sparse
	guest compute, compute
	guest timer_rtc, timer_rtc
	guest timer_acpi, timer_acpi
	guest timer_hpet, timer_hpet

/* The same for uncached.c: around an exit, for ever, and without the barrier. */
.macro endless name, body:vararg
	.globl bench_endless_\name, bench_endless_\name\()_end
bench_endless_\name:
	out dx, al
	\body
	jmp bench_endless_\name
bench_endless_\name\()_end:
.endm

	endless pair, pair
	endless straight, straight
	endless cluster, cluster
	endless polling, polling
	endless nested, nested
	endless string, string
	endless console, console
	endless registers, registers
	endless copy, copy
/* Each HLT is a turn; who runs it counts them. */
	.globl bench_guest_halt, bench_guest_halt_end
bench_guest_halt:
	hlt
	jmp bench_guest_halt
bench_guest_halt_end:
	.section .note.GNU-stack, "", @progbits
