/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * timer.c - how late a guest's periodic timer wakes up: runs in guests of the lab, linked
 * statically.
 *
 * usage: timer LABEL PERIOD_US COUNT. The lateness of each wake-up against the moment it was due;
 * after one that was late by more than a period the next is due a period later. Prints one line
 * that does not begin with "guest: ", since no two runs are alike.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define MAX_WAKES 100000

static uint32_t late_us[MAX_WAKES];

static int64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void sleep_until(int64_t ns)
{
	struct timespec time = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR)
		;
}

static int compare(const void *one, const void *other)
{
	uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
	/* Nothing else of userspace keeps it from running. */
	const struct sched_param first = {.sched_priority = 50};
	long period = argc == 4 ? strtol(argv[2], NULL, 10) : 0,
	     count = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
	int64_t due, now;

	if (period < 1 || count < 1 || count > MAX_WAKES) {
		fprintf(stderr, "usage: timer LABEL PERIOD_US COUNT, at most %d\n", MAX_WAKES);
		return 2;
	}
	if (sched_setscheduler(0, SCHED_FIFO, &first) || mlockall(MCL_CURRENT)) {
		perror("timer");
		return 1;
	}
	due = now_ns();
	for (long i = 0; i < count; i++) {
		due += period * 1000;
		sleep_until(due);
		now = now_ns();
		late_us[i] = (uint32_t)((now - due) / 1000);
		if (now > due + period * 1000)
			due = now;
	}
	qsort(late_us, (size_t)count, sizeof(late_us[0]), compare);
	printf("timer: %s: %ld wake-ups, late by us: p50 %u p90 %u p99 %u max %u\n", argv[1], count,
	       late_us[count / 2], late_us[count * 9 / 10], late_us[count * 99 / 100],
	       late_us[count - 1]);
	return 0;
}
