/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * host.h - the KVM host's own interfaces: its objects, who owns them, and the locks.
 *
 * Objects. A struct nx_kvm_vm or nx_kvm_vcpu belongs to the file descriptors that the VMM has of
 * it; fdtable.c counts those and the calls in flight. Memory of objects is recycled, never
 * returned, so a stale pointer read from the table is harmless.
 *
 * Locks, outermost first:
 *   vcpu->owner_tid   the engine side of one vCPU; held by the thread in KVM_RUN except while the
 *                     real KVM_RUN is in progress, and by the thread that flushes that vCPU;
 *   vm->lock          memslots, ioeventfds, in-kernel devices: read-held inside nx_engine_resume(),
 *                     write-held while the VMM changes them, with the real ioctl inside;
 *   the fd table's and the totals' locks are leaves.
 */
#ifndef NX_KVM_HOST_H
#define NX_KVM_HOST_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "noexit.h"
#include "process.h"
#include "share_write.h"
#include "x86.h"

#define NX_HOST_PAGE 4096u
#define NX_GPA_BITS ((1ull << 52) - 1)

/* ---- array.c ---- */

/* Make room for one more element behind count others. Return the array, which may have moved; or
 * NULL without memory, and then it is as it was. */
void *nx_array_room(void *array, unsigned *capacity, unsigned count, size_t element);

/* ---- guestmem.c ---- */

struct nx_slot {
	uint64_t gpa, size;
	uint64_t host;
	uint32_t flags; /* KVM_MEM_* */
	/* NX_HOST_*, looked up at first use; NX_HOST_UNKNOWN until then. */
	_Atomic uint8_t access;
};

#define NX_SLOT_NONE UINT64_MAX

struct nx_ioeventfd {
	uint64_t address, datamatch;
	uint32_t len, flags;      /* KVM_IOEVENTFD_FLAG_* */
	struct nx_object *object; /* of own_fd, our duplicate; NULL if there could be none */
	int own_fd;
};

#define NX_LINES 64

/* An interrupt line, found by its number (lines.c). */
struct nx_line {
	atomic_ullong calm;
	atomic_uint status; /* the kernel's answer when it was lowered */
};

struct nx_kvm_vm {
	struct nx_object object;
	int fd;
	size_t run_size;
	bool binary_stats;
	/* The reason why no vCPU of this VM clusters, or NULL. Once set it stays set. */
	_Atomic(const char *) off;
	_Atomic(const char *) vcpu_off; /* the reason last said of a vCPU; it is said once */
	/* Incremented whenever the VMM raises an interrupt that we see. */
	atomic_uint irq_epoch;
	atomic_ullong calm; /* lines.c */
	struct nx_line line[NX_LINES];

	pthread_rwlock_t lock;
	atomic_int writers;  /* threads that want the lock for writing */
	unsigned generation; /* incremented with each change of what the lock guards */
	struct nx_slot *slot;
	unsigned slots, slot_capacity; /* sorted by gpa, address space 0 only */
	uint64_t *slot_gpa;            /* by a slot's number: where it is, or NX_SLOT_NONE */
	unsigned slot_ids;
	struct nx_ioeventfd *ioeventfd;
	atomic_uint ioeventfds; /* written under the lock; a first look needs no lock */
	unsigned ioeventfd_capacity;
	/* The coalesced ranges; their number is read likewise. */
	struct kvm_coalesced_mmio_zone *zone;
	atomic_uint zones;
	unsigned zone_capacity;
	size_t ring_offset;   /* in a vCPU's mapping; 0 if there is no ring */
	unsigned vcpus_begun; /* KVM_CREATE_VCPU calls, guarded by the lock */
	bool irqchip_full, irqchip_split, pit, pit_speaker;
	bool tsc_set;          /* the VMM chose a frequency for vCPUs to come */
	bool quirk_out_7e_off; /* rip stays on an OUT to port 0x7e at its exit, as on any other */
	atomic_bool hyperv_flush; /* hyperv.c */
	/* Likewise: timers that raise an interrupt only as KVM enters the guest. */
	atomic_bool hidden_timers;
	/* KVM does not stop inside a string instruction for us (repeat.c). */
	atomic_bool repeats_whole;

