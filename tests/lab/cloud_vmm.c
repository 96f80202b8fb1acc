/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * cloud_vmm.c - a small VMM that uses KVM as those in Rust do (Firecracker, Cloud Hypervisor).
 *
 *	cloud_vmm split|pc GUEST
 *
 * The vCPU's thread is kicked by signals all the time. Doorbells are ioeventfds that a device's
 * thread waits for, interrupts are irqfds: messages with the interrupt controllers of user space
 * (split), or messages and a line with all of a PC's in the kernel (pc). Again and again the vCPU
 *is stopped, all that KVM knows of the machine is read, the VM is closed, and another one goes on
 *from that. The guest (cloud_guest.c) is in a static ELF file; its serial port is standard output.
 */
#define _GNU_SOURCE
#include "cloud_vmm.h"
#include "cloud_machine.h"

#include <err.h>
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define KICK_NANOSECONDS 1500000
/* As long as the guest waits, there are no exits. */
#define PATIENCE 20
/* So many kicks without an exit are for ever. */
#define STUCK_KICKS 1000
/* A snapshot takes longer than all that is between two, so the guest has to get on meanwhile. */
#define SNAPSHOT_KICKS 25
#define SNAPSHOT_EXITS 250u

static atomic_uint exits;
static uint32_t in_shadow;

/* ---- The vCPU's thread ---- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool pause, paused;
	atomic_bool over;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Whenever it comes, also just before KVM_RUN, the vCPU comes back. */
static void on_kick(int number)
{
	(void)number;
	__atomic_store_n(&run->immediate_exit, 1, __ATOMIC_RELAXED);
}

static void port_access(uint16_t port, bool out, uint8_t *data, size_t size)
{
	if (port == END_PORT) {
		memcpy(&in_shadow, data, size);
		gate.over = true;
	}
	if (out && port == SERIAL && write(STDOUT_FILENO, data, 1) != 1)
		err(1, "standard output");
	else if (!out)
		memset(data, port == SERIAL + 5 ? 0x60 : 0, size);
}

static void handle_exit(void)
{
	uint32_t value;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		for (uint32_t i = 0; i < run->io.count; i++)
			port_access(run->io.port, run->io.direction == KVM_EXIT_IO_OUT,
				    (uint8_t *)run + run->io.data_offset + (size_t)i * run->io.size,
				    run->io.size);
		break;
	case KVM_EXIT_MMIO:
		memcpy(&value, run->mmio.data, sizeof(value));
		if (run->mmio.is_write)
			device_write(run->mmio.phys_addr, value);
		else
			value = device_read(run->mmio.phys_addr);
		memcpy(run->mmio.data, &value, sizeof(value));
		break;
	default:
		errx(1, "KVM ended the guest with exit %u", run->exit_reason);
	}
}

/* Return false if a signal came instead. */
static bool run_once(void)
{
	if (ioctl(vcpu, KVM_RUN, 0)) {
		if (errno != EINTR && errno != EAGAIN)
			err(1, "KVM_RUN");
		return false;
	}
	exits++;
	handle_exit();
	return true;
}

/* An instruction that the VMM has emulated a part of is finished first: it is in no state. */
static void wait_at_gate(void)
{
	do
		run->immediate_exit = 1;
	while (run_once());
	gate.paused = true;
	pthread_cond_broadcast(&gate.changed);
	while (gate.pause && !gate.over)
		pthread_cond_wait(&gate.changed, &gate.lock);
	gate.paused = false;
}

static void *vcpu_thread(void *unused)
{
	bool over = false;

	while (!over) {
		pthread_mutex_lock(&gate.lock);
		if (gate.pause && !gate.over)
			wait_at_gate();
		over = gate.over;
		pthread_mutex_unlock(&gate.lock);
		if (!over && !run_once())
			run->immediate_exit = 0;
	}
	pthread_mutex_lock(&gate.lock);
	gate.paused = true;
	pthread_cond_broadcast(&gate.changed);
	pthread_mutex_unlock(&gate.lock);
	return unused;
}

/* ---- What the main thread does ---- */

static bool pause_vcpu(pthread_t thread)
{
	bool over;

	pthread_mutex_lock(&gate.lock);
	gate.pause = true;
	pthread_kill(thread, SIGUSR1);
	while (!gate.paused)
		pthread_cond_wait(&gate.changed, &gate.lock);
	over = gate.over;
	pthread_mutex_unlock(&gate.lock);
	return !over;
}

static bool kick(pthread_t thread)
{
	bool over;

	pthread_mutex_lock(&gate.lock);
	over = gate.over;
	if (!over)
		pthread_kill(thread, SIGUSR1);
	pthread_mutex_unlock(&gate.lock);
	return !over;
}

static void resume_vcpu(void)
{
	pthread_mutex_lock(&gate.lock);
	gate.pause = false;
	pthread_cond_broadcast(&gate.changed);
	pthread_mutex_unlock(&gate.lock);
}

static void wait_for_exit(void)
{
	const struct timespec interval = {.tv_nsec = KICK_NANOSECONDS};
	unsigned seen = exits;

	for (unsigned i = 0; i < PATIENCE && (!i || exits == seen); i++)
		nanosleep(&interval, NULL);
}

/* Kicks the vCPU until the guest is at its end. Returns false if it waits for ever. */
static bool drive(pthread_t processor)
{
	unsigned kicks = 0, snapshots = 0, last = 0, seen = 0, idle = 0;

	for (bool on = true; on;) {
		wait_for_exit();
		idle = exits == seen ? idle + 1 : 0;
		seen = exits;
		if (++kicks % SNAPSHOT_KICKS == 0 && exits - last >= SNAPSHOT_EXITS) {
			on = pause_vcpu(processor);
			if (on) {
				machine_move();
				snapshots++;
				last = exits;
				resume_vcpu();
			}
		} else {
			on = kick(processor);
		}
		if (on && idle >= STUCK_KICKS && pause_vcpu(processor))
			return false;
	}
	fprintf(stderr, "kicks: %u, snapshots: %u, interrupts in the shadow of STI: %u\n", kicks,
		snapshots, in_shadow);
	return true;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_kick};
	pthread_t device, processor;

	if (argc != 3 || (strcmp(argv[1], "split") != 0 && strcmp(argv[1], "pc") != 0))
		errx(2, "usage: cloud_vmm split|pc GUEST");
	sigaction(SIGUSR1, &action, NULL);
	machine_start(argv[1][0] == 'p', argv[2]);
	if (pthread_create(&device, NULL, device_thread, NULL) ||
	    pthread_create(&processor, NULL, vcpu_thread, NULL))
		errx(1, "no thread can be made");
	if (!drive(processor)) {
		fprintf(stderr, "The guest waits for ever.\n");
		machine_say_where();
		return 1;
	}
	pthread_join(processor, NULL);
	machine_say_counts();
	return 0;
}
