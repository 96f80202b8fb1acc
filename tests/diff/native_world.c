/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* native_world.c - what sequences find in this process: pages, segments, modes that work. */
#include <asm/ldt.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "native.h"

static bool map_at(uint64_t linear, size_t size, int protection, int flags)
{
	void *want = (void *)(uintptr_t)linear;

	return mmap(want, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0) == want;
}

bool native_map_pages(void)
{
	if (!map_at(LOW, LOW_PAGES * PAGE, PROT_NONE, MAP_FIXED_NOREPLACE) ||
	    !map_at(HIGH, HIGH_PAGES * PAGE, PROT_NONE, MAP_FIXED_NOREPLACE))
		return false;
	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t linear = page_linear(page);
		int protection = PROT_READ | PROT_WRITE;

		if (page_use[page] == HOLE)
			continue;
		if (page_use[page] == CODE)
			protection |= PROT_EXEC;
		if (!map_at(linear, PAGE, protection, MAP_FIXED))
			return false;
		memcpy((void *)(uintptr_t)linear, initial_page(page), PAGE);
		if (page_use[page] == DEVICE &&
		    mprotect((void *)(uintptr_t)linear, PAGE, PROT_NONE))
			return false;
		if (page_use[page] == READ_ONLY &&
		    mprotect((void *)(uintptr_t)linear, PAGE, PROT_READ))
			return false;
	}
	return true;
}

static bool install_segment(unsigned number)
{
	struct nx_segment s = table_segment(number);
	bool pages = s.limit > 0xfffff;
	const struct user_desc descriptor = {.entry_number = number,
					     .base_addr = (unsigned)s.base,
					     .limit = pages ? s.limit >> 12 : s.limit,
					     .seg_32bit = s.db,
					     .contents = s.type >> 2,
					     .read_exec_only = !(s.type & 2),
					     .limit_in_pages = pages,
					     .useable = 1};

	return !syscall(SYS_modify_ldt, 0x11, &descriptor, sizeof(descriptor));
}

/* Return whether the processor can read there, without a fault if it cannot. */
static bool is_readable(uint16_t selector)
{
	bool readable;

	__asm__("verr %w1" : "=@ccz"(readable) : "r"((unsigned)selector));
	return readable;
}

bool native_install_segments(void)
{
	for (unsigned i = 0; i < table_segments(); i++)
		if (!install_segment(i) || !is_readable(table_segment(i).selector))
			return false;
	return true;
}

/* Return whether code runs in this way at all: set a register, then OUT and NOP, and return.
 * Code that cannot be returned to faults as OUT and HLT do, so neither stands where control
 * returns. */
static bool probe(enum mode mode, unsigned bits, const struct nx_segment *cs, const char *set,
		  unsigned len, const struct result *until)
{
	static struct sequence seq;
	static struct processor_result result;
	struct result stop = *until;

	memset(&seq, 0, sizeof(seq));
	memset(seq.code, 0xf4, sizeof(seq.code));
	seq.mode = mode;
	seq.bits = seq.stack_bits = (uint8_t)bits;
	for (unsigned i = 0; i < NX_SREGS; i++)
		seq.seg[i].selector = bits == 64 && i != NX_SS ? 0 : 0x2b;
	seq.seg[NX_CS] = *cs;
	if (mode == MODE_PROTECTED16)
		seq.seg[NX_SS] = table_segment(6);
	seq.rflags = stop.rflags = 0x202;
	memcpy(seq.code, set, len);
	memcpy(seq.code + len, "\xe6\x80\x90", 3);
	seq.insn[0].rip = LOW - cs->base;
	seq.insn[0].len = (uint8_t)len;
	seq.insn[1] = (struct instruction){
	    .rip = seq.insn[0].rip + len, .len = 2, .size = 1, .kind = KIND_OUT};
	seq.insn[2] = (struct instruction){.rip = seq.insn[1].rip + 2, .len = 1};
	seq.insn[3].rip = seq.insn[2].rip + 1;
	seq.instructions = 3;
	stop.rip = seq.insn[3].rip;
	stop.accesses = 1;
	native_run(&seq, &stop, false, &result);
	return result.stopped && result.r.accesses == 1 && state_equal(&seq, &result.r, &stop);
}

bool native_runs_code(enum mode mode, unsigned bits, const struct nx_segment *cs)
{
	const struct result until = {.gpr = {[NX_RAX] = 0x5a}};

	return probe(mode, bits, cs, "\xb0\x5a" /* mov al, 0x5a */, 2, &until);
}

bool native_bears_wild_stack(const struct nx_segment *long64)
{
	const struct result until = {.gpr = {[NX_RSP] = 0x4001403100000000}};

	/* mov rsp, 0x4001403100000000 */
	return probe(MODE_LONG64, 64, long64, "\x48\xbc\0\0\0\0\x31\x40\x01\x40", 10, &until);
}
