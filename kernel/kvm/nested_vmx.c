// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * nested_vmx.c - the instructions of a guest hypervisor, on Intel's processors.
 *
 * All but VMREAD and VMWRITE are emulated by kvm_intel's own exit handlers. Those of VMPTRLD,
 * VMPTRST, VMCLEAR, INVEPT and INVVPID find the operands in the VMCS, where the processor writes
 * them at an exit, and not every processor lets VMWRITE change that (vmx_operands.c). Where it does
 * not, they are left to the hardware.
 *
 * VMREAD and VMWRITE are frequent, and done here on every processor. They access KVM's copy
 * of the guest hypervisor's VMCS by KVM's own table of offsets, or the shadow VMCS where KVM uses
 * VMCS shadowing and that holds the field (shadow_vmcs.c). Whatever would have KVM do more than
 * that is left to the hardware: failures, read-only fields, and fields that KVM has yet to copy
 * from elsewhere.
 */
#include <linux/bitmap.h>
#include <linux/nospec.h>

#include <asm/vmx.h>

#include "field.h"
#include "vendor.h"
#include "vmcs.h"

/* KVM does not name the width in a header that is public (SDM vol. 3, appendix B). */
enum { WIDTH_16, WIDTH_64, WIDTH_32, WIDTH_NATURAL };
#define READ_ONLY 1
#define FIELDS 4096

/* Declared in a header of KVM's own. */
struct x86_exception;
int kvm_read_guest_virt(struct kvm_vcpu *vcpu, gva_t address, void *value, unsigned int bytes,
			struct x86_exception *exception);
int kvm_write_guest_virt_system(struct kvm_vcpu *vcpu, gva_t address, void *value,
				unsigned int bytes, struct x86_exception *exception);
/* Greater than KVM's structure, whose content does not matter here. */
struct exception_space {
	u64 space[8];
};

static int no_handler(struct kvm_vcpu *vcpu)
{
	return -EIO;
}

DEFINE_STATIC_CALL(nxk_vmx_launch, no_handler);
DEFINE_STATIC_CALL(nxk_vmx_resume, no_handler);
DEFINE_STATIC_CALL(nxk_vmx_ptrld, no_handler);
DEFINE_STATIC_CALL(nxk_vmx_ptrst, no_handler);
DEFINE_STATIC_CALL(nxk_vmx_clear, no_handler);
DEFINE_STATIC_CALL(nxk_vmx_invept, no_handler);
DEFINE_STATIC_CALL(nxk_vmx_invvpid, no_handler);

/* Whether those that take their operands from the VMCS can be called. */
static bool operands_writable;

/* KVM's table, indexed by the field's encoding rotated left by 6 bits. 0: it has no such field. */
static const u16 *offsets;
static unsigned int offsets_count;
/* The fields that KVM has in a shadow VMCS, or would have with VMCS shadowing, by the same index.
 */
static DECLARE_BITMAP(shadowed, FIELDS);
static DECLARE_BITMAP(shadowed_writable, FIELDS);

static unsigned int index_of(u64 field)
{
	return (u16)(field << 6) | (u16)field >> 10;
}

static bool contains(const unsigned long *fields, u64 field)
{
	return test_bit(index_of(field) % FIELDS, fields);
}

static bool note_shadowed(const char *table, const char *count, unsigned long *fields)
{
	const struct {
		u16 field, offset;
	} *entry = nxk_lookup(table);
	const int *number = nxk_lookup(count);

	if (!entry || !number)
		return false;
	for (int i = 0; i < *number; i++)
		if (index_of(entry[i].field) < FIELDS)
			__set_bit(index_of(entry[i].field), fields);
	return true;
}

