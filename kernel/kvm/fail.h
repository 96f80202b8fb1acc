/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* fail.h - fault injection: the steps that can be made to fail. X(NAME, word, description). */
#ifndef NXK_FAIL_H
#define NXK_FAIL_H

#define NXK_FAILS(X)                                                                               \
	X(NOTHING, "", "everything succeeds")                                                      \
	X(ARENA, "arena", "no memory for a vCPU's engine")                                         \
	X(CODE, "code", "no room for a vCPU's translations")                                       \
	X(CACHE, "cache", "no translation fits in the code cache")                                 \
	X(VERIFY, "verify", "the verifier refuses every translation")                              \
	X(SESSION, "session", "every session is refused")                                          \
	X(PAGE, "page", "no page of the guest can be had")                                         \
	X(KICK, "kick", "the vCPU is kicked in every session")                                     \
	X(HANDLER, "handler", "a handler of KVM's does not execute the instruction")               \
	X(PROTOCOL, "protocol",                                                                    \
	  "sessions do not tell KVM: only for a test that has to notice, never with a guest that " \
	  "matters")

enum nxk_fail {
#define NX_X(name, word, what) NXK_FAIL_##name,
	NXK_FAILS(NX_X)
#undef NX_X
};

extern enum nxk_fail nxk_fail;

static inline bool nxk_fails(enum nxk_fail step)
{
	return unlikely(READ_ONCE(nxk_fail) == step);
}

#endif
