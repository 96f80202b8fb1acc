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
};

/* Decode; return false if the bytes are no instruction, or only a part of one. */
bool nx_decode_full(const struct nx_mode *mode, const uint8_t *bytes, unsigned available,
		    struct nx_decoded *out);

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
/* Return how often an instruction with a helper accesses memory. */
uint8_t nx_helper_accesses(ZydisMnemonic mnemonic);

/* Return the segment of a memory operand. */
enum nx_sreg nx_segment_of(const ZydisDecodedOperand *memory);

#endif
