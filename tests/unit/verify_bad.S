/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * verify_bad.S - programs that the verifier must refuse, at the instruction labelled 9 where one
 * is to blame: for every rule of context.h at least one that breaks it and nothing else.
 */
#define TABLE verify_bad_table
#include "verify_macros.inc"

	/* One bad instruction. */
	.macro	bad name, result, insn:vararg
	program	\name
9:	\insn
	exit	LEAVE
	end	\name, \result, 9b
	.endm

	/* Likewise, with r14 a number; ... */
	.macro	bad_with_number name, result, insn:vararg
	program	\name
	mov	r14, rsi
9:	\insn
	exit	LEAVE
	end	\name, \result, 9b
	.endm

	/* ... with r14 a pointer to so many bytes. */
	.macro	bad_with_pointer name, result, bytes, tag, site, insn:vararg
	program	\name
	mov	r14, rsi
	check	\bytes, \tag, 2f
1:	mov	al, [r14]
9:	\insn
	exit	LEAVE
2:	stub	\site, 1b
	end	\name, \result, 9b
	.endm


	/* Not on the list */

	bad	div, FORBIDDEN, div ecx
	bad	idiv, FORBIDDEN, idiv rbx
	bad	push, FORBIDDEN, push rax
	bad	pop, FORBIDDEN, pop rax
	bad	ret, FORBIDDEN, ret
	bad	int3, FORBIDDEN, int3
	bad	int, FORBIDDEN, int 0x80
	bad	int1, FORBIDDEN, .byte 0xf1
	bad	syscall, FORBIDDEN, syscall
	bad	sysenter, FORBIDDEN, sysenter
	bad	hlt, FORBIDDEN, hlt
	bad	in, FORBIDDEN, in al, dx
	bad	out, FORBIDDEN, out 0x80, al
	bad	cli, FORBIDDEN, cli
	bad	sti, FORBIDDEN, sti
	bad	cld, FORBIDDEN, cld
	bad	std, FORBIDDEN, std
	bad	rdtsc, FORBIDDEN, rdtsc
	bad	rdtscp, FORBIDDEN, rdtscp
	bad	cpuid, FORBIDDEN, cpuid
	bad	xgetbv, FORBIDDEN, xgetbv
	bad	rdfsbase, FORBIDDEN, rdfsbase rax
	bad	wrgsbase, FORBIDDEN, wrgsbase rax
	bad	swapgs, FORBIDDEN, swapgs
	bad	vmcall, FORBIDDEN, vmcall
	bad	rdpkru, FORBIDDEN, rdpkru
	bad	mov_from_sreg, FORBIDDEN, mov eax, ds
	bad	mov_to_sreg, FORBIDDEN, mov ds, eax
	bad	mov_cr, FORBIDDEN, mov rax, cr0
	bad	mov_dr, FORBIDDEN, mov rax, dr7
	bad	movs, FORBIDDEN, movsb
	bad	rep_stos, FORBIDDEN, rep stosq
	bad	cmps, FORBIDDEN, cmpsb
	bad	xlat, FORBIDDEN, xlatb
	bad	leave, FORBIDDEN, leave
	bad	enter, FORBIDDEN, enter 8, 0
	bad	pushf, FORBIDDEN, pushf
	bad	popf, FORBIDDEN, popf
	bad	fld1, FORBIDDEN, fld1
	bad	emms, FORBIDDEN, emms
	bad	mmx, FORBIDDEN, movd mm0, eax
	bad	sse, FORBIDDEN, movd xmm0, eax
	bad	pxor, FORBIDDEN, pxor xmm0, xmm0
	bad	vex, FORBIDDEN, vpxor xmm0, xmm0, xmm0
	bad	bmi, FORBIDDEN, andn eax, ecx, edx
	bad	evex, FORBIDDEN, vpxord zmm0, zmm0, zmm0
	bad	xop, FORBIDDEN, .byte 0x8f, 0xe9, 0x78, 0x01, 0xc8
	bad	rdrand, FORBIDDEN, rdrand eax
	bad	popcnt, FORBIDDEN, popcnt eax, ecx
	bad	crc32, FORBIDDEN, crc32 eax, cl
	bad	ud2, FORBIDDEN, ud2
	bad	xabort, FORBIDDEN, xabort 1
	bad	xtest, FORBIDDEN, xtest
	bad	clflush, FORBIDDEN, clflush [rax]
	bad	wbinvd, FORBIDDEN, wbinvd
	bad	serialize, FORBIDDEN, serialize
	bad	rdsspq, FORBIDDEN, rdsspq rax
	bad	incsspq, FORBIDDEN, incsspq rax
	bad	tpause, FORBIDDEN, tpause eax
	bad	reserved_nop, FORBIDDEN, .byte 0x0f, 0x19, 0xc0
	bad	movsxd_without_rex_w, FORBIDDEN, .byte 0x63, 0xc1
	bad	lldt, FORBIDDEN, lldt ax
	bad	sgdt, FORBIDDEN, sgdt [r15]
	bad	str, FORBIDDEN, str eax
	bad	smsw, FORBIDDEN, smsw eax
	bad	lar, FORBIDDEN, lar eax, ecx
	bad	iretq, FORBIDDEN, iretq
	bad	monitor, FORBIDDEN, monitor
	bad	bound_mpx, FORBIDDEN, .byte 0xf3, 0x0f, 0x1b, 0x00
	bad	ptwrite, FORBIDDEN, ptwrite eax
	bad	movdiri, FORBIDDEN, movdiri [r15], eax
	bad_with_pointer movbe, FORBIDDEN, 8, NX_TLB_WRITE, WRITE8, movbe eax, [r14]
	bad_with_pointer cmpxchg16b, FORBIDDEN, 8, NX_TLB_WRITE, WRITE8, lock cmpxchg16b [r14]
	bad_with_pointer movnti, FORBIDDEN, 8, NX_TLB_WRITE, WRITE8, movnti [r14], rax
	bad_with_pointer xsave, FORBIDDEN, 8, NX_TLB_WRITE, WRITE8, xsave [r14]
	bad_with_pointer lgdt, FORBIDDEN, 8, NX_TLB_WRITE, WRITE8, lgdt [r14]
	bad_with_pointer adcx, FORBIDDEN, 8, NX_TLB_WRITE, WRITE8, adcx rax, [r14]

	program	xbegin
