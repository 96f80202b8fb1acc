/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * complete.c - the two ends of an exit that the engine delivers: what a store sends to the device,
 * and what a load's answer does to the guest's registers.
 */
#include "helper/helper.h"

#define MSR_APIC_BASE 0x1b
#define MSR_MTRR_FIRST 0x200 /* with IA32_PAT among them */
#define MSR_MTRR_LAST 0x2ff
#define MSR_EFER 0xc0000080

static const struct nx_decoded *decode(struct nx_engine *engine, const struct nx_site *site,
				       unsigned from, unsigned len)
{
	return nx_decode_full(&engine->decoded, &engine->mode, site->bytes + from, len);
}

static uint64_t source_value(const struct nx_engine *engine, const struct nx_decoded *d)
{
	struct nx_reg reg;

	if (d->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return d->op[1].imm.value.u;
	if (nx_reg_of(d->op[1].reg.value, &reg))
		return engine->state.gpr[reg.number] >> (reg.high ? 8 : 0);
	return 0;
}

uint64_t nx_store_value(struct nx_engine *engine, const struct nx_site *site)
{
	unsigned first = site->first_len ? site->first_len : site->len;
	uint64_t value, other;
	const struct nx_decoded *d;
	int64_t place;

	/* Sites with mmio_form are a decoded MOV, MOVZX, MOVSX or MOVSXD (decode.c). */
	d = decode(engine, site, 0, first);
	if (!d)
		return 0;
	value = source_value(engine, d);
	if (!site->first_len)
		return value & nx_size_mask(site->size);
	place = nx_store_place(d, site->rip + first);
	d = decode(engine, site, first, site->len - first);
	if (!d)
		return 0;
	value = (uint32_t)value;
	other = (uint32_t)source_value(engine, d);
	return nx_store_place(d, site->rip + site->len) > place ? value | other << 32
								: other | value << 32;
}

static void finish_load(struct nx_engine *engine, const struct nx_site *site, uint64_t value)
{
	const struct nx_decoded *d;
	struct nx_reg reg;

	d = decode(engine, site, 0, site->len);
	if (!d || !nx_reg_of(d->op[0].reg.value, &reg))
		return;
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_MOVSX || d->insn.mnemonic == ZYDIS_MNEMONIC_MOVSXD)
		value = (uint64_t)nx_sign_extend(value, site->size);
	nx_reg_set(engine->state.gpr, &reg, value);
}

/* Return whether the instruction takes data from the host; the others hand it over, or have none.
 */
static bool takes_data(const struct nx_decoded *d, enum nx_insn_exit insn)
{
	struct nx_reg reg;

	switch (insn) {
	case NX_INSN_RDMSR:
	case NX_INSN_VMREAD:
		return true;
	case NX_INSN_MOV_CR:
	case NX_INSN_MOV_DR:
		/* MOV to a control register has that as its first operand. */
		return nx_reg_of(d->op[0].reg.value, &reg);
	default:
		return false;
	}
}

/* Find the one register that the answer goes to; RDMSR has two, and VMREAD may have memory. */
static bool insn_destination(const struct nx_decoded *d, enum nx_insn_exit insn, struct nx_reg *to)
{
	return insn != NX_INSN_RDMSR && takes_data(d, insn) &&
	       d->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER && nx_reg_of(d->op[0].reg.value, to);
}

/* Return the value of a general register that is an operand, or 0 if it is none. */
static uint64_t operand_value(const struct nx_engine *engine, const struct nx_decoded *d,
			      unsigned i)
{
	struct nx_reg reg;

	if (d->op[i].type != ZYDIS_OPERAND_TYPE_REGISTER || !nx_reg_of(d->op[i].reg.value, &reg))
		return 0;
	return engine->state.gpr[reg.number] & nx_size_mask(reg.size);
}