static bool find_handlers(void)
{
	int (**handlers)(struct kvm_vcpu *) = nxk_lookup("kvm_vmx_exit_handlers");

	if (!handlers)
		return false;
	static_call_update(nxk_vmx_launch, handlers[EXIT_REASON_VMLAUNCH]);
	static_call_update(nxk_vmx_resume, handlers[EXIT_REASON_VMRESUME]);
	static_call_update(nxk_vmx_ptrld, handlers[EXIT_REASON_VMPTRLD]);
	static_call_update(nxk_vmx_ptrst, handlers[EXIT_REASON_VMPTRST]);
	static_call_update(nxk_vmx_clear, handlers[EXIT_REASON_VMCLEAR]);
	static_call_update(nxk_vmx_invept, handlers[EXIT_REASON_INVEPT]);
	static_call_update(nxk_vmx_invvpid, handlers[EXIT_REASON_INVVPID]);
	operands_writable = nxk_operands_find();
	return true;
}

bool nxk_vmx_find_nested(void)
{
	const unsigned int *count = nxk_lookup("nr_vmcs12_fields");

	offsets = nxk_lookup("vmcs12_field_offsets");
	if (!offsets || !count || !nxk_shadow_find())
		return false;
	offsets_count = min(*count, (unsigned int)FIELDS);
	if (!note_shadowed("shadow_read_write_fields", "max_shadow_read_write_fields",
			   shadowed_writable) ||
	    !note_shadowed("shadow_read_only_fields", "max_shadow_read_only_fields", shadowed))
		return false;
	bitmap_or(shadowed, shadowed, shadowed_writable, FIELDS);
	return find_handlers();
}

/* ---- Fields ---- */

/* Return the field's place in KVM's copy; NULL: there is none. */
static void *place_of(struct kvm_vcpu *vcpu, u64 field)
{
	char *vmcs12 = NXK_FIELD(vcpu, VMX_VMCS12, char *);
	unsigned int index = index_of(field);

	if (field >> 15 || index >= offsets_count)
		return NULL;
	index = array_index_nospec(index, offsets_count);
	return offsets[index] ? vmcs12 + offsets[index] : NULL;
}

/* The upper halves of 64-bit fields, whose encodings are odd, are accessed as 32-bit fields. */
static unsigned int width_of(u64 field)
{
	return field & 1 ? WIDTH_32 : field >> 13 & 3;
}

static u64 load(const void *place, u64 field)
{
	switch (width_of(field)) {
	case WIDTH_16:
		return *(const u16 *)place;
	case WIDTH_32:
		return *(const u32 *)place;
	default:
		return *(const u64 *)place;
	}
}

/* Some processors drop the reserved bits of the access rights, and KVM does. */
static u64 written(u64 field, u64 value)
{
	return field >= GUEST_ES_AR_BYTES && field <= GUEST_TR_AR_BYTES ? value & 0x1f0ff : value;
}

static void store(void *place, u64 field, u64 value)
{
	switch (width_of(field)) {
	case WIDTH_16:
		*(u16 *)place = (u16)value;
		break;
	case WIDTH_32:
		*(u32 *)place = (u32)value;
		break;
	default:
		*(u64 *)place = value;
	}
}

/* ---- Which accesses are done here ---- */

static bool has_enlightened_vmcs(struct kvm_vcpu *vcpu)
{
#if NXK_VMX_EVMCS >= 0
	/* KVM's EVMPTR_INVALID. */
	return NXK_FIELD(vcpu, VMX_EVMCS, u64) != ~0ull;
#else
	return false;
#endif
}

static bool in_64_bit_mode(const struct nx_state *state)
{
	return state->efer & EFER_LMA && state->seg[NX_CS].l;
}

static bool is_canonical(const struct nx_state *state, u64 address)
{
	unsigned int unused = state->cr4 & X86_CR4_LA57 ? 64 - 57 : 64 - 48;

	return (u64)((s64)(address << unused) >> unused) == address;
}

/*
 * While KVM has not copied the nested guest's rarely used fields, those of a shadow VMCS are the
 * ones that it certainly has: a processor would read them without asking KVM.
 */
static bool is_current(struct kvm_vcpu *vcpu, u64 field, const unsigned long *certain)
{
	return contains(certain, field) || !NXK_FIELD(vcpu, VMX_RARE_SYNC, bool);
}

