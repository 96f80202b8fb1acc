/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * runtime.c - nx_resume(): from a guest state to the next exit or to the reason for leaving.
 */
#include "form/former.h"
#include "translate/translator.h"

/* Is this exit to be translated? What has to be for the tracker's leaks alone is counted. */
static bool note_exit(struct nx_vcpu *vcpu, uint64_t pc, unsigned properties)
{
	enum nx_track_verdict verdict = nx_tracker_note(&vcpu->tracker, pc, NULL, 0, properties,
							vcpu->host->now(vcpu->host_data));

	vcpu->forced = verdict == NX_TRACK_FORCE;
	/* The tracker forgets what does not fit, though its cluster may still be there. */
	if (verdict == NX_TRACK_COLD && nx_cache_has_entry_near(vcpu, pc))
		return nx_tracker_remember(&vcpu->tracker, pc, NULL, 0);
	return verdict != NX_TRACK_COLD;
}

bool nx_worth_resuming(struct nx_vcpu *vcpu, uint64_t exit_rip, enum nx_exit_kind kind)
{
	nx_cost_settle(vcpu);
	vcpu->hot = note_exit(vcpu, exit_rip, kind == NX_EXIT_IO ? NX_TRACK_IO : NX_TRACK_MMIO) &&
		    nx_cost_open(vcpu, exit_rip);
	vcpu->hot_rip = exit_rip;
	vcpu->in_stay = false;
	return vcpu->hot;
}

/*
 * Every exit that was avoided is some cluster's, or a trace's; gap: instructions since the one
 * before.
 */
static void credit(struct nx_vcpu *vcpu, enum nx_exit_kind kind, unsigned gap)
{
	unsigned class = gap ? 32 - (unsigned)__builtin_clz(gap) : 0;

	if (!vcpu->running || vcpu->running->last) {
		vcpu->counters.exits_traced++;
		return;
	}
	vcpu->running->exits++;
	vcpu->running->exits_mmio += kind == NX_EXIT_MMIO;
	vcpu->counters.distance[class < NX_DISTANCES ? class : NX_DISTANCES - 1]++;
}

enum nx_completion nx_complete_exit(struct nx_vcpu *vcpu, struct nx_exit *exit)
{
	switch (vcpu->pending) {
	case NX_PENDING_NONE:
		return NX_COMPLETION_NONE;
	case NX_PENDING_STRING:
		return nx_finish_string(vcpu, exit) ? NX_COMPLETION_DONE : NX_COMPLETION_REFUSED;
	case NX_PENDING_BOUNCE_READ:
		if (!nx_finish_bounce_read(vcpu, exit))
			return NX_COMPLETION_DONE;
		vcpu->counters.exits_mmio++;
		credit(vcpu, NX_EXIT_MMIO, 0);
		return NX_COMPLETION_EXIT;
	default:
		nx_finish_pending(vcpu, exit->data);
		return NX_COMPLETION_DONE;
	}
}

void nx_forget_exit(struct nx_vcpu *vcpu)
{
	vcpu->pending = NX_PENDING_NONE;
	vcpu->resume_cluster = NULL;
}

/* ---- The guest's processor state ---- */

static void load_context(struct nx_vcpu *vcpu)
{
	for (unsigned i = 0; i < NX_GPRS; i++)
		vcpu->context.gpr[i] =
		    vcpu->mode.bits == 64 ? vcpu->state.gpr[i] : (uint32_t)vcpu->state.gpr[i];
	vcpu->context.flags = nx_flags_to_context(vcpu->state.rflags);
	vcpu->context.rflags = vcpu->state.rflags & ~(uint64_t)NX_FL_ARITHMETIC;
}

static void store_context(struct nx_vcpu *vcpu)
{
	unsigned count = vcpu->mode.bits == 64 ? NX_GPRS : NX_R8;

	for (unsigned i = 0; i < count; i++)
		vcpu->state.gpr[i] = vcpu->context.gpr[i];
	vcpu->state.rflags = vcpu->context.rflags | nx_flags_from_context(vcpu->context.flags);
}

