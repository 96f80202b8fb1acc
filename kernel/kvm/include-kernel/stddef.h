/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* stddef.h - the kernel has it among its types: see stdint.h. */
#include <linux/types.h>
