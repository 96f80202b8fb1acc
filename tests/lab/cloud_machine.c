/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cloud_machine.c - the machine of cloud_vmm.c: its device, its VM and vCPU, and how both go over
 * into another VM.
 */
#define _GNU_SOURCE
#include "cloud_machine.h"
#include "cloud_vmm.h"

#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY (16u << 20)
#define STACK 0x80000u
#define GDT 0x500u
#define PML4 0x1000u
#define PDPT 0x2000u
#define DIRECTORIES 0x3000u
#define TSS 0xfffbd000u
#define IDENTITY_MAP 0xfffbc000u

#define QUEUES 2u
#define PINS 24u
#define MSRS_MAX 512u
#define CPUID_MAX 256u
#define CHIPS 3u

#define MSR_TSC 0x10u
/* Of a time-stamp counter that is set within a second of what KVM expects, KVM believes that
 * another vCPU's is meant, and goes on with what it expects: from 0 at the VM's beginning. */
#define TSC_START (1ull << 40)

#define LAPIC_REQUESTS 0x200u
#define LAPIC_STRIDE 0x10u

int vcpu;
struct kvm_run *run;

static int kvm, vm;
static bool pc;
static size_t run_size;
static uint8_t *memory;

static int must(int fd, unsigned long request, void *argument, const char *name)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		err(1, "%s", name);
	return result;
}
#define MUST(fd, request, argument) must(fd, request, (void *)(argument), #request)

/* ---- The device ---- */

struct queue {
	int doorbell, interrupt; /* eventfds */
	_Atomic uint32_t argument, result, status;
};

static struct queue queues[QUEUES];
static pthread_mutex_t device_lock = PTHREAD_MUTEX_INITIALIZER;

static void answer(struct queue *queue)
{
	uint64_t rings, one = 1;

	if (read(queue->doorbell, &rings, sizeof(rings)) != sizeof(rings))
		return;
	queue->result = ANSWER(queue->argument);
	queue->status = 1;
	if (write(queue->interrupt, &one, sizeof(one)) != sizeof(one))
		err(1, "an interrupt");
}

/* It holds the lock whenever it is not asleep, so that nothing is half done in a snapshot. */
void *device_thread(void *unused)
{
	struct pollfd doorbells[QUEUES];

	for (unsigned i = 0; i < QUEUES; i++)
		doorbells[i] = (struct pollfd){.fd = queues[i].doorbell, .events = POLLIN};
	for (;;) {
		if (poll(doorbells, QUEUES, -1) < 0)
			err(1, "poll");
		pthread_mutex_lock(&device_lock);
		for (unsigned i = 0; i < QUEUES; i++)
			answer(&queues[i]);
		pthread_mutex_unlock(&device_lock);
	}
	return unused;
}

static void device_make(void)
{
	for (unsigned i = 0; i < QUEUES; i++) {
		queues[i].doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		queues[i].interrupt = eventfd(0, EFD_CLOEXEC);
		if (queues[i].doorbell < 0 || queues[i].interrupt < 0)
			err(1, "eventfd");
	}
}

uint32_t device_read(uint64_t address)
{
	const struct queue *queue = &queues[(address - DEVICE) / QUEUE_SIZE % QUEUES];

	switch (address % QUEUE_SIZE) {
	case QUEUE_RESULT:
		return queue->result;
	case QUEUE_STATUS:
		return queue->status;
	default:
		return 0;
	}
}

void device_write(uint64_t address, uint32_t value)
{
	struct queue *queue = &queues[(address - DEVICE) / QUEUE_SIZE % QUEUES];

	if (address % QUEUE_SIZE == QUEUE_ARGUMENT)
		queue->argument = value;
	else if (address % QUEUE_SIZE == QUEUE_STATUS)
		queue->status = value;
}

/* ---- The machine ---- */

