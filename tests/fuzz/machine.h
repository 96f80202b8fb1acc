/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * machine.h - a guest for the engine's fuzz target: a few pages of memory, each of them between two
 * pages that nobody may touch, page tables in that memory, and devices that answer anything.
 */
#ifndef NX_TESTS_FUZZ_MACHINE_H
#define NX_TESTS_FUZZ_MACHINE_H

#include "../mock/vectors.h"
#include "fuzz.h"
#include "noexit.h"

#define MACHINE_PAGES 32u
#define MACHINE_RAM (MACHINE_PAGES * 4096u)
#define MACHINE_MAPPED 0x200000u /* linear addresses that the page tables map, one to one */
#define MACHINE_CODE 0x10000u
#define MACHINE_DATA 0x12000u
#define MACHINE_STACK 0x14000u
#define MACHINE_EXTRA 0x16000u
#define MACHINE_TABLES 0x18000u
#define MACHINE_DEVICE 0x100000u
#define MACHINE_CODE_MAX 512u
#define MACHINE_SCRIPT 8u

enum machine_mode { REAL16, PROT16, FLAT32, PAGED32, PAE32, LONG64, MACHINE_MODES };
enum machine_page { PAGE_RAM, PAGE_READONLY, PAGE_ROM, PAGE_DEVICE, PAGE_LEAVE, PAGE_KINDS };

struct machine {
	enum machine_mode mode;
	unsigned cpl;
	struct nx_state start;
	uint8_t kind[MACHINE_PAGES]; /* enum machine_page */
	/* The guest's memory as devices see it; the engine has each page through another mapping.
	 */
	uint8_t *ram;
	struct nx_engine *engine;
	uint64_t device; /* seed of the devices' answers */
	uint64_t time;
	unsigned leave_routes; /* one in so many accesses is the kernel's; 0 for none */
	unsigned accesses;
	bool hurried; /* building is interrupted now and then */
	unsigned steps;
	vector_registers vectors;
	uint8_t script[MACHINE_SCRIPT]; /* what happens at the exits: engine.c */
	uint32_t code;                  /* where the code was loaded */
};

/* The one machine of the process, as the next bytes of the input say, the code loaded. */
struct machine *machine_new(struct fuzz_input *input);
uint64_t machine_random(uint64_t *seed);
/* The engine's view of a page: kind and host mapping. */
void machine_set_page(struct machine *m, unsigned page, enum machine_page kind);

#endif
