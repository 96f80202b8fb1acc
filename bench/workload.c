/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * workload.c - small guests, each one shape of code between exits, without noexit and with it.
 *
 * Both machines live in this process: one talks to KVM directly, the other through the library.
 * They run batches in turns. A batch's length is chosen for each, so that both take as long.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <noexit-kvm.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "tinyvm.h"

#define PORT 0x3fd
#define BATCH_NS 8e6
#define WARM_UP 8          /* batches: translation, and paths that get hot one after the other */
#define RFLAGS_USER 0x3202 /* IOPL 3; interrupts on, so that the latency bound is the short one */
#define RFLAGS_KERNEL 0x202

/* The bits that devices answer with: bit 5 is ready to send, bit 3 what polling loops wait for. */
#define SEND_READY 0x20
#define POLLED 0x08

struct guest {
	const uint8_t *code, *end;
	bool user;         /* runs at CPL 3, too */
	unsigned readings; /* in a turn */
};

#define DECLARE(name, word, user, readings, help) \
	extern const uint8_t bench_guest_##name[], bench_guest_##name##_end[];
BENCH_WORKLOADS(DECLARE)
#undef DECLARE

static const struct guest guests[] = {
#define NX_X(name, word, user, readings, help) \
	{bench_guest_##name, bench_guest_##name##_end, user, readings},
    BENCH_WORKLOADS(NX_X)
#undef NX_X
};

struct watched_machine {
	struct tinyvm vm;
	unsigned workload;
	uint64_t reads;
	uint64_t turns; /* of a batch */
};

struct result {
	double ns, exits; /* for each turn */
};

static bool is_polled(const struct watched_machine *m)
{
	switch (m->workload) {
	case BENCH_WORKLOAD_polling:
	case BENCH_WORKLOAD_timeout:
		return m->reads % 1000 == 0;
	case BENCH_WORKLOAD_nested:
		return m->reads / 50 % 2;
	default:
		return false;
	}
}

static void answer(void *data, const struct tinyvm_access *access)
{
	struct watched_machine *m = data;

	if (access->write)
		return;
	m->reads++;
	memset(access->data, 0, (size_t)access->size * access->count);
	*(uint8_t *)access->data = SEND_READY | (is_polled(m) ? POLLED : 0);
	/* A clock's counter. Its update flag, in a register of the RTC's, is never set. */
	if (access->size == 4)
		memcpy(access->data, &(uint32_t){(uint32_t)m->reads}, 4);
}

/* Return the processor time of this thread, kernel and guest included: on a busy machine no
 * other time says what something costs. Nothing here ever waits. */
static double cpu_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* HLT ends a run, so each of them is a run of its own. */
static bool run_halts(struct watched_machine *m)
{
	for (uint64_t turn = 0; turn < m->turns; turn++) {
		if (!tinyvm_run(&m->vm, NULL, NULL))
			return false;
	}
	m->vm.accesses = m->turns - 1; /* the last one counts as the end */
	return true;
}

static bool run_batch(struct watched_machine *m, struct result *result)
{
	struct kvm_regs regs = {.rcx = m->turns,
				.rsi = TINYVM_DATA,
				.rdi = TINYVM_DEVICE,
				.rdx = PORT,
				.rflags = m->vm.cpl ? RFLAGS_USER : RFLAGS_KERNEL};
	struct nx_kvm_totals before, after;
	double began;
	bool good;

	if (!tinyvm_start(&m->vm, &regs))
		return false;
	nx_kvm_totals(&before);
	began = cpu_ns();
	good = (m->workload == BENCH_WORKLOAD_halt ? run_halts(m) : tinyvm_run(&m->vm, answer, m));
	if (!good)
		return false;
	result->ns = (cpu_ns() - began) / (double)m->turns;
	nx_kvm_totals(&after);
	/* The machine without noexit is not in the totals: there each access is an exit. */
	result->exits = m->vm.ioctl == nx_ioctl ? (double)(after.taken - before.taken)
						: (double)m->vm.accesses + 1;
	result->exits /= (double)m->turns;
	return true;
}

/* Find how many turns fill a batch; translations are made on the way. */
static bool calibrate(struct watched_machine *m)
{
	struct result result;
	double turns;

	m->turns = 1;
	for (unsigned i = 0; i < WARM_UP; i++) {
		if (!run_batch(m, &result))
			return false;
		turns = ceil(BATCH_NS / (result.ns > 1 ? result.ns : 1));
		/* Grow slowly, because the first turns are the slow ones. */
		m->turns = (uint64_t)fmin(turns, (double)m->turns * 8);
	}
	return true;
}

static bool measure(struct watched_machine *without, struct watched_machine *with, const char *name)
{
	unsigned samples = bench_options.quick ? 5 : 31, readings = guests[with->workload].readings;
	const char *of = readings ? "a reading" : "a turn";
	double parts = readings ? readings : 1;
	char metric[32];
	struct bench_samples time = {.count = 0}, exits = {.count = 0};
	struct bench_figure figure;
	struct result plain, avoided;

	if (!calibrate(without) || !calibrate(with))
		return false;
	for (unsigned i = 0; i < samples; i++) {
		if (!run_batch(without, &plain) || !run_batch(with, &avoided))
			return false;
		bench_sample(&time, plain.ns / parts / 1000, avoided.ns / parts / 1000);
		bench_sample(&exits, plain.exits / parts, avoided.exits / parts);
	}
	figure = bench_figure(&time);
	snprintf(metric, sizeof(metric), "time of %s, us", of);
	bench_report(name, metric, &figure);
	figure = bench_figure(&exits);
	snprintf(metric, sizeof(metric), "exits of %s", of);
	bench_report(name, metric, &figure);
	return true;
}

static const char *machine_open(struct watched_machine *m, unsigned workload, int cpl, bool avoid)
{
	const struct guest *guest = &guests[workload];

	*m = (struct watched_machine){.workload = workload};
	if (avoid) {
		m->vm.ioctl = nx_ioctl;
		m->vm.close = nx_close;
	}
	return tinyvm_open(&m->vm, 64, cpl, guest->code, (size_t)(guest->end - guest->code));
}

static bool run_at(unsigned workload, int cpl, const char *name)
{
	struct watched_machine without, with = {.vm = {.kvm = -1, .vm = -1, .vcpu = -1}};
	const char *failed = machine_open(&without, workload, cpl, false);
	bool good = false;

	if (!failed)
		failed = machine_open(&with, workload, cpl, true);
	if (failed)
		bench_skip(name, "%s: %s", failed, strerror(errno));
	else if (!(good = measure(&without, &with, name)))
		bench_skip(name, "the guest stopped with exit %u: %s", without.vm.run->exit_reason,
			   strerror(errno));
	tinyvm_close(&without.vm);
	tinyvm_close(&with.vm);
	return good;
}

struct bench_guest {
	struct watched_machine m;
};

struct bench_guest *bench_guest_open(const char *name, unsigned workload)
{
	static struct bench_guest guest;
	const char *failed;

	/* The commands find it by itself. */
	nx_kvm_watched(true);
	failed = machine_open(&guest.m, workload, 0, true);
	nx_kvm_watched(false);
	if (!failed && calibrate(&guest.m))
		return &guest;
	bench_skip(name, "%s: %s", failed ? failed : "the guest stopped", strerror(errno));
	tinyvm_close(&guest.m.vm);
	return NULL;
}

bool bench_guest_batch(struct bench_guest *guest, double *ns)
{
	struct result result;

	if (!run_batch(&guest->m, &result))
		return false;
	*ns = result.ns;
	return true;
}

void bench_guest_close(struct bench_guest *guest)
{
	tinyvm_close(&guest->m.vm);
}

double bench_round_trip(void)
{
	static struct watched_machine m;
	static bool opened, good;
	struct result result;

	if (!opened) {
		good = !machine_open(&m, BENCH_WORKLOAD_pair, 0, false);
		if (!good)
			bench_skip(
			    "the round trip of an exit",
			    "/dev/kvm: %s; the engine's figures have nothing to compare with",
			    strerror(errno));
	}
	opened = true;
	m.turns = 20;
	if (!good || !run_batch(&m, &result))
		return NAN;
	return result.ns / 2;
}

bool bench_workload(const char *name, unsigned number)
{
	char full[64];
	bool good = true;

	for (int cpl = guests[number].user ? 3 : 0; cpl >= 0; cpl -= 3) {
		snprintf(full, sizeof(full), "%s/cpl%d", name, cpl);
		good &= run_at(number, cpl, full);
	}
	return good;
}
