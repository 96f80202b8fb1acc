// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * coverage_instructions.c - docs/instructions.md and its like, made from the code.
 *
 * Walks the encodings of all legacy opcode maps, with the prefixes that select instructions, in
 * 16-, 32- and 64-bit mode, asks nx_decode() what becomes of each, and prints a table by
 * instruction. On the way everything that nx_decode() accepts as an ordinary instruction is
 * translated and verified: what the table says is run must not be refused later.
 *
 * What always leaves is listed by the names that Zydis has for instruction sets. They differ
 * between its versions, so that each has a file of its own.
 *
 * Usage: coverage_instructions table    prints the table: docs/instructions.md
 *        coverage_instructions leaves   prints the list: docs/instructions-zydis-VERSION.md
 *        coverage_instructions DOCS     compares both with the files in DOCS: 0 if they are the
 * same
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine.h"
#include "insn/decode.h"

enum { MODES = 3 };

/* What can become of an instruction; several for the forms of one mnemonic. */
#define OUTCOMES(X)                    \
	X(NATIVE, "native")            \
	X(NOTHING, "nothing to do")    \
	X(HELPER, "helper")            \
	X(BRANCH, "branch")            \
	X(PATH, "branch (paths)")      \
	X(EXIT, "exit")                \
	X(INSN_EXIT, "exit (host)")    \
	X(FEATURE, "helper (feature)") \
	X(LOADS, "helper (real mode)") \
	X(LEAVES, "leaves")

enum outcome {
#define ID(name, text) name,
	OUTCOMES(ID)
};

static const char *const outcome_texts[] = {
#define TEXT(name, text) text,
    OUTCOMES(TEXT)};

struct seen {
	uint16_t registers[MODES], memory[MODES]; /* bits by enum outcome */
	ZydisISASet isa_set;
};

static struct seen seen[ZYDIS_MNEMONIC_MAX_VALUE + 1];
static unsigned long forms, refused;
static struct nx_engine *engine;

static enum outcome outcome_of_op(const struct nx_insn *insn)
{
	switch ((enum nx_op)insn->op) {
	case NX_OP_PLAIN:
	case NX_OP_STORE_PAIR: /* of formation, never of a decoder */
	case NX_OP_MOV_FROM_SREG:
	case NX_OP_PUSH:
	case NX_OP_POP:
		return NATIVE;
	case NX_OP_NOP:
		return NOTHING;
	case NX_OP_JMP:
	case NX_OP_JCC:
		return BRANCH;
	case NX_OP_CALL:
	case NX_OP_RET:
	case NX_OP_JMP_INDIRECT:
	case NX_OP_CALL_INDIRECT:
		return PATH;
	case NX_OP_IN:
	case NX_OP_OUT:
		return EXIT;
	case NX_OP_INSN_EXIT:
		return INSN_EXIT;
	case NX_OP_HELPER:
		return insn->string_io ? EXIT : HELPER;
	case NX_OP_LEAVE:
		break;
	}
	return LEAVES;
}

/* With nothing granted first, then with each thing that a host may grant. */
static enum outcome outcome_of(struct nx_mode mode, const uint8_t *bytes, struct nx_insn *insn)
{
	nx_decode(&engine->decoded, &mode, 0x1000, bytes, 15, insn);
	if (insn->op != NX_OP_LEAVE)
		return outcome_of_op(insn);
	mode.exits = ~0u;
	nx_decode(&engine->decoded, &mode, 0x1000, bytes, 15, insn);
	if (insn->op != NX_OP_LEAVE)
		return INSN_EXIT;
	mode.features = ~0u;
	nx_decode(&engine->decoded, &mode, 0x1000, bytes, 15, insn);
	if (insn->op != NX_OP_LEAVE)
		return FEATURE;
	mode.segment_loads = !mode.protected_mode;
	nx_decode(&engine->decoded, &mode, 0x1000, bytes, 15, insn);
	return insn->op != NX_OP_LEAVE ? LOADS : LEAVES;
}