9:	xbegin	1f
1:	exit	LEAVE
	end	xbegin, FORBIDDEN, 9b


	/* Prefixes */

	bad	prefix_fs, FORBIDDEN, .byte 0x64, 0x49, 0x8b, 0x47, 0x08
	bad	prefix_gs, FORBIDDEN, .byte 0x65, 0x49, 0x8b, 0x47, 0x08
	bad	prefix_cs_override, FORBIDDEN, .byte 0x2e, 0x49, 0x8b, 0x47, 0x08
	bad	prefix_ds_override, FORBIDDEN, .byte 0x3e, 0x89, 0xc8
	bad	prefix_es_override, FORBIDDEN, .byte 0x26, 0x89, 0xc8
	bad	prefix_ss_override, FORBIDDEN, .byte 0x36, 0x89, 0xc8
	bad	prefix_address_size, FORBIDDEN, .byte 0x67, 0x41, 0x8b, 0x47, 0x08
	bad	prefix_address_size_lea, FORBIDDEN, lea eax, [ecx]
	bad	prefix_repeat, FORBIDDEN, .byte 0xf3, 0x89, 0xc8
	bad	prefix_repeat_not, FORBIDDEN, .byte 0xf2, 0x89, 0xc8
	bad	prefix_twice, FORBIDDEN, .byte 0x66, 0x66, 0x89, 0xc8
	bad	prefix_rex_before_size, FORBIDDEN, .byte 0x48, 0x66, 0x89, 0xc8
	bad	prefix_two_rex, FORBIDDEN, .byte 0x48, 0x48, 0x89, 0xc8
	bad	prefix_pause_rex, FORBIDDEN, .byte 0xf3, 0x49, 0x90
	bad	prefix_nop_rex, FORBIDDEN, .byte 0x48, 0x90
	bad	prefix_nop_segment, FORBIDDEN, .byte 0x2e, 0x0f, 0x1f, 0x00
	bad_with_pointer prefix_xacquire, FORBIDDEN, 8, NX_TLB_WRITE, WRITE8, xacquire lock add dword ptr [r14], ecx
	bad_with_pointer prefix_fs_pointer, FORBIDDEN, 8, NX_TLB_WRITE, WRITE8, .byte 0x64, 0x49, 0x8b, 0x06

	program	prefix_branch_size
9:	.byte	0x66, 0x74, 0x00
1:	exit	LEAVE
	end	prefix_branch_size, FORBIDDEN, 9b

	program	prefix_branch_hint
9:	.byte	0x3e, 0x74, 0x00
1:	exit	LEAVE
	end	prefix_branch_hint, FORBIDDEN, 9b

	program	prefix_jump_rex
9:	.byte	0x48, 0xeb, 0x00
1:	exit	LEAVE
	end	prefix_jump_rex, FORBIDDEN, 9b

	program	prefix_jecxz
9:	jecxz	1f
1:	exit	LEAVE
	end	prefix_jecxz, FORBIDDEN, 9b

	program	prefix_thunk_size
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
9:	.byte	0x66, 0x41, 0xff, 0xa7
	.long	NX_CTX_THUNK_EXIT
	end	prefix_thunk_size, FORBIDDEN, 9b

	program	prefix_thunk_fs
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
9:	jmp	qword ptr fs:[r15 + NX_CTX_THUNK_EXIT]
	end	prefix_thunk_fs, FORBIDDEN, 9b


	/* Not an instruction, or not all of one */

	bad	undecodable, UNDECODABLE, .byte 0x06
	bad	locked_register, UNDECODABLE, .byte 0xf0, 0x01, 0xc8
	bad	locked_load, UNDECODABLE, .byte 0xf0, 0x49, 0x8b, 0x07

	program	cut_short
	exit	LEAVE
9:	.byte	0x48, 0xb8, 1, 2, 3
	end	cut_short, UNDECODABLE, 9b


	/* Reserved registers */

	bad	r15_written, RESERVED_REGISTER, mov r15, rax
	bad	r15d_written, RESERVED_REGISTER, mov r15d, eax
	bad	r15w_written, RESERVED_REGISTER, mov r15w, ax
	bad	r15b_written, RESERVED_REGISTER, mov r15b, al
	bad	r15_added, RESERVED_REGISTER, add r15, 8
	bad	r15_read, RESERVED_REGISTER, mov rax, r15
	bad	r15b_read, RESERVED_REGISTER, add al, r15b
	bad	r15_compared, RESERVED_REGISTER, cmp r15, rax
	bad	r15_exchanged, RESERVED_REGISTER, xchg rax, r15
	bad	r15_cmov, RESERVED_REGISTER, cmovz r15, rax
	bad	r15_setcc, RESERVED_REGISTER, setz r15b
	bad	r15_bswap, RESERVED_REGISTER, bswap r15
	bad	r15_address, RESERVED_REGISTER, lea rax, [r15 + 8]
	bad	r15_index, RESERVED_REGISTER, lea rax, [rcx + r15 * 2]
	bad	r15_nop, RESERVED_REGISTER, nop dword ptr [r15]
	bad	r15_loaded, RESERVED_REGISTER, mov r15, [r15 + 8]
	bad	r15_stored, RESERVED_REGISTER, mov [r15 + 8 * NX_RSP], r15
	bad	rsp_written, RESERVED_REGISTER, mov rsp, rax
	bad	esp_written, RESERVED_REGISTER, xor esp, esp
	bad	sp_written, RESERVED_REGISTER, mov sp, 1
	bad	spl_written, RESERVED_REGISTER, mov spl, 1
	bad	rsp_read, RESERVED_REGISTER, mov rax, rsp
	bad	rsp_added, RESERVED_REGISTER, add rsp, 8
	bad	rsp_address, RESERVED_REGISTER, lea rax, [rsp]
	bad	rsp_memory, RESERVED_REGISTER, mov rax, [rsp]
	bad	rsp_memory_written, RESERVED_REGISTER, mov [rsp - 8], rax
	bad	rsp_memory_index, RESERVED_REGISTER, mov rax, [rsp + rcx]
	bad	rsp_stored, RESERVED_REGISTER, mov [r15 + 8 * NX_RSP], rsp
	bad	rsp_exchanged, RESERVED_REGISTER, xchg rsp, rax
	bad	rsp_nop, RESERVED_REGISTER, nop dword ptr [rsp + 8]
	bad	r14_unknown_read, RESERVED_REGISTER, mov rax, r14
	bad	r14_unknown_stored, RESERVED_REGISTER, mov [r15 + 8 * NX_RSP], r14
	bad	r14_unknown_partial, RESERVED_REGISTER, mov r14b, al
	bad	r14_unknown_partial_word, RESERVED_REGISTER, mov r14w, ax
	bad	r14_unknown_cmov, RESERVED_REGISTER, cmovz r14, rax
	bad	r14_unknown_bsf, RESERVED_REGISTER, bsf r14, rax
	bad	r14_unknown_lzcnt, RESERVED_REGISTER, lzcnt r14, rax
	bad	r14_unknown_address, RESERVED_REGISTER, lea rax, [r14 + 8]
	bad	r14_unknown_linear, RESERVED_REGISTER, mov [r15 + NX_CTX_LINEAR], r14
	bad_with_pointer pointer_copied, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, mov rax, r14
	bad_with_pointer pointer_half_copied, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, mov eax, r14d
	bad_with_pointer pointer_byte_copied, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, mov al, r14b
	bad_with_pointer pointer_stored_in_slot, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, mov [r15 + 8 * NX_RSP], r14
	bad_with_pointer pointer_stored_in_guest, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, mov [r14], r14
	bad_with_pointer pointer_exchanged, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, xchg [r14], r14
	bad_with_pointer pointer_compared, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, cmp r14, rax
	bad_with_pointer pointer_added_to, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, add r14, 8
	bad_with_pointer pointer_address, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, lea rax, [r14]
	bad_with_pointer pointer_address_of_itself, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, lea r14, [r14 + 8]
	bad_with_pointer pointer_partial, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, mov r14w, ax
	bad_with_pointer pointer_cmov, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, cmovz r14, rax
	bad_with_pointer pointer_bsf, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, bsf r14, rcx
	bad_with_pointer pointer_bsr, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, bsr r14d, ecx
	bad_with_pointer pointer_tzcnt, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, tzcnt r14, rcx
	bad_with_pointer pointer_zeroed_by_xor, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, xor r14d, r14d
	bad_with_pointer pointer_cmpxchg, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, cmpxchg [r14], r14
	bad_with_pointer pointer_nop, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, nop dword ptr [r14 + 8]
	bad_with_pointer pointer_tested, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, test r14, r14
	bad_with_pointer pointer_shifted, RESERVED_REGISTER, 8, NX_TLB_WRITE, WRITE8, shr r14, 12

	program	pointer_read_after_branch
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	jump	3f
2:	stub	READ8, 1b
3:
9:	mov	rcx, r14
	exit	LEAVE
	end	pointer_read_after_branch, RESERVED_REGISTER, 9b

	program	number_read_after_target
	mov	r14, rsi
	jz	1f
	mov	r14, rdi
