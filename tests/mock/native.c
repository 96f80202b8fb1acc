// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * native.c - guest code on the processor under us, as the reference for what the engine did.
 *
 * Guest memory is mapped at its guest address in this process, a signal handler's return loads
 * the guest's registers, and each device access faults and is answered from the same script:
 *
 *	SIGUSR1  the way in: our own context is kept, the guest's is loaded
 *	SIGSEGV  a port instruction (privileged here), or a touch of the device's pages
 *	SIGTRAP  the step over a device-memory access; or the int3 at the end: the way out
 *
 * A device-memory access is carried out by the processor itself on a page put there for that one
 * instruction, single-stepped: no instruction is interpreted here but IN and OUT.
 *
 * 32-bit code runs in the flat segments that the system has, 16-bit code in segments of our own
 * from the local descriptor table. The processor does not do real mode this way, but for
 * instructions that load no segment 16-bit protected mode is the same.
 */
#define _GNU_SOURCE
#include "mock.h"

#include <asm/ldt.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define CS_32 0x23
#define SS_USER 0x2b
#define TRAP_FLAG 0x100u
#define GUEST_FLAGS 0xcd5u /* arithmetic, and DF */

/* The first page that a process may map by default; guest code below is not for us. */
#define LOW 0x10000u
#define DEVICE_PAGE ((uint8_t *)(uintptr_t)MOCK_DEVICE)

static struct {
	const struct mock *m;
	ucontext_t home;
	struct nx_state result;
	unsigned accesses, inputs;
	const char *trouble; /* what went wrong: a handler cannot fail a test */
	/* A device-memory access under way. */
	bool stepping;
	uint64_t address;
	uint64_t filling; /* what the page held there before */
	uint8_t saved_byte;
} native;

static bool is_16_bit(const struct mock *m)
{
	return m->mode <= MOCK_PROT16;
}

static unsigned selector(const struct mock *m, enum nx_sreg reg)
{
	if (is_16_bit(m))
		return (unsigned)reg << 3 | 7; /* the local table, privilege 3 */
	return reg == NX_CS ? CS_32 : SS_USER;
}

/* Whether the processor sees the segment, without a fault if it does not. */
static bool is_readable(unsigned selector)
{
	bool readable;

	__asm__("verr %w1" : "=@ccz"(readable) : "r"(selector));
	return readable;
}

/*
 * One entry of the local table for each segment register. false: the kernel refuses, or it runs in
 * a virtual machine where that table has no effect.
 */
static bool make_segments(const struct mock *m)
{
	for (unsigned reg = NX_ES; reg <= NX_DS; reg++) {
		struct user_desc desc = {
		    .entry_number = reg,
		    .base_addr = (unsigned)m->start.seg[reg].base,
		    .limit = m->start.seg[reg].limit,
		    .contents = reg == NX_CS ? 2 : 0,
		    .useable = 1,
		};

		if (syscall(SYS_modify_ldt, 0x11, &desc, sizeof(desc)) ||
		    !is_readable(selector(m, reg)))
			return false;
	}
	return true;
}

/* glibc numbers registers in the order of the kernel's frame, not of the processor's encoding. */
static const int greg_of[NX_GPRS] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				     REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
				     REG_R12, REG_R13, REG_R14, REG_R15};

static uint8_t *linear(uint64_t rip)
{
	return (uint8_t *)(uintptr_t)(native.m->start.seg[NX_CS].base + rip);
}

static void leave_guest(ucontext_t *context, const char *trouble)
{
	for (unsigned i = 0; i < NX_GPRS; i++)
		native.result.gpr[i] = (uint64_t)context->uc_mcontext.gregs[greg_of[i]];
	/* What 16- and 32-bit code leaves in the upper halves is nobody's. */
	for (unsigned i = 0; native.m->mode != MOCK_LONG64 && i < NX_GPRS; i++)
		native.result.gpr[i] = i < 8 ? (uint32_t)native.result.gpr[i] : 0;
	native.result.rip = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
	native.result.rflags = (uint64_t)context->uc_mcontext.gregs[REG_EFL];
	native.trouble = trouble;
	memcpy(context->uc_mcontext.gregs, native.home.uc_mcontext.gregs,
	       sizeof(native.home.uc_mcontext.gregs));
}

