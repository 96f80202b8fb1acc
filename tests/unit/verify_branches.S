/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * verify_branches.S - programs that break the rules for direct and for tracked branches, and the
 * thunks that direct branches of all programs lead to; nothing is there, a judge that runs a program
 * gives it others.
 */
#define TABLE verify_bad_table
#define BRANCHES FORM
#include "verify_macros.inc"

	.section .rodata.verify_thunks, "a"
	.globl	verify_thunk_EXIT, verify_thunk_MISS, verify_thunk_HELPER
	.hidden	verify_thunk_EXIT, verify_thunk_MISS, verify_thunk_HELPER
	.fill	16, 1, 0xcc
verify_thunk_EXIT:
	.fill	16, 1, 0xcc
verify_thunk_MISS:
	.fill	16, 1, 0xcc
verify_thunk_HELPER:
	.fill	16, 1, 0xcc

	/* Direct branches where they are not asked for */

	.set	FORM, INDIRECT

	program	direct_exit
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
9:	jmp	verify_thunk_EXIT
	end	direct_exit, SITE, 9b

	program	direct_helper
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	call	verify_thunk_HELPER
	exit	LEAVE
	end	direct_helper, CALL, 9b

	program	direct_miss
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
9:	call	verify_thunk_MISS
	jmp	1b
	end	direct_miss, CHECK, 9b

	/* Indirect ones where direct ones are; to other places than the thunks */

	.set	FORM, DIRECT

	.macro	exit_by name, result, code:vararg
	program	\name
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
9:	\code
	int3
	end	\name, \result, 9b
	.endm

	exit_by	indirect_exit, CALL, jmp qword ptr [r15 + NX_CTX_THUNK_EXIT]
	exit_by	exit_before, SITE, jmp verify_thunk_EXIT - 1
	exit_by	exit_behind, SITE, jmp verify_thunk_EXIT + 1
	exit_by	exit_by_miss, SITE, jmp verify_thunk_MISS
	exit_by	exit_by_helper, SITE, jmp verify_thunk_HELPER
	exit_by	exit_far, SITE, jmp verify_thunk_EXIT + 0x1000000
	exit_by	exit_call, CALL, call verify_thunk_EXIT
	exit_by	exit_conditional, SITE, jz verify_thunk_EXIT
	exit_by	exit_notrack, FORBIDDEN, ds jmp verify_thunk_EXIT
	exit_by	exit_register, CALL, jmp rax
	exit_by	exit_return, FORBIDDEN, ret

	program	exit_rex
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
9:	.byte	0x48
	jmp	verify_thunk_EXIT
	int3
	end	exit_rex, SITE, 9b

	program	exit_without_site
9:	jmp	verify_thunk_EXIT
	int3
	end	exit_without_site, SITE, 9b

	program	conditional_out
	test	eax, eax
9:	jz	verify_thunk_EXIT
	exit	LEAVE
	end	conditional_out, BRANCH, 9b

	program	jump_out
9:	jmp	verify_thunk_EXIT + 1
	int3
	end	jump_out, BRANCH, 9b

	.macro	help_by name, result, code:vararg
	program	\name
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	\code
	exit	LEAVE
	end	\name, \result, 9b
	.endm

	help_by	indirect_helper, CALL, call qword ptr [r15 + NX_CTX_THUNK_HELPER]
	help_by	helper_before, CALL, call verify_thunk_HELPER - 1
	help_by	helper_behind, CALL, call verify_thunk_HELPER + 1
	help_by	helper_by_miss, CHECK, call verify_thunk_MISS
	help_by	helper_inside, CALL, call 9b
	help_by	helper_register, CALL, call rcx

	program	helper_rex
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	.byte	0x48
	call	verify_thunk_HELPER
	exit	LEAVE
	end	helper_rex, CALL, 9b

	program	helper_without_site
9:	call	verify_thunk_HELPER
	exit	LEAVE
	end	helper_without_site, SITE, 9b

	program	helper_of_exit_site
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
9:	call	verify_thunk_HELPER
	exit	LEAVE
	end	helper_of_exit_site, SITE, 9b

	.macro	miss_by name, result, code:vararg
	program	\name
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
9:	\code
	jump	1b
	end	\name, \result, 9b
	.endm

	miss_by	indirect_miss, CHECK, call qword ptr [r15 + NX_CTX_THUNK_MISS]
	miss_by	miss_before, CHECK, call verify_thunk_MISS - 1
	miss_by	miss_behind, CHECK, call verify_thunk_MISS + 1
	miss_by	miss_by_helper, CHECK, call verify_thunk_HELPER
	miss_by	miss_jump, CHECK, jmp verify_thunk_MISS

	/* A jump that something follows */

	program	no_trap_behind_exit
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
	jmp	verify_thunk_EXIT
