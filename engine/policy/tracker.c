// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * tracker.c - which exits are worth a translation: the leakage-aware exit tracker of "Software
 * Techniques for Avoiding Hardware Virtualization Exits" (USENIX ATC 2012).
 *
 * A guest executes far more instructions that exit once or twice than a table of fixed size can
 * count. Each entry therefore has an age: an entry that is pushed out of its row's FIFO before it
 * was 10 s old is a leak, a count that is lost and may be lost over and over again,
 * and pays for it by a translation at once of the exit that pushed it out.
 *
 * What follows is a bound. An exit is passed over ("interpreted" in the paper) only when it is an
 * entry's first or second. Without leaks each of the 512 * 8 places changes its owner at most once
 * in 10 s, so at most 512 * 8 * 2 / 10 s = 819 exits a second are passed over; with leaks the
 * pushing exit is translated and not passed over. (Barren exits are not counted here: there is
 * nothing to translate.)
 *
 * The hash takes pc, length and bytes of the instruction. Of an exit that the hardware delivered
 * the host knows rip alone, and reading guest code before every decision would cost more than it
 * tells: there pc is hashed without bytes. What the tracker says is a guess in any case. Other code
 * at the same rip, in another mode or address space, is translated a little earlier or later than
 * its own exits ask for; what it is translated to, and whether that may run, is decided from its
 * bytes.
 *
 * Rows are FIFOs, not LRU lists: an exit that is still counted has not been translated, and one
 * that recurs reaches its third exit long before it falls out of a row that does not leak.
 */
#include "policy/policy.h"

#define EPOCH_NS 1000000000ull
#define AGE_MASK 15u
/* Ages stick here; anything at or above the threshold would do. */
#define AGE_MAX 15u
/* Eleven epochs apart are at least ten seconds. */
#define THRESHOLD_EPOCHS 11u

/* First exit: inserted with count 0; second: 1; third: translated. */
#define COUNT_HOT 2u
/* With nx_config.eager: the second exit is. */
#define COUNT_EAGER 1u
#define COUNT_MAX 3u

/*
 * Exits passed over after the first barren formation. A formation costs about as much as one
 * exit, so that from here on it costs a fifth of the exits at most, and less each time.
 */
#define BARREN_SKIP_FIRST 4u
#define BARREN_MAX 14u /* 4 << 13 = 32768: the largest power of two that fits skip */
#define SKIP_FOR_EVER UINT16_MAX
_Static_assert((BARREN_SKIP_FIRST << (BARREN_MAX - 1)) <= UINT16_MAX, "skip overflows");
_Static_assert((NX_TRACKER_ROWS & (NX_TRACKER_ROWS - 1)) == 0, "rows are chosen by a mask");

/* The finaliser of splitmix64: every input bit changes every output bit with odds of a half. */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* 35 bits of hash: 9 for the row, 26 for the tag. */
static uint64_t hash(uint64_t pc, const uint8_t *bytes, unsigned len)
{
	uint64_t word[2] = {0, 0};

	if (len > 15)
		len = 15;
	for (unsigned i = 0; i < len; i++)
		word[i / 8] |= (uint64_t)bytes[i] << i % 8 * 8;
	/* An instruction has at most 15 bytes: its length fits the last place. */
	word[1] |= (uint64_t)len << 56;
	/* The constants keep an all-zero input, and pc against word, from cancelling out. */
	return mix(mix(mix(pc + NX_HASH_FACTOR) ^ word[0]) + word[1]) >> (64 - 35);
}

static struct nx_tracker_entry *row_of(struct nx_tracker *tracker, uint64_t h)
{
	return tracker->row[h & (NX_TRACKER_ROWS - 1)];
}

static uint32_t tag_of(uint64_t h)
{
	return h / NX_TRACKER_ROWS & 0x3ffffff;
}

static struct nx_tracker_entry *find(struct nx_tracker *tracker, uint64_t h)
{
	struct nx_tracker_entry *row = row_of(tracker, h);

	for (unsigned i = 0; i < NX_TRACKER_DEPTH; i++)
		if (row[i].valid && row[i].tag == tag_of(h))
			return &row[i];
	return NULL;
}

static unsigned age_of(const struct nx_tracker *tracker, const struct nx_tracker_entry *entry)
{
	return (tracker->epoch - entry->age) & AGE_MASK;
}

/*
 * Insertion epochs are kept modulo 16: before the present epoch comes round to the one of an old
 * entry, which would make it young again, that entry's epoch moves along. 32 KiB once a second.
 */
static void advance(struct nx_tracker *tracker, uint64_t now)
{
	uint64_t elapsed;

	if (now < tracker->epoch_ns + EPOCH_NS)
		return;
	elapsed = (now - tracker->epoch_ns) / EPOCH_NS;
	tracker->epoch_ns += elapsed * EPOCH_NS;
	if (elapsed > AGE_MAX)
		elapsed = AGE_MAX;

	for (unsigned i = 0; i < NX_TRACKER_ROWS; i++) {
		for (unsigned j = 0; j < NX_TRACKER_DEPTH; j++) {
			struct nx_tracker_entry *entry = &tracker->row[i][j];
			unsigned age = age_of(tracker, entry) + (unsigned)elapsed;

			if (age > AGE_MAX)
				age = AGE_MAX;
			entry->age = (tracker->epoch + (unsigned)elapsed - age) & AGE_MASK;
		}
	}
	tracker->epoch = (tracker->epoch + elapsed) & AGE_MASK;
}

