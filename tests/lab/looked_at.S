/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * looked_at.S - a boot sector at whose exits QEMU looks at registers, or changes them: kvmvapic overwrites the
 * two bytes before rip at an OUT of a byte to port 0x7e (66 90, behind which the guest sees what is left of
 * its code), and vmport answers in registers beside EAX. Both in loops that become hot. What
 * came of it goes to the first serial port, then power off.
 */
#include "power_off.inc"

#define TURNS 64
#define ONCE 20

	.code16
	.intel_syntax noprefix
	.globl _start

	/* The OUT comes up once, when the code around it has long been hot. */
	.macro patched name, instruction
	mov cx, TURNS
1:	out 0x80, al
	nop
	nop
	cmp cx, ONCE
	jne 2f
	mov bl, bl
at_\name:
	\instruction
	nop
	nop
2:	out 0x80, al
	loop 1b
	mov eax, [at_\name - 2]
	call hex
	mov eax, [at_\name + 2]
	call hex
	.endm

_start:
	xor ax, ax
	mov ds, ax
	mov ss, ax
	mov sp, 0x7c00
	cld
	mov si, offset bytes
	call say
	mov dx, 0x7e
	patched immediate, "out 0x7e, al"
	mov dx, 0x7e
	patched register, "out dx, al"
	mov dx, 0x7e
	patched wide, "out 0x7e, eax"

	mov si, offset version
	call say
	mov cx, TURNS
3:	out 0x80, al
	push cx
	mov eax, 0x564d5868
	xor ebx, ebx
	mov ecx, 10
	mov dx, 0x5658
	in eax, dx
	pop cx
	out 0x80, al
	in al, 0x80
	add [sum], ebx
	loop 3b
	mov eax, [sum]
	call hex
	mov eax, 0x564d5868
	mov ecx, 10
	mov dx, 0x5658
	in eax, dx
	call hex
	mov si, offset ended
	call say
	power_off

/* eax, and a blank; cx stays. */
hex:
	push cx
	mov cx, 8
0:	rol eax, 4
	push eax
	and al, 15
	add al, '0'
	cmp al, '9'
	jbe 1f
	add al, 'a' - '9' - 1
1:	call put
	pop eax
	loop 0b
	pop cx
	mov al, ' '
put:
	push dx
	mov ah, al
	mov dx, 0x3fd
0:	in al, dx
	test al, 0x20
	jz 0b
	mov al, ah
	mov dx, 0x3f8
	out dx, al
	pop dx
	ret
say:
	lodsb
	test al, al
	jz 0f
	call put
	jmp say
0:	ret

bytes:	.asciz "guest: bytes "
version:
	.asciz "\nguest: version "
ended:	.asciz "\nguest: end\n"
	.balign 4
sum:	.long 0
	.org 510
	.word 0xaa55