	atomic_int vcpus_holder; /* nx_vcpus_lock() */
	struct nx_kvm_vcpu *vcpus;
	unsigned vcpus_made;

	/* The memory that is shown to other processes (share.c). */
	struct nx_share_header *share;
	int share_fd;
	ino_t share_inode;
	dev_t share_device;
};

/* Note a change of a memory slot, with vm->lock write-held, after the kernel has accepted it.
 * Return false without memory. */
bool nx_slot_set(struct nx_kvm_vm *vm, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size,
		 uint64_t host);

/* Return a byte of the guest's memory that may be written to, or NULL; vm->lock is held. */
uint8_t *nx_guest_byte(struct nx_kvm_vcpu *vcpu, uint64_t gpa);

/* The callbacks of struct nx_host; data is the struct nx_kvm_vcpu. */
void nx_guest_map_page(void *data, uint64_t gpa, struct nx_page *page);
enum nx_route nx_guest_route_io(void *data, uint16_t port, unsigned size, bool write,
				uint64_t value);
enum nx_route nx_guest_route_mmio(void *data, uint64_t gpa, unsigned size, bool write,
				  uint64_t value);

/* ---- lines.c ---- */

/* Call these around each KVM_RUN that enters the kernel. */
void nx_lines_enter(struct nx_kvm_vm *vm);
void nx_lines_leave(struct nx_kvm_vm *vm);
/* Call this before and after any other call on the VM that may touch its interrupt controllers. */
void nx_lines_touch(struct nx_kvm_vm *vm);
/* Handle KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS. */
int nx_lines_set(struct nx_kvm_vm *vm, int fd, unsigned long request, struct kvm_irq_level *level);

/* ---- ioeventfd.c ---- */

/* Note a KVM_IOEVENTFD, as nx_slot_set() notes a slot. */
bool nx_ioeventfd_set(struct nx_kvm_vm *vm, const struct kvm_ioeventfd *args);
/* Give back what is kept of them, at the VM's end. */
void nx_ioeventfd_clear(struct nx_kvm_vm *vm);
/* Return whether an ioeventfd there can be signalled by KVM only. vm->lock is held. */
bool nx_ioeventfd_foreign(const struct nx_kvm_vm *vm, bool pio, uint64_t address, unsigned size);
/* Signal the ioeventfds that the write matches. Return true if the VMM needs no exit; elements
 * of a string that are for the VMM remain in the exit. vm->lock is held. */
bool nx_ioeventfd_signal(const struct nx_kvm_vm *vm, struct nx_exit *exit);

/* Return whether a write there signals an ioeventfd, for some data. vm->lock is held. */
bool nx_ioeventfd_covers(const struct nx_kvm_vm *vm, bool pio, uint64_t address, unsigned size);

/* ---- ring.c ---- */

/* Note a coalesced range that has been added or removed, as nx_slot_set() notes a slot. */
bool nx_ring_zone(struct nx_kvm_vm *vm, const struct kvm_coalesced_mmio_zone *args, bool add);
/* Give back what is kept of them, at the VM's end. */
void nx_ring_clear(struct nx_kvm_vm *vm);
/* Ask KVM where the ring is. */
void nx_ring_find(struct nx_kvm_vm *vm, int kvm_fd);
/* Return NX_ROUTE_EXIT for a write that KVM would not put into the ring. vm->lock is held. */
enum nx_route nx_ring_route(const struct nx_kvm_vcpu *vcpu, bool pio, uint64_t address,
			    unsigned size);
/* Put the write into the ring. Return true if the VMM needs no exit; elements of a string that
 * did not fit remain in the exit. vm->lock is held. */
bool nx_ring_append(const struct nx_kvm_vcpu *vcpu, struct nx_exit *exit);
/* nx_host.queue */
bool nx_ring_queue(void *data, uint64_t gpa, unsigned size, uint64_t value);

/* ---- hostmem.c ---- */

#define NX_HOST_READ 1
#define NX_HOST_WRITE 2
#define NX_HOST_UNKNOWN 0x80

/* Return what the engine may do with a slot's memory, as NX_HOST_* bits. vm->lock is held. */
uint8_t nx_host_slot_access(struct nx_slot *slot);
/* Note that a slot uses the range. */
void nx_host_covered(uint64_t host, uint64_t size);
/* Return whether a slot may use some of the range, or did; this is cheap. */
bool nx_host_covers(uint64_t host, uint64_t size);
/* Call both, before the process's mapping of the range changes and after it has. */
void nx_host_changes(uint64_t host, uint64_t size);
void nx_host_changed(uint64_t host, uint64_t size);

