// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * engine.c - fuzz target: arbitrary guest code through decoding, formation, translation,
 * verification and execution.
 *
 * Input: 8 bytes of machine (machine_new()), a byte for each general register, 8 bytes of script,
 * then the guest's code, which is entered at its first byte as after an exit that the hardware
 * delivered. The script says what the host does at each exit. Executing is safe, since nothing runs
 * that the verifier has not accepted; should that be wrong, pages that fault lie around everything.
 */
#include "machine.h"

#include "verify_oracle.h"

#include "engine.h"

#define MAX_EXITS 64 /* in one stay */
#define FLAGS_CHANGING (NX_FL_ARITHMETIC | NX_FL_DF)

enum {
	ACT_ANSWER, /* and everything below 4 */
	ACT_CHANGE_CODE = 4,
	ACT_COMPLETE,
	ACT_STOP,
	ACT_FORGET,
};

static void check_unchanged(const struct machine *m, const struct nx_state *before)
{
	const struct nx_state *s = nx_engine_state(m->engine);
	struct nx_state rest = *s;
	uint64_t may_change = FLAGS_CHANGING;

	if (before->rflags & NX_FL_IF)
		may_change |= NX_FL_IF; /* CLI */
	FUZZ_CHECK(!((s->rflags ^ before->rflags) & ~may_change), "rflags %#llx after %#llx",
		   (unsigned long long)s->rflags, (unsigned long long)before->rflags);
	for (unsigned i = 0; i < NX_GPRS; i++)
		if (m->mode != LONG64)
			FUZZ_CHECK(i < 8 ? s->gpr[i] <= UINT32_MAX : s->gpr[i] == before->gpr[i],
				   "register %u is %#llx outside 64-bit mode", i,
				   (unsigned long long)s->gpr[i]);
	memcpy(rest.gpr, before->gpr, sizeof(rest.gpr));
	rest.rip = before->rip;
	rest.rflags = before->rflags;
	if (m->mode == REAL16 && m->engine->config.segment_loads) {
		memcpy(rest.seg, before->seg, sizeof(rest.seg));
		rest.segments_changed = before->segments_changed;
	}
	FUZZ_CHECK(fuzz_same(&rest, before, sizeof(rest)), "state that is the host's has changed");
}

/* Return whether this is one of the instructions that the engine delivers as such. */
static bool is_insn_exit(unsigned insn)
{
	switch (insn) {
#define NX_X(name, bit, class) case NX_INSN_##name:
		NX_INSN_EXITS(NX_X)
#undef NX_X
		return true;
	default:
		return false;
	}
}

static void check_exit(const struct machine *m, const struct nx_exit *exit)
{
	const unsigned size = exit->size;

	FUZZ_CHECK(exit->rip == nx_engine_state(m->engine)->rip, "an exit elsewhere than at rip");
	if (exit->kind == NX_EXIT_INSN) {
		FUZZ_CHECK(is_insn_exit(exit->insn), "instruction exit %d", (int)exit->insn);
		FUZZ_CHECK(m->cpl == 0, "an instruction exit at CPL 3");
		return;
	}
	FUZZ_CHECK(exit->kind == NX_EXIT_IO || exit->kind == NX_EXIT_MMIO, "exit of kind %d",
		   (int)exit->kind);
	FUZZ_CHECK(size == 1 || size == 2 || size == 4 || (size == 8 && exit->kind == NX_EXIT_MMIO),
		   "an exit of %u bytes", size);
	if (exit->kind == NX_EXIT_IO && exit->string) {
		FUZZ_CHECK(exit->count && exit->count * size <= NX_STRING_BYTES,
			   "a string exit of %u elements", exit->count);
		return;
	}
	FUZZ_CHECK(exit->count == 1 && !exit->string, "%u elements without a string", exit->count);
	FUZZ_CHECK(size == 8 || exit->data >> 8 * size == 0, "data beyond the exit's size");
	if (exit->kind == NX_EXIT_MMIO)
		FUZZ_CHECK(exit->gpa / 4096 == (exit->gpa + size - 1) / 4096,
			   "a device access that crosses a page");
}

/* Input and, for string input, every byte of it; rubbish above the size and after output. */
static void answer(struct machine *m, struct nx_exit *exit)
{
	exit->data = machine_random(&m->device);
	if (exit->kind == NX_EXIT_IO && exit->string && !exit->write)
		for (unsigned i = 0; i < exit->count * exit->size; i++)
			exit->string[i] = (uint8_t)machine_random(&m->device);
	/* A polling loop should find its bit now and then, and registers small numbers. */
	if (exit->data & 1ull << 40)
		exit->data &= 0xff;
}

