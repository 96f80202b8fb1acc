/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * screens.S - a boot sector that draws in the graphics modes of a VGA card.
 *
 * In each mode it says so on the first serial port when the picture is complete, and goes on when a key
 * is pressed. Then it switches the machine off. Modes: 16 colours in planes, where every access to
 * the screen is the device's and each pixel has one of a register before it; 256 colours at one
 * address each, where the screen is memory; and 800x600 of the VESA BIOS, in windows of 64 KiB.
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
	sti
	cld
	push 0xa000
	pop es
	mov si, offset modes
next:
	lodsw
	test ax, ax
	jz over
	cmp ah, 1
	jb plain
	xchg bx, ax
	mov ax, 0x4f02
	jmp set
plain:
	xor ah, ah
set:
	push si
	int 0x10
	pop si
	lodsw
	push si
	call ax
	mov si, offset drawn
	call say
	xor ah, ah
	int 0x16
	pop si
	jmp next
over:
	mov si, offset ended
	call say
	power_off

/* Four lines of other slopes in each colour: bit mask, latches by a read, and a write for each pixel. */
planes:
	mov dx, 0x3ce
	mov ax, 0x0f01
	out dx, ax
	mov bp, 15
0:	mov ax, bp
	xchg ah, al
	out dx, ax
	mov cx, 400
1:	mov ax, 80
	mul cx
	mov di, ax
	mov ax, bp
	shl ax, 4
	add ax, cx
	mov bx, ax
	shr ax, 3
	add di, ax
	mov dx, 0x3ce
	mov ax, 0x8008
	xchg cx, bx
	and cl, 7
	shr ah, cl
	xchg cx, bx
	out dx, ax
	mov al, es:[di]
	stosb
	dec cx
	jnz 1b
	dec bp
	jnz 0b
	ret

/* A palette of our own, and each line another piece of it. */
bytes:
	call palette
	xor di, di
	mov cx, 64000
0:	mov ax, di
	shr ax, 4
	add ax, cx
	stosb
	dec cx
	jnz 0b
	ret

/* Eight windows. */
windows:
	call palette
	xor dx, dx
0:	push dx
	xor bx, bx
	mov ax, 0x4f05
	int 0x10
	pop dx
	xor di, di
1:	mov ax, di
	xor al, ah
	add al, dl
	stosb
	test di, di
	jnz 1b
	inc dx
	cmp dx, 8
	jb 0b
	ret

palette:
	mov dx, 0x3c8
	xor ax, ax
	out dx, al
	inc dx
	mov cx, 256
0:	mov al, cl
	shr al, 2
	out dx, al
	not al
	and al, 0x3f
	out dx, al
	add al, cl
	and al, 0x3f
	out dx, al
	dec cx
	jnz 0b
	ret

/* si: a string that ends with a zero, to the serial port. */
say:
	mov dx, 0x3fd
0:	in al, dx
	test al, 0x20
	jz 0b
	lodsb
	test al, al
	jz 1f
	mov dx, 0x3f8
	out dx, al
	jmp say
1:	ret

modes:
	.word 0x12, planes, 0x13, bytes, 0x103, windows, 0
drawn:
	.asciz "guest: drawn\n"
ended:
	.asciz "guest: end\n"

	.org 510
	.word 0xaa55
