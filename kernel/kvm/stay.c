// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * stay.c - a stay: from an exit that KVM has handled to the next hardware entry of the guest.
 *
 * The engine touches guest memory in sessions (memory.c), one from each exit to the next. Between
 * two sessions KVM's own handler emulates the exit with interrupts enabled, as after a hardware
 * exit. The conditions that KVM tests before it enters the guest are tested here as well: if one
 * holds, the stay ends, and KVM deals with it on its usual path.
 */
#include "host.h"

#include <linux/sched/signal.h>

#include "field.h"
#include "trace.h"

/*
 * Return whether there is work for which KVM leaves its inner loop. Other tasks have their turn
 * here: outside a session a stay may sleep. So events are looked at behind this.
 */
static bool work_is_due(struct kvm_vcpu *vcpu)
{
	cond_resched();
	return signal_pending(current) || test_thread_flag(TIF_NOTIFY_RESUME) ||
	       READ_ONCE(vcpu->mode) == EXITING_GUEST_MODE;
}

static bool event_is_due(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_arch *arch = &vcpu->arch;

	return arch->exception.pending || arch->exception.injected ||
	       arch->exception_vmexit.pending || arch->interrupt.injected || arch->nmi_injected ||
	       arch->nmi_pending || arch->smi_pending;
}

/* Return whether the guest would take an interrupt now if IF were set. */
static bool interrupt_waits(struct kvm_vcpu *vcpu)
{
	return !nxk_vendor->masked(vcpu) &&
	       (kvm_cpu_has_injectable_intr(vcpu) || static_call(nxk_timer_pending)(vcpu) ||
		vcpu->run->request_interrupt_window);
}

/* Return whether the guest would take an interrupt before its next instruction. */
static bool interrupt_is_due(struct kvm_vcpu *vcpu, unsigned long rflags)
{
	return rflags & X86_EFLAGS_IF && interrupt_waits(vcpu);
}

bool nxk_event_waits(struct kvm_vcpu *vcpu, unsigned long rflags)
{
	return event_is_due(vcpu) || interrupt_is_due(vcpu, rflags);
}

/*
 * Where the processor delivers interrupts by itself, KVM does not say which of them wait. A timer
 * of the host's that expires in this session is seen at the next exit.
 */
bool nxk_no_interrupt_waits(void *data)
{
	const struct nxk_vcpu *v = data;
	struct kvm_lapic *lapic = v->vcpu->arch.apic;

	if (nxk_vendor->masked(v->vcpu))
		return true;
	return !(lapic && NXK_FIELD(lapic, LAPIC_APICV, bool)) && !interrupt_waits(v->vcpu);
}

static bool state_forbids(struct kvm_vcpu *vcpu, unsigned long rflags)
{
	struct kvm_vcpu_arch *arch = &vcpu->arch;

	return arch->hflags & (HF_GUEST_MASK | HF_SMM_MASK) || vcpu->guest_debug ||
	       rflags & (X86_EFLAGS_TF | X86_EFLAGS_VM) || arch->switch_db_regs ||
	       arch->dr7 & 0xff || arch->mp_state != KVM_MP_STATE_RUNNABLE || arch->apf.halted ||
	       arch->complete_userspace_io || vcpu->mmio_needed || vcpu->kvm->vm_bugged ||
	       nxk_vendor->busy(vcpu);
}

/* Return whether the guest counts events. Its counters would miss the instructions that the engine
 * executes, and rr relies on CPUID's exits. */
static bool pmu_is_active(const struct kvm_vcpu *vcpu)
{
	const struct kvm_pmu *pmu = &vcpu->arch.pmu;

	for (unsigned int i = 0; i < ARRAY_SIZE(pmu->gp_counters); i++)
		if (pmu->gp_counters[i].perf_event)
			return true;
	for (unsigned int i = 0; i < ARRAY_SIZE(pmu->fixed_counters); i++)
		if (pmu->fixed_counters[i].perf_event)
			return true;
	return false;
}

static bool user_forbids(struct kvm_vcpu *vcpu)
{
	if (nxk_user_cpuid == NXK_USER_CPUID_ON || !pmu_is_active(vcpu))
		return false;
	return static_call(nxk_get_cpl)(vcpu) == 3;
}

bool nxk_may_begin(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	unsigned long rflags = static_call(nxk_get_rflags)(vcpu);

	if (work_is_due(vcpu) || state_forbids(vcpu, rflags) || event_is_due(vcpu) ||
	    static_call(nxk_get_shadow)(vcpu) || user_forbids(vcpu) ||
	    interrupt_is_due(vcpu, rflags)) {
		v->stats->unfit++;
		nx_engine_not_resumed(v->engine);
		return false;
	}
	return true;
}

/* Return whether nothing has become due since the last exit, by KVM's handler or otherwise, and the
 * stay may last longer. */
static bool may_continue(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;

	if (v->kicked || work_is_due(vcpu))
		return false;
	/* Who else makes an event makes a request of the vCPU for it, which the next session sees.
	 */
	if (!nxk_is_quiet(v) && (event_is_due(vcpu) || state_forbids(vcpu, v->state->rflags)))
		return false;
	return !interrupt_is_due(vcpu, v->state->rflags) && !nxk_stay_is_long(v);
}

/* Run until the guest has to be entered or the VMM has to be asked. Return the result for KVM's
 * loop. */
static int run(struct nxk_vcpu *v)
{
	u64 began;
	int result;

	while (!(v->left = nxk_engine_resume(v) != NX_EXIT)) {
		if (nxk_is_free(v) && nxk_vendor->execute) {
			if (nxk_vendor->execute(v) && may_continue(v))
				continue;
			break;
		}
		if (nxk_check_due(v))
			break;
		began = nxk_cost_deliver(v);
		result = nxk_deliver(v);
		if (result != 1 || !v->skipped || v->last || !may_continue(v)) {
			nxk_write_rest(v);
			return result;
		}
		nxk_cost_delivered(v, began);
	}
	nxk_write_state(v);
	return 1;
}

int nxk_stay(struct nxk_vcpu *v)
{
	u64 ended;
	int result;

	nxk_read_state(v);
	nxk_session_prepare(v);
	v->kicked = false;
	v->stay_began = rdtsc();
	v->stay_ns = READ_ONCE(nxk_latency_us) * 1000ull;
	v->engine_ticks = 0;
	trace_noexit_stay(v);
	v->host->takeovers++;
	result = run(v);
	ended = rdtsc();
	v->host->engine_ns += nxk_ns(v->engine_ticks);
	nxk_share_stay(v);
	if (trace_noexit_leave_enabled())
		trace_noexit_leave(v, v->left ? nx_leave_word(v->exit.reason) : "HOST");
	if (!v->answer_due)
		nxk_engine_forget(v);
	nxk_cost_stay(v, v->stay_began, ended);
	return result;
}
