/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* code_area.h - the code cache of the module: the number of slices, one per vCPU, and their size.
 */
#ifndef NXK_CODE_AREA_H
#define NXK_CODE_AREA_H

#define NXK_CODE_SLICES 32
#define NXK_CODE_SLICE 0x40000

#endif
