/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * enlightened.S - a 64-bit guest that does what Windows does at boot under Hyper-V enlightenments.
 *
 * It sets the hypercall page up and calls through it, reads the clock by the reference TSC page and by
 * its MSR, takes SynIC timer messages and ends their interrupts by the assist page, changes a
 * mapping and flushes it by a hypercall that it was not told of, draws on a planar VGA screen, and polls CMOS,
 * PM timer and an IDE disk. Of each it says on the first serial port what has come out.
 */
#include "power_off.inc"

#define SECTORS 15
#define TABLES 0x10000
#define TABLES_SIZE 0x20000
#define IDT 0x18000
#define APIC 0xfee00000
#define VECTOR 0x40
#define MESSAGES 20

/* Pages that the hypervisor fills, and of the guest's own. */
#define CALL 0x20000
#define CLOCK 0x21000
#define ASSIST 0x22000
#define SIMP 0x23000
#define INPUT 0x25000
#define FIRST 0x26000
#define SECOND 0x27000
#define WINDOW 0x400000
#define BUFFER 0x30000
#define SLOT (SIMP + 2 * 256)

	.code16
	.intel_syntax noprefix
	.globl _start
_start:
	cli
	ljmp 0, offset 0f
0:	xor ax, ax
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov sp, 0x7c00
	cld
	mov si, offset dap
	mov ah, 0x42
	int 0x13
	jc 1f
	mov ax, 0x12
	int 0x10
	cli
	lgdt [gdt_register]
	mov eax, cr0
	or al, 1
	mov cr0, eax
	ljmp 8, offset protected
1:	hlt
	jmp 1b
dap:	.byte 16, 0
	.word SECTORS, 0x7e00, 0
	.quad 1

	.code32
protected:
	mov eax, 0x10
	mov ds, eax
	mov es, eax
	mov ss, eax
	jmp tables

	.balign 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdt_register:
	.word . - gdt - 1
	.long gdt
idt_register:
	.word 0xfff
	.quad IDT

	.org 510
	.word 0xaa55

/* The first GiB and the fourth as they are, by 2 MiB; WINDOW by a table of its own. */
tables:
	mov edi, TABLES
	mov ecx, TABLES_SIZE / 4
	xor eax, eax
	rep stosd
	mov dword ptr [TABLES], TABLES + 0x1003
	mov dword ptr [TABLES + 0x1000], TABLES + 0x2003
	mov dword ptr [TABLES + 0x1018], TABLES + 0x3003
	mov ecx, 512
0:	lea eax, [ecx - 1]
	shl eax, 21
	lea ebx, [eax + 0x83]
	mov [TABLES + 0x2000 - 8 + 8 * ecx], ebx
	lea ebx, [eax + 0xc0000083]
	mov [TABLES + 0x3000 - 8 + 8 * ecx], ebx
	loop 0b
	mov dword ptr [TABLES + 0x2010], TABLES + 0x4003
	mov eax, cr4
	or eax, 1 << 5
	mov cr4, eax
	mov eax, TABLES
	mov cr3, eax
	mov ecx, 0xc0000080
	rdmsr
	or eax, 1 << 8
	wrmsr
	mov eax, cr0
	or eax, 1 << 31
	mov cr0, eax
	ljmp 0x18, offset main

	.code64
	.macro set_msr number, value
	mov ecx, \number
	mov eax, \value
	xor edx, edx
	wrmsr
	.endm

main:
	mov esp, 0x7c00
	lidt [idt_register]
	mov eax, offset handler
	mov [IDT + 16 * VECTOR], ax
	mov word ptr [IDT + 16 * VECTOR + 2], 0x18
	mov word ptr [IDT + 16 * VECTOR + 4], 0x8e00
	mov eax, offset spurious
	mov [IDT + 16 * 0xff], ax
	mov word ptr [IDT + 16 * 0xff + 2], 0x18
	mov word ptr [IDT + 16 * 0xff + 4], 0x8e00
	mov al, 0xff
	out 0x21, al
	out 0xa1, al
	mov edi, APIC
	mov dword ptr [rdi + 0xf0], 0x1ff

	call introduce
	call clock
	call timer
	call flush
	call screen
	call cmos
	call pm_timer
	call disk
	mov esi, offset ended
	call say
	power_off