/*
 * With VMCS shadowing KVM takes these for fields that are accessed without an exit, even on a
 * processor that does not have them, where they exit. It copies none of them late.
 */
static bool is_missing_in_shadow(u64 field)
{
	return nxk_shadow_used() && (field == GUEST_INTR_STATUS || field == GUEST_PML_INDEX ||
				     field == VMX_PREEMPTION_TIMER_VALUE);
}

/* Return whether KVM's handler would do no more than the module does. */
static bool handler_is_plain(struct kvm_vcpu *vcpu, u64 field, bool write)
{
	if (!write)
		return is_missing_in_shadow(field) || is_current(vcpu, field, shadowed);
	return (field >> 10 & 3) != READ_ONLY && !is_missing_in_shadow(field) &&
	       is_current(vcpu, field, shadowed_writable);
}

/* Return whether an instruction is one that may be done here, or given to KVM with its operands. */
static bool is_plain(struct nxk_vcpu *v, const struct nx_exit *exit)
{
	return NXK_FIELD(v->vcpu, VMX_VMXON, bool) && !has_enlightened_vmcs(v->vcpu) &&
	       in_64_bit_mode(v->state) && (!exit->memory || is_canonical(v->state, exit->linear));
}

static enum nx_route route_access(struct nxk_vcpu *v, const struct nx_exit *exit)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	u64 field = exit->operand;

	if (!is_plain(v, exit) || NXK_FIELD(vcpu, VMX_CURRENT_VMPTR, gpa_t) == INVALID_GPA ||
	    !place_of(vcpu, field))
		return NX_ROUTE_LEAVE;
	v->copy = nxk_shadow_copy(vcpu, field, exit->write);
	switch (v->copy) {
	case NXK_VMCS_EXITS:
		return handler_is_plain(vcpu, field, exit->write) ? NX_ROUTE_EXIT : NX_ROUTE_LEAVE;
	case NXK_VMCS_NONE:
		return NX_ROUTE_LEAVE;
	default:
		return NX_ROUTE_FREE;
	}
}

/* No hypervisor that enables interrupts enters its guest, so that nothing can come in between. */
enum nx_route nxk_vmx_route_nested(struct nxk_vcpu *v, const struct nx_exit *exit)
{
	switch (exit->insn) {
	case NX_INSN_VMREAD:
	case NX_INSN_VMWRITE:
		return route_access(v, exit);
	case NX_INSN_VMPTRLD:
	case NX_INSN_VMPTRST:
	case NX_INSN_VMCLEAR:
	case NX_INSN_INVEPT:
	case NX_INSN_INVVPID:
		return operands_writable && is_plain(v, exit) ? NX_ROUTE_EXIT : NX_ROUTE_LEAVE;
	case NX_INSN_VMLAUNCH:
	case NX_INSN_VMRESUME:
		return v->state->rflags & X86_EFLAGS_IF || !in_64_bit_mode(v->state)
			   ? NX_ROUTE_LEAVE
			   : NX_ROUTE_EXIT;
	default:
		return NX_ROUTE_LEAVE;
	}
}

/* The hypervisor reads an enlightened VMCS in its own memory, where KVM writes the fields on its
 * way to the next entry of the hardware. */
bool nxk_vmx_guest_vmcs_is_stale(struct kvm_vcpu *vcpu)
{
	return has_enlightened_vmcs(vcpu) && NXK_FIELD(vcpu, VMX_SHADOW_SYNC, bool);
}

/* ---- Delivery ---- */

#define ARITHMETIC_FLAGS                                                                       \
	((u64)(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF | \
	       X86_EFLAGS_OF))

static bool read_memory(struct kvm_vcpu *vcpu, u64 linear, u64 *value)
{
	struct exception_space exception;

	return !kvm_read_guest_virt(vcpu, linear, value, sizeof(*value),
				    (struct x86_exception *)&exception);
}

