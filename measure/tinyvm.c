/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* tinyvm.c - see tinyvm.h. */
#define _GNU_SOURCE
#include "tinyvm.h"

#include "x86.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 0x1000u
#define GUARD TINYVM_MEMORY /* guards before and behind guest memory, which nobody touches */
#define REGION (GUARD + TINYVM_MEMORY + GUARD)
#define PTE_USER 0x7ull /* present, writable, user */
#define PTE_LARGE 0x80ull
#define RFLAGS_ALWAYS 0x2ull

uint64_t tinyvm_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Two megabytes at 0 and two of devices, for every privilege level. */
static void set_tables(struct tinyvm *vm)
{
	uint64_t *root = (uint64_t *)(vm->memory + TINYVM_TABLES);
	uint64_t *gigabytes = root + 512, *low = root + 1024, *devices = root + 1536;

	root[0] = (TINYVM_TABLES + PAGE) | PTE_USER;
	gigabytes[0] = (TINYVM_TABLES + 2 * PAGE) | PTE_USER;
	gigabytes[1] = (TINYVM_TABLES + 3 * PAGE) | PTE_USER;
	low[0] = 0 | PTE_LARGE | PTE_USER;
	devices[0] = TINYVM_DEVICE | PTE_LARGE | PTE_USER;
}

static void set_segments(const struct tinyvm *vm, struct kvm_sregs *sregs)
{
	struct kvm_segment data = {.limit = 0xffffffff,
				   .selector = (uint16_t)(16 | vm->cpl),
				   .type = 3,
				   .present = 1,
				   .dpl = (uint8_t)vm->cpl,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_segment code = data;

	code.selector = (uint16_t)(8 | vm->cpl);
	code.type = 11;
	code.db = vm->bits == 32;
	code.l = vm->bits == 64;
	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->cr0 |= NX_CR0_PE;
	if (vm->bits == 64) {
		sregs->cr3 = TINYVM_TABLES;
		sregs->cr4 |= NX_CR4_PAE;
		sregs->cr0 |= NX_CR0_PG;
		sregs->efer |= NX_EFER_LME | NX_EFER_LMA;
	}
}

static bool set_mode(struct tinyvm *vm)
{
	struct kvm_sregs sregs;

	if (vm->ioctl(vm->vcpu, KVM_GET_SREGS, &sregs))
		return false;
	if (vm->bits == 16)
		sregs.cs.base = sregs.cs.selector = 0;
	else
		set_segments(vm, &sregs);
	return !vm->ioctl(vm->vcpu, KVM_SET_SREGS, &sregs);
}

bool tinyvm_set_cpuid(struct tinyvm *vm, int vcpu)
{
	enum { ENTRIES = 256 };
	/* The structure ends in a flexible array; this is room for its entries. */
	union {
		struct kvm_cpuid2 head;
		char bytes[sizeof(struct kvm_cpuid2) + ENTRIES * sizeof(struct kvm_cpuid_entry2)];
	} cpuid = {.head.nent = ENTRIES};

	return !vm->ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) &&
	       !vm->ioctl(vcpu, KVM_SET_CPUID2, &cpuid);
}

