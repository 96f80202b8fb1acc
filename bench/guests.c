/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * guests.c - figures of whole guests that lab/guests runs: round trips between two guests by each
 * kind of network card, a guest two levels deep, and how late a guest's timer is.
 *
 * lab/guests boots the guests in a host VM and compares what they said. So they are measured in the
 * lab only.
 */
#include <json-c/json.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

static const struct {
	const char *name, *scenario;
	const char *lab; /* NULL for either */
} guests[] = {
    {BENCH_NETWORK, "network", "amd"},
    {BENCH_NESTED, "nested-boot", NULL},
    {BENCH_LATENESS, "lateness", "amd"},
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

static bool measure(size_t index, const char *run, const char *build, const char *share)
{
	char tool[PATH_MAX], figures[64], runs[16];
	const char *const line[] = {tool,
				    "--figures",
				    figures,
				    "--cpu",
				    bench_options.lab,
				    "--runs",
				    runs,
				    "--limits",
				    bench_options.limits ? bench_options.limits : "",
				    guests[index].scenario,
				    NULL};
	const char *name = guests[index].name;
	struct json_object *list = NULL;

	if (guests[index].lab && strcmp(bench_options.lab, guests[index].lab) != 0) {
		bench_skip(name, "its guests need the lab of the other kind");
		return false;
	}
	snprintf(tool, sizeof(tool), "%.*s/guests", (int)(strrchr(run, '/') - run), run);
	snprintf(figures, sizeof(figures), "%s/guests", share);
	snprintf(runs, sizeof(runs), "%u", bench_options.quick ? 1 : bench_options.runs);
	if (bench_lab_tool(build, line))
		list = json_object_from_file(figures);
	else
		bench_skip(name, "lab/guests failed, see above");
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
