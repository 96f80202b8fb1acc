/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * string_exit.c - the exit of a string instruction's elements on a device, or of INS and OUTS, and
 * what the answer does to memory and registers.
 */
#include "helper/helper.h"

enum nx_status nx_string_exit(struct nx_engine *engine, const struct nx_string_pending *pending,
			      const struct nx_exit *exit)
{
	enum nx_route route =
	    exit->kind == NX_EXIT_IO
		? engine->host->route_io(engine->host_data, exit->port, exit->size, exit->write, 0)
		: engine->host->route_mmio(engine->host_data, exit->gpa, exit->size, exit->write,
					   exit->data);

	if (route == NX_ROUTE_LEAVE)
		return NX_LEAVE_HOST_ROUTE;
	engine->stay.routed = route;
	engine->string.pending = *pending;
	engine->stopped.exit = *exit;
	return NX_STOP_EXIT;
}

static bool store_input(struct nx_engine *engine, const struct nx_string_pending *pending,
			const void *from, unsigned bytes)
{
	struct nx_page page = {.kind = NX_PAGE_LEAVE};

	if (nx_session_begin(engine) != NX_OK)
		return false;
	/* The page was there when the exit was delivered; if its slot is gone, so is the data. */
	engine->host->map_page(engine->host_data, pending->gpa & NX_PAGE_MASK, &page);
	if (page.kind == NX_PAGE_RAM && page.writable)
		nx_memcpy((uint8_t *)page.host + (pending->gpa & ~NX_PAGE_MASK), from, bytes);
	nx_session_end(engine);
	return true;
}

static void advance(struct nx_engine *engine, const struct nx_string_pending *pending,
		    unsigned number, uint64_t delta)
{
	const struct nx_reg reg = {.number = (uint8_t)number, .size = pending->address_bytes};

	nx_reg_set(engine->state.gpr, &reg, engine->state.gpr[number] + delta);
}

/* Turn the exit into the store to the second device of what the first one gave. */
void nx_string_finish_load(struct nx_engine *engine, struct nx_exit *exit)
{
	exit->kind = NX_EXIT_MMIO;
	exit->gpa = engine->string.pending.gpa;
	exit->size = engine->string.pending.size;
	exit->write = true;
	exit->data &= nx_size_mask(exit->size);
	engine->stay.routed = engine->string.pending.route;
	engine->string.pending.input = NX_INPUT_NONE;
	engine->pending.kind = NX_PENDING_STRING;
}

bool nx_string_finish(struct nx_engine *engine, const struct nx_exit *exit)
{
	const struct nx_string_pending *pending = &engine->string.pending;
	uint64_t delta = (uint64_t)pending->count * pending->size;
	const struct nx_reg rax = {.number = NX_RAX, .size = pending->size};

	if (pending->input == NX_INPUT_MEMORY &&
	    !store_input(engine, pending,
			 exit->string ? (const void *)engine->string.bytes
				      : (const void *)&exit->data,
			 (unsigned)delta))
		return false;
	if (pending->input == NX_INPUT_RAX)
		nx_reg_set(engine->state.gpr, &rax, exit->data);
	if (pending->backwards)
		delta = -delta;
	if (pending->source)
		advance(engine, pending, NX_RSI, delta);
	if (pending->destination)
		advance(engine, pending, NX_RDI, delta);
	engine->pending.kind = NX_PENDING_NONE;
	engine->state.rip = engine->pending.site->next;
	if (!pending->repeated)
		return true;
	advance(engine, pending, NX_RCX, -(uint64_t)pending->count);
	if (engine->state.gpr[NX_RCX] & nx_size_mask(pending->address_bytes))
		engine->state.rip = engine->pending.site->rip;
	return true;
}
