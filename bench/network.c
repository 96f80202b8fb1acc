/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * network.c - round trips between two guests, by each kind of network card.
 *
 * It is a scenario of lab/guests, which boots the guests in a host VM, counts the exits of the
 * round trips alone, and compares what arrived. So it is measured in the lab only.
 */
#include <json-c/json.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

bool bench_network(const char *name, unsigned number)
{
	(void)number;
	/* Inside the lab nothing is missing: whoever started it does the rest. */
	if (!strcmp(bench_options.substrate, "native"))
		bench_skip(name, "its guests are those of the lab; measure it with --lab");
	return false;
}

bool bench_network_lab(const char *run, const char *build, const char *share)
{
	char guests[PATH_MAX], figures[64], runs[16];
	const char *const line[] = {guests, "--figures",   figures, "--runs",
				    runs,   BENCH_NETWORK, NULL};
	struct json_object *list = NULL;

	if (strcmp(bench_options.lab, "amd") != 0) {
		bench_skip(BENCH_NETWORK, "its guests need the lab of AMD's kind");
		return false;
	}
	snprintf(guests, sizeof(guests), "%.*s/guests", (int)(strrchr(run, '/') - run), run);
	snprintf(figures, sizeof(figures), "%s/network", share);
	snprintf(runs, sizeof(runs), "%u", bench_options.quick ? 1 : bench_options.runs);
	if (bench_lab_tool(build, line))
		list = json_object_from_file(figures);
	else
		bench_skip(BENCH_NETWORK, "lab/guests failed, see above");
	unlink(figures);
	bench_report_list(list);
	json_object_put(list);
	return list != NULL;
}
