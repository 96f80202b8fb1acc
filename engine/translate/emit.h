/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * emit.h - one host instruction at a time, encoded and appended to a buffer; private to translate/.
 * Only what the translator emits can be encoded. Zydis's encoder knows all instructions, but takes
 * ten times as long, since it looks for an encoding where here there is one.
 *
 * Errors stick: after the first one (no room, no encoding) everything is ignored and failed is
 * set, so that callers check once at the end.
 */
#ifndef NX_EMIT_H
#define NX_EMIT_H

#include "context.h"
#include "insn/decode.h"

struct nx_emitter {
	uint8_t *to;
	size_t capacity;
	uint32_t size;
	bool failed;
	bool traps;                    /* int3 behind each jump */
	const struct nx_thunks *blind; /* constants are blinded with its keys; NULL: they are not */
};

/* An operand of a host instruction. */
typedef struct {
	uint8_t type; /* ZydisOperandType */
	uint8_t scale;
	uint16_t size;       /* of memory, in bytes */
	uint16_t reg, index; /* the register, or a memory operand's base and index */
	int64_t value;       /* of an immediate or a displacement */
} nx_operand;

/* An instruction for 64-bit mode, by the parts of its encoding. */
struct nx_encoding {
	bool lock;
	bool narrow;    /* operand-size prefix: 16 bits */
	uint8_t repeat; /* F2 or F3 as a part of the opcode, or 0 */
	bool wide;      /* REX.W: 64 bits */
	bool two_bytes; /* 0F before the opcode */
	uint8_t opcode;
	bool has_modrm;
	bool in_opcode;           /* rm is the lowest bits of the opcode instead of ModRM's */
	uint8_t reg, rm;          /* numbers of registers, or for reg more of the opcode */
	const nx_operand *memory; /* instead of rm */
	bool low_byte, high_byte; /* a register needs REX, cannot have it */
	uint8_t immediate_size;   /* in bytes; 0: there is no immediate operand */
	int64_t immediate;
};

/* Give the encoding the size of its operands in bytes. */
static inline void nx_encode_size(struct nx_encoding *x, unsigned size)
{
	x->narrow = size == 2;
	x->wide = size == 8;
}

/* Return the number by which a register is encoded, and note what that asks for. */
static inline uint8_t nx_encode_reg(struct nx_encoding *x, const struct nx_reg *reg)
{
	x->high_byte |= reg->high;
	x->low_byte |= reg->size == 1 && !reg->high && reg->number >= NX_RSP;
	return (uint8_t)(reg->high ? reg->number + 4 : reg->number);
}

/* Scratch registers and the context, context.h rule 1. */
#define NX_HOST_POINTER ZYDIS_REGISTER_R14
#define NX_HOST_CONTEXT ZYDIS_REGISTER_R15

static inline nx_operand nx_op_reg(ZydisRegister reg)
{
	return (nx_operand){.type = ZYDIS_OPERAND_TYPE_REGISTER, .reg = (uint16_t)reg};
}

static inline nx_operand nx_op_gpr(unsigned number, unsigned size)
{
	return nx_op_reg(nx_zydis_reg(number, size));
}

static inline nx_operand nx_op_imm(int64_t value)
{
	return (nx_operand){.type = ZYDIS_OPERAND_TYPE_IMMEDIATE, .value = value};
}

static inline nx_operand nx_op_mem(ZydisRegister base, ZydisRegister index, unsigned scale,
				   int64_t displacement, unsigned size)
{
	return (nx_operand){.type = ZYDIS_OPERAND_TYPE_MEMORY,
			    .scale = (uint8_t)scale,
			    .size = (uint16_t)size,
			    .reg = (uint16_t)base,
			    .index = (uint16_t)index,
			    .value = displacement};
}

/* Return a context slot as an operand. */
static inline nx_operand nx_op_slot(unsigned offset, unsigned size)
{
	return nx_op_mem(NX_HOST_CONTEXT, ZYDIS_REGISTER_NONE, 0, offset, size);
}

/* Return a guest register's home as an operand. */
static inline nx_operand nx_op_home(unsigned number, unsigned size)
{
	return nx_op_slot(NX_CTX_GPR + 8 * number, size);
}

void nx_emit_bytes(struct nx_emitter *e, const uint8_t *bytes, unsigned len);
void nx_emit_encoded(struct nx_emitter *e, const struct nx_encoding *encoding);
/* Return whether a constant may not stand in the code. */
static inline bool nx_needs_blinding(const struct nx_emitter *e, int64_t value)
{
	return e->blind && !nx_is_short(value);
}

/* These know the mnemonics and forms that are in use, and fail with others. */
void nx_emit0(struct nx_emitter *e, ZydisMnemonic mnemonic);
void nx_emit1(struct nx_emitter *e, ZydisMnemonic mnemonic, nx_operand a);
void nx_emit2(struct nx_emitter *e, ZydisMnemonic mnemonic, nx_operand a, nx_operand b);

static inline void nx_emit_mov(struct nx_emitter *e, nx_operand to, nx_operand from)
{
	nx_emit2(e, ZYDIS_MNEMONIC_MOV, to, from);
}

/* Emit a direct branch; its displacement, of 4 bytes (or one, if of 8 bits), ends where the code
 * ends now. */
void nx_emit_branch(struct nx_emitter *e, ZydisMnemonic mnemonic, bool short_form);
/* End what a jump ends: nothing goes straight on. */
void nx_emit_trap(struct nx_emitter *e);
/* Make the displacement that ends at offset end lead to target. */
void nx_branch_patch(struct nx_emitter *e, uint32_t end, uint32_t target);
void nx_branch_patch8(struct nx_emitter *e, uint32_t end, uint32_t target);

#endif
