/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* verify_good_direct.S - the programs of verify_good.S in this form of branches. */
#define BRANCHES DIRECT
#include "verify_good.S"
