// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * walk.c - fuzz target: nx_walk() against a second implementation.
 *
 * The tables lie where the walk of the input's address will look. Every part of an input is a
 * difference from a walk that succeeds: control registers, the address, then each level's entry.
 */
#include "fuzz.h"
#include "walk_reference.h"

#include "engine.h"

#define PAGES 8u /* one for each level, more than there are */
#define TABLE(level) (0x1000ull * (1 + (level)))

static uint8_t memory[PAGES][4096] __attribute__((aligned(4096)));
static uint8_t before[sizeof(memory)];
static struct nx_engine engine;
static uint8_t kinds; /* a bit per page: the host has no writable memory there */
static uint8_t holes; /* a bit per page: nor any memory */

static bool is_memory(uint64_t gpa)
{
	return gpa < sizeof(memory) && !(holes >> gpa / 4096 & 1);
}

static void map_page(void *data, uint64_t gpa, struct nx_page *page)
{
	(void)data;
	FUZZ_CHECK(gpa % 4096 == 0, "a page at %#llx", (unsigned long long)gpa);
	memset(page, 0, sizeof(*page));
	page->kind = is_memory(gpa) ? NX_PAGE_RAM : NX_PAGE_DEVICE;
	if (!is_memory(gpa))
		return;
	page->host = memory[gpa / 4096];
	page->writable = !(kinds >> gpa / 4096 & 1);
}

/* Through the copy: the engine's marks must not show. */
static bool read_entry(uint64_t gpa, unsigned size, uint64_t *value)
{
	*value = 0;
	if (!is_memory(gpa))
		return false;
	memcpy(value, before + gpa, size);
	return true;
}

static const struct nx_host host = {.map_page = map_page};

static void make_state(struct fuzz_input *input)
{
	struct nx_state *s = &engine.state;
	uint8_t mode = fuzz_byte(input), bits = fuzz_byte(input);

	memset(s, 0, sizeof(*s));
	s->cr0 = NX_CR0_PE | NX_CR0_PG | NX_CR0_WP;
	switch (mode % 4) {
	case 0:
		s->cr4 = NX_CR4_PSE;
		break;
	case 1:
		s->cr4 = NX_CR4_PAE;
		s->efer = NX_EFER_NXE;
		break;
	case 3:
		s->cr4 = NX_CR4_LA57;
		/* fall through */
	default:
		s->cr4 |= NX_CR4_PAE;
		s->efer = NX_EFER_NXE | NX_EFER_LMA;
		break;
	}
	s->cr0 ^= bits & 1 ? NX_CR0_WP : 0;
	s->cr0 ^= (mode & 0xfc) == 0xfc ? NX_CR0_PG : 0;
	s->cr4 ^= (bits & 2 ? NX_CR4_SMEP : 0) | (bits & 4 ? NX_CR4_SMAP : 0) |
		  (bits & 8 ? NX_CR4_PKE : 0) | (bits & 16 ? NX_CR4_PKS : 0) |
		  (bits & 32 ? NX_CR4_CET : 0) | (bits & 64 && mode % 4 == 0 ? NX_CR4_PSE : 0);
	s->efer ^= bits & 128 ? NX_EFER_NXE : 0;
	s->physical_bits = fuzz_byte(input);
	/* Processors have 32 at least; 0 stands for all. */
	if (s->physical_bits && (s->physical_bits < 32 || s->physical_bits > 52))
		s->physical_bits = 36 + s->physical_bits % 17;
	s->pkru = (uint32_t)fuzz_word(input, 4);
	s->cr3 = TABLE(0) ^ fuzz_word(input, 5);
}

static unsigned table_index(uint64_t linear, unsigned level)
{
	const struct nx_state *s = &engine.state;
	unsigned levels = s->cr4 & NX_CR4_LA57 ? 5 : 4;

	if (s->efer & NX_EFER_LMA)
		return linear >> (12 + 9 * (levels - 1 - level)) & 511;
	if (s->cr4 & NX_CR4_PAE)
		return level == 0 ? linear >> 30 & 3 : linear >> (level == 1 ? 21 : 12) & 511;
	return linear >> (level == 0 ? 22 : 12) & 1023;
}

static void make_tables(struct fuzz_input *input, uint64_t linear)
{
	const struct nx_state *s = &engine.state;
	const bool is_long = s->efer & NX_EFER_LMA, wide = s->cr4 & NX_CR4_PAE;
	unsigned levels = !wide ? 2 : !is_long ? 3 : s->cr4 & NX_CR4_LA57 ? 5 : 4;

	memset(memory, 0, sizeof(memory));
	for (unsigned level = 0; level < levels; level++) {
		uint64_t rights = wide && !is_long && level == 0 ? 1 : 7;
		uint64_t entry = (TABLE(level + 1) | rights) ^ fuzz_word(input, wide ? 8 : 4);
		unsigned size = wide ? 8 : 4;

		memcpy(memory[1 + level] + table_index(linear, level) * size, &entry, size);
	}
}

