/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * helper.c - call a helper by its number; the helpers for flags, stack and segments.
 */
#include "helper/helper.h"

/* ---- The stack ---- */

/* A stack pointer on trial: committed when all of the instruction's accesses have succeeded. */
struct stack {
	struct nx_engine *engine;
	uint64_t mask, rsp;
};

static struct stack stack_begin(struct nx_engine *engine)
{
	uint64_t mask = nx_size_mask(engine->mode.stack_bits / 8);

	return (struct stack){engine, mask, engine->context.gpr[NX_RSP] & mask};
}

static enum nx_status stack_push(struct stack *s, uint64_t value, unsigned size)
{
	s->rsp = (s->rsp - size) & s->mask;
	return nx_guest_write(s->engine, NX_SS, s->rsp, &value, size);
}

static enum nx_status stack_pop(struct stack *s, uint64_t *value, unsigned size)
{
	enum nx_status status;

	*value = 0;
	status = nx_guest_read(s->engine, NX_SS, s->rsp, value, size);
	s->rsp = (s->rsp + size) & s->mask;
	return status;
}

static void stack_commit(const struct stack *s)
{
	uint64_t *rsp = &s->engine->context.gpr[NX_RSP];

	/* A 32-bit stack pointer is ESP: in no mode has RSP an upper half then. */
	*rsp = s->mask == 0xffff ? (*rsp & ~0xffffull) | s->rsp : s->rsp;
}

static unsigned operand_size(const struct nx_decoded *d)
{
	return d->insn.operand_width / 8u;
}

enum nx_status nx_help_pushf(struct nx_engine *engine, const struct nx_decoded *d)
{
	struct stack s = stack_begin(engine);
	uint64_t image = (nx_rflags_get(engine) | 2) & ~(uint64_t)(NX_FL_VM | NX_FL_RF);
	enum nx_status status = stack_push(&s, image, operand_size(d));

	if (status == NX_OK)
		stack_commit(&s);
	return status;
}

/*
 * Return whether an instruction may give the guest these flags as far as interrupts are concerned.
 * This is the one place that decides about interrupt windows. While the engine runs with interrupts
 * enabled, one may have become pending that the processor would deliver at each of the boundaries
 * that the engine goes past: in guest mode it is delivered before an instruction that disables
 * interrupts, and without a rule a loop that enables them for no longer than one exiting
 * instruction would never take any. An interrupt that has been waiting is due at the first boundary
 * of a window. So the engine leaves before an instruction that opens or closes a window, unless the
 * host says just then that no interrupt waits. A window that was opened so, and in which the guest
 * has met no exit since, is closed without another question: that takes no longer than the way
 * from one exit to the next, and what came in between is found where the next window opens.
 */
static enum nx_status change_window(struct nx_engine *engine, uint64_t rflags)
{
	bool open = rflags & NX_FL_IF;

	if (!((engine->context.rflags ^ rflags) & NX_FL_IF))
		return NX_OK;
	if ((open || !engine->stay.window_asked) &&
	    (!engine->host->no_interrupt_waits ||
	     !engine->host->no_interrupt_waits(engine->host_data)))
		return NX_LEAVE_WINDOW;
	engine->stay.window_asked = open;
	engine->context.rflags =
	    (engine->context.rflags & ~(uint64_t)NX_FL_IF) | (rflags & NX_FL_IF);
	return NX_OK;
}

/*
 * Only arithmetic flags, DF, IF and ID, which does nothing, may change here: TF decides about
 * traps, AC about rights, IOPL about what faults. IF does not change where it is not the guest's to
 * change, or for a guest with virtual interrupts, since then CPL is above IOPL.
 */
enum nx_status nx_help_popf(struct nx_engine *engine, const struct nx_decoded *d)
{
	const uint64_t kept = NX_FL_DF | NX_FL_ID, ours = NX_FL_ARITHMETIC | kept | NX_FL_IF;
	uint64_t old = nx_rflags_get(engine), image, mask = nx_size_mask(operand_size(d));
	struct stack s = stack_begin(engine);
	enum nx_status status = stack_pop(&s, &image, operand_size(d));

	if (status != NX_OK)
		return status;
	/* Bit 1 is always 1, bits 3, 5 and 15 always 0, whatever is on the stack. */
	if ((old ^ image) & mask & NX_FL_DEFINED & ~ours)
		return NX_LEAVE_STATE;
	if ((old ^ image) & NX_FL_IF && !engine->mode.io_allowed)
		return NX_LEAVE_WINDOW;
	status = change_window(engine, image);
	if (status != NX_OK)
		return status;
	engine->context.rflags = (engine->context.rflags & ~(kept & mask)) | (image & kept & mask);
	nx_rflags_set_arithmetic(engine, image);
	stack_commit(&s);
	return NX_OK;
}

