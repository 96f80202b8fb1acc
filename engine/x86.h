/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* x86.h - architectural constants that the engine and its hosts look at (SDM vol. 3, 2.3, 2.5, 11.4
 * and chapter 4; vol. 4 for MSRs). */
#ifndef NX_X86_H
#define NX_X86_H

#include <stdint.h>

#define NX_PAGE_SIZE 4096u
#define NX_PAGE_MASK (~(uint64_t)(NX_PAGE_SIZE - 1))
#define NX_CACHE_LINE 64u

/* RFLAGS. */
#define NX_FL_CF (1u << 0)
#define NX_FL_PF (1u << 2)
#define NX_FL_AF (1u << 4)
#define NX_FL_ZF (1u << 6)
#define NX_FL_SF (1u << 7)
#define NX_FL_TF (1u << 8)
#define NX_FL_IF (1u << 9)
#define NX_FL_DF (1u << 10)
#define NX_FL_OF (1u << 11)
#define NX_FL_IOPL (3u << 12)
#define NX_FL_NT (1u << 14)
#define NX_FL_RF (1u << 16)
#define NX_FL_VM (1u << 17)
#define NX_FL_AC (1u << 18)
#define NX_FL_VIF (1u << 19)
#define NX_FL_VIP (1u << 20)
#define NX_FL_ID (1u << 21)
#define NX_FL_ARITHMETIC (NX_FL_CF | NX_FL_PF | NX_FL_AF | NX_FL_ZF | NX_FL_SF | NX_FL_OF)
/* All flags; the other bits are fixed. */
#define NX_FL_DEFINED                                                                           \
	(NX_FL_ARITHMETIC | NX_FL_TF | NX_FL_IF | NX_FL_DF | NX_FL_IOPL | NX_FL_NT | NX_FL_RF | \
	 NX_FL_VM | NX_FL_AC | NX_FL_VIF | NX_FL_VIP | NX_FL_ID)

/* Control registers and EFER. */
#define NX_CR0_PE (1ull << 0)
#define NX_CR0_EM (1ull << 2)
#define NX_CR0_TS (1ull << 3)
#define NX_CR0_WP (1ull << 16)
#define NX_CR0_AM (1ull << 18)
#define NX_CR0_PG (1ull << 31)
#define NX_CR4_TSD (1ull << 2)
#define NX_CR4_PSE (1ull << 4)
#define NX_CR4_PAE (1ull << 5)
#define NX_CR4_OSFXSR (1ull << 9)
#define NX_CR4_LA57 (1ull << 12)
#define NX_CR4_VMXE (1ull << 13)
#define NX_CR4_SMEP (1ull << 20)
#define NX_CR4_SMAP (1ull << 21)
#define NX_CR4_PKE (1ull << 22)
#define NX_CR4_CET (1ull << 23)
#define NX_CR4_PKS (1ull << 24)
#define NX_EFER_LME (1ull << 8)
#define NX_EFER_LMA (1ull << 10)
#define NX_EFER_NXE (1ull << 11)
#define NX_EFER_SVME (1ull << 12)

/* MSRs, a bit of one, and the offset of a register in the local APIC's page. */
#define NX_MSR_TSC 0x10u
#define NX_MSR_TSC_DEADLINE 0x6e0u
#define NX_MSR_TSC_AUX 0xc0000103u
#define NX_APIC_BASE_ENABLED (1ull << 11)
#define NX_APIC_TPR 0x80u

#endif
