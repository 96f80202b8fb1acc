/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * hypervisor.S - a hypervisor of AMD's kind in a boot sector, for what a VMM does to a machine while a
 * guest of its guest runs.
 *
 * Its guest computes, executes CPUID, which the hypervisor handles as others do, and prints its digest
 * on the serial port, of which the hypervisor knows nothing. A timer ticks all the time, and ends the
 * guest's turn each time. All that is printed follows from the number of the line, so that whoever stops,
 * saves or resets the machine changes none of it:
 *   begin                at each start
 *   NNNN DDDDDDDD        for each line
 *   ticked               if the timer did
 *   shutdown             when the guest has ended in a triple fault, as it does at the end
 */
#include "../../lab/load.inc"
#include "../../lab/power_off.inc"

#define SECTORS 7
#define LINES 200
#define ROUNDS 6
#define LOOPS 60000
#define TABLES 0x20000
#define VMCB 0x30000
#define HOST_SAVE 0x31000
#define IDT 0x32000
#define GUEST_STACK 0x40000
#define VECTOR 0x20
#define SERIAL 0x3f8

/* Places in the VMCB. */
#define INTERCEPTS 0x0c
#define ASID 0x58
#define INT_CTL 0x60
#define EXIT_CODE 0x70
#define NEXT_RIP 0xc8
#define SAVED(register) (0x400 + (register))
#define ES 0x00
#define CS 0x10
#define SS 0x20
#define DS 0x30
#define EFER 0xd0
#define CR4 0x148
#define CR3 0x150
#define CR0 0x158
#define DR7 0x160
#define RFLAGS 0x170
#define RIP 0x178
#define RSP 0x1d8
#define RAX 0x1f8

#define EXIT_INTR 0x60
#define EXIT_CPUID 0x72
#define EXIT_SHUTDOWN 0x7f
/* INTR, CPUID and shutdown; VMRUN has to be. */
#define INTERCEPTED 0x80040001
#define INTERCEPTED_2 1
/* The guest's IF says nothing about the hypervisor's interrupts. */
#define V_INTR_MASKING (1 << 24)
/* A CPUID that tells the hypervisor that a line is complete. */
#define NEXT_LINE 0x4000ffff

	.code16
	.intel_syntax noprefix
	.globl _start
_start:
	load_sectors 1f
	lgdt [gdt_register]
	mov eax, cr0
	or al, 1
	mov cr0, eax
	ljmp 8, offset protected
1:	hlt
	jmp 1b
	sectors_to_load SECTORS

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

	.code32
protected:
	mov eax, 0x10
	mov ds, eax
	mov es, eax
	mov ss, eax
	/* After a reset memory is as it was. */
	mov edi, TABLES
	mov ecx, (IDT + 0x1000 - TABLES) / 4
	xor eax, eax
	rep stosd
	mov dword ptr [TABLES], TABLES + 0x1003
	mov dword ptr [TABLES + 0x1000], TABLES + 0x2003
	mov dword ptr [TABLES + 0x2000], 0x83
	mov eax, 0x20 /* PAE */
	mov cr4, eax
	mov eax, TABLES
	mov cr3, eax
	mov ecx, 0xc0000080
	rdmsr
	or eax, 0x1100 /* SVME, LME */
	wrmsr
	mov eax, cr0
	or eax, 0x80000000
	mov cr0, eax
	ljmp 0x18, offset long_mode

	.code64
long_mode:
	mov esp, 0x7c00
	call start_timer
	mov esi, offset begin
	call print
	mov ecx, 0xc0010117 /* VM_HSAVE_PA */
	mov eax, HOST_SAVE
	xor edx, edx
	wrmsr
	call make_guest
	xor r12d, r12d /* line */
	mov r13d, 1    /* the guest's digest */
line:
	mov eax, r12d
	mov ecx, 4
	call print_hex
	mov al, ' '
	call put
guest_runs:
	call enter_guest
	mov eax, [VMCB + EXIT_CODE]
	cmp eax, EXIT_INTR
	je guest_runs
	cmp eax, EXIT_CPUID
	jne not_cpuid
	mov eax, [VMCB + SAVED(RAX)]
	cmp eax, NEXT_LINE
	je line_done
	xor ecx, ecx
	cpuid
	mov [VMCB + SAVED(RAX)], eax
	add qword ptr [VMCB + SAVED(RIP)], 2
	jmp guest_runs
line_done:
	add qword ptr [VMCB + SAVED(RIP)], 2
	inc r12d
	cmp r12d, LINES
	jne line
	cmp dword ptr [ticks], 0
	je 0f
	mov esi, offset ticked
	call print
