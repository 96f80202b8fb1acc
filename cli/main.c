/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* main.c - the noexit command: finds the subcommand. */
#define _GNU_SOURCE
#include "cli.h"

#include <argp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_command commands[] = {
    {"check", "say what this machine can do, and what exits cost on it", cli_check},
    {"run", "start a VMM whose VM exits are avoided", cli_run},
    {"on", "have noexit.ko avoid exits of a running VMM", cli_on},
    {"off", "have it leave that VMM alone again", cli_off},
    {"explain", "list clusters of guest code", cli_explain},
    {"record", "run a VMM without and with noexit, and say what it brings", cli_record},
    {"report", "make a page for a browser from a run's counters", cli_report},
    {"stat", "print a running VMM's exits, taken and avoided", cli_stat},
    {"top", "show a running VMM's exits and hottest clusters, live", cli_top},
    {"bench", "measure what that brings", cli_bench},
};

int cli_refuse(const char *format, ...)
{
	va_list arguments;

	fputs("noexit: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	return CLI_REFUSED;
}

static void help(FILE *to)
{
	fputs("Usage: noexit COMMAND [OPTION...]\n\n"
	      "noexit avoids the VM exits of guests under KVM.\n\n",
	      to);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].summary);
	fputs("\n'noexit COMMAND --help' tells more. Example:\n"
	      "  noexit run -- qemu-system-x86_64 -accel kvm disk.img\n",
	      to);
}

int main(int argc, char **argv)
{
	argp_err_exit_status = CLI_REFUSED;
	argp_program_version = "noexit " NX_VERSION;
	if (argc < 2) {
		help(stderr);
		return CLI_REFUSED;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
		help(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts(argp_program_version);
		return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		char name[64];

		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		snprintf(name, sizeof(name), "noexit %s", commands[i].name);
		argv[1] = name;
		return commands[i].main(argc - 1, argv + 1);
	}
	return cli_refuse("there is no command '%s'; 'noexit --help' lists them", argv[1]);
}
