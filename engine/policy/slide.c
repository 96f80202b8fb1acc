/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * slide.c - recognize programs at other addresses; see policy.h.
 *
 * A guest that lays out programs at random moves them by whole pages, so an exit's address has the
 * same lower 12 bits each time. That tells two programs apart seldom, and need not: a translation
 * runs only where the guest's code is compared and found to be its own. The exits of a program that
 * lie near one of which the slide is known have that slide.
 */
#include "engine.h"

/* Programs that are loaded at random lie here; others do not move. */
#define FIRST (1ull << 32)
#define END (1ull << 47)
/* Of the file that a program or a library is. */
#define NEAR (1ull << 20)
/* Other code at that address so often, and the address says nothing. */
#define MAX_CHANGED 4u

static bool may_slide(uint64_t rip)
{
	return rip >= FIRST && rip < END;
}

static bool is_near(const struct nx_slides *slides, uint64_t rip)
{
	return rip - slides->last_rip + NEAR < 2 * NEAR;
}

static unsigned row_of(uint64_t rip)
{
	return (unsigned)(rip & ~NX_PAGE_MASK) % NX_SLIDE_ROWS;
}

static bool has(const struct nx_slide *row, uint64_t rip)
{
	return row->rip && !((row->rip ^ rip) & ~NX_PAGE_MASK);
}

uint64_t nx_slide_of(const struct nx_slides *slides, uint64_t rip)
{
	const struct nx_slide *row = &slides->row[row_of(rip)];

	if (slides->forced)
		return slides->forced;
	if (!may_slide(rip))
		return 0;
	if (is_near(slides, rip))
		return slides->last;
	return has(row, rip) && row->changed < MAX_CHANGED ? rip - row->rip : 0;
}

uint64_t nx_slide_note(struct nx_slides *slides, uint64_t rip)
{
	struct nx_slide *row = &slides->row[row_of(rip)];
	uint64_t slide = nx_slide_of(slides, rip);

	if (slides->forced || !may_slide(rip))
		return slide;
	if (!has(row, rip))
		*row = (struct nx_slide){.rip = rip - slide};
	slides->last_rip = rip;
	slides->last = slide;
	return slide;
}

void nx_slide_changed(struct nx_slides *slides)
{
	struct nx_slide *row = &slides->row[row_of(slides->last_rip)];

	if (!slides->last)
		return;
	slides->last = 0;
	row->rip = slides->last_rip;
	if (row->changed < MAX_CHANGED)
		row->changed++;
}
