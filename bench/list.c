/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* list.c - the benchmarks there are. */
#include "bench.h"

static const struct bench benches[] = {
    {"engine", "the engine's steps against the round trip of an exit", bench_engine, 0},
#define NX_X(name, help) {"filler-" #name, help, bench_filler, BENCH_FILLER_##name},
    BENCH_FILLERS(NX_X)
#undef NX_X
#define NX_X(name, user, help) {#name, help, bench_workload, BENCH_WORKLOAD_##name},
	BENCH_WORKLOADS(NX_X)
#undef NX_X
#define NX_X(name, end, kernel, help, ...) {#name, help, bench_system, BENCH_SYSTEM_##name},
	    BENCH_SYSTEMS(NX_X)
#undef NX_X
		{"levels-seabios", "SeaBIOS with each --level", bench_levels, BENCH_SYSTEM_seabios},
    {"levels-debian", "Debian's kernel with each --level", bench_levels, BENCH_SYSTEM_debian},
};

const struct bench *bench_get(unsigned index)
{
	return index < sizeof(benches) / sizeof(benches[0]) ? &benches[index] : NULL;
}
