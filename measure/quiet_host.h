/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * quiet_host.h - all of a host but its memory, for measuring and for tests: every access is the
 * VMM's, and time stands still.
 *
 *	static const struct nx_host host = QUIET_HOST(map_page);
 */
#ifndef NX_QUIET_HOST_H
#define NX_QUIET_HOST_H

#include "noexit.h"

static inline enum nx_route quiet_io(void *data, uint16_t port, unsigned size, bool write,
				     uint64_t value)
{
	(void)data, (void)port, (void)size, (void)write, (void)value;
	return NX_ROUTE_EXIT;
}

static inline enum nx_route quiet_mmio(void *data, uint64_t gpa, unsigned size, bool write,
				       uint64_t value)
{
	(void)data, (void)gpa, (void)size, (void)write, (void)value;
	return NX_ROUTE_EXIT;
}

static inline uint64_t quiet_now(void *data)
{
	(void)data;
	return 0;
}

#define QUIET_HOST(map)                                                            \
	{                                                                          \
		.map_page = (map), .route_io = quiet_io, .route_mmio = quiet_mmio, \
		.now = quiet_now,                                                  \
	}

#endif