/* Who the hypervisor is, who the guest is, and the hypercall page. */
introduce:
	mov eax, 0x40000000
	cpuid
	mov [name], ebx
	mov [name + 4], ecx
	mov [name + 8], edx
	mov esi, offset named
	call say
	mov esi, offset name
	call say
	mov eax, 0x40000003
	cpuid
	mov ebx, eax
	mov esi, offset features
	call number
	mov ecx, 0x40000000
	xor eax, eax
	mov edx, 0x00010406
	wrmsr
	set_msr 0x40000001, CALL + 1
	/* A notification of a long wait for a lock, then a call that there is not. */
	mov ecx, 0x10008
	mov edx, 1000
	xor r8d, r8d
	call hypercall
	mov ebx, eax
	mov esi, offset notified
	call number
	mov ecx, 0x7777
	call hypercall
	mov ebx, eax
	mov esi, offset unknown
	jmp number

hypercall:
	mov eax, CALL
	jmp rax

/* The time in rax: by the page while it is valid, else by the MSR. */
page_time:
	mov r8d, [CLOCK]
	test r8d, r8d
	jz msr_time
	rdtsc
	shl rdx, 32
	or rax, rdx
	mul qword ptr [CLOCK + 8]
	add rdx, [CLOCK + 16]
	cmp r8d, [CLOCK]
	jne page_time
	mov rax, rdx
	ret
msr_time:
	mov ecx, 0x40000020
	rdmsr
	shl rdx, 32
	or rax, rdx
	ret

/* Of 200 readings: not between two of the MSR, or before the last one. */
clock:
	set_msr 0x40000021, CLOCK + 1
	xor ebx, ebx
	xor edi, edi
	mov ebp, 200
0:	call msr_time
	mov r9, rax
	in al, 0x80
	in al, 0x80
	call page_time
	mov r10, rax
	in al, 0x80
	call msr_time
	cmp r10, r9
	jb 1f
	cmp r10, rax
	ja 1f
	cmp r10, rdi
	jae 2f
1:	inc ebx
2:	mov rdi, r10
	dec ebp
	jnz 0b
	mov esi, offset clocked
	jmp number

/* Messages of a periodic SynIC timer, while CMOS is polled. */
timer:
	set_msr 0x40000073, ASSIST + 1
	set_msr 0x40000083, SIMP + 1
	set_msr 0x40000080, 1
	set_msr 0x40000092, VECTOR
	set_msr 0x400000b1, 50000
	set_msr 0x400000b0, 0x20003
	mov ebp, 200000
0:	mov al, 0xa
	out 0x70, al
	in al, 0x71
	sti
	nop
	in al, 0x71
	cli
	cmp dword ptr [interrupts], MESSAGES
	jae 1f
	dec ebp
	jnz 0b
1:	set_msr 0x400000b0, 0
	/* One window may let two in, so that there is one more than was waited for. */
	mov ebx, [interrupts]
	mov eax, MESSAGES
	cmp ebx, eax
	cmova ebx, eax
	mov esi, offset interrupted
	call number
	mov ebx, [interrupts]
	sub ebx, [messages]
	mov esi, offset sent
	call number
	mov ebx, [without]
	mov esi, offset saved
	jmp number

handler:
	push rax
	push rcx
	push rdx
	cmp dword ptr [SLOT], 0x80000010
	jne 0f
	inc dword ptr [messages]
	mov dword ptr [SLOT], 0
	mfence
	test byte ptr [SLOT + 5], 1
	jz 0f
	set_msr 0x40000084, 0
0:	inc dword ptr [interrupts]
	lock btr dword ptr [ASSIST], 0
	jnc 1f
	inc dword ptr [without]
	jmp 2f
1:	set_msr 0x40000070, 0
2:	pop rdx
	pop rcx
	pop rax
spurious:
	iretq

/* WINDOW leads to two pages in turn; how often the wrong one was seen. */
flush:
	mov dword ptr [FIRST], FIRST
	mov dword ptr [SECOND], SECOND
	mov qword ptr [INPUT], 0
	mov qword ptr [INPUT + 8], 3
	mov qword ptr [INPUT + 16], 0
	xor edi, edi
	xor r12d, r12d
	mov ebp, 100
	mov r13d, FIRST
0:	lea eax, [r13 + 3]
	mov [TABLES + 0x4000], eax
	mov ecx, 2
	mov edx, INPUT
	xor r8d, r8d
	call hypercall
	or r12d, eax
	in al, 0x80
	in al, 0x80
	mov ebx, [WINDOW]
	in al, 0x80
	cmp ebx, r13d
	je 1f
	inc edi
1:	xor r13d, FIRST ^ SECOND
	dec ebp
	jnz 0b
	mov ebx, r12d
	mov esi, offset flushed
	call number
	mov ebx, edi
	mov esi, offset stale
	jmp number

