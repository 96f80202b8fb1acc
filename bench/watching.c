/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * watching.c - what it costs a guest that somebody reads its counters (figures/share.h).
 *
 * A child of this process reads them, clusters and all, as fast as it can; "without" the same
 * child does as much work on memory of its own, so that the two differ by nothing but where they
 * read. Batches of a busy guest run in turns beside the one and the other. Figures are processor
 * times of the guest's thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "watch.h"

#define BATCHES 40

/* Shared with the child. */
struct order {
	atomic_bool look, quit;
	atomic_ulong looks, passes; /* at the VM, and at memory of its own */
	atomic_bool failed;
};

static _Noreturn void read_on(struct order *order, pid_t vmm)
{
	static struct nx_share_clusters own, copy;
	struct watch watch;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!atomic_load(&order->quit)) {
		if (!atomic_load(&order->look)) {
			nx_share_clusters_copy(&copy, &own);
			atomic_fetch_add(&order->passes, 1);
		} else if (watch_read(vmm, true, &watch)) {
			atomic_store(&order->failed, true);
			break;
		} else {
			watch_free(&watch);
			atomic_fetch_add(&order->looks, 1);
		}
	}
	_exit(0);
}

static bool compare(struct bench_guest *guest, struct order *order, struct bench_samples *time,
		    double *looks)
{
	unsigned batches = bench_options.quick ? 4 : BATCHES;
	double began, seconds = 0;

	for (unsigned i = 0; i < batches; i++) {
		double without, with;

		atomic_store(&order->look, false);
		if (!bench_guest_batch(guest, &without))
			return false;
		atomic_store(&order->look, true);
		began = bench_seconds();
		if (!bench_guest_batch(guest, &with))
			return false;
		seconds += bench_seconds() - began;
		bench_sample(time, without / 1000, with / 1000);
	}
	*looks = (double)atomic_load(&order->looks) / seconds;
	return !atomic_load(&order->failed);
}

static bool watch_it(const char *name, struct bench_guest *guest, struct order *order)
{
	struct bench_samples time = {.count = 0};
	struct bench_figure figure;
	pid_t vmm = getpid(), child = fork();
	bool good;
	double looks;

	if (child < 0)
		return false;
	if (!child)
		read_on(order, vmm);
	good = compare(guest, order, &time, &looks);
	atomic_store(&order->quit, true);
	waitpid(child, NULL, 0);
	if (!good)
		return false;
	figure = bench_figure(&time);
	bench_report(name, "time of a turn, us", &figure);
	figure = (struct bench_figure){.without = 0, .with = looks, .ratio = NAN, .spread = NAN};
	bench_report(name, "looks a second", &figure);
	return true;
}

bool bench_watching(const char *name, unsigned number)
{
	struct order *order =
	    mmap(NULL, sizeof(*order), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct bench_guest *guest;
	bool good = false;

	(void)number;
	if (order == MAP_FAILED)
		return false;
	guest = bench_guest_open(name, BENCH_WORKLOAD_console);
	if (guest) {
		good = watch_it(name, guest, order);
		if (!good)
			bench_skip(name, "the guest, or who looks at it, failed: %s",
				   strerror(errno));
		bench_guest_close(guest);
	}
	munmap(order, sizeof(*order));
	return good;
}
