// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * deliver.c - the engine's exits, emulated by KVM's own handlers.
 *
 * Before the handler the vCPU is as it is after a hardware exit on the same instruction. The handler
 * moves rip on through the static call that hooks.c redirects, and there the engine completes its
 * exit. A handler that does not do so has raised an exception, or asks the VMM first: the stay ends.
 */
#include "host.h"

static int call_handler(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;

	switch (v->exit.insn) {
	case NX_INSN_CPUID:
		v->stats.delivered_cpuid++;
		return kvm_emulate_cpuid(vcpu);
	default:
		WARN_ON_ONCE(1);
		return 1;
	}
}

int nxk_deliver(struct nxk_vcpu *v)
{
	int result;

	nxk_write_state(v);
	v->stats.delivered++;
	v->delivering = true;
	v->skipped = false;
	result = call_handler(v);
	if (v->skipped) {
		nxk_read_registers(v);
	} else if (result == 1) {
		v->delivering = false;
		v->stats.aborted++;
		nxk_engine_forget(v);
	}
	return result;
}
