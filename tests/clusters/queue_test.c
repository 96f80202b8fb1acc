/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* queue_test.c - elements of string instructions that the host puts into its client's ring. */
#include "mock.h"

GUEST(copying, 64, "in al, dx", "mov ecx, 6; rep movsd; out dx, al", "ret");
GUEST(filling, 32, "in al, dx", "mov ecx, 6; rep stosw; out dx, al", "ret");
GUEST(one_each, 32, "in al, dx", "movsb; stosd; out dx, al", "ret");

#define RING (MOCK_DEVICE + 0x1000)
#define ENTRIES 16

static struct {
	unsigned room, used;
	struct mock_access entry[ENTRIES];
} ring;

static enum nx_route route(void *data, uint64_t gpa, unsigned size, bool write, uint64_t value)
{
	(void)data;
	(void)size;
	(void)value;
	return write && gpa / 4096 == RING / 4096 ? NX_ROUTE_QUEUE : NX_ROUTE_EXIT;
}

static bool queue(void *data, uint64_t gpa, unsigned size, uint64_t value)
{
	(void)data;
	assert_int_equal(gpa / 4096, RING / 4096);
	assert_true(size == 8 || value >> (8 * size) == 0);
	if (ring.used == ring.room)
		return false;
	ring.entry[ring.used++] = (struct mock_access)STORE(gpa, size, value);
	return true;
}

static void empty(struct mock *m, unsigned number)
{
	(void)m;
	(void)number;
	ring.used = 0;
}

static struct mock *begin(enum mock_mode mode, unsigned room)
{
	struct mock *m = mock_new(mode, 0, NX_LEVEL_LOOPS);

	memset(&ring, 0, sizeof(ring));
	ring.room = room;
	m->host.route_mmio = route;
	m->host.queue = queue;
	m->on_exit = empty;
	m->start.gpr[NX_RDX] = 0x1f0;
	m->start.gpr[NX_RAX] = 0x77665544;
	m->start.gpr[NX_RSI] = MOCK_DATA + 0x10;
	m->start.gpr[NX_RDI] = RING + 0x20;
	return m;
}

/* Each run but the last leaves the ring empty, since OUT is an exit. */
static void run_once(struct mock *m)
{
	mock_warm(m);
	m->on_exit = NULL;
	ring.used = 0;
	mock_run(m);
}

static void check_entries(unsigned first, unsigned count, unsigned size, const uint8_t *from)
{
	for (unsigned i = 0; i < count; i++) {
		const struct mock_access *entry = &ring.entry[first + i];
		uint64_t value = 0;

		memcpy(&value, from + (size_t)i * size, size);
		assert_int_equal(entry->where, RING + 0x20 + i * size);
		assert_int_equal(entry->size, size);
		assert_int_equal(entry->data, value);
	}
}

/* No exit but the one behind the copy. */
static void all_is_queued(void **state)
{
	static const struct mock_access out[] = {OUT(0x1f0, 1, 0x44)};
	static const uint8_t fill[] = {0x44, 0x55, 0x44, 0x55, 0x44, 0x55,
				       0x44, 0x55, 0x44, 0x55, 0x44, 0x55};
	struct mock *m = begin(MOCK_LONG64, ENTRIES);

	(void)state;
	MOCK_LOAD(m, copying);
	run_once(m);
	mock_check_log(m, out, 1);
	assert_int_equal(ring.used, 6);
	check_entries(0, 6, 4, m->start_ram + MOCK_DATA + 0x10);
	m->want.gpr[NX_RSI] += 24;
	m->want.gpr[NX_RDI] += 24;
	m->want.gpr[NX_RCX] = 0;
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_free(m);

	m = begin(MOCK_FLAT32, ENTRIES);
	MOCK_LOAD(m, filling);
	run_once(m);
	mock_check_log(m, out, 1);
	assert_int_equal(ring.used, 6);
	check_entries(0, 6, 2, fill);
	m->want.gpr[NX_RDI] += 12;
	m->want.gpr[NX_RCX] = 0;
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_free(m);
}

static void without_repetition(void **state)
{
	static const struct mock_access out[] = {OUT(0x1f0, 1, 0x44)};
	struct mock *m = begin(MOCK_FLAT32, ENTRIES);

	(void)state;
	MOCK_LOAD(m, one_each);
	run_once(m);
	mock_check_log(m, out, 1);
	assert_int_equal(ring.used, 2);
	check_entries(0, 1, 1, m->start_ram + MOCK_DATA + 0x10);
	assert_int_equal(ring.entry[1].where, RING + 0x21);
	assert_int_equal(ring.entry[1].data, 0x77665544);
	m->want.gpr[NX_RSI] += 1;
	m->want.gpr[NX_RDI] += 5;
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_free(m);
}

/* A write that finds no room is an exit, in its turn, and the next write is tried again. */
static void full_ring(void **state)
{
	uint32_t value;
	struct mock *m = begin(MOCK_LONG64, 2);

	(void)state;
	MOCK_LOAD(m, copying);
	run_once(m);
	assert_int_equal(m->exits, 5);
	check_entries(0, 2, 4, m->start_ram + MOCK_DATA + 0x10);
	for (unsigned i = 0; i < 4; i++) {
		memcpy(&value, m->start_ram + MOCK_DATA + 0x18 + 4 * i, 4);
		assert_int_equal(m->log[i].where, RING + 0x28 + 4 * i);
		assert_int_equal(m->log[i].data, value);
	}
	/* The client makes room at its exit. */
	m->on_exit = empty;
	ring.used = 0;
	mock_run(m);
	assert_int_equal(m->exits, 3);
	assert_int_equal(m->log[0].where, RING + 0x28);
	assert_int_equal(m->log[1].where, RING + 0x34);
	m->want.gpr[NX_RSI] += 24;
	m->want.gpr[NX_RDI] += 24;
	m->want.gpr[NX_RCX] = 0;
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_free(m);
}

/* Read from a device: each element is an exit, and so is its write. */
static void between_devices(void **state)
{
	struct mock *m = begin(MOCK_LONG64, ENTRIES);

	(void)state;
	MOCK_LOAD(m, copying);
	m->start.gpr[NX_RSI] = MOCK_DEVICE;
	run_once(m);
	assert_int_equal(m->exits, 13);
	assert_int_equal(ring.used, 0);
	mock_free(m);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(all_is_queued),
	    cmocka_unit_test(without_repetition),
	    cmocka_unit_test(full_ring),
	    cmocka_unit_test(between_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