static bool write_memory(struct kvm_vcpu *vcpu, u64 linear, u64 *value)
{
	struct exception_space exception;

	return !kvm_write_guest_virt_system(vcpu, linear, value, sizeof(*value),
					    (struct x86_exception *)&exception);
}

/* Have the engine store the answer in its register and move on. The instruction has succeeded. */
static bool finish(struct nxk_vcpu *v)
{
	if (nxk_engine_complete(v) != NX_COMPLETION_DONE) {
		WARN_ON_ONCE(1);
		return false;
	}
	v->state->rflags &= ~ARITHMETIC_FLAGS;
	return true;
}

/* KVM moves rip, and so counts the instruction. */
static int succeed(struct nxk_vcpu *v)
{
	if (!finish(v))
		return -EIO;
	nxk_write_state(v);
	nxk_set_rip(v->vcpu, v->exit.rip);
	return kvm_skip_emulated_instruction(v->vcpu);
}

static bool read_field(struct nxk_vcpu *v, u64 field, u64 *value)
{
	if (v->copy == NXK_VMCS_SHADOW)
		return nxk_shadow_read(field, value);
	*value = load(place_of(v->vcpu, field), field);
	return true;
}

static bool makes_dirty(u64 field)
{
	return !contains(shadowed_writable, field);
}

/* Return whether the hypervisor reads the field in the shadow VMCS. */
static bool is_shown(struct kvm_vcpu *vcpu, u64 field)
{
	return nxk_shadow_copy(vcpu, field, false) == NXK_VMCS_SHADOW;
}

/* A field that is written with an exit, but read without one, has to be written in both copies. */
static bool write_field(struct nxk_vcpu *v, u64 field, u64 value)
{
	bool exits = v->copy == NXK_VMCS_EXITS;

	if (exits)
		value = written(field, value);
	if ((v->copy == NXK_VMCS_SHADOW || (exits && is_shown(v->vcpu, field))) &&
	    !nxk_shadow_write(field, value))
		return false;
	if (v->copy != NXK_VMCS_SHADOW)
		store(place_of(v->vcpu, field), field, value);
	if (exits && makes_dirty(field))
		NXK_FIELD(v->vcpu, VMX_DIRTY_VMCS12, bool) = true;
	return true;
}

/* Return false if an operand cannot be accessed. The hardware meets that, too, and KVM raises the
 * exception for memory. */
static bool access(struct nxk_vcpu *v)
{
	struct nx_exit *exit = &v->exit;

	if (exit->insn == NX_INSN_VMREAD)
		return read_field(v, exit->operand, &exit->data) &&
		       (!exit->memory || write_memory(v->vcpu, exit->linear, &exit->data));
	return (!exit->memory || read_memory(v->vcpu, exit->linear, &exit->data)) &&
	       write_field(v, exit->operand, exit->data);
}

/* KVM looks at the guest's flags when it accesses memory for it. */
bool nxk_vmx_execute(struct nxk_vcpu *v)
{
	if (v->exit.memory)
		nxk_write_state(v);
	return access(v) && finish(v);
}

/*
 * The handler may go to the nested guest's VMCS and return with a failure. What KVM has not
 * written to the guest hypervisor's VMCS is forgotten then, so it has to be there.
 */
static int deliver_entry(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;

	v->last = true;
	nxk_shadow_sync(vcpu);
	nxk_vmcs_write(GUEST_RSP, v->state->gpr[NX_RSP]);
	nxk_vmcs_write(GUEST_RIP, v->state->rip);
	return v->exit.insn == NX_INSN_VMLAUNCH ? static_call(nxk_vmx_launch)(vcpu)
						: static_call(nxk_vmx_resume)(vcpu);
}

