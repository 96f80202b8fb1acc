/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* secret.h - what tests blind constants with (nx_memory.blind), so that a failure repeats. */
#ifndef NX_TESTS_SECRET_H
#define NX_TESTS_SECRET_H

#define MOCK_SECRET 0x5bd1e995a3779db9ull

#endif
