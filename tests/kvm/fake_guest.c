/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* fake_guest.c - what the fake kernel and its processor do with the guest's instructions. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fake.h"

/* ---- Exits ---- */

static char *io_data(void)
{
	return (char *)fake.run + KVM_PIO_PAGE_OFFSET * 4096;
}

static void exit_io(bool write, uint16_t port, uint32_t data)
{
	fake.run->exit_reason = KVM_EXIT_IO;
	fake.run->io.direction = write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	fake.run->io.size = 4;
	fake.run->io.port = port;
	fake.run->io.count = 1;
	fake.run->io.data_offset = KVM_PIO_PAGE_OFFSET * 4096;
	if (write)
		memcpy(io_data(), &data, 4);
}

static void exit_mmio(bool write, uint64_t gpa, uint64_t data)
{
	fake.run->exit_reason = KVM_EXIT_MMIO;
	fake.run->mmio.phys_addr = gpa;
	fake.run->mmio.len = 8;
	fake.run->mmio.is_write = write;
	memset(fake.run->mmio.data, 0, 8);
	if (write)
		memcpy(fake.run->mmio.data, &data, 8);
}

static void pend(enum fake_pending pending)
{
	fake.pending = pending;
	fake.pending_rip = fake.regs.rip;
	fake.pending_linear = fake.regs.rip + fake.sregs.cs.base;
}

static const struct model_insn *insn_at(uint64_t rip)
{
	uint64_t index = (rip - MODEL_BASE) / MODEL_LEN;

	assert(rip >= MODEL_BASE && index < fake.insns);
	return &fake.program[index];
}

/* kernel_pio() and vcpu_mmio_write(): a device of the kernel's own takes the write. */
static bool absorbs(bool pio, uint64_t address, unsigned size, uint64_t value)
{
	static const uint64_t one = 1;

	for (unsigned i = 0; i < FAKE_IOEVENTFDS; i++) {
		const struct kvm_ioeventfd *event = &fake.ioeventfd[i];

		if (event->fd && event->addr == address &&
		    !!(event->flags & KVM_IOEVENTFD_FLAG_PIO) == pio &&
		    !(event->flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY) &&
		    (!event->len ||
		     (event->len == size && (!(event->flags & KVM_IOEVENTFD_FLAG_DATAMATCH) ||
					     event->datamatch == value))))
			return write(event->fd, &one, sizeof(one)) == sizeof(one);
	}
	return fake_ring_takes(pio, address, size, value);
}

int fake_ioeventfd_set(const struct kvm_ioeventfd *args)
{
	bool deassign = args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;

	for (unsigned i = 0; i < FAKE_IOEVENTFDS; i++) {
		struct kvm_ioeventfd *event = &fake.ioeventfd[i];

		if (!deassign && !event->fd) {
			*event = *args;
			event->fd = dup(args->fd);
			return 0;
		}
		if (deassign && event->fd && event->addr == args->addr && event->len == args->len &&
		    event->datamatch == args->datamatch &&
		    event->flags == (args->flags & ~KVM_IOEVENTFD_FLAG_DEASSIGN)) {
			close(event->fd);
			*event = (struct kvm_ioeventfd){0};
			return 0;
		}
	}
	errno = ENOENT;
	return -1;
}

/* ---- A string instruction, as x86_emulate_instruction() goes through it ---- */

#define ELEMENT 8u
#define ELEMENTS 0x400u /* KVM goes back to the guest where rcx is a multiple of it */

static bool read_element(enum fake_pending next)
{
	bool half = fake.splits_reads;

	pend(next);
	exit_mmio(false, fake.emulated.rsi + (half && next == PENDING_ELEMENT ? ELEMENT / 2 : 0),
		  0);
	if (half)
		fake.run->mmio.len = ELEMENT / 2;
	return true;
}