static int call_operand_handler(struct kvm_vcpu *vcpu, enum nx_insn_exit insn)
{
	switch (insn) {
	case NX_INSN_VMPTRLD:
		return static_call(nxk_vmx_ptrld)(vcpu);
	case NX_INSN_VMPTRST:
		return static_call(nxk_vmx_ptrst)(vcpu);
	case NX_INSN_VMCLEAR:
		return static_call(nxk_vmx_clear)(vcpu);
	case NX_INSN_INVEPT:
		return static_call(nxk_vmx_invept)(vcpu);
	default:
		return static_call(nxk_vmx_invvpid)(vcpu);
	}
}

/*
 * VMPTRLD and VMCLEAR write the VMCS that is current until then to the guest hypervisor's memory,
 * with the fields from the shadow VMCS, so that has to hold them. Which copy of the next one holds
 * KVM says as it does behind an exit.
 */
static int deliver_operand(struct nxk_vcpu *v)
{
	nxk_shadow_sync(v->vcpu);
	if (!nxk_operands_write(v->vcpu, &v->exit))
		return 1;
	return call_operand_handler(v->vcpu, v->exit.insn);
}

int nxk_vmx_deliver_nested(struct nxk_vcpu *v)
{
	switch (v->exit.insn) {
	case NX_INSN_VMREAD:
	case NX_INSN_VMWRITE:
		return access(v) ? succeed(v) : 1;
	case NX_INSN_VMLAUNCH:
	case NX_INSN_VMRESUME:
		return deliver_entry(v);
	default:
		return deliver_operand(v);
	}
}

/* ---- check=N ---- */

/* Let the engine say where the answer would go, and take that back. */
static bool predict_registers(struct nxk_vcpu *v)
{
	const struct nx_state before = *v->state;
	bool done = finish(v);

	memcpy(v->predicted.gpr, v->state->gpr, sizeof(v->predicted.gpr));
	v->predicted.rflags = v->state->rflags;
	*v->state = before;
	return done;
}

bool nxk_vmx_predict(struct nxk_vcpu *v)
{
	struct nx_exit *exit = &v->exit;
	u64 field = exit->operand, value = 0;
	const void *place;

	if (nx_exit_class_of(exit) != NX_CLASS_VMCS)
		return false;
	place = place_of(v->vcpu, field);
	v->predicted.dirty = NXK_FIELD(v->vcpu, VMX_DIRTY_VMCS12, bool);
	if (exit->insn == NX_INSN_VMREAD) {
		exit->data = load(place, field);
		v->predicted.value = exit->data;
		return predict_registers(v);
	}
	if (exit->memory && !read_memory(v->vcpu, exit->linear, &exit->data))
		return false;
	store(&value, field, written(field, exit->data));
	v->predicted.value = load(&value, field);
	v->predicted.dirty |= makes_dirty(field);
	return predict_registers(v);
}

/* Return whether the copy that the hypervisor reads without an exit, if there is one, holds it. */
static bool is_shown_as(struct kvm_vcpu *vcpu, u64 field, u64 expected)
{
	u64 value;

	return !is_shown(vcpu, field) || (nxk_shadow_read(field, &value) && value == expected);
}

bool nxk_vmx_as_predicted(struct nxk_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	const struct nx_exit *exit = &v->exit;
	u64 value;

	/* KVM could not access the memory operand: then the exit would have been left to it. */
	if (vcpu->arch.exception.pending)
		return true;
	nxk_need_registers(vcpu);
	if (nxk_rip(vcpu) != exit->next ||
	    NXK_FIELD(vcpu, VMX_DIRTY_VMCS12, bool) != v->predicted.dirty ||
	    memcmp(vcpu->arch.regs, v->predicted.gpr, sizeof(v->predicted.gpr)) ||
	    static_call(nxk_get_rflags)(vcpu) != v->predicted.rflags ||
	    load(place_of(vcpu, exit->operand), exit->operand) != v->predicted.value ||
	    !is_shown_as(vcpu, exit->operand, v->predicted.value))
		return false;
	return exit->insn != NX_INSN_VMREAD || !exit->memory ||
	       (read_memory(vcpu, exit->linear, &value) && value == v->predicted.value);
}
