/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * exit_test.c - kvm/exit.c: how each exit of the engine's is described to the VMM, what is taken of
 * its answer, and when it is completed. ring_test.c and ioeventfd_test.c have the writes for which
 * the VMM gets none.
 */
#include <fcntl.h>
#include <unistd.h>

#include "exits.h"

static struct vmm vmm;
static struct nx_kvm_vcpu *vcpu;
static struct kvm_run *run;

/* To an exit of the engine's. */
static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	start(true);
	enter_engine(&vmm);
	vcpu = fake_vcpu();
	run = fake.run;
	return 0;
}

/* ---- The run page ---- */

static char *port_data(void)
{
	return (char *)run + run->io.data_offset;
}

static void test_port_write(void **state)
{
	(void)state;
	vcpu->exit = (struct nx_exit){.kind = NX_EXIT_IO,
				      .write = true,
				      .size = 2,
				      .count = 1,
				      .port = 0x1234,
				      .data = 0xabcd};
	nx_exit_fabricate(vcpu);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(run->io.direction, KVM_EXIT_IO_OUT);
	assert_int_equal(run->io.size, 2);
	assert_int_equal(run->io.count, 1);
	assert_int_equal(run->io.port, 0x1234);
	assert_int_equal(run->io.data_offset, NX_HOST_PAGE);
	assert_memory_equal(port_data(), "\xcd\xab", 2);
	/* There is no answer to a write. */
	memset(port_data(), 0, 2);
	nx_exit_consume(vcpu);
	assert_int_equal(vcpu->exit.data, 0xabcd);
}

static void test_port_read(void **state)
{
	(void)state;
	vcpu->exit = (struct nx_exit){
	    .kind = NX_EXIT_IO, .size = 1, .count = 1, .port = 0x60, .data = UINT64_MAX};
	nx_exit_fabricate(vcpu);
	assert_int_equal(run->io.direction, KVM_EXIT_IO_IN);
	memset(port_data(), 0x5a, 8);
	nx_exit_consume(vcpu);
	assert_int_equal(vcpu->exit.data, 0x5a);
}

static void test_port_strings(void **state)
{
	uint8_t string[6] = "abcdef";

	(void)state;
	vcpu->exit = (struct nx_exit){
	    .kind = NX_EXIT_IO, .write = true, .size = 2, .count = 3, .string = string};
	nx_exit_fabricate(vcpu);
	assert_int_equal(run->io.count, 3);
	assert_memory_equal(port_data(), "abcdef", 6);
	vcpu->exit.write = false;
	nx_exit_fabricate(vcpu);
	memcpy(port_data(), "ghijklmn", 8);
	nx_exit_consume(vcpu);
	assert_memory_equal(string, "ghijkl", 6);
}

static void test_device_memory(void **state)
{
	static const uint8_t written[8] = {4, 3, 2, 1};

	(void)state;
	vcpu->exit = (struct nx_exit){.kind = NX_EXIT_MMIO,
				      .write = true,
				      .size = 4,
				      .count = 1,
				      .gpa = 0xfee00300,
				      .data = 0x01020304};
	memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
	nx_exit_fabricate(vcpu);
	assert_int_equal(run->exit_reason, KVM_EXIT_MMIO);
	assert_int_equal(run->mmio.phys_addr, 0xfee00300);
	assert_int_equal(run->mmio.len, 4);
	assert_int_equal(run->mmio.is_write, 1);
	assert_memory_equal(run->mmio.data, written, sizeof(written));
	vcpu->exit.write = false;
	nx_exit_fabricate(vcpu);
	assert_int_equal(run->mmio.is_write, 0);
	memset(run->mmio.data, 0x77, sizeof(run->mmio.data));
	nx_exit_consume(vcpu);
	assert_int_equal(vcpu->exit.data, 0x77777777);
}

/* Whether the guest takes interrupts is the engine's to say, for whom KVM has no controller. */
static void test_interrupt_flag(void **state)
{
	(void)state;
	run->flags = KVM_RUN_X86_SMM;
	for (int on = 0; on < 2; on++) {
		vcpu->state->rflags = on ? NX_FL_IF : 0;
		nx_exit_fabricate(vcpu);
		assert_int_equal(run->flags, 0);
		assert_int_equal(run->if_flag, on);
		assert_int_equal(run->ready_for_interrupt_injection, on);
	}
	/* Whether the LAPIC lets one in is not known without asking. */
	vcpu->vm->irqchip_split = true;
	nx_exit_fabricate(vcpu);
	assert_int_equal(run->ready_for_interrupt_injection, 0);
	vcpu->vm->irqchip_full = true;
	vcpu->state->rflags = 0;
	nx_exit_fabricate(vcpu);
	assert_int_equal(run->ready_for_interrupt_injection, 1);
}

