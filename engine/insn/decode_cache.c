/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * decode_cache.c - decode instructions by Zydis, each form of them once.
 *
 * Zydis runs more than a thousand instructions to decode one, and code consists of a few hundred
 * forms. The head of an instruction (prefixes, opcode, ModRM, SIB) is all that decides how it is
 * decoded. A displacement and an immediate operand may follow; the head decides their places and
 * sizes, too. So what Zydis said of one instruction holds for every other one with the same head in
 * the same mode, except for these two values, which are read from the bytes at hand.
 *
 * Nothing gets into the cache except by Zydis, and heads are compared byte for byte. Where a head
 * ends is guessed first (head_length()). An instruction of which Zydis says otherwise is not kept,
 * so a wrong guess costs time and nothing else.
 */
#include "insn/decode.h"

/* The longest head that is kept. */
#define HEAD_MAX 8u
#define MOST_PREFIXES 4u
/* A form is in one of so many places that follow each other. */
#define WAYS 4u

/* A displacement or an immediate operand. */
struct field {
	uint8_t at, size; /* in the instruction, in bytes; size 0: there is none */
	uint8_t operand;
	bool is_signed;
};

struct form {
	uint64_t head;  /* its bytes, the first one lowest */
	uint8_t length; /* of the head; 0: there is nothing here, or nothing to keep */
	uint8_t code;   /* enum nx_code */
	struct field displacement, immediate;
	struct nx_decoded decoded;
};

struct cache {
	struct form form[NX_DECODE_FORMS];
	unsigned turn; /* which of a form's places is overwritten next */
};

_Static_assert(sizeof(struct cache) <= sizeof(struct nx_decode_cache), "cache too small");

/* ---- Heads ---- */

/* What comes after a byte. */
#define PREFIX 1 /* more of the head */
#define MODRM 2

static const uint8_t opcodes[256] = {
    [0x00 ... 0x03] = MODRM, [0x08 ... 0x0b] = MODRM,  [0x10 ... 0x13] = MODRM,
    [0x18 ... 0x1b] = MODRM, [0x20 ... 0x23] = MODRM,  [0x26] = PREFIX,
    [0x28 ... 0x2b] = MODRM, [0x2e] = PREFIX,          [0x30 ... 0x33] = MODRM,
    [0x36] = PREFIX,         [0x38 ... 0x3b] = MODRM,  [0x3e] = PREFIX,
    [0x62 ... 0x63] = MODRM, [0x64 ... 0x67] = PREFIX, [0x69] = MODRM,
    [0x6b] = MODRM,          [0x80 ... 0x8f] = MODRM,  [0xc0 ... 0xc1] = MODRM,
    [0xc4 ... 0xc7] = MODRM, [0xd0 ... 0xd3] = MODRM,  [0xd8 ... 0xdf] = MODRM,
    [0xf0] = PREFIX,         [0xf2 ... 0xf3] = PREFIX, [0xf6 ... 0xf7] = MODRM,
    [0xfe ... 0xff] = MODRM,
};
static const uint8_t opcodes_0f[256] = {
    [0x00 ... 0x03] = MODRM, [0x0d] = MODRM,          [0x0f ... 0x2f] = MODRM,
    [0x38 ... 0x76] = MODRM, [0x78 ... 0x7f] = MODRM, [0x90 ... 0x9f] = MODRM,
    [0xa3 ... 0xa7] = MODRM, [0xab ... 0xc7] = MODRM, [0xd0 ... 0xff] = MODRM,
};

static unsigned bits_of(enum nx_code code)
{
	return code == NX_CODE_64 ? 64 : code <= NX_CODE_32_STACK_16 ? 32 : 16;
}

/* Guess the length of the head of an instruction that begins with these bytes; 0: too long. */
static unsigned head_length(uint64_t bytes, enum nx_code code)
{
	unsigned bits = bits_of(code), at = 0;
	bool has_sib = bits != 16; /* as ModRM of addresses of 32 and 64 bits may ask for */
	uint8_t byte;

	while (opcodes[byte = (uint8_t)(bytes >> 8 * at)] == PREFIX) {
		if (byte == 0x67)
			has_sib = bits != 32;
		if (++at > MOST_PREFIXES)
			return 0;
	}
	if (bits == 64 && (byte & 0xf0) == 0x40)
		byte = (uint8_t)(bytes >> 8 * ++at);
	at++;
	if (byte == 0x0f) {
		byte = (uint8_t)(bytes >> 8 * at++);
		if (opcodes_0f[byte] != MODRM)
			return at;
	} else if (opcodes[byte] != MODRM) {
		return at;
	}
	byte = (uint8_t)(bytes >> 8 * at++);
	if (has_sib && byte < 0xc0 && (byte & 7) == 4)
		at++;
	return at <= HEAD_MAX ? at : 0;
}