static void describe_memory(struct nx_engine *engine, const struct nx_decoded *d,
			    const ZydisDecodedOperand *memory, struct nx_exit *exit)
{
	enum nx_sreg seg = nx_segment_of(memory);
	uint64_t offset = nx_effective_address(engine, d, memory);
	bool plain = engine->mode.bits == 64 && seg != NX_FS && seg != NX_GS;

	exit->memory = true;
	exit->linear = offset + (plain ? 0 : engine->context.seg[seg].base);
	if (engine->mode.bits != 64)
		exit->linear = (uint32_t)exit->linear;
}

/*
 * Describe CPUID, RDMSR and WRMSR without prefixes, which a host in the kernel meets most: decoding
 * such an instruction costs more than all else that the engine does to deliver it.
 */
static bool describe_plain(const struct nx_engine *engine, const struct nx_site *site,
			   struct nx_exit *exit)
{
	const uint64_t *gpr = engine->state.gpr;

	if (site->len != 2 || site->bytes[0] != 0x0f)
		return false;
	switch (site->bytes[1]) {
	case 0xa2:
		exit->insn = NX_INSN_CPUID;
		exit->write = true;
		break;
	case 0x32:
		exit->insn = NX_INSN_RDMSR;
		exit->operand = (uint32_t)gpr[NX_RCX];
		break;
	case 0x30:
		exit->insn = NX_INSN_WRMSR;
		exit->write = true;
		exit->operand = (uint32_t)gpr[NX_RCX];
		exit->data = gpr[NX_RDX] << 32 | (uint32_t)gpr[NX_RAX];
		break;
	default:
		return false;
	}
	exit->size = engine->mode.bits == 16 ? 2 : 4;
	return true;
}

/* VMREAD or VMWRITE of registers in 64-bit mode: a field's number, and what is read or written. */
struct plain_vmcs {
	bool write;
	uint8_t field, value;
};

/* The same for these two, of which a hypervisor has several around each entry of its guest. */
static bool plain_vmcs(const struct nx_engine *engine, const struct nx_site *site,
		       struct plain_vmcs *vmcs)
{
	const uint8_t *bytes = site->bytes;
	unsigned rex = (bytes[0] & 0xf0) == 0x40 ? bytes[0] : 0;

	bytes += rex ? 1 : 0;
	if (engine->mode.bits != 64 || site->len != (rex ? 4 : 3) || bytes[0] != 0x0f ||
	    (bytes[1] & 0xfe) != 0x78 || bytes[2] < 0xc0)
		return false;
	vmcs->write = bytes[1] & 1;
	vmcs->field = (uint8_t)((bytes[2] >> 3 & 7) | (rex & 4) << 1);
	vmcs->value = (uint8_t)((bytes[2] & 7) | (rex & 1) << 3);
	return true;
}

static bool describe_vmcs(const struct nx_engine *engine, const struct nx_site *site,
			  struct nx_exit *exit)
{
	struct plain_vmcs vmcs;

	if (!plain_vmcs(engine, site, &vmcs))
		return false;
	exit->insn = vmcs.write ? NX_INSN_VMWRITE : NX_INSN_VMREAD;
	exit->write = vmcs.write;
	exit->size = 8;
	exit->operand = engine->state.gpr[vmcs.field];
	if (vmcs.write)
		exit->data = engine->state.gpr[vmcs.value];
	return true;
}

static NX_NOINLINE void describe_others(struct nx_engine *engine, const struct nx_site *site,
					struct nx_exit *exit)
{
	const uint64_t *gpr = engine->state.gpr;
	const ZydisDecodedOperand *memory;
	const struct nx_decoded *d;
	uint32_t class;

