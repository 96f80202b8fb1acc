/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Runs translated code in this process, through the engine's own enter.S. Layout, each between
 * pages that fault:
 *
 *	context    on a page of its own; what lies behind it must not change
 *	guest      two pages of guest memory, next to each other for the guest only; the second
 *	           may be read only
 *	code       ends where its last page ends
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include <Zydis/Zydis.h>

#include "../mock/near.h"
#include "verify_oracle.h"

#define PAGE 4096u
#define CODE_PAGES 16u
/* Where the guest has its two pages. Their host addresses must look like nothing of the guest's. */
#define GUEST_LINEAR 0x7000u
#define MAX_MISSES 200
#define MAX_TURNS 100
/* Twice those, with as many misses, would have to take half a second each. */
#define MAX_LOOKS (2 * MAX_TURNS + MAX_MISSES)
/* In half seconds: how long one instruction may be held up. */
#define MAX_HELD 600u

/* verify_enter.S */
void verify_sandbox_enter(struct nx_context *context, const void *code);
void verify_sandbox_thunk_exit(void);
void verify_sandbox_thunk_miss(void);
void verify_sandbox_thunk_helper(void);
void *verify_sandbox_miss(struct nx_context *context);
bool verify_sandbox_helper(struct nx_context *context);

static struct {
	uint8_t *context_page, *guest[2], *code_rw;
	const uint8_t *code_rx;
	struct nx_context *context;
	const struct nx_translation *t;
	sigjmp_buf escape;
	volatile sig_atomic_t running;
	unsigned misses, looks, held;
	uint64_t progress, seed;
} box;

struct verify_sandbox_stats verify_sandbox_stats;

static uint64_t random64(void)
{
	box.seed ^= box.seed << 13;
	box.seed ^= box.seed >> 7;
	box.seed ^= box.seed << 17;
	return box.seed;
}

void *verify_sandbox_miss(struct nx_context *context)
{
	const struct nx_site *site = &box.t->site[box.context->site];
	uint64_t first = box.context->linear - GUEST_LINEAR;

	(void)context;
	verify_sandbox_stats.misses++;
	if (++box.misses > MAX_MISSES || first >= 2 * PAGE || first % PAGE + site->size > PAGE ||
	    (site->write && first >= PAGE))
		return NULL;
	return box.guest[first / PAGE] + first % PAGE;
}

bool verify_sandbox_helper(struct nx_context *context)
{
	(void)context;
	verify_sandbox_stats.helpers++;
	box.context->gpr[NX_RAX] += 1;
	return ++box.misses <= MAX_MISSES;
}

/*
 * Whether the code is at a locked access. Across two cache lines it takes milliseconds where the
 * host watches for such, and seconds where others on the host do the same, which all wait for each
 * other there: it is held up, and that says nothing of what comes behind it.
 */
static bool is_held(const void *at)
{
	const uint8_t *end = box.code_rx + CODE_PAGES * PAGE;
	ZydisDecodedInstruction insn;
	ZydisDecoder decoder;

	if ((const uint8_t *)at < box.code_rx || (const uint8_t *)at >= end)
		return false;
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(
		&decoder, NULL, at, (size_t)(end - (const uint8_t *)at), &insn)))
		return false;
	return insn.attributes & ZYDIS_ATTRIB_HAS_LOCK || insn.mnemonic == ZYDIS_MNEMONIC_XCHG;
}

/* Whether code that has run for long and is there is held up, or has counted turns since the last
 * look. */
static bool goes_on(const void *at)
{
	uint64_t before = box.progress;

	if (is_held(at) && ++box.held <= MAX_HELD)
		return true;
	box.progress = box.context->turns + box.context->idle_turns - box.misses;
	return box.progress != before && ++box.looks <= MAX_LOOKS;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	const ucontext_t *at = context;

	(void)info;
	if (box.running && number == SIGVTALRM &&
	    goes_on((const void *)at->uc_mcontext.gregs[REG_RIP]))
		return;
	if (box.running)
		siglongjmp(box.escape, number);
	/* The timer may expire just when the code has ended by itself. */
	if (number == SIGVTALRM)
		return;
	signal(number, SIG_DFL);
	raise(number);
}

static uint8_t *map_between_guards(size_t bytes, int protection, int fd)
{
	/* Near the thunks, which the code may branch to directly. */
	uint8_t *area = map_near((const void *)verify_sandbox_thunk_exit, bytes + 2 * PAGE,
				 PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	int flags = MAP_FIXED | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);

	if (area == MAP_FAILED ||
	    mmap(area + PAGE, bytes, protection, flags, fd, 0) == MAP_FAILED) {
		perror("sandbox: mmap");
		abort();
	}
	return area + PAGE;
}

