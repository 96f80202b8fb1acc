/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* report.c - print the figures at the end of the process. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host.h"
#include "json.h"

#define MAX_PARTS 256
#define MAX_OFF 8
#define MAX_COMMAND 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	struct nx_figures figures;
	/* Clusters of the first vCPUs, in their own memory or, for a deleted vCPU, in a copy. */
	const struct nx_share_clusters *part[MAX_PARTS];
	unsigned parts;
	unsigned vcpus;
	/* Reasons why nothing was avoided, each of them once. */
	const char *off[MAX_OFF];
	unsigned offs;
} totals;

static const struct nx_share_clusters *copy(const struct nx_share_clusters *clusters)
{
	size_t size = offsetof(struct nx_share_clusters, data) + clusters->used;
	void *to = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return to == MAP_FAILED ? NULL : memcpy(to, clusters, size);
}

void nx_report_fold(const struct nx_share_vcpu *shared, bool gone)
{
	const struct nx_share_clusters *clusters = &shared->clusters;

	pthread_mutex_lock(&lock);
	nx_figures_add(&totals.figures, &shared->figures);
	totals.vcpus++;
	if (clusters->count && totals.parts < MAX_PARTS) {
		totals.part[totals.parts] = gone ? copy(clusters) : clusters;
		totals.parts += totals.part[totals.parts] != NULL;
	}
	pthread_mutex_unlock(&lock);
}

static void fold_living(struct nx_object *object, void *data)
{
	struct nx_kvm_vcpu *vcpu = (struct nx_kvm_vcpu *)object;

	(void)data;
	if (object->type != NX_OBJECT_VCPU || vcpu->reported)
		return;
	/* The extra count keeps the vCPU until the process ends, since the report refers to it. */
	vcpu->reported = true;
	atomic_fetch_add(&object->count, 1);
	nx_vcpu_read_kvm_stats(vcpu);
	/* Without the lock the report shows the clusters as published some milliseconds ago. */
	if (vcpu->engine && nx_vcpu_acquire_soon(vcpu)) {
		vcpu->clusters_refreshed = 0;
		nx_share_publish(vcpu, nx_real.now());
		nx_vcpu_release(vcpu);
	}
	nx_report_fold(vcpu->shared, false);
}

struct sum {
	uint64_t *taken, *avoided;
};

static void sum_living(struct nx_object *object, void *data)
{
	const struct nx_kvm_vcpu *vcpu = (const struct nx_kvm_vcpu *)object;
	struct sum *sum = data;

	/* The totals already contain the figures of reported vCPUs. */
	if (object->type != NX_OBJECT_VCPU || vcpu->reported)
		return;
	*sum->taken += nx_stats_taken_total(vcpu->stats);
	*sum->avoided += nx_stats_avoided_total(vcpu->stats);
}

void nx_report_totals(uint64_t *taken, uint64_t *avoided)
{
	struct sum sum = {taken, avoided};

	pthread_mutex_lock(&lock);
	*taken = nx_stats_taken_total(&totals.figures.host);
	*avoided = nx_stats_avoided_total(&totals.figures.host);
	pthread_mutex_unlock(&lock);
	nx_fd_for_each(sum_living, &sum);
}

void nx_report_off(const char *why)
{
	unsigned i = 0;

	pthread_mutex_lock(&lock);
	while (i < totals.offs && strcmp(totals.off[i], why) != 0)
		i++;
	if (i == totals.offs && i < MAX_OFF)
		totals.off[totals.offs++] = why;
	pthread_mutex_unlock(&lock);
}

/* Print the VMM's command line, as the kernel has it, with spaces between the words. */
static void print_command(struct nx_json *out)
{
	static char command[MAX_COMMAND];
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return;
	length = read(fd, command, sizeof(command) - 1);
	nx_real.close(fd);
	for (ssize_t i = 0; i + 1 < length; i++) {
		if (!command[i])
			command[i] = ' ';
	}
	nx_json_text(out, "command_line", command);
}

static void print_run(struct nx_json *out)
{
	print_command(out);
	nx_timeline_print(out);
	nx_json_begin(out, "off", '[');
	for (unsigned i = 0; i < totals.offs; i++)
		nx_json_string(out, totals.off[i]);
	nx_json_end(out, ']');
}

static void write_file(const char *path)
{
	static struct nx_json out;
	struct nx_report report = {
	    .clustering = !nx_options.off,
	    .vcpus = totals.vcpus,
	    .figures = &totals.figures,
	    .part = totals.part,
	    .parts = totals.parts,
	};

	out.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (out.fd >= 0) {
		nx_json_open(&out);
		print_run(&out);
		nx_json_report(&out, &report);
		nx_json_close(&out);
	}
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
	taken = nx_stats_taken_total(&totals.figures.host);
	avoided = nx_stats_avoided_total(&totals.figures.host);
	percent = nx_hundredths(avoided, taken + avoided);
	if (nx_options.stats)
		write_file(nx_options.stats);
	nx_say("%" PRIu64 " exits taken, %" PRIu64 " avoided (%u.%02u%%)", taken, avoided,
	       percent / 100, percent % 100);
}
