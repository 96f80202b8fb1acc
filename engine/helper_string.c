/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * helper_string.c - MOVS, STOS, LODS, SCAS and CMPS, with and without a repeat prefix, on memory.
 *
 * Each element is an instruction of its own as far as faults and interrupts are concerned, so a
 * repetition that cannot go on, or has done its share (NX_STRING_BOUND), leaves with the registers
 * as they are then and rip on the instruction.
 */
#include "helper.h"

/* Elements per execution: some microseconds. */
#define NX_STRING_BOUND 4096

struct string {
	struct nx_vcpu *vcpu;
	const struct nx_decoded *d;
	unsigned size;
	unsigned address_bytes;
	enum nx_sreg source; /* of the operand that goes through rSI */
};

static uint64_t address(const struct string *s, unsigned number)
{
	return s->vcpu->context.gpr[number] & nx_size_mask(s->address_bytes);
}

static void advance(const struct string *s, unsigned number)
{
	const struct nx_reg reg = {.number = (uint8_t)number, .size = (uint8_t)s->address_bytes};
	uint64_t step = s->vcpu->context.rflags & NX_FL_DF ? -(uint64_t)s->size : s->size;

	nx_set_reg(s->vcpu->context.gpr, &reg, address(s, number) + step);
}

/* Flags of a comparison, by the processor's own. */
static void compare(struct nx_vcpu *vcpu, uint64_t a, uint64_t b, unsigned size)
{
	uint64_t ax = 0;

	switch (size) {
	case 1:
		__asm__("cmpb %2, %1; lahf; seto %%al"
			: "+a"(ax)
			: "q"((uint8_t)a), "q"((uint8_t)b)
			: "cc");
		break;
	case 2:
		__asm__("cmpw %2, %1; lahf; seto %%al"
			: "+a"(ax)
			: "r"((uint16_t)a), "r"((uint16_t)b)
			: "cc");
		break;
	case 4:
		__asm__("cmpl %2, %1; lahf; seto %%al"
			: "+a"(ax)
			: "r"((uint32_t)a), "r"((uint32_t)b)
			: "cc");
		break;
	default:
		__asm__("cmpq %2, %1; lahf; seto %%al" : "+a"(ax) : "r"(a), "r"(b) : "cc");
		break;
	}
	vcpu->context.flags = ax & 0xffff;
}

static nx_status one_movs(const struct string *s)
{
	uint64_t value = 0;
	nx_status status = nx_guest_read(s->vcpu, s->source, address(s, NX_RSI), &value, s->size);

	if (status == NX_OK)
		status = nx_guest_write(s->vcpu, NX_ES, address(s, NX_RDI), &value, s->size);
	if (status != NX_OK)
		return status;
	advance(s, NX_RSI);
	advance(s, NX_RDI);
	return NX_OK;
}

static nx_status one_stos(const struct string *s)
{
	nx_status status = nx_guest_write(s->vcpu, NX_ES, address(s, NX_RDI),
					  &s->vcpu->context.gpr[NX_RAX], s->size);

	if (status == NX_OK)
		advance(s, NX_RDI);
	return status;
}

static nx_status one_lods(const struct string *s)
{
	const struct nx_reg to = {.number = NX_RAX, .size = (uint8_t)s->size};
	uint64_t value = 0;
	nx_status status = nx_guest_read(s->vcpu, s->source, address(s, NX_RSI), &value, s->size);

	if (status != NX_OK)
		return status;
	nx_set_reg(s->vcpu->context.gpr, &to, value);
	advance(s, NX_RSI);
	return NX_OK;
}

static nx_status one_scas(const struct string *s)
{
	uint64_t value = 0;
	nx_status status = nx_guest_read(s->vcpu, NX_ES, address(s, NX_RDI), &value, s->size);

	if (status != NX_OK)
		return status;
	compare(s->vcpu, s->vcpu->context.gpr[NX_RAX], value, s->size);
	advance(s, NX_RDI);
	return NX_OK;
}

static nx_status one_cmps(const struct string *s)
{
	uint64_t a = 0, b = 0;
	nx_status status = nx_guest_read(s->vcpu, s->source, address(s, NX_RSI), &a, s->size);

	if (status == NX_OK)
		status = nx_guest_read(s->vcpu, NX_ES, address(s, NX_RDI), &b, s->size);
	if (status != NX_OK)
		return status;
	compare(s->vcpu, a, b, s->size);
	advance(s, NX_RSI);
	advance(s, NX_RDI);
	return NX_OK;
}

/* Repetition: by the count, and for comparisons by ZF. */
static nx_status run(struct nx_vcpu *vcpu, const struct nx_decoded *d,
		     nx_status (*one)(const struct string *), bool compares)
{
	const uint64_t repeats =
	    ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;
	struct string s = {.vcpu = vcpu, .d = d, .source = NX_DS};
	struct nx_reg count;

	s.address_bytes = d->insn.address_width / 8u;
	count = (struct nx_reg){.number = NX_RCX, .size = (uint8_t)s.address_bytes};
	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		if (d->op[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		s.size = d->op[i].size / 8u;
		if (d->op[i].mem.base == ZYDIS_REGISTER_SI ||
		    d->op[i].mem.base == ZYDIS_REGISTER_ESI ||
		    d->op[i].mem.base == ZYDIS_REGISTER_RSI)
			s.source = nx_segment_of(&d->op[i]);
	}
	if (!(d->insn.attributes & repeats))
		return one(&s);
	for (unsigned done = 0; address(&s, NX_RCX); done++) {
		nx_status status = done < NX_STRING_BOUND ? one(&s) : NX_LEAVE_LATENCY;

		if (status != NX_OK)
			return status;
		nx_set_reg(vcpu->context.gpr, &count, address(&s, NX_RCX) - 1);
		if (compares && !(nx_get_rflags(vcpu) & NX_FL_ZF) ==
				    !(d->insn.attributes & ZYDIS_ATTRIB_HAS_REPNE))
			break;
	}
	return NX_OK;
}

nx_status nx_help_movs(struct nx_vcpu *vcpu, const struct nx_decoded *d)
{
	return run(vcpu, d, one_movs, false);
}

nx_status nx_help_stos(struct nx_vcpu *vcpu, const struct nx_decoded *d)
{
	return run(vcpu, d, one_stos, false);
}

nx_status nx_help_lods(struct nx_vcpu *vcpu, const struct nx_decoded *d)
{
	return run(vcpu, d, one_lods, false);
}

nx_status nx_help_scas(struct nx_vcpu *vcpu, const struct nx_decoded *d)
{
	return run(vcpu, d, one_scas, true);
}

nx_status nx_help_cmps(struct nx_vcpu *vcpu, const struct nx_decoded *d)
{
	return run(vcpu, d, one_cmps, true);
}