	if (describe_vmcs(engine, site, exit))
		return;
	d = decode(engine, site, 0, site->len);
	if (!d || !nx_decode_insn_exit(d, &exit->insn, &class))
		return;
	exit->size = (uint8_t)(d->insn.operand_width / 8u);
	exit->write = !takes_data(d, exit->insn);
	memory = nx_memory_operand(d);
	if (memory)
		describe_memory(engine, d, memory, exit);
	switch (exit->insn) {
	case NX_INSN_MOV_CR:
	case NX_INSN_MOV_DR:
		/* CR0 and DR0 begin their classes' ranges. */
		exit->reg = (uint8_t)ZydisRegisterGetId(d->op[exit->write ? 0 : 1].reg.value);
		if (exit->write)
			exit->data = operand_value(engine, d, 1);
		break;
	case NX_INSN_RDMSR:
	case NX_INSN_WRMSR:
		exit->operand = (uint32_t)gpr[NX_RCX];
		if (exit->write)
			exit->data = gpr[NX_RDX] << 32 | (uint32_t)gpr[NX_RAX];
		break;
	case NX_INSN_VMREAD:
		exit->operand = operand_value(engine, d, 1);
		break;
	case NX_INSN_VMWRITE:
		exit->operand = operand_value(engine, d, 0);
		exit->data = operand_value(engine, d, 1);
		break;
	default:
		if (d->insn.operand_count_visible)
			exit->operand = operand_value(engine, d, 0);
		break;
	}
}

void nx_exit_describe_insn(struct nx_engine *engine, const struct nx_site *site,
			   struct nx_exit *exit)
{
	exit->write = exit->memory = false;
	exit->reg = 0;
	exit->data = exit->operand = exit->linear = 0;
	if (!describe_plain(engine, site, exit))
		describe_others(engine, site, exit);
}

bool nx_exit_flushes(const struct nx_exit *exit)
{
	/* The most frequent ones first. */
	if (exit->kind != NX_EXIT_INSN || exit->insn == NX_INSN_CPUID ||
	    exit->insn == NX_INSN_RDMSR)
		return false;
	switch (exit->insn) {
	case NX_INSN_MOV_CR:
		/* CR2 and CR8 say nothing about memory. */
		return exit->write && (exit->reg == 0 || exit->reg == 3 || exit->reg == 4);
	case NX_INSN_WRMSR:
		return exit->operand == MSR_EFER || exit->operand == MSR_APIC_BASE ||
		       (exit->operand >= MSR_MTRR_FIRST && exit->operand <= MSR_MTRR_LAST);
	case NX_INSN_LMSW:
	case NX_INSN_INVLPG:
	case NX_INSN_INVEPT:
	case NX_INSN_INVVPID:
	case NX_INSN_INVLPGA:
	/* Hypervisors offer flushes by hypercall. */
	case NX_INSN_VMCALL:
	case NX_INSN_VMMCALL:
	/* A guest of the guest has run in between. */
	case NX_INSN_VMLAUNCH:
	case NX_INSN_VMRESUME:
	case NX_INSN_VMRUN:
	case NX_INSN_SKINIT:
		return true;
	default:
		return false;
	}
}

static void finish_insn(struct nx_engine *engine, const struct nx_site *site, uint64_t data)
{
	enum nx_insn_exit insn;
	const struct nx_decoded *d;
	struct plain_vmcs vmcs;
	struct nx_reg reg;
	uint32_t class;

	if (plain_vmcs(engine, site, &vmcs)) {
		if (!vmcs.write)
			engine->state.gpr[vmcs.value] = data;
		return;
	}
	d = decode(engine, site, 0, site->len);
	if (!d || !nx_decode_insn_exit(d, &insn, &class))
		return;
	if (insn == NX_INSN_RDMSR) {
		engine->state.gpr[NX_RAX] = (uint32_t)data;
		engine->state.gpr[NX_RDX] = data >> 32;
	} else if (insn_destination(d, insn, &reg)) {
		nx_reg_set(engine->state.gpr, &reg, data);
	}
}

void nx_pending_finish(struct nx_engine *engine, uint64_t data)
{
	const struct nx_site *site = engine->pending.site;
	const struct nx_reg accumulator = {.number = NX_RAX, .size = site->size};

	if (engine->pending.kind == NX_PENDING_INSN) {
		finish_insn(engine, site, data);
		engine->state.rip = site->next;
		engine->pending.kind = NX_PENDING_NONE;
		return;
	}
	data &= nx_size_mask(site->size);
	if (!site->write && engine->pending.kind == NX_PENDING_IO)
		nx_reg_set(engine->state.gpr, &accumulator, data);
	else if (!site->write)
		finish_load(engine, site, data);
	engine->state.rip = site->next;
	engine->pending.kind = NX_PENDING_NONE;
}
