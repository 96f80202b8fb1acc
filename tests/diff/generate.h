/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* generate.h - what generate.c and operand.c share while a sequence grows. */
#ifndef GENERATE_H
#define GENERATE_H

#include "diff.h"

struct generator {
	struct random random;
	struct sequence *seq;
	/* Registers that keep their first value: addresses are made from them. */
	uint32_t constant;
	/* Accesses that fault, cross pages and write to code; wild pointers; what the engine
	 * does not run. */
	bool hostile;
	/* Branches may pass over IN and OUT. */
	bool skipping;
	bool loops;
	bool devices;
	/* The stack pointer so far, on the longest path. */
	int64_t stack_moved;

	unsigned index;     /* of the instruction that is made */
	unsigned next_io;   /* index of the next IN or OUT */
	unsigned planned;   /* instructions in all */
	uint64_t at;        /* offset in the code */
	unsigned accesses;  /* left until the next IN or OUT */
	uint32_t undefined; /* flags here */
	bool dead;          /* behind a jump: only branches come here */
	bool is_io[MAX_INSTRUCTIONS + 1];
	bool branch_target[MAX_INSTRUCTIONS + 1];
	bool cleared_if;                              /* on some path */
	uint32_t from_branches[MAX_INSTRUCTIONS + 1]; /* undefined flags that branches bring */

	/* Instructions that come next, made already (compose.c). */
	struct prepared {
		const struct row *row;
		uint8_t bytes[16];
		unsigned len;
		unsigned target, address_of; /* indexes */
		bool has_displacement;
		int64_t displacement;
	} prepared[4];
	unsigned prepared_count, prepared_next;
	/* The last operand that another may be next to: as fields of one structure are. */
	struct neighbour {
		bool valid, write, on_device;
		uint64_t linear;
		enum nx_sreg seg;
		unsigned base, index, scale, width;
	} neighbour;
	/* Addresses keep away from their page's ends. */
	bool centered;
	bool no_devices;
	/* An operand of what is made is a device. */
	bool on_device;
	/* The segments here: real mode loads them. */
	struct nx_segment seg[NX_SREGS];
	uint16_t loading; /* the selector that the next load gets */

	/* A loop that is being made, counted by rCX: indexes of its first and last instruction. */
	unsigned loop_head, loop_at; /* 0: none */
	int64_t loop_stack;

	/* The instruction that is made. */
	uint8_t bytes[16];
	unsigned len;
	/* The requirements on its address that the encoder does not always meet. */
	bool has_displacement;
	int64_t displacement;
	unsigned address_of;
	unsigned target; /* of a branch: index; 0: none */
};

static inline bool is_constant(const struct generator *g, unsigned reg)
{
	return g->constant >> reg & 1;
}

static inline uint64_t rip_here(const struct generator *g)
{
	return LOW + CODE_AT + g->at - g->seq->seg[NX_CS].base;
}

/* A byte more of the instruction that is made. */
static inline void put(struct generator *g, unsigned byte)
{
	g->bytes[g->len++] = (uint8_t)byte;
}

ZydisRegister register_of(unsigned number, unsigned size);
ZydisEncoderOperand random_register(struct generator *g, unsigned size);
ZydisEncoderOperand plain_register(unsigned number, unsigned size);
ZydisEncoderOperand random_immediate(struct generator *g, unsigned size);

/* Make a memory operand of size bytes; segment gets the prefix, if any (a ZYDIS_ATTRIB). An
 * atomic one must not cross a cache line, which modern kernels punish. Return false if the
 * caller should try again. */
bool random_memory(struct generator *g, unsigned size, bool write, bool atomic,
		   ZydisEncoderOperand *operand, uint64_t *segment);
/* An address that an access of size bytes may go to, by the sequence's character. */
uint64_t random_target(struct generator *g, unsigned size, bool write, bool atomic);
/* Return whether seg:offset can be accessed, and set *offset. In hostile sequences every address
 * can. */
bool offset_in(struct generator *g, enum nx_sreg seg, uint64_t linear, unsigned size, bool write,
	       uint64_t *offset);
/* A segment as a load in real mode makes it. */
struct nx_segment real_segment(struct generator *g, enum nx_sreg seg);
/* Finishes a request for an instruction that comes at the generator's place. */
bool encode_request(struct generator *g, ZydisEncoderRequest *request);
enum nx_sreg random_segment(struct generator *g, bool stack_base);
/* The segment prefix's byte, 0 if it needs none. */
unsigned segment_byte(const struct generator *g, enum nx_sreg seg);
/* Rows that need other instructions before them: prepares all of them. */
bool compose(struct generator *g, const struct row *row);
/* Append the instruction in g->bytes, after those that were prepared before. */
void prepare(struct generator *g, const struct row *row, bool memory);
/* Room for so many instructions that no branch goes between. */
bool room(const struct generator *g, unsigned count);
bool prepare_mov(struct generator *g, unsigned reg, unsigned size, uint64_t value);
/* Bytes of an operand, or an address, without prefixes. */
unsigned natural_size(const struct generator *g);
/* It would be relative to where the first prepared instruction comes. */
bool is_relative_operand(const ZydisEncoderOperand *operand);
/* flow.c */
bool compose_jump(struct generator *g, const struct row *row);
bool compose_memory_jump(struct generator *g, const struct row *row);
/* A loop from the next instruction but one on. */
bool begin_loop(struct generator *g);
bool make_loop_end(struct generator *g, const struct row **row);
/* accept.c: whether the bytes may come here, and what follows from it. */
bool decode_bytes(const struct sequence *seq, const uint8_t *bytes, unsigned len,
		  ZydisDecodedInstruction *decoded, ZydisDecodedOperand *operands);
/* It has an address relative to rip. */
bool is_relative(const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands);
/* The segment register that LDS and so on load; NX_SREGS: another instruction. */
unsigned loaded_by(ZydisMnemonic mnemonic);
struct nx_insn;
bool acceptable(struct generator *g, const struct row *row, struct nx_insn *engine,
		const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands);
void append(struct generator *g, const struct row *row, const struct nx_insn *engine,
	    const ZydisDecodedInstruction *decoded, const ZydisDecodedOperand *operands);
/* vector.c: the operands of an instruction on vector registers, with size bytes of memory. */
bool make_vector(struct generator *g, const struct row *row, unsigned size,
		 ZydisEncoderRequest *request);
/* Make the bytes of one instruction of this row at g->at. Return false if the caller should try
 * another row. */
bool make_instruction(struct generator *g, const struct row *row);

#endif
