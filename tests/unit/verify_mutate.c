/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "verify_mutate.h"
#include "verify_oracle.h"

#define MAX_CODE VERIFY_MUTATE_MAX_CODE
#define MAX_STARTS (MAX_CODE / 2)

static struct {
	const char *name;
	const uint8_t *code;
	uint32_t size;
	const struct nx_translation *t;
	const struct nx_thunks *thunks;
	struct verify_mutation *sum;
	uint64_t seed;
	uint32_t start[MAX_STARTS + 1]; /* of instructions; then the size */
	unsigned starts;
} m;

static struct nx_verify_scratch scratch;

static uint32_t random_below(uint32_t bound)
{
	m.seed = m.seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((m.seed >> 33) % bound);
}

static void report(const uint8_t *code, uint32_t size, const char *what, const char *error,
		   uint32_t where)
{
	fprintf(stderr, "%s: accepted a mutant (%s) that %s, at %#x:", m.name, what, error, where);
	for (uint32_t i = 0; i < size; i++)
		fprintf(stderr, " %02x", code[i]);
	fprintf(stderr, "\n");
}

/* Return whether the verifier accepted it. */
static bool judge(const uint8_t *code, uint32_t size, const char *what)
{
	uint32_t where = 0;
	const char *error;

	m.sum->mutants++;
	if (nx_verify(code, size, m.t, m.thunks, &scratch, &where) != NX_VERIFY_OK) {
		m.sum->refused++;
		return false;
	}
	m.sum->accepted++;
	error = verify_oracle(code, size, m.t, m.thunks, &where);
	if (!error)
		error = verify_sandbox(code, size, m.t, m.thunks, m.seed);
	if (error) {
		m.sum->harmful++;
		report(code, size, what, error, where);
	}
	return true;
}

static const uint8_t telling_bytes[] = {0x00, 0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x40, 0x41, 0x49,
					0x4c, 0x4d, 0x64, 0x65, 0x66, 0x67, 0x7f, 0x80, 0x90,
					0xc3, 0xcc, 0xe8, 0xe9, 0xeb, 0xf0, 0xf2, 0xf3, 0xff};

static const int32_t telling_fields[] = {0,
					 1,
					 -1,
					 4,
					 8,
					 -8,
					 NX_CTX_FLAGS,
					 NX_CTX_SITE,
					 NX_CTX_LINEAR,
					 NX_CTX_TEMP,
					 NX_CTX_WRITABLE,
					 NX_CTX_IDLE_TURNS,
					 NX_CTX_WRITABLE - 4,
					 NX_CTX_TLB,
					 NX_CTX_TLB - 4,
					 NX_CTX_TLB + NX_TLB_WRITE,
					 NX_CTX_TLB + NX_TLB_ADDEND,
					 NX_CTX_READABLE - 8,
					 NX_CTX_THUNK_EXIT,
					 NX_CTX_THUNK_MISS,
					 NX_CTX_THUNK_HELPER,
					 NX_CTX_HOST_RSP,
					 NX_CTX_HOST_RSP + 8,
					 NX_TLB_MASK,
					 4095,
					 4096,
					 -4096,
					 INT32_MAX,
					 INT32_MIN};

static void mutate_bytes(void)
{
	uint8_t code[MAX_CODE];

	memcpy(code, m.code, m.size);
	for (uint32_t at = 0; at < m.size; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			code[at] = m.code[at] ^ (uint8_t)(1u << bit);
			judge(code, m.size, "a bit flipped");
		}
		for (unsigned i = 0; i < sizeof(telling_bytes); i++) {
			code[at] = telling_bytes[i];
			if (code[at] != m.code[at])
				judge(code, m.size, "a byte replaced");
		}
		code[at] = m.code[at];
	}
	for (unsigned i = 0; i < 8 * m.starts; i++) {
		uint32_t a = random_below(m.size), b = random_below(m.size);

		code[a] = (uint8_t)random_below(256);
		code[b] = (uint8_t)random_below(256);
		judge(code, m.size, "two bytes replaced");
		code[a] = m.code[a];
		code[b] = m.code[b];
	}
}

/* code with length bytes at from replaced by others; what follows keeps its distance to the end. */
static void splice(uint32_t from, uint32_t length, const uint8_t *by, uint32_t by_length,
		   const char *what)
{
	uint8_t code[MAX_CODE + 64];

	memcpy(code, m.code, from);
	memcpy(code + from, by, by_length);
	memcpy(code + from + by_length, m.code + from + length, m.size - from - length);
	judge(code, m.size - length + by_length, what);
}

