/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* helper.c - a program that ends, forks, execs and juggles descriptors in every way we touch. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int echo(char **argv)
{
	while (*argv)
		puts(*argv++);
	return 0;
}

static int cat(void)
{
	char buffer[256];
	ssize_t n;

	while ((n = read(0, buffer, sizeof(buffer))) > 0)
		fwrite(buffer, 1, (size_t)n, stdout);
	return 0;
}

static int children(int count)
{
	int sum = 0;

	for (int i = 0; i < count; i++) {
		int status;
		pid_t child = fork();

		if (!child)
			exit(i + 1);
		waitpid(child, &status, 0);
		sum += WEXITSTATUS(status);
	}
	printf("%d\n", sum);
	return 0;
}

static int vfork_exec(char **argv)
{
	int status;
	pid_t child = vfork(); /* NOLINT: what a VMM may do is what is tried here */

	if (!child) {
		execv(argv[0], argv);
		_exit(127);
	}
	waitpid(child, &status, 0);
	printf("%d\n", WEXITSTATUS(status));
	return 0;
}

static int loaded(void)
{
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");
	const char *answer = "no";

	while (maps && fgets(line, sizeof(line), maps)) {
		if (strstr(line, "libnoexit-kvm.so"))
			answer = "yes";
	}
	puts(answer);
	return 0;
}

static void show(const char *what, int result)
{
	printf("%s %d %s\n", what, result, result < 0 ? strerrorname_np(errno) : "");
}

static int descriptors(void)
{
	int fd = open("/dev/null", O_RDWR);

	show("open", fd);
	show("dup", dup(fd));
	show("dup2", dup2(fd, 50));
	show("dup2 same", dup2(50, 50));
	show("dup2 bad", dup2(99, 50));
	show("dup3", dup3(fd, 51, O_CLOEXEC));
	show("dup3 same", dup3(51, 51, 0));
	show("flags", fcntl(51, F_GETFD));
	show("dupfd", fcntl(fd, F_DUPFD, 60));
	show("dupfd cloexec", fcntl(fd, F_DUPFD_CLOEXEC, 60));
	show("close", close(60));
	show("close again", close(60));
	show("close_range", close_range(50, 55, 0));
	show("closed", fcntl(51, F_GETFD));
	show("bad close_range", close_range(9, 8, 0));
	closefrom(40);
	show("closefrom", fcntl(61, F_GETFD));
	show("ioctl", ioctl(fd, TCGETS, NULL));
	show("kvm ioctl", ioctl(fd, 0xae80, 0));
	show("bad ioctl", ioctl(-1, 0xae01, 0));
	return 0;
}

static int keep_errno(void)
{
	int fd = open("/dev/null", O_RDWR);

	errno = 1234;
	close(dup(fd));
	fcntl(fd, F_GETFD);
	dup2(fd, 70);
	close(70);
	printf("%d\n", errno);
	return 0;
}

static int reopen_stderr(const char *path)
{
	close(2);
	return write(open(path, O_WRONLY | O_CREAT, 0600), "disk", 4) == 4 ? 0 : 1;
}

static void on_signal(int number)
{
	/* NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c): raised where it may print */
	printf("handler %d\n", number);
}

static void on_signal_info(int number, siginfo_t *info, void *context)
{
	printf("handler with info %d %d %d\n", number, info->si_value.sival_int, context != NULL);
}

static const char *handler_name(void (*handler)(int))
{
	return handler == SIG_DFL                                    ? "default"
	       : handler == SIG_IGN                                  ? "ignore"
	       : handler == on_signal                                ? "on_signal"
	       : handler == (void (*)(int))(uintptr_t)on_signal_info ? "on_signal_info"
								     : "unknown";
}

/* A caller that asks for a handler gets the one that was set, and a signal reaches it. */
static int signals(void)
{
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_RESETHAND}, old;

	puts(handler_name(signal(SIGUSR1, on_signal)));
	raise(SIGUSR1);
	action.sa_sigaction = on_signal_info;
	show("sigaction", sigaction(SIGUSR1, &action, &old));
	printf("%s %#x\n", handler_name(old.sa_handler), (unsigned)old.sa_flags);
	show("sigaction", sigaction(SIGUSR1, NULL, &old));
	printf("%s %#x\n", handler_name(old.sa_handler), (unsigned)old.sa_flags);
	sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 7});
	show("sigaction", sigaction(SIGUSR1, &old, &action));
	puts(handler_name(action.sa_handler));
	puts(handler_name(signal(SIGUSR1, SIG_IGN)));
	raise(SIGUSR1);
	puts(handler_name(sysv_signal(SIGUSR1, on_signal)));
	raise(SIGUSR1);
	puts(handler_name(signal(SIGUSR1, on_signal)));
	show("sigaction", sigaction(SIGKILL, &old, NULL));
	show("sigaction", sigaction(-1, &old, NULL));
	show("sigaction", sigaction(NSIG, NULL, &old));
	printf("%d\n", signal(1000, on_signal) == SIG_ERR);
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	int number = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;

	if (!strcmp(verb, "status"))
		exit(number);
	if (!strcmp(verb, "_exit"))
		_exit(number);
	if (!strcmp(verb, "quick_exit"))
		quick_exit(number);
	if (!strcmp(verb, "kill")) {
		kill(getpid(), number);
		pause();
	}
	if (!strcmp(verb, "echo"))
		return echo(argv + 2);
	if (!strcmp(verb, "cat"))
		return cat();
	if (!strcmp(verb, "pid"))
		return printf("%d\n", (int)getpid()) < 0;
	if (!strcmp(verb, "env"))
		return puts(getenv(argv[2]) ? getenv(argv[2]) : "") < 0;
	if (!strcmp(verb, "fork"))
		return children(number);
	if (!strcmp(verb, "vfork-exec"))
		return vfork_exec(argv + 2);
	if (!strcmp(verb, "exec"))
		return execv(argv[2], argv + 2);
	if (!strcmp(verb, "loaded"))
		return loaded();
	if (!strcmp(verb, "descriptors"))
		return descriptors();
	if (!strcmp(verb, "signals"))
		return signals();
	if (!strcmp(verb, "errno"))
		return keep_errno();
	if (!strcmp(verb, "reopen-stderr"))
		return reopen_stderr(argv[2]);
	return 2;
}
