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

/* The command's options. */
struct bench_options {
	const char *substrate; /* "native", or what the lab calls itself */
	const char *lab;       /* "amd" or "intel"; NULL to measure here */
	const char *limits;    /* an argument of --limits; NULL for noexit's own */
	bool json, quick;
	const char *kernel, *initrd; /* of whole systems */
	unsigned runs;               /* of a whole system, each way; at most BENCH_SAMPLES */
	unsigned smp;                /* processors of the lab */
	const char *module;          /* noexit.ko, which the lab loads; NULL: none */
	const char *rows;            /* of the table of nested guests; NULL: all */
};
extern struct bench_options bench_options;

/* One benchmark; run returns false if it could not be measured, and has said why. */
struct bench {
	const char *name;
	const char *help;
	/* number: which of the benchmarks that share a function. */
	bool (*run)(const char *name, unsigned number);
	unsigned number;
};

/* All benchmarks, in the order in which they run; NULL after the last. */
const struct bench *bench_get(unsigned index);

/* ---- figure.c ---- */

#define BENCH_SAMPLES 101

/* Figures taken in turns; without[i] and with[i] belong together. */
struct bench_samples {
	double without[BENCH_SAMPLES], with[BENCH_SAMPLES];
	unsigned count;
};

struct bench_figure {
	double without, with;
	double ratio; /* without / with; above 1 noexit is better; NAN without a pair */
	double spread;
};

void bench_sample(struct bench_samples *samples, double without, double with);
struct bench_figure bench_figure(const struct bench_samples *samples);
/* Sort the figures and return their median. */
double bench_median(double *value, unsigned count);

/* ---- report.c ---- */

