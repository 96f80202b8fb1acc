// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Where the engine must give the guest back: before the instruction that it does not do, with
 * everything before it done and nothing of it.
 */
#include "mock.h"

#define PTE_ALL 7u
#define ACCESSED 0x20u
#define DIRTY 0x40u

/* ---- Faults in a gap ---- */

/* X(name, code before, the instruction that cannot be done) */
#define FAULTS_64(X)                                             \
	X(load, "inc rbx", "mov ecx, [rsi]")                     \
	X(store, "inc rbx", "mov [rsi], r10")                    \
	X(modify, "add rbx, [rdi]; inc r9", "add [rsi], rbx")    \
	X(push, "mov rsp, rsi; add rsp, 8", "push rcx")          \
	X(pop, "mov rsp, rsi; stc", "pop rcx")                   \
	X(second, "mov [rdi], rbx; stc", "push qword ptr [rsi]") \
	X(exchange, "inc rbx", "lock xadd [rsi], rbx")           \
	X(flags_read, "cmp rbx, rcx", "adc r9, [rsi]")
#define FAULTS_32(X)                                           \
	X(load, "inc ebx", "mov ecx, [esi]")                   \
	X(store, "inc ebx", "mov byte ptr [esi], 5")           \
	X(modify, "add ebx, [edi]; inc ebp", "add [esi], ebx") \
	X(push, "mov esp, esi; add esp, 4", "push ecx")        \
	X(high, "mov ah, 7", "mov ah, [esi]")

#define DEFINE_64(name, before, code)                 \
	extern const uint8_t fault64_##name##_here[]; \
	GUEST(fault64_##name, 64, "in al, dx",        \
	      before "; fault64_" #name "_here: " code "; out dx, al", "ret");
#define DEFINE_32(name, before, code)                 \
	extern const uint8_t fault32_##name##_here[]; \
	GUEST(fault32_##name, 32, "in al, dx",        \
	      before "; fault32_" #name "_here: " code "; out dx, al", "ret");
FAULTS_64(DEFINE_64)
FAULTS_32(DEFINE_32)

struct fault {
	const char *name;
	const uint8_t *code, *resume, *here, *stop, *end;
};

#define ROW_64(name, before, code) \
	{#name,                    \
	 fault64_##name,           \
	 fault64_##name##_resume,  \
	 fault64_##name##_here,    \
	 fault64_##name##_stop,    \
	 fault64_##name##_end},
#define ROW_32(name, before, code) \
	{#name,                    \
	 fault32_##name,           \
	 fault32_##name##_resume,  \
	 fault32_##name##_here,    \
	 fault32_##name##_stop,    \
	 fault32_##name##_end},
static const struct fault faults_64[] = {FAULTS_64(ROW_64)}, faults_32[] = {FAULTS_32(ROW_32)};

/* The page at rsi is good while the cluster is formed, and then is not. */
static void check_fault(const struct fault *fault, enum mock_mode mode, unsigned cpl)
{
	struct mock *m = mock_new(mode, cpl, NX_LEVEL_BRANCHES);
	const uint32_t page = MOCK_DATA + 0x1000;
	bool native;

	mock_load(m, fault->code, fault->resume, fault->stop, fault->end);
	m->start.gpr[NX_RSI] = page;
	m->start.gpr[NX_RDI] = MOCK_DATA + 0x10;
	m->start.gpr[NX_RDX] = 0x1f0;
	mock_warm(m);
	mock_check_ended(m);
	mock_set_pte(m, page, 0);
	mock_run(m);
	if (m->exits || m->reason != NX_LEAVE_PAGE_FAULT ||
	    nx_engine_state(m->engine)->rip != m->code_rip + (uint64_t)(fault->here - fault->code))
		fail_msg("%s, mode %u: %u exits, left at %#llx: %s", fault->name, mode, m->exits,
			 (unsigned long long)nx_engine_state(m->engine)->rip,
			 nx_leave_reason_text(m->reason));
	/* The processor, stopped before the instruction, has done what the engine did. */
	native = mock_check_native(m);
	assert_int_equal(mock_pte(m, m->ram, page), 0);
	/* The page comes back, and all goes on as if nothing had been. */
	mock_set_pte(m, page, page | PTE_ALL);
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	mock_free(m);
	if (!native)
		skip();
}

static void faults_leave_before_the_instruction(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(faults_64) / sizeof(faults_64[0]); i++)
		check_fault(&faults_64[i], MOCK_LONG64, i % 2 ? 3 : 0);
	for (unsigned i = 0; i < sizeof(faults_32) / sizeof(faults_32[0]); i++) {
		check_fault(&faults_32[i], MOCK_PAGED32, i % 2 ? 0 : 3);
		check_fault(&faults_32[i], MOCK_PAE32, i % 2 ? 3 : 0);
	}
}

GUEST(marks, 64, "in al, dx", "mov ecx, [rsi]; mov [rdi], ecx; out dx, al", "ret");

static void accessed_and_dirty_bits_are_set(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_BRANCHES);
	const uint32_t from = MOCK_DATA, to = MOCK_DATA + 0x1000, other = MOCK_DATA + 0x2000;

	(void)state;
	MOCK_LOAD(m, marks);
	m->start.gpr[NX_RSI] = from;
	m->start.gpr[NX_RDI] = to;
	mock_warm(m);
	mock_check_ended(m);
	assert_int_equal(mock_pte(m, m->ram, from), from | PTE_ALL | ACCESSED);
	assert_int_equal(mock_pte(m, m->ram, to), to | PTE_ALL | ACCESSED | DIRTY);
	assert_int_equal(mock_pte(m, m->ram, MOCK_CODE), MOCK_CODE | PTE_ALL | ACCESSED);
	assert_int_equal(mock_pte(m, m->ram, other), other | PTE_ALL);
	/* No right to write: the store is not done, and its page does not become dirty. */
	mock_set_pte(m, to, to | 5);
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_PAGE_FAULT);
	assert_int_equal(mock_pte(m, m->ram, to), to | 5);
	mock_free(m);
}

/* Page tables, not memory addresses, decide: another frame behind the same address. */
static void translation_of_data_is_not_kept(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 3, NX_LEVEL_BRANCHES);
	const uint32_t from = MOCK_DATA, to = MOCK_DATA + 0x1000, other = MOCK_EXTRA;
	uint32_t value = 0x600dda7a;

	(void)state;
	MOCK_LOAD(m, marks);
	m->start.gpr[NX_RSI] = from;
	m->start.gpr[NX_RDI] = to;
	mock_warm(m);
	mock_set_pte(m, from, other | PTE_ALL);
	mock_poke(m, other, &value, 4);
	mock_run(m);
	mock_check_ended(m);
	m->want.gpr[NX_RCX] = value;
	m->want.rip = m->stop_rip;
	mock_want_memory(m, to, 4, value);
	mock_check(m);
	mock_free(m);
}

