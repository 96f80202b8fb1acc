/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* common.c - small things that several subcommands need. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cli.h"

bool cli_parse_number(const char *text, unsigned long *number)
{
	char *end;

	errno = 0;
	*number = strtoul(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno;
}

static bool parse_pid(const char *text, pid_t *pid)
{
	unsigned long number;

	*pid = cli_parse_number(text, &number) && number <= 1ul << 22 ? (pid_t)number : 0;
	return *pid;
}

static bool parse_seconds(const char *text, double *seconds)
{
	char *end;

	*seconds = strtod(text, &end);
	return end != text && !*end && *seconds >= 0.01 && *seconds <= 86400;
}

error_t cli_parse_look(int key, char *text, struct argp_state *state, struct cli_look *look)
{
	const char *needed = NULL;

	if (key == 'p' && !parse_pid(text, &look->pid))
		needed = "a process id";
	else if (key == 'i' && !parse_seconds(text, &look->interval))
		needed = "a number of seconds";
	else if (key == 'n' && !cli_parse_number(text, &look->count))
		needed = "a whole number";
	if (needed)
		argp_error(state, "the argument of -%c must be %s, which '%s' is not", key, needed,
			   text);
	if (key == ARGP_KEY_ARG)
		argp_error(state, "'%s' is one argument too many; a process is named with -p",
			   text);
	return key == 'p' || key == 'i' || key == 'n' ? 0 : ARGP_ERR_UNKNOWN;
}

void cli_sleep(double seconds)
{
	struct timespec time = {(time_t)seconds, 0};

	time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
	nanosleep(&time, NULL);
}
