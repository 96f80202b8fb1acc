/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * thunk.S - is included in front of hand-written assembly, for the kernel's rules for code. Each return and each
 * indirect jump has to go through a thunk of the kernel's. objtool lists them for the loader, as it lists those of
 * C code.
 */
#include <linux/kconfig.h>
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/alternative.h>
#include <asm/cpufeatures.h>
#include <asm/nospec-branch.h>

/* Linux 6.9 has renamed the option. */
#if defined(CONFIG_RETHUNK) || defined(CONFIG_MITIGATION_RETHUNK)
	.macro ret
	jmp	__x86_return_thunk
	.endm
#endif

/* engine/run/enter.S has the only indirect jump. */
#if defined(CONFIG_RETPOLINE) || defined(CONFIG_MITIGATION_RETPOLINE)
#define NX_JUMP_R14 jmp __x86_indirect_thunk_r14
#endif

/*
 * Control comes out of a translation: the processor must not predict what the kernel executes next by branches that a
 * guest chose, so this does what KVM does when the hardware leaves a guest. KVM's own was before these branches,
 * and the kernel's barrier between user mode and kernel mode is none here, where both sides run in kernel mode. Each
 * part is a no-op on a processor that does not need it. They change rax, rcx, rdx and the flags, and need a stack.
 */
	.macro forget_branches
	.att_syntax prefix
#ifdef UNTRAIN_RET_VM
	UNTRAIN_RET_VM
#else
	UNTRAIN_RET
#ifdef X86_FEATURE_IBPB_ON_VMEXIT
	ALTERNATIVE "", "call entry_ibpb", X86_FEATURE_IBPB_ON_VMEXIT
#endif
#endif
	/* Kernels have named the feature of a loop at exits of guests twice, or have one for all entries. */
#if defined(X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT)
	ALTERNATIVE "", "call clear_bhb_loop", X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT
#elif defined(X86_FEATURE_CLEAR_BHB_VMEXIT)
	ALTERNATIVE "", "call clear_bhb_loop", X86_FEATURE_CLEAR_BHB_VMEXIT
#elif defined(X86_FEATURE_CLEAR_BHB_LOOP)
	ALTERNATIVE "", "call clear_bhb_loop", X86_FEATURE_CLEAR_BHB_LOOP
#endif
	/*
	 * IBHF, for processors that keep the histories of the modes apart by BHI_DIS_S, so that the kernel has no loop
	 * for them: no earlier branch of this mode counts. Others take it for a nop.
	 */
	.byte	0xf3, 0x48, 0x0f, 0x1e, 0xf8
	.intel_syntax noprefix
	.endm
#define NX_FORGET_BRANCHES forget_branches

/* A kernel that counts calls wants room in front of each function. */
#ifdef SYM_F_ALIGN
#define FUNCTION_ALIGN SYM_F_ALIGN
#else
#define FUNCTION_ALIGN .balign 16
#endif

/*
 * nx_thunk_exit returns with another stack pointer than it was entered with, which objtool and ORC cannot
 * follow; an interrupt's stack trace ends at a translation anyway. The functions' addresses are taken, and all
 * branches to them are direct.
 */
#define NX_FUNCTION(name)                                             \
	STACK_FRAME_NON_STANDARD name; FUNCTION_ALIGN; .globl name; \
	.hidden name; .type name, @function; name: ANNOTATE_NOENDBR
