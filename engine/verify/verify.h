/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* verify.h - prove that emitted code keeps the rules of context.h. */
#ifndef NX_VERIFY_H
#define NX_VERIFY_H

#include "context.h"
#include "insn/insn.h"
#include "translate/site.h"

#define NX_VERIFY_RESULTS(X)                                                          \
	X(OK, "proven")                                                               \
	X(UNDECODABLE, "not an instruction")                                          \
	X(FORBIDDEN, "an instruction that is not on the list")                        \
	X(RESERVED_REGISTER, "misuses r14 or r15, or uses the host's stack pointer")  \
	X(MEMORY, "a memory operand that is not proven")                              \
	X(CHECK, "a check sequence that is not as it must be")                        \
	X(BRANCH, "a branch that does not land on an instruction of the translation") \
	X(CALL, "a call or jump that is not to a runtime entry")                      \
	X(SITE, "a site that does not exist or does not fit")                         \
	X(ENTRY, "an entry point that is not an instruction")                         \
	X(FALLS_OFF, "control falls off the end")                                     \
	X(COUNT, "a count of turns that is not as it must be")                        \
	X(ENDLESS, "a cycle that counts no turns")                                    \
	X(TRAP, "a jump without int3 behind it")                                      \
	X(LANDING, "an entry without endbr64, or an endbr64 without entry")           \
	X(CONSTANT, "a constant that is not blinded")                                 \
	X(TOO_LARGE, "too large for the verifier")

enum nx_verify_result {
#define NX_X(name, text) NX_VERIFY_##name,
	NX_VERIFY_RESULTS(NX_X)
#undef NX_X
};

/* Scratch memory for the verifier, from the arena. What it has decoded is all zero at first, and
 * changed by the verifier only; of the rest nothing matters that an earlier run has left. */
#define NX_VERIFY_MAX_BYTES 65536
struct nx_verify_scratch {
	uint16_t map[NX_VERIFY_MAX_BYTES];  /* facts about each byte of code */
	uint16_t link[NX_VERIFY_MAX_BYTES]; /* other places in the code that belong to it */
	uint64_t state[32];                 /* struct nx_verifier */
	struct nx_decode_cache decoded;
};

/* Prove that the code obeys the rules of context.h, with branches to these thunks. *where is the
 * offset of the offending instruction. This reads the sites' kind, size and write, and the
 * entries' offset. The thunks do not lie in the code. */
enum nx_verify_result nx_verify(const uint8_t *code, uint32_t size,
				const struct nx_translation *translation,
				const struct nx_thunks *thunks, struct nx_verify_scratch *scratch,
				uint32_t *where);
/* Do the same in steps, between which the caller leaves everything that it passed unchanged.
 * DONE: proven. FAILED: the result is in *result. */
void nx_verify_begin(const uint8_t *code, uint32_t size, const struct nx_translation *translation,
		     const struct nx_thunks *thunks, struct nx_verify_scratch *scratch);
enum nx_progress nx_verify_step(struct nx_verify_scratch *scratch, enum nx_verify_result *result);

const char *nx_verify_text(enum nx_verify_result result);

#endif
