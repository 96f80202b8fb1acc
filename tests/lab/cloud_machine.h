/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* cloud_machine.h - what cloud_vmm.c uses of cloud_machine.c. */
#ifndef CLOUD_MACHINE_H
#define CLOUD_MACHINE_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

extern int vcpu;
extern struct kvm_run *run;

/* Make the machine, with a PC's interrupt controllers and timer or without, with that guest. */
void machine_start(bool with_pc, const char *guest);

/* The machine goes on in another VM. The device and its events stay. No KVM_RUN may be under way.
 */
void machine_move(void);

/* To standard error: how much went over, and where the vCPU is. */
void machine_say_counts(void);
void machine_say_where(void);

/* The device's own thread, and its registers. */
void *device_thread(void *unused);
uint32_t device_read(uint64_t address);
void device_write(uint64_t address, uint32_t value);

#endif