/* A bar in each colour, as a boot logo: a bit mask before each access, then read back plane by plane. */
screen:
	mov ecx, 1600
0:	mov edx, 0x3c4
	mov al, 2
	mov ah, cl
	and ah, 15
	out dx, ax
	mov edx, 0x3ce
	mov eax, 0x8008
	ror ah, cl
	out dx, ax
	mov edi, ecx
	mov al, [rdi + 0xa0000]
	mov byte ptr [rdi + 0xa0000], 0xff
	dec ecx
	jnz 0b
	mov eax, 0xff08
	out dx, ax
	xor ebx, ebx
	mov ecx, 3
1:	mov eax, 4
	mov ah, cl
	out dx, ax
	mov edi, 1600
2:	rol ebx, 5
	movzx eax, byte ptr [rdi + 0xa0000]
	add ebx, eax
	dec edi
	jnz 2b
	dec ecx
	jns 1b
	mov esi, offset drawn
	jmp number

/* As a HAL reads it: no update going on, then the registers that do not change by themselves. */
cmos:
	xor ebx, ebx
	mov ecx, 0x0d
0:	mov al, 0xa
	out 0x70, al
	in al, 0x71
	test al, 0x80
	jnz 0b
	mov al, cl
	out 0x70, al
	in al, 0x71
	movzx eax, al
	rol ebx, 3
	add ebx, eax
	inc ecx
	cmp ecx, 0x32
	jb 0b
	mov esi, offset remembered
	jmp number

/* How many of 300 readings were before the last one; it has 24 bits. */
pm_timer:
	xor ebx, ebx
	mov ecx, 300
	mov edx, 0x608
	in eax, dx
	mov edi, eax
0:	in eax, dx
	mov ebp, eax
	sub eax, edi
	test eax, 1 << 23
	jz 1f
	inc ebx
1:	mov edi, ebp
	dec ecx
	jnz 0b
	mov esi, offset counted
	jmp number

/* The first 8 sectors by programmed I/O. */
disk:
	mov edx, 0x3f6
	mov al, 2
	out dx, al
	xor ebx, ebx
	xor ebp, ebp
0:	call ready
	.irp port_value, 0x1f600e0, 0x1f20001, 0x1f40000, 0x1f50000
	mov edx, \port_value >> 16
	mov al, \port_value & 0xff
	out dx, al
	.endr
	mov edx, 0x1f3
	mov eax, ebp
	out dx, al
	mov edx, 0x1f7
	mov al, 0x20
	out dx, al
	call ready
	mov edi, BUFFER
	mov ecx, 256
	mov edx, 0x1f0
	rep insw
	mov ecx, 256
1:	rol ebx, 5
	movzx eax, word ptr [BUFFER - 2 + 2 * rcx]
	add ebx, eax
	dec ecx
	jnz 1b
	inc ebp
	cmp ebp, 8
	jb 0b
	mov esi, offset sectors
	jmp number
ready:
	mov edx, 0x1f7
0:	in al, dx
	test al, 0x80
	jnz 0b
	ret

/* esi: a text; ebx: a number, printed in hexadecimal behind it. */
number:
	call say
	mov ecx, 8
0:	rol ebx, 4
	mov eax, ebx
	and eax, 15
	mov al, [digits + eax]
	call put
	dec ecx
	jnz 0b
	mov esi, offset line
say:
	lodsb
	test al, al
	jz over
	call put
	jmp say
put:
	mov ah, al
	mov edx, 0x3fd
0:	in al, dx
	test al, 0x20
	jz 0b
	mov al, ah
	mov edx, 0x3f8
	out dx, al
over:
	ret

	.balign 4
interrupts: .long 0
messages: .long 0
without: .long 0
/* A line ends behind it. */
/* The line ends behind it. */
name:	.long 0, 0, 0
line:	.asciz "\r\n"
digits:	.ascii "0123456789abcdef"
named:	.asciz "guest: hypervisor "
features: .asciz "guest: features "
notified: .asciz "guest: a long wait "
unknown: .asciz "guest: an unknown call "
clocked: .asciz "guest: times out of order "
interrupted: .asciz "guest: timer interrupts "
sent:	.asciz "guest: interrupts without a message "
/* How many depends on when the timer ticks. */
saved:	.asciz "ends by the assist page "
flushed: .asciz "guest: flushes "
stale:	.asciz "guest: stale "
drawn:	.asciz "guest: screen "
remembered: .asciz "guest: cmos "
counted: .asciz "guest: pm timer backwards "
sectors: .asciz "guest: disk "
ended:	.asciz "guest: end\r\n"
	.org 512 * (SECTORS + 1)
