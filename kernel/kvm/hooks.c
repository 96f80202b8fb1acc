// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * hooks.c - redirects KVM's static calls to wrappers.
 *
 * KVM calls its vendor module through static calls, direct calls that are patched when that module
 * is loaded. Six of them are redirected while this module is loaded. For a VM that is not enabled
 * a wrapper ends in a tail jump: no frame of ours is on the stack while KVM's function sleeps.
 * Hence, after the calls have been patched back, synchronize_rcu_tasks() suffices: it waits until
 * no task is preempted inside a wrapper any more.
 */
#include "host.h"

#include <linux/rcupdate.h>

#include <asm/svm.h>

#include "field.h"

static int no_exit(struct kvm_vcpu *vcpu, enum exit_fastpath_completion fastpath)
{
	return -EIO;
}

static int no_vcpu(struct kvm_vcpu *vcpu)
{
	return -EIO;
}

static void no_free(struct kvm_vcpu *vcpu)
{
}

static void no_destroy(struct kvm *kvm)
{
}

static void no_segment(struct kvm_vcpu *vcpu, struct kvm_segment *segment, int number)
{
}

static void no_table(struct kvm_vcpu *vcpu, struct desc_ptr *table)
{
}

static unsigned long no_rflags(struct kvm_vcpu *vcpu)
{
	return 0;
}

static void no_set_rflags(struct kvm_vcpu *vcpu, unsigned long rflags)
{
}

static u32 no_shadow(struct kvm_vcpu *vcpu)
{
	return 0;
}

static enum nxk_class no_class(struct kvm_vcpu *vcpu)
{
	return NXK_CLASS_OTHER;
}

static int no_bus(struct kvm_vcpu *vcpu, enum kvm_bus bus, gpa_t gpa, int size, void *data)
{
	return -EOPNOTSUPP;
}

/* The functions that KVM called before, and KVM's functions that are found by name. */
DEFINE_STATIC_CALL(nxk_orig_handle_exit, no_exit);
DEFINE_STATIC_CALL(nxk_orig_pre_run, no_vcpu);
DEFINE_STATIC_CALL(nxk_orig_skip, no_vcpu);
DEFINE_STATIC_CALL(nxk_orig_free, no_free);
DEFINE_STATIC_CALL(nxk_orig_destroy, no_destroy);
DEFINE_STATIC_CALL(nxk_orig_flush, no_free);
DEFINE_STATIC_CALL(nxk_get_segment, no_segment);
DEFINE_STATIC_CALL(nxk_set_segment, no_segment);
DEFINE_STATIC_CALL(nxk_get_gdt, no_table);
DEFINE_STATIC_CALL(nxk_get_rflags, no_rflags);
DEFINE_STATIC_CALL(nxk_set_rflags, no_set_rflags);
DEFINE_STATIC_CALL(nxk_bus_read, no_bus);
DEFINE_STATIC_CALL(nxk_get_cpl, no_vcpu);
DEFINE_STATIC_CALL(nxk_get_shadow, no_shadow);
DEFINE_STATIC_CALL(nxk_timer_pending, no_vcpu);
/* Our own, of the vendor: each exit calls it. */
DEFINE_STATIC_CALL(nxk_class_of_exit, no_class);

/* ---- The wrappers ---- */

/* Drop an exit of the engine's that KVM has not completed, since the VMM has changed the state. */
static void overtaken(struct nxk_vcpu *v)
{
	v->seen.delivering = false;
	if (v->answer_due)
		nxk_engine_forget(v);
	v->answer_due = false;
}

static void count(struct nxk_vcpu *v, enum nxk_class class, u64 address, int result)
{
	if (result == 0)
		nx_stats_taken(v->host, v->vcpu->run);
	else if (class == NXK_CLASS_OTHER)
		v->host->handled_other++;
	else
		nx_stats_handled(v->host, nxk_engine_class(class), address);
}

/* ---- Places that are passed over ---- */

static __always_inline struct nxk_pass *pass_of(struct nxk_vcpu *v, unsigned long rip)
{
	return &v->pass[rip % ARRAY_SIZE(v->pass)];
}

/* Return whether no stay begins behind the exit, whatever else the engine would be asked. */
static bool is_passed(struct nxk_vcpu *v, unsigned long rip, enum nxk_class class)
{
	struct nxk_pass *pass = pass_of(v, rip);

	if (!pass->left || pass->rip != rip || pass->class != class)
		return false;
	pass->left--;
	return true;
}

