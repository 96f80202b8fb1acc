/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * terminal.c - runs a program on a terminal of its own, for those that take no pipe (virsh
 *console).
 *
 *	terminal PROGRAM [ARGUMENT]...
 *
 * What comes by standard input is typed, what the program writes goes to standard output. It ends
 *with the program, whose exit status is its own.
 */
#define _GNU_SOURCE
#include <err.h>
#include <poll.h>
#include <pty.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

/* Return false when there is nothing more to come. */
static bool pass(int from, int to)
{
	char text[4096];
	ssize_t n = read(from, text, sizeof(text));

	for (ssize_t written = 0; written < n;) {
		ssize_t some = write(to, text + written, (size_t)(n - written));

		if (some <= 0)
			return false;
		written += some;
	}
	return n > 0;
}

/* The terminal reports POLLHUP, and reading it fails, when the program has ended. */
static void pass_all(int terminal)
{
	struct pollfd ends[] = {{.fd = terminal, .events = POLLIN},
				{.fd = STDIN_FILENO, .events = POLLIN}};

	while (poll(ends, 2, -1) > 0) {
		if (ends[0].revents && !pass(terminal, STDOUT_FILENO))
			return;
		if (ends[1].revents && !pass(STDIN_FILENO, terminal))
			ends[1].fd = -1;
	}
}

int main(int argc, char **argv)
{
	int terminal, status;
	pid_t program;

	if (argc < 2)
		errx(2, "usage: terminal PROGRAM [ARGUMENT]...");
	program = forkpty(&terminal, NULL, NULL, NULL);
	if (program < 0)
		err(1, "a terminal");
	if (!program) {
		execvp(argv[1], argv + 1);
		err(127, "%s", argv[1]);
	}
	pass_all(terminal);
	if (waitpid(program, &status, 0) != program)
		err(1, "%s", argv[1]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
