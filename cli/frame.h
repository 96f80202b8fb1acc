/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* frame.h - what noexit top shows of the time between two looks at a VMM, as lines of text. */
#ifndef NX_CLI_FRAME_H
#define NX_CLI_FRAME_H

#include "watch.h"

#define FRAME_LINES 200
#define FRAME_WIDTH 160

/* The orders in which clusters are shown, greatest first: X(name, key, word, description). */
#define FRAME_SORTS(X)                                             \
	X(AVOIDED, 'a', "avoided", "exits avoided per second")     \
	X(EXECUTIONS, 'x', "executions", "executions per second")  \
	X(INSTRUCTIONS, 'i', "instructions", "guest instructions") \
	X(TOTAL, 't', "total", "exits avoided since the start")    \
	X(BENEFIT, 'b', "benefit", "time saved since the start")

enum frame_sort {
#define NX_X(name, key, word, text) FRAME_SORT_##name,
	FRAME_SORTS(NX_X)
#undef NX_X
	    FRAME_SORT_COUNT
};

struct frame_choice {
	enum frame_sort sort;
	int vm; /* -1 for all */
};

struct frame {
	unsigned lines;
	char line[FRAME_LINES][FRAME_WIDTH];
	bool heading[FRAME_LINES]; /* of a table */
};

/* Write the frame's lines. before may be an older copy of the same VMM, or the same copy. Both
 * were read with clusters. */
void frame_make(struct frame *frame, const struct watch *before, const struct watch *now,
		const struct frame_choice *choice);

#endif
