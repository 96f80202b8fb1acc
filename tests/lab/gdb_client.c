/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * gdb_client.c - a debugger for the lab, where there is none: GDB's remote protocol with QEMU's
 * stub.
 *
 * usage: gdb_client PORT soft|hard GATE TIMES WATCHED HITS, addresses in hexadecimal without 0x.
 * Breakpoints are software or hardware ones. Says "attached" when the guest has stopped, waits
 * until GATE has been reached TIMES times, then for HITS hits of WATCHED, at each of which al is a
 * character that it notes. Then it takes its breakpoints out, lets the guest go, and prints the
 * number of hits and the text, a dot for what does not print.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PACKET_BYTES 16384
#define REGISTER_DIGITS 16
#define LONGEST_INSTRUCTION 15
/* In the order of GDB's x86-64 target description: rax, rbx, rcx, rdx, rsi, rdi, ..., rip. */
enum { RAX = 0, RIP = 16 };

static FILE *from_stub, *to_stub;
static char reply[PACKET_BYTES];

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "gdb_client: %s; the last answer was '%.80s'\n", what, reply);
	exit(1);
}

static void put(const char *text)
{
	unsigned char sum = 0;

	for (const char *at = text; *at; at++)
		sum = (unsigned char)(sum + (unsigned char)*at);
	fprintf(to_stub, "$%s#%02x", text, sum);
	fflush(to_stub);
}

/* The next packet, acknowledged. */
static void get(void)
{
	size_t used = 0;
	int c;

	while ((c = getc(from_stub)) != '$')
		if (c == EOF)
			fail("the machine has gone");
	while ((c = getc(from_stub)) != '#' && c != EOF && used < sizeof(reply) - 1)
		reply[used++] = (char)c;
	reply[used] = 0;
	(void)getc(from_stub);
	(void)getc(from_stub);
	putc('+', to_stub);
	fflush(to_stub);
}

/* A question; the stub also says by itself that the guest stopped when we came. */
static void ask(const char *text)
{
	put(text);
	do
		get();
	while (reply[0] == 'T');
}

/* Lets the guest run, until it stops. */
static void run(const char *text)
{
	put(text);
	get();
	if (reply[0] != 'T')
		fail("the guest did not stop");
}

static void breakpoint(char set, char kind, uint64_t address)
{
	char text[64];

	snprintf(text, sizeof(text), "%c%c,%llx,1", set, kind, (unsigned long long)address);
	ask(text);
	if (strcmp(reply, "OK") != 0)
		fail("a breakpoint was refused");
}

/* Little-endian digits. */
static uint64_t value(unsigned number)
{
	uint64_t result = 0;

	for (unsigned byte = 8; byte-- > 0;) {
		char digits[3] = {0};

		memcpy(digits, reply + (size_t)number * REGISTER_DIGITS + (size_t)byte * 2, 2);
		result = result << 8 | strtoul(digits, NULL, 16);
	}
	return result;
}

/* Lets the guest run to the breakpoint; reply holds the registers then. */
static void reach(char kind, uint64_t address)
{
	breakpoint('Z', kind, address);
	run("c");
	ask("g");
	if (strlen(reply) < (RIP + 1) * REGISTER_DIGITS || value(RIP) != address)
		fail("the guest stopped elsewhere");
}

/*
 * Over the instruction with the breakpoint, which is taken out for that. If an interrupt comes
 * first, the guest comes back to it, and that is no further hit.
 */
static void step_over(char kind, uint64_t address)
{
	for (;;) {
		breakpoint('z', kind, address);
		run("s");
		ask("g");
		if (value(RIP) - address - 1 < LONGEST_INSTRUCTION)
			return;
		reach(kind, address);
	}
}

static void attach(const char *port)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		fail("no stub answers at that port");
	from_stub = fdopen(fd, "r");
	to_stub = fdopen(dup(fd), "w");
	if (!from_stub || !to_stub)
		fail("there is no memory");
	/* Answered when the guest has stopped. */
	ask("g");
	puts("attached");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	uint64_t gate, watched;
	unsigned hits, times;
	int character;
	char kind;

	if (argc != 7) {
		fprintf(stderr, "usage: gdb_client PORT soft|hard GATE TIMES WATCHED HITS\n");
		return 2;
	}
	kind = strcmp(argv[2], "hard") ? '0' : '1';
	gate = strtoull(argv[3], NULL, 16);
	times = (unsigned)strtoul(argv[4], NULL, 10);
	watched = strtoull(argv[5], NULL, 16);
	hits = (unsigned)strtoul(argv[6], NULL, 10);
	attach(argv[1]);
	for (unsigned i = 0; i < times; i++) {
		reach(kind, gate);
		step_over(kind, gate);
	}
	printf("%u times at the gate, text ", times);
	for (unsigned i = 0; i < hits; i++) {
		reach(kind, watched);
		character = (int)(value(RAX) & 0xff);
		putchar(isprint(character) ? character : '.');
		step_over(kind, watched);
	}
	printf(", %u hits\n", hits);
	ask("D");
	return 0;
}
