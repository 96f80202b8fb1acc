// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vector.c - the guest's registers XMM0 to XMM15, for the engine.
 *
 * From the beginning of KVM_RUN to its end the thread's registers of this kind are the guest's:
 * KVM has swapped them in (fpu_swap_kvm_fpstate()). They are in the processor, unless the thread
 * was preempted or something else in the kernel has used the registers since; then they are in the
 * guest's buffer, and TIF_NEED_FPU_LOAD is set until they are loaded again, which KVM does before
 * it enters the guest, and for its own emulator, as it is done here. With interrupts off, as in a
 * session, nothing can take them away between that and the move.
 *
 * Whether the guest may use them, by its CR0 and CR4, is the engine's business. Its XCR0 does not
 * matter to instructions with legacy encodings, and these leave upper halves alone.
 */
#include "host.h"

#include <asm/fpu/api.h>

static bool load_registers(struct kvm_vcpu *vcpu)
{
	const struct fpstate *fpstate = vcpu->arch.guest_fpu.fpstate;

	if (!irqs_disabled() || !fpstate || !fpstate->in_use)
		return false;
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
	return true;
}

#define EACH_REGISTER(X) \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

/* Only the aligned moves are promised to be one access. */
#define MOVE(n, operands, memory)                                                    \
	case n:                                                                      \
		if (IS_ALIGNED((unsigned long)(memory), 16))                         \
			asm volatile("movaps " operands : : "r"(memory) : "memory"); \
		else                                                                 \
			asm volatile("movups " operands : : "r"(memory) : "memory"); \
		return true;
#define STORE(n) MOVE(n, "%%xmm" #n ", (%0)", to)
#define LOAD(n) MOVE(n, "(%0), %%xmm" #n, from)

bool nxk_read_vector(void *data, unsigned int number, void *to)
{
	const struct nxk_vcpu *v = data;

	if (!load_registers(v->vcpu))
		return false;
	switch (number) {
		EACH_REGISTER(STORE)
	default:
		return false;
	}
}

bool nxk_write_vector(void *data, unsigned int number, const void *from)
{
	const struct nxk_vcpu *v = data;

	if (!load_registers(v->vcpu))
		return false;
	switch (number) {
		EACH_REGISTER(LOAD)
	default:
		return false;
	}
}
