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

#define LVT_MASKED (1u << 16)

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
	fake.run->ready_for_interrupt_injection = fake.regs.rflags & NX_FL_IF &&
						  !fake.events.interrupt.shadow &&
						  !fake.events.interrupt.injected;
	fake.run->if_flag = !!(fake.regs.rflags & NX_FL_IF);
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

/* __set_regs() */
static void set_regs(const struct kvm_regs *regs)
{
	fake.regs = *regs;
	fake.events.exception.pending = 0;
	fake.regs_set = true;
	fake.lent += fake.pending == PENDING_ELEMENT && regs->rcx != fake.emulated.rcx;
}

static int take_dirty(void)
{
	uint64_t dirty = fake.run->kvm_dirty_regs;

	if (dirty & KVM_SYNC_X86_REGS)
		set_regs(&fake.run->s.regs.regs);
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
		fake_deliver();
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
	if (fake_complete()) {
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
	while (!fake_stand() && !fake_step())
		;
	store_regs();
	return 0;
}

/* ---- The other ioctls ---- */

static int get_msr(struct kvm_msr_entry *entry)
{
	if (entry->index == NX_MSR_TSC || entry->index == NX_MSR_TSC_DEADLINE) {
		fake.asked_deadline++;
		entry->data = entry->index == NX_MSR_TSC ? fake.tsc : fake.deadline;
		return fake.refuses_msrs ? -1 : 1;
	}
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

static void get_lapic(struct kvm_lapic_state *lapic)
{
	uint32_t request = 1u << fake.irq_priority % 32;

	memset(lapic, 0, sizeof(*lapic));
	lapic->regs[0x80] = (char)fake.tpr;
	if (fake.irq_waits)
		memcpy(lapic->regs + 0x200 + fake.irq_priority / 32u * 0x10, &request, 4);
	memcpy(lapic->regs + 0x320, &fake.lvtt, 4);
	memcpy(lapic->regs + 0x350, &fake.lvt0, 4);
	memcpy(lapic->regs + 0x380, &fake.tmict, 4);
	memcpy(lapic->regs + 0x390, &fake.tmcct, 4);
	fake.asked_tpr++;
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
		get_lapic(lapic);
		return fake.refuses_lapic ? -1 : 0;
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
		set_regs(argument);
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
	if (request == KVM_GET_IRQCHIP) {
		struct kvm_irqchip *chip = argument;

		fake.asked_pic++;
		assert(chip->chip_id == KVM_IRQCHIP_PIC_MASTER);
		chip->chip.pic.irr = fake.pic_requests;
		chip->chip.pic.imr = fake.pic_masked;
		return 0;
	}
	if (request == KVM_SIGNAL_MSI)
		return 1; /* delivered */
	if (request == KVM_IOEVENTFD)
		return fake_ioeventfd_set(argument);
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
	fake.sregs.apic_base = fake.run->apic_base = 0xfee00900;
	fake.lvtt = fake.lvt0 = LVT_MASKED;
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

int fake_teardown(void **state)
{
	(void)state;
	fake_stop();
	return 0;
}