static void enter_guest(int signal, siginfo_t *info, void *data)
{
	ucontext_t *context = data;
	greg_t *gregs = context->uc_mcontext.gregs;
	const struct nx_state *start = &native.m->start;

	(void)signal;
	(void)info;
	native.home = *context;
	for (unsigned i = 0; i < NX_GPRS; i++)
		gregs[greg_of[i]] = (greg_t)start->gpr[i];
	gregs[REG_RIP] = (greg_t)start->rip;
	gregs[REG_EFL] &= ~(greg_t)GUEST_FLAGS;
	gregs[REG_EFL] |= (greg_t)(start->rflags & GUEST_FLAGS);
	/* The four halfwords are CS, GS, FS, SS. */
	if (native.m->mode != MOCK_LONG64)
		gregs[REG_CSGSFS] = (gregs[REG_CSGSFS] & 0x0000ffffffff0000) |
				    (greg_t)((uint64_t)selector(native.m, NX_SS) << 48) |
				    selector(native.m, NX_CS);
}

/* What the engine's run has logged for this access; the script is consumed in step with it. */
static const struct mock_access *next_access(enum nx_exit_kind kind, uint64_t where, bool write)
{
	const struct mock_access *access = &native.m->log[native.accesses];

	if (native.accesses >= native.m->exits || access->kind != kind || access->where != where ||
	    access->write != write)
		return NULL;
	native.accesses++;
	return access;
}

static bool do_port(ucontext_t *context)
{
	greg_t *gregs = context->uc_mcontext.gregs;
	const uint8_t *code = linear((uint64_t)gregs[REG_RIP]);
	unsigned size = is_16_bit(native.m) ? 2 : 4, length = 1;
	const struct mock_access *access;
	uint64_t port, mask, rax = (uint64_t)gregs[REG_RAX];
	bool write;

	if (*code == 0x66) {
		size = 6 - size;
		length++;
		code++;
	}
	if ((*code & 0xf4) != 0xe4)
		return false;
	if (!(*code & 1))
		size = 1;
	write = *code & 2;
	port = (uint64_t)gregs[REG_RDX] & 0xffff;
	if (!(*code & 8)) {
		port = code[1];
		length++;
	}
	access = next_access(NX_EXIT_IO, port, write);
	mask = (1ull << 8 * size) - 1;
	if (!access || access->size != size || (write && access->data != (rax & mask)))
		return false;
	if (!write) {
		uint64_t input = native.m->input[native.inputs++] & mask;

		gregs[REG_RAX] = (greg_t)(size == 4 ? input : (rax & ~mask) | input);
	}
	gregs[REG_RIP] += length;
	return true;
}

static bool begin_memory(ucontext_t *context, uint64_t address)
{
	const bool write = context->uc_mcontext.gregs[REG_ERR] & 2;
	const struct mock_access *access = next_access(NX_EXIT_MMIO, address, write);
	const size_t size = MOCK_DEVICE_END - MOCK_DEVICE;

	if (!access || mprotect(DEVICE_PAGE, size, PROT_READ | PROT_WRITE))
		return false;
	/* On a read more than the access takes is of no harm; on a write it must stay as it is. */
	native.filling = write ? 0x5c5c5c5c5c5c5c5c : native.m->input[native.inputs++];
	memcpy((void *)(uintptr_t)address, &native.filling, 8);
	native.address = address;
	native.stepping = true;
	context->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
	return true;
}

static bool end_memory(ucontext_t *context)
{
	const struct mock_access *access = &native.m->log[native.accesses - 1];
	uint64_t left, want = native.filling;

	context->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
	native.stepping = false;
	memcpy(&left, (void *)(uintptr_t)native.address, 8);
	if (access->write)
		memcpy(&want, &access->data, access->size);
	if (mprotect(DEVICE_PAGE, MOCK_DEVICE_END - MOCK_DEVICE, PROT_NONE))
		return false;
	return left == want;
}