/* ---- vm.c ---- */

/* Make the VM's object after KVM_CREATE_VM has returned vm_fd. */
void nx_vm_created(int kvm_fd, int vm_fd, unsigned long type);
/* Handle any ioctl on a VM: the result and errno are the kernel's. */
int nx_vm_ioctl(struct nx_kvm_vm *vm, int fd, unsigned long request, void *argument);

/* ---- vcpu.c, run.c ---- */

/*
 * Whose the guest's registers are, and what is due at the exit that the VMM is emulating. An exit
 * of the engine's is open until it is completed.
 *
 *   KERNEL, RESUMABLE   KVM_RUN returns: RESUMABLE if the engine may enter at that exit
 *   RESUMABLE           the engine enters: ENGINE
 *   ENGINE              the engine delivers an exit: EXIT
 *   EXIT, LAST          it is completed: ENGINE, ENDING
 *   EXIT, ENGINE        the VMM marked registers of the run page dirty: LAST, ENDING
 *   EXIT, LAST          an ioctl of the VMM's changes the vCPU: DISTURBED
 *   ENGINE, ENDING      likewise, or the stay ends: KERNEL
 *   DISTURBED           KVM_RUN: KERNEL, or LAST if completing the exit brings another one
 *
 * The thread that holds the owner lock changes it, or the one in KVM_RUN between KERNEL and
 * RESUMABLE, for which others need not look.
 */
enum nx_phase {
	/* The kernel has the registers. */
	NX_PHASE_KERNEL,
	NX_PHASE_RESUMABLE,
	/* The engine has them, and the kernel has those in vcpu->regs. */
	NX_PHASE_ENGINE, /* in KVM_RUN, or at an exit that KVM completes before it returns */
	NX_PHASE_ENDING, /* as ENGINE, and the stay ends with the next KVM_RUN */
	NX_PHASE_EXIT,   /* an exit is open */
	NX_PHASE_LAST,   /* as EXIT, and the stay ends with the next KVM_RUN */
	/* The kernel has them, and the engine has no more than the exit's completion to do. */
	NX_PHASE_DISTURBED,
};

/* The result of writing segment registers back unchanged. */
enum nx_segments_trial {
	NX_TRIAL_DUE,
	NX_TRIAL_REFUSED,
	NX_TRIAL_TAKEN,
	NX_TRIAL_PRIORITY_STAYS, /* and the LAPIC's task priority survives it */
};

/* What is known of a repeated string instruction that KVM emulates (repeat.c). */
struct nx_repeat {
	bool read;            /* the kernel's open exit is a read of device memory */
	bool shown;           /* and KVM has been seen to go from element to element */
	struct kvm_regs regs; /* at that exit */
	uint64_t lent;        /* the rCX that the kernel was given for the completion */
	uint64_t owed;        /* what has to be added to the kernel's rCX, or 0 */
};

struct nx_kvm_vcpu {
	struct nx_object object;
	struct nx_kvm_vm *vm;
	struct nx_kvm_vcpu *next_in_vm;
	struct kvm_run *run;
	size_t run_size;
	int stats_fd; /* of KVM's own statistics, or -1 */
	int fd;       /* the descriptor that the present KVM_RUN was called with */

	_Atomic(const char *) off; /* as in the VM */
	atomic_int owner_tid;

	/* The engine is NULL until the first exit at which it could take over, or if off. */
	struct nx_engine *engine;
	struct nx_state *state;
	struct nx_host engine_host;
	struct nx_memory memory;
	bool engine_tried;
	atomic_bool interruptible; /* in nx_engine_resume(), begun with interrupts enabled */

	_Atomic(enum nx_phase) phase; /* nx_phase() */
	struct nx_exit exit;          /* the engine's last exit */
	enum nx_route route;          /* the route of that exit */
	/* Since when the VMM handles a write that KVM would have put into its ring, or 0. */
	uint64_t instead_since;
	unsigned generation_seen; /* the vm->generation that the engine knows */

