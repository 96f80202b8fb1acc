/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* code_area.h - the code caches of the module: their number and size. */
#ifndef NX_SELFTEST_CODE_AREA_H
#define NX_SELFTEST_CODE_AREA_H

#define CODE_AREA_SLOTS 2
#define CODE_AREA_SIZE 0x100000

#endif