static void on_fault(int signal, siginfo_t *info, void *data)
{
	ucontext_t *context = data;
	const uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
	bool good;

	(void)signal;
	if (context->uc_mcontext.gregs[REG_TRAPNO] == 14) {
		good = !native.stepping && address >= MOCK_DEVICE && address < MOCK_DEVICE_END &&
		       begin_memory(context, address);
		if (!good)
			leave_guest(context, "a device-memory access that the engine did not make");
	} else if (!do_port(context)) {
		leave_guest(context, "a port access that the engine did not make, or a fault");
	}
}

static void on_trap(int signal, siginfo_t *info, void *data)
{
	ucontext_t *context = data;

	(void)signal;
	(void)info;
	if (native.stepping) {
		if (!end_memory(context))
			leave_guest(context, "a device-memory write of other data or size");
		return;
	}
	/* Behind the int3. */
	context->uc_mcontext.gregs[REG_RIP]--;
	leave_guest(context, NULL);
}

static bool map_guest(const struct mock *m)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	void *low = (void *)(uintptr_t)LOW;
	void *ram, *device;

	ram = mmap(low, MOCK_RAM_SIZE - LOW, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0);
	if (ram != low)
		return false;
	device = mmap(DEVICE_PAGE, MOCK_DEVICE_END - MOCK_DEVICE, PROT_NONE, flags, -1, 0);
	if (device != DEVICE_PAGE) {
		munmap(ram, MOCK_RAM_SIZE - LOW);
		return false;
	}
	memcpy(ram, m->start_ram + LOW, MOCK_RAM_SIZE - LOW);
	return true;
}

static void run_guest(const struct mock *m, uint64_t stop)
{
	static const int signals[] = {SIGUSR1, SIGSEGV, SIGTRAP};
	void (*const handlers[])(int, siginfo_t *, void *) = {enter_guest, on_fault, on_trap};
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK}, old[3];
	stack_t stack = {.ss_size = 65536}, old_stack;
	uint8_t *end;

	memset(&native, 0, sizeof(native));
	native.m = m;
	end = linear(stop);
	stack.ss_sp = malloc(stack.ss_size);
	assert_non_null(stack.ss_sp);
	assert_int_equal(sigaltstack(&stack, &old_stack), 0);
	for (unsigned i = 0; i < 3; i++) {
		action.sa_sigaction = handlers[i];
		assert_int_equal(sigaction(signals[i], &action, &old[i]), 0);
	}
	native.saved_byte = *end;
	*end = 0xcc;
	/* Without effect on us: in 64-bit mode they have no base. */
	__asm__ volatile("mov %0, %%ds; mov %1, %%es"
			 :
			 : "r"(selector(m, NX_DS)), "r"(selector(m, NX_ES)));
	raise(SIGUSR1);
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(0));
	*end = native.saved_byte;
	for (unsigned i = 0; i < 3; i++)
		sigaction(signals[i], &old[i], NULL);
	sigaltstack(&old_stack, NULL);
	free(stack.ss_sp);
}

/* Some kernels run no code but 64-bit code: the guest's first instruction is not reached then. */
static bool runs_mode(const struct mock *m)
{
	run_guest(m, m->start.rip);
	return !native.trouble;
}

static void unmap_guest(void)
{
	munmap((void *)(uintptr_t)LOW, MOCK_RAM_SIZE - LOW);
	munmap(DEVICE_PAGE, MOCK_DEVICE_END - MOCK_DEVICE);
}

bool mock_check_native(const struct mock *m)
{
	static uint8_t ram[MOCK_RAM_SIZE];
	const uint64_t stop = nx_engine_state(m->engine)->rip;

	/* Under valgrind: it knows neither port instructions nor segments. */
	if (getenv("NX_NO_NATIVE"))
		return false;
	if ((is_16_bit(m) && !make_segments(m)) || !map_guest(m))
		return false;
	if (m->mode != MOCK_LONG64 && !runs_mode(m)) {
		unmap_guest();
		return false;
	}
	run_guest(m, stop);
	memcpy(ram, m->start_ram, LOW);
	memcpy(ram + LOW, (void *)(uintptr_t)LOW, MOCK_RAM_SIZE - LOW);
	unmap_guest();

	if (native.trouble)
		fail_msg("natively, at %#llx: %s", (unsigned long long)native.result.rip,
			 native.trouble);
	assert_int_equal(native.accesses, m->exits);
	mock_compare_native(m, &native.result, ram);
	return true;
}
