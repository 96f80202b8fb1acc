/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* cloud_vmm.h - the machine that cloud_vmm.c makes, as its guest sees it. */
#ifndef CLOUD_VMM_H
#define CLOUD_VMM_H

#define SERIAL 0x3f8
#define END_PORT 0x501

/* A device of two queues: an argument, then the doorbell; an interrupt says that the answer is
 * there. */
#define DEVICE 0xd0000000u
#define QUEUE_SIZE 0x10u
#define QUEUE_ARGUMENT 0x0u
#define QUEUE_RESULT 0x4u
#define QUEUE_STATUS 0x8u
#define DOORBELL_ADDRESS 0xd0001000u
#define DOORBELL_PORT 0x510
#define ANSWER(argument) ((argument)*2654435761u ^ 0x5a5a5a5au)

/* The first queue's interrupt is a message; the second's too, or a line to the I/O APIC. */
#define FIRST_GSI 24u
#define SECOND_GSI 5u
#define FIRST_VECTOR 0x40u
#define SECOND_VECTOR 0x41u
#define TIMER_VECTOR 0x42u
#define PIT_VECTOR 0x43u
#define PIT_PIN 2u

#endif
