/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * planes.S - a boot sector that works on a VGA card's memory the way that old programs do.
 *
 * AND, OR and XCHG on planes; a font's worth of bytes by REP MOVSB, which go into a coalesced range;
 * and a text screen moved up by REP MOVSW, from the card to the card. Its subroutines' stack is on the
 * page of its code. What the card's memory holds then is summed up and printed on the first serial port.
 */
#include "power_off.inc"

	.code16
	.intel_syntax noprefix
	.globl _start
_start:
	cli
	xor ax, ax
	mov ds, ax
	mov ss, ax
	mov sp, 0x7c00
	cld
	mov ax, 0x12
	int 0x10
	push 0xa000
	pop es
	call operators
	call font
	call sum
	mov ax, 3
	int 0x10
	push 0xb800
	pop es
	call scroll
	call sum
	mov si, offset ended
	call say
	power_off

/* A bit mask before each access, as for a pixel. */
operators:
	mov cx, 400
0:	mov ax, 0x8008
	rol ah, cl
	mov dx, 0x3ce
	out dx, ax
	mov di, cx
	imul di, di, 37
	and byte ptr es:[di], 0xf0
	or es:[di + 1], cl
	xchg es:[di + 2], al
	dec cx
	jnz 0b
	mov ax, 0xff08
	out dx, ax
	ret

/* 64 times 32 bytes of this code, plane by plane. */
font:
	mov bx, 64
	xor di, di
0:	mov dx, 0x3c4
	mov ax, 0x0102
	mov cl, bl
	and cl, 3
	shl ah, cl
	out dx, ax
	mov si, 0x7c00
	mov cx, 32
	rep movsb
	dec bx
	jnz 0b
	mov ax, 0x0f02
	out dx, ax
	ret

/* A line up, three times, from the card to itself. */
scroll:
	xor di, di
	mov cx, 400
0:	mov ax, cx
	mov ah, 7
	stosw
	dec cx
	jnz 0b
	push ds
	push es
	pop ds
	mov bx, 3
1:	mov si, 160
	xor di, di
	mov cx, 320
	rep movsw
	dec bx
	jnz 1b
	pop ds
	ret

/* Of the first 4 KiB: in ebx, printed in hexadecimal. */
sum:
	xor si, si
	xor ebx, ebx
	mov cx, 2048
0:	rol ebx, 5
	add bx, es:[si]
	inc si
	inc si
	dec cx
	jnz 0b
	mov si, offset summed
	call say
	mov cx, 8
1:	rol ebx, 4
	mov al, bl
	and al, 15
	cmp al, 10
	sbb al, 0x69
	das
	call put
	dec cx
	jnz 1b
	mov si, offset line
say:
	lodsb
	test al, al
	jz over
	call put
	jmp say

/* al to the serial port, when it takes it. */
put:
	mov ah, al
	mov dx, 0x3fd
0:	in al, dx
	test al, 0x20
	jz 0b
	mov al, ah
	mov dx, 0x3f8
	out dx, al
over:
	ret

summed:	.asciz "guest: sum "
ended:	.ascii "guest: end"
line:	.asciz "\r\n"
	.org 510
	.byte 0x55, 0xaa
