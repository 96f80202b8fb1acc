/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* guestmem_test.c - kvm/guestmem.c: which slot has an address, and who answers there if none has.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unit.h"

#define PAGES 64u

static struct nx_kvm_vm vm;
static struct nx_kvm_vcpu vcpu;
static uint8_t *memory;

static int setup(void **state)
{
	(void)state;
	nx_options_default(&nx_options);
	nx_real.close = close;
	memset(&vm, 0, sizeof(vm));
	memset(&vcpu, 0, sizeof(vcpu));
	vcpu.vm = &vm;
	vcpu.sregs.apic_base = 0xfee00900;
	memory = mmap(NULL, (size_t)PAGES * 4096, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return memory == MAP_FAILED;
}

static int teardown(void **state)
{
	(void)state;
	munmap(memory, (size_t)PAGES * 4096);
	free(vm.slot);
	free(vm.slot_gpa);
	return 0;
}

static void put(uint32_t id, uint32_t flags, uint64_t gpa, unsigned pages, unsigned at)
{
	assert_true(nx_slot_set(&vm, id, flags, gpa, (uint64_t)pages * 4096,
				(uintptr_t)memory + (uint64_t)at * 4096));
}

static struct nx_page page_at(uint64_t gpa)
{
	struct nx_page page;

	nx_guest_map_page(&vcpu, gpa, &page);
	return page;
}

static void check_ram(uint64_t gpa, unsigned at)
{
	struct nx_page page = page_at(gpa);

	assert_int_equal(page.kind, NX_PAGE_RAM);
	assert_ptr_equal(page.host, memory + (size_t)at * 4096);
	assert_true(page.writable);
	assert_false(page.store_is_mmio);
}

static void test_slots_in_any_order(void **state)
{
	static const unsigned order[] = {3, 0, 7, 5, 1, 6, 2, 4};

	(void)state;
	/* Slots of two pages with a gap of two behind each. */
	for (unsigned i = 0; i < 8; i++)
		put(order[i], 0, (uint64_t)order[i] * 4 * 4096, 2, order[i] * 2);
	for (unsigned i = 0; i < 8; i++) {
		check_ram((uint64_t)i * 4 * 4096, i * 2);
		check_ram(((uint64_t)i * 4 + 1) * 4096, i * 2 + 1);
		assert_int_equal(page_at(((uint64_t)i * 4 + 2) * 4096).kind, NX_PAGE_DEVICE);
	}
	/* Far from the last one, which the hint names. */
	check_ram(0, 0);
}

static void test_more_than_there_was_room_for(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PAGES; i++)
		put(i, 0, (uint64_t)(PAGES - i) << 20, 1, i);
	assert_int_equal(vm.slots, PAGES);
	for (unsigned i = 0; i < PAGES; i++)
		check_ram((uint64_t)(PAGES - i) << 20, i);
}

static void test_moved_and_deleted(void **state)
{
	(void)state;
	put(1, 0, 0x10000, 1, 0);
	put(2, 0, 0x20000, 1, 1);
	put(1, 0, 0x30000, 1, 2);
	assert_int_equal(page_at(0x10000).kind, NX_PAGE_DEVICE);
	check_ram(0x30000, 2);
	assert_int_equal(vm.slots, 2);
	put(2, 0, 0x20000, 0, 1);
	put(9, 0, 0x20000, 0, 1); /* was never there */
	assert_int_equal(page_at(0x20000).kind, NX_PAGE_DEVICE);
	assert_int_equal(vm.slots, 1);
	/* Of SMM's address space. */
	put(1 << 16, 0, 0x30000, 1, 3);
	put(2 | 1 << 16, 0, 0x50000, 1, 3);
	check_ram(0x30000, 2);
	assert_int_equal(page_at(0x50000).kind, NX_PAGE_DEVICE);
}

