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
#include <math.h>
#include <noexit.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "scratch.h"
#include "watch.h"

#define MAX_ARGUMENTS 48
#define BOOT_SECONDS 900 /* generous, for emulation on a busy machine */

static const struct system {
	const char *begin, *end, *initrd, *append; /* as bench.h says */
	const char *arguments[12];
} systems[] = {
#define NX_X(name, word, begin, end, initrd, append, help, ...) \
	{begin, end, initrd, append, {__VA_ARGS__}},
    BENCH_SYSTEMS(NX_X)
#undef NX_X
};

struct boot {
	double seconds, exits;
	struct json_object *counters; /* NULL if there is none */
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

double bench_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Texts of a command line that have to be put together. */
struct texts {
	char stats[PATH_MAX + 32], initrd[PATH_MAX], append[256], limits[32];
};

/* In place of an option of noexit's: no KVM, and accesses.c counts. */
static const char emulated[] = "emulated";

/* Return the plugin's path, beside the command in its build tree, or NULL if it is not there. */
static const char *plugin(void)
{
	static char path[PATH_MAX];
	char *slash;
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 32);

	if (length < 0)
		return NULL;
	path[length] = 0;
	slash = strrchr(path, '/');
	strcpy(slash, "/../bench/libaccesses.so"); /* NOLINT: room was left above */
	return access(path, R_OK) ? NULL : path;
}

/* Begin the command line, before QEMU's arguments: `noexit run OPTION --stats=FILE -- QEMU -accel
 * kvm`. */
static void start_command(struct arguments *line, const char *option, struct texts *texts)
{
	if (option == emulated) {
		add(line, "qemu-system-x86_64");
		add(line, "-accel");
		add(line, "tcg");
		add(line, "-plugin");
		add(line, texts->stats);
		return;
	}
	add(line, "/proc/self/exe");
	add(line, "run");
	if (bench_options.limits) {
		snprintf(texts->limits, sizeof(texts->limits), "--limits=%s", bench_options.limits);
		add(line, texts->limits);
	}
	if (option)
		add(line, option);
	add(line, texts->stats);
	add(line, "--");
	add(line, "qemu-system-x86_64");
	add(line, "-accel");
	add(line, "kvm");
}

static void command(struct arguments *line, const struct system *system, const char *option,
		    struct texts *texts)
{
	static const char *const qemu[] = {"-net",    "none",  "-vga",     "none", "-nographic",
					   "-serial", "stdio", "-monitor", "none", "-no-reboot"};

	start_command(line, option, texts);
	for (size_t i = 0; i < sizeof(qemu) / sizeof(*qemu); i++)
		add(line, qemu[i]);
	for (unsigned i = 0; system->arguments[i]; i++) {
		/* The emulator has no host's processor. */
		bool host = option == emulated && !strcmp(system->arguments[i], "host");

		add(line, host ? "max" : system->arguments[i]);
	}
	if (!system->initrd)
		return;
	snprintf(texts->initrd, sizeof(texts->initrd), "%s%s", bench_options.initrd,
		 system->initrd);
	snprintf(texts->append, sizeof(texts->append), "console=ttyS0 panic=-1 %s", system->append);
	add(line, "-kernel");
	add(line, bench_options.kernel);
	add(line, "-initrd");
	add(line, texts->initrd);
	add(line, "-append");
	add(line, texts->append);
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
		execvp(line->value[0], (char *const *)line->value);
		_exit(127);
	}
	close(ends[1]);
	*output = ends[0];
	return child;
}

/* The console may well print zeros. */
static bool has(const char *window, size_t size, const char *message)
{
	return memmem(window, size, message, strlen(message));
}

/* Read the console to the system's end; *began becomes the time of the message that begins the
 * measured time. Return false if the time is up. */
static bool follow(const struct system *system, int output, double deadline, double *began)
{
	bool waits = system->begin;
	char window[8192] = "";
	size_t kept = 0;

	for (;;) {
		struct pollfd event = {.fd = output, .events = POLLIN};
		ssize_t count;

		if (bench_seconds() > deadline)
			return false;
		if (poll(&event, 1, 1000) <= 0)
			continue;
		count = read(output, window + kept, sizeof(window) - 1 - kept);
		if (count <= 0)
			return true;
		kept += (size_t)count;
		window[kept] = 0;
		if (waits && has(window, kept, system->begin)) {
			*began = bench_seconds();
			waits = false;
		}
		if (system->end && has(window, kept, system->end))
			return true;
		if (kept > sizeof(window) / 2) {
			memmove(window, window + kept - 256, 256);
			kept = 256;
		}
	}
}

static double exits_in(struct json_object *counters)
{
	struct json_object *taken;

	return json_object_object_get_ex(counters, "exits_taken", &taken)
		   ? json_object_get_double(taken)
		   : -1;
}

/* Return NULL, or what is wrong; *boot is then as it was. */
static const char *boot_once(const struct system *system, const char *option, const char *directory,
			     struct boot *boot)
{
	static struct texts texts;
	const char *file;
	struct arguments line = {.count = 0};
	double began = bench_seconds();
	struct boot here;
	int output, status = 0;
	bool ended;
	pid_t child;