/* ---- Forms ---- */

static uint64_t read_field(const struct field *field, const uint8_t *bytes)
{
	unsigned spare = 64 - 8u * field->size;
	uint64_t value = 0;

	bytes += field->at;
	switch (field->size) {
	case 1:
		value = bytes[0];
		break;
	case 2:
		nx_memcpy(&value, bytes, 2);
		break;
	case 4:
		nx_memcpy(&value, bytes, 4);
		break;
	case 8:
		nx_memcpy(&value, bytes, 8);
		break;
	default:
		return 0;
	}
	return field->is_signed ? (uint64_t)((int64_t)(value << spare) >> spare) : value;
}

/* Put the values into the form that the bytes at hand have for it. */
static void fill_in(struct form *form, const uint8_t *bytes)
{
	struct nx_decoded *d = &form->decoded;

	if (form->displacement.size) {
		int64_t value = (int64_t)read_field(&form->displacement, bytes);

		d->insn.raw.disp.value = value;
		d->op[form->displacement.operand].mem.disp.value = value;
	}
	if (form->immediate.size) {
		uint64_t value = read_field(&form->immediate, bytes);

		d->insn.raw.imm[0].value.u = value;
		d->op[form->immediate.operand].imm.value.u = value;
	}
}

/* Find the operand that the displacement belongs to. Return false if that is not the only one. */
static bool find_displacement(struct form *form)
{
	const struct nx_decoded *d = &form->decoded;
	unsigned found = 0;

	form->displacement = (struct field){
	    .at = d->insn.raw.disp.offset, .size = d->insn.raw.disp.size / 8, .is_signed = true};
	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		if (d->op[i].type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    !d->op[i].mem.disp.has_displacement)
			continue;
		form->displacement.operand = (uint8_t)i;
		found++;
	}
	return found == (form->displacement.size != 0);
}

/* Likewise the immediate operand; that of a shift by one, say, is not in the bytes. */
static bool find_immediate(struct form *form)
{
	const struct nx_decoded *d = &form->decoded;
	unsigned found = 0;

	form->immediate = (struct field){.at = d->insn.raw.imm[0].offset,
					 .size = d->insn.raw.imm[0].size / 8,
					 .is_signed = d->insn.raw.imm[0].is_signed};
	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		if (d->op[i].type != ZYDIS_OPERAND_TYPE_IMMEDIATE ||
		    d->op[i].encoding == ZYDIS_OPERAND_ENCODING_NONE)
			continue;
		form->immediate.operand = (uint8_t)i;
		found++;
	}
	return !d->insn.raw.imm[1].size && found == (form->immediate.size != 0);
}

/* Return where the head of a form ends, going by Zydis. */
static unsigned head_end(const struct form *form)
{
	if (form->displacement.size)
		return form->displacement.at;
	return form->immediate.size ? form->immediate.at : form->decoded.insn.length;
}

/* Return whether the values that are read from the bytes are those that Zydis has read. */
static bool reads_alike(const struct form *form, const uint8_t *bytes)
{
	const struct nx_decoded *d = &form->decoded;
	uint64_t displacement = read_field(&form->displacement, bytes);
	uint64_t immediate = read_field(&form->immediate, bytes);

	return (!form->displacement.size ||
		((uint64_t)d->insn.raw.disp.value == displacement &&
		 (uint64_t)d->op[form->displacement.operand].mem.disp.value == displacement)) &&
	       (!form->immediate.size || (d->insn.raw.imm[0].value.u == immediate &&
					  d->op[form->immediate.operand].imm.value.u == immediate));
}

/* Return whether the form may be kept, and note what it takes to use it again. */
static bool may_keep(struct form *form, const uint8_t *bytes, unsigned length)
{
	return length && form->decoded.insn.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	       !form->decoded.has_more && find_displacement(form) && find_immediate(form) &&
	       head_end(form) == length && reads_alike(form, bytes);
}

/* ---- Decoding ---- */

