/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * host.h - the kernel host's own interfaces: enabled VMs, their vCPUs, and the differences
 * between the two vendors' processors.
 *
 * Ownership: a struct nxk_vcpu belongs to the thread that is in KVM_RUN for that vCPU. That thread
 * alone creates and uses it, and KVM's teardown of the vCPU frees it. A struct nxk_vm is shared by
 * its vCPUs. None of our locks is held in a session or while one of KVM's handlers runs.
 */
#ifndef NXK_HOST_H
#define NXK_HOST_H

#include <linux/kvm_host.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/static_call.h>

#include <asm/tsc.h>

#include "device.h"
#include "fail.h"
#include "noexit.h"
#include "offsets.h"
#include "share_write.h"

#undef pr_fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

/* The class of a hardware exit. A stay may begin after an exit of any class but OTHER and HLT. */
enum nxk_class {
	NXK_CLASS_OTHER,
	NXK_CLASS_CPUID,
	NXK_CLASS_MSR,
	NXK_CLASS_CR,
	NXK_CLASS_IO,
	NXK_CLASS_MMIO,
	NXK_CLASS_HLT,
	NXK_CLASS_SVM,    /* an instruction of SVM */
	NXK_CLASS_VMCS,   /* VMREAD and VMWRITE */
	NXK_CLASS_VMX,    /* another instruction of VMX */
	NXK_CLASS_NESTED, /* of a nested guest: its hypervisor gets it, and runs next */
	NXK_CLASS_DESCRIPTOR,
};

/* A VM of more vCPUs has engines for the first so many. */
#define NXK_SLOTS 256

struct nxk_vm {
	struct kvm *kvm;
	struct hlist_node node;
	refcount_t
	    count; /* one for being enabled, one for each nxk_vcpu and descriptor of share.c */
	/* The VMM and its user, known when its first vCPU has run. */
	struct pid *process;
	kuid_t user;
	struct nx_share_header *share;
	spinlock_t slots_lock;
	unsigned int slots;
	struct nx_share_vcpu *slot[NXK_SLOTS];
	const char *off; /* the reason why no stay begins any more; NULL: stays begin */
	bool beside;     /* the library in the VMM avoids the exits that go to the VMM */
	bool weigh;      /* the engines of its vCPUs weigh costs, as with the parameter */
};

/* A cost that is measured: the least of the last full window, in nanoseconds, or 0. */
struct nxk_cost {
	struct nx_cost_window window;
	u32 value;
};

/* Which copy of a guest hypervisor's VMCS an access goes to (shadow_vmcs.c). */
enum nxk_vmcs_copy {
	NXK_VMCS_EXITS,  /* KVM's own, by KVM's exit handler */
	NXK_VMCS_CACHED, /* the same; the hardware would find its value in the shadow VMCS */
	NXK_VMCS_SHADOW, /* the shadow VMCS */
	NXK_VMCS_NONE,   /* there is none, or it is not known */
};

/* The vCPU that a processor has met last: each exit and each instruction that KVM emulates looks
 * for its vCPU. */
struct nxk_seen {
	const struct kvm_vcpu *vcpu;
	bool known; /* it is the beginning of a struct nxk_vcpu; false: the VM is not enabled */
	/*
	 * KVM is emulating an exit of the engine's and advances rip through our hook. The hook then
	 * takes the engine's instruction length, since the processor reports the length for its own
	 * last exit only.
	 */
	bool delivering;
	/* Of struct nxk_pass.left: exits are passed over as long as it has one of these bits. */
	u16 pass_bits;
};

