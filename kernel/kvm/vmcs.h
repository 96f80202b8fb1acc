/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* vmcs.h - accesses the VMCS that the vCPU runs by, which KVM has loaded. */
#ifndef NXK_VMCS_H
#define NXK_VMCS_H

#include <linux/types.h>

static inline u64 nxk_vmcs_read(unsigned long field)
{
	u64 value;

	asm volatile("vmread %1, %0" : "=rm"(value) : "r"(field) : "cc");
	return value;
}

/* Return false if the field cannot be written. */
static inline bool nxk_vmcs_try_write(unsigned long field, u64 value)
{
	bool done;

	asm volatile("vmwrite %2, %1" : "=@cca"(done) : "r"(field), "rm"(value) : "memory");
	return done;
}

static inline void nxk_vmcs_write(unsigned long field, u64 value)
{
	asm volatile("vmwrite %1, %0" : : "r"(field), "rm"(value) : "cc");
}

#endif
