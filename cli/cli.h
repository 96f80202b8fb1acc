/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cli.h - what the subcommands share. Each is one file with one entry in main.c's table.
 */
#ifndef NX_CLI_H
#define NX_CLI_H

#include <argp.h>
#include <stdbool.h>
#include <sys/types.h>

#include "watch.h"

/* Exit status for everything that keeps a command from starting. */
#define CLI_REFUSED 2

struct cli_command {
	const char *name;
	const char *summary;
	/* Return the exit status; argv[0] is "noexit NAME". */
	int (*main)(int argc, char **argv);
};

/* Print "noexit: ..." on standard error; return CLI_REFUSED. */
int cli_refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Check that the dynamic loader would load a library into the program. Return 0, or the status
 * of cli_refuse(), which has said why not. */
int cli_check_program(const char *path);

/*
 * Return NULL if no run of the command line leaves anything behind on a disk that the next one
 * would find, or the sentence that says what may write.
 */
const char *cli_command_writes(char *const *command);

/* The options that the commands which look at a VMM have in common. */
struct cli_look {
	pid_t pid;           /* 0 if not named */
	double interval;     /* seconds */
	unsigned long count; /* its meaning is the command's */
};

/* Parse -p, -i and -n, and refuse arguments that are no options. A parser calls this last:
 * ARGP_ERR_UNKNOWN means that the key is none of these. */
error_t cli_parse_look(int key, char *text, struct argp_state *state, struct cli_look *look);

/* Store in *pid the one VMM of this machine that runs under noexit and that we may look at.
 * asked: the process that the user named, or 0. Return 0, or the status of cli_refuse(), which
 * has said why there is none. */
int cli_choose(pid_t asked, pid_t *pid);

/* Say in a sentence why there is nothing to see; return the exit status. */
int cli_refuse_watch(pid_t pid, enum watch_result result);

/* Parse a whole number without a sign; return false if the text is none. */
bool cli_parse_number(const char *text, unsigned long *number);
void cli_sleep(double seconds);

int cli_check(int argc, char **argv);
int cli_explain(int argc, char **argv);
int cli_record(int argc, char **argv);
int cli_report(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_stat(int argc, char **argv);
int cli_off(int argc, char **argv);
int cli_on(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_top(int argc, char **argv);

#endif
