// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* engine.c - the engine's memory, its settings and its callbacks. */
#include "host.h"

#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <linux/vmalloc.h>

/* Exits at a place that the engine is not asked about, at most: code changes. */
#define MOST_PASSES 1024
/* A stay may last so many times longer while the guest takes no interrupts. */
#define MASKED_FACTOR 20

/*
 * Take an access to a device as an exit: KVM hands it to a device in the kernel or to the VMM. If
 * the library in the VMM delivers the latter, it needs no system call for any but the first, so
 * they are left to the hardware's exit.
 */
static enum nx_route route_io(void *data, uint16_t port, unsigned int size, bool write,
			      uint64_t value)
{
	const struct nxk_vcpu *v = data;

	return v->vm->beside && !nxk_has_device(v->vcpu, KVM_PIO_BUS, port, size) ? NX_ROUTE_LEAVE
										  : NX_ROUTE_EXIT;
}

static enum nx_route route_mmio(void *data, uint64_t gpa, unsigned int size, bool write,
				uint64_t value)
{
	const struct nxk_vcpu *v = data;

	return v->vm->beside && !nxk_is_lapic(v->vcpu, gpa) &&
		       !nxk_has_device(v->vcpu, KVM_MMIO_BUS, gpa, size)
		   ? NX_ROUTE_LEAVE
		   : NX_ROUTE_EXIT;
}

static uint64_t now(void *data)
{
	return nxk_ns(rdtsc());
}

bool nxk_stay_is_long(const struct nxk_vcpu *v)
{
	u64 lasts = nxk_ns_since(v->stay_began), bound = v->stay_ns;

	if (likely(lasts <= bound))
		return false;
	if (!(v->state->rflags & X86_EFLAGS_IF))
		bound *= MASKED_FACTOR;
	return bound && lasts > bound;
}

/*
 * With a request about clocks pending, the offset is about to change. IA32_TSC_AUX is in no
 * structure that can be read.
 */
static bool read_tsc(void *data, uint64_t *tsc, uint32_t *aux)
{
	struct kvm_vcpu *vcpu = ((struct nxk_vcpu *)data)->vcpu;

	if (aux || vcpu->arch.tsc_always_catchup || kvm_test_request(KVM_REQ_CLOCK_UPDATE, vcpu) ||
	    kvm_test_request(KVM_REQ_MASTERCLOCK_UPDATE, vcpu) ||
	    kvm_test_request(KVM_REQ_GLOBAL_CLOCK_UPDATE, vcpu))
		return false;
	*tsc = kvm_read_l1_tsc(vcpu, rdtsc_ordered());
	return true;
}

static bool time_is_up(void *data)
{
	const struct nxk_vcpu *v = data;

	/* Another task's turn is no reason to leave, unless it is a session that keeps it waiting.
	 */
	if (v->in_session && need_resched())
		return true;
	if (!v->in_session)
		cond_resched();
	return signal_pending(current) || READ_ONCE(v->vcpu->mode) == EXITING_GUEST_MODE ||
	       nxk_stay_is_long(v);
}

static enum nx_session guest_enter(void *data)
{
	return nxk_session_begin(data);
}

static void guest_leave(void *data)
{
	nxk_session_end(data);
}

static const struct nx_host callbacks = {
    .map_page = nxk_map_page,
    .route_io = route_io,
    .route_mmio = route_mmio,
    .route_insn = nxk_route_insn,
    .now = now,
    .read_tsc = read_tsc,
    .time_is_up = time_is_up,
    .no_interrupt_waits = nxk_no_interrupt_waits,
    .read_vector = nxk_read_vector,
    .write_vector = nxk_write_vector,
    .guest_enter = guest_enter,
    .guest_leave = guest_leave,
};

/* The number of arenas that have not been freed. */
static atomic_t arenas;

bool nxk_engines_unused(void)
{
	return !atomic_read(&arenas);
}

