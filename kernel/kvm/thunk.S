/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * thunk.S - is included in front of hand-written assembly. In a kernel with return thunks each
 * return has to go through one.
 */
#include <linux/kconfig.h>

/* Linux 6.9 has renamed the option. */
#if defined(CONFIG_RETHUNK) || defined(CONFIG_MITIGATION_RETHUNK)
	.macro ret
.Lreturn_\@:
	jmp	__x86_return_thunk
	.pushsection .return_sites, "a"
	.long	.Lreturn_\@ - .
	.popsection
	.endm
#endif

/* And each indirect jump: engine/run/enter.S has one. */
#if defined(CONFIG_RETPOLINE) || defined(CONFIG_MITIGATION_RETPOLINE)
#define NX_JUMP_R14 jump_r14
	.macro jump_r14
.Ljump_\@:
	jmp	__x86_indirect_thunk_r14
	.pushsection .retpoline_sites, "a"
	.long	.Ljump_\@ - .
	.popsection
	.endm
#endif