static void test_flags(void **state)
{
	struct nx_page page;

	(void)state;
	put(0, KVM_MEM_READONLY, 0x10000, 1, 0);
	put(1, KVM_MEM_LOG_DIRTY_PAGES, 0x20000, 1, 1);
	put(2, 1u << 2, 0x30000, 1, 2); /* KVM_MEM_GUEST_MEMFD */
	page = page_at(0x10000);
	assert_int_equal(page.kind, NX_PAGE_RAM);
	assert_false(page.writable);
	assert_true(page.store_is_mmio);
	page = page_at(0x20000);
	assert_int_equal(page.kind, NX_PAGE_RAM);
	assert_false(page.writable);
	assert_false(page.store_is_mmio);
	assert_int_equal(vcpu.pages_refused, 0);
	assert_int_equal(page_at(0x30000).kind, NX_PAGE_LEAVE);
	assert_int_equal(vcpu.pages_refused, 1);
	/* A byte that the host itself writes. */
	assert_null(nx_guest_byte(&vcpu, 0x10005));
	assert_ptr_equal(nx_guest_byte(&vcpu, 0x20005), memory + 4096 + 5);
	assert_null(nx_guest_byte(&vcpu, 0x30005));
	assert_null(nx_guest_byte(&vcpu, 0x40005));
}

static void test_pages_of_the_kernel(void **state)
{
	(void)state;
	put(0, 0, 0xfee00000, 1, 0);
	check_ram(0xfee00000, 0);
	vm.irqchip_split = true;
	assert_int_equal(page_at(0xfee00000).kind, NX_PAGE_LEAVE);
	assert_int_equal(page_at(0xfec00000).kind, NX_PAGE_DEVICE);
	vcpu.sregs.apic_base = 0xfe000900;
	check_ram(0xfee00000, 0);
	assert_int_equal(page_at(0xfe000000).kind, NX_PAGE_LEAVE);
	vcpu.vapic_page = 0xfee00000;
	assert_int_equal(page_at(0xfee00000).kind, NX_PAGE_LEAVE);
}

static enum nx_route port(uint16_t number, unsigned size)
{
	return nx_guest_route_io(&vcpu, number, size, false, 0);
}

static enum nx_route address(uint64_t gpa, unsigned size)
{
	return nx_guest_route_mmio(&vcpu, gpa, size, false, 0);
}

static void test_ports_of_the_kernel(void **state)
{
	static const uint16_t pic[] = {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1};

	(void)state;
	for (unsigned i = 0; i < sizeof(pic) / sizeof(*pic); i++) {
		vm.irqchip_full = false;
		assert_int_equal(port(pic[i], 1), NX_ROUTE_EXIT);
		vm.irqchip_full = true;
		assert_int_equal(port(pic[i], 1), NX_ROUTE_LEAVE);
	}
	/* An access that touches one of these ports is the kernel's. */
	assert_int_equal(port(0x1f, 1), NX_ROUTE_EXIT);
	assert_int_equal(port(0x1f, 2), NX_ROUTE_LEAVE);
	assert_int_equal(port(0x22, 4), NX_ROUTE_EXIT);
	assert_int_equal(port(0x40, 1), NX_ROUTE_EXIT);
	vm.pit = true;
	assert_int_equal(port(0x43, 1), NX_ROUTE_LEAVE);
	assert_int_equal(port(0x44, 1), NX_ROUTE_EXIT);
	assert_int_equal(port(0x61, 1), NX_ROUTE_EXIT);
	vm.pit_speaker = true;
	assert_int_equal(port(0x61, 1), NX_ROUTE_LEAVE);
}

static void test_addresses_of_the_kernel(void **state)
{
	(void)state;
	assert_int_equal(address(0xfec00000, 4), NX_ROUTE_EXIT);
	vm.irqchip_full = true;
	assert_int_equal(address(0xfec00000, 4), NX_ROUTE_LEAVE);
	assert_int_equal(address(0xfec000ff, 1), NX_ROUTE_LEAVE);
	assert_int_equal(address(0xfec00100, 4), NX_ROUTE_EXIT);
	assert_int_equal(address(0xfebfffff, 2), NX_ROUTE_LEAVE);
	assert_int_equal(address(0xfee00ffc, 4), NX_ROUTE_LEAVE);
	assert_int_equal(address(0xfee01000, 4), NX_ROUTE_EXIT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_slots_in_any_order),      TEST(test_more_than_there_was_room_for),
	    TEST(test_moved_and_deleted),       TEST(test_flags),
	    TEST(test_pages_of_the_kernel),     TEST(test_ports_of_the_kernel),
	    TEST(test_addresses_of_the_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
