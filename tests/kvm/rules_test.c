/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* rules_test.c - what the host tells the engine about memory and devices, and when it gives up. */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "unit.h"

static const struct model_insn ports[] = {{M_IN, 0x10},  {M_OUT, 0x11}, {M_IN, 0x12},
					  {M_OUT, 0x13}, {M_LOOP, 0},   {M_HLT, 0}};
static struct vmm vmm;
static char memory[16 * 4096] __attribute__((aligned(4096)));

static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	fake_begin(ports, sizeof(ports) / sizeof(*ports), 5, true);
	return 0;
}

static int vm_ioctl(unsigned long request, void *argument)
{
	return nx_kvm_ioctl(FAKE_VM_FD, request, argument);
}

static int set_slot(uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, unsigned page)
{
	struct kvm_userspace_memory_region region = {
	    .slot = slot,
	    .flags = flags,
	    .guest_phys_addr = gpa,
	    .memory_size = size,
	    .userspace_addr = (uintptr_t)memory + page * 4096ull,
	};

	return vm_ioctl(KVM_SET_USER_MEMORY_REGION, &region);
}

static struct nx_page page_at(uint64_t gpa)
{
	struct nx_page page;

	nx_kvm_engine_host.map_page(fake_vcpu(), gpa, &page);
	return page;
}

static enum nx_route io(uint16_t port, unsigned size, bool write, uint64_t value)
{
	return nx_kvm_engine_host.route_io(fake_vcpu(), port, size, write, value);
}

static enum nx_route mmio(uint64_t gpa, unsigned size, bool write, uint64_t value)
{
	return nx_kvm_engine_host.route_mmio(fake_vcpu(), gpa, size, write, value);
}

/* ---- Memory ---- */

static void test_slots(void **state)
{
	(void)state;
	assert_int_equal(page_at(0).kind, NX_PAGE_DEVICE);
	assert_int_equal(set_slot(3, 0, 0x100000, 0x4000, 4), 0);
	assert_int_equal(set_slot(1, 0, 0x0, 0x2000, 0), 0);
	assert_int_equal(set_slot(2, 0, 0x80000, 0x1000, 2), 0);
	assert_ptr_equal(page_at(0x1000).host, memory + 0x1000);
	assert_ptr_equal(page_at(0x80000).host, memory + 0x2000);
	assert_ptr_equal(page_at(0x103000).host, memory + 0x7000);
	assert_int_equal(page_at(0x2000).kind, NX_PAGE_DEVICE);
	assert_int_equal(page_at(0x104000).kind, NX_PAGE_DEVICE);
	assert_int_equal(page_at(0xfffff000).kind, NX_PAGE_DEVICE);
	assert_true(page_at(0x1000).writable);
	/* Moved, then deleted. */
	assert_int_equal(set_slot(2, 0, 0x90000, 0x1000, 2), 0);
	assert_int_equal(page_at(0x80000).kind, NX_PAGE_DEVICE);
	assert_ptr_equal(page_at(0x90000).host, memory + 0x2000);
	assert_int_equal(set_slot(2, 0, 0x90000, 0, 2), 0);
	assert_int_equal(page_at(0x90000).kind, NX_PAGE_DEVICE);
}

static void test_many_slots(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 200; i++) {
		uint32_t at = i * 73 % 200;

		assert_int_equal(set_slot(at, 0, at * 0x2000ull, 0x1000, at % 16), 0);
	}
	for (uint32_t i = 0; i < 200; i++) {
		assert_ptr_equal(page_at(i * 0x2000ull).host, memory + i % 16 * 4096);
		assert_int_equal(page_at(i * 0x2000ull + 0x1000).kind, NX_PAGE_DEVICE);
	}
	for (uint32_t i = 0; i < 200; i += 2)
		assert_int_equal(set_slot(i, 0, 0, 0, 0), 0);
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(page_at(i * 0x2000ull).kind, i % 2 ? NX_PAGE_RAM : NX_PAGE_DEVICE);
}

