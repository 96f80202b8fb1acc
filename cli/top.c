/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* top.c - noexit top: a VMM's exits and hottest clusters, live. */
#define _GNU_SOURCE
#include "cli.h"

#include <argp.h>
#include <ncurses.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "frame.h"

enum { KEY_BATCH = 0x10000 };

struct top_options {
	struct cli_look look; /* count: how many frames to show, or 0 for no end */
	bool batch;
	struct frame_choice choice;
};

static const struct {
	char key;
	const char *word;
} sorts[] = {
#define NX_X(name, key, word, text) {key, word},
    FRAME_SORTS(NX_X)
#undef NX_X
};

/* ---- Arguments ---- */

static error_t parse_sort(struct top_options *options, const char *word, struct argp_state *state)
{
	for (unsigned i = 0; i < FRAME_SORT_COUNT; i++) {
		if (!strcmp(word, sorts[i].word)) {
			options->choice.sort = (enum frame_sort)i;
			return 0;
		}
	}
	argp_error(state,
		   "the argument of -s must be one of"
#define NX_X(name, key, text, help) " " text
		   FRAME_SORTS(NX_X)
#undef NX_X
		       ", which '%s' is not",
		   word);
	return 0;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct top_options *options = state->input;
	unsigned long number;

	switch (key) {
	case 'm':
		if (!cli_parse_number(text, &number) || number > 65535)
			argp_error(state,
				   "the argument of -m must be a VM's number, which '%s' is not",
				   text);
		options->choice.vm = (int)number;
		return 0;
	case 's':
		return parse_sort(options, text, state);
	case KEY_BATCH:
		options->batch = true;
		return 0;
	default:
		return cli_parse_look(key, text, state, &options->look);
	}
}

static const struct argp_option argp_options[] = {
    {"pid", 'p', "PID", 0, "The VMM to look at (default: the one that runs)", 0},
    {"interval", 'i', "SECONDS", 0, "Time between two looks (default 1)", 0},
    {"count", 'n', "N", 0, "End after N looks", 0},
    {"vm", 'm', "N", 0, "Only the VM with this number, from 0", 0},
    {"sort", 's', "BY", 0, "Clusters by avoided, executions, instructions, total or benefit", 0},
    {"batch", KEY_BATCH, NULL, 0, "Print, one look below the other", 0},
    {0},
};

static const struct argp parser = {
    .options = argp_options,
    .parser = parse,
    .doc = "Shows a running VMM's exits and hottest clusters, live.\vKeys: a, x, i, t, b sort by "
	   "exits "
	   "avoided, executions, instructions, total, benefit; v chooses the next VM; q quits. "
	   "Exit status "
	   "2: there is no such VMM, or it is not yours.",
};

/* ---- The screen ---- */

static void draw(const struct frame *frame)
{
	erase();
	for (unsigned i = 0; i < frame->lines && (int)i < LINES; i++) {
		attrset(frame->heading[i] ? A_REVERSE : A_NORMAL);
		mvaddnstr((int)i, 0, frame->line[i], COLS);
	}
	attrset(A_NORMAL);
	refresh();
}

/* All, the first, the second, and so on. */
static void choose_next_vm(struct frame_choice *choice, const struct watch *watch)
{
	int next = -1;

	for (unsigned i = 0; i < watch->vcpus; i++) {
		int vm = (int)watch->vcpu[i].vm;

		if (vm > choice->vm && (next < 0 || vm < next))
			next = vm;
	}
	choice->vm = next;
}

/* Do what the key says. Return whether to go on. */
static bool obey(int key, struct top_options *options, const struct watch *watch)
{
	for (unsigned i = 0; i < FRAME_SORT_COUNT; i++) {
		if (key == sorts[i].key)
			options->choice.sort = (enum frame_sort)i;
	}
	if (key == 'v')
		choose_next_vm(&options->choice, watch);
	/* After any key the whole screen is drawn again, since another program may have written
	 * over it. */
	clearok(stdscr, TRUE);
	return key != 'q';
}

/* Show the interval between two looks until the next look is due. Return false if the user has
 * quit. */
static bool show(const struct watch *before, const struct watch *now, struct top_options *options)
{
	static struct frame frame;
	int left = (int)(options->look.interval * 1000);

	if (options->batch) {
		frame_make(&frame, before, now, &options->choice);
		for (unsigned i = 0; i < frame.lines; i++)
			puts(frame.line[i]);
		putchar('\n');
		fflush(stdout);
		return true;
	}
	for (; left > 0; left -= 100) {
		int key;

		frame_make(&frame, before, now, &options->choice);
		draw(&frame);
		timeout(left < 100 ? left : 100);
		key = getch();
		if (key != ERR && !obey(key, options, now))
			return false;
	}
	return true;
}

/* false: the VMM has ended. */
static bool look_again_and_again(struct watch *before, struct top_options *options)
{
	/* The first two looks are close together, or the screen would stay empty. */
	double pause = options->look.interval < 0.2 ? options->look.interval : 0.2;
	bool more = true;

	for (unsigned long i = 0; more && (!options->look.count || i < options->look.count); i++) {
		struct watch now;

		cli_sleep(pause);
		if (watch_read(before->pid, true, &now))
			return false;
		more = show(before, &now, options);
		pause = options->batch ? options->look.interval : 0;
		watch_free(before);
		*before = now;
	}
	return true;
}

static int on_screen(struct watch *watch, struct top_options *options)
{
	bool alive;

	if (!newterm(NULL, stdout, stdin))
		return cli_refuse("this terminal's type is not known; set TERM, or use --batch");
	cbreak();
	noecho();
	curs_set(0);
	alive = look_again_and_again(watch, options);
	endwin();
	if (!alive)
		printf("process %d (%s) has ended\n", (int)watch->pid, watch->command);
	return 0;
}

int cli_top(int argc, char **argv)
{
	struct top_options options = {.look.interval = 1, .choice = {.vm = -1}};
	enum watch_result result;
	struct watch watch;
	pid_t pid;
	int refused;

	argp_parse(&parser, argc, argv, 0, NULL, &options);
	if (!options.batch && (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)))
		return cli_refuse("noexit top needs a terminal; without one, use --batch");
	refused = cli_choose(options.look.pid, &pid);
	if (refused)
		return refused;
	result = watch_read(pid, true, &watch);
	if (result)
		return cli_refuse_watch(pid, result);
	if (options.batch)
		look_again_and_again(&watch, &options);
	else
		refused = on_screen(&watch, &options);
	watch_free(&watch);
	return refused;
}
