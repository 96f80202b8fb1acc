// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * cost.c - measures what exits and stays cost on this machine while the guest runs, for the engine
 * to weigh.
 *
 * KVM's handler runs in a stay as it does behind an exit of the hardware's, but not at the same
 * cost: the processor does not always tell how long the instruction is. So an exit is measured with
 * its handler, and what delivering one takes in a stay is taken off.
 */
#include "host.h"

static void tell(struct nxk_vcpu *v)
{
	u32 *cost = v->host->cost_ns;
	struct nx_costs costs = {
	    .takeover = v->takeover_cost.value,
	    .resume = v->resume_cost.value,
	    .thousand = v->thousand_cost.value,
	};

	for (unsigned int i = 0; i < NX_EXIT_CLASS_COUNT; i++) {
		u32 whole = v->exit_cost[i].value, part = v->deliver_cost[i].value;

		if (whole)
			cost[i] = whole > part ? whole - part : 1;
		costs.exit[i] = cost[i];
	}
	cost[NX_COST_TAKEOVER] = costs.takeover;
	cost[NX_COST_RESUME] = costs.resume;
	cost[NX_COST_THOUSAND] = costs.thousand;
	if (v->engine)
		nx_engine_set_costs(v->engine, &costs);
}

static void window_full(struct nxk_vcpu *v, struct nxk_cost *cost)
{
	if (cost->value == cost->window.least)
		return;
	cost->value = cost->window.least;
	tell(v);
}

static void sample(struct nxk_vcpu *v, struct nxk_cost *cost, u64 ns)
{
	if (nx_cost_sample(&cost->window, ns))
		window_full(v, cost);
}

void nxk_cost_of_exit(struct nxk_vcpu *v, enum nxk_class class)
{
	v->handled = rdtsc();
	if (class != NXK_CLASS_OTHER && class != NXK_CLASS_HLT && v->entered)
		sample(v, &v->exit_cost[nxk_engine_class(class)], nxk_ns(v->handled - v->entered));
	v->entered = 0;
}

void nxk_cost_of_delivery(struct nxk_vcpu *v, u64 began)
{
	sample(v, &v->deliver_cost[nx_exit_class_of(&v->exit)], nxk_ns_since(began));
}

void nxk_cost_of_resume(struct nxk_vcpu *v, u64 ns, u64 instructions)
{
	u64 alone = v->resume_cost.value;

	sample(v, &v->resume_cost, ns);
	if (nx_cost_sample_thousand(&v->thousand_cost.window, instructions, ns, alone))
		window_full(v, &v->thousand_cost);
}

void nxk_cost_stay(struct nxk_vcpu *v, u64 first, u64 last)
{
	s64 before = first - v->handled;

	if (!v->weighs || before <= 0)
		return;
	sample(v, &v->takeover_cost, nxk_ns(before) + nxk_ns_since(last));
}
