// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Two stores in a row: the two halves of a PAE guest's page-table entry reach a host
 * that traces the page as one store of 64 bits. Other pairs of stores must stay two.
 */
#include "mock.h"

#define TABLE 0x22000u /* the traced page */
#define HIGH 0x11111111u
#define LOW 0x22222222u

/* X(name, bits, first store, second store): ecx is the entry's address, edx 2, esi and ebx halves.
 */
#define MERGED(X)                                                               \
	X(high_first, 32, "mov [ecx+4], esi", "mov [ecx], ebx")                 \
	X(low_first, 32, "mov [ecx], ebx", "mov [ecx+4], esi")                  \
	X(indexed, 32, "mov [ecx+edx*8+4], esi", "mov [ecx+edx*8], ebx")        \
	X(absolute, 32, "mov ds:[0x22104], esi", "mov ds:[0x22100], ebx")       \
	X(immediate, 32, "mov [ecx+4], esi", "mov dword ptr [ecx], 0x22222222") \
	X(long_mode, 64, "mov [rcx+4], esi", "mov [rcx], ebx")                  \
	X(homed, 64, "mov [r14+4], r10d", "mov [r14], r11d")                    \
	X(relative, 64, ".byte 0x89, 0x35; .long 0x22104 - 0x10007",            \
	  ".byte 0x89, 0x1d; .long 0x22100 - 0x1000d")

#define APART(X)                                                         \
	X(other_base, 32, "mov [ecx+4], esi", "mov [edi], ebx")          \
	X(not_adjacent, 32, "mov [ecx+8], esi", "mov [ecx], ebx")        \
	X(overlapping, 32, "mov [ecx+2], esi", "mov [ecx], ebx")         \
	X(narrow, 32, "mov [ecx+4], si", "mov [ecx], ebx")               \
	X(between, 32, "mov [ecx+4], esi; add ecx, 0", "mov [ecx], ebx") \
	X(crossing, 32, "mov [ecx+0xf00], esi", "mov [ecx+0xefc], ebx")

