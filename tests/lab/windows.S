/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * windows.S - a guest that lets interrupts in for a moment in each turn of a loop, in several ways, and
 * looks in each turn whether one has been waiting: in the 8259's or the local APIC's request register.
 *
 * Sources: the 8254 through the 8259, the local APIC's timer, and a second processor that sends
 * an interrupt as soon as the last one has been taken. An interrupt that is found waiting after more
 * than two turns is late: each turn lets interrupts in. One line for each way and source, on the
 * first serial port, then power off. Two processors; exiting instructions are port 0x80 and the HPET.
 */
#include "load.inc"
#include "power_off.inc"

#define SECTORS 15
#define COUNT 30
#define TURNS 20000
#define LATE 3
#define APIC 0xfee00000
#define HPET_COUNTER 0xfed000f0
#define TIMER_VECTOR 0x30
#define IPI_VECTOR 0x31
#define FLAG 0x200
#define IDT 0xa000

	.code16
	.intel_syntax noprefix
	.globl _start
_start:
	load_sectors 1f
	call protect
	.code32
	jmp main
	.code16
1:	hlt
	jmp 1b
	sectors_to_load SECTORS

/* To flat 32-bit code; returns there, with ds to ss set. */
protect:
	pop bx
	movzx ebx, bx
	lgdt [gdt_register]
	mov eax, cr0
	or al, 1
	mov cr0, eax
	ljmp 8, offset 0f
	.code32
0:	mov eax, 0x10
	mov ds, eax
	mov es, eax
	mov ss, eax
	jmp ebx

	.balign 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_register:
	.word . - gdt - 1
	.long gdt
idt_register:
	.word 0x7ff
	.long IDT

	.org 510
	.word 0xaa55

	/* The other processor begins at a page's first byte. */
	.org 0x400
	.code16
other:
	cli
	ljmp 0, offset 0f
0:	xor ax, ax
	mov ds, ax
	mov ss, ax
	mov sp, 0x7800
	call protect
	.code32
	mov dword ptr [APIC + 0xf0], 0x1ff
0:	pause
	mov eax, [wanted]
	cmp eax, [sent]
	je 0b
	mov ecx, 300
1:	pause
	loop 1b
	mov [sent], eax
	mov dword ptr [APIC + 0x310], 0
	mov dword ptr [APIC + 0x300], 0x4000 + IPI_VECTOR
	jmp 0b

	/* Vector \vector leads to \handler. */
	.macro gate vector, handler
	mov eax, offset \handler
	mov [IDT + 8 * \vector], ax
	mov word ptr [IDT + 8 * \vector + 2], 8
	mov word ptr [IDT + 8 * \vector + 4], 0x8e00
	shr eax, 16
	mov [IDT + 8 * \vector + 6], ax
	.endm
	.macro wait_here count
	mov ecx, \count
0:	in al, 0x80
	loop 0b
	.endm

main:
	mov esp, 0x7c00
	lidt [idt_register]
	gate 0x20, pit_handler
	gate TIMER_VECTOR, apic_handler
	gate IPI_VECTOR, ipi_handler
	gate 0xff, spurious
	/* 8259s: vectors 0x20 and 0x28, all masked; reads give the request register. */
	.irp write, 0x1120, 0x11a0, 0x2021, 0x28a1, 0x0421, 0x02a1, 0x0121, 0x01a1, 0xff21, 0xffa1, 0x0a20
	mov al, \write >> 8
	out \write & 0xff, al
	.endr
	mov dword ptr [APIC + 0xf0], 0x1ff
	mov dword ptr [APIC + 0x3e0], 0xb
	/* HPET: the counter runs. */
	mov eax, [0xfed00010]
	or al, 1
	mov [0xfed00010], eax
	/* INIT, SIPI to all but this one. */
	mov dword ptr [APIC + 0x300], 0xc4500
	wait_here 100
	mov dword ptr [APIC + 0x300], 0xc4600 + 8
	wait_here 100

	mov al, 0x34
	out 0x43, al
	mov al, 0xa9
	out 0x40, al
	mov al, 4
	out 0x40, al
	mov al, 0xfe
	out 0x21, al
	mov dword ptr [source], offset pit_name
	mov edi, offset pit_waits
	call all_ways
	mov al, 0xff
	out 0x21, al

	mov dword ptr [APIC + 0x320], 0x20000 + TIMER_VECTOR
	mov dword ptr [APIC + 0x380], 1000000
	mov dword ptr [source], offset timer_name
	mov edi, offset timer_waits
	call all_ways
	mov dword ptr [APIC + 0x320], 0x10000

	inc dword ptr [wanted]
	mov dword ptr [source], offset ipi_name
	mov edi, offset ipi_waits
	call all_ways
	power_off