bool nxk_engine_make(struct nxk_vcpu *v)
{
	struct nx_config config;

	nx_config_default(&config);
	config.exits = NX_EXITS_CPUID | NX_EXITS_MSR | NX_EXITS_CR_MODE;
	if (nxk_nested_available())
		config.exits |= nxk_vendor->nested_exits;
	if (nxk_vendor->emulates_umip())
		config.exits |= NX_EXITS_DESCRIPTOR;
	if (!v->vcpu->kvm->arch.hlt_in_guest)
		config.exits |= NX_EXITS_HLT;
	config.user_exits = nxk_user_cpuid == NXK_USER_CPUID_OFF ? 0 : NX_EXITS_CPUID;
	config.segment_loads = true;
	config.system_registers = true;
	v->weighs = READ_ONCE(nxk_weigh) || READ_ONCE(v->vm->weigh);
	config.experiment.ignore_costs = !v->weighs;
	config.counts_waste = true;
	config.eager = !v->weighs;
	v->memory.arena_size = PAGE_ALIGN(nx_engine_arena_size());
	if (nxk_fails(NXK_FAIL_CACHE))
		config.experiment.fail = NX_FAIL_CACHE;
	if (nxk_fails(NXK_FAIL_VERIFY))
		config.experiment.fail = NX_FAIL_VERIFY;
	v->memory.arena = nxk_fails(NXK_FAIL_ARENA) ? NULL : vzalloc(v->memory.arena_size);
	if (v->memory.arena)
		atomic_inc(&arenas);
	if (v->memory.arena && nxk_code_get(&v->memory))
		v->engine = nx_engine_create(&v->memory, &callbacks, v, &config);
	if (!v->engine) {
		nxk_engine_free(v);
		return false;
	}
	v->state = nx_engine_state(v->engine);
	nxk_share_engine(v);
	return true;
}

void nxk_engine_free(struct nxk_vcpu *v)
{
	nxk_session_release(v);
	nxk_code_put(&v->memory);
	if (v->memory.arena)
		atomic_dec(&arenas);
	vfree(v->memory.arena);
	v->memory.arena = NULL;
	v->engine = NULL;
}

bool nxk_engine_wants(struct nxk_vcpu *v, unsigned long rip, enum nxk_class class)
{
	/* Ticks will do: the engine asks for seconds, and each exit gets here. */
	return nx_engine_worth_resuming(v->engine, rip, nxk_engine_class(class), 0,
					(u64)jiffies * (NSEC_PER_SEC / HZ));
}

u16 nxk_engine_pass(struct nxk_vcpu *v, unsigned long rip)
{
	return nx_engine_pass(v->engine, rip, MOST_PASSES);
}

static noinline enum nx_outcome weighed_resume(struct nxk_vcpu *v)
{
	const struct nx_counters *counters = nx_engine_counters(v->engine);
	u64 instructions = counters->instructions, began = rdtsc(), ticks;
	enum nx_outcome outcome = nx_engine_resume(v->engine, &v->exit);

	ticks = rdtsc() - began;
	v->engine_ticks += ticks;
	if (outcome == NX_EXIT && !v->exit.built)
		nxk_cost_of_resume(v, nxk_ns(ticks), counters->instructions - instructions);
	return outcome;
}

enum nx_outcome nxk_engine_resume(struct nxk_vcpu *v)
{
	enum nx_outcome outcome;
	u64 began;

	if (unlikely(v->weighs))
		return weighed_resume(v);
	began = rdtsc();
	outcome = nx_engine_resume(v->engine, &v->exit);
	v->engine_ticks += rdtsc() - began;
	return outcome;
}

/* VMLOAD, too, has the state read again, but leads no guest address elsewhere. */
static enum nx_changes changes_of(const struct nxk_vcpu *v)
{
	if (nx_exit_flushes(&v->exit))
		return NX_CHANGES_ALL;
	if (!v->reread)
		return NX_CHANGES_REGISTERS;
	return v->exit.kind == NX_EXIT_INSN && v->exit.insn == NX_INSN_VMLOAD ? NX_CHANGES_SEGMENTS
									      : NX_CHANGES_ALL;
}

void nxk_engine_done(struct nxk_vcpu *v)
{
	/* CPUID and RDMSR change nothing else. */
	if (nxk_is_quiet(v)) {
		nx_engine_exit_done(v->engine, NX_CHANGES_REGISTERS);
		return;
	}
	nx_engine_exit_done(v->engine, changes_of(v));
}

enum nx_completion nxk_engine_complete(struct nxk_vcpu *v)
{
	enum nx_completion completion = nx_engine_complete_exit(v->engine, &v->exit);

	/* The stay goes on in the same mode, with what is known of the guest's memory. */
	if (completion == NX_COMPLETION_DONE)
		nx_engine_exit_done(v->engine, NX_CHANGES_REGISTERS);
	return completion;
}

void nxk_engine_forget(struct nxk_vcpu *v)
{
	nx_engine_forget_exit(v->engine);
}
