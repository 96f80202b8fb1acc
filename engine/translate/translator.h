/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * translator.h - the translator's state, private to translate/: translate.c (structure: blocks,
 * branches, exits), lower.c and again.c (instructions), access.c and group.c (their memory
 * accesses).
 */
#ifndef NX_TRANSLATOR_H
#define NX_TRANSLATOR_H

#include "engine.h"
#include "translate/emit.h"

/* Code out of line, behind the blocks. */
struct nx_stub {
	enum { NX_STUB_MISS, NX_STUB_LEAVE, NX_STUB_EDGE, NX_STUB_GROUP } kind;
	uint32_t from; /* end of the branch that leads here */
	uint32_t back; /* MISS, GROUP: where it goes on */
	uint16_t site;
	/* EDGE: the taken edge of this block, decided by this instruction. */
	uint16_t block, insn;
	uint16_t count; /* GROUP: so many instructions, insn the first */
	/* EDGE: in the beginning; GROUP: where it goes on. */
	bool flags_in_context, flags_in_host;
};

struct nx_fixup {
	uint32_t from; /* end of the branch */
	uint16_t block;
};

#define NX_MAX_STUBS 1536
/* Few blocks have all of their edges; with more of them there is no translation. */
#define NX_MAX_FIXUPS (NX_MAX_BLOCKS * 6)

/* The place of an operand in guest memory; registers by enum nx_gpr, or NX_GPRS. */
struct nx_place {
	uint8_t base, index, scale;
	uint8_t seg;   /* enum nx_sreg */
	uint8_t width; /* of the address, in bits */
	bool relative; /* to rip, of which the displacement has the value */
	int64_t displacement;
};

/* Accesses that share a check (group.c): r14 points to the place, and so many bytes. */
struct nx_group {
	bool active, write;
	unsigned bytes;
	struct nx_place place;
	int64_t delta; /* of the base by now, to what it was at the check */
};

struct nx_translator {
	struct nx_engine *engine;
	const struct nx_graph *graph;
	struct nx_translation *out;
	struct nx_translate_scratch *s;
	struct nx_emitter e;
	uint16_t insn; /* index of the instruction being translated */
	/* The places of the guest's arithmetic flags (context.h, rule 5), at least one of them. */
	bool flags_in_host, flags_in_context;
	struct nx_group group;
};

struct nx_translate_scratch {
	uint32_t block_offset[NX_MAX_BLOCKS];
	uint16_t block_of[NX_MAX_INSNS];
	bool flags_in_context[NX_MAX_BLOCKS]; /* at its beginning; else in the host */
	int16_t change[NX_MAX_INSNS];         /* of a group's base, by each of its instructions */
	struct nx_stub stub[NX_MAX_STUBS];
	struct nx_fixup fixup[NX_MAX_FIXUPS];
	unsigned stubs, fixups;
	/* Too large for a kernel's stack: two instructions at hand. */
	struct nx_decoded decoded[2];
	/* The translator's position between two steps. */
	struct nx_translator translator;
	unsigned blocks_done, stubs_done;
};

_Static_assert(sizeof(struct nx_translate_scratch) <= NX_TRANSLATE_SCRATCH_SIZE,
	       "scratch too small");

/* Return the guest's instruction as Zydis sees it, until the next one is asked for; or NULL. */
static inline const struct nx_decoded *nx_decoded_insn(struct nx_translator *t,
						       const struct nx_insn *insn)
{
	return nx_decode_full(&t->engine->decoded, &t->graph->mode, insn->bytes, insn->len);
}

/* translate.c */
uint16_t nx_site_add(struct nx_translator *t, enum nx_site_kind kind, const struct nx_insn *insn);
/* Let a miss go on where the code ends now. */
void nx_stub_add(struct nx_translator *t, int kind, uint32_t from, uint16_t site);
/* Store the site and leave the translation; the flags must be in the context. */
void nx_emit_exit(struct nx_translator *t, uint16_t site);
void nx_flags_keep_in_context(struct nx_translator *t);
void nx_flags_keep_in_host(struct nx_translator *t);