enum nx_status nx_help_pusha(struct nx_engine *engine, const struct nx_decoded *d)
{
	struct stack s = stack_begin(engine);
	unsigned size = operand_size(d);
	enum nx_status allowed;
	void *host;

	/*
	 * All or nothing: one of the eight may be outside the segment. Where they are not on one
	 * page, the first would be marked although the second may fault.
	 */
	for (unsigned i = 1; i <= 8; i++)
		if (!nx_guest_is_inside(engine, NX_SS, (s.rsp - i * size) & s.mask, size, true))
			return NX_LEAVE_SEGMENT;
	if (s.rsp < 8 * size)
		return NX_LEAVE_PAGE_CROSSING;
	allowed = nx_guest_pointer(engine, NX_SS, s.rsp - 8 * size, 8 * size, &host);
	if (allowed != NX_OK)
		return allowed;
	/* AX, CX, DX, BX, the old SP, BP, SI, DI: the order of their numbers. */
	for (unsigned i = NX_RAX; i <= NX_RDI; i++) {
		enum nx_status status = stack_push(&s, engine->context.gpr[i], size);

		if (status != NX_OK)
			return status;
	}
	stack_commit(&s);
	return NX_OK;
}

enum nx_status nx_help_popa(struct nx_engine *engine, const struct nx_decoded *d)
{
	struct stack s = stack_begin(engine);
	unsigned size = operand_size(d);
	uint64_t value[8];

	for (unsigned i = 8; i-- > 0;) {
		enum nx_status status = stack_pop(&s, &value[i], size);

		if (status != NX_OK)
			return status;
	}
	for (unsigned i = NX_RAX; i <= NX_RDI; i++)
		if (i != NX_RSP)
			nx_reg_set(engine->context.gpr,
				   &(struct nx_reg){.number = (uint8_t)i, .size = (uint8_t)size},
				   value[i]);
	stack_commit(&s);
	return NX_OK;
}

enum nx_status nx_help_enter(struct nx_engine *engine, const struct nx_decoded *d)
{
	const struct nx_reg rbp = {.number = NX_RBP, .size = (uint8_t)operand_size(d)};
	struct stack s = stack_begin(engine);
	enum nx_status status;
	uint64_t frame;
	void *top;

	if (d->op[1].imm.value.u & 31)
		return NX_LEAVE_STATE; /* nested frames are not in use anywhere */
	frame = (s.rsp - rbp.size) & s.mask;
	/* The processor checks that the new top of the stack can be written: before the push. */
	status = nx_guest_pointer(engine, NX_SS, (frame - d->op[0].imm.value.u) & s.mask, rbp.size,
				  &top);
	if (status == NX_OK)
		status = stack_push(&s, engine->context.gpr[NX_RBP], rbp.size);
	if (status != NX_OK)
		return status;
	s.rsp = (s.rsp - d->op[0].imm.value.u) & s.mask;
	/* A 32-bit frame pointer gets what stands above a 16-bit stack pointer, too. */
	frame |= engine->context.gpr[NX_RSP] & ~s.mask;
	nx_reg_set(engine->context.gpr, &rbp, frame);
	stack_commit(&s);
	return NX_OK;
}

enum nx_status nx_help_leave(struct nx_engine *engine, const struct nx_decoded *d)
{
	const struct nx_reg rbp = {.number = NX_RBP, .size = (uint8_t)operand_size(d)};
	struct stack s = stack_begin(engine);
	uint64_t value;
	enum nx_status status;

	s.rsp = engine->context.gpr[NX_RBP] & s.mask;
	status = stack_pop(&s, &value, rbp.size);
	if (status != NX_OK)
		return status;
	stack_commit(&s);
	nx_reg_set(engine->context.gpr, &rbp, value);
	return NX_OK;
}

enum nx_status nx_help_pop_memory(struct nx_engine *engine, const struct nx_decoded *d)
{
	struct stack s = stack_begin(engine);
	uint64_t value, old = engine->context.gpr[NX_RSP];
	enum nx_status status = stack_pop(&s, &value, operand_size(d));

	if (status != NX_OK)
		return status;
	/* An address made from the stack pointer sees it already moved. */
	stack_commit(&s);
	status =
	    nx_guest_write(engine, nx_segment_of(&d->op[0]),
			   nx_effective_address(engine, d, &d->op[0]), &value, operand_size(d));
	if (status != NX_OK)
		engine->context.gpr[NX_RSP] = old;
	return status;
}

