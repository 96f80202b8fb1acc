// SPDX-License-Identifier: GPL-2.0-only OR MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"

#define SECOND 1000000000ull
#define THRESHOLD (10 * SECOND)

static const uint8_t in_al_dx[] = {0xec};

/* Begun at a time that is no multiple of anything. */
#define START (1234567 * SECOND + 891)

static struct nx_tracker tracker;

static int fresh(void **state)
{
	(void)state;
	memset(&tracker, 0, sizeof(tracker));
	return 0;
}

static enum nx_track_verdict note(uint64_t pc, uint64_t now)
{
	return nx_tracker_note(&tracker, pc, in_al_dx, sizeof(in_al_dx), NX_TRACK_IO, now);
}

/* Where an exit is kept, found by noting it in an empty tracker. */
struct place {
	unsigned row;
	uint32_t tag;
};

static struct place place_of(uint64_t pc, const uint8_t *bytes, unsigned len)
{
	static struct nx_tracker empty;
	struct place place = {0, 0};
	unsigned found = 0;

	memset(&empty, 0, sizeof(empty));
	assert_int_equal(nx_tracker_note(&empty, pc, bytes, len, 0, START), NX_TRACK_COLD);
	for (unsigned row = 0; row < NX_TRACKER_ROWS; row++) {
		for (unsigned i = 0; i < NX_TRACKER_DEPTH; i++) {
			if (!empty.row[row][i].valid)
				continue;
			place = (struct place){row, empty.row[row][i].tag};
			found++;
		}
	}
	assert_int_equal(found, 1);
	return place;
}

/* pcs that share a row, with different tags: the raw material of eviction tests. */
#define MATES 24

static uint64_t mate[MATES];

static int find_mates(void **state)
{
	unsigned row = place_of(0x1000, in_al_dx, 1).row;
	unsigned found = 0;

	for (uint64_t pc = 0x1000; found < MATES; pc++)
		if (place_of(pc, in_al_dx, 1).row == row)
			mate[found++] = pc;
	return fresh(state);
}

static const struct nx_tracker_entry *mates_row(void)
{
	return tracker.row[place_of(mate[0], in_al_dx, 1).row];
}

static void third_exit_is_hot(void **state)
{
	(void)state;
	assert_int_equal(note(0x1234, START), NX_TRACK_COLD);
	assert_int_equal(note(0x1234, START + 1), NX_TRACK_COLD);
	assert_int_equal(note(0x1234, START + 2), NX_TRACK_HOT);
	/* Asked again, for instance after a cache flush, it is so at once, and stays so. */
	for (int i = 0; i < 20; i++)
		assert_int_equal(note(0x1234, START + 3 + i), NX_TRACK_HOT);
}

static void second_exit_is_hot_to_an_eager_engine(void **state)
{
	(void)state;
	tracker.eager = true;
	assert_int_equal(note(0x1234, START), NX_TRACK_COLD);
	for (int i = 0; i < 20; i++)
		assert_int_equal(note(0x1234, START + 1 + i), NX_TRACK_HOT);
	/* Not at places where nothing was found. */
	nx_tracker_barren(&tracker, 0x1234, in_al_dx, 1);
	assert_int_equal(note(0x1234, START + 30), NX_TRACK_COLD);
}

static void counts_are_per_instruction(void **state)
{
	static const uint8_t out_80[] = {0xe6, 0x80}, out_81[] = {0xe6, 0x81};

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(nx_tracker_note(&tracker, 0x10, out_80, 2, 0, START),
				 NX_TRACK_COLD);
		assert_int_equal(nx_tracker_note(&tracker, 0x10, out_81, 2, 0, START),
				 NX_TRACK_COLD);
		assert_int_equal(nx_tracker_note(&tracker, 0x11, out_80, 2, 0, START),
				 NX_TRACK_COLD);
		assert_int_equal(nx_tracker_note(&tracker, 0x10, NULL, 0, 0, START), NX_TRACK_COLD);
	}
	assert_int_equal(nx_tracker_note(&tracker, 0x10, out_80, 2, 0, START), NX_TRACK_HOT);
	assert_int_equal(nx_tracker_note(&tracker, 0x10, NULL, 0, 0, START), NX_TRACK_HOT);
}

static void properties_accumulate(void **state)
{
	const struct nx_tracker_entry *row;

	(void)state;
	nx_tracker_note(&tracker, mate[0], in_al_dx, 1, NX_TRACK_IO, START);
	row = mates_row();
	assert_int_equal(row[0].properties, NX_TRACK_IO);
	nx_tracker_note(&tracker, mate[0], in_al_dx, 1, NX_TRACK_MMIO, START);
	assert_int_equal(row[0].properties, NX_TRACK_IO | NX_TRACK_MMIO);
	/* A caller's stray bits do not pass for barren formations. */
	nx_tracker_note(&tracker, mate[0], in_al_dx, 1, 0xf0, START);
	assert_int_equal(row[0].properties, NX_TRACK_IO | NX_TRACK_MMIO);
}

