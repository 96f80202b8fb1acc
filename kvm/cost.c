/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cost.c - measure what exits and take-overs cost on this machine while the guest runs.
 *
 * A KVM_RUN's duration is exit overhead plus guest time. Exits come in bursts, so the least of a
 * window of them (stats.h) approximates the overhead alone.
 */
#include "host.h"

/* After the first windows only one KVM_RUN in ONE_IN is timed, since the clock has its cost. */
#define ALL_FIRST 64
#define ONE_IN 16

NX_HOT bool nx_sample_due(struct nx_kvm_vcpu *vcpu)
{
	unsigned runs = vcpu->runs_seen++;

	return runs < ALL_FIRST || runs % ONE_IN == 0;
}

static void window_full(struct nx_kvm_vcpu *vcpu, enum nx_cost which)
{
	vcpu->stats->cost_ns[which] = vcpu->cost[which].least;
	if (vcpu->engine)
		nx_sample_tell(vcpu);
}

void nx_sample_add(struct nx_kvm_vcpu *vcpu, enum nx_cost which, uint64_t ns)
{
	if (nx_cost_sample(&vcpu->cost[which], ns))
		window_full(vcpu, which);
}

void nx_sample_instructions(struct nx_kvm_vcpu *vcpu, uint64_t instructions, uint64_t ns)
{
	if (nx_cost_sample_thousand(&vcpu->cost[NX_COST_THOUSAND], instructions, ns,
				    vcpu->stats->cost_ns[NX_COST_RESUME]))
		window_full(vcpu, NX_COST_THOUSAND);
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