static bool map_memory(struct tinyvm *vm)
{
	uint8_t *region = mmap(NULL, REGION, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (region == MAP_FAILED)
		return false;
	vm->memory = region + GUARD;
	return !mprotect(vm->memory, TINYVM_MEMORY, PROT_READ | PROT_WRITE);
}

static bool set_memory(struct tinyvm *vm)
{
	struct kvm_userspace_memory_region region = {
	    .memory_size = TINYVM_MEMORY,
	    .userspace_addr = (uintptr_t)vm->memory,
	};

	return !vm->ioctl(vm->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

const char *tinyvm_open(struct tinyvm *vm, int bits, int cpl, const void *code, size_t size)
{
	int run_size;

	*vm = (struct tinyvm){.ioctl = vm->ioctl ? vm->ioctl : ioctl,
			      .close = vm->close ? vm->close : close,
			      .irqchip = vm->irqchip,
			      .kvm = -1,
			      .vm = -1,
			      .vcpu = -1,
			      .bits = bits,
			      .cpl = cpl};
	if (!map_memory(vm))
		return "guest memory";
	memcpy(vm->memory + TINYVM_CODE, code, size);
	set_tables(vm);
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		return "/dev/kvm";
	vm->vm = vm->ioctl(vm->kvm, KVM_CREATE_VM, 0ul);
	if (vm->vm < 0)
		return "KVM_CREATE_VM";
	if (!set_memory(vm))
		return "KVM_SET_USER_MEMORY_REGION";
	if (vm->irqchip && vm->ioctl(vm->vm, KVM_CREATE_IRQCHIP, 0ul))
		return "KVM_CREATE_IRQCHIP";
	vm->vcpu = vm->ioctl(vm->vm, KVM_CREATE_VCPU, 0ul);
	if (vm->vcpu < 0)
		return "KVM_CREATE_VCPU";
	if (!tinyvm_set_cpuid(vm, vm->vcpu))
		return "KVM_SET_CPUID2";
	run_size = vm->ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0ul);
	if (run_size < (int)sizeof(struct kvm_run))
		return "KVM_GET_VCPU_MMAP_SIZE";
	vm->run_size = (size_t)run_size;
	vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED) {
		vm->run = NULL;
		return "the vCPU's run page";
	}
	return set_mode(vm) ? NULL : "KVM_SET_SREGS";
}

bool tinyvm_start(struct tinyvm *vm, const struct kvm_regs *regs)
{
	struct kvm_regs start = *regs;

	start.rip = TINYVM_CODE;
	if (!start.rsp)
		start.rsp = TINYVM_STACK;
	if (!start.rflags)
		start.rflags = RFLAGS_ALWAYS | (vm->cpl ? NX_FL_IOPL : 0);
	return !vm->ioctl(vm->vcpu, KVM_SET_REGS, &start);
}

/* Make KVM finish the last OUT, so that registers can be set again. */
static bool settle(struct tinyvm *vm)
{
	bool done;

	vm->run->immediate_exit = 1;
	done = vm->ioctl(vm->vcpu, KVM_RUN, 0ul) == -1 && errno == EINTR;
	vm->run->immediate_exit = 0;
	return done;
}

static void serve(struct tinyvm *vm, tinyvm_device *device, void *data)
{
	struct kvm_run *run = vm->run;
	struct tinyvm_access access = {.mmio = run->exit_reason == KVM_EXIT_MMIO, .count = 1};

	if (access.mmio) {
		access.write = run->mmio.is_write;
		access.size = (uint8_t)run->mmio.len;
		access.address = run->mmio.phys_addr;
		access.data = run->mmio.data;
	} else {
		access.write = run->io.direction == KVM_EXIT_IO_OUT;
		access.size = run->io.size;
		access.count = run->io.count;
		access.address = run->io.port;
		access.data = (char *)run + run->io.data_offset;
	}
	vm->accesses++;
	if (device)
		device(data, &access);
	else if (!access.write)
		memset(access.data, 0, (size_t)access.size * access.count);
}

bool tinyvm_run(struct tinyvm *vm, tinyvm_device *device, void *data)
{
	uint64_t start = tinyvm_now();
	struct kvm_run *run = vm->run;
	bool ended = false;

	vm->accesses = 0;
	while (!ended) {
		if (vm->ioctl(vm->vcpu, KVM_RUN, 0ul)) {
			if (errno == EINTR)
				continue;
			return false;
		}
		ended = run->exit_reason == KVM_EXIT_HLT ||
			(run->exit_reason == KVM_EXIT_IO && run->io.port == TINYVM_END &&
			 run->io.direction == KVM_EXIT_IO_OUT);
		if (!ended && run->exit_reason != KVM_EXIT_IO &&
		    run->exit_reason != KVM_EXIT_MMIO) {
			errno = EPROTO;
			return false;
		}
		if (!ended)
			serve(vm, device, data);
	}
	vm->elapsed_ns = tinyvm_now() - start;
	return settle(vm);
}

void tinyvm_close(struct tinyvm *vm)
{
	int fds[] = {vm->vcpu, vm->vm, vm->kvm};
	int saved = errno;

	if (vm->run)
		munmap(vm->run, vm->run_size);
	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
		if (fds[i] >= 0)
			vm->close(fds[i]);
	}
	if (vm->memory)
		munmap(vm->memory - GUARD, REGION);
	vm->run = NULL;
	vm->memory = NULL;
	vm->kvm = vm->vm = vm->vcpu = -1;
	errno = saved;
}