GUEST(aliases, 64, "in al, dx",
      "mov [rsi], ecx; mov r8d, [rdi]; mov [rsi+4], r8d; mov [rdi+4], ecx; out dx, al", "ret");

/* Pages 64 apart share an entry of the software TLB; here they lie elsewhere in memory, too. */
static void pages_that_share_a_tlb_entry(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_BRANCHES);
	const uint32_t one = MOCK_DATA, two = one + 64 * 4096, frame = MOCK_EXTRA;
	uint32_t value = 0x0badcafe;

	(void)state;
	MOCK_LOAD(m, aliases);
	mock_set_pte(m, two, frame | PTE_ALL);
	mock_poke(m, frame, &value, 4);
	m->start.gpr[NX_RSI] = one;
	m->start.gpr[NX_RDI] = two;
	m->start.gpr[NX_RCX] = 0x11223344;
	mock_warm(m);
	mock_check_ended(m);
	m->want.gpr[NX_R8] = value;
	m->want.rip = m->stop_rip;
	mock_want_memory(m, one, 4, 0x11223344);
	mock_want_memory(m, one + 4, 4, value);
	mock_want_memory(m, frame + 4, 4, 0x11223344);
	mock_check(m);
	mock_free(m);
}

/* ---- Accesses that leave for other reasons ---- */

GUEST(access_16, 16, "in al, dx", "mov cx, [bx+si]; mov [di], cx; push cx; out dx, al", "ret");
GUEST(access_32, 32, "in al, dx", "mov ecx, [ebx+esi]; mov [edi], cx; push ecx; out dx, al", "ret");

/* Offsets of the three accesses from the resume point, the same in both. */
enum { AT_LOAD = 0, AT_STORE = 2, AT_PUSH = 4 };

static struct mock *new_access(enum mock_mode mode)
{
	struct mock *m = mock_new(mode, 0, NX_LEVEL_BRANCHES);
	const uint32_t base = (uint32_t)m->start.seg[NX_DS].base ? 0 : MOCK_DATA;

