/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* translate.h - host code for a graph. */
#ifndef NX_TRANSLATE_H
#define NX_TRANSLATE_H

#include "translate/site.h"

#define NX_TRANSLATE_SCRATCH_SIZE (64u * 1024)
#define NX_SNIPPETS 17

/* An encoded sequence, see snippet.c. */
struct nx_snippet {
	uint8_t len, patch;
	uint8_t range; /* RANGE: where the bytes' number less 1 is */
	uint8_t thunk; /* end of a direct branch to a thunk; 0: there is none */
	uint8_t bytes[60];
};

/* Emit host code for the graph to code_rw. It is for the place in engine->thunks if its branches
 * are direct, and position-independent otherwise. Return false if something could not be encoded,
 * or did not fit. */
bool nx_translate(struct nx_engine *engine, const struct nx_graph *graph, uint8_t *code_rw,
		  size_t capacity, struct nx_translation *out);
/* Do the same in steps. The caller keeps everything that it passed unchanged until the last
 * step. */
void nx_translate_begin(struct nx_engine *engine, const struct nx_graph *graph, uint8_t *code_rw,
			size_t capacity, struct nx_translation *out);
enum nx_progress nx_translate_step(struct nx_engine *engine);

/* Encode the sequences that occur in every translation. */
void nx_snippets_init(struct nx_engine *engine);

#endif
