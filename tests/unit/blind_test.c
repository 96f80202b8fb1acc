// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Blinded constants (context.h, rule 10): nothing that a guest chose is in its translation, the
 * guest's registers and memory are those that the processor would have left, and the verifier
 * refuses a constant whose key is wrong.
 */
#include <Zydis/Zydis.h>

#include "../mock/secret.h"
#include "stage.h"
#include "translate/emit.h"

/* Keys depend on it, and the bytes that are looked for must not come about by chance. */
#define PLACE 0x10000

/* Every instruction that has an immediate of 32 bits or more, with both kinds of registers and with
 * memory. */
GUEST(
    moves, 64, "in al, dx",
    "mov eax, 0x1a2b3c4d; mov rcx, 0x5e6f7f8192a3b4c5; mov r10, 0x2b3c4d5e6f708192; mov rbx, "
    "-0x3c4d5e6f;"
    "mov r11d, 0x94d5e6f7; mov r15, -0x55667788; mov r8d, -0x12ab34cd; mov rbp, 0x81726354;"
    "mov dword ptr [rsi], 0x71625344; mov qword ptr [rsi + 8], -0x62534435; push 0x53443526;"
    "push -0x44352617; pop r9; lea rdi, [rax + rbx * 4 + 0x35261708]; lea r14d, [r10 + 0x26170819];"
    "lea r11, [r15 - 0x17081920]; lea ecx, [r11 * 2 - 0x70819203]; out dx, al",
    "ret");
GUEST(arithmetic, 64, "in al, dx",
      "add eax, 0x1a2b3c4d; adc rcx, -0x2b3c4d5e; adc r10d, 0x3c4d5e6f; sbb rbx, 0x4d5e6f70; sbb "
      "r15, -0x5e6f7081;"
      "sub rax, 0x6f708192; and r9d, 0x71829304; or r11, 0x62931425; xor ebp, 0x5a3b1c2d;"
      "test eax, 0x4b3c2d1e; setz r8b; test r14, 0x3b4c5d6e; setnz r9b; cmp rax, -0x2c4d6e0f; setl "
      "bl;"
      "cmp r11d, 0x1d3e5f70; setb bh; imul ecx, eax, 0x12457896; imul r10, r11, -0x23568907;"
      "imul r14d, r14d, 0x34679018; imul r15, rcx, 0x45780129; imul rbp, [rsi], 0x5689123a;"
      "add dword ptr [rsi], 0x6790234b; lock or qword ptr [rsi + 8], 0x7801345c; cmp dword ptr "
      "[rsi], 0x7912456d;"
      "adc qword ptr [rsi + 16], -0x68f3579b; imul edi, edi, 0x57e2468a; out dx, al",
      "ret");
GUEST(control, 64, "in al, dx",
      "mov ecx, 3; 1: call 2f; add eax, 0x1a2b3c4d; dec ecx; jnz 1b; cmp rbx, 0x2b3c4d5e; jae 3f;"
      "xor ebp, 0x3c4d5e6f; 3: out dx, al; mov r8, 0x4d5e6f708192a3b4; out dx, al; jmp 4f;"
      "2: adc rbx, 0x5e6f7081; ret; 4: out dx, al",
      "ret");
GUEST(narrow, 32, "in al, dx",
      "mov ecx, 0x1a2b3c4d; adc dword ptr [esi], 0x2b3c4d5e; sbb eax, 0x3c4d5e6f; push 0x4d5e6f70; "
      "pop ebx;"
      "lea ebp, [ecx + eax * 2 + 0x5e6f7081]; imul eax, [esi], 0x6f708192; mov dword ptr [esi + "
      "4], 0x71829304;"
      "test ebx, 0x62931425; setnz dl; mov dx, 0x3f8; out dx, al",
      "hlt");

struct guest {
	const char *name;
	const uint8_t *code, *resume, *stop, *end;
	enum mock_mode mode;
};

#define ROW(name, mode)                                                   \
	{                                                                 \
#name, name, name##_resume, name##_stop, name##_end, mode \
	}

