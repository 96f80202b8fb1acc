/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* cmocka wants it included first; what ends a test here is shim.c's own. */
