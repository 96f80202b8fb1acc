/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * waits_test.c - what the host tells the engine that opens an interrupt window: only where nothing
 * can wait in KVM does it say so. What becomes of a guest then is window_test.c's.
 */
#include "unit.h"

#define LVT_MASKED (1u << 16)
#define LVT_EXTINT 0x700u
#define LVTT_PERIODIC (1u << 17)
#define LVTT_DEADLINE (2u << 17)
#define TSC_NOW 1000000000ull
#define TSC_PER_US (FAKE_TSC_KHZ / 1000u)

static struct vmm vmm;
static struct nx_kvm_vcpu *vcpu;

/* In the first stay, at an exit by the engine. */
static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	begin_guest(100, true);
	enter_engine(&vmm);
	vcpu = fake_vcpu();
	vcpu->vm->irqchip_full = true;
	fake.irq_priority = 0x31;
	fake.tsc = TSC_NOW;
	return 0;
}

static bool quiet(void)
{
	return nx_window_quiet(vcpu);
}

static void test_requests(void **state)
{
	(void)state;
	assert_true(quiet());
	/* Each of the 256 vectors is seen. */
	fake.irq_waits = true;
	for (unsigned vector = 16; vector < 256; vector++) {
		fake.irq_priority = (uint8_t)vector;
		assert_false(quiet());
	}
	fake.irq_waits = false;
	assert_true(quiet());
	fake.refuses_lapic = true;
	assert_false(quiet());
	assert_int_equal(vcpu->stats->windows, 243);
	assert_int_equal(fake.asked_pic, 0);
}

static void test_8259(void **state)
{
	(void)state;
	fake.lvt0 = LVT_EXTINT;
	assert_true(quiet());
	fake.pic_requests = 1;
	assert_false(quiet());
	fake.pic_masked = 1;
	assert_true(quiet());
	assert_int_equal(fake.asked_pic, 3);
	fake.pic_masked = 0;
	fake.lvt0 = LVT_MASKED | LVT_EXTINT;
	assert_true(quiet());
	/* Without a LAPIC, what it masks does not count. */
	fake.run->apic_base = 0xfee00000;
	assert_false(quiet());
	fake.pic_requests = 0;
	assert_true(quiet());
	/* Those of the VMM's own, which it may have given to KVM already, cannot be seen. */
	vcpu->vm->irqchip_full = false;
	vcpu->vm->irqchip_split = true;
	assert_false(quiet());
	fake.run->apic_base = 0xfee00900;
	assert_true(quiet());
}

static void test_counting_timer(void **state)
{
	(void)state;
	fake.lvtt = 0;
	assert_true(quiet());
	fake.tmict = 100;
	assert_false(quiet());
	fake.tmcct = 1;
	assert_true(quiet());
	fake.lvtt = LVTT_PERIODIC;
	assert_false(quiet());
	fake.lvtt = LVTT_PERIODIC | LVT_MASKED;
	assert_true(quiet());
	fake.lvtt = LVTT_PERIODIC;
	fake.tmict = 0;
	assert_true(quiet());
	assert_int_equal(fake.asked_deadline, 0);
}

/* Asked once in a stay; then the clock tells. */
static void test_deadline(void **state)
{
	(void)state;
	fake.lvtt = LVTT_DEADLINE;
	assert_true(quiet());
	assert_int_equal(fake.asked_deadline, 1);
	vcpu->deadline_known = false;
	fake.deadline = TSC_NOW + 30ull * TSC_PER_US;
	assert_true(quiet());
	assert_int_equal(fake.asked_deadline, 3);
	fake.clock += 29999;
	assert_true(quiet());
	fake.clock += 1;
	assert_false(quiet());
	assert_int_equal(fake.asked_deadline, 3);
	vcpu->deadline_known = false;
	fake.deadline = UINT64_MAX;
	assert_true(quiet());
	vcpu->deadline_known = false;
	fake.deadline = TSC_NOW;
	assert_false(quiet());
	vcpu->deadline_known = false;
	fake.deadline = 0;
	fake.refuses_msrs = true;
	assert_false(quiet());
}

static void test_vmm(void **state)
{
	(void)state;
	fake.run->request_interrupt_window = 1;
	assert_false(quiet());
	fake.run->request_interrupt_window = 0;
	assert_true(quiet());
	/* Timers of Hyper-V's. */
	atomic_store(&vcpu->vm->hidden_timers, true);
	assert_false(quiet());
	atomic_store(&vcpu->vm->hidden_timers, false);
	/* It has the LAPIC: KVM is not asked. */
	vcpu->vm->irqchip_full = false;
	vcpu->stats->windows = 0;
	assert_true(quiet());
	fake.run->immediate_exit = 1;
	assert_false(quiet());
	fake.run->immediate_exit = 0;
	*nx_engine_stop_flag(vcpu->engine) = 1;
	assert_false(quiet());
	*nx_engine_stop_flag(vcpu->engine) = 0;
	assert_int_equal(vcpu->stats->windows, 0);
}

static void test_hyperv_timers(void **state)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_HYPERV_SYNIC2};

	(void)state;
	assert_int_equal(vmm_ioctl(KVM_ENABLE_CAP, &cap), 0);
	assert_false(quiet());
}

/* Interrupts are late since they were asked for last; but no stay lasts longer than the other
 * bound. */
static void test_time(void **state)
{
	enum nx_host_leave why;

	(void)state;
	vcpu->state->rflags |= NX_FL_IF;
	vcpu->irq_seen = atomic_load(&vcpu->vm->irq_epoch);
	vcpu->stay_began = vcpu->nothing_waited = fake.clock;
	vcpu->stats->windows = 0;
	for (unsigned i = 0; i < 90; i++) {
		fake.clock += 50001;
		assert_false(nx_leave_due(vcpu, &why));
		assert_false(nx_leave_due(vcpu, &why));
	}
	assert_int_equal(vcpu->stats->windows, 90);
	fake.clock = vcpu->stay_began + 5000001;
	assert_true(nx_leave_due(vcpu, &why));
	assert_int_equal(why, NX_HOST_LEAVE_BOUND);
	vcpu->stay_began = vcpu->nothing_waited = fake.clock;
	fake.irq_waits = true;
	fake.clock += 50000;
	assert_false(nx_leave_due(vcpu, &why));
	fake.clock += 1;
	assert_true(nx_leave_due(vcpu, &why));
	assert_int_equal(why, NX_HOST_LEAVE_BOUND);
	/* Where the VMM has the LAPIC, nobody is asked. */
	fake.irq_waits = false;
	vcpu->vm->irqchip_full = false;
	assert_true(nx_leave_due(vcpu, &why));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_requests), TEST(test_8259), TEST(test_counting_timer),
	    TEST(test_deadline), TEST(test_vmm),  TEST(test_hyperv_timers),
	    TEST(test_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
