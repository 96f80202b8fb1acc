/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cost.c - the cost model: decide where a take-over pays.
 *
 * A take-over has a fixed cost (nx_costs.takeover): the host must have the exit completed and the
 * registers transferred. Each exit that the engine then delivers saves a hardware exit, less the
 * time that the engine needs for it. Each exiting instruction therefore has an account of what the
 * stays that began at it have saved and cost. If a number of stays end with a loss, the next exits
 * at that place are left alone, twice as many each time (back-off). Then it is tried again, since
 * the code that a guest runs behind an exit changes.
 *
 * The place owes for everything that is made in a stay (clusters, traces, translations of single
 * instructions), and the gains of its stays pay the debt back. Before anything is made, the exits
 * must have cost a fraction of what the cluster will cost (the hot threshold), and the whole of
 * what the place still owes. The same holds for paths to be followed. Code that runs a few times is
 * thus left to the hardware.
 */
#include "engine.h"

/* The number of stays between two decisions; one timed stay stands for so many of them. */
#define TRIAL 16u
#define TIMED_STAY 4u
/* The assumed time of a thousand instructions in clusters, in ns, until it has been measured. */
#define THOUSAND_NS 2000u
/* The assumed length of a counted loop's turn, in instructions. */
#define TURN 2u
#define MAX_IDLE_TURNS 65536u
/*
 * The hot threshold: a cluster is made as soon as exits have cost this fraction (1/n) of its own
 * cost. Waiting for the whole cost would lose at most twice what perfect foresight would; the
 * fraction is more eager, since a cluster also serves the exits around it.
 */
#define EAGERNESS 3u
/* Without costs a cluster of so many bytes of code more takes a side exit more to be rebuilt. */
#define REBUILT_BYTES 512u
/*
 * A measurement moves the estimate by this fraction, however far away the measurement is. The
 * estimate thus approaches the median, which a preempted measurement does not spoil. The first
 * measurements move it further, because a stage takes several times as long when it first runs.
 */
#define LEARNING 8u
/* The fixed cost of making any cluster, expressed in instructions. */
#define CLUSTER_INSNS 32u
#define MOST_LEAVES 64u

static uint32_t dearest_exit(const struct nx_costs *costs)
{
	uint32_t dearest = 0;

	for (unsigned i = 0; i < NX_EXIT_CLASS_COUNT; i++)
		if (costs->exit[i] > dearest)
			dearest = costs->exit[i];
	return dearest;
}

/* Return how many instructions in clusters take as long as an exit of that price. */
static uint64_t instructions_worth(const struct nx_engine *engine, uint32_t price)
{
	uint32_t thousand = engine->costs.thousand ? engine->costs.thousand : THOUSAND_NS;

	return price * 1000ull / thousand;
}

/* Return how many turns of a loop without an exit take the time of an exit of that price. */
static uint32_t idle_turns(const struct nx_engine *engine, uint32_t price)
{
	uint64_t turns = instructions_worth(engine, price) / TURN;

	if (turns < NX_IDLE_TURNS || engine->config.experiment.ignore_costs)
		return NX_IDLE_TURNS;
	return turns < MAX_IDLE_TURNS ? (uint32_t)turns : MAX_IDLE_TURNS;
}

/* Each delivered exit asks for what follows from the costs, so it is computed here. */
void nx_engine_set_costs(struct nx_engine *engine, const struct nx_costs *costs)
{
	uint32_t dearest = dearest_exit(costs);

	engine->costs = *costs;
	for (unsigned i = 0; i < NX_EXIT_CLASS_COUNT; i++) {
		uint32_t price = costs->exit[i] ? costs->exit[i] : dearest;

		engine->prices.exit[i] = price;
		engine->prices.idle_turns[i] = idle_turns(engine, price);
	}
}

/* Return what an exit of a class costs, in ns, or 0 if nothing has been measured. */
static uint32_t price(const struct nx_engine *engine, unsigned class)
{
	return engine->prices.exit[class];
}

/* Return the cost of leaving now: an exit like the last one, and the next take-over. */
static uint32_t price_of_leaving(const struct nx_engine *engine)
{
	return price(engine, engine->stay.class) + engine->costs.takeover;
}

