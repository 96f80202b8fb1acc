/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cli.h - what the subcommands share. Each is one file with one entry in main.c's table.
 */
#ifndef NX_CLI_H
#define NX_CLI_H

#include <stdbool.h>
#include <sys/types.h>

/* Exit status for everything that keeps a command from starting. */
#define CLI_REFUSED 2

struct cli_command {
	const char *name;
	const char *summary;
	/* argv[0] is "noexit NAME"; returns the exit status. */
	int (*main)(int argc, char **argv);
};

/* "noexit: ..." on standard error; returns CLI_REFUSED. */
int cli_refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Whether the dynamic loader would load a library into the program: 0, or the status of
 * cli_refuse(), which has said why not.
 */
int cli_check_program(const char *path);

/* A whole number without a sign; false: it is none. */
bool cli_parse_number(const char *text, unsigned long *number);
/* 0: no process id. */
pid_t cli_parse_pid(const char *text);
/* From a hundredth to a day's; 0: no such number. */
double cli_parse_seconds(const char *text);
void cli_sleep(double seconds);

int cli_check(int argc, char **argv);
int cli_explain(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_stat(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_top(int argc, char **argv);

#endif
