/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * watched.c - a VMM to look at: it makes the given number of VMs, says "ready", and obeys the lines
 * that it reads. "run": every VM runs its guest once; "gone": the last VM is closed; "fork": a
 * child stays behind that holds what a child inherits. It says "done" after each. At the end of its
 * input it ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tinyvm.h"

#define MAX_VMS 8
#define TURNS 300
#define READY 8 /* what the polling loop waits for */

/*
 * A branch in the gap (tests/clusters/straight_test.c), a polling loop and an accessor function
 * behind a pointer. ecx: turns, rsi: memory, rbx: the code.
 */
extern const char guest[], guest_end[];
__asm__(".pushsection .rodata\n"
	".intel_syntax noprefix\n"
	"guest: mov edx, 0x3da\n"
	"in ax, dx\n"
	"and dword ptr [rsi], 0xfffffeff\n"
	"test ax, 0x20\n"
	"jnz 1f\n"
	"or dword ptr [rsi], 0x100\n"
	"1: mov edi, 0xff\n"
	"in ax, dx\n"
	"2: in al, dx\n"
	"test al, 8\n"
	"jz 2b\n"
	"lea rbp, [rip + 3f]\n"
	"call rbp\n"
	"dec ecx\n"
	"jnz guest\n"
	"out 0xf4, al\n"
	"hlt\n"
	"3: out 0x80, al\n"
	"ret\n"
	"guest_end:\n"
	".att_syntax prefix\n"
	".popsection");

static struct tinyvm vm[MAX_VMS];
static unsigned inputs;

static void answer(void *data, const struct tinyvm_access *access)
{
	(void)data;
	if (access->write)
		return;
	memset(access->data, 0, access->size);
	*(uint8_t *)access->data = ++inputs % 3 ? 0x20 : 0x20 | READY;
}

static bool run(unsigned vms)
{
	struct kvm_regs regs = {.rcx = TURNS, .rsi = TINYVM_DATA, .rsp = TINYVM_STACK};

	for (unsigned i = 0; i < vms; i++) {
		if (!tinyvm_start(&vm[i], &regs) || !tinyvm_run(&vm[i], answer, NULL))
			return false;
	}
	return true;
}

static void leave_child(void)
{
	pid_t child = fork();

	if (child)
		printf("child %d\n", (int)child);
	else
		for (;;)
			pause();
}

int main(int argc, char **argv)
{
	unsigned vms = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	char line[64];

	if (!vms || vms > MAX_VMS)
		return 2;
	for (unsigned i = 0; i < vms; i++) {
		const char *failed = tinyvm_open(&vm[i], 64, 3, guest, (size_t)(guest_end - guest));

		if (failed) {
			perror(failed);
			return 77;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "run\n") && !run(vms))
			return 1;
		if (!strcmp(line, "gone\n") && vms)
			tinyvm_close(&vm[--vms]);
		if (!strcmp(line, "fork\n"))
			leave_child();
		puts("done");
	}
	return 0;
}