static void test_slot_flags(void **state)
{
	(void)state;
	assert_int_equal(set_slot(0, KVM_MEM_READONLY, 0, 0x1000, 0), 0);
	assert_int_equal(page_at(0).kind, NX_PAGE_RAM);
	assert_false(page_at(0).writable);
	assert_true(page_at(0).store_is_mmio);
	assert_int_equal(set_slot(0, KVM_MEM_LOG_DIRTY_PAGES, 0, 0x1000, 0), 0);
	assert_int_equal(page_at(0).kind, NX_PAGE_RAM);
	assert_false(page_at(0).writable);
	assert_false(page_at(0).store_is_mmio);
	/* guest_memfd: the memory is not at the host address. */
	assert_int_equal(set_slot(0, 4, 0, 0x1000, 0), 0);
	assert_int_equal(page_at(0).kind, NX_PAGE_LEAVE);
	assert_null(fake_vm()->off);
	assert_int_equal(set_slot(0, 8, 0, 0x1000, 0), 0);
	assert_non_null(fake_vm()->off);
	assert_non_null(strstr(fake_said, "memory slot flag"));
}

/* The newer ioctl, whose structure begins as the older one's and has KVM_MEM_GUEST_MEMFD. */
static void test_newer_slots(void **state)
{
	struct {
		uint32_t slot, flags;
		uint64_t gpa, size, host, memfd_offset;
		uint32_t memfd, padding[29];
	} region = {.slot = 1, .gpa = 0x10000, .size = 0x1000, .host = (uintptr_t)memory};
	const unsigned long request = _IOW(KVMIO, 0x49, region);

	(void)state;
	assert_int_equal(vm_ioctl(request, &region), 0);
	assert_ptr_equal(page_at(0x10000).host, memory);
	region.flags = 4;
	assert_int_equal(vm_ioctl(request, &region), 0);
	assert_int_equal(page_at(0x10000).kind, NX_PAGE_LEAVE);
	region.size = 0;
	assert_int_equal(vm_ioctl(request, &region), 0);
	assert_int_equal(page_at(0x10000).kind, NX_PAGE_DEVICE);
	assert_null(fake_vm()->off);
}

/* Memory that this process may not touch as the guest may: KVM gets to say what happens. */
static void test_host_rights(void **state)
{
	char *some =
	    mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {.memory_size = 3 * 4096,
						     .userspace_addr = (uintptr_t)some};

	(void)state;
	assert_ptr_not_equal(some, MAP_FAILED);
	assert_int_equal(vm_ioctl(KVM_SET_USER_MEMORY_REGION, &region), 0);
	assert_true(page_at(0).writable);
	mprotect(some + 4096, 4096, PROT_READ);
	assert_int_equal(vm_ioctl(KVM_SET_USER_MEMORY_REGION, &region), 0);
	assert_int_equal(page_at(0).kind, NX_PAGE_RAM);
	assert_false(page_at(0).writable);
	assert_false(page_at(0).store_is_mmio);
	mprotect(some + 2 * 4096, 4096, PROT_NONE);
	assert_int_equal(vm_ioctl(KVM_SET_USER_MEMORY_REGION, &region), 0);
	assert_int_equal(page_at(0).kind, NX_PAGE_LEAVE);
	mprotect(some, 3 * 4096, PROT_READ | PROT_WRITE);
	munmap(some + 4096, 4096);
	assert_int_equal(vm_ioctl(KVM_SET_USER_MEMORY_REGION, &region), 0);
	assert_int_equal(page_at(0x2000).kind, NX_PAGE_LEAVE);
	munmap(some, 4 * 4096);
}

