/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* registers_test.c - the guest's registers at exits, for a VMM that looks at them or changes them.
 */
#include <errno.h>

#include "both.h"

/* ---- What the VMM sees of registers ---- */

static void test_registers_at_exits(void **state)
{
	(void)state;
	with.looks = without.looks = true;
	run_both(mixed, COUNT(mixed), fast);
	assert_true(fake_engine.exits >= 60);
	/* Two exits of each turn find the kernel with these registers: the write half of M_RMW, and
	 * the first exit of the stay that begins after M_SPLIT. */
	assert_int_equal(fake_vcpu()->stats->flushes, fake_engine.exits - 20);
	assert_int_equal(fake_vcpu()->stats->flushes, fake.set_regs);
	fake_stop();
}

static void test_registers_in_run_page(void **state)
{
	(void)state;
	with.syncs = without.syncs = true;
	run_both(mixed, COUNT(mixed), fast);
	assert_true(fake_engine.exits >= 60);
	assert_int_equal(fake_vcpu()->stats->flushes, 0);
	assert_int_equal(fake.run->kvm_valid_regs, KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
	fake_stop();
}

/* The registers show how far KVM has got by the time of the exit. */
static const struct model_insn finals[] = {
    {M_IN, 0x10},     {M_ADD, 3},       {M_OUT, 0x7e}, {M_OUT, 0x11},  {M_OUTS, 0x12},
    {M_OUT, 0x7e},    {M_STORE, 0x510}, {M_IN, 0x13},  {M_OUTS, 0x7e}, {M_LOAD, 0x508},
    {M_STORE, 0x510}, {M_LOOP, 0},      {M_HLT, 0},
};

static void test_registers_of_finished_exits(void **state)
{
	(void)state;
	for (int way = 0; way < 2; way++) {
		with.looks = without.looks = way == 0;
		with.syncs = without.syncs = way == 1;
		run_both(finals, COUNT(finals), fast);
		assert_true(fake_engine.exits >= 80);
		/* The first OUT to 0x7e was the engine's: rip is past it. */
		assert_int_equal(with.access[1].address, 0x7e);
		assert_int_equal(with.access[1].regs.rip, MODEL_BASE + 3 * MODEL_LEN);
		fake_stop();
	}
}

/* A VMM that has switched the quirk off finds rip on the instruction, as on any other OUT. */
static void test_quirk_switched_off(void **state)
{
	struct kvm_enable_cap cap = {.args = {KVM_X86_QUIRK_OUT_7E_INC_RIP}};

	(void)state;
	with.looks = true;
	for (int newer = 0; newer < 2; newer++) {
		cap.cap = newer ? KVM_CAP_DISABLE_QUIRKS2 : KVM_CAP_DISABLE_QUIRKS;
		start(finals, COUNT(finals), fast, true);
		assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_ENABLE_CAP, &cap), 0);
		with.accesses = with.inputs = 0;
		assert_true(vmm_run(&with));
		assert_int_equal(with.access[1].address, 0x7e);
		assert_int_equal(with.access[1].regs.rip, MODEL_BASE + 2 * MODEL_LEN);
		assert_int_equal(with.access[3].regs.rip, MODEL_BASE + 5 * MODEL_LEN);
		fake_stop();
	}
}

static void change_rbx(struct vmm *vmm, unsigned index)
{
	struct kvm_regs regs;

	(void)vmm;
	if (index % 3 == 1) {
		assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
		regs.rbx += index;
		assert_int_equal(vmm_ioctl(KVM_SET_REGS, &regs), 0);
	}
}

/* QEMU's vmport device does this during an IN. */
static void test_set_regs_same_rip(void **state)
{
	(void)state;
	with.at_exit = without.at_exit = change_rbx;
	run_both(ports, COUNT(ports), fast);
	assert_true(with.end.rbx > 0);
	assert_true(fake_vcpu()->stats->disturbed > 0);
	fake_stop();
}

