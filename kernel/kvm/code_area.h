/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * code_area.h - the size of the module's code cache, in chunks: a vCPU has one or several. Of each
 * chunk so much is code; the rest is what the code's beginning in a slice is moved by, at random.
 */
#ifndef NXK_CODE_AREA_H
#define NXK_CODE_AREA_H

#define NXK_CODE_CHUNKS 128
#define NXK_CODE_CHUNK 0x11000
#define NXK_CODE_IN_CHUNK 0x10000

#endif
