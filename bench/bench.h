/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * bench.h - what `noexit bench` measures, and how figures are made and shown.
 *
 * Every figure is taken without and with noexit in turns, so that whatever else the machine does
 * disturbs both alike. It is a median; its spread is that of the ratio between the two: tenth to
 * ninetieth percentile, as a share of the median.
 */
#ifndef NX_BENCH_H
#define NX_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What the command was asked for. */
struct bench_options {
	const char *substrate; /* "native", or what the lab calls itself */
	const char *lab;       /* "amd", "intel" or NULL: measure here */
	bool json, quick;
	const char *kernel, *initrd; /* of whole systems */
	unsigned runs;               /* of a whole system, each way; at most BENCH_SAMPLES */
};
extern struct bench_options bench_options;

/* One benchmark; run returns false if it could not be measured, and has said why. */
struct bench {
	const char *name;
	const char *help;
	/* number: which one of those that share a function. */
	bool (*run)(const char *name, unsigned number);
	unsigned number;
};

/* All of them, in the order in which they run; NULL after the last. */
const struct bench *bench_get(unsigned index);

/* ---- figure.c ---- */

#define BENCH_SAMPLES 101

/* Figures taken in turns: without[i] and with[i] belong together. */
struct bench_samples {
	double without[BENCH_SAMPLES], with[BENCH_SAMPLES];
	unsigned count;
};

struct bench_figure {
	double without, with;
	double ratio; /* without / with: above 1 noexit is better; NAN: nothing to compare with */
	double spread;
};

void bench_sample(struct bench_samples *samples, double without, double with);
struct bench_figure bench_figure(const struct bench_samples *samples);
/* The median of figures; sorts them. */
double bench_median(double *value, unsigned count);

/* ---- report.c ---- */

/* Prints a figure, or keeps it for the JSON list. metric ends with its unit: "time, us". */
void bench_report(const char *name, const char *metric, const struct bench_figure *figure);
/* Figures of another noexit, a JSON list as this one prints it; NULL: none. */
struct json_object;
void bench_report_list(struct json_object *records);
/* On standard error: what was not measured and why. */
void bench_skip(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints the list; call it once, at the end. */
void bench_report_end(void);

/* ---- engine.c ---- */

/* X(name, help) */
#define BENCH_FILLERS(X)                                              \
	X(registers, "gap fillers that use registers only")           \
	X(homed, "the same, half of them with r10, r11, r14 and r15") \
	X(mixed, "of ten gap fillers two loads and a store")          \
	X(loads, "gap fillers with a load each, independent ones")    \
	X(chase, "gap fillers with a load each, of the next address") \
	X(stores, "gap fillers with a store each")

enum bench_filler_name {
#define NX_X(name, help) BENCH_FILLER_##name,
	BENCH_FILLERS(NX_X)
#undef NX_X
};

bool bench_engine(const char *name, unsigned number);
/* number: enum bench_filler_name */
bool bench_filler(const char *name, unsigned number);

/* ---- workload.c ---- */

/* X(name, runs at CPL 3 too, help) */
#define BENCH_WORKLOADS(X)                                                                 \
	X(pair, true, "two port accesses back to back")                                    \
	X(straight, true, "three port accesses with ordinary work between them")           \
	X(cluster, true, "sixteen port accesses, three instructions between them")         \
	X(polling, true, "a status port polled a thousand times")                          \
	X(nested, true, "two polling loops and three writes")                              \
	X(timeout, true, "a thousand polls inside counting loops")                         \
	X(string, true, "64 bytes to a port in a loop")                                    \
	X(console, true, "64 bytes by accessor functions behind pointers, polling first")  \
	X(registers, true, "three device registers in memory, work between them")          \
	X(copy, true, "64 words out of device memory")                                     \
	X(delay, true, "sixteen port reads, a delay loop of 2000 instructions after each") \
	X(sparse, true, "one exit in 200,000 instructions")                                \
	X(compute, true, "half a million instructions and one exit")                       \
	X(halt, false, "HLT, an exit that nothing can be done about")

enum bench_workload_name {
#define NX_X(name, user, help) BENCH_WORKLOAD_##name,
	BENCH_WORKLOADS(NX_X)
#undef NX_X
};

/* number: enum bench_workload_name. false: it could not be measured, and said why. */
bool bench_workload(const char *name, unsigned number);
/* Nanoseconds of a KVM_RUN round trip for a port access at CPL 0; NAN: there is no KVM. */
double bench_round_trip(void);

/* ---- boot.c ---- */

/* X(C name, last message, boots the kernel, help, QEMU's arguments) */
#define BENCH_SYSTEMS(X)                                                                        \
	X(seabios, "No bootable device.", false, "SeaBIOS to its last message", "-m", "64")     \
	X(debian, NULL, true, "Debian's kernel on a serial console, to power-off", "-m", "256", \
	  "-cpu", "host")                                                                       \
	X(debian2, NULL, true, "the same with two vCPUs", "-m", "256", "-cpu", "host", "-smp", "2")

enum bench_system_name {
#define NX_X(name, end, kernel, help, ...) BENCH_SYSTEM_##name,
	BENCH_SYSTEMS(NX_X)
#undef NX_X
};

/* number: enum bench_system_name */
bool bench_system(const char *name, unsigned number);
bool bench_levels(const char *name, unsigned number);

/* ---- lab.c ---- */

/* Measures in the lab; without names everything. */
bool bench_lab(char **names, unsigned count);

#endif
