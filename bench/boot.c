/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * boot.c - whole systems under QEMU, without noexit (which then only counts) and with it, in turns.
 *
 * A boot is over when QEMU ends, or has printed its last message: firmware never powers off by
 * itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <noexit.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define MAX_ARGUMENTS 48
#define BOOT_SECONDS 900 /* emulation on a busy machine */

static const struct system {
	const char *end; /* the last message; NULL: QEMU ends by itself */
	bool kernel;     /* boots the guest's kernel */
	const char *arguments[12];
} systems[] = {
#define NX_X(name, end, kernel, help, ...) {end, kernel, {__VA_ARGS__}},
    BENCH_SYSTEMS(NX_X)
#undef NX_X
};

struct boot {
	double seconds, exits;
};

struct arguments {
	const char *value[MAX_ARGUMENTS];
	unsigned count;
};

static void add(struct arguments *to, const char *value)
{
	if (to->count < MAX_ARGUMENTS - 1)
		to->value[to->count++] = value;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* `noexit run OPTION --stats=FILE -- QEMU ...` */
static void command(struct arguments *line, const struct system *system, const char *option,
		    const char *stats)
{
	static const char *const qemu[] = {
	    "--",   "qemu-system-x86_64", "-accel",  "kvm",   "-net",     "none", "-vga",
	    "none", "-nographic",         "-serial", "stdio", "-monitor", "none", "-no-reboot"};

	add(line, "/proc/self/exe");
	add(line, "run");
	if (option)
		add(line, option);
	add(line, stats);
	for (size_t i = 0; i < sizeof(qemu) / sizeof(*qemu); i++)
		add(line, qemu[i]);
	for (unsigned i = 0; system->arguments[i]; i++)
		add(line, system->arguments[i]);
	if (!system->kernel)
		return;
	add(line, "-kernel");
	add(line, bench_options.kernel);
	add(line, "-initrd");
	add(line, bench_options.initrd);
	add(line, "-append");
	add(line, "console=ttyS0 panic=-1");
}

static pid_t start(const struct arguments *line, int *output)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	child = fork();
	if (!child) {
		int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

		dup2(nothing, STDIN_FILENO);
		dup2(ends[1], STDOUT_FILENO);
		dup2(nothing, STDERR_FILENO);
		execv(line->value[0], (char *const *)line->value);
		_exit(127);
	}
	close(ends[1]);
	*output = ends[0];
	return child;
}

/* Reads the console to the system's end; false: the time is up. */
static bool follow(const struct system *system, int output, double deadline)
{
	char window[8192] = "";
	size_t kept = 0;

	for (;;) {
		struct pollfd event = {.fd = output, .events = POLLIN};
		ssize_t count;

		if (now() > deadline)
			return false;
		if (poll(&event, 1, 1000) <= 0)
			continue;
		count = read(output, window + kept, sizeof(window) - 1 - kept);
		if (count <= 0)
			return true;
		kept += (size_t)count;
		window[kept] = 0;
		/* The console may well print zeros. */
		if (system->end && memmem(window, kept, system->end, strlen(system->end)))
			return true;
		if (kept > sizeof(window) / 2) {
			memmove(window, window + kept - 256, 256);
			kept = 256;
		}
	}
}

static double exits_in(const char *stats)
{
	struct json_object *counters = json_object_from_file(stats), *taken;
	double exits = -1;

	if (json_object_object_get_ex(counters, "exits_taken", &taken))
		exits = json_object_get_double(taken);
	json_object_put(counters);
	return exits;
}

/* Returns NULL, or what is wrong. */
static const char *boot_once(const struct system *system, const char *option, const char *directory,
			     struct boot *boot)
{
	char stats[PATH_MAX + 16];
	struct arguments line = {.count = 0};
	double began = now();
	int output, status = 0;
	bool ended;
	pid_t child;

	snprintf(stats, sizeof(stats), "--stats=%s/stats", directory);
	command(&line, system, option, stats);
	child = start(&line, &output);
	if (child < 0)
		return "no process could be started";
	ended = follow(system, output, began + BOOT_SECONDS);
	boot->seconds = now() - began;
	if (system->end || !ended)
		kill(child, SIGTERM);
	close(output);
	waitpid(child, &status, 0);
	boot->exits = exits_in(stats + strlen("--stats="));
	unlink(stats + strlen("--stats="));
	if (!ended)
		return "the guest did not end in time";
	if (WIFEXITED(status) && WEXITSTATUS(status))
		return "QEMU failed; is it installed, and can /dev/kvm run this guest?";
	return boot->exits > 0 ? NULL : "noexit counted no exits";
}

static const char *compare(const struct system *system, const char *name, const char *option,
			   const char *directory)
{
	struct bench_samples time = {.count = 0}, exits = {.count = 0};
	unsigned runs = bench_options.quick ? 1 : bench_options.runs;
	struct boot without, with;
	struct bench_figure figure;
	const char *wrong;

	for (unsigned i = 0; i < runs; i++) {
		wrong = boot_once(system, "--off", directory, &without);
		if (!wrong)
			wrong = boot_once(system, option, directory, &with);
		if (wrong)
			return wrong;
		bench_sample(&time, without.seconds, with.seconds);
		bench_sample(&exits, without.exits, with.exits);
	}
	figure = bench_figure(&exits);
	bench_report(name, "exits of a boot", &figure);
	figure = bench_figure(&time);
	bench_report(name, "time of a boot, s", &figure);
	return NULL;
}

static bool measure(const char *name, unsigned number, const char *option)
{
	char directory[] = "/tmp/noexit-bench-XXXXXX";
	const struct system *system = &systems[number];
	const char *wrong;

	if (system->kernel && access(bench_options.kernel, R_OK)) {
		bench_skip(name,
			   "'%s' is missing; give --kernel and --initrd, or measure it with "
			   "--lab",
			   bench_options.kernel);
		return false;
	}
	if (!mkdtemp(directory)) {
		bench_skip(name, "'%s' cannot be made: %s", directory, strerror(errno));
		return false;
	}
	wrong = compare(system, name, option, directory);
	rmdir(directory);
	if (wrong)
		bench_skip(name, "%s", wrong);
	return !wrong;
}

bool bench_system(const char *name, unsigned number)
{
	return measure(name, number, NULL);
}

/* What each thing that clusters may contain adds. */
bool bench_levels(const char *name, unsigned number)
{
	static const char *const levels[] = {
#define NX_X(level, word, help) word,
	    NX_LEVELS(NX_X)
#undef NX_X
	};
	bool good = false;
	char full[64], option[64];

	for (unsigned i = 0; i < NX_LEVEL_COUNT; i++) {
		snprintf(full, sizeof(full), "%s/%s", name, levels[i]);
		snprintf(option, sizeof(option), "--level=%s", levels[i]);
		good |= measure(full, number, option);
	}
	return good;
}
