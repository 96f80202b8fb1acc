/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * program.c - checks that LD_PRELOAD would work on a program. The loader ignores it silently where
 * it does not, and a VMM that runs without noexit although it was asked for must not go unnoticed.
 */
#define _GNU_SOURCE
#include "cli.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static bool has_interpreter(int fd, const Elf64_Ehdr *header)
{
	for (unsigned i = 0; i < header->e_phnum; i++) {
		Elf64_Phdr segment;
		off_t at = (off_t)(header->e_phoff + (uint64_t)i * header->e_phentsize);

		if (pread(fd, &segment, sizeof(segment), at) != (ssize_t)sizeof(segment))
			return false;
		if (segment.p_type == PT_INTERP)
			return true;
	}
	return false;
}

static int check_elf(int fd, const char *path)
{
	Elf64_Ehdr header = {0};

	if (pread(fd, &header, sizeof(header), 0) < (ssize_t)EI_NIDENT)
		return cli_refuse("'%s' is not a complete program file; reinstall it", path);
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64)
		return cli_refuse(
		    "'%s' is not a 64-bit x86 program; use the amd64 build of the VMM", path);
	if (!has_interpreter(fd, &header))
		return cli_refuse(
		    "'%s' is statically linked, so noexit cannot get into it; use a "
		    "dynamically linked build of the VMM, or noexit.ko with 'noexit on'",
		    path);
	return 0;
}

/* A script is run by the program that its first line names, which is what gets preloaded. */
static int check_script(const char *line, const char *path)
{
	char interpreter[256];
	size_t length;

	line += 2 + strspn(line + 2, " \t");
	length = strcspn(line, " \t\r\n");
	if (!length || length >= sizeof(interpreter))
		return 0;
	memcpy(interpreter, line, length);
	interpreter[length] = 0;
	if (access(interpreter, X_OK))
		return cli_refuse("'%s' needs the interpreter '%s', which cannot be run: %s; "
				  "install it",
				  path, interpreter, strerror(errno));
	return 0;
}

/* In secure execution the loader takes no library from the environment. */
static int check_privilege(int fd, const char *path)
{
	struct stat status;

	if (fstat(fd, &status))
		return cli_refuse("'%s' cannot be examined: %s", path, strerror(errno));
	if (S_ISDIR(status.st_mode))
		return cli_refuse("'%s' is a directory; name the VMM's program file", path);
	if ((status.st_mode & S_ISUID && status.st_uid != getuid()) ||
	    (status.st_mode & S_ISGID && status.st_mode & S_IXGRP && status.st_gid != getgid()))
		return cli_refuse("'%s' is set-user-id or set-group-id, so the loader keeps noexit "
				  "out; run it as the user or group that it changes to",
				  path);
	if (geteuid() && fgetxattr(fd, "security.capability", NULL, 0) > 0)
		return cli_refuse("'%s' has file capabilities, so the loader keeps noexit out; run "
				  "it as root or remove them (setcap -r)",
				  path);
	return 0;
}

int cli_check_program(const char *path)
{
	char start[512] = {0};
	int fd, refused;

	if (access(path, F_OK))
		return cli_refuse("there is no program '%s': %s; check the name", path,
				  strerror(errno));
	if (access(path, X_OK))
		return cli_refuse("'%s' cannot be executed: %s; check its permissions", path,
				  strerror(errno));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		/* The kernel may run a file that is executable but not readable, and so may we. */
		return 0;
	}
	refused = check_privilege(fd, path);
	if (!refused && pread(fd, start, sizeof(start) - 1, 0) >= 4) {
		if (!memcmp(start, ELFMAG, SELFMAG))
			refused = check_elf(fd, path);
		else if (!memcmp(start, "#!", 2))
			refused = check_script(start, path);
	}
	close(fd);
	return refused;
}