/* Each time: cmocka has handlers of its own for each test. */
static void catch_signals(void)
{
	static uint8_t stack[64 * 1024];
	static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGVTALRM};
	stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_sigaction = on_signal,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

	sigaltstack(&alternative, NULL);
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
}

static void set_up(void)
{
	int fd;

	catch_signals();
	if (box.context)
		return;
	fd = memfd_create("code", 0);
	if (fd < 0 || ftruncate(fd, CODE_PAGES * PAGE)) {
		perror("sandbox: memfd");
		abort();
	}
	box.code_rw = map_between_guards(CODE_PAGES * PAGE, PROT_READ | PROT_WRITE, fd);
	box.code_rx = map_between_guards(CODE_PAGES * PAGE, PROT_READ | PROT_EXEC, fd);
	box.context_page = map_between_guards(PAGE, PROT_READ | PROT_WRITE, -1);
	box.context = (struct nx_context *)(void *)box.context_page;
	box.guest[0] = map_between_guards(PAGE, PROT_READ | PROT_WRITE, -1);
	box.guest[1] = map_between_guards(PAGE, PROT_READ, -1);
}

static void tlb_add(unsigned page, bool write)
{
	uint64_t linear = GUEST_LINEAR + page * PAGE;
	struct nx_tlb_entry *entry = &box.context->tlb[linear / PAGE % NX_TLB_ENTRIES];

	entry->read = linear;
	if (write)
		entry->write = linear;
	entry->addend = (uint64_t)box.guest[page] - linear;
}

/* turn: 0 with the TLB empty, 1 with the page that may be written, 2 with both. */
static void fill(unsigned turn)
{
	struct nx_context *c = box.context;

	for (unsigned i = 0; i < PAGE / 8; i++)
		((uint64_t *)(void *)box.context_page)[i] = random64() & INT64_MAX >> (i % 3 * 20);
	for (unsigned i = 0; i < NX_TLB_ENTRIES; i++) {
		c->tlb[i].read = c->tlb[i].write = 1;
		/* Whoever uses it in spite of the tag lands between pages. */
		c->tlb[i].addend = (uint64_t)box.guest[0] - PAGE - GUEST_LINEAR;
	}
	for (unsigned i = 0; i < NX_GPRS; i++)
		if (random64() & 1)
			c->gpr[i] = GUEST_LINEAR + random64() % (2 * PAGE);
	c->gpr[NX_RSI] = GUEST_LINEAR + random64() % (2 * PAGE);
	if (turn == 2)
		c->gpr[NX_RSI] = GUEST_LINEAR + PAGE - 1 - random64() % 24;
	c->gpr[NX_RDI] = GUEST_LINEAR + random64() % PAGE;
	if (turn >= 1)
		tlb_add(0, true);
	if (turn >= 2)
		tlb_add(1, false);
	c->turns = random64() % MAX_TURNS;
	c->idle_turns = random64() % MAX_TURNS;
	c->site = NX_MAX_SITES;
	c->thunk_exit = (const void *)verify_sandbox_thunk_exit;
	c->thunk_miss = (const void *)verify_sandbox_thunk_miss;
	c->thunk_helper = (const void *)verify_sandbox_thunk_helper;
	for (unsigned i = 0; i < PAGE; i++)
		box.guest[0][i] = (uint8_t)(random64() & 0x3f);
}

static bool near(uint64_t value, const void *host, uint64_t bytes)
{
	return value - ((uint64_t)host - PAGE) < bytes + 2 * PAGE;
}

/* Whether the guest could see a host address in what the code left behind. */
static bool leaks(void)
{
	uint64_t seen[NX_CTX_RFLAGS / 8 + PAGE / 8];
	unsigned count = NX_CTX_RFLAGS / 8;

	memcpy(seen, box.context, NX_CTX_RFLAGS);
	memcpy(seen + count, box.guest[0], PAGE);
	count += PAGE / 8;
	for (unsigned i = 0; i < count; i++)
		if (near(seen[i], box.context_page, PAGE) || near(seen[i], box.guest[0], PAGE) ||
		    near(seen[i], box.guest[1], PAGE) ||
		    near(seen[i], box.code_rx, CODE_PAGES * PAGE) ||
		    near(seen[i], (const uint8_t *)__builtin_frame_address(0) - 16 * PAGE,
			 32 * PAGE) ||
		    near(seen[i], (const void *)verify_sandbox_thunk_exit, PAGE))
			return true;
	return false;
}