unsigned nx_cost_max_path(const struct nx_engine *engine)
{
	uint64_t pays = instructions_worth(engine, price(engine, engine->stay.class));

	if (!pays || pays > engine->config.max_path || engine->config.experiment.ignore_costs)
		return engine->config.max_path;
	return pays > engine->config.max_gap ? (unsigned)pays : engine->config.max_gap;
}

/*
 * Return the name of the account for exits at pc. A function that writes any port has one
 * instruction for all of them, and behind one port's exit another follows at once, behind
 * another's none: so the exit that a stay begins with is named by its port, too.
 */
uint64_t nx_cost_name(const struct nx_engine *engine, uint64_t pc)
{
	return pc == engine->stay.hot_rip ? pc ^ engine->stay.hot_port * NX_HASH_FACTOR : pc;
}

/* Return the place of the account of that name, which may be another's. */
static unsigned account_number(uint64_t name)
{
	return nx_hash_row(name, NX_ACCOUNTS);
}

static struct nx_account *account_of(struct nx_engine *engine, uint64_t pc)
{
	uint64_t name = nx_cost_name(engine, pc);
	struct nx_account *account = &engine->accounts.account[account_number(name)];

	if (account->name != name)
		*account = (struct nx_account){.name = name};
	return account;
}

enum nx_alone_reason nx_cost_alone(const struct nx_engine *engine, uint64_t name)
{
	const struct nx_account *account = &engine->accounts.account[account_number(name)];

	if (account->name != name)
		return NX_ALONE_COLD;
	return account->backoff.times ? NX_ALONE_DECLINED
	       : account->waits_for   ? NX_ALONE_UNEARNED
				      : NX_ALONE_COLD;
}

bool nx_cost_known(const struct nx_engine *engine)
{
	/* If one class has been measured, every class has a price. */
	return price(engine, NX_CLASS_IO) && !engine->config.experiment.ignore_costs;
}

/* In what making_ns counts. */
static uint64_t units(enum nx_making making, unsigned count)
{
	return making == NX_MAKE_INSN ? count + CLUSTER_INSNS : count;
}

void nx_cost_learn(struct nx_engine *engine, enum nx_making making, unsigned count, uint64_t ns)
{
	uint64_t *middle = &engine->accounts.making_ns[making];
	uint8_t *seen = &engine->accounts.making_seen[making];
	uint64_t each = ns / units(making, count);

	if (*seen < LEARNING)
		++*seen;
	if (*seen == 1)
		*middle = each;
	else if (each > *middle)
		*middle += *middle / *seen + 1;
	else
		*middle -= *middle / *seen;
}

/*
 * The exits that earn it; UINT16_MAX earn everything. What was made for the place before and has
 * not come back is to be waited for in full.
 */
static uint32_t exits_needed(const struct nx_engine *engine, const struct nx_account *account,
			     enum nx_making making, unsigned count)
{
	uint64_t ns = engine->accounts.making_ns[making] * units(making, count);
	uint64_t exits = (ns / EAGERNESS + account->owed) / price(engine, account->class);

	return exits < UINT16_MAX ? (uint32_t)exits : UINT16_MAX;
}

bool nx_cost_ripe(struct nx_engine *engine, uint64_t pc, enum nx_making making, unsigned count)
{
	struct nx_account *account = account_of(engine, pc);

	if (!nx_cost_known(engine))
		return true;
	if (account->exits < exits_needed(engine, account, making, count)) {
		account->making = (uint8_t)making;
		account->waits_for = count;
		return false;
	}
	account->exits = 0;
	account->owed = 0;
	return true;
}

bool nx_cost_waits(struct nx_engine *engine, uint64_t pc)
{
	struct nx_account *account = account_of(engine, pc);

	account->class = (uint8_t)engine->stay.class;
	if (account->exits < UINT16_MAX)
		account->exits++;
	if (!account->waits_for)
		return false;
	/* Use the present estimates; they may have come down since the account was opened. */
	if (!nx_cost_known(engine) ||
	    account->exits >= exits_needed(engine, account, account->making, account->waits_for)) {
		account->waits_for = 0;
		return false;
	}
	engine->counters.waited++;
	return true;
}