static void mutate_instructions(void)
{
	for (unsigned i = 0; i < m.starts; i++) {
		uint32_t from = m.start[i], length = m.start[i + 1] - from;
		uint8_t nops[16];

		splice(from, length, m.code, 0, "an instruction deleted");
		splice(from, 0, m.code + from, length, "an instruction doubled");
		memset(nops, 0x90, sizeof(nops));
		splice(from, length, nops, length, "an instruction blanked");
		for (unsigned n = 0; n < 8; n++) {
			unsigned other = random_below(m.starts);

			splice(from, 0, m.code + m.start[other],
			       m.start[other + 1] - m.start[other], "an instruction inserted");
			/* In place where lengths allow: branches stay what they are. */
			if (m.start[other + 1] - m.start[other] <= length) {
				uint32_t n_bytes = m.start[other + 1] - m.start[other];

				memset(nops, 0x90, sizeof(nops));
				memcpy(nops, m.code + m.start[other], n_bytes);
				splice(from, length, nops, length, "an instruction overwritten");
			}
		}
		if (i + 1 < m.starts) {
			uint32_t second = m.start[i + 2] - m.start[i + 1];
			uint8_t swapped[32];

			memcpy(swapped, m.code + m.start[i + 1], second);
			memcpy(swapped + second, m.code + from, length);
			splice(from, length + second, swapped, length + second,
			       "two instructions swapped");
		}
		if (from)
			judge(m.code, from, "cut short");
	}
}

/* Every instruction, and the thunks and what is next to them. */
#define THUNK_TARGETS 9u
#define TARGETS (m.starts + THUNK_TARGETS)

/* The displacement, from the end of a branch, to the target of this number. */
static int32_t to_target(unsigned number, uint32_t end)
{
	const uint64_t thunk[] = {m.thunks->exit, m.thunks->miss, m.thunks->helper};

	if (number < m.starts)
		return (int32_t)(m.start[number] - end);
	number -= m.starts;
	return (int32_t)(thunk[number / 3] + number % 3 - 1 - (m.thunks->code + end));
}

/* Displacements, immediates and relative targets, as wholes. */
static void mutate_fields(void)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint8_t code[MAX_CODE];

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	memcpy(code, m.code, m.size);
	for (unsigned i = 0; i < m.starts; i++) {
		uint32_t at = m.start[i];
		struct {
			unsigned offset, bits;
		} field[2];

		ZydisDecoderDecodeFull(&decoder, m.code + at, m.size - at, &insn, op);
		field[0].offset = insn.raw.disp.offset;
		field[0].bits = insn.raw.disp.size;
		field[1].offset = insn.raw.imm[0].offset;
		field[1].bits = insn.raw.imm[0].size;
		for (unsigned f = 0; f < 2; f++) {
			unsigned count = sizeof(telling_fields) / sizeof(telling_fields[0]);

			if (field[f].bits != 8 && field[f].bits != 32)
				continue;
			for (unsigned n = 0; n < count + TARGETS; n++) {
				int32_t value = n < count ? telling_fields[n]
							  : to_target(n - count, m.start[i + 1]);

				memcpy(code + at + field[f].offset, &value, field[f].bits / 8);
				judge(code, m.size, "a field replaced");
			}
			memcpy(code + at, m.code + at, m.start[i + 1] - at);
		}
	}
}

/* The tables: entries elsewhere, sites of another kind. */
static void mutate_tables(void)
{
	static struct nx_translation changed;
	const struct nx_translation *was = m.t;

	m.t = &changed;
	changed = *was;
	changed.entries = 1;
	for (uint32_t at = 0; at <= m.size; at++) {
		changed.entry[0].offset = at;
		judge(m.code, m.size, "an entry moved");
	}
	changed = *was;
	for (unsigned i = 0; i < was->sites; i++) {
		for (unsigned kind = NX_SITE_LEAVE; kind <= NX_SITE_HELPER; kind++) {
			changed.site[i].kind = (uint8_t)kind;
			judge(m.code, m.size, "a site of another kind");
		}
		changed.site[i] = was->site[i];
		changed.site[i].write = !was->site[i].write;
		judge(m.code, m.size, "a site of another direction");
		changed.site[i] = was->site[i];
		changed.site[i].size = was->site[i].size / 2;
		judge(m.code, m.size, "a site of another size");
		changed.site[i] = was->site[i];
	}
	for (unsigned sites = 0; sites < was->sites; sites++) {
		changed.sites = (uint16_t)sites;
		judge(m.code, m.size, "sites missing");
	}
	m.t = was;
}

/* ---- Chains: mutants of accepted mutants, kept consistent where that takes relocation ---- */

static struct {
	uint8_t code[MAX_CODE];
	uint32_t size;
	struct nx_translation t;
	ZydisDecoder decoder;
} chain;

/* The start of an instruction picked at random, its length in *length. */
static uint32_t chain_pick(uint32_t *length)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint32_t until = random_below(chain.size), at = 0;

	for (;;) {
		ZydisDecoderDecodeFull(&chain.decoder, chain.code + at, chain.size - at, &insn, op);
		*length = insn.length;
		if (at + insn.length > until)
			return at;
		at += insn.length;
	}
}

