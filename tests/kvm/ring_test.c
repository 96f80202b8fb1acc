/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* ring_test.c - writes into coalesced ranges: what goes into the VMM's ring, and what does not. */
#include "unit.h"

#define TURNS 100
#define PORTS 0x20
#define DEVICE 0x500

/* Writes into both ranges, one that ends behind a range, and a read that always exits. */
static const struct model_insn program[] = {{M_OUT, PORTS + 1},  {M_ADD, 3},
					    {M_MOVE, 0},         {M_STORE, DEVICE},
					    {M_IN, 0x10},        {M_RMW, DEVICE + 0x80},
					    {M_OUTS, PORTS + 2}, {M_STORE, DEVICE + 0xfc},
					    {M_OUT, PORTS + 6},  {M_STORE, DEVICE + 8},
					    {M_LOOP, 0},         {M_HLT, 0}};

static struct vmm without, vmm;
static unsigned drain_every;

static int vm_ioctl(unsigned long request, void *argument)
{
	return nx_kvm_ioctl(FAKE_VM_FD, request, argument);
}

static int set_zone(unsigned long request, uint64_t address, uint32_t size, bool pio)
{
	struct kvm_coalesced_mmio_zone zone = {.addr = address, .size = size, .pio = pio};

	return vm_ioctl(request, &zone);
}

static void add_zones(void)
{
	assert_int_equal(set_zone(KVM_REGISTER_COALESCED_MMIO, PORTS, 8, true), 0);
	assert_int_equal(set_zone(KVM_REGISTER_COALESCED_MMIO, DEVICE, 0x100, false), 0);
}

static void start(bool on)
{
	nx_options_default(&nx_options);
	nx_options.off = !on;
	fake_engine = (struct fake_engine){.leave_every = 50};
	fake_start(program, sizeof(program) / sizeof(*program), (struct fake_style){false, false});
	fake.regs.rdx = TURNS;
}

static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	memset(&without, 0, sizeof(without));
	drain_every = 1;
	start(true);
	return 0;
}

static void run(struct vmm *me)
{
	me->drain_every = drain_every;
	assert_true(vmm_run(me));
	vmm_drain(me);
}

/* The guest without and with the engine. */
static void run_both(void)
{
	fake_stop();
	start(false);
	add_zones();
	run(&without);
	assert_true(fake.queued > TURNS);
	fake_stop();
	start(true);
	add_zones();
}

/* The VMM finds the same entries between the same exits. */
static void test_as_kvm(void **state)
{
	unsigned queued;

	(void)state;
	run_both();
	queued = fake.queued;
	run(&vmm);
	assert_true(vmm_equal(&without, &vmm));
	assert_true(fake_vcpu()->stats->queued > TURNS);
	/* Each exit of the engine's is avoided or is no exit to the VMM in KVM either. */
	assert_int_equal(fake_vcpu()->stats->internal + nx_stats_avoided_total(fake_vcpu()->stats),
			 fake_engine.exits);
	/* What the kernel still queued are the turns before the engine took over, and after leaves.
	 */
	assert_true(fake.queued - queued < fake_vcpu()->stats->queued);
	assert_null(fake_vm()->off);
}

/* A ring that fills up between two looks: an exit in place of each entry that finds no room. */
static void test_full_ring(void **state)
{
	(void)state;
	drain_every = 100;
	run_both();
	run(&vmm);
	assert_true(vmm_equal(&without, &vmm));
	assert_true(fake_vcpu()->stats->queued > FAKE_RING_ENTRIES);
}

/* Only the order counts, not the path by which each write came. */
static void compare_writes(void)
{
	assert_int_equal(vmm.accesses, without.accesses);
	for (unsigned i = 0; i < vmm.accesses; i++) {
		assert_int_equal(vmm.access[i].address, without.access[i].address);
		assert_int_equal(vmm.access[i].data, without.access[i].data);
		assert_int_equal(vmm.access[i].write, without.access[i].write);
	}
}

/* With another vCPU the kernel may append at any moment, and the engine leaves the ring alone. */
static void test_two_vcpus(void **state)
{
	(void)state;
	run_both();
	assert_int_equal(vm_ioctl(KVM_CREATE_VCPU, (void *)1), FAKE_SECOND_VCPU_FD);
	run(&vmm);
	compare_writes();
	assert_true(fake_engine.exits > TURNS);
	assert_int_equal(fake_vcpu()->stats->queued, 0);
	/* What the VMM got in place of entries is no avoided exit: four of a turn's nine at least.
	 */
	assert_true(nx_stats_avoided_total(fake_vcpu()->stats) * 3 < fake_engine.exits * 2);
	assert_true(nx_stats_avoided_total(fake_vcpu()->stats) > TURNS);
	assert_int_equal(fake_vcpu()->stats->internal + nx_stats_avoided_total(fake_vcpu()->stats),
			 fake_engine.exits);
}

static void second_vcpu_comes(struct vmm *me, unsigned index)
{
	(void)index;
	if (me->exits_seen == TURNS)
		assert_int_equal(vm_ioctl(KVM_CREATE_VCPU, (void *)1), FAKE_SECOND_VCPU_FD);
}

