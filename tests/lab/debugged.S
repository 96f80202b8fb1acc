/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * debugged.S - a boot sector for a debugger (gdb_client.c): lines on the first serial port, a key waited
 * for, more lines, off. The first byte of a line is printed from gate, each byte is sent at sent; both
 * addresses are fixed, for the scenario "gdb".
 */
#include "power_off.inc"

	.code16
	.intel_syntax noprefix
	.globl _start
_start:
	xor ax, ax
	mov ds, ax
	mov ss, ax
	mov sp, 0x7c00
	cld
	mov bp, 200
	call lines
	mov si, offset waiting
	call say
	xor ah, ah
	int 0x16
	mov bp, 30
	call lines
	mov si, offset ended
	call say
	power_off

/* bp of them, with a letter each. */
lines:
	jmp gate
	.org 0x40
gate:
	mov si, offset text
	call say
	mov ax, bp
	and al, 15
	add al, 'a'
	call put
	mov al, '\n'
	call put
	dec bp
	jnz gate
	ret

/* si: a string that ends with a zero. */
say:
	lodsb
	test al, al
	jz 0f
	call put
	jmp say
0:	ret

	.org 0x80
/* al: a character. */
put:
	mov ah, al
	mov dx, 0x3fd
0:	in al, dx
	test al, 0x20
	jz 0b
	mov al, ah
	mov dx, 0x3f8
	jmp sent
	.org 0xa0
sent:
	out dx, al
	ret

text:
	.asciz "guest: sphinx of black quartz, judge my vow "
waiting:
	.asciz "guest: waiting\n"
ended:
	.asciz "guest: end\n"

	.org 510
	.word 0xaa55
