/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* fake_engine.c - noexit.h for model instructions, and checks of what a host owes the engine. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

struct nx_vcpu {
	struct nx_state state;
	volatile int stop;
	const struct nx_host *host;
	void *host_data;
	struct nx_counters counters;
	uint32_t fail; /* NX_FAIL_* */
	bool segment_loads;
	struct nx_costs costs;
	bool pending;
	bool rmw; /* the pending exit is the read of an M_RMW */
	struct nx_exit exit;
	unsigned exits_in_stay;
};

struct fake_engine fake_engine;
static struct nx_vcpu engine;

static bool chance(unsigned one_in)
{
	fake_engine.random = fake_engine.random * 1103515245 + 12345;
	return one_in && (fake_engine.random >> 16) % one_in == 0;
}

size_t nx_arena_size(void)
{
	return sizeof(struct nx_vcpu);
}

void nx_config_default(struct nx_config *config)
{
	*config = (struct nx_config){.max_gap = 16, .max_gap_accesses = 4};
}

void nx_config_limits(struct nx_config *config, enum nx_limits limits)
{
	assert(config->max_gap && limits == NX_LIMITS_ADAPTIVE);
}

struct nx_costs *nx_vcpu_costs(struct nx_vcpu *vcpu)
{
	return &vcpu->costs;
}

struct nx_vcpu *nx_vcpu_create(const struct nx_memory *memory, const struct nx_host *host,
			       void *host_data, const struct nx_config *config)
{
	assert(memory->arena && memory->code_rw != memory->code_rx && config->max_gap);
	engine = (struct nx_vcpu){.host = host,
				  .host_data = host_data,
				  .fail = config->fail,
				  .segment_loads = config->segment_loads};
	fake_engine.created++;
	return &engine;
}

struct nx_state *nx_vcpu_state(struct nx_vcpu *vcpu)
{
	return &vcpu->state;
}

volatile int *nx_vcpu_stop_flag(struct nx_vcpu *vcpu)
{
	if (fake_engine.at_flag)
		fake_engine.at_flag();
	return &vcpu->stop;
}

bool nx_worth_resuming(struct nx_vcpu *vcpu, uint64_t exit_rip, enum nx_exit_kind kind)
{
	assert(fake.run->exit_reason == (kind == NX_EXIT_IO ? KVM_EXIT_IO : KVM_EXIT_MMIO));
	(void)kind;
	assert(!vcpu->pending);
	assert(exit_rip >= MODEL_BASE && exit_rip <= MODEL_BASE + fake.insns * MODEL_LEN);
	vcpu->exits_in_stay = 0;
	return !chance(fake_engine.leave_every);
}

enum nx_completion nx_complete_exit(struct nx_vcpu *vcpu, struct nx_exit *exit)
{
	/* It may have to write to guest memory. */
	assert(pthread_rwlock_trywrlock(&((struct nx_kvm_vcpu *)vcpu->host_data)->vm->lock));
	if (!vcpu->pending)
		return NX_COMPLETION_NONE;
	if (vcpu->rmw) {
		vcpu->rmw = false;
		exit->write = true;
		exit->data += vcpu->state.gpr[NX_RAX];
		fake_engine.exits++;
		return NX_COMPLETION_EXIT;
	}
	vcpu->pending = false;
	if (!exit->write && exit->kind == NX_EXIT_IO)
		vcpu->state.gpr[NX_RAX] = exit->data;
	else if (!exit->write)
		vcpu->state.gpr[NX_RCX] = exit->data;
	vcpu->state.rip += MODEL_LEN;
	return NX_COMPLETION_DONE;
}

void nx_flush(struct nx_vcpu *vcpu)
{
	(void)vcpu;
}

void nx_forget_exit(struct nx_vcpu *vcpu)
{
	vcpu->pending = vcpu->rmw = false;
}

static enum nx_outcome leave(struct nx_vcpu *vcpu, struct nx_exit *exit, enum nx_leave_reason why)
{
	vcpu->counters.leaves[why]++;
	fake_engine.leaves++;
	exit->reason = why;
	return NX_LEAVE;
}

static enum nx_outcome deliver(struct nx_vcpu *vcpu, struct nx_exit *exit,
			       const struct model_insn *insn)
{
	bool io = insn->op == M_IN || insn->op == M_OUT;
	bool write = insn->op == M_OUT || insn->op == M_STORE;
	uint64_t value = vcpu->state.gpr[io ? NX_RAX : NX_RCX];
	enum nx_route route;

	if (io)
		route =
		    vcpu->host->route_io(vcpu->host_data, (uint16_t)insn->operand, 4, write, value);
	else
		route = vcpu->host->route_mmio(vcpu->host_data, insn->operand, 8, write, value);
	if (route == NX_ROUTE_LEAVE)
		return leave(vcpu, exit, NX_LEAVE_HOST_ROUTE);
	*exit = (struct nx_exit){
	    .kind = io ? NX_EXIT_IO : NX_EXIT_MMIO,
	    .write = write,
	    .size = io ? 4 : 8,
	    .count = 1,
	    .port = io ? (uint16_t)insn->operand : 0,
	    .gpa = io ? 0 : insn->operand,
	    .data = write ? (io ? (uint32_t)value : value) : 0xdeadbeefdeadbeef,
	    .rip = vcpu->state.rip,
	};
	vcpu->pending = true;
	vcpu->rmw = insn->op == M_RMW;
	vcpu->exits_in_stay++;
	fake_engine.exits++;
	return NX_EXIT;
}

