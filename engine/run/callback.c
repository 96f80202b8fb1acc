/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* callback.c - what a translation calls while it runs: the miss handler and the helpers. */
#include "helper/helper.h"

void *nx_runtime_miss(struct nx_context *context)
{
	struct nx_engine *engine = nx_engine_of(context);
	const struct nx_site *site = &engine->running->site[engine->context.site];
	uint64_t linear = engine->context.linear;
	struct nx_target target = {.host = NULL};
	enum nx_status status;

	engine->counters.tlb_misses++;
	if (engine->bounce.active && linear == engine->bounce.linear)
		return &engine->bounce.data;
	if (site->write) {
		target.host = nx_tlb_lookup_guarded(engine, linear, site->size);
		if (target.host)
			return target.host;
	}
	/* Outside 64-bit mode linear addresses have 32 bits; one byte more is no page. */
	if (engine->mode.bits != 64 && linear + site->size - 1 > UINT32_MAX)
		status = NX_LEAVE_PAGE_CROSSING;
	else
		status = nx_guest_resolve_linear(engine, linear, site->size,
						 site->write ? NX_WRITE : NX_READ, &target);
	if (status == NX_LEAVE_PAGE_CROSSING && !site->write)
		status = nx_guest_read_across(engine, linear, site->size, &target.host);
	if (status == NX_OK && !target.device)
		return target.host;
	engine->stopped.is_mmio = status == NX_OK;
	engine->stopped.gpa = target.gpa;
	engine->stopped.traced = target.traced;
	engine->stopped.reason = status == NX_OK ? NX_LEAVE_DEVICE_FORM : status;
	return NULL;
}

bool nx_runtime_helper(struct nx_context *context)
{
	struct nx_engine *engine = nx_engine_of(context);
	struct nx_site *site = &engine->running->site[engine->context.site];
	enum nx_status status = NX_LEAVE_FAULT;
	const struct nx_decoded *d;

	/* Nothing that could have done a part of its work when it leaves runs in STI's shadow. */
	if (nx_stay_in_shadow(&engine->stay, site->rip)) {
		engine->stopped.reason = NX_LEAVE_WINDOW;
		return false;
	}
	engine->stay.shadow_rip = engine->stay.sti_rip;
	d = nx_decode_again(&engine->decoded, &engine->mode, &site->form, site->bytes, site->len);
	if (d)
		status = nx_helper_run(engine, (enum nx_helper_id)site->helper, d);
	engine->stopped.reason = status;
	return status == NX_OK;
}
