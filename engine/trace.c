/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * trace.c - following the guest from where nothing is known to its next exiting instruction.
 *
 * Formation cannot tell where a return or a call through a pointer goes, nor which of a hundred
 * branches lead to the next exit. So, where an exit recurs and nothing is in static reach, the
 * guest runs on in here, block by block, each translated, verified and run as clusters are, and
 * the ways it takes are noted if it meets an exiting instruction soon enough. Formation then
 * follows them. Nothing is lost where it does not: the guest has run, only slower.
 */
#include "form.h"

/*
 * Blocks of one trace: some hundred instructions. Each is translated, so a trace takes a
 * millisecond, and under emulation fifty times that: longer ones would keep the guest from its
 * device timeouts.
 */
#define NX_TRACE_STEPS 64

static void commit(struct nx_vcpu *vcpu)
{
	for (unsigned i = 0; i < vcpu->trace_edges; i++)
		nx_paths_note(&vcpu->paths, vcpu->trace_edge[i].from, vcpu->trace_edge[i].to);
}

/* A target that a return or an indirect branch may go to without a fault. */
static bool is_plausible(const struct nx_vcpu *vcpu, uint64_t to)
{
	unsigned bits = vcpu->state.cr4 & NX_CR4_LA57 ? 57 : 48;

	if (vcpu->mode.bits != 64)
		return to <= vcpu->state.seg[NX_CS].limit;
	return (uint64_t)((int64_t)(to << (64 - bits)) >> (64 - bits)) == to;
}

/* The block has run and left. NX_OK: the trace goes on at the state's rip. */
static nx_status follow(struct nx_vcpu *vcpu, const struct nx_site *site)
{
	uint64_t to = vcpu->context.temp[0];

	vcpu->state.rip = site->rip;
	switch (site->reason) {
	case NX_LEAVE_CLUSTER_END:
		if (site->from && vcpu->trace_edges < NX_TRACE_STEPS) {
			vcpu->trace_edge[vcpu->trace_edges].from = site->from;
			vcpu->trace_edge[vcpu->trace_edges++].to = site->rip;
		}
		/* The block's graph has pushed to the trace's contexts. */
		vcpu->trace_contexts = vcpu->graph.contexts;
		vcpu->trace_context = site->context;
		vcpu->trace_via = site->via;
		return NX_OK;
	case NX_LEAVE_GUARD:
		/* The block is formed once more, and then knows the target. */
		if (!is_plausible(vcpu, to) || nx_paths_seen(&vcpu->paths, site->from, to))
			return NX_LEAVE_GUARD;
		nx_paths_note(&vcpu->paths, site->from, to);
		vcpu->trace_via = site->via;
		return NX_OK;
	default:
		return site->reason;
	}
}

/* Did the translation stop at an instruction that exits? */
static bool is_exit(const struct nx_vcpu *vcpu, const struct nx_site *site)
{
	switch ((enum nx_site_kind)site->kind) {
	case NX_SITE_IO:
	case NX_SITE_INSN:
		return true;
	case NX_SITE_ACCESS:
		return vcpu->stop_is_mmio;
	case NX_SITE_HELPER:
		return vcpu->stop_reason == NX_STOP_EXIT;
	default:
		return false;
	}
}

static nx_status step(struct nx_vcpu *vcpu, bool *exits)
{
	const struct nx_insn *last;
	const struct nx_site *site;

	if (vcpu->stop)
		return NX_LEAVE_STOP;
	if (!nx_form_block(vcpu, &vcpu->mode, vcpu->state.rip, &vcpu->trace_contexts,
			   vcpu->trace_context, vcpu->trace_via, &vcpu->graph))
		return NX_LEAVE_NO_CLUSTER;
	last = &vcpu->graph.insn[vcpu->graph.insns - 1];
	if (!nx_note_code(vcpu, vcpu->state.rip) || !nx_note_code(vcpu, last->rip + last->len - 1))
		return NX_LEAVE_CODE_UNREADABLE;
	if (!nx_translate_single(vcpu))
		return NX_LEAVE_REFUSED;
	nx_run(vcpu, &vcpu->single, vcpu->translation.entry[0].offset);
	site = &vcpu->single.site[vcpu->context.site];
	*exits = is_exit(vcpu, site);
	if (*exits || site->kind == NX_SITE_LEAVE)
		return *exits ? NX_OK : follow(vcpu, site);
	vcpu->state.rip = site->rip;
	return vcpu->stop_reason;
}

bool nx_trace(struct nx_vcpu *vcpu, const struct nx_site *from, nx_status *status)
{
	struct nx_contexts *contexts = &vcpu->trace_contexts;
	bool exits = false;

	contexts->count = 1;
	vcpu->trace_context = 0;
	vcpu->trace_via = 0;
	if (from) {
		contexts->count = vcpu->running->contexts;
		nx_memcpy(contexts->call, vcpu->running->context,
			  contexts->count * sizeof(contexts->call[0]));
		vcpu->trace_context = from->context;
		vcpu->trace_via = from->via;
	}
	vcpu->counters.traces++;
	vcpu->trace_edges = 0;
	*status = NX_OK;
	for (unsigned i = 0; i < NX_TRACE_STEPS && *status == NX_OK && !exits; i++)
		*status = step(vcpu, &exits);
	if (exits) {
		commit(vcpu);
		return true;
	}
	if (*status == NX_OK)
		*status = NX_LEAVE_NO_CLUSTER;
	vcpu->counters.traces_failed++;
	return false;
}
