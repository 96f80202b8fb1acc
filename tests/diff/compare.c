/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* compare.c - are the two results the same to the guest? */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "diff.h"

#define ARITHMETIC 0x8d5u
/* Arithmetic flags, DF and IF; of a whole processor, IOPL, NT, AC and ID as well. */
#define COMPARED (ARITHMETIC | 0x600u)
#define COMPARED_WHOLE (COMPARED | 0x247000u)

static const char *const gpr_name[NX_GPRS] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
					      "rsi", "rdi", "r8",  "r9",  "r10", "r11",
					      "r12", "r13", "r14", "r15"};

static const char *const sreg_name[NX_SREGS] = {"es", "cs", "ss", "ds", "fs", "gs"};

static uint64_t flags_compared(const struct sequence *seq, uint64_t rip)
{
	const struct instruction *insn = instruction_at(seq, rip);

	return (processor->whole ? COMPARED_WHOLE : COMPARED) &
	       ~(uint64_t)(insn ? insn->undefined : 0);
}

static unsigned registers_of(const struct sequence *seq)
{
	return seq->bits == 64 ? NX_GPRS : 8;
}

/* Compare the parts of a segment that a load in real mode changes. */
static bool segments_equal(const struct result *a, const struct result *b)
{
	for (unsigned i = 0; i < NX_SREGS; i++)
		if (a->seg[i].base != b->seg[i].base || a->seg[i].limit != b->seg[i].limit ||
		    a->seg[i].selector != b->seg[i].selector)
			return false;
	return true;
}

/* Called from native.c's signal handler: no library calls. */
bool state_equal(const struct sequence *seq, const struct result *a, const struct result *b)
{
	for (unsigned i = 0; i < registers_of(seq); i++)
		if (a->gpr[i] != b->gpr[i])
			return false;
	for (unsigned i = 0; i < registers_of(seq); i++)
		if (a->vectors[i][0] != b->vectors[i][0] || a->vectors[i][1] != b->vectors[i][1])
			return false;
	if (processor->whole && !segments_equal(a, b))
		return false;
	return !((a->rflags ^ b->rflags) & flags_compared(seq, a->rip));
}

static bool accesses_equal(const struct result *a, const struct result *b)
{
	if (a->accesses != b->accesses)
		return false;
	for (unsigned i = 0; i < a->accesses; i++)
		if (a->access[i].write != b->access[i].write ||
		    a->access[i].size != b->access[i].size ||
		    a->access[i].where != b->access[i].where ||
		    a->access[i].memory != b->access[i].memory ||
		    a->access[i].data != b->access[i].data)
			return false;
	return true;
}

static void print_state(const struct sequence *seq, const struct result *e, const struct result *n)
{
	for (unsigned i = 0; i < registers_of(seq); i++)
		if (e->gpr[i] != n->gpr[i])
			fprintf(stderr,
				"  %-3s  began as %016" PRIx64 ", engine %016" PRIx64
				", processor %016" PRIx64 "\n",
				gpr_name[i], seq->gpr[i], e->gpr[i], n->gpr[i]);
	for (unsigned i = 0; i < registers_of(seq); i++)
		if (e->vectors[i][0] != n->vectors[i][0] || e->vectors[i][1] != n->vectors[i][1])
			fprintf(stderr,
				"  xmm%u began as %016" PRIx64 "%016" PRIx64 ", engine %016" PRIx64
				"%016" PRIx64 ", processor %016" PRIx64 "%016" PRIx64 "\n",
				i, seq->vectors[i][1], seq->vectors[i][0], e->vectors[i][1],
				e->vectors[i][0], n->vectors[i][1], n->vectors[i][0]);
	for (unsigned i = 0; processor->whole && i < NX_SREGS; i++)
		if (e->seg[i].base != n->seg[i].base || e->seg[i].limit != n->seg[i].limit ||
		    e->seg[i].selector != n->seg[i].selector)
			fprintf(stderr,
				"  %s: engine %04x base %" PRIx64 " limit %x, processor %04x base "
				"%" PRIx64 " limit %x\n",
				sreg_name[i], e->seg[i].selector, e->seg[i].base, e->seg[i].limit,
				n->seg[i].selector, n->seg[i].base, n->seg[i].limit);
	if ((e->rflags ^ n->rflags) & flags_compared(seq, e->rip))
		fprintf(stderr,
			"  rflags began as %06" PRIx64 ", engine %06" PRIx64
			", processor %06" PRIx64 ", compared %06" PRIx64 "\n",
			seq->rflags, e->rflags, n->rflags, flags_compared(seq, e->rip));
}