1:
9:	mov	rcx, r14
	exit	LEAVE
	end	number_read_after_target, RESERVED_REGISTER, 9b

	program	number_read_after_entry
	mov	r14, rsi
1:
9:	mov	rcx, r14
	exit	LEAVE
	end	number_read_after_entry, RESERVED_REGISTER, 9b, 1b

	program	number_read_after_helper
	mov	r14, rsi
	helper	HELPER
9:	mov	rcx, r14
	exit	LEAVE
	end	number_read_after_helper, RESERVED_REGISTER, 9b

	program	pointer_checked_again
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
9:	check	8, NX_TLB_WRITE, 4f
3:	mov	[r14], rax
	exit	LEAVE
2:	stub	READ8, 1b
4:	stub	WRITE8, 3b
	end	pointer_checked_again, RESERVED_REGISTER, 9b


	/* Memory: context slots */

	bad	slot_below, MEMORY, mov eax, [r15 - 4]
	bad	slot_far_below, MEMORY, mov rax, [r15 - 0x1000]
	bad	slot_tlb_read, MEMORY, mov rax, [r15 + NX_CTX_TLB]
	bad	slot_tlb_addend, MEMORY, mov rax, [r15 + NX_CTX_TLB + NX_TLB_ADDEND]
	bad	slot_across_tlb, MEMORY, mov rax, [r15 + NX_CTX_TLB - 4]
	bad	slot_thunk_read, MEMORY, mov rax, [r15 + NX_CTX_THUNK_EXIT]
	bad	slot_host_rsp_read, MEMORY, mov rax, [r15 + NX_CTX_HOST_RSP]
	bad	slot_beyond, MEMORY, mov rax, [r15 + 0x7ffffff0]
	bad	slot_rflags_written, MEMORY, mov [r15 + NX_CTX_RFLAGS], rax
	bad	slot_across_writable, MEMORY, mov [r15 + NX_CTX_WRITABLE - 4], rax
	bad	slot_seg_written, MEMORY, mov [r15 + NX_CTX_SEG], rax
	bad	slot_tlb_written, MEMORY, mov [r15 + NX_CTX_TLB], rax
	bad	slot_thunk_written, MEMORY, mov [r15 + NX_CTX_THUNK_EXIT], rax
	bad	slot_rmw_rflags, MEMORY, or dword ptr [r15 + NX_CTX_RFLAGS], 1
	bad	slot_xchg_seg, MEMORY, xchg [r15 + NX_CTX_SEG], rax
	bad	slot_xadd_across, MEMORY, xadd [r15 + NX_CTX_WRITABLE - 7], rax
	bad	slot_setcc_rflags, MEMORY, setz byte ptr [r15 + NX_CTX_WRITABLE]
	bad	slot_cmpxchg_rflags, MEMORY, cmpxchg [r15 + NX_CTX_RFLAGS], rcx
	bad	slot_bts_seg, MEMORY, bts dword ptr [r15 + NX_CTX_SEG], 1
	bad	slot_cmpxchg8b_across, MEMORY, cmpxchg8b [r15 + NX_CTX_WRITABLE - 4]
	bad	slot_locked, MEMORY, lock add qword ptr [r15], rax
	bad	slot_indexed, MEMORY, mov rax, [r15 + rax]
	bad	slot_indexed_by_tlb_scale, MEMORY, mov rax, [r15 + r10 * 8 + NX_CTX_TLB]
	bad	slot_site_register, MEMORY, mov [r15 + NX_CTX_SITE], eax
	bad	slot_site_word, MEMORY, mov word ptr [r15 + NX_CTX_SITE], 1
	bad	slot_site_quad, MEMORY, mov qword ptr [r15 + NX_CTX_SITE], 1
	bad	slot_site_high, MEMORY, mov dword ptr [r15 + NX_CTX_SITE + 4], 1
	bad	slot_site_across, MEMORY, mov qword ptr [r15 + NX_CTX_SITE - 4], 0
	bad	slot_site_inc, MEMORY, inc dword ptr [r15 + NX_CTX_SITE]
	bad	slot_prefetch, MEMORY, prefetcht0 [r15 + NX_CTX_TLB]

	/* Memory: everything else */

	/* mov eax, [0x1000]: assemblers differ about a prefix */
	bad	memory_absolute, MEMORY, .byte 0x8b, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00
	bad	memory_moffs, MEMORY, movabs al, [0x123456789]
	bad	memory_rip, MEMORY, mov rax, [rip]
	bad	memory_rip_written, MEMORY, mov [rip], al
	bad	memory_lea_rip, MEMORY, lea rax, [rip + 8]
	bad	memory_guest_register, MEMORY, mov rax, [rax]
	bad	memory_guest_register_written, MEMORY, mov [rbx], eax
	bad	memory_guest_index, MEMORY, mov rax, [rcx * 8 + 0x10]
	bad	memory_r10_base, MEMORY, mov rax, [r10]
	bad	memory_r11_base, MEMORY, mov [r11], rax
	bad	memory_r13_base, MEMORY, mov rax, [r13]
	bad	memory_bt_register_offset, MEMORY, bt [r15 + 8], rax
	bad	memory_bts_register_offset, MEMORY, bts [r15 + 8], rax
	bad	memory_prefetch_guest, MEMORY, prefetcht0 [rax]
	bad	memory_r14_unknown, MEMORY, mov rax, [r14]
	bad	memory_r14_unknown_prefetch, MEMORY, prefetchnta [r14]
	bad_with_number memory_r14_number, MEMORY, mov rax, [r14]
	bad_with_number memory_r14_number_written, MEMORY, mov [r14], rax
	bad_with_number memory_r14_number_locked, MEMORY, lock inc dword ptr [r14]
	bad_with_pointer pointer_displaced, MEMORY, 8, NX_TLB_WRITE, WRITE8, mov al, [r14 + 8]
	bad_with_pointer pointer_displaced_across, MEMORY, 8, NX_TLB_WRITE, WRITE8, mov rax, [r14 + 1]
	bad_with_pointer pointer_displaced_store, MEMORY, 8, NX_TLB_WRITE, WRITE8, mov [r14 + 5], eax
	bad_with_pointer pointer_displaced_far, MEMORY, 8, NX_TLB_WRITE, WRITE8, mov al, [r14 + 0x7fffffff]
	bad_with_pointer pointer_displaced_far_below, MEMORY, 8, NX_TLB_WRITE, WRITE8, mov al, [r14 - 0x80000000]
	bad_with_pointer read_only_displaced, MEMORY, 8, NX_TLB_READ, READ8, mov [r14 + 4], al
	bad_with_pointer pointer_displaced_below, MEMORY, 8, NX_TLB_WRITE, WRITE8, mov al, [r14 - 1]
	bad_with_pointer pointer_indexed, MEMORY, 8, NX_TLB_WRITE, WRITE8, mov al, [r14 + rax]
	bad_with_pointer pointer_as_index, MEMORY, 8, NX_TLB_WRITE, WRITE8, mov al, [rax + r14]
	bad_with_pointer pointer_bt, MEMORY, 8, NX_TLB_WRITE, WRITE8, bt [r14], rax
	bad_with_pointer pointer_lock_btc, MEMORY, 8, NX_TLB_WRITE, WRITE8, lock btc [r14], eax
	bad_with_pointer pointer_too_long, MEMORY, 4, NX_TLB_WRITE, WRITE8, mov rax, [r14]
	bad_with_pointer pointer_too_long_by_one, MEMORY, 1, NX_TLB_WRITE, WRITE8, mov ax, [r14]
	bad_with_pointer pointer_too_long_store, MEMORY, 7, NX_TLB_WRITE, WRITE8, mov [r14], rax
	bad_with_pointer pointer_too_long_cmpxchg8b, MEMORY, 4, NX_TLB_WRITE, WRITE8, lock cmpxchg8b [r14]
	bad_with_pointer read_only_store, MEMORY, 8, NX_TLB_READ, READ8, mov [r14], al
	bad_with_pointer read_only_rmw, MEMORY, 8, NX_TLB_READ, READ8, add [r14], eax
	bad_with_pointer read_only_xchg, MEMORY, 8, NX_TLB_READ, READ8, xchg [r14], eax
	bad_with_pointer read_only_cmpxchg, MEMORY, 8, NX_TLB_READ, READ8, cmpxchg [r14], ecx
	bad_with_pointer read_only_cmpxchg8b, MEMORY, 8, NX_TLB_READ, READ8, cmpxchg8b [r14]
	bad_with_pointer read_only_setcc, MEMORY, 8, NX_TLB_READ, READ8, setz byte ptr [r14]
	bad_with_pointer read_only_bts, MEMORY, 8, NX_TLB_READ, READ8, bts dword ptr [r14], 3

	program	pointer_overwritten
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	r14, rsi
9:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	pointer_overwritten, MEMORY, 9b

	program	pointer_reloaded
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	r14, [r14]
9:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	pointer_reloaded, MEMORY, 9b

	program	pointer_zeroed
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	r14d, 0
9:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	pointer_zeroed, MEMORY, 9b

	program	pointer_after_helper
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	helper	HELPER
9:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	pointer_after_helper, MEMORY, 9b

	program	pointer_at_target
	mov	r14, rsi
	jz	3f
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
3:
9:	mov	rcx, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	pointer_at_target, MEMORY, 9b

	program	pointer_at_backward_target
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
3:
9:	mov	rcx, [r14]
	mov	r14, rcx
	loop	3b
	exit	LEAVE
