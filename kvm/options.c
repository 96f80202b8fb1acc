/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* options.c - parsing of the one list in options.h, for the command and for the library. */
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void nx_options_default(struct nx_options *options)
{
	*options = (struct nx_options){
	    .latency = 50,
	    .masked_latency = 5000,
	    .level = (enum nx_level)(NX_LEVEL_COUNT - 1),
	    .code_cache = 1024,
	};
}

static const char *parse_FLAG(const char *text, bool *value)
{
	*value = strcmp(text, "0") != 0;
	return NULL;
}

static const char *parse_PATH(const char *text, const char **value)
{
	if (!*text)
		return "must name a file";
	*value = text;
	return NULL;
}

static const char *parse_NUMBER(const char *text, unsigned *value)
{
	char *end;
	int saved = errno;

	errno = 0;
	unsigned long number = strtoul(text, &end, 10);
	bool ok = !errno && end != text && !*end && *text != '-' && number <= 1000000000;
	errno = saved;
	if (!ok)
		return "must be a whole number of at most 1000000000";
	*value = (unsigned)number;
	return NULL;
}

/* The word's place in the list, or the number of words. */
static unsigned find_word(const char *text, const char *const *words, unsigned count)
{
	unsigned i = 0;

	while (i < count && strcmp(text, words[i]) != 0)
		i++;
	return i;
}

static const char *parse_LEVEL(const char *text, enum nx_level *value)
{
	static const char *const words[] = {
#define NX_X(name, word, help) word,
	    NX_LEVELS(NX_X)
#undef NX_X
	};
	unsigned found = find_word(text, words, NX_LEVEL_COUNT);

	if (found == NX_LEVEL_COUNT)
		return "must be one of"
#define NX_X(name, word, help) " " word
		    NX_LEVELS(NX_X)
#undef NX_X
			;
	*value = (enum nx_level)found;
	return NULL;
}

static const char *parse_FAULT(const char *text, enum nx_fault *value)
{
	static const char *const words[] = {"none",
#define NX_X(name, word, help) word,
					    NX_FAULTS(NX_X)
#undef NX_X
	};
	unsigned found = find_word(text, words, NX_FAULT_COUNT);

	if (found == NX_FAULT_COUNT)
		return "must be one of none"
#define NX_X(name, word, help) " " word
		    NX_FAULTS(NX_X)
#undef NX_X
			;
	*value = (enum nx_fault)found;
	return NULL;
}

static const char *parse_LIMITS(const char *text, enum nx_limits *value)
{
	static const char *const words[] = {
#define NX_X(name, word, help) word,
	    NX_LIMITS(NX_X)
#undef NX_X
	};
	unsigned found = find_word(text, words, NX_LIMITS_COUNT);

	if (found == NX_LIMITS_COUNT)
		return "must be one of"
#define NX_X(name, word, help) " " word
		    NX_LIMITS(NX_X)
#undef NX_X
			;
	*value = (enum nx_limits)found;
	return NULL;
}

static const char *parse_KERNEL(const char *text, enum nx_kernel *value)
{
	static const char *const words[] = {"off", "on", "auto"};
	unsigned found = find_word(text, words, NX_KERNEL_COUNT);

	if (found == NX_KERNEL_COUNT)
		return "must be one of off on auto";
	*value = (enum nx_kernel)found;
	return NULL;
}

const char *nx_option_set(struct nx_options *options, enum nx_option option, const char *text)
{
	const char *error = NULL;

	switch (option) {
#define NX_X(NAME, member, kind, word, argument, help)        \
	case NX_OPTION_##NAME:                                \
		error = parse_##kind(text, &options->member); \
		break;
		NX_OPTIONS(NX_X)
#undef NX_X
	case NX_OPTION_COUNT:
		break;
	}
	if (!error && option == NX_OPTION_CODE_CACHE &&
	    (options->code_cache < 64 || options->code_cache > 1024 * 1024)) {
		options->code_cache = 1024;
		error = "must be from 64 to 1048576";
	}
	return error;
}

enum nx_option nx_option_find(const char *word)
{
	static const char *const words[] = {
#define NX_X(NAME, member, kind, word, argument, help) word,
	    NX_OPTIONS(NX_X)
#undef NX_X
	};

	return (enum nx_option)find_word(word, words, NX_OPTION_COUNT);
}

const char *nx_option_env(enum nx_option option)
{
	static const char *const names[] = {
#define NX_X(NAME, member, kind, word, argument, help) NX_ENV_PREFIX #NAME,
	    NX_OPTIONS(NX_X)
#undef NX_X
	};

	return names[option];
}

void nx_options_from_environment(struct nx_options *options)
{
	for (unsigned i = 0; i < NX_OPTION_COUNT; i++) {
		const char *text = getenv(nx_option_env((enum nx_option)i));

		if (text)
			nx_option_set(options, (enum nx_option)i, text);
	}
}
