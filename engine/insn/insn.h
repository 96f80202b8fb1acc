/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* insn.h - a guest instruction as the stages see it, and the mode in which it is read. */
#ifndef NX_INSN_H
#define NX_INSN_H

#include "common.h"

enum nx_op {
	NX_OP_LEAVE, /* not ours: leave before it */
	NX_OP_PLAIN, /* registers and at most one memory operand: re-encoded as it is */
	NX_OP_NOP,
	NX_OP_MOV_FROM_SREG,
	NX_OP_PUSH,
	NX_OP_POP,
	NX_OP_JMP,
	NX_OP_JCC, /* with loop and jcxz */
	NX_OP_CALL,
	NX_OP_RET,
	NX_OP_JMP_INDIRECT,
	NX_OP_CALL_INDIRECT,
	NX_OP_IN,
	NX_OP_OUT,
	NX_OP_INSN_EXIT,  /* an instruction that exits as such; target: enum nx_insn_exit */
	NX_OP_STORE_PAIR, /* two stores as one, by form.c */
	NX_OP_HELPER,     /* emitted code calls helper.c */
};

struct nx_insn {
	uint64_t rip;    /* guest rip (offset in CS) */
	uint64_t target; /* JMP, JCC, CALL: guest rip; IN, OUT: the port, if fixed */
	uint8_t len;
	uint8_t op;       /* enum nx_op */
	uint8_t size;     /* IN, OUT: bytes; PUSH, POP: operand bytes; memory: bytes accessed */
	uint8_t accesses; /* memory accesses, the stack's included */
	bool port_in_dx;  /* IN, OUT */
	bool memory_read, memory_write; /* of the explicit memory operand */
	bool device_form;               /* can exit: mmio_form, device.c, or a string instruction */
	bool string_io;                 /* INS, OUTS */
	bool repeated;                  /* a string instruction with a repeat prefix */
	uint16_t gap;   /* instructions since the last exiting one, on the shortest path */
	bool weak;      /* seen to exit before: an exit to formation, an access to translation */
	bool mmio_form; /* a device access by this form can be completed */
	uint8_t bytes[15];
	uint8_t first_len; /* STORE_PAIR: of the first store; both are in bytes */
	uint8_t helper;    /* HELPER: enum nx_helper_id */
	/* On paths: the calls around it (NX_CONTEXT_*) and, for a branch, its name in paths.c. */
	uint16_t context;
	uint64_t path, via;
};

/* The mode in which guest code is decoded: a part of a translation's key. */
struct nx_mode {
	uint8_t bits;       /* 16, 32 or 64: of the code segment */
	uint8_t stack_bits; /* 16, 32 or 64 */
	bool flat;          /* CS, DS, ES and SS: base 0, limit 4 GiB, readable and writable */
	bool io_allowed;    /* CPL <= IOPL or real mode: IN, OUT, CLI do not fault */
	bool io_bitmap;     /* not io_allowed: IN and OUT ask the task's bitmap (ioperm.c) */
	bool user;          /* CPL 3 */
	bool protected_mode;
	uint32_t exits;     /* NX_EXITS_* that are in force at this CPL */
	bool segment_loads; /* real mode, and the host takes segment registers back */
	uint32_t features;  /* NX_FEATURE_* that the guest has, and NX_HAS_* */
	uint8_t lower;      /* segments with a lower bound: bits by enum nx_sreg */
};

/* Return whether it is a program's that may lie elsewhere the next time (policy/slide.c). */
static inline bool nx_mode_slides(const struct nx_mode *mode)
{
	return mode->user && mode->bits == 64;
}

/* In nx_mode.features: the host knows the guest's time-stamp counter, and CR4.TSD lets it be read.
 */
#define NX_HAS_TSC (1u << 31)
/* Likewise: the host can tell whether an interrupt waits. */
#define NX_HAS_WINDOW (1u << 30)
/* Likewise: the host has filled in CR2 and GDTR, and the mode lets the kernel use them. */
#define NX_HAS_SYSTEM (1u << 29)

/* Likewise: the host has the vector registers, and CR0 and CR4 let the guest use them. */
#define NX_HAS_VECTORS (1u << 28)

/* Decoded instructions (decode_cache.c). All zero, it is empty. */
#define NX_DECODE_FORMS 256
#define NX_DECODE_FORM_SIZE 864
struct nx_decode_cache {
	uint64_t state[(NX_DECODE_FORMS * NX_DECODE_FORM_SIZE + 64) / 8];
};

/* Decode one instruction of at most 15 bytes. This never fails: an instruction that the engine
 * does not run is NX_OP_LEAVE. */
void nx_decode(struct nx_decode_cache *cache, const struct nx_mode *mode, uint64_t rip,
	       const uint8_t *bytes, unsigned available, struct nx_insn *insn);

/* Return whether it exits whenever it is executed. */
static inline bool nx_op_exits(unsigned op)
{
	return op == NX_OP_IN || op == NX_OP_OUT || op == NX_OP_INSN_EXIT;
}

/* Return whether it exits, or was observed to. */
static inline bool nx_insn_exits(const struct nx_insn *insn)
{
	return nx_op_exits(insn->op) || insn->weak || insn->string_io;
}

/* Return whether its target is known only when it is executed. */
static inline bool nx_is_indirect(unsigned op)
{
	return op == NX_OP_RET || op == NX_OP_JMP_INDIRECT || op == NX_OP_CALL_INDIRECT;
}

/* Return whether it decides where control goes. */
static inline bool nx_decides(unsigned op)
{
	return op == NX_OP_JMP || op == NX_OP_JCC || op == NX_OP_CALL || op == NX_OP_RET ||
	       op == NX_OP_JMP_INDIRECT || op == NX_OP_CALL_INDIRECT;
}

/* Return the rip after an instruction. It is not truncated to 16 bits: running past a segment's
 * end is a fault there, which formation meets as code beyond the limit. */
static inline uint64_t nx_next_rip(const struct nx_mode *mode, const struct nx_insn *insn)
{
	uint64_t next = insn->rip + insn->len;

	return mode->bits == 64 ? next : (uint32_t)next;
}

/* Return whether two stores fill adjacent halves of a quadword. bytes has both, one after the
 * other. */
bool nx_is_store_pair(struct nx_decode_cache *cache, const struct nx_mode *mode, uint64_t rip,
		      const uint8_t *bytes, unsigned first_len, unsigned len);

#endif