	uint64_t kernel_rip; /* of the kernel's last exit */
	struct nx_repeat repeat;
	/* How many calls by which the VMM changes this vCPU have begun or ended, and how many
	 * are in progress. The engine enters only if there has been none since the exit. */
	atomic_uint disturbances, disturbing;
	unsigned disturbances_seen;
	unsigned irq_seen;
	unsigned handlers_seen; /* when the present KVM_RUN was called */
	uint32_t exported;      /* KVM_SYNC_X86_* of ours that wait in the run page, marked dirty */

	enum nx_segments_trial segments_trial;
	unsigned pages_refused; /* pages that the engine was refused */
	bool pages_given;

	/* The state of the engine's current stay. */
	uint64_t stay_began;
	/* When nothing waited for the guest to enable interrupts, by what KVM said last; else when
	 * the stay began. */
	uint64_t nothing_waited;
	struct kvm_regs regs;   /* as the kernel has them */
	struct kvm_sregs sregs; /* likewise; only segments change during a stay */
	struct kvm_vcpu_events events;
	bool tsc_known, tsc_aux_known;
	bool deadline_known; /* window.c */
	uint64_t deadline;
	uint64_t tsc_offset;
	uint32_t tsc_aux;

	/* What the VMM has told the kernel about this vCPU. */
	bool guest_debug, has_signal_mask;
	bool uses_sync_regs; /* it has asked for registers in the run page, or given some */
	uint64_t signal_mask;
	uint8_t physical_bits;
	uint32_t guest_features; /* NX_FEATURE_* */
	unsigned native_tsc_khz; /* without scaling; 0 if the guest's counter cannot be known */

	unsigned slot_hint;

	/* The page in which a patched guest keeps its task priority (KVM_SET_VAPIC_ADDR), or 0.
	 * KVM reads it when it leaves guest mode, not when it enters. */
	uint64_t vapic_page;

	/* steal.c */
	bool looks_preempted; /* to the guest's other vCPUs, outside KVM_RUN */
	uint64_t steal_gpa;   /* of the byte that says so, in this stay; or 0 */

	/* The memory that is shown to other processes, never NULL; stats is a part of it. */
	struct nx_share_vcpu *shared;
	struct nx_stats *stats;
	unsigned slot;
	struct nx_share_writer writer;
	unsigned resumes_untimed;

	/* cost.c */
	struct nx_cost_window cost[NX_COST_COUNT];
	unsigned runs_seen;
	bool reported; /* at the end of the process */
};

static inline enum nx_phase nx_phase(const struct nx_kvm_vcpu *vcpu)
{
	return atomic_load_explicit(&vcpu->phase, memory_order_relaxed);
}

static inline void nx_phase_set(struct nx_kvm_vcpu *vcpu, enum nx_phase phase)
{
	atomic_store_explicit(&vcpu->phase, phase, memory_order_relaxed);
}

/* Return whether the kernel's registers are all that there is of the guest's. */
static inline bool nx_kernel_has_regs(const struct nx_kvm_vcpu *vcpu)
{
	return nx_phase(vcpu) <= NX_PHASE_RESUMABLE;
}

static inline bool nx_exit_is_open(const struct nx_kvm_vcpu *vcpu)
{
	return nx_phase(vcpu) == NX_PHASE_EXIT || nx_phase(vcpu) == NX_PHASE_LAST;
}

/* ---- owner.c ---- */

/* Lock the list of a VM's vCPUs and their engines. Return false as nx_vcpu_acquire() does, which
 * only a signal handler meets. */
bool nx_vcpus_lock(struct nx_kvm_vm *vm);
void nx_vcpus_unlock(struct nx_kvm_vm *vm);
/* Take the owner lock. Return false if this very thread holds it (a signal handler interrupted
 * it). */
bool nx_vcpu_acquire(struct nx_kvm_vcpu *vcpu);
/* Take the owner lock, but do not wait for ever; return false also if that took too long. */
bool nx_vcpu_acquire_soon(struct nx_kvm_vcpu *vcpu);
/* Give the owner lock back, which this thread holds. */
void nx_vcpu_release(struct nx_kvm_vcpu *vcpu);
/*
 * Have every engine of the VM leave, and keep them out: the VMM changes memory slots, ioeventfds or
 * devices in between.
 */
