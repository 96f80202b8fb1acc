/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * main.c - differential tests of the engine against the processor (see diff.h).
 *
 *	diff_test [--kvm] [--count=N] [--seed=S] [--keep-going]
 *
 * Runs the sequences of the seeds S, S+1, ... S+N-1, natively or through /dev/kvm; a seed means
 * another sequence to each. --seed=S --count=1 replays one; it is printed with --verbose. What is
 * compared, and what is not: diff.h.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "diff.h"

#define SKIP 77 /* Meson's word for it */
/* Sequences whose native run is single-stepped: for page-table bits and coverage. */
#define TRACE_EVERY 8
/* An engine's life in sequences, so that caches fill, but a seed alone is enough to replay. */
#define ENGINE_LIFE 512
/* In so many sequences that say their instructions, all rows of the table occur, the rare ones
 * too. */
#define ENOUGH (processor->whole ? 8000u : 2000u)
/* Out of 100 sequences, strict or not, so many must run to their end in the engine. */
#define SHARE_TO_END 60

struct options {
	uint64_t seed, count;
	bool keep_going, verbose, kvm;
};

struct totals {
	uint64_t sequences, strict, to_end, mismatches, accesses, traced, changed, lost;
	uint64_t by_mode[MODE_COUNT], end_by_mode[MODE_COUNT];
	uint64_t reasons[NX_LEAVE_REASON_COUNT];
	uint64_t rows[512];
	uint64_t refused;
};

static struct engine *engines[2];

static void count_rows(const struct sequence *seq, const struct processor_result *native,
		       struct totals *totals)
{
	for (unsigned i = 0; i + 1 < native->steps; i++) {
		const struct instruction *insn = instruction_at(seq, native->step[i].rip);

		if (insn)
			totals->rows[insn->row]++;
	}
}

/*
 * Sequences with PUSHF are never traced, those of a whole processor neither: then what is in one
 * that ran to its end counts, although branches may have led around it.
 */
static void count_untraced(const struct sequence *seq, const struct engine_result *engine,
			   struct totals *totals)
{
	if (engine->r.rip != seq->insn[seq->instructions].rip)
		return;
	for (unsigned i = 0; i < seq->instructions; i++)
		totals->rows[seq->insn[i].row] +=
		    processor->whole || table[seq->insn[i].row].form == FORM_PUSHF;
	totals->traced += processor->whole;
}

/* Where the engine says that an instruction would fault, the processor has to agree. */
static bool faults_natively(const struct sequence *seq, const struct engine_result *engine)
{
	static struct processor_result native;
	struct result never = engine->r;
	const struct instruction *insn = instruction_at(seq, engine->r.rip);

	never.rip = insn->rip + insn->len;
	never.accesses = MAX_ACCESSES;
	processor->run(seq, &never, false, &native);
	return !native.stopped && native.r.rip == insn->rip && native.vector == 0;
}

static bool moves_vector_memory(const struct instruction *insn)
{
	switch (table[insn->row].form) {
	case FORM_V_M:
	case FORM_M_V:
	case FORM_V_M_IMM:
		return true;
	default:
		return false;
	}
}

/* Return whether the engine says that the instruction faults, as this processor knows faults. */
static bool claims_fault(const struct sequence *seq, const struct engine_result *engine)
{
	switch (engine->reason) {
	case NX_LEAVE_FAULT:
		return processor->has_alignment() ||
		       !moves_vector_memory(instruction_at(seq, engine->r.rip));
	case NX_LEAVE_PAGE_FAULT:
		return true;
	case NX_LEAVE_SEGMENT:
		return processor->has_limits();
	default:
		return false;
	}
}

/*
 * One instruction further than where both are in the same state: where the engine said that it
 * faults the processor does so, and the page tables have not been marked for anything else.
 */
static bool check_beyond(const struct sequence *seq, const struct engine_result *engine,
			 struct processor_result *result)
{
	bool end = engine->r.rip == seq->insn[seq->instructions].rip;
	enum beyond beyond = end ? BEYOND_UNKNOWN : processor->beyond(seq, result);

	if (claims_fault(seq, engine) && beyond == BEYOND_RUNS) {
		fprintf(stderr, "  the instruction runs, but the engine says: %s\n",
			nx_leave_reason_text(engine->reason));
		return false;
	}
	return compare_tables(seq, engine->r.rip, beyond);
}

/* In a strict sequence the engine has no reason to leave before the end. */
static bool check_strict(const struct sequence *seq, const struct engine_result *engine)
{
	if (!seq->strict || engine->r.rip == seq->insn[seq->instructions].rip)
		return true;
	if (engine->reason == NX_LEAVE_FAULT &&
	    table[instruction_at(seq, engine->r.rip)->row].form == FORM_DIVIDE &&
	    (processor->whole /* check_beyond() has seen to it */ || faults_natively(seq, engine)))
		return true;
	fprintf(stderr,
		"  left at %" PRIx64 " before the end, although nothing stands in the way: %s\n",
		engine->r.rip, nx_leave_reason_text(engine->reason));
	return false;
}

static struct engine *engine_for(const struct sequence *seq, uint64_t number)
{
	if (number % ENGINE_LIFE == 0 || !engines[0])
		for (unsigned i = 0; i < 2; i++) {
			engine_free(engines[i]);
			engines[i] = engine_new(i);
		}
	return engines[seq->roomy];
}

static bool run_one(uint64_t seed, uint64_t number, unsigned modes, const struct options *options,
		    struct totals *totals)
{
	static struct sequence seq;
	static struct engine_result engine;
	static struct processor_result native;
	bool traced, good;

