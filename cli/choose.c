/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* choose.c - which VMM a command looks at, and why it cannot. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

int cli_refuse_watch(pid_t pid, enum watch_result result)
{
	char command[64];

	watch_command(pid, command, sizeof(command));
	switch (result) {
	case WATCH_NO_PROCESS:
		return cli_refuse("there is no process %d; 'noexit stat' without -p finds a VMM by "
				  "itself",
				  (int)pid);
	case WATCH_NO_RIGHT:
		return cli_refuse("process %d (%s) cannot be looked into: %s; be its user or root",
				  (int)pid, command, strerror(EACCES));
	case WATCH_OTHER_VERSION:
		return cli_refuse("process %d (%s) runs under another version of noexit; use that "
				  "version's command",
				  (int)pid, command);
	case WATCH_NO_MEMORY:
		return cli_refuse("out of memory");
	default:
		return cli_refuse("process %d (%s) has no VM under noexit; start VMMs with 'noexit "
				  "run', or use 'noexit on'",
				  (int)pid, command);
	}
}

/* List as many as fit into a sentence. */
struct choice {
	char text[512];
	size_t used;
	unsigned count;
	pid_t last;
};

static void note_choice(struct choice *choice, pid_t pid)
{
	char command[64];
	int length;

	if (watch_has_vm(pid))
		return;
	watch_command(pid, command, sizeof(command));
	length = snprintf(choice->text + choice->used, sizeof(choice->text) - choice->used,
			  "%s%d (%s)", choice->count ? ", " : "", (int)pid, command);
	if (length > 0 && choice->used + (size_t)length < sizeof(choice->text))
		choice->used += (size_t)length;
	choice->text[choice->used] = 0;
	choice->count++;
	choice->last = pid;
}

int cli_choose(pid_t asked, pid_t *pid)
{
	struct choice choice = {0};
	struct dirent *entry;
	DIR *directory;

	*pid = asked;
	if (asked) {
		enum watch_result result = watch_is_shown(asked);

		return result ? cli_refuse_watch(asked, result) : 0;
	}
	directory = opendir("/proc");
	if (!directory)
		return cli_refuse("/proc cannot be read: %s; mount it", strerror(errno));
	while ((entry = readdir(directory))) {
		long number = strtol(entry->d_name, NULL, 10);

		if (number > 0)
			note_choice(&choice, (pid_t)number);
	}
	closedir(directory);
	if (!choice.count)
		return cli_refuse("no VM that you may look at runs under noexit; start one with "
				  "'noexit run -- VMM', or be its user or root");
	if (choice.count > 1)
		return cli_refuse("%u VMMs run under noexit; choose with -p: %s", choice.count,
				  choice.text);
	*pid = choice.last;
	return 0;
}