/* The bits that the reference expects, and nothing else, have been set. */
static void check_memory(const struct reference *want, enum nx_status status)
{
	for (unsigned i = 0; i < want->entries && want->result == REFERENCE_OK; i++) {
		uint8_t *was = before + want->entry[i];
		const uint8_t *is = (const uint8_t *)memory + want->entry[i];
		bool fixed = kinds >> want->entry[i] / 4096 & 1;

		/* A mark that the host forbids ends the marking there; a leave, not a fault. */
		if (status != NX_OK && fixed && (*was & want->set[i]) != want->set[i])
			break;
		*was |= (uint8_t)want->set[i];
		FUZZ_CHECK((*is & want->set[i]) == want->set[i], "entry %u is not marked", i);
	}
	FUZZ_CHECK(!memcmp(before, memory, sizeof(memory)), "memory has changed otherwise");
}

static bool marks_forbidden(const struct reference *want)
{
	for (unsigned i = 0; i < want->entries; i++)
		if ((kinds >> want->entry[i] / 4096 & 1) &&
		    (before[want->entry[i]] & want->set[i]) != want->set[i])
			return true;
	return false;
}

static enum nx_status wanted_status(const struct reference *want)
{
	switch (want->result) {
	case REFERENCE_FAULT:
		return NX_LEAVE_PAGE_FAULT;
	case REFERENCE_UNKNOWN:
		return NX_LEAVE_STATE;
	case REFERENCE_NO_TABLE:
		return NX_LEAVE_HOST_PAGE;
	default:
		return marks_forbidden(want) ? NX_LEAVE_HOST_PAGE : NX_OK;
	}
}

/*
 * One entry at two levels changes under the walk by the walk's own mark. The processor and the
 * engine may then see different things, and the engine leaves where it is in doubt.
 */
static bool refers_to_itself(const struct reference *want)
{
	for (unsigned i = 0; i < want->entries; i++) {
		if (want->entry[i] == want->pdpte)
			return true;
		for (unsigned j = 0; j < i; j++)
			if (want->entry[i] == want->entry[j])
				return true;
	}
	return false;
}

/* Walk to an address and compare what comes of it with the manual; false: they may differ. */
static bool check_walk(uint64_t linear, enum nx_access access)
{
	struct reference want;
	uint64_t gpa = 0;
	enum nx_status status, wanted;

	memcpy(before, memory, sizeof(memory));
	status = nx_walk(&engine, linear, access, &gpa);
	reference_walk(&engine.state, engine.cpl == 3, engine.context.rflags != 0, linear, access,
		       read_entry, &want);
	if (refers_to_itself(&want))
		return false;
	wanted = wanted_status(&want);
	/* Not canonical is a fault of another kind, for the statistics only. */
	if (status == NX_LEAVE_FAULT)
		status = NX_LEAVE_PAGE_FAULT;
	FUZZ_CHECK(status == wanted, "status %u, by the manual %u", status, wanted);
	if (status == NX_OK)
		FUZZ_CHECK(gpa == want.gpa, "address %#llx, by the manual %#llx",
			   (unsigned long long)gpa, (unsigned long long)want.gpa);
	check_memory(&want, status);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	uint64_t linear;
	uint8_t who;
	enum nx_access access;

	make_state(&input);
	who = fuzz_byte(&input);
	access = (enum nx_access)((who >> 1) % 3);
	kinds = fuzz_byte(&input);
	holes = fuzz_byte(&input) & (uint8_t)(who & 128 ? 0xff : 0);
	engine.host = &host;
	engine.cpl = who & 1 ? 3 : 0;
	engine.context.rflags = who & 64 ? NX_FL_AC : 0;
	linear = fuzz_word(&input, 8);
	/* Most of 64 bits is not canonical, and that is soon told. */
	if (!(who & 32))
		linear = (uint64_t)((int64_t)(linear << 16) >> 16);
	make_tables(&input, linear);
	nx_walk_drop(&engine);
	/* Then the page beside it, for which the engine knows the page table now, and the first one
	 * as in another stay. */
	if (check_walk(linear, access)) {
		check_walk(linear ^ NX_PAGE_SIZE, access);
		nx_walk_forget(&engine);
		check_walk(linear, access);
	}
	return 0;
}