/* ---- Clusters ---- */

/* The cluster with an entry at the state's rip, formed now if the exit is hot. */
static struct nx_cluster *find_cluster(struct nx_vcpu *vcpu, uint32_t *offset, nx_status *status)
{
	struct nx_cluster *cluster = vcpu->resume_cluster;
	uint64_t pc = vcpu->state.rip;
	bool hot = vcpu->hot;

	/* The code after the exit that has just been completed; an entry's rip alone may be shared.
	 */
	vcpu->resume_cluster = NULL;
	*offset = vcpu->resume_offset;
	if (!cluster || pc != vcpu->pending_site.next || !nx_cluster_is_current(vcpu, cluster))
		cluster = nx_cache_find(vcpu, &vcpu->cache, pc, offset);

	vcpu->hot = false;
	if (cluster)
		return cluster;
	if (hot) {
		/* What the host asked about is what a barren formation has to be noted for. */
		pc = vcpu->hot_rip;
	} else if (!note_exit(vcpu, pc, 0) || nx_cost_waits(vcpu, pc)) {
		*status = NX_LEAVE_COLD;
		return NULL;
	}
	cluster = nx_make_cluster(vcpu, vcpu->state.rip, pc, false, status);
	if (!cluster) {
		if (*status == NX_LEAVE_NO_CLUSTER)
			vcpu->barren_pc = pc;
		else if (*status != NX_LEAVE_COLD && !nx_is_pause(*status))
			nx_tracker_barren(&vcpu->tracker, pc, NULL, 0);
		return NULL;
	}
	*offset = cluster->entry[0].offset;
	for (unsigned i = 0; i < cluster->entries; i++)
		if (cluster->entry[i].rip == vcpu->state.rip)
			*offset = cluster->entry[i].offset;
	return cluster;
}

static enum nx_outcome leave(struct nx_vcpu *vcpu, struct nx_exit *exit, nx_status reason)
{
	vcpu->running = NULL;
	vcpu->hot = vcpu->in_stay = false;
	/* Still at the instruction that it belongs to, or at the next elements of a repeated one.
	 */
	if (vcpu->resume_flag && vcpu->state.rip == vcpu->resume_rip)
		vcpu->state.rflags |= NX_FL_RF;
	vcpu->resume_flag = false;
	exit->reason = (enum nx_leave_reason)reason;
	vcpu->counters.leaves[reason]++;
	return NX_LEAVE;
}

/* ---- What a translation ended with ---- */

static enum nx_outcome deliver(struct nx_vcpu *vcpu, const struct nx_site *site,
			       enum nx_pending_kind pending, struct nx_exit *exit)
{
	exit->rip = site->rip;
	vcpu->pending = pending;
	vcpu->pending_site = *site;
	credit(vcpu, exit->kind, site->gap);
	vcpu->counters.instructions += site->gap + 1u;
	vcpu->stay_instructions += site->gap + 1u;
	vcpu->resume_cluster = site->resume ? vcpu->running : NULL;
	vcpu->resume_offset = site->resume - 1;
	vcpu->stay_exits++;
	nx_cost_avoided(vcpu, exit->kind);
	return NX_EXIT;
}

static enum nx_outcome end_with_io(struct nx_vcpu *vcpu, const struct nx_site *site,
				   struct nx_exit *exit)
{
	uint64_t rax = vcpu->state.gpr[NX_RAX];
	nx_status permitted = NX_OK;

