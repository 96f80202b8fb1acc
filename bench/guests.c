/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * guests.c - figures of whole guests that the lab's tools run: round trips between two guests by
 * each kind of network card, guests two levels deep, programs that begin, and how late a guest's
 * timer is.
 *
 * lab/guests, lab/nested and lab/execs boot the guests in a host VM and compare what they said. So
 * they are measured in the lab only.
 */
#include <json-c/json.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "scratch.h"

static const struct {
	const char *name;
	const char *tool;     /* in the lab's folder */
	const char *scenario; /* of lab/guests; the other tools measure noexit.ko */
	const char *lab;      /* NULL for either */
} guests[] = {
    {BENCH_NETWORK, "guests", "network", "amd"},   {BENCH_NESTED, "guests", "nested-boot", NULL},
    {BENCH_NESTED_TABLE, "nested", NULL, NULL},    {BENCH_EXECS, "execs", NULL, NULL},
    {BENCH_LATENESS, "guests", "lateness", "amd"},
};

#define GUESTS (sizeof(guests) / sizeof(guests[0]))

bool bench_guests(const char *name, unsigned number)
{
	(void)number;
	/* Inside the lab nothing is missing: the noexit outside does the rest. */
	if (!strcmp(bench_options.substrate, "native"))
		bench_skip(name, "its guests are those of the lab; measure it with --lab");
	return false;
}

bool bench_is_guests(const char *name)
{
	for (size_t i = 0; i < GUESTS; i++)
		if (!strcmp(guests[i].name, name))
			return true;
	return false;
}

/* The tool's arguments for one of the guests. */
struct line {
	const char *word[16];
	unsigned count;
};

static void add(struct line *line, const char *option, const char *value)
{
	line->word[line->count++] = option;
	line->word[line->count++] = value;
}

static bool measure(size_t index, const char *run, const char *build, const char *share)
{
	char tool[PATH_MAX], figures[NX_SCRATCH_SIZE + 16], runs[16];
	struct line line = {{tool}, 1};
	const char *name = guests[index].name, *scenario = guests[index].scenario;
	struct json_object *list = NULL;

	if (guests[index].lab && strcmp(bench_options.lab, guests[index].lab) != 0) {
		bench_skip(name, "its guests need the lab of the other kind");
		return false;
	}
	if (!scenario && !bench_options.module) {
		bench_skip(name,
			   "it measures noexit.ko; 'make kernel' builds it, --module names it");
		return false;
	}
	snprintf(tool, sizeof(tool), "%.*s/%s", (int)(strrchr(run, '/') - run), run,
		 guests[index].tool);
	snprintf(figures, sizeof(figures), "%s/guests", share);
	snprintf(runs, sizeof(runs), "%u", bench_options.quick ? 1 : bench_options.runs);
	add(&line, "--figures", figures);
	add(&line, "--cpu", bench_options.lab);
	add(&line, "--runs", runs);
	add(&line, "--limits", bench_options.limits ? bench_options.limits : "");
	if (scenario) {
		add(&line, scenario, NULL);
	} else {
		add(&line, "--module", bench_options.module);
		if (bench_options.rows && !strcmp(name, BENCH_NESTED_TABLE))
			add(&line, "--rows", bench_options.rows);
	}
	if (bench_lab_tool(build, line.word))
		list = json_object_from_file(figures);
	else
		bench_skip(name, "lab/%s failed, see above", guests[index].tool);
	unlink(figures);
	bench_report_list(list);
	json_object_put(list);
	return list != NULL;
}

bool bench_guests_lab(const char *run, const char *build, const char *share, char **names,
		      unsigned count)
{
	bool good = false;

	for (size_t i = 0; i < GUESTS; i++) {
		bool wanted = !count;

		for (unsigned j = 0; j < count; j++)
			wanted |= !strcmp(names[j], guests[i].name);
		if (wanted)
			good |= measure(i, run, build, share);
	}
	return good;
}