	if (mode <= MOCK_PROT16)
		MOCK_LOAD(m, access_16);
	else
		MOCK_LOAD(m, access_32);
	m->start.gpr[NX_RBX] = base + 0x100;
	m->start.gpr[NX_RSI] = 0x20;
	m->start.gpr[NX_RDI] = base + 0x200;
	mock_warm(m);
	mock_check_ended(m);
	return m;
}

static unsigned store_offset(const struct mock *m)
{
	return m->mode <= MOCK_PROT16 ? AT_STORE : 3;
}

static unsigned push_offset(const struct mock *m)
{
	return m->mode <= MOCK_PROT16 ? AT_PUSH : 6;
}

/* Left at this offset for this reason, with only cx loaded if that comes before. */
static void check_left(struct mock *m, unsigned offset, enum nx_status reason)
{
	mock_run(m);
	if (m->reason != reason || nx_engine_state(m->engine)->rip != m->resume_rip + offset)
		fail_msg("left at %#llx: %s; expected %#llx: %s",
			 (unsigned long long)nx_engine_state(m->engine)->rip,
			 nx_leave_reason_text(m->reason),
			 (unsigned long long)m->resume_rip + offset, nx_leave_reason_text(reason));
	assert_int_equal(m->exits, 0);
	m->want.rip = m->resume_rip + offset;
	m->want.gpr[NX_RCX] = nx_engine_state(m->engine)->gpr[NX_RCX];
	if (offset == AT_LOAD)
		assert_int_equal(m->want.gpr[NX_RCX], m->start.gpr[NX_RCX]);
	if (offset <= store_offset(m))
		mock_check(m);
}

static void real_mode_wraps_at_64_kib(void **state)
{
	struct mock *m = new_access(MOCK_REAL16);

	(void)state;
	/* The sum of the address wraps; what it names afterwards is ordinary. */
	m->start.gpr[NX_RBX] = 0xfff0;
	m->start.gpr[NX_RSI] = 0x20;
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX] & 0xffff,
			 m->start_ram[MOCK_DATA + 0x10] | m->start_ram[MOCK_DATA + 0x11] << 8);
	/* Upper halves of the registers do not count. */
	m->start.gpr[NX_RBX] = 0x5555fff0;
	m->start.gpr[NX_RSI] = 0xffff0020;
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX] & 0xffff,
			 m->start_ram[MOCK_DATA + 0x10] | m->start_ram[MOCK_DATA + 0x11] << 8);
	/* An access across the end does not wrap: #GP. */
	m->start.gpr[NX_RBX] = 0xffdf;
	check_left(m, AT_LOAD, NX_LEAVE_SEGMENT);
	m->start.gpr[NX_RBX] = 0x100;
	m->start.gpr[NX_RDI] = 0xffff;
	check_left(m, AT_STORE, NX_LEAVE_SEGMENT);
	m->start.gpr[NX_RDI] = 0x200;
	m->start.gpr[NX_RSP] = 0xabcd0001;
	check_left(m, AT_PUSH, NX_LEAVE_SEGMENT);
	/* The stack pointer itself wraps, and only its lower half. */
	m->start.gpr[NX_RSP] = 0xabcd0000;
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RSP], 0xabcdfffe);
	assert_int_equal(m->ram[MOCK_STACK + 0xfffe],
			 nx_engine_state(m->engine)->gpr[NX_RCX] & 0xff);
	mock_free(m);
}

static void segment_limits_and_rights(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_PROT16; mode <= MOCK_PAE32; mode++) {
		struct mock *m = new_access(mode);
		const unsigned size = mode == MOCK_PROT16 ? 2 : 4;
		const struct nx_segment good = m->start.seg[NX_DS];
		struct nx_segment *ds = &m->start.seg[NX_DS];
		const uint32_t load = (uint32_t)m->start.gpr[NX_RBX] + 0x20;
		const uint32_t store = (uint32_t)m->start.gpr[NX_RDI];

		/* The last byte of the access decides. */
		ds->limit = load + size - 2;
		check_left(m, AT_LOAD, NX_LEAVE_SEGMENT);
		ds->limit = store; /* stores 2 bytes in both */
		check_left(m, store_offset(m), NX_LEAVE_SEGMENT);
		ds->limit = store + 1;
		mock_run(m);
		mock_check_ended(m);
		*ds = good;
		ds->type = 1; /* read only */
		check_left(m, store_offset(m), NX_LEAVE_SEGMENT);
		ds->type = 9; /* code, execute only */
		check_left(m, AT_LOAD, NX_LEAVE_SEGMENT);
		*ds = good;
		ds->unusable = true; /* a null selector */
		check_left(m, AT_LOAD, NX_LEAVE_SEGMENT);
		*ds = good;
		ds->type = 7; /* expand down: what is below the limit is outside */
		check_left(m, AT_LOAD, NX_LEAVE_SEGMENT);
		*ds = good;
		m->start.seg[NX_SS].limit = (uint32_t)m->start.gpr[NX_RSP] - size - 1;
		check_left(m, push_offset(m), NX_LEAVE_SEGMENT);
		mock_free(m);
	}
}