	exit->kind = NX_EXIT_IO;
	exit->write = site->write;
	exit->size = site->size;
	exit->port = site->port_in_dx ? (uint16_t)vcpu->state.gpr[NX_RDX] : site->port;
	exit->data = site->size == 4   ? (uint32_t)rax
		     : site->size == 2 ? (uint16_t)rax
				       : (uint8_t)rax;
	if (!site->write)
		exit->data = 0;
	if (vcpu->mode.io_bitmap)
		permitted = nx_io_permitted(vcpu, exit->port, site->size);
	if (permitted != NX_OK)
		return leave(vcpu, exit, permitted);
	if (vcpu->host->route_io(vcpu->host_data, exit->port, site->size, site->write,
				 exit->data) != NX_ROUTE_EXIT)
		return leave(vcpu, exit, NX_LEAVE_HOST_ROUTE);
	vcpu->counters.exits_io++;
	return deliver(vcpu, site, NX_PENDING_IO, exit);
}

static enum nx_outcome end_with_insn(struct nx_vcpu *vcpu, const struct nx_site *site,
				     struct nx_exit *exit)
{
	exit->kind = NX_EXIT_INSN;
	vcpu->counters.exits_insn++;
	deliver(vcpu, site, NX_PENDING_INSN, exit);
	nx_describe_insn(vcpu, site, exit);
	return NX_EXIT;
}

/* A device's memory, at stop_gpa: by a MOV, or by an instruction that device.c runs. */
static enum nx_outcome end_with_access(struct nx_vcpu *vcpu, const struct nx_site *site,
				       struct nx_exit *exit)
{
	unsigned pending = NX_PENDING_MMIO;

	if (!vcpu->stop_is_mmio)
		return leave(vcpu, exit, vcpu->stop_reason);
	nx_tracker_note(&vcpu->tracker, site->rip, site->bytes, site->len, NX_TRACK_MMIO,
			vcpu->host->now(vcpu->host_data));
	if (site->first_len && !vcpu->stop_traced) {
		/* A device gets its two accesses: formed anew, without the merger. */
		nx_tracker_note(&vcpu->tracker, site->rip, site->bytes, site->first_len,
				NX_TRACK_APART | NX_TRACK_MMIO, vcpu->host->now(vcpu->host_data));
		vcpu->running->dropped = true;
		return leave(vcpu, exit, NX_LEAVE_DEVICE_FORM);
	}
	exit->kind = NX_EXIT_MMIO;
	exit->gpa = vcpu->stop_gpa;
	exit->write = site->write;
	exit->size = site->size;
	exit->data = site->write && site->mmio_form ? nx_store_value(vcpu, site) : 0;
	if (vcpu->host->route_mmio(vcpu->host_data, exit->gpa, site->size, site->write,
				   exit->data) != NX_ROUTE_EXIT)
		return leave(vcpu, exit, NX_LEAVE_HOST_ROUTE);
	if (!site->mmio_form)
		pending = nx_begin_bounce(vcpu, site, exit);
	if (pending == NX_PENDING_NONE)
		return leave(vcpu, exit, NX_LEAVE_DEVICE_FORM);
	vcpu->counters.exits_mmio++;
	/* Translating an instruction for device.c reuses the sites' memory, not the cluster's. */
	return deliver(vcpu, site, pending, exit);
}

/* An exit that a string helper has prepared. */
static enum nx_outcome end_with_string(struct nx_vcpu *vcpu, const struct nx_site *site,
				       struct nx_exit *exit)
{
	*exit = vcpu->stop_exit;
	if (exit->kind == NX_EXIT_IO) {
		vcpu->counters.exits_io++;
	} else {
		vcpu->counters.exits_mmio++;
		nx_tracker_note(&vcpu->tracker, site->rip, site->bytes, site->len, NX_TRACK_MMIO,
				vcpu->host->now(vcpu->host_data));
	}
	return deliver(vcpu, site, NX_PENDING_STRING, exit);
}