/* A vCPU that is plugged in at an exit of the engine's. */
static void test_vcpu_comes(void **state)
{
	uint64_t queued;

	(void)state;
	run_both();
	vmm.at_exit = second_vcpu_comes;
	run(&vmm);
	compare_writes();
	queued = fake_vcpu()->stats->queued;
	assert_true(queued > 0 && queued < 3 * TURNS);
}

static enum nx_route io(uint16_t port, unsigned size, bool write)
{
	return nx_kvm_engine_host.route_io(fake_vcpu(), port, size, write, 0);
}

static enum nx_route mmio(uint64_t gpa, unsigned size, bool write)
{
	return nx_kvm_engine_host.route_mmio(fake_vcpu(), gpa, size, write, 0);
}

static void test_routes(void **state)
{
	struct kvm_ioeventfd event = {
	    .addr = DEVICE + 0x10, .len = 4, .fd = 1, .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};

	(void)state;
	assert_int_equal(io(PORTS, 1, true), NX_ROUTE_EXIT);
	add_zones();
	assert_int_equal(io(PORTS, 1, true), NX_ROUTE_QUEUE);
	assert_int_equal(io(PORTS + 4, 4, true), NX_ROUTE_QUEUE);
	assert_int_equal(io(PORTS + 6, 4, true), NX_ROUTE_EXIT);
	assert_int_equal(io(PORTS, 1, false), NX_ROUTE_EXIT);
	assert_int_equal(io(DEVICE, 1, true), NX_ROUTE_EXIT);
	assert_int_equal(mmio(DEVICE + 0xf8, 8, true), NX_ROUTE_QUEUE);
	assert_int_equal(mmio(DEVICE + 0xfc, 8, true), NX_ROUTE_EXIT);
	assert_int_equal(mmio(DEVICE - 1, 2, true), NX_ROUTE_EXIT);
	assert_int_equal(mmio(DEVICE, 4, false), NX_ROUTE_EXIT);
	assert_int_equal(mmio(PORTS, 1, true), NX_ROUTE_EXIT);
	/* It is not defined which of the two KVM asks first; an exit is always legal. */
	assert_int_equal(vm_ioctl(KVM_IOEVENTFD, &event), 0);
	assert_int_equal(mmio(DEVICE + 0x10, 4, true), NX_ROUTE_EXIT);
	assert_int_equal(mmio(DEVICE + 0x10, 2, true), NX_ROUTE_QUEUE);
	assert_int_equal(vm_ioctl(KVM_CREATE_VCPU, (void *)1), FAKE_SECOND_VCPU_FD);
	assert_int_equal(io(PORTS, 1, true), NX_ROUTE_INSTEAD);
	assert_int_equal(mmio(DEVICE, 4, true), NX_ROUTE_INSTEAD);
}

/* KVM removes what the range lies in, be it smaller. */
static void test_removal(void **state)
{
	(void)state;
	add_zones();
	assert_int_equal(set_zone(KVM_UNREGISTER_COALESCED_MMIO, DEVICE, 0x101, false), 0);
	assert_int_equal(mmio(DEVICE, 4, true), NX_ROUTE_QUEUE);
	assert_int_equal(set_zone(KVM_UNREGISTER_COALESCED_MMIO, DEVICE + 4, 4, true), 0);
	assert_int_equal(mmio(DEVICE, 4, true), NX_ROUTE_QUEUE);
	assert_int_equal(set_zone(KVM_UNREGISTER_COALESCED_MMIO, DEVICE + 4, 4, false), 0);
	assert_int_equal(mmio(DEVICE, 4, true), NX_ROUTE_EXIT);
	assert_int_equal(io(PORTS, 1, true), NX_ROUTE_QUEUE);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(set_zone(KVM_REGISTER_COALESCED_MMIO, DEVICE, 4, false), 0);
		assert_int_equal(mmio(DEVICE, 4, true), NX_ROUTE_QUEUE);
		assert_int_equal(set_zone(KVM_UNREGISTER_COALESCED_MMIO, DEVICE, 4, false), 0);
	}
}

/* A string of ports of which the ring takes only a part. */
static void test_string(void **state)
{
	uint8_t data[FAKE_RING_ENTRIES + 10];
	struct nx_exit exit = {.kind = NX_EXIT_IO,
			       .write = true,
			       .size = 1,
			       .count = sizeof(data),
			       .port = PORTS,
			       .string = data};

	(void)state;
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	add_zones();
	assert_false(nx_ring_append(fake_vcpu(), &exit));
	assert_int_equal(exit.count, 11);
	for (unsigned i = 0; i < exit.count; i++)
		assert_int_equal(data[i], FAKE_RING_ENTRIES - 1 + i);
	vmm_drain(&vmm);
	assert_int_equal(vmm.accesses, FAKE_RING_ENTRIES - 1);
	for (unsigned i = 0; i < vmm.accesses; i++)
		assert_int_equal(vmm.access[i].data, i);
	assert_true(nx_ring_append(fake_vcpu(), &exit));
	assert_int_equal(fake_ring_entries(), 11);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	static const struct CMUnitTest tests[] = {
	    TEST(test_as_kvm), TEST(test_full_ring), TEST(test_two_vcpus), TEST(test_vcpu_comes),
	    TEST(test_routes), TEST(test_removal),   TEST(test_string),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
