/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* json.c - see json.h. */
#include "json.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- Printing ---- */

static void flush(struct nx_json *out)
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

static void __attribute__((format(printf, 2, 3)))
print(struct nx_json *out, const char *format, ...)
{
	va_list arguments;
	int length;

	if (out->used > sizeof(out->text) - 512)
		flush(out);
	va_start(arguments, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the line above initializes it */
	length = vsnprintf(out->text + out->used, 512, format, arguments);
	va_end(arguments);
	out->used += (size_t)(length < 511 ? length : 511);
}

static void name_print(struct nx_json *out, const char *name)
{
	print(out, "%s%s\"%s\": ", out->comma ? "," : "",
	      out->depth <= 1 ? "\n  "
	      : out->comma    ? " "
			      : "",
	      name);
	out->comma = true;
}

void nx_json_begin(struct nx_json *out, const char *name, char bracket)
{
	if (name)
		name_print(out, name);
	print(out, "%c", bracket);
	out->comma = false;
	out->depth++;
}

void nx_json_end(struct nx_json *out, char bracket)
{
	print(out, "%c", bracket);
	out->comma = true;
	out->depth--;
}

void nx_json_open(struct nx_json *out)
{
	nx_json_begin(out, NULL, '{');
}

void nx_json_close(struct nx_json *out)
{
	print(out, "\n");
	nx_json_end(out, '}');
	print(out, "\n");
	out->comma = false;
	flush(out);
}

void nx_json_element(struct nx_json *out)
{
	print(out, "%s%s{", out->comma ? "," : "", out->depth <= 2 ? "\n    " : " ");
	out->comma = false;
	out->depth++;
}

void nx_json_number(struct nx_json *out, const char *name, uint64_t value)
{
	name_print(out, name);
	print(out, "%" PRIu64, value);
}

static void number_if(struct nx_json *out, const char *name, uint64_t value)
{
	if (value)
		nx_json_number(out, name, value);
}

static void address(struct nx_json *out, const char *name, uint64_t value)
{
	name_print(out, name);
	print(out, "\"0x%" PRIx64 "\"", value);
}

/* Bytes beyond ASCII are taken for Latin-1, since a VMM's arguments may be anything. */
static void quoted(struct nx_json *out, const char *value)
{
	print(out, "\"");
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;

		print(out,
		      c == '"' || c == '\\' ? "\\%c"
		      : c < 32 || c > 126   ? "\\u%04x"
					    : "%c",
		      c);
	}
	print(out, "\"");
}

void nx_json_text(struct nx_json *out, const char *name, const char *value)
{
	name_print(out, name);
	quoted(out, value);
}

void nx_json_string(struct nx_json *out, const char *value)
{
	print(out, "%s", out->comma ? ", " : "");
	quoted(out, value);
	out->comma = true;
}

/* ---- Exits ---- */

/* Two digits need no floating point. */
unsigned nx_hundredths(uint64_t part, uint64_t whole)
{
	return whole ? (unsigned)((part * 10000 + whole / 2) / whole) : 0;
}

static void print_percent(struct nx_json *out, const char *name, unsigned value)
{
	name_print(out, name);
	print(out, "%u.%02u", value / 100, value % 100);
}

