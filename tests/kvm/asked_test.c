/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * asked_test.c - what the host asks the kernel beside the run page before a stay begins: protection
 * keys and nested state (kvm/state.c); and a look of the VMM's that changes something (kvm/vcpu.c).
 */
#include <cpuid.h>

#include "exits.h"

static struct vmm vmm, without;

static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	memset(&without, 0, sizeof(without));
	start(true);
	return 0;
}

/* ---- Protection keys ---- */

static void test_pkru(void **state)
{
	unsigned size = 0, offset, ecx, edx;
	bool known = __get_cpuid_count(0xd, 9, &size, &offset, &ecx, &edx) && size >= 4;

	(void)state;
	fake.pkru = 0x55555554;
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(fake_vcpu()->state->pkru, 0);
	/* Code of the kernel's privilege hardly touches user pages: not worth a call. */
	restart(true);
	fake.sregs.cr4 = NX_CR4_PKE;
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(fake_vcpu()->state->pkru, 0xffffffff);
	assert_int_equal(fake.asked_pkru, 0);
	restart(true);
	fake.pkru = 0x55555554;
	fake.sregs.cr4 = NX_CR4_PKE;
	fake.sregs.ss.dpl = 3;
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_step(&vmm), 0);
	/* A processor without protection keys cannot say where they would be. */
	assert_int_equal(fake_vcpu()->state->pkru, known ? 0x55555554 : 0xffffffff);
	assert_int_equal(fake.asked_pkru, known);
}

/* ---- Nested guests ---- */

static void test_nested(void **state)
{
	(void)state;
	for (unsigned inside = 0; inside < 2; inside++) {
		restart(true);
		fake.sregs.efer = NX_EFER_SVME;
		fake.has_nested_state = true;
		fake.nested_flags = inside ? KVM_STATE_NESTED_GUEST_MODE : KVM_STATE_NESTED_GIF_SET;
		memset(&vmm, 0, sizeof(vmm));
		assert_true(vmm_run(&vmm));
		assert_int_equal(fake_engine.resumes > 0, !inside);
		assert_int_equal(fake_vcpu()->stats->unfit[NX_UNFIT_VIRTUALIZATION] > 0, inside);
	}
}

/* ---- A look that is more ---- */

static void look_at_mp_state(struct vmm *seen, unsigned index)
{
	struct kvm_mp_state state;

	(void)seen;
	fake.init_waits = index == 7;
	assert_int_equal(vmm_ioctl(KVM_GET_MP_STATE, &state), 0);
}

/* KVM resets a vCPU whose INIT has been waiting when the VMM asks for its MP state. */
static void test_init_taken_by_a_look(void **state)
{
	(void)state;
	for (unsigned on = 0; on < 2; on++) {
		restart(on);
		fake_engine.exits_per_stay = 3;
		(on ? &vmm : &without)->at_exit = look_at_mp_state;
		assert_true(vmm_run(on ? &vmm : &without));
	}
	assert_true(vmm_equal(&without, &vmm));
	assert_true(vmm.accesses < TURNS * 6);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_pkru),
	    TEST(test_nested),
	    TEST(test_init_taken_by_a_look),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
