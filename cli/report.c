/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* report.c - noexit report: reads the files, and finds out which run is which. */
#define _GNU_SOURCE
#include "report.h"

#include <argp.h>
#include <errno.h>
#include <string.h>

#include "cli.h"

struct report_options {
	const char *file[2];
	unsigned files;
	const char *output;
	const char *title;
};

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct report_options *options = state->input;

	switch (key) {
	case 'o':
		options->output = text;
		return 0;
	case 't':
		options->title = text;
		return 0;
	case ARGP_KEY_ARG:
		if (options->files == 2)
			argp_error(state,
				   "'%s' is one file too many; give the file of one run, or "
				   "those of a pair",
				   text);
		options->file[options->files++] = text;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "name a file that 'noexit run --stats' wrote");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option argp_options[] = {
    {"output", 'o', "PAGE", 0, "Where the page goes (default report.html; -: standard output)", 0},
    {"title", 't', "TEXT", 0, "What the page calls the guest", 0},
    {0},
};

static const struct argp parser = {
    .options = argp_options,
    .parser = parse,
    .args_doc = "FILE [FILE]",
    .doc = "Makes a page for a browser from what 'noexit run --stats' wrote: of one run, or of a "
	   "pair, one of them with --off.\vThe page is one file without scripts, and needs nothing "
	   "from elsewhere.",
};

/* ---- Files ---- */

struct json_object *report_get(struct json_object *object, const char *key, enum json_type type)
{
	struct json_object *value = NULL;

	if (!object || !json_object_is_type(object, json_type_object) ||
	    !json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, type))
		return NULL;
	return value;
}

uint64_t report_number(struct json_object *object, const char *key)
{
	struct json_object *value = report_get(object, key, json_type_int);

	return value ? json_object_get_uint64(value) : 0;
}

int report_load(const char *path, struct report_run *run)
{
	struct json_object *clustering;

	errno = 0;
	run->path = path;
	run->file = json_object_from_file(path);
	if (!run->file)
		return cli_refuse(
		    "'%s' cannot be read: %s; name a file that 'noexit run --stats' "
		    "wrote",
		    path, errno ? strerror(errno) : "it is no JSON, or its run has not ended");
	clustering = report_get(run->file, "clustering", json_type_string);
	if (!clustering || !report_get(run->file, "exits_taken", json_type_int) ||
	    !report_get(run->file, "by", json_type_array))
		return cli_refuse("'%s' has no counters of a run; name a file that 'noexit run "
				  "--stats' wrote",
				  path);
	run->on = !strcmp(json_object_get_string(clustering), "on");
	run->taken = report_number(run->file, "exits_taken");
	run->avoided = report_number(run->file, "exits_avoided");
	run->seconds = (double)report_number(run->file, "vm_ns") / 1e9;
	return 0;
}

int report_write(const struct report *report, const char *path)
{
	bool standard = !strcmp(path, "-");
	FILE *out = standard ? stdout : fopen(path, "w");
	bool failed;

	if (out) {
		report_page(out, report);
		failed = fflush(out) || ferror(out);
		if (!standard && fclose(out))
			failed = true;
		if (!failed)
			return 0;
	}
	return cli_refuse("'%s' cannot be written: %s; name another file with -o", path,
			  strerror(errno));
}

static int make(const struct report_options *options, struct report *report)
{
	for (unsigned i = 0; i < options->files; i++) {
		struct report_run run = {0}, *to;
		int refused = report_load(options->file[i], &run);

		to = run.on ? &report->with : &report->without;
		if (!refused && to->file)
			refused = cli_refuse("'%s' and '%s' were both made %s --off; a pair is one "
					     "run with it and one without",
					     to->path, run.path, run.on ? "without" : "with");
		if (refused) {
			json_object_put(run.file);
			return refused;
		}
		*to = run;
	}
	return report_write(report, options->output);
}

int cli_report(int argc, char **argv)
{
	struct report_options options = {.output = "report.html"};
	struct report report = {0};
	int refused;

	argp_parse(&parser, argc, argv, 0, NULL, &options);
	report.title = options.title;
	refused = make(&options, &report);
	json_object_put(report.without.file);
	json_object_put(report.with.file);
	if (!refused && strcmp(options.output, "-") != 0)
		printf("written: %s\n", options.output);
	return refused;
}
