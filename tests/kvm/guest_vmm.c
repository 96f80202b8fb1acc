/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * guest_vmm.c - a small VMM for real KVM. It prints every access and the registers at the end, so
 * that runs with and without noexit can be compared line by line.
 *
 *	guest_vmm BITS CPL [look] [sync] [kick] [slots] [log] [unmap] [tsc] [strings] [copies]
 *		[linked] [spawn]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "noexit-kvm.h"
#include "tinyvm.h"

#define TURNS 60

extern const char guest_16[], guest_16_end[], guest_32[], guest_32_end[], guest_64[],
    guest_64_end[], guest_tsc[], guest_tsc_end[], guest_strings[], guest_strings_end[],
    guest_copies[], guest_copies_end[];

static struct tinyvm vm;
static struct kvm_run *run;
static bool looks, syncs, kicks, slots, logs, linked, unmaps, reads_tsc, strings, copies;
static unsigned accesses, kicked;

static void check(bool good, const char *what)
{
	int why = errno; /* perror() may change it */

	if (good)
		return;
	perror(what);
	exit(why == ENOENT || why == EACCES || why == ENODEV ? 77 : 1);
}

/* ---- The machine ---- */

static void set_memory(void)
{
	struct kvm_userspace_memory_region region = {
	    .memory_size = TINYVM_MEMORY,
	    .userspace_addr = (uintptr_t)vm.memory,
	    .flags = logs ? KVM_MEM_LOG_DIRTY_PAGES : 0,
	};

	check(!vm.ioctl(vm.vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

static void make_machine(int bits, int cpl)
{
	const char *code = bits == 16 ? guest_16 : bits == 32 ? guest_32 : guest_64;
	const char *end = bits == 16 ? guest_16_end : bits == 32 ? guest_32_end : guest_64_end;
	struct kvm_regs regs = {.rcx = TURNS, .rsi = TINYVM_DEVICE};
	const char *failed;

	if (reads_tsc) {
		code = guest_tsc;
		end = guest_tsc_end;
	}
	if (strings) {
		code = guest_strings;
		end = guest_strings_end;
	}
	if (copies) {
		code = guest_copies;
		end = guest_copies_end;
	}
	if (linked) {
		vm.ioctl = nx_ioctl;
		vm.close = nx_close;
		/* real_test.py gives the others the same limits. */
		check(!nx_kvm_option("limits", "unweighed"), "nx_kvm_option");
	}
	failed = tinyvm_open(&vm, bits, cpl, code, (size_t)(end - code));

	check(!failed, failed);
	run = vm.run;
	if (logs)
		set_memory();
	check(tinyvm_start(&vm, &regs), "KVM_SET_REGS");
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

static void print_segments(const struct kvm_sregs *sregs)
{
	printf("ds %#x es %#x %#lx %#x fs %#lx\n", sregs->ds.selector, sregs->es.selector,
	       (long)sregs->es.base, sregs->es.limit, (long)sregs->fs.base);
}

/*
 * Only registers that no completion touches: rip at an exit is one thing on one backend and
 * another on the next.
 */
static void look(void)
{
	struct kvm_regs regs = run->s.regs.regs;
	struct kvm_sregs sregs = run->s.regs.sregs;

	if (looks)
		check(!vm.ioctl(vm.vcpu, KVM_GET_REGS, &regs), "KVM_GET_REGS");
	if (looks)
		check(!vm.ioctl(vm.vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	printf("rbx %#lx rcx %#lx rsp %#lx ", (long)regs.rbx, (long)regs.rcx, (long)regs.rsp);
	print_segments(&sregs);
}

/* Below a slot. */
static void unmap_stack(void)
{
	if (linked)
		nx_kvm_memory_changes(vm.memory, TINYVM_CODE);
	check(!munmap(vm.memory, TINYVM_CODE), "munmap");
	if (linked)
		nx_kvm_memory_changed(vm.memory, TINYVM_CODE);
}

/* Return false at the end. */
static bool handle(void)
{
	if (looks || syncs)
		look();
	if (slots && accesses % 7 == 3)
		set_memory();
	if (unmaps && accesses == 200)
		unmap_stack();
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		/* The kernel, or the engine, decides how many elements come at once. */
		for (unsigned i = 0; i < run->io.count; i++)
			access_data("io", run->io.port, run->io.size, run->io.direction,
				    (char *)run + run->io.data_offset + (size_t)i * run->io.size);
		return run->io.port != TINYVM_END;
	case KVM_EXIT_MMIO:
		access_data("mmio", run->mmio.phys_addr, run->mmio.len, run->mmio.is_write,
			    run->mmio.data);
		return true;
	default:
		printf("exit %u\n", run->exit_reason);
		return false;
	}
}

/* The pages to which, as KVM says, the guest wrote. */
static void print_log(void)
{
	uint64_t bits[TINYVM_MEMORY / 4096 / 64] = {0};
	struct kvm_dirty_log log = {.dirty_bitmap = bits};

	check(!vm.ioctl(vm.vm, KVM_GET_DIRTY_LOG, &log), "KVM_GET_DIRTY_LOG");
	for (unsigned i = 0; i < sizeof(bits) / sizeof(*bits); i++)
		printf("dirty %#lx\n", (long)bits[i]);
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
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (kicks)
		start_kicks();
	for (;;) {
		int result;

		run->kvm_valid_regs = syncs ? KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS : 0;
		result = vm.ioctl(vm.vcpu, KVM_RUN, 0);
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
	check(vm.ioctl(vm.vcpu, KVM_RUN, 0) == -1 && errno == EINTR, "KVM_RUN with immediate_exit");
	check(!vm.ioctl(vm.vcpu, KVM_GET_REGS, &regs), "KVM_GET_REGS");
	printf("end rax %#lx rbx %#lx rcx %#lx rdx %#lx rdi %#lx rip %#lx rflags %#lx\n",
	       (long)regs.rax, (long)regs.rbx, (long)regs.rcx, (long)regs.rdx, (long)regs.rdi,
	       (long)regs.rip, (long)regs.rflags);
	check(!vm.ioctl(vm.vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	print_segments(&sregs);
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
		unmaps |= !strcmp(argv[i], "unmap");
		reads_tsc |= !strcmp(argv[i], "tsc");
		strings |= !strcmp(argv[i], "strings");
		copies |= !strcmp(argv[i], "copies");
		linked |= !strcmp(argv[i], "linked");
	}
	bool spawns = argc > 3 && !strcmp(argv[3], "spawn");

	make_machine((int)strtol(argv[1], NULL, 10), (int)strtol(argv[2], NULL, 10));
	if (spawns &&
	    system("echo preload ${LD_PRELOAD-none}; env | grep -c NOEXIT") < 0) /* NOLINT */
		return 1;
	loop();
	if (logs)
		print_log();
	fprintf(stderr, "kicked %u times\n", kicked);
	if (linked)
		nx_kvm_report();
	return 0;
}