2:	stub	READ8, 1b
	end	pointer_at_backward_target, MEMORY, 9b

	program	pointer_at_entry
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
3:
9:	mov	rcx, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	pointer_at_entry, MEMORY, 9b, 3b

	program	pointer_after_jump
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	jump	3f
2:	stub	READ8, 1b
3:
9:	mov	rcx, [r14]
	exit	LEAVE
	end	pointer_after_jump, MEMORY, 9b


	/* The check sequence: each of its instructions, changed */

	.set	REPLACED, 0
	.set	PRECEDED, 1

	/* One step of the sequence. 9 is the addition, or the step itself where it comes later. */
	.macro	step number, how, step, insn, own:vararg
	.if	\number == \step
	.if	\how == PRECEDED
	.if	\number > 5
9:
	.endif
8:	\insn
	.elseif	\number > 5
9:
	.endif
	.elseif	\number == 5 && \step < 5
9:
	.endif
	.if	\how == REPLACED && \number == \step
	.if	\number == 5
9:
	.endif
	\insn
	.else
	.if	\how == PRECEDED && \number == 5 && \step == 5
9:
	.endif
	\own
	.endif
	.endm

	/* The whole sequence, with insn instead of a step or before it. */
	.macro	odd_check how, step, insn:vararg
	step	0, \how, \step, "\insn", mov r11, r14
	step	1, \how, \step, "\insn", shr r11, NX_TLB_SHIFT
	step	2, \how, \step, "\insn", and r11d, NX_TLB_MASK
	step	3, \how, \step, "\insn", lea r10, [r14 + 7]
	step	4, \how, \step, "\insn", and r10, -4096
	step	5, \how, \step, "\insn", add r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	step	6, \how, \step, "\insn", cmp r10, [r15 + r11 + NX_CTX_TLB + NX_TLB_WRITE]
	step	7, \how, \step, "\insn", jne 2f
	step	8, \how, \step, "\insn", cmovne r14, r15