/* access.c */
struct nx_access_kind {
	unsigned size;
	bool write;     /* or read and write */
	bool mmio_form; /* a device's answer can be delivered */
	bool locked;
};

struct nx_place nx_place_of(const struct nx_insn *insn, const struct nx_decoded *d,
			    const ZydisDecodedOperand *m);
/* Return the place at the stack pointer plus displacement. */
struct nx_place nx_stack_place(const struct nx_translator *t, int64_t displacement);
/* Without effect on addresses, and allows any. */
bool nx_seg_is_flat(const struct nx_mode *mode, unsigned seg, bool write);
bool nx_is_locked(const struct nx_decoded *d);
/* Compute the offset in its segment in a scratch register other than r11, which this uses. */
void nx_emit_address(struct nx_translator *t, const struct nx_place *place, unsigned to);
/* Add the guest's slide to a register other than r11, which this uses; the flags stay. */
void nx_emit_slide(struct nx_translator *t, unsigned to, unsigned size);
/* Return the host's operand for an access at a place, which may leave before the instruction. */
nx_operand nx_emit_access(struct nx_translator *t, const struct nx_insn *insn,
			  const struct nx_place *place, struct nx_access_kind kind);
/* r14 points to bytes at the place; returns the end of the branch that is taken if not. */
uint32_t nx_emit_range_check(struct nx_translator *t, const struct nx_place *place, unsigned bytes,
			     bool write);

/* group.c: the group that begins at an instruction; returns its instructions, 0: none. */
unsigned nx_emit_group(struct nx_translator *t, uint16_t first, unsigned available);
/* Emit its instructions with a check each, out of line. */
void nx_emit_apart(struct nx_translator *t, const struct nx_stub *stub);

/* again.c: the instruction as it is, with this for its memory operand, if it has one. */
void nx_emit_again(struct nx_translator *t, const struct nx_insn *insn, const struct nx_decoded *d,
		   const nx_operand *memory);

/*
 * lower.c: what an instruction does before control goes on. Of an indirect branch: r10 = where it
 * goes, noted in the context; nothing has happened otherwise.
 */
void nx_lower(struct nx_translator *t, const struct nx_insn *insn);
/* Emit LOOP and JCXZ families as host code that ends with a 32-bit branch that is taken if the
 * guest's is; the flags are in the host. Return the end of that branch. */
uint32_t nx_lower_count_branch(struct nx_translator *t, const struct nx_decoded *d);

/* Emit the effect on the stack of a call, and of a return whose target is known. */
void nx_lower_call(struct nx_translator *t, const struct nx_insn *insn);
void nx_lower_ret(struct nx_translator *t, const struct nx_insn *insn);

/* snippet.c: sequences that occur in every translation, encoded once per vCPU. */
enum nx_snippet_kind {
	NX_SNIPPET_SAVE_FLAGS,
	NX_SNIPPET_RESTORE_FLAGS,
	NX_SNIPPET_EXIT,   /* patch: the site */
	NX_SNIPPET_HELPER, /* patch: the site */
	NX_SNIPPET_MISS,   /* patch: the site; ends with the branch back */
	NX_SNIPPET_CHECK,  /* patch: end of the branch to the miss stub; + NX_CHECK_VARIANT */
	NX_SNIPPET_RANGE = NX_SNIPPET_CHECK + 2 * 5, /* likewise; + 1: for writing */
	NX_SNIPPET_COUNT = NX_SNIPPET_RANGE + 2,
};

/* Append a snippet; return the offset that its patch has in the code. */
uint32_t nx_emit_snippet(struct nx_translator *t, unsigned kind);
/* Append a snippet with a site. */
void nx_emit_site_snippet(struct nx_translator *t, unsigned kind, uint16_t site);
/* Emit the check for a group; return the end of the branch. */
uint32_t nx_emit_range_snippet(struct nx_translator *t, unsigned bytes, bool write);
/* Emit the check for an access of size bytes. */
unsigned nx_snippet_check(unsigned size, bool write);

#endif
