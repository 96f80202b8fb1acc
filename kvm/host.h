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
 *                     real KVM_RUN is in progress, and by whoever flushes that vCPU;
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
#include "options.h"
#include "share.h"

#define NX_HOST_PAGE 4096u
#define NX_GPA_BITS ((1ull << 52) - 1)

/*
 * What the host asks of the outside world. process.c fills it with the C library's functions;
 * tests fill it with a kernel of their own.
 */
struct nx_real {
	int (*ioctl)(int fd, unsigned long request, void *argument);
	void *(*map_vcpu)(int fd, size_t size);
	void (*unmap_vcpu)(void *run, size_t size);
	/* Whether fd really is what KVM just claimed to have made: "vm" or "vcpu". */
	bool (*is_kvm_object)(int fd, const char *what);
	uint64_t (*now)(void);
	int (*close)(int fd);
	/* The processor adds KVM's offset to what a guest's RDTSC gives, and KVM never corrects it.
	 */
	bool (*tsc_is_offset)(void);
};
extern struct nx_real nx_real;
extern struct nx_options nx_options;

static inline bool nx_faulty(enum nx_fault fault)
{
	return nx_options.fault == fault;
}

/* ---- process.c ---- */

/* One line on standard error, if that still is what it was at the start. */
void nx_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct nx_process {
	pid_t id;
	bool ready;  /* nx_process_start() has been called */
	bool has_vm; /* or had one */
	/* Called when the process makes its first VM; may be NULL. */
	void (*first_vm)(void);
	bool unwatched; /* VMs made from now on are for measuring: nobody is to find them */
	/* Gets the lines of nx_say() instead of standard error; NULL: nobody asked. */
	void (*log)(const char *line);
};
extern struct nx_process nx_process;

/* Sets up nx_real and default options; ioctl and close are the C library's own. */
void nx_process_start(int (*ioctl)(int, unsigned long, void *), int (*close)(int));
/* From here on nothing is believed to be ours. */
void nx_process_end(void);
/* Not in a forked child. */
bool nx_process_alive(void);
/* Neither in a fork nor in a vfork child. */
bool nx_process_ours(void);
/* Whether this process may have a VM of ours: begins anew in a child that was forked before any. */
bool nx_process_may_begin(void);
/* Called when the process makes a VM. */
void nx_process_has_vm(void);
/* Moves a descriptor out of the way of the VMM's numbers, if the limit allows. */
int nx_fd_move_up(int fd);

/* ---- fdtable.c ---- */

enum nx_object_type { NX_OBJECT_VM, NX_OBJECT_VCPU, NX_OBJECT_EVENTFD, NX_OBJECT_TYPES };

struct nx_object {
	enum nx_object_type type;
	atomic_int count; /* file descriptors and calls in flight */
	void (*release)(struct nx_object *object);
	struct nx_object *next_free;
};

/* The object behind fd with its count raised, or NULL. */
struct nx_object *nx_object_get(int fd);
void nx_object_put(struct nx_object *object);
/* Makes fd stand for the object; takes over one count. */
void nx_fd_set(int fd, struct nx_object *object);
/* Whether fd stands for an object; cheap. */
bool nx_fd_known(int fd);
bool nx_fd_is(int fd, const struct nx_object *object);
/* A duplicate of fd for ourselves, out of the way of the VMM's numbers; -1: none left. */
int nx_fd_private(int fd);
/* Before fd is closed: it stands for nothing from now on. */
void nx_fd_clear(int fd);
void nx_fd_clear_range(unsigned first, unsigned last);
/* After new has become a duplicate of old. */
void nx_fd_copy(int old, int new_fd);
/* Calls visit for every object that has a file descriptor. */
void nx_fd_for_each(void (*visit)(struct nx_object *object, void *data), void *data);
/* Recycled or new, zeroed beyond the header. */
struct nx_object *nx_object_new(enum nx_object_type type, size_t size,
				void (*release)(struct nx_object *object));

/* ---- guestmem.c ---- */