1:	mov	rax, [r14]
	exit	LEAVE
2:	stub	WRITE8, 1b
	.endm

	.macro	bad_check name, result, how, step, insn:vararg
	program	\name
	mov	r14, rsi
	odd_check \how, \step, \insn
	end	\name, \result, 9b
	.endm

	.macro	check_entered step
	program	check_entered_\step
	mov	r14, rsi
7:	jz	8f
	odd_check PRECEDED, \step, /* nothing */
	end	check_entered_\step, BRANCH, 7b
	program	check_entry_\step
	mov	r14, rsi
	odd_check PRECEDED, \step, /* nothing */
	end	check_entry_\step, ENTRY, 8b, 8b
	.endm

	bad_check check_copy_other, CHECK, REPLACED, 0, mov r11, rsi
	bad_check check_copy_short, CHECK, REPLACED, 0, mov r11d, r14d
	bad_check check_shift_less, CHECK, REPLACED, 1, shr r11, 6
	bad_check check_shift_signed, CHECK, REPLACED, 1, sar r11, 7
	bad_check check_shift_short, CHECK, REPLACED, 1, shr r11d, 7
	bad_check check_mask_wide, CHECK, REPLACED, 2, and r11d, NX_TLB_MASK * 2
	bad_check check_mask_low, CHECK, REPLACED, 2, and r11d, NX_TLB_MASK + 1
	bad_check check_mask_or, CHECK, REPLACED, 2, or r11d, NX_TLB_MASK
	bad_check check_mask_other, CHECK, REPLACED, 2, and r10d, NX_TLB_MASK
	bad_check check_last_byte_negative, CHECK, REPLACED, 3, lea r10, [r14 - 1]
	bad_check check_last_byte_far, CHECK, REPLACED, 3, lea r10, [r14 + NX_CHECK_BYTES]
	bad_check check_last_byte_huge, CHECK, REPLACED, 3, lea r10, [r14 + 4096]
	bad_check check_last_byte_index, CHECK, REPLACED, 3, lea r10, [r14 + rax + 7]
	bad_check check_last_byte_other, CHECK, REPLACED, 3, lea r10, [rsi + 7]
	bad_check check_last_byte_short, CHECK, REPLACED, 3, lea r10d, [r14 + 7]
	bad_check check_page_mask, CHECK, REPLACED, 4, and r10, -8192
	bad_check check_page_short, CHECK, REPLACED, 4, and r10d, -4096
	bad_check check_compare_addend, CHECK, REPLACED, 6, cmp r10, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	bad_check check_compare_next_entry, CHECK, REPLACED, 6, cmp r10, [r15 + r11 + NX_CTX_TLB + NX_TLB_ENTRY_SIZE]
	bad_check check_compare_scaled, CHECK, REPLACED, 6, cmp r10, [r15 + r11 * 2 + NX_CTX_TLB]
	bad_check check_compare_short, CHECK, REPLACED, 6, cmp r10d, [r15 + r11 + NX_CTX_TLB]
	bad_check check_compare_other, CHECK, REPLACED, 6, cmp rax, [r15 + r11 + NX_CTX_TLB]
	bad_check check_compare_written, CHECK, REPLACED, 6, mov [r15 + r11 + NX_CTX_TLB], r10
	bad_check check_compare_index, CHECK, REPLACED, 6, cmp r10, [r15 + rcx + NX_CTX_TLB]
	bad_check check_branch_above, CHECK, REPLACED, 7, ja 2f
	bad_check check_branch_equal, CHECK, REPLACED, 7, je 2f
	bad_check check_branch_missing, CHECK, REPLACED, 7, nop
	bad_check check_addend_tag, CHECK, REPLACED, 5, add r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_READ]
	bad_check check_addend_next, CHECK, REPLACED, 5, add r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND + NX_TLB_ENTRY_SIZE]
	bad_check check_addend_sub, CHECK, REPLACED, 5, sub r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	bad_check check_addend_short, CHECK, REPLACED, 5, add r14d, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	bad_check check_addend_other, CHECK, REPLACED, 5, add rax, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	bad_check check_addend_loaded, CHECK, REPLACED, 5, mov r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	bad_check check_addend_missing, CHECK, REPLACED, 5, /* nothing */
	bad_check check_select_missing, CHECK, REPLACED, 8, nop
	bad_check check_select_equal, CHECK, REPLACED, 8, cmove r14, r15
	bad_check check_select_above, CHECK, REPLACED, 8, cmova r14, r15
	bad_check check_select_short, CHECK, REPLACED, 8, cmovne r14d, r15d
	bad_check check_select_other, CHECK, REPLACED, 8, cmovne r14, rax
	bad_check check_select_elsewhere, CHECK, REPLACED, 8, cmovne rax, r15
	bad_check check_select_always, CHECK, REPLACED, 8, mov r14, r15
	bad_check check_fenced, CHECK, REPLACED, 8, lfence
	bad_check check_interrupted_1, CHECK, PRECEDED, 1, nop
	bad_check check_interrupted_2, CHECK, PRECEDED, 2, nop
	bad_check check_interrupted_3, CHECK, PRECEDED, 3, nop
	bad_check check_interrupted_4, CHECK, PRECEDED, 4, nop
	bad_check check_interrupted_5, CHECK, PRECEDED, 5, nop
	bad_check check_interrupted_6, CHECK, PRECEDED, 6, nop
	bad_check check_interrupted_7, CHECK, PRECEDED, 7, nop
	bad_check check_interrupted_8, CHECK, PRECEDED, 8, nop
	check_entered 1
	check_entered 2
	check_entered 3
	check_entered 4
	check_entered 5
	check_entered 6
	check_entered 7
	check_entered 8

	/* Branches past a check, and its stub */


	program	back_branched_to
	test	eax, eax
9:	jz	1f
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	back_branched_to, BRANCH, 9b

	program	back_entry
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	back_entry, ENTRY, 1b, 1b

	program	stub_without_call
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
9:	jump	1b
	end	stub_without_call, CHECK, 9b

	program	stub_without_site
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
9:	thunk	call, MISS
	jump	1b
	end	stub_without_site, CHECK, 9b

	program	stub_without_linear
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
9:	mov	dword ptr [r15 + NX_CTX_SITE], READ8
	thunk	call, MISS
	jump	1b
	end	stub_without_linear, CHECK, 9b

	/* What is in r14 there is no address of the guest's. */
	program	stub_without_subtraction
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:
9:	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
	thunk	call, MISS
	jump	1b
	end	stub_without_subtraction, RESERVED_REGISTER, 9b

	program	stub_other_subtraction
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:
9:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_READ]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
	thunk	call, MISS
	jump	1b
	end	stub_other_subtraction, RESERVED_REGISTER, 9b

	program	stub_without_jump
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
	thunk	call, MISS