/* The cluster avoids nothing, and what was noted of its accesses is no longer so. */
static void retire(struct nx_vcpu *vcpu, struct nx_cluster *cluster)
{
	for (unsigned i = 0; i < cluster->sites; i++)
		if (cluster->site[i].kind == NX_SITE_ACCESS && cluster->site[i].mmio_form)
			nx_tracker_forget(&vcpu->tracker, cluster->site[i].rip,
					  cluster->site[i].bytes, cluster->site[i].len);
	cluster->dropped = true;
	vcpu->counters.retired++;
	/* Or it would be made anew at the next exit, for nothing again. */
	nx_tracker_barren(&vcpu->tracker, vcpu->hot_rip, NULL, 0);
}

static enum nx_outcome end_at_site(struct nx_vcpu *vcpu, struct nx_exit *exit)
{
	/*
	 * The verifier has proven that the code stores only sites that exist. A copy: a trace's
	 * sites give way to the next translation.
	 */
	const struct nx_site copy = vcpu->running->site[vcpu->context.site], *site = &copy;

	vcpu->state.rip = site->rip;
	switch ((enum nx_site_kind)site->kind) {
	case NX_SITE_IO:
		return end_with_io(vcpu, site, exit);
	case NX_SITE_INSN:
		return end_with_insn(vcpu, site, exit);
	case NX_SITE_ACCESS:
		return end_with_access(vcpu, site, exit);
	case NX_SITE_HELPER:
		if (vcpu->stop_reason == NX_STOP_EXIT)
			return end_with_string(vcpu, site, exit);
		return leave(vcpu, exit, vcpu->stop_reason);
	default:
		/* All turns of a loop to memory: the tracker was wrong about it. */
		if (site->reason == NX_LEAVE_TURNS && !vcpu->stay_exits)
			retire(vcpu, vcpu->running);
		return leave(vcpu, exit, site->reason);
	}
}

void nx_run(struct nx_vcpu *vcpu, struct nx_cluster *cluster, uint32_t offset)
{
	vcpu->running = cluster;
	vcpu->stop_reason = NX_LEAVE_FAULT;
	vcpu->stop_is_mmio = false;
	load_context(vcpu);
	nx_enter(vcpu, (const uint8_t *)vcpu->memory.code_rx + cluster->code + offset);
	store_context(vcpu);
}

/*
 * Return whether a failed trace says nothing about the path: it was cut off, and the next one gets
 * farther with the blocks that this one made, or the host refused a session.
 */
static bool was_cut_off(const struct nx_vcpu *vcpu, nx_status status, uint64_t blocks_before)
{
	return status == NX_LEAVE_SESSION ||
	       (nx_is_pause(status) && vcpu->counters.blocks != blocks_before);
}

/* Nothing is in static reach of this exit: the guest runs on in a trace, which may find a way. */
static enum nx_outcome trace_on(struct nx_vcpu *vcpu, struct nx_exit *exit)
{
	uint64_t rip = vcpu->state.rip, blocks = vcpu->counters.blocks;
	enum nx_outcome outcome;
	nx_status status = NX_LEAVE_NO_CLUSTER;
	bool follows = vcpu->config.level >= NX_LEVEL_PATHS;

	if (follows && !nx_cost_ripe(vcpu, vcpu->barren_pc, NX_MAKE_TRACE, 1))
		return leave(vcpu, exit, NX_LEAVE_COLD);
	if (!follows || !nx_trace(vcpu, NULL, NX_MAKE_TRACE, &status)) {
		if (was_cut_off(vcpu, status, blocks))
			return leave(vcpu, exit, status);
		vcpu->counters.barren++;
		nx_tracker_barren(&vcpu->tracker, vcpu->barren_pc, NULL, 0);
		return leave(vcpu, exit, status);
	}
	outcome = end_at_site(vcpu, exit);
	/* device.c has the graph and the code on loan for a device's answer. */
	if (vcpu->pending == NX_PENDING_BOUNCE_READ || vcpu->pending == NX_PENDING_BOUNCE_WRITE)
		return outcome;
	if (!nx_make_cluster(vcpu, rip, vcpu->barren_pc, true, &status) && !nx_is_pause(status)) {
		vcpu->counters.barren++;
		nx_tracker_barren(&vcpu->tracker, vcpu->barren_pc, NULL, 0);
	}
	return outcome;
}