unsigned nx_cost_first_leaves(const struct nx_engine *engine)
{
	uint64_t leaves;

	if (!nx_cost_known(engine))
		return 0;
	leaves = engine->accounts.making_ns[NX_MAKE_TRACE] / price_of_leaving(engine) / EAGERNESS;
	return leaves < MOST_LEAVES ? (unsigned)leaves : MOST_LEAVES;
}

/* Without costs it is worth following, like everything. */
bool nx_cost_follow(const struct nx_engine *engine)
{
	return !nx_cost_known(engine) ||
	       engine->accounts.making_ns[NX_MAKE_STEPS] < price_of_leaving(engine);
}

bool nx_cost_outgrown(const struct nx_engine *engine, struct nx_cluster *cluster)
{
	/*
	 * The path is followed block by block meanwhile, without an exit, so a rebuild gains time
	 * only, and takes the more of it the larger the cluster is; twice as many side exits each
	 * time that it has given the same cluster before.
	 */
	if (!nx_cost_known(engine))
		return ++cluster->side_exits >= (1u + cluster->code_size / REBUILT_BYTES)
						    << cluster->reform_failures;
	cluster->side_exit_cost_ns += price_of_leaving(engine);
	/* The cost with the new path is unknown, but most of the cluster stays as it is. */
	return cluster->side_exit_cost_ns * EAGERNESS >= cluster->made_ns
							     << cluster->reform_failures;
}

/*
 * Pay back what was made from what the stays have gained since. Making something for a new place is
 * an investment, so its first stays are no trial. If a place later makes more than it gains, that
 * is a loss, too, but the back-off does not grow with it as long as the stays themselves gain: what
 * is owed keeps more from being made.
 */
static void decide(const struct nx_engine *engine, struct nx_account *account)
{
	int64_t gained = account->saved - (int64_t)engine->costs.takeover * account->stays;
	bool wasted = account->invested && (int64_t)account->made > gained;

	if (gained >= 0)
		account->backoff.times = 0;
	if (gained < 0 || wasted)
		nx_backoff_begin(&account->backoff, NX_BACKOFF_MOST);
	account->invested = true;
	account->stays = 0;
	account->saved = 0;
	account->made = 0;
}

void nx_cost_avoided(struct nx_engine *engine)
{
	uint64_t worth = price(engine, engine->stay.class);

	if (engine->stay.routed == NX_ROUTE_FREE)
		return;
	/*
	 * An exit that would not have reached the host's client does not save the way there. A
	 * take-over contains that way twice, once with nothing but the registers.
	 */
	if (engine->stay.routed != NX_ROUTE_EXIT)
		worth = worth > engine->costs.takeover ? worth - engine->costs.takeover : 0;
	engine->accounts.saved += worth;
	if (engine->stay.routed == NX_ROUTE_INSTEAD)
		engine->accounts.lost += engine->costs.client;
}

/*
 * The hardware meets a read-modify-write as one exit. KVM goes on with the write when it completes
 * the read, without entering the guest in between, so a write half saves the way out of the kernel
 * and back, which is half a take-over, and nothing if it would have gone into the ring.
 */
void nx_cost_avoided_half(struct nx_engine *engine)
{
	if (engine->stay.routed == NX_ROUTE_EXIT)
		engine->accounts.saved += engine->costs.takeover / 2;
	else if (engine->stay.routed == NX_ROUTE_INSTEAD)
		engine->accounts.lost += engine->costs.client;
}

void nx_cost_made(struct nx_engine *engine, uint64_t ns)
{
	struct nx_account *account = account_of(engine, engine->stay.hot_rip);

	engine->accounts.made += ns;
	engine->accounts.built = true;
	account->owed += ns;
	account->made += ns;
}

void nx_cost_spent(struct nx_engine *engine, uint64_t ns)
{
	/* A clock that went back gives no measurement. */
	if ((int64_t)ns > 0)
		engine->accounts.spent += ns;
}

