/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * tinyvm.h - a virtual machine of one megabyte and one vCPU, for measuring and for tests.
 *
 * It runs position-independent guest code in any mode of the processor, up to OUT to TINYVM_END or
 * HLT, and hands every other port and device access to a callback:
 *
 *	struct tinyvm vm = {0};
 *	struct kvm_regs regs = {.rcx = 1000};
 *	const char *failed = tinyvm_open(&vm, 64, 3, code, size);
 *	if (!failed && tinyvm_start(&vm, &regs) && tinyvm_run(&vm, NULL, NULL))
 *		... vm.accesses, vm.elapsed_ns ...
 *	tinyvm_close(&vm);
 *
 * Memory: TINYVM_CODE has the code, TINYVM_STACK is the top of a stack, all of the megabyte is RAM,
 * mapped one to one, and lies between guards in this process. From TINYVM_DEVICE on (2 MiB; not in
 *16 bits) nothing is: device memory. At CPL 3 the guest may use ports (IOPL 3), which is how code
 *that runs natively makes exits even where a KVM backend emulates the kernel's part of a guest.
 *
 * A struct tinyvm belongs to one thread. No function prints or exits.
 */
#ifndef NX_TINYVM_H
#define NX_TINYVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TINYVM_MEMORY (1u << 20)
#define TINYVM_STACK 0x7000u
#define TINYVM_CODE 0x8000u
#define TINYVM_TABLES 0x10000u /* page tables, three pages of them and one for devices */
#define TINYVM_DATA 0x20000u   /* from here to the end is the guest's own memory */
#define TINYVM_DEVICE 0x40000000u
#define TINYVM_END 0xf4 /* a port; an OUT of any size to it ends the run */

struct tinyvm {
	/* Set before tinyvm_open(). NULL: ioctl(2) and close(2), which noexit run interposes. */
	int (*ioctl)(int fd, unsigned long request, ...);
	int (*close)(int fd);
	bool irqchip;      /* likewise: the interrupt controllers are in the kernel */
	int kvm, vm, vcpu; /* file descriptors, or -1 */
	struct kvm_run *run;
	size_t run_size;
	uint8_t *memory; /* TINYVM_MEMORY bytes, guest-physical 0 on */
	int bits, cpl;
	/* Results of the last tinyvm_run(): */
	uint64_t accesses;   /* accesses that reached the callback; the last OUT is not counted */
	uint64_t elapsed_ns; /* wall-clock time */
};

struct tinyvm_access {
	bool mmio, write;
	uint8_t size;     /* bytes of one element */
	uint32_t count;   /* elements: more than one for INS and OUTS only */
	uint64_t address; /* port or guest-physical address */
	void *data;       /* size * count bytes, to be read (write) or filled in */
};

/* Plays the devices. */
typedef void tinyvm_device(void *data, const struct tinyvm_access *access);

/* Make the machine. bits: 16 (real mode), 32 or 64; cpl: 0 or, not in 16 bits, 3. Return NULL,
 * or the step that failed, as a word for people, with errno set. The caller calls tinyvm_close()
 * in both cases. */
const char *tinyvm_open(struct tinyvm *vm, int bits, int cpl, const void *code, size_t size);

/* Give a vCPU of the machine the CPUID that KVM supports: newer kernels let no vCPU into long
 * mode whose CPUID lacks it. tinyvm_open() has done so for the machine's own. Return false with
 * errno set on failure. */
bool tinyvm_set_cpuid(struct tinyvm *vm, int vcpu);

/* Put the vCPU before the first instruction with these registers, except rip; rsp and rflags get
 * a stack and what the privilege level needs if they are 0. May be called again after a run.
 * Return false with errno set on failure. */
bool tinyvm_start(struct tinyvm *vm, const struct kvm_regs *regs);

/* Run the guest to its end. This is a VMM's loop and nothing else, so that its time is that of
 * the exits. device may be NULL; reads give zeros then. Return false if KVM failed (errno), or
 * if the guest went elsewhere (errno is EPROTO; vm->run has the exit). */
bool tinyvm_run(struct tinyvm *vm, tinyvm_device *device, void *data);

void tinyvm_close(struct tinyvm *vm);

/* Return the nanoseconds of a clock that never goes back. */
uint64_t tinyvm_now(void);

#endif
