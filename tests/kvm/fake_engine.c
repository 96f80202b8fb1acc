/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* fake_engine.c - noexit.h for model instructions, and checks of what a host owes the engine. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

struct nx_engine {
	struct nx_state state;
	volatile int stop;
	const struct nx_host *host;
	void *host_data;
	struct nx_counters counters;
	uint32_t fail; /* NX_FAIL_* */
	bool segment_loads;
	struct nx_costs costs;
	bool pending;
	bool outs; /* the pending exit is an M_OUTS */
	uint8_t string[NX_STRING_BYTES];
	bool rmw;            /* the pending exit is the read of an M_RMW */
	bool copies, copied; /* it is the read, or the write, of an element of an M_MOVS */
	struct nx_exit exit;
	unsigned exits_in_stay;
	bool window_asked;   /* no interrupt waited as the window was opened, and no exit since */
	uint64_t shadow_rip; /* in the shadow of the STI before it; 0: none */
};

struct fake_engine fake_engine;
static struct nx_engine engine;

static bool chance(unsigned one_in)
{
	fake_engine.random = fake_engine.random * 1103515245 + 12345;
	return one_in && (fake_engine.random >> 16) % one_in == 0;
}

size_t nx_engine_arena_size(void)
{
	return sizeof(struct nx_engine);
}

void nx_config_default(struct nx_config *config)
{
	*config =
	    (struct nx_config){.level = NX_LEVEL_COUNT - 1, .max_gap = 16, .max_gap_accesses = 4};
}

void nx_config_limits(struct nx_config *config, enum nx_limits limits)
{
	assert(config->max_gap && limits == NX_LIMITS_ADAPTIVE);
}

void nx_engine_set_costs(struct nx_engine *e, const struct nx_costs *costs)
{
	e->costs = *costs;
}

struct nx_engine *nx_engine_create(const struct nx_memory *memory, const struct nx_host *host,
				   void *host_data, const struct nx_config *config)
{
	assert(memory->arena && memory->code_rw != memory->code_rx && config->max_gap);
	engine = (struct nx_engine){.host = host,
				    .host_data = host_data,
				    .fail = config->experiment.fail,
				    .segment_loads = config->segment_loads};
	fake_engine.created++;
	fake_engine.config = *config;
	return &engine;
}

struct nx_state *nx_engine_state(struct nx_engine *e)
{
	return &e->state;
}

volatile int *nx_engine_stop_flag(struct nx_engine *e)
{
	if (fake_engine.at_flag)
		fake_engine.at_flag();
	return &e->stop;
}

bool nx_engine_worth_resuming(struct nx_engine *e, uint64_t exit_rip, enum nx_exit_class exit_class,
			      uint16_t port, uint64_t now)
{
	assert(port == (exit_class == NX_CLASS_IO ? fake.run->io.port : 0));
	assert(fake.run->exit_reason == (exit_class == NX_CLASS_IO ? KVM_EXIT_IO : KVM_EXIT_MMIO));
	assert(now);
	(void)exit_class;
	(void)now;
	assert(!e->pending);
	assert(exit_rip >= MODEL_BASE && exit_rip <= MODEL_BASE + fake.insns * MODEL_LEN);
	e->exits_in_stay = 0;
	e->window_asked = false;
	return !chance(fake_engine.leave_every);
}

void nx_engine_not_resumed(struct nx_engine *e)
{
	assert(!e->pending && !e->exits_in_stay);
}

enum nx_completion nx_engine_complete_exit(struct nx_engine *e, struct nx_exit *exit)
{
	/* It may have to write to guest memory. */
	assert(pthread_rwlock_trywrlock(&((struct nx_kvm_vcpu *)e->host_data)->vm->lock));
	if (!e->pending)
		return NX_COMPLETION_NONE;
	if (e->rmw) {
		e->rmw = false;
		exit->write = true;
		exit->data += e->state.gpr[NX_RAX];
		fake_engine.exits++;
		return NX_COMPLETION_EXIT;
	}
	if (e->copies) {
		e->copies = false;
		e->copied = true;
		exit->write = true;
		exit->gpa = e->state.gpr[NX_RDI];
		fake_engine.exits++;
		return NX_COMPLETION_EXIT;
	}
	e->pending = false;
	if (e->copied) {
		e->copied = false;
		e->state.gpr[NX_RSI] += 8;
		e->state.gpr[NX_RDI] += 8;
		e->state.gpr[NX_RCX]--;
		return NX_COMPLETION_DONE;
	}
	e->state.gpr[NX_RSI] += e->outs ? 4 : 0;
	if (!exit->write && exit->kind == NX_EXIT_IO)
		e->state.gpr[NX_RAX] = exit->data;
	else if (!exit->write)
		e->state.gpr[NX_RCX] = exit->data;
	e->state.rip += MODEL_LEN;
	return NX_COMPLETION_DONE;
}

