// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The tables are those of the SDM, vol. 3: 4.3 (32-bit paging), 4.4 (PAE), 4.5 (4 and 5 levels),
 * 4.6 (rights). Like the engine's walk it stands for a processor with PSE-36, PAT and 1 GiB pages,
 * which reads PDPTEs at each walk.
 */
#include "walk_reference.h"

#include "fuzz.h"

static bool bit(uint64_t value, unsigned number)
{
	return value >> number & 1;
}

static uint64_t field(uint64_t value, unsigned high, unsigned low)
{
	return value >> low & ((2ull << (high - low)) - 1);
}

/* The rights of all levels together. */
struct rights {
	bool write, user, no_execute;
	unsigned key;
};

static void note(struct reference *out, struct rights *rights, uint64_t at, uint64_t value)
{
	out->entry[out->entries] = at;
	out->set[out->entries++] = 1u << 5;
	rights->write = rights->write && bit(value, 1);
	rights->user = rights->user && bit(value, 2);
	rights->no_execute = rights->no_execute || bit(value, 63);
	rights->key = (unsigned)field(value, 62, 59);
}

static enum reference_result walk_32(const struct nx_state *s, uint64_t linear,
				     reference_read *read, struct reference *out,
				     struct rights *rights)
{
	uint64_t at = field(s->cr3, 31, 12) << 12 | field(linear, 31, 22) << 2, pde, pte;

	if (!read(at, 4, &pde))
		return REFERENCE_NO_TABLE;
	if (!bit(pde, 0))
		return REFERENCE_FAULT;
	note(out, rights, at, pde);
	if (bit(pde, 7) && bit(s->cr4, 4)) {
		unsigned width = s->physical_bits && s->physical_bits < 40 ? s->physical_bits : 40;

		/* M is the least of 40 and MAXPHYADDR: bits 21 to M - 19 are reserved. */
		for (unsigned i = 21; i >= 13; i--)
			if (bit(pde, i) && i >= width - 19)
				return REFERENCE_FAULT;
		out->gpa =
		    field(pde, 20, 13) << 32 | field(pde, 31, 22) << 22 | field(linear, 21, 0);
		return REFERENCE_OK;
	}
	at = field(pde, 31, 12) << 12 | field(linear, 21, 12) << 2;
	if (!read(at, 4, &pte))
		return REFERENCE_NO_TABLE;
	if (!bit(pte, 0))
		return REFERENCE_FAULT;
	note(out, rights, at, pte);
	out->gpa = field(pte, 31, 12) << 12 | field(linear, 11, 0);
	return REFERENCE_OK;
}

/* Tables 4-8 to 4-20 for an entry of 8 bytes at this level (1: page table). */
static bool reserved_set(const struct nx_state *s, uint64_t value, unsigned level, bool pae)
{
	unsigned width = s->physical_bits && s->physical_bits < 52 ? s->physical_bits : 52;

	/* In PAE paging nothing but XD is above the address; otherwise bits 52 to 62 are free. */
	for (unsigned i = width; i < (pae ? 63 : 52); i++)
		if (bit(value, i))
			return true;
	if (bit(value, 63) && !bit(s->efer, 11))
		return true;
	if (!bit(value, 7) || level == 1)
		return false;
	if (level > 3)
		return true;
	for (unsigned i = 13; i < 12 + 9 * (level - 1); i++)
		if (bit(value, i))
			return true;
	return false;
}

static enum reference_result walk_wide(const struct nx_state *s, uint64_t table, unsigned levels,
				       bool pae, uint64_t linear, reference_read *read,
				       struct reference *out, struct rights *rights)
{
	for (unsigned level = levels; level; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t at = table + field(linear, shift + 8, shift) * 8, value;

		if (!read(at, 8, &value))
			return REFERENCE_NO_TABLE;
		if (!bit(value, 0) || reserved_set(s, value, level, pae))
			return REFERENCE_FAULT;
		note(out, rights, at, value);
		if (level == 1 || bit(value, 7)) {
			out->gpa = field(value, 51, shift) << shift | field(linear, shift - 1, 0);
			return REFERENCE_OK;
		}
		table = field(value, 51, 12) << 12;
	}
	return REFERENCE_FAULT;
}