/*
 * The cluster was left at a branch, not for the first time: does an exit follow where it went? Then
 * the cluster is formed anew, with that way in it, as soon as such ways have cost as much as that
 * does. Until then they are followed block by block where that is cheaper than leaving: the blocks
 * are there. Returns whether the guest has run on.
 */
static bool grow(struct nx_vcpu *vcpu, const struct nx_site *site, nx_status *status)
{
	struct nx_cluster *cluster = vcpu->running;
	const struct nx_site left = *site;
	uint64_t blocks = vcpu->counters.blocks;
	bool found = true, known, follows;

	if (vcpu->config.level < NX_LEVEL_PATHS || !left.from)
		return false;
	known = nx_cost_known(vcpu) &&
		nx_paths_leads(&vcpu->paths, left.from,
			       left.reason == NX_LEAVE_GUARD ? vcpu->context.temp[0] : left.rip);
	follows = !known || nx_cost_follow(vcpu);
	if (!known && nx_make_is_busy(vcpu))
		return false;
	if (!known && !nx_paths_leave(&vcpu->paths, left.from, nx_cost_first_leaves(vcpu)))
		return false;
	if (follows) {
		vcpu->counters.followed += known;
		found = nx_trace(vcpu, &left, known ? NX_MAKE_STEPS : NX_MAKE_TRACE, status);
		if (found ? !known : !was_cut_off(vcpu, *status, blocks))
			nx_paths_traced(&vcpu->paths, left.from, found);
	}
	if (!found)
		return true;
	if (left.reason != NX_LEAVE_GUARD)
		nx_paths_note(&vcpu->paths, left.from, left.rip);
	if (nx_cost_outgrown(vcpu, cluster)) {
		cluster->dropped = cluster->outgrown = true;
		vcpu->counters.grown++;
	}
	return follows;
}

/* A translation has ended: perhaps to be followed by a trace. */
static enum nx_outcome end_cluster(struct nx_vcpu *vcpu, struct nx_exit *exit)
{
	const struct nx_site *site = &vcpu->running->site[vcpu->context.site];
	nx_status status = NX_OK;

	if (site->kind == NX_SITE_LEAVE &&
	    (site->reason == NX_LEAVE_CLUSTER_END || site->reason == NX_LEAVE_GUARD)) {
		vcpu->state.rip = site->rip;
		if (grow(vcpu, site, &status) && status != NX_OK)
			return leave(vcpu, exit, status);
	}
	return end_at_site(vcpu, exit);
}

/* nx_config.uncached: traces all the way. */
static enum nx_outcome step_on(struct nx_vcpu *vcpu, struct nx_exit *exit)
{
	nx_status status;

	vcpu->resume_cluster = NULL;
	return nx_trace(vcpu, NULL, NX_MAKE_TRACE, &status) ? end_at_site(vcpu, exit)
							    : leave(vcpu, exit, status);
}

/*
 * The first resume since the hardware delivered an exit. A host may complete exits by itself, so
 * that none is pending does not tell it.
 */
static void begin_stay(struct nx_vcpu *vcpu)
{
	vcpu->in_stay = true;
	/*
	 * RF is set between the elements of a repeated instruction, and cleared by the next
	 * instruction that completes. No host takes a guest over with breakpoints armed.
	 */
	vcpu->resume_flag = (vcpu->state.rflags & NX_FL_RF) != 0;
	vcpu->resume_rip = vcpu->state.rip;
	vcpu->state.rflags &= ~(uint64_t)NX_FL_RF;
	vcpu->context.turns = NX_WEAK_TURNS;
	vcpu->stay_exits = vcpu->stay_instructions = 0;
	if (vcpu->config.latency_ns)
		vcpu->stay_began = vcpu->host->now(vcpu->host_data);
}