/* A cluster of this one instruction must pass the translator and the verifier. */
static void check_translation(const struct nx_mode *mode, const struct nx_insn *insn)
{
	struct nx_graph *graph = &engine->graph;
	uint32_t where = 0;

	memset(&graph->block[0], 0, sizeof(graph->block[0]));
	graph->mode = *mode;
	graph->rip = insn->rip;
	graph->insns = graph->blocks = 1;
	graph->fragments = graph->exiting = graph->byte_count = 0;
	graph->insn[0] = *insn;
	graph->block[0].count = 1;
	graph->block[0].entry = true;
	for (unsigned i = 0; i < NX_EDGES; i++)
		graph->block[0].edge[i] = NX_NOWHERE;
	if (nx_translate(engine, graph, engine->memory.code_rw, engine->memory.code_size,
			 &engine->translation) &&
	    nx_verify(engine->memory.code_rw, engine->translation.size, &engine->translation,
		      &engine->thunks, &engine->verify, &where) == NX_VERIFY_OK)
		return;
	if (refused++ > 20)
		return;
	fprintf(stderr,
		"accepted, but refused by the translator or the verifier, %u-bit:", mode->bits);
	for (unsigned i = 0; i < insn->len; i++)
		fprintf(stderr, " %02x", insn->bytes[i]);
	fprintf(stderr, "\n");
}

static struct nx_mode mode_of(unsigned number)
{
	const uint8_t bits = (uint8_t)(16u << number);

	return (struct nx_mode){.bits = bits,
				.stack_bits = bits,
				.flat = number > 0,
				.io_allowed = true,
				.protected_mode = number > 0};
}

/* A repeat prefix that does nothing here: what C executes leaves then, the rest ignores it. */
static bool has_idle_repeat(const struct nx_decoded *d)
{
	for (unsigned i = 0; i < d->insn.raw.prefix_count; i++)
		if ((d->insn.raw.prefixes[i].value == 0xf2 ||
		     d->insn.raw.prefixes[i].value == 0xf3) &&
		    d->insn.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_IGNORED)
			return true;
	return false;
}

static void walk_one(unsigned number, const uint8_t *bytes)
{
	const struct nx_mode mode = mode_of(number);
	const struct nx_decoded *d = nx_decode_full(&engine->decoded, &mode, bytes, 15);
	struct nx_insn insn;
	enum outcome outcome;
	struct seen *entry;

	if (!d)
		return;
	forms++;
	entry = &seen[d->insn.mnemonic];
	entry->isa_set = d->insn.meta.isa_set;
	/* Decodes the same bytes again, so that what is in the cache stays. */
	outcome = outcome_of(mode, bytes, &insn);
	if (!has_idle_repeat(d))
		*(nx_memory_operand(d) ? &entry->memory[number] : &entry->registers[number]) |=
		    (uint16_t)(1u << outcome);
	if (outcome != LEAVES && insn.op != NX_OP_JCC && insn.op != NX_OP_JMP)
		check_translation(&mode, &insn);
}

/* All forms of one opcode: the bytes up to it are there. */
static void walk_operands(unsigned number, uint8_t *bytes, unsigned at, bool all_registers)
{
	/* Memory: a register, a displacement alone, base and displacement (with SIB: its byte is
	 * 0). */
	static const uint8_t memory[] = {0x00, 0x05, 0x06, 0x44};

	for (unsigned reg = 0; reg < 8; reg++) {
		for (unsigned rm = 0; rm < 8; rm += all_registers ? 1 : 4) {
			bytes[at] = (uint8_t)(0xc0 | reg << 3 | rm);
			walk_one(number, bytes);
		}
		for (unsigned i = 0; i < sizeof(memory); i++) {
			bytes[at] = (uint8_t)(memory[i] | reg << 3);
			walk_one(number, bytes);
		}
	}
}

