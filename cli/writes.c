/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * writes.c - tells whether a QEMU of a command line would write to a disk. Boots that are compared
 * must begin alike, and a disk that the first one has changed is another disk to the second.
 *
 * Only the command line is looked at, so the answer errs on the side of "yes": of other VMMs
 * nothing is known.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "cli.h"

/* QEMU's options that take no argument: what follows one and has no '-' is a disk. */
static const char *const flags[] = {
    "snapshot",        "nographic",   "no-reboot",
    "no-shutdown",     "S",           "s",
    "nodefaults",      "enable-kvm",  "daemonize",
    "no-user-config",  "full-screen", "no-acpi",
    "no-hpet",         "usb",         "preconfig",
    "only-migratable", "singlestep",  "no-fd-bootchk",
    "curses",          "sdl",         "gtk",
    "mem-prealloc",    "win2k-hack",  "enable-sync-profile",
};

/* Options whose argument is a disk's file, whatever it says. */
static const char *const disks[] = {"hda", "hdb", "hdc",      "hdd",   "fda",
				    "fdb", "sd",  "mtdblock", "pflash"};

static bool is_in(const char *text, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!strcmp(text, list[i]))
			return true;
	}
	return false;
}

#define IS_IN(text, list) is_in(text, list, sizeof(list) / sizeof(*(list)))

/* Return whether a list of KEY=VALUE with commas between has the pair; ",," is a comma in a value.
 */
static bool has(const char *list, const char *pair)
{
	size_t length = strlen(pair);

	while (list) {
		const char *end = list;

		while (*end && (*end != ',' || end[1] == ',' || (end > list && end[-1] == ',')))
			end++;
		if ((size_t)(end - list) == length && !strncmp(list, pair, length))
			return true;
		list = *end ? end + 1 : NULL;
	}
	return false;
}

static bool has_key(const char *list, const char *key)
{
	const char *at = strstr(list, key);

	return at && (at == list || at[-1] == ',');
}

static bool drive_writes(const char *drive)
{
	return has_key(drive, "file=") && !has(drive, "readonly=on") && !has(drive, "readonly") &&
	       !has(drive, "snapshot=on") && !has(drive, "media=cdrom");
}

static bool is_qemu(const char *program)
{
	const char *slash = strrchr(program, '/'), *name = slash ? slash + 1 : program;

	return !strncmp(name, "qemu-system-", 12) || !strcmp(name, "qemu-kvm") ||
	       !strcmp(name, "kvm") || !strcmp(name, "noexit-qemu-x86_64");
}

/* Options that write in spite of -snapshot. */
static bool writes_anyway(const char *option, const char *value)
{
	if (!strcmp(option, "blockdev"))
		return !has(value, "read-only=on") && !strstr(value, "\"read-only\":true") &&
		       !strstr(value, "\"read-only\": true");
	if (!strcmp(option, "virtfs") || !strcmp(option, "fsdev"))
		return !has(value, "readonly=on") && !has(value, "readonly");
	if (!strcmp(option, "object"))
		return !strncmp(value, "memory-backend-file", 19) && has(value, "share=on");
	return !strcmp(option, "readconfig");
}

/* Return whether argument i may write, and add to *next the value that the option takes. */
static bool argument_writes(char *const *argument, unsigned i, bool snapshot, unsigned *next)
{
	const char *option = argument[i], *value = argument[i + 1] ? argument[i + 1] : "";

	*next = i + 1;
	if (*option != '-')
		return !snapshot;
	option += option[1] == '-' ? 2 : 1;
	if (IS_IN(option, flags))
		return false;
	*next = argument[i + 1] ? i + 2 : i + 1;
	if (writes_anyway(option, value))
		return true;
	return !snapshot &&
	       (IS_IN(option, disks) || (!strcmp(option, "drive") && drive_writes(value)));
}

const char *cli_command_writes(char *const *command)
{
	static char sentence[512];
	bool snapshot = false;
	unsigned next;

	if (!is_qemu(command[0])) {
		snprintf(sentence, sizeof(sentence),
			 "noexit does not know what '%.200s' writes to; if each run begins as the "
			 "first one does, say so with --yes",
			 command[0]);
		return sentence;
	}
	for (unsigned i = 1; command[i]; i++)
		snapshot |= !strcmp(command[i], "-snapshot") || !strcmp(command[i], "--snapshot");
	for (unsigned i = 1; command[i]; i = next) {
		if (!argument_writes(command, i, snapshot, &next))
			continue;
		snprintf(sentence, sizeof(sentence),
			 "'%.100s%s%.200s' may write to a disk, so that each run would begin with "
			 "what the one before left; add -snapshot, or say --yes if that does not "
			 "matter",
			 command[i], next == i + 2 ? " " : "", next == i + 2 ? command[i + 1] : "");
		return sentence;
	}
	return NULL;
}
