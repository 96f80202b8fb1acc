/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* report_page.c - the sections of a report. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "listing.h"
#include "noexit.h"
#include "report.h"
#include "stats.h"

#define MOST_CLUSTERS 8

struct phrase {
	const char *word, *text;
};

static const struct phrase leaves[] = {
#define NX_X(name, text) {#name, text},
    NX_LEAVE_REASONS(NX_X)
#undef NX_X
#define NX_X(name, word, text) {word, text},
	NX_HOST_LEAVES(NX_X)
#undef NX_X
};

static const struct phrase unfits[] = {
#define NX_X(name, word, text) {word, text},
    NX_UNFITS(NX_X)
#undef NX_X
};

static const struct phrase costs[] = {
#define NX_X(name, word, text) {word, text},
    NX_COSTS(NX_X)
#undef NX_X
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* The run that the engine worked in; without one, there are no stays and no clusters. */
static struct json_object *with(const struct report *report)
{
	return report->with.file;
}

/* ---- The sentence ---- */

static void gain_time(FILE *out, const struct report *report)
{
	double without = report->without.seconds, ours = report->with.seconds;
	double percent = without > 0 ? 100 * (without - ours) / without : 0;

	if (without <= 0 || ours <= 0)
		return;
	if (percent >= -0.05 && percent < 0.05)
		fprintf(out, ", in the same time (%s)", html_time(ours * 1e9));
	else
		fprintf(out, ", and took %s instead of %s: %.1f%% %s", html_time(ours * 1e9),
			html_time(without * 1e9), percent > 0 ? percent : -percent,
			percent > 0 ? "less time" : "more time");
}

static void gain_pair(FILE *out, const struct report *report)
{
	uint64_t without = report->without.taken, ours = report->with.taken;
	bool fewer = ours <= without;

	fprintf(out, "With noexit this guest made %s %s exits to its VMM (%s instead of %s)",
		html_percent(fewer ? without - ours : ours - without, without),
		fewer ? "fewer" : "more", html_count(ours), html_count(without));
	gain_time(out, report);
}

/* noexit.ko counts every exit, and the library those that the VMM gets. */
static bool is_kernels(const struct report_run *run)
{
	struct json_object *host = report_get(run->file, "host", json_type_string);

	return host && !strcmp(json_object_get_string(host), "kernel");
}

void report_gain(FILE *out, const struct report *report)
{
	const struct report_run *run = with(report) ? &report->with : &report->without;

	if (report->without.file && with(report))
		gain_pair(out, report);
	else if (run->on)
		fprintf(out, "noexit avoided %s of this guest's exits%s: %s of %s",
			html_percent(run->avoided, run->taken + run->avoided),
			is_kernels(run) ? "" : " to its VMM", html_count(run->avoided),
			html_count(run->taken + run->avoided));
	else
		fprintf(out, "Without noexit this guest made %s exits to its VMM",
			html_count(run->taken));
	fputs(".", out);
}

static void print_head(FILE *out, const struct report *report)
{
	const struct report_run *run = with(report) ? &report->with : &report->without;
	struct json_object *command = report_get(run->file, "command_line", json_type_string);

	fputs("<h1>noexit report", out);
	if (report->title) {
		fputs(": ", out);
		html_text(out, report->title);
	}
	fputs("</h1>\n<p class=gain>", out);
	report_gain(out, report);
	fputs("</p>\n", out);
	if (!with(report))
		fputs("<p>The same command without --off says how many of them noexit avoids."
		      "</p>\n",
		      out);
	if (command) {
		fputs("<p class=command>", out);
		html_text(out, json_object_get_string(command));
		fputs("</p>\n", out);
	}
}

/* ---- Costs ---- */

static void print_costs(FILE *out, struct json_object *run)
{
	struct json_object *cost = report_get(run, "cost_ns", json_type_object);
	uint64_t exit = report_number(cost, "exit_io"), resume = report_number(cost, "resume");
	uint64_t takeover = report_number(cost, "takeover");

	fputs("<h2>What exits cost on this machine</h2>\n", out);
	if (exit > resume && resume && takeover) {
		uint64_t saved = exit - resume;
		/* The exit at which a stay begins is not avoided, so its cost is paid. */
		uint64_t least = (takeover + saved - 1) / saved;

		fprintf(
		    out,
		    "<p>An exit that is avoided saves %s. Taking the guest over costs %s, so it "
		    "pays from %s avoided %s on.</p>\n",
		    html_time((double)saved), html_time((double)takeover), html_count(least),
		    least == 1 ? "exit" : "exits");
	}
	fputs("<table>\n", out);
	for (size_t i = 0; i < COUNT(costs); i++) {
		uint64_t ns = report_number(cost, costs[i].word);

		fprintf(out, "<tr><td class=n>%s</td><td>%s</td></tr>\n",
			ns ? html_time((double)ns) : "not measured", costs[i].text);
	}
	fputs("</table>\n", out);
}

/* ---- Clusters ---- */

static void print_line(void *data, const struct listing_line *line)
{
	FILE *out = data;

	if (line->first)
		fprintf(out, "<u>B%u:</u>\n", line->block);
	fprintf(out, "%c %12" PRIx64 "  ", line->entry ? '>' : ' ', line->rip);
	fputs(line->exits ? "<b>* " : "  ", out);
	html_text(out, line->text);
	fputs(line->exits ? "</b>" : "", out);
	if (*line->note) {
		fputs("  <u>; ", out);
		html_text(out, line->note);
		fputs("</u>", out);
	}
	fputc('\n', out);
}

static void print_benefit(FILE *out, const struct nx_share_cluster *cluster)
{
	double ns = (double)cluster->benefit_ns;

	if (cluster->benefit_ns == NX_SHARE_UNMEASURED)
		fputs("benefit not measured", out);
	else if (ns < 0)
		fprintf(out, "cost %s more than it saved", html_time(-ns));
	else
		fprintf(out, "saved %s", html_time(ns));
}

static void print_cluster(FILE *out, const struct nx_share_clusters *in, uint64_t avoided,
			  bool open)
{
	const struct nx_share_cluster *cluster = &in->cluster[0];

	fprintf(out, "<details%s><summary>%" PRIx64 ": %s exits avoided (%s), ",
		open ? " open" : "", cluster->entry_rip, html_count(cluster->exits),
		html_percent(cluster->exits, avoided));
	print_benefit(out, cluster);
	fprintf(out, "%s; %u instructions, %u of them exiting</summary>\n<pre>",
		cluster->dropped ? ", dropped since" : "", cluster->instructions, cluster->exiting);
	if (!listing_walk(in, cluster, print_line, out))
		fputs("Its code was not kept: there were too many clusters.", out);
	fputs("</pre></details>\n", out);
}

static void print_clusters(FILE *out, const struct report_run *run)
{
	struct json_object *clusters = report_get(run->file, "clusters", json_type_array);
	size_t count = clusters ? json_object_array_length(clusters) : 0, shown = 0;
	static struct nx_share_clusters one;

	fputs("<h2>The hottest clusters</h2>\n", out);
	if (!count) {
		fputs("<p>There were none.</p>\n", out);
		return;
	}
	fprintf(out,
		"<p class=note>A cluster is guest code from one exit to the next that ran outside "
		"guest mode. Instructions that exit are marked with a star, places where the guest "
		"is taken over with '&gt;'. %s of %s are shown.</p>\n",
		html_count(count < MOST_CLUSTERS ? count : MOST_CLUSTERS), html_count(count));
	for (size_t i = 0; i < count && shown < MOST_CLUSTERS; i++, shown++) {
		if (listing_from_json(json_object_array_get_idx(clusters, i), &one))
			print_cluster(out, &one, run->avoided, !shown);
		else
			fputs("<p>A cluster is not as this version of noexit writes it.</p>\n",
			      out);
	}
}

/* ---- Reasons ---- */

static const char *reason_text(const struct phrase *list, size_t count, const char *word)
{
	for (size_t i = 0; i < count; i++) {
		if (!strcmp(list[i].word, word))
			return list[i].text;
	}
	return word;
}

struct counted {
	uint64_t count;
	const char *text;
};

static int compare_rows(const void *a, const void *b)
{
	uint64_t left = ((const struct counted *)a)->count,
		 right = ((const struct counted *)b)->count;

	return (left < right) - (left > right);
}

/*
 * Print an object of counts as rows, the greatest first. The engine and the host may end a stay for
 * the same reason: those are one row.
 */
static void print_reasons(FILE *out, struct json_object *counts, const struct phrase *list,
			  size_t count)
{
	struct counted row[64];
	size_t rows = 0;

	json_object_object_foreach(counts, word, value)
	{
		const char *text = reason_text(list, count, word);
		size_t i = 0;

		while (i < rows && strcmp(row[i].text, text) != 0)
			i++;
		if (i == COUNT(row))
			break;
		if (i == rows)
			row[rows++] = (struct counted){0, text};
		row[i].count += json_object_get_uint64(value);
	}
	qsort(row, rows, sizeof(*row), compare_rows);
	for (size_t i = 0; i < rows; i++) {
		fprintf(out, "<tr><td class=n>%s</td><td>", html_count(row[i].count));
		html_text(out, row[i].text);
		fputs("</td></tr>\n", out);
	}
}

static void print_leaves(FILE *out, const struct report_run *run)
{
	struct json_object *counts = report_get(run->file, "leaves", json_type_object);

	fprintf(out,
		"<h2>Why stays ended</h2>\n<p class=note>The guest was taken over %s times, for %s "
		"altogether, the VMM's work included.</p>\n<table>\n",
		html_count(report_number(run->file, "takeovers")),
		html_time((double)report_number(run->file, "stays_ns")));
	if (counts)
		print_reasons(out, counts, leaves, COUNT(leaves));
	fputs("</table>\n", out);
}

/* ---- What was left alone ---- */

static void print_row(FILE *out, uint64_t count, const char *text)
{
	if (count)
		fprintf(out, "<tr><td class=n>%s</td><td>%s</td></tr>\n", html_count(count), text);
}

static void print_off(FILE *out, const struct report_run *run)
{
	struct json_object *off = report_get(run->file, "off", json_type_array);

	for (size_t i = 0; off && i < json_object_array_length(off); i++) {
		fputs("<p>From some point on, no exits were avoided: ", out);
		html_text(out, json_object_get_string(json_object_array_get_idx(off, i)));
		fputs(".</p>\n", out);
	}
}

static void print_left(FILE *out, const struct report_run *run)
{
	struct json_object *engine = report_get(run->file, "engine", json_type_object);
	struct json_object *kinds = report_get(run->file, "taken_by_kind", json_type_object);
	struct json_object *unfit = report_get(run->file, "not_taken_over", json_type_object);
	uint64_t accesses = report_number(kinds, "io") + report_number(kinds, "mmio");

	fputs("<h2>What was left alone, and why</h2>\n", out);
	print_off(out, run);
	fprintf(out, "<p class=note>%s exits were taken.</p>\n<table>\n", html_count(run->taken));
	print_row(out, run->taken - (accesses < run->taken ? accesses : run->taken),
		  "exits that are neither a port's nor device memory's (halts, signals and the "
		  "like), which noexit does not avoid");
	print_row(out, report_number(engine, "declined"),
		  "exits not taken over, since taking over has not paid there");
	print_row(out, report_number(engine, "waited"),
		  "exits not taken over, since they had not yet cost what making a cluster there "
		  "would");
	print_row(out, report_number(engine, "barren"),
		  "times that no other exiting instruction was found in reach");
	print_row(out, report_number(engine, "traces_failed"),
		  "paths of execution that led to no further exit in reach");
	print_row(out, report_number(engine, "retired"),
		  "clusters dropped, because they avoided nothing");
	print_row(out, report_number(engine, "refused"), "translations that the verifier refused");
	if (unfit)
		print_reasons(out, unfit, unfits, COUNT(unfits));
	fputs("</table>\n", out);
}

/* ---- The page ---- */

static void print_distances(FILE *out, struct json_object *run)
{
	struct json_object *distance = report_get(run, "distance", json_type_array);

	if (!distance)
		return;
	fputs("<h2>How far apart exits are</h2>\n<p class=note>Guest instructions between one "
	      "avoided exit and the one before, on the shortest way; the share of those exits is "
	      "above each column.</p>\n",
	      out);
	report_distances(out, distance);
}

void report_page(FILE *out, const struct report *report)
{
	struct json_object *measured = with(report) ? with(report) : report->without.file;

	fputs("<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
	      "<meta name=viewport content=\"width=device-width,initial-scale=1\">\n"
	      "<link rel=icon href=\"data:,\">\n<title>",
	      out);
	report_gain(out, report);
	fprintf(out, "</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n", report_style);
	print_head(out, report);
	fputs("<h2>Exits by device</h2>\n", out);
	report_bars(out, report);
	fputs("<h2>Exits over time</h2>\n", out);
	if (!report_timeline(out, report))
		fputs("<p class=note>'noexit run --stats-interval=MS' draws them.</p>\n", out);
	if (with(report))
		print_distances(out, with(report));
	print_costs(out, measured);
	if (with(report)) {
		print_clusters(out, &report->with);
		print_leaves(out, &report->with);
		print_left(out, &report->with);
	}
	fprintf(out, "<p class=note>noexit %s</p>\n</main>\n</body>\n</html>\n", NX_VERSION);
}
