/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * exits.c - the exits that translations end with: delivered to the host, and completed with its
 * answer.
 */
#include "engine.h"

/*
 * Attribute an avoided exit to a cluster or a trace; gap is the number of instructions since the
 * exit before.
 */
static void credit(struct nx_engine *engine, enum nx_exit_kind kind, unsigned gap)
{
	unsigned class = gap ? 32 - (unsigned)__builtin_clz(gap) : 0;
	struct nx_cluster *cluster = engine->running;

	if (!cluster || cluster->last) {
		engine->counters.exits_traced++;
		return;
	}
	cluster->exits++;
	if (kind == NX_EXIT_INSN)
		cluster->exits_insn++;
	else if (kind == NX_EXIT_MMIO)
		cluster->exits_mmio++;
	engine->counters.distance[class < NX_DISTANCES ? class : NX_DISTANCES - 1]++;
}

/* Continue an instruction with the write of what it has read from a device. */
static enum nx_completion second_half(struct nx_engine *engine, const struct nx_exit *exit)
{
	engine->counters.exits_mmio++;
	credit(engine, NX_EXIT_MMIO, 0);
	engine->stay.class = nx_exit_class_of(exit);
	nx_cost_avoided_half(engine);
	return NX_COMPLETION_EXIT;
}

enum nx_completion nx_run_complete_exit(struct nx_engine *engine, struct nx_exit *exit)
{
	switch (engine->pending.kind) {
	case NX_PENDING_NONE:
		return NX_COMPLETION_NONE;
	case NX_PENDING_STRING:
		return nx_string_finish(engine, exit) ? NX_COMPLETION_DONE : NX_COMPLETION_REFUSED;
	case NX_PENDING_STRING_COPY:
		nx_string_finish_load(engine, exit);
		return second_half(engine, exit);
	case NX_PENDING_BOUNCE_READ:
		if (!nx_bounce_finish_read(engine, exit))
			return NX_COMPLETION_DONE;
		/* There is no way back, so that a host that wants to be left gets an exit. */
		engine->stay.routed = engine->host->route_mmio(engine->host_data, exit->gpa,
							       exit->size, true, exit->data);
		if (engine->stay.routed == NX_ROUTE_LEAVE)
			engine->stay.routed = NX_ROUTE_EXIT;
		return second_half(engine, exit);
	case NX_PENDING_INSN:
		if (nx_exit_flushes(exit))
			nx_guest_forget(engine);
		/* fall through */
	default:
		nx_pending_finish(engine, exit->data);
		return NX_COMPLETION_DONE;
	}
}

enum nx_completion nx_engine_complete_exit(struct nx_engine *engine, struct nx_exit *exit)
{
	enum nx_completion completion;

	engine->state.rip -= engine->context.slide;
	completion = nx_run_complete_exit(engine, exit);
	engine->state.rip += engine->context.slide;
	return completion;
}

void nx_engine_exit_done(struct nx_engine *engine, enum nx_changes changes)
{
	engine->pending.kind = NX_PENDING_NONE;
	engine->pending.done = true;
	engine->pending.same_mode = changes == NX_CHANGES_REGISTERS;
	/* The stay may end before a resume has loaded the segments. */
	engine->mode_known &= changes == NX_CHANGES_REGISTERS;
	if (changes == NX_CHANGES_ALL)
		nx_guest_forget(engine);
	else if (changes == NX_CHANGES_SEGMENTS)
		nx_io_forget(engine);
}

void nx_engine_forget_exit(struct nx_engine *engine)
{
	engine->pending.kind = NX_PENDING_NONE;
	engine->pending.done = false;
	engine->pending.cluster = NULL;
}

enum nx_outcome nx_run_leave(struct nx_engine *engine, struct nx_exit *exit, enum nx_status reason)
{
	engine->running = NULL;
	engine->stay.hot = engine->stay.active = false;
	/* Still at the instruction that it belongs to, or at the next elements of a repeated one.
	 */
	if (engine->stay.resume_flag && engine->state.rip == engine->stay.resume_rip)
		engine->state.rflags |= NX_FL_RF;
	engine->stay.resume_flag = false;
	nx_stay_take_back_sti(engine);
	exit->reason = reason;
	engine->counters.leaves[reason]++;
	return NX_LEAVE;
}

/* ---- What a translation ended with ---- */

