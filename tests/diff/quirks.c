/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * quirks.c - what the lab's emulated processors do differently from the architecture: QEMU 7.2's
 * AMD, Bochs 2.7's Intel. Nothing to compare with there.
 */
#include "kvm.h"

#define ARITHMETIC_FLAGS 0x8d5u

/* They do not see the flags of the instruction before them, which they have to keep. */
bool qemu_lacks(ZydisMnemonic mnemonic)
{
	return mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B || mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;
}

/* ENTER takes no other operand size in 64-bit mode. User mode has that one natively. */
static bool is_odd_enter(const ZydisDecodedInstruction *decoded)
{
	return decoded->mnemonic == ZYDIS_MNEMONIC_ENTER &&
	       decoded->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 && decoded->raw.prefix_count;
}

bool bochs_differs(const ZydisDecodedInstruction *decoded)
{
	return is_odd_enter(decoded);
}

/*
 * SHLD and SHRD with an immediate forget it when the address is relative to rip. MOVBE has 32 bits
 * in 16-bit code, and 16 with an operand-size prefix. And what reads flags has lost them if its
 * access to memory is an exit.
 */
bool qemu_differs(const ZydisDecodedInstruction *decoded, bool relative, bool device)
{
	if (is_odd_enter(decoded))
		return true;
	if (device && decoded->cpu_flags && decoded->cpu_flags->tested & ARITHMETIC_FLAGS)
		return true;
	if (decoded->mnemonic == ZYDIS_MNEMONIC_MOVBE)
		return decoded->machine_mode == ZYDIS_MACHINE_MODE_LEGACY_16;
	return relative && (decoded->mnemonic == ZYDIS_MNEMONIC_SHLD ||
			    decoded->mnemonic == ZYDIS_MNEMONIC_SHRD);
}
