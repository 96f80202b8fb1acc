/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* fault_test.c - each step that can be made to fail: the guest does not notice, and one line says
 * it. */
#include "unit.h"

static const struct model_insn program[] = {{M_IN, 0x10},   {M_OUT, 0x11}, {M_LOAD, 0x500},
					    {M_RMW, 0x508}, {M_ADD, 5},    {M_OUT, 0x12},
					    {M_LOOP, 0},    {M_HLT, 0}};
static char memory[4096] __attribute__((aligned(4096)));
static struct vmm with, without;

static void run(enum nx_fault fault, bool on, struct vmm *vmm)
{
	struct kvm_userspace_memory_region region = {.memory_size = sizeof(memory),
						     .userspace_addr = (uintptr_t)memory};
	struct kvm_mp_state state;

	nx_options_default(&nx_options);
	nx_options.off = !on;
	nx_options.fault = fault;
	fake_engine = (struct fake_engine){0};
	fake_start(program, sizeof(program) / sizeof(*program), (struct fake_style){false, false});
	fake.regs.rdx = 20;
	*vmm = (struct vmm){0};
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_SET_USER_MEMORY_REGION, &region), 0);
	assert_int_equal(vmm_ioctl(KVM_GET_MP_STATE, &state), 0);
	assert_true(vmm_run(vmm));
	fake_stop();
}

static unsigned lines_said(void)
{
	unsigned lines = 0;

	for (const char *at = fake_said; (at = strstr(at, "avoided")); at++)
		lines++;
	return lines;
}

static void test_fault(void **state)
{
	enum nx_fault fault = (enum nx_fault)(uintptr_t)*state;

	run(NX_FAULT_NONE, false, &without);
	assert_int_equal(fake_engine.created, 0);
	run(fault, true, &with);
	assert_true(vmm_equal(&without, &with));
	/* Nobody can watch, but exits are avoided. */
	if (fault == NX_FAULT_WATCH) {
		assert_non_null(strstr(fake_said, "cannot be watched"));
		fault = NX_FAULT_NONE;
	}
	assert_int_equal(fake_engine.exits > 0, fault == NX_FAULT_NONE);
	assert_int_equal(lines_said(), fault != NX_FAULT_NONE);
}

int main(void)
{
#define NX_X(NAME, word, text) \
	{.name = (word), .test_func = test_fault, .initial_state = (void *)NX_FAULT_##NAME},
	const struct CMUnitTest tests[] = {
	    {.name = "none", .test_func = test_fault, .initial_state = NULL}, NX_FAULTS(NX_X)};
#undef NX_X

	return cmocka_run_group_tests(tests, NULL, NULL);
}