static void translated_before_is_hot_at_once(void **state)
{
	(void)state;
	assert_false(nx_tracker_remember(&tracker, 0x42, in_al_dx, 1));
	assert_int_equal(note(0x42, START), NX_TRACK_COLD);
	assert_true(nx_tracker_remember(&tracker, 0x42, in_al_dx, 1));
	assert_int_equal(note(0x42, START), NX_TRACK_HOT);
	/* One that is counted, or passed over, is not new. */
	note(0x43, START);
	note(0x43, START);
	assert_false(nx_tracker_remember(&tracker, 0x43, in_al_dx, 1));
	assert_int_equal(note(0x43, START), NX_TRACK_HOT);
	nx_tracker_barren(&tracker, 0x43, in_al_dx, 1);
	assert_int_equal(note(0x43, START), NX_TRACK_COLD);
	assert_false(nx_tracker_remember(&tracker, 0x43, in_al_dx, 1));
}

static void rows_are_fifos(void **state)
{
	const struct nx_tracker_entry *row;
	uint64_t now = START;

	(void)state;
	/* One every threshold: nothing leaks. */
	for (int i = 0; i < NX_TRACKER_DEPTH; i++, now += THRESHOLD)
		assert_int_equal(note(mate[i], now), NX_TRACK_COLD);
	row = mates_row();
	for (int i = 0; i < NX_TRACKER_DEPTH; i++)
		assert_int_equal(row[i].tag,
				 place_of(mate[NX_TRACKER_DEPTH - 1 - i], in_al_dx, 1).tag);

	/* A hit does not move an entry: the oldest goes although it was used last. */
	assert_int_equal(note(mate[0], now), NX_TRACK_COLD);
	assert_int_equal(row[7].tag, place_of(mate[0], in_al_dx, 1).tag);
	assert_int_equal(note(mate[8], now), NX_TRACK_COLD);
	assert_int_equal(row[0].tag, place_of(mate[8], in_al_dx, 1).tag);
	assert_int_equal(row[7].tag, place_of(mate[1], in_al_dx, 1).tag);
	/* It starts again. */
	assert_int_equal(note(mate[0], now), NX_TRACK_COLD);
	assert_int_equal(row[0].count, 0);
	assert_int_equal(tracker.leaks, 0);
}

static void young_entry_falling_off_forces(void **state)
{
	(void)state;
	for (int i = 0; i < NX_TRACKER_DEPTH; i++)
		assert_int_equal(note(mate[i], START), NX_TRACK_COLD);
	/* The ninth pushes out the first, of the same second. */
	assert_int_equal(note(mate[8], START + 1), NX_TRACK_FORCE);
	assert_int_equal(tracker.leaks, 1);
	/* The forced one is hot from then on. */
	assert_int_equal(note(mate[8], START + 2), NX_TRACK_HOT);
	/* Pushing on leaks on. */
	assert_int_equal(note(mate[0], START + 3), NX_TRACK_FORCE);
	assert_int_equal(tracker.leaks, 2);
	/* Other rows are not concerned: pc 1 and the mates' row differ by construction. */
	for (uint64_t pc = 1; pc < 100; pc++)
		if (&tracker.row[place_of(pc, in_al_dx, 1).row][0] != mates_row())
			assert_int_equal(note(pc + 0x700000, START + 4) == NX_TRACK_FORCE &&
					     tracker.leaks == 2,
					 0);
}

static void threshold_is_ten_seconds(void **state)
{
	/* START begins an epoch in a fresh tracker, so seconds are exact. */
	static const struct {
		uint64_t first, later;
		enum nx_track_verdict verdict;
	} rows[] = {
	    {0, 10 * SECOND, NX_TRACK_FORCE},
	    {0, 11 * SECOND - 1, NX_TRACK_FORCE},
	    {0, 11 * SECOND, NX_TRACK_COLD},
	    /* Entries made at the end of an epoch: never taken for old before they are. */
	    {SECOND - 1, SECOND - 1 + 10 * SECOND, NX_TRACK_FORCE},
	    {SECOND - 1, SECOND - 1 + 10 * SECOND + 1, NX_TRACK_COLD},
	    {0, 15 * SECOND, NX_TRACK_COLD},
	    /* Epochs are kept modulo 16; idle for a full turn and more is not young again. */
	    {0, 16 * SECOND, NX_TRACK_COLD},
	    {0, 17 * SECOND, NX_TRACK_COLD},
	    {0, 32 * SECOND, NX_TRACK_COLD},
	    {0, 33 * SECOND, NX_TRACK_COLD},
	    {0, 1000000 * SECOND + 3, NX_TRACK_COLD},
	};

	for (unsigned n = 0; n < sizeof(rows) / sizeof(rows[0]); n++) {
		fresh(state);
		/* The epoch counter starts with the first exit, seen before any entry is made. */
		tracker.epoch_ns = START;
		for (int i = 0; i < NX_TRACKER_DEPTH; i++)
			note(mate[i], START + rows[n].first);
		assert_int_equal(note(mate[8], START + rows[n].later), rows[n].verdict);
	}
}

