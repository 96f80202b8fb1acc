/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* code_area.S - the part of the module's text that translations are written into (module.c). */
#include <linux/objtool.h>

#include "code_area.h"

	.section .text.selftest_code, "ax", @progbits
	.balign	4096
	.globl	selftest_code_area
	.type	selftest_code_area, @object
selftest_code_area:
	ANNOTATE_NOENDBR
	/* int3 */
	.fill	CODE_AREA_SLOTS * CODE_AREA_SIZE, 1, 0xcc
	.size	selftest_code_area, . - selftest_code_area

	.section .note.GNU-stack, "", @progbits
