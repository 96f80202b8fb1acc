/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * storm_vmm.c - several vCPUs on real KVM, one machine after the other in the same process, while
 * another thread kicks them, changes memory slots, and assigns and removes ioeventfds. It prints
 * what each vCPU's devices saw: the same with and without noexit.
 *
 *	storm_vmm BITS CPL
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tinyvm.h"

#define MACHINES 3
#define CPUS 3
#define TURNS 150
#define SPARE 0x80000000u /* a slot that comes and goes */
#define NOTHING 0xc000    /* a port that no guest writes to */

extern const char guest_32[], guest_32_end[], guest_64[], guest_64_end[];

struct cpu {
	pthread_t thread;
	int fd;
	struct kvm_run *run;
	uint64_t accesses, hash;
	struct kvm_regs end;
};

static struct tinyvm vm;
static struct cpu cpu[CPUS];
static __thread struct kvm_run *running;
static atomic_uint left;

static void check(int good, const char *what)
{
	int why = errno; /* perror() may change it */

	if (good)
		return;
	perror(what);
	exit(why == ENOENT || why == EACCES || why == ENODEV ? 77 : 1);
}

/* ---- A vCPU ---- */

static void on_kick(int number)
{
	(void)number;
	if (running)
		running->immediate_exit = 1;
}

static void add(struct cpu *c, uint64_t value)
{
	c->hash = (c->hash ^ value) * 0x100000001b3ull;
}

static void device(struct cpu *c, void *data, unsigned size, int write, uint64_t address)
{
	uint64_t value = 0;

	c->accesses++;
	if (!write) {
		value = c->accesses * 0x9e3779b97f4a7c15ull >> 7 ^ address;
		memcpy(data, &value, size);
		value = 0;
	}
	memcpy(&value, data, size);
	add(c, address);
	add(c, size << 1 | (unsigned)write);
	add(c, value);
}

static void run(struct cpu *c)
{
	struct kvm_run *page = c->run;

	for (;;) {
		if (ioctl(c->fd, KVM_RUN, 0ul)) {
			check(errno == EINTR, "KVM_RUN");
			page->immediate_exit = 0;
			continue;
		}
		if (page->exit_reason == KVM_EXIT_MMIO)
			device(c, page->mmio.data, page->mmio.len, page->mmio.is_write,
			       page->mmio.phys_addr);
		else if (page->exit_reason != KVM_EXIT_IO)
			break;
		else
			device(c, (char *)page + page->io.data_offset, page->io.size,
			       page->io.direction, page->io.port);
		if (page->exit_reason == KVM_EXIT_IO && page->io.port == TINYVM_END)
			break;
	}
}

static void *cpu_main(void *data)
{
	struct cpu *c = data;

	running = c->run;
	run(c);
	running = NULL;
	c->run->immediate_exit = 1;
	check(ioctl(c->fd, KVM_RUN, 0ul) == -1 && errno == EINTR, "the end");
	check(!ioctl(c->fd, KVM_GET_REGS, &c->end), "KVM_GET_REGS");
	atomic_fetch_sub(&left, 1);
	return NULL;
}

/* ---- The machine ---- */

static void cpu_make(unsigned number, const struct kvm_sregs *sregs)
{
	struct cpu *c = &cpu[number];
	struct kvm_regs regs = {.rip = TINYVM_CODE,
				.rflags = vm.cpl ? 0x3002 : 2,
				.rcx = TURNS,
				.rsi = TINYVM_DEVICE + number * 0x1000ull,
				.rsp = TINYVM_STACK - number * 0x400ull};

	*c = (struct cpu){.fd = vm.vcpu, .run = vm.run};
	if (number) {
		c->fd = ioctl(vm.vm, KVM_CREATE_VCPU, (unsigned long)number);
		check(c->fd >= 0, "KVM_CREATE_VCPU");
		c->run = mmap(NULL, vm.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
		check(c->run != MAP_FAILED, "mmap");
		check(tinyvm_set_cpuid(&vm, c->fd), "KVM_SET_CPUID2");
		check(!ioctl(c->fd, KVM_SET_SREGS, sregs), "KVM_SET_SREGS");
	}
	check(!ioctl(c->fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static void cpu_close(unsigned number)
{
	if (number) {
		munmap(cpu[number].run, vm.run_size);
		close(cpu[number].fd);
	}
}

static void set_slot(uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *memory)
{
	struct kvm_userspace_memory_region region = {.slot = slot,
						     .flags = flags,
						     .guest_phys_addr = gpa,
						     .memory_size = size,
						     .userspace_addr = (uintptr_t)memory};

	check(!ioctl(vm.vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

static void storm(unsigned turn, void *spare, int event)
{
	struct kvm_ioeventfd args = {.addr = NOTHING,
				     .len = 2,
				     .fd = event,
				     .flags = KVM_IOEVENTFD_FLAG_PIO |
					      (turn % 2 ? KVM_IOEVENTFD_FLAG_DEASSIGN : 0)};

	pthread_kill(cpu[turn % CPUS].thread, SIGUSR1);
	/* Created, moved, deleted; the main slot is logged now and then. */
	set_slot(1, 0, SPARE + turn % 3 * 0x10000ull, turn % 3 == 2 ? 0 : 0x4000, spare);
	if (turn % 4 == 0)
		set_slot(0, turn % 8 ? 0 : KVM_MEM_LOG_DIRTY_PAGES, 0, TINYVM_MEMORY, vm.memory);
	check(!ioctl(vm.vm, KVM_IOEVENTFD, &args), "KVM_IOEVENTFD");
	usleep(200);
}

static void machine(int bits, int cpl, void *spare, int event)
{
	const char *code = bits == 32 ? guest_32 : guest_64;
	const char *end = bits == 32 ? guest_32_end : guest_64_end;
	const char *failed = tinyvm_open(&vm, bits, cpl, code, (size_t)(end - code));
	struct kvm_sregs sregs;
	unsigned turn = 0;

	check(!failed, failed);
	check(!ioctl(vm.vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	left = CPUS;
	for (unsigned i = 0; i < CPUS; i++)
		cpu_make(i, &sregs);
	for (unsigned i = 0; i < CPUS; i++)
		check(!pthread_create(&cpu[i].thread, NULL, cpu_main, &cpu[i]), "pthread_create");
	while (atomic_load(&left))
		storm(turn++, spare, event);
	for (unsigned i = 0; i < CPUS; i++) {
		pthread_join(cpu[i].thread, NULL);
		printf("cpu %u: %lu accesses %#lx rax %#lx rbx %#lx rip %#lx\n", i,
		       (long)cpu[i].accesses, (long)cpu[i].hash, (long)cpu[i].end.rax,
		       (long)cpu[i].end.rbx, (long)cpu[i].end.rip);
	}
	for (unsigned i = 0; i < CPUS; i++)
		cpu_close(i);
	tinyvm_close(&vm);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_kick};
	void *spare =
	    mmap(NULL, 0x4000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int event = eventfd(0, EFD_CLOEXEC);

	if (argc != 3)
		return 2;
	check(spare != MAP_FAILED && event >= 0, "memory");
	sigaction(SIGUSR1, &action, NULL);
	for (unsigned i = 0; i < MACHINES; i++)
		machine((int)strtol(argv[1], NULL, 10), (int)strtol(argv[2], NULL, 10), spare,
			event);
	return 0;
}