/* Return whether KVM handles the exit without the VMM, whatever its handler finds. */
static bool is_for_the_kernel(const struct kvm_vcpu *vcpu, enum nxk_class class)
{
	return class == NXK_CLASS_CPUID ||
	       (class == NXK_CLASS_MSR && !vcpu->kvm->arch.user_space_msr_mask);
}

/* Return whether a stay may begin behind the exit; if not, perhaps not behind the next ones. */
static bool is_wanted(struct nxk_vcpu *v, unsigned long rip, u32 code, enum nxk_class class)
{
	if (nxk_engine_wants(v, rip, class))
		return true;
	*pass_of(v, rip) = (struct nxk_pass){
	    .rip = rip,
	    .code = is_for_the_kernel(v->vcpu, class) ? code : NXK_NO_CODE,
	    .left = nxk_engine_pass(v, rip),
	    .class = class,
	    .counted = nxk_engine_class(class),
	};
	/*
	 * Of 128 exits two in a row take the long way where what an exit costs is measured
	 * (cost.c): from the end of one to that of the next.
	 */
	if (!v->expecting && !v->vcpu->guest_debug)
		v->seen.pass_bits = v->weighs ? 0x7e : U16_MAX;
	return false;
}

/*
 * Count an exit behind which no stay begins, if nothing is to be done when KVM has handled it. Most
 * exits in most VMs are such, so this is all that is done for them: no call, and no more than what
 * is needed is looked at.
 */
static __always_inline bool passes_over(struct nxk_vcpu *v, const struct kvm_vcpu *vcpu,
					unsigned long rip, u32 code)
{
	struct nxk_pass *pass = pass_of(v, rip);

	if (pass->rip != rip || pass->code != code || !(pass->left & v->seen.pass_bits) ||
	    nxk_in_nested_guest(vcpu))
		return false;
	pass->left--;
	v->entered = 0;
	v->host->handled[pass->counted]++;
	return true;
}

static int handle_and_stay(struct nxk_vcpu *v, enum exit_fastpath_completion fastpath, u32 code)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	bool nested = nxk_in_nested_guest(vcpu);
	enum nxk_class class = nested ? NXK_CLASS_OTHER : static_call(nxk_class_of_exit)(vcpu);
	unsigned long rip = class == NXK_CLASS_OTHER ? 0 : nxk_rip(vcpu);
	u64 address = class == NXK_CLASS_IO || class == NXK_CLASS_MMIO
			  ? nxk_vendor->address_of(vcpu, class)
			  : 0;
	int result;

	overtaken(v);
	if (unlikely(v->expecting))
		nxk_check_compare(v, class);
	result = static_call(nxk_orig_handle_exit)(vcpu, fastpath);
	nxk_cost_handled(v, class);
	if (unlikely(v->expecting))
		nxk_check_handled(v);
	if (result == 0 && vcpu->run->exit_reason == KVM_EXIT_MMIO) {
		class = NXK_CLASS_MMIO;
		rip = nxk_rip(vcpu);
	}
	count(v, class, address, result);
	/* The emulated exit of a nested guest: its hypervisor runs next, behind VMRUN. */
	if (nested && nxk_nested_available() && !nxk_in_nested_guest(vcpu)) {
		class = NXK_CLASS_NESTED;
		rip = nxk_rip(vcpu);
	}
	if (class == NXK_CLASS_OTHER || is_passed(v, rip, class)) {
		v->returned = NXK_CLASS_OTHER;
		return result;
	}
	v->returned = result == 0 ? class : NXK_CLASS_OTHER;
	v->returned_rip = rip;
	if (result != 1 || class == NXK_CLASS_HLT || nxk_in_nested_guest(vcpu) ||
	    !is_wanted(v, rip, code, class))
		return result;
	return nxk_may_begin(v) ? nxk_stay(v) : 1;
}

/* Not inlined: an exit that is passed over would save registers for nothing. */
static noinline int long_way(struct kvm_vcpu *vcpu, enum exit_fastpath_completion fastpath,
			     u32 code)
{
	struct nxk_vcpu *v = nxk_vcpu_of(vcpu);
	int result;

	if (!v)
		return static_call(nxk_orig_handle_exit)(vcpu, fastpath);
	result = handle_and_stay(v, fastpath, code);
	nxk_cost_entered(v);
	return result;
}

