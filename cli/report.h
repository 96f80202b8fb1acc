/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * report.h - noexit report: one page of HTML from one or two files of noexit run --stats.
 *
 * report.c reads the files, report_page.c writes the page section by section, report_chart.c draws,
 * report_html.c knows how text and numbers are written. The page needs nothing from elsewhere and
 * has no script, so it can be mailed, and opened years later.
 */
#ifndef NX_CLI_REPORT_H
#define NX_CLI_REPORT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* A file of noexit run --stats, and what every section needs of it. */
struct report_run {
	const char *path;
	struct json_object *file; /* NULL: there is no such run */
	bool on;                  /* exits were avoided; false: made with --off */
	uint64_t taken, avoided;
	double seconds; /* from the first VM to the end; 0: an older file without it */
};

struct report {
	struct report_run without, with;
	const char *title;
};

/* The exits of a device; those without noexit and those with it are from two runs. */
struct report_device {
	char name[64];
	uint64_t without, taken, avoided;
};

#define REPORT_DEVICES 1024

/* ---- report.c ---- */

/* Return member `key` of the type, or NULL. */
struct json_object *report_get(struct json_object *object, const char *key, enum json_type type);
uint64_t report_number(struct json_object *object, const char *key);

/*
 * Read a file into *run. Return 0, or the status of cli_refuse(), which has said what is wrong with
 * it. The caller releases run->file.
 */
int report_load(const char *path, struct report_run *run);

/* Write the page to the path; "-" is standard output. Return 0 or the status of cli_refuse(). */
int report_write(const struct report *report, const char *path);

/* ---- report_device.c ---- */

/*
 * Sum exits by device, the busiest first, and everything beyond the first `most` in one further
 * entry. Return how many entries there are.
 */
unsigned report_devices(const struct report *report, struct report_device *device, unsigned most);

/* ---- report_page.c ---- */

void report_page(FILE *out, const struct report *report);

/* The one sentence: what was gained. */
void report_gain(FILE *out, const struct report *report);

/* ---- report_chart.c ---- */

/* Bars by device, two for each: without noexit, and with it. */
void report_bars(FILE *out, const struct report *report);
/* Exits per second over time, a line for each run. Return whether there was anything to draw. */
bool report_timeline(FILE *out, const struct report *report);
/* How many guest instructions lie between one exit and the next. */
void report_distances(FILE *out, struct json_object *distance);

/* ---- report_html.c ---- */

extern const char report_style[];

void html_text(FILE *out, const char *text);
/* 57370 as 57,370. The text lies in a ring of buffers: sixteen later calls may overwrite it. */
const char *html_count(uint64_t number);
/* 123 ns, 4.1 us, 12.3 ms, 8.10 s. */
const char *html_time(double ns);
/* part of whole as "93.9%". */
const char *html_percent(uint64_t part, uint64_t whole);

#endif