/* preload.c does this around mprotect() and the like. */
static void test_mapping_changes(void **state)
{
	char *some =
	    mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {.memory_size = 2 * 4096,
						     .userspace_addr = (uintptr_t)some};

	(void)state;
	assert_ptr_not_equal(some, MAP_FAILED);
	assert_int_equal(vm_ioctl(KVM_SET_USER_MEMORY_REGION, &region), 0);
	assert_true(page_at(0).writable);
	assert_true(nx_host_covers((uintptr_t)some + 4096, 4096));
	nx_host_changes((uintptr_t)some + 2 * 4096ul, 4096);
	assert_true(page_at(0).writable);
	nx_host_changed((uintptr_t)some + 2 * 4096ul, 4096);
	assert_true(page_at(0).writable);
	nx_host_changes((uintptr_t)some + 4096, 2 * 4096ul);
	assert_int_equal(page_at(0).kind, NX_PAGE_LEAVE);
	mprotect(some + 4096, 4096, PROT_READ);
	nx_host_changed((uintptr_t)some + 4096, 2 * 4096ul);
	assert_int_equal(page_at(0).kind, NX_PAGE_RAM);
	assert_false(page_at(0).writable);
	munmap(some, 3 * 4096);
}

/* One ends while the other is under way: what is looked up in between must not be kept. */
static void test_two_mapping_changes(void **state)
{
	char *some =
	    mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {.memory_size = 2 * 4096,
						     .userspace_addr = (uintptr_t)some};

	(void)state;
	assert_ptr_not_equal(some, MAP_FAILED);
	assert_int_equal(vm_ioctl(KVM_SET_USER_MEMORY_REGION, &region), 0);
	nx_host_changes((uintptr_t)some, 4096);
	nx_host_changes((uintptr_t)some + 4096, 4096);
	nx_host_changed((uintptr_t)some, 4096);
	assert_int_equal(page_at(0).kind, NX_PAGE_LEAVE);
	/* Also by a slot that is new. */
	region.guest_phys_addr = 0x10000;
	region.slot = 1;
	assert_int_equal(vm_ioctl(KVM_SET_USER_MEMORY_REGION, &region), 0);
	assert_int_equal(page_at(0x10000).kind, NX_PAGE_LEAVE);
	munmap(some + 4096, 4096);
	nx_host_changed((uintptr_t)some + 4096, 4096);
	assert_int_equal(page_at(0).kind, NX_PAGE_LEAVE);
	assert_int_equal(page_at(0x10000).kind, NX_PAGE_LEAVE);
	munmap(some, 4096);
}

static void test_smm_address_space_is_not_ours(void **state)
{
	(void)state;
	assert_int_equal(set_slot(0x10001, 0, 0xa0000, 0x1000, 5), 0);
	assert_int_equal(page_at(0xa0000).kind, NX_PAGE_DEVICE);
	assert_int_equal(set_slot(1, 0, 0xa0000, 0x1000, 6), 0);
	assert_int_equal(set_slot(0x10001, 0, 0xa0000, 0, 0), 0);
	assert_ptr_equal(page_at(0xa0000).host, memory + 6 * 4096);
}

static void test_refused_slot_changes_nothing(void **state)
{
	(void)state;
	assert_int_equal(set_slot(1, 0, 0x1000, 0x1000, 1), 0);
	fake.fail_memory = EEXIST;
	assert_int_equal(set_slot(1, 0, 0x1000, 0x1000, 2), -1);
	assert_int_equal(errno, EEXIST);
	assert_ptr_equal(page_at(0x1000).host, memory + 4096);
}

/* ---- Devices in the kernel ---- */

