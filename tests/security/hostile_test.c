/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * hostile_test.c - guests that try to get out of the engine: docs/security.md.
 *
 * Guest memory lies between two guards that nobody may touch, and beyond the lower one lies a
 * secret of the VMM's. After each attack: no fault, the secret is whole, it is in nothing that the
 * guest can see, nor is an address of the host's; and no RAM was taken for a device. What the guest
 * computed is other tests' business.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include "mock.h"

#define GUARD (64u << 20)
#define SECRET 0x5ec2e7c0ffee5a1cull
#define SECRET_SIZE 0x10000u
#define LAST_EXIT 60 /* then the stop flag is set: random code may loop */

static uint64_t random_state;

static uint64_t random64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static unsigned random_below(unsigned n)
{
	return (unsigned)(random64() % n);
}

/* ---- The prison ---- */

#define SLIDE 0x5a3b9c7d1000u

struct prison {
	struct mock *m;
	uint8_t *region; /* secret, guard, guest memory, guard */
	uint64_t *secret;
};

static struct prison prison_new(enum mock_mode mode, unsigned cpl)
{
	struct prison p;
	struct nx_config config;
	const size_t size = SECRET_SIZE + GUARD + MOCK_RAM_SIZE + GUARD;

	nx_config_default(&config);
	config.level = NX_LEVEL_PATHS;
	config.guest_features = ~0u;
	/* Where a program was met first is a number that the guest chooses. */
	config.experiment.slide = SLIDE;
	p.m = mock_new_config(mode, cpl, &config);
	p.region = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(p.region, MAP_FAILED);
	assert_int_equal(mprotect(p.region, SECRET_SIZE, PROT_READ | PROT_WRITE), 0);
	munmap(p.m->ram, MOCK_RAM_SIZE);
	p.m->ram = p.region + SECRET_SIZE + GUARD;
	assert_int_equal(mprotect(p.m->ram, MOCK_RAM_SIZE, PROT_READ | PROT_WRITE), 0);
	p.secret = (uint64_t *)p.region;
	for (unsigned i = 0; i < SECRET_SIZE / 8; i++)
		p.secret[i] = SECRET;
	p.m->stop_at = LAST_EXIT;
	/* No page beside device memory, at either end, is an accident. */
	p.m->page[MOCK_EXTRA / 4096 + 2] = MOCK_PAGE_DEVICE;
	p.m->page[MOCK_EXTRA / 4096 + 4] = MOCK_PAGE_LEAVE;
	p.m->page[MOCK_EXTRA / 4096 + 6] = MOCK_PAGE_ROM;
	return p;
}

static void prison_free(struct prison *p)
{
	uint8_t *ram = p->m->ram;

	/* The mock unmaps its part of the region, then the rest goes. */
	mock_free(p->m);
	munmap(p->region, SECRET_SIZE + GUARD);
	munmap(ram + MOCK_RAM_SIZE, GUARD);
}

static bool within(uint64_t value, const void *start, size_t size)
{
	return value - (uintptr_t)start < size;
}

static bool is_host_address(const struct prison *p, uint64_t value)
{
	const struct nx_memory *memory = &p->m->memory;

	return within(value, p->region, SECRET_SIZE + 2 * (size_t)GUARD + MOCK_RAM_SIZE) ||
	       within(value, memory->arena, memory->arena_size) ||
	       within(value, memory->code_rw, memory->code_size) ||
	       within(value, memory->code_rx, memory->code_size) ||
	       within(value, __builtin_frame_address(0), 0x1000);
}

static void check_value(const struct prison *p, const char *where, uint64_t value)
{
	if (value == SECRET)
		fail_msg("%s has the secret", where);
	if (is_host_address(p, value))
		fail_msg("%s has the host's address %#llx", where, (unsigned long long)value);
}

