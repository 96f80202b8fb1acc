/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* alone.c - noexit explain --alone: the places that are left to the hardware, and why. */
#define _GNU_SOURCE
#include "cli.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alone.h"
#include "json.h"
#include "watch.h"

static void print(uint64_t rip, uint64_t times, const char *reason, const char *leave)
{
	printf("%12" PRIx64 "  %10" PRIu64 " times  %s: %s", rip, times, reason,
	       nx_alone_explained(reason));
	if (*leave)
		printf(" (%s)", nx_leave_explained(leave));
	putchar('\n');
}

size_t alone_of_vmm(const struct watch *watch, unsigned limit, bool json)
{
	const struct nx_alone *order[NX_ALONE_PLACES];
	unsigned count = nx_figures_alone(&watch->total, order);
	struct nx_json out = {.fd = STDOUT_FILENO};

	if (limit && count > limit)
		count = limit;
	if (json && count) {
		nx_json_open(&out);
		nx_json_begin(&out, "left_alone", '[');
		for (unsigned i = 0; i < count; i++)
			nx_json_alone(&out, order[i]);
		nx_json_end(&out, ']');
		nx_json_close(&out);
	}
	for (unsigned i = 0; i < count && !json; i++)
		print(order[i]->rip, order[i]->times, nx_alone_word(order[i]->reason),
		      nx_leave_word(order[i]->leave));
	return count;
}

/* Return a text member, or "" if it is none. */
static const char *text_of(struct json_object *place, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(place, name, &value) &&
		       json_object_is_type(value, json_type_string)
		   ? json_object_get_string(value)
		   : "";
}

static bool print_element(struct json_object *place)
{
	const char *rip = text_of(place, "rip"), *reason = text_of(place, "reason");
	struct json_object *times;

	if (!json_object_is_type(place, json_type_object) || strncmp(rip, "0x", 2) != 0 ||
	    !*nx_alone_explained(reason) || !json_object_object_get_ex(place, "times", &times) ||
	    !json_object_is_type(times, json_type_int))
		return false;
	print(strtoull(rip, NULL, 16), json_object_get_uint64(times), reason,
	      nx_leave_explained(text_of(place, "leave")) ? text_of(place, "leave") : "");
	return true;
}

int alone_of_file(struct json_object *file, const char *path, unsigned limit, bool json)
{
	struct json_object *places, *shown, *list;
	size_t count;

	if (!json_object_object_get_ex(file, "left_alone", &places) ||
	    !json_object_is_type(places, json_type_array))
		return cli_refuse("'%s' does not say what was left alone; make the file again with "
				  "'noexit run --stats'",
				  path);
	count = json_object_array_length(places);
	if (limit && count > limit)
		count = limit;
	if (!count)
		return cli_refuse("'%s' names no place that was left alone", path);
	shown = json_object_new_object();
	list = json_object_new_array();
	json_object_object_add(shown, "left_alone", list);
	for (size_t i = 0; i < count; i++) {
		struct json_object *place = json_object_array_get_idx(places, i);

		if (json) {
			json_object_array_add(list, json_object_get(place));
		} else if (!print_element(place)) {
			json_object_put(shown);
			return cli_refuse(
			    "place %zu in '%s' is not as this version of noexit "
			    "writes it; make the file again with 'noexit run --stats'",
			    i, path);
		}
	}
	if (json)
		puts(json_object_to_json_string_ext(shown, JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(shown);
	return 0;
}
