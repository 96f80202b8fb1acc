/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * thunk.S - is included in front of hand-written assembly. In a kernel with return thunks each
 * return has to go through one.
 */
#include <linux/kconfig.h>

/* Linux 6.9 has renamed the option. */
#if defined(CONFIG_RETHUNK) || defined(CONFIG_MITIGATION_RETHUNK)
	.macro ret
	jmp	__x86_return_thunk
	.endm
#endif
