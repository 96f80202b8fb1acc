/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Nothing of it is used: a test that needs it does not belong into the self-test. */