static void print_accesses(const char *who, const struct result *r)
{
	for (unsigned i = 0; i < r->accesses; i++)
		fprintf(stderr, "  %s: %s %s %" PRIx64 ", %u bytes, data %" PRIx64 "\n", who,
			r->access[i].write ? "write" : "read",
			r->access[i].memory ? "memory" : "port", r->access[i].where,
			r->access[i].size, r->access[i].data);
}

static bool compare_memory(void)
{
	bool equal = true;

	for (unsigned page = 0; page < PAGES; page++) {
		const uint8_t *e = engine_page(page), *n = processor->page(page);

		if (page_use[page] == HOLE || page_use[page] == DEVICE || !memcmp(e, n, PAGE))
			continue;
		equal = false;
		for (unsigned i = 0; i < PAGE; i++)
			if (e[i] != n[i])
				fprintf(stderr,
					"  memory %" PRIx64 ": began as %02x, engine %02x, "
					"processor %02x\n",
					page_linear(page) + i, initial_page(page)[i], e[i], n[i]);
	}
	return equal;
}

bool compare(const struct sequence *seq, const struct engine_result *engine,
	     const struct processor_result *native)
{
	const struct result *e = &engine->r, *n = &native->r;
	bool equal = true;

	if (engine->broken) {
		fprintf(stderr, "  %s\n", engine->broken);
		equal = false;
	}
	if (!native->stopped) {
		fprintf(stderr,
			"  the processor does not come to where the engine left (%" PRIx64
			"): %s, vector %d at rip %" PRIx64 ", address %" PRIx64 "\n",
			e->rip, native->end, native->vector, n->rip, native->fault_address);
		equal = false;
	}
	if (!state_equal(seq, e, n)) {
		print_state(seq, e, n);
		equal = false;
	}
	if (!accesses_equal(e, n)) {
		print_accesses("engine", e);
		print_accesses("processor", n);
		equal = false;
	}
	return compare_memory() && equal;
}

void print_sequence(const struct sequence *seq)
{
	static const char *const paging[] = {"no paging", "32-bit paging", "PAE", "4 levels"};
	ZydisFormatter formatter;

	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	fprintf(stderr, "  %s, %s, CPL %d, WP %d, supervisor's pages %x, %s\n",
		mode_text[seq->mode], paging[seq->paging], seq->user ? 3 : 0, seq->write_protect,
		seq->supervisor, seq->strict ? "strict" : "not strict");
	for (unsigned i = 0; i < NX_SREGS; i++)
		fprintf(stderr, "  %s %04x base %" PRIx64 " limit %x type %x db %d\n", sreg_name[i],
			seq->seg[i].selector, seq->seg[i].base, seq->seg[i].limit, seq->seg[i].type,
			seq->seg[i].db);
	for (unsigned i = 0; i < registers_of(seq); i++)
		fprintf(stderr, "  %-3s %016" PRIx64 "%s", gpr_name[i], seq->gpr[i],
			i % 4 == 3 ? "\n" : "");
	fprintf(stderr, "  rflags %06" PRIx64 "\n", seq->rflags);
	for (unsigned i = 0; i < seq->instructions; i++) {
		const struct instruction *insn = &seq->insn[i];
		ZydisDecodedInstruction decoded;
		ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
		char text[128] = "?";

		if (decode(seq, insn, &decoded, operands))
			ZydisFormatterFormatInstruction(&formatter, &decoded, operands,
							decoded.operand_count_visible, text,
							sizeof(text), insn->rip, NULL);
		fprintf(stderr, "  %3u %8" PRIx64 " ", i, insn->rip);
		for (unsigned b = 0; b < 15; b++)
			if (b < insn->len)
				fprintf(
				    stderr, "%02x",
				    seq->code[sequence_linear(seq, insn->rip) - LOW - CODE_AT + b]);
			else
				fprintf(stderr, "  ");
		fprintf(stderr, " %s\n", text);
	}
	fprintf(stderr, "      %8" PRIx64 " end\n", seq->insn[seq->instructions].rip);
}
