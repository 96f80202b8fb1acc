/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* hyperv_test.c - with which Hyper-V enlightenments exits are avoided, and with which they are not.
 */
#include <stdlib.h>

#include "unit.h"

static const struct model_insn ports[] = {{M_IN, 0x10},  {M_OUT, 0x11}, {M_IN, 0x12},
					  {M_OUT, 0x13}, {M_LOOP, 0},   {M_HLT, 0}};
static struct vmm vmm;

static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	fake_begin(ports, sizeof(ports) / sizeof(*ports), 5, true);
	return 0;
}

#define HINT_FLUSH (1u << 2)

/* All features that an interface of Hyper-V's shape can have, with these hints. */
static int set_interface(int fd, uint32_t base, uint32_t interface, uint32_t hints)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 4 * sizeof(struct kvm_cpuid_entry2));
	int result;

	assert_non_null(cpuid);
	cpuid->nent = 4;
	cpuid->entries[0] = (struct kvm_cpuid_entry2){.function = base, .eax = base + 5};
	cpuid->entries[1] = (struct kvm_cpuid_entry2){.function = base + 1, .eax = interface};
	cpuid->entries[2] = (struct kvm_cpuid_entry2){
	    .function = base + 3, .eax = UINT32_MAX, .ebx = UINT32_MAX, .edx = UINT32_MAX};
	cpuid->entries[3] = (struct kvm_cpuid_entry2){.function = base + 4, .eax = hints};
	result = nx_kvm_ioctl(fd, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return result;
}

static int set_hyperv(int fd, uint32_t base, uint32_t hints)
{
	return set_interface(fd, base, 0x31237648, hints);
}

static void expect_off(const char *because)
{
	assert_non_null(strstr(fake_said, because));
	assert_true(vmm_run(&vmm));
	assert_int_equal(vmm.accesses, 20);
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake.immediate_runs, 0);
}

static void expect_on(void)
{
	assert_string_equal(fake_said, "");
	assert_true(vmm_run(&vmm));
	assert_int_equal(vmm.accesses, 20);
	assert_true(fake_engine.exits > 0);
}

static void add_vcpu(void)
{
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_CREATE_VCPU, (void *)1), FAKE_SECOND_VCPU_FD);
}

static void test_hyperv(void **state)
{
	(void)state;
	assert_int_equal(set_hyperv(FAKE_VCPU_FD, 0x40000000, (uint32_t)~HINT_FLUSH), 0);
	add_vcpu();
	assert_int_equal(set_hyperv(FAKE_SECOND_VCPU_FD, 0x40000000, (uint32_t)~HINT_FLUSH), 0);
	expect_on();
}

/* With one vCPU, nothing runs beside the engine that could ask for a flush. */
static void test_hyperv_flush_alone(void **state)
{
	(void)state;
	assert_int_equal(set_hyperv(FAKE_VCPU_FD, 0x40000000, HINT_FLUSH), 0);
	expect_on();
}

static void test_hyperv_flush(void **state)
{
	(void)state;
	add_vcpu();
	assert_int_equal(set_hyperv(FAKE_VCPU_FD, 0x40000000, HINT_FLUSH), 0);
	expect_off("hv-tlbflush");
}

static void test_hyperv_flush_of_second(void **state)
{
	(void)state;
	add_vcpu();
	assert_int_equal(set_hyperv(FAKE_SECOND_VCPU_FD, 0x40000100, HINT_FLUSH), 0);
	expect_off("hv-tlbflush");
}

/* As in QEMU, a vCPU has its CPUID before the next one is made. */
static void test_hyperv_flush_before_second(void **state)
{
	(void)state;
	assert_int_equal(set_hyperv(FAKE_VCPU_FD, 0x40000000, HINT_FLUSH), 0);
	assert_string_equal(fake_said, "");
	add_vcpu();
	expect_off("hv-tlbflush");
}

/* The bits of a hint mean something else to a guest whose interface is not Hyper-V's. */
static void test_hints_of_kvm(void **state)
{
	(void)state;
	add_vcpu();
	assert_int_equal(set_interface(FAKE_VCPU_FD, 0x40000000, 0x01007afb, HINT_FLUSH), 0);
	expect_on();
}

static void test_hyperv_capabilities(void **state)
{
	static const uint32_t known[] = {KVM_CAP_HYPERV_SYNIC, KVM_CAP_HYPERV_SYNIC2,
					 KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
					 KVM_CAP_HYPERV_ENFORCE_CPUID};

	(void)state;
	add_vcpu();
	for (unsigned i = 0; i < sizeof(known) / sizeof(*known); i++) {
		struct kvm_enable_cap cap = {.cap = known[i]};

		assert_int_equal(vmm_ioctl(KVM_ENABLE_CAP, &cap), 0);
	}
	expect_on();
}

static void test_hyperv_direct_flush(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_HYPERV_DIRECT_TLBFLUSH};

	(void)state;
	assert_int_equal(vmm_ioctl(KVM_ENABLE_CAP, &cap), 0);
	assert_string_equal(fake_said, "");
	add_vcpu();
	expect_off("hv-tlbflush");
}

static void test_unknown_vcpu_capability(void **state)
{
	struct kvm_enable_cap cap = {.cap = 9999};

	(void)state;
	assert_int_equal(vmm_ioctl(KVM_ENABLE_CAP, &cap), 0);
	expect_off("does not know");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_hyperv),
	    TEST(test_hyperv_flush_alone),
	    TEST(test_hyperv_flush),
	    TEST(test_hyperv_flush_of_second),
	    TEST(test_hyperv_flush_before_second),
	    TEST(test_hints_of_kvm),
	    TEST(test_hyperv_capabilities),
	    TEST(test_hyperv_direct_flush),
	    TEST(test_unknown_vcpu_capability),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