static void set_routes(void)
{
	union {
		struct kvm_irq_routing head;
		uint8_t room[sizeof(struct kvm_irq_routing) +
			     (PINS + 2) * sizeof(struct kvm_irq_routing_entry)];
	} table = {0};
	struct kvm_irq_routing_entry *entry = table.head.entries;

	*entry++ = (struct kvm_irq_routing_entry){
	    .gsi = FIRST_GSI,
	    .type = KVM_IRQ_ROUTING_MSI,
	    .u.msi = {.address_lo = 0xfee00000, .data = FIRST_VECTOR}};
	if (!pc)
		*entry++ = (struct kvm_irq_routing_entry){
		    .gsi = SECOND_GSI,
		    .type = KVM_IRQ_ROUTING_MSI,
		    .u.msi = {.address_lo = 0xfee00000, .data = SECOND_VECTOR}};
	/* The 8254 is on the first line, which a PC has on the third pin. */
	for (unsigned pin = 0; pc && pin < PINS; pin++)
		*entry++ = (struct kvm_irq_routing_entry){
		    .gsi = pin == PIT_PIN ? 0 : pin,
		    .type = KVM_IRQ_ROUTING_IRQCHIP,
		    .u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = pin}};
	if (pc)
		table.head.entries[1].gsi = PIT_PIN; /* pin 0 has no use, and line 0 has its own */
	table.head.nr = (uint32_t)(entry - table.head.entries);
	MUST(vm, KVM_SET_GSI_ROUTING, &table);
}

/* Joins the device to the VM, or takes it off. */
static void join_device(bool on)
{
	static const uint32_t lines[QUEUES] = {FIRST_GSI, SECOND_GSI};

	for (unsigned i = 0; i < QUEUES; i++) {
		struct kvm_irqfd interrupt = {.fd = (uint32_t)queues[i].interrupt,
					      .gsi = lines[i],
					      .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN};
		struct kvm_ioeventfd doorbell = {.addr = i ? DOORBELL_PORT : DOORBELL_ADDRESS,
						 .len = 4,
						 .fd = queues[i].doorbell,
						 .flags = i ? KVM_IOEVENTFD_FLAG_PIO : 0};

		doorbell.flags |= on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN;
		MUST(vm, KVM_IRQFD, &interrupt);
		MUST(vm, KVM_IOEVENTFD, &doorbell);
	}
}

static void make_vm(void)
{
	uint64_t identity_map = IDENTITY_MAP;
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {PINS}};
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY,
						     .userspace_addr = (uintptr_t)memory};

	vm = MUST(kvm, KVM_CREATE_VM, 0);
	MUST(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	MUST(vm, KVM_SET_TSS_ADDR, TSS);
	if (pc) {
		MUST(vm, KVM_CREATE_IRQCHIP, 0);
		MUST(vm, KVM_CREATE_PIT2, &pit);
	} else {
		MUST(vm, KVM_ENABLE_CAP, &split);
	}
	MUST(vm, KVM_SET_USER_MEMORY_REGION, &region);
	set_routes();
	vcpu = MUST(vm, KVM_CREATE_VCPU, 0);
	run_size = (size_t)MUST(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "the vCPU's run page");
}

static void close_vm(void)
{
	munmap(run, run_size);
	close(vcpu);
	close(vm);
}

/* ---- A vCPU that starts ---- */