/*
 * Room of added bytes at an instruction's start, or so many fewer of its bytes: branches across
 * it and entries behind it keep their targets; one to the place itself goes before or behind.
 */
static void chain_relocate(uint32_t place, int32_t added, bool behind)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

	for (uint32_t at = 0; at < chain.size; at += insn.length) {
		int32_t target, change;
		uint8_t *field;

		ZydisDecoderDecodeFull(&chain.decoder, chain.code + at, chain.size - at, &insn, op);
		if (op[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !op[0].imm.is_relative)
			continue;
		target = (int32_t)(at + insn.length) + (int32_t)op[0].imm.value.s;
		change = (target > (int32_t)place || (behind && target == (int32_t)place)) -
			 (at >= place);
		/* A thunk stays where it is. */
		if (target < 0 || target >= (int32_t)chain.size)
			change = -(at >= place);
		field = chain.code + at + insn.raw.imm[0].offset;
		if (insn.raw.imm[0].size == 8) {
			*field = (uint8_t)(*field + change * added);
		} else {
			int32_t value;

			memcpy(&value, field, 4);
			value += change * added;
			memcpy(field, &value, 4);
		}
	}
	for (unsigned i = 0; i < chain.t.entries; i++)
		if (chain.t.entry[i].offset > place)
			chain.t.entry[i].offset += (uint32_t)added;
}

static void chain_insert(void)
{
	unsigned first = random_below(m.starts), count = 1 + random_below(4);
	unsigned last = first + count < m.starts ? first + count : m.starts;
	uint32_t length = m.start[last] - m.start[first], ignored, place = chain_pick(&ignored);

	if (chain.size + length > MAX_CODE)
		return;
	chain_relocate(place, (int32_t)length, random_below(2));
	memmove(chain.code + place + length, chain.code + place, chain.size - place);
	memcpy(chain.code + place, m.code + m.start[first], length);
	chain.size += length;
}

static void chain_delete(void)
{
	uint32_t length, place = chain_pick(&length);

	chain_relocate(place, -(int32_t)length, false);
	memmove(chain.code + place, chain.code + place + length, chain.size - place - length);
	chain.size -= length;
}

static void mutate_chain(unsigned steps)
{
	static uint8_t kept[MAX_CODE];
	static struct nx_translation kept_t;
	const struct nx_translation *was = m.t;
	uint32_t kept_size = m.size;

	ZydisDecoderInit(&chain.decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	memcpy(kept, m.code, m.size);
	kept_t = *m.t;
	m.t = &chain.t;
	for (unsigned step = 0; step < steps; step++) {
		memcpy(chain.code, kept, kept_size);
		chain.size = kept_size;
		chain.t = kept_t;
		switch (random_below(4)) {
		case 0:
			chain_insert();
			break;
		case 1:
			chain_delete();
			break;
		case 2:
			chain.code[random_below(chain.size)] ^= (uint8_t)(1u << random_below(8));
			break;
		default:
			chain.code[random_below(chain.size)] = (uint8_t)random_below(256);
			break;
		}
		if (chain.size && judge(chain.code, chain.size, "a chain")) {
			memcpy(kept, chain.code, chain.size);
			kept_size = chain.size;
			kept_t = chain.t;
		}
	}
	m.t = was;
}

static void begin(const char *name, const uint8_t *code, const struct nx_translation *t,
		  const struct nx_thunks *thunks, uint64_t seed, struct verify_mutation *sum)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

	m.name = name;
	m.code = code;
	m.size = t->size;
	m.t = t;
	m.thunks = thunks;
	m.sum = sum;
	m.seed = seed;
	m.starts = 0;
	if (t->size == 0 || t->size > MAX_CODE) {
		fprintf(stderr, "%s: no code, or too much to mutate\n", name);
		abort();
	}
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (uint32_t at = 0; at < m.size; at += insn.length) {
		if (m.starts == MAX_STARTS || !ZYAN_SUCCESS(ZydisDecoderDecodeFull(
						  &decoder, code + at, m.size - at, &insn, op))) {
			fprintf(stderr, "%s: code that cannot be mutated\n", name);
			abort();
		}
		m.start[m.starts++] = at;
	}
	m.start[m.starts] = m.size;
	judge(code, m.size, "none: the code itself");
}

void verify_mutate(const char *name, const uint8_t *code, const struct nx_translation *t,
		   const struct nx_thunks *thunks, uint64_t seed, struct verify_mutation *sum)
{
	begin(name, code, t, thunks, seed, sum);
	mutate_bytes();
	mutate_instructions();
	mutate_fields();
	mutate_tables();
	mutate_chain(4000);
}

/* ---- A sample of all of these, for many translations ---- */

