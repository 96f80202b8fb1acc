/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * code_area.S - the part of the module's text that translations are written into. The loader maps it
 * read-only and executable, like all text; code.c maps the same pages writable elsewhere.
 */
#include <linux/objtool.h>

#include "code_area.h"

	.section .text.noexit_code, "ax", @progbits
	.balign	4096
	.globl	nxk_code_area
	.type	nxk_code_area, @object
nxk_code_area:
	ANNOTATE_NOENDBR
	/* int3 */
	.fill	NXK_CODE_CHUNKS * NXK_CODE_CHUNK, 1, 0xcc
	.size	nxk_code_area, . - nxk_code_area

	.section .note.GNU-stack, "", @progbits