static const struct guest guests[] = {
    ROW(moves, MOCK_LONG64),
    ROW(arithmetic, MOCK_LONG64),
    ROW(narrow, MOCK_FLAT32),
    /* Its calls and returns have to be learnt by runs. */
    ROW(control, MOCK_LONG64),
};

#define GUESTS (sizeof(guests) / sizeof(guests[0]))
#define FORMED (GUESTS - 1)

static struct mock *load(const struct guest *guest, uint64_t blind)
{
	struct mock *m;

	mock_blind = blind;
	m = mock_new(guest->mode, 0, NX_LEVEL_PATHS);
	mock_load(m, guest->code, guest->resume, guest->stop, guest->end);
	m->start.gpr[NX_RSI] = MOCK_DATA;
	m->start.gpr[NX_RDX] = 0x3f8;
	return m;
}

/* ---- What stands in the text ---- */

/* Return whether three bytes in a row stand in the code; what is only a sign does not count. */
static bool contains(const uint8_t *text, uint32_t length, const uint8_t *bytes)
{
	for (unsigned i = 0; i < 3; i++)
		if (bytes[i] == 0 || bytes[i] == 0xff)
			return false;
	for (uint32_t at = 0; at + 3 <= length; at++)
		if (!memcmp(text + at, bytes, 3))
			return true;
	return false;
}

/*
 * Count the immediates and displacements of the guest's code that the translation has three bytes
 * in a row of; *seen: of how many that are long.
 */
