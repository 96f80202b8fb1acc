/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* store_pair.c - two stores that fill the halves of one quadword. */
#include "insn/decode.h"

/* A store's address without its displacement equals another's. */
static bool same_address_registers(const ZydisDecodedOperand *a, const ZydisDecodedOperand *b)
{
	return a->mem.base == b->mem.base && a->mem.index == b->mem.index &&
	       (a->mem.index == ZYDIS_REGISTER_NONE || a->mem.scale == b->mem.scale) &&
	       a->mem.segment == b->mem.segment;
}

static bool is_store32(const struct nx_decoded *d)
{
	return d->insn.mnemonic == ZYDIS_MNEMONIC_MOV &&
	       d->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY && d->op[0].size == 32;
}

/* The displacement; with rip as the base, the address. */
int64_t nx_store_place(const struct nx_decoded *d, uint64_t next)
{
	const ZydisDecodedOperand *m = &d->op[0];
	int64_t displacement = m->mem.disp.has_displacement ? m->mem.disp.value : 0;
	bool relative = m->mem.base == ZYDIS_REGISTER_RIP || m->mem.base == ZYDIS_REGISTER_EIP;

	return displacement + (relative ? (int64_t)next : 0);
}

bool nx_is_store_pair(struct nx_decode_cache *cache, const struct nx_mode *mode, uint64_t rip,
		      const uint8_t *bytes, unsigned first_len, unsigned len)
{
	const struct nx_decoded *d = nx_decode_full(cache, mode, bytes, first_len);
	ZydisDecodedOperand first;
	unsigned address_width;
	int64_t place, distance;

	if (!d || !is_store32(d))
		return false;
	/* The second one may take the first one's place in the cache. */
	first = d->op[0];
	address_width = d->insn.address_width;
	place = nx_store_place(d, rip + first_len);
	d = nx_decode_full(cache, mode, bytes + first_len, len - first_len);
	if (!d || !is_store32(d) || !same_address_registers(&first, &d->op[0]) ||
	    d->insn.address_width != address_width)
		return false;
	distance = nx_store_place(d, rip + len) - place;
	return distance == 4 || distance == -4;
}
