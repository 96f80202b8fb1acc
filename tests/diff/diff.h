/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * diff.h - the differential tester: the same random instructions in the engine and on a processor;
 * then everything that the guest could see must be equal.
 *
 *	generate.c, accept.c, make.c, vector.c, compose.c, flow.c, operand.c, table.c, segments.c
 *			a seed becomes a sequence: code, registers, environment
 *	host.c		runs it in the engine, against page tables and RAM of its own
 *	native.c, native_world.c
 *			runs it on the processor under us, in user mode
 *	kvm.c, kvm_guest.c, quirks.c
 *			runs it on a whole processor: real mode, CPL 0, page tables, INS and OUTS
 *	compare.c, page_bits.c
 *			compare, and print what differs
 *	main.c		options, the loop over seeds, what was covered
 *
 * The engine runs first and leaves wherever it likes: that must be an instruction boundary that
 * the processor reaches too, after the same device accesses, in the same state. So an engine that
 * leaves early is no mismatch; how far it has to come is main.c's and generate.c's business (see
 * struct sequence, strict). A processor that is all ours goes one step beyond: where the engine
 * left because of a fault, there has to be one.
 *
 * Compared: general registers; XMM registers; flags, but for those that may be undefined there,
 * followed along all paths by accept.c; segment registers; all memory; accessed and dirty bits; the
 * order, address, size and data of port and device accesses. Not compared: time, RDTSC, what an
 * undefined flag is, accessed bits of the code's own pages (formation reads ahead), RF.
 *
 * Known differences of processors, not generated or not asked for, each at the place named:
 *  - QEMU's emulated AMD processor knows no segment limits: asked at start (kvm.c); then where the
 *    engine left for a segment's sake no fault is demanded. Bochs's Intel processor does.
 *    The same goes for the alignment of vector operands.
 *  - Instructions that these two get wrong: quirks.c.
 *  - KVM's instruction emulator, which executes what accesses devices: emulator_differs() in
 *    accept.c;
 *  - accessed and dirty bits of devices' pages and the like: bits_ignored() in page_bits.c.
 */
#ifndef DIFF_H
#define DIFF_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>

#include "../mock/vectors.h"
#include "noexit.h"

/* ---- Where things are: linear addresses, the same for the engine and natively ---- */

#define LOW processor->low /* reachable by all modes */
#define LOW_PAGES 14u
/* 64-bit mode only. Address sanitizers have their heap at 0x500000000000 or 0x600000000000. */
#define HIGH 0x400000000000ull
#define HIGH_PAGES 3u
#define PAGES (LOW_PAGES + HIGH_PAGES)
#define PAGE 4096u

enum page_use { HOLE, CODE, READ_WRITE, READ_ONLY, DEVICE };

/* Offsets from LOW. */
#define CODE_AT 0u
#define CODE_SIZE (2 * PAGE)
#define DATA_AT 0x3000u
#define DEVICE_AT 0x9000u
#define STACK_AT 0xa000u
#define STACK_SIZE (2 * PAGE)

extern const uint8_t page_use[PAGES];

struct processor;
extern const struct processor *processor; /* chosen once, by main.c; the native one */

/* ---- Random numbers: splitmix64, so that neighbouring seeds have nothing in common ---- */

