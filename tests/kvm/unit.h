/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* unit.h - what the tests of one file of kvm/ each begin with: cmocka, and the fake kernel. */
#ifndef NX_TEST_UNIT_H
#define NX_TEST_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "fake.h"

#endif
