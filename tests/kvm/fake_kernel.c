/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* fake_kernel.c - KVM_RUN with the kernel's order of events, for one vCPU. */
#include <assert.h>
#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake.h"

#define RUN_SIZE (3 * 4096)

struct fake_kernel fake;
bool fake_has_tsc_offset;
const char *fake_statistic;
struct nx_real nx_real;
struct nx_options nx_options;
struct nx_process nx_process;
char fake_said[2048];

void nx_say(const char *format, ...)
{
	size_t used = strlen(fake_said);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(fake_said + used, sizeof(fake_said) - used, format, arguments);
	va_end(arguments);
}

bool nx_process_alive(void)
{
	return true;
}

bool nx_process_may_begin(void)
{
	return true;
}

void nx_process_has_vm(void)
{
}

/* ---- Exits ---- */

static char *io_data(void)
{
	return (char *)fake.run + KVM_PIO_PAGE_OFFSET * 4096;
}

static void exit_io(bool write, uint16_t port, uint32_t data)
{
	fake.run->exit_reason = KVM_EXIT_IO;
	fake.run->io.direction = write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	fake.run->io.size = 4;
	fake.run->io.port = port;
	fake.run->io.count = 1;
	fake.run->io.data_offset = KVM_PIO_PAGE_OFFSET * 4096;
	if (write)
		memcpy(io_data(), &data, 4);
}

static void exit_mmio(bool write, uint64_t gpa, uint64_t data)
{
	fake.run->exit_reason = KVM_EXIT_MMIO;
	fake.run->mmio.phys_addr = gpa;
	fake.run->mmio.len = 8;
	fake.run->mmio.is_write = write;
	memset(fake.run->mmio.data, 0, 8);
	if (write)
		memcpy(fake.run->mmio.data, &data, 8);
}

static void pend(enum fake_pending pending)
{
	fake.pending = pending;
	fake.pending_rip = fake.regs.rip;
	fake.pending_linear = fake.regs.rip + fake.sregs.cs.base;
}

static const struct model_insn *insn_at(uint64_t rip)
{
	uint64_t index = (rip - MODEL_BASE) / MODEL_LEN;

	assert(rip >= MODEL_BASE && index < fake.insns);
	return &fake.program[index];
}

/* kernel_pio() and vcpu_mmio_write(): a device of the kernel's own takes the write. */
static bool absorbs(bool pio, uint64_t address, unsigned size, uint64_t value)
{
	static const uint64_t one = 1;

	for (unsigned i = 0; i < FAKE_IOEVENTFDS; i++) {
		const struct kvm_ioeventfd *event = &fake.ioeventfd[i];

		if (event->fd && event->addr == address &&
		    !!(event->flags & KVM_IOEVENTFD_FLAG_PIO) == pio &&
		    !(event->flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY) &&
		    (!event->len ||
		     (event->len == size && (!(event->flags & KVM_IOEVENTFD_FLAG_DATAMATCH) ||
					     event->datamatch == value))))
			return write(event->fd, &one, sizeof(one)) == sizeof(one);
	}
	return fake_ring_takes(pio, address, size, value);
}

static int set_ioeventfd(const struct kvm_ioeventfd *args)
{
	bool deassign = args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;

	for (unsigned i = 0; i < FAKE_IOEVENTFDS; i++) {
		struct kvm_ioeventfd *event = &fake.ioeventfd[i];

		if (!deassign && !event->fd) {
			*event = *args;
			event->fd = dup(args->fd);
			return 0;
		}
		if (deassign && event->fd && event->addr == args->addr && event->len == args->len &&
		    event->datamatch == args->datamatch &&
		    event->flags == (args->flags & ~KVM_IOEVENTFD_FLAG_DEASSIGN)) {
			close(event->fd);
			*event = (struct kvm_ioeventfd){0};
			return 0;
		}
	}
	errno = ENOENT;
	return -1;
}