static unsigned count_constants(const struct guest *guest, const struct nx_engine *engine,
				unsigned *seen)
{
	unsigned found = 0, bits = guest->mode == MOCK_LONG64 ? 64 : 32;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;
	ZydisDecoder decoder;

	ZydisDecoderInit(&decoder,
			 bits == 64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32,
			 bits == 64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
	*seen = 0;
	for (const uint8_t *at = guest->resume; at < guest->stop; at += insn.length) {
		assert_true(ZYAN_SUCCESS(ZydisDecoderDecodeFull(
		    &decoder, at, (ZyanUSize)(guest->stop - at), &insn, op)));
		if (insn.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
			continue;
		for (unsigned i = 0; i < 2; i++) {
			unsigned size = i ? insn.raw.imm[0].size / 8 : insn.raw.disp.size / 8;
			unsigned offset = i ? insn.raw.imm[0].offset : insn.raw.disp.offset;
			bool has = false;

			if (size < 4 ||
			    nx_is_short(i ? insn.raw.imm[0].value.s : insn.raw.disp.value))
				continue;
			++*seen;
			for (unsigned part = 0; part + 3 <= size; part++)
				has |= contains(engine->emitted, engine->translation.size,
						at + offset + part);
			found += has;
		}
	}
	return found;
}

static void translate(struct mock *m)
{
	stage_begin(m);
	assert_true(stage_form(m, NX_LEVEL_PATHS));
	m->engine->thunks.code = PLACE;
	assert_true(nx_translate(m->engine, &m->engine->graph, m->engine->emitted,
				 sizeof(m->engine->emitted), &m->engine->translation));
}

static enum nx_verify_result verify(struct mock *m, uint32_t *where)
{
	return nx_verify(m->engine->emitted, m->engine->translation.size, &m->engine->translation,
			 &m->engine->thunks, &m->engine->verify, where);
}

static void test_no_constant_stands_in_the_text(void **state)
{
	uint32_t where;

	(void)state;
	for (unsigned i = 0; i < FORMED; i++) {
		const struct guest *guest = &guests[i];
		struct mock *m = load(guest, 0);
		unsigned seen, found;
		uint32_t plain;

		translate(m);
		/* They do, where nobody asks for more. */
		found = count_constants(guest, m->engine, &seen);
		assert_int_equal(found, seen);
		assert_true(seen >= 5);
		plain = m->engine->translation.size;
		m->engine->thunks.blind = MOCK_SECRET;
		assert_int_equal(verify(m, &where), NX_VERIFY_CONSTANT);
		mock_free(m);

		m = load(guest, MOCK_SECRET);
		translate(m);
		if (count_constants(guest, m->engine, &seen))
			fail_msg("%s: a constant stands in the text", guest->name);
		assert_int_equal(verify(m, &where), NX_VERIFY_OK);
		print_message("%s: %u bytes of code, blinded %u\n", guest->name, plain,
			      m->engine->translation.size);
		mock_free(m);
	}
}

/* With another secret, or at another place, other bytes stand there. */
static void test_keys_differ(void **state)
{
	struct nx_thunks thunks = {.blind = MOCK_SECRET, .code = PLACE}, other = thunks;
	unsigned same = 0;

	(void)state;
	other.blind++;
	for (uint32_t at = 0; at < 4096; at++) {
		assert_true(nx_blind_key(&thunks, at) >= 0);
		same += nx_blind_key(&thunks, at) == nx_blind_key(&thunks, at + 1);
		same += nx_blind_key(&thunks, at) == nx_blind_key(&other, at);
	}
	assert_int_equal(same, 0);
}

/* ---- What the guest sees ---- */

static void test_guest_sees_no_difference(void **state)
{
	(void)state;
	for (unsigned i = 0; i < GUESTS; i++) {
		struct mock *m = load(&guests[i], MOCK_SECRET), *plain = load(&guests[i], 0);

		mock_warm(m);
		mock_warm(plain);
		assert_int_equal(m->exits, plain->exits);
		assert_true(m->exits > 0);
		assert_memory_equal(nx_engine_state(m->engine), nx_engine_state(plain->engine),
				    sizeof(struct nx_state));
		assert_memory_equal(m->ram, plain->ram, MOCK_RAM_SIZE);
		if (!mock_check_native(m))
			print_message("%s: not compared with the processor\n", guests[i].name);
		assert_int_equal(nx_engine_counters(m->engine)->refused, 0);
		mock_free(m);
		mock_free(plain);
	}
}

/* ---- What the verifier makes of it ---- */

static uint8_t code[256];
static uint32_t size;

static void put(const void *bytes, unsigned count)
{
	memcpy(code + size, bytes, count);
	size += count;
}

/* lea rcx, [rcx + key] */
static void put_key(int32_t key)
{
	put("\x48\x8d\x89", 3);
	put(&key, 4);
}

static enum nx_verify_result verify_code(void)
{
	/* mov dword [r15 + NX_CTX_SITE], 0; jmp [r15 + NX_CTX_THUNK_EXIT] */
	static const uint8_t exit[] = {0x41,
				       0xc7,
				       0x87,
				       NX_CTX_SITE,
				       0,
				       0,
				       0,
				       0,
				       0,
				       0,
				       0,
				       0x41,
				       0xff,
				       0xa7,
				       NX_CTX_THUNK_EXIT & 0xff,
				       NX_CTX_THUNK_EXIT >> 8,
				       0,
				       0};
	static struct nx_verify_scratch scratch;
	static struct nx_translation made;
	const struct nx_thunks thunks = {.blind = MOCK_SECRET, .code = PLACE};
	uint32_t where;

	put(exit, sizeof(exit));
	made.size = size;
	made.sites = made.entries = 1;
	return nx_verify(code, size, &made, &thunks, &scratch, &where);
}

/* mov rcx, imm64 and what undoes it, with this for its keys and this between them. */
static enum nx_verify_result try_halves(int32_t first, const char *between, unsigned count,
					int32_t second)
{
	size = 0;
	put("\x48\xb9\x88\x77\x66\x55\x44\x33\x22\x11", 10);
	put_key(first);
	put(between, count);
	put_key(second);
	return verify_code();
}

/* mov ecx, imm32; lea ecx, [rcx + key], or how else it is given. */
static enum nx_verify_result try_whole(const char *undoing, unsigned count, int32_t key)
{
	size = 0;
	put("\xb9\x44\x33\x22\x11", 5);
	put(undoing, count);
	put(&key, 4);
	return verify_code();
}

static void test_verifier_asks_for_keys(void **state)
{
	const struct nx_thunks thunks = {.blind = MOCK_SECRET, .code = PLACE};
	const int32_t first = nx_blind_key(&thunks, 0), second = nx_blind_key(&thunks, 1);
	static const char bswap_rcx[] = "\x48\x0f\xc9", bswap_ecx[] = "\x0f\xc9",
			  bswap_rdx[] = "\x48\x0f\xca";

	(void)state;
	assert_int_equal(try_whole("\x8d\x89", 2, first), NX_VERIFY_OK);
	assert_int_equal(try_whole("\x8d\x89", 2, ~first), NX_VERIFY_OK);
	assert_int_equal(try_whole("\x8d\x89", 2, -first), NX_VERIFY_CONSTANT);
	assert_int_equal(try_whole("\x8d\x89", 2, second), NX_VERIFY_CONSTANT);
	/* lea edx, [rcx + key]; lea ecx, [rdx + key]; lea rcx, [rcx + key]; lea ecx, [rcx + rcx +
	 * key] */
	assert_int_equal(try_whole("\x8d\x91", 2, first), NX_VERIFY_CONSTANT);
	assert_int_equal(try_whole("\x8d\x8a", 2, first), NX_VERIFY_CONSTANT);
	assert_int_equal(try_whole("\x48\x8d\x89", 3, first), NX_VERIFY_CONSTANT);
	assert_int_equal(try_whole("\x8d\x8c\x09", 3, first), NX_VERIFY_CONSTANT);
	/* add ecx, key; mov ecx, [rcx + key] */
	assert_int_equal(try_whole("\x81\xc1", 2, first), NX_VERIFY_CONSTANT);
	assert_int_equal(try_whole("\x8b\x89", 2, first), NX_VERIFY_CONSTANT);
	/* add ecx, imm32; lea ecx, [rcx + key] */
	size = 0;
	put("\x81\xc1\x44\x33\x22\x11\x8d\x89", 8);
	put(&first, 4);
	assert_int_equal(verify_code(), NX_VERIFY_CONSTANT);

	assert_int_equal(try_halves(first, bswap_rcx, 3, second), NX_VERIFY_OK);
	assert_int_equal(try_halves(first, bswap_rcx, 3, first), NX_VERIFY_CONSTANT);
	assert_int_equal(try_halves(second, bswap_rcx, 3, second), NX_VERIFY_CONSTANT);
	assert_int_equal(try_halves(first, bswap_ecx, 2, second), NX_VERIFY_CONSTANT);
	assert_int_equal(try_halves(first, bswap_rdx, 3, second), NX_VERIFY_CONSTANT);
	assert_int_equal(try_halves(first, "", 0, second), NX_VERIFY_CONSTANT);
}

/*
 * A constant for which something short would stand at its place: key and distance. At the place
 * behind, another one does.
 */
static void test_what_stands_for_a_constant_is_long(void **state)
{
	static const int32_t distances[] = {0, 1, 0x7fff, 0xffff, -1, -0x8000};
	const struct nx_thunks thunks = {.blind = MOCK_SECRET, .code = PLACE};
	const int32_t key = nx_blind_key(&thunks, 0);

	(void)state;
	for (unsigned i = 0; i < sizeof(distances) / sizeof(distances[0]); i++)
		for (unsigned form = 0; form < 6; form++) {
			struct nx_emitter e = {
			    .to = code, .capacity = sizeof(code), .blind = &thunks};
			int64_t value = key + distances[i];
			nx_operand memory;

			if (form & 1)
				value = ~value;
			memory =
			    nx_op_mem(nx_zydis_reg(NX_RAX, 8), ZYDIS_REGISTER_NONE, 0, value, 8);
			if (form < 4)
				nx_emit_mov(&e, nx_op_gpr(NX_RCX, form < 2 ? 4 : 8),
					    nx_op_imm(value));
			else
				nx_emit2(&e, ZYDIS_MNEMONIC_LEA, nx_op_gpr(NX_RCX, 8), memory);
			assert_false(e.failed);
			assert_int_equal(code[0] == 0x90,
					 nx_is_short(form & 1 ? -distances[i] : distances[i]));
			size = e.size;
			assert_int_equal(verify_code(), NX_VERIFY_OK);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_no_constant_stands_in_the_text),
	    cmocka_unit_test(test_keys_differ),
	    cmocka_unit_test(test_guest_sees_no_difference),
	    cmocka_unit_test(test_verifier_asks_for_keys),
	    cmocka_unit_test(test_what_stands_for_a_constant_is_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