static void jump(struct vmm *vmm, unsigned index)
{
	struct kvm_regs regs;

	(void)vmm;
	if (index % 4 == 2) {
		assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
		/* On to the ADD, or over the next instruction. */
		regs.rip += 2 * MODEL_LEN;
		assert_int_equal(vmm_ioctl(KVM_SET_REGS, &regs), 0);
	}
}

/* The exit is abandoned: neither its data nor its skip may reach the new place. */
static void test_set_regs_other_rip(void **state)
{
	static const struct model_insn program[] = {
	    {M_IN, 1},  {M_OUT, 2}, {M_IN, 3},  {M_OUT, 4},  {M_ADD, 5},
	    {M_OUT, 6}, {M_ADD, 1}, {M_OUT, 7}, {M_LOOP, 0}, {M_HLT, 0},
	};

	(void)state;
	with.at_exit = without.at_exit = jump;
	run_both(program, COUNT(program), fast);
	assert_true(fake_vcpu()->stats->disturbed > 0);
	fake_stop();
}

static void dirty(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	if (index % 3 == 1) {
		fake.run->s.regs.regs.rbx += index;
		fake.run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	}
	if (index % 5 == 4) {
		fake.run->s.regs.regs.rip += 2 * MODEL_LEN;
		fake.run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	}
}

static void test_dirty_regs_win(void **state)
{
	static const struct model_insn program[] = {
	    {M_IN, 1},       {M_OUT, 2}, {M_ADD, 9}, {M_IN, 3},  {M_OUT, 4},  {M_ADD, 5},
	    {M_STORE, 0x10}, {M_ADD, 1}, {M_OUT, 7}, {M_ADD, 1}, {M_LOOP, 0}, {M_HLT, 0},
	};

	(void)state;
	with.at_exit = without.at_exit = dirty;
	with.syncs = without.syncs = true;
	run_both(program, COUNT(program), fast);
	assert_true(fake_vcpu()->stats->disturbed > 0);
	fake_stop();
}

/* A VMM that gives registers and asks for none finds what it left in the page. */
static void give(struct vmm *vmm, unsigned index)
{
	static struct kvm_sync_regs left;
	struct kvm_sync_regs *page = &fake.run->s.regs;

	(void)vmm;
	if (index)
		assert_memory_equal(page, &left, sizeof(left));
	memset(page, (int)index + 1, sizeof(*page));
	if (index % 5 == 0) {
		assert_int_equal(vmm_ioctl(KVM_GET_REGS, &page->regs), 0);
		page->regs.rbx += index;
		fake.run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
	}
	left = *page;
}

static void test_page_is_the_vmms(void **state)
{
	(void)state;
	with.at_exit = without.at_exit = give;
	run_both(mixed, COUNT(mixed), fast);
	assert_true(fake_engine.exits > 0);
	fake_stop();
}

/* The kernel refuses the whole call: the registers must not stay behind in the page. */
static void test_refused_run_keeps_registers(void **state)
{
	struct kvm_regs regs;

	(void)state;
	start(ports, COUNT(ports), fast, true);
	fake.regs.rdx = 2;
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0); /* the OUT, by the engine */
	assert_int_equal(fake_engine.exits, 1);
	fake_engine.leave_every = 1;
	fake.run->kvm_valid_regs = 1u << 20;
	assert_int_equal(vmm_step(&with), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(fake.run->kvm_dirty_regs, 0);
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
	assert_int_equal(regs.rip, MODEL_BASE + 3 * MODEL_LEN);
	fake_stop();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, reset)
	const struct CMUnitTest tests[] = {
	    TEST(test_registers_at_exits),
	    TEST(test_registers_in_run_page),
	    TEST(test_registers_of_finished_exits),
	    TEST(test_quirk_switched_off),
	    TEST(test_set_regs_same_rip),
	    TEST(test_set_regs_other_rip),
	    TEST(test_dirty_regs_win),
	    TEST(test_page_is_the_vmms),
	    TEST(test_refused_run_keeps_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
