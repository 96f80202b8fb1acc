/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* stat.c - noexit stat: the counters of a running VMM. */
#define _GNU_SOURCE
#include "cli.h"

#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "watch.h"

#define MAX_ROWS 24

enum { KEY_JSON = 0x100 };

struct stat_options {
	struct cli_look look; /* an interval of 0 means once, a count of 0 without end */
	bool json;
};

/* ---- Arguments ---- */

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct stat_options *options = state->input;

	if (key != KEY_JSON)
		return cli_parse_look(key, text, state, &options->look);
	options->json = true;
	return 0;
}

static const struct argp_option argp_options[] = {
    {"pid", 'p', "PID", 0, "The VMM to look at (default: the one that runs)", 0},
    {"interval", 'i', "SECONDS", 0, "One line, or JSON object, every SECONDS until the VMM ends",
     0},
    {"count", 'n', "N", 0, "With -i: end after N", 0},
    {"json", KEY_JSON, NULL, 0, "For machines: the keys of 'noexit run --stats', and more", 0},
    {0},
};

static const struct argp parser = {
    .options = argp_options,
    .parser = parse,
    .doc = "Prints what a running VMM's exits were and how many were avoided.\v"
	   "Looking costs the VM nothing. Exit status 2: there is no such VMM, or it is not yours.",
};

/* ---- Text ---- */

static void print_kind(const char *name, uint64_t taken, uint64_t avoided)
{
	if (taken || avoided)
		printf("%-8s%12" PRIu64 "%12" PRIu64 "\n", name, taken, avoided);
}