void nx_vm_quiesce(struct nx_kvm_vm *vm);
void nx_vm_unquiesce(struct nx_kvm_vm *vm);
/* Note that the VMM has raised an interrupt. */
void nx_vm_interrupt_raised(struct nx_kvm_vm *vm);
/* End clustering for the vCPU, with one line that says why. why is a string constant. */
void nx_vcpu_off(struct nx_kvm_vcpu *vcpu, const char *why);
/* End clustering for the VM, with one line that says why. why is a string constant. */
void nx_vm_off(struct nx_kvm_vm *vm, const char *why);

/* ---- leave.c ---- */

/* Note that a signal handler of the VMM's runs on this thread. Async-signal-safe. */
void nx_handlers_note(void);
/* Return how many handlers have run on this thread. */
unsigned nx_handlers_count(void);
/* Return whether the stay is to end between two resumes, with the reason in *why. */
bool nx_leave_due(struct nx_kvm_vcpu *vcpu, enum nx_host_leave *why);
/* From nx_stop_open() on, threads that need this vCPU set the engine's stop flag. */
void nx_stop_open(struct nx_kvm_vcpu *vcpu);
void nx_stop_close(struct nx_kvm_vcpu *vcpu);
/* Return whether an event came before nx_stop_open(), whose stop flag may have been cleared.
 * Each such event has been counted before it set the flag, so the counts tell. */
bool nx_leave_due_before_resume(struct nx_kvm_vcpu *vcpu, enum nx_host_leave *why);
/* Implements nx_host.time_is_up. */
bool nx_leave_time_is_up(void *data);

/* ---- cost.c: costs in nanoseconds, measured by the thread in KVM_RUN ---- */

/* Return whether the KVM_RUN that begins now is to be timed. */
bool nx_sample_due(struct nx_kvm_vcpu *vcpu);
/* Note that a thing of that kind took so long. */
void nx_sample_add(struct nx_kvm_vcpu *vcpu, enum nx_cost which, uint64_t ns);
/* Note that a resume of at least so many guest instructions took so long. */
void nx_sample_instructions(struct nx_kvm_vcpu *vcpu, uint64_t instructions, uint64_t ns);
/* Give the engine the measured costs. */
void nx_sample_tell(struct nx_kvm_vcpu *vcpu);

/* ---- vcpu.c ---- */

/* Make the vCPU's object after KVM_CREATE_VCPU has returned fd. */
void nx_vcpu_created(struct nx_kvm_vm *vm, int fd);
/* Handle any ioctl on a vCPU, KVM_RUN included: the result and errno are the kernel's, or those
 * that the kernel would have had. */
int nx_kvm_vcpu_ioctl(struct nx_kvm_vcpu *vcpu, int fd, unsigned long request, void *argument);
int nx_kvm_run(struct nx_kvm_vcpu *vcpu, int fd, void *argument);
/* Note that the VMM is about to change the vCPU, whose registers nx_vcpu_flush() has written back.
 */
void nx_stay_disturb(struct nx_kvm_vcpu *vcpu);
/* Make the kernel's registers current; the owner lock is held. */
void nx_vcpu_flush(struct nx_kvm_vcpu *vcpu, int fd);

/* ---- repeat.c ---- */

/* Note the kernel's exit, which is described in the run page. */
void nx_repeat_note_exit(struct nx_kvm_vcpu *vcpu);
/* Note that the exit was found by completing the one before, of which *before was known. */
void nx_repeat_note_completion(struct nx_kvm_vcpu *vcpu, const struct nx_repeat *before);
/* Before the kernel completes its exit: have it stop behind the next element, if it can. */
void nx_repeat_lend(struct nx_kvm_vcpu *vcpu);
/* After that: see in the run page whether the kernel has taken what it was lent, and stopped.
 * goes_on says that KVM_RUN has brought another exit. */
void nx_repeat_check(struct nx_kvm_vcpu *vcpu, bool goes_on);
/* Correct the kernel's registers, which are those in the run page, if there is anything to
 * correct. */
void nx_repeat_give_back(struct nx_kvm_vcpu *vcpu, int fd);

/* ---- exit.c: an exit of the engine's, vcpu->exit; the owner lock is held ---- */

/* Return whether KVM would not return for it: it is a write, and it has signalled an eventfd or
 * gone into the VMM's ring. */
