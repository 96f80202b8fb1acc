/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* figure.c - medians and spreads. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(double *value, unsigned count)
{
	qsort(value, count, sizeof(*value), compare);
	return count % 2 ? value[count / 2] : (value[count / 2 - 1] + value[count / 2]) / 2;
}

void bench_sample(struct bench_samples *samples, double without, double with)
{
	if (samples->count == BENCH_SAMPLES)
		return;
	samples->without[samples->count] = without;
	samples->with[samples->count++] = with;
}

struct bench_figure bench_figure(const struct bench_samples *samples)
{
	struct bench_samples sorted = *samples;
	double ratio[BENCH_SAMPLES];
	struct bench_figure figure;
	unsigned n = samples->count, tenth = n / 10;

	for (unsigned i = 0; i < n; i++)
		ratio[i] = samples->without[i] / samples->with[i];
	figure.without = bench_median(sorted.without, n);
	figure.with = bench_median(sorted.with, n);
	figure.ratio = bench_median(ratio, n);
	figure.spread = (ratio[n - 1 - tenth] - ratio[tenth]) / figure.ratio;
	return figure;
}