/* A leave has a reason, and none that says that the engine is at odds with itself. */
static void check_leave(const struct machine *m, const struct nx_exit *exit)
{
	FUZZ_CHECK(exit->reason < NX_LEAVE_REASON_COUNT, "reason %d", (int)exit->reason);
	FUZZ_CHECK(!nx_engine_counters(m->engine)->refused && exit->reason != NX_LEAVE_REFUSED,
		   "the verifier refuses what the translator made");
	FUZZ_CHECK(m->mode == LONG64 || nx_engine_state(m->engine)->rip <= UINT32_MAX,
		   "rip is %#llx", (unsigned long long)nx_engine_state(m->engine)->rip);
}

/* Do what the script has for this exit. Return false if the stay ends with it. */
static bool act(struct machine *m, struct nx_exit *exit, uint8_t action)
{
	switch (action & 7) {
	case ACT_CHANGE_CODE:
		m->ram[m->code + (action >> 3)] ^= 0x11;
		return true;
	case ACT_COMPLETE:
		while (nx_engine_complete_exit(m->engine, exit) == NX_COMPLETION_EXIT) {
			check_exit(m, exit);
			answer(m, exit);
		}
		FUZZ_CHECK(nx_engine_complete_exit(m->engine, exit) == NX_COMPLETION_NONE,
			   "an exit is pending after its completion");
		return action < 128;
	case ACT_STOP:
		*nx_engine_stop_flag(m->engine) = 1;
		return true;
	case ACT_FORGET:
		nx_engine_forget_exit(m->engine);
		return false;
	default:
		return true;
	}
}

/* From the vCPU's state to the next leave. */
static void stay(struct machine *m, unsigned *turn)
{
	/* Nothing of an earlier stay's exit may be read. */
	struct nx_exit exit = {.data = 0xdeadbeefdeadbeef, .size = 0xff};
	struct nx_state before = *nx_engine_state(m->engine);
	unsigned stopped = 0;

	*nx_engine_stop_flag(m->engine) = 0;
	for (unsigned exits = 0;; exits++) {
		enum nx_outcome outcome = nx_engine_resume(m->engine, &exit);

		check_unchanged(m, &before);
		if (outcome == NX_LEAVE)
			break;
		check_exit(m, &exit);
		answer(m, &exit);
		/* The write half of a read-modify-write may follow, no more. */
		if (*nx_engine_stop_flag(m->engine))
			FUZZ_CHECK(++stopped <= 1, "the stop flag is not honoured");
		else if (exits >= MAX_EXITS)
			*nx_engine_stop_flag(m->engine) = 1;
		else if (!act(m, &exit, m->script[(*turn)++ % MACHINE_SCRIPT])) {
			nx_engine_forget_exit(m->engine);
			return;
		}
	}
	check_leave(m, &exit);
}

static void resume_hot(struct machine *m, unsigned *turn)
{
	struct nx_state *s = nx_engine_state(m->engine);

	/* The third exit at a place is translated; barren ones are passed over for a while. */
	for (unsigned i = 0; i < 3; i++)
		if (nx_engine_worth_resuming(m->engine, s->rip, i & 1 ? NX_CLASS_MMIO : NX_CLASS_IO,
					     0, m->time))
			break;
	stay(m, turn);
}

/* The verifier has accepted it; the other judge, which knows nothing of the verifier, must, too. */
static void judge(const struct machine *m)
{
	static struct nx_translation t;
	const struct nx_cache *cache = &m->engine->cache;

	for (uint32_t i = 0; i < cache->clusters; i++) {
		const struct nx_cluster *c = &cache->cluster[i];
		struct nx_thunks thunks = m->engine->thunks;
		const char *wrong;
		uint32_t where = 0;

		thunks.code = (uintptr_t)m->engine->memory.code_rx + c->code;
		t.size = c->code_size;
		t.sites = c->sites;
		t.entries = c->entries;
		memcpy(t.site, c->site, c->sites * sizeof(t.site[0]));
		memcpy(t.entry, c->entry, c->entries * sizeof(t.entry[0]));
		wrong = verify_oracle((const uint8_t *)m->engine->memory.code_rw + c->code, t.size,
				      &t, &thunks, &where);
		FUZZ_CHECK(!wrong, "a translation that was accepted: %s at %u", wrong, where);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct machine *m = machine_new(&input);
	struct nx_state *s = nx_engine_state(m->engine);
	unsigned turn = 0;

	*s = m->start;
	resume_hot(m, &turn);
	/* On from where it left: another cluster's beginning, in a state that code made. */
	resume_hot(m, &turn);
	*s = m->start;
	resume_hot(m, &turn);
	/* The slots change while the guest runs. */
	machine_set_page(m, MACHINE_DATA / 4096, m->script[0] % PAGE_KINDS);
	*s = m->start;
	resume_hot(m, &turn);
	judge(m);
	return 0;
}
