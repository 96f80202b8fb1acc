/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * ioperm.c - port accesses above IOPL: the I/O permission bitmap (SDM vol. 1, 19.5.2).
 *
 * User programs get ports by it (ioperm), and a KVM backend that runs guest code in user mode may
 * report IOPL 0 whatever the guest has set. The bitmap is read at each access, as the processor
 * does: another vCPU may be changing it.
 */
#include "engine.h"

#define TSS_BITMAP_OFFSET 102 /* of the 16-bit offset of the bitmap, in 32- and 64-bit segments */
#define TSS_32_64 9           /* type without the busy bit */
#define TYPE_BUSY 2

bool nx_io_bitmap_exists(const struct nx_state *state)
{
	const struct nx_segment *tr = &state->tr;

	return (state->cr0 & NX_CR0_PE) && tr->present && !tr->unusable && !tr->s &&
	       (tr->type & ~TYPE_BUSY) == TSS_32_64;
}

/* Read two bytes of the segment; page names the remembered page on which they likely lie. */
static enum nx_status read_16(struct nx_engine *engine, unsigned page, uint64_t offset,
			      unsigned *value)
{
	const struct nx_segment *tr = &engine->state.tr;
	struct nx_io_page *known = &engine->guest.io_page[page];
	uint64_t linear = tr->base + offset;
	struct nx_target target;
	enum nx_status status;

	if (offset + 1 > tr->limit)
		return NX_LEAVE_FAULT;
	if ((linear & ~NX_PAGE_MASK) == NX_PAGE_SIZE - 1)
		return NX_LEAVE_PAGE_CROSSING;
	if (!known->host || known->linear != (linear & NX_PAGE_MASK)) {
		status = nx_guest_resolve_linear(engine, linear, 2, NX_READ_SYSTEM, &target);
		if (status != NX_OK)
			return status;
		if (target.device)
			return NX_LEAVE_HOST_PAGE;
		known->linear = linear & NX_PAGE_MASK;
		known->host = (const uint8_t *)target.host - (linear & ~NX_PAGE_MASK);
	}
	*value = *(const volatile uint8_t *)(known->host + (linear & ~NX_PAGE_MASK)) |
		 *(const volatile uint8_t *)(known->host + (linear & ~NX_PAGE_MASK) + 1) << 8;
	return NX_OK;
}

static enum nx_status look_up(struct nx_engine *engine, uint16_t port, unsigned size)
{
	unsigned bitmap, bits;
	enum nx_status status;

	status = read_16(engine, 0, TSS_BITMAP_OFFSET, &bitmap);
	if (status == NX_OK)
		status = read_16(engine, 1, bitmap + port / 8u, &bits);
	if (status != NX_OK)
		return status;
	return bits >> (port & 7) & ((1u << size) - 1) ? NX_LEAVE_FAULT : NX_OK;
}

enum nx_status nx_io_permitted(struct nx_engine *engine, uint16_t port, unsigned size)
{
	enum nx_status status = nx_session_begin(engine);

	if (status == NX_OK)
		status = look_up(engine, port, size);
	nx_session_end(engine);
	return status;
}