/* Execute one instruction; return whether it exits. */
static bool execute(const struct model_insn *insn)
{
	struct kvm_regs *regs = &fake.regs;
	uint64_t next = regs->rip + MODEL_LEN;

	switch (insn->op) {
	case M_ADD:
		regs->rax += insn->operand;
		break;
	case M_MOVE:
		regs->rcx = regs->rax;
		break;
	case M_LOOP:
		if (--regs->rdx)
			next = MODEL_BASE + insn->operand * MODEL_LEN;
		break;
	case M_STI:
		fake.events.interrupt.shadow = !(regs->rflags & RFLAGS_IF);
		regs->rflags |= RFLAGS_IF;
		break;
	case M_SHADOW:
		fake.events.interrupt.shadow = 1;
		break;
	case M_IRET:
		fake.events.nmi.masked = 0;
		/* fall through */
	case M_POPF:
		regs->rflags &= ~(uint64_t)RFLAGS_IF;
		regs->rflags |= insn->operand ? RFLAGS_IF : 0;
		break;
	case M_TPR:
		fake.tpr = (uint8_t)insn->operand;
		fake.sregs.cr8 = insn->operand >> 4;
		break;
	case M_CLI:
		regs->rflags &= ~(uint64_t)RFLAGS_IF;
		break;
	case M_SEG:
		fake.sregs.es.selector = (uint16_t)regs->rax;
		fake.sregs.es.base = (uint64_t)fake.sregs.es.selector << 4;
		break;
	case M_IN:
		pend(fake.style.emulated_in ? PENDING_READ_AGAIN : PENDING_FAST_IN);
		exit_io(false, (uint16_t)insn->operand, 0);
		return true;
	case M_OUT:
		if (absorbs(true, insn->operand, 4, (uint32_t)regs->rax))
			break;
		exit_io(true, (uint16_t)insn->operand, (uint32_t)regs->rax);
		/* kvm_fast_pio_out() */
		if (fake.style.emulated_out || (insn->operand == 0x7e && !fake.quirk_off))
			regs->rip = next;
		else
			pend(PENDING_FAST_OUT);
		return true;
	case M_OUTS:
		if (absorbs(true, insn->operand, 4, (uint32_t)regs->rax)) {
			regs->rsi += 4;
			break;
		}
		exit_io(true, (uint16_t)insn->operand, (uint32_t)regs->rax);
		regs->rsi += 4;
		regs->rip = next;
		return true;
	case M_LOAD:
		pend(PENDING_READ_AGAIN);
		exit_mmio(false, insn->operand, 0);
		return true;
	case M_STORE:
		if (absorbs(false, insn->operand, 8, regs->rcx))
			break;
		exit_mmio(true, insn->operand, regs->rcx);
		regs->rip = next;
		return true;
	case M_SPLIT:
		pend(PENDING_FRAGMENT);
		exit_mmio(true, insn->operand, regs->rcx);
		regs->rip = next;
		return true;
	case M_RMW:
		pend(PENDING_RMW);
		exit_mmio(false, insn->operand, 0);
		return true;
	case M_RDMSR:
		pend(PENDING_MSR);
		fake.run->exit_reason = KVM_EXIT_X86_RDMSR;
		fake.run->msr.index = insn->operand;
		return true;
	case M_HLT:
		fake.run->exit_reason = KVM_EXIT_HLT;
		regs->rip = next;
		return true;
	}
	regs->rip = next;
	return false;
}

static void deliver(void)
{
	if (fake.at_delivery)
		fake.at_delivery();
}

/* Deliver what gets in at the boundary at which the kernel and the processor stand; return true
 * for an exit instead. */
static bool stand(void)
{
	bool shadow = fake.events.interrupt.shadow, open = fake.regs.rflags & RFLAGS_IF && !shadow;

	if (fake.nmi_waits && !fake.events.nmi.masked && !shadow) {
		fake.nmi_waits = false;
		deliver();
	}
	if (fake.irq_waits && open && fake.irq_priority >= fake.tpr) {
		fake.irq_waits = false;
		deliver();
	}
	if (!open || !fake.run->request_interrupt_window)
		return false;
	fake.run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
	return true;
}

/*
 * An instruction and the shadow before it, which ends when the instruction has been done: with some
 * exits that is before the VMM hears of them, with the others it is as they are completed.
 */
static bool step(void)
{
	const struct model_insn *insn = insn_at(fake.regs.rip);
	uint64_t rip = fake.regs.rip;
	bool shadow = fake.events.interrupt.shadow, exits = execute(insn);

	if (shadow && fake.regs.rip != rip)
		fake.events.interrupt.shadow = 0;
	return exits;
}