static enum reference_result walk_pae(const struct nx_state *s, uint64_t linear,
				      reference_read *read, struct reference *out,
				      struct rights *rights)
{
	unsigned width = s->physical_bits && s->physical_bits < 52 ? s->physical_bits : 52;
	uint64_t pdpte;

	out->pdpte = field(s->cr3, 31, 5) << 5 | field(linear, 31, 30) << 3;
	if (!read(out->pdpte, 8, &pdpte))
		return REFERENCE_NO_TABLE;
	if (!bit(pdpte, 0) || field(pdpte, 2, 1) || field(pdpte, 8, 5) || field(pdpte, 63, width))
		return REFERENCE_FAULT;
	return walk_wide(s, field(pdpte, 51, 12) << 12, 2, true, linear, read, out, rights);
}

static bool canonical(uint64_t linear, unsigned bits)
{
	uint64_t top = field(linear, 63, bits - 1);

	return top == 0 || top == field(~0ull, 63, bits - 1);
}

/* 4.6.1, 4.6.2. */
static enum reference_result check_rights(const struct nx_state *s, bool user, bool ac,
					  enum nx_access access, const struct rights *r)
{
	const bool smep = bit(s->cr4, 20), smap = bit(s->cr4, 21), wp = bit(s->cr0, 16);
	const bool is_long = bit(s->efer, 10);

	if (user && !r->user)
		return REFERENCE_FAULT;
	if (access == NX_FETCH) {
		if (r->no_execute && bit(s->efer, 11))
			return REFERENCE_FAULT;
		return !user && r->user && smep ? REFERENCE_FAULT : REFERENCE_OK;
	}
	if (!user && r->user && smap && !ac)
		return REFERENCE_FAULT;
	if (access == NX_WRITE && !r->write && (user || wp || bit(s->cr4, 23)))
		return REFERENCE_FAULT;
	if (is_long && r->user && bit(s->cr4, 22)) {
		if (bit(s->pkru, 2 * r->key))
			return REFERENCE_FAULT;
		if (access == NX_WRITE && bit(s->pkru, 2 * r->key + 1) && (user || wp))
			return REFERENCE_FAULT;
	}
	return is_long && !r->user && bit(s->cr4, 24) ? REFERENCE_UNKNOWN : REFERENCE_OK;
}

void reference_walk(const struct nx_state *s, bool user, bool ac, uint64_t linear,
		    enum nx_access access, reference_read *read, struct reference *out)
{
	struct rights rights = {.write = true, .user = true};
	const bool is_long = bit(s->efer, 10);

	memset(out, 0, sizeof(*out));
	if (!is_long)
		linear = field(linear, 31, 0);
	if (!bit(s->cr0, 31)) {
		out->gpa = linear;
		out->result = REFERENCE_OK;
		return;
	}
	if (is_long) {
		unsigned levels = bit(s->cr4, 12) ? 5 : 4;
		unsigned width = s->physical_bits && s->physical_bits < 52 ? s->physical_bits : 52;

		if (!canonical(linear, 12 + 9 * levels))
			out->result = REFERENCE_FAULT;
		else
			out->result = walk_wide(s, field(s->cr3, width - 1, 12) << 12, levels,
						false, linear, read, out, &rights);
	} else if (bit(s->cr4, 5)) {
		out->result = walk_pae(s, linear, read, out, &rights);
	} else {
		out->result = walk_32(s, linear, read, out, &rights);
	}
	if (out->result == REFERENCE_OK)
		out->result = check_rights(s, user, ac, access, &rights);
	if (out->result == REFERENCE_OK && access == NX_WRITE)
		out->set[out->entries - 1] |= 1u << 6;
}