/* knows: the guest was given host addresses as its attack; it may have them. */
static void prison_check(const struct prison *p, bool knows)
{
	const struct mock *m = p->m;
	const struct nx_state *state = nx_engine_state(m->engine);

	for (unsigned i = 0; i < SECRET_SIZE / 8; i++)
		assert_int_equal(p->secret[i], SECRET);
	for (unsigned i = 0; i < m->exits && i < MOCK_LOG; i++) {
		const struct mock_access *access = &m->log[i];

		if (access->kind == NX_EXIT_MMIO && access->where < MOCK_RAM_SIZE &&
		    m->page[access->where / 4096] == MOCK_PAGE_RAM)
			fail_msg("RAM at %#llx was taken for a device",
				 (unsigned long long)access->where);
		if (!knows && access->write)
			check_value(p, "a device", access->data);
	}
	if (knows)
		return;
	for (unsigned i = 0; i < NX_GPRS; i++)
		check_value(p, "a register", state->gpr[i]);
	for (size_t at = 0; at + 8 <= MOCK_RAM_SIZE; at += 8) {
		uint64_t now, before;

		memcpy(&now, m->ram + at, 8);
		memcpy(&before, m->start_ram + at, 8);
		if (now != before)
			check_value(p, "guest memory", now);
	}
}

/* ---- Addresses ---- */