	generate(&seq, seed, modes);
	traced = !processor->whole && number % TRACE_EVERY == 0 && !seq.pushes_flags;
	if (options->verbose)
		print_sequence(&seq);
	engine_run(engine_for(&seq, number), &seq, &engine);
	if (engine.lost) {
		totals->changed++;
		good = true;
	} else if (!instruction_at(&seq, engine.r.rip)) {
		fprintf(stderr, "  left at %" PRIx64 ", which is no instruction's boundary\n",
			engine.r.rip);
		good = false;
	} else {
		processor->run(&seq, &engine.r, traced, &native);
		totals->lost += native.lost;
		good = native.lost || compare(&seq, &engine, &native);
		if (good && processor->whole)
			good = check_beyond(&seq, &engine, &native);
		else if (good && traced && !native.lost)
			good = compare_page_bits(&seq, &native);
		good = check_strict(&seq, &engine) && good;
		if (traced)
			count_rows(&seq, &native, totals);
	}
	count_untraced(&seq, &engine, totals);
	totals->sequences++;
	totals->traced += traced;
	totals->strict += seq.strict;
	totals->to_end += engine.r.rip == seq.insn[seq.instructions].rip;
	totals->by_mode[seq.mode]++;
	totals->end_by_mode[seq.mode] += engine.r.rip == seq.insn[seq.instructions].rip;
	totals->accesses += engine.r.accesses;
	totals->reasons[engine.reason]++;
	if (good)
		return true;
	totals->mismatches++;
	fprintf(stderr, "seed %" PRIu64 " (%s; the engine left at %" PRIx64 ": %s)\n", seed,
		mode_text[seq.mode], engine.r.rip, nx_leave_reason_text(engine.reason));
	if (!options->verbose)
		print_sequence(&seq);
	return false;
}

static void print_totals(const struct totals *totals, double seconds)
{
	printf("%" PRIu64 " sequences in %.1f s (%.0f/s), %" PRIu64 " device accesses, %" PRIu64
	       " mismatches; %" PRIu64 " strict, %" PRIu64 " to their end, %" PRIu64
	       " not compared inside code that they changed\n",
	       totals->sequences, seconds, (double)totals->sequences / seconds, totals->accesses,
	       totals->mismatches, totals->strict, totals->to_end, totals->changed);
	if (totals->lost)
		printf("  %" PRIu64 " not compared since the kernel does not return to a stack "
		       "pointer that is no address\n",
		       totals->lost);
	for (unsigned i = 0; i < MODE_COUNT; i++)
		printf("  %-28s %8" PRIu64 ", to the end %8" PRIu64 "\n", mode_text[i],
		       totals->by_mode[i], totals->end_by_mode[i]);
	for (unsigned i = 0; i < NX_LEAVE_REASON_COUNT; i++)
		if (totals->reasons[i])
			printf("  left: %-22s %8" PRIu64 "\n", nx_leave_reason_name(i),
			       totals->reasons[i]);
}

static bool usable(unsigned row, unsigned modes)
{
	const struct sequence real = {.mode = MODE_REAL16, .bits = 16};
	const struct sequence long64 = {.mode = MODE_LONG64, .bits = 64};

	return (modes & 1u << MODE_REAL16 && row_usable(&table[row], &real)) ||
	       (modes & 1u << MODE_LONG64 && row_usable(&table[row], &long64));
}

/* A tester that runs little of what it made would find nothing and be content. */
static bool enough(const struct totals *totals, unsigned modes)
{
	bool good = true;

	if (totals->to_end * 100 < totals->sequences * SHARE_TO_END) {
		fprintf(stderr, "only %" PRIu64 " of %" PRIu64 " sequences ran to their end\n",
			totals->to_end, totals->sequences);
		good = false;
	}
	if (totals->traced < ENOUGH)
		return good;
	for (unsigned i = 0; i < table_rows; i++) {
		if (totals->rows[i] || table[i].form == FORM_FOREIGN || !usable(i, modes))
			continue;
		fprintf(stderr, "never ran: %s, form %d (row %u)\n",
			ZydisMnemonicGetString(table[i].mnemonic), table[i].form, i);
		good = false;
	}
	return good;
}

static void parse(int argc, char **argv, struct options *options)
{
	for (int i = 1; i < argc; i++) {
		if (!strncmp(argv[i], "--count=", 8))
			options->count = strtoull(argv[i] + 8, NULL, 0);
		else if (!strncmp(argv[i], "--seed=", 7))
			options->seed = strtoull(argv[i] + 7, NULL, 0);
		else if (!strcmp(argv[i], "--kvm"))
			options->kvm = true;
		else if (!strcmp(argv[i], "--keep-going"))
			options->keep_going = true;
		else if (!strcmp(argv[i], "--verbose"))
			options->verbose = true;
		else {
			fprintf(stderr,
				"usage: %s [--kvm] [--count=N] [--seed=S] [--keep-going] "
				"[--verbose]\n",
				argv[0]);
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	struct options options = {.seed = 1, .count = 20000};
	static struct totals totals;
	struct timespec begin, end;
	unsigned modes;

	parse(argc, argv, &options);
	if (options.kvm)
		processor = &kvm_processor;
	modes = processor->init();
	if (processor->missing())
		printf("%s: %s\n", modes ? "some modes are skipped" : "skipped",
		       processor->missing());
	if (!modes)
		return SKIP;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (uint64_t i = 0; i < options.count; i++)
		if (!run_one(options.seed + i, i, modes, &options, &totals) && !options.keep_going)
			break;
	clock_gettime(CLOCK_MONOTONIC, &end);
	print_totals(&totals, (double)(end.tv_sec - begin.tv_sec) +
				  (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	if (totals.mismatches)
		return 1;
	return options.count > 100 && !enough(&totals, modes) ? 1 : 0;
}