/* Do what complete_userspace_io() does; return whether that causes a further exit. */
static bool complete_pending(void)
{
	const struct model_insn *insn;
	enum fake_pending pending = fake.pending;
	bool there = fake.regs.rip + fake.sregs.cs.base == fake.pending_linear;
	uint64_t data = 0;

	fake.pending = PENDING_NONE;
	switch (pending) {
	case PENDING_NONE:
		break;
	case PENDING_FAST_IN:
		if (there) {
			memcpy(&data, io_data(), 4);
			fake.regs.rax = data;
			fake.regs.rip += MODEL_LEN;
		}
		break;
	case PENDING_FAST_OUT:
		if (there)
			fake.regs.rip += MODEL_LEN;
		break;
	case PENDING_READ_AGAIN:
		insn = insn_at(fake.pending_rip);
		if (insn->op == M_IN) {
			memcpy(&data, io_data(), 4);
			fake.regs.rax = data;
		} else {
			memcpy(&fake.regs.rcx, fake.run->mmio.data, 8);
		}
		fake.regs.rip = fake.pending_rip + MODEL_LEN;
		break;
	case PENDING_MSR:
		fake.regs.rax = fake.run->msr.data;
		fake.regs.rip += MODEL_LEN;
		break;
	case PENDING_FRAGMENT:
		insn = insn_at(fake.pending_rip);
		exit_mmio(true, insn->operand + 8, fake.regs.rax);
		return true;
	case PENDING_RMW:
		insn = insn_at(fake.pending_rip);
		memcpy(&data, fake.run->mmio.data, 8);
		fake.regs.rip = fake.pending_rip + MODEL_LEN;
		if (absorbs(false, insn->operand, 8, data + fake.regs.rax))
			break;
		exit_mmio(true, insn->operand, data + fake.regs.rax);
		return true;
	}
	return false;
}

static bool complete(void)
{
	uint64_t rip = fake.regs.rip;
	bool exits = complete_pending();

	if (fake.regs.rip != rip)
		fake.events.interrupt.shadow = 0;
	return exits;
}

/* ---- KVM_RUN ---- */

static struct kvm_vcpu_events events_now(void)
{
	struct kvm_vcpu_events events = fake.events;

	events.nmi.pending |= fake.nmi_waits;
	return events;
}

static void store_regs(void)
{
	if (fake.run->kvm_valid_regs & KVM_SYNC_X86_REGS)
		fake.run->s.regs.regs = fake.regs;
	if (fake.run->kvm_valid_regs & KVM_SYNC_X86_SREGS)
		fake.run->s.regs.sregs = fake.sregs;
	if (fake.run->kvm_valid_regs & KVM_SYNC_X86_EVENTS)
		fake.run->s.regs.events = events_now();
	fake.run->ready_for_interrupt_injection = fake.regs.rflags & RFLAGS_IF &&
						  !fake.events.interrupt.shadow &&
						  !fake.events.interrupt.injected;
	fake.run->if_flag = !!(fake.regs.rflags & RFLAGS_IF);
	fake.run->flags = fake.run_flags;
}

/* __set_sregs(). What the host of its own sets is no more than segments. */
static int set_sregs(const struct kvm_sregs *sregs)
{
	struct kvm_sregs expected = fake.sregs;

	const bool strange = sregs->cr8 > 15;
	uint64_t before = fake.sregs.cr8;

	if (fake.refuses_sregs || (strange && fake.cr8 == CR8_REFUSED)) {
		errno = EINVAL;
		return -1;
	}
	expected.es = sregs->es;
	expected.es.limit = fake.sregs.es.limit;
	if (strange || fake.cr8 == CR8_CUT)
		expected.cr8 = sregs->cr8;
	assert(fake.vmm_sets || !memcmp(&expected, sregs, sizeof(expected)));
	fake.sregs = *sregs;
	fake.sregs.cr8 = strange && fake.cr8 == CR8_LEFT_ALONE ? before : sregs->cr8 & 15;
	if (!strange || fake.cr8 == CR8_CUT)
		fake.tpr = (uint8_t)(sregs->cr8 << 4);
	fake.set_sregs++;
	return 0;
}