/* An element has been read: write it and go on to the next one. Return whether that exits. */
static bool finish_element(void)
{
	uint64_t data;
	bool absorbed;

	memcpy(&data, fake.run->mmio.data, ELEMENT);
	if (fake.regs_set && !fake.keeps_emulated)
		fake.emulated = fake.regs;
	if (++fake.elements == fake.faulty_element) {
		fake.events.exception.pending = 1;
		fake.events.exception.nr = 14;
		return false;
	}
	absorbed = absorbs(false, fake.emulated.rdi, ELEMENT, data);
	if (!absorbed)
		exit_mmio(true, fake.emulated.rdi, data);
	fake.emulated.rsi += ELEMENT;
	fake.emulated.rdi += ELEMENT;
	fake.emulated.rcx--;
	fake.regs = fake.emulated;
	if (!absorbed)
		return true;
	if (!fake.emulated.rcx || (!(fake.emulated.rcx % ELEMENTS) && !fake.never_stops))
		return false;
	fake.regs_set = false;
	return read_element(fake.splits_reads ? PENDING_HALF : PENDING_ELEMENT);
}

/* Execute an access to a port or device memory, as execute() does; next is the rip behind it. */
static bool access_port(const struct model_insn *insn, uint64_t next)
{
	struct kvm_regs *regs = &fake.regs;

	switch (insn->op) {
	case M_IN:
		pend(fake.style.emulated_in ? PENDING_READ_AGAIN : PENDING_FAST_IN);
		exit_io(false, (uint16_t)insn->operand, 0);
		return true;
	case M_OUT:
		if (absorbs(true, insn->operand, 4, (uint32_t)regs->rax))
			break;
		exit_io(true, (uint16_t)insn->operand, (uint32_t)regs->rax);
		/* kvm_fast_pio_out() */
		if (fake.style.emulated_out || (insn->operand == 0x7e && !fake.quirk_off))
			regs->rip = next;
		else
			pend(PENDING_FAST_OUT);
		return true;
	case M_OUTS:
		if (absorbs(true, insn->operand, 4, (uint32_t)regs->rax)) {
			regs->rsi += 4;
			break;
		}
		exit_io(true, (uint16_t)insn->operand, (uint32_t)regs->rax);
		regs->rsi += 4;
		regs->rip = next;
		return true;
	default:
		break;
	}
	regs->rip = next;
	return false;
}

static bool access_memory(const struct model_insn *insn, uint64_t next)
{
	struct kvm_regs *regs = &fake.regs;

	switch (insn->op) {
	case M_LOAD:
		pend(PENDING_READ_AGAIN);
		exit_mmio(false, insn->operand, 0);
		return true;
	case M_STORE:
		if (absorbs(false, insn->operand, 8, regs->rcx))
			break;
		exit_mmio(true, insn->operand, regs->rcx);
		regs->rip = next;
		return true;
	case M_SPLIT:
		pend(PENDING_FRAGMENT);
		exit_mmio(true, insn->operand, regs->rcx);
		regs->rip = next;
		return true;
	case M_RMW:
		pend(PENDING_RMW);
		exit_mmio(false, insn->operand, 0);
		return true;
	case M_MOVS:
		if (!regs->rcx)
			break;
		fake.emulated = *regs;
		fake.regs_set = false;
		return read_element(fake.splits_reads ? PENDING_HALF : PENDING_ELEMENT);
	default:
		break;
	}
	regs->rip = next;
	return false;
}

/* Execute one instruction; return whether it exits. */
static bool execute(const struct model_insn *insn)
{
	struct kvm_regs *regs = &fake.regs;
	uint64_t next = regs->rip + MODEL_LEN;

	switch (insn->op) {
	case M_ADD:
		regs->rax += insn->operand;
		break;
	case M_MOVE:
		regs->rcx = regs->rax;
		break;
	case M_LOOP:
		if (--regs->rdx)
			next = MODEL_BASE + insn->operand * MODEL_LEN;
		break;
	case M_STI:
		fake.events.interrupt.shadow = !(regs->rflags & NX_FL_IF);
		regs->rflags |= NX_FL_IF;
		break;
	case M_SHADOW:
		fake.events.interrupt.shadow = 1;
		break;
	case M_IRET:
		fake.events.nmi.masked = 0;
		/* fall through */
	case M_POPF:
		regs->rflags &= ~(uint64_t)NX_FL_IF;
		regs->rflags |= insn->operand ? NX_FL_IF : 0;
		break;
	case M_TPR:
		fake.tpr = (uint8_t)insn->operand;
		fake.sregs.cr8 = insn->operand >> 4;
		break;
	case M_CLI:
		regs->rflags &= ~(uint64_t)NX_FL_IF;
		break;
	case M_SEG:
		fake.sregs.es.selector = (uint16_t)regs->rax;
		fake.sregs.es.base = (uint64_t)fake.sregs.es.selector << 4;
		break;
	case M_IN:
	case M_OUT:
	case M_OUTS:
		return access_port(insn, next);
	case M_LOAD:
	case M_STORE:
	case M_SPLIT:
	case M_RMW:
	case M_MOVS:
		return access_memory(insn, next);
	case M_RDMSR:
		pend(PENDING_MSR);
		fake.run->exit_reason = KVM_EXIT_X86_RDMSR;
		fake.run->msr.index = insn->operand;
		return true;
	case M_HLT:
		fake.run->exit_reason = KVM_EXIT_HLT;
		regs->rip = next;
		return true;
	}
	regs->rip = next;
	return false;
}

