/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cloud_guest.c - the guest of cloud_vmm.c: makes it meet each of its interfaces, and says what
 * came of it.
 *
 * It prints lines, has the two queues of a device work, each with a doorbell and an interrupt of
 * its own, counts ticks of its timers, and looks whether its registers are still as it has set
 * them. Nothing that it prints depends on time. The VMM starts it at _start in 64-bit mode, with
 * the first 4 GiB mapped and, in EDI, whether the machine has the interrupt controllers of a PC and
 * its timer.
 */
#include <stdbool.h>
#include <stdint.h>

#include "cloud_vmm.h"

#define ROUNDS 2u
#define LINES 60u
#define REQUESTS 100u
#define TICKS 4u

#define CODE_SEGMENT 8
#define VECTORS 256u
#define HLT 0xf4
#define INTERRUPT_GATE 0x8e00u

#define LSR_EMPTY 0x20

/* The local APIC's registers. */
#define APIC 0xfee00000u
#define APIC_EOI 0x0b0u
#define APIC_SPURIOUS 0x0f0u
#define APIC_TIMER 0x320u
#define APIC_INITIAL 0x380u
#define APIC_DIVIDE 0x3e0u
#define APIC_ENABLE 0x100u
#define APIC_PERIODIC 0x20000u
#define APIC_MASKED 0x10000u
#define APIC_COUNT 500000u
#define SPURIOUS_VECTOR 0xffu

#define IOAPIC 0xfec00000u
#define IOAPIC_WINDOW 0x10u
#define IOAPIC_PIN(pin) (0x10u + 2 * (pin))

/* The 8254's. */
#define PIT_DATA 0x40
#define PIT_MODE 0x43
#define PIT_RATE 0x34   /* counter 0, both bytes, mode 2 */
#define PIT_COUNT 5966u /* 200 Hz */

#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_KERNEL_GS 0xc0000102u
#define MSR_PAT 0x277u

struct gate {
	uint16_t low, segment, flags, middle;
	uint32_t high, reserved;
};

static struct gate gates[VECTORS] __attribute__((aligned(16)));
static volatile uint32_t done[2], result[2], ticks, pit_ticks, in_shadow;

/* ---- Access ---- */

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("out %0, %1" : : "a"(value), "Nd"(port));
}

static void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("out %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("in %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void write32(uint32_t address, uint32_t value)
{
	*(volatile uint32_t *)(uintptr_t)address = value;
}

static uint32_t read32(uint32_t address)
{
	return *(volatile uint32_t *)(uintptr_t)address;
}

static uint64_t read_msr(uint32_t number)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
	return (uint64_t)high << 32 | low;
}

static void write_msr(uint32_t number, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 :
			 : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(number));
}

