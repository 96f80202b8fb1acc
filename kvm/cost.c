/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cost.c - what exits and takeovers cost on this machine, measured while the guest runs.
 *
 * The time of a KVM_RUN is the way to the guest and back and what the guest did in between. Exits
 * come in bursts, so the least of a number of samples is little more than the way itself. The same
 * least frees the other figures from whatever disturbed a sample. A window of samples after the
 * other: costs change when a machine is migrated or its load does.
 */
#include "host.h"

/* Samples of a window. */
#define WINDOW 16
/* After the first windows one KVM_RUN in so many is timed: the clock costs something, too. */
#define ALL_FIRST 64
#define ONE_IN 16
#define MANY 32 /* instructions in one resume */

NX_HOT bool nx_sample_due(struct nx_kvm_vcpu *vcpu)
{
	unsigned runs = vcpu->runs_seen++;

	return runs < ALL_FIRST || runs % ONE_IN == 0;
}

void nx_sample_add(struct nx_kvm_vcpu *vcpu, enum nx_cost which, uint64_t ns)
{
	struct nx_cost_window *window = &vcpu->cost[which];
	uint32_t sample = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;

	if (!window->samples || sample < window->least)
		window->least = sample;
	if (++window->samples < WINDOW)
		return;
	window->samples = 0;
	vcpu->stats->cost_ns[which] = window->least;
	if (vcpu->engine)
		nx_sample_tell(vcpu);
}

void nx_sample_instructions(struct nx_kvm_vcpu *vcpu, uint64_t instructions, uint64_t ns)
{
	uint64_t alone = vcpu->stats->cost_ns[NX_COST_RESUME];

	/* Fewer are lost in what a resume itself takes. */
	if (instructions >= MANY && alone && ns > alone)
		nx_sample_add(vcpu, NX_COST_THOUSAND, (ns - alone) * 1000 / instructions);
}

void nx_sample_tell(struct nx_kvm_vcpu *vcpu)
{
	const uint32_t *cost = vcpu->stats->cost_ns;

	*nx_engine_costs(vcpu->engine) = (struct nx_costs){
	    .exit = {[NX_EXIT_IO] = cost[NX_COST_IO], [NX_EXIT_MMIO] = cost[NX_COST_MMIO]},
	    .takeover = cost[NX_COST_TAKEOVER],
	    .resume = cost[NX_COST_RESUME],
	    .thousand = cost[NX_COST_THOUSAND],
	};
}