/*
 * Learn how long a resume takes in the stays that begin at a place. This is a median as in
 * nx_cost_learn(), but no step goes past the measurement, since measurements may be few.
 */
static void learn_each(struct nx_account *account, uint64_t ns)
{
	uint32_t each = ns < INT32_MAX ? (uint32_t)ns : INT32_MAX;
	uint32_t step, distance;

	if (account->each_seen < LEARNING)
		account->each_seen++;
	if (account->each_seen == 1)
		account->each = each;
	step = account->each / account->each_seen + 1;
	distance = each > account->each ? each - account->each : account->each - each;
	if (step > distance)
		step = distance;
	account->each = each > account->each ? account->each + step : account->each - step;
}

/*
 * Return what the engine has spent in the stay: its resumes at this place's own cost. The global
 * minimum of a resume would be too low where helpers run instructions, pages are walked and
 * translations are looked up; the timed stays measure those.
 */
static uint64_t spent(const struct nx_engine *engine, const struct nx_account *account)
{
	uint64_t each = account->each_seen ? account->each : engine->costs.resume;

	return engine->accounts.resumes * each + engine->accounts.lost;
}

/*
 * Return whether a trial need not come to its end: the stays so far have lost what all of a trial
 * would have cost if it had saved nothing. Long stays lose that in one.
 */
static bool lost_enough(const struct nx_engine *engine, const struct nx_account *account)
{
	int64_t takeover = engine->costs.takeover;

	return takeover && account->saved < takeover * (account->stays - (int64_t)TRIAL);
}

static void pay_back(struct nx_account *account, int64_t gained)
{
	if (gained > 0)
		account->owed -=
		    (uint64_t)gained < account->owed ? (uint64_t)gained : account->owed;
}

void nx_cost_close(struct nx_engine *engine)
{
	engine->accounts.open = engine->accounts.timed = false;
}

void nx_cost_settle(struct nx_engine *engine)
{
	struct nx_account *account;
	int64_t gained;

	if (engine->accounts.open && !engine->config.experiment.ignore_costs) {
		account = account_of(engine, engine->stay.hot_rip);
		if (engine->accounts.timed && engine->accounts.resumes)
			learn_each(account, engine->accounts.spent / engine->accounts.resumes);
		gained = (int64_t)engine->accounts.saved - (int64_t)spent(engine, account);
		pay_back(account, gained - (int64_t)engine->costs.takeover);
		if (engine->accounts.made && account->founded < TRIAL) {
			account->founded++;
		} else {
			account->saved += gained;
			account->stays++;
			if (account->stays == TRIAL || lost_enough(engine, account))
				decide(engine, account);
		}
	}
	nx_cost_close(engine);
}

/* Return whether the next exit there is declined, as far as its losses go. */
static bool is_declined(const struct nx_engine *engine, const struct nx_account *account)
{
	return account->backoff.left && engine->costs.takeover &&
	       !engine->config.experiment.ignore_costs;
}

unsigned nx_cost_pass(struct nx_engine *engine, uint64_t pc, unsigned most)
{
	uint64_t name = nx_cost_name(engine, pc);
	struct nx_account *account = &engine->accounts.account[account_number(name)];

	if (account->name != name || account->waits_for || !is_declined(engine, account))
		return 0;
	most = nx_backoff_pass(&account->backoff, most);
	account->exits = account->exits + most < UINT16_MAX ? account->exits + most : UINT16_MAX;
	engine->counters.declined += most;
	return most;
}

bool nx_cost_open(struct nx_engine *engine, uint64_t pc)
{
	struct nx_account *account = account_of(engine, pc);

	if (is_declined(engine, account)) {
		engine->counters.declined += nx_backoff_pass(&account->backoff, 1);
		return false;
	}
	engine->accounts.open = true;
	engine->accounts.timed = nx_cost_known(engine) && account->stays % TIMED_STAY == 0;
	engine->accounts.saved = engine->accounts.lost = engine->accounts.made =
	    engine->accounts.spent = 0;
	engine->accounts.resumes = 0;
	return true;
}
