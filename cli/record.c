/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * record.c - noexit record: runs a VMM without and with noexit, in turns, and says what it brought.
 *
 * A machine is not equally fast all the time, so the two runs of a pair follow each other, every
 * other pair begins with the other one, and times are compared within a pair only.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "report.h"
#include "scratch.h"

#define MOST_PAIRS 100
#define INTERVAL_MS "100"

enum { KEY_YES = 0x100, KEY_KEEP };

struct record_options {
	unsigned pairs;
	bool yes;
	const char *page, *title, *keep;
	char **command;
};

struct pair {
	unsigned number;
	uint64_t taken[2]; /* index: 0 without noexit, 1 with it */
	uint64_t avoided;
	double seconds[2];
};

static const char *const words[2] = {"off", "on"};

/* ---- Arguments ---- */

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct record_options *options = state->input;
	unsigned long number;

	switch (key) {
	case 'n':
		if (!cli_parse_number(text, &number) || !number || number > MOST_PAIRS)
			argp_error(state, "-n must be a number from 1 to %u, which '%s' is not",
				   MOST_PAIRS, text);
		options->pairs = (unsigned)number;
		return 0;
	case 'o':
		options->page = text;
		return 0;
	case 't':
		options->title = text;
		return 0;
	case KEY_KEEP:
		options->keep = text;
		return 0;
	case KEY_YES:
		options->yes = true;
		return 0;
	case ARGP_KEY_ARG:
		options->command = &state->argv[state->next - 1];
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "name the VMM to run, as in: noexit record -- qemu-system-x86_64 "
				  "-accel kvm -snapshot disk.img");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option argp_options[] = {
    {"pairs", 'n', "N", 0, "Run it N times without and N times with noexit (default 3)", 0},
    {"output", 'o', "PAGE", 0, "Also make a page for a browser of the pair in the middle", 0},
    {"title", 't', "TEXT", 0, "What the page calls the guest", 0},
    {"keep", KEY_KEEP, "DIR", 0, "Keep the counters of all runs in DIR", 0},
    {"yes", KEY_YES, NULL, 0, "Run it even if it may write to disks", 0},
    {0},
};

static const struct argp parser = {
    .options = argp_options,
    .parser = parse,
    .args_doc = "[--] VMM [ARGUMENT...]",
    .doc =
	"Runs a VMM without and with noexit, in turns, and says what noexit brings for it.\v"
	"The VMM must end by itself, as when its guest powers off. Exit status 2: it could not be "
	"run, or a run failed.",
};

/* ---- Running ---- */

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void become(const struct record_options *options, bool on, const char *file)
{
	char stats[PATH_MAX + 16];
	size_t count = 0, at = 0;
	char **arguments;

	while (options->command[count])
		count++;
	arguments = calloc(count + 8, sizeof(*arguments));
	snprintf(stats, sizeof(stats), "--stats=%s", file);
	if (arguments) {
		arguments[at++] = (char *)"noexit";
		arguments[at++] = (char *)"run";
		arguments[at++] = stats;
		arguments[at++] = (char *)"--stats-interval=" INTERVAL_MS;
		if (!on)
			arguments[at++] = (char *)"--off";
		arguments[at++] = (char *)"--";
		memcpy(&arguments[at], options->command, count * sizeof(*arguments));
		execv("/proc/self/exe", arguments);
	}
	_exit(cli_refuse("noexit cannot be started again: %s", strerror(errno)));
}

/* Run the VMM once. Return 0, or the status of cli_refuse(). */
static int run_once(const struct record_options *options, bool on, const char *file,
		    double *seconds)
{
	double began = now();
	pid_t child = fork();
	int status;

	if (child < 0)
		return cli_refuse("no process can be made: %s", strerror(errno));
	if (!child)
		become(options, on, file);
	while (waitpid(child, &status, 0) < 0) {
		if (errno != EINTR)
			return cli_refuse("the VMM is gone: %s", strerror(errno));
	}
	*seconds = now() - began;
	if (WIFSIGNALED(status))
		return cli_refuse("the run %s noexit was ended by signal %d, so there is nothing "
				  "to compare",
				  on ? "with" : "without", WTERMSIG(status));
	if (WEXITSTATUS(status))
		return cli_refuse("the run %s noexit ended with status %d, so there is nothing to "
				  "compare; see what it said above",
				  on ? "with" : "without", WEXITSTATUS(status));
	return 0;
}

static void file_name(char *file, const char *directory, unsigned pair, bool on)
{
	snprintf(file, PATH_MAX, "%s/%s-%u.json", directory, words[on], pair + 1);
}

