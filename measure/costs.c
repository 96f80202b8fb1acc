/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * costs.c - see costs.h. Every figure is the median of RUNS runs, each long enough that the clock
 * and the start of the run do not matter. The engine's figure is taken in a second run on the same
 * vCPU: in the first one it sees the code for the first time.
 */
#include "costs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

#include "noexit-kvm.h"
#include "tinyvm.h"

#define RUNS 5
#define RUN_NS 20000000u /* the shortest run, of speed and of round trips alike */

extern const char cost_guest_pio[], cost_guest_pio_end[];
extern const char cost_guest_mmio[], cost_guest_mmio_end[];
extern const char cost_guest_nothing[], cost_guest_nothing_end[];
extern const char cost_guest_stock[], cost_guest_stock_end[];

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

static double median(double *value)
{
	qsort(value, RUNS, sizeof(*value), compare);
	return value[RUNS / 2];
}

/* ---- Guest code ---- */

/* Run so many turns; return the time in nanoseconds, or 0 if the run failed. */
static double run_ns(struct tinyvm *vm, uint32_t turns)
{
	struct kvm_regs regs = {.rcx = turns, .rsi = TINYVM_DEVICE, .rdi = TINYVM_DATA};

	if (!tinyvm_start(vm, &regs) || !tinyvm_run(vm, NULL, NULL))
		return 0;
	return vm->elapsed_ns ? (double)vm->elapsed_ns : 1;
}

/* Return the nanoseconds of one turn, measured by as many turns as fill a run; 0 if the run
 * failed. */
static double turn_ns(struct tinyvm *vm)
{
	double value[RUNS], once;
	uint32_t turns = 64;

	for (;;) {
		once = run_ns(vm, turns);
		if (once == 0)
			return 0;
		if (once >= RUN_NS / 2.0 || turns >= 1u << 30)
			break;
		turns *= 2;
	}
	for (unsigned i = 0; i < RUNS; i++) {
		value[i] = run_ns(vm, turns) / turns;
		if (value[i] == 0)
			return 0;
	}
	return median(value);
}

static const char *measure_guest(int cpl, const char *code, const char *end, double *ns)
{
	struct tinyvm vm = {0};
	const char *failed = tinyvm_open(&vm, 64, cpl, code, (size_t)(end - code));

	if (!failed) {
		*ns = turn_ns(&vm);
		failed = *ns == 0 ? "KVM_RUN" : NULL;
	}
	tinyvm_close(&vm);
	return failed;
}

/* ---- The engine ---- */

static const char *measure_engine(int cpl, double *ns, double *avoided)
{
	struct tinyvm vm = {.ioctl = nx_ioctl, .close = nx_close};
	const char *failed = tinyvm_open(&vm, 64, cpl, cost_guest_pio,
					 (size_t)(cost_guest_pio_end - cost_guest_pio));
	struct nx_kvm_totals before, after;

	if (!failed) {
		nx_kvm_totals(&before);
		*ns = turn_ns(&vm);
		nx_kvm_totals(&after);
		failed = *ns == 0 ? "KVM_RUN" : NULL;
		after.taken -= before.taken;
		after.avoided -= before.avoided;
		*avoided = (double)after.avoided / (double)(after.avoided + after.taken + 1);
	}
	tinyvm_close(&vm);
	return failed;
}

/* ---- Calls ---- */

static double call_ns(struct tinyvm *vm, unsigned long request, void *argument)
{
	enum { CALLS = 1000 };
	double value[RUNS];

	for (unsigned i = 0; i < RUNS; i++) {
		uint64_t start = tinyvm_now();

		for (unsigned call = 0; call < CALLS; call++)
			vm->ioctl(vm->vcpu, request, argument);
		value[i] = (double)(tinyvm_now() - start) / CALLS;
	}
	return median(value);
}

static const char *measure_calls(struct nx_measured *costs)
{
	struct tinyvm vm = {0};
	const char *failed = tinyvm_open(&vm, 64, 3, cost_guest_nothing,
					 (size_t)(cost_guest_nothing_end - cost_guest_nothing));
	struct kvm_regs regs;

	if (!failed && run_ns(&vm, 1) == 0)
		failed = "KVM_RUN";
	if (!failed) {
		costs->ns[NX_MEASURE_GET_REGS] = call_ns(&vm, KVM_GET_REGS, &regs);
		vm.run->immediate_exit = 1;
		vm.run->kvm_valid_regs =
		    KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
		costs->ns[NX_MEASURE_IMMEDIATE_EXIT] = call_ns(&vm, KVM_RUN, NULL);
	}
	tinyvm_close(&vm);
	return failed;
}

static double tsc_per_ns(void)
{
	uint64_t start = tinyvm_now(), ticks = __rdtsc(), end;

	do
		end = tinyvm_now();
	while (end - start < RUN_NS);
	return (double)(__rdtsc() - ticks) / (double)(end - start);
}

const char *nx_measure_costs(struct nx_measured *costs)
{
	const char *failed;

	*costs = (struct nx_measured){.cycles_per_ns = tsc_per_ns()};
	failed = measure_calls(costs);
	for (unsigned user = 0; user < 2 && !failed; user++) {
		int cpl = user ? 3 : 0;

		failed = measure_guest(cpl, cost_guest_pio, cost_guest_pio_end,
				       &costs->ns[NX_MEASURE_PIO_0 + user]);
		if (!failed)
			failed = measure_guest(cpl, cost_guest_mmio, cost_guest_mmio_end,
					       &costs->ns[NX_MEASURE_MMIO_0 + user]);
		if (!failed)
			failed = measure_guest(cpl, cost_guest_nothing, cost_guest_nothing_end,
					       &costs->turn_ns[user]);
		if (!failed)
			failed = measure_engine(cpl, &costs->ns[NX_MEASURE_ENGINE_0 + user],
						&costs->avoided[user]);
	}
	return failed;
}

/* ---- Instructions that a stock kernel needs ---- */

static bool set_cpuid(struct tinyvm *vm)
{
	enum { ENTRIES = 256 };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(*cpuid->entries));
	bool done = false;

	if (cpuid) {
		cpuid->nent = ENTRIES;
		done = !vm->ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) &&
		       !vm->ioctl(vm->vcpu, KVM_SET_CPUID2, cpuid);
	}
	free(cpuid);
	return done;
}

bool nx_runs_stock_kernel(void)
{
	struct tinyvm vm = {0};
	bool runs = !tinyvm_open(&vm, 64, 0, cost_guest_stock,
				 (size_t)(cost_guest_stock_end - cost_guest_stock)) &&
		    set_cpuid(&vm) && run_ns(&vm, 1) != 0;

	tinyvm_close(&vm);
	return runs;
}
