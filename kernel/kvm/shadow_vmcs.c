// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * shadow_vmcs.c - the fields of a guest hypervisor's VMCS that it reads and writes without an exit.
 *
 * Where KVM uses VMCS shadowing it has two copies of the guest hypervisor's VMCS: its own, which it
 * works with, and a shadow VMCS with some of the fields, which the processor takes VMREAD and
 * VMWRITE to. For these fields one of the two holds at a time:
 *
 * - from an exit that KVM has given to the guest hypervisor to the next entry of the hardware KVM's
 *   own copy, which KVM copies to the shadow VMCS on its way to that entry (a flag says that this
 *   is to be done);
 * - otherwise the shadow VMCS, whose writable fields KVM copies to its own when the guest
 *   hypervisor enters its guest.
 *
 * So these fields are accessed where they hold, and nothing is changed about which copy that is.
 * But KVM emulates VMLAUNCH and VMRESUME behind an entry of the hardware only, when the shadow VMCS
 * holds. Before that its own function has to copy what it has put off.
 */
#include <linux/nospec.h>

#include <asm/vmx.h>

#include "field.h"
#include "vendor.h"
#include "vmcs.h"

static void no_function(struct kvm_vcpu *vcpu)
{
}

DEFINE_STATIC_CALL(nxk_sync_shadow, no_function);

/* Whether KVM uses VMCS shadowing at all. */
static bool used;

bool nxk_shadow_find(void)
{
	const bool *enabled = nxk_lookup("enable_shadow_vmcs");
	void *sync = nxk_lookup("nested_sync_vmcs12_to_shadow");

	if (!enabled || (*enabled && !sync))
		return false;
	used = *enabled;
	if (used)
		static_call_update(nxk_sync_shadow, sync);
	return true;
}

static bool copy_is_put_off(struct kvm_vcpu *vcpu)
{
	return NXK_FIELD(vcpu, VMX_SHADOW_SYNC, bool);
}

/* The processor's own view: what the VMCS that the guest hypervisor runs by says. */
static bool is_on(void)
{
	return nxk_vmcs_read(CPU_BASED_VM_EXEC_CONTROL) & CPU_BASED_ACTIVATE_SECONDARY_CONTROLS &&
	       nxk_vmcs_read(SECONDARY_VM_EXEC_CONTROL) & SECONDARY_EXEC_SHADOW_VMCS;
}

/* Each of the processor's two bitmaps is a page. */
#define BITMAP_FIELDS ((u64)BITS_PER_BYTE * PAGE_SIZE)

static bool is_set(unsigned long bitmap, u64 field)
{
	return test_bit(array_index_nospec(field, BITMAP_FIELDS),
			phys_to_virt(nxk_vmcs_read(bitmap)));
}

enum nxk_vmcs_copy nxk_shadow_copy(struct kvm_vcpu *vcpu, u64 field, bool write)
{
	if (!used || field >= BITMAP_FIELDS)
		return NXK_VMCS_EXITS;
	if (!is_on())
		return NXK_VMCS_NONE;
	if (is_set(write ? VMWRITE_BITMAP : VMREAD_BITMAP, field))
		return NXK_VMCS_EXITS;
	if (copy_is_put_off(vcpu))
		return NXK_VMCS_CACHED;
	return nxk_vmcs_read(VMCS_LINK_POINTER) == INVALID_GPA ? NXK_VMCS_NONE : NXK_VMCS_SHADOW;
}

bool nxk_shadow_used(void)
{
	return used;
}

/* ---- Access ---- */

static bool load(u64 vmcs)
{
	bool done;

	asm volatile("vmptrld %1" : "=@cca"(done) : "m"(vmcs) : "memory");
	return done;
}

/* KVM never leaves it loaded, so that the processor may have it anywhere. */
static void clear(u64 vmcs)
{
	asm volatile("vmclear %0" : : "m"(vmcs) : "cc", "memory");
}

/* Make the shadow VMCS the current one and return the one that was, or 0: it cannot be loaded.
 * There is no preemption until end(). */
static u64 begin(u64 *shadow)
{
	u64 previous;

	preempt_disable();
	*shadow = nxk_vmcs_read(VMCS_LINK_POINTER);
	asm volatile("vmptrst %0" : "=m"(previous) : : "cc");
	if (load(*shadow))
		return previous;
	preempt_enable();
	return 0;
}

static void end(u64 shadow, u64 previous)
{
	clear(shadow);
	WARN_ON_ONCE(!load(previous));
	preempt_enable();
}

bool nxk_shadow_read(u64 field, u64 *value)
{
	u64 shadow, previous = begin(&shadow);
	bool done;

	if (!previous)
		return false;
	asm volatile("vmread %2, %1" : "=@cca"(done), "=rm"(*value) : "r"(field));
	end(shadow, previous);
	return done;
}

bool nxk_shadow_write(u64 field, u64 value)
{
	u64 shadow, previous = begin(&shadow);
	bool done;

	if (!previous)
		return false;
	done = nxk_vmcs_try_write(field, value);
	end(shadow, previous);
	return done;
}

void nxk_shadow_sync(struct kvm_vcpu *vcpu)
{
	if (!used || !copy_is_put_off(vcpu))
		return;
	preempt_disable();
	static_call(nxk_sync_shadow)(vcpu);
	preempt_enable();
}