static uint64_t time_stamp(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* ---- Text ---- */

static void put(char character)
{
	while (!(in8(SERIAL + 5) & LSR_EMPTY))
		;
	out8(SERIAL, (uint8_t)character);
}

static void say(const char *text)
{
	while (*text)
		put(*text++);
}

static void say_number(uint32_t number)
{
	char digits[10];
	unsigned count = 0;

	do
		digits[count++] = (char)('0' + number % 10);
	while (number /= 10);
	while (count)
		put(digits[--count]);
}

/* ---- Interrupts ---- */

/*
 * Each HLT of this guest is in the shadow of STI, where no interrupt comes. An emulated processor
 * of the lab lets one in if it was in the host meanwhile (docs/lab.md): it would be missed, so the
 * HLT is left out, and counted.
 */
static void leave_shadow(const uint8_t **rip)
{
	if (**rip != HLT)
		return;
	++*rip;
	in_shadow++;
}

static void complete(unsigned queue)
{
	uint32_t base = DEVICE + queue * QUEUE_SIZE;

	/* As a driver has it: what is it, what came of it, it was seen. */
	if (read32(base + QUEUE_STATUS)) {
		result[queue] = read32(base + QUEUE_RESULT);
		write32(base + QUEUE_STATUS, 0);
		done[queue]++;
	}
	write32(APIC + APIC_EOI, 0);
}

/* Defines the entry NAME of a gate, which calls on_NAME() with where it returns to. Registers other
 * than the general ones are not used. */
#define ENTRY(name)                                                                             \
	void name(void);                                                                        \
	__asm__(#name ": push %rax; push %rcx; push %rdx; push %rsi; push %rdi; push %r8; "     \
		      "push %r9; push %r10; push %r11; lea 72(%rsp), %rdi; cld; call on_" #name \
		      "; pop %r11; "                                                            \
		      "pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi; pop %rdx; pop %rcx; "    \
		      "pop %rax; iretq")

__attribute__((used)) static void on_first(const uint8_t **rip)
{
	leave_shadow(rip);
	complete(0);
}

__attribute__((used)) static void on_second(const uint8_t **rip)
{
	leave_shadow(rip);
	complete(1);
}

__attribute__((used)) static void on_timer(const uint8_t **rip)
{
	leave_shadow(rip);
	ticks++;
	write32(APIC + APIC_EOI, 0);
}

__attribute__((used)) static void on_pit(const uint8_t **rip)
{
	leave_shadow(rip);
	pit_ticks++;
	write32(APIC + APIC_EOI, 0);
}

__attribute__((used)) static void on_spurious(const uint8_t **rip)
{
	leave_shadow(rip);
}

ENTRY(first);
ENTRY(second);
ENTRY(timer);
ENTRY(pit);
ENTRY(spurious);

static void set_gate(unsigned vector, void (*entry)(void))
{
	uint64_t address = (uintptr_t)entry;

	gates[vector] = (struct gate){.low = (uint16_t)address,
				      .segment = CODE_SEGMENT,
				      .flags = INTERRUPT_GATE,
				      .middle = (uint16_t)(address >> 16),
				      .high = (uint32_t)(address >> 32)};
}

static void set_interrupts(bool pc)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) table = {sizeof(gates) - 1, (uintptr_t)gates};

	set_gate(FIRST_VECTOR, first);
	set_gate(SECOND_VECTOR, second);
	set_gate(TIMER_VECTOR, timer);
	set_gate(PIT_VECTOR, pit);
	set_gate(SPURIOUS_VECTOR, spurious);
	__asm__ volatile("lidt %0" : : "m"(table));
	write32(APIC + APIC_SPURIOUS, APIC_ENABLE | SPURIOUS_VECTOR);
	if (!pc)
		return;
	write32(IOAPIC, IOAPIC_PIN(SECOND_GSI));
	write32(IOAPIC + IOAPIC_WINDOW, SECOND_VECTOR);
	write32(IOAPIC, IOAPIC_PIN(PIT_PIN));
	write32(IOAPIC + IOAPIC_WINDOW, PIT_VECTOR);
}

/* Interrupts are let in only by the HLT that waits for one, so that none is missed. */
static void wait_for(volatile uint32_t *counter, uint32_t value)
{
	while (*counter < value)
		__asm__ volatile("sti; hlt; cli");
}

/* ---- What is tried ---- */

static void lines(void)
{
	for (uint32_t line = 0; line < LINES; line++) {
		say("guest: ");
		say_number(line);
		say(" the quick brown fox jumps over the lazy dog\n");
	}
}

static void ring(unsigned queue, uint32_t argument)
{
	write32(DEVICE + queue * QUEUE_SIZE + QUEUE_ARGUMENT, argument);
	if (queue)
		out32(DOORBELL_PORT, argument);
	else
		write32(DOORBELL_ADDRESS, argument);
}

static void requests(unsigned queue)
{
	uint32_t wrong = 0, sum = 0;

	for (uint32_t turn = 1; turn <= REQUESTS; turn++) {
		ring(queue, turn);
		wait_for(&done[queue], turn);
		wrong += result[queue] != ANSWER(turn);
		sum += result[queue];
	}
	say("guest: queue ");
	say_number(queue);
	say(" answered ");
	say_number(done[queue]);
	say(", sum ");
	say_number(sum);
	say(", wrong ");
	say_number(wrong);
	put('\n');
}

