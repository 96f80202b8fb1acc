/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* scratch.h - a directory for temporary files. */
#ifndef NX_SCRATCH_H
#define NX_SCRATCH_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define NX_SCRATCH_SIZE 256

/*
 * Make a directory NAME-XXXXXX in TMPDIR, or else in /tmp, that belongs to the caller, who removes
 * it; path has NX_SCRATCH_SIZE bytes and gets its path. Return false, with errno set, if it cannot
 * be made: path is then what was to be made.
 */
static inline bool nx_make_scratch(char *path, const char *name)
{
	const char *parent = getenv("TMPDIR");

	if (snprintf(path, NX_SCRATCH_SIZE, "%s/%s-XXXXXX", parent && *parent ? parent : "/tmp",
		     name) >= NX_SCRATCH_SIZE) {
		errno = ENAMETOOLONG;
		return false;
	}
	return mkdtemp(path) != NULL;
}

#endif