/* Tell the host where the exit is: in the program as it lies now (slide.c). */
static void locate(const struct nx_engine *engine, const struct nx_site *site, struct nx_exit *exit)
{
	exit->rip = site->rip + engine->context.slide;
	exit->next = site->next + engine->context.slide;
}

static enum nx_outcome deliver(struct nx_engine *engine, const struct nx_site *site,
			       enum nx_pending_kind pending, struct nx_exit *exit)
{
	unsigned instructions = site->gap + 1u;

	engine->pending.kind = pending;
	credit(engine, exit->kind, site->gap);
	engine->counters.instructions += instructions;
	engine->stay.instructions += instructions;
	engine->pending.cluster = site->resume ? engine->running : NULL;
	engine->pending.offset = site->resume - 1;
	engine->stay.exits++;
	engine->stay.window_asked = false;
	engine->stay.shadow_rip = engine->stay.sti_rip;
	engine->stay.class = nx_exit_class_of(exit);
	/* Without prices there is nothing to count. */
	if (engine->prices.exit[engine->stay.class])
		nx_cost_avoided(engine);
	return NX_EXIT;
}

static enum nx_outcome end_with_io(struct nx_engine *engine, const struct nx_site *site,
				   struct nx_exit *exit)
{
	uint64_t rax = engine->state.gpr[NX_RAX];
	enum nx_status permitted = NX_OK;

	exit->kind = NX_EXIT_IO;
	exit->write = site->write;
	exit->size = site->size;
	exit->port = site->port_in_dx ? (uint16_t)engine->state.gpr[NX_RDX] : site->port;
	exit->data = site->size == 4   ? (uint32_t)rax
		     : site->size == 2 ? (uint16_t)rax
				       : (uint8_t)rax;
	if (!site->write)
		exit->data = 0;
	if (engine->mode.io_bitmap)
		permitted = nx_io_permitted(engine, exit->port, site->size);
	if (permitted != NX_OK)
		return nx_run_leave(engine, exit, permitted);
	engine->stay.routed = engine->host->route_io(engine->host_data, exit->port, site->size,
						     site->write, exit->data);
	if (engine->stay.routed == NX_ROUTE_LEAVE)
		return nx_run_leave(engine, exit, NX_LEAVE_HOST_ROUTE);
	engine->counters.exits_io++;
	return deliver(engine, site, NX_PENDING_IO, exit);
}

static enum nx_outcome end_with_insn(struct nx_engine *engine, const struct nx_site *site,
				     struct nx_exit *exit)
{
	exit->kind = NX_EXIT_INSN;
	nx_exit_describe_insn(engine, site, exit);
	/* VMRUN ends the shadow. A host that may not execute it at once declines it there. */
	if (nx_stay_in_shadow(&engine->stay, site->rip) && exit->insn != NX_INSN_VMRUN)
		return nx_run_leave(engine, exit, NX_LEAVE_WINDOW);
	engine->stay.routed = engine->host->route_insn
				  ? engine->host->route_insn(engine->host_data, exit)
				  : NX_ROUTE_EXIT;
	if (engine->stay.routed == NX_ROUTE_LEAVE)
		return nx_run_leave(engine, exit, NX_LEAVE_HOST_ROUTE);
	engine->counters.exits_insn += engine->stay.routed != NX_ROUTE_FREE;
	return deliver(engine, site, NX_PENDING_INSN, exit);
}

/* Deliver an access to device memory at stopped.gpa, by a MOV or an instruction of device.c's. */
static enum nx_outcome end_with_access(struct nx_engine *engine, const struct nx_site *site,
				       struct nx_exit *exit)
{
	unsigned pending = NX_PENDING_MMIO;

