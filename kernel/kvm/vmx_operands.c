// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * vmx_operands.c - the operands of VMX's instructions, as the processor describes them at an exit.
 *
 * The exit qualification is the displacement of the operand in memory, and the instruction
 * information the other parts of its address, and the registers (SDM vol. 3, tables 28-9 to 28-11,
 * 28-13 and 28-14). KVM's handlers take the operands from there. For the engine's exits both are
 * written as for an instruction whose address is a displacement and nothing else, which takes a
 * processor that lets VMWRITE change fields that are read only otherwise. All of this is for 64-bit
 * mode.
 */
#include <asm/msr.h>
#include <asm/vmx.h>

#include "vendor.h"
#include "vmcs.h"

/* The instruction information. The segments are numbered as KVM numbers them. */
#define SCALING(info) ((info)&3)
#define ADDRESS_SIZE(info) ((info) >> 7 & 7)
#define ADDRESS_32 1
#define ADDRESS_64 (2 << 7)
#define IS_REGISTER BIT(10)
#define SEGMENT(info) ((info) >> 15 & 7)
#define SEGMENT_DS (VCPU_SREG_DS << 15)
#define INDEX(info) ((info) >> 18)
#define NO_INDEX BIT(22)
#define BASE(info) ((info) >> 23)
#define NO_BASE BIT(27)
#define REGISTER_1(info) ((info) >> 3)
#define REGISTER_2(info) ((info) >> 28)
#define REGISTER_2_SHIFT 28
/* Of SGDT, SIDT, LGDT, LIDT, in this order, and of SLDT, STR, LLDT, LTR. */
#define IDENTITY(info) ((info) >> 28 & 3)

/* Of IA32_VMX_MISC: VMWRITE writes any field. */
#define WRITES_ALL_FIELDS BIT_ULL(29)

bool nxk_operands_find(void)
{
	u64 misc;

	return !rdmsrl_safe(MSR_IA32_VMX_MISC, &misc) && misc & WRITES_ALL_FIELDS;
}

/* ---- As an exit would leave them ---- */

/* KVM's handlers read the value of the register, and nothing tells one register that holds it from
 * another. */
static u32 register_with(struct kvm_vcpu *vcpu, u64 value)
{
	u32 number = 0;

	while (number < NX_GPRS - 1 && vcpu->arch.regs[number] != value)
		number++;
	return number;
}

bool nxk_operands_write(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
	u32 info = ADDRESS_64 | SEGMENT_DS | NO_INDEX | NO_BASE;

	if (exit->insn == NX_INSN_INVEPT || exit->insn == NX_INSN_INVVPID)
		info |= register_with(vcpu, exit->operand) << REGISTER_2_SHIFT;
	/* KVM may have a copy of the last exit's. */
	__clear_bit(VCPU_EXREG_EXIT_INFO_1, (unsigned long *)&vcpu->arch.regs_avail);
	return nxk_vmcs_try_write(EXIT_QUALIFICATION, exit->linear) &&
	       nxk_vmcs_try_write(VMX_INSTRUCTION_INFO, info);
}

/* ---- Those of the hardware's last exit ---- */

static u64 register_of(struct kvm_vcpu *vcpu, u32 number)
{
	return vcpu->arch.regs[number & 0xf];
}

static u64 segment_base(struct kvm_vcpu *vcpu, u32 info)
{
	struct kvm_segment segment;

	if (SEGMENT(info) != VCPU_SREG_FS && SEGMENT(info) != VCPU_SREG_GS)
		return 0;
	static_call(nxk_get_segment)(vcpu, &segment, (int)SEGMENT(info));
	return segment.base;
}

static bool is_64_bit_code(struct kvm_vcpu *vcpu)
{
	struct kvm_segment code;

	static_call(nxk_get_segment)(vcpu, &code, VCPU_SREG_CS);
	return vcpu->arch.efer & EFER_LMA && code.l;
}

static u64 linear_address(struct kvm_vcpu *vcpu, u32 info)
{
	u64 offset = nxk_vmcs_read(EXIT_QUALIFICATION);

	if (!(info & NO_BASE))
		offset += register_of(vcpu, BASE(info));
	if (!(info & NO_INDEX))
		offset += register_of(vcpu, INDEX(info)) << SCALING(info);
	if (ADDRESS_SIZE(info) == ADDRESS_32)
		offset = (u32)offset;
	return segment_base(vcpu, info) + offset;
}

/* VMREAD and VMWRITE may have a register instead. */
static bool same_vmcs_access(struct kvm_vcpu *vcpu, const struct nx_exit *exit, u32 info)
{
	bool memory = !(info & IS_REGISTER);

	if (memory != exit->memory || register_of(vcpu, REGISTER_2(info)) != exit->operand)
		return false;
	return memory ? linear_address(vcpu, info) == exit->linear
		      : !exit->write || register_of(vcpu, REGISTER_1(info)) == exit->data;
}

static u32 identity_of(enum nx_insn_exit insn)
{
	switch (insn) {
	case NX_INSN_SIDT:
	case NX_INSN_STR:
		return 1;
	case NX_INSN_LGDT:
		return 2;
	case NX_INSN_LIDT:
		return 3;
	default:
		return 0;
	}
}

/* Return whether the operand of SLDT or STR is a register; the others have memory only, and no such
 * bit. */
static bool stores_to_register(const struct nx_exit *exit, u32 info)
{
	return (exit->insn == NX_INSN_SLDT || exit->insn == NX_INSN_STR) && info & IS_REGISTER;
}

/* Outside of 64-bit mode the address has other parts, too. */
static bool same_descriptor_access(struct kvm_vcpu *vcpu, const struct nx_exit *exit, u32 info)
{
	return IDENTITY(info) == identity_of(exit->insn) &&
	       exit->memory == !stores_to_register(exit, info) &&
	       (!exit->memory || !is_64_bit_code(vcpu) ||
		linear_address(vcpu, info) == exit->linear);
}

bool nxk_operands_same(struct kvm_vcpu *vcpu, const struct nx_exit *exit)
{
	u32 info = (u32)nxk_vmcs_read(VMX_INSTRUCTION_INFO);

	switch (exit->insn) {
	case NX_INSN_VMREAD:
	case NX_INSN_VMWRITE:
		return same_vmcs_access(vcpu, exit, info);
	case NX_INSN_INVEPT:
	case NX_INSN_INVVPID:
		return register_of(vcpu, REGISTER_2(info)) == exit->operand &&
		       linear_address(vcpu, info) == exit->linear;
	case NX_INSN_VMPTRLD:
	case NX_INSN_VMPTRST:
	case NX_INSN_VMCLEAR:
		return linear_address(vcpu, info) == exit->linear;
	case NX_INSN_SGDT:
	case NX_INSN_SIDT:
	case NX_INSN_LGDT:
	case NX_INSN_LIDT:
	case NX_INSN_SLDT:
	case NX_INSN_STR:
		return same_descriptor_access(vcpu, exit, info);
	default:
		return true;
	}
}
