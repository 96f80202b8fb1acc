/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* system.c - instructions on registers of the system's, at CPL 0: MOV from CR2, and VERW. */
#include "helper/helper.h"

#define SELECTOR_RPL 3u
#define SELECTOR_LDT 4u
/* Of a descriptor: not a system segment, data, writable (SDM vol. 3, 3.4.5). */
#define DESCRIPTOR_KIND (0x1aull << 40)
#define DESCRIPTOR_WRITABLE_DATA (0x12ull << 40)

enum nx_status nx_help_read_cr2(struct nx_engine *engine, const struct nx_decoded *d)
{
	struct nx_reg to;

	if (!nx_reg_of(d->op[0].reg.value, &to))
		return NX_LEAVE_FAULT;
	nx_reg_set(engine->context.gpr, &to, engine->state.cr2);
	return NX_OK;
}

static enum nx_status read_selector(struct nx_engine *engine, const struct nx_decoded *d,
				    uint64_t *selector)
{
	const ZydisDecodedOperand *op = &d->op[0];
	struct nx_reg reg;

	*selector = 0;
	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY)
		return nx_guest_read(engine, nx_segment_of(op), nx_effective_address(engine, d, op),
				     selector, 2);
	if (!nx_reg_of(op->reg.value, &reg))
		return NX_LEAVE_FAULT;
	*selector = nx_reg_get(engine, &reg) & 0xffff;
	return NX_OK;
}

static enum nx_status read_descriptor(struct nx_engine *engine, unsigned offset, uint64_t *to)
{
	uint64_t linear = engine->state.gdt_base + offset;
	struct nx_target target;
	enum nx_status status;

	if (linear & 7)
		return NX_LEAVE_PAGE_CROSSING;
	if (engine->mode.bits != 64)
		linear = (uint32_t)linear;
	status = nx_guest_resolve_linear(engine, linear, 8, NX_READ_SYSTEM, &target);
	if (status != NX_OK)
		return status;
	if (target.device)
		return NX_LEAVE_HOST_PAGE;
	*to = *(const volatile uint64_t *)target.host;
	return NX_OK;
}

/*
 * Kernels execute VERW for what it does beside: on some processors it clears buffers that others
 * could read from. So it is executed here, too, with a selector of the host's.
 */
static void clear_buffers(void)
{
	uint16_t selector;

	__asm__ volatile("movw %%ss, %0; verw %0" : "=m"(selector) : : "cc");
}

/* At CPL 0 a writable segment of any privilege level may be written if its selector allows it. */
enum nx_status nx_help_verw(struct nx_engine *engine, const struct nx_decoded *d)
{
	uint64_t selector, descriptor = 0;
	enum nx_status status = read_selector(engine, d, &selector);
	unsigned offset = (unsigned)selector & ~(SELECTOR_RPL | SELECTOR_LDT);
	bool writable;

	if (status != NX_OK)
		return status;
	if (selector & SELECTOR_LDT)
		return NX_LEAVE_STATE;
	if (offset && offset + 7 <= engine->state.gdt_limit)
		status = read_descriptor(engine, offset, &descriptor);
	if (status != NX_OK)
		return status;
	writable = (descriptor & DESCRIPTOR_KIND) == DESCRIPTOR_WRITABLE_DATA &&
		   (descriptor >> 45 & 3) >= (selector & SELECTOR_RPL);
	clear_buffers();
	nx_rflags_set_arithmetic(engine, (nx_rflags_get(engine) & ~(uint64_t)NX_FL_ZF) |
					     (writable ? NX_FL_ZF : 0));
	return NX_OK;
}