9:	nop
	jump	1b
	end	stub_without_jump, CHECK, 9b

	program	stub_conditional_jump
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
	thunk	call, MISS
9:	jz	1b
	exit	LEAVE
	end	stub_conditional_jump, CHECK, 9b

	program	stub_wrong_thunk
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
9:	thunk	call, HELPER
	jump	1b
	end	stub_wrong_thunk, CHECK, 9b

	program	stub_jumps_past_back
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	nop
3:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 3b
	end	stub_jumps_past_back, CHECK, 1b

	program	stub_jumps_elsewhere
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	mov	r14, rsi
3:	exit	LEAVE
2:	stub	READ8, 3b
	end	stub_jumps_elsewhere, CHECK, 1b

	/* Code of its own instead of a stub */

	.macro	bad_apart name, result, code:vararg
	program	\name
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
3:	exit	LEAVE
2:
9:	\code
	jump	3b
	end	\name, \result, 9b
	.endm

	bad_apart apart_pointer, MEMORY, mov rax, [r14]
	bad_apart apart_copied, RESERVED_REGISTER, mov rax, r14
	bad_apart apart_added_to, RESERVED_REGISTER, add r14, 8
	bad_apart apart_linear, RESERVED_REGISTER, mov [r15 + NX_CTX_LINEAR], r14
	bad_apart apart_addend, CHECK, mov r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]

	program	apart_backward
	jump	3f
2:	exit	LEAVE
3:	mov	r14, rsi
	check	8, NX_TLB_READ, 2b
1:	mov	rax, [r14]
	exit	LEAVE
	end	apart_backward, CHECK, 1b

	program	apart_to_back
	mov	r14, rsi
	check	8, NX_TLB_READ, 1f
1:	mov	rax, [r14]
	exit	LEAVE
	end	apart_to_back, CHECK, 1b

	program	apart_fallen_into
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
2:
9:	mov	rcx, [r14]
	exit	LEAVE
	end	apart_fallen_into, MEMORY, 9b

	program	apart_inside
	mov	r14, rsi
7:	check	8, NX_TLB_READ, 2f + 1
1:	mov	rax, [r14]
2:	mov	ecx, 0xc3c3c3c3
	exit	LEAVE
	end	apart_inside, BRANCH

	program	apart_at_thunk
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
2:	thunk	jmp, EXIT
	end	apart_at_thunk, BRANCH

	program	apart_in_padding
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	int3
	end	apart_in_padding, BRANCH

	/* A turn, and no end */
	program	apart_endless
1:	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
	mov	rax, [r14]
	exit	LEAVE
2:	inc	rsi
	jump	1b
	end	apart_endless, ENDLESS

	program	stub_wrong_place
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f + 8
1:	mov	rax, [r14]
	exit	LEAVE
2:
9:	stub	READ8, 1b
	end	stub_wrong_place, CHECK, 9b

	program	stub_fallen_into
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
2:
9:	stub	READ8, 1b
	end	stub_fallen_into, RESERVED_REGISTER, 9b

	program	stub_branched_to
	mov	r14, rsi
	test	eax, eax
9:	jz	2f
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	stub_branched_to, BRANCH, 9b

	program	stub_call_branched_to
	mov	r14, rsi
9:	jz	3f
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
3:	thunk	call, MISS
	jump	1b
	end	stub_call_branched_to, BRANCH, 9b

	program	stub_jump_branched_to
	mov	r14, rsi
9:	jz	3f
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
	thunk	call, MISS
3:	jump	1b
	end	stub_jump_branched_to, BRANCH, 9b

	program	stub_entry
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	stub_entry, ENTRY, 2b, 2b

	program	stubs_crossed
	mov	r14, rsi
	check	4, NX_TLB_READ, 2f
1:	mov	eax, [r14]
	mov	r14, rdi
	check	8, NX_TLB_READ, 4f
3:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 3b
4:	stub	READ8, 1b
	end	stubs_crossed, CHECK, 1b

	program	stub_shared
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	mov	r14, rdi
	check	8, NX_TLB_READ, 2f
3:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	stub_shared, CHECK, 3b

	program	stub_of_no_check
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
3:	nop
	exit	LEAVE
2:	stub	READ8, 1b
9:	stub	READ8, 3b
	end	stub_of_no_check, CHECK, 9b

	program	stub_twice
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
9:	stub	READ8, 1b
	end	stub_twice, CHECK, 9b

	program	stub_to_the_end
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
	thunk	call, MISS
9:	jump	3f
3:
	end	stub_to_the_end, BRANCH, 9b

	/* Sites */


	program	site_access_short
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
9:	mov	dword ptr [r15 + NX_CTX_SITE], READ4
	thunk	call, MISS
	jump	1b
	end	site_access_short, SITE, 1b

	program	site_access_is_io
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
9:	mov	dword ptr [r15 + NX_CTX_SITE], IO
	thunk	call, MISS
	jump	1b
	end	site_access_is_io, SITE, 9b

	program	site_access_is_helper
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
9:	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
	thunk	call, MISS
	jump	1b
	end	site_access_is_helper, SITE, 9b

	program	site_access_is_leave
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
9:	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
	thunk	call, MISS
	jump	1b
	end	site_access_is_leave, SITE, 9b

	program	site_access_none
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
9:	mov	dword ptr [r15 + NX_CTX_SITE], SITES
	thunk	call, MISS
	jump	1b
	end	site_access_none, SITE, 9b

	program	site_access_negative
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
9:	mov	dword ptr [r15 + NX_CTX_SITE], -1
	thunk	call, MISS
	jump	1b
	end	site_access_negative, SITE, 9b

	program	site_access_reads_only
	mov	r14, rsi
	check	8, NX_TLB_WRITE, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	stub	READ8, 1b
	end	site_access_reads_only, SITE, 1b

	program	site_exit_none
9:	exit	SITES
	end	site_exit_none, SITE, 9b

	program	site_exit_negative
9:	exit	-1
	end	site_exit_negative, SITE, 9b

	program	site_exit_missing
	nop
9:	thunk	jmp, EXIT
	end	site_exit_missing, SITE, 9b

	program	site_exit_too_early
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
9:	nop
	thunk	jmp, EXIT
	end	site_exit_too_early, SITE, 9b

	program	site_exit_branched_past
9:	jz	1f
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
1:	thunk	jmp, EXIT
	end	site_exit_branched_past, BRANCH, 9b

	program	site_exit_entered_past
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
1:	thunk	jmp, EXIT
	end	site_exit_entered_past, ENTRY, 1b, 1b

	program	site_helper_is_io
	mov	dword ptr [r15 + NX_CTX_SITE], IO
