/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* explain.c - noexit explain: the clusters of a running VMM, or of a file of noexit run --stats. */
#define _GNU_SOURCE
#include "cli.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alone.h"
#include "json.h"
#include "listing.h"
#include "watch.h"

enum { KEY_JSON = 0x100, KEY_ALONE };

struct explain_options {
	struct cli_look look; /* count: how many clusters to show, or 0 for all */
	const char *file;
	bool json;
	bool alone; /* places that are left alone, not clusters */
	bool one;   /* only the cluster that begins at entry */
	uint64_t entry;
};

/* ---- Arguments ---- */

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct explain_options *options = state->input;
	char *end;

	switch (key) {
	case 'e':
		options->entry = strtoull(text, &end, 16);
		options->one = true;
		if (end == text || *end)
			argp_error(state,
				   "the argument of -e must be an address in hexadecimal, which "
				   "'%s' is not",
				   text);
		return 0;
	case KEY_JSON:
		options->json = true;
		return 0;
	case KEY_ALONE:
		options->alone = true;
		return 0;
	case ARGP_KEY_ARG:
		if (options->file || options->look.pid)
			argp_error(state, "'%s' is one argument too many; name one file or -p PID",
				   text);
		options->file = text;
		return 0;
	default:
		return cli_parse_look(key, text, state, &options->look);
	}
}

static const struct argp_option argp_options[] = {
    {"pid", 'p', "PID", 0, "The VMM to look at (default: the one that runs)", 0},
    {"count", 'n', "N", 0, "The N clusters that avoided most exits (default 10; 0: all)", 0},
    {"entry", 'e', "ADDRESS", 0, "Only the cluster with this address, in hexadecimal", 0},
    {"alone", KEY_ALONE, NULL, 0, "Places that are left to the hardware, and why", 0},
    {"json", KEY_JSON, NULL, 0, "For machines: an object with the clusters, as in FILE", 0},
    {0},
};

static const struct argp parser = {
    .options = argp_options,
    .parser = parse,
    .args_doc = "[FILE]",
    .doc = "Lists clusters of guest code: of a running VMM, or of FILE, which 'noexit run --stats' "
	   "wrote.\vExiting instructions are starred; '>' marks where an execution may begin. Exit "
	   "status 2: there is nothing to list.",
};

static bool wanted(const struct explain_options *options, const struct nx_share_cluster *cluster)
{
	return !options->one || cluster->entry_rip == options->entry;
}

/* ---- A running VMM ---- */

struct found {
	const struct watch_vcpu *vcpu;
	const struct nx_share_cluster *cluster;
};

static int compare(const void *a, const void *b)
{
	const struct nx_share_cluster *left = ((const struct found *)a)->cluster;
	const struct nx_share_cluster *right = ((const struct found *)b)->cluster;

	return (left->exits < right->exits) - (left->exits > right->exits);
}

static size_t collect(const struct watch *watch, const struct explain_options *options,
		      struct found *found)
{
	size_t count = 0;

	for (unsigned i = 0; i < watch->vcpus; i++) {
		const struct nx_share_clusters *in = watch->vcpu[i].clusters;

		for (unsigned n = 0; n < in->count; n++) {
			if (!wanted(options, &in->cluster[n]))
				continue;
			if (found)
				found[count] = (struct found){&watch->vcpu[i], &in->cluster[n]};
			count++;
		}
	}
	return count;
}

static void print_json(const struct found *found, size_t count)
{
	struct nx_json out = {.fd = STDOUT_FILENO};

	nx_json_open(&out);
	nx_json_begin(&out, "clusters", '[');
	for (size_t i = 0; i < count; i++)
		nx_json_cluster(&out, found[i].vcpu->clusters, found[i].cluster);
	nx_json_end(&out, ']');
	nx_json_close(&out);
}

static size_t explain_vmm(const struct watch *watch, const struct explain_options *options)
{
	size_t count = collect(watch, options, NULL);
	struct found *found = calloc(count + 1, sizeof(*found));

	if (!found)
		return 0;
	collect(watch, options, found);
	qsort(found, count, sizeof(*found), compare);
	if (options->look.count && count > options->look.count)
		count = options->look.count;
	if (options->json)
		print_json(found, count);
	for (size_t i = 0; i < count && !options->json; i++) {
		printf("%sVM %u, vCPU %u%s, ", i ? "\n" : "", found[i].vcpu->vm,
		       found[i].vcpu->number, found[i].vcpu->kernel ? ", in the kernel" : "");
		listing_print(found[i].vcpu->clusters, found[i].cluster);
	}
	free(found);
	return count;
}

static int explain_pid(const struct explain_options *options)
{
	enum watch_result result;
	struct watch watch;
	size_t listed;
	pid_t pid;
	int refused = cli_choose(options->look.pid, &pid);

	if (refused)
		return refused;
	result = watch_read(pid, true, &watch);
	if (result)
		return cli_refuse_watch(pid, result);
	listed = options->alone ? alone_of_vmm(&watch, options->look.count, options->json)
				: explain_vmm(&watch, options);
	watch_free(&watch);
	return listed
		   ? 0
		   : cli_refuse("process %d (%s) has no such %s, or none yet; 'noexit stat' says "
				"what it does",
				(int)pid, watch.command, options->alone ? "place" : "cluster");
}

/* ---- A file ---- */

/* Show the file's clusters, most exits first. */
static int explain_list(struct json_object *clusters, const struct explain_options *options)
{
	struct json_object *file = json_object_new_object(), *list = json_object_new_array();
	static struct nx_share_clusters one;
	size_t listed = 0;

	json_object_object_add(file, "clusters", list);
	for (size_t i = 0; i < json_object_array_length(clusters); i++) {
		struct json_object *cluster = json_object_array_get_idx(clusters, i);

		if (options->look.count && listed == options->look.count)
			break;
		if (!listing_from_json(cluster, &one)) {
			json_object_put(file);
			return cli_refuse(
			    "cluster %zu in '%s' is not as this version of noexit "
			    "writes it; make the file again with 'noexit run --stats'",
			    i, options->file);
		}
		if (!wanted(options, &one.cluster[0]))
			continue;
		listed++;
		if (options->json) {
			json_object_array_add(list, json_object_get(cluster));
			continue;
		}
		if (listed > 1)
			putchar('\n');
		listing_print(&one, &one.cluster[0]);
	}
	if (options->json && listed)
		puts(json_object_to_json_string_ext(file, JSON_C_TO_STRING_PLAIN |
							      JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(file);
	return listed ? 0 : cli_refuse("there is no such cluster in '%s'", options->file);
}

static int explain_file(const struct explain_options *options)
{
	struct json_object *file, *clusters;
	int refused;

	errno = 0;
	file = json_object_from_file(options->file);
	if (!file)
		return cli_refuse("'%s' cannot be read: %s; name a file that 'noexit run --stats' "
				  "wrote",
				  options->file, errno ? strerror(errno) : "it is no JSON");
	if (options->alone)
		refused = alone_of_file(file, options->file, options->look.count, options->json);
	else if (json_object_object_get_ex(file, "clusters", &clusters) &&
		 json_object_is_type(clusters, json_type_array))
		refused = explain_list(clusters, options);
	else
		refused = cli_refuse("'%s' has no clusters; name a file that 'noexit run --stats' "
				     "wrote",
				     options->file);
	json_object_put(file);
	return refused;
}

int cli_explain(int argc, char **argv)
{
	struct explain_options options = {.look.count = 10};

	argp_parse(&parser, argc, argv, 0, NULL, &options);
	return options.file ? explain_file(&options) : explain_pid(&options);
}
