/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * run.c - noexit run: becomes the VMM, with the library in front of its C library.
 *
 * The VMM keeps our process id, parent, terminal and signal settings, so it is killed, stopped,
 * waited for and reaped exactly as if it had been started directly.
 */
#define _GNU_SOURCE
#include "cli.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel.h"
#include "options.h"

#define OPTION_KEY 0x100 /* plus enum nx_option */

struct run {
	struct nx_options options;
	const char *text[NX_OPTION_COUNT]; /* as given, NULL: not given */
	char **command;
};

/* ---- Arguments ---- */

static const char *const words[] = {
#define NX_X(NAME, member, kind, word, argument, help) word,
    NX_OPTIONS(NX_X)
#undef NX_X
};

static void list_faults(void)
{
#define NX_X(NAME, word, text) printf("%-16s %s\n", word, text);
	NX_FAULTS(NX_X)
#undef NX_X
}

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct run *run = state->input;
	const char *error;

	if (key >= OPTION_KEY && key < OPTION_KEY + NX_OPTION_COUNT) {
		enum nx_option option = (enum nx_option)(key - OPTION_KEY);

		run->text[option] = text ? text : "1";
		if (option == NX_OPTION_FAULT && !strcmp(run->text[option], "list")) {
			list_faults();
			exit(0);
		}
		error = nx_option_set(&run->options, option, run->text[option]);
		if (error)
			argp_error(state, "the argument of --%s %s, which '%s' is not",
				   words[option], error, text);
		return 0;
	}
	switch (key) {
	case ARGP_KEY_ARG:
		/* From the VMM's name on, everything is the VMM's. */
		run->command = &state->argv[state->next - 1];
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "name the VMM to run, as in: noexit run -- qemu-system-x86_64 "
				  "-accel kvm disk.img");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option argp_options[] = {
#define NX_X(NAME, member, kind, word, argument, help) \
	{word, OPTION_KEY + NX_OPTION_##NAME, argument, 0, help, 0},
    NX_OPTIONS(NX_X)
#undef NX_X
	{0},
};

static const struct argp parser = {
    .options = argp_options,
    .parser = parse,
    .args_doc = "[--] VMM [ARGUMENT...]",
    .doc = "Runs a VMM, avoiding VM exits of its guests, and says at the end how many.\v"
	   "The VMM must be dynamically linked and use KVM. Its exit status is the exit status; "
	   "2 if it could not be started.",
};

/* ---- Finding things ---- */

static bool exists(const char *path)
{
	struct stat status;

	return !stat(path, &status) && S_ISREG(status.st_mode);
}

/* In the build tree the library is beside this program; installed, it is where the build was
 * told to put it. */
static bool find_library(char *library, size_t size)
{
	static const char *const places[] = {"../kvm/libnoexit-kvm.so", NX_LIBRARY_FROM_BINDIR};
	char self[PATH_MAX], path[PATH_MAX], real[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (length < 0)
		return false;
	self[length] = 0;
	slash = strrchr(self, '/');
	if (!slash)
		return false;
	*slash = 0;
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		if (snprintf(path, sizeof(path), "%s/%s", self, places[i]) < (int)sizeof(path) &&
		    exists(path) && realpath(path, real) && strlen(real) < size) {
			memcpy(library, real, strlen(real) + 1);
			return true;
		}
	}
	return false;
}

/* Find the program as execvp() will. */
static bool find_program(const char *name, char *path, size_t size)
{
	const char *at = getenv("PATH");

	if (strchr(name, '/'))
		return snprintf(path, size, "%s", name) < (int)size;
	if (!at)
		at = "/bin:/usr/bin";
	for (;;) {
		size_t length = strcspn(at, ":");

		if (snprintf(path, size, "%.*s%s%s", (int)length, at, length ? "/" : "", name) <
			(int)size &&
		    exists(path) && !access(path, X_OK))
			return true;
		if (!at[length])
			return false;
		at += length + 1;
	}
}

/* ---- The environment of the VMM ---- */

static int set_library(const char *library)
{
	const char *before = getenv("LD_PRELOAD");
	char preload[2 * PATH_MAX];

	if (strpbrk(library, " :"))
		return cli_refuse("the path '%s' contains a space or a colon, which LD_PRELOAD "
				  "cannot express; install noexit elsewhere",
				  library);
	if (snprintf(preload, sizeof(preload), "%s%s%s", library, before && *before ? ":" : "",
		     before && *before ? before : "") >= (int)sizeof(preload))
		return cli_refuse("LD_PRELOAD is too long to be added to; shorten it");
	if (setenv("LD_PRELOAD", preload, 1) || setenv(NX_ENV_LIBRARY, library, 1))
		return cli_refuse("out of memory");
	return 0;
}

/* The VMM may change its directory before it ends, so the file's path becomes absolute. */
static const char *absolute(const char *path, char *buffer, size_t size)
{
	char directory[PATH_MAX];

	if (*path == '/' || !getcwd(directory, sizeof(directory)) ||
	    snprintf(buffer, size, "%s/%s", directory, path) >= (int)size)
		return path;
	return buffer;
}

static int check_stats_file(const char *path)
{
	FILE *file = fopen(path, "w");

	if (!file)
		return cli_refuse("'%s' cannot be written: %s; give --stats a file in a directory "
				  "that you may write to",
				  path, strerror(errno));
	fclose(file);
	return 0;
}

static int set_options(struct run *run)
{
	char buffer[2 * PATH_MAX], pid[32];
	int refused;

	for (unsigned i = 0; i < NX_OPTION_COUNT; i++) {
		const char *text = run->text[i];

		if (!text)
			continue;
		if (i == NX_OPTION_STATS) {
			text = absolute(text, buffer, sizeof(buffer));
			refused = check_stats_file(text);
			if (refused)
				return refused;
		}
		if (setenv(nx_option_env((enum nx_option)i), text, 1))
			return cli_refuse("out of memory");
	}
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	return setenv(NX_ENV_PID, pid, 1) ? cli_refuse("out of memory") : 0;
}

static bool can_open_kernel(void)
{
	int device = cli_open_kernel();

	if (device >= 0)
		close(device);
	return device >= 0;
}

int cli_run(int argc, char **argv)
{
	char library[PATH_MAX], path[PATH_MAX];
	struct run run = {0};
	int refused;

	nx_options_default(&run.options);
	argp_parse(&parser, argc, argv, ARGP_IN_ORDER, NULL, &run);
	if (run.options.stats_interval && !run.options.stats)
		return cli_refuse("--stats-interval says how often, but not where to; name a file "
				  "with --stats=FILE");
	if (run.options.kernel == NX_KERNEL_ON && !can_open_kernel())
		return cli_refuse_kernel();
	if (!find_program(run.command[0], path, sizeof(path)))
		return cli_refuse("there is no program '%s' in PATH; install it or give its path",
				  run.command[0]);
	refused = cli_check_program(path);
	if (refused)
		return refused;
	if (!find_library(library, sizeof(library)))
		return cli_refuse(
		    "libnoexit-kvm.so is missing; build or install noexit completely");
	refused = set_library(library);
	if (!refused)
		refused = set_options(&run);
	if (refused)
		return refused;
	execvp(run.command[0], run.command);
	return cli_refuse("'%s' cannot be executed: %s", run.command[0], strerror(errno));
}
