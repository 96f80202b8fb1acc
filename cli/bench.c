/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* bench.c - `noexit bench`: what noexit brings on this machine, in figures. */
#define _GNU_SOURCE
#include "bench.h"

#include <argp.h>
#include <string.h>

#include "cli.h"
#include "noexit-kvm.h"

/* The options without a letter; X(NAME, word, argument, flags, help). */
#define OPTIONS(X)                                                                             \
	X(LIST, "list", NULL, 0, "Only list the benchmarks")                                   \
	X(JSON, "json", NULL, 0, "Print a JSON list of figures instead of a table")            \
	X(QUICK, "quick", NULL, 0, "Fewer samples: to see whether it works")                   \
	X(RUNS, "runs", "N", 0, "Boots of a whole system, each way (default 3)")               \
	X(SMP, "smp", "N", 0, "Processors of the lab (default 1)")                             \
	X(LAB, "lab", "CPU", OPTION_ARG_OPTIONAL,                                              \
	  "Measure in the lab instead of here; CPU is amd or intel (default amd)")             \
	X(MODULE, "module", "FILE", 0, "With --lab: the noexit.ko that the lab loads")         \
	X(ROWS, "rows", "LIST", 0, "Rows of nested-table, separated by commas (default all)")  \
	X(KERNEL, "kernel", "FILE", 0, "Kernel of the whole systems (default /guest/vmlinuz)") \
	X(INITRD, "initrd", "FILE", 0, "Their initramfs (default /guest/initrd)")              \
	X(LIMITS, "limits", "NAME", 0, "Limits of the engine, as with noexit run")             \
	X(SUBSTRATE, "substrate", "NAME", 0, "What the figures call this machine (default native)")

enum switch_key {
	OPTION_FIRST = 256,
#define NX_X(NAME, word, argument, flags, help) OPTION_##NAME,
	OPTIONS(NX_X)
#undef NX_X
};

static char **names;
static unsigned name_count;
static bool list_only;

static const struct argp_option switches[] = {
#define NX_X(NAME, word, argument, flags, help) {word, OPTION_##NAME, argument, flags, help, 0},
    OPTIONS(NX_X)
#undef NX_X
	{0},
};

static bool is_asked_for(const char *name)
{
	for (unsigned i = 0; i < name_count; i++) {
		if (!strcmp(names[i], name))
			return true;
	}
	return !name_count;
}

static void check_names(struct argp_state *state)
{
	const struct bench *bench;

	for (unsigned i = 0; i < name_count; i++) {
		unsigned at = 0;

		while ((bench = bench_get(at)) && strcmp(bench->name, names[i]) != 0)
			at++;
		if (!bench)
			argp_error(state, "there is no benchmark '%s'; --list names them",
				   names[i]);
	}
}

static unsigned number(const char *word, const char *text, unsigned most, struct argp_state *state)
{
	unsigned long value;

	if (!cli_parse_number(text, &value) || !value || value > most)
		argp_error(state, "--%s must be a number from 1 to %u", word, most);
	return (unsigned)value;
}

static void set_lab(const char *cpu, struct argp_state *state)
{
	bench_options.lab = cpu ? cpu : "amd";
	if (strcmp(bench_options.lab, "amd") != 0 && strcmp(bench_options.lab, "intel") != 0)
		argp_error(state, "--lab must be amd or intel");
}

static void set_limits(const char *name, struct argp_state *state)
{
	const char *wrong = nx_kvm_option("limits", name);

	if (wrong)
		argp_error(state, "--limits %s", wrong);
	bench_options.limits = name;
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
	switch (key) {
	case OPTION_LIST:
		list_only = true;
		return 0;
	case OPTION_JSON:
		bench_options.json = true;
		return 0;
	case OPTION_QUICK:
		bench_options.quick = true;
		return 0;
	case OPTION_RUNS:
		bench_options.runs = number("runs", argument, BENCH_SAMPLES, state);
		return 0;
	case OPTION_SMP:
		bench_options.smp = number("smp", argument, 64, state);
		return 0;
	case OPTION_LAB:
		set_lab(argument, state);
		return 0;
	case OPTION_MODULE:
		bench_options.module = argument;
		return 0;
	case OPTION_ROWS:
		bench_options.rows = argument;
		return 0;
	case OPTION_KERNEL:
		bench_options.kernel = argument;
		return 0;
	case OPTION_INITRD:
		bench_options.initrd = argument;
		return 0;
	case OPTION_LIMITS:
		set_limits(argument, state);
		return 0;
	case OPTION_SUBSTRATE:
		bench_options.substrate = argument;
		return 0;
	case ARGP_KEY_ARGS:
		names = state->argv + state->next;
		name_count = (unsigned)(state->argc - state->next);
		check_names(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
    .options = switches,
    .parser = parse,
    .args_doc = "[NAME...]",
    .doc = "Measures guests without and with noexit, in turns.\v"
	   "Without names everything is measured that this machine can; the rest is named with the "
	   "reason. Figures are medians, ratio is without divided by with, spread is the middle "
	   "80 percent of the ratios.",
};

int cli_bench(int argc, char **argv)
{
	const struct bench *bench;
	bool measured = false;

	argp_parse(&parser, argc, argv, 0, NULL, NULL);
	if (list_only) {
		for (unsigned i = 0; (bench = bench_get(i)); i++)
			printf("%-18s %s\n", bench->name, bench->help);
		return 0;
	}
	/* `noexit stat` must not find the VMs that this process measures with. */
	nx_kvm_watched(false);
	if (bench_options.lab)
		measured = bench_lab(names, name_count);
	for (unsigned i = 0; !bench_options.lab && (bench = bench_get(i)); i++) {
		if (is_asked_for(bench->name))
			measured |= bench->run(bench->name, bench->number);
	}
	bench_report_end();
	return measured ? 0 : cli_refuse("nothing could be measured; see above");
}
