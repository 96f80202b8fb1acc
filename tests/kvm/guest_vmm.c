/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * guest_vmm.c - a small VMM for real KVM. It prints every access and the registers at the end, so
 * that runs with and without noexit can be compared line by line.
 *
 *	guest_vmm BITS CPL [look] [sync] [kick] [slots] [log] [spawn]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define MEMORY (1u << 20)
#define CODE 0x8000u
#define TABLES 0x10000u
#define STACK 0x7000u
#define DEVICE 0x40000000u /* one gigabyte up: no slot there */
#define TURNS 60

extern const char guest_16[], guest_16_end[], guest_32[], guest_32_end[], guest_64[],
    guest_64_end[];

static int kvm, vm, vcpu;
static struct kvm_run *run;
static char *memory;
static bool looks, syncs, kicks, slots, logs;
static unsigned accesses, kicked;

static void check(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(errno == ENOENT || errno == EACCES || errno == ENODEV ? 77 : 1);
}

/* ---- The machine ---- */

static void set_memory(void)
{
	struct kvm_userspace_memory_region region = {
	    .memory_size = MEMORY,
	    .userspace_addr = (uintptr_t)memory,
	    .flags = logs ? KVM_MEM_LOG_DIRTY_PAGES : 0,
	};

	check(!ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

/* Two megabytes at 0 and two of devices, for everybody. */
static void set_tables(void)
{
	uint64_t *table = (uint64_t *)(memory + TABLES);

	table[0] = (TABLES + 0x1000) | 7;
	table[512] = (TABLES + 0x2000) | 7;
	table[513] = (TABLES + 0x3000) | 7;
	table[1024] = 0 | 0x87;
	table[1536] = DEVICE | 0x87;
}

static void set_segments(struct kvm_sregs *sregs, int bits, int cpl)
{
	struct kvm_segment data = {.limit = 0xffffffff,
				   .selector = (uint16_t)(16 | cpl),
				   .type = 3,
				   .present = 1,
				   .dpl = (uint8_t)cpl,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_segment code = data;

	code.selector = (uint16_t)(8 | cpl);
	code.type = 11;
	code.db = bits == 32;
	code.l = bits == 64;
	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->cr0 |= 1;
	if (bits == 64) {
		sregs->cr3 = TABLES;
		sregs->cr4 |= 1 << 5;
		sregs->cr0 |= 1u << 31;
		sregs->efer |= 1 << 8 | 1 << 10;
	}
}

static void make_machine(int bits, int cpl)
{
	const char *code = bits == 16 ? guest_16 : bits == 32 ? guest_32 : guest_64;
	const char *end = bits == 16 ? guest_16_end : bits == 32 ? guest_32_end : guest_64_end;
	struct kvm_regs regs = {
	    .rip = CODE, .rflags = cpl ? 0x3002 : 2, .rcx = TURNS, .rsi = DEVICE, .rsp = STACK};
	struct kvm_sregs sregs;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	check(kvm >= 0, "/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	check(vm >= 0, "KVM_CREATE_VM");
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memcpy(memory + CODE, code, (size_t)(end - code));
	set_tables();
	set_memory();
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	check(vcpu >= 0, "KVM_CREATE_VCPU");
	run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		   MAP_SHARED, vcpu, 0);
	check(run != MAP_FAILED, "mmap");
	check(!ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	if (bits == 16)
		sregs.cs.base = sregs.cs.selector = 0;
	else
		set_segments(&sregs, bits, cpl);
	check(!ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	check(!ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

/* ---- Devices ---- */

static void access_data(const char *kind, uint64_t address, unsigned size, bool write, void *data)
{
	uint64_t value = 0;

	accesses++;
	if (!write) {
		value = accesses * 0x9e3779b97f4a7c15ull >> 7 ^ address;
		memcpy(data, &value, size);
		value = 0;
	}
	memcpy(&value, data, size);
	printf("%s %s %#lx %u %#lx\n", kind, write ? "write" : "read", (long)address, size,
	       (long)value);
}

/*
 * Only registers that no completion touches: rip at an exit is one thing on one backend and
 * another on the next.
 */
static void look(void)
{
	struct kvm_regs regs = run->s.regs.regs;

	if (looks)
		check(!ioctl(vcpu, KVM_GET_REGS, &regs), "KVM_GET_REGS");
	printf("rbx %#lx rcx %#lx rsp %#lx\n", (long)regs.rbx, (long)regs.rcx, (long)regs.rsp);
}

/* false: the end. */
static bool handle(void)
{
	if (looks || syncs)
		look();
	if (slots && accesses % 7 == 3)
		set_memory();
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		access_data("io", run->io.port, run->io.size, run->io.direction,
			    (char *)run + run->io.data_offset);
		return run->io.port != 0xf4;
	case KVM_EXIT_MMIO:
		access_data("mmio", run->mmio.phys_addr, run->mmio.len, run->mmio.is_write,
			    run->mmio.data);
		return true;
	default:
		printf("exit %u\n", run->exit_reason);
		return false;
	}
}

static void on_alarm(int number)
{
	(void)number;
	run->immediate_exit = 1;
	kicked++;
}

static void start_kicks(void)
{
	struct itimerval every = {{0, 300}, {0, 300}};
	struct sigaction action = {.sa_handler = on_alarm};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

static void loop(void)
{
	struct kvm_regs regs;

	if (kicks)
		start_kicks();
	for (;;) {
		int result;

		run->kvm_valid_regs = syncs ? KVM_SYNC_X86_REGS : 0;
		result = ioctl(vcpu, KVM_RUN, 0);
		if (result && errno == EINTR) {
			run->immediate_exit = 0;
			continue;
		}
		check(!result, "KVM_RUN");
		if (!handle())
			break;
	}
	/* The last OUT is completed as KVM demands it, before anybody looks. */
	signal(SIGALRM, SIG_IGN);
	run->immediate_exit = 1;
	check(ioctl(vcpu, KVM_RUN, 0) == -1 && errno == EINTR, "KVM_RUN with immediate_exit");
	check(!ioctl(vcpu, KVM_GET_REGS, &regs), "KVM_GET_REGS");
	printf("end rax %#lx rbx %#lx rcx %#lx rdx %#lx rdi %#lx rip %#lx rflags %#lx\n",
	       (long)regs.rax, (long)regs.rbx, (long)regs.rcx, (long)regs.rdx, (long)regs.rdi,
	       (long)regs.rip, (long)regs.rflags);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	for (int i = 3; i < argc; i++) {
		looks |= !strcmp(argv[i], "look");
		syncs |= !strcmp(argv[i], "sync");
		kicks |= !strcmp(argv[i], "kick");
		slots |= !strcmp(argv[i], "slots");
		logs |= !strcmp(argv[i], "log");
	}
	bool spawns = argc > 3 && !strcmp(argv[3], "spawn");

	make_machine((int)strtol(argv[1], NULL, 10), (int)strtol(argv[2], NULL, 10));
	if (spawns &&
	    system("echo preload ${LD_PRELOAD-none}; env | grep -c NOEXIT") < 0) /* NOLINT */
		return 1;
	loop();
	fprintf(stderr, "kicked %u times\n", kicked);
	return 0;
}