struct nx_slot {
	uint64_t gpa, size;
	uint64_t host;
	uint32_t id;
	uint32_t flags; /* KVM_MEM_* */
	/* NX_HOST_*, looked up at first use; NX_HOST_UNKNOWN until then. */
	_Atomic uint8_t access;
};

struct nx_ioeventfd {
	uint64_t address, datamatch;
	uint32_t len, flags;      /* KVM_IOEVENTFD_FLAG_* */
	struct nx_object *object; /* of own_fd, our duplicate; NULL: none could be had */
	int own_fd;
};

#define NX_LINES 64

/* An interrupt line by its number: lines.c. */
struct nx_line {
	atomic_ullong calm;
	atomic_uint status; /* that the kernel gave when it was lowered */
};

struct nx_kvm_vm {
	struct nx_object object;
	int fd;
	size_t run_size;
	bool binary_stats;
	/* Why no vCPU of this VM clusters; NULL: nothing known against it. Never unset. */
	_Atomic(const char *) off;
	_Atomic(const char *) vcpu_off; /* what was said last of a vCPU: once is enough */
	/* Raised whenever the VMM raises an interrupt that we see. */
	atomic_uint irq_epoch;
	atomic_ullong calm; /* lines.c */
	struct nx_line line[NX_LINES];

	pthread_rwlock_t lock;
	atomic_int writers;  /* threads that want the lock for writing */
	unsigned generation; /* of what the lock guards: changes with each change */
	struct nx_slot *slot;
	unsigned slots, slot_capacity; /* sorted by gpa, address space 0 only */
	struct nx_ioeventfd *ioeventfd;
	atomic_uint ioeventfds; /* written with the lock, but a first look needs none */
	unsigned ioeventfd_capacity;
	/* Coalesced ranges; likewise. */
	struct kvm_coalesced_mmio_zone *zone;
	atomic_uint zones;
	unsigned zone_capacity;
	size_t ring_offset;   /* in a vCPU's mapping, 0: there is no ring */
	unsigned vcpus_begun; /* KVM_CREATE_VCPU calls, guarded by the lock */
	bool irqchip_full, irqchip_split, pit, pit_speaker;
	bool tsc_set;          /* the VMM chose a frequency for vCPUs to come */
	bool quirk_out_7e_off; /* rip stays on an OUT to port 0x7e at its exit, as on any other */
	atomic_bool hyperv_flush; /* hyperv.c */

	atomic_int vcpus_holder; /* nx_vcpus_lock() */
	struct nx_kvm_vcpu *vcpus;
	unsigned vcpus_made;

	/* What others may look at: share.c. */
	struct nx_share_header *share;
	int share_fd;
	ino_t share_inode;
	dev_t share_device;
};

/* With vm->lock write-held, after the kernel accepted the change; false: no memory. */
bool nx_slot_set(struct nx_kvm_vm *vm, uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size,
		 uint64_t host);

/* A byte of the guest's memory that may be written to, or NULL; vm->lock is held. */
uint8_t *nx_guest_byte(struct nx_kvm_vcpu *vcpu, uint64_t gpa);

/* Of nx_host; data is the struct nx_kvm_vcpu. */
void nx_guest_map_page(void *data, uint64_t gpa, struct nx_page *page);
enum nx_route nx_guest_route_io(void *data, uint16_t port, unsigned size, bool write,
				uint64_t value);
enum nx_route nx_guest_route_mmio(void *data, uint64_t gpa, unsigned size, bool write,
				  uint64_t value);

/* ---- lines.c ---- */

/* Around each KVM_RUN that enters the kernel. */
void nx_lines_enter(struct nx_kvm_vm *vm);
void nx_lines_leave(struct nx_kvm_vm *vm);
/* Before and after any other call on the VM that may touch its interrupt controllers. */
void nx_lines_touch(struct nx_kvm_vm *vm);
/* KVM_IRQ_LINE and KVM_IRQ_LINE_STATUS. */
int nx_lines_set(struct nx_kvm_vm *vm, int fd, unsigned long request, struct kvm_irq_level *level);

/* ---- ioeventfd.c ---- */

