/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * mock.h - a host for the engine without any hypervisor: guest memory, scripted devices, and a
 * log of what reached them.
 *
 * A test plays what a real host does around one exit. The "hardware" executes the first exiting
 * instruction of a piece of guest code and stops behind it; the engine takes over there:
 *
 *	GUEST(demo, 32, "in al, dx", "not al; out dx, al", "ret")
 *
 *	struct mock *m = mock_new(MOCK_FLAT32, 0, NX_LEVEL_BRANCHES);
 *	MOCK_LOAD(m, demo);
 *	m->start.gpr[NX_RDX] = 0x3f8;
 *	mock_warm(m);				until it is translated
 *	mock_check_log(m, (struct mock_access[]){OUT(0x3f8, 1, 0xff)}, 1);
 *	m->want.gpr[NX_RAX] = 0xff;		what differs from m->start
 *	mock_check(m);				all registers, flags, all memory
 *	mock_check_native(m);			the same on the processor under us
 *	mock_free(m);
 *
 * Failures are cmocka failures: everything here is to be called from a test.
 */
#ifndef MOCK_H
#define MOCK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "noexit.h"

#define MOCK_RAM_SIZE 0x100000u

/* Linear and guest-physical, everything is mapped one to one. In 16-bit modes segment bases. */
#define MOCK_CODE 0x10000u
#define MOCK_DATA 0x20000u  /* ds */
#define MOCK_STACK 0x30000u /* ss; the stack pointer begins at the end of the first page */
#define MOCK_EXTRA 0x40000u /* es */
/* A device; so is all between RAM and it, and above. The page tables reach up to its end. */
#define MOCK_DEVICE 0x800000u
#define MOCK_DEVICE_END 0xa00000u

/* Offset of the code in its segment in 16-bit modes, elsewhere it is at MOCK_CODE. */
#define MOCK_CODE16 0x100u

enum mock_mode {
	MOCK_REAL16,
	MOCK_PROT16,
	MOCK_FLAT32,  /* paging off */
	MOCK_PAGED32, /* 4-byte entries */
	MOCK_PAE32,
	MOCK_LONG64,
	MOCK_MODES
};

struct mock_access {
	enum nx_exit_kind kind;
	bool write;
	unsigned size;
	uint64_t
	    where; /* port or guest-physical address; INSN: control or debug register, or operand */
	uint64_t data;
	enum nx_insn_exit insn;
};

#define IN(port, size, data)                        \
	{                                           \
		NX_EXIT_IO, false, size, port, data \
	}
#define OUT(port, size, data)                      \
	{                                          \
		NX_EXIT_IO, true, size, port, data \
	}
#define LOAD(gpa, size, data)                        \
	{                                            \
		NX_EXIT_MMIO, false, size, gpa, data \
	}
#define STORE(gpa, size, data)                      \
	{                                           \
		NX_EXIT_MMIO, true, size, gpa, data \
	}

enum mock_page {
	MOCK_PAGE_RAM,
	MOCK_PAGE_READONLY, /* stores leave */
	MOCK_PAGE_ROM,      /* stores are MMIO exits */
	MOCK_PAGE_TRACED,   /* as ROM, and stores may be merged */
	MOCK_PAGE_DEVICE,
	MOCK_PAGE_LEAVE,
};

#define MOCK_LOG 256

struct mock {
	/* Set by the test after MOCK_LOAD. */
	struct nx_state start; /* at the boundary behind the first exiting instruction */
	uint8_t *start_ram;
	uint64_t input[MOCK_LOG];           /* what devices answer, in order; then 0xa5a5... */
	uint8_t page[MOCK_RAM_SIZE / 4096]; /* enum mock_page */
	enum nx_exit_class first_class;     /* of the exit that the hardware delivers */
	unsigned stop_at;   /* sets the stop flag at the exit of this number, from 1 */
	int leave_port;     /* the kernel handles it; -1: none */
	uint64_t leave_gpa; /* likewise for device memory; 0 if there is none */
	/* Called at each exit, before it is answered: the world changing meanwhile. */
	void (*on_exit)(struct mock *m, unsigned number);

	/* Results of the last run. */
	struct mock_access log[MOCK_LOG];
	unsigned exits; /* that the engine delivered */
	enum nx_status reason;
	uint8_t *ram;

	/* What mock_check() compares with: begins as the start. */
	struct nx_state want;
	uint8_t *want_ram;

	/* Of the loaded code. */
	uint64_t code_rip, resume_rip, stop_rip;
	uint32_t code_gpa, code_size;