struct nxk_vcpu {
	struct nxk_seen seen;
	/* check.c: the hardware has to deliver v->exit next, or KVM has to come to the result that
	 * is predicted. An injection since then excuses another exit. */
	enum { NXK_EXPECT_NOTHING, NXK_EXPECT_EXIT, NXK_EXPECT_RESULT } expecting;
	struct kvm_vcpu *vcpu;
	struct rcu_head rcu;
	struct nxk_vm *vm;
	struct hlist_node node;
	struct nx_engine *engine;
	struct nx_state *state;
	struct nx_exit exit;
	struct nx_memory memory;
	const char *off;
	bool skipped;    /* the hook has done so */
	bool answer_due; /* the VMM owes the data of a device-memory load pending in the engine */
	unsigned long rflags; /* the vCPU's, as they were read or written last */
	/* svm.c: what the engine's segments were read from. */
	struct nxk_raw_segments {
		u64 data[12], task[2]; /* ES to GS, TR */
		u8 cpl;
		bool valid;
	} raw;
	bool free;               /* the host said NX_ROUTE_FREE of the last instruction exit */
	enum nxk_vmcs_copy copy; /* nested_vmx.c: what that instruction accesses */
	bool reread;             /* all of the state has been read again behind the exit */
	bool last;   /* the stay ends with this exit, which changes state that the engine uses */
	bool weighs; /* the engine weighs costs, so they are measured */
	unsigned long deliver_rip; /* linear */
	/* The last KVM_RUN ended with an exit for the VMM, of this class, at this rip. */
	enum nxk_class returned;
	unsigned long returned_rip;
	/* Places of which the engine has said for how many more exits no stay begins there. */
	struct nxk_pass {
		unsigned long rip;
		u32 code; /* the hardware's, NXK_NO_CODE: more may have to be done */
		u16 left;
		u8 class, counted;
	} pass[64];
	bool in_session;
	bool kicked;    /* fail=kick */
	bool left;      /* the engine ended the stay */
	u64 stay_began; /* in ticks of the time-stamp counter */
	u64 stay_ns; /* how long it may last while the guest takes interrupts; 0: without a bound */
	u64 engine_ticks; /* of it, in the engine */
	bool few;         /* KVM has the first registers only, see nxk_write_few() */
	/* cost.c: when KVM was left to enter the guest, and when it had handled the exit, in ticks;
	 * 0: unknown. */
	u64 entered, handled;
	struct nxk_cost exit_cost[NX_EXIT_CLASS_COUNT], deliver_cost[NX_EXIT_CLASS_COUNT];
	struct nxk_cost takeover_cost, resume_cost, thousand_cost;
	bool predicts; /* check.c */
	struct {
		u64 gpr[NX_GPRS], rflags, value;
		bool dirty;
	} predicted;
	unsigned int unchecked;
	u64 injections;
	/* audit.c: pages that this session has looked up. */
	struct nxk_audit_page {
		u64 gpa;
		const void *host;
		const void *mapping;
		u32 sum;
	} audit[4];
	unsigned int audited;
	u64 session_began, longest_session; /* in ticks */
	/* memory.c: pages that sessions have looked up through this root of the page table, and a
	 * number that tells those that still hold. */
	hpa_t root;
	struct page *root_page; /* a reference: that of the root at the stay's beginning */
	u64 apic_base;          /* as it was then */
	u64 epoch;
	struct nxk_known_page {
		u64 epoch, gpa;
		struct nx_page page;
	} known[128];
	/* What is shown; host and stats are parts of it. */
	struct nx_share_vcpu *shared;
	struct nx_stats *host;
	struct nxk_stats *stats;
	struct nx_share_writer writer;
};

#define NXK_NO_CODE (~(u32)0)

/* The operations that depend on the vendor. */
struct nxk_vendor {
	const char *module; /* kvm_amd or kvm_intel */
	const char *build_id;
	const char *handle_exit; /* the function that KVM's static call has to lead to */
	/* Return the class of the exit that the hardware has just delivered. */
	enum nxk_class (*class_of)(struct kvm_vcpu *vcpu);
	/* Return the port or guest-physical address of an exit of class IO or MMIO. */
	u64 (*address_of)(struct kvm_vcpu *vcpu, enum nxk_class class);
	/* Return whether vendor-specific state forbids a stay. */
	bool (*busy)(struct kvm_vcpu *vcpu);
	/* Return whether the hardware's exit, of the same class at the same rip, equals the
	 * engine's in all else. */
	bool (*same)(struct kvm_vcpu *vcpu, const struct nx_exit *exit);
	/* Return whether the hardware intercepts this access to CR0 or CR4, which it does for some
	 * values only. */
	bool (*intercepts)(struct kvm_vcpu *vcpu, const struct nx_exit *exit);
	/* Return whether the processor takes neither interrupts nor NMIs, whatever IF is. */
	bool (*masked)(struct kvm_vcpu *vcpu);
	/* Return whether the segments are still those of the last call. May be NULL. */
	bool (*same_segments)(struct nxk_vcpu *v);
	/* Return why no stay may ever begin in this VM, or NULL. */
	const char *(*refuse)(struct kvm *kvm);
	/* Find what delivering the instructions of a guest hypervisor needs of KVM, if it is
	 * there. */
	bool (*find_nested)(void);
	/* Whether such an instruction is delivered, and its delivery: as route_insn of struct
	 * nx_host, and as nxk_deliver(). */
	enum nx_route (*route_nested)(struct nxk_vcpu *v, const struct nx_exit *exit);
	int (*deliver_nested)(struct nxk_vcpu *v);
	/* Execute such an instruction, of which route_nested() has said NX_ROUTE_FREE; the
	 * registers are those of v->state. false: it is left to the hardware. NULL: it is
	 * delivered as one with an exit is. */
	bool (*execute)(struct nxk_vcpu *v);
	u32 nested_exits; /* their bit of nx_config.exits */
	/* Return whether KVM has accesses to descriptor-table registers exit while the guest's CR4
	 * has UMIP: where the processor has no UMIP, KVM may emulate it in this way. */
	bool (*emulates_umip)(void);
	/* For exits that are emulated here and not by KVM's handler, to compare what KVM's does:
	 * predict the result of v->exit, false: there is nothing to compare; return whether the
	 * result is as predicted. Both may be NULL. */
	bool (*predict)(struct nxk_vcpu *v);
	bool (*as_predicted)(struct nxk_vcpu *v);
	u64 spte_read, spte_dirty;
};

