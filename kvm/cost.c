/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cost.c - measure what exits and take-overs cost on this machine while the guest runs.
 *
 * A KVM_RUN's duration is exit overhead plus guest time. Exits come in bursts, so the minimum over
 * a window approximates the overhead alone, and it rejects noise in the other figures as well.
 * Windows are not merged, because costs change with load and migration.
 */
#include "host.h"

/* A window has this many samples. */
#define WINDOW 16
/* After the first windows only one KVM_RUN in ONE_IN is timed, since the clock has its cost. */
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

	/* The fixed cost of a resume would hide fewer instructions. */
	if (instructions >= MANY && alone && ns > alone)
		nx_sample_add(vcpu, NX_COST_THOUSAND, (ns - alone) * 1000 / instructions);
}

void nx_sample_tell(struct nx_kvm_vcpu *vcpu)
{
	const uint32_t *cost = vcpu->stats->cost_ns;
	/* The other classes are the kernel's: none of them is met here. */
	const struct nx_costs costs = {
	    .exit = {[NX_CLASS_IO] = cost[NX_COST_IO], [NX_CLASS_MMIO] = cost[NX_COST_MMIO]},
	    .takeover = cost[NX_COST_TAKEOVER],
	    .resume = cost[NX_COST_RESUME],
	    .thousand = cost[NX_COST_THOUSAND],
	    .client = cost[NX_COST_CLIENT],
	};

	nx_engine_set_costs(vcpu->engine, &costs);
}