/* 16 bits only: with more, processors differ in what they write above the selector. */
enum nx_status nx_help_push_sreg(struct nx_engine *engine, const struct nx_decoded *d)
{
	struct stack s = stack_begin(engine);
	unsigned seg = (unsigned)(d->op[0].reg.value - ZYDIS_REGISTER_ES);
	enum nx_status status = stack_push(&s, engine->context.seg[seg].selector, 2);

	if (status == NX_OK)
		stack_commit(&s);
	return status;
}

/* ---- Flags ---- */

enum nx_status nx_help_cli(struct nx_engine *engine, const struct nx_decoded *d)
{
	(void)d;
	return change_window(engine, 0);
}

/* STI holds interrupts off for one instruction more, if they were: note which (runtime.c). */
enum nx_status nx_help_sti(struct nx_engine *engine, const struct nx_decoded *d)
{
	const struct nx_site *site = &engine->running->site[engine->context.site];
	bool opens = !(engine->context.rflags & NX_FL_IF);
	enum nx_status status = change_window(engine, NX_FL_IF);

	(void)d;
	if (status == NX_OK && opens) {
		engine->stay.sti_rip = site->rip;
		engine->stay.shadow_rip = site->next;
	}
	return status;
}

enum nx_status nx_help_cld(struct nx_engine *engine, const struct nx_decoded *d)
{
	(void)d;
	engine->context.rflags &= ~(uint64_t)NX_FL_DF;
	return NX_OK;
}

enum nx_status nx_help_std(struct nx_engine *engine, const struct nx_decoded *d)
{
	(void)d;
	engine->context.rflags |= NX_FL_DF;
	return NX_OK;
}

/* ---- Segments ---- */

/* In real mode: selector and base change, the limit stays. */
static void load_real_segment(struct nx_engine *engine, unsigned seg, uint16_t selector)
{
	engine->context.seg[seg].selector = selector;
	engine->context.seg[seg].base = (uint64_t)selector << 4;
	engine->state.seg[seg].selector = selector;
	engine->state.seg[seg].base = (uint64_t)selector << 4;
	engine->state.segments_changed = true;
}

/* MOV or POP to DS, ES, FS or GS. */
enum nx_status nx_help_load_sreg(struct nx_engine *engine, const struct nx_decoded *d)
{
	unsigned seg = (unsigned)(d->op[0].reg.value - ZYDIS_REGISTER_ES);
	struct stack s = stack_begin(engine);
	enum nx_status status = NX_OK;
	uint64_t selector = 0;
	struct nx_reg from;

	if (d->insn.mnemonic == ZYDIS_MNEMONIC_POP)
		status = stack_pop(&s, &selector, operand_size(d));
	else if (d->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		 nx_reg_of(d->op[1].reg.value, &from))
		selector = nx_reg_get(engine, &from);
	else
		status = nx_guest_read(engine, nx_segment_of(&d->op[1]),
				       nx_effective_address(engine, d, &d->op[1]), &selector, 2);
	if (status != NX_OK)
		return status;
	stack_commit(&s);
	load_real_segment(engine, seg, (uint16_t)selector);
	return NX_OK;
}

/* LDS, LES, LFS and LGS load a general register from memory, and the selector behind it. */
enum nx_status nx_help_load_far(struct nx_engine *engine, const struct nx_decoded *d)
{
	uint64_t at = nx_effective_address(engine, d, &d->op[1]), offset = 0, selector = 0;
	enum nx_sreg from = nx_segment_of(&d->op[1]);
	unsigned size = operand_size(d), seg;
	enum nx_status status;
	struct nx_reg reg;

	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_LDS:
		seg = NX_DS;
		break;
	case ZYDIS_MNEMONIC_LES:
		seg = NX_ES;
		break;
	case ZYDIS_MNEMONIC_LFS:
		seg = NX_FS;
		break;
	default:
		seg = NX_GS;
		break;
	}
	/* One operand: it does not wrap around between its halves. */
	if (!nx_guest_is_inside(engine, from, at, size + 2, false))
		return NX_LEAVE_SEGMENT;
	status = nx_guest_read(engine, from, at, &offset, size);
	if (status == NX_OK)
		status = nx_guest_read(engine, from, at + size, &selector, 2);
	if (status != NX_OK || !nx_reg_of(d->op[0].reg.value, &reg))
		return status;
	nx_reg_set(engine->context.gpr, &reg, offset);
	load_real_segment(engine, seg, (uint16_t)selector);
	return NX_OK;
}

enum nx_status nx_helper_run(struct nx_engine *engine, enum nx_helper_id id,
			     const struct nx_decoded *d)
{
	switch (id) {
#define NX_X(name, function) \
	case NX_HELP_##name: \
		return nx_help_##function(engine, d);
		NX_HELPER_FUNCTIONS(NX_X)
#undef NX_X
	default:
		return NX_LEAVE_FAULT;
	}
}
