// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * decode_cache.c: what comes out of the cache is what Zydis says of the same bytes, in every field.
 * All opcodes of one byte and behind 0F, with some values of ModRM and SIB and some prefixes, are
 * decoded with several displacements and immediate operands each, in all kinds of code.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "insn/decode.h"

static struct nx_decode_cache cache;
static unsigned long decoded, kept;

static const struct {
	enum nx_code code;
	ZydisMachineMode machine;
	ZydisStackWidth stack;
} kinds[] = {
    {NX_CODE_64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
    {NX_CODE_32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
    {NX_CODE_32_STACK_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_16},
    {NX_CODE_16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
    {NX_CODE_16_STACK_32, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_32},
    {NX_CODE_REAL, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16},
    {NX_CODE_REAL_STACK_32, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_32},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static uint64_t next_random(void)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return state >> 33;
}

/* Return what Zydis says, with as many operands as the cache has. */
static bool decode(unsigned kind, const uint8_t *bytes, unsigned available, struct nx_decoded *d)
{
	ZydisDecoder decoder;
	ZydisDecoderContext context;

	memset(d, 0, sizeof(*d));
	ZydisDecoderInit(&decoder, kinds[kind].machine, kinds[kind].stack);
	if (ZYAN_FAILED(
		ZydisDecoderDecodeInstruction(&decoder, &context, bytes, available, &d->insn)))
		return false;
	d->has_more = d->insn.operand_count > NX_MAX_OPERANDS;
	if (d->has_more)
		d->insn.operand_count = NX_MAX_OPERANDS;
	return d->has_more || ZYAN_SUCCESS(ZydisDecoderDecodeOperands(
				  &decoder, &context, &d->insn, d->op, d->insn.operand_count));
}

static void check_equal(const struct nx_decoded *d, const struct nx_decoded *expected)
{
	assert_non_null(d);
	assert_int_equal(d->has_more, expected->has_more);
	assert_memory_equal(&d->insn, &expected->insn, sizeof(expected->insn));
	if (!expected->has_more)
		assert_memory_equal(d->op, expected->op, sizeof(expected->op));
}

static void check(unsigned kind, const uint8_t *bytes, unsigned available)
{
	/* Of another instruction at first, then of this one. */
	static uint16_t place;
	const enum nx_code code = kinds[kind].code;
	struct nx_decoded expected;
	struct nx_decoded *d = nx_decode_form(&cache, code, bytes, available);

	if (!decode(kind, bytes, available, &expected)) {
		assert_null(d);
		assert_null(nx_decode_form_again(&cache, &place, code, bytes, available));
		return;
	}
	decoded++;
	check_equal(d, &expected);
	kept += d->notes;
	d->notes = 1;
	for (unsigned i = 0; i < 2; i++)
		check_equal(nx_decode_form_again(&cache, &place, code, bytes, available),
			    &expected);
}

/* The head and what is behind it, which changes; the last time some of the bytes are missing. */
static void check_forms(unsigned kind, const uint8_t *head, unsigned length)
{
	uint8_t bytes[15];

	for (unsigned turn = 0; turn < 4; turn++) {
		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)(turn == 1 ? 0x80 | next_random() : next_random());
		memcpy(bytes, head, length);
		check(kind, bytes, turn == 3 ? length + next_random() % 8 : sizeof(bytes));
	}
}

static void check_opcodes(unsigned kind, const uint8_t *prefix, unsigned prefixes, bool two_bytes)
{
	uint8_t head[8];
	unsigned at = prefixes;

	memcpy(head, prefix, prefixes);
	if (two_bytes)
		head[at++] = 0x0f;
	for (unsigned opcode = 0; opcode < 256; opcode++) {
		head[at] = (uint8_t)opcode;
		/* Some values of ModRM do, of each register and each way of addressing. */
		for (unsigned modrm = opcode % 5; modrm < 256; modrm += prefixes ? 37 : 5) {
			head[at + 1] = (uint8_t)modrm;
			head[at + 2] = (uint8_t)next_random();
			check_forms(kind, head, at + 3);
		}
	}
}

static void test_equals_zydis(void **state)
{
	static const struct {
		unsigned count;
		uint8_t bytes[4];
	} prefixes[] = {{0, {0}},    {1, {0x66}},       {1, {0x67}},       {1, {0xf3}},
			{1, {0xf2}}, {1, {0xf0}},       {1, {0x64}},       {1, {0x48}},
			{1, {0x45}}, {2, {0x66, 0x4f}}, {2, {0xf3, 0x48}}, {3, {0x66, 0x67, 0x2e}}};

	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		for (unsigned i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
			check_opcodes(kind, prefixes[i].bytes, prefixes[i].count, false);
			check_opcodes(kind, prefixes[i].bytes, prefixes[i].count, true);
		}
	}
	/* The test is of use only if most of them came out of the cache. */
	assert_true(decoded > 200000);
	assert_true(kept > decoded / 2);
}

/* A zeroed cache has nothing, and code of zeros is none that it knows. */
static void test_empty(void **state)
{
	const uint8_t zeros[15] = {0};
	const struct nx_decoded *d;

	(void)state;
	memset(&cache, 0, sizeof(cache));
	d = nx_decode_form(&cache, NX_CODE_64, zeros, sizeof(zeros));
	assert_non_null(d);
	assert_int_equal(d->insn.mnemonic, ZYDIS_MNEMONIC_ADD);
	assert_int_equal(d->insn.length, 2);
	assert_null(nx_decode_form(&cache, NX_CODE_64, zeros, 1));
	assert_null(nx_decode_form(&cache, NX_CODE_64, zeros, 0));
}

/* An instruction is found where it was, and where it has given way since, no other is taken for it.
 */
static void test_again(void **state)
{
	static const uint8_t one[] = {0x66, 0x0f, 0x6e, 0xc0}, other[] = {0x66, 0x0f, 0x6e, 0xc1};
	const struct nx_decoded *d;
	uint16_t place = 0, stays;

	(void)state;
	memset(&cache, 0, sizeof(cache));
	d = nx_decode_form_again(&cache, &place, NX_CODE_64, one, sizeof(one));
	assert_non_null(d);
	stays = place;
	assert_ptr_equal(nx_decode_form_again(&cache, &place, NX_CODE_64, one, sizeof(one)), d);
	assert_int_equal(place, stays);
	assert_null(nx_decode_form_again(&cache, &place, NX_CODE_64, one, 3));
	/* The same bytes in other code, and other bytes. */
	assert_ptr_not_equal(nx_decode_form_again(&cache, &place, NX_CODE_32, one, sizeof(one)), d);
	place = stays;
	d = nx_decode_form_again(&cache, &place, NX_CODE_64, other, sizeof(other));
	assert_non_null(d);
	assert_int_equal(d->op[1].reg.value, ZYDIS_REGISTER_ECX);
	memset(&cache, 0, sizeof(cache));
	d = nx_decode_form_again(&cache, &place, NX_CODE_64, one, sizeof(one));
	assert_non_null(d);
	assert_int_equal(d->op[1].reg.value, ZYDIS_REGISTER_EAX);
}

/* Notes are kept with a head, and are not those of another one. */
static void test_notes(void **state)
{
	static const uint8_t one[] = {0x48, 0x8b, 0x45, 0x08}, same[] = {0x48, 0x8b, 0x45, 0xf8};
	static const uint8_t other[] = {0x48, 0x8b, 0x4d, 0x08};
	struct nx_decoded *d;

	(void)state;
	memset(&cache, 0, sizeof(cache));
	d = nx_decode_form(&cache, NX_CODE_64, one, sizeof(one));
	assert_non_null(d);
	assert_int_equal(d->notes, 0);
	assert_int_equal(d->op[1].mem.disp.value, 8);
	d->notes = 7;
	d = nx_decode_form(&cache, NX_CODE_64, other, sizeof(other));
	assert_non_null(d);
	assert_int_equal(d->notes, 0);
	d = nx_decode_form(&cache, NX_CODE_64, same, sizeof(same));
	assert_non_null(d);
	assert_int_equal(d->notes, 7);
	assert_int_equal(d->op[1].mem.disp.value, -8);
	d = nx_decode_form(&cache, NX_CODE_32, one + 1, sizeof(one) - 1);
	assert_non_null(d);
	assert_int_equal(d->notes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_equals_zydis),
	    cmocka_unit_test(test_empty),
	    cmocka_unit_test(test_again),
	    cmocka_unit_test(test_notes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
