// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * nested.c - the instructions of a guest hypervisor: what the two vendors' processors have in
 * common. The rest is in nested_svm.c and nested_vmx.c.
 *
 * The vCPU is never in a nested guest here: a stay begins behind an exit that the nested guest's
 * hypervisor gets, and ends with the instruction that enters the nested guest.
 */
#include "host.h"

static bool available;

void nxk_nested_init(void)
{
	available = nxk_vendor->find_nested();
}

bool nxk_nested_available(void)
{
	return available;
}

static enum nx_route route(struct nxk_vcpu *v, const struct nx_exit *exit)
{
	switch (nx_exit_class_of(exit)) {
	case NX_CLASS_DESCRIPTOR:
		return nxk_route_descriptor(v);
	case NX_CLASS_VMCS:
	case NX_CLASS_VMX:
	case NX_CLASS_SVM:
	case NX_CLASS_VM_ENTRY:
		return nxk_vendor->route_nested(v, exit);
	default:
		return NX_ROUTE_EXIT;
	}
}

enum nx_route nxk_route_insn(void *data, const struct nx_exit *exit)
{
	struct nxk_vcpu *v = data;
	enum nx_route result;

	if (nxk_is_frequent(exit)) {
		v->free = false;
		return NX_ROUTE_EXIT;
	}
	result = route(v, exit);
	v->free = result == NX_ROUTE_FREE;
	return result;
}

int nxk_deliver_nested(struct nxk_vcpu *v)
{
	return nxk_vendor->deliver_nested(v);
}