/* As nx_slot_set(). */
bool nx_ioeventfd_set(struct nx_kvm_vm *vm, const struct kvm_ioeventfd *args);
void nx_ioeventfd_clear(struct nx_kvm_vm *vm);
/* Is there one that only KVM can signal? vm->lock is held. */
bool nx_ioeventfd_foreign(const struct nx_kvm_vm *vm, bool pio, uint64_t address, unsigned size);
/*
 * Signals what the write would signal. true: the VMM never hears of it. Elements of a string that
 * are for the VMM are what is left in the exit. vm->lock is held.
 */
bool nx_ioeventfd_signal(const struct nx_kvm_vm *vm, struct nx_exit *exit);

/* Return whether a write there signals an ioeventfd, for some data. vm->lock is held. */
bool nx_ioeventfd_covers(const struct nx_kvm_vm *vm, bool pio, uint64_t address, unsigned size);

/* ---- ring.c ---- */

/* As nx_slot_set(). */
bool nx_ring_zone(struct nx_kvm_vm *vm, const struct kvm_coalesced_mmio_zone *args, bool add);
void nx_ring_clear(struct nx_kvm_vm *vm);
/* Ask KVM where the ring is. */
void nx_ring_find(struct nx_kvm_vm *vm, int kvm_fd);
/* Return what a write means: NX_ROUTE_EXIT unless KVM would put it into the ring. vm->lock is held.
 */
enum nx_route nx_ring_route(const struct nx_kvm_vcpu *vcpu, bool pio, uint64_t address,
			    unsigned size);
/*
 * Put the write into the ring. true: the VMM needs no exit. Elements of a string that did not fit
 * are what is left in the exit. vm->lock is held.
 */
bool nx_ring_append(const struct nx_kvm_vcpu *vcpu, struct nx_exit *exit);

/* ---- hostmem.c ---- */

#define NX_HOST_READ 1
#define NX_HOST_WRITE 2
#define NX_HOST_UNKNOWN 0x80

/* What the engine may do with a slot's memory: NX_HOST_* bits. vm->lock is held. */
uint8_t nx_host_slot_access(struct nx_slot *slot);
/* A slot's memory is there. */
void nx_host_covered(uint64_t host, uint64_t size);
/* Whether a slot may have some of the range, or had; cheap. */
bool nx_host_covers(uint64_t host, uint64_t size);
/* Before the process's mapping of the range changes, and after it did: always both. */
void nx_host_changes(uint64_t host, uint64_t size);
void nx_host_changed(uint64_t host, uint64_t size);

/* ---- vm.c ---- */

/* After KVM_CREATE_VM returned vm_fd. */
void nx_vm_created(int kvm_fd, int vm_fd, unsigned long type);
int nx_vm_ioctl(struct nx_kvm_vm *vm, int fd, unsigned long request, void *argument);

/* ---- vcpu.c, run.c ---- */

/* Where the guest's registers are. */
enum nx_owner {
	NX_OWNER_KERNEL,
	/* In the engine, at an exit that the engine delivered and the VMM is emulating. */
	NX_OWNER_ENGINE,
	/*
	 * As ENGINE, but the VMM has set something since: its view in the kernel is the truth, and
	 * only the exit's completion is still ours.
	 */
	NX_OWNER_DISTURBED,
};

/* What came of giving segment registers back as they were. */
enum nx_segments_trial {
	NX_TRIAL_DUE,
	NX_TRIAL_REFUSED,
	NX_TRIAL_TAKEN,
	NX_TRIAL_PRIORITY_STAYS, /* and the LAPIC's task priority need not go with them */
};

struct nx_kvm_vcpu {
	struct nx_object object;
	struct nx_kvm_vm *vm;
	struct nx_kvm_vcpu *next_in_vm;
	struct kvm_run *run;
	size_t run_size;
	int stats_fd; /* of KVM's own statistics, -1: none */
	int fd;       /* the one that the present KVM_RUN was called with */

	_Atomic(const char *) off; /* as in the VM */
	atomic_int owner_tid;

