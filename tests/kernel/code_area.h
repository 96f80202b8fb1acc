/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* code_area.h - the module's room for code caches: how many, and of what size. */
#ifndef NX_SELFTEST_CODE_AREA_H
#define NX_SELFTEST_CODE_AREA_H

#define CODE_AREA_SLOTS 2
#define CODE_AREA_SIZE 0x100000

#endif
