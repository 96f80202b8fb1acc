// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * cost.c - measures what exits and stays cost on this machine while the guest runs, for the engine
 * to weigh.
 *
 * The least of a window of samples is taken: what lies between two exits contains guest time, and
 * any figure may contain an interrupt. Windows are not merged, because costs change with load.
 *
 * KVM's handler runs in a stay as it does behind an exit of the hardware's, but not at the same
 * cost: the processor does not always tell how long the instruction is. So an exit is measured with
 * its handler, and what delivering one takes in a stay is taken off.
 */
#include "host.h"

/* A window has this many samples. */
#define WINDOW 16
#define MANY 32 /* instructions in one resume */

static void tell(struct nxk_vcpu *v)
{
	u32 *cost = v->host->cost_ns;
	struct nx_costs costs = {
	    .takeover = cost[NX_COST_TAKEOVER],
	    .resume = cost[NX_COST_RESUME],
	    .thousand = cost[NX_COST_THOUSAND],
	};

	for (unsigned int i = 0; i < NX_EXIT_CLASS_COUNT; i++) {
		u32 whole = v->exit_cost[i].value, part = v->deliver_cost[i].value;

		if (whole)
			cost[i] = whole > part ? whole - part : 1;
		costs.exit[i] = cost[i];
	}
	if (v->engine)
		nx_engine_set_costs(v->engine, &costs);
}

static void sample(struct nxk_vcpu *v, struct nxk_window *window, u64 ns)
{
	u32 sample = ns < U32_MAX ? ns : U32_MAX;

	if (!window->samples || sample < window->least)
		window->least = sample;
	if (++window->samples < WINDOW)
		return;
	window->samples = 0;
	if (window->value == window->least)
		return;
	window->value = window->least;
	tell(v);
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
	v->host->cost_ns[NX_COST_RESUME] = v->resume_cost.value;
	/* The fixed cost of a resume would hide fewer instructions. */
	if (instructions < MANY || !alone || ns <= alone)
		return;
	sample(v, &v->thousand_cost, div64_u64((ns - alone) * 1000, instructions));
	v->host->cost_ns[NX_COST_THOUSAND] = v->thousand_cost.value;
}

void nxk_cost_stay(struct nxk_vcpu *v, u64 first, u64 last)
{
	s64 before = first - v->handled;

	if (!v->weighs || before <= 0)
		return;
	sample(v, &v->takeover_cost, nxk_ns(before) + nxk_ns_since(last));
	v->host->cost_ns[NX_COST_TAKEOVER] = v->takeover_cost.value;
}