static void test_irqchip_ports(void **state)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	(void)state;
	assert_int_equal(io(0x20, 1, true, 0), NX_ROUTE_EXIT);
	assert_int_equal(vm_ioctl(KVM_CREATE_IRQCHIP, NULL), 0);
	for (uint16_t port = 0; port < 0x600; port++) {
		bool kernel = port == 0x20 || port == 0x21 || port == 0xa0 || port == 0xa1 ||
			      port == 0x4d0 || port == 0x4d1;

		assert_int_equal(io(port, 1, false, 0), kernel ? NX_ROUTE_LEAVE : NX_ROUTE_EXIT);
	}
	assert_int_equal(io(0x1f, 2, false, 0), NX_ROUTE_LEAVE);
	assert_int_equal(io(0x40, 1, true, 0), NX_ROUTE_EXIT);
	assert_int_equal(vm_ioctl(KVM_CREATE_PIT2, &pit), 0);
	assert_int_equal(io(0x43, 1, true, 0), NX_ROUTE_LEAVE);
	assert_int_equal(io(0x61, 1, false, 0), NX_ROUTE_LEAVE);
	assert_int_equal(io(0x60, 1, false, 0), NX_ROUTE_EXIT);
}

static void test_pit_without_speaker(void **state)
{
	struct kvm_pit_config pit = {0};

	(void)state;
	assert_int_equal(vm_ioctl(KVM_CREATE_PIT2, &pit), 0);
	assert_int_equal(io(0x42, 1, true, 0), NX_ROUTE_LEAVE);
	assert_int_equal(io(0x61, 1, false, 0), NX_ROUTE_EXIT);
	/* The older call makes one that has it. */
	assert_int_equal(vm_ioctl(KVM_CREATE_PIT, NULL), 0);
	assert_int_equal(io(0x61, 1, false, 0), NX_ROUTE_LEAVE);
}

static void test_apic_pages(void **state)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};

	(void)state;
	fake_vcpu()->sregs.apic_base = 0xfee00000 | 1 << 11;
	assert_int_equal(mmio(0xfee00020, 4, false, 0), NX_ROUTE_EXIT);
	assert_int_equal(vm_ioctl(KVM_ENABLE_CAP, &split), 0);
	assert_null(fake_vm()->off);
	assert_int_equal(page_at(0xfee00000).kind, NX_PAGE_LEAVE);
	assert_int_equal(mmio(0xfee00020, 4, false, 0), NX_ROUTE_LEAVE);
	assert_int_equal(mmio(0xfec00000, 4, false, 0), NX_ROUTE_EXIT);
	/* The guest has moved it there; its old place does not count. */
	fake_vcpu()->sregs.apic_base = 0xfed00000 | 1 << 11;
	assert_int_equal(mmio(0xfee00020, 4, false, 0), NX_ROUTE_EXIT);
	assert_int_equal(mmio(0xfed00020, 4, false, 0), NX_ROUTE_LEAVE);
	/* In x2APIC mode, and switched off, KVM still answers for the page. */
	fake_vcpu()->sregs.apic_base = 0xfed00000 | 3 << 10;
	assert_int_equal(mmio(0xfed00020, 4, false, 0), NX_ROUTE_LEAVE);
	fake_vcpu()->sregs.apic_base = 0xfed00000;
	assert_int_equal(mmio(0xfed00ffc, 8, true, 0), NX_ROUTE_LEAVE);
	assert_int_equal(page_at(0xfed00000).kind, NX_PAGE_LEAVE);
	assert_int_equal(vm_ioctl(KVM_CREATE_IRQCHIP, NULL), 0);
	assert_int_equal(mmio(0xfec00010, 4, true, 0), NX_ROUTE_LEAVE);
	assert_int_equal(mmio(0xfec00100, 4, true, 0), NX_ROUTE_EXIT);
	assert_int_equal(page_at(0xfec00000).kind, NX_PAGE_DEVICE);
}

/* KVM has to see the page to which a patched guest writes its task priority before it delivers
 * anything. */
static void test_vapic_page(void **state)
{
	struct kvm_vapic_addr address = {.vapic_addr = 0xca080};

	(void)state;
	assert_int_equal(page_at(0xca000).kind, NX_PAGE_DEVICE);
	assert_int_equal(nx_kvm_ioctl(FAKE_VCPU_FD, KVM_SET_VAPIC_ADDR, &address), 0);
	assert_int_equal(page_at(0xca000).kind, NX_PAGE_LEAVE);
	assert_int_equal(page_at(0xcb000).kind, NX_PAGE_DEVICE);
	address.vapic_addr = 0;
	assert_int_equal(nx_kvm_ioctl(FAKE_VCPU_FD, KVM_SET_VAPIC_ADDR, &address), 0);
	assert_int_equal(page_at(0xca000).kind, NX_PAGE_DEVICE);
	assert_null(fake_vm()->off);
}