static union {
	struct kvm_cpuid2 head;
	uint8_t room[sizeof(struct kvm_cpuid2) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
} cpuid;

static void start_cpuid(void)
{
	cpuid.head.nent = CPUID_MAX;
	MUST(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	MUST(vcpu, KVM_SET_CPUID2, &cpuid);
}

static void start_registers(uint64_t entry)
{
	enum { PRESENT = 1, WRITABLE = 2, LARGE = 0x80 };
	uint64_t *pages = (uint64_t *)(void *)memory;
	struct kvm_segment code = {
	    .selector = 8, .limit = ~0u, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
	struct kvm_segment data = {
	    .selector = 16, .limit = ~0u, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
	struct kvm_regs regs = {.rip = entry, .rsp = STACK, .rdi = pc, .rflags = 2};
	struct kvm_sregs sregs;

	pages[GDT / 8 + 1] = 0x00af9b000000ffff;
	pages[GDT / 8 + 2] = 0x00cf93000000ffff;
	pages[PML4 / 8] = PDPT | PRESENT | WRITABLE;
	for (unsigned i = 0; i < 4; i++)
		pages[PDPT / 8 + i] = (DIRECTORIES + i * 0x1000u) | PRESENT | WRITABLE;
	for (uint64_t i = 0; i < 4 * 512ull; i++)
		pages[DIRECTORIES / 8 + i] = i << 21 | PRESENT | WRITABLE | LARGE;
	MUST(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.gdt.base = GDT;
	sregs.gdt.limit = 3 * 8 - 1;
	sregs.cr0 = 0x80000033; /* PG NE ET MP PE */
	sregs.cr3 = PML4;
	sregs.cr4 = 0x620;  /* OSXMMEXCPT OSFXSR PAE */
	sregs.efer = 0x500; /* LMA LME */
	MUST(vcpu, KVM_SET_SREGS, &sregs);
	MUST(vcpu, KVM_SET_REGS, &regs);
}

static uint64_t load_guest(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	const Elf64_Ehdr *header;
	const Elf64_Phdr *segment;

	if (fd < 0 || fstat(fd, &status))
		err(2, "%s", path);
	header = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (header == MAP_FAILED)
		err(2, "%s", path);
	segment = (const Elf64_Phdr *)(const void *)((const uint8_t *)header + header->e_phoff);
	for (unsigned i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_LOAD) {
			if (segment[i].p_paddr > MEMORY ||
			    segment[i].p_memsz > MEMORY - segment[i].p_paddr)
				errx(2, "%s is not for this VMM", path);
			memcpy(memory + segment[i].p_paddr,
			       (const uint8_t *)header + segment[i].p_offset, segment[i].p_filesz);
		}
	close(fd);
	return header->e_entry;
}

/* ---- All of a machine's state ---- */

static struct {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint8_t *xsave; /* of xsave_size */
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	struct kvm_clock_data clock;
	struct kvm_irqchip chips[CHIPS];
	struct kvm_pit_state2 pit;
	unsigned msr_count;
	struct kvm_msr_entry msrs[MSRS_MAX];
} state;

static size_t xsave_size;
static union {
	struct kvm_msr_list head;
	uint8_t room[sizeof(struct kvm_msr_list) + MSRS_MAX * sizeof(uint32_t)];
} msr_list;
static unsigned msrs_refused;

static int one_msr(unsigned long request, struct kvm_msr_entry *entry)
{
	union {
		struct kvm_msrs head;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} one = {.head.nmsrs = 1};
	int result;

	one.head.entries[0] = *entry;
	result = ioctl(vcpu, request, &one);
	*entry = one.head.entries[0];
	return result;
}

static void state_prepare(void)
{
	int size = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	xsave_size = size > 4096 ? (size_t)size : 4096;
	state.xsave = calloc(1, xsave_size);
	msr_list.head.nmsrs = MSRS_MAX;
	if (!state.xsave)
		err(1, "memory");
	MUST(kvm, KVM_GET_MSR_INDEX_LIST, &msr_list);
}

static void save(void)
{
	MUST(vcpu, KVM_GET_MP_STATE, &state.mp);
	MUST(vcpu, KVM_GET_REGS, &state.regs);
	MUST(vcpu, KVM_GET_SREGS, &state.sregs);
	if (xsave_size > 4096)
		MUST(vcpu, KVM_GET_XSAVE2, state.xsave);
	else
		MUST(vcpu, KVM_GET_XSAVE, state.xsave);
	MUST(vcpu, KVM_GET_XCRS, &state.xcrs);
	MUST(vcpu, KVM_GET_DEBUGREGS, &state.debug);
	MUST(vcpu, KVM_GET_LAPIC, &state.lapic);
	state.msr_count = 0;
	for (unsigned i = 0; i < msr_list.head.nmsrs; i++) {
		struct kvm_msr_entry *entry = &state.msrs[state.msr_count];

		*entry = (struct kvm_msr_entry){.index = msr_list.head.indices[i]};
		state.msr_count += one_msr(KVM_GET_MSRS, entry) == 1;
	}
	MUST(vcpu, KVM_GET_VCPU_EVENTS, &state.events);
	MUST(vm, KVM_GET_CLOCK, &state.clock);
	if (!pc)
		return;
	for (unsigned i = 0; i < CHIPS; i++) {
		state.chips[i].chip_id = i;
		MUST(vm, KVM_GET_IRQCHIP, &state.chips[i]);
	}
	MUST(vm, KVM_GET_PIT2, &state.pit);
}

static void restore(void)
{
	state.clock.flags = 0;
	MUST(vm, KVM_SET_CLOCK, &state.clock);
	for (unsigned i = 0; pc && i < CHIPS; i++)
		MUST(vm, KVM_SET_IRQCHIP, &state.chips[i]);
	if (pc)
		MUST(vm, KVM_SET_PIT2, &state.pit);
	MUST(vcpu, KVM_SET_CPUID2, &cpuid);
	MUST(vcpu, KVM_SET_MP_STATE, &state.mp);
	MUST(vcpu, KVM_SET_REGS, &state.regs);
	MUST(vcpu, KVM_SET_SREGS, &state.sregs);
	MUST(vcpu, KVM_SET_XSAVE, state.xsave);
	MUST(vcpu, KVM_SET_XCRS, &state.xcrs);
	MUST(vcpu, KVM_SET_DEBUGREGS, &state.debug);
	MUST(vcpu, KVM_SET_LAPIC, &state.lapic);
	/* Some may be read, but not written even with the same value. */
	msrs_refused = 0;
	for (unsigned i = 0; i < state.msr_count; i++)
		msrs_refused += one_msr(KVM_SET_MSRS, &state.msrs[i]) != 1;
	MUST(vcpu, KVM_SET_VCPU_EVENTS, &state.events);
}

/* ---- What cloud_vmm.c asks for ---- */

void machine_start(bool with_pc, const char *guest)
{
	struct kvm_msr_entry tsc = {.index = MSR_TSC, .data = TSC_START};

	pc = with_pc;
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(2, "/dev/kvm");
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "guest memory");
	state_prepare();
	device_make();
	make_vm();
	start_cpuid();
	start_registers(load_guest(guest));
	if (one_msr(KVM_SET_MSRS, &tsc) != 1)
		err(1, "the time-stamp counter");
	join_device(true);
}

void machine_move(void)
{
	pthread_mutex_lock(&device_lock);
	join_device(false);
	save();
	close_vm();
	make_vm();
	restore();
	join_device(true);
	pthread_mutex_unlock(&device_lock);
}

void machine_say_counts(void)
{
	fprintf(stderr, "state of %u MSRs, %u of them refused\n", state.msr_count, msrs_refused);
}

void machine_say_where(void)
{
	save();
	fprintf(stderr, "rip %llx, rflags %llx, state %u, shadow %u, injected %u\n", state.regs.rip,
		state.regs.rflags, state.mp.mp_state, state.events.interrupt.shadow,
		state.events.interrupt.injected);
	for (unsigned i = 0; i < 8; i++) {
		uint32_t requests;

		memcpy(&requests, state.lapic.regs + LAPIC_REQUESTS + i * LAPIC_STRIDE,
		       sizeof(requests));
		fprintf(stderr, "requested of the vectors from %u: %08x\n", i * 32, requests);
	}
	for (unsigned i = 0; i < QUEUES; i++)
		fprintf(stderr, "queue %u: argument %u, result %u, status %u\n", i,
			queues[i].argument, queues[i].result, queues[i].status);
}