	/* Engine; NULL until the first exit that could be taken over, or if off. */
	struct nx_engine *engine;
	struct nx_state *state;
	struct nx_host engine_host;
	struct nx_memory memory;
	bool engine_tried;
	atomic_bool interruptible; /* in nx_engine_resume(), and the guest took interrupts at its
				      beginning */

	enum nx_owner owner;
	struct nx_exit exit; /* ENGINE: the exit delivered */
	enum nx_route route; /* what was said of it */
	/* ENGINE: the exit is one that KVM would not have left for; since when the VMM has it */
	uint64_t instead_since;
	bool exit_open; /* ENGINE: its completion is due */
	bool flushed;   /* ENGINE: the kernel's registers equal the engine's */
	/* The VMM changed the vCPU during this stay: it ends at the exit, and all is written. */
	unsigned generation_seen; /* of vm->generation, by the engine */
	bool stay_over;

	/* The kernel-delivered exit that the VMM is emulating, KERNEL only. */
	bool resumable;
	uint64_t kernel_rip;
	/*
	 * Calls by which the VMM changes this vCPU: ended or begun, and in progress. Anything but
	 * "none since the exit" keeps the engine from taking over there.
	 */
	atomic_uint disturbances, disturbing;
	unsigned disturbances_seen;
	unsigned irq_seen;
	unsigned handlers_seen; /* when the present KVM_RUN was called */
	uint32_t exported;      /* KVM_SYNC_X86_* of ours that wait in the run page, marked dirty */

	enum nx_segments_trial segments_trial;
	unsigned pages_refused; /* to the engine */
	bool pages_given;

	/* Of the current stay of the engine. */
	uint64_t stay_began;
	struct kvm_regs regs;   /* as the kernel has them */
	struct kvm_sregs sregs; /* likewise; of these, only segments change during a stay */
	struct kvm_vcpu_events events;
	bool tsc_known, tsc_aux_known;
	uint64_t tsc_offset;
	uint32_t tsc_aux;

	/* What the VMM told the kernel about this vCPU. */
	bool guest_debug, has_signal_mask;
	uint64_t signal_mask;
	uint8_t physical_bits;
	uint32_t guest_features; /* NX_FEATURE_* */
	unsigned native_tsc_khz; /* without scaling; 0: the guest's counter cannot be known */

	unsigned slot_hint;

	/*
	 * The page in which a patched guest keeps its task priority (KVM_SET_VAPIC_ADDR); 0: none.
	 * KVM reads it when it leaves guest mode, not when it enters.
	 */
	uint64_t vapic_page;

	/* steal.c */
	bool looks_preempted; /* to the guest's other vCPUs, outside KVM_RUN */
	uint64_t steal_gpa;   /* of the byte that says so, in this stay; 0: none */

	/* What others may look at, never NULL; stats is a part of it. */
	struct nx_share_vcpu *shared;
	struct nx_stats *stats;
	unsigned slot;
	const struct nx_cluster *cluster_shown; /* the last one */
	uint64_t clusters_refreshed;
	unsigned resumes_untimed;

	/* cost.c */
	struct nx_cost_window {
		uint32_t least, samples;
	} cost[NX_COST_COUNT];
	unsigned runs_seen;
	bool reported; /* at the end of the process */
};

/* ---- owner.c ---- */

/* The list of a VM's vCPUs, and their engines; false: as below, which only a signal handler meets.
 */
bool nx_vcpus_lock(struct nx_kvm_vm *vm);
void nx_vcpus_unlock(struct nx_kvm_vm *vm);
/* Owner lock; false: this very thread holds it (a signal handler interrupted it). */
bool nx_vcpu_acquire(struct nx_kvm_vcpu *vcpu);
/* The same, for who must not wait for ever; false also if it took too long. */
bool nx_vcpu_acquire_soon(struct nx_kvm_vcpu *vcpu);
void nx_vcpu_release(struct nx_kvm_vcpu *vcpu);
/*
 * Have every engine of the VM leave, and keep them out: the VMM changes memory slots, ioeventfds or
 * devices in between.
 */