static void print_kinds(struct nx_json *out, const struct nx_stats *stats)
{
	uint64_t other = stats->handled_other;

	nx_json_begin(out, "taken_by_kind", '{');
#define NX_X(name, word, text) number_if(out, word, nx_stats_taken_of(stats, NX_CLASS_##name));
	NX_EXIT_CLASSES(NX_X)
#undef NX_X
	for (unsigned i = 0; i < NX_EXIT_REASONS; i++) {
		if (nx_stats_class_of(i) != NX_EXIT_CLASS_COUNT)
			continue;
		if (!strcmp(nx_exit_reason_name(i), "other"))
			other += stats->taken[i];
		else
			number_if(out, nx_exit_reason_name(i), stats->taken[i]);
	}
	number_if(out, "intr", stats->intr);
	nx_json_number(out, "other", other);
	nx_json_end(out, '}');
	nx_json_begin(out, "avoided_by_kind", '{');
#define NX_X(name, word, text)                                                   \
	if (NX_CLASS_##name <= NX_CLASS_MMIO || stats->avoided[NX_CLASS_##name]) \
		nx_json_number(out, word, stats->avoided[NX_CLASS_##name]);
	NX_EXIT_CLASSES(NX_X)
#undef NX_X
	nx_json_end(out, '}');
}

static void print_place(struct nx_json *out, const struct nx_exit_place *place)
{
	enum nx_exit_kind kind = place->kind;

	nx_json_element(out);
	nx_json_text(out, "kind", kind == NX_EXIT_IO ? "io" : "mmio");
	nx_json_text(out, "device", nx_device_name(kind, place->address));
	address(out, "address", place->address);
	nx_json_number(out, "taken", place->taken);
	nx_json_number(out, "avoided", place->avoided);
	nx_json_end(out, '}');
}

static void print_places(struct nx_json *out, const struct nx_stats *stats)
{
	static const struct nx_exit_place *order[NX_STATS_PLACES];
	unsigned count = nx_stats_places(stats, order);

	nx_json_begin(out, "by", '[');
	for (unsigned i = 0; i < count; i++)
		print_place(out, order[i]);
	if (stats->place_overflow_taken || stats->place_overflow_avoided) {
		nx_json_element(out);
		nx_json_text(out, "kind", "any");
		nx_json_text(out, "device", "further addresses");
		nx_json_text(out, "address", "");
		nx_json_number(out, "taken", stats->place_overflow_taken);
		nx_json_number(out, "avoided", stats->place_overflow_avoided);
		nx_json_end(out, '}');
	}
	nx_json_end(out, ']');
}

/* ---- Stays ---- */

static void print_leaves(struct nx_json *out, const struct nx_figures *figures)
{
	const struct nx_stats *stats = &figures->host;

	nx_json_begin(out, "leaves", '{');
#define NX_X(name, text) number_if(out, #name, figures->engine.leaves[NX_LEAVE_##name]);
	NX_LEAVE_REASONS(NX_X)
#undef NX_X
#define NX_X(name, word, text) number_if(out, word, stats->leaves[NX_HOST_LEAVE_##name]);
	NX_HOST_LEAVES(NX_X)
#undef NX_X
	nx_json_end(out, '}');
	nx_json_begin(out, "not_taken_over", '{');
#define NX_X(name, word, text) number_if(out, word, stats->unfit[NX_UNFIT_##name]);
	NX_UNFITS(NX_X)
#undef NX_X
	nx_json_end(out, '}');
}

void nx_json_list(struct nx_json *out, const char *name, const uint64_t *value, unsigned count)
{
	nx_json_begin(out, name, '[');
	for (unsigned i = 0; i < count; i++)
		print(out, "%s%" PRIu64, i ? ", " : "", value[i]);
	nx_json_end(out, ']');
}

void nx_json_alone(struct nx_json *out, const struct nx_alone *place)
{
	nx_json_element(out);
	address(out, "rip", place->rip);
	nx_json_number(out, "times", place->times);
	nx_json_text(out, "reason", nx_alone_word(place->reason));
	if (*nx_leave_word(place->leave))
		nx_json_text(out, "leave", nx_leave_word(place->leave));
	nx_json_end(out, '}');
}

static void print_alone(struct nx_json *out, const struct nx_figures *figures)
{
	const struct nx_alone *order[NX_ALONE_PLACES];
	unsigned count = nx_figures_alone(figures, order);

	nx_json_begin(out, "left_alone", '[');
	for (unsigned i = 0; i < count; i++)
		nx_json_alone(out, order[i]);
	nx_json_end(out, ']');
}

/* ---- Clusters ---- */

static void print_edges(struct nx_json *out, const struct nx_share_block *block)
{
	static const char *const limits[] = {"", ", \"limit\": \"weak\"", ", \"limit\": \"idle\""};

	nx_json_begin(out, "edges", '[');
	for (unsigned i = 0; i < NX_CLUSTER_EDGES; i++) {
		bool target = i >= 2 && i - 2 < block->targets;

		if (block->edge[i] == NX_CLUSTER_NOWHERE && !target)
			continue;
		print(out, "%s{\"way\": \"%s\"", out->comma ? ", " : "",
		      i == 0   ? "next"
		      : i == 1 ? "taken"
			       : "target");
		out->comma = true;
		if (target)
			print(out, ", \"rip\": \"0x%" PRIx64 "\"", block->target[i - 2]);
		if (block->edge[i] != NX_CLUSTER_NOWHERE)
			print(out, ", \"to\": %u%s", block->edge[i],
			      limits[block->limit[i] <= NX_EDGE_IDLE ? block->limit[i] : 0]);
		print(out, "}");
	}
	nx_json_end(out, ']');
}

static void print_block(struct nx_json *out, const struct nx_share_block *block)
{
	const uint8_t *shape = nx_share_block_shape(block), *code = nx_share_block_code(block);

	nx_json_element(out);
	address(out, "rip", block->rip);
	name_print(out, "entry");
	print(out, block->entry ? "true" : "false");
	nx_json_number(out, "calls", block->calls);
	nx_json_begin(out, "lengths", '[');
	for (unsigned i = 0; i < block->instructions; i++)
		print(out, "%s%u", i ? ", " : "", shape[i] & NX_SHAPE_LENGTH);
	nx_json_end(out, ']');
	nx_json_begin(out, "exits", '[');
	for (unsigned i = 0; i < block->instructions; i++) {
		if (!(shape[i] & NX_SHAPE_EXITS))
			continue;
		print(out, "%s%u", out->comma ? ", " : "", i);
		out->comma = true;
	}
	nx_json_end(out, ']');
	name_print(out, "code");
	print(out, "\"");
	for (unsigned i = 0; i < block->bytes; i++)
		print(out, "%02x", code[i]);
	print(out, "\"");
	print_edges(out, block);
	nx_json_end(out, '}');
}

void nx_json_cluster(struct nx_json *out, const struct nx_share_clusters *in,
		     const struct nx_share_cluster *cluster)
{
	const struct nx_share_block *block = NULL;

	nx_json_element(out);
	address(out, "entry", cluster->entry_rip);
	nx_json_number(out, "bits", cluster->bits);
	nx_json_number(out, "instructions", cluster->instructions);
	nx_json_number(out, "exiting", cluster->exiting);
	nx_json_number(out, "blocks", cluster->blocks);
	nx_json_number(out, "code_bytes", cluster->code_bytes);
	nx_json_number(out, "executions", cluster->executions);
	nx_json_number(out, "exits_avoided", cluster->exits);
	nx_json_number(out, "exits_avoided_mmio", cluster->exits_mmio);
	nx_json_number(out, "exits_avoided_insn", cluster->exits_insn);
	nx_json_number(out, "takeovers", cluster->stays);
	nx_json_number(out, "made_ns", cluster->made_ns);
	name_print(out, "benefit_ns");
	if (cluster->benefit_ns == NX_SHARE_UNMEASURED)
		print(out, "null");
	else
		print(out, "%" PRId64, cluster->benefit_ns);
	name_print(out, "dropped");
	print(out, cluster->dropped ? "true" : "false");
	nx_json_begin(out, "graph", '[');
	while ((block = nx_share_block_next(in, cluster, block)))
		print_block(out, block);
	nx_json_end(out, ']');
	nx_json_end(out, '}');
}

struct shown {
	const struct nx_share_clusters *in;
	const struct nx_share_cluster *cluster;
};

/* Sort by exits, most first. This is a heap sort, because qsort() may allocate. */
static void sift(struct shown *heap, unsigned at, unsigned count)
{
	for (;;) {
		unsigned least = at, child = 2 * at + 1;
		struct shown moving = heap[at];

		for (unsigned i = child; i < child + 2 && i < count; i++) {
			if (heap[i].cluster->exits < heap[least].cluster->exits)
				least = i;
		}
		if (least == at)
			return;
		heap[at] = heap[least];
		heap[least] = moving;
		at = least;
	}
}

static void sort(struct shown *heap, unsigned count)
{
	for (unsigned i = count / 2; i-- > 0;)
		sift(heap, i, count);
	while (count-- > 1) {
		struct shown last = heap[count];

		heap[count] = heap[0];
		heap[0] = last;
		sift(heap, 0, count);
	}
}

static void print_clusters(struct nx_json *out, const struct nx_report *report)
{
	static struct shown order[NX_REPORT_CLUSTERS];
	unsigned count = 0;

	for (unsigned i = 0; i < report->parts; i++) {
		const struct nx_share_clusters *part = report->part[i];

		for (unsigned n = 0; n < part->count && count < NX_REPORT_CLUSTERS; n++)
			order[count++] = (struct shown){part, &part->cluster[n]};
	}
	sort(order, count);
	nx_json_begin(out, "clusters", '[');
	for (unsigned i = 0; i < count; i++)
		nx_json_cluster(out, order[i].in, order[i].cluster);
	nx_json_end(out, ']');
}

/* ---- KVM's own figures ---- */

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
static void print_kvm(struct nx_json *out, const struct nx_stats *stats)
{
	nx_json_begin(out, "kvm_stats", '{');
	for (unsigned i = 0; i < stats->kvm_stats; i++)
		nx_json_number(out, stats->kvm_stat[i].name, stats->kvm_stat[i].value);
	nx_json_end(out, '}');
	nx_json_begin(out, "kvm_agreement", '{');
	nx_json_number(out, "io_counted", stats->taken[KVM_EXIT_IO]);
	nx_json_number(out, "io_kvm", kvm_stat(stats, "io_exits"));
	nx_json_number(out, "mmio_counted", stats->taken[KVM_EXIT_MMIO]);
	nx_json_number(out, "mmio_kvm", kvm_stat(stats, "mmio_exits"));
	nx_json_end(out, '}');
}

void nx_json_report(struct nx_json *out, const struct nx_report *report)
{
	const struct nx_figures *figures = report->figures;
	const struct nx_stats *stats = &figures->host;
	uint64_t taken = nx_stats_taken_total(stats), avoided = nx_stats_avoided_total(stats);

	nx_json_text(out, "clustering", report->clustering ? "on" : "off");
	nx_json_number(out, "vcpus", report->vcpus);
	nx_json_number(out, "exits_taken", taken);
	nx_json_number(out, "exits_avoided", avoided);
	print_percent(out, "avoided_percent", nx_hundredths(avoided, taken + avoided));
	print_kinds(out, stats);
	print_places(out, stats);
#define NX_X(name, help) nx_json_number(out, #name, stats->name);
	NX_KVM_COUNTERS(NX_X)
#undef NX_X
	nx_json_number(out, "longest_stay_ns", stats->longest_stay_ns);
	nx_json_begin(out, "cost_ns", '{');
#define NX_X(name, word, help) nx_json_number(out, word, stats->cost_ns[NX_COST_##name]);
	NX_COSTS(NX_X)
#undef NX_X
	nx_json_end(out, '}');
	nx_json_list(out, "stays_by_us", stats->stay, NX_STAY_CLASSES);
	nx_json_begin(out, "engine", '{');
#define NX_X(name, help) nx_json_number(out, #name, figures->engine.name);
	NX_COUNTERS(NX_X)
#undef NX_X
	nx_json_end(out, '}');
	nx_json_list(out, "distance", figures->engine.distance, NX_DISTANCES);
	print_leaves(out, figures);
	print_alone(out, figures);
	print_clusters(out, report);
	print_kvm(out, stats);
}
