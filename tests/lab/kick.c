/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * kick.c - sends a process's threads SIGUSR1, with which QEMU kicks its vCPUs, in a storm: to one
 * thread after the other, with pauses of up to 4 ms, as long as told or until the process ends.
 * Prints how many signals there were.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned long sent;

static void pause_some(void)
{
	static uint32_t random = 1;
	struct timespec time;

	random = random * 1103515245 + 12345;
	time = (struct timespec){.tv_nsec = (random >> 16) % 4000 * 1000L};
	nanosleep(&time, NULL);
}

/* Return false if there are none left. */
static bool kick_threads(int process)
{
	const struct dirent *entry;
	char path[64];
	bool any = false;
	DIR *threads;

	snprintf(path, sizeof(path), "/proc/%d/task", process);
	threads = opendir(path);
	if (!threads)
		return false;
	while ((entry = readdir(threads))) {
		int thread = (int)strtol(entry->d_name, NULL, 10);

		if (thread <= 0 || syscall(SYS_tgkill, process, thread, SIGUSR1))
			continue;
		any = true;
		sent++;
		pause_some();
	}
	closedir(threads);
	return any;
}

int main(int argc, char **argv)
{
	int process = argc == 3 ? (int)strtol(argv[1], NULL, 10) : 0;
	time_t end;

	if (process <= 0) {
		fprintf(stderr, "usage: kick PROCESS SECONDS\n");
		return 2;
	}
	end = time(NULL) + strtol(argv[2], NULL, 10);
	while (time(NULL) < end && kick_threads(process))
		;
	printf("%lu\n", sent);
	return 0;
}
