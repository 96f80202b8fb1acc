/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cost.c - where does taking over pay? (DESIGN.md 3.3, step 6)
 *
 * To take a guest over the host has the exit completed and the registers brought, which costs
 * (nx_costs.takeover) whatever follows. Each exit that the engine delivers then saves an exit of
 * the hardware's, less the time that the engine needs instead. So each exiting instruction has an
 * account: what the stays that began at it have saved, against what they cost. Where a number of
 * stays end with a loss, the next exits there are left alone, twice as many each time; then it is
 * tried again, since what a guest does behind an exit changes.
 *
 * Stays in which something was formed or traced are not counted: that is paid once.
 */
#include "vcpu.h"

/* Stays between two decisions. */
#define TRIAL 16u
/* Nanoseconds: of an instruction in a cluster, and of a turn that is counted. */
#define INSTRUCTION_NS 2u
#define TURN_NS 4u
#define MAX_IDLE_TURNS 65536u
/* Exits left alone after the first loss; doubled so many times. */
#define DECLINE_FIRST 64u
#define DECLINE_MAX 9u

static uint32_t dearest_exit(const struct nx_costs *costs)
{
	uint32_t dearest = 0;

	for (unsigned i = 0; i < sizeof(costs->exit) / sizeof(costs->exit[0]); i++)
		if (costs->exit[i] > dearest)
			dearest = costs->exit[i];
	return dearest;
}

uint32_t nx_cost_idle_turns(const struct nx_vcpu *vcpu)
{
	uint32_t turns = dearest_exit(&vcpu->costs) / TURN_NS;

	if (turns < NX_IDLE_TURNS || vcpu->config.ignore_costs)
		return NX_IDLE_TURNS;
	return turns < MAX_IDLE_TURNS ? turns : MAX_IDLE_TURNS;
}

unsigned nx_cost_max_path(const struct nx_vcpu *vcpu)
{
	uint32_t pays = dearest_exit(&vcpu->costs) / INSTRUCTION_NS;

	if (!pays || pays > vcpu->config.max_path || vcpu->config.ignore_costs)
		return vcpu->config.max_path;
	return pays > vcpu->config.max_gap ? pays : vcpu->config.max_gap;
}

bool nx_cost_known(const struct nx_vcpu *vcpu)
{
	return dearest_exit(&vcpu->costs) && !vcpu->config.ignore_costs;
}

bool nx_cost_outgrown(const struct nx_vcpu *vcpu, struct nx_cluster *cluster)
{
	if (!nx_cost_known(vcpu))
		return true;
	cluster->lost += dearest_exit(&vcpu->costs) + vcpu->costs.takeover;
	/* What it takes with the new way is not known; most of it is what there is. */
	return cluster->lost >= cluster->made_ns << cluster->futile;
}

static struct nx_account *account_of(struct nx_vcpu *vcpu, uint64_t pc)
{
	struct nx_account *account =
	    &vcpu->account[(pc * 0x9e3779b97f4a7c15ull >> 52) % NX_ACCOUNTS];

	if (account->pc != pc)
		*account = (struct nx_account){.pc = pc};
	return account;
}

static void decide(const struct nx_vcpu *vcpu, struct nx_account *account)
{
	if (account->saved >= (uint64_t)vcpu->costs.takeover * TRIAL) {
		account->losses = 0;
	} else {
		account->declined = DECLINE_FIRST << account->losses;
		if (account->losses < DECLINE_MAX)
			account->losses++;
	}
	account->stays = 0;
	account->saved = 0;
}

void nx_cost_avoided(struct nx_vcpu *vcpu, enum nx_exit_kind kind)
{
	if (vcpu->costs.exit[kind] > vcpu->costs.resume)
		vcpu->stay_saved += vcpu->costs.exit[kind] - vcpu->costs.resume;
}

/* What is done once and pays later: clusters formed, new paths followed. */
static uint64_t once(const struct nx_vcpu *vcpu)
{
	const struct nx_counters *counters = &vcpu->counters;

	return counters->formed + counters->traces - counters->followed;
}

void nx_cost_settle(struct nx_vcpu *vcpu)
{
	struct nx_account *account;
	uint64_t made = once(vcpu);

	if (vcpu->stay_open && made == vcpu->stay_made) {
		account = account_of(vcpu, vcpu->hot_rip);
		account->saved += vcpu->stay_saved;
		if (++account->stays == TRIAL)
			decide(vcpu, account);
	}
	vcpu->stay_open = false;
}

bool nx_cost_open(struct nx_vcpu *vcpu, uint64_t pc)
{
	struct nx_account *account = account_of(vcpu, pc);

	if (account->declined && vcpu->costs.takeover && !vcpu->config.ignore_costs) {
		account->declined--;
		vcpu->counters.declined++;
		return false;
	}
	vcpu->stay_open = true;
	vcpu->stay_saved = 0;
	vcpu->stay_made = once(vcpu);
	return true;
}