static int take_dirty(void)
{
	uint64_t dirty = fake.run->kvm_dirty_regs;

	if (dirty & KVM_SYNC_X86_REGS) {
		fake.regs = fake.run->s.regs.regs;
		fake.events.exception.pending = 0;
	}
	fake.run->kvm_dirty_regs &= ~(uint64_t)KVM_SYNC_X86_REGS;
	if (dirty & KVM_SYNC_X86_SREGS && set_sregs(&fake.run->s.regs.sregs))
		return -1;
	assert(!(dirty & KVM_SYNC_X86_EVENTS) || fake.vmm_sets);
	if (dirty & KVM_SYNC_X86_EVENTS)
		fake.events = fake.run->s.regs.events;
	fake.run->kvm_dirty_regs = 0;
	return 0;
}

/* record_steal_time() */
static void enter(void)
{
	fake.entries++;
	fake.said_preempted = false;
	if (fake.preempted)
		fake.flushed += __atomic_exchange_n(fake.preempted, 0, __ATOMIC_SEQ_CST) >> 1;
	if (fake.events.interrupt.injected)
		deliver();
	fake.events.interrupt.injected = 0;
}

/* vcpu_put(), at the end of each ioctl on a vCPU. */
static void put(void)
{
	if (!fake.preempted || !fake.marks || (fake.said_preempted && !fake.again))
		return;
	__atomic_store_n(fake.preempted, 1, __ATOMIC_SEQ_CST);
	fake.said_preempted = true;
}

static int run(void)
{
	bool immediate = fake.run->immediate_exit;

	fake.runs++;
	fake.run->flags = 0;
	if ((fake.run->kvm_valid_regs | fake.run->kvm_dirty_regs) & ~7ull) {
		errno = EINVAL;
		return -1;
	}
	if (take_dirty())
		return -1;
	if (complete()) {
		store_regs();
		return 0;
	}
	if (immediate) {
		fake.immediate_runs++;
		if (fake.in_completion)
			fake.in_completion();
		store_regs();
		errno = EINTR;
		return -1;
	}
	enter();
	while (!stand() && !step())
		;
	store_regs();
	return 0;
}

/* ---- The other ioctls ---- */

static int get_msr(struct kvm_msr_entry *entry)
{
	if (entry->index != FAKE_MSR_STEAL_TIME) {
		entry->data = FAKE_TSC_AUX;
		return 1;
	}
	fake.asked_steal++;
	entry->data = fake.steal_msr;
	return fake.refuses_msrs ? -1 : 1;
}

/* Two statistics, of which a test names the second. */
static int make_statistics(void)
{
	static const struct kvm_stats_header header = {
	    .name_size = 48, .num_desc = 2, .desc_offset = sizeof(header)};
	char bytes[2 * (sizeof(struct kvm_stats_desc) + 48)] = {0};
	FILE *file = tmpfile();
	int fd;

	memcpy(bytes + sizeof(struct kvm_stats_desc), "exits", sizeof("exits"));
	memcpy(bytes + sizeof(bytes) - 48, fake_statistic, strlen(fake_statistic) + 1);
	assert(file);
	fd = dup(fileno(file));
	fclose(file);
	if (write(fd, &header, sizeof(header)) != sizeof(header) ||
	    write(fd, bytes, sizeof(bytes)) != sizeof(bytes))
		abort();
	return fd;
}

/* The calls that a stay may make. */
static int ask(uint32_t request, void *argument)
{
	struct kvm_device_attr *attribute = argument;
	struct kvm_nested_state *nested = argument;
	struct kvm_xsave *xsave = argument;
	struct kvm_lapic_state *lapic = argument;
	struct kvm_msrs *msrs = argument;
	unsigned size, offset = 0, ecx, edx;

	switch (request) {
	case KVM_GET_LAPIC:
		memset(lapic, 0, sizeof(*lapic));
		lapic->regs[0x80] = (char)fake.tpr;
		fake.asked_tpr++;
		return 0;
	case KVM_GET_XSAVE:
		fake.asked_pkru++;
		__get_cpuid_count(0xd, 9, &size, &offset, &ecx, &edx);
		memset(xsave, 0, sizeof(*xsave));
		memcpy((char *)xsave->region + offset, &fake.pkru, sizeof(fake.pkru));
		return 0;
	case KVM_GET_NESTED_STATE:
		nested->flags = fake.nested_flags;
		return fake.has_nested_state ? 0 : -1;
	case KVM_HAS_DEVICE_ATTR:
		return 0;
	case KVM_GET_DEVICE_ATTR:
		fake.asked_tsc++;
		if (attribute->addr)
			memcpy((void *)(uintptr_t)attribute->addr, &fake.tsc_offset,
			       sizeof(uint64_t));
		return 0;
	case KVM_GET_TSC_KHZ:
		return FAKE_TSC_KHZ;
	case KVM_SET_TSC_KHZ:
		return 0;
	case KVM_GET_MSRS:
		return get_msr(&msrs->entries[0]);
	case KVM_GET_STATS_FD:
		return fake_statistic ? make_statistics() : -1;
	}
	/* An interface of the future. */
	return request == _IO(KVMIO, 0xee) || fake.accepts_all ? 0 : -1;
}

