/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* array.c - arrays that grow by one element at a time. */
#include "host.h"

#include <stdlib.h>

#define LEAST 8u

void *nx_array_room(void *array, unsigned *capacity, unsigned count, size_t element)
{
	unsigned more = count ? count * 2 : LEAST;
	void *larger;

	if (count < *capacity)
		return array;
	larger = realloc(array, more * element);
	if (larger)
		*capacity = more;
	return larger;
}