// clang-format off
#define ATTACKS(X, bits, a, b, c, s, d, sp) \
	X(load_##bits, bits, "mov " a ", [" b "]") \
	X(store_##bits, bits, "mov [" b "], " a) \
	X(locked_##bits, bits, "lock add [" b "], " a) \
	X(exchange_##bits, bits, "xchg [" b "], " a) \
	X(indexed_##bits, bits, "mov " a ", [" b "+" c "*8-0x7ffffff8]") \
	X(wide_##bits, bits, "mov [" b "+0x7fffffff], " a) \
	X(push_##bits, bits, "mov " sp ", " b "; push " a "; pop " a) \
	X(leave_##bits, bits, "mov " sp ", " b "; pop " c "; push " a) \
	X(bit_##bits, bits, "bt [" b "], " c) \
	X(bit_set_##bits, bits, "lock bts [" b "], " c) \
	X(copy_##bits, bits, "rep movsb") \
	X(fill_##bits, bits, "rep stosb") \
	X(compare_##bits, bits, "repe cmpsb") \
	X(scan_##bits, bits, "std; repne scasb; cld") \
	X(table_##bits, bits, "xlatb") \
	X(indirect_##bits, bits, "cmp " c ", 1; je 1f; jmp " b "; 1:") \
	X(called_##bits, bits, "cmp " c ", 1; je 1f; mov " sp ", " b "; ret; 1:")
// clang-format on

#define DEFINE(name, bits, code) GUEST(name, bits, "in al, dx", code "; out dx, al", "hlt");
ATTACKS(DEFINE, 64, "rax", "rbx", "rcx", "rsi", "rdi", "rsp")
GUEST(pair_64, 64, "in al, dx", "lock cmpxchg16b [rbx]; out dx, al", "hlt");
GUEST(based_64, 64, "in al, dx", "mov rax, fs:[rbx]; mov gs:[rcx], rax; out dx, al", "hlt");
ATTACKS(DEFINE, 32, "eax", "ebx", "ecx", "esi", "edi", "esp")
GUEST(load_16, 16, "in al, dx", "mov ax, [bx+si+0x7f]; mov [bx+di-1], ax; out dx, al", "hlt");
GUEST(copy_16, 16, "in al, dx", "rep movsw; out dx, al", "hlt");
GUEST(push_16, 16, "in al, dx", "mov sp, bx; push eax; pop ebx; out dx, al", "hlt");
GUEST(wide_16, 16, "in al, dx", "mov eax, [ebx+ecx*8]; mov [esi], eax; out dx, al", "hlt");

struct attack {
	const uint8_t *code, *resume, *stop, *end;
	unsigned bits;
};

#define ATTACK(name, bits, code) {name, name##_resume, name##_stop, name##_end, bits},
static const struct attack attacks[] = {
    ATTACKS(ATTACK, 64, "rax", "rbx", "rcx", "rsi", "rdi", "rsp") //
    ATTACKS(ATTACK, 32, "eax", "ebx", "ecx", "esi", "edi", "esp") //
    ATTACK(pair_64, 64, "") ATTACK(based_64, 64, "")              //
    ATTACK(load_16, 16, "") ATTACK(copy_16, 16, "")               //
    ATTACK(push_16, 16, "") ATTACK(wide_16, 16, "")};
#define ATTACK_COUNT (sizeof(attacks) / sizeof(*attacks))

static unsigned mode_bits(enum mock_mode mode)
{
	return mode <= MOCK_PROT16 ? 16 : mode == MOCK_LONG64 ? 64 : 32;
}

/* An address at an edge of something, or a few bytes beside it. */
static uint64_t hostile_address(const struct prison *p, bool *knows)
{
	static const uint64_t edges[] = {0,
					 0x1000,
					 MOCK_CODE,
					 MOCK_DATA,
					 MOCK_STACK,
					 MOCK_EXTRA + 0x2000,
					 MOCK_EXTRA + 0x3000,
					 MOCK_EXTRA + 0x4000,
					 MOCK_EXTRA + 0x5000,
					 MOCK_EXTRA + 0x6000,
					 MOCK_EXTRA + 0x7000,
					 0xf0000,
					 MOCK_RAM_SIZE,
					 MOCK_DEVICE,
					 MOCK_DEVICE_END,
					 0x7fffffff,
					 0x80000000,
					 0xfec00000,
					 0xffffffff,
					 0x100000000,
					 0x7fffffffffff,
					 0x800000000000,
					 0xffff800000000000,
					 0x7fffffffffffffff,
					 0x8000000000000000,
					 0xffffffffffffffff};
	const unsigned count = sizeof(edges) / sizeof(*edges);
	const uint64_t host[] = {(uintptr_t)p->m->ram, (uintptr_t)p->region,
				 (uintptr_t)p->m->memory.arena, (uintptr_t)p->m->memory.code_rx,
				 (uintptr_t)p->region - (uintptr_t)p->m->ram};
	const unsigned which = random_below(count + 6);
	uint64_t address;

	if (which < count) {
		address = edges[which];
	} else if (which < count + 5) {
		address = host[which - count];
		*knows = true;
	} else {
		address = random64() >> random_below(64);
	}
	return address + random_below(33) - 16;
}

static void set_hostile_registers(const struct prison *p, struct nx_state *state, bool *knows)
{
	static const enum nx_gpr used[] = {NX_RBX, NX_RCX, NX_RSI, NX_RDI, NX_RBP};
	const bool wide = p->m->mode == MOCK_LONG64;

	for (unsigned i = 0; i < sizeof(used) / sizeof(*used); i++) {
		uint64_t value = hostile_address(p, knows);

		state->gpr[used[i]] = wide ? value : (uint32_t)value;
	}
	if (random_below(4) == 0)
		state->gpr[NX_RSP] = state->gpr[NX_RBX];
	/* A short count lets a string instruction begin, where a long one leaves at once. */
	if (random_below(2))
		state->gpr[NX_RCX] = random_below(40);
	if (wide) {
		state->seg[NX_FS].base = hostile_address(p, knows);
		state->seg[NX_GS].base = hostile_address(p, knows);
	}
}

static void load(struct prison *p, const struct attack *attack)
{
	static const enum nx_gpr used[] = {NX_RBX, NX_RSI, NX_RDI};

	mock_load(p->m, attack->code, attack->resume, attack->stop, attack->end);
	for (unsigned i = 0; i < sizeof(used) / sizeof(*used); i++)
		p->m->start.gpr[used[i]] = p->m->start.seg[NX_DS].base ? 0x100 : MOCK_DATA + 0x100;
	p->m->start.gpr[NX_RCX] = 1;
	p->m->start.gpr[NX_RDX] = 0x1f0;
}

/* Translated for good addresses, run with bad ones. */
static void attack_with_addresses(enum mock_mode mode, const struct attack *attack, unsigned runs)
{
	struct prison p = prison_new(mode, mode == MOCK_REAL16 ? 0 : random_below(2) * 3);
	const struct nx_counters *counters = nx_engine_counters(p.m->engine);

	load(&p, attack);
	for (unsigned i = 0; i < 6; i++)
		mock_run(p.m);
	assert_int_equal(counters->refused, 0);
	for (unsigned i = 0; i < runs; i++) {
		struct nx_state good = p.m->start;
		bool knows = false;

		set_hostile_registers(&p, &p.m->start, &knows);
		mock_run(p.m);
		prison_check(&p, knows);
		p.m->start = good;
	}
	/* It was the engine that was attacked. */
	assert_true(counters->enters > 0);
	prison_free(&p);
}

static void addresses(void **state)
{
	(void)state;
	random_state = 0x9e3779b97f4a7c15;
	for (unsigned i = 0; i < ATTACK_COUNT; i++) {
		for (unsigned mode = 0; mode < MOCK_MODES; mode++) {
			if (mode_bits((enum mock_mode)mode) == attacks[i].bits)
				attack_with_addresses((enum mock_mode)mode, &attacks[i], 60);
		}
	}
}

/* ---- Descriptors ---- */

static void set_hostile_segment(const struct mock *m, struct nx_segment *segment)
{
	static const uint32_t limits[] = {
	    0, 1, 6, 0xffe, 0xfff, 0x1000, 0xffff, 0xfffff, 0x7fffffff, 0xfffffffe, 0xffffffff};

	segment->limit = limits[random_below(sizeof(limits) / sizeof(*limits))];
	segment->base = (uint32_t)(random64() >> random_below(64));
	segment->type = (uint8_t)random_below(16);
	segment->db = random_below(2);
	segment->present = random_below(8);
	segment->unusable = !random_below(8);
	if (m->mode == MOCK_REAL16)
		segment->limit = random_below(2) ? 0xffff : 0xffffffff;
}

static void descriptors(void **state)
{
	static const enum nx_sreg segments[] = {NX_ES, NX_SS, NX_DS, NX_FS, NX_GS};

	(void)state;
	random_state = 0xd1b54a32d192ed03;
	for (unsigned i = 0; i < ATTACK_COUNT; i++) {
		enum mock_mode mode = attacks[i].bits == 16 ? MOCK_PROT16 : MOCK_FLAT32;
		struct prison p;

		if (attacks[i].bits == 64)
			continue;
		p = prison_new(mode, 0);
		load(&p, &attacks[i]);
		for (unsigned run = 0; run < 150; run++) {
			struct nx_state good = p.m->start;
			bool knows = false;

			/* Now and then as it was translated at first. */
			for (unsigned s = 0; s < 5 && run % 5; s++)
				set_hostile_segment(p.m, &p.m->start.seg[segments[s]]);
			if (run % 3)
				set_hostile_registers(&p, &p.m->start, &knows);
			mock_run(p.m);
			prison_check(&p, knows);
			p.m->start = good;
		}
		assert_true(nx_engine_counters(p.m->engine)->enters > 0);
		prison_free(&p);
	}
}

/* ---- Code of the guest's choice ---- */

static void random_code(void **state)
{
	struct prison p;
	uint64_t entered = 0;

	(void)state;
	random_state = 0x8cb92ba72f3d8dd7;
	for (unsigned seed = 0; seed < 400; seed++) {
		bool knows = false;

		p = prison_new((enum mock_mode)(seed % MOCK_MODES), 0);
		load(&p, &attacks[0]);
		for (unsigned i = 1; i < 40; i++)
			p.m->start_ram[p.m->code_gpa + i] = (uint8_t)random64();
		/* Something to be reached, or little of it would be translated. */
		for (unsigned i = 3 + random_below(6); i < 40; i += 3 + random_below(9))
			p.m->start_ram[p.m->code_gpa + i] = (uint8_t)(0xec | random_below(4));
		set_hostile_registers(&p, &p.m->start, &knows);
		for (unsigned run = 0; run < 6; run++) {
			mock_run(p.m);
			prison_check(&p, knows);
		}
		entered += nx_engine_counters(p.m->engine)->enters;
		prison_free(&p);
	}
	assert_true(entered > 100);
}

/* ---- What other vCPUs change meanwhile ---- */

/* Two of its pages share an entry of the software TLB. */
GUEST(walker, 64, "in al, dx",
      "1: mov [rbx], rax; mov rax, [rbx+0x40000]; mov [rbx], rax; mov [rbx+0x1008], rax; lock inc "
      "qword ptr [rbx+0x2010]; push rax; "
      "pop rcx; out dx, al; add rbx, 0x1000; dec edi; jnz 1b",
      "hlt");

/* An entry of a page table: often a page of RAM other than the one expected there, else nonsense.
 */
static uint64_t hostile_entry(uint64_t random)
{
	static const uint64_t entries[] = {0,
					   7,
					   MOCK_DATA | 7,
					   (MOCK_EXTRA + 0x2000) | 7,
					   0xf0000 | 7,
					   0xf2000 | 7,
					   MOCK_CODE | 7,
					   (MOCK_RAM_SIZE - 0x1000) | 7,
					   MOCK_RAM_SIZE | 7,
					   0xfffffff000 | 7,
					   0xffffffffff000 | 7,
					   0x8000000000000007,
					   0x87,
					   0xe00087,
					   ~0ull,
					   MOCK_DATA | 5,
					   MOCK_DATA | 3};

	return random % 3 ? (random >> 8) % 64 << 12 | 7
			  : entries[(random >> 8) % (sizeof(entries) / sizeof(*entries))];
}

static void load_walker(struct prison *p)
{
	const struct attack attack = {walker, walker_resume, walker_stop, walker_end, 64};

	load(p, &attack);
	p->m->start.gpr[NX_RBX] = MOCK_DATA;
	p->m->start.gpr[NX_RDI] = 20;
	for (unsigned i = 0; i < 6; i++)
		mock_run(p->m);
	assert_int_equal(p->m->exits, 20);
}

static void page_tables(void **state)
{
	struct prison p = prison_new(MOCK_LONG64, 0);

	(void)state;
	random_state = 0xa0761d6478bd642f;
	load_walker(&p);
	for (unsigned i = 0; i < 400; i++) {
		for (unsigned page = MOCK_DATA / 4096; page < 0x80; page++)
			mock_set_pte(p.m, page * 4096,
				     random_below(4) ? page * 4096 | 7u
						     : hostile_entry(random64()));
		mock_run(p.m);
		prison_check(&p, false);
	}
	assert_true(nx_engine_counters(p.m->engine)->enters > 100);
	prison_free(&p);
}

/*
 * Each run finds memory as it was made, gets into its code, and then waits for the other thread's
 * first change: so they meet on any machine. From there on both go on at once.
 */
struct other_vcpu {
	const struct prison *p;
	pthread_mutex_t lock;
	bool going, stop; /* under the lock */
	bool code;        /* it changes the code as well */
	uint64_t seed;
	atomic_ullong writes;
};

static struct other_vcpu *other_vcpu;

static void change_something(const struct other_vcpu *other, uint64_t random)
{
	uint8_t *ram = other->p->m->ram;
	unsigned page = (unsigned)(random >> 33);
	uint64_t entry = hostile_entry(random >> 20);

	if (other->code && random >> 63)
		__atomic_store_n(ram + MOCK_CODE + page % 48, (uint8_t)(random >> 24),
				 __ATOMIC_RELAXED);
	else if (page % 97 == 0)
		__atomic_store_n((uint64_t *)(ram + 0xf2000) + page % 5, entry, __ATOMIC_RELAXED);
	else
		__atomic_store_n((uint64_t *)(ram + 0xf3000) + page % 256, entry, __ATOMIC_RELAXED);
}

static void *change_things(void *data)
{
	struct other_vcpu *other = data;
	uint64_t state = other->seed;
	bool going, stop = false;

	while (!stop) {
		pthread_mutex_lock(&other->lock);
		going = other->going;
		stop = other->stop;
		if (going) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			change_something(other, state);
			atomic_fetch_add(&other->writes, 1);
		}
		pthread_mutex_unlock(&other->lock);
		if (!going)
			sched_yield();
	}
	return NULL;
}

static void let_go(struct other_vcpu *other, bool going, bool stop)
{
	pthread_mutex_lock(&other->lock);
	other->going = going;
	other->stop = stop;
	pthread_mutex_unlock(&other->lock);
}

static void meet_at_second_exit(struct mock *m, unsigned number)
{
	unsigned long long before = atomic_load(&other_vcpu->writes);

	(void)m;
	if (number != 2)
		return;
	let_go(other_vcpu, true, false);
	while (atomic_load(&other_vcpu->writes) == before)
		sched_yield();
}

static void attack_concurrently(bool code)
{
	struct prison p = prison_new(MOCK_LONG64, 0);
	struct other_vcpu other = {
	    .p = &p, .lock = PTHREAD_MUTEX_INITIALIZER, .code = code, .seed = 0x2545f4914f6cdd1d};
	const struct nx_counters *counters = nx_engine_counters(p.m->engine);
	pthread_t thread;

	load_walker(&p);
	other_vcpu = &other;
	p.m->on_exit = meet_at_second_exit;
	assert_int_equal(pthread_create(&thread, NULL, change_things, &other), 0);
	for (unsigned i = 0; i < 1500; i++) {
		mock_run(p.m);
		let_go(&other, false, false);
		/* The tables change until the thread has ended: what is RAM is not known here. */
		for (unsigned r = 0; r < NX_GPRS; r++)
			check_value(&p, "a register", nx_engine_state(p.m->engine)->gpr[r]);
	}
	let_go(&other, false, true);
	pthread_join(thread, NULL);
	assert_true(other.writes > 1000);
	prison_check(&p, false);
	assert_true(counters->enters > 1500);
	assert_true(!code || counters->leaves[NX_LEAVE_CODE_CHANGED] > 10);
	prison_free(&p);
}

static void page_tables_that_change(void **state)
{
	(void)state;
	attack_concurrently(false);
}

static void code_that_changes(void **state)
{
	(void)state;
	attack_concurrently(true);
}

/* ---- The process ---- */

/* While an engine exists, nothing is both writable and executable, under any name. */
static void no_page_is_written_and_executed(void **state)
{
	struct prison p = prison_new(MOCK_LONG64, 0);
	FILE *maps = fopen("/proc/self/maps", "r");
	bool found = false;
	char line[512];

	(void)state;
	load(&p, &attacks[0]);
	for (unsigned i = 0; i < 6; i++)
		mock_run(p.m);
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		const char *rights = strchr(line, ' ') + 1;

		if (rights[1] == 'w' && rights[2] == 'x')
			fail_msg("both writable and executable: %s", line);
		found |= rights[2] == 'x' && strstr(line, "noexit-code");
	}
	fclose(maps);
	assert_true(found);
	prison_free(&p);
}

/* The judge itself: it must see what it is there for. */
static void the_judge_sees(void **state)
{
	struct prison p = prison_new(MOCK_LONG64, 0);

	(void)state;
	assert_true(is_host_address(&p, (uintptr_t)p.m->ram));
	assert_true(is_host_address(&p, (uintptr_t)p.m->memory.code_rx + 8));
	assert_true(is_host_address(&p, (uintptr_t)p.secret));
	assert_false(is_host_address(&p, MOCK_DATA));
	prison_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_judge_sees),    cmocka_unit_test(addresses),
	    cmocka_unit_test(descriptors),       cmocka_unit_test(random_code),
	    cmocka_unit_test(page_tables),       cmocka_unit_test(page_tables_that_change),
	    cmocka_unit_test(code_that_changes), cmocka_unit_test(no_page_is_written_and_executed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