9:	nop
	exit	LEAVE
	end	no_trap_behind_exit, TRAP, 9b

	program	no_trap_behind_jump
	jmp	1f
9:	nop
1:	exit	LEAVE
	end	no_trap_behind_jump, TRAP, 9b

	program	no_trap_behind_stub
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
3:	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
	call	verify_thunk_MISS
	jmp	1b
9:	jmp	3b
	int3
	end	no_trap_behind_stub, TRAP, 9b

	program	no_trap_at_the_end
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
9:	jmp	verify_thunk_EXIT
	end	no_trap_at_the_end, TRAP, 9b

	program	branch_to_trap
	test	eax, eax
9:	jz	1f - 1
	exit	LEAVE
1:	exit	LEAVE
	end	branch_to_trap, BRANCH, 9b

	/* Entries without endbr64, and endbr64 without entry */

	.set	FORM, TRACKED

	program	entry_without_landing
	exit	LEAVE
9:	nop
	exit	LEAVE
	end	entry_without_landing, LANDING, 9b, 9b

	program	entry_other_landing
	exit	LEAVE
9:	endbr32
	exit	LEAVE
	end	entry_other_landing, LANDING, 9b, 9b

	program	entry_behind_landing
	exit	LEAVE
9:	endbr64
1:	nop
	exit	LEAVE
	end	entry_behind_landing, LANDING, 9b, 1b

	program	landing_without_entry
	jump	9f
9:	endbr64
	exit	LEAVE
	end	landing_without_entry, LANDING, 9b

	program	landing_in_immediate
	mov	eax, 0xfa1e0ff3
	exit	LEAVE
	end	landing_in_immediate, LANDING

	program	landing_in_address
	lea	rax, [rcx + (0xfa1e0ff3 - 0x100000000)]
	exit	LEAVE
	end	landing_in_address, LANDING

	/* Constants that are not blinded, where they have to be: the keys are not known here, so none is right */

	.set	FORM, DIRECT
	.set	BLINDED, 1

	.macro	constant_in name, code:vararg
	program	\name
9:	\code
	exit	LEAVE
	end	\name, CONSTANT, 9b
	.endm

	constant_in constant_in_add, add eax, 0x12345678
	constant_in constant_in_adc, adc rbx, -0x12345678
	constant_in constant_in_cmp, cmp ecx, 0x12345678
	constant_in constant_in_test, test edx, 0x12345678
	constant_in constant_in_imul, imul eax, ecx, 0x12345678
	constant_in constant_in_store, mov dword ptr [r15 + NX_CTX_GPR], 0x12345678
	constant_in constant_in_slot, or qword ptr [r15 + NX_CTX_GPR], 0x12345678
	constant_in constant_in_nop, nop dword ptr [rax + 0x12345678]
	constant_in constant_of_17_bits, sub eax, 0x10000
	constant_in constant_of_minus_17_bits, sub eax, -0x8001

	/* What has to undo it is to blame. */
	.macro	not_undone name, constant, code:vararg
	program	\name
	\constant
9:	\code
	exit	LEAVE
	end	\name, CONSTANT, 9b
	.endm

	not_undone mov_not_undone, "mov eax, 0x12345678", nop
	not_undone mov_64_not_undone, "movabs rax, 0x123456789abcdef0", nop
	not_undone lea_not_undone, "lea rax, [rcx + 0x12345678]", nop
	not_undone lea_of_wrong_key, "lea rax, [rcx + 0x12345678]", lea rax, [rax + 0x12345678]
	not_undone mov_of_wrong_key, "mov eax, 0x12345678", lea eax, [rax + 0x12345678]
	not_undone mov_64_of_wrong_key, "movabs rax, 0x123456789abcdef0", lea rax, [rax + 0x12345678]
	not_undone undone_by_addition, "mov eax, 0x12345678", add eax, 0x12345678
	not_undone undone_by_branch, "mov eax, 0x12345678", jz 9b

	program	undone_by_leaving
	mov	eax, 0x12345678
9:	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
	thunk	jmp, EXIT
	end	undone_by_leaving, CONSTANT, 9b

	.set	BLINDED, 0

	.section .note.GNU-stack, "", @progbits