static void segment_bases_are_added(void **state)
{
	struct mock *m = new_access(MOCK_FLAT32);
	uint32_t value = 0xfeedface;

	(void)state;
	m->start.seg[NX_DS].base = 0x1800;
	mock_poke(m, MOCK_DATA + 0x120 + 0x1800, &value, 4);
	for (unsigned i = 0; i < 4; i++)
		mock_run(m); /* another kind of code: translated once more */
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], value);
	assert_memory_equal(m->ram + MOCK_DATA + 0x200 + 0x1800, &value, 2);
	/* 4 GiB of linear addresses, no more: base and offset wrap. */
	m->start.seg[NX_DS].base = 0xffff0000;
	m->start.gpr[NX_RBX] = MOCK_DATA + 0x100 + 0x10000;
	m->start.gpr[NX_RDI] = MOCK_DATA + 0x200 + 0x10000;
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	assert_memory_equal(m->ram + MOCK_DATA + 0x200, m->start_ram + MOCK_DATA + 0x120, 2);
	mock_free(m);
}

static void loads_cross_pages_and_stores_leave(void **state)
{
	(void)state;
	for (enum mock_mode mode = MOCK_REAL16; mode <= MOCK_PAE32; mode++) {
		struct mock *m = new_access(mode);
		const uint32_t base = m->start.seg[NX_DS].base ? 0 : MOCK_DATA;
		uint32_t value = 0;

		m->start.gpr[NX_RBX] = base + 0xfff - 0x20;
		mock_run(m);
		mock_check_ended(m);
		memcpy(&value, m->start_ram + MOCK_DATA + 0xfff, mode <= MOCK_PROT16 ? 2 : 4);
		assert_int_equal((uint32_t)nx_engine_state(m->engine)->gpr[NX_RCX] &
				     (mode <= MOCK_PROT16 ? 0xffff : 0xffffffff),
				 value);
		/* Into a missing page: never done, whatever of it would fit. */
		if (mode >= MOCK_PAGED32) {
			mock_set_pte(m, MOCK_DATA + 0x1000, 0);
			check_left(m, AT_LOAD, NX_LEAVE_PAGE_FAULT);
			mock_set_pte(m, MOCK_DATA + 0x1000, (MOCK_DATA + 0x1000) | PTE_ALL);
		}
		m->page[MOCK_DATA / 4096 + 1] = MOCK_PAGE_DEVICE;
		check_left(m, AT_LOAD, NX_LEAVE_PAGE_CROSSING);
		m->page[MOCK_DATA / 4096 + 1] = MOCK_PAGE_RAM;
		m->start.gpr[NX_RBX] = base + 0x100;
		m->start.gpr[NX_RDI] = base + 0xfff;
		check_left(m, store_offset(m), NX_LEAVE_PAGE_CROSSING);
		mock_free(m);
	}
}

/* ---- Locked accesses across cache lines, which cost the whole machine, are the processor's ----
 */

GUEST(lock_add, 64, "in al, dx", "lock add [rsi], rcx; out dx, al", "ret");
GUEST(lock_xchg, 64, "in al, dx", "xchg [rsi], rcx; out dx, al", "ret");
GUEST(lock_bts, 64, "in al, dx", "lock bts [rsi], r8; out dx, al", "ret");
GUEST(plain_add, 64, "in al, dx", "add [rsi], rcx; out dx, al", "ret");
GUEST(plain_bts, 64, "in al, dx", "bts [rsi], r8; out dx, al", "ret");

static void check_lines(const uint8_t *code, const uint8_t *resume, const uint8_t *stop,
			const uint8_t *end, bool locks)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_BRANCHES);
	const uint32_t line = MOCK_DATA + 0x440;

	mock_load(m, code, resume, stop, end);
	m->start.gpr[NX_R8] = 5;
	m->start.gpr[NX_RSI] = line;
	mock_warm(m);
	/* Eight bytes from each offset: up to 56 they are in one line. */
	for (unsigned offset = 1; offset < 64; offset++) {
		m->start.gpr[NX_RSI] = line + offset;
		mock_run(m);
		if (locks && offset > 56) {
			assert_int_equal(m->reason, NX_LEAVE_SPLIT_LOCK);
			m->want.rip = m->resume_rip;
			mock_check(m);
		} else {
			mock_check_ended(m);
			assert_int_equal(m->exits, 1);
		}
		mock_check_native(m);
	}
	mock_free(m);
}

