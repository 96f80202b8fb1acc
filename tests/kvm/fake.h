/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * fake.h - a kernel, an engine and a VMM to test the KVM host with.
 *
 * The guest is a program of model instructions, two bytes each. The fake kernel executes them
 * with KVM's order of events and KVM's differing ideas of when an exit is final (docs/kvm.md,
 * sections 1 and 2); the fake engine executes them by the contract of noexit.h, and both check what
 * they are asked to do. A run with the host between them must give the VMM the same accesses, in
 * the same order, with the same registers, as one without.
 */
#ifndef NX_TEST_FAKE_H
#define NX_TEST_FAKE_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host.h"

enum model_op {
	M_ADD,   /* rax += operand */
	M_MOVE,  /* rcx = rax */
	M_IN,    /* eax = port operand */
	M_OUT,   /* port operand = eax */
	M_OUTS,  /* port operand = eax, and rsi += 4 */
	M_LOAD,  /* rcx = device[operand] */
	M_STORE, /* device[operand] = rcx */
	M_SPLIT, /* device[operand], device[operand + 8] = rcx, rax: two fragments */
	M_RMW,   /* device[operand] += rax: a read, then a write */
	M_MOVS,  /* device[rdi] = device[rsi], both += 8, rcx times: emulated as a whole */
	M_STI,
	M_CLI,
	M_POPF,   /* IF = operand */
	M_IRET,   /* IF = operand, and NMIs are let in */
	M_SHADOW, /* as a load of SS: holds interrupts off for one instruction */
	M_TPR,    /* the task priority of the kernel's LAPIC = operand */
	M_SEG,    /* es = rax, as in real mode */
	M_LOOP,   /* rdx--, to instruction operand if not zero */
	M_HLT,
	M_RDMSR, /* eax = register operand, which the VMM has asked to answer for */
};

struct model_insn {
	enum model_op op;
	uint32_t operand;
};

#define MODEL_BASE 0x1000u /* rip of the first instruction */
#define MODEL_CS_BASE 0x20000u
#define MODEL_LEN 2u

/* When an exit's effects are final. */
struct fake_style {
	bool emulated_out; /* rip is past an OUT at its exit, nothing to complete */
	bool emulated_in;  /* an IN is decoded again on completion: clobbers rip */
};

enum fake_pending {
	PENDING_NONE,
	PENDING_FAST_IN,
	PENDING_FAST_OUT,
	PENDING_READ_AGAIN, /* emulated IN, MMIO read */
	PENDING_FRAGMENT,   /* second half of M_SPLIT */
	PENDING_RMW,        /* write half of M_RMW */
	PENDING_HALF,       /* second half of a split read of M_MOVS */
	PENDING_ELEMENT,    /* all but the read of an element of M_MOVS */
	PENDING_MSR,        /* sets rax and skips, wherever rip is */
};

#define FAKE_IOEVENTFDS 8
#define FAKE_ZONES 8
#define FAKE_RING_ENTRIES 170 /* KVM_COALESCED_MMIO_MAX */
#define FAKE_TSC_KHZ 2000000
#define FAKE_TSC_AUX 7
#define FAKE_MSR_STEAL_TIME 0x4b564d03

struct fake_kernel {
	const struct model_insn *program;
	unsigned insns;
	struct fake_style style;

	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_run *run;
	enum fake_pending pending;
	uint64_t pending_linear, pending_rip;
	/* The emulator's own registers, which it uses until others have been set. */
	struct kvm_regs emulated;
	bool regs_set;

	/* The members that tests read and set. */
	uint64_t tsc_offset;
	uint32_t pkru;
	unsigned asked_pkru, asked_tsc, asked_tpr;
	bool has_nested_state;
	uint16_t nested_flags;
	struct kvm_ioeventfd ioeventfd[FAKE_IOEVENTFDS]; /* len and address 0: free */
	struct kvm_coalesced_mmio_zone zone[FAKE_ZONES]; /* size 0: free */
	unsigned queued;                                 /* by the kernel */
	uint64_t clock;
	unsigned runs, immediate_runs, entries;
	unsigned set_regs, set_sregs, memory_changes;
	uint8_t tpr; /* of the LAPIC: sregs.cr8 is its upper half */
	/* How it treats an impossible cr8: as kernels so far do, and as others might. */
	enum { CR8_LEFT_ALONE, CR8_CUT, CR8_REFUSED } cr8;
	bool refuses_sregs; /* what KVM gave it does not take back */
	/*
	 * Steal time: the guest's register, and the byte in its memory that says "preempted" (1)
	 * and has a flush left to KVM (2). marks: each vcpu_put() says so, as before Linux 5.19;
	 * again: also where one has said it already, as before 5.6.
	 */
	uint64_t steal_msr;
	uint8_t *preempted;
	bool marks, again, said_preempted;
	unsigned asked_steal, flushed;
	bool refuses_msrs;
	bool quirk_off;     /* KVM_X86_QUIRK_OUT_7E_INC_RIP, by KVM_ENABLE_CAP */
	bool accepts_all;   /* ioctls on the vCPU that nothing is known of */
	uint16_t run_flags; /* KVM_RUN_X86_* of exits to come */
	void (*at_ioctl)(uint32_t request);
	bool init_waits;             /* for whoever looks at the MP state */
	bool vmm_sets;               /* segment registers are not all that is set */
	int fail_memory;             /* errno of the next memslot change */
	void (*in_completion)(void); /* called while KVM_RUN completes an exit */
	bool memory_changing;        /* inside a memslot ioctl */
	/*
	 * An interrupt and an NMI that wait in the kernel, of which the host is told nothing: they
	 * are delivered where the kernel stands at a boundary that lets them in. The handler takes
	 * no instruction of the model's; regs.rip is where it returns to.
	 */
	bool irq_waits, nmi_waits;
	uint8_t irq_priority; /* delivered unless the task priority is above it */
	/* Of the LAPIC and the first 8259, as those who ask see them. */
	uint32_t lvtt, lvt0, tmict, tmcct;
	uint64_t deadline, tsc;
	uint8_t pic_requests, pic_masked;
	unsigned asked_pic, asked_deadline;
	bool refuses_lapic;
	/* Of M_MOVS: a kernel that does not look whether registers have been set, and one that does
	 * not stop; reads in two halves; the one element whose write is a page fault; how often
	 * registers were set inside. */
	bool keeps_emulated, never_stops, splits_reads;
	unsigned faulty_element, elements, lent;
	void (*at_delivery)(void);
	unsigned line_calls;
	int line_status, line_fails; /* what KVM_IRQ_LINE_STATUS says; errno of the next call */
	void (*in_line)(void);       /* called while a line is being set */
};