/* Insert an exit; return whether the entry that it pushed out was a leak. */
static bool insert(struct nx_tracker *tracker, uint64_t h, unsigned properties)
{
	struct nx_tracker_entry *row = row_of(tracker, h);
	const struct nx_tracker_entry *last = &row[NX_TRACKER_DEPTH - 1];
	const bool leaked = last->valid && age_of(tracker, last) < THRESHOLD_EPOCHS;

	for (unsigned i = NX_TRACKER_DEPTH - 1; i > 0; i--)
		row[i] = row[i - 1];
	row[0] = (struct nx_tracker_entry){
	    .tag = tag_of(h),
	    /* A forced one stays hot: it is not to be counted again after a cache flush. */
	    .count = leaked ? COUNT_HOT : 0,
	    .age = tracker->epoch & AGE_MASK,
	    .properties = (uint8_t)properties,
	    .valid = 1,
	    .skip = leaked ? 0 : tracker->skip_first,
	};
	return leaked;
}

enum nx_track_verdict nx_tracker_note(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
				      unsigned len, unsigned properties, uint64_t now)
{
	const uint64_t h = hash(pc, bytes, len);
	struct nx_tracker_entry *entry = find(tracker, h);

	advance(tracker, now);
	tracker->fresh = false;
	properties &= NX_TRACK_ALL;
	if (!entry) {
		tracker->fresh = !insert(tracker, h, properties);
		if (tracker->fresh)
			return NX_TRACK_COLD;
		tracker->leaks++;
		return NX_TRACK_FORCE;
	}

	entry->properties |= (uint8_t)properties;
	if (entry->count < COUNT_MAX)
		entry->count++;
	if (entry->skip) {
		if (entry->skip != SKIP_FOR_EVER)
			entry->skip--;
		return NX_TRACK_COLD;
	}
	return entry->count >= (tracker->eager ? COUNT_EAGER : COUNT_HOT) ? NX_TRACK_HOT
									  : NX_TRACK_COLD;
}

bool nx_tracker_remember(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
			 unsigned len)
{
	struct nx_tracker_entry *entry = find(tracker, hash(pc, bytes, len));

	if (!entry || entry->count)
		return false;
	entry->count = COUNT_HOT;
	return true;
}

void nx_tracker_barren(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes, unsigned len)
{
	struct nx_tracker_entry *entry = find(tracker, hash(pc, bytes, len));
	unsigned times;

	if (!entry)
		return;
	times = entry->properties >> NX_TRACK_BARREN_SHIFT;
	if (times < BARREN_MAX)
		times++;
	entry->properties = (uint8_t)((entry->properties & ((1u << NX_TRACK_BARREN_SHIFT) - 1)) |
				      times << NX_TRACK_BARREN_SHIFT);
	entry->skip =
	    tracker->give_up ? SKIP_FOR_EVER : (uint16_t)(BARREN_SKIP_FIRST << (times - 1));
}

bool nx_tracker_excuse(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes, unsigned len)
{
	struct nx_tracker_entry *entry = find(tracker, hash(pc, bytes, len));

	if (!entry || entry->excused)
		return false;
	entry->excused = 1;
	return true;
}

void nx_tracker_fruitful(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
			 unsigned len)
{
	struct nx_tracker_entry *entry = find(tracker, hash(pc, bytes, len));

	if (entry)
		entry->excused = 0;
}

unsigned nx_tracker_pass(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
			 unsigned len, unsigned most)
{
	struct nx_tracker_entry *entry = find(tracker, hash(pc, bytes, len));

	if (!entry || !entry->skip)
		return 0;
	if (entry->skip == SKIP_FOR_EVER)
		return most;
	if (most > entry->skip)
		most = entry->skip;
	entry->skip = (uint16_t)(entry->skip - most);
	return most;
}

bool nx_tracker_is_barren(const struct nx_tracker *tracker, uint64_t pc)
{
	const struct nx_tracker_entry *entry =
	    find((struct nx_tracker *)(uintptr_t)tracker, hash(pc, NULL, 0));

	return entry && entry->properties >> NX_TRACK_BARREN_SHIFT;
}

unsigned nx_tracker_properties(const struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes,
			       unsigned len)
{
	/* find() only looks, but its callers change what it finds. */
	const struct nx_tracker_entry *entry =
	    find((struct nx_tracker *)(uintptr_t)tracker, hash(pc, bytes, len));

	return entry ? entry->properties & NX_TRACK_ALL : 0;
}

void nx_tracker_forget(struct nx_tracker *tracker, uint64_t pc, const uint8_t *bytes, unsigned len)
{
	const uint64_t hashes[3] = {hash(pc, bytes, len), hash(pc, NULL, 0),
				    hash(pc + len, NULL, 0)};

	for (unsigned i = 0; i < 3; i++) {
		struct nx_tracker_entry *entry = find(tracker, hashes[i]);

		if (entry)
			entry->properties &= (uint8_t)~NX_TRACK_MMIO;
	}
}