/* What the VMM has asked for is given, unless it has put its own there. */
static void test_registers(void **state)
{
	(void)state;
	vcpu->state->gpr[NX_RBX] = 42;
	vcpu->state->seg[NX_ES].selector = 43;
	run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	run->s.regs.regs.rbx = 1;
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	nx_exit_fabricate(vcpu);
	assert_int_equal(run->s.regs.regs.rbx, 1);
	assert_int_equal(run->s.regs.sregs.es.selector, 43);
	run->kvm_dirty_regs = 0;
	nx_exit_fabricate(vcpu);
	assert_int_equal(run->s.regs.regs.rbx, 42);
	run->kvm_valid_regs = 0;
}

/* ---- Completion ---- */

static void test_phases(void **state)
{
	static const enum nx_phase phases[][2] = {
	    {NX_PHASE_EXIT, NX_PHASE_ENGINE},   {NX_PHASE_LAST, NX_PHASE_ENDING},
	    {NX_PHASE_ENGINE, NX_PHASE_ENGINE}, {NX_PHASE_ENDING, NX_PHASE_ENDING},
	    {NX_PHASE_KERNEL, NX_PHASE_KERNEL},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(phases) / sizeof(*phases); i++) {
		nx_phase_set(vcpu, phases[i][0]);
		assert_int_equal(nx_exit_is_open(vcpu), i < 2);
		assert_false(nx_exit_complete(vcpu));
		assert_int_equal(nx_phase(vcpu), phases[i][1]);
	}
}

/* The exit that is open becomes that of the read of a read-modify-write. */
static void go_to_read(void)
{
	while (vcpu->exit.kind != NX_EXIT_MMIO || vcpu->exit.write)
		assert_int_equal(vmm_step(&vmm), 0);
}

static void test_write_half(void **state)
{
	uint64_t sum;

	(void)state;
	go_to_read();
	sum = vcpu->exit.data + vcpu->state->gpr[NX_RAX];
	assert_true(nx_exit_complete(vcpu));
	assert_int_equal(nx_phase(vcpu), NX_PHASE_EXIT);
	assert_true(vcpu->exit.write);
	assert_int_equal(vcpu->exit.data, sum);
	assert_false(nx_exit_complete(vcpu));
	assert_int_equal(nx_phase(vcpu), NX_PHASE_ENGINE);
}

/* KVM does not return for a write that signals an eventfd, so the completion is at its end. */
static void test_absorbed_write_half(void **state)
{
	struct kvm_ioeventfd event = {
	    .addr = 0x700, .len = 8, .fd = open("/dev/null", O_WRONLY | O_CLOEXEC)};
	uint64_t internal;

	(void)state;
	assert_true(event.fd >= 0);
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_IOEVENTFD, &event), 0);
	go_to_read();
	internal = vcpu->stats->internal;
	assert_false(nx_exit_complete(vcpu));
	assert_int_equal(nx_phase(vcpu), NX_PHASE_ENGINE);
	assert_int_equal(vcpu->stats->internal, internal + 1);
	close(event.fd);
}

/* What KVM has done with by the time of the exit, and only that. */
static void test_settled(void **state)
{
	uint8_t string[4] = {0};
	const struct {
		bool final;
		struct nx_exit exit;
	} exits[] = {
	    {true, {.kind = NX_EXIT_MMIO, .write = true, .size = 4, .count = 1}},
	    {false, {.kind = NX_EXIT_MMIO, .size = 4, .count = 1}},
	    {true, {.kind = NX_EXIT_IO, .write = true, .size = 1, .count = 4, .string = string}},
	    {false, {.kind = NX_EXIT_IO, .size = 1, .count = 4, .string = string}},
	    {true, {.kind = NX_EXIT_IO, .write = true, .size = 1, .count = 1, .port = 0x7e}},
	    {false, {.kind = NX_EXIT_IO, .size = 1, .count = 1, .port = 0x7e}},
	    {false, {.kind = NX_EXIT_IO, .write = true, .size = 1, .count = 1, .port = 0x7f}},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(exits) / sizeof(*exits); i++) {
		nx_engine_forget_exit(vcpu->engine);
		nx_phase_set(vcpu, NX_PHASE_EXIT);
		vcpu->exit = exits[i].exit;
		nx_exit_settle(vcpu);
		assert_int_equal(nx_exit_is_open(vcpu), !exits[i].final);
	}
	/* The quirk of that port is the VMM's to switch off. */
	vcpu->vm->quirk_out_7e_off = true;
	nx_phase_set(vcpu, NX_PHASE_EXIT);
	vcpu->exit = exits[4].exit;
	nx_exit_settle(vcpu);
	assert_true(nx_exit_is_open(vcpu));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_port_write),    TEST(test_port_read),      TEST(test_port_strings),
	    TEST(test_device_memory), TEST(test_interrupt_flag), TEST(test_registers),
	    TEST(test_phases),        TEST(test_write_half),     TEST(test_absorbed_write_half),
	    TEST(test_settled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