static void old_entries_stay_old_while_time_creeps(void **state)
{
	uint64_t now = START;

	(void)state;
	for (int i = 0; i < NX_TRACKER_DEPTH; i++)
		note(mate[i], now);
	/* An unrelated exit each half second lets the epochs pass one by one, several turns. */
	for (int half = 0; half < 2 * 60; half++, now += SECOND / 2)
		note(0x999999, now);
	for (int i = 0; i < NX_TRACKER_DEPTH; i++)
		assert_int_equal(note(mate[8 + i], now), NX_TRACK_COLD);
	/* Now the row is full of new ones again. */
	assert_int_equal(note(mate[16], now), NX_TRACK_FORCE);
}

static void clock_going_backwards_is_harmless(void **state)
{
	(void)state;
	assert_int_equal(note(0x77, START), NX_TRACK_COLD);
	assert_int_equal(note(0x77, START - 100 * SECOND), NX_TRACK_COLD);
	assert_int_equal(note(0x77, 0), NX_TRACK_HOT);
	assert_true(tracker.epoch_ns <= START && tracker.epoch_ns > START - SECOND);
}

static unsigned passed_over(uint64_t pc)
{
	unsigned passes = 0;

	while (note(pc, START) == NX_TRACK_COLD)
		passes++;
	return passes;
}

static void barren_formation_backs_off_doubling(void **state)
{
	unsigned expected = 4;

	(void)state;
	assert_int_equal(passed_over(0x42), 2);
	for (int i = 0; i < 20; i++) {
		nx_tracker_barren(&tracker, 0x42, in_al_dx, 1);
		assert_int_equal(passed_over(0x42), expected);
		if (expected < 32768)
			expected *= 2;
	}
	assert_int_equal(expected, 32768);
	/* It is this instruction that is passed over, not its neighbours. */
	nx_tracker_barren(&tracker, 0x42, in_al_dx, 1);
	assert_int_equal(passed_over(0x43), 2);
	/* The device classes survive. */
	for (unsigned row = 0; row < NX_TRACKER_ROWS; row++)
		if (tracker.row[row][0].valid)
			assert_int_equal(tracker.row[row][0].properties & 0xf, NX_TRACK_IO);
}

/* Those that are passed over at once are those that would have been passed over one by one. */
static void several_are_passed_over_at_once(void **state)
{
	(void)state;
	assert_int_equal(nx_tracker_pass(&tracker, 0x42, in_al_dx, 1, 8), 0);
	for (unsigned i = 0; i < 3; i++)
		note(0x42, START);
	assert_int_equal(nx_tracker_pass(&tracker, 0x42, in_al_dx, 1, 8), 0);
	nx_tracker_barren(&tracker, 0x42, in_al_dx, 1);
	assert_int_equal(nx_tracker_pass(&tracker, 0x42, in_al_dx, 1, 2), 2);
	assert_int_equal(note(0x42, START), NX_TRACK_COLD);
	assert_int_equal(nx_tracker_pass(&tracker, 0x42, in_al_dx, 1, 8), 1);
	assert_int_equal(note(0x42, START), NX_TRACK_HOT);
}

static void barren_of_an_unknown_exit_is_nothing(void **state)
{
	static struct nx_tracker before;

	(void)state;
	note(0x42, START);
	before = tracker;
	nx_tracker_barren(&tracker, 0x4242, in_al_dx, 1);
	assert_memory_equal(&before, &tracker, sizeof(tracker));
}

/* A missing page is forgiven once, until a search has met an exit. */
static void missing_page_is_excused_once(void **state)
{
	(void)state;
	assert_false(nx_tracker_excuse(&tracker, 0x42, in_al_dx, 1));
	note(0x42, START);
	note(0x43, START);
	assert_true(nx_tracker_excuse(&tracker, 0x42, in_al_dx, 1));
	assert_false(nx_tracker_excuse(&tracker, 0x42, in_al_dx, 1));
	assert_true(nx_tracker_excuse(&tracker, 0x43, in_al_dx, 1));
	/* Neither exits nor failures bring it back, and it changes nothing else of the entry. */
	assert_int_equal(passed_over(0x42), 1);
	nx_tracker_barren(&tracker, 0x42, in_al_dx, 1);
	assert_int_equal(passed_over(0x42), 4);
	assert_false(nx_tracker_excuse(&tracker, 0x42, in_al_dx, 1));
	nx_tracker_fruitful(&tracker, 0x42, in_al_dx, 1);
	assert_true(nx_tracker_excuse(&tracker, 0x42, in_al_dx, 1));
	assert_false(nx_tracker_excuse(&tracker, 0x43, in_al_dx, 1));
	nx_tracker_fruitful(&tracker, 0x44, in_al_dx, 1);
}

