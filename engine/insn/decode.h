/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* decode.h - Zydis's view of an instruction, for the stages that look closer than form.c. */
#ifndef NX_DECODE_H
#define NX_DECODE_H

#include <Zydis/Zydis.h>

#include "insn/helpers.h"
#include "insn/insn.h"

/*
 * Operands that are looked at, hidden ones included: the longest plain instruction, CMPXCHG8B, has
 * six. Zydis knows ten, which would take another 320 bytes of each frame.
 */
#define NX_MAX_OPERANDS 6

struct nx_decoded {
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[NX_MAX_OPERANDS];
	bool has_more; /* operands than these */
	/* What the cache's user has found out about all instructions with this one's head: 0 at
	 * first. */
	uint8_t notes;
};

/* The kinds of code segments that Zydis tells apart. */
enum nx_code {
	NX_CODE_64,
	NX_CODE_32,
	NX_CODE_32_STACK_16,
	NX_CODE_16,
	NX_CODE_16_STACK_32,
	NX_CODE_REAL,
	NX_CODE_REAL_STACK_32,
};

/*
 * Decode; return NULL if the bytes are no instruction, or only a part of one. What is returned is
 * in the cache: the next instruction that is decoded may overwrite it.
 */
struct nx_decoded *nx_decode_form(struct nx_decode_cache *cache, enum nx_code code,
				  const uint8_t *bytes, unsigned available);
/* Do so for an instruction that was decoded before, at *form of the cache unless it has given way
 * since. */
struct nx_decoded *nx_decode_form_again(struct nx_decode_cache *cache, uint16_t *form,
					enum nx_code code, const uint8_t *bytes,
					unsigned available);
/* Do so for a guest's code; NULL as well if there are more operands than nx_decoded has. */
const struct nx_decoded *nx_decode_full(struct nx_decode_cache *cache, const struct nx_mode *mode,
					const uint8_t *bytes, unsigned available);

/* Do the same for code that was decoded before: *form is 0 at first, and afterwards tells where to
 * look for it. */
const struct nx_decoded *nx_decode_again(struct nx_decode_cache *cache, const struct nx_mode *mode,
					 uint16_t *form, const uint8_t *bytes, unsigned available);

/* A general register with its number, its size in bytes, and whether it is AH, CH, DH or BH. */
struct nx_reg {
	uint8_t number;
	uint8_t size;
	bool high;
};

/* Return false if it is no general register. */
bool nx_reg_of(ZydisRegister reg, struct nx_reg *out);
ZydisRegister nx_zydis_reg(unsigned number, unsigned size);

/* Guest registers that live in their context slot (context.h, rule 1). */
static inline bool nx_is_homed(unsigned number)
{
	return number == NX_RSP || number == NX_R10 || number == NX_R11 || number == NX_R14 ||
	       number == NX_R15;
}

/* Return the explicit memory operand, LEA's included, or NULL. */
const ZydisDecodedOperand *nx_memory_operand(const struct nx_decoded *decoded);

/* Return the arithmetic flags that an instruction reads, and those that it writes in any way. */
uint32_t nx_flags_read(const struct nx_decoded *decoded);
uint32_t nx_flags_written(const struct nx_decoded *decoded);

/* Return whether a string instruction has a repeat prefix. */
static inline bool nx_is_repeated(const struct nx_decoded *decoded)
{
	return (decoded->insn.attributes &
		(ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) != 0;
}

/* An instruction that exits as such, and its class. */
bool nx_decode_insn_exit(const struct nx_decoded *decoded, enum nx_insn_exit *insn,
			 uint32_t *class);

/* Return the offset of a store from its registers, or its address if it is relative to rip. */
int64_t nx_store_place(const struct nx_decoded *decoded, uint64_t next_rip);

/* Return the helper that executes an instruction in this mode, or NX_HELP_NONE. */
enum nx_helper_id nx_helper_for(const struct nx_mode *mode, const struct nx_decoded *decoded);
/* Return how often an instruction with a helper accesses memory, but for those of vectors. */
uint8_t nx_helper_accesses(ZydisMnemonic mnemonic);

/* Return the number of a register XMM0 to XMM15; false: it is none. */
static inline bool nx_vector_of(ZydisRegister reg, unsigned *number)
{
	*number = (unsigned)reg - ZYDIS_REGISTER_XMM0;
	return *number < 16;
}

/* Return the segment of a memory operand. */
enum nx_sreg nx_segment_of(const ZydisDecodedOperand *memory);

#endif
