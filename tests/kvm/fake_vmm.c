/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* fake_vmm.c - a VMM that answers every access and writes down what it saw. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fake.h"

void fake_begin(const struct model_insn *program, unsigned insns, unsigned turns, bool on)
{
	nx_options_default(&nx_options);
	nx_options.off = !on;
	fake_engine = (struct fake_engine){0};
	fake_start(program, insns, (struct fake_style){false, false});
	fake.regs.rdx = turns;
}

int vmm_ioctl(unsigned long request, void *argument)
{
	return nx_kvm_ioctl(FAKE_VCPU_FD, request, argument);
}

/* The answers of devices depend on the order of the inputs, so that a lost one is noticed. */
static uint64_t answer(struct vmm *vmm, uint64_t address)
{
	return (++vmm->inputs * 0x9e3779b97f4a7c15ull) ^ address;
}

static void answer_io(struct vmm *vmm, struct access *access)
{
	char *data = (char *)fake.run + fake.run->io.data_offset;

	access->write = fake.run->io.direction == KVM_EXIT_IO_OUT;
	access->size = (uint8_t)(fake.run->io.size * fake.run->io.count);
	access->address = fake.run->io.port;
	if (!access->write) {
		uint64_t value = answer(vmm, access->address);

		memcpy(data, &value, access->size);
	}
	memcpy(&access->data, data, access->size);
}

static void answer_mmio(struct vmm *vmm, struct access *access)
{
	access->write = fake.run->mmio.is_write;
	access->size = (uint8_t)fake.run->mmio.len;
	access->address = fake.run->mmio.phys_addr;
	if (!access->write) {
		uint64_t value = answer(vmm, access->address);

		memcpy(fake.run->mmio.data, &value, access->size);
	}
	memcpy(&access->data, fake.run->mmio.data, access->size);
}

int vmm_step(struct vmm *vmm)
{
	struct access *access;
	struct kvm_sregs sregs;
	int result;

	if (vmm->syncs)
		fake.run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	result = vmm_ioctl(KVM_RUN, NULL);
	if (result) {
		vmm->eintr += errno == EINTR;
		return result;
	}
	if (fake.run->exit_reason == KVM_EXIT_IRQ_WINDOW_OPEN) {
		if (vmm->at_window)
			vmm->at_window(vmm);
		else
			fake.run->request_interrupt_window = 0;
		return 0;
	}
	if (vmm->drain_every && ++vmm->exits_seen % vmm->drain_every == 0)
		vmm_drain(vmm);
	access = &vmm->access[vmm->accesses];
	memset(access, 0, sizeof(*access));
	access->reason = (uint8_t)fake.run->exit_reason;
	if (vmm->looks) {
		vmm_ioctl(KVM_GET_REGS, &access->regs);
		vmm_ioctl(KVM_GET_SREGS, &sregs);
		access->es = sregs.es;
	} else if (vmm->syncs) {
		access->regs = fake.run->s.regs.regs;
		access->es = fake.run->s.regs.sregs.es;
	}
	if (access->reason == KVM_EXIT_HLT)
		return 0;
	if (vmm->at_exit)
		vmm->at_exit(vmm, vmm->accesses);
	if (access->reason == KVM_EXIT_X86_RDMSR)
		access->data = fake.run->msr.data = answer(vmm, fake.run->msr.index);
	else if (access->reason == KVM_EXIT_IO)
		answer_io(vmm, access);
	else
		answer_mmio(vmm, access);
	vmm->accesses++;
	return 0;
}

bool vmm_run(struct vmm *vmm)
{
	struct kvm_sregs sregs;

	while (vmm->accesses < MAX_ACCESSES) {
		if (vmm_step(vmm)) {
			if (errno != EINTR) {
				printf("KVM_RUN failed: %s\n", strerror(errno));
				return false;
			}
			fake.run->immediate_exit = 0;
			continue;
		}
		if (fake.run->exit_reason == KVM_EXIT_HLT) {
			vmm_ioctl(KVM_GET_REGS, &vmm->end);
			vmm_ioctl(KVM_GET_SREGS, &sregs);
			vmm->end_es = sregs.es;
			return true;
		}
	}
	printf("the guest does not come to an end\n");
	return false;
}

static bool same_access(const struct access *a, const struct access *b)
{
	return a->reason == b->reason && a->write == b->write && a->size == b->size &&
	       a->address == b->address && a->data == b->data &&
	       memcmp(&a->regs, &b->regs, sizeof(a->regs)) == 0 &&
	       memcmp(&a->es, &b->es, sizeof(a->es)) == 0;
}

bool vmm_equal(const struct vmm *a, const struct vmm *b)
{
	for (unsigned i = 0; i < a->accesses && i < b->accesses; i++) {
		if (!same_access(&a->access[i], &b->access[i])) {
			printf("access %u differs: %#lx %d %#lx at rip %#lx, %#lx %d %#lx at "
			       "rip %#lx\n",
			       i, (long)a->access[i].address, a->access[i].write,
			       (long)a->access[i].data, (long)a->access[i].regs.rip,
			       (long)b->access[i].address, b->access[i].write,
			       (long)b->access[i].data, (long)b->access[i].regs.rip);
			return false;
		}
	}
	if (a->accesses != b->accesses) {
		printf("%u accesses and %u\n", a->accesses, b->accesses);
		return false;
	}
	if (memcmp(&a->end, &b->end, sizeof(a->end)) != 0 ||
	    memcmp(&a->end_es, &b->end_es, sizeof(a->end_es)) != 0) {
		printf("registers differ at the end\n");
		return false;
	}
	return true;
}