static void walk_opcodes(unsigned number, const uint8_t *prefix, unsigned prefixes)
{
	static const uint8_t maps[4][3] = {
	    {0, 0, 0}, {1, 0x0f, 0}, {2, 0x0f, 0x38}, {2, 0x0f, 0x3a}};

	for (unsigned map = 0; map < 4; map++) {
		for (unsigned opcode = 0; opcode < 256; opcode++) {
			uint8_t bytes[32] = {0};
			unsigned at = prefixes;

			memcpy(bytes, prefix, prefixes);
			memcpy(bytes + at, maps[map] + 1, maps[map][0]);
			at += maps[map][0];
			bytes[at++] = (uint8_t)opcode;
			walk_operands(number, bytes, at,
				      map == 1 && (opcode == 0x01 || opcode == 0x1e ||
						   opcode == 0xae || opcode == 0xc7));
		}
	}
}

/* Prefixes that select another instruction or operand size. */
static void walk_mode(unsigned number)
{
	static const uint8_t select[] = {0, 0x66, 0xf3, 0xf2}, rex[] = {0, 0x48, 0x4d};

	for (unsigned i = 0; i < sizeof(select); i++) {
		for (unsigned j = 0; j < (number == 2 ? sizeof(rex) : 1); j++) {
			uint8_t prefix[2];
			unsigned count = 0;

			if (select[i])
				prefix[count++] = select[i];
			if (rex[j])
				prefix[count++] = rex[j];
			walk_opcodes(number, prefix, count);
		}
	}
}

/* ---- The table ---- */

static void put_set(FILE *to, unsigned set)
{
	const char *comma = "";

	for (unsigned i = 0; i <= LEAVES; i++) {
		if (!(set & 1u << i))
			continue;
		fprintf(to, "%s%s", comma, outcome_texts[i]);
		comma = ", ";
	}
}

static void put_cell(FILE *to, unsigned registers, unsigned memory)
{
	fprintf(to, " | ");
	if (!registers && !memory) {
		fprintf(to, "-");
	} else if (!memory || !registers || registers == memory) {
		put_set(to, registers | memory);
	} else {
		put_set(to, registers);
		fprintf(to, "; memory: ");
		put_set(to, memory);
	}
}

static unsigned all_of(const struct seen *entry)
{
	unsigned all = 0;

	for (unsigned i = 0; i < MODES; i++)
		all |= entry->registers[i] | entry->memory[i];
	return all;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(ZydisMnemonicGetString(*(const ZydisMnemonic *)a),
		      ZydisMnemonicGetString(*(const ZydisMnemonic *)b));
}

static const char head[] =
    "# Instructions\n"
    "\n"
    "This file is made by `tests/unit/coverage_instructions.c` from the engine's decoder and "
    "checked "
    "by\n"
    "`meson test`. When it is stale: `build/tests/unit/coverage_instructions table > "
    "docs/instructions.md`.\n"
    "Instructions that are not in the table always leave; `docs/instructions-zydis-4.0.md` and its "
    "like list\nthem."
    "\n\n"
    "What becomes of an instruction between two exits, at CPL 0 with the right to do port I/O:\n"
    "\n"
    "- *native*: the same operation is emitted, its memory operand checked; what is read or "
    "written\n"
    "  by it on a device becomes an exit;\n"
    "- *nothing to do*: it has no effect that anybody could see;\n"
    "- *helper*: emitted code calls C; *helper (feature)*: if the guest's processor has it\n"
    "  (`nx_config.guest_features`; RDTSC: if the host knows the guest's counter; STI: if it\n"
    "  knows whether an interrupt waits; VERW: if it fills in GDTR; vectors: if it has the "
    "registers);\n"
    "  *helper (real mode)*: in real mode, if the host takes segment registers back\n"
    "  (`nx_config.segment_loads`);\n"
    "- *branch*: followed inside a cluster from level `branches` on, backwards from `loops` on;\n"
    "  *branch (paths)*: along observed paths, at level `paths`;\n"
    "- *exit*: reaches the host; *exit (host)*: reaches hosts that ask for its class\n"
    "  (`nx_config.exits`), otherwise it leaves;\n"
    "- *leaves*: the guest goes on in guest mode before it.\n"
    "\n"
    "Several words in a cell: it depends on the operands or prefixes. *memory*: the forms with a "
    "memory\n"
    "operand, where they differ from those with registers only. A dash: no such instruction in "
    "this "
    "mode.\n"
    "Repeat prefixes that mean nothing to an instruction are not looked at here: helpers leave "
    "then.\n"
    "\n"
    "| instruction | 16-bit | 32-bit | 64-bit |\n"
    "| --- | --- | --- | --- |\n";

