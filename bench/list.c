/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* list.c - the benchmarks there are. */
#include "bench.h"

struct bench_options bench_options = {.substrate = "native",
				      .kernel = "/guest/vmlinuz",
				      .initrd = "/guest/initrd",
				      .runs = 3,
				      .smp = 1};

enum {
#define NX_X(name) UNCACHED_##name,
	BENCH_UNCACHED(NX_X)
#undef NX_X
};

static const struct bench benches[] = {
    {"engine", "the engine's steps against the round trip of an exit", bench_engine, 0},
#define NX_X(name, help) {"filler-" #name, help, bench_filler, BENCH_FILLER_##name},
    BENCH_FILLERS(NX_X)
#undef NX_X
#define NX_X(name, word, user, readings, help) {word, help, bench_workload, BENCH_WORKLOAD_##name},
	BENCH_WORKLOADS(NX_X)
#undef NX_X
#define NX_X(name)                                                                                \
	{"uncached-" #name, "its exits without clusters, each instruction translated for itself", \
	 bench_uncached, UNCACHED_##name},
	    BENCH_UNCACHED(NX_X)
#undef NX_X
		{"hosts", "the same exits without noexit, with the library and with noexit.ko",
		 bench_hosts, 0},
    {"watching", "a guest while others read its counters all the time", bench_watching, 0},
#define NX_X(name, word, begin, end, initrd, append, help, ...) \
	{word, help, bench_system, BENCH_SYSTEM_##name},
    BENCH_SYSTEMS(NX_X)
#undef NX_X
	{"levels-seabios", "SeaBIOS with each --level", bench_levels, BENCH_SYSTEM_seabios},
    {"levels-debian", "Debian's kernel with each --level", bench_levels, BENCH_SYSTEM_debian},
    {"limits-seabios", "SeaBIOS with each --limits: noexit's and its predecessors'", bench_limits,
     BENCH_SYSTEM_seabios},
    {"limits-debian", "Debian's kernel with each --limits", bench_limits, BENCH_SYSTEM_debian},
    {"distance-seabios", "instructions between the exits of SeaBIOS", bench_distance,
     BENCH_SYSTEM_seabios},
    {"distance-debian", "instructions between the exits of Debian's kernel", bench_distance,
     BENCH_SYSTEM_debian},
    {"accesses-seabios", "the same without noexit, in QEMU's emulator", bench_accesses,
     BENCH_SYSTEM_seabios},
    {"accesses-debian", "the same of Debian's kernel", bench_accesses, BENCH_SYSTEM_debian},
    {BENCH_NETWORK, "round trips by e1000, rtl8139 and virtio-net; with --lab", bench_guests, 0},
    {BENCH_NESTED, "a short boot of Debian's kernel two levels deep; with --lab", bench_guests, 0},
    {BENCH_NESTED_TABLE, "guests two levels deep, noexit in either and both; with --lab, --module",
     bench_guests, 0},
    {BENCH_EXECS,
     "programs that begin, without noexit, with the library and with noexit.ko; with --lab, "
     "--module",
     bench_guests, 0},
    {BENCH_LATENESS, "how late a guest's timer is during console floods; with --lab", bench_guests,
     0},
};

const struct bench *bench_get(unsigned index)
{
	return index < sizeof(benches) / sizeof(benches[0]) ? &benches[index] : NULL;
}
