/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * costs_guest.S - the guests of costs.c, in 64-bit mode, position independent: (r)cx turns of one
 * thing, then OUT to TINYVM_END. rsi is device memory.
 */
	.section .rodata
	.macro turns name, body:vararg
	.global cost_guest_\name, cost_guest_\name\()_end
cost_guest_\name:
1:	\body
	dec %ecx
	jnz 1b
	out %al, $0xf4
	hlt
cost_guest_\name\()_end:
	.endm

	.code64
	turns pio, in $0x61, %al
	turns mmio, mov (%rsi), %eax
	turns nothing, nop

	/* What a stock kernel needs early and emulating backends of KVM may lack; rdi: 64 bytes
	 * aligned memory. */
	.global cost_guest_stock, cost_guest_stock_end
cost_guest_stock:
	mov %cr4, %rax
	or $0x40600, %eax		/* OSFXSR, OSXMMEXCPT, OSXSAVE */
	mov %rax, %cr4
	xor %ecx, %ecx
	xgetbv
	mov %eax, %eax
	xsetbv
	mov $3, %eax
	xor %edx, %edx
	xsave (%rdi)
	xrstor (%rdi)
	lock cmpxchg16b (%rdi)
	wbinvd
	invlpg (%rdi)
	out %al, $0xf4
	hlt
cost_guest_stock_end:

	.section .note.GNU-stack, "", @progbits
