/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* string.h - for files that the kernel shares with user space. */
#include <linux/string.h>