#define DEFINE(name, bits, first, second)                                                    \
	GUEST(merge_##name, bits, "nop", first "\nmerge_" #name "_second:\n" second, "hlt"); \
	extern const uint8_t merge_##name##_second[];
MERGED(DEFINE)
APART(DEFINE)

struct pair {
	const char *name;
	unsigned bits;
	const uint8_t *code, *resume, *second, *stop, *end;
};

#define ROW(name, bits, first, second) \
	{#name,                        \
	 bits,                         \
	 merge_##name,                 \
	 merge_##name##_resume,        \
	 merge_##name##_second,        \
	 merge_##name##_stop,          \
	 merge_##name##_end},
static const struct pair merged[] = {MERGED(ROW)}, apart[] = {APART(ROW)};

static struct mock *new_pair(const struct pair *pair, enum mock_page page, bool merge)
{
	struct nx_config config;
	struct mock *m;

	nx_config_default(&config);
	config.level = NX_LEVEL_LOOPS;
	config.merge_stores = merge;
	m = mock_new_config(pair->bits == 64 ? MOCK_LONG64 : MOCK_PAE32, 0, &config);
	mock_load(m, pair->code, pair->resume, pair->stop, pair->end);
	m->start.gpr[NX_RCX] = TABLE + 0x100;
	m->start.gpr[NX_RDI] = TABLE + 0x100;
	m->start.gpr[NX_RDX] = 2;
	m->start.gpr[NX_RSI] = m->start.gpr[NX_R10] = HIGH;
	m->start.gpr[NX_RBX] = m->start.gpr[NX_R11] = LOW;
	m->start.gpr[NX_R14] = TABLE + 0x100;
	m->page[TABLE / 4096] = (uint8_t)page;
	return m;
}

/*
 * What a host does that asks before it emulates: both stores exit on the hardware until the engine
 * is worth asking at the first. Fills log; returns the engine's exits.
 */
static unsigned run_pair(struct mock *m, const struct pair *pair, struct nx_exit log[4])
{
	uint64_t second = m->resume_rip + (uint64_t)(pair->second - pair->resume);
	struct nx_exit exit = {.data = 0};
	unsigned exits = 0;

	*nx_engine_state(m->engine) = m->start;
	memcpy(m->ram, m->start_ram, MOCK_RAM_SIZE);
	nx_engine_state(m->engine)->rip = m->resume_rip;
	if (!mock_worth_resuming(m, m->resume_rip, NX_CLASS_MMIO)) {
		mock_worth_resuming(m, second, NX_CLASS_MMIO);
		return 0;
	}
	while (exits < 4 && nx_engine_resume(m->engine, &exit) == NX_EXIT)
		log[exits++] = exit;
	m->reason = exit.reason;
	return exits;
}

static unsigned warm_pair(struct mock *m, const struct pair *pair, struct nx_exit log[4])
{
	unsigned exits = 0;

	for (unsigned i = 0; i < 40; i++)
		exits = run_pair(m, pair, log);
	return exits;
}

static void halves_become_one_access(void **state)
{
	struct nx_exit log[4];

	(void)state;
	for (unsigned i = 0; i < sizeof(merged) / sizeof(merged[0]); i++) {
		struct mock *m = new_pair(&merged[i], MOCK_PAGE_TRACED, true);
		unsigned exits = warm_pair(m, &merged[i], log);

		if (exits != 1 || log[0].size != 8 || !log[0].write)
			fail_msg("%s: %u exits of %u bytes", merged[i].name, exits, log[0].size);
		assert_int_equal(log[0].gpa, TABLE + 0x100 + (i == 2 ? 16 : 0));
		assert_int_equal(log[0].data, (uint64_t)HIGH << 32 | LOW);
		/* Behind both, everything else as it was. */
		assert_int_equal(nx_engine_state(m->engine)->rip, m->stop_rip);
		assert_memory_equal(nx_engine_state(m->engine)->gpr, m->start.gpr,
				    sizeof(m->start.gpr));
		assert_int_equal(nx_engine_state(m->engine)->rflags, m->start.rflags);
		assert_memory_equal(m->ram + TABLE, m->start_ram + TABLE, 4096);
		mock_free(m);
	}
}

static void others_stay_two(void **state)
{
	struct nx_exit log[4];

	(void)state;
	for (unsigned i = 0; i < sizeof(apart) / sizeof(apart[0]); i++) {
		struct mock *m = new_pair(&apart[i], MOCK_PAGE_TRACED, true);
		bool crossing = !strcmp(apart[i].name, "crossing");
		unsigned exits;

		m->page[TABLE / 4096 + 1] = MOCK_PAGE_TRACED;
		exits = warm_pair(m, &apart[i], log);
		for (unsigned j = 0; j < exits; j++)
			if (log[j].size == 8)
				fail_msg("%s was merged", apart[i].name);
		/* A merged access that crosses a page is left to the processor, both halves of it.
		 */
		if (crossing)
			assert_int_equal(m->reason, NX_LEAVE_PAGE_CROSSING);
		else if (exits != 2)
			fail_msg("%s: %u exits, left because: %s", apart[i].name, exits,
				 nx_leave_reason_text(m->reason));
		mock_free(m);
	}
}

static void devices_get_both(void **state)
{
	struct nx_exit log[4];
	struct mock *m = new_pair(&merged[0], MOCK_PAGE_DEVICE, true);

	(void)state;
	assert_int_equal(warm_pair(m, &merged[0], log), 2);
	assert_int_equal(log[0].size, 4);
	assert_int_equal(log[0].gpa, TABLE + 0x104);
	assert_int_equal(log[1].gpa, TABLE + 0x100);
	mock_free(m);

	m = new_pair(&merged[0], MOCK_PAGE_TRACED, false);
	assert_int_equal(warm_pair(m, &merged[0], log), 2);
	mock_free(m);
}

static void memory_gets_both(void **state)
{
	struct nx_exit log[4];
	uint64_t entry;

	(void)state;
	for (unsigned i = 0; i < sizeof(merged) / sizeof(merged[0]); i++) {
		struct mock *m = new_pair(&merged[i], MOCK_PAGE_TRACED, true);

		assert_int_equal(warm_pair(m, &merged[i], log), 1);
		m->page[TABLE / 4096] = MOCK_PAGE_RAM;
		assert_int_equal(run_pair(m, &merged[i], log), 0);
		memcpy(&entry, m->ram + TABLE + 0x100 + (i == 2 ? 16 : 0), 8);
		assert_int_equal(entry, (uint64_t)HIGH << 32 | LOW);
		mock_free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(halves_become_one_access),
	    cmocka_unit_test(others_stay_two),
	    cmocka_unit_test(devices_get_both),
	    cmocka_unit_test(memory_gets_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
