/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* lab.c - the same benchmarks in the lab: a real KVM under emulation, on any machine. */
#define _GNU_SOURCE
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "scratch.h"

#define LAB_SECONDS "7200"

/* lab/run of the sources that the command was built in; build: its build directory. */
static bool find_lab(char *run, char *build)
{
	char path[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 32);
	char *slash;

	if (length < 0)
		return false;
	path[length] = 0;
	slash = strrchr(path, '/');
	strcpy(slash, "/.."); /* NOLINT: room was left above */
	if (!realpath(path, build))
		return false;
	strcpy(slash, "/../../lab/run"); /* NOLINT: likewise */
	return realpath(path, run) && !access(run, X_OK);
}

static void inner_command(char *text, size_t size, char **names, unsigned count)
{
	size_t used = (size_t)snprintf(
	    text, size, "noexit bench --json --substrate=lab-%s --runs=%u%s", bench_options.lab,
	    bench_options.runs, bench_options.quick ? " --quick" : "");

	if (bench_options.limits && used < size)
		used += (size_t)snprintf(text + used, size - used, " --limits=%s",
					 bench_options.limits);
	for (unsigned i = 0; i < count && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, " %s", names[i]);
	if (used < size)
		snprintf(text + used, size - used, " >/out/figures");
}

/* The signal that asked us to end meanwhile, or 0. */
static int asked_to_end;

/* The child's end, and what asks us to end, but for what our caller ignores (nohup). */
static void signals_waited_for(sigset_t *signals)
{
	static const int ending[] = {SIGINT, SIGTERM, SIGHUP};

	sigemptyset(signals);
	sigaddset(signals, SIGCHLD);
	for (unsigned i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
		struct sigaction action;

		if (!sigaction(ending[i], NULL, &action) && action.sa_handler != SIG_IGN)
			sigaddset(signals, ending[i]);
	}
}

/* Wait for the child's end, and end it when we are asked to end: it has an emulator to stop. */
static bool wait_for_tool(pid_t child, const sigset_t *signals)
{
	int status = -1, number;

	while (waitpid(child, &status, WNOHANG) == 0) {
		number = sigwaitinfo(signals, NULL);
		if (number > 0 && number != SIGCHLD) {
			asked_to_end = number;
			kill(child, SIGTERM);
		}
	}
	return !asked_to_end && WIFEXITED(status) && !WEXITSTATUS(status);
}

bool bench_lab_tool(const char *build, const char *const *line)
{
	sigset_t signals, before;
	bool good;
	pid_t child;

	if (asked_to_end)
		return false;
	signals_waited_for(&signals);
	sigprocmask(SIG_BLOCK, &signals, &before);
	child = fork();
	if (!child) {
		/* Also when we are killed. */
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		sigprocmask(SIG_SETMASK, &before, NULL);
		dup2(STDERR_FILENO, STDOUT_FILENO);
		setenv("NX_BUILD", build, 1);
		execv(line[0], (char *const *)line);
		_exit(127);
	}
	good = child > 0 && wait_for_tool(child, &signals);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return good;
}

/* Measure in the host VM. */
static bool measure_inside(const char *run, const char *build, const char *share, char **names,
			   unsigned count)
{
	char inner[4096], figures[NX_SCRATCH_SIZE + 16], processors[16];
	const char *line[16] = {run,     "--cpu",    bench_options.lab, "--share",  share,
				"--smp", processors, "--timeout",       LAB_SECONDS};
	unsigned words = 9;
	struct json_object *list = NULL;

	inner_command(inner, sizeof(inner), names, count);
	snprintf(processors, sizeof(processors), "%u", bench_options.smp);
	snprintf(figures, sizeof(figures), "%s/figures", share);
	if (bench_options.module) {
		line[words++] = "--kmod";
		line[words++] = bench_options.module;
	}
	line[words++] = "--";
	line[words++] = inner;
	if (bench_lab_tool(build, line))
		list = json_object_from_file(figures);
	else
		bench_skip("the lab", "it failed, see above");
	unlink(figures);
	bench_report_list(list);
	json_object_put(list);
	return list != NULL;
}

bool bench_lab(char **names, unsigned count)
{
	char run[PATH_MAX], build[PATH_MAX];
	char share[NX_SCRATCH_SIZE];
	bool inside = !count, good = false;

	if (!find_lab(run, build)) {
		bench_skip("the lab",
			   "it is part of the sources; build there, and use that noexit");
		return false;
	}
	if (!nx_make_scratch(share, "noexit-bench")) {
		bench_skip("the lab", "'%s' cannot be made: %s", share, strerror(errno));
		return false;
	}
	for (unsigned i = 0; i < count; i++)
		inside |= !bench_is_guests(names[i]);
	if (inside)
		good |= measure_inside(run, build, share, names, count);
	good |= bench_guests_lab(run, build, share, names, count);
	rmdir(share);
	if (asked_to_end)
		raise(asked_to_end);
	return good;
}