/* What a host must have seen to before it lets the engine run. */
static void check_host(const struct nx_vcpu *vcpu)
{
	struct nx_kvm_vcpu *host = vcpu->host_data;

	assert(fake.pending == PENDING_NONE);
	assert(!fake.memory_changing);
	assert(pthread_rwlock_trywrlock(&host->vm->lock));
	assert(!fake.events.exception.injected && !fake.events.exception.pending);
	assert(!fake.events.interrupt.injected && !fake.events.interrupt.shadow);
	assert(vcpu->state.seg[NX_CS].base == fake.sregs.cs.base);
	assert(vcpu->exits_in_stay || vcpu->state.seg[NX_ES].selector == fake.sregs.es.selector);
	/* Unless another thread is at the memslots just now. */
	assert(!__atomic_load_n(&vcpu->stop, __ATOMIC_RELAXED) || fake_engine.in_resume);
	(void)host;
}

/* The model's code is in no memory, but a host that has none for it is to be noticed. */
static bool can_read_code(const struct nx_vcpu *vcpu)
{
	struct nx_page page;

	vcpu->host->map_page(vcpu->host_data, 0, &page);
	return page.kind != NX_PAGE_LEAVE;
}

enum nx_outcome nx_resume(struct nx_vcpu *vcpu, struct nx_exit *exit)
{
	struct nx_state *state = &vcpu->state;

	fake_engine.resumes++;
	vcpu->counters.resumes++;
	check_host(vcpu);
	if (fake_engine.in_resume)
		fake_engine.in_resume();
	if (nx_complete_exit(vcpu, exit) == NX_COMPLETION_EXIT)
		return NX_EXIT;
	vcpu->counters.refused += !!(vcpu->fail & NX_FAIL_VERIFY);
	if (vcpu->fail)
		return leave(vcpu, exit,
			     vcpu->fail & NX_FAIL_VERIFY ? NX_LEAVE_REFUSED : NX_LEAVE_CACHE_FULL);
	if (!can_read_code(vcpu))
		return leave(vcpu, exit, NX_LEAVE_CODE_UNREADABLE);
	vcpu->counters.translated++;
	if (chance(fake_engine.leave_every))
		return leave(vcpu, exit, NX_LEAVE_CLUSTER_END);
	if (fake_engine.exits_per_stay && vcpu->exits_in_stay >= fake_engine.exits_per_stay)
		return leave(vcpu, exit, NX_LEAVE_CLUSTER_END);
	for (unsigned i = 0; i < 64; i++) {
		uint64_t index = (state->rip - MODEL_BASE) / MODEL_LEN;
		const struct model_insn *insn = &fake.program[index];

		assert(index < fake.insns);
		if (__atomic_load_n(&vcpu->stop, __ATOMIC_RELAXED))
			return leave(vcpu, exit, NX_LEAVE_STOP);
		switch (insn->op) {
		case M_ADD:
			state->gpr[NX_RAX] += insn->operand;
			break;
		case M_MOVE:
			state->gpr[NX_RCX] = state->gpr[NX_RAX];
			break;
		case M_SEG:
			/* Only for a host that takes segments back. */
			if (!vcpu->segment_loads || state->cr0 & 1)
				return leave(vcpu, exit, NX_LEAVE_CLUSTER_END);
			state->seg[NX_ES].selector = (uint16_t)state->gpr[NX_RAX];
			state->seg[NX_ES].base = (uint64_t)state->seg[NX_ES].selector << 4;
			state->segments_changed = true;
			fake_engine.segments++;
			break;
		case M_LOOP:
			if (--state->gpr[NX_RDX]) {
				state->rip = MODEL_BASE + insn->operand * MODEL_LEN;
				continue;
			}
			break;
		case M_IN:
		case M_OUT:
		case M_LOAD:
		case M_STORE:
		case M_RMW:
			return deliver(vcpu, exit, insn);
		default:
			return leave(vcpu, exit, NX_LEAVE_FAULT);
		}
		state->rip += MODEL_LEN;
	}
	return leave(vcpu, exit, NX_LEAVE_CLUSTER_END);
}

const struct nx_counters *nx_vcpu_counters(const struct nx_vcpu *vcpu)
{
	return &vcpu->counters;
}

const struct nx_cluster *nx_cluster_next(const struct nx_vcpu *vcpu,
					 const struct nx_cluster *cluster)
{
	(void)vcpu;
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

const char *nx_leave_reason_name(enum nx_leave_reason reason)
{
	static const char *const names[] = {
#define NX_X(name, text) #name,
	    NX_LEAVE_REASONS(NX_X)
#undef NX_X
	};

	return names[reason];
}
