/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * thunk.S - is included in front of hand-written assembly, for the kernel's rules for code. Each return and each
 * indirect jump has to go through a thunk of the kernel's. objtool lists them for the loader, as it lists those of
 * C code.
 */
#include <linux/kconfig.h>
#include <linux/linkage.h>
#include <linux/objtool.h>

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
