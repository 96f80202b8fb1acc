/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* report.c - the figures at the end of the process. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "host.h"
#include "json.h"

#define MAX_PARTS 256

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	struct nx_figures figures;
	/* Clusters of the first vCPUs: their own memory or, of those that are gone, a copy. */
	const struct nx_share_clusters *part[MAX_PARTS];
	unsigned parts;
	unsigned vcpus;
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
	/* It stays as it is while the report is written, which is for ever. */
	vcpu->reported = true;
	atomic_fetch_add(&object->count, 1);
	nx_vcpu_read_kvm_stats(vcpu);
	/* Otherwise the clusters are shown as they were some milliseconds ago. */
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

	if (object->type != NX_OBJECT_VCPU)
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
