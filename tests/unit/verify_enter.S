/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The engine's way in and out, with the sandbox's handlers behind it. */
#define nx_enter verify_sandbox_enter
#define nx_thunk_exit verify_sandbox_thunk_exit
#define nx_thunk_miss verify_sandbox_thunk_miss
#define nx_thunk_helper verify_sandbox_thunk_helper
#define nx_runtime_miss verify_sandbox_miss
#define nx_runtime_helper verify_sandbox_helper
#include "run/enter.S"