struct random {
	uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
	uint64_t z = random->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline unsigned pick(struct random *random, unsigned count)
{
	return (unsigned)((random_next(random) >> 32) * count >> 32);
}

/* True once in so many times. */
static inline bool once_in(struct random *random, unsigned times)
{
	return pick(random, times) == 0;
}

/* ---- A sequence ---- */

#define MODES(X)                                \
	X(LONG64, "64-bit", 64)                 \
	X(FLAT32, "32-bit, flat", 32)           \
	X(SEGMENTED32, "32-bit, segments", 32)  \
	X(PROTECTED16, "16-bit, protected", 16) \
	X(REAL16, "16-bit, real", 16) /* protected natively */

enum mode {
#define X(name, text, bits) MODE_##name,
	MODES(X)
#undef X
	    MODE_COUNT
};

extern const char *const mode_text[MODE_COUNT];

enum paging { PAGING_NONE, PAGING_32, PAGING_PAE, PAGING_LONG };

enum kind { KIND_PLAIN, KIND_BRANCH, KIND_IN, KIND_OUT, KIND_CLI, KIND_STRING_IO };

struct instruction {
	uint64_t rip;
	uint8_t len, size;   /* size: of IN and OUT */
	uint8_t kind;        /* enum kind */
	uint16_t row;        /* of the table it came from */
	uint16_t target;     /* BRANCH: index */
	uint16_t address_of; /* its last bytes are this index's address; 0: they are not */
	uint32_t undefined;  /* flags that may be undefined before it */
	bool port_in_dx;
};

#define MAX_INSTRUCTIONS 96
#define MAX_ACCESSES 256

struct sequence {
	uint64_t seed;
	enum mode mode;
	enum paging paging;
	uint8_t bits, stack_bits;
	bool user;           /* CPL 3 with IOPL 3, or CPL 0 */
	bool write_protect;  /* CR0.WP: read-only pages are so to CPL 0 too */
	uint32_t supervisor; /* pages that CPL 3 may not touch, a bit for each */
	/* Nothing in it may make the engine leave before its end. */
	bool strict;
	/* PUSHF would show the trap flag of a single-stepped run. */
	bool pushes_flags;
	bool jumps; /* by register or RET: the engine learns such targets */
	bool roomy; /* for the engine with wider limits of formation */
	struct nx_segment seg[NX_SREGS];
	/* CR0 and CR4 do not let it use vector registers: bits of CR0 that are set, of CR4 that are
	 * clear. */
	uint32_t without_vectors_cr0, without_vectors_cr4;
	uint64_t gpr[NX_GPRS];
	vector_registers vectors;
	uint64_t rflags;
	uint8_t code[CODE_SIZE];
	unsigned instructions;
	struct instruction insn[MAX_INSTRUCTIONS + 1]; /* the last one is the end */
	uint64_t input[MAX_ACCESSES];
};

static inline uint64_t sequence_linear(const struct sequence *seq, uint64_t rip)
{
	return seq->seg[NX_CS].base + rip;
}

static inline bool uses_vectors(const struct sequence *seq)
{
	return !seq->without_vectors_cr0 && !seq->without_vectors_cr4;
}

/* Return the instruction that begins at rip, or NULL if none does and it is not the end. */
const struct instruction *instruction_at(const struct sequence *seq, uint64_t rip);
ZydisMachineMode machine_mode(const struct sequence *seq);
bool decode(const struct sequence *seq, const struct instruction *insn,
	    ZydisDecodedInstruction *decoded, ZydisDecodedOperand *operands);

/* Generates the sequence of a seed. mode_mask: modes that can be run here. */
void generate(struct sequence *seq, uint64_t seed, unsigned mode_mask);

/* ---- Results ---- */

struct access {
	bool write, memory; /* device memory, or a port */
	uint8_t size;
	uint64_t where; /* port, or linear address */
	uint64_t data;  /* of a write */
};

struct result {
	uint64_t gpr[NX_GPRS];
	vector_registers vectors;
	uint64_t rip, rflags;
	struct nx_segment seg[NX_SREGS]; /* of the engine and a whole processor */
	unsigned accesses;
	struct access access[MAX_ACCESSES];
};

/* ---- host.c: the engine's side ---- */

struct engine;

/* One has wider limits of formation, direct branches and blinded constants; the other indirect
 * ones. */
struct engine *engine_new(bool roomy);
void engine_free(struct engine *engine);

struct engine_result {
	struct result r;
	enum nx_status reason;
	const char *broken; /* how the contract was broken */
	bool lost; /* in code that the sequence has changed: no processor can be stopped there */
};

void engine_run(struct engine *engine, const struct sequence *seq, struct engine_result *result);
const uint8_t *engine_page(unsigned page);
/* Accessed (bit 0) and dirty (bit 1) of a page's leaf entry; paging must be on. */
unsigned engine_page_bits(const struct sequence *seq, unsigned page);
const struct nx_counters *engine_counters(const struct engine *engine);
struct nx_engine *engine_nx(const struct engine *engine);
/* The content with which all pages but the code begin. */
const uint8_t *initial_page(unsigned page);
/* The guest-physical address of a page under paging; without it is the linear one. */
uint64_t page_gpa(unsigned page);
/* CR0, CR3, CR4 and EFER of the sequence. */
void set_control(struct nx_state *state, const struct sequence *seq);
#define TABLES_AT 0x10000u
#define TABLES 7u
/* The sequence's page tables, as they begin and as the engine has left them. */
void build_tables(const struct sequence *seq, uint8_t (*to)[PAGE]);
const uint8_t *engine_tables(void);
/*
 * Pages of a whole processor's own, at the same linear and physical address, for the supervisor
 * only: descriptor tables, exception handlers and their stack.
 */
#define SYSTEM_AT 0x80000u
#define SYSTEM_PAGES 5u

/* ---- native.c, kvm.c: the processor's side ---- */

/* One boundary that the processor passed. */
struct step {
	uint64_t gpr[NX_GPRS];
	uint64_t rip;
};

#define MAX_STEPS 512

struct processor_result {
	struct result r;
	bool stopped;    /* at the boundary asked for; otherwise this ended it: */
	const char *end; /* a signal or an exit */
	bool lost;       /* ended by the system under it, not by the sequence: nothing to compare */
	int vector;      /* of the exception, if there was one */
	uint64_t fault_address;
	unsigned steps; /* with trace */
	struct step step[MAX_STEPS];
};

/* The access of the instruction at which the processor stopped. */
enum beyond {
	BEYOND_UNKNOWN, /* not on this processor */
	BEYOND_RUNS,
	BEYOND_FAULTS, /* this exception, with rip on the instruction; NX: processor_result.vector
			*/
};

struct processor {
	const char *name;
	uint32_t low;
	bool whole; /* real mode, CPL 0, page tables; not only what user mode can do */
	/* Get everything ready; return the modes that can be run here. */
	unsigned (*init)(void);
	/* Why not all of them can, one sentence, or NULL. */
	const char *(*missing)(void);
	/* Outside 64-bit mode FS and GS can have segments of their own, in whatever mode. */
	bool (*has_segments)(void);
	/* Segment limits and rights are checked. */
	bool (*has_limits)(void);
	/* Vector operands in memory have to be aligned. */
	bool (*has_alignment)(void);
	/*
	 * Its own idea of an instruction is not the architecture's, always or as it is used (an
	 * address relative to rip, a device operand): nothing to compare with.
	 */
	bool (*lacks)(ZydisMnemonic mnemonic);
	bool (*differs)(const ZydisDecodedInstruction *decoded, bool relative, bool device);
	/*
	 * Runs the sequence until it stands at until->rip, after as many device accesses, in the
	 * state that *until describes. What comes there in another state is taken past it a few
	 * times: a loop passes an address more than once. If that does not help, the last state is
	 * the result.
	 */
	void (*run)(const struct sequence *seq, const struct result *until, bool trace,
		    struct processor_result *result);
	/*
	 * Runs the sequence up to behind so many device accesses, if it comes there by IN or OUT.
	 */
	void (*advance)(const struct sequence *seq, unsigned accesses,
			struct processor_result *result);
	/* After run(): one instruction on. */
	enum beyond (*beyond)(const struct sequence *seq, struct processor_result *result);
	const uint8_t *(*page)(unsigned page);
	const uint8_t *(*tables)(void); /* whole */
};

extern const struct processor native_processor, kvm_processor;

static inline uint64_t page_linear(unsigned page)
{
	return page < LOW_PAGES ? LOW + page * PAGE : HIGH + (page - LOW_PAGES) * PAGE;
}

/* PAGES: none */
static inline unsigned page_at(uint64_t linear)
{
	if (linear >= LOW && linear - LOW < LOW_PAGES * PAGE)
		return (unsigned)((linear - LOW) / PAGE);
	if (linear >= HIGH && linear - HIGH < HIGH_PAGES * PAGE)
		return LOW_PAGES + (unsigned)((linear - HIGH) / PAGE);
	return PAGES;
}

/* ---- segments.c: segments other than flat ones ---- */

unsigned table_segments(void);
struct nx_segment table_segment(unsigned number);
/* The one whose offsets 0xf000 to 0xffff are memory. */
#define WRAPPING_STACK 16u

/* ---- compare.c ---- */

/* Print to standard error what differs, if anything does. */
bool compare(const struct sequence *seq, const struct engine_result *engine,
	     const struct processor_result *native);
/* page_bits.c: from the trace of a native run */
bool compare_page_bits(const struct sequence *seq, const struct processor_result *native);
/*
 * Between the engine's page tables and a whole processor's, at the sequence's end or where the
 * engine left, at rip: what the instruction there marks, it may have marked.
 */
bool compare_tables(const struct sequence *seq, uint64_t rip, enum beyond beyond);
void print_sequence(const struct sequence *seq);
bool state_equal(const struct sequence *seq, const struct result *a, const struct result *b);

/* ---- table.c: what is generated ---- */

enum form {
	FORM_NONE,
	FORM_RM_R,     /* rm, r */
	FORM_R_RM,     /* r, rm */
	FORM_RM_IMM,   /* rm, imm */
	FORM_RM,       /* rm */
	FORM_R_RM_IMM, /* r, rm, imm */
	FORM_SHIFT,    /* rm, 1 or imm or cl */
	FORM_SHIFT_DOUBLE,
	FORM_RM_BIT,  /* rm, imm8 */
	FORM_REG_REG, /* register, register */
	FORM_R_M,     /* r, m */
	FORM_M_R,     /* m, r */
	FORM_LEA,
	FORM_EXTEND, /* r, rm of a smaller size */
	FORM_R,
	FORM_MOFFS,
	FORM_FROM_SREG,
	FORM_PUSH, /* r or imm or rm */
	FORM_POP,
	FORM_STACK_ADJUST,
	FORM_M,
	/* V: a vector register */
	FORM_V_V,
	FORM_V_M,
	FORM_M_V,
	FORM_V_R,
	FORM_R_V,
	FORM_V_IMM,
	FORM_V_V_IMM,
	FORM_V_M_IMM,
	FORM_JCC,
	FORM_JMP,
	FORM_COUNT, /* loop family and jcxz */
	FORM_IO,
	/* compose.c: with instructions before it that give registers what it needs */
	FORM_STRING,
	FORM_DIVIDE,     /* rm */
	FORM_BIT_STRING, /* m, r */
	FORM_XLAT,
	FORM_POPF,
	FORM_RET,           /* after the push of an address */
	FORM_REGISTER_JUMP, /* JMP and CALL to what a register has */
	FORM_MEMORY_JUMP,   /* and to what memory has */
	FORM_CALL,
	FORM_STRING_IO,
	FORM_LOAD_SREG, /* in real mode: MOV and POP */
	FORM_FOREIGN,   /* what is not the engine's, in hostile sequences: it faults, or worse */
	/* and the rest of what C executes in the engine */
	FORM_PUSHF,
	FORM_PUSH_SREG,
	FORM_POP_M,
	FORM_ENTER,
	FORM_PUSHA,
	FORM_POPA,
};

#define SIZE_1 1u
#define SIZE_2 2u
#define SIZE_4 4u
#define SIZE_8 8u
#define SIZE_16 16u
#define SIZES_248 (SIZE_2 | SIZE_4 | SIZE_8)
#define SIZES_ALL (SIZE_1 | SIZES_248)

enum where { ANYWHERE, ONLY_64, NOT_64 };

struct row {
	ZydisMnemonic mnemonic;
	enum form form;
	uint8_t sizes;
	uint8_t weight;
	bool lockable;
	uint8_t where; /* enum where */
};

extern const struct row table[];
extern const unsigned table_rows;
/* The processor has it, and the sequence's mode too. */
bool row_usable(const struct row *row, const struct sequence *seq);

#endif
