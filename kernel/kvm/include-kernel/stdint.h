/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * stdint.h - what the engine's public header includes, for files that include the kernel's headers
 * as well: those have the same types under the same names, of the same sizes.
 */
#ifndef NXK_STDINT_H
#define NXK_STDINT_H

#include <linux/limits.h>
#include <linux/types.h>

#ifndef INT64_MIN
#define INT64_MIN S64_MIN
#endif
#ifndef UINT32_MAX
#define UINT32_MAX U32_MAX
#endif

#endif