/* ---- Giving up ---- */

static void expect_off(const char *because)
{
	assert_non_null(strstr(fake_said, because));
	assert_true(vmm_run(&vmm));
	assert_int_equal(vmm.accesses, 20);
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake.immediate_runs, 0);
}

static void test_unknown_vcpu_interface(void **state)
{
	(void)state;
	vmm_ioctl(_IO(KVMIO, 0xee), NULL);
	expect_off("vCPU interface");
}

static void test_unknown_vm_interface(void **state)
{
	(void)state;
	vm_ioctl(_IO(KVMIO, 0xee), NULL);
	expect_off("KVM interface");
}

static void test_unknown_capability(void **state)
{
	struct kvm_enable_cap ring = {.cap = KVM_CAP_DIRTY_LOG_RING, .args = {65536}};

	(void)state;
	assert_int_equal(vm_ioctl(KVM_ENABLE_CAP, &ring), 0);
	expect_off("dirty ring");
}

static void test_protected_vm(void **state)
{
	(void)state;
	fake_stop();
	nx_vm_created(FAKE_KVM_FD, FAKE_VM_FD, 1);
	assert_int_equal(vm_ioctl(KVM_CREATE_VCPU, NULL), FAKE_VCPU_FD);
	expect_off("protected type");
}

static void test_encrypted_memory(void **state)
{
	struct kvm_enc_region region = {0};

	(void)state;
	vm_ioctl(KVM_MEMORY_ENCRYPT_REG_REGION, &region);
	expect_off("encrypted");
}

static int set_leaf(uint32_t function, uint32_t eax, uint32_t ebx, uint32_t ecx)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 2 * sizeof(struct kvm_cpuid_entry2));
	int result;

	assert_non_null(cpuid);
	cpuid->nent = 2;
	cpuid->entries[0] = (struct kvm_cpuid_entry2){.function = 0x80000008, .eax = 0x3028};
	cpuid->entries[1] =
	    (struct kvm_cpuid_entry2){.function = function, .eax = eax, .ebx = ebx, .ecx = ecx};
	result = vmm_ioctl(KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return result;
}

static int set_cpuid(uint32_t function, uint32_t eax)
{
	return set_leaf(function, eax, 0, 0);
}

static void test_invlpgb(void **state)
{
	(void)state;
	assert_int_equal(set_leaf(0x80000008, 0x3028, 1u << 3, 0), 0);
	expect_off("INVLPGB");
}

static void test_kvm_paravirtual_is_fine(void **state)
{
	(void)state;
	assert_int_equal(set_cpuid(0x40000001, 0x01007afb), 0);
	assert_string_equal(fake_said, "");
	assert_true(vmm_run(&vmm));
	assert_true(fake_engine.exits > 0);
	assert_int_equal(nx_engine_state(fake_vcpu()->engine)->physical_bits, 40);
}

static void test_cpuid_changed_later(void **state)
{
	(void)state;
	assert_int_equal(set_cpuid(1, 0), 0);
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(set_cpuid(1, 5), 0);
	assert_string_equal(fake_said, "");
	assert_int_equal(set_leaf(1, 5, 0, 1u << 23), 0);
	assert_non_null(strstr(fake_said, "changed the processor"));
	assert_true(vmm_run(&vmm));
	assert_int_equal(vmm.accesses, 20);
}

/* One line, not one per exit or per vCPU. */
static void test_says_it_once(void **state)
{
	size_t length;

	(void)state;
	vm_ioctl(_IO(KVMIO, 0xee), NULL);
	length = strlen(fake_said);
	assert_true(length > 0);
	vm_ioctl(_IO(KVMIO, 0xef), NULL);
	assert_int_equal(strlen(fake_said), length);
}

