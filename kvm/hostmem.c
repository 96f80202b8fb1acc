/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * hostmem.c - may this process touch the memory of a slot itself? KVM answers an access that the
 * mapping forbids with an error; the engine would die of it. So a slot's memory is looked up in the
 * process's own map before its first use, and what does not allow an access is left to KVM.
 */
#define _GNU_SOURCE
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct range {
	uint64_t at, end;
	uint8_t access; /* of what has been seen so far */
};

/* One line of the map; false: past the range, or a hole in it. */
static bool account(struct range *range, const char *line)
{
	char *after;
	uint64_t first = strtoul(line, &after, 16), last;
	const char *rights;

	if (*after != '-')
		return false;
	last = strtoul(after + 1, &after, 16);
	rights = after + 1; /* "rwxp" */
	if (*after != ' ')
		return false;
	if (last <= range->at)
		return true;
	if (first > range->at)
		return false;
	if (rights[0] != 'r')
		range->access &= (uint8_t)~NX_HOST_READ;
	if (rights[1] != 'w')
		range->access &= (uint8_t)~NX_HOST_WRITE;
	/* A device's registers: an access has to be exactly the guest's, which is KVM's business.
	 */
	if (strstr(line, "vfio"))
		range->access = 0;
	range->at = last;
	return range->at < range->end;
}

static void read_map(int fd, struct range *range)
{
	char text[8192];
	size_t used = 0;
	ssize_t n;

	while ((n = read(fd, text + used, sizeof(text) - 1 - used)) > 0) {
		char *line = text, *newline;

		used += (size_t)n;
		text[used] = 0;
		while ((newline = strchr(line, '\n'))) {
			*newline = 0;
			if (!account(range, line))
				return;
			line = newline + 1;
		}
		used -= (size_t)(line - text);
		memmove(text, line, used);
		if (used == sizeof(text) - 1)
			return;
	}
}

uint8_t nx_host_access(uint64_t host, uint64_t size)
{
	struct range range = {host, host + size, NX_HOST_READ | NX_HOST_WRITE};
	int saved = errno;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		read_map(fd, &range);
		nx_real.close(fd);
	}
	errno = saved;
	return range.at >= range.end ? range.access : 0;
}
