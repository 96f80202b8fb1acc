/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * segments.c - the segments that sequences have, other than flat ones: as descriptors of a local
 * table, since that is what a process may have for itself (native.c).
 */
#include "diff.h"

#define CONTENTS_CODE 2u /* bits 2 and 3 of a descriptor's type */
#define CONTENTS_DATA 0u
#define CONTENTS_DOWN 1u

static const struct {
	int32_t base;          /* from LOW */
	uint32_t limit;        /* in pages, if so said */
	bool db, pages, fixed; /* fixed: data that cannot be written, code that cannot be read */
	uint8_t contents;
} segment[] = {
    {0, 0x1fff, false, false, false, CONTENTS_CODE},
    {0, 0x1fff, true, false, false, CONTENTS_CODE},
    {-0x100, 0x20ff, false, false, false, CONTENTS_CODE},
    {-0x12340, 0x1433f, true, false, false, CONTENTS_CODE},
    {-0x7010, 0xffff, false, false, false, CONTENTS_CODE},
    {-0x7ff8, 0xffff, true, false, true, CONTENTS_CODE},
    {0, 0xffff, false, false, false, CONTENTS_DATA},
    {0x2f80, 0x60ff, false, false, false, CONTENTS_DATA},
    {0x2ff0, 0x1fff, true, false, false, CONTENTS_DATA},
    {0, 0xffff, false, false, true, CONTENTS_DATA},
    {-0x1000, 0xffff, true, false, false, CONTENTS_DATA},
    {0, 0x2fff, false, false, false, CONTENTS_DOWN},
    {-0x123457, 0xfffff, true, true, false, CONTENTS_DATA},
    {STACK_AT, 0x1fff, false, false, false, CONTENTS_DATA},
    {STACK_AT - 0x7653, 0x9652, true, false, false, CONTENTS_DATA},
    {0x3004, 0xfffb, false, false, false, CONTENTS_DATA},
    [WRAPPING_STACK] = {STACK_AT - 0xf000, 0xffff, false, false, false, CONTENTS_DATA},
};

unsigned table_segments(void)
{
	return sizeof(segment) / sizeof(segment[0]);
}

struct nx_segment table_segment(unsigned number)
{
	struct nx_segment s = {.base = LOW + (uint32_t)segment[number].base,
			       .limit = segment[number].limit,
			       .selector = (uint16_t)(number << 3 | 7),
			       .s = true,
			       .present = true,
			       .db = segment[number].db};

	if (segment[number].pages)
		s.limit = s.limit << 12 | 0xfff;
	/* Accessed already, as the kernel has them; bit 1 is the right to write data, read code. */
	s.type = (uint8_t)(segment[number].contents << 2 | (segment[number].fixed ? 0 : 2) | 1);
	return s;
}
