/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * kvm_guest.c - the guest of kvm.c: how it is set up, and where it stands when it has halted.
 *
 * Exceptions lead to handlers that halt at once. With 64-bit code and at CPL 3 the processor's
 * frame goes to a stack of its own, so that nothing that is compared changes: HLT, which faults at
 * CPL 3, can stop the guest anywhere. At CPL 0 HLT stops it by itself.
 */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm.h"

#define VECTORS 32u

/* Offsets in the processor's own pages. */
#define GDT 0x000u
#define IDT_32 0x400u
#define IDT_64 0x800u
#define IVT 0xc00u
#define HANDLERS 0x1000u
#define HANDLER_SIZE 16u
#define TASK 0x2000u
#define STACK_TOP (SYSTEM_PAGES * PAGE - 16u)

#define SELECTOR_CODE32 0x08u
#define SELECTOR_CODE64 0x10u
#define SELECTOR_DATA 0x18u
#define SELECTOR_TASK 0x20u

#define HLT 0xf4
#define RF 0x10000u

static void put(uint8_t *to, uint64_t value, unsigned size)
{
	memcpy(to, &value, size);
}

void build_system(uint8_t *system)
{
	const uint32_t handlers = SYSTEM_AT + HANDLERS, top = SYSTEM_AT + STACK_TOP;

	put(system + GDT + SELECTOR_CODE32, 0x00cf9b000000ffff, 8);
	put(system + GDT + SELECTOR_CODE64, 0x00af9b000000ffff, 8);
	put(system + GDT + SELECTOR_DATA, 0x00cf93000000ffff, 8);
	for (uint32_t i = 0; i < VECTORS; i++) {
		uint32_t handler = handlers + i * HANDLER_SIZE;

		system[HANDLERS + i * HANDLER_SIZE] = HLT;
		put(system + IDT_32 + i * 8,
		    (handler & 0xffff) | SELECTOR_CODE32 << 16 | 0x8e0000000000 |
			(uint64_t)(handler >> 16) << 48,
		    8);
		/* The interrupt stack table's first. */
		put(system + IDT_64 + i * 16,
		    (handler & 0xffff) | SELECTOR_CODE64 << 16 | 0x8e0100000000 |
			(uint64_t)(handler >> 16) << 48,
		    8);
		put(system + IVT + i * 4, (HANDLERS + i * HANDLER_SIZE) | SYSTEM_AT >> 4 << 16, 4);
	}
	/* 32-bit: ESP0 and SS0; 64-bit: the interrupt stack table's first. */
	put(system + TASK + 4, top, 4);
	put(system + TASK + 8, SELECTOR_DATA, 4);
	put(system + TASK + 0x100 + 0x24, top, 8);
}

/* ---- State ---- */

static struct kvm_segment kvm_segment(const struct nx_segment *s)
{
	return (struct kvm_segment){.base = s->base,
				    .limit = s->limit,
				    .selector = s->selector,
				    .type = s->type,
				    .dpl = s->dpl,
				    .s = s->s,
				    .present = s->present,
				    .l = s->l,
				    .db = s->db,
				    .g = s->limit > 0xfffff,
				    .unusable = s->unusable};
}

/* The fields that compare.c and the engine look at. */
static struct nx_segment engine_segment(const struct kvm_segment *s)
{
	return (struct nx_segment){.base = s->base,
				   .limit = s->limit,
				   .selector = s->selector,
				   .type = s->type,
				   .dpl = s->dpl,
				   .s = s->s,
				   .present = s->present,
				   .l = s->l,
				   .db = s->db,
				   .unusable = s->unusable};
}

static struct kvm_segment *segment_of(struct kvm_sregs *sregs, unsigned number)
{
	struct kvm_segment *const in_order[NX_SREGS] = {&sregs->es, &sregs->cs, &sregs->ss,
							&sregs->ds, &sregs->fs, &sregs->gs};

	return in_order[number];
}

static void set_tables(const struct machine *machine, struct kvm_sregs *sregs,
		       const struct sequence *seq)
{
	const bool long64 = seq->mode == MODE_LONG64;

	sregs->gdt = (struct kvm_dtable){.base = SYSTEM_AT + GDT, .limit = 0x3f};
	sregs->idt = (struct kvm_dtable){.base = SYSTEM_AT + IDT_32, .limit = VECTORS * 8 - 1};
	if (long64)
		sregs->idt = (struct kvm_dtable){SYSTEM_AT + IDT_64, VECTORS * 16 - 1, {0}};
	if (seq->mode == MODE_REAL16)
		sregs->idt = (struct kvm_dtable){SYSTEM_AT + IVT, VECTORS * 4 - 1, {0}};
	sregs->tr = (struct kvm_segment){.base = SYSTEM_AT + TASK + (long64 ? 0x100 : 0),
					 .limit = 0x67,
					 .selector = SELECTOR_TASK,
					 .type = machine->vmx ? 11 : 9,
					 .present = 1};
	sregs->ldt = (struct kvm_segment){.unusable = 1};
}

static struct kvm_regs kvm_regs(const struct result *state)
{
	const uint64_t *g = state->gpr;

	return (struct kvm_regs){.rax = g[0],
				 .rcx = g[1],
				 .rdx = g[2],
				 .rbx = g[3],
				 .rsp = g[4],
				 .rbp = g[5],
				 .rsi = g[6],
				 .rdi = g[7],
				 .r8 = g[8],
				 .r9 = g[9],
				 .r10 = g[10],
				 .r11 = g[11],
				 .r12 = g[12],
				 .r13 = g[13],
				 .r14 = g[14],
				 .r15 = g[15],
				 .rip = state->rip,
				 .rflags = state->rflags};
}

