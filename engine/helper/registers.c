/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* registers.c - the guest's registers, flags and addresses, for C that executes an instruction. */
#include "helper/helper.h"

uint64_t nx_reg_get(const struct nx_engine *engine, const struct nx_reg *reg)
{
	return engine->context.gpr[reg->number] >> (reg->high ? 8 : 0) & nx_size_mask(reg->size);
}

void nx_reg_set(uint64_t *gpr, const struct nx_reg *reg, uint64_t value)
{
	uint64_t *to = &gpr[reg->number], mask = nx_size_mask(reg->size);
	unsigned shift = reg->high ? 8 : 0;

	if (reg->size >= 4)
		*to = value & mask;
	else
		*to = (*to & ~(mask << shift)) | (value & mask) << shift;
}

uint64_t nx_rflags_get(const struct nx_engine *engine)
{
	return engine->context.rflags | nx_flags_from_context(engine->context.flags);
}

void nx_rflags_set_arithmetic(struct nx_engine *engine, uint64_t rflags)
{
	engine->context.flags = nx_flags_to_context(rflags);
}

uint64_t nx_effective_address(const struct nx_engine *engine, const struct nx_decoded *d,
			      const ZydisDecodedOperand *memory)
{
	uint64_t address = memory->mem.disp.has_displacement ? (uint64_t)memory->mem.disp.value : 0;
	const struct nx_site *site = &engine->running->site[engine->context.site];
	struct nx_reg reg;

	if (memory->mem.base == ZYDIS_REGISTER_RIP || memory->mem.base == ZYDIS_REGISTER_EIP)
		address += site->rip + site->len + engine->context.slide;
	else if (nx_reg_of(memory->mem.base, &reg))
		address += engine->context.gpr[reg.number];
	if (nx_reg_of(memory->mem.index, &reg))
		address += engine->context.gpr[reg.number] * memory->mem.scale;
	return address & nx_size_mask(d->insn.address_width / 8);
}
