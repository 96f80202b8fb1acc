/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kvm.h - what kvm.c, kvm_guest.c and quirks.c share: the virtual machine of the processor's side.
 */
#ifndef DIFF_KVM_H
#define DIFF_KVM_H

#include <linux/kvm.h>

#include "diff.h"

struct machine {
	int vm, vcpu;
	bool vmx; /* otherwise svm */
	struct kvm_run *run;
	struct kvm_sregs reset; /* as the kernel made them */
	/* Guest memory: page tables, the pages of page_use, the processor's own. */
	uint8_t (*tables)[PAGE], (*pages)[PAGE], *system;
};

/* ---- quirks.c: struct processor's lacks() and differs() ---- */

bool qemu_lacks(ZydisMnemonic mnemonic);
bool qemu_differs(const ZydisDecodedInstruction *decoded, bool relative, bool device);
bool bochs_differs(const ZydisDecodedInstruction *decoded);

/* ---- kvm_guest.c ---- */

/* Write descriptor tables, handlers that halt, and task states. */
void build_system(uint8_t *system);
/* Put the guest at rip; this takes effect at the next KVM_RUN. */
void set_guest(struct machine *machine, const struct sequence *seq, const struct result *state);
/*
 * The guest's state, at an instruction boundary of the sequence. If it has halted, by HLT in the
 * sequence or in the handler of an exception: from before that. Returns the exception's vector,
 * or -1.
 */
int read_guest(const struct machine *machine, const struct sequence *seq, struct result *r);

#endif