	if (!engine->stopped.is_mmio)
		return nx_run_leave(engine, exit, engine->stopped.reason);
	nx_tracker_note(&engine->tracker, site->rip, site->bytes, site->len, NX_TRACK_MMIO,
			engine->stay.time);
	if (site->first_len && !engine->stopped.traced) {
		/* A device must get two accesses, so the cluster is formed again without the
		 * merger. */
		nx_tracker_note(&engine->tracker, site->rip, site->bytes, site->first_len,
				NX_TRACK_APART | NX_TRACK_MMIO, engine->stay.time);
		engine->running->state = NX_CLUSTER_DROPPED;
		return nx_run_leave(engine, exit, NX_LEAVE_DEVICE_FORM);
	}
	exit->kind = NX_EXIT_MMIO;
	exit->gpa = engine->stopped.gpa;
	exit->write = site->write;
	exit->size = site->size;
	exit->data = site->write && site->mmio_form ? nx_store_value(engine, site) : 0;
	engine->stay.routed = engine->host->route_mmio(engine->host_data, exit->gpa, site->size,
						       site->write, exit->data);
	if (engine->stay.routed == NX_ROUTE_LEAVE)
		return nx_run_leave(engine, exit, NX_LEAVE_HOST_ROUTE);
	if (!site->mmio_form)
		pending = nx_bounce_begin(engine, site, exit);
	if (pending == NX_PENDING_NONE)
		return nx_run_leave(engine, exit, NX_LEAVE_DEVICE_FORM);
	/* A read goes to the device, wherever the write that follows it will go. */
	if (pending == NX_PENDING_BOUNCE_READ)
		engine->stay.routed = NX_ROUTE_EXIT;
	engine->counters.exits_mmio++;
	return deliver(engine, site, pending, exit);
}

/* Deliver an exit that a string helper has prepared. */
static enum nx_outcome end_with_string(struct nx_engine *engine, const struct nx_site *site,
				       struct nx_exit *exit)
{
	*exit = engine->stopped.exit;
	locate(engine, site, exit);
	exit->to_memory = engine->string.pending.input == NX_INPUT_MEMORY;
	if (exit->kind == NX_EXIT_IO) {
		engine->counters.exits_io++;
	} else {
		engine->counters.exits_mmio++;
		nx_tracker_note(&engine->tracker, site->rip, site->bytes, site->len, NX_TRACK_MMIO,
				engine->stay.time);
	}
	return deliver(engine, site,
		       engine->string.pending.input == NX_INPUT_DEVICE ? NX_PENDING_STRING_COPY
								       : NX_PENDING_STRING,
		       exit);
}

/* Retire a cluster that avoids nothing, and forget that its accesses were to a device. */
static void retire(struct nx_engine *engine, struct nx_cluster *cluster)
{
	for (unsigned i = 0; i < cluster->sites; i++)
		if (cluster->site[i].kind == NX_SITE_ACCESS && cluster->site[i].mmio_form)
			nx_tracker_forget(&engine->tracker, cluster->site[i].rip,
					  cluster->site[i].bytes, cluster->site[i].len);
	cluster->state = NX_CLUSTER_DROPPED;
	engine->counters.retired++;
	/* Otherwise the next exit would make it again, for nothing. */
	nx_tracker_barren(&engine->tracker, engine->stay.hot_rip, NULL, 0);
}

enum nx_outcome nx_run_end_at_site(struct nx_engine *engine, struct nx_exit *exit)
{
	/* The verifier has proven that the code stores only sites that exist. */
	const struct nx_site *site = &engine->running->site[engine->context.site];

	/* A trace's sites give way to the next translation. */
	if (engine->running->last) {
		engine->pending.kept = *site;
		site = &engine->pending.kept;
	}
	engine->pending.site = site;
	engine->state.rip = site->rip;
	locate(engine, site, exit);
	/* The guest may not meet an exit in a shadow that its host knows nothing of; but see
	 * end_with_insn(). */
	if (site->kind != NX_SITE_LEAVE && site->kind != NX_SITE_INSN &&
	    nx_stay_in_shadow(&engine->stay, site->rip))
		return nx_run_leave(engine, exit, NX_LEAVE_WINDOW);
	switch ((enum nx_site_kind)site->kind) {
	case NX_SITE_IO:
		return end_with_io(engine, site, exit);
	case NX_SITE_INSN:
		return end_with_insn(engine, site, exit);
	case NX_SITE_ACCESS:
		return end_with_access(engine, site, exit);
	case NX_SITE_HELPER:
		if (engine->stopped.reason == NX_STOP_EXIT)
			return end_with_string(engine, site, exit);
		return nx_run_leave(engine, exit, engine->stopped.reason);
	default:
		/* All turns of a loop accessed memory, so the tracker was wrong about it. */
		if (site->reason == NX_LEAVE_TURNS && !engine->stay.exits)
			retire(engine, engine->running);
		return nx_run_leave(engine, exit, site->reason);
	}
}
