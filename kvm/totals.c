/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* totals.c - the figures of all vCPUs of the process together. */
#define _GNU_SOURCE
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "host.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
struct nx_totals nx_totals;

static const struct nx_share_clusters *copy(const struct nx_share_clusters *clusters)
{
	size_t size = offsetof(struct nx_share_clusters, data) + clusters->used;
	void *to = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return to == MAP_FAILED ? NULL : memcpy(to, clusters, size);
}

void nx_totals_fold(const struct nx_share_vcpu *shared, bool gone)
{
	const struct nx_share_clusters *clusters = &shared->clusters;

	pthread_mutex_lock(&lock);
	nx_figures_add(&nx_totals.figures, &shared->figures);
	nx_totals.vcpus++;
	if (clusters->count && nx_totals.parts < NX_TOTALS_PARTS) {
		nx_totals.part[nx_totals.parts] = gone ? copy(clusters) : clusters;
		nx_totals.parts += nx_totals.part[nx_totals.parts] != NULL;
	}
	pthread_mutex_unlock(&lock);
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

void nx_totals_sum(uint64_t *taken, uint64_t *avoided)
{
	struct sum sum = {taken, avoided};

	pthread_mutex_lock(&lock);
	*taken = nx_stats_taken_total(&nx_totals.figures.host);
	*avoided = nx_stats_avoided_total(&nx_totals.figures.host);
	pthread_mutex_unlock(&lock);
	nx_fd_for_each(sum_living, &sum);
}

void nx_totals_off(const char *why)
{
	unsigned i = 0;

	pthread_mutex_lock(&lock);
	while (i < nx_totals.offs && strcmp(nx_totals.off[i], why) != 0)
		i++;
	if (i == nx_totals.offs && i < NX_TOTALS_OFF)
		nx_totals.off[nx_totals.offs++] = why;
	pthread_mutex_unlock(&lock);
}