static const char endless[] = "does not end";

static const char *signal_meaning(int number)
{
	switch (number) {
	case SIGILL:
		return "ran into an instruction that does not exist";
	case SIGTRAP:
		return "ran into a breakpoint";
	case SIGFPE:
		return "divided";
	case SIGVTALRM:
		return endless;
	default:
		return "touched memory that is not there";
	}
}

/* Far more than a turn can take, whatever the machine does meanwhile. */
#define LOOK_USECONDS 500000
/* What holds up a processor may do so between two instructions as well, but not each time. */
#define TRIES 6

static const char *run_once(const uint8_t *at, unsigned turn)
{
	static const struct itimerval look = {{0, LOOK_USECONDS}, {0, LOOK_USECONDS}}, off;
	static uint8_t before[PAGE];
	struct nx_context *was = (struct nx_context *)(void *)before;
	volatile unsigned long flags = 0;
	int number;

	fill(turn);
	memcpy(before, box.context_page, PAGE);
	box.misses = 0;
	box.looks = 0;
	box.held = 0;
	box.progress = box.context->turns + box.context->idle_turns;
	number = sigsetjmp(box.escape, 1);
	if (number == 0) {
		box.running = 1;
		setitimer(ITIMER_VIRTUAL, &look, NULL);
		verify_sandbox_enter(box.context, at);
		flags = __builtin_ia32_readeflags_u64();
		__asm__ volatile("cld");
		box.running = 0;
		verify_sandbox_stats.exits++;
	}
	box.running = 0;
	setitimer(ITIMER_VIRTUAL, &off, NULL);
	if (number)
		return signal_meaning(number);
	if (flags & (1ul << 10 | 1ul << 18))
		return "left DF or AC set";
	/* What enter.S stored. */
	was->host_rsp = box.context->host_rsp;
	if (memcmp(before + NX_CTX_RFLAGS, box.context_page + NX_CTX_RFLAGS,
		   PAGE - NX_CTX_RFLAGS) != 0)
		return "wrote to the context where it must not";
	return leaks() ? "leaked a host address" : NULL;
}

static const char *run(const uint8_t *at, unsigned turn)
{
	const uint64_t seed = box.seed;
	const char *error;
	unsigned tries = 0;

	verify_sandbox_stats.runs++;
	do {
		box.seed = seed;
		error = run_once(at, turn);
	} while (error == endless && ++tries < TRIES);
	return error;
}

/* Lead direct branches to the thunks to ours instead. */
static void use_own_thunks(uint32_t start, uint32_t size, const struct nx_thunks *thunks)
{
	uint8_t *code = box.code_rw + start;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;
	ZydisDecoder decoder;

	if (thunks->branches == NX_BRANCHES_INDIRECT)
		return;
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (uint32_t at = 0; at < size; at += insn.length) {
		uint64_t to, own;
		uint32_t displacement;

		if (!ZYAN_SUCCESS(
			ZydisDecoderDecodeFull(&decoder, code + at, size - at, &insn, op)))
			return;
		if (insn.length != 5 || (code[at] != 0xe8 && code[at] != 0xe9))
			continue;
		to = thunks->code + at + 5 + (uint64_t)op[0].imm.value.s;
		own = to == thunks->exit     ? (uintptr_t)verify_sandbox_thunk_exit
		      : to == thunks->miss   ? (uintptr_t)verify_sandbox_thunk_miss
		      : to == thunks->helper ? (uintptr_t)verify_sandbox_thunk_helper
					     : 0;
		displacement = (uint32_t)(own - ((uintptr_t)box.code_rx + start + at + 5));
		if (own)
			memcpy(code + at + 1, &displacement, 4);
	}
}

const char *verify_sandbox(const uint8_t *code, uint32_t size, const struct nx_translation *t,
			   const struct nx_thunks *thunks, uint64_t seed)
{
	uint32_t start = CODE_PAGES * PAGE - size;
	const char *error = NULL;

	if (size > CODE_PAGES * PAGE)
		return "too long for the sandbox";
	set_up();
	box.seed = seed * 2 + 1;
	box.t = t;
	memset(box.code_rw, 0xcc, CODE_PAGES * PAGE - size);
	memcpy(box.code_rw + start, code, size);
	use_own_thunks(start, size, thunks);
	for (unsigned i = 0; i < t->entries && !error; i++)
		for (unsigned turn = 0; turn < 3 && !error; turn++)
			error = run(box.code_rx + start + t->entry[i].offset, turn);
	return error;
}
