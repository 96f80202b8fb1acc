// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vmm.c - a statically linked VMM for the kernel host's tests:
 * vmm PROGRAM MODE TURNS [flip|slots|dirty]
 *
 * It runs one program of guests.S in one mode: 16, 32, 64 (kernel mode), 32u, 64u (user mode,
 * IOPL 3). It prints one line: a digest of the data that the guest and its devices have seen, the
 * number of exits that KVM has counted, the number that reached this process, and the guest's time
 * in microseconds. With a fourth
 * argument a second thread takes the guest's pages away while it runs: flip replaces the code's
 * page by another one with the same code, slots adds and deletes a memory slot, dirty switches
 * dirty logging on and off.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY 0x400000u
#define CODE 0x1000u
#define TABLES 0x10000u
#define END_PORT 0xf4
#define MAX_CPUID 256

#define X(name)                                                                             \
	extern const uint8_t guest_##name##_16[], guest_##name##_32[], guest_##name##_64[]; \
	extern const char guest_##name##_16_size[], guest_##name##_32_size[],               \
	    guest_##name##_64_size[];
#include "programs.h"
#undef X

struct code {
	const uint8_t *bytes;
	const char *size; /* its address is the size */
};

static const struct program {
	const char *name;
	struct code code[3]; /* of 16, 32, 64 bits */
} programs[] = {
#define X(name)                                        \
	{#name,                                        \
	 {{guest_##name##_16, guest_##name##_16_size}, \
	  {guest_##name##_32, guest_##name##_32_size}, \
	  {guest_##name##_64, guest_##name##_64_size}}},
#include "programs.h"
#undef X
};

struct machine {
	int kvm, vm, vcpu;
	uint8_t *memory;
	struct kvm_run *run;
};

__attribute__((noreturn)) static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- Making a machine ---- */

static void set_cpuid(const struct machine *m)
{
	struct kvm_cpuid2 *cpuid =
	    calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(struct kvm_cpuid_entry2));

	if (!cpuid)
		die("calloc");
	cpuid->nent = MAX_CPUID;
	if (ioctl(m->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		die("CPUID");
	/* KVM reports the APIC ID of the processor that runs this thread, which differs by run. */
	for (unsigned i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			cpuid->entries[i].ebx &= 0xffffff;
	if (ioctl(m->vcpu, KVM_SET_CPUID2, cpuid) < 0)
		die("CPUID");
	free(cpuid);
}

static void machine_make(struct machine *m)
{
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY};
	struct kvm_pit_config pit = {0};
	int size;

	m->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	m->vm = m->kvm < 0 ? -1 : ioctl(m->kvm, KVM_CREATE_VM, 0);
	if (m->vm < 0)
		die("/dev/kvm");
	m->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->memory == MAP_FAILED)
		die("mmap");
	region.userspace_addr = (uintptr_t)m->memory;
	if (ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ||
	    ioctl(m->vm, KVM_CREATE_IRQCHIP, 0) < 0 || ioctl(m->vm, KVM_CREATE_PIT2, &pit) < 0)
		die("KVM's memory and devices");
	m->vcpu = ioctl(m->vm, KVM_CREATE_VCPU, 0);
	size = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (m->vcpu < 0 || size < 0)
		die("vCPU");
	m->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	if (m->run == MAP_FAILED)
		die("run page");
	set_cpuid(m);
}

/* ---- Modes ---- */

static struct kvm_segment flat(unsigned type, unsigned bits, unsigned dpl)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = (uint16_t)((type & 8 ? 8 : 16) | dpl),
				    .type = (uint8_t)type,
				    .present = 1,
				    .dpl = (uint8_t)dpl,
				    .db = bits == 32,
				    .s = 1,
				    .l = type & 8 && bits == 64,
				    .g = 1};
}

/* Map the first 4 MiB identically, for user and kernel mode. */
static void make_tables(struct machine *m, struct kvm_sregs *sregs, unsigned bits)
{
	uint64_t *wide = (uint64_t *)(void *)(m->memory + TABLES);
	uint32_t *narrow = (uint32_t *)(void *)(m->memory + TABLES);

	sregs->cr3 = TABLES;
	if (bits == 32) {
		narrow[0] = 0x87; /* present, writable, user, 4 MiB */
		sregs->cr4 |= 0x10;
	} else {
		wide[0] = TABLES + 0x1007;
		wide[0x200] = TABLES + 0x2007;
		wide[0x400] = 0x87;
		wide[0x401] = 0x200087;
		wide[0x203] = TABLES + 0x3007; /* the fourth GiB, where devices are */
		for (unsigned i = 0; i < 512; i++)
			wide[0x600 + i] = 0xc0000087 + 0x200000ull * i;
		sregs->cr4 |= 0x20;
		sregs->efer |= 0x500;
	}
	sregs->cr0 |= 0x80000000;
}

static void set_mode(struct machine *m, unsigned bits, bool user, unsigned turns)
{
	struct kvm_regs regs = {
	    .rip = CODE, .rsp = 0x9000, .rdi = turns, .rflags = user ? 0x3002 : 2};
	unsigned dpl = user ? 3 : 0;
	struct kvm_sregs sregs;

	if (ioctl(m->vcpu, KVM_GET_SREGS, &sregs) < 0)
		die("KVM_GET_SREGS");
	sregs.cr4 |= 0x200; /* vector registers */
	if (bits == 16) {
		sregs.cs.base = sregs.cs.selector = 0;
	} else {
		sregs.cs = flat(11, bits, dpl);
		sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(3, bits, dpl);
		sregs.ss.db = 1;
		sregs.cr0 |= 1;
		if (bits == 64 || user)
			make_tables(m, &sregs, bits);
	}
	if (ioctl(m->vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(m->vcpu, KVM_SET_REGS, &regs) < 0)
		die("registers");
}

/* ---- Pages that go away ---- */

static struct disturber {
	struct machine *machine;
	const char *how;
	volatile bool stop;
	unsigned rounds;
} disturber;

/* Replace the page of the code by a copy, which the guest does not notice. */
static void flip(struct machine *m)
{
	uint8_t *page =
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		die("mmap");
	memcpy(page, m->memory + CODE, 4096);
	if (mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, m->memory + CODE) == MAP_FAILED)
		die("mremap");
}

/* Add and delete a slot that the guest does not use: KVM then builds new roots. */
static void change_slots(struct machine *m)
{
	struct kvm_userspace_memory_region region = {.slot = 1,
						     .guest_phys_addr = 0x10000000,
						     .memory_size = 0x1000,
						     .userspace_addr = (uintptr_t)m->memory};

	if (ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		die("slot");
	region.memory_size = 0;
	if (ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		die("slot");
}

static void change_logging(struct machine *m, bool on)
{
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY,
						     .flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0,
						     .userspace_addr = (uintptr_t)m->memory};

	if (ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		die("dirty log");
}

static void *disturb(void *data)
{
	struct disturber *d = data;

	for (; !d->stop; d->rounds++) {
		if (!strcmp(d->how, "flip"))
			flip(d->machine);
		else if (!strcmp(d->how, "slots"))
			change_slots(d->machine);
		else
			change_logging(d->machine, d->rounds % 2 == 0);
	}
	return NULL;
}

/* ---- Running ---- */

static uint64_t fold(uint64_t digest, uint64_t value)
{
	return (digest << 7 | digest >> 57) + value * 0x9e3779b97f4a7c15ull;
}

/* Emulate a port access. Input depends on all earlier output, so that a lost or doubled access
 * changes the digest. */
static void port(struct kvm_run *run, uint64_t *digest)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	uint32_t value = 0;

	for (unsigned i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, run->io.size);
			*digest = fold(*digest, value ^ (uint64_t)run->io.port << 32);
		} else {
			*digest = fold(*digest, run->io.port);
			memcpy(data, digest, run->io.size);
		}
	}
}

static void device(struct kvm_run *run, uint64_t *digest)
{
	uint64_t value = 0;

	*digest = fold(*digest, run->mmio.phys_addr << 4 | run->mmio.len);
	if (run->mmio.is_write) {
		memcpy(&value, run->mmio.data, run->mmio.len);
		*digest = fold(*digest, value);
	} else {
		memcpy(run->mmio.data, digest, run->mmio.len);
	}
}

static unsigned run_guest(struct machine *m, uint64_t *digest)
{
	struct kvm_run *run = m->run;
	unsigned exits = 0;

	for (;; exits++) {
		if (ioctl(m->vcpu, KVM_RUN, NULL) < 0)
			die("KVM_RUN");
		if (run->exit_reason == KVM_EXIT_MMIO) {
			device(run, digest);
			continue;
		}
		if (run->exit_reason != KVM_EXIT_IO) {
			printf("KVM_RUN ended with reason %u\n", run->exit_reason);
			exit(1);
		}
		if (run->io.port == END_PORT)
			break;
		port(run, digest);
	}
	*digest = fold(*digest, *(uint32_t *)(void *)((uint8_t *)run + run->io.data_offset));
	return exits;
}

/* Return a statistic of the vCPU by its name. */
static uint64_t statistic(const struct machine *m, const char *name)
{
	struct kvm_stats_header header;
	uint64_t value = 0;
	int fd = ioctl(m->vcpu, KVM_GET_STATS_FD, NULL);

	if (fd < 0 || pread(fd, &header, sizeof(header), 0) != sizeof(header))
		die("statistics");
	for (unsigned i = 0; i < header.num_desc; i++) {
		union {
			struct kvm_stats_desc desc;
			char bytes[sizeof(struct kvm_stats_desc) + 128];
		} d = {0};
		size_t size = sizeof(d.desc) + header.name_size;

		if (size > sizeof(d) ||
		    pread(fd, &d, size, (off_t)(header.desc_offset + i * size)) != (ssize_t)size)
			die("statistics");
		if (!strcmp(d.desc.name, name) &&
		    pread(fd, &value, sizeof(value), (off_t)header.data_offset + d.desc.offset) !=
			sizeof(value))
			die("statistics");
	}
	close(fd);
	return value;
}

static uint64_t microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int main(int count, char **argument)
{
	struct machine m;
	struct kvm_regs regs;
	uint64_t digest = 0, took;
	unsigned bits, vmm_exits;
	pthread_t thread;
	bool user;

	if (count != 4 && count != 5)
		die("usage: vmm PROGRAM MODE TURNS");
	bits = (unsigned)strtoul(argument[2], NULL, 10);
	user = strchr(argument[2], 'u') != NULL;
	for (unsigned i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		const struct code *code = &programs[i].code[bits / 32];

		if (strcmp(programs[i].name, argument[1]) != 0)
			continue;
		machine_make(&m);
		memcpy(m.memory + CODE, code->bytes, (size_t)(uintptr_t)code->size);
		set_mode(&m, bits, user, (unsigned)strtoul(argument[3], NULL, 10));
		disturber = (struct disturber){&m, count == 5 ? argument[4] : NULL, false, 0};
		if (count == 5 && pthread_create(&thread, NULL, disturb, &disturber))
			die("pthread_create");
		took = microseconds();
		vmm_exits = run_guest(&m, &digest);
		took = microseconds() - took;
		disturber.stop = true;
		if (count == 5) {
			pthread_join(thread, NULL);
			printf("%s: %u rounds\n", argument[4], disturber.rounds);
		}
		if (ioctl(m.vcpu, KVM_GET_REGS, &regs) < 0)
			die("KVM_GET_REGS");
		digest = fold(digest, regs.rip);
		digest = fold(digest, regs.rflags);
		printf("%s %s: digest %016llx exits %llu vmm %u us %llu\n", argument[1],
		       argument[2], (unsigned long long)digest,
		       (unsigned long long)statistic(&m, "exits"), vmm_exits,
		       (unsigned long long)took);
		return 0;
	}
	die("no such program");
}