/* Handle an exit, whose code the vendor's function returns. */
static __always_inline int handle_exit(struct kvm_vcpu *vcpu,
				       enum exit_fastpath_completion fastpath,
				       u32 (*code_of)(const struct kvm_vcpu *vcpu),
				       unsigned long (*rip_of)(struct kvm_vcpu *vcpu))
{
	struct nxk_seen *seen = this_cpu_read(nxk_seen);
	u32 code;

	if (!nxk_is_seen(seen, vcpu))
		return long_way(vcpu, fastpath, code_of(vcpu));
	if (!seen->known)
		return static_call(nxk_orig_handle_exit)(vcpu, fastpath);
	code = code_of(vcpu);
	if (passes_over(container_of(seen, struct nxk_vcpu, seen), vcpu, rip_of(vcpu), code))
		return static_call(nxk_orig_handle_exit)(vcpu, fastpath);
	return long_way(vcpu, fastpath, code);
}

static __always_inline u32 svm_code(const struct kvm_vcpu *vcpu)
{
	return NXK_FIELD(vcpu, SVM_VMCB, const struct vmcb *)->control.exit_code;
}

/* KVM has read it from the hardware. */
static __always_inline unsigned long svm_rip(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.regs[VCPU_REGS_RIP];
}

/* Neither these nor skip() can be traced as functions: each exit would pay for that. */
static notrace int handle_svm_exit(struct kvm_vcpu *vcpu, enum exit_fastpath_completion fastpath)
{
	return handle_exit(vcpu, fastpath, svm_code, svm_rip);
}

static __always_inline u32 vmx_code(const struct kvm_vcpu *vcpu)
{
	return NXK_FIELD(vcpu, VMX_EXIT_REASON, u32);
}

static notrace int handle_vmx_exit(struct kvm_vcpu *vcpu, enum exit_fastpath_completion fastpath)
{
	return handle_exit(vcpu, fastpath, vmx_code, nxk_rip);
}

static int answer_and_stay(struct nxk_vcpu *v)
{
	int result = static_call(nxk_orig_pre_run)(v->vcpu);
	enum nxk_class class = v->returned;

	v->handled = rdtsc();
	/* Then an exit may be for the VMM: it is counted behind KVM's handler. */
	if (v->vcpu->guest_debug)
		v->seen.pass_bits = 0;
	overtaken(v);
	v->returned = NXK_CLASS_OTHER;
	if (result <= 0 || class == NXK_CLASS_OTHER || v->vm->beside ||
	    !is_wanted(v, v->returned_rip, NXK_NO_CODE, class))
		return result;
	return nxk_may_begin(v) ? nxk_stay(v) : result;
}

static noinline int enabled_pre_run(struct nxk_vcpu *v)
{
	int result = answer_and_stay(v);

	nxk_cost_entered(v);
	return result;
}

static int pre_run(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v = nxk_vcpu_of(vcpu);

	if (!v)
		return static_call(nxk_orig_pre_run)(vcpu);
	return enabled_pre_run(v);
}

/* Not inlined: an instruction of another exit would save registers for nothing. */
static noinline int skip_delivered(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v = nxk_vcpu_known(vcpu);

	if (!v || !v->seen.delivering)
		return static_call(nxk_orig_skip)(vcpu);
	v->seen.delivering = false;
	v->skipped = true;
	nxk_set_rip(vcpu, v->exit.next);
	return 1;
}

static notrace int skip(struct kvm_vcpu *vcpu)
{
	const struct nxk_seen *seen = this_cpu_read(nxk_seen);

	if (nxk_is_seen(seen, vcpu) && !seen->delivering)
		return static_call(nxk_orig_skip)(vcpu);
	return skip_delivered(vcpu);
}

static void vcpu_free(struct kvm_vcpu *vcpu)
{
	nxk_vcpu_gone(vcpu);
	static_call(nxk_orig_free)(vcpu);
}

static void vm_destroy(struct kvm *kvm)
{
	nxk_vm_gone(kvm);
	static_call(nxk_orig_destroy)(kvm);
}

/* KVM serves a request that tells that pages of the guest's have gone (memory.c). */
static void flush_tlb_all(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v = nxk_vcpu_known(vcpu);

	if (v)
		nxk_session_forget(v);
	static_call(nxk_orig_flush)(vcpu);
}

/* ---- Attaching ---- */

#define KEY(op) "__SCK__kvm_x86_" #op
#define TRAMPOLINE(op) "__SCT__kvm_x86_" #op