void nx_engine_flush(struct nx_engine *e)
{
	(void)e;
	fake_engine.flushes++;
}

void nx_engine_forget_exit(struct nx_engine *e)
{
	e->pending = e->rmw = e->copies = e->copied = false;
}

static enum nx_outcome leave(struct nx_engine *e, struct nx_exit *exit, enum nx_status why)
{
	if (e->shadow_rip && e->state.rip == e->shadow_rip) {
		e->state.rip -= MODEL_LEN;
		e->state.rflags &= ~(uint64_t)NX_FL_IF;
	}
	e->shadow_rip = 0;
	e->counters.leaves[why]++;
	fake_engine.leaves++;
	exit->reason = why;
	return NX_LEAVE;
}

/* The rule of the real one: engine/helper/helper.c. */
static bool change_window(struct nx_engine *e, bool open)
{
	bool is_open = e->state.rflags & NX_FL_IF;

	if (is_open == open)
		return true;
	if ((open || !e->window_asked) && !e->host->no_interrupt_waits(e->host_data))
		return false;
	e->window_asked = open;
	e->state.rflags ^= NX_FL_IF;
	fake_engine.windows++;
	return true;
}

static enum nx_outcome deliver(struct nx_engine *e, struct nx_exit *exit,
			       const struct model_insn *insn)
{
	bool io = insn->op == M_IN || insn->op == M_OUT || insn->op == M_OUTS;
	bool write = insn->op == M_OUT || insn->op == M_OUTS || insn->op == M_STORE;
	uint64_t value = e->state.gpr[io ? NX_RAX : NX_RCX];
	uint64_t gpa = insn->op == M_MOVS ? e->state.gpr[NX_RSI] : insn->operand;
	enum nx_route route;

	if (e->shadow_rip)
		return leave(e, exit, NX_LEAVE_WINDOW);
	e->window_asked = false;
	if (io)
		route = e->host->route_io(e->host_data, (uint16_t)insn->operand, 4, write, value);
	else
		route = e->host->route_mmio(e->host_data, gpa, 8, write, value);
	if (route == NX_ROUTE_LEAVE)
		return leave(e, exit, NX_LEAVE_HOST_ROUTE);
	*exit = (struct nx_exit){
	    .kind = io ? NX_EXIT_IO : NX_EXIT_MMIO,
	    .write = write,
	    .size = io ? 4 : 8,
	    .count = 1,
	    .port = io ? (uint16_t)insn->operand : 0,
	    .gpa = io ? 0 : gpa,
	    .data = write ? (io ? (uint32_t)value : value) : 0xdeadbeefdeadbeef,
	    .rip = e->state.rip,
	    .built = fake_engine.builds,
	};
	e->outs = insn->op == M_OUTS;
	if (e->outs) {
		memcpy(e->string, &value, 4);
		exit->string = e->string;
	}
	e->pending = true;
	e->rmw = insn->op == M_RMW;
	e->copies = insn->op == M_MOVS;
	e->exits_in_stay++;
	fake_engine.exits++;
	return NX_EXIT;
}

/* Check what a host must have seen to before it lets the engine run. */
static void check_host(const struct nx_engine *e)
{
	struct nx_kvm_vcpu *host = e->host_data;

	assert(fake.pending == PENDING_NONE);
	assert(!fake.memory_changing);
	assert(pthread_rwlock_trywrlock(&host->vm->lock));
	assert(!fake.events.exception.injected && !fake.events.exception.pending);
	assert(!fake.events.interrupt.injected && !fake.events.interrupt.shadow);
	assert(e->state.seg[NX_CS].base == fake.sregs.cs.base);
	assert(e->exits_in_stay || e->state.seg[NX_ES].selector == fake.sregs.es.selector);
	/* Unless another thread is at the memslots just now. */
	assert(!__atomic_load_n(&e->stop, __ATOMIC_RELAXED) || fake_engine.in_resume);
	(void)host;
}

/* The model's code is in no memory, but a host that has none for it is to be noticed. */
static bool can_read_code(const struct nx_engine *e)
{
	struct nx_page page;

	e->host->map_page(e->host_data, 0, &page);
	return page.kind != NX_PAGE_LEAVE;
}

static void load_segment(struct nx_state *state)
{
	state->seg[NX_ES].selector = (uint16_t)state->gpr[NX_RAX];
	state->seg[NX_ES].base = (uint64_t)state->seg[NX_ES].selector << 4;
	state->segments_changed = true;
	fake_engine.segments++;
}

