/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * hostile_kvm_test.c - hostile addresses on the machine's own KVM, with the library linked: what
 * the guest makes of them, memory included, is what it makes of them without noexit.
 *
 * Guest memory lies between guards (tinyvm.h), so an access past it ends this process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include <setjmp.h>

#include <cmocka.h>

#include "noexit-kvm.h"
#include "tinyvm.h"

#define TURNS 12

#define GUESTS(X) X(load) X(store) X(locked) X(indexed) X(stack) X(fill) X(input) X(tables) X(code)

#define X(name) extern const char hostile_##name[], hostile_##name##_end[];
GUESTS(X)
#undef X

static const struct {
	const char *name, *code, *end;
} guests[] = {
#define X(name) {#name, hostile_##name, hostile_##name##_end},
    GUESTS(X)
#undef X
};

/* The slot ends at a megabyte; behind it the page tables map what no slot backs. */
static const uint64_t addresses[] = {TINYVM_DATA + 8, TINYVM_MEMORY - 8, TINYVM_MEMORY - 4,
				     TINYVM_MEMORY,   TINYVM_DEVICE,     0x200000 - 4,
				     0x7ffffffffffc,  0x800000000000,    ~0ull - 3};

/* Without padding: it is compared as a whole. */
struct result {
	uint64_t ended, reason, accesses, digest;
	struct kvm_regs regs;
	uint8_t memory[TINYVM_MEMORY];
};

static void note_access(void *data, const struct tinyvm_access *access)
{
	struct result *result = data;

	/* How many elements of a string come at once is up to KVM, or to the engine. */
	for (uint32_t i = 0; i < access->count; i++) {
		char *element = (char *)access->data + (size_t)i * access->size;
		uint64_t value = 0;

		if (!access->write)
			memset(element, 0x5a, access->size);
		memcpy(&value, element, access->size);
		result->digest = (result->digest ^ value ^ access->address << 8 ^ access->size) *
				 0x9e3779b97f4a7c15ull;
		result->accesses++;
	}
}

static void run(struct tinyvm *vm, int cpl, size_t guest, uint64_t address, struct result *result)
{
	struct kvm_regs regs = {.rcx = TURNS,
				.rbx = TINYVM_DATA,
				.rdi = TINYVM_DATA,
				.rbp = address,
				.r10 = 0x1122334455667788,
				.r11 = 0x0ffffffful};
	const char *failed = tinyvm_open(vm, 64, cpl, guests[guest].code,
					 (size_t)(guests[guest].end - guests[guest].code));

	if (failed)
		fail_msg("%s: %s", failed, strerror(errno));
	memset(result, 0, sizeof(*result));
	assert_true(tinyvm_start(vm, &regs));
	result->ended = tinyvm_run(vm, note_access, result);
	result->reason = vm->run->exit_reason;
	/* After a triple fault registers are whatever the processor made of them. */
	if (result->ended)
		assert_int_equal(vm->ioctl(vm->vcpu, KVM_GET_REGS, &result->regs), 0);
	memcpy(result->memory, vm->memory, TINYVM_MEMORY);
	tinyvm_close(vm);
}

/* Accessed and dirty bits are no data, and KVM's own backends differ in them. */
static void forget_page_tables(struct result *result)
{
	memset(result->memory + TINYVM_TABLES, 0, TINYVM_DATA - TINYVM_TABLES);
}

static void attack(int cpl)
{
	static struct result plain, with_noexit;

	for (size_t guest = 0; guest < sizeof(guests) / sizeof(*guests); guest++) {
		for (size_t i = 0; i < sizeof(addresses) / sizeof(*addresses); i++) {
			struct tinyvm vm = {0}, linked = {.ioctl = nx_ioctl, .close = nx_close};

			run(&vm, cpl, guest, addresses[i], &plain);
			run(&linked, cpl, guest, addresses[i], &with_noexit);
			forget_page_tables(&plain);
			forget_page_tables(&with_noexit);
			if (memcmp(&plain, &with_noexit, sizeof(plain)) != 0)
				fail_msg("%s at %#llx, CPL %d: exit %llu %llu, accesses %llu %llu, "
					 "rip %#llx %#llx",
					 guests[guest].name, (unsigned long long)addresses[i], cpl,
					 (unsigned long long)plain.reason,
					 (unsigned long long)with_noexit.reason,
					 (unsigned long long)plain.accesses,
					 (unsigned long long)with_noexit.accesses,
					 (unsigned long long)plain.regs.rip,
					 (unsigned long long)with_noexit.regs.rip);
		}
	}
}

static void at_cpl_0(void **state)
{
	(void)state;
	attack(0);
}

static void at_cpl_3(void **state)
{
	struct nx_kvm_totals totals;

	(void)state;
	attack(3);
	/* It was the engine that was attacked. */
	nx_kvm_totals(&totals);
	assert_true(totals.avoided > 100);
}

/* ---- A guest that does not come back ---- */

extern const char hostile_spin[], hostile_spin_end[];

static struct kvm_run *running;

static void on_alarm(int number)
{
	(void)number;
	running->immediate_exit = 1;
}

/* The VMM gets its thread back by the means that it has without noexit. */
static void spinning(void **state)
{
	struct itimerval every = {{0, 100000}, {0, 100000}}, never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = on_alarm};

	(void)state;
	sigaction(SIGALRM, &action, NULL);
	for (int cpl = 0; cpl <= 3; cpl += 3) {
		struct tinyvm vm = {.ioctl = nx_ioctl, .close = nx_close};
		struct kvm_regs regs = {.rcx = 100, .rbx = TINYVM_DATA};
		int result;

		assert_null(tinyvm_open(&vm, 64, cpl, hostile_spin,
					(size_t)(hostile_spin_end - hostile_spin)));
		assert_true(tinyvm_start(&vm, &regs));
		running = vm.run;
		setitimer(ITIMER_REAL, &every, NULL);
		do {
			vm.run->immediate_exit = 0;
			do
				result = vm.ioctl(vm.vcpu, KVM_RUN, 0ul);
			while (!result);
			assert_int_equal(errno, EINTR);
			assert_int_equal(vm.ioctl(vm.vcpu, KVM_GET_REGS, &regs), 0);
		} while (!regs.r8);
		setitimer(ITIMER_REAL, &never, NULL);
		assert_int_equal(regs.rcx, 0);
		tinyvm_close(&vm);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(at_cpl_0),
	    cmocka_unit_test(at_cpl_3),
	    cmocka_unit_test(spinning),
	};
	struct tinyvm vm = {0};
	const char *failed =
	    tinyvm_open(&vm, 64, 0, hostile_load, (size_t)(hostile_load_end - hostile_load));

	tinyvm_close(&vm);
	/* Whether taking over pays here is not the question. */
	if (!failed && nx_kvm_option("limits", "unweighed"))
		failed = "nx_kvm_option";
	if (failed) {
		printf("no KVM on this machine: %s: %s\n", failed, strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