static void timers(bool pc)
{
	write32(APIC + APIC_DIVIDE, 0xb);
	write32(APIC + APIC_TIMER, TIMER_VECTOR | APIC_PERIODIC);
	write32(APIC + APIC_INITIAL, APIC_COUNT);
	wait_for(&ticks, TICKS);
	write32(APIC + APIC_TIMER, APIC_MASKED);
	say("guest: the local APIC's timer ticks\n");
	if (!pc)
		return;
	out8(PIT_MODE, PIT_RATE);
	out8(PIT_DATA, (uint8_t)PIT_COUNT);
	out8(PIT_DATA, PIT_COUNT >> 8);
	wait_for(&pit_ticks, TICKS);
	say("guest: the 8254 ticks\n");
}

static const uint64_t marks[4] __attribute__((aligned(16))) = {
    0x0123456789abcdef, 0xfedcba9876543210, 0x1122334455667788, 0x99aabbccddeeff00};

static void set_registers(void)
{
	__asm__ volatile("movaps %0, %%xmm6; movaps %1, %%xmm15" : : "m"(marks[0]), "m"(marks[2]));
	__asm__ volatile("fninit; fldpi; fldl2e");
	__asm__ volatile("mov %0, %%dr0; mov %1, %%dr3" : : "r"(marks[0]), "r"(marks[1]));
	write_msr(MSR_STAR, marks[0]);
	write_msr(MSR_LSTAR, 0x1234567890);
	write_msr(MSR_KERNEL_GS, 0x9876543210);
	write_msr(MSR_PAT, 0x0007010600070406);
}

static bool xmm_kept(void)
{
	uint64_t now[4] __attribute__((aligned(16))) = {0};

	__asm__ volatile("movaps %%xmm6, %0; movaps %%xmm15, %1"
			 : "=m"(now[0]), "=m"(now[2])
			 :
			 : "memory");
	for (unsigned i = 0; i < 4; i++)
		if (now[i] != marks[i])
			return false;
	return true;
}

/* The mantissas of log2(e) and pi, which the stack of the x87 unit has from its top. */
static bool x87_kept(void)
{
	uint8_t log[16] = {0}, pi[16] = {0};

	__asm__ volatile("fstpt %0; fstpt %1" : "=m"(log), "=m"(pi) : : "memory");
	return *(const uint64_t *)(const void *)log == 0xb8aa3b295c17f0bc &&
	       *(const uint64_t *)(const void *)pi == 0xc90fdaa22168c235;
}

static bool debug_kept(void)
{
	uint64_t first, last;

	__asm__ volatile("mov %%dr0, %0; mov %%dr3, %1" : "=r"(first), "=r"(last));
	return first == marks[0] && last == marks[1];
}

static bool msrs_kept(void)
{
	return read_msr(MSR_STAR) == marks[0] && read_msr(MSR_LSTAR) == 0x1234567890 &&
	       read_msr(MSR_KERNEL_GS) == 0x9876543210 && read_msr(MSR_PAT) == 0x0007010600070406;
}

static void say_kept(const char *what, bool kept)
{
	say("guest: ");
	say(what);
	say(kept ? " kept\n" : " LOST\n");
}

void run(bool pc);
void _start(void);

__attribute__((noreturn)) void run(bool pc)
{
	uint64_t began = time_stamp(), last = began;
	bool forward = true;

	say(pc ? "guest: on a PC's controllers\n" : "guest: on a split irqchip\n");
	set_interrupts(pc);
	set_registers();
	for (unsigned round = 0; round < ROUNDS; round++) {
		done[0] = done[1] = ticks = pit_ticks = 0;
		lines();
		requests(0);
		requests(1);
		timers(pc);
		forward = forward && time_stamp() > last;
		last = time_stamp();
	}
	say_kept("xmm registers", xmm_kept());
	say_kept("x87 registers", x87_kept());
	say_kept("debug registers", debug_kept());
	say_kept("model-specific registers", msrs_kept());
	say(forward ? "guest: time went forward\n" : "guest: time went BACK\n");
	for (;;)
		out32(END_PORT, in_shadow);
}

__attribute__((naked)) void _start(void)
{
	__asm__("call run");
}
