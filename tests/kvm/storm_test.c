/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * storm_test.c - random guests, random VMMs, and other threads that interfere: what the VMM sees
 * must be what it sees without the engine.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#define INSNS 24
#define ROUNDS 3000

static struct vmm with, without;
static uint64_t guest_random, vmm_random;

static unsigned draw(uint64_t *random, unsigned below)
{
	*random = *random * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(*random >> 33) % below;
}

static void make_guest(struct model_insn *program)
{
	for (unsigned i = 0; i < INSNS - 2; i++) {
		static const enum model_op ops[] = {M_ADD, M_MOVE, M_IN,    M_IN,    M_OUT,
						    M_OUT, M_LOAD, M_STORE, M_SPLIT, M_RMW,
						    M_STI, M_CLI,  M_SEG,   M_SEG,   M_OUTS};

		program[i].op = ops[draw(&guest_random, sizeof(ops) / sizeof(*ops))];
		program[i].operand = 0x100 + 16 * draw(&guest_random, 8);
		if (program[i].op == M_OUT && !draw(&guest_random, 4))
			program[i].operand = 0x7e;
	}
	program[INSNS - 2] = (struct model_insn){M_LOOP, draw(&guest_random, INSNS - 2)};
	program[INSNS - 1] = (struct model_insn){M_HLT, 0};
}

/* Decided by the access's number only, so that it is the same in both runs. */
static void interfere(struct vmm *vmm, unsigned index)
{
	uint64_t random = vmm_random + index;
	struct kvm_irq_level level = {.irq = 3, .level = 1};
	struct kvm_mp_state state = {0};
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	(void)vmm;
	draw(&random, 2);
	switch (draw(&random, 14)) {
	case 0:
		fake.run->immediate_exit = 1;
		break;
	case 1:
		vmm_ioctl(KVM_GET_REGS, &regs);
		break;
	case 2:
		vmm_ioctl(KVM_GET_REGS, &regs);
		regs.rbx += index;
		vmm_ioctl(KVM_SET_REGS, &regs);
		break;
	case 3:
		nx_kvm_ioctl(FAKE_VM_FD, KVM_IRQ_LINE, &level);
		break;
	case 4:
		fake.clock += 60000;
		break;
	case 5:
		fake.clock += 2000000;
		break;
	case 6:
		vmm_ioctl(KVM_SET_MP_STATE, &state);
		break;
	case 7:
		fake.run->request_interrupt_window ^= 1;
		break;
	case 8:
		vmm_ioctl(KVM_GET_SREGS, &sregs);
		break;
	case 9:
		vmm_ioctl(KVM_GET_SREGS, &sregs);
		sregs.es.selector ^= (uint16_t)index;
		vmm_ioctl(KVM_SET_SREGS, &sregs);
		break;
	}
}

static void run_once(const struct model_insn *program, bool on, struct vmm *vmm)
{
	nx_options_default(&nx_options);
	nx_options.off = !on;
	fake_start(program, INSNS, (struct fake_style){false, false});
	fake.regs.rdx = 4;
	*vmm = (struct vmm){.at_exit = interfere, .looks = vmm->looks, .syncs = vmm->syncs};
	assert_true(vmm_run(vmm));
	fake_stop();
}

static void test_random_guests(void **state)
{
	struct model_insn program[INSNS];
	uint64_t exits = 0;

	(void)state;
	for (unsigned round = 0; round < ROUNDS; round++) {
		guest_random = round * 77;
		vmm_random = round * 1000003ull;
		make_guest(program);
		with.looks = without.looks = round % 4 == 1;
		with.syncs = without.syncs = round % 4 == 2;
		run_once(program, false, &without);
		fake_engine = (struct fake_engine){.leave_every = round % 5, .random = round};
		run_once(program, true, &with);
		exits += fake_engine.exits;
		if (!vmm_equal(&without, &with))
			fail_msg("round %u", round);
	}
	assert_true(exits > ROUNDS * 5);
}

/* ---- Other threads ---- */

static atomic_bool over;
static atomic_uint changes;
static char memory[4096] __attribute__((aligned(4096)));

static void *change_slots(void *data)
{
	(void)data;
	while (!atomic_load(&over)) {
		struct kvm_userspace_memory_region region = {
		    .slot = 5,
		    .guest_phys_addr = 0x100000,
		    .memory_size = atomic_fetch_add(&changes, 1) % 2 ? 0 : 4096,
		    .userspace_addr = (uintptr_t)memory,
		};

		assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_SET_USER_MEMORY_REGION, &region), 0);
		usleep(20); /* the engine gets its turn */
	}
	return NULL;
}

static void *raise_interrupts(void *data)
{
	(void)data;
	while (!atomic_load(&over)) {
		struct kvm_irq_level level = {.irq = 3, .level = 1};

		nx_kvm_ioctl(FAKE_VM_FD, KVM_IRQ_LINE, &level);
		sched_yield();
	}
	return NULL;
}

/* The engine finds the slot present or absent, and the same for as long as it runs. */
static void look_at_slot(void)
{
	struct nx_page before, after;

	nx_kvm_engine_host.map_page(fake_vcpu(), 0x100000, &before);
	sched_yield();
	nx_kvm_engine_host.map_page(fake_vcpu(), 0x100000, &after);
	assert_true(before.kind == NX_PAGE_DEVICE ||
		    (before.kind == NX_PAGE_RAM && before.host == memory));
	assert_int_equal(before.kind, after.kind);
	assert_false(fake.memory_changing);
}

static void give_way(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	(void)index;
	sched_yield();
}

static void test_threads(void **state)
{
	static const struct model_insn program[] = {{M_IN, 1},  {M_OUT, 2},  {M_STI, 0},
						    {M_OUT, 3}, {M_IN, 4},   {M_CLI, 0},
						    {M_OUT, 5}, {M_LOOP, 0}, {M_HLT, 0}};
	pthread_t slots, interrupts;

	(void)state;
	nx_options_default(&nx_options);
	nx_options.off = true;
	fake_start(program, sizeof(program) / sizeof(*program), (struct fake_style){false, false});
	fake.regs.rdx = 800;
	without = (struct vmm){0};
	assert_true(vmm_run(&without));
	fake_stop();

	nx_options.off = false;
	fake_engine = (struct fake_engine){.in_resume = look_at_slot};
	fake_start(program, sizeof(program) / sizeof(*program), (struct fake_style){false, false});
	fake.regs.rdx = 800;
	with = (struct vmm){.at_exit = give_way};
	over = false;
	changes = 0;
	pthread_create(&slots, NULL, change_slots, NULL);
	pthread_create(&interrupts, NULL, raise_interrupts, NULL);
	while (!atomic_load(&changes))
		sched_yield();
	assert_true(vmm_run(&with));
	over = true;
	pthread_join(slots, NULL);
	pthread_join(interrupts, NULL);
	assert_true(vmm_equal(&without, &with));
	assert_true(changes > 10);
	assert_true(fake_engine.exits > 0);
	fake_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_guests),
	    cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