#define CHECK_LINES(name, locks) check_lines(name, name##_resume, name##_stop, name##_end, locks)

static void locks_across_lines_leave(void **state)
{
	(void)state;
	CHECK_LINES(lock_add, true);
	CHECK_LINES(lock_xchg, true);
	CHECK_LINES(lock_bts, true);
	CHECK_LINES(plain_add, false);
	CHECK_LINES(plain_bts, false);
}

GUEST(fs_64, 64, "in al, dx", "mov ecx, fs:[rsi]; mov gs:[rdi], ecx; mov r8, ds:[rsi]; out dx, al",
      "ret");

static void long_mode_has_two_bases(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 3, NX_LEVEL_BRANCHES);
	uint32_t value = 0xfeedface;

	(void)state;
	MOCK_LOAD(m, fs_64);
	m->start.seg[NX_FS].base = 0x7fff00000000;
	m->start.seg[NX_GS].base = 0xffffffffffff0000;
	/* The others' bases and all limits are ignored. */
	m->start.seg[NX_DS].base = 0x12345000;
	m->start.seg[NX_DS].limit = 0;
	m->start.seg[NX_FS].limit = 0;
	m->start.gpr[NX_RSI] = MOCK_DATA - 0x7fff00000000;
	m->start.gpr[NX_RDI] = MOCK_DATA + 0x10008;
	mock_poke(m, MOCK_DATA, &value, 4);
	for (unsigned i = 0; i < 4; i++)
		mock_run(m);
	/* rsi itself is not canonical enough to have a page: the third load leaves. */
	assert_int_equal(m->reason, NX_LEAVE_PAGE_FAULT);
	m->start.seg[NX_FS].base = 0x4000;
	m->start.gpr[NX_RSI] = MOCK_DATA - 0x4000;
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], value);
	assert_memory_equal(m->ram + MOCK_DATA + 8, &value, 4);
	/* An address that is not canonical faults differently. */
	m->start.gpr[NX_RSI] = 0x0000800000000000;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_FAULT);
	assert_int_equal(nx_engine_state(m->engine)->rip, m->resume_rip);
	mock_free(m);
}

/* ---- What is left alone ---- */

GUEST(lonely, 64, "in al, dx", "inc rbx", "hlt");

/* The engine says which exits it leaves to the hardware, and why. */
static void what_is_left_alone_is_named(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_PATHS);
	struct nx_alone place, found = {0};
	unsigned places = 0;

	(void)state;
	MOCK_LOAD(m, lonely);
	mock_run(m);
	for (unsigned i = 0; i < NX_ALONE_PLACES; i++) {
		if (!nx_engine_alone(m->engine, i, &place))
			continue;
		assert_int_equal(place.rip, m->code_rip);
		assert_int_equal(place.times, 1);
		assert_int_equal(place.reason, NX_ALONE_COLD);
		assert_int_equal(place.leave, NX_OK);
		places++;
	}
	assert_int_equal(places, 1);
	for (unsigned i = 0; i < 100; i++)
		mock_run(m);
	for (unsigned i = 0; i < NX_ALONE_PLACES; i++) {
		if (nx_engine_alone(m->engine, i, &place) && place.rip == m->code_rip)
			found = place;
	}
	assert_int_equal(found.reason, NX_ALONE_BARREN);
	assert_int_not_equal(found.leave, NX_OK);
	assert_in_range(found.times, 50, 101);
	assert_false(nx_engine_alone(m->engine, NX_ALONE_PLACES, &place));
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(faults_leave_before_the_instruction),
	    cmocka_unit_test(accessed_and_dirty_bits_are_set),
	    cmocka_unit_test(translation_of_data_is_not_kept),
	    cmocka_unit_test(pages_that_share_a_tlb_entry),
	    cmocka_unit_test(real_mode_wraps_at_64_kib),
	    cmocka_unit_test(segment_limits_and_rights),
	    cmocka_unit_test(segment_bases_are_added),
	    cmocka_unit_test(loads_cross_pages_and_stores_leave),
	    cmocka_unit_test(locks_across_lines_leave),
	    cmocka_unit_test(long_mode_has_two_bases),
	    cmocka_unit_test(what_is_left_alone_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