static void test_off_in_mid_stay(void **state)
{
	(void)state;
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(fake_engine.exits, 1);
	vm_ioctl(_IO(KVMIO, 0xee), NULL);
	assert_true(vmm_run(&vmm));
	assert_int_equal(vmm.accesses, 20);
	assert_int_equal(fake_engine.exits, 1);
	assert_int_equal(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_TURNED_OFF], 1);
}

/* ---- Descriptors ---- */

static void test_duplicates(void **state)
{
	(void)state;
	nx_fd_copy(FAKE_VCPU_FD, 950);
	assert_true(nx_fd_known(950));
	nx_fd_clear_range(900, 949);
	assert_false(nx_fd_known(FAKE_VCPU_FD));
	assert_true(nx_fd_known(950));
	nx_fd_clear(950);
	assert_false(nx_fd_known(950));
	assert_null(nx_object_get(950));
}

/* A number that comes back as something else is passed through. */
static void test_reuse(void **state)
{
	(void)state;
	assert_int_equal(vmm_step(&vmm), 0);
	nx_fd_clear(FAKE_VCPU_FD);
	assert_int_equal(vmm_ioctl(KVM_RUN, NULL), 0);
	assert_int_equal(vmm_ioctl(KVM_RUN, NULL), 0);
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake.immediate_runs, 0);
	/* A new vCPU in the memory of the old one starts from nothing. */
	assert_int_equal(vm_ioctl(KVM_CREATE_VCPU, NULL), FAKE_VCPU_FD);
	assert_int_equal(nx_stats_taken_total(fake_vcpu()->stats), 0);
	assert_null(fake_vcpu()->engine);
}

static void test_options(void **state)
{
	struct nx_options options;

	(void)state;
	nx_options_default(&options);
	assert_null(nx_option_set(&options, NX_OPTION_LATENCY, "70"));
	assert_int_equal(options.latency, 70);
	assert_non_null(nx_option_set(&options, NX_OPTION_LATENCY, "-1"));
	assert_non_null(nx_option_set(&options, NX_OPTION_LATENCY, "1x"));
	assert_non_null(nx_option_set(&options, NX_OPTION_LATENCY, ""));
	assert_non_null(nx_option_set(&options, NX_OPTION_CODE_CACHE, "63"));
	assert_int_equal(options.latency, 70);
	assert_int_equal(options.code_cache, 1024);
	assert_null(nx_option_set(&options, NX_OPTION_LEVEL, "pairs"));
	assert_int_equal(options.level, NX_LEVEL_PAIRS);
	assert_non_null(nx_option_set(&options, NX_OPTION_LEVEL, "Pairs"));
	assert_string_equal(nx_option_env(NX_OPTION_STATS), "NOEXIT_STATS");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_slots),
	    TEST(test_many_slots),
	    TEST(test_slot_flags),
	    TEST(test_newer_slots),
	    TEST(test_host_rights),
	    TEST(test_mapping_changes),
	    TEST(test_two_mapping_changes),
	    TEST(test_smm_address_space_is_not_ours),
	    TEST(test_refused_slot_changes_nothing),
	    TEST(test_irqchip_ports),
	    TEST(test_pit_without_speaker),
	    TEST(test_apic_pages),
	    TEST(test_vapic_page),
	    TEST(test_protected_vm),
	    TEST(test_encrypted_memory),
	    TEST(test_unknown_vcpu_interface),
	    TEST(test_unknown_vm_interface),
	    TEST(test_unknown_capability),
	    TEST(test_invlpgb),
	    TEST(test_kvm_paravirtual_is_fine),
	    TEST(test_cpuid_changed_later),
	    TEST(test_says_it_once),
	    TEST(test_off_in_mid_stay),
	    TEST(test_duplicates),
	    TEST(test_reuse),
	    TEST(test_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