	if (option == emulated)
		snprintf(texts.stats, sizeof(texts.stats), "%s,out=%s/stats", plugin(), directory);
	else
		snprintf(texts.stats, sizeof(texts.stats), "--stats=%s/stats", directory);
	file = strchr(texts.stats, '=') + 1;
	command(&line, system, option, &texts);
	child = start(&line, &output);
	if (child < 0)
		return "no process could be started";
	ended = follow(system, output, began + BOOT_SECONDS, &began);
	here.seconds = bench_seconds() - began;
	if (system->end || !ended)
		kill(child, SIGTERM);
	close(output);
	waitpid(child, &status, 0);
	here.counters = json_object_from_file(file);
	here.exits = exits_in(here.counters);
	unlink(file);
	if (ended && here.exits > 0 && !(WIFEXITED(status) && WEXITSTATUS(status))) {
		*boot = here;
		return NULL;
	}
	json_object_put(here.counters);
	if (!ended)
		return "the guest did not end in time";
	if (option == emulated)
		return "QEMU failed; is it installed, and does it know plugins?";
	return here.exits > 0 ? "QEMU failed; is it installed, and can /dev/kvm run this guest?"
			      : "noexit counted no exits; can /dev/kvm run this guest?";
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
		json_object_put(without.counters);
		json_object_put(with.counters);
		bench_sample(&time, without.seconds, with.seconds);
		bench_sample(&exits, without.exits, with.exits);
	}
	figure = bench_figure(&exits);
	bench_report(name, "exits of a boot", &figure);
	figure = bench_figure(&time);
	bench_report(name, "time of a boot, s", &figure);
	return NULL;
}

/* Measure in a directory of its own. */
typedef const char *measurement(const struct system *system, const char *name, const char *option,
				const char *directory);

static bool measure(const char *name, unsigned number, const char *option, measurement *how)
{
	char directory[NX_SCRATCH_SIZE];
	const struct system *system = &systems[number];
	const char *wrong;

	if (system->initrd && access(bench_options.kernel, R_OK)) {
		bench_skip(name,
			   "'%s' is missing; give --kernel and --initrd, or measure it with "
			   "--lab",
			   bench_options.kernel);
		return false;
	}
	if (!nx_make_scratch(directory, "noexit-bench")) {
		bench_skip(name, "'%s' cannot be made: %s", directory, strerror(errno));
		return false;
	}
	wrong = how(system, name, option, directory);
	rmdir(directory);
	if (wrong)
		bench_skip(name, "%s", wrong);
	return !wrong;
}

bool bench_system(const char *name, unsigned number)
{
	return measure(name, number, NULL, compare);
}

/* Measure the system with each value of one of noexit run's options. */
static bool with_each(const char *name, unsigned number, const char *option,
		      const char *const *words, unsigned count)
{
	bool good = false;
	char full[64], argument[64];

	for (unsigned i = 0; i < count; i++) {
		snprintf(full, sizeof(full), "%s/%s", name, words[i]);
		snprintf(argument, sizeof(argument), "--%s=%s", option, words[i]);
		good |= measure(full, number, argument, compare);
	}
	return good;
}

#define NX_X(name, word, help) word,

/* Measure what each thing that clusters may contain adds. */
bool bench_levels(const char *name, unsigned number)
{
	static const char *const levels[] = {NX_LEVELS(NX_X)};

	return with_each(name, number, "level", levels, NX_LEVEL_COUNT);
}

/* Measure what measured costs bring against constants. */
bool bench_limits(const char *name, unsigned number)
{
	static const char *const limits[] = {NX_LIMITS(NX_X)};

	return with_each(name, number, "limits", limits, NX_LIMITS_COUNT);
}

#undef NX_X

/* ---- How far apart exits are ---- */

static double number_in(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_double(value) : 0;
}

/* All exits are those without noexit, in the emulator, or those with it. If whole is 0, part is
 * a number of exits. */
static void report_share(const char *name, const char *what, bool with, double part, double whole)
{
	struct bench_figure figure = {NAN, NAN, NAN, NAN};
	char full[96];

	*(with ? &figure.with : &figure.without) = whole > 0 ? 100 * part / whole : part;
	snprintf(full, sizeof(full), "%s/%s", name, what);
	bench_report(full,
		     whole <= 0 ? "all exits"
		     : with     ? "share of all exits, %"
				: "share of all exits, emulated, %",
		     &figure);
}

/* One boot. For an exit that a cluster delivered, the engine knows how many instructions lie
 * between it and the one before, on the shortest path. An exit that a trace delivered is near,
 * but its path is not counted. For an exit that the hardware delivered nobody knows, since the
 * guest ran up to it. */
static const char *distances(const struct system *system, const char *name, const char *option,
			     const char *directory)
{
	struct json_object *list, *engine;
	double traced = 0, all;
	struct boot boot;
	const char *wrong = boot_once(system, option, directory, &boot);
	char what[32];

	if (wrong)
		return wrong;
	all = boot.exits + number_in(boot.counters, "exits_avoided");
	report_share(name, "all", option != emulated, all, 0);
	json_object_object_get_ex(boot.counters, "distance", &list);
	for (unsigned i = 0; i < NX_DISTANCES; i++) {
		watch_class_name(i, NX_DISTANCES, what, sizeof(what));
		report_share(name, what, option != emulated,
			     json_object_get_double(json_object_array_get_idx(list, i)), all);
	}
	if (option == emulated) {
		json_object_put(boot.counters);
		return NULL;
	}
	if (json_object_object_get_ex(boot.counters, "engine", &engine))
		traced = number_in(engine, "exits_traced");
	report_share(name, "on a trace", true, traced, all);
	report_share(name, "by the hardware", true, boot.exits, all);
	json_object_put(boot.counters);
	return NULL;
}

bool bench_distance(const char *name, unsigned number)
{
	return measure(name, number, NULL, distances);
}

bool bench_accesses(const char *name, unsigned number)
{
	if (plugin())
		return measure(name, number, emulated, distances);
	bench_skip(name, "its plugin for QEMU is a part of the sources; build there, and use that "
			 "noexit");
	return false;
}
