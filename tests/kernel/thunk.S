/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * thunk.S - included in front of hand-written code: with return thunks in the kernel, every return
 * goes through one, ours as well.
 */
#include <linux/kconfig.h>

/* Its name since Linux 6.9 is the second. */
#if defined(CONFIG_RETHUNK) || defined(CONFIG_MITIGATION_RETHUNK)
	.macro ret
	jmp	__x86_return_thunk
	.endm
#endif