all_ways:
	mov ebp, offset ways
0:	mov ebx, [ebp]
	test ebx, ebx
	jz 1f
	call measure
	add ebp, 8
	jmp 0b
1:	ret

/* ebx: what lets interrupts in; edi: whether one waits; ebp: its row. */
measure:
	xor eax, eax
	mov [got], eax
	mov [waited], eax
	mov [worst], eax
	mov ecx, TURNS
0:	call ebx
	call edi
	jz 1f
	inc dword ptr [waited]
	mov eax, [waited]
	cmp eax, [worst]
	jbe 1f
	mov [worst], eax
1:	cmp dword ptr [got], COUNT
	jae 2f
	dec ecx
	jnz 0b
2:	mov esi, offset prefix
	call say
	mov esi, [source]
	call say
	mov esi, [ebp + 4]
	call say
	mov esi, offset none
	cmp dword ptr [got], COUNT
	jb 3f
	mov esi, offset late
	cmp dword ptr [worst], LATE
	jae 3f
	mov esi, offset in_time
3:	jmp say

/* Whether an interrupt waits: not zero. */
pit_waits:
	in al, 0x20
	test al, 1
	ret
timer_waits:
	mov eax, [APIC + 0x210]
	test eax, 1 << (TIMER_VECTOR & 31)
	ret
ipi_waits:
	mov eax, [APIC + 0x210]
	test eax, 1 << (IPI_VECTOR & 31)
	ret

	.macro behind
	in al, 0x80
	in al, 0x80
	in al, 0x80
	ret
	.endm
sti_in:
	sti
	in al, 0x80
	cli
	behind
sti_out:
	sti
	out 0x80, al
	cli
	behind
sti_later:
	sti
	nop
	in al, 0x80
	in al, 0x80
	cli
	behind
sti_read:
	sti
	mov eax, [HPET_COUNTER]
	cli
	behind
sti_ss:
	mov edx, ss
	sti
	mov ss, edx
	in al, 0x80
	cli
	behind
popf_in:
	pushfd
	or dword ptr [esp], FLAG
	popfd
	in al, 0x80
	in al, 0x80
	pushfd
	and dword ptr [esp], ~FLAG
	popfd
	behind
iret_in:
	pushfd
	or dword ptr [esp], FLAG
	push 8
	push offset 0f
	iretd
0:	in al, 0x80
	in al, 0x80
	cli
	behind
/* The flag is set, and the task priority lets them in. */
priority:
	mov dword ptr [APIC + 0x80], 0xf0
	sti
	nop
	mov dword ptr [APIC + 0x80], 0
	in al, 0x80
	in al, 0x80
	mov dword ptr [APIC + 0x80], 0xf0
	in al, 0x80
	cli
	mov dword ptr [APIC + 0x80], 0
	behind

pit_handler:
	push eax
	mov al, 0x20
	out 0x20, al
	jmp 0f
ipi_handler:
	inc dword ptr [wanted]
apic_handler:
	push eax
	mov dword ptr [APIC + 0xb0], 0
0:	inc dword ptr [got]
	mov dword ptr [waited], 0
	pop eax
spurious:
	iretd

/* esi: a string that ends with a zero. */
say:
	push ecx
0:	lodsb
	test al, al
	jz 2f
	mov ah, al
	mov dx, 0x3fd
1:	in al, dx
	test al, 0x20
	jz 1b
	mov al, ah
	mov dx, 0x3f8
	out dx, al
	jmp 0b
2:	pop ecx
	ret

	.balign 4
source:	.long 0
got:	.long 0
waited:	.long 0
worst:	.long 0
wanted:	.long 0
sent:	.long 0
ways:	.long sti_in, sti_in_name, sti_out, sti_out_name, sti_later, sti_later_name
	.long sti_read, sti_read_name, sti_ss, sti_ss_name, popf_in, popf_in_name
	.long iret_in, iret_in_name, priority, priority_name, 0
prefix:	.asciz "guest: "
pit_name: .asciz "pit, "
timer_name: .asciz "timer, "
ipi_name: .asciz "ipi, "
sti_in_name: .asciz "sti and in: "
sti_out_name: .asciz "sti and out: "
sti_later_name: .asciz "sti, then in: "
sti_read_name: .asciz "sti and a device's memory: "
sti_ss_name: .asciz "sti, a load of ss, in: "
popf_in_name: .asciz "popf: "
iret_in_name: .asciz "iret: "
priority_name: .asciz "task priority: "
none:	.asciz "interrupts are missing\n"
late:	.asciz "late\n"
in_time: .asciz "in time\n"
	.org 512 * (SECTORS + 1)