bool nx_stay_is_long(struct nx_vcpu *vcpu)
{
	uint64_t bound = vcpu->config.latency_ns;

	if (vcpu->config.max_stay && vcpu->stay_instructions > vcpu->config.max_stay)
		return true;
	if (!(vcpu->state.rflags & NX_FL_IF))
		bound *= 20;
	return bound && vcpu->host->now(vcpu->host_data) - vcpu->stay_began > bound;
}

void nx_flush(struct nx_vcpu *vcpu)
{
	nx_tlb_flush(vcpu);
	vcpu->code_pages = 0;
}

/* Compare the guest's code and run the cluster, in one session; NX_OK: it has run. */
static nx_status enter_cluster(struct nx_vcpu *vcpu, struct nx_cluster *cluster, uint32_t offset)
{
	nx_status status = nx_session_begin(vcpu);

	if (status != NX_OK)
		return status;
	status = nx_check_code(vcpu, cluster, offset);
	if (status == NX_OK)
		nx_run(vcpu, cluster, offset);
	nx_session_end(vcpu);
	return status;
}

enum nx_outcome nx_resume(struct nx_vcpu *vcpu, struct nx_exit *exit)
{
	struct nx_cluster *cluster;
	bool first = !vcpu->in_stay;
	uint32_t offset;
	nx_status status;

	vcpu->counters.resumes++;
	switch (nx_complete_exit(vcpu, exit)) {
	case NX_COMPLETION_EXIT:
		return NX_EXIT;
	case NX_COMPLETION_REFUSED:
		return NX_REFUSED;
	case NX_COMPLETION_NONE:
		vcpu->resume_cluster = NULL;
		nx_flush(vcpu);
		break;
	case NX_COMPLETION_DONE:
		break;
	}
	exit->count = 1;
	exit->string = NULL;
	vcpu->context.idle_turns = nx_cost_idle_turns(vcpu);
	vcpu->elements = NX_STRING_ELEMENTS;
	if (!vcpu->in_stay)
		begin_stay(vcpu);
	if (vcpu->stop)
		return leave(vcpu, exit, NX_LEAVE_STOP);
	/* A stay's first resume is never denied: the guest makes progress on a slow machine, too.
	 */
	if (vcpu->stay_exits && nx_stay_is_long(vcpu))
		return leave(vcpu, exit, NX_LEAVE_LATENCY);
	status = nx_load_mode(vcpu);
	if (status != NX_OK)
		return leave(vcpu, exit, status);
	load_context(vcpu); /* walks need rflags (AC) */
	if (vcpu->config.uncached)
		return step_on(vcpu, exit);
	cluster = find_cluster(vcpu, &offset, &status);
	if (!cluster && status == NX_LEAVE_NO_CLUSTER)
		return trace_on(vcpu, exit);
	if (!cluster)
		return leave(vcpu, exit, status);
	status = enter_cluster(vcpu, cluster, offset);
	if (status != NX_OK) {
		if (status == NX_LEAVE_CODE_CHANGED)
			nx_cache_drop(vcpu, cluster);
		return leave(vcpu, exit, status);
	}
	cluster->executions++;
	cluster->stays += first;
	vcpu->counters.enters++;
	return end_cluster(vcpu, exit);
}

const char *nx_leave_reason_name(enum nx_leave_reason reason)
{
	switch (reason) {
#define NX_X(name, text)      \
	case NX_LEAVE_##name: \
		return #name;
		NX_LEAVE_REASONS(NX_X)
#undef NX_X
	default:
		return "?";
	}
}

const char *nx_leave_reason_text(enum nx_leave_reason reason)
{
	switch (reason) {
#define NX_X(name, text)      \
	case NX_LEAVE_##name: \
		return text;
		NX_LEAVE_REASONS(NX_X)
#undef NX_X
	default:
		return "?";
	}
}