extern struct fake_kernel fake;
/* Before fake_start(): the guest's time-stamp counter is the processor's plus an offset. */
extern bool fake_has_tsc_offset;
/* Likewise: a statistic that KVM has, or NULL for a KVM without any. */
extern const char *fake_statistic;

#define FAKE_KVM_FD 900
#define FAKE_VM_FD 901
#define FAKE_VCPU_FD 902
/* A vCPU that KVM_CREATE_VCPU makes for any id but 0; it never runs. */
#define FAKE_SECOND_VCPU_FD 903

/* A fresh kernel and host with one VM and one vCPU that runs the program. */
void fake_start(const struct model_insn *program, unsigned insns, struct fake_style style);
/* Start with default options, off unless noexit is on, a new engine, and so many turns in rdx. */
void fake_begin(const struct model_insn *program, unsigned insns, unsigned turns, bool on);
/* Close what fake_start() opened. */
void fake_stop(void);
/* The same, as what cmocka calls behind a test. */
int fake_teardown(void **state);
struct nx_kvm_vm *fake_vm(void);
struct nx_kvm_vcpu *fake_vcpu(void);
/* The lines that the host has said since fake_start(). */
extern char fake_said[2048];

/* fake_guest.c: the parts of KVM_RUN, in this order; each returns true for an exit. */
bool fake_complete(void);
bool fake_stand(void);
bool fake_step(void);
/* Deliver an interrupt or an NMI. */
void fake_deliver(void);
/* KVM_IOEVENTFD */
int fake_ioeventfd_set(const struct kvm_ioeventfd *args);

/* fake_ring.c, as the kernel's part of coalesced ranges */
int fake_ring_zone(bool add, const struct kvm_coalesced_mmio_zone *args);
bool fake_ring_takes(bool pio, uint64_t address, unsigned size, uint64_t value);
unsigned fake_ring_entries(void);

/* ---- The engine ---- */

struct fake_engine {
	unsigned created, resumes, exits, leaves, segments, flushes;
	unsigned windows;        /* opened or closed */
	struct nx_config config; /* what the host asked for */
	/* One in leave_every resumes leaves at once; none if it is 0. */
	unsigned leave_every;
	unsigned exits_per_stay; /* 0: no limit */
	bool builds;             /* says so of each resume */
	void (*in_resume)(void);
	void (*at_flag)(void); /* the host is about to clear or set the stop flag */
	unsigned random;
};

extern struct fake_engine fake_engine;

/* ---- The VMM ---- */

#define MAX_ACCESSES 4096

#define FROM_RING 0xff /* the reason of what was no exit */

struct access {
	uint8_t reason; /* KVM_EXIT_* */
	bool write;
	uint8_t size;
	uint64_t address, data;
	struct kvm_regs regs; /* by KVM_GET_REGS or the run page, if the VMM looks */
	struct kvm_segment es;
};

struct vmm {
	/* Called at each exit before it is answered; may do ioctls. */
	void (*at_exit)(struct vmm *vmm, unsigned index);
	void (*at_window)(struct vmm *vmm); /* called at KVM_EXIT_IRQ_WINDOW_OPEN, or NULL */
	bool looks;                         /* reads the registers at each exit by KVM_GET_REGS */
	bool syncs;                         /* reads them from the run page */
	unsigned inputs;                    /* input accesses answered so far */
	unsigned accesses, eintr;
	unsigned drain_every,
	    exits_seen; /* look into the ring at one exit in so many; never if it is 0 */
	struct access access[MAX_ACCESSES];
	struct kvm_regs end;
	struct kvm_segment end_es;
};

/* Run the guest to its HLT; return false after something unexpected, which was printed. */
bool vmm_run(struct vmm *vmm);
/* Call KVM_RUN once, record the exit and answer it. Return its result, with errno set. */
int vmm_step(struct vmm *vmm);
/* Take out what is in the ring, each entry an access. */
void vmm_drain(struct vmm *vmm);
int vmm_ioctl(unsigned long request, void *argument);
/* Print the first difference; the registers are compared if both looked. */
bool vmm_equal(const struct vmm *a, const struct vmm *b);

#endif