struct hook {
	const char *key_name, *trampoline_name;
	void *ours;
	struct static_call_key *our_key; /* of our call to the original function */
	void *our_trampoline;
	struct static_call_key *key;
	void *trampoline, *original;
};

#define HOOK(op, function, orig)                                           \
	{                                                                  \
		KEY(op), TRAMPOLINE(op), function, &STATIC_CALL_KEY(orig), \
		    STATIC_CALL_TRAMP_ADDR(orig)                           \
	}
static struct hook hooks[] = {
    HOOK(handle_exit, handle_svm_exit, nxk_orig_handle_exit),
    HOOK(vcpu_pre_run, pre_run, nxk_orig_pre_run),
    HOOK(skip_emulated_instruction, skip, nxk_orig_skip),
    HOOK(vcpu_free, vcpu_free, nxk_orig_free),
    HOOK(vm_destroy, vm_destroy, nxk_orig_destroy),
    HOOK(flush_tlb_all, flush_tlb_all, nxk_orig_flush),
};

/* Operations and functions of KVM's that we call: found by name, called through static calls. */
static const struct {
	const char *name;
	bool is_key;
	struct static_call_key *our_key;
	void *our_trampoline;
} calls[] = {
#define CALL(name, is_key, ours)                                                   \
	{                                                                          \
		name, is_key, &STATIC_CALL_KEY(ours), STATIC_CALL_TRAMP_ADDR(ours) \
	}
    CALL(KEY(get_segment), true, nxk_get_segment),
    CALL(KEY(set_segment), true, nxk_set_segment),
    CALL(KEY(get_gdt), true, nxk_get_gdt),
    CALL(KEY(get_rflags), true, nxk_get_rflags),
    CALL(KEY(set_rflags), true, nxk_set_rflags),
    CALL(KEY(get_cpl), true, nxk_get_cpl),
    CALL(KEY(get_interrupt_shadow), true, nxk_get_shadow),
    CALL("kvm_io_bus_read", false, nxk_bus_read),
    /* Linux 6.12 does not export it. */
    CALL("kvm_cpu_has_pending_timer", false, nxk_timer_pending),
};

static int missing(const char *name)
{
	pr_err("the running KVM has no %s; this module was built for another one (" NXK_RELEASE
	       ")\n",
	       name);
	return -ENOENT;
}

static int find_hooks(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(hooks); i++) {
		struct hook *hook = &hooks[i];

		hook->key = nxk_lookup(hook->key_name);
		hook->trampoline = nxk_lookup(hook->trampoline_name);
		if (!hook->key || !hook->trampoline)
			return missing(hook->key_name);
		hook->original = hook->key->func;
		if (!hook->original)
			return missing(hook->key_name);
	}
	return 0;
}

static int find_calls(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
		struct static_call_key *key = nxk_lookup(calls[i].name);
		void *function = key && calls[i].is_key ? key->func : key;

		if (!function)
			return missing(calls[i].name);
		__static_call_update(calls[i].our_key, calls[i].our_trampoline, function);
	}
	return 0;
}

/* Refuse if another module has redirected the same calls: it must not be mistaken for KVM. */
static int expected(void)
{
	char name[KSYM_SYMBOL_LEN];

	snprintf(name, sizeof(name), "%ps", hooks[0].original);
	if (!strcmp(name, nxk_vendor->handle_exit))
		return 0;
	pr_err("KVM's exits are handled by %s and not by %s: something else has hooked them\n",
	       name, nxk_vendor->handle_exit);
	return -EBUSY;
}

int nxk_hooks_attach(void)
{
	int result = find_hooks();

	if (!result)
		result = find_calls();
	if (!result)
		result = expected();
	if (result)
		return result;
	static_call_update(nxk_class_of_exit, nxk_vendor->class_of);
	if (nxk_vendor == &nxk_vmx)
		hooks[0].ours = handle_vmx_exit;
	for (unsigned i = 0; i < ARRAY_SIZE(hooks); i++)
		__static_call_update(hooks[i].our_key, hooks[i].our_trampoline, hooks[i].original);
	for (unsigned i = 0; i < ARRAY_SIZE(hooks); i++)
		__static_call_update(hooks[i].key, hooks[i].trampoline, hooks[i].ours);
	return 0;
}

void nxk_hooks_detach(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(hooks); i++)
		__static_call_update(hooks[i].key, hooks[i].trampoline, hooks[i].original);
	synchronize_rcu_tasks();
}