/* The bound of the file's head: exits passed over per second, whatever the guest does. */
static void passed_over_rate_is_bounded(void **state)
{
	const unsigned seconds = 120;
	uint64_t cold = 0, random = 88172645463325252ull;

	(void)state;
	/* 2,000 exits a second, from a set that is far larger than the tracker. */
	for (unsigned i = 0; i < seconds * 2000; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		if (note(random % 100000, START + i * (SECOND / 2000)) == NX_TRACK_COLD)
			cold++;
	}
	/* The table's first filling comes on top: each place's first owner has pushed nobody. */
	assert_true(cold <= seconds * 820 + 2 * NX_TRACKER_ROWS * NX_TRACKER_DEPTH);
	assert_true(tracker.leaks > 0);
}

static void hash_spreads(void **state)
{
	/* Kernel text is like this: near each other, 16-aligned, sharing all high bits. */
	static unsigned in_row[NX_TRACKER_ROWS];
	enum { N = 8192 };
	static uint64_t seen[N];
	uint64_t bits_set[26] = {0};
	double chi = 0;

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		struct place place = place_of(0xffffffff81000000 + i * 16, in_al_dx, 1);

		in_row[place.row]++;
		seen[i] = (uint64_t)place.tag << 9 | place.row;
		for (unsigned bit = 0; bit < 26; bit++)
			bits_set[bit] += place.tag >> bit & 1;
	}
	for (unsigned row = 0; row < NX_TRACKER_ROWS; row++) {
		double off = (double)in_row[row] - (double)N / NX_TRACKER_ROWS;

		chi += off * off / ((double)N / NX_TRACKER_ROWS);
	}
	/* 511 degrees of freedom: mean 511, standard deviation 32; five of them either side. */
	assert_true(chi > 511 - 160 && chi < 511 + 160);
	/* Each tag bit is set half the time: deviation of the count sqrt(N)/2 = 45. */
	for (unsigned bit = 0; bit < 26; bit++)
		assert_in_range(bits_set[bit], N / 2 - 5 * 45, N / 2 + 5 * 45);
	/* 8,192 values of 35 bits: a collision has odds of one in a thousand. */
	for (unsigned i = 0; i < N; i++)
		for (unsigned j = 0; j < i; j++)
			if (seen[i] == seen[j])
				fail_msg("%u and %u share row and tag", i, j);
}

static void every_input_counts_in_the_hash(void **state)
{
	uint8_t bytes[15] = {0};
	struct place base = place_of(0, bytes, 15), other;

	(void)state;
	for (unsigned bit = 0; bit < 64; bit++) {
		other = place_of(1ull << bit, bytes, 15);
		assert_true(other.row != base.row || other.tag != base.tag);
	}
	for (unsigned bit = 0; bit < 15 * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		other = place_of(0, bytes, 15);
		assert_true(other.row != base.row || other.tag != base.tag);
		bytes[bit / 8] = 0;
	}
	for (unsigned len = 0; len < 15; len++) {
		other = place_of(0, bytes, len);
		assert_true(other.row != base.row || other.tag != base.tag);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(third_exit_is_hot, fresh),
	    cmocka_unit_test_setup(second_exit_is_hot_to_an_eager_engine, fresh),
	    cmocka_unit_test_setup(counts_are_per_instruction, fresh),
	    cmocka_unit_test_setup(properties_accumulate, find_mates),
	    cmocka_unit_test_setup(translated_before_is_hot_at_once, fresh),
	    cmocka_unit_test_setup(rows_are_fifos, find_mates),
	    cmocka_unit_test_setup(young_entry_falling_off_forces, find_mates),
	    cmocka_unit_test_setup(threshold_is_ten_seconds, find_mates),
	    cmocka_unit_test_setup(old_entries_stay_old_while_time_creeps, find_mates),
	    cmocka_unit_test_setup(clock_going_backwards_is_harmless, fresh),
	    cmocka_unit_test_setup(barren_formation_backs_off_doubling, fresh),
	    cmocka_unit_test_setup(several_are_passed_over_at_once, fresh),
	    cmocka_unit_test_setup(missing_page_is_excused_once, fresh),
	    cmocka_unit_test_setup(barren_of_an_unknown_exit_is_nothing, fresh),
	    cmocka_unit_test_setup(passed_over_rate_is_bounded, fresh),
	    cmocka_unit_test(hash_spreads),
	    cmocka_unit_test(every_input_counts_in_the_hash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
