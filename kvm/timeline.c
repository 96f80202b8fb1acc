/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * timeline.c - how many exits there had been at which time, for --stats-interval.
 *
 * A guest that halts makes no exits, so no vCPU's thread can be the clock: a thread of its own
 * looks at the counters. It takes no signals, which all belong to the VMM, and a process without
 * --stats-interval does not have it. Its memory is fixed. When it is full, every other sample goes
 * and the interval doubles, so a run of any length keeps its whole course.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "host.h"
#include "json.h"

#define SAMPLES 1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	uint64_t began;
	uint64_t interval_ms;
	unsigned count;
	uint64_t at_ms[SAMPLES], taken[SAMPLES], avoided[SAMPLES];
} timeline;

static void thin(void)
{
	for (unsigned i = 0; 2 * i + 1 < timeline.count; i++) {
		timeline.at_ms[i] = timeline.at_ms[2 * i + 1];
		timeline.taken[i] = timeline.taken[2 * i + 1];
		timeline.avoided[i] = timeline.avoided[2 * i + 1];
	}
	timeline.count /= 2;
	timeline.interval_ms *= 2;
}

/* A vCPU that is just being closed is counted by neither sum for a moment: no figure goes back. */
static uint64_t at_least(uint64_t value, const uint64_t *before)
{
	return timeline.count && value < before[timeline.count - 1] ? before[timeline.count - 1]
								    : value;
}

static void sample(void)
{
	uint64_t taken, avoided;

	nx_totals_sum(&taken, &avoided);
	pthread_mutex_lock(&lock);
	if (timeline.count == SAMPLES)
		thin();
	taken = at_least(taken, timeline.taken);
	avoided = at_least(avoided, timeline.avoided);
	timeline.at_ms[timeline.count] = (nx_real.now() - timeline.began) / 1000000;
	timeline.taken[timeline.count] = taken;
	timeline.avoided[timeline.count++] = avoided;
	pthread_mutex_unlock(&lock);
}

static uint64_t interval(void)
{
	uint64_t ms;

	pthread_mutex_lock(&lock);
	ms = timeline.interval_ms;
	pthread_mutex_unlock(&lock);
	return ms;
}

static void *watch(void *data)
{
	uint64_t due = timeline.began;

	while (nx_process_alive()) {
		struct timespec until;

		due += interval() * 1000000;
		if (due < nx_real.now())
			due = nx_real.now();
		until.tv_sec = (time_t)(due / 1000000000);
		until.tv_nsec = (long)(due % 1000000000);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		sample();
	}
	return data;
}

void nx_timeline_begin(void)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int failed;

	if (timeline.began)
		return;
	timeline.began = nx_real.now();
	timeline.interval_ms = nx_options.stats_interval;
	if (!timeline.interval_ms || !nx_options.stats)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	failed = pthread_create(&thread, &attributes, watch, NULL);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed)
		nx_say("no exits are counted by time: a thread could not be made");
}

void nx_timeline_print(struct nx_json *out)
{
	if (timeline.began && nx_options.stats_interval)
		sample();
	/* Under the lock, so that no sample is later than the end. */
	pthread_mutex_lock(&lock);
	if (timeline.began)
		nx_json_number(out, "vm_ns", nx_real.now() - timeline.began);
	if (nx_options.stats_interval) {
		nx_json_begin(out, "timeline", '{');
		nx_json_number(out, "interval_ms", timeline.interval_ms);
		nx_json_list(out, "at_ms", timeline.at_ms, timeline.count);
		nx_json_list(out, "taken", timeline.taken, timeline.count);
		nx_json_list(out, "avoided", timeline.avoided, timeline.count);
		nx_json_end(out, '}');
	}
	pthread_mutex_unlock(&lock);
}