void nx_vm_quiesce(struct nx_kvm_vm *vm);
void nx_vm_unquiesce(struct nx_kvm_vm *vm);
/* The VMM has raised an interrupt. */
void nx_vm_interrupt_raised(struct nx_kvm_vm *vm);
/* Clustering ends for the vCPU, with one line that says why. why is a string constant. */
void nx_vcpu_off(struct nx_kvm_vcpu *vcpu, const char *why);
/* Clustering ends for the VM, with one line that says why. why is a string constant. */
void nx_vm_off(struct nx_kvm_vm *vm, const char *why);

/* ---- leave.c ---- */

/* A signal handler of the VMM's runs on this thread. Async-signal-safe. */
void nx_handler_runs(void);
/* How many have run on this thread. */
unsigned nx_handlers_run(void);
/* Between two resumes: is the stay to end, and why? */
bool nx_must_leave(const struct nx_kvm_vcpu *vcpu, enum nx_host_leave *why);
/* From here on, whoever has something for this vCPU sets the engine's stop flag. */
void nx_open_to_stop(struct nx_kvm_vcpu *vcpu);
void nx_close_to_stop(struct nx_kvm_vcpu *vcpu);
/*
 * What came before nx_open_to_stop(), and whose flag may have been cleared: each of them has
 * counted itself first.
 */
bool nx_must_not_resume(struct nx_kvm_vcpu *vcpu, enum nx_host_leave *why);
/* nx_host.time_is_up */
bool nx_time_is_up(void *data);

/* ---- cost.c ---- */

/* Is the KVM_RUN that begins now to be timed? */
bool nx_sample_due(struct nx_kvm_vcpu *vcpu);
void nx_sample_add(struct nx_kvm_vcpu *vcpu, enum nx_cost which, uint64_t ns);
/* A resume of so many guest instructions, at least, took so long. */
void nx_sample_instructions(struct nx_kvm_vcpu *vcpu, uint64_t instructions, uint64_t ns);
/* Gives the engine what has been measured. */
void nx_sample_tell(struct nx_kvm_vcpu *vcpu);

/* ---- vcpu.c ---- */

void nx_vcpu_created(struct nx_kvm_vm *vm, int fd);
int nx_kvm_vcpu_ioctl(struct nx_kvm_vcpu *vcpu, int fd, unsigned long request, void *argument);

int nx_kvm_run(struct nx_kvm_vcpu *vcpu, int fd, void *argument);
/* Completes an open exit that KVM would have completed before its VMM saw it. */
void nx_exit_settle(struct nx_kvm_vcpu *vcpu);
/* Makes the kernel's registers current; owner lock held. */
void nx_vcpu_flush(struct nx_kvm_vcpu *vcpu, int fd);

/* ---- state.c: registers and the run page ---- */

void nx_state_import_regs(struct nx_state *state, const struct kvm_regs *regs);
void nx_state_export_regs(const struct nx_state *state, struct kvm_regs *regs);
void nx_state_import_sregs(struct nx_state *state, const struct kvm_sregs *sregs);
/*
 * Whether the kernel's segment registers are older than the engine's; then the caller has to give
 * it *to.
 */
bool nx_segments_due(struct nx_kvm_vcpu *vcpu, struct kvm_sregs *to);
/* The guest's protection keys, for a stay that begins. */
uint32_t nx_vcpu_pkru(struct nx_kvm_vcpu *vcpu);
/* Return whether the kernel's exit is to be completed by entering the guest, for its shadow. */
bool nx_vcpu_in_shadow(const struct nx_kvm_vcpu *vcpu, int fd);
/* Why the engine must not run in the state just synchronised, or NX_FIT. */
enum nx_unfit nx_vcpu_unfit(struct nx_kvm_vcpu *vcpu, int fd);
/* Makes the run page say what the engine's exit is. */
void nx_exit_fabricate(struct nx_kvm_vcpu *vcpu);
/* Takes the VMM's answer to an engine's exit out of the run page. */
void nx_exit_consume(struct nx_kvm_vcpu *vcpu);

/* ---- share.c ---- */