bool nx_exit_absorb(struct nx_kvm_vcpu *vcpu);
/* Describe it in the run page. */
void nx_exit_fabricate(struct nx_kvm_vcpu *vcpu);
/* Take the VMM's answer out of the run page. */
void nx_exit_consume(struct nx_kvm_vcpu *vcpu);
/*
 * Complete it if it is open. Return whether the instruction goes on with another one, which the VMM
 * has to get. A completion may touch guest memory (INS).
 */
bool nx_exit_complete(struct nx_kvm_vcpu *vcpu);
/* Complete it if it is open and KVM would have completed it before its VMM saw it. */
void nx_exit_settle(struct nx_kvm_vcpu *vcpu);

/* ---- state.c: registers, and whether the engine may run ---- */

/* Copy registers from KVM's structures to the engine's, or back. */
void nx_state_import_regs(struct nx_state *state, const struct kvm_regs *regs);
void nx_state_export_regs(const struct nx_state *state, struct kvm_regs *regs);
void nx_state_import_sregs(struct nx_state *state, const struct kvm_sregs *sregs);
/* Return whether the kernel's segment registers are older than the engine's. If so, the caller
 * has to give the kernel *to. */
bool nx_state_segments_due(struct nx_kvm_vcpu *vcpu, struct kvm_sregs *to);
/* Put the engine's segment registers into *sregs, as far as it loads any. */
void nx_state_export_segments(const struct nx_state *state, struct kvm_sregs *sregs);
/* Return the guest's protection keys, for a stay that begins. */
uint32_t nx_vcpu_pkru(struct nx_kvm_vcpu *vcpu);
/* Return whether the kernel's exit is to be completed by entering the guest, for its shadow. */
bool nx_vcpu_in_shadow(const struct nx_kvm_vcpu *vcpu, int fd);
/* Return why the engine must not run in the state just synchronised, or NX_FIT. */
enum nx_unfit nx_vcpu_unfit(struct nx_kvm_vcpu *vcpu, int fd);

/* ---- share.c ---- */

/* Make the memory that is shown of a VM. Return false without memory. */
bool nx_share_open(struct nx_kvm_vm *vm);
/* Give it back, at the VM's end. */
void nx_share_close(struct nx_kvm_vm *vm);
/* Give a vCPU a part of it, or take that back, with nx_vcpus_lock() held. Return false without
 * memory. */
bool nx_share_vcpu_open(struct nx_kvm_vcpu *vcpu);
void nx_share_vcpu_close(struct nx_kvm_vcpu *vcpu);
/* Show the engine's counters and clusters as they are now; the owner lock is held. */
void nx_share_publish(struct nx_kvm_vcpu *vcpu, uint64_t now);

/* ---- names.c ---- */

/* Name a new translation; forget all of a vCPU's translations. */
void nx_names_add(const struct nx_kvm_vcpu *vcpu, const struct nx_share_cluster *cluster);
void nx_names_forget(const struct nx_kvm_vcpu *vcpu);

/* ---- totals.c ---- */

#define NX_TOTALS_PARTS 256
#define NX_TOTALS_OFF 8

/* Written by totals.c; complete when nx_report_final() has folded every vCPU in. */
struct nx_totals {
	struct nx_figures figures;
	/* The clusters of the first vCPUs: their own memory or, if they have gone, a copy. */
	const struct nx_share_clusters *part[NX_TOTALS_PARTS];
	unsigned parts;
	unsigned vcpus;
	/* The reasons why nothing was avoided, each once. */
	const char *off[NX_TOTALS_OFF];
	unsigned offs;
};
extern struct nx_totals nx_totals;

/* Add a vCPU's figures to those of the process; gone: the vCPU's memory is about to go. */
void nx_totals_fold(const struct nx_share_vcpu *shared, bool gone);
/* Sum the exits taken and avoided by all vCPUs so far; any of them may be running. */
void nx_totals_sum(uint64_t *taken, uint64_t *avoided);
/* Note why nothing is avoided in a VM or on a vCPU; the text is a string constant. */
void nx_totals_off(const char *why);

/* ---- kvm_stats.c ---- */

/* Return a descriptor of KVM's statistics of a vCPU, or -1, as where the VMM would have too few
 * left. They must be readable at the end, when an ioctl on the vCPU could wait for ever for a
 * KVM_RUN in another thread. */