void fake_deliver(void)
{
	if (fake.at_delivery)
		fake.at_delivery();
}

/* Deliver what gets in at the boundary at which the kernel and the processor stand; return true
 * for an exit instead. */
bool fake_stand(void)
{
	bool shadow = fake.events.interrupt.shadow, open = fake.regs.rflags & NX_FL_IF && !shadow;

	if (fake.nmi_waits && !fake.events.nmi.masked && !shadow) {
		fake.nmi_waits = false;
		fake_deliver();
	}
	if (fake.irq_waits && open && fake.irq_priority >= fake.tpr) {
		fake.irq_waits = false;
		fake_deliver();
	}
	if (!open || !fake.run->request_interrupt_window)
		return false;
	fake.run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
	return true;
}

/*
 * An instruction and the shadow before it, which ends when the instruction has been done: with some
 * exits that is before the VMM hears of them, with the others it is as they are completed.
 */
bool fake_step(void)
{
	const struct model_insn *insn = insn_at(fake.regs.rip);
	uint64_t rip = fake.regs.rip;
	bool shadow = fake.events.interrupt.shadow, exits = execute(insn);

	if (shadow && fake.regs.rip != rip)
		fake.events.interrupt.shadow = 0;
	return exits;
}

/* Do what complete_userspace_io() does; return whether that causes a further exit. */
static bool complete_pending(void)
{
	const struct model_insn *insn;
	enum fake_pending pending = fake.pending;
	bool there = fake.regs.rip + fake.sregs.cs.base == fake.pending_linear;
	uint64_t data = 0;

	fake.pending = PENDING_NONE;
	switch (pending) {
	case PENDING_NONE:
		break;
	case PENDING_FAST_IN:
		if (there) {
			memcpy(&data, io_data(), 4);
			fake.regs.rax = data;
			fake.regs.rip += MODEL_LEN;
		}
		break;
	case PENDING_FAST_OUT:
		if (there)
			fake.regs.rip += MODEL_LEN;
		break;
	case PENDING_READ_AGAIN:
		insn = insn_at(fake.pending_rip);
		if (insn->op == M_IN) {
			memcpy(&data, io_data(), 4);
			fake.regs.rax = data;
		} else {
			memcpy(&fake.regs.rcx, fake.run->mmio.data, 8);
		}
		fake.regs.rip = fake.pending_rip + MODEL_LEN;
		break;
	case PENDING_MSR:
		fake.regs.rax = fake.run->msr.data;
		fake.regs.rip += MODEL_LEN;
		break;
	case PENDING_FRAGMENT:
		insn = insn_at(fake.pending_rip);
		exit_mmio(true, insn->operand + 8, fake.regs.rax);
		return true;
	case PENDING_HALF:
		return read_element(PENDING_ELEMENT);
	case PENDING_ELEMENT:
		return finish_element();
	case PENDING_RMW:
		insn = insn_at(fake.pending_rip);
		memcpy(&data, fake.run->mmio.data, 8);
		fake.regs.rip = fake.pending_rip + MODEL_LEN;
		if (absorbs(false, insn->operand, 8, data + fake.regs.rax))
			break;
		exit_mmio(true, insn->operand, data + fake.regs.rax);
		return true;
	}
	return false;
}

bool fake_complete(void)
{
	uint64_t rip = fake.regs.rip;
	bool exits = complete_pending();

	if (fake.regs.rip != rip)
		fake.events.interrupt.shadow = 0;
	return exits;
}
