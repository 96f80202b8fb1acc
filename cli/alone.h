/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* alone.h - places that are left alone, for noexit explain. */
#ifndef NX_CLI_ALONE_H
#define NX_CLI_ALONE_H

#include <stdbool.h>
#include <stddef.h>

struct json_object;
struct watch;

/* Print at most limit of them (0: all); return how many. */
size_t alone_of_vmm(const struct watch *watch, unsigned limit, bool json);
/* Do the same for a file of noexit run --stats; return the exit status. */
int alone_of_file(struct json_object *file, const char *path, unsigned limit, bool json);

#endif
