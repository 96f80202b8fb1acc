/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What the translator emits, under attack: guest code of all modes is run until it is translated;
 * the verifier must accept every translation and refuse its harmful mutants.
 */
#include <stdio.h>

#include "../mock/secret.h"
#include "mock.h"

#include "engine.h"
#include "verify_mutate.h"
#include "verify_oracle.h"

GUEST(long_memory, 64, "in al, dx",
      "mov ecx, [rsi]; add [rdi], rcx; lock xadd [rdi+8], r9;"
      "movzx r10d, byte ptr [rsi+3]; out dx, al",
      "ret");
GUEST(long_stack, 64, "in al, dx",
      "push rcx; cmp rcx, r8; pop r15; mov r11, [rsp-8]; jle 1f; inc r9; 1: adc r9, 7;"
      "lea rbp, [rsp+16]; out dx, al",
      "ret");
GUEST(long_homed, 64, "in eax, dx",
      "xchg r15, r10; add r10, r11; adc r14d, r15d; imul r11, r14; bswap r11; shld r8, r14, cl;"
      "out dx, eax",
      "ret");
GUEST(flat_branches, 32, "in al, dx",
      "test al, 8; jz 1f; mov ebx, [esi]; or dword ptr [edi+4], 0x100; 1: setnz cl; xor eax, ecx;"
      "jecxz 2f; bts dword ptr [edi], 5; 2: out dx, al; mov al, cl; out dx, al",
      "ret");
GUEST(paged_flags, 32, "in al, dx",
      "sub ecx, ebx; mov [edi], ecx; jo 1f; inc ebp; 1: sbb eax, [esi+8]; cmovs ebp, [esi];"
      "out dx, eax",
      "ret");
/* Constants of all lengths, in all instructions that have one. */
GUEST(
    long_constants, 64, "in al, dx",
    "mov rcx, 0x123456789abcdef0; add ecx, 0x12345678; adc r10, -0x23456789; test r9d, 0x3456789a;"
    "imul r14, r15, 0x456789ab; mov dword ptr [rsi], 0x56789abc; lea rbx, [rcx + rdi * 4 + "
    "0x6789abcd];"
    "out dx, al",
    "ret");
GUEST(flat_constants, 32, "in al, dx",
      "mov ecx, 0x12345678; sub dword ptr [edi], 0x23456789; sbb eax, 0x3456789a; push 0x456789ab;"
      "lea ebx, [ecx + 0x56789abc]; imul ebp, [esi], 0x6789abcd; out dx, al",
      "ret");
GUEST(real_bios, 16, "out dx, eax",
      "mov dx, 0xcfc; mov al, cl; and al, 3; add dl, al; mov [bx+si], ax; xchg ah, al; out dx, al",
      "hlt");

static struct verify_mutation sum;
static unsigned translations;

static void attack(const struct mock *m, const char *name)
{
	static struct nx_translation t;
	const struct nx_cache *cache = &m->engine->cache;

	for (uint32_t i = 0; i < cache->clusters; i++) {
		const struct nx_cluster *c = &cache->cluster[i];
		struct nx_thunks thunks = m->engine->thunks;

		thunks.code = (uintptr_t)m->memory.code_rx + c->code;
		memset(&t, 0, sizeof(t));
		t.size = c->code_size;
		t.sites = c->sites;
		t.entries = c->entries;
		memcpy(t.site, c->site, c->sites * sizeof(t.site[0]));
		memcpy(t.entry, c->entry, c->entries * sizeof(t.entry[0]));
		verify_mutate(name, (const uint8_t *)m->memory.code_rw + c->code, &t, &thunks, i,
			      &sum);
		translations++;
	}
}

static void try(enum mock_mode mode, const char *name, const uint8_t *code, const uint8_t *resume,
		const uint8_t *stop, const uint8_t *end)
{
	struct mock *m = mock_new(mode, 0, NX_LEVEL_BRANCHES);
	unsigned before = translations;

	mock_load(m, code, resume, stop, end);
	m->start.gpr[NX_RDX] = 0x3f8;
	m->start.gpr[NX_RSI] = mode == MOCK_REAL16 ? 0x40 : MOCK_DATA;
	m->start.gpr[NX_RDI] = MOCK_DATA + 0x100;
	/* Paths behind later exits become hot on their own. */
	for (unsigned i = 0; i < 20; i++)
		mock_run(m);
	assert_int_equal(nx_engine_counters(m->engine)->refused, 0);
	attack(m, name);
	if (translations == before)
		print_error("%s was not translated\n", name);
	assert_true(translations > before);
	mock_free(m);
}

#define TRY(mode, guest) try(mode, #guest, guest, guest##_resume, guest##_stop, guest##_end)

static void try_all(enum nx_branches branches, uint64_t blind)
{
	mock_branches = branches;
	mock_blind = blind;
	TRY(MOCK_LONG64, long_memory);
	TRY(MOCK_LONG64, long_stack);
	TRY(MOCK_LONG64, long_homed);
	TRY(MOCK_LONG64, long_constants);
	TRY(MOCK_FLAT32, flat_constants);
	TRY(MOCK_FLAT32, flat_branches);
	TRY(MOCK_PAE32, paged_flags);
	TRY(MOCK_PROT16, real_bios);
	TRY(MOCK_REAL16, real_bios);
}

/* What is demanded of direct branches is demanded of tracked ones, too. */
static void test_translations(void **state)
{
	(void)state;
	try_all(NX_BRANCHES_INDIRECT, 0);
	try_all(NX_BRANCHES_TRACKED, 0);
	try_all(NX_BRANCHES_TRACKED, MOCK_SECRET);
	printf("%u translations, ", translations);
	verify_mutation_print(&sum);
	assert_true(sum.refused >= 10000);
	assert_true(sum.accepted >= 1000);
	assert_int_equal(sum.harmful, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_translations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