/* false: no memory. */
bool nx_share_open(struct nx_kvm_vm *vm);
void nx_share_close(struct nx_kvm_vm *vm);
/* Both with nx_vcpus_lock() held. */
bool nx_share_vcpu_open(struct nx_kvm_vcpu *vcpu);
void nx_share_vcpu_close(struct nx_kvm_vcpu *vcpu);
/* shared: the member `off` of a VM or vCPU; at most once for each. */
void nx_share_off(char *shared, const char *why);
/* Shows the engine's counters and clusters as they are now; owner lock held. */
void nx_share_publish(struct nx_kvm_vcpu *vcpu, uint64_t now);

/* ---- names.c ---- */

/* A translation was made; and all of a vCPU's are gone. */
void nx_names_add(const struct nx_kvm_vcpu *vcpu, const struct nx_share_cluster *cluster);
void nx_names_forget(const struct nx_kvm_vcpu *vcpu);

/* ---- totals.c ---- */

#define NX_TOTALS_PARTS 256
#define NX_TOTALS_OFF 8

/* Written by totals.c; complete when nx_report_final() has folded every vCPU in. */
struct nx_totals {
	struct nx_figures figures;
	/* Clusters of the first vCPUs: their own memory or, of those that are gone, a copy. */
	const struct nx_share_clusters *part[NX_TOTALS_PARTS];
	unsigned parts;
	unsigned vcpus;
	/* Why nothing was avoided, each reason once. */
	const char *off[NX_TOTALS_OFF];
	unsigned offs;
};
extern struct nx_totals nx_totals;

/* A vCPU's figures for the end of the process; gone: its memory is about to go. */
void nx_totals_fold(const struct nx_share_vcpu *shared, bool gone);
/* What has been taken and avoided by all vCPUs so far; any of them may be running. */
void nx_totals_sum(uint64_t *taken, uint64_t *avoided);
/* Note why nothing is avoided in a VM or on a vCPU; the text is for ever. */
void nx_totals_off(const char *why);
/* ---- kvm_stats.c ---- */

/*
 * KVM's statistics of a vCPU: a descriptor, or -1. They must be readable at the end, when an ioctl
 * on the vCPU could wait for ever for a KVM_RUN in another thread.
 */
int nx_kvm_stats_open(const struct nx_kvm_vm *vm, int fd);
/* Whether there is one of this name. */
bool nx_kvm_stats_has(int fd, const char *name);
/* Reads them into the vCPU's figures; the vCPU may be running. */
void nx_kvm_stats_read(struct nx_kvm_vcpu *vcpu);

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

void nx_tsc_vcpu_created(struct nx_kvm_vcpu *vcpu, int fd);
/* After the VMM asked for this frequency. */
void nx_tsc_set_khz(struct nx_kvm_vcpu *vcpu, unsigned khz);
/* nx_host.read_tsc */
bool nx_tsc_read(void *data, uint64_t *tsc, uint32_t *aux);

/* ---- steal.c ---- */

void nx_steal_vcpu_created(struct nx_kvm_vcpu *vcpu, int fd);
/* Where a stay begins; false: it must not. */
bool nx_steal_begin(struct nx_kvm_vcpu *vcpu, int fd);
/*
 * Before each resume, with vm->lock held: the guest's other vCPUs see this one run. false: KVM has
 * to flush its TLB first.
 */
bool nx_steal_claim(struct nx_kvm_vcpu *vcpu);

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

/* false: there is none. Owner lock held. */
bool nx_vcpu_engine_make(struct nx_kvm_vcpu *vcpu);
/* Turns clustering off where it shows that the engine will never get anywhere. */
void nx_vcpu_engine_check(struct nx_kvm_vcpu *vcpu);

/* ---- memory.c ---- */

bool nx_memory_get(struct nx_memory *memory, size_t code_size);
void nx_memory_put(struct nx_memory *memory);

/* ---- ioctl.c ---- */

/* Any KVM ioctl but KVM_CREATE_VM; what is not ours goes to the kernel as it is. */
int nx_kvm_ioctl(int fd, unsigned long request, void *argument);
/* Any ioctl on /dev/kvm, a VM or a vCPU. */
int nx_process_ioctl(int fd, unsigned long request, void *argument);

#endif