int nx_kvm_stats_open(const struct nx_kvm_vm *vm, int fd);
void nx_kvm_stats_close(struct nx_kvm_vcpu *vcpu);
/* Return whether there is a statistic of this name. */
bool nx_kvm_stats_has(int fd, const char *name);
/* Read them into the vCPU's figures; the vCPU may be running. */
void nx_kvm_stats_read(struct nx_kvm_vcpu *vcpu);

/* ---- msr.c ---- */

/* Read an MSR: returns KVM's answer, 1 if *value is the MSR's, 0 if KVM does not know it, or -1. */
int nx_kvm_get_msr(int fd, uint32_t index, uint64_t *value);

/* ---- report.c ---- */

/* The end of the process: the line, and the file if one was asked for. At most once. */
void nx_report_final(void);

/* ---- timeline.c ---- */

struct nx_json;

/* Begin to count by time, at the process's first VM. */
void nx_timeline_begin(void);
/* Add to the open object how long there has been a VM, and the exits by time if asked for. */
void nx_timeline_print(struct nx_json *out);

/* ---- tsc.c ---- */

/* Find out whether the counter of a new vCPU can be known. */
void nx_tsc_vcpu_created(struct nx_kvm_vcpu *vcpu, int fd);
/* Note that the VMM has asked for this frequency. */
void nx_tsc_set_khz(struct nx_kvm_vcpu *vcpu, unsigned khz);
/* nx_host.read_tsc */
bool nx_tsc_read(void *data, uint64_t *tsc, uint32_t *aux);

/* ---- steal.c ---- */

/* Find out whether KVM marks a new vCPU as preempted at exits to the VMM. */
void nx_steal_vcpu_created(struct nx_kvm_vcpu *vcpu, int fd);
/* Note that a stay begins. Return false if it must not. */
bool nx_steal_begin(struct nx_kvm_vcpu *vcpu, int fd);
/*
 * Show this vCPU to the guest's other vCPUs as running, before each resume and with vm->lock held.
 * Return false if KVM has to flush its TLB first.
 */
bool nx_steal_claim(struct nx_kvm_vcpu *vcpu);

/* ---- window.c ---- */

/* Ask KVM whether still no interrupt waits; false as well where the VMM has the LAPIC. */
bool nx_window_still_quiet(struct nx_kvm_vcpu *vcpu);
/* nx_host.no_interrupt_waits */
bool nx_window_quiet(void *data);

/* ---- hyperv.c ---- */

/* Turn clustering off if the VM has Hyper-V's flush hypercall and more than one vCPU. */
void nx_hyperv_check(struct nx_kvm_vm *vm);
/* Note what CPUID tells the guest of Hyper-V. */
void nx_hyperv_cpuid(struct nx_kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid);
/* Return whether a capability that was enabled on the vCPU is one of Hyper-V's that are known. */
bool nx_hyperv_capability(struct nx_kvm_vcpu *vcpu, uint32_t cap);

/* ---- engine.c ---- */

/* The engine's callbacks; data is the struct nx_kvm_vcpu. */
extern const struct nx_host nx_kvm_engine_host;

/* Make the vCPU's engine at the first call. Return false if there is none; the owner lock is held.
 */
bool nx_vcpu_engine_make(struct nx_kvm_vcpu *vcpu);
/* Turn clustering off where it shows that the engine will never get anywhere. */
void nx_vcpu_engine_check(struct nx_kvm_vcpu *vcpu);

/* ---- memory.c ---- */

/* Get an arena, and a code cache of so many bytes or a few more. Return false, with *memory zeroed,
 * if there is no memory, or none that may be executed. */
bool nx_memory_get(struct nx_memory *memory, size_t code_size);
/* Give back what there is, and zero *memory. */
void nx_memory_put(struct nx_memory *memory);

/* ---- ioctl.c ---- */

/* Any KVM ioctl but KVM_CREATE_VM; what is not ours goes to the kernel as it is. */
int nx_kvm_ioctl(int fd, unsigned long request, void *argument);
/* Any ioctl on /dev/kvm, a VM or a vCPU. */
int nx_process_ioctl(int fd, unsigned long request, void *argument);

#endif
