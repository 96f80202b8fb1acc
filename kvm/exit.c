/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * exit.c - an exit of the engine's, which the VMM gets in the run page as if KVM had delivered it:
 * what KVM would handle itself, the description, the VMM's answer, and the completion.
 */
#include "host.h"

#include <string.h>

/* KVM_X86_QUIRK_OUT_7E_INC_RIP: QEMU's kvmvapic overwrites the two bytes before rip. */
#define QUIRKY_PORT 0x7e

bool nx_exit_absorb(struct nx_kvm_vcpu *vcpu)
{
	struct nx_kvm_vm *vm = vcpu->vm;
	struct nx_exit *exit = &vcpu->exit;
	bool signalled, queued;

	if (!exit->write || (!atomic_load(&vm->ioeventfds) && !atomic_load(&vm->zones)))
		return false;
	pthread_rwlock_rdlock(&vm->lock);
	signalled = nx_ioeventfd_signal(vm, exit);
	queued = !signalled && nx_ring_append(vcpu, exit);
	pthread_rwlock_unlock(&vm->lock);
	vcpu->stats->signalled += signalled;
	vcpu->stats->queued += queued;
	vcpu->stats->internal += signalled || queued;
	return signalled || queued;
}

/* ---- The run page ---- */

/*
 * Return what KVM's post_kvm_run_save() reports. With the LAPIC but not the PIC in the kernel, LVT0
 * decides whether the guest accepts an external interrupt, and we do not see it: "not ready"
 * makes the VMM ask for an interrupt window, at which the engine leaves.
 */
static bool ready_for_interrupt(const struct nx_kvm_vcpu *vcpu)
{
	if (vcpu->vm->irqchip_full)
		return true;
	return !vcpu->vm->irqchip_split && vcpu->state->rflags & NX_FL_IF;
}

static void fabricate_io(struct kvm_run *run, const struct nx_exit *exit)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = exit->write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	run->io.size = exit->size;
	run->io.port = exit->port;
	run->io.count = exit->count;
	run->io.data_offset = KVM_PIO_PAGE_OFFSET * NX_HOST_PAGE;
	if (exit->write)
		memcpy((char *)run + run->io.data_offset,
		       exit->string ? (const void *)exit->string : (const void *)&exit->data,
		       (size_t)exit->size * exit->count);
}

static void fabricate_mmio(struct kvm_run *run, const struct nx_exit *exit)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = exit->gpa;
	run->mmio.len = exit->size;
	run->mmio.is_write = exit->write;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (exit->write)
		memcpy(run->mmio.data, &exit->data, exit->size);
}

void nx_exit_fabricate(struct nx_kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	/* The VMM keeps what it has marked dirty. */
	uint64_t valid = run->kvm_valid_regs & ~run->kvm_dirty_regs;

	/* cr8 and apic_base are as the last real exit left them: the engine changes neither. */
	run->flags = 0;
	run->if_flag = !!(vcpu->state->rflags & NX_FL_IF);
	run->ready_for_interrupt_injection = ready_for_interrupt(vcpu);
	if (vcpu->exit.kind == NX_EXIT_IO)
		fabricate_io(run, &vcpu->exit);
	else
		fabricate_mmio(run, &vcpu->exit);
	if (valid & KVM_SYNC_X86_REGS)
		nx_state_export_regs(vcpu->state, &run->s.regs.regs);
	if (valid & KVM_SYNC_X86_SREGS) {
		run->s.regs.sregs = vcpu->sregs;
		nx_state_export_segments(vcpu->state, &run->s.regs.sregs);
	}
	if (valid & KVM_SYNC_X86_EVENTS)
		run->s.regs.events = vcpu->events;
}

void nx_exit_consume(struct nx_kvm_vcpu *vcpu)
{
	struct nx_exit *exit = &vcpu->exit;

	if (exit->write)
		return;
	exit->data = 0;
	if (exit->kind == NX_EXIT_IO)
		memcpy(exit->string ? (void *)exit->string : (void *)&exit->data,
		       (char *)vcpu->run + KVM_PIO_PAGE_OFFSET * NX_HOST_PAGE,
		       (size_t)exit->size * exit->count);
	else
		memcpy(&exit->data, vcpu->run->mmio.data, exit->size);
}

/* ---- Completion ---- */

bool nx_exit_complete(struct nx_kvm_vcpu *vcpu)
{
	enum nx_phase phase = nx_phase(vcpu);
	enum nx_completion completion;

	if (!nx_exit_is_open(vcpu))
		return false;
	do {
		pthread_rwlock_rdlock(&vcpu->vm->lock);
		completion = nx_engine_complete_exit(vcpu->engine, &vcpu->exit);
		pthread_rwlock_unlock(&vcpu->vm->lock);
		if (completion != NX_COMPLETION_EXIT) {
			nx_phase_set(vcpu,
				     phase == NX_PHASE_EXIT ? NX_PHASE_ENGINE : NX_PHASE_ENDING);
			return false;
		}
	} while (nx_exit_absorb(vcpu));
	return true;
}

/*
 * Return whether KVM delivers such an exit with the registers that are the guest's after it: writes
 * to device memory, OUTS, and an OUT to a port that has a quirk of its own. All else is completed
 * when the VMM has answered.
 */
static bool final_at_exit(const struct nx_kvm_vcpu *vcpu)
{
	const struct nx_exit *exit = &vcpu->exit;

	if (!exit->write)
		return false;
	return exit->kind == NX_EXIT_MMIO || exit->string ||
	       (exit->port == QUIRKY_PORT && !vcpu->vm->quirk_out_7e_off);
}

/* A VMM that looks must find the registers as KVM has them. */
void nx_exit_settle(struct nx_kvm_vcpu *vcpu)
{
	if (final_at_exit(vcpu))
		nx_exit_complete(vcpu);
}