extern const struct nxk_vendor nxk_svm, nxk_vmx;
extern const struct nxk_vendor *nxk_vendor;

/* ---- parameters.c ---- */

enum nxk_user_cpuid { NXK_USER_CPUID_OFF, NXK_USER_CPUID_PMU, NXK_USER_CPUID_ON };
extern unsigned int nxk_latency_us;
extern enum nxk_user_cpuid nxk_user_cpuid;
extern bool nxk_all, nxk_weigh;
extern unsigned int nxk_check, nxk_audit_us;

/* ---- names.c: symbols that the kernel does not export are looked up by name at load ---- */

int nxk_names_init(void);
void *nxk_lookup(const char *name);

/* ---- clock.c: time, by the time-stamp counter ---- */

/* Each delivered exit reads the time, and the kernel's clocks take many times as long. Where the
 * counters of two processors differ, a bound that is watched by this clock ends too early or too
 * late once. */
#define NXK_CLOCK_SHIFT 22
extern u32 nxk_clock_factor; /* nanoseconds of a tick, in units of 2^-NXK_CLOCK_SHIFT */

/* Return false if the kernel does not know the counter's frequency. */
bool nxk_clock_init(void);

static inline u64 nxk_ns(u64 ticks)
{
	return mul_u64_u32_shr(ticks, nxk_clock_factor, NXK_CLOCK_SHIFT);
}

/* Return the nanoseconds since the counter was read; 0 if it has gone back. */
static inline u64 nxk_ns_since(u64 ticks)
{
	s64 passed = rdtsc() - ticks;

	return passed > 0 ? nxk_ns(passed) : 0;
}

/* ---- hooks.c: KVM's static calls ---- */

int nxk_hooks_attach(void);
void nxk_hooks_detach(void);

DECLARE_STATIC_CALL(nxk_get_segment, void(struct kvm_vcpu *, struct kvm_segment *, int));
DECLARE_STATIC_CALL(nxk_set_segment, void(struct kvm_vcpu *, struct kvm_segment *, int));
DECLARE_STATIC_CALL(nxk_get_gdt, void(struct kvm_vcpu *, struct desc_ptr *));
DECLARE_STATIC_CALL(nxk_get_rflags, unsigned long(struct kvm_vcpu *));
DECLARE_STATIC_CALL(nxk_set_rflags, void(struct kvm_vcpu *, unsigned long));
DECLARE_STATIC_CALL(nxk_bus_read, int(struct kvm_vcpu *, enum kvm_bus, gpa_t, int, void *));
DECLARE_STATIC_CALL(nxk_get_cpl, int(struct kvm_vcpu *));
DECLARE_STATIC_CALL(nxk_get_shadow, u32(struct kvm_vcpu *));
DECLARE_STATIC_CALL(nxk_timer_pending, int(struct kvm_vcpu *));

/* ---- vm.c ---- */

void nxk_vms_init(void);
/* weigh: stays begin only where they pay in measured time. */
int nxk_enable(struct kvm *kvm, bool beside, bool weigh);
void nxk_disable(struct kvm *kvm);
/* Note that no library avoids exits of the VM any more. */
void nxk_alone(struct kvm *kvm);
/*
 * What is behind the pointer is read without a lock: a structure that has been in use is freed only
 * when no task is preempted in our wrappers any more, as if these were readers of RCU's for tasks.
 */