static void print_exits(const struct nx_stats *stats)
{
	uint64_t taken = nx_stats_taken_total(stats), avoided = nx_stats_avoided_total(stats);
	unsigned percent = nx_hundredths(avoided, taken + avoided);

	printf("exits taken %" PRIu64 ", avoided %" PRIu64 " (%u.%02u%%)\n\n", taken, avoided,
	       percent / 100, percent % 100);
	printf("%-8s%12s%12s\n", "kind", "taken", "avoided");
#define NX_X(name, word, text)                                      \
	print_kind(word, nx_stats_taken_of(stats, NX_CLASS_##name), \
		   stats->avoided[NX_CLASS_##name]);
	NX_EXIT_CLASSES(NX_X)
#undef NX_X
	for (unsigned i = 0; i < NX_EXIT_REASONS; i++) {
		if (nx_stats_class_of(i) == NX_EXIT_CLASS_COUNT)
			print_kind(nx_exit_reason_name(i), stats->taken[i], 0);
	}
	print_kind("signal", stats->intr, 0);
	print_kind("others", stats->handled_other, 0);
}

static void print_places(const struct nx_stats *stats)
{
	static const struct nx_exit_place *order[NX_STATS_PLACES];
	unsigned count = nx_stats_places(stats, order);

	printf("\n%-20s%-12s%12s%12s\n", "device", "address", "taken", "avoided");
	for (unsigned i = 0; i < count && i < MAX_ROWS; i++) {
		const struct nx_exit_place *place = order[i];
		const char *name = nx_device_name((enum nx_exit_kind)place->kind, place->address);

		printf("%-20s%-12" PRIx64 "%12" PRIu64 "%12" PRIu64 "\n", *name ? name : "-",
		       place->address, place->taken, place->avoided);
	}
	if (count > MAX_ROWS)
		printf("and %u more (--json lists them)\n", count - MAX_ROWS);
}

static void print_reason(uint64_t count, const char *text)
{
	if (count)
		printf("%12" PRIu64 "  %s\n", count, text);
}

static void print_leaves(const struct nx_figures *figures)
{
	puts("\nstays ended because");
#define NX_X(name, text) print_reason(figures->engine.leaves[NX_LEAVE_##name], text);
	NX_LEAVE_REASONS(NX_X)
#undef NX_X
#define NX_X(name, word, text) print_reason(figures->host.leaves[NX_HOST_LEAVE_##name], text);
	NX_HOST_LEAVES(NX_X)
#undef NX_X
}

/* Classes 0, 1, 2 to 3, 4 to 7 and so on. */
static void print_classes(const char *title, const uint64_t *class, unsigned count)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < count; i++)
		sum += class[i];
	printf("\n%s\n", title);
	for (unsigned i = 0; i < count; i++) {
		unsigned percent = nx_hundredths(class[i], sum);
		char range[32];

		if (!class[i])
			continue;
		watch_class_name(i, count, range, sizeof(range));
		printf("%12s%12" PRIu64 "%6u.%u%%\n", range, class[i], percent / 100,
		       percent % 100 / 10);
	}
}

static void print_costs(const struct nx_stats *stats)
{
	bool any = false;

	for (unsigned i = 0; i < NX_COST_COUNT; i++)
		any |= stats->cost_ns[i] != 0;
	if (any)
		puts("\nmeasured here, in microseconds");
#define NX_X(name, word, text)              \
	if (stats->cost_ns[NX_COST_##name]) \
		printf("%12.1f  %s\n", (double)stats->cost_ns[NX_COST_##name] / 1e3, text);
	NX_COSTS(NX_X)
#undef NX_X
}

static void print_engine(const struct nx_figures *figures)
{
	const struct nx_counters *engine = &figures->engine;
	const struct nx_stats *host = &figures->host;

	printf("\nclusters: %" PRIu64 " translated, %" PRIu64 " retired, %" PRIu64
	       " grown, %" PRIu64 " stale, %" PRIu64 " cache flushes\n",
	       engine->translated, engine->retired, engine->grown, engine->stale, engine->flushes);
	printf("%" PRIu64 " resumes ran %" PRIu64 " guest instructions at least, in %.3f ms\n",
	       engine->resumes, engine->instructions, (double)host->engine_ns / 1e6);
	printf("%" PRIu64 " stays, %.3f ms with the VMM's work in them; the longest %.1f us\n",
	       host->takeovers, (double)host->stays_ns / 1e6, (double)host->longest_stay_ns / 1e3);
	print_costs(host);
	print_leaves(figures);
	print_classes("stays by microseconds", host->stay, NX_STAY_CLASSES);
	print_classes("avoided exits by guest instructions since the exit before", engine->distance,
		      NX_DISTANCES);
}

static void print_kernel(const struct nxk_stats *stats)
{
	putchar('\n');
#define NX_X(name, text) print_reason(stats->name, text);
	NXK_STATS(NX_X)
#undef NX_X
}

static void print_text(const struct watch *watch)
{
	printf("%s, process %d: VMs: %u, vCPUs: %u\n", watch->command, (int)watch->pid, watch->vms,
	       watch_counted(watch));
	print_exits(&watch->total.host);
	print_places(&watch->total.host);
	print_engine(&watch->total);
	printf("\n%-4s%-6s%12s%12s\n", "VM", "vCPU", "taken", "avoided");
	for (unsigned i = 0; i < watch->vcpus; i++) {
		const struct watch_vcpu *vcpu = &watch->vcpu[i];

		printf("%-4u%-6u%12" PRIu64 "%12" PRIu64 "%s%s%s\n", vcpu->vm, vcpu->number,
		       nx_stats_taken_total(&vcpu->figures.host),
		       nx_stats_avoided_total(&vcpu->figures.host),
		       watch_counts(watch, vcpu) ? "" : "  in the kernel",
		       *vcpu->off ? "  off: " : "", vcpu->off);
	}
	if (!watch->kernel_vcpus)
		return;
	printf("\nin the kernel, by noexit.ko, on %u vCPUs\n", watch->kernel_vcpus);
	if (watch->library) {
		print_exits(&watch->kernel.host);
		print_places(&watch->kernel.host);
		print_engine(&watch->kernel);
	}
	print_kernel(&watch->kernel.kernel);
}

/* ---- JSON ---- */

/* Collect the clusters of the vCPUs whose figures are in the total, or of the others. */
static unsigned collect(const struct watch *watch, bool in_total,
			const struct nx_share_clusters **part)
{
	unsigned parts = 0;

	for (unsigned i = 0; i < watch->vcpus; i++) {
		if (watch_counts(watch, &watch->vcpu[i]) == in_total)
			part[parts++] = watch->vcpu[i].clusters;
	}
	return parts;
}

static void print_json_kernel(struct nx_json *out, const struct watch *watch,
			      const struct nx_share_clusters **part)
{
	struct nx_report report = {
	    .clustering = true,
	    .vcpus = watch->kernel_vcpus,
	    .figures = &watch->kernel,
	    .part = part,
	};

	if (!watch->kernel_vcpus)
		return;
	nx_json_begin(out, "kernel", '{');
#define NX_X(name, text) nx_json_number(out, #name, watch->kernel.kernel.name);
	NXK_STATS(NX_X)
#undef NX_X
	if (watch->library) {
		report.parts = collect(watch, false, part);
		nx_json_report(out, &report);
	}
	nx_json_end(out, '}');
}

static int print_json(const struct watch *watch)
{
	struct nx_json out = {.fd = STDOUT_FILENO};
	const struct nx_share_clusters **part = calloc(watch->vcpus + 1, sizeof(void *));
	struct nx_report report = {
	    .clustering = watch->clustering,
	    .vcpus = watch->vcpus_ever,
	    .figures = &watch->total,
	    .part = part,
	};

	if (!part)
		return cli_refuse("out of memory");
	nx_json_open(&out);
	nx_json_number(&out, "pid", (uint64_t)watch->pid);
	nx_json_text(&out, "command", watch->command);
	nx_json_number(&out, "time_ns", watch->time_ns);
	nx_json_text(&out, "host", watch->library ? "library" : "kernel");
	nx_json_number(&out, "vms", watch->vms);
	nx_json_begin(&out, "per_vcpu", '[');
	for (unsigned i = 0; i < watch->vcpus; i++) {
		const struct watch_vcpu *vcpu = &watch->vcpu[i];

		nx_json_element(&out);
		nx_json_number(&out, "vm", vcpu->vm);
		nx_json_number(&out, "vcpu", vcpu->number);
		nx_json_text(&out, "host", vcpu->kernel ? "kernel" : "library");
		nx_json_number(&out, "exits_taken", nx_stats_taken_total(&vcpu->figures.host));
		nx_json_number(&out, "exits_avoided", nx_stats_avoided_total(&vcpu->figures.host));
		nx_json_text(&out, "off", vcpu->off);
		nx_json_end(&out, '}');
	}
	nx_json_end(&out, ']');
	print_json_kernel(&out, watch, part);
	report.parts = collect(watch, true, part);
	nx_json_report(&out, &report);
	nx_json_close(&out);
	free(part);
	return 0;
}

/* ---- Once, and again and again ---- */

static void print_line(const struct watch *now, const struct watch *before, unsigned line)
{
	const struct nx_stats *a = &before->total.host, *b = &now->total.host;
	double seconds = (double)(now->time_ns - before->time_ns) / 1e9;
	uint64_t taken = nx_stats_taken_total(b) - nx_stats_taken_total(a);
	uint64_t avoided = nx_stats_avoided_total(b) - nx_stats_avoided_total(a);
	unsigned percent = nx_hundredths(avoided, taken + avoided);

	if (line % 20 == 0)
		printf("%12s%12s%9s%12s%12s%10s\n", "taken/s", "avoided/s", "avoided", "stays/s",
		       "resumes/s", "engine");
	printf("%12.0f%12.0f%5u.%02u%%%12.0f%12.0f%9.1f%%\n", (double)taken / seconds,
	       (double)avoided / seconds, percent / 100, percent % 100,
	       (double)(b->takeovers - a->takeovers) / seconds,
	       (double)(now->total.engine.resumes - before->total.engine.resumes) / seconds,
	       (double)(b->engine_ns - a->engine_ns) / 1e7 / seconds);
	fflush(stdout);
}

static int print_once(const struct watch *watch, const struct stat_options *options)
{
	if (options->json)
		return print_json(watch);
	print_text(watch);
	return 0;
}

static int print_repeatedly(struct watch *before, const struct stat_options *options)
{
	for (unsigned line = 0; !options->look.count || line < options->look.count; line++) {
		struct watch now;

		cli_sleep(options->look.interval);
		/* The end of the VMM is no error. */
		if (watch_read(before->pid, options->json, &now))
			break;
		if (options->json)
			print_json(&now);
		else
			print_line(&now, before, line);
		watch_free(before);
		*before = now;
	}
	return 0;
}

int cli_stat(int argc, char **argv)
{
	struct stat_options options = {0};
	enum watch_result result;
	static struct watch watch;
	pid_t pid;
	int refused;

	argp_parse(&parser, argc, argv, 0, NULL, &options);
	refused = cli_choose(options.look.pid, &pid);
	if (refused)
		return refused;
	result = watch_read(pid, options.json, &watch);
	if (result)
		return cli_refuse_watch(pid, result);
	refused = options.look.interval > 0 ? print_repeatedly(&watch, &options)
					    : print_once(&watch, &options);
	watch_free(&watch);
	return refused;
}