9:	thunk	call, HELPER
	exit	LEAVE
	end	site_helper_is_io, SITE, 9b

	program	site_helper_is_read8
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
9:	thunk	call, HELPER
	exit	LEAVE
	end	site_helper_is_read8, SITE, 9b

	program	site_helper_is_leave
	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
9:	thunk	call, HELPER
	exit	LEAVE
	end	site_helper_is_leave, SITE, 9b

	program	site_helper_missing
9:	thunk	call, HELPER
	exit	LEAVE
	end	site_helper_missing, SITE, 9b

	program	site_helper_branched_past
9:	jz	1f
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
1:	thunk	call, HELPER
	exit	LEAVE
	end	site_helper_branched_past, BRANCH, 9b

	/* Cycles, and the count of their turns */

	bad	count_written, MEMORY, mov dword ptr [r15 + NX_CTX_TURNS], 1000
	bad	count_idle_written, MEMORY, mov [r15 + NX_CTX_IDLE_TURNS], rax
	bad	count_upwards, MEMORY, add dword ptr [r15 + NX_CTX_TURNS], 1
	bad	count_by_dec, MEMORY, dec dword ptr [r15 + NX_CTX_TURNS]
	bad	count_by_register, MEMORY, sub [r15 + NX_CTX_TURNS], eax
	bad	count_none, MEMORY, sub dword ptr [r15 + NX_CTX_TURNS], 0
	bad	count_minus, MEMORY, sub dword ptr [r15 + NX_CTX_TURNS], -1
	bad	count_two, MEMORY, sub dword ptr [r15 + NX_CTX_TURNS], 2
	bad	count_byte, MEMORY, sub byte ptr [r15 + NX_CTX_TURNS], 1
	bad	count_wide, MEMORY, sub qword ptr [r15 + NX_CTX_TURNS], 1
	bad	count_upper_half, MEMORY, sub dword ptr [r15 + NX_CTX_TURNS + 4], 1
	bad	count_locked, MEMORY, lock sub dword ptr [r15 + NX_CTX_TURNS], 1
	bad	count_behind, MEMORY, sub dword ptr [r15 + NX_CTX_IDLE_TURNS + 8], 1
	bad	count_exchanged, MEMORY, xchg [r15 + NX_CTX_IDLE_TURNS], eax

	.macro	count_then name, result, insn:vararg
	program	\name
	sub	dword ptr [r15 + NX_CTX_TURNS], 1
9:	\insn
2:	exit	LEAVE
	end	\name, \result, 9b
	.endm

	count_then count_not_looked_at, COUNT, nop
	count_then count_jz, COUNT, jz 2f
	count_then count_jbe, COUNT, jbe 2f
	count_then count_jnb, COUNT, jnb 2f
	count_then count_jmp, COUNT, jump 2f
	count_then count_again, COUNT, sub dword ptr [r15 + NX_CTX_TURNS], 1
	count_then count_to_nowhere, BRANCH, .byte 0x0f, 0x82, 0, 0, 0, 0x70

	program	count_leaves_later
	sub	dword ptr [r15 + NX_CTX_TURNS], 1
9:	jb	1f
	exit	IO
1:	nop
	exit	LEAVE
	end	count_leaves_later, COUNT, 9b

	program	count_leaves_to_helper
	sub	dword ptr [r15 + NX_CTX_TURNS], 1
9:	jb	1f
	exit	IO
1:	helper	HELPER
	exit	LEAVE
	end	count_leaves_to_helper, COUNT, 9b

	/* With no turns left it would have four thousand million again. */
	program	count_leaves_for_a_cycle
1:	sub	dword ptr [r15 + NX_CTX_TURNS], 1
9:	jb	2f
	exit	IO
2:	sub	dword ptr [r15 + NX_CTX_TURNS], 1
	jb	3f
	jump	1b
3:	exit	LEAVE
	end	count_leaves_for_a_cycle, COUNT, 9b

	program	count_branched_past
9:	jz	1f
	sub	dword ptr [r15 + NX_CTX_TURNS], 1
1:	jb	2f
	exit	IO
2:	exit	LEAVE
	end	count_branched_past, BRANCH, 9b

	program	count_entered_past
	sub	dword ptr [r15 + NX_CTX_TURNS], 1
1:	jb	2f
	exit	IO
2:	exit	LEAVE
	end	count_entered_past, ENTRY, 1b, 1b

	program	endless_jump
9:	jump	9b
	end	endless_jump, ENDLESS, 9b

	program	endless_loop
	mov	ecx, 5
9:	loop	9b
	exit	LEAVE
	end	endless_loop, ENDLESS, 9b

	program	endless_conditional
1:	dec	ecx
9:	jnz	1b
	exit	LEAVE
	end	endless_conditional, ENDLESS, 9b

	program	endless_from_afar
	jump	3f
1:	inc	eax
	jz	2f
	exit	LEAVE
2:	dec	ecx
3:	dec	edx
9:	jnz	1b
	exit	LEAVE
	end	endless_from_afar, ENDLESS

	program	endless_through_stub
	mov	r14, rsi
3:	mov	r14, rdi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	test	eax, eax
	jz	3b
	exit	LEAVE
2:	stub	READ8, 1b
	end	endless_through_stub, ENDLESS

	program	endless_through_helper
1:	helper	HELPER
	test	eax, eax
9:	jz	1b
	exit	LEAVE
	end	endless_through_helper, ENDLESS, 9b

	program	endless_around_the_count
1:	jz	2f
	count	NX_CTX_TURNS, 3f
2:	dec	eax
	jump	1b
3:	exit	LEAVE
	end	endless_around_the_count, ENDLESS

	program	endless_inside
1:	count	NX_CTX_TURNS, 3f
2:	dec	eax
9:	jnz	2b
	dec	ecx
	jnz	1b
3:	exit	LEAVE
	end	endless_inside, ENDLESS, 9b

	program	endless_outside
	count	NX_CTX_TURNS, 3f
2:	dec	eax
9:	jnz	2b
3:	exit	LEAVE
	end	endless_outside, ENDLESS, 9b

	/* What nothing leads to is judged all the same. */
	program	endless_from_nowhere
	exit	LEAVE
1:	nop
9:	jump	1b
	end	endless_from_nowhere, ENDLESS, 9b


	/* Branches, calls, jumps, entries and the end */


	program	branch_into_instruction
9:	jz	1f + 1
1:	mov	eax, 0x90909090
	exit	LEAVE
	end	branch_into_instruction, BRANCH, 9b

	program	branch_back_into_instruction
