/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* slice_test.c - where in the module's text a vCPU's translations are: at random, and there is room
 * for as many vCPUs as before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "slice.h"

#define WORD (8 * sizeof(long))
#define VCPUS 36 /* docs/kernel.md */
#define TURNS 2000u

static uint64_t seed = 1;

/* xorshift64*: the same numbers in every run. */
static unsigned int next_bits(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (unsigned int)((seed * 0x2545f4914f6cdd1dull) >> 32);
}

struct area {
	unsigned long taken[NXK_CODE_CHUNKS / WORD];
	struct {
		unsigned int first, count;
	} slice[NXK_CODE_CHUNKS];
	unsigned int slices;
};

static void mark(struct area *area, unsigned int first, unsigned int count, bool taken)
{
	for (unsigned int i = first; i < first + count; i++) {
		unsigned long bit = 1ul << i % WORD;

		/* No slice overlaps another. */
		assert_int_equal(!(area->taken[i / WORD] & bit), taken);
		area->taken[i / WORD] ^= bit;
	}
}

static bool take(struct area *area, unsigned int bits)
{
	unsigned int first, count = nxk_slice_choose(area->taken, bits, &first);

	if (!count)
		return false;
	assert_true(count <= NXK_SLICE_MOST && first % count == 0 &&
		    first + count <= NXK_CODE_CHUNKS);
	mark(area, first, count, true);
	area->slice[area->slices].first = first;
	area->slice[area->slices++].count = count;
	return true;
}

static void put_back(struct area *area, unsigned int which)
{
	mark(area, area->slice[which].first, area->slice[which].count, false);
	area->slice[which] = area->slice[--area->slices];
}

static void there_is_room_wherever_slices_are(void **state)
{
	(void)state;
	static const unsigned int bits[] = {0, UINT32_MAX};

	for (unsigned int turn = 0; turn < TURNS; turn++) {
		struct area area = {.slices = 0};

		while (take(&area, turn < 2 ? bits[turn] : next_bits()))
			;
		assert_int_equal(area.slices, VCPUS);
		assert_int_equal(area.slice[0].count, 16);
		for (unsigned int i = 1; i < 8; i++)
			assert_int_equal(area.slice[i].count, 8);
		assert_int_equal(nxk_slice_taken(area.taken, 0, NXK_CODE_CHUNKS), NXK_CODE_CHUNKS);
	}
}

static void what_is_put_back_is_taken_again(void **state)
{
	(void)state;
	struct area area = {.slices = 0};

	for (unsigned int turn = 0; turn < 50 * TURNS; turn++) {
		if (next_bits() % 2 || !area.slices) {
			/* No chunk is lost: there is a slice as long as one is free. */
			bool full =
			    nxk_slice_taken(area.taken, 0, NXK_CODE_CHUNKS) == NXK_CODE_CHUNKS;

			assert_int_equal(take(&area, next_bits()), !full);
		} else {
			put_back(&area, nxk_slice_below(next_bits(), area.slices));
		}
	}
}

/* Count where the slice is that comes after before others; return the number of places. */
static unsigned int places_after(unsigned int before, unsigned int *least)
{
	unsigned int times[NXK_CODE_CHUNKS] = {0}, places = 0;

	*least = TURNS;
	for (unsigned int turn = 0; turn < TURNS; turn++) {
		struct area area = {.slices = 0};

		for (unsigned int i = 0; i <= before; i++)
			assert_true(take(&area, next_bits()));
		times[area.slice[before].first]++;
	}
	for (unsigned int i = 0; i < NXK_CODE_CHUNKS; i++) {
		places += times[i] != 0;
		if (times[i] && times[i] < *least)
			*least = times[i];
	}
	return places;
}

static void every_place_is_as_good_as_another(void **state)
{
	(void)state;
	unsigned int least;

	assert_int_equal(places_after(0, &least), NXK_CODE_CHUNKS / 16);
	assert_true(least > TURNS / 8 / 2);
	assert_int_equal(places_after(7, &least), NXK_CODE_CHUNKS / 8);
	assert_true(least > TURNS / 16 / 2);
}

static void numbers_are_below_their_limit(void **state)
{
	(void)state;
	assert_int_equal(nxk_slice_below(0, 7), 0);
	assert_int_equal(nxk_slice_below(UINT32_MAX, 7), 6);
	assert_int_equal(nxk_slice_below(UINT32_MAX, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(there_is_room_wherever_slices_are),
	    cmocka_unit_test(what_is_put_back_is_taken_again),
	    cmocka_unit_test(every_place_is_as_good_as_another),
	    cmocka_unit_test(numbers_are_below_their_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
