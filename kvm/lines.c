/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * lines.c - interrupt lines that are lowered again and again.
 *
 * A device model tells KVM its line's level whenever something about it changes, and mostly lowers
 * a line that is low: QEMU's serial port does so for each character, with a system call for each
 * interrupt controller that the line leads to. To lower a line again changes nothing, as long as
 * nobody touches the controllers in between: neither guest code that runs in the kernel nor
 * another call on the VM. Then the kernel is not asked again, and its answer of last time stands.
 * (A guest could make a line level-triggered of which an edge is still pending; the kernel's 8259
 * takes that back when the line is lowered once more. Hence the rule about guest code.)
 *
 * vm->calm has the vCPUs inside KVM_RUN in its low bits and a number above them that changes with
 * all that may touch the controllers. A line remembers what calm was before it was lowered. So what
 * overlaps a call is seen whichever is first: a call changes the number before and after.
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

	/* What the kernel refuses it shall refuse itself; and where noexit is off, it is off. */
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
	/* Only this request has a status; the other one's callers do not want to know. */
	if (!result && (uint32_t)request == KVM_IRQ_LINE_STATUS) {
		atomic_store(&line->status, level->status);
		atomic_store(&line->calm, calm);
	}
	return result;
}
