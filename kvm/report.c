/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * report.c - the figures at the end of the process.
 *
 * The JSON is printed by hand: this may run inside _exit(), where nothing may be allocated, and a
 * JSON library in the VMM's address space could take the place of the VMM's own (two of them
 * share function names).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"

#define MAX_CLUSTERS 1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	struct nx_stats stats;
	struct nx_counters engine;
	struct nx_cluster_info cluster[MAX_CLUSTERS];
	unsigned clusters;
	unsigned vcpus;
} totals;

/* ---- Adding up ---- */

static void fold_engine(const struct nx_vcpu *engine)
{
	const struct nx_counters *counters = nx_vcpu_counters(engine);
	const struct nx_cluster *cluster = NULL;

#define NX_X(name, text) totals.engine.name += counters->name;
	NX_COUNTERS(NX_X)
#undef NX_X
	for (unsigned i = 0; i < NX_LEAVE_REASON_COUNT; i++)
		totals.engine.leaves[i] += counters->leaves[i];
	while (totals.clusters < MAX_CLUSTERS && (cluster = nx_cluster_next(engine, cluster)))
		nx_cluster_describe(cluster, &totals.cluster[totals.clusters++]);
}

void nx_report_fold(const struct nx_stats *stats, const struct nx_vcpu *engine)
{
	pthread_mutex_lock(&lock);
	nx_stats_add(&totals.stats, stats);
	totals.vcpus++;
	if (engine)
		fold_engine(engine);
	pthread_mutex_unlock(&lock);
}

static void fold_living(struct nx_object *object, void *data)
{
	struct nx_kvm_vcpu *vcpu = (struct nx_kvm_vcpu *)object;

	(void)data;
	if (object->type != NX_OBJECT_VCPU)
		return;
	nx_vcpu_read_kvm_stats(vcpu);
	nx_report_fold(&vcpu->stats, vcpu->engine);
}

struct sum {
	uint64_t *taken, *avoided;
};

static void sum_living(struct nx_object *object, void *data)
{
	const struct nx_kvm_vcpu *vcpu = (const struct nx_kvm_vcpu *)object;
	struct sum *sum = data;

	if (object->type != NX_OBJECT_VCPU)
		return;
	*sum->taken += nx_stats_taken_total(&vcpu->stats);
	*sum->avoided += nx_stats_avoided_total(&vcpu->stats);
}

void nx_report_totals(uint64_t *taken, uint64_t *avoided)
{
	struct sum sum = {taken, avoided};

	pthread_mutex_lock(&lock);
	*taken = nx_stats_taken_total(&totals.stats);
	*avoided = nx_stats_avoided_total(&totals.stats);
	pthread_mutex_unlock(&lock);
	nx_fd_for_each(sum_living, &sum);
}

/* ---- Printing ---- */

struct out {
	int fd;
	bool failed, comma;
	size_t used;
	char text[4096];
};

static void out_flush(struct out *out)
{
	size_t at = 0;

	while (at < out->used && !out->failed) {
		ssize_t n = write(out->fd, out->text + at, out->used - at);

		if (n > 0)
			at += (size_t)n;
		else if (n < 0 && errno != EINTR)
			out->failed = true;
	}
	out->used = 0;
}

