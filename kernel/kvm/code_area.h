/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* code_area.h - the module's room for translations: how many vCPUs, and how much for each. */
#ifndef NXK_CODE_AREA_H
#define NXK_CODE_AREA_H

#define NXK_CODE_SLICES 32
#define NXK_CODE_SLICE 0x40000

#endif