static bool decode(enum nx_code code, const uint8_t *bytes, unsigned available,
		   struct nx_decoded *out)
{
	static const struct {
		uint8_t machine, stack;
	} modes[] = {
	    [NX_CODE_64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
	    [NX_CODE_32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
	    [NX_CODE_32_STACK_16] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_16},
	    [NX_CODE_16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
	    [NX_CODE_16_STACK_32] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_32},
	    [NX_CODE_REAL] = {ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16},
	    [NX_CODE_REAL_STACK_32] = {ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_32},
	};
	ZydisDecoder decoder;
	ZydisDecoderContext context;

	if (ZYAN_FAILED(ZydisDecoderInit(&decoder, (ZydisMachineMode)modes[code].machine,
					 (ZydisStackWidth)modes[code].stack)) ||
	    ZYAN_FAILED(
		ZydisDecoderDecodeInstruction(&decoder, &context, bytes, available, &out->insn)))
		return false;
	out->notes = 0;
	out->has_more = out->insn.operand_count > NX_MAX_OPERANDS;
	if (out->has_more)
		out->insn.operand_count = NX_MAX_OPERANDS;
	nx_memset(out->op, 0, sizeof(out->op));
	if (out->insn.operand_count_visible > out->insn.operand_count)
		return true;
	return ZYAN_SUCCESS(ZydisDecoderDecodeOperands(&decoder, &context, &out->insn, out->op,
						       out->insn.operand_count));
}

static uint64_t first_bytes(const uint8_t *bytes, unsigned available)
{
	uint64_t first = 0;
	uint32_t low, high;

	if (available >= sizeof(first)) {
		nx_memcpy(&first, bytes, sizeof(first));
	} else if (available >= sizeof(low)) {
		/* Where the two overlap they agree. */
		nx_memcpy(&low, bytes, sizeof(low));
		nx_memcpy(&high, bytes + available - sizeof(high), sizeof(high));
		first = low | (uint64_t)high << 8 * (available - sizeof(high));
	} else {
		for (unsigned i = available; i-- > 0;)
			first = first << 8 | bytes[i];
	}
	return first;
}

/* Return the place for a form that is not there: an empty one, or each in turn. */
static struct form *make_room(struct cache *cache, struct form *row)
{
	for (unsigned i = 0; i < WAYS; i++)
		if (!row[i].length)
			return &row[i];
	return &row[cache->turn++ % WAYS];
}

struct nx_decoded *nx_decode_form(struct nx_decode_cache *of, enum nx_code code,
				  const uint8_t *bytes, unsigned available)
{
	struct cache *cache = (struct cache *)of->state;
	uint64_t head = first_bytes(bytes, available);
	unsigned length = head_length(head, code);
	struct form *row, *form;

	if (length < HEAD_MAX)
		head &= (1ull << 8 * length) - 1;
	row = &cache->form[nx_mix(head, length << 8 | code) % (NX_DECODE_FORMS / WAYS) * WAYS];
	for (unsigned i = 0; i < WAYS && length; i++) {
		form = &row[i];
		if (form->head != head || form->length != length || form->code != code)
			continue;
		if (form->decoded.insn.length > available)
			return NULL;
		fill_in(form, bytes);
		return &form->decoded;
	}
	form = make_room(cache, row);
	form->length = 0;
	if (!decode(code, bytes, available, &form->decoded))
		return NULL;
	form->head = head;
	form->code = (uint8_t)code;
	if (may_keep(form, bytes, length))
		form->length = (uint8_t)length;
	return &form->decoded;
}

/*
 * The length of a head follows from its bytes: where these are equal, nx_decode_form() would have
 * found the same form.
 */
struct nx_decoded *nx_decode_form_again(struct nx_decode_cache *of, uint16_t *place,
					enum nx_code code, const uint8_t *bytes, unsigned available)
{
	struct cache *cache = (struct cache *)of->state;
	struct form *form = &cache->form[*place % NX_DECODE_FORMS];
	uint64_t differs = first_bytes(bytes, available) ^ form->head;
	struct nx_decoded *decoded;

	if (form->length && !(differs << (64 - 8 * form->length)) && form->code == code &&
	    form->decoded.insn.length <= available) {
		fill_in(form, bytes);
		return &form->decoded;
	}
	decoded = nx_decode_form(of, code, bytes, available);
	if (decoded)
		*place = (uint16_t)((size_t)((const uint8_t *)decoded -
					     (const uint8_t *)&cache->form[0].decoded) /
				    sizeof(struct form));
	return decoded;
}