static int vcpu_ioctl(uint32_t request, void *argument)
{
	switch (request) {
	case KVM_RUN:
		return run();
	case KVM_GET_REGS:
		*(struct kvm_regs *)argument = fake.regs;
		return 0;
	case KVM_SET_REGS:
		fake.regs = *(struct kvm_regs *)argument;
		fake.set_regs++;
		return 0;
	case KVM_GET_SREGS:
		*(struct kvm_sregs *)argument = fake.sregs;
		return 0;
	case KVM_SET_SREGS:
		return set_sregs(argument);
	case KVM_GET_DEBUGREGS:
		*(struct kvm_debugregs *)argument = fake.debugregs;
		return 0;
	case KVM_SET_VCPU_EVENTS:
		fake.events = *(struct kvm_vcpu_events *)argument;
		return 0;
	case KVM_GET_VCPU_EVENTS:
		*(struct kvm_vcpu_events *)argument = events_now();
		return 0;
	case KVM_GET_MP_STATE:
		/* kvm_apic_accept_events() */
		if (fake.init_waits)
			fake.regs = (struct kvm_regs){.rip = MODEL_BASE, .rflags = 2, .rdx = 2};
		fake.init_waits = false;
		return 0;
	case KVM_INTERRUPT:
		fake.events.interrupt.injected = 1;
		return 0;
	case KVM_SET_CPUID2:
	case KVM_ENABLE_CAP:
	case KVM_SET_SIGNAL_MASK:
	case KVM_SET_GUEST_DEBUG:
	case KVM_SET_MP_STATE:
	case KVM_SET_VAPIC_ADDR:
	case KVM_NMI:
		return 0;
	}
	errno = EINVAL;
	return ask(request, argument);
}

static int set_line(uint32_t request, struct kvm_irq_level *level)
{
	fake.line_calls++;
	if (fake.in_line)
		fake.in_line();
	if (fake.line_fails) {
		errno = fake.line_fails;
		return -1;
	}
	if (request == KVM_IRQ_LINE_STATUS)
		level->status = (uint32_t)fake.line_status;
	return 0;
}

static int vm_ioctl(uint32_t request, void *argument)
{
	if (request == KVM_IRQ_LINE || request == KVM_IRQ_LINE_STATUS)
		return set_line(request, argument);
	if (request == KVM_CREATE_VCPU)
		return argument ? FAKE_SECOND_VCPU_FD : FAKE_VCPU_FD;
	if (request == KVM_ENABLE_CAP &&
	    (((struct kvm_enable_cap *)argument)->cap == KVM_CAP_DISABLE_QUIRKS ||
	     ((struct kvm_enable_cap *)argument)->cap == KVM_CAP_DISABLE_QUIRKS2))
		fake.quirk_off =
		    ((struct kvm_enable_cap *)argument)->args[0] & KVM_X86_QUIRK_OUT_7E_INC_RIP;
	if (request == KVM_SIGNAL_MSI)
		return 1; /* delivered */
	if (request == KVM_IOEVENTFD)
		return set_ioeventfd(argument);
	if (request == KVM_REGISTER_COALESCED_MMIO || request == KVM_UNREGISTER_COALESCED_MMIO)
		return fake_ring_zone(request == KVM_REGISTER_COALESCED_MMIO, argument);
	if (request == KVM_SET_USER_MEMORY_REGION) {
		if (fake.fail_memory) {
			errno = fake.fail_memory;
			return -1;
		}
		fake.memory_changing = true;
		fake.memory_changes++;
		sched_yield(); /* lets an engine run here that should not */
		fake.memory_changing = false;
	}
	return 0;
}

