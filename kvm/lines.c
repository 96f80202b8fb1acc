/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * lines.c - skip the system call for an interrupt line that is lowered while it is low.
 *
 * A device model reports its line's level whenever its state changes, and most reports lower a line
 * that is low: QEMU's serial port does so for each character, with a system call for each interrupt
 * controller that the line leads to. Lowering a low line changes nothing as long as nothing has
 * touched the interrupt controllers in between, neither guest code in the kernel nor another call
 * on the VM. The kernel's last answer is then returned again.
 * (A guest could make a line level-triggered while an edge is pending on it; the kernel's 8259
 * drops that edge when the line is lowered once more. That is why guest code counts.)
 *
 * The low bits of vm->calm count the vCPUs inside KVM_RUN; the upper bits are a generation that is
 * bumped before and after every call that may touch the interrupt controllers (a seqcount). A line
 * may be skipped only if the generation in which it was lowered is still current and no vCPU is in
 * the kernel.
 */
#include "host.h"

#define INSIDE 0xffffull
#define CHANGE 0x10000ull

NX_HOT void nx_lines_enter(struct nx_kvm_vm *vm)
{
	atomic_fetch_add(&vm->calm, CHANGE + 1);
}

NX_HOT void nx_lines_leave(struct nx_kvm_vm *vm)
{
	atomic_fetch_sub(&vm->calm, 1);
}

void nx_lines_touch(struct nx_kvm_vm *vm)
{
	atomic_fetch_add(&vm->calm, CHANGE);
}

static bool is_low(const struct nx_kvm_vm *vm, const struct nx_line *line)
{
	uint64_t calm = atomic_load(&vm->calm);

	return calm && !(calm & INSIDE) && atomic_load(&line->calm) == calm;
}

int nx_lines_set(struct nx_kvm_vm *vm, int fd, unsigned long request, struct kvm_irq_level *level)
{
	struct nx_line *line;
	uint64_t calm;
	int result;

	/* The kernel itself refuses bad arguments; with noexit off, every call goes to it. */
	if (!level || level->level || level->irq >= NX_LINES || nx_options.off ||
	    atomic_load(&vm->off)) {
		nx_lines_touch(vm);
		result = nx_real.ioctl(fd, request, level);
		nx_lines_touch(vm);
		return result;
	}
	line = &vm->line[level->irq];
	if (is_low(vm, line)) {
		if ((uint32_t)request == KVM_IRQ_LINE_STATUS)
			level->status = atomic_load(&line->status);
		return 0;
	}
	calm = atomic_load(&vm->calm);
	result = nx_real.ioctl(fd, request, level);
	/* Only this request returns a status that a later call could need. */
	if (!result && (uint32_t)request == KVM_IRQ_LINE_STATUS) {
		atomic_store(&line->status, level->status);
		atomic_store(&line->calm, calm);
	}
	return result;
}
