/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * ioeventfd_test.c - kvm/ioeventfd.c: which eventfds a write of the guest signals, and that the VMM
 * hears as much of it as without the engine.
 */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "exits.h"

static struct vmm vmm, without;
static int event;

static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	memset(&without, 0, sizeof(without));
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	start(true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_stop();
	close(event);
	return 0;
}

static uint64_t signals(void)
{
	uint64_t count = 0;

	return read(event, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

static int set_event(uint64_t address, uint32_t len, uint32_t flags, uint64_t match)
{
	struct kvm_ioeventfd args = {
	    .addr = address, .len = len, .flags = flags, .fd = event, .datamatch = match};

	return nx_kvm_ioctl(FAKE_VM_FD, KVM_IOEVENTFD, &args);
}

#define PIO KVM_IOEVENTFD_FLAG_PIO
#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH

/* The guest's run with the event, and without the engine: the same accesses and signals. */
static void compare(uint64_t address, uint32_t len, uint32_t flags, uint64_t match,
		    uint64_t expected)
{
	uint64_t plain;

	restart(false);
	assert_int_equal(set_event(address, len, flags, match), 0);
	memset(&without, 0, sizeof(without));
	assert_true(vmm_run(&without));
	plain = signals();
	assert_int_equal(plain, expected);
	restart(true);
	assert_int_equal(set_event(address, len, flags, match), 0);
	memset(&vmm, 0, sizeof(vmm));
	assert_true(vmm_run(&vmm));
	assert_int_equal(signals(), plain);
	assert_true(vmm_equal(&without, &vmm));
	assert_true(fake_engine.exits > 20);
}

static void test_signals(void **state)
{
	(void)state;
	compare(0x21, 4, PIO, 0, TURNS);
	/* The engine signalled in all turns but the first ones, in which the kernel did. */
	assert_true(fake_vcpu()->stats->signalled >= TURNS - 2);
	compare(0x21, 0, PIO, 0, TURNS);
	compare(0x21, 2, PIO, 0, 0);
	compare(0x21, 4, 0, 0, 0);
	compare(0x500, 8, 0, 0, TURNS);
	compare(0x500, 0, 0, 0, TURNS);
	assert_true(fake_vcpu()->stats->signalled >= TURNS - 2);
	compare(0x500, 4, 0, 0, 0);
	/* The write half of a read-modify-write. */
	compare(0x700, 8, 0, 0, TURNS);
	/* Of another machine's kind. */
	compare(0x21, 4, PIO | KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY, 0, 0);
}

static void test_datamatch(void **state)
{
	(void)state;
	compare(0x22, 4, PIO | MATCH, 103, 1);
	compare(0x22, 4, PIO | MATCH, 1, 0);
	/* KVM compares 64 bits: nothing that a port is given can be equal. */
	compare(0x22, 4, PIO | MATCH, 103 | 1ull << 32, 0);
}

static void test_deassign(void **state)
{
	uint32_t flags = PIO | MATCH;

	(void)state;
	assert_int_equal(set_event(0x21, 4, flags, 3), 0);
	assert_int_equal(set_event(0x21, 4, flags, 4), 0);
	assert_int_equal(fake_vm()->ioeventfds, 2);
	assert_int_equal(set_event(0x21, 4, flags | KVM_IOEVENTFD_FLAG_DEASSIGN, 5), -1);
	assert_int_equal(set_event(0x21, 4, flags | KVM_IOEVENTFD_FLAG_DEASSIGN, 3), 0);
	assert_int_equal(fake_vm()->ioeventfds, 1);
	assert_int_equal(fake_vm()->ioeventfd[0].datamatch, 4);
	assert_int_equal(set_event(0x21, 4, flags | KVM_IOEVENTFD_FLAG_DEASSIGN, 4), 0);
	assert_int_equal(fake_vm()->ioeventfds, 0);
	assert_true(vmm_run(&vmm));
	assert_int_equal(signals(), 0);
}

/* KVM keeps the eventfd when the VMM closes its descriptor; so do we. */
static void test_of_closed_descriptor(void **state)
{
	int other = dup(event);
	struct kvm_ioeventfd args = {.addr = 0x21, .len = 4, .flags = PIO, .fd = other};

	(void)state;
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_IOEVENTFD, &args), 0);
	close(other);
	assert_true(vmm_run(&vmm));
	assert_int_equal(signals(), TURNS);
	assert_true(fake_vcpu()->stats->signalled > 0);
}

/* A VMM that closes whatever is open closes our duplicate: the write is left to the kernel. */
static void test_duplicate_closed(void **state)
{
	int own;

	(void)state;
	assert_int_equal(set_event(0x21, 4, PIO, 0), 0);
	own = fake_vm()->ioeventfd[0].own_fd;
	assert_true(own >= 512);
	nx_fd_clear(own);
	assert_int_equal(close(own), 0);
	assert_int_equal(nx_kvm_engine_host.route_io(fake_vcpu(), 0x21, 4, true, 0),
			 NX_ROUTE_LEAVE);
	assert_true(vmm_run(&vmm));
	assert_int_equal(signals(), TURNS);
	assert_int_equal(fake_vcpu()->stats->signalled, 0);
}

static void test_string(void **state)
{
	uint8_t data[] = {1, 7, 2, 7, 7, 3};
	struct nx_exit exit = {.kind = NX_EXIT_IO,
			       .write = true,
			       .size = 1,
			       .port = 0x30,
			       .count = sizeof(data),
			       .string = data};

	(void)state;
	assert_int_equal(set_event(0x30, 1, PIO | MATCH, 7), 0);
	assert_false(nx_ioeventfd_signal(fake_vm(), &exit));
	assert_int_equal(signals(), 3);
	assert_int_equal(exit.count, 3);
	assert_memory_equal(data, ((uint8_t[]){1, 2, 3}), 3);
	memset(data, 7, sizeof(data));
	exit.count = 2;
	assert_true(nx_ioeventfd_signal(fake_vm(), &exit));
	assert_int_equal(signals(), 2);
	/* The end of the VM gives the duplicate back. */
	int own = fake_vm()->ioeventfd[0].own_fd;

	restart(true);
	assert_int_equal(fcntl(own, F_GETFD), -1);
}

/* The write half of a read-modify-write signals too, when it is all that the stay still does. */
static void test_and_the_end_of_a_stay(void **state)
{
	(void)state;
	assert_int_equal(set_event(0x700, 8, 0, 0), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(fake.run->exit_reason, KVM_EXIT_MMIO);
	assert_false(fake.run->mmio.is_write);
	fake.run->immediate_exit = 1;
	assert_int_equal(vmm_step(&vmm), -1);
	assert_int_equal(signals(), 1);
	assert_true(nx_kernel_has_regs(fake_vcpu()));
	assert_int_equal(fake.regs.rip, MODEL_BASE + 5 * MODEL_LEN);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_signals),
	    TEST(test_datamatch),
	    TEST(test_deassign),
	    TEST(test_of_closed_descriptor),
	    TEST(test_duplicate_closed),
	    TEST(test_string),
	    TEST(test_and_the_end_of_a_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