static int fake_ioctl(int fd, unsigned long request, void *argument)
{
	int result;

	if (fd == FAKE_VCPU_FD) {
		if (fake.at_ioctl)
			fake.at_ioctl((uint32_t)request);
		result = vcpu_ioctl((uint32_t)request, argument);
		put();
		return result;
	}
	if (fd == FAKE_SECOND_VCPU_FD) {
		assert((uint32_t)request != KVM_RUN);
		return 0;
	}
	if (fd == FAKE_VM_FD)
		return vm_ioctl((uint32_t)request, argument);
	assert(fd == FAKE_KVM_FD);
	if ((uint32_t)request == KVM_GET_VCPU_MMAP_SIZE)
		return RUN_SIZE;
	if ((uint32_t)request == KVM_CHECK_EXTENSION && (long)argument == KVM_CAP_COALESCED_MMIO)
		return KVM_COALESCED_MMIO_PAGE_OFFSET;
	if ((uint32_t)request == KVM_CHECK_EXTENSION)
		return (long)argument == KVM_CAP_SYNC_REGS ? 7 : 1;
	errno = ENOTTY;
	return -1;
}

static void *map_vcpu(int fd, size_t size)
{
	static uint8_t second[RUN_SIZE] __attribute__((aligned(4096)));

	assert(size == RUN_SIZE);
	if (fd == FAKE_SECOND_VCPU_FD)
		return second;
	assert(fd == FAKE_VCPU_FD);
	return fake.run;
}

static void unmap_vcpu(void *page, size_t size)
{
	assert(page && size == RUN_SIZE);
}

static bool is_kvm_object(int fd, const char *what)
{
	if (!strcmp(what, "vm"))
		return fd == FAKE_VM_FD;
	return fd == FAKE_VCPU_FD || fd == FAKE_SECOND_VCPU_FD;
}

static uint64_t fake_now(void)
{
	return __atomic_load_n(&fake.clock, __ATOMIC_RELAXED);
}

static bool tsc_is_offset(void)
{
	return fake_has_tsc_offset;
}

/* ---- Start and end ---- */

struct nx_kvm_vm *fake_vm(void)
{
	return fake_vcpu()->vm;
}

/* Without keeping a count: the descriptor holds one. */
struct nx_kvm_vcpu *fake_vcpu(void)
{
	struct nx_object *object = nx_object_get(FAKE_VCPU_FD);

	assert(object);
	nx_object_put(object);
	return (struct nx_kvm_vcpu *)object;
}

void fake_start(const struct model_insn *program, unsigned insns, struct fake_style style)
{
	struct kvm_run *page = fake.run;

	fake = (struct fake_kernel){.program = program, .insns = insns, .style = style};
	fake.run = page ? page : aligned_alloc(4096, RUN_SIZE);
	memset(fake.run, 0, RUN_SIZE);
	fake.clock = 1000000000;
	fake.regs.rip = MODEL_BASE;
	fake.regs.rflags = 2;
	fake.sregs.cs.base = MODEL_CS_BASE;
	fake.sregs.es.limit = 0xfffff; /* of unreal mode */
	fake.sregs.es.type = 3;
	fake.sregs.es.s = fake.sregs.es.present = 1;
	fake.sregs.apic_base = 0xfee00900;
	*fake_said = 0;
	nx_real = (struct nx_real){
	    .ioctl = fake_ioctl,
	    .map_vcpu = map_vcpu,
	    .unmap_vcpu = unmap_vcpu,
	    .is_kvm_object = is_kvm_object,
	    .now = fake_now,
	    .close = close,
	    .tsc_is_offset = tsc_is_offset,
	};
	nx_vm_created(FAKE_KVM_FD, FAKE_VM_FD, 0);
	int fd = nx_kvm_ioctl(FAKE_VM_FD, KVM_CREATE_VCPU, NULL);

	assert(fd == FAKE_VCPU_FD);
	(void)fd;
}

void fake_stop(void)
{
	for (unsigned i = 0; i < FAKE_IOEVENTFDS; i++) {
		if (fake.ioeventfd[i].fd)
			close(fake.ioeventfd[i].fd);
	}
	nx_fd_clear(FAKE_VCPU_FD);
	if (nx_fd_known(FAKE_SECOND_VCPU_FD))
		nx_fd_clear(FAKE_SECOND_VCPU_FD);
	nx_fd_clear(FAKE_VM_FD);
}