static void put_table(FILE *to, const ZydisMnemonic *order, unsigned count)
{
	fputs(head, to);
	for (unsigned i = 0; i < count; i++) {
		const struct seen *entry = &seen[order[i]];

		if (all_of(entry) == 1u << LEAVES)
			continue;
		fprintf(to, "| %s", ZydisMnemonicGetString(order[i]));
		for (unsigned mode = 0; mode < MODES; mode++)
			put_cell(to, entry->registers[mode], entry->memory[mode]);
		fprintf(to, " |\n");
	}
}

static const char *zydis_version(void)
{
	static char text[32];
	uint64_t version = ZydisGetVersion();

	snprintf(text, sizeof(text), "%u.%u", (unsigned)ZYDIS_VERSION_MAJOR(version),
		 (unsigned)ZYDIS_VERSION_MINOR(version));
	return text;
}

/* The others by instruction set, which says more than their names do. */
static void put_rest(FILE *to, const ZydisMnemonic *order, unsigned count)
{
	fprintf(
	    to,
	    "# What always leaves\n\n"
	    "This file is made by `build/tests/unit/coverage_instructions leaves` with Zydis "
	    "%s.\n\n"
	    "Everything with a VEX, EVEX or XOP prefix, and of the rest, by instruction set:\n\n",
	    zydis_version());
	for (unsigned set = 0; set <= ZYDIS_ISA_SET_MAX_VALUE; set++) {
		unsigned column = 0;

		for (unsigned i = 0; i < count; i++) {
			const char *name = ZydisMnemonicGetString(order[i]);

			if (seen[order[i]].isa_set != (ZydisISASet)set ||
			    all_of(&seen[order[i]]) != 1u << LEAVES)
				continue;
			if (!column)
				column = (unsigned)fprintf(
				    to, "- %s:", ZydisISASetGetString((ZydisISASet)set));
			if (column + strlen(name) > 98)
				column = (unsigned)fprintf(to, "\n ") - 1;
			column += (unsigned)fprintf(to, " %s", name);
		}
		if (column)
			fprintf(to, "\n");
	}
}

