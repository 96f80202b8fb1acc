/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * machine.h - an engine with a host that does nothing, for timing the engine alone.
 */
#ifndef NX_BENCH_MACHINE_H
#define NX_BENCH_MACHINE_H

#include <noexit.h>

/* Guest-physical, and linear. From BENCH_DEVICE on lies device memory, two megabytes of it. */
#define BENCH_DATA 0x20000u
#define BENCH_STACK 0x30000u
#define BENCH_CODE 0x40000u
#define BENCH_DEVICE 0x200000u

struct machine {
	struct nx_memory memory;
	struct nx_engine *engine;
	uint8_t *ram;
	struct nx_exit exit;
};

/* Make the machine; the engine gets *config. The caller calls machine_free() in any case. */
bool machine_make(struct machine *m, const struct nx_config *config);
void machine_free(struct machine *m);
/* Tell the engine that the hardware has executed the exiting instruction at rip, which is length
 * bytes long. */
enum nx_outcome machine_take_over(struct machine *m, uint64_t rip, unsigned length);
/* Load code that begins with a one-byte exit, and have it translated. */
bool machine_load(struct machine *m, const uint8_t *code, const uint8_t *end);
/* Return the nanoseconds from one exit that the engine delivered to the next. */
double machine_time_exits(struct machine *m, unsigned batch, bool *good);
/* Return the processor time of this thread. */
double machine_now_ns(void);

#endif
