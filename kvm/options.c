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

/* The options that take one of some words: the words, and what is said of another. */
#define NX_X(name, word, help) word,
static const char *const level_words[] = {NX_LEVELS(NX_X)};
static const char *const limits_words[] = {NX_LIMITS(NX_X)};
static const char *const fault_words[] = {"none", NX_FAULTS(NX_X)};
static const char *const kernel_words[] = {"off", "on", "auto"};
#undef NX_X
#define NX_X(name, word, help) " " word
static const char level_error[] = "must be one of" NX_LEVELS(NX_X);
static const char limits_error[] = "must be one of" NX_LIMITS(NX_X);
static const char fault_error[] = "must be one of none" NX_FAULTS(NX_X);
static const char kernel_error[] = "must be one of off on auto";
#undef NX_X

/* The word's place in the list, or the number of words. */
static unsigned find_word(const char *text, const char *const *words, unsigned count)
{
	unsigned i = 0;

	while (i < count && strcmp(text, words[i]) != 0)
		i++;
	return i;
}

static const char *parse_word(const char *text, const char *const *words, unsigned count,
			      const char *error, unsigned *place)
{
	*place = find_word(text, words, count);
	return *place < count ? NULL : error;
}

static const char *parse_LEVEL(const char *text, enum nx_level *value)
{
	unsigned place;
	const char *error = parse_word(text, level_words, NX_LEVEL_COUNT, level_error, &place);

	if (!error)
		*value = (enum nx_level)place;
	return error;
}

static const char *parse_FAULT(const char *text, enum nx_fault *value)
{
	unsigned place;
	const char *error = parse_word(text, fault_words, NX_FAULT_COUNT, fault_error, &place);

	if (!error)
		*value = (enum nx_fault)place;
	return error;
}

static const char *parse_LIMITS(const char *text, enum nx_limits *value)
{
	unsigned place;
	const char *error = parse_word(text, limits_words, NX_LIMITS_COUNT, limits_error, &place);

	if (!error)
		*value = (enum nx_limits)place;
	return error;
}

static const char *parse_KERNEL(const char *text, enum nx_kernel *value)
{
	unsigned place;
	const char *error = parse_word(text, kernel_words, NX_KERNEL_COUNT, kernel_error, &place);

	if (!error)
		*value = (enum nx_kernel)place;
	return error;
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
