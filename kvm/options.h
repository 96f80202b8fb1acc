/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * options.h - the options of the KVM host, defined once. The command turns its switches into
 * environment variables (NOEXIT_<NAME>), the library in the VMM reads them at start-up.
 */
#ifndef NX_KVM_OPTIONS_H
#define NX_KVM_OPTIONS_H

#include "fault.h"
#include "noexit.h"

/*
 * X(NAME, member, kind, switch, argument, help). Kinds: FLAG, PATH, NUMBER, LEVEL, LIMITS, KERNEL,
 * FAULT.
 */
#define NX_OPTIONS(X)                                                                             \
	X(OFF, off, FLAG, "off", NULL, "Count exits, avoid none: the figures to compare with")    \
	X(STATS, stats, PATH, "stats", "FILE", "Write counters to FILE as JSON at the end")       \
	X(STATS_INTERVAL, stats_interval, NUMBER, "stats-interval", "MS",                         \
	  "Add to FILE the exits over time, sampled every MS milliseconds")                       \
	X(LATENCY, latency, NUMBER, "latency", "US",                                              \
	  "Keep interrupts waiting for at most US microseconds (default 50)")                     \
	X(MASKED_LATENCY, masked_latency, NUMBER, "masked-latency", "US",                         \
	  "End a stay in which no interrupt waits after US microseconds (default 5000)")          \
	X(LEVEL, level, LEVEL, "level", "NAME",                                                   \
	  "What clusters may contain: pairs, straight, dynamic, branches, loops, paths "          \
	  "(default: the last)")                                                                  \
	X(LIMITS, limits, LIMITS, "limits", "NAME",                                               \
	  "Limits of the engine: adaptive (by measured costs, the default), unweighed, paper, "   \
	  "vbox")                                                                                 \
	X(KERNEL, kernel, KERNEL, "kernel", "WORD",                                               \
	  "Avoid exits in the kernel, too, by noexit.ko: off (the default), on, "                 \
	  "auto (where it pays, if it is there and lets us)")                                     \
	X(MAX_GAP, max_gap, NUMBER, "max-gap", "N",                                               \
	  "Allow at most N instructions between two exiting ones")                                \
	X(NO_USER_CODE, no_user_code, FLAG, "no-user-code", NULL, "Run guest code at CPL 0 only") \
	X(CODE_CACHE, code_cache, NUMBER, "code-cache", "KIB",                                    \
	  "Size of each vCPU's code cache (default 1024)")                                        \
	X(PERF_MAP, perf_map, FLAG, "perf-map", NULL,                                             \
	  "Name translations for perf, in /tmp/perf-PID.map")                                     \
	X(GDB, gdb, FLAG, "gdb", NULL, "Name translations for GDB")                               \
	X(FAULT, fault, FAULT, "fault", "NAME",                                                   \
	  "For testing: make one internal step fail, so that nothing is avoided; 'list' lists "   \
	  "them")

enum nx_kernel { NX_KERNEL_OFF, NX_KERNEL_ON, NX_KERNEL_AUTO, NX_KERNEL_COUNT };

typedef bool nx_option_FLAG;
typedef const char *nx_option_PATH;
typedef unsigned nx_option_NUMBER;
typedef enum nx_level nx_option_LEVEL;
typedef enum nx_fault nx_option_FAULT;
typedef enum nx_limits nx_option_LIMITS;
typedef enum nx_kernel nx_option_KERNEL;

struct nx_options {
#define NX_X(NAME, member, kind, word, argument, help) nx_option_##kind member;
	NX_OPTIONS(NX_X)
#undef NX_X
};

enum nx_option {
#define NX_X(NAME, member, kind, word, argument, help) NX_OPTION_##NAME,
	NX_OPTIONS(NX_X)
#undef NX_X
	    NX_OPTION_COUNT
};

/* Variables of the environment besides the options: which process may remove them, and our entry
 * in LD_PRELOAD. */
#define NX_ENV_PREFIX "NOEXIT_"
#define NX_ENV_PID "NOEXIT_PID"         /* the process that `noexit run` became */
#define NX_ENV_LIBRARY "NOEXIT_LIBRARY" /* our entry in LD_PRELOAD */

void nx_options_default(struct nx_options *options);

/* Set one option from text; flags take "1" or "0". Return NULL, or what is wrong with the value,
 * as the end of a sentence. The text must outlive *options. */
const char *nx_option_set(struct nx_options *options, enum nx_option option, const char *text);

/* Find an option by its switch, as in "max-gap"; return NX_OPTION_COUNT if there is none. */
enum nx_option nx_option_find(const char *word);

/* Return the name of its variable, "NOEXIT_STATS" and so on. */
const char *nx_option_env(enum nx_option option);

/* Read all options; an option whose value does not parse keeps its default. */
void nx_options_from_environment(struct nx_options *options);

#endif