0:	mov qword ptr [VMCB + SAVED(RIP)], offset guest_faults
	jmp guest_runs
not_cpuid:
	mov esi, offset shutdown
	cmp eax, EXIT_SHUTDOWN
	je 0f
	mov ecx, 8
	call print_hex
	mov esi, offset unknown
0:	call print
	power_off

	/* As hypervisors do: interrupts are taken behind STGI. */
enter_guest:
	mov eax, VMCB
	clgi
	sti
	vmload
	vmrun
	vmsave
	cli
	stgi
	sti
	nop
	cli
	ret

make_guest:
	mov eax, VMCB
	vmsave
	mov dword ptr [VMCB + INTERCEPTS], INTERCEPTED
	mov dword ptr [VMCB + INTERCEPTS + 4], INTERCEPTED_2
	mov dword ptr [VMCB + ASID], 1
	mov dword ptr [VMCB + INT_CTL], V_INTR_MASKING
	mov dword ptr [VMCB + SAVED(CS)], 0x0a9b0018
	mov dword ptr [VMCB + SAVED(CS) + 4], -1
	.irp segment, ES, SS, DS
	mov dword ptr [VMCB + SAVED(\segment)], 0x0c930010
	mov dword ptr [VMCB + SAVED(\segment) + 4], -1
	.endr
	mov ecx, 0xc0000080
	rdmsr
	mov [VMCB + SAVED(EFER)], eax
	mov rax, cr4
	mov [VMCB + SAVED(CR4)], rax
	mov rax, cr3
	mov [VMCB + SAVED(CR3)], rax
	mov rax, cr0
	mov [VMCB + SAVED(CR0)], rax
	mov dword ptr [VMCB + SAVED(DR7)], 0x400
	mov dword ptr [VMCB + SAVED(RFLAGS)], 2
	mov qword ptr [VMCB + SAVED(RIP)], offset guest
	mov dword ptr [VMCB + SAVED(RSP)], GUEST_STACK
	ret

	/* The guest. It has no interrupt table. */
guest:
	mov r14d, ROUNDS
0:	mov ecx, LOOPS
1:	imul r13d, r13d, 1664525
	add r13d, 1013904223
	loop 1b
	mov eax, 0x80000000
	cpuid
	add r13d, eax
	dec r14d
	jne 0b
	mov eax, r13d
	mov ecx, 8
	call print_hex
	mov al, '\n'
	call put
	mov eax, NEXT_LINE
	cpuid
	jmp guest
guest_faults:
	ud2

	/* The 8254 through the 8259, a hundred times a second. */
start_timer:
	mov rax, offset tick
	mov [IDT + VECTOR * 16], ax
	mov dword ptr [IDT + VECTOR * 16 + 2], 0x8e000018 & 0xffff
	mov word ptr [IDT + VECTOR * 16 + 4], 0x8e00
	shr rax, 16
	mov [IDT + VECTOR * 16 + 6], ax
	lidt [idt_register]
	mov dword ptr [ticks], 0
	mov al, 0x11
	out 0x20, al
	mov al, VECTOR
	out 0x21, al
	mov al, 4
	out 0x21, al
	mov al, 1
	out 0x21, al
	mov al, 0xfe
	out 0x21, al
	mov al, 0x34
	out 0x43, al
	mov al, 11932 & 0xff
	out 0x40, al
	mov al, 11932 >> 8
	out 0x40, al
	ret
tick:
	push rax
	inc dword ptr [ticks]
	mov al, 0x20
	out 0x20, al
	pop rax
	iretq

	/* AL. Only RAX and RDX change. */
put:
	mov ah, al
	mov dx, SERIAL + 5
0:	in al, dx
	test al, 0x20
	jz 0b
	mov al, ah
	mov dx, SERIAL
	out dx, al
	ret

	/* The string at ESI. */
print:
	lodsb
	test al, al
	jz 0f
	call put
	jmp print
0:	ret

	/* The lowest ECX digits of EAX. RBX and RSI change as well. */
print_hex:
	mov ebx, eax
	lea esi, [rcx * 4 - 4]
0:	mov eax, ebx
	mov ecx, esi
	shr eax, cl
	and eax, 15
	cmp eax, 10
	jb 1f
	add eax, 'a' - '0' - 10
1:	add eax, '0'
	call put
	sub esi, 4
	jns 0b
	ret

begin:	.asciz "begin\n"
ticked:	.asciz "ticked\n"
shutdown:
	.asciz "shutdown\n"
unknown:
	.asciz " is an exit that nobody asked for\n"
	.balign 4
ticks:	.long 0
	.org 512 * (SECTORS + 1)