static void sample_byte(void)
{
	static uint8_t code[MAX_CODE];
	uint32_t at = random_below(m.size);

	memcpy(code, m.code, m.size);
	switch (random_below(3)) {
	case 0:
		code[at] ^= (uint8_t)(1u << random_below(8));
		break;
	case 1:
		code[at] = telling_bytes[random_below(sizeof(telling_bytes))];
		break;
	default:
		code[at] = (uint8_t)random_below(256);
		code[random_below(m.size)] = (uint8_t)random_below(256);
		break;
	}
	/* What has not changed would be accepted for nothing. */
	if (memcmp(code, m.code, m.size) != 0)
		judge(code, m.size, "bytes changed");
}

static void sample_instruction(void)
{
	unsigned i = random_below(m.starts), other = random_below(m.starts);
	uint32_t from = m.start[i], length = m.start[i + 1] - from;
	uint32_t by = m.start[other], by_length = m.start[other + 1] - by;
	uint8_t nops[16];

	memset(nops, 0x90, sizeof(nops));
	switch (random_below(5)) {
	case 0:
		splice(from, length, m.code, 0, "an instruction deleted");
		break;
	case 1:
		splice(from, 0, m.code + by, by_length, "an instruction inserted");
		break;
	case 2:
		splice(from, length, nops, length, "an instruction blanked");
		break;
	case 3:
		if (by_length > length)
			break;
		memcpy(nops, m.code + by, by_length);
		if (other != i)
			splice(from, length, nops, length, "an instruction overwritten");
		break;
	default:
		if (i)
			judge(m.code, from, "cut short");
		break;
	}
}

static void sample_field(void)
{
	static uint8_t code[MAX_CODE];
	unsigned i = random_below(m.starts), count = sizeof(telling_fields) / 4;
	unsigned n = random_below(2) ? random_below(count) : count + random_below(TARGETS);
	int32_t value = n < count ? telling_fields[n] : to_target(n - count, m.start[i + 1]);
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;
	ZydisDecoder decoder;
	unsigned offset, bits;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderDecodeFull(&decoder, m.code + m.start[i], m.size - m.start[i], &insn, op);
	offset = m.start[i] + (insn.raw.disp.size ? insn.raw.disp.offset : insn.raw.imm[0].offset);
	bits = insn.raw.disp.size ? insn.raw.disp.size : insn.raw.imm[0].size;
	if (insn.raw.disp.size && insn.raw.imm[0].size && random_below(2)) {
		offset = m.start[i] + insn.raw.imm[0].offset;
		bits = insn.raw.imm[0].size;
	}
	if ((bits != 8 && bits != 32) || memcmp(m.code + offset, &value, bits / 8) == 0)
		return;
	memcpy(code, m.code, m.size);
	memcpy(code + offset, &value, bits / 8);
	judge(code, m.size, "a field replaced");
}

static void sample_table(void)
{
	static struct nx_translation changed;
	const struct nx_translation *was = m.t;
	struct nx_site *site = &changed.site[random_below(was->sites)];
	struct nx_entry *entry = &changed.entry[random_below(was->entries)];

	changed = *was;
	m.t = &changed;
	switch (random_below(5)) {
	case 0:
		entry->offset = (entry->offset + 1 + random_below(m.size)) % (m.size + 1);
		judge(m.code, m.size, "an entry moved");
		break;
	case 1:
		site->kind = (uint8_t)((site->kind + 1 + random_below(NX_SITE_HELPER)) %
				       (NX_SITE_HELPER + 1));
		judge(m.code, m.size, "a site of another kind");
		break;
	case 2:
		site->write = !site->write;
		judge(m.code, m.size, "a site of another direction");
		break;
	case 3:
		site->size = (uint8_t)(site->size + 1 + random_below(255));
		judge(m.code, m.size, "a site of another size");
		break;
	default:
		changed.sites = (uint16_t)random_below(was->sites);
		judge(m.code, m.size, "sites missing");
		break;
	}
	m.t = was;
}

void verify_mutate_sample(const char *name, const uint8_t *code, const struct nx_translation *t,
			  const struct nx_thunks *thunks, uint64_t seed, unsigned count,
			  struct verify_mutation *sum)
{
	unsigned long end = sum->mutants + 1 + count;

	begin(name, code, t, thunks, seed, sum);
	mutate_chain(count / 5);
	while (sum->mutants < end) {
		sample_byte();
		sample_instruction();
		sample_field();
		if (random_below(4) == 0)
			sample_table();
	}
}

void verify_mutation_print(const struct verify_mutation *sum)
{
	printf("%lu mutants: %lu refused, %lu accepted and judged (%lu runs), %lu harmful\n",
	       sum->mutants, sum->refused, sum->accepted, verify_sandbox_stats.runs, sum->harmful);
}
