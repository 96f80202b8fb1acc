/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* frame.c - see frame.h. */
#include "frame.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "listing.h"

#define MAX_DEVICES 8

/* The figures of the chosen VMs at the beginning and at the end of the interval. */
struct span {
	struct nx_figures before, now;
	double seconds;
};

static void __attribute__((format(printf, 3, 4)))
add(struct frame *frame, bool heading, const char *format, ...)
{
	va_list arguments;

	if (frame->lines == FRAME_LINES)
		return;
	va_start(arguments, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the line above initializes it */
	vsnprintf(frame->line[frame->lines], FRAME_WIDTH, format, arguments);
	va_end(arguments);
	frame->heading[frame->lines++] = heading;
}

static bool chosen(const struct frame_choice *choice, const struct watch_vcpu *vcpu)
{
	return choice->vm < 0 || (unsigned)choice->vm == vcpu->vm;
}

static void sum(struct nx_figures *to, const struct watch *watch, const struct frame_choice *choice)
{
	memset(to, 0, sizeof(*to));
	if (choice->vm < 0) {
		*to = watch->total;
		return;
	}
	for (unsigned i = 0; i < watch->vcpus; i++) {
		if (chosen(choice, &watch->vcpu[i]) && watch_counts(watch, &watch->vcpu[i]))
			nx_figures_add(to, &watch->vcpu[i].figures);
	}
}

/* A counter may go back when a vCPU has gone. */
static double rate(uint64_t before, uint64_t now, double seconds)
{
	return now > before ? (double)(now - before) / seconds : 0;
}

static double percent(double part, double whole)
{
	return whole > 0 ? 100 * part / whole : 0;
}

/* ---- Exits and stays ---- */

static void add_exits(struct frame *frame, const char *name, const struct nx_stats *a,
		      const struct nx_stats *b, double seconds)
{
	uint64_t taken = nx_stats_taken_total(b), avoided = nx_stats_avoided_total(b);
	double taken_rate = rate(nx_stats_taken_total(a), taken, seconds);
	double avoided_rate = rate(nx_stats_avoided_total(a), avoided, seconds);
	unsigned share = nx_hundredths(avoided, taken + avoided);

	add(frame, false,
	    "%s: %.0f taken, %.0f avoided (%.2f%%); since the start %" PRIu64 " taken, %" PRIu64
	    " avoided (%u.%02u%%)",
	    name, taken_rate, avoided_rate, percent(avoided_rate, taken_rate + avoided_rate), taken,
	    avoided, share / 100, share % 100);
}

static void add_stays(struct frame *frame, const struct span *span)
{
	const struct nx_stats *a = &span->before.host, *b = &span->now.host;
	double stays = rate(a->takeovers, b->takeovers, span->seconds);
	double stayed = rate(a->stays_ns, b->stays_ns, span->seconds);
	double engine = rate(a->engine_ns, b->engine_ns, span->seconds);

	add(frame, false,
	    "stays/s: %.0f, of %.1f us each; longest since the start %.1f us; of a processor "
	    "%.1f%% in "
	    "stays, %.1f%% in the engine",
	    stays, stays > 0 ? stayed / stays / 1e3 : 0, (double)b->longest_stay_ns / 1e3,
	    stayed / 1e7, engine / 1e7);
}

static void add_costs(struct frame *frame, const struct nx_stats *stats)
{
	char text[FRAME_WIDTH] = "costs in us";
	size_t used = strlen(text);

#define NX_X(name, word, help)                                                                 \
	if (stats->cost_ns[NX_COST_##name] && used < sizeof(text))                             \
		used += (size_t)snprintf(text + used, sizeof(text) - used, "  %s: %.1f", word, \
					 (double)stats->cost_ns[NX_COST_##name] / 1e3);
	NX_COSTS(NX_X)
#undef NX_X
	if (used > strlen("costs in us"))
		add(frame, false, "%s", text);
}

/* Print the shares of the classes, on as many lines as they need. */
static void add_classes(struct frame *frame, const char *title, const uint64_t *before,
			const uint64_t *now, unsigned classes)
{
	char text[FRAME_WIDTH], range[32], entry[64];
	double all = 0;
	size_t used;

	for (unsigned i = 0; i < classes; i++)
		all += rate(before[i], now[i], 1);
	used = (size_t)snprintf(text, sizeof(text), "%s", title);
	for (unsigned i = 0; i < classes; i++) {
		double share = percent(rate(before[i], now[i], 1), all);
		size_t size;

		if (share < 0.5)
			continue;
		watch_class_name(i, classes, range, sizeof(range));
		size = (size_t)snprintf(entry, sizeof(entry), "  %s: %.0f%%", range, share);
		if (used + size >= sizeof(text)) {
			add(frame, false, "%s", text);
			used = (size_t)snprintf(text, sizeof(text), "%s", title);
		}
		memcpy(text + used, entry, size + 1);
		used += size;
	}
	add(frame, false, "%s", text);
}

/* ---- Devices ---- */

struct device {
	const struct nx_exit_place *place;
	double taken, avoided;
};

static int compare_devices(const void *a, const void *b)
{
	const struct device *left = a, *right = b;
	double l = left->taken + left->avoided, r = right->taken + right->avoided;

	return (l < r) - (l > r);
}

static const struct nx_exit_place *find_place(const struct nx_stats *stats,
					      const struct nx_exit_place *like)
{
	for (unsigned i = 0; i < NX_STATS_PLACES; i++) {
		const struct nx_exit_place *place = &stats->place[i];

		if (place->used && place->kind == like->kind && place->address == like->address)
			return place;
	}
	return NULL;
}

static void add_devices(struct frame *frame, const struct span *span)
{
	static struct device device[NX_STATS_PLACES];
	unsigned count = 0;

	for (unsigned i = 0; i < NX_STATS_PLACES; i++) {
		const struct nx_exit_place *now = &span->now.host.place[i], *before;

		if (!now->used)
			continue;
		before = find_place(&span->before.host, now);
		device[count].place = now;
		device[count].taken = rate(before ? before->taken : 0, now->taken, span->seconds);
		device[count++].avoided =
		    rate(before ? before->avoided : 0, now->avoided, span->seconds);
	}
	qsort(device, count, sizeof(*device), compare_devices);
	add(frame, true, "%-20s %10s %12s %12s", "DEVICE", "ADDRESS", "TAKEN/S", "AVOIDED/S");
	for (unsigned i = 0; i < count && i < MAX_DEVICES; i++) {
		const struct nx_exit_place *place = device[i].place;
		const char *name = nx_device_name((enum nx_exit_kind)place->kind, place->address);

		add(frame, false, "%-20s %10" PRIx64 " %12.0f %12.0f", *name ? name : "-",
		    place->address, device[i].taken, device[i].avoided);
	}
}

/* ---- Clusters ---- */

struct frame_row {
	const struct watch_vcpu *vcpu;
	const struct nx_share_cluster *cluster;
	double avoided, executions;
	double key;
};

static int compare_rows(const void *a, const void *b)
{
	const struct frame_row *left = a, *right = b;

	if (left->key != right->key)
		return left->key < right->key ? 1 : -1;
	return (left->cluster->exits < right->cluster->exits) -
	       (left->cluster->exits > right->cluster->exits);
}

/* Return the same translation in the earlier copy, or NULL if it is new. */
static const struct nx_share_cluster *find_cluster(const struct watch *watch,
						   const struct watch_vcpu *vcpu,
						   const struct nx_share_cluster *like)
{
	for (unsigned i = 0; i < watch->vcpus; i++) {
		const struct nx_share_clusters *in = watch->vcpu[i].clusters;

		if (watch->vcpu[i].vm != vcpu->vm || watch->vcpu[i].number != vcpu->number ||
		    watch->vcpu[i].kernel != vcpu->kernel)
			continue;
		for (unsigned n = 0; n < in->count; n++) {
			if (in->cluster[n].code == like->code &&
			    in->cluster[n].entry_rip == like->entry_rip)
				return &in->cluster[n];
		}
	}
	return NULL;
}

static double key_of(const struct frame_row *row, enum frame_sort sort)
{
	switch (sort) {
	case FRAME_SORT_EXECUTIONS:
		return row->executions;
	case FRAME_SORT_INSTRUCTIONS:
		return row->cluster->instructions;
	case FRAME_SORT_TOTAL:
		return (double)row->cluster->exits;
	case FRAME_SORT_BENEFIT:
		return (double)row->cluster->benefit_ns;
	default:
		return row->avoided;
	}
}

static struct frame_row make_row(const struct watch *before, const struct watch_vcpu *vcpu,
				 const struct nx_share_cluster *cluster, double seconds,
				 enum frame_sort sort)
{
	const struct nx_share_cluster *old = find_cluster(before, vcpu, cluster);
	struct frame_row row = {
	    .vcpu = vcpu,
	    .cluster = cluster,
	    .avoided = rate(old ? old->exits : 0, cluster->exits, seconds),
	    .executions = rate(old ? old->executions : 0, cluster->executions, seconds),
	};

	row.key = key_of(&row, sort);
	return row;
}

static void add_clusters(struct frame *frame, const struct watch *before, const struct watch *now,
			 const struct frame_choice *choice, double seconds)
{
	struct frame_row *row = calloc((size_t)now->vcpus * NX_SHARE_CLUSTERS + 1, sizeof(*row));
	size_t count = 0;

	if (!row)
		return;
	for (unsigned i = 0; i < now->vcpus; i++) {
		const struct watch_vcpu *vcpu = &now->vcpu[i];

		for (unsigned n = 0; chosen(choice, vcpu) && n < vcpu->clusters->count; n++) {
			if (!vcpu->clusters->cluster[n].dropped)
				row[count++] = make_row(before, vcpu, &vcpu->clusters->cluster[n],
							seconds, choice->sort);
		}
	}
	qsort(row, count, sizeof(*row), compare_rows);
	add(frame, true, "%16s %3s %4s %4s %5s %7s %12s %12s %14s %12s", "CLUSTER", "VM", "VCPU",
	    "BITS", "INSNS", "EXITING", "EXECUTIONS/S", "AVOIDED/S", "AVOIDED", "BENEFIT");
	for (size_t i = 0; i < count; i++) {
		const struct nx_share_cluster *cluster = row[i].cluster;
		char benefit[32];

		listing_benefit(cluster, benefit, sizeof(benefit));
		add(frame, false,
		    "%16" PRIx64 " %3u %4u %4u %5u %7u %12.0f %12.0f %14" PRIu64 " %12s",
		    cluster->entry_rip, row[i].vcpu->vm, row[i].vcpu->number, cluster->bits,
		    cluster->instructions, cluster->exiting, row[i].executions, row[i].avoided,
		    cluster->exits, benefit);
	}
	free(row);
}

/* ---- The frame ---- */

void frame_make(struct frame *frame, const struct watch *before, const struct watch *now,
		const struct frame_choice *choice)
{
	static const char *const sorts[] = {
#define NX_X(name, key, word, text) text,
	    FRAME_SORTS(NX_X)
#undef NX_X
	};
	static struct span span;
	char vm[32] = "all VMs";

	frame->lines = 0;
	sum(&span.before, before, choice);
	sum(&span.now, now, choice);
	span.seconds = (double)(now->time_ns - before->time_ns) / 1e9;
	if (span.seconds <= 0)
		span.seconds = 1;
	if (choice->vm >= 0)
		snprintf(vm, sizeof(vm), "VM %d", choice->vm);
	add(frame, false, "%s, process %d: VMs: %u, vCPUs: %u; %s, clusters by %s", now->command,
	    (int)now->pid, now->vms, watch_counted(now), vm, sorts[choice->sort]);
	add_exits(frame, "exits/s", &span.before.host, &span.now.host, span.seconds);
	if (now->library && now->kernel_vcpus)
		add_exits(frame, "the hardware's, by noexit.ko", &before->kernel.host,
			  &now->kernel.host, span.seconds);
	add_stays(frame, &span);
	add_costs(frame, &span.now.host);
	add_classes(frame, "stays by us", span.before.host.stay, span.now.host.stay,
		    NX_STAY_CLASSES);
	add_classes(frame, "instructions between exits", span.before.engine.distance,
		    span.now.engine.distance, NX_DISTANCES);
	for (unsigned i = 0; i < now->vcpus; i++) {
		if (chosen(choice, &now->vcpu[i]) && *now->vcpu[i].off)
			add(frame, false, "VM %u, vCPU %u: off: %s", now->vcpu[i].vm,
			    now->vcpu[i].number, now->vcpu[i].off);
	}
	add(frame, false, "%s", "");
	add_devices(frame, &span);
	add(frame, false, "%s", "");
	add_clusters(frame, before, now, choice, span.seconds);
}