DECLARE_PER_CPU(struct nxk_seen *, nxk_seen);
/* Return whether the processor has met this vCPU last. */
static __always_inline bool nxk_is_seen(const struct nxk_seen *seen, const struct kvm_vcpu *vcpu)
{
	return likely(seen->vcpu == vcpu);
}
/* Return the structure of the vCPU that has been met; NULL: its VM is not enabled. */
static __always_inline struct nxk_vcpu *nxk_vcpu_seen(struct nxk_seen *seen)
{
	return seen->known ? container_of(seen, struct nxk_vcpu, seen) : NULL;
}
/* Return the vCPU's structure, created at the first call; NULL: the VM is not enabled, or no stay
 * may begin any more. */
struct nxk_vcpu *nxk_vcpu_of(struct kvm_vcpu *vcpu);
/* Return the same without creating it, whether or not stays may begin, if the processor does not
 * know the vCPU. */
struct nxk_vcpu *nxk_vcpu_look_up(struct kvm_vcpu *vcpu);
static __always_inline struct nxk_vcpu *nxk_vcpu_known(struct kvm_vcpu *vcpu)
{
	struct nxk_seen *seen = this_cpu_read(nxk_seen);

	return nxk_is_seen(seen, vcpu) ? nxk_vcpu_seen(seen) : nxk_vcpu_look_up(vcpu);
}
/* Look again for vCPUs that are of no enabled VM. */
void nxk_forget_strangers(void);
void nxk_vcpu_gone(struct kvm_vcpu *vcpu);
void nxk_vm_gone(struct kvm *kvm);
void nxk_vcpu_off(struct nxk_vcpu *v, const char *why);
bool nxk_any_vm(void);
bool nxk_tables_empty(void);
void nxk_vm_put(struct nxk_vm *vm);
/* Return one of the VMs of a process, with a reference, or an error of NXK_WATCH's; the engines'
 * counters in its figures are current. */
struct nxk_vm *nxk_vm_of_process(pid_t process, unsigned int number);
/* Add to the totals of vCPUs that have been freed. */
void nxk_totals_add(const struct nx_figures *figures);

/* ---- share.c ---- */

/* Both return false without memory. */
bool nxk_share_open(struct nxk_vm *vm);
bool nxk_share_vcpu_open(struct nxk_vcpu *v);
void nxk_share_close(struct nxk_vm *vm);
void nxk_share_vcpu_close(struct nxk_vcpu *v);
/* Note that the vCPU has an engine. */
void nxk_share_engine(struct nxk_vcpu *v);
/* Count a stay that ends now, and show what the engine has made in it. */
void nxk_share_stay(struct nxk_vcpu *v);
/* Return a descriptor for NXK_WATCH, or an error. */
int nxk_watch(struct nxk_watch *request);

/* ---- code.c ---- */

bool nxk_code_get(struct nx_memory *memory);
void nxk_code_put(struct nx_memory *memory);
bool nxk_code_unused(void);

/* ---- engine.c: the engine's memory, settings and callbacks ---- */

bool nxk_engine_make(struct nxk_vcpu *v);
void nxk_engine_free(struct nxk_vcpu *v);
bool nxk_engines_unused(void);
/* Return the engine's name for a class that is not OTHER. */
static inline enum nx_exit_class nxk_engine_class(enum nxk_class class)
{
	static const u8 classes[] = {
	    [NXK_CLASS_CPUID] = NX_CLASS_CPUID,
	    [NXK_CLASS_MSR] = NX_CLASS_MSR,
	    [NXK_CLASS_CR] = NX_CLASS_CR,
	    [NXK_CLASS_IO] = NX_CLASS_IO,
	    [NXK_CLASS_MMIO] = NX_CLASS_MMIO,
	    [NXK_CLASS_HLT] = NX_CLASS_HLT,
	    [NXK_CLASS_SVM] = NX_CLASS_SVM,
	    [NXK_CLASS_VMCS] = NX_CLASS_VMCS,
	    [NXK_CLASS_VMX] = NX_CLASS_VMX,
	    [NXK_CLASS_NESTED] = NX_CLASS_VM_ENTRY,
	    [NXK_CLASS_DESCRIPTOR] = NX_CLASS_DESCRIPTOR,
	};

	return classes[class];
}
bool nxk_engine_wants(struct nxk_vcpu *v, unsigned long rip, enum nxk_class class);
/* Return for how many more exits there it would not be wanted, of which the engine knows then. */
u16 nxk_engine_pass(struct nxk_vcpu *v, unsigned long rip);
/* Return whether the stay has lasted longer than latency_us allows. */
bool nxk_stay_is_long(const struct nxk_vcpu *v);
enum nx_outcome nxk_engine_resume(struct nxk_vcpu *v);
/* Note that KVM has executed the exit's instruction: the state is the guest's after it. */
void nxk_engine_done(struct nxk_vcpu *v);
/* Complete the exit with its data; then the state is the guest's after the instruction. */
enum nx_completion nxk_engine_complete(struct nxk_vcpu *v);
/* Drop the pending exit at the end of a stay. */
void nxk_engine_forget(struct nxk_vcpu *v);

