// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * mmio.c - accesses to device memory, emulated by KVM's devices in the kernel or by the VMM.
 *
 * KVM has no function that takes an address and data and routes them as its emulator does. So the
 * three steps are made here: the vCPU's LAPIC, the buses of the VM, and then the VMM through the
 * run page. Such an exit has a completion of ours, since KVM's returns to an emulator that has not
 * decoded the instruction.
 */
#include "host.h"

#include <kvm/iodev.h>

#include "field.h"

static struct kvm_io_device *lapic_of(struct kvm_vcpu *vcpu)
{
	/* The device is a member of struct kvm_lapic, not a pointer. */
	return vcpu->arch.apic ? &NXK_FIELD(vcpu->arch.apic, LAPIC_DEV, struct kvm_io_device)
			       : NULL;
}

bool nxk_has_device(struct kvm_vcpu *vcpu, enum kvm_bus number, u64 address, unsigned int size)
{
	const struct kvm_io_bus *bus = srcu_dereference(vcpu->kvm->buses[number], &vcpu->kvm->srcu);

	for (int i = 0; bus && i < bus->dev_count; i++) {
		const struct kvm_io_range *range = &bus->range[i];

		/* An eventfd may be signalled by a write of any length. */
		if (address < range->addr + max(range->len, 1) && range->addr < address + size)
			return true;
	}
	return false;
}

static bool write_in_kernel(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
	struct kvm_io_device *lapic = lapic_of(vcpu);
	u64 data = exit->data;

	if (lapic && !kvm_iodevice_write(vcpu, lapic, exit->gpa, exit->size, &data))
		return true;
	/* This bus has eventfds that a write of any length signals. */
	if (!kvm_io_bus_write(vcpu, KVM_FAST_MMIO_BUS, exit->gpa, 0, NULL))
		return true;
	return !kvm_io_bus_write(vcpu, KVM_MMIO_BUS, exit->gpa, exit->size, &data);
}

static bool read_in_kernel(struct kvm_vcpu *vcpu, struct nx_exit *exit)
{
	struct kvm_io_device *lapic = lapic_of(vcpu);
	u64 data = 0;

	if ((!lapic || kvm_iodevice_read(vcpu, lapic, exit->gpa, exit->size, &data)) &&
	    static_call(nxk_bus_read)(vcpu, KVM_MMIO_BUS, exit->gpa, exit->size, &data))
		return false;
	exit->data = data;
	return true;
}

/*
 * Complete the instruction with the current registers. Return 1 with rip past it, or the result of
 * nxk_deliver_mmio() for the write half of a read-modify-write.
 */
static int finish(struct nxk_vcpu *v)
{
	switch (nxk_engine_complete(v)) {
	case NX_COMPLETION_EXIT:
		return nxk_deliver_mmio(v);
	case NX_COMPLETION_DONE:
		nxk_write_state(v);
		v->skipped = true;
		return 1;
	default:
		WARN_ON_ONCE(1);
		return -EIO;
	}
}

/* Complete a load with the VMM's answer. If the VMM has loaded another state meanwhile, drop the
 * exit. */
static int complete_read(struct kvm_vcpu *vcpu)
{
	struct nxk_vcpu *v = nxk_vcpu_known(vcpu);
	struct nx_exit *exit;
	int result;

	if (!v || !v->answer_due)
		return 1;
	v->answer_due = false;
	exit = &v->exit;
	if (nxk_rip(vcpu) != exit->rip) {
		nxk_engine_forget(v);
		return 1;
	}
	nxk_read_registers(v);
	exit->data = 0;
	memcpy(&exit->data, vcpu->run->mmio.data, exit->size);
	result = finish(v);
	if (result == 1)
		nxk_engine_forget(v);
	return result;
}

static int complete_write(struct kvm_vcpu *vcpu)
{
	return 1;
}

static int to_vmm(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	const struct nx_exit *exit = &v->exit;
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = exit->gpa;
	run->mmio.len = exit->size;
	run->mmio.is_write = exit->write;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (exit->write) {
		memcpy(run->mmio.data, &exit->data, exit->size);
		/* KVM has advanced rip past a store before the VMM sees it. */
		if (finish(v) != 1)
			return -EIO;
		vcpu->arch.complete_userspace_io = complete_write;
	} else {
		v->answer_due = true;
		vcpu->arch.complete_userspace_io = complete_read;
	}
	++vcpu->stat.mmio_exits;
	return 0;
}

int nxk_deliver_mmio(struct nxk_vcpu *v)
{
	struct nx_exit *exit = &v->exit;

	if (exit->write ? write_in_kernel(v->vcpu, exit) : read_in_kernel(v->vcpu, exit))
		return finish(v);
	return to_vmm(v);
}
