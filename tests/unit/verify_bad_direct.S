/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* verify_bad_direct.S - the programs of verify_bad.S in this form of branches. */
#define BRANCHES DIRECT
#include "verify_bad.S"