/* ---- cost.c ---- */

/* Note that an exit of the hardware's has been handled, of that class. */
void nxk_cost_of_exit(struct nxk_vcpu *v, enum nxk_class class);

/* Note that KVM goes on to enter the guest. */
static inline void nxk_cost_entered(struct nxk_vcpu *v)
{
	if (v->weighs)
		v->entered = rdtsc();
}

/* Note that it has handled an exit of the hardware's since, of that class. */
static inline void nxk_cost_handled(struct nxk_vcpu *v, enum nxk_class class)
{
	if (v->weighs)
		nxk_cost_of_exit(v, class);
}

/* Return the time at which v->exit begins to be delivered, for the next one. */
static inline u64 nxk_cost_deliver(const struct nxk_vcpu *v)
{
	return v->weighs ? rdtsc() : 0;
}
/* Note that it has been delivered. */
void nxk_cost_of_delivery(struct nxk_vcpu *v, u64 began);

static inline void nxk_cost_delivered(struct nxk_vcpu *v, u64 began)
{
	if (began)
		nxk_cost_of_delivery(v, began);
}

/* Note that the engine has taken that long to run so many instructions to an exit. */
void nxk_cost_of_resume(struct nxk_vcpu *v, u64 ns, u64 instructions);

/* Note that a stay ends now, whose resumes and deliveries lay between the two times. */
void nxk_cost_stay(struct nxk_vcpu *v, u64 first, u64 last);

/* ---- state.c ---- */

/* Make KVM's copy of a register valid. */
static inline void nxk_need_register(struct kvm_vcpu *vcpu, int reg)
{
	if (!test_bit(reg, (unsigned long *)&vcpu->arch.regs_avail))
		static_call(kvm_x86_cache_reg)(vcpu, reg);
}

static inline unsigned long nxk_rip(struct kvm_vcpu *vcpu)
{
	nxk_need_register(vcpu, VCPU_REGS_RIP);
	return vcpu->arch.regs[VCPU_REGS_RIP];
}

void nxk_set_rip(struct kvm_vcpu *vcpu, unsigned long rip);
void nxk_read_state(struct nxk_vcpu *v);
/* Make all of vcpu->arch.regs valid. */
void nxk_need_registers(struct kvm_vcpu *vcpu);
void nxk_read_registers(struct nxk_vcpu *v);
void nxk_write_state(struct nxk_vcpu *v);
/* The same of the first four registers, rip and rflags only. */
void nxk_write_few(struct nxk_vcpu *v);
void nxk_read_few(struct nxk_vcpu *v);
/* Write what nxk_write_few() has left out, if that was the last to write. */
void nxk_write_others(struct nxk_vcpu *v);
static inline void nxk_write_rest(struct nxk_vcpu *v)
{
	if (v->few)
		nxk_write_others(v);
}

/* ---- memory.c ---- */

/* Begin a session. It is refused if a pending request forbids it. */
enum nx_session nxk_session_begin(struct nxk_vcpu *v);
void nxk_session_end(struct nxk_vcpu *v);
/* Let the next session be a fresh one: pages that sessions have looked up may go. */
void nxk_session_forget(struct nxk_vcpu *v);
/* A stay begins, in which sessions may use what earlier ones have looked up. */
void nxk_session_prepare(struct nxk_vcpu *v);
/* Forget all, since there will be no more sessions. */
void nxk_session_release(struct nxk_vcpu *v);
/* Return the page's host memory and whether the hardware would store there; NULL: it has none. */
void *nxk_guest_page(struct kvm_vcpu *vcpu, u64 gpa, bool *writable);
/* Return whether the address is in the page of the vCPU's APIC registers. */
bool nxk_is_lapic(const struct kvm_vcpu *vcpu, u64 gpa);
void nxk_map_page(void *data, uint64_t gpa, struct nx_page *page);
/* Return the dirty bit of the hardware's page-table entries; 0: they have none. */
u64 nxk_dirty_mask(void);