/* Execute one instruction. Return true if it ends the resume, with *outcome. */
static bool execute(struct nx_engine *e, struct nx_exit *exit, enum nx_outcome *outcome)
{
	struct nx_state *state = &e->state;
	uint64_t index = (state->rip - MODEL_BASE) / MODEL_LEN;
	uint64_t next = state->rip + MODEL_LEN, shadow = 0;
	const struct model_insn *insn = &fake.program[index];
	enum nx_status why = NX_OK;
	bool delivers = false;

	assert(index < fake.insns);
	switch (insn->op) {
	case M_ADD:
		state->gpr[NX_RAX] += insn->operand;
		break;
	case M_MOVE:
		state->gpr[NX_RCX] = state->gpr[NX_RAX];
		break;
	case M_SEG:
		/* Only for a host that takes segments back. */
		if (e->segment_loads && !(state->cr0 & 1))
			load_segment(state);
		else
			why = NX_LEAVE_CLUSTER_END;
		break;
	case M_LOOP:
		if (--state->gpr[NX_RDX])
			next = MODEL_BASE + insn->operand * MODEL_LEN;
		break;
	case M_STI:
		shadow = state->rflags & NX_FL_IF ? 0 : next;
		if (!change_window(e, true))
			why = NX_LEAVE_WINDOW;
		break;
	case M_CLI:
	case M_POPF:
		if (e->shadow_rip || !change_window(e, insn->op == M_POPF && insn->operand))
			why = NX_LEAVE_WINDOW;
		break;
	case M_MOVS:
		delivers = state->gpr[NX_RCX];
		break;
	case M_IN:
	case M_OUT:
	case M_OUTS:
	case M_LOAD:
	case M_STORE:
	case M_RMW:
		delivers = true;
		break;
	default:
		why = NX_LEAVE_FAULT;
		break;
	}
	if (delivers || why != NX_OK) {
		*outcome = delivers ? deliver(e, exit, insn) : leave(e, exit, why);
		return true;
	}
	e->shadow_rip = shadow;
	state->rip = next;
	return false;
}

enum nx_outcome nx_engine_resume(struct nx_engine *e, struct nx_exit *exit)
{
	enum nx_outcome outcome;

	fake_engine.resumes++;
	e->counters.resumes++;
	check_host(e);
	if (fake_engine.in_resume)
		fake_engine.in_resume();
	if (nx_engine_complete_exit(e, exit) == NX_COMPLETION_EXIT)
		return NX_EXIT;
	e->counters.refused += !!(e->fail & NX_FAIL_VERIFY);
	if (e->fail)
		return leave(e, exit,
			     e->fail & NX_FAIL_VERIFY ? NX_LEAVE_REFUSED : NX_LEAVE_CACHE_FULL);
	if (!can_read_code(e))
		return leave(e, exit, NX_LEAVE_CODE_UNREADABLE);
	e->counters.translated++;
	if (chance(fake_engine.leave_every))
		return leave(e, exit, NX_LEAVE_CLUSTER_END);
	if (fake_engine.exits_per_stay && e->exits_in_stay >= fake_engine.exits_per_stay)
		return leave(e, exit, NX_LEAVE_CLUSTER_END);
	for (unsigned i = 0; i < 64; i++) {
		if (__atomic_load_n(&e->stop, __ATOMIC_RELAXED))
			return leave(e, exit, NX_LEAVE_STOP);
		if (execute(e, exit, &outcome))
			return outcome;
	}
	return leave(e, exit, NX_LEAVE_CLUSTER_END);
}

const struct nx_counters *nx_engine_counters(const struct nx_engine *e)
{
	return &e->counters;
}

bool nx_engine_alone(const struct nx_engine *e, unsigned number, struct nx_alone *place)
{
	(void)e;
	(void)number;
	(void)place;
	return false;
}

const struct nx_cluster *nx_cluster_next(const struct nx_engine *e,
					 const struct nx_cluster *cluster)
{
	(void)e;
	(void)cluster;
	return NULL;
}

void nx_cluster_describe(const struct nx_cluster *cluster, struct nx_cluster_info *info)
{
	(void)cluster;
	memset(info, 0, sizeof(*info));
}

void nx_cluster_block(const struct nx_cluster *cluster, unsigned number,
		      struct nx_cluster_block *block)
{
	(void)cluster;
	(void)number;
	memset(block, 0, sizeof(*block));
}

size_t nx_cluster_code(const struct nx_cluster *cluster, uint64_t rip, void *to, size_t size)
{
	(void)cluster;
	(void)rip;
	(void)to;
	(void)size;
	return 0;
}

const char *nx_leave_reason_name(enum nx_status reason)
{
	static const char *const names[] = {
#define NX_X(name, text) #name,
	    NX_LEAVE_REASONS(NX_X)
#undef NX_X
	};

	return names[reason];
}
