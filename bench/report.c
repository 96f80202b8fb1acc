/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* report.c - figures for people, and as JSON. */
#include "bench.h"

#include <json-c/json.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

static struct json_object *list;

static struct json_object *number(double value)
{
	char text[32];

	if (!isfinite(value))
		return NULL;
	snprintf(text, sizeof(text), "%.4g", value);
	return json_object_new_double_s(value, text);
}

static double number_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) && value
		   ? json_object_get_double(value)
		   : NAN;
}

static const char *text_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? json_object_get_string(value) : "";
}

static const char *shown(char *buffer, size_t size, double value)
{
	if (!isfinite(value))
		return "-";
	snprintf(buffer, size, fabs(value) < 1000 ? "%.3g" : "%.0f", value);
	return buffer;
}

static void print(struct json_object *record)
{
	static bool headed;
	char without[32], with[32], ratio[32], percent[32] = "-";
	double spread = number_of(record, "spread");

	if (isfinite(spread))
		snprintf(percent, sizeof(percent), "%.0f%%", spread * 100);

	if (!headed)
		printf("%-24s %-28s %-9s %11s %11s %8s %7s\n", "name", "metric", "substrate",
		       "without", "with", "ratio", "spread");
	headed = true;
	printf("%-24s %-28s %-9s %11s %11s %8s %7s\n", text_of(record, "name"),
	       text_of(record, "metric"), text_of(record, "substrate"),
	       shown(without, sizeof(without), number_of(record, "without")),
	       shown(with, sizeof(with), number_of(record, "with")),
	       shown(ratio, sizeof(ratio), number_of(record, "ratio")), percent);
	fflush(stdout);
}

static void add(struct json_object *record)
{
	if (!list)
		list = json_object_new_array();
	if (!bench_options.json)
		print(record);
	json_object_array_add(list, record);
}

void bench_report(const char *name, const char *metric, const struct bench_figure *figure)
{
	struct json_object *record = json_object_new_object();

	json_object_object_add(record, "name", json_object_new_string(name));
	json_object_object_add(record, "metric", json_object_new_string(metric));
	json_object_object_add(record, "substrate",
			       json_object_new_string(bench_options.substrate));
	json_object_object_add(record, "without", number(figure->without));
	json_object_object_add(record, "with", number(figure->with));
	json_object_object_add(record, "ratio", number(figure->ratio));
	json_object_object_add(record, "spread", number(figure->spread));
	add(record);
}

void bench_report_list(struct json_object *records)
{
	if (!json_object_is_type(records, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(records); i++)
		add(json_object_get(json_object_array_get_idx(records, i)));
}

void bench_skip(const char *name, const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "noexit: %s on %s is skipped: ", name, bench_options.substrate);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

void bench_report_end(void)
{
	if (!list)
		list = json_object_new_array();
	if (bench_options.json)
		puts(json_object_to_json_string_ext(list, JSON_C_TO_STRING_PRETTY |
							      JSON_C_TO_STRING_SPACED |
							      JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(list);
	list = NULL;
}
