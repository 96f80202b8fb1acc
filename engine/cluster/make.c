/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * make.c - drives the pipeline: formation, translation, verification, and into the cache.
 *
 * Making a large cluster takes several times as long as interrupts may wait. So it is done in
 * steps, and between two of them the guest may get its turn (nx_must_pause()): the scratch memory
 * keeps what there is, and the next exit at the same place goes on with it.
 *
 * Invariant: while the maker is not idle, the scratch memory (form_scratch, translate_scratch, the
 * graph, the translation, what is emitted, the verifier's) is the maker's. Whoever needs it for
 * something else abandons first. So what is verified in the end is what has been translated,
 * whatever happened in between.
 */
#include "form/former.h"

/*
 * So many others may want to make something before a cluster that nobody goes on with gives way:
 * the guest may never come back there.
 */
#define PATIENCE 32u
/*
 * So many steps are taken however long they last, or a slow machine would be at it for hundreds of
 * exits. Elsewhere they take less time than interrupts may wait.
 */
#define LEAST_STEPS 16u

nx_status nx_must_pause(struct nx_vcpu *vcpu)
{
	if (vcpu->stop)
		return NX_LEAVE_STOP;
	if (nx_stay_is_long(vcpu) ||
	    (vcpu->host->time_is_up && vcpu->host->time_is_up(vcpu->host_data)))
		return NX_LEAVE_LATENCY;
	return NX_OK;
}

void nx_make_abandon(struct nx_vcpu *vcpu)
{
	vcpu->maker.stage = NX_MAKER_IDLE;
}

bool nx_make_is_busy(struct nx_vcpu *vcpu)
{
	return vcpu->maker.stage != NX_MAKER_IDLE && ++vcpu->maker.others <= PATIENCE;
}

/* ---- Translation and verification of the graph ---- */

static void begin_translating(struct nx_vcpu *vcpu)
{
	nx_translate_begin(vcpu, &vcpu->graph, vcpu->emitted, sizeof(vcpu->emitted),
			   &vcpu->translation);
}

static void begin_verifying(struct nx_vcpu *vcpu)
{
	nx_verify_begin(vcpu->emitted, vcpu->translation.size, &vcpu->translation, &vcpu->verify);
}

static enum nx_progress verify_step(struct nx_vcpu *vcpu)
{
	enum nx_verify_result result;
	enum nx_progress progress = nx_verify_step(&vcpu->verify, &result);

	if (vcpu->config.fail & NX_FAIL_VERIFY)
		progress = NX_FAILED;
	vcpu->counters.refused += progress == NX_FAILED;
	return progress;
}

/* All at once. */
static nx_status make_code(struct nx_vcpu *vcpu)
{
	enum nx_progress progress;

	if (!nx_translate(vcpu, &vcpu->graph, vcpu->emitted, sizeof(vcpu->emitted),
			  &vcpu->translation))
		return NX_LEAVE_UNTRANSLATED;
	begin_verifying(vcpu);
	do
		progress = verify_step(vcpu);
	while (progress == NX_MORE);
	return progress == NX_FAILED ? NX_LEAVE_REFUSED : NX_OK;
}

nx_status nx_make_code(struct nx_vcpu *vcpu, struct nx_cache *cache)
{
	nx_status status = make_code(vcpu);

	return status == NX_OK ? nx_cache_place(vcpu, cache) : status;
}

struct nx_cluster *nx_make_block(struct nx_vcpu *vcpu, nx_status *status)
{
	*status = make_code(vcpu);
	return *status == NX_OK ? nx_cache_add(vcpu, &vcpu->blocks, status) : NULL;
}

/* ---- Clusters ---- */

static bool goes_on_at(const struct nx_vcpu *vcpu, uint64_t rip)
{
	const struct nx_maker *maker = &vcpu->maker;

	return maker->stage != NX_MAKER_IDLE && maker->rip == rip &&
	       nx_mode_is_current(vcpu, &vcpu->graph.mode, maker->cs_base, maker->cs_limit);
}

static void begin(struct nx_vcpu *vcpu, uint64_t rip)
{
	const struct nx_segment *cs = &vcpu->state.seg[NX_CS];

	nx_form_begin(vcpu, &vcpu->mode, rip, &vcpu->graph);
	vcpu->maker = (struct nx_maker){
	    .stage = NX_MAKER_FORMS,
	    .rip = rip,
	    .cs_base = cs->base,
	    .cs_limit = cs->limit,
	};
}

static struct nx_cluster *keep(struct nx_vcpu *vcpu, nx_status *status)
{
	struct nx_cluster *cluster = nx_cache_add(vcpu, &vcpu->cache, status);

	if (!cluster)
		return NULL;
	vcpu->counters.translated++;
	vcpu->counters.forced += vcpu->forced;
	vcpu->forced = false;
	return cluster;
}

/* After formation: what is there already, or else (NULL) translation is to begin, if *status is OK.
 */
static struct nx_cluster *formed(struct nx_vcpu *vcpu, uint64_t pc, nx_status *status)
{
	struct nx_cluster *cluster;

	if (!vcpu->maker.earned && !nx_cost_ripe(vcpu, pc, NX_MAKE_INSN, vcpu->graph.insns)) {
		*status = NX_LEAVE_COLD;
		return NULL;
	}
	vcpu->counters.formed++;
	cluster = nx_cache_revive(vcpu);
	if (!cluster)
		begin_translating(vcpu);
	return cluster;
}

/* One step. The end: a cluster, or a status that is not OK. */
static struct nx_cluster *step(struct nx_vcpu *vcpu, uint64_t pc, nx_status *status)
{
	struct nx_maker *maker = &vcpu->maker;
	enum nx_progress progress;

	switch (maker->stage) {
	case NX_MAKER_FORMS:
		progress = nx_form_step(vcpu, &vcpu->graph);
		if (progress == NX_FAILED)
			*status = NX_LEAVE_NO_CLUSTER;
		else if (progress == NX_BLOCKED)
			*status = NX_LEAVE_SESSION;
		if (progress != NX_DONE)
			return NULL;
		maker->stage = NX_MAKER_TRANSLATES;
		return formed(vcpu, pc, status);
	case NX_MAKER_TRANSLATES:
		progress = nx_translate_step(vcpu);
		if (progress == NX_FAILED)
			*status = NX_LEAVE_UNTRANSLATED;
		if (progress != NX_DONE)
			return NULL;
		maker->stage = NX_MAKER_VERIFIES;
		begin_verifying(vcpu);
		return NULL;
	default:
		progress = verify_step(vcpu);
		if (progress == NX_FAILED)
			*status = NX_LEAVE_REFUSED;
		return progress == NX_DONE ? keep(vcpu, status) : NULL;
	}
}

struct nx_cluster *nx_make_cluster(struct nx_vcpu *vcpu, uint64_t rip, uint64_t pc, bool earned,
				   nx_status *status)
{
	uint64_t translated = vcpu->counters.translated, began;
	struct nx_maker *maker = &vcpu->maker;
	struct nx_cluster *cluster;
	unsigned steps = 0;

	*status = NX_LEAVE_COLD;
	if (!goes_on_at(vcpu, rip)) {
		if (nx_make_is_busy(vcpu))
			return NULL;
		begin(vcpu, rip);
	}
	*status = NX_OK;
	maker->others = 0;
	maker->earned |= earned;
	began = vcpu->host->now(vcpu->host_data);
	do {
		cluster = step(vcpu, pc, status);
		if (!cluster && *status == NX_OK && (++steps >= LEAST_STEPS || vcpu->stop))
			*status = nx_must_pause(vcpu);
	} while (!cluster && *status == NX_OK);
	maker->spent_ns += vcpu->host->now(vcpu->host_data) - began;
	if (!cluster && nx_is_pause(*status)) {
		vcpu->counters.paused++;
		return NULL;
	}
	maker->stage = NX_MAKER_IDLE;
	if (cluster && vcpu->counters.translated != translated) {
		cluster->made_ns = maker->spent_ns;
		nx_cost_learn(vcpu, NX_MAKE_INSN, cluster->insns, cluster->made_ns);
	}
	return cluster;
}
