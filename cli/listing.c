/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* listing.c - annotated disassembly; Zydis decodes and formats. */
#include "listing.h"

#include <Zydis/Zydis.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct listing {
	ZydisDecoder decoder;
	ZydisFormatter formatter;
	const struct nx_share_cluster *cluster;
	listing_show show;
	void *data;
};

static void begin(struct listing *listing, const struct nx_share_cluster *cluster)
{
	ZydisMachineMode mode = cluster->bits == 64   ? ZYDIS_MACHINE_MODE_LONG_64
				: cluster->bits == 32 ? ZYDIS_MACHINE_MODE_LEGACY_32
						      : ZYDIS_MACHINE_MODE_LEGACY_16;
	ZydisStackWidth stack = cluster->bits == 64   ? ZYDIS_STACK_WIDTH_64
				: cluster->bits == 32 ? ZYDIS_STACK_WIDTH_32
						      : ZYDIS_STACK_WIDTH_16;

	listing->cluster = cluster;
	ZydisDecoderInit(&listing->decoder, mode, stack);
	ZydisFormatterInit(&listing->formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	ZydisFormatterSetProperty(&listing->formatter, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, 0);
	ZydisFormatterSetProperty(&listing->formatter, ZYDIS_FORMATTER_PROP_ADDR_PADDING_ABSOLUTE,
				  ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&listing->formatter, ZYDIS_FORMATTER_PROP_DISP_PADDING,
				  ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&listing->formatter, ZYDIS_FORMATTER_PROP_IMM_PADDING,
				  ZYDIS_PADDING_DISABLED);
}

/* Show one instruction; return its length, or 0 if there are no more. */
static unsigned disassemble(const struct listing *listing, const uint8_t *code, size_t size,
			    uint64_t rip, char *text, size_t text_size)
{
	ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&listing->decoder, code, size, &insn, operand)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&listing->formatter, &insn, operand,
							  insn.operand_count_visible, text,
							  text_size, rip, NULL))) {
		snprintf(text, text_size, "?");
		return 0;
	}
	return insn.length;
}

/* ---- Where a block goes ---- */

struct notes {
	char text[256];
	size_t used;
};

static void __attribute__((format(printf, 2, 3))) note(struct notes *notes, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the line above initializes it */
	length = vsnprintf(notes->text + notes->used, sizeof(notes->text) - notes->used, format,
			   arguments);
	va_end(arguments);
	if (length > 0 && notes->used + (size_t)length < sizeof(notes->text))
		notes->used += (size_t)length;
}

static void note_edge(struct notes *notes, const struct nx_share_block *block, unsigned edge,
		      unsigned number)
{
	static const char *const limits[] = {"", ", some turns only",
					     ", some turns without an exit"};
	unsigned to = block->edge[edge];

	if (to == NX_CLUSTER_NOWHERE)
		note(notes, "leaves");
	else
		note(notes, "%s%u%s", to <= number ? "back to B" : "to B", to,
		     limits[block->limit[edge] <= NX_EDGE_IDLE ? block->limit[edge] : 0]);
}

static bool is(const char *text, const char *mnemonic)
{
	return !strncmp(text, mnemonic, strlen(mnemonic));
}

/* text is the block's last instruction. */
static void note_edges(struct notes *notes, const struct nx_share_block *block, unsigned number,
		       const char *text, bool exits)
{
	bool branches =
	    !block->targets && (*text == 'j' || is(text, "loop") || is(text, "call 0x"));
	/* The guest goes on behind an exiting instruction, wherever the cluster is entered next. */
	bool falls_through = !is(text, "jmp") && !is(text, "ret") && !is(text, "call") &&
			     !(exits && block->edge[0] == NX_CLUSTER_NOWHERE);
	const char *separator = "";

	if (branches) {
		note_edge(notes, block, 1, number);
		separator = "; else ";
	}
	for (unsigned i = 0; i < block->targets && i + 2 < NX_CLUSTER_EDGES; i++) {
		note(notes, "%s0x%" PRIx64 " ", i ? ", " : "guard: ", block->target[i]);
		note_edge(notes, block, i + 2, number);
		separator = "; else leaves";
	}
	if (block->targets)
		note(notes, "%s", separator);
	else if (falls_through && block->edge[0] != number + 1) {
		note(notes, "%s", separator);
		note_edge(notes, block, 0, number);
	}
}

/* ---- A cluster ---- */

static void walk_block(const struct listing *listing, const struct nx_share_block *block,
		       unsigned number)
{
	const uint8_t *shape = nx_share_block_shape(block), *code = nx_share_block_code(block);
	unsigned at = 0;

	for (unsigned i = 0; i < block->instructions; i++) {
		unsigned end = at + (shape[i] & NX_SHAPE_LENGTH);
		bool exits = shape[i] & NX_SHAPE_EXITS, first = i == 0;

		if (end > block->bytes)
			end = block->bytes;
		/* Two stores that became one access count once, as in the engine. */
		while (at < end) {
			struct notes notes = {0};
			char text[128];
			unsigned length = disassemble(listing, code + at, end - at, block->rip + at,
						      text, sizeof(text));
			struct listing_line line = {
			    number, block->rip + at, first, first && block->entry, exits,
			    text,   notes.text};

			if (i + 1 == block->instructions && (!length || at + length >= end))
				note_edges(&notes, block, number, text, exits);
			listing->show(listing->data, &line);
			at = length ? at + length : end;
			first = false;
		}
	}
}

unsigned listing_walk(const struct nx_share_clusters *in, const struct nx_share_cluster *cluster,
		      listing_show show, void *data)
{
	struct listing listing = {.show = show, .data = data};
	const struct nx_share_block *block = NULL;
	unsigned number = 0;

	begin(&listing, cluster);
	while ((block = nx_share_block_next(in, cluster, block)))
		walk_block(&listing, block, number++);
	return number;
}

void listing_benefit(const struct nx_share_cluster *cluster, char *text, size_t size)
{
	double ns = (double)cluster->benefit_ns;

	if (cluster->benefit_ns == NX_SHARE_UNMEASURED)
		snprintf(text, size, "-");
	else if (ns > -1e6 && ns < 1e6)
		snprintf(text, size, "%.1f us", ns / 1e3);
	else
		snprintf(text, size, "%.2f ms", ns / 1e6);
}

static void print_line(void *data, const struct listing_line *line)
{
	(void)data;
	if (line->first)
		printf("B%u:\n", line->block);
	printf("  %c %12" PRIx64 "  %c %-*s%s%s\n", line->entry ? '>' : ' ', line->rip,
	       line->exits ? '*' : ' ', *line->note ? 40 : 0, line->text, *line->note ? "; " : "",
	       line->note);
}

void listing_print(const struct nx_share_clusters *in, const struct nx_share_cluster *cluster)
{
	char benefit[32];

	listing_benefit(cluster, benefit, sizeof(benefit));
	printf("cluster %" PRIx64 ", %u bits%s: instructions %u, exiting %u; executions %" PRIu64
	       ", exits avoided %" PRIu64 ", taken over %" PRIu64 " times, benefit %s\n",
	       cluster->entry_rip, cluster->bits, cluster->dropped ? ", dropped" : "",
	       cluster->instructions, cluster->exiting, cluster->executions, cluster->exits,
	       cluster->stays, benefit);
	if (!listing_walk(in, cluster, print_line, NULL))
		puts("  (its code was not kept: there were too many clusters)");
}