static int run_pair(const struct record_options *options, const char *directory, unsigned number,
		    struct pair *pair)
{
	for (unsigned turn = 0; turn < 2; turn++) {
		bool on = (turn + number) % 2;
		struct report_run run = {0};
		char file[PATH_MAX];
		struct stat written;
		int refused;

		file_name(file, directory, number, on);
		fprintf(stderr, "noexit: run %u of %u, %s noexit\n", 2 * number + turn + 1,
			2 * options->pairs, on ? "with" : "without");
		refused = run_once(options, on, file, &pair->seconds[on]);
		if (refused)
			return refused;
		/* noexit run empties the file, and only a process that had a VM fills it. */
		if (stat(file, &written) || !written.st_size)
			return cli_refuse("the run %s noexit left no counters: it did not use KVM",
					  on ? "with" : "without");
		refused = report_load(file, &run);
		pair->taken[on] = run.taken;
		if (on)
			pair->avoided = run.avoided;
		json_object_put(run.file);
		if (refused)
			return refused;
	}
	return 0;
}

/* ---- What came of it ---- */

static double ratio(const struct pair *pair)
{
	return pair->seconds[0] > 0 ? pair->seconds[1] / pair->seconds[0] : 1;
}

static int compare(const void *a, const void *b)
{
	double left = ratio(a), right = ratio(b);

	return (left > right) - (left < right);
}

static void print_table(const struct pair *pair, unsigned pairs)
{
	printf("%-5s %14s %14s %10s %11s %11s %7s\n", "pair", "exits without", "exits with",
	       "avoided", "s without", "s with", "ratio");
	for (unsigned i = 0; i < pairs; i++)
		printf("%-5u %14s %14s %10s %11.2f %11.2f %7.3f\n", i + 1,
		       html_count(pair[i].taken[0]), html_count(pair[i].taken[1]),
		       html_count(pair[i].avoided), pair[i].seconds[0], pair[i].seconds[1],
		       ratio(&pair[i]));
}

/* The pairs are sorted by their ratios of times. */
static void print_verdict(const struct pair *pair, unsigned pairs)
{
	const struct pair *middle = &pair[pairs / 2];
	double least = ratio(pair), most = ratio(&pair[pairs - 1]);
	uint64_t without = middle->taken[0], with = middle->taken[1];

	printf("\nWith noexit: %s %s exits to the VMM (%s instead of %s), and %.3f of the time",
	       html_percent(with < without ? without - with : with - without, without),
	       with <= without ? "fewer" : "more", html_count(with), html_count(without),
	       ratio(middle));
	if (pairs > 1)
		printf(" (%.3f to %.3f)", least, most);
	if (pairs < 3)
		puts(".\nSo few pairs say little about time; -n 5 says more.");
	else if (most < 1)
		puts(".\nIt was faster in every pair.");
	else if (least > 1)
		puts(".\nIt was slower in every pair.");
	else
		puts(".\nSome pairs were faster with it and some were not: in time it makes no "
		     "clear "
		     "difference here.");
}

static int print_page(const struct record_options *options, const char *directory, unsigned number)
{
	struct report report = {.title = options->title};
	char off[PATH_MAX], on[PATH_MAX];
	int refused;

	file_name(off, directory, number, false);
	file_name(on, directory, number, true);
	refused = report_load(off, &report.without);
	if (!refused)
		refused = report_load(on, &report.with);
	if (!refused)
		refused = report_write(&report, options->page);
	json_object_put(report.without.file);
	json_object_put(report.with.file);
	if (!refused)
		printf("written: %s\n", options->page);
	return refused;
}

static int record(const struct record_options *options, const char *directory)
{
	struct pair pair[MOST_PAIRS] = {0};

	for (unsigned i = 0; i < options->pairs; i++) {
		int refused = run_pair(options, directory, i, &pair[i]);

		pair[i].number = i;
		if (refused)
			return refused;
	}
	print_table(pair, options->pairs);
	qsort(pair, options->pairs, sizeof(*pair), compare);
	print_verdict(pair, options->pairs);
	if (!options->page)
		return 0;
	return print_page(options, directory, pair[options->pairs / 2].number);
}

static void remove_files(const struct record_options *options, const char *directory)
{
	char file[PATH_MAX];

	for (unsigned i = 0; i < 2 * options->pairs; i++) {
		file_name(file, directory, i / 2, i % 2);
		unlink(file);
	}
	rmdir(directory);
}

int cli_record(int argc, char **argv)
{
	struct record_options options = {.pairs = 3};
	char directory[NX_SCRATCH_SIZE];
	const char *writes;
	int refused;

	argp_parse(&parser, argc, argv, ARGP_IN_ORDER, NULL, &options);
	writes = options.yes ? NULL : cli_command_writes(options.command);
	if (writes)
		return cli_refuse("%s", writes);
	if (options.keep) {
		if (mkdir(options.keep, 0777) && errno != EEXIST)
			return cli_refuse("'%s' cannot be made: %s; name another directory with "
					  "--keep",
					  options.keep, strerror(errno));
		return record(&options, options.keep);
	}
	if (!nx_make_scratch(directory, "noexit-record"))
		return cli_refuse("'%s' cannot be made: %s; name a directory with --keep",
				  directory, strerror(errno));
	refused = record(&options, directory);
	remove_files(&options, directory);
	return refused;
}