	enum mock_mode mode;
	struct nx_engine *engine;
	struct nx_host host; /* the engine's view of it: a test may replace callbacks at first */
	struct nx_memory memory;
	uint64_t time;
	unsigned inputs; /* consumed */

	/* Of mock_use_sessions(). */
	unsigned sessions;       /* that were asked for */
	unsigned refuse_session; /* the host refuses the one of this number, from 1 */
	bool refuse_sessions;    /* and all of them */
	bool fresh_sessions;     /* pointers hold in none but their own */
	uint8_t *window;         /* the engine's view of ram in a session; else NULL */
	uint8_t *last_window;
	int ram_file;
	void (*end_sessions)(struct mock *m);
};

/* How translations branch to the engine, for engines that are still to be made. */
extern enum nx_branches mock_branches;
/* nx_memory.blind, likewise. */
extern uint64_t mock_blind;

/*
 * Guest code in three parts: the exiting instruction that the hardware executes (one
 * instruction), what the engine is expected to run, and what lies behind.
 */
#define GUEST(name, bits, first, cluster, rest)                                                 \
	extern const uint8_t name[], name##_resume[], name##_stop[], name##_end[];              \
	__asm__(".pushsection .rodata\n"                                                        \
		".intel_syntax noprefix\n"                                                      \
		".code" #bits "\n" #name ":\n" first "\n" #name "_resume:\n" cluster "\n" #name \
		"_stop:\n" rest "\n" #name "_end:\n"                                            \
		".code64\n"                                                                     \
		".att_syntax prefix\n"                                                          \
		".popsection\n")

#define MOCK_LOAD(m, name) mock_load(m, name, name##_resume, name##_stop, name##_end)

struct mock *mock_new(enum mock_mode mode, unsigned cpl, enum nx_level level);
/* Also with instructions that exit: NX_EXITS_*. */
struct mock *mock_new_exits(enum mock_mode mode, unsigned cpl, enum nx_level level, uint32_t exits);
/* As the configuration says; the ones above have a guest with all features. */
struct mock *mock_new_config(enum mock_mode mode, unsigned cpl, const struct nx_config *config);
void mock_free(struct mock *m);
/* The host lends guest memory by session (sessions.c); before the first run. */
void mock_use_sessions(struct mock *m);
void mock_load(struct mock *m, const uint8_t *code, const uint8_t *resume, const uint8_t *stop,
	       const uint8_t *end);

/* The leaf page-table entry of a linear address in the start's memory. Modes with paging. */
void mock_set_pte(struct mock *m, uint32_t linear, uint64_t entry);
uint64_t mock_pte(const struct mock *m, const uint8_t *ram, uint32_t linear);

/* Copy bytes to the start's memory. */
void mock_poke(struct mock *m, uint32_t gpa, const void *bytes, size_t count);
/* Little endian in the wanted memory. */
void mock_want_memory(struct mock *m, uint32_t gpa, unsigned size, uint64_t value);

/* Asks the engine about a hardware exit, by the clock of this host. */
bool mock_worth_resuming(struct mock *m, uint64_t rip, enum nx_exit_class exit_class);

/* Everything as at the start, one hardware exit, and on until the engine leaves. */
enum nx_status mock_run(struct mock *m);
/*
 * Run until the tracker lets the engine translate, proving that the runs before did nothing.
 * A path behind an exit becomes hot on its own: it goes on until nothing new is translated.
 */
enum nx_status mock_warm(struct mock *m);

void mock_check_log(const struct mock *m, const struct mock_access *want, unsigned count);
/*
 * Registers, rflags, rip and memory equal those wanted. Accessed and dirty bits in page tables
 * are not compared here.
 */
void mock_check(const struct mock *m);
/* The guest stands at the end of the expected cluster, for no other reason than that. */
void mock_check_ended(const struct mock *m);
/* The one cluster that entry_rip formed. */
void mock_cluster(const struct mock *m, uint64_t entry_rip, struct nx_cluster_info *info);

/*
 * Run the same code from the same start on the processor, up to the rip at which the engine
 * left, and compare registers, arithmetic flags, memory and device accesses. Return false where
 * that is not possible on this system (no segments of our own, no 32-bit code, low addresses are
 * taken).
 */
bool mock_check_native(const struct mock *m);

/* For native.c: compares the engine's result with what the processor made of it. */
void mock_compare_native(const struct mock *m, const struct nx_state *native,
			 const uint8_t *native_ram);

#endif