/* Print a figure, or keep it for the JSON list. metric ends with its unit: "time, us". */
void bench_report(const char *name, const char *metric, const struct bench_figure *figure);
/* Figures of another noexit, a JSON list as this one prints it; NULL: none. */
struct json_object;
void bench_report_list(struct json_object *records);
/* Say on standard error what was not measured and why. */
void bench_skip(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Print the list; call this once, at the end. */
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

/*
 * X(C name, name, runs at CPL 3 too, readings in a turn, help). Readings: of a clock, whose
 * figures are those of one reading; 0: the figures are a turn's.
 */
#define BENCH_WORKLOADS(X)                                                                        \
	X(pair, "pair", true, 0, "two port accesses back to back")                                \
	X(straight, "straight", true, 0, "three port accesses with ordinary work between them")   \
	X(cluster, "cluster", true, 0, "sixteen port accesses, three instructions between them")  \
	X(polling, "polling", true, 0, "a status port polled a thousand times")                   \
	X(nested, "nested", true, 0, "two polling loops and three writes")                        \
	X(timeout, "timeout", true, 0, "a thousand polls inside counting loops")                  \
	X(string, "string", true, 0, "64 bytes to a port in a loop")                              \
	X(console, "console", true, 0, "64 bytes by accessors behind pointers, polling first")    \
	X(registers, "registers", true, 0, "three device registers in memory, work between them") \
	X(copy, "copy", true, 0, "64 words out of device memory")                                 \
	X(delay, "delay", true, 0,                                                                \
	  "sixteen port reads, each followed by 2000 instructions' delay")                        \
	X(sparse, "sparse", true, 0, "one exit in 200,000 instructions")                          \
	X(compute, "compute", true, 0, "half a million instructions and one exit")                \
	X(halt, "halt", false, 0, "HLT, an exit that nothing can be done about")                  \
	X(timer_rtc, "timer-rtc", true, 1, "the RTC's date: update flag, then six registers")     \
	X(timer_acpi, "timer-acpi", true, 16, "the ACPI timer, each reading checked by two more") \
	X(timer_hpet, "timer-hpet", true, 16, "the HPET's counter, under a lock")

enum bench_workload_name {
#define NX_X(name, word, user, readings, help) BENCH_WORKLOAD_##name,
	BENCH_WORKLOADS(NX_X)
#undef NX_X
};

/* number: an enum bench_workload_name. Return false if it could not be measured, having said
 * why. */
bool bench_workload(const char *name, unsigned number);
/* Return the nanoseconds of a KVM_RUN round trip for a port access at CPL 0, or NAN if there is
 * no KVM. */
double bench_round_trip(void);

/* A guest with noexit that others may watch, and its batches: nanoseconds of a turn. */
struct bench_guest;
/* Make the guest; return NULL if that failed, having said why. */
struct bench_guest *bench_guest_open(const char *name, unsigned workload);
bool bench_guest_batch(struct bench_guest *guest, double *ns);
void bench_guest_close(struct bench_guest *guest);

/* ---- boot.c ---- */

/*
 * X(C name, name, message that begins the measured time, message that ends it, initramfs, kernel's
 * arguments, help, QEMU's arguments). No message: the beginning and the end of QEMU. Initramfs:
 * what its file's name has behind that given with --initrd; NULL: no kernel is booted.
 */
#define BENCH_SYSTEMS(X)                                                                           \
	X(seabios, "seabios", NULL, "No bootable device.", NULL, NULL,                             \
	  "SeaBIOS to its last message", "-m", "64")                                               \
	X(debian, "debian", NULL, NULL, "", "",                                                    \
	  "Debian's kernel on a serial console, to power-off", "-m", "256", "-cpu", "host")        \
	X(debian2, "debian2", NULL, NULL, "", "", "the same with two vCPUs", "-m", "256", "-cpu",  \
	  "host", "-smp", "2")                                                                     \
	X(ide_pio, "ide-pio", "guest: begins", "guest: is through", "-disk", "quiet libata.dma=0", \
	  "a MiB read from an IDE disk by programmed I/O", "-m", "192", "-cpu", "host", "-drive",  \
	  "if=ide,driver=null-co,read-zeroes=on,size=16M")                                         \
	X(ide_pio_write, "ide-pio-write", "guest: begins", "guest: is through", "-disk",           \
	  "quiet libata.dma=0 disk=write", "256 KiB written likewise", "-m", "192", "-cpu",        \
	  "host", "-drive", "if=ide,driver=null-co,read-zeroes=on,size=16M")

enum bench_system_name {
#define NX_X(name, word, begin, end, initrd, append, help, ...) BENCH_SYSTEM_##name,
	BENCH_SYSTEMS(NX_X)
#undef NX_X
};

/* number: enum bench_system_name */
bool bench_system(const char *name, unsigned number);
/* Return the seconds of a clock that never goes back. */
double bench_seconds(void);
bool bench_levels(const char *name, unsigned number);
bool bench_limits(const char *name, unsigned number);
/* How many guest instructions there are between one exit and the next. */
bool bench_distance(const char *name, unsigned number);
/* The same of all accesses that would exit, in QEMU's emulator (accesses.c). */
bool bench_accesses(const char *name, unsigned number);

/* ---- uncached.c ---- */

/* X(workload): those whose exits lie close together. */
#define BENCH_UNCACHED(X) \
	X(pair)           \
	X(straight)       \
	X(cluster)        \
	X(polling)        \
	X(nested)         \
	X(string)         \
	X(console)        \
	X(registers)      \
	X(copy)

/* number: counts the above. */
bool bench_uncached(const char *name, unsigned number);

/* ---- hosts.c ---- */

bool bench_hosts(const char *name, unsigned number);

/* ---- watching.c ---- */

bool bench_watching(const char *name, unsigned number);

/* ---- guests.c ---- */

#define BENCH_NETWORK "network"
#define BENCH_NESTED "nested-boot"
#define BENCH_NESTED_TABLE "nested-table"
#define BENCH_EXECS "execs"
#define BENCH_LATENESS "lateness"
/* Say where it is measured, and measure nothing. */
bool bench_guests(const char *name, unsigned number);
bool bench_is_guests(const char *name);
/* Measure those of the named benchmarks that the lab's tools run, or all of them without names.
 * run: the path of lab/run; share: a directory for temporary files. */
bool bench_guests_lab(const char *run, const char *build, const char *share, char **names,
		      unsigned count);

/* ---- lab.c ---- */

/* Measure the named benchmarks in the lab, or all without names. */
bool bench_lab(char **names, unsigned count);
/* Run one of the lab's tools with its output on standard error; return whether it succeeded. */
bool bench_lab_tool(const char *build, const char *const *line);

#endif
