/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * report_chart.c - the drawings of a report. All text is HTML around a drawing, never inside: a
 * drawing is as wide as the screen, and text must not shrink with it on a phone.
 */
#include <stdlib.h>

#include "report.h"

#define MOST_DEVICES 12

/* ---- Exits by device ---- */

static void bar(FILE *out, const char *class, uint64_t exits, uint64_t most)
{
	fprintf(out,
		"<div class=bar><i class=%s style=\"width:calc((100%% - "
		"4.6rem)*%.4f)\"></i><b>%s</b></div>\n",
		class, most ? (double)exits / (double)most : 0.0, html_count(exits));
}

void report_bars(FILE *out, const struct report *report)
{
	static struct report_device device[REPORT_DEVICES];
	unsigned count = report_devices(report, device, MOST_DEVICES);
	uint64_t most = 0;

	for (unsigned i = 0; i < count; i++) {
		if (device[i].without > most)
			most = device[i].without;
		if (device[i].taken > most)
			most = device[i].taken;
	}
	fprintf(out, "<div class=key><span><i class=without></i>%s</span>",
		report->without.file ? "without noexit" : "without noexit, as this run would have");
	if (report->with.file)
		fputs("<span><i class=with></i>with noexit</span>", out);
	fputs("</div>\n<div class=bars>\n", out);
	for (unsigned i = 0; i < count; i++) {
		fputs("<span>", out);
		html_text(out, device[i].name);
		fputs("</span><div>\n", out);
		bar(out, "without", device[i].without, most);
		if (report->with.file)
			bar(out, "with", device[i].taken, most);
		fputs("</div>\n", out);
	}
	fputs("</div>\n", out);
}

/* ---- Exits per second ---- */

struct line {
	struct json_object *at_ms, *taken;
	size_t count;
	double end; /* ms */
};

static struct line line_of(const struct report_run *run)
{
	struct line line = {0};
	struct json_object *timeline = report_get(run->file, "timeline", json_type_object);

	line.at_ms = report_get(timeline, "at_ms", json_type_array);
	line.taken = report_get(timeline, "taken", json_type_array);
	if (!line.at_ms || !line.taken ||
	    json_object_array_length(line.at_ms) != json_object_array_length(line.taken))
		return (struct line){0};
	line.count = json_object_array_length(line.at_ms);
	if (line.count)
		line.end =
		    json_object_get_double(json_object_array_get_idx(line.at_ms, line.count - 1));
	return line;
}

static double value(struct json_object *array, size_t i)
{
	return json_object_get_double(json_object_array_get_idx(array, i));
}

/* Return the exits per second between sample i and the one before. */
static double rate(const struct line *line, size_t i, double *from, double *to)
{
	double before = i ? value(line->taken, i - 1) : 0;

	*from = i ? value(line->at_ms, i - 1) : 0;
	*to = value(line->at_ms, i);
	return *to > *from ? (value(line->taken, i) - before) * 1000 / (*to - *from) : -1;
}

static double rate_most(const struct line *line)
{
	double most = 0, from, to;

	for (size_t i = 0; i < line->count; i++) {
		double now = rate(line, i, &from, &to);

		if (now > most)
			most = now;
	}
	return most;
}

static void draw_line(FILE *out, const struct line *line, const char *colour, double end,
		      double most)
{
	double from, to;

	fprintf(out, "<polyline style=\"stroke:var(--%s)\" points=\"", colour);
	for (size_t i = 0; i < line->count; i++) {
		double now = rate(line, i, &from, &to);

		/* Two samples of the same millisecond are one. */
		if (now < 0)
			continue;
		fprintf(out, "%.2f,%.2f %.2f,%.2f ", 1000 * from / end, 198 - 196 * now / most,
			1000 * to / end, 198 - 196 * now / most);
	}
	fputs("\"/>\n", out);
}

bool report_timeline(FILE *out, const struct report *report)
{
	struct line without = line_of(&report->without), with = line_of(&report->with);
	double end = without.end > with.end ? without.end : with.end;
	double most = rate_most(&without), other = rate_most(&with);

	if (other > most)
		most = other;
	if (end <= 0 || most <= 0)
		return false;
	fputs("<div class=key>", out);
	if (without.count)
		fputs("<span><i class=without></i>without noexit</span>", out);
	if (with.count)
		fputs("<span><i class=with></i>with noexit</span>", out);
	fprintf(out,
		"</div>\n<div class=box><div class=axis><span>%s exits a second</span></div>\n"
		"<svg viewBox=\"0 0 1000 200\" preserveAspectRatio=none role=img "
		"aria-label=\"Exits a second over time\">\n",
		html_count((uint64_t)most));
	if (without.count)
		draw_line(out, &without, "without", end, most);
	if (with.count)
		draw_line(out, &with, "with", end, most);
	fprintf(out,
		"</svg>\n<div class=axis><span>0 s</span><span>%s</span><span>%s</span></div>"
		"</div>\n",
		html_time(end * 5e5), html_time(end * 1e6));
	return true;
}

/* ---- Distances ---- */

/* A column is as wide as three digits on a phone. */
static void print_share(FILE *out, uint64_t exits, uint64_t all)
{
	double percent = all ? 100.0 * (double)exits / (double)all : 0;

	if (percent >= 0.5)
		fprintf(out, "%.0f%%", percent);
	else if (exits)
		fputs("&lt;1", out);
}

void report_distances(FILE *out, struct json_object *distance)
{
	size_t count = json_object_array_length(distance);
	uint64_t all = 0, most = 0, so_far = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t exits = json_object_get_uint64(json_object_array_get_idx(distance, i));

		all += exits;
		if (exits > most)
			most = exits;
	}
	fputs("<div class=box><div class=columns>\n", out);
	for (size_t i = 0; i < count; i++) {
		uint64_t exits = json_object_get_uint64(json_object_array_get_idx(distance, i));
		uint64_t first = i ? 1ull << (i - 1) : 0;

		so_far += exits;
		fprintf(out, "<div title=\"%s exits; %s at most so far apart\">", html_count(exits),
			html_percent(so_far, all));
		print_share(out, exits, all);
		fprintf(out, "<i style=\"height:%.1f%%\"></i><small>%llu%s</small></div>\n",
			most ? 78.0 * (double)exits / (double)most : 0.0, (unsigned long long)first,
			i > 1 ? "+" : "");
	}
	fputs("</div></div>\n", out);
}