/* ---- vector.c: nx_host.read_vector and nx_host.write_vector ---- */

bool nxk_read_vector(void *data, unsigned int number, void *to);
bool nxk_write_vector(void *data, unsigned int number, const void *from);

/* ---- stay.c ---- */

/* Run the guest after an exit that KVM has handled. Return the value that KVM's exit handler has
 * to return. */
int nxk_stay(struct nxk_vcpu *v);
/* Return whether a stay may begin where the engine wants one. If not, it costs the place nothing.
 */
bool nxk_may_begin(struct nxk_vcpu *v);
/* nx_host.no_interrupt_waits */
bool nxk_no_interrupt_waits(void *data);
/* Return whether it would take an interrupt, an exception or an NMI now. */
bool nxk_event_waits(struct kvm_vcpu *vcpu, unsigned long rflags);

/* ---- check.c: the engine's exits compared with the hardware's ---- */

/* Set v->expecting, while which no exit is passed over. */
void nxk_expect(struct nxk_vcpu *v, int what);
/* Return whether the hardware has to deliver this exit instead of the engine, to be compared. */
bool nxk_check_due(struct nxk_vcpu *v);
/* While v->expecting: compare the exit that the hardware has delivered with the expected one. */
void nxk_check_compare(struct nxk_vcpu *v, enum nxk_class class);
/* Likewise: KVM has handled the exit; compare the result if that has been predicted. */
void nxk_check_handled(struct nxk_vcpu *v);

/* ---- audit.c: a session's pages compared at its end ---- */

void nxk_audit_note(struct nxk_vcpu *v, u64 gpa, const void *host);
void nxk_audit(struct nxk_vcpu *v);

/* ---- cr.c ---- */

/* Do the same as nxk_deliver() for an access to a control register. */
int nxk_deliver_cr(struct nxk_vcpu *v);

/* ---- descriptor.c: accesses to descriptor-table registers ---- */

enum nx_route nxk_route_descriptor(const struct nxk_vcpu *v);
/* Do the same as nxk_deliver() for such an access; the state has been written back. */
int nxk_deliver_descriptor(struct nxk_vcpu *v);

/* ---- nested.c: the instructions of a guest hypervisor ---- */

/* Find KVM's handlers for them, if there are any. */
void nxk_nested_init(void);
bool nxk_nested_available(void);
static inline bool nxk_in_nested_guest(const struct kvm_vcpu *vcpu)
{
	return vcpu->arch.hflags & HF_GUEST_MASK;
}
/* Return whether the hardware would deliver no exit in the place of v->exit. */
static inline bool nxk_is_free(const struct nxk_vcpu *v)
{
	return v->exit.kind == NX_EXIT_INSN && v->free;
}
/* Return whether it is one of the most frequent instructions, which use RAX, RBX, RCX and RDX
 * alone. */
static inline bool nxk_is_frequent(const struct nx_exit *exit)
{
	return exit->kind == NX_EXIT_INSN &&
	       (exit->insn == NX_INSN_CPUID || exit->insn == NX_INSN_RDMSR ||
		exit->insn == NX_INSN_WRMSR);
}
/* Return whether nothing but registers is changed by the exit, whatever KVM's handler finds. */
static inline bool nxk_is_quiet(const struct nxk_vcpu *v)
{
	return v->exit.kind == NX_EXIT_INSN &&
	       (v->exit.insn == NX_INSN_CPUID || v->exit.insn == NX_INSN_RDMSR);
}
/* The engine's callback. */
enum nx_route nxk_route_insn(void *data, const struct nx_exit *exit);
/* Do the same as nxk_deliver() for such an instruction. */
int nxk_deliver_nested(struct nxk_vcpu *v);

/* ---- mmio.c ---- */

/* Return whether a device in the kernel, or an eventfd, may take an access there. The LAPIC's page
 * is on no bus. */
bool nxk_has_device(struct kvm_vcpu *vcpu, enum kvm_bus number, u64 address, unsigned int size);

/* Do the same as nxk_deliver() for an access to device memory; the state has been written back. */
int nxk_deliver_mmio(struct nxk_vcpu *v);

/* ---- control.c ---- */

int nxk_control_init(void);
void nxk_control_exit(void);

enum nxk_class nxk_class_of(const struct nx_exit *exit);

/* ---- deliver.c ---- */

/* Have KVM emulate the engine's exit. Return KVM's result: 1 to go on, 0 to return to the VMM. */
int nxk_deliver(struct nxk_vcpu *v);

#endif