/* In the area of XSAVE (SDM vol. 1, 13.4): the registers, and which states are not the initial
 * ones. KVM_SET_FPU leaves the latter alone. */
#define XSAVE_XMM 160u
#define XSAVE_IN_USE 512u
#define X87_AND_SSE 3u

static void set_vectors(const struct machine *machine, const struct result *state)
{
	struct kvm_xsave xsave;
	uint8_t *area = (uint8_t *)xsave.region;

	if (ioctl(machine->vcpu, KVM_GET_XSAVE, &xsave))
		perror("KVM_GET_XSAVE");
	memcpy(area + XSAVE_XMM, state->vectors, sizeof(state->vectors));
	area[XSAVE_IN_USE] |= X87_AND_SSE;
	if (ioctl(machine->vcpu, KVM_SET_XSAVE, &xsave))
		perror("KVM_SET_XSAVE");
}

static void get_vectors(const struct machine *machine, struct result *state)
{
	struct kvm_xsave xsave;

	if (ioctl(machine->vcpu, KVM_GET_XSAVE, &xsave))
		perror("KVM_GET_XSAVE");
	else
		memcpy(state->vectors, (uint8_t *)xsave.region + XSAVE_XMM, sizeof(state->vectors));
}

void set_guest(struct machine *machine, const struct sequence *seq, const struct result *state)
{
	struct kvm_sync_regs *regs = &machine->run->s.regs;
	uint64_t old_cr3 = regs->sregs.cr3;
	struct nx_state control;

	set_control(&control, seq);
	regs->sregs = machine->reset;
	regs->sregs.cr0 = control.cr0;
	/* Another value, be it only PWT, so that KVM forgets what it knows of the old tables. */
	regs->sregs.cr3 = control.cr3 | (~old_cr3 & 8);
	regs->sregs.cr4 = control.cr4;
	regs->sregs.efer = control.efer;
	for (unsigned i = 0; i < NX_SREGS; i++)
		*segment_of(&regs->sregs, i) = kvm_segment(&state->seg[i]);
	set_tables(machine, &regs->sregs, seq);
	set_vectors(machine, state);
	regs->regs = kvm_regs(state);
	/* No interrupt shadow, no exception under way. */
	memset(&regs->events, 0, sizeof(regs->events));
	regs->events.flags = KVM_VCPUEVENT_VALID_SHADOW;
	machine->run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
}

/* ---- Where it has halted ---- */

static uint64_t read_linear(const struct machine *machine, uint64_t linear, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++) {
		uint64_t at = linear + i;
		uint8_t byte = 0;

		if (at - SYSTEM_AT < SYSTEM_PAGES * PAGE)
			byte = machine->system[at - SYSTEM_AT];
		else if (page_at(at) < PAGES)
			byte = machine->pages[page_at(at)][at % PAGE];
		value |= (uint64_t)byte << 8 * i;
	}
	return value;
}

static bool has_error_code(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

/* Undoes what the processor did on its way to the handler. */
static void read_frame(const struct machine *machine, const struct sequence *seq, unsigned vector,
		       struct result *r)
{
	const struct kvm_segment *ss = &machine->run->s.regs.sregs.ss;
	unsigned word = seq->mode == MODE_LONG64 ? 8 : seq->mode == MODE_REAL16 ? 2 : 4;
	uint64_t mask = seq->mode == MODE_LONG64 ? ~0ull : ss->db ? 0xffffffff : 0xffff;
	uint64_t base = seq->mode == MODE_LONG64 ? 0 : ss->base, sp = r->gpr[NX_RSP];
	uint64_t frame[5];

	if (has_error_code(vector) && word > 2)
		sp += word;
	for (unsigned i = 0; i < 5; i++, sp += word) {
		frame[i] = read_linear(machine, base + (sp & mask), word);
		/* Without a change of stacks there are three. */
		if (i == 2 && word < 8 && !seq->user)
			frame[3] = (r->gpr[NX_RSP] & ~mask) | ((sp + word) & mask);
		if (i == 2 && word < 8 && !seq->user)
			break;
	}
	r->rip = frame[0];
	r->rflags = frame[2] & ~(uint64_t)RF;
	r->gpr[NX_RSP] = frame[3];
	if (seq->mode == MODE_REAL16)
		r->seg[NX_CS] = seq->seg[NX_CS];
	else
		memcpy(r->seg, seq->seg, sizeof(r->seg));
}

int read_guest(const struct machine *machine, const struct sequence *seq, struct result *r)
{
	const bool halted = machine->run->exit_reason == KVM_EXIT_HLT;
	struct kvm_sync_regs *s = &machine->run->s.regs;
	const struct kvm_regs *k = &s->regs;
	const uint64_t gpr[NX_GPRS] = {k->rax, k->rcx, k->rdx, k->rbx, k->rsp, k->rbp,
				       k->rsi, k->rdi, k->r8,  k->r9,  k->r10, k->r11,
				       k->r12, k->r13, k->r14, k->r15};
	uint64_t handler = s->sregs.cs.base + k->rip - 1 - SYSTEM_AT - HANDLERS;

	memcpy(r->gpr, gpr, sizeof(gpr));
	get_vectors(machine, r);
	for (unsigned i = 0; i < NX_SREGS; i++)
		r->seg[i] = engine_segment(segment_of(&s->sregs, i));
	r->rip = k->rip - halted;
	r->rflags = k->rflags;
	if (!halted || handler >= VECTORS * HANDLER_SIZE)
		return -1;
	read_frame(machine, seq, (unsigned)(handler / HANDLER_SIZE), r);
	return (int)(handler / HANDLER_SIZE);
}
