// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * coverage_worked_example.c - the worked example of docs/engine.md: what the engine really makes of
 * a piece of guest code.
 *
 * Usage: coverage_worked_example           prints it
 *        coverage_worked_example FILE      checks that the file contains it
 *        coverage_worked_example -u FILE   replaces the one that the file has, behind its marker
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include <Zydis/Zydis.h>

#include "engine.h"
#include "mock.h"

/* A driver waits until the device is ready, then sends a byte. */
GUEST(sends, 64, "in al, dx", "test al, 0x20; jz sends; mov al, [rsi]; out dx, al", "ret");

static void put_instruction(FILE *to, uint64_t rip, const uint8_t *bytes, unsigned available,
			    unsigned *len, ZydisDecodedInstruction *insn,
			    ZydisDecodedOperand *operands)
{
	ZydisFormatter formatter;
	ZydisDecoder decoder;
	char text[96];

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, 0);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_ADDR_PADDING_ABSOLUTE,
				  ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_DISP_PADDING,
				  ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_IMM_PADDING,
				  ZYDIS_PADDING_DISABLED);
	assert_true(
	    ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, available, insn, operands)));
	ZydisFormatterFormatInstruction(&formatter, insn, operands, insn->operand_count_visible,
					text, sizeof(text), rip, NULL);
	fprintf(to, "  %5llx  %-44s", (unsigned long long)rip, text);
	*len = insn->length;
}

static void put_guest(FILE *to, const struct mock *m)
{
	const uint64_t end = m->stop_rip + 1;

	for (uint64_t rip = m->code_rip; rip < end;) {
		ZydisDecodedInstruction insn;
		ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
		unsigned len;

		put_instruction(to, rip, m->ram + rip, 15, &len, &insn, operands);
		fprintf(to, "%s\n",
			insn.mnemonic == ZYDIS_MNEMONIC_IN || insn.mnemonic == ZYDIS_MNEMONIC_OUT
			    ? "; exits"
			    : "");
		rip += len;
	}
}

static const char *slot_name(const ZydisDecodedOperand *operand)
{
	static const struct {
		int64_t offset;
		const char *name;
	} slots[] = {
	    {NX_CTX_FLAGS, "the guest's flags"},
	    {NX_CTX_LINEAR, "the linear address"},
	    {NX_CTX_TURNS, "weak turns left"},
	    {NX_CTX_IDLE_TURNS, "idle turns left"},
	    {NX_CTX_TLB + NX_TLB_READ, "TLB: the page that may be read"},
	    {NX_CTX_TLB + NX_TLB_WRITE, "TLB: the page that may be written"},
	    {NX_CTX_TLB + NX_TLB_ADDEND, "TLB: host minus guest address"},
	    {NX_CTX_THUNK_EXIT, "back to C"},
	    {NX_CTX_THUNK_MISS, "C: look the page up"},
	    {NX_CTX_THUNK_HELPER, "C: the instruction at the site"},
	};

	if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY || operand->mem.base != ZYDIS_REGISTER_R15)
		return NULL;
	for (unsigned i = 0; i < sizeof(slots) / sizeof(slots[0]); i++)
		if (slots[i].offset == operand->mem.disp.value)
			return slots[i].name;
	return NULL;
}

static void put_site(FILE *to, const struct nx_site *site)
{
	static const char *const kinds[] = {"leave", "access", "port exit", "instruction exit",
					    "helper"};

	fprintf(to, "; site: %s at %llx", kinds[site->kind], (unsigned long long)site->rip);
	if (site->kind == NX_SITE_LEAVE)
		fprintf(to, ", %s", nx_leave_reason_name(site->reason));
}

static void put_comment(FILE *to, const struct nx_cluster *cluster,
			const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	for (unsigned i = 0; i < insn->operand_count_visible; i++) {
		const char *name = slot_name(&operands[i]);

		if (name)
			fprintf(to, "; %s", name);
	}
	if (insn->mnemonic == ZYDIS_MNEMONIC_MOV && operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    operands[0].mem.disp.value == NX_CTX_SITE)
		put_site(to, &cluster->site[operands[1].imm.value.u]);
}

static void put_host(FILE *to, const struct mock *m, const struct nx_cluster *cluster)
{
	const uint8_t *code = (const uint8_t *)m->memory.code_rx + cluster->code;

	for (unsigned at = 0; at < cluster->code_size;) {
		ZydisDecodedInstruction insn;
		ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
		unsigned len;

		for (unsigned i = 0; i < cluster->entries; i++)
			if (cluster->entry[i].offset == at)
				fprintf(to, "entry for %llx:\n",
					(unsigned long long)cluster->entry[i].rip);
		put_instruction(to, at, code + at, cluster->code_size - at, &len, &insn, operands);
		put_comment(to, cluster, &insn, operands);
		fprintf(to, "\n");
		at += len;
	}
}

/* Trailing blanks are no part of a document. */
static char *tidy(char *text)
{
	char *to = text;

	for (char *from = text; *from; from++) {
		if (*from == '\n')
			while (to > text && to[-1] == ' ')
				to--;
		*to++ = *from;
	}
	*to = 0;
	return text;
}

static char *make_example(void)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);
	const struct nx_cluster *cluster;
	size_t size;
	char *text;
	FILE *to = open_memstream(&text, &size);

	assert_non_null(to);
	MOCK_LOAD(m, sends);
	m->start.gpr[NX_RSI] = MOCK_DATA;
	m->start.gpr[NX_RDX] = 0x3f8;
	m->start.gpr[NX_RAX] = 0;
	m->input[0] = 0;
	m->input[1] = 0x20;
	mock_warm(m);
	assert_int_equal(m->exits, 3);
	cluster = nx_cluster_next(m->engine, NULL);
	assert_non_null(cluster);
	put_guest(to, m);
	fprintf(to, "\n");
	put_host(to, m, cluster);
	fclose(to);
	mock_free(m);
	return tidy(text);
}

#define MARKER "<!-- worked example: made by tests/unit/coverage_worked_example.c -->\n```text\n"
#define MARKER_END "```\n"

static char *document;

static void document_has_it(void **state)
{
	char *text = make_example();

	(void)state;
	if (!strstr(document, text))
		fail_msg(
		    "the worked example is stale: run the program without argument and put its "
		    "output into docs/engine.md");
	free(text);
}

static char *read_file(const char *name)
{
	FILE *file = fopen(name, "r");
	char *text = calloc(1, 1 << 18);

	if (!file || !text || !fread(text, 1, (1 << 18) - 1, file)) {
		fprintf(stderr, "%s cannot be read\n", name);
		exit(1);
	}
	fclose(file);
	return text;
}

static int update(const char *name)
{
	char *start = strstr(document, MARKER), *end;
	FILE *file;

	if (!start || !(end = strstr(start + strlen(MARKER), MARKER_END))) {
		fprintf(stderr, "%s has no marked place for a worked example\n", name);
		return 1;
	}
	file = fopen(name, "w");
	if (!file) {
		fprintf(stderr, "%s cannot be written\n", name);
		return 1;
	}
	fwrite(document, 1, (size_t)(start - document), file);
	fprintf(file, "%s%s%s", MARKER, make_example(), end);
	return fclose(file) != 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(document_has_it)};

	if (argc < 2) {
		fputs(make_example(), stdout);
		return 0;
	}
	document = read_file(argv[argc - 1]);
	if (argc == 3)
		return update(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