1:	mov	eax, 0x90909090
9:	jz	1b + 2
	exit	LEAVE
	end	branch_back_into_instruction, BRANCH, 9b

	program	branch_before
1:	nop
9:	jump	(1b - 1)
	end	branch_before, BRANCH, 9b

	program	branch_to_the_end
9:	jz	1f
	exit	LEAVE
1:
	end	branch_to_the_end, BRANCH, 9b

	program	branch_far_away
9:	.byte	0xe9, 0, 0, 0, 0x70
	exit	LEAVE
	end	branch_far_away, BRANCH, 9b

	program	branch_far_before
9:	.byte	0x0f, 0x84, 0, 0, 0, 0x80
	exit	LEAVE
	end	branch_far_before, BRANCH, 9b

	program	branch_to_padding
9:	jz	1f
	exit	LEAVE
1:	int3
	end	branch_to_padding, BRANCH, 9b

	program	loop_away
9:	.byte	0xe2, 0x80
	exit	LEAVE
	end	loop_away, BRANCH, 9b

	program	call_direct
9:	call	1f
1:	exit	LEAVE
	end	call_direct, CALL, 9b

	program	call_register
9:	call	rax
1:	exit	LEAVE
	end	call_register, CALL, 9b

	program	call_guest_memory
9:	call	qword ptr [r14]
1:	exit	LEAVE
	end	call_guest_memory, CALL, 9b

	program	call_slot
9:	call	qword ptr [r15 + 8]
1:	exit	LEAVE
	end	call_slot, CALL, 9b

	program	call_host_rsp
9:	call	qword ptr [r15 + NX_CTX_HOST_RSP]
1:	exit	LEAVE
	end	call_host_rsp, CALL, 9b

	program	call_exit
9:	thunk	call, EXIT
1:	exit	LEAVE
	end	call_exit, CALL, 9b

	program	jump_register
9:	jmp	rcx
1:	exit	LEAVE
	end	jump_register, CALL, 9b

	program	jump_slot
9:	jmp	qword ptr [r15]
1:	exit	LEAVE
	end	jump_slot, CALL, 9b

	.if	BRANCHES == INDIRECT
	program	jump_miss
9:	thunk	jmp, MISS
1:	exit	LEAVE
	end	jump_miss, CALL, 9b
	.endif

	.if	BRANCHES == INDIRECT
	program	jump_helper
9:	thunk	jmp, HELPER
1:	exit	LEAVE
	end	jump_helper, CALL, 9b
	.endif

	program	jump_host_rsp
9:	jmp	qword ptr [r15 + NX_CTX_HOST_RSP]
1:	exit	LEAVE
	end	jump_host_rsp, CALL, 9b

	program	jump_far
9:	.byte	0x49, 0xff, 0x6f, 0x08
1:	exit	LEAVE
	end	jump_far, CALL, 9b

	program	call_far
9:	.byte	0x41, 0xff, 0x1f
1:	exit	LEAVE
	end	call_far, CALL, 9b

	program	jump_rip
9:	jmp	qword ptr [rip]
1:	exit	LEAVE
	end	jump_rip, CALL, 9b

	program	with_site_call_exit
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	thunk	call, EXIT
	exit	LEAVE
	end	with_site_call_exit, CALL, 9b

	.if	BRANCHES == INDIRECT
	program	with_site_jump_miss
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	thunk	jmp, MISS
	exit	LEAVE
	end	with_site_jump_miss, CALL, 9b
	.endif

	.if	BRANCHES == INDIRECT
	program	with_site_jump_helper
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	thunk	jmp, HELPER
	exit	LEAVE
	end	with_site_jump_helper, CALL, 9b
	.endif

	program	with_site_jump_unaligned
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	jmp	qword ptr [r15 + NX_CTX_THUNK_EXIT + 1]
	exit	LEAVE
	end	with_site_jump_unaligned, CALL, 9b

	program	with_site_jump_indexed
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	jmp	qword ptr [r15 + rax + NX_CTX_THUNK_EXIT]
	exit	LEAVE
	end	with_site_jump_indexed, CALL, 9b

	program	with_site_call_host_rsp
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	call	qword ptr [r15 + NX_CTX_HOST_RSP]
	exit	LEAVE
	end	with_site_call_host_rsp, CALL, 9b

	program	with_site_jump_far
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	.byte	0x49, 0xff, 0xaf; .long NX_CTX_THUNK_EXIT
	exit	LEAVE
	end	with_site_jump_far, CALL, 9b

	program	with_site_call_register
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	call	rdx
	exit	LEAVE
	end	with_site_call_register, CALL, 9b

	program	with_site_call_miss
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
9:	thunk	call, MISS
	exit	LEAVE
	end	with_site_call_miss, CHECK, 9b

	program	stray_call_miss
9:	thunk	call, MISS
	exit	LEAVE
	end	stray_call_miss, CHECK, 9b

	program	entry_in_instruction
	mov	eax, 0x90909090
1:	exit	LEAVE
	end	entry_in_instruction, ENTRY, (1b-2), (1b-2)

	program	entry_at_the_end
	exit	LEAVE
1:
	end	entry_at_the_end, ENTRY, 1b, 1b

	program	entry_in_padding
	exit	LEAVE
1:	int3
	end	entry_in_padding, ENTRY, 1b, 1b

	program	empty
	end	empty, FALLS_OFF

	program	falls_off
9:	nop
	end	falls_off, FALLS_OFF, 9b

	program	falls_off_after_branch
1:	nop
9:	jz	1b
	end	falls_off_after_branch, FALLS_OFF, 9b

	program	falls_off_after_site
9:	mov	dword ptr [r15 + NX_CTX_SITE], LEAVE
	end	falls_off_after_site, FALLS_OFF, 9b

	program	falls_off_after_helper
	mov	dword ptr [r15 + NX_CTX_SITE], HELPER
9:	thunk	call, HELPER
	end	falls_off_after_helper, FALLS_OFF, 9b

	program	falls_off_in_stub
	mov	r14, rsi
	check	8, NX_TLB_READ, 2f
1:	mov	rax, [r14]
	exit	LEAVE
2:	sub	r14, [r15 + r11 + NX_CTX_TLB + NX_TLB_ADDEND]
	mov	[r15 + NX_CTX_LINEAR], r14
	mov	dword ptr [r15 + NX_CTX_SITE], READ8
9:	thunk	call, MISS
	end	falls_off_in_stub, FALLS_OFF, 9b

	program	falls_off_at_back
	jump	3f
2:	stub	READ8, 1f
3:	mov	r14, rsi
	check	8, NX_TLB_READ, 2b
1:
	end	falls_off_at_back, BRANCH

	.section .note.GNU-stack, "", @progbits