static char *make_text(size_t *size, bool leaves)
{
	static ZydisMnemonic order[ZYDIS_MNEMONIC_MAX_VALUE + 1];
	unsigned count = 0;
	char *text = NULL;
	FILE *to = open_memstream(&text, size);

	if (!to)
		abort();
	for (unsigned i = 1; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
		if (all_of(&seen[i]))
			order[count++] = (ZydisMnemonic)i;
	qsort(order, count, sizeof(order[0]), by_name);
	if (leaves)
		put_rest(to, order, count);
	else
		put_table(to, order, count);
	fclose(to);
	return text;
}

/* ---- What the head of the table says of VEX and its like ---- */

static bool vector_prefixes_leave(void)
{
	/* VEX maps 1 to 3 with and without W and L, EVEX, XOP map 8 to 10; 64-bit mode has them
	 * all. */
	static const uint8_t prefixes[][4] = {
	    {0xc5, 0xf8},
	    {0xc4, 0xe1, 0x78},
	    {0xc4, 0xe2, 0x78},
	    {0xc4, 0xe2, 0xfb},
	    {0xc4, 0xe3, 0x7b},
	    {0x62, 0xf1, 0x7c, 0x48},
	    {0x62, 0xf2, 0x7d, 0x48},
	    {0x8f, 0xe8, 0x78},
	    {0x8f, 0xe9, 0x78},
	    {0x8f, 0xea, 0x78},
	};
	struct nx_mode mode = mode_of(2);
	unsigned known = 0;

	for (unsigned i = 0; i < sizeof(prefixes) / 4; i++) {
		for (unsigned opcode = 0; opcode < 256 * 2; opcode++) {
			uint8_t bytes[32] = {0};
			unsigned at = i == 0 ? 2 : prefixes[i][0] == 0x62 ? 4 : 3;
			struct nx_insn insn;

			memcpy(bytes, prefixes[i], 4);
			bytes[at] = (uint8_t)opcode;
			bytes[at + 1] = opcode < 256 ? 0xc1 : 0x01;
			known += nx_decode_full(&engine->decoded, &mode, bytes, 15) != NULL;
			if (outcome_of(mode, bytes, &insn) != LEAVES)
				return false;
		}
	}
	return known > 500;
}

static void make_engine(void)
{
	static const struct nx_host host;
	struct nx_memory memory = {.arena_size = nx_engine_arena_size(), .code_size = 1u << 16};
	struct nx_config config;

	memory.arena = aligned_alloc(64, (memory.arena_size + 63) / 64 * 64);
	if (memory.arena)
		memset(memory.arena, 0, memory.arena_size);
	memory.code_rw = memory.code_rx = aligned_alloc(64, memory.code_size);
	nx_config_default(&config);
	engine = nx_engine_create(&memory, &host, NULL, &config);
	if (!engine)
		abort();
}

static bool is_same(const char *name, const char *text, size_t size)
{
	static char old[1 << 18];
	FILE *file = fopen(name, "r");
	bool same;

	if (!file) {
		fprintf(stderr, "%s cannot be read\n", name);
		return false;
	}
	same = fread(old, 1, sizeof(old), file) == size && !memcmp(old, text, size);
	fclose(file);
	return same;
}

/* false: the file says something else. */
static bool compare(const char *docs, const char *kind, const char *name)
{
	const bool leaves = !strcmp(kind, "leaves");
	char path[4096];
	size_t size = 0;
	char *text = make_text(&size, leaves);
	bool same;

	snprintf(path, sizeof(path), "%s/%s", docs, name);
	if (leaves && access(path, R_OK)) {
		printf("there is no %s: this version of Zydis is not one of those listed\n", path);
		same = true;
	} else {
		same = is_same(path, text, size);
	}
	if (!same)
		fprintf(stderr,
			"%s is stale: run the program with the argument %s and store its output "
			"there\n",
			path, kind);
	free(text);
	return same;
}

static bool compare_both(const char *docs)
{
	char name[64];
	bool table, leaves;

	/* Both are compared in any case, so that one run names all that is stale. */
	snprintf(name, sizeof(name), "instructions-zydis-%s.md", zydis_version());
	table = compare(docs, "table", "instructions.md");
	leaves = compare(docs, "leaves", name);
	return table && leaves;
}

static void print(bool leaves)
{
	size_t size = 0;
	char *text = make_text(&size, leaves);

	fwrite(text, 1, size, stdout);
	free(text);
}

int main(int argc, char **argv)
{
	bool good = true;

	if (argc != 2)
		return 2;
	make_engine();
	for (unsigned number = 0; number < MODES; number++)
		walk_mode(number);
	fprintf(stderr, "%lu forms, %lu refused after having been accepted\n", forms, refused);
	if (!vector_prefixes_leave()) {
		fprintf(stderr, "an instruction with a VEX, EVEX or XOP prefix does not leave\n");
		good = false;
	} else if (!strcmp(argv[1], "table") || !strcmp(argv[1], "leaves")) {
		print(!strcmp(argv[1], "leaves"));
	} else {
		good = compare_both(argv[1]);
	}
	return !good || refused;
}