static void __attribute__((format(printf, 2, 3))) print(struct out *out, const char *format, ...)
{
	va_list arguments;
	int length;

	if (out->used > sizeof(out->text) - 512)
		out_flush(out);
	va_start(arguments, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is, in the line above */
	length = vsnprintf(out->text + out->used, 512, format, arguments);
	va_end(arguments);
	out->used += (size_t)(length < 511 ? length : 511);
}

static void begin(struct out *out, const char *name, char bracket)
{
	print(out, "%s\n  \"%s\": %c", out->comma ? "," : "", name, bracket);
	out->comma = false;
}

static void end(struct out *out, char bracket)
{
	print(out, "%c", bracket);
	out->comma = true;
}

static void number(struct out *out, const char *name, uint64_t value)
{
	print(out, "%s\n  \"%s\": %" PRIu64, out->comma ? "," : "", name, value);
	out->comma = true;
}

static void number_if(struct out *out, const char *name, uint64_t value)
{
	if (value)
		number(out, name, value);
}

static void text(struct out *out, const char *name, const char *value)
{
	print(out, "%s\n  \"%s\": \"%s\"", out->comma ? "," : "", name, value);
	out->comma = true;
}

/* ---- The parts of the file ---- */

/* In hundredths of a percent, rounded: no floating point needed for two digits. */
static unsigned hundredths(uint64_t part, uint64_t whole)
{
	return whole ? (unsigned)((part * 10000 + whole / 2) / whole) : 0;
}

static void print_percent(struct out *out, const char *name, unsigned value)
{
	print(out, ",\n  \"%s\": %u.%02u", name, value / 100, value % 100);
}

static void print_kinds(struct out *out, const struct nx_stats *stats)
{
	uint64_t other = 0;

	begin(out, "taken_by_kind", '{');
	for (unsigned i = 0; i < NX_EXIT_REASONS; i++) {
		if (!strcmp(nx_exit_reason_name(i), "other"))
			other += stats->taken[i];
		else
			number_if(out, nx_exit_reason_name(i), stats->taken[i]);
	}
	number_if(out, "intr", stats->intr);
	number(out, "other", other);
	end(out, '}');
	begin(out, "avoided_by_kind", '{');
	number(out, "io", stats->avoided[NX_EXIT_IO]);
	number(out, "mmio", stats->avoided[NX_EXIT_MMIO]);
	end(out, '}');
}

static int compare_places(const void *a, const void *b)
{
	const struct nx_place *left = *(const struct nx_place *const *)a;
	const struct nx_place *right = *(const struct nx_place *const *)b;
	uint64_t l = left->taken + left->avoided, r = right->taken + right->avoided;

	return l < r ? 1 : l > r ? -1 : left->address > right->address ? 1 : -1;
}

/* qsort() may allocate: so a plain insertion sort, the lists being short. */
static void sort(const void **item, unsigned count, int (*compare)(const void *, const void *))
{
	for (unsigned i = 1; i < count; i++) {
		const void *moving = item[i];
		unsigned at = i;

		while (at && compare(&item[at - 1], &moving) > 0) {
			item[at] = item[at - 1];
			at--;
		}
		item[at] = moving;
	}
}

static void print_places(struct out *out, const struct nx_stats *stats)
{
	static const void *order[NX_STATS_PLACES];
	unsigned count = 0;

	for (unsigned i = 0; i < NX_STATS_PLACES; i++) {
		if (stats->place[i].used)
			order[count++] = &stats->place[i];
	}
	sort(order, count, compare_places);
	begin(out, "by", '[');
	for (unsigned i = 0; i < count; i++) {
		const struct nx_place *place = order[i];
		enum nx_exit_kind kind = place->kind;

		print(out,
		      "%s\n    {\"kind\": \"%s\", \"device\": \"%s\", \"address\": \"0x%" PRIx64
		      "\", \"taken\": %" PRIu64 ", \"avoided\": %" PRIu64 "}",
		      i ? "," : "", kind == NX_EXIT_IO ? "io" : "mmio",
		      nx_device_name(kind, place->address), place->address, place->taken,
		      place->avoided);
	}
	if (stats->place_overflow_taken || stats->place_overflow_avoided)
		print(out,
		      "%s\n    {\"kind\": \"any\", \"device\": \"further addresses\", "
		      "\"address\": \"\", \"taken\": %" PRIu64 ", \"avoided\": %" PRIu64 "}",
		      count ? "," : "", stats->place_overflow_taken, stats->place_overflow_avoided);
	end(out, ']');
}

static void print_leaves(struct out *out, const struct nx_stats *stats)
{
	static const char *const host[] = {
#define NX_X(name, word, text) word,
	    NX_HOST_LEAVES(NX_X)
#undef NX_X
	};
	static const char *const unfit[] = {"fit",
#define NX_X(name, word, text) word,
					    NX_UNFITS(NX_X)
#undef NX_X
	};

	begin(out, "leaves", '{');
	for (unsigned i = 0; i < NX_LEAVE_REASON_COUNT; i++) {
		if (totals.engine.leaves[i])
			number(out, nx_leave_reason_name((enum nx_leave_reason)i),
			       totals.engine.leaves[i]);
	}
	for (unsigned i = 0; i < NX_HOST_LEAVE_COUNT; i++)
		number_if(out, host[i], stats->leaves[i]);
	end(out, '}');
	begin(out, "not_taken_over", '{');
	for (unsigned i = 1; i < NX_UNFIT_COUNT; i++)
		number_if(out, unfit[i], stats->unfit[i]);
	end(out, '}');
}

static int compare_clusters(const void *a, const void *b)
{
	const struct nx_cluster_info *left = *(const struct nx_cluster_info *const *)a;
	const struct nx_cluster_info *right = *(const struct nx_cluster_info *const *)b;

	return left->exits < right->exits ? 1 : left->exits > right->exits ? -1 : 0;
}

static void print_clusters(struct out *out)
{
	static const void *order[MAX_CLUSTERS];

	for (unsigned i = 0; i < totals.clusters; i++)
		order[i] = &totals.cluster[i];
	sort(order, totals.clusters, compare_clusters);
	begin(out, "clusters", '[');
	for (unsigned i = 0; i < totals.clusters; i++) {
		const struct nx_cluster_info *cluster = order[i];

		print(out,
		      "%s\n    {\"entry\": \"0x%" PRIx64
		      "\", \"bits\": %u, \"instructions\": %u, \"exiting\": %u, \"blocks\": %u, "
		      "\"code_bytes\": %u, \"executions\": %" PRIu64 ", \"exits_avoided\": %" PRIu64
		      "}",
		      i ? "," : "", cluster->entry_rip, cluster->bits, cluster->instructions,
		      cluster->exiting, cluster->blocks, cluster->code_bytes, cluster->executions,
		      cluster->exits);
	}
	end(out, ']');
}

static uint64_t kvm_stat(const struct nx_stats *stats, const char *name)
{
	for (unsigned i = 0; i < stats->kvm_stats; i++) {
		if (!strcmp(stats->kvm_stat[i].name, name))
			return stats->kvm_stat[i].value;
	}
	return 0;
}

/*
 * KVM counts accesses to devices of its own as well, so its figure is at least ours where all
 * went well; without an in-kernel interrupt controller both must be equal.
 */
static void print_kvm(struct out *out, const struct nx_stats *stats)
{
	uint64_t io = kvm_stat(stats, "io_exits"), mmio = kvm_stat(stats, "mmio_exits");

	begin(out, "kvm_stats", '{');
	for (unsigned i = 0; i < stats->kvm_stats; i++)
		number(out, stats->kvm_stat[i].name, stats->kvm_stat[i].value);
	end(out, '}');
	begin(out, "kvm_agreement", '{');
	number(out, "io_counted", stats->taken[KVM_EXIT_IO]);
	number(out, "io_kvm", io);
	number(out, "mmio_counted", stats->taken[KVM_EXIT_MMIO]);
	number(out, "mmio_kvm", mmio);
	end(out, '}');
}

static void print_all(struct out *out)
{
	const struct nx_stats *stats = &totals.stats;
	uint64_t taken = nx_stats_taken_total(stats), avoided = nx_stats_avoided_total(stats);

	print(out, "{");
	text(out, "clustering", nx_options.off ? "off" : "on");
	number(out, "vcpus", totals.vcpus);
	number(out, "exits_taken", taken);
	number(out, "exits_avoided", avoided);
	print_percent(out, "avoided_percent", hundredths(avoided, taken + avoided));
	print_kinds(out, stats);
	print_places(out, stats);
#define NX_X(name, help) number(out, #name, stats->name);
	NX_KVM_COUNTERS(NX_X)
#undef NX_X
	begin(out, "engine", '{');
#define NX_X(name, help) number(out, #name, totals.engine.name);
	NX_COUNTERS(NX_X)
#undef NX_X
	end(out, '}');
	print_leaves(out, stats);
	print_clusters(out);
	print_kvm(out, stats);
	print(out, "\n}\n");
	out_flush(out);
}

static void write_file(const char *path)
{
	static struct out out;

	out.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (out.fd >= 0)
		print_all(&out);
	if (out.fd < 0 || out.failed)
		nx_say("the statistics could not be written to %s: %s", path, strerror(errno));
	if (out.fd >= 0)
		nx_real.close(out.fd);
}

void nx_report_final(void)
{
	uint64_t taken, avoided;
	unsigned percent;

	nx_fd_for_each(fold_living, NULL);
	taken = nx_stats_taken_total(&totals.stats);
	avoided = nx_stats_avoided_total(&totals.stats);
	percent = hundredths(avoided, taken + avoided);
	if (nx_options.stats)
		write_file(nx_options.stats);
	nx_say("%" PRIu64 " exits taken, %" PRIu64 " avoided (%u.%02u%%)", taken, avoided,
	       percent / 100, percent % 100);
}
