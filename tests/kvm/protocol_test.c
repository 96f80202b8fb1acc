/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* protocol_test.c - KVM_RUN with and without the engine: the VMM must see the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const struct fake_style fast = {false, false};
static const struct fake_style emulated = {true, true};

/* Ten turns over each kind of access, with what only the kernel can do in between. */
static const struct model_insn mixed[] = {
    {M_ADD, 1000},    {M_MOVE, 0},   {M_IN, 0x3fd},   {M_ADD, 7},       {M_OUT, 0x3f8},
    {M_STORE, 0x500}, {M_OUT, 0x80}, {M_LOAD, 0x508}, {M_STORE, 0x510}, {M_SPLIT, 0x600},
    {M_OUT, 0x81},    {M_IN, 0x60},  {M_RMW, 0x700},  {M_STI, 0},       {M_IN, 0x61},
    {M_CLI, 0},       {M_MOVE, 0},   {M_LOAD, 0x508}, {M_LOOP, 0},      {M_HLT, 0},
};

static const struct model_insn ports[] = {
    {M_IN, 0x10}, {M_ADD, 3},    {M_OUT, 0x11}, {M_IN, 0x12}, {M_OUT, 0x13},
    {M_IN, 0x14}, {M_OUT, 0x15}, {M_LOOP, 0},   {M_HLT, 0},
};

static struct vmm with, without;

static void start(const struct model_insn *program, size_t insns, struct fake_style style, bool on)
{
	nx_options_default(&nx_options);
	nx_options.off = !on;
	fake_engine = (struct fake_engine){.random = fake_engine.random};
	fake_start(program, (unsigned)insns, style);
	fake.regs.rdx = 10;
}

/* Both ways; leaves the host of the second, clustering, run open. */
static void run_both(const struct model_insn *program, size_t insns, struct fake_style style)
{
	start(program, insns, style, false);
	without.accesses = without.inputs = without.eintr = 0;
	assert_true(vmm_run(&without));
	assert_int_equal(fake_engine.created, 0);
	fake_stop();
	start(program, insns, style, true);
	with.accesses = with.inputs = with.eintr = 0;
	assert_true(vmm_run(&with));
	assert_true(vmm_equal(&without, &with));
	assert_string_equal(fake_said, "");
}

static int reset(void **state)
{
	(void)state;
	memset(&with, 0, sizeof(with));
	memset(&without, 0, sizeof(without));
	return 0;
}

/* ---- Accesses ---- */

static void test_same_accesses_fast(void **state)
{
	(void)state;
	run_both(mixed, COUNT(mixed), fast);
	assert_true(fake_engine.exits >= 60);
	assert_int_equal(fake_vcpu()->stats->avoided[NX_CLASS_IO] +
			     fake_vcpu()->stats->avoided[NX_CLASS_MMIO],
			 fake_engine.exits);
	fake_stop();
}

static void test_same_accesses_emulated(void **state)
{
	(void)state;
	run_both(mixed, COUNT(mixed), emulated);
	assert_true(fake_engine.exits >= 60);
	fake_stop();
}

/* The second half of a split access and the write of a read-modify-write arrive, and in order. */
static void test_completion_finds_new_exit(void **state)
{
	(void)state;
	run_both(mixed, COUNT(mixed), fast);
	/* The ten split stores; the engine does most of the others itself. */
	assert_true(fake_vcpu()->stats->completions_new_exit >= 10);
	fake_stop();
}

static void test_every_exit_is_counted(void **state)
{
	const struct nx_stats *stats;

	(void)state;
	run_both(mixed, COUNT(mixed), fast);
	stats = fake_vcpu()->stats;
	assert_int_equal(nx_stats_taken_total(stats) + nx_stats_avoided_total(stats),
			 with.accesses + 1);
	assert_int_equal(stats->taken[KVM_EXIT_HLT], 1);
	assert_int_equal(fake.entries + stats->completions_new_exit, nx_stats_taken_total(stats));
	fake_stop();
}

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

/* ---- Kicks and signals ---- */

static void kick_now(void)
{
	if (fake.immediate_runs % 3 == 1)
		fake.run->immediate_exit = 1;
}

/* Rule 2 of run.c: a kick that comes while we complete an exit is not lost. */
static void test_kick_during_completion(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, false);
	assert_true(vmm_run(&without));
	fake_stop();
	start(ports, COUNT(ports), fast, true);
	fake_engine.leave_every = 2;
	fake.in_completion = kick_now;
	assert_true(vmm_run(&with));
	assert_true(vmm_equal(&without, &with));
	assert_true(fake_vcpu()->stats->completions_kicked > 0);
	assert_true(with.eintr >= fake_vcpu()->stats->completions_kicked);
	fake_stop();

	/* It is this very call that returns EINTR, as the kernel's would. */
	start(ports, COUNT(ports), fast, true);
	with.accesses = 0;
	assert_int_equal(vmm_step(&with), 0);
	fake.in_completion = kick_now;
	assert_int_equal(vmm_step(&with), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(fake.run->immediate_exit, 1);
	assert_int_equal(fake_engine.resumes, 0);
	fake_stop();
}

static void kick_at_exit(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	if (index % 2)
		fake.run->immediate_exit = 1;
}

/* KVM_RUN finishes the exit, makes the kernel's registers current and returns EINTR. */
static void test_kick_at_engine_exit(void **state)
{
	struct kvm_regs regs;

	(void)state;
	with.at_exit = without.at_exit = kick_at_exit;
	run_both(ports, COUNT(ports), fast);
	assert_true(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_KICK] > 0);
	assert_int_equal(with.eintr, without.eintr);
	fake_stop();

	start(ports, COUNT(ports), fast, true);
	with.at_exit = NULL;
	with.accesses = 0;
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.exits, 1);
	fake.run->immediate_exit = 1;
	assert_int_equal(vmm_step(&with), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(fake.run->immediate_exit, 1);
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
	assert_int_equal(regs.rip, MODEL_BASE + 3 * MODEL_LEN);
	assert_int_equal(fake.entries, 1);
	fake_stop();
}

static void test_immediate_exit_is_given_back(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, true);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(vmm_step(&with), 0);
		assert_int_equal(fake.run->immediate_exit, 0);
	}
	assert_true(fake_vcpu()->stats->completions > 0);
	fake_stop();
}

static void signalled_now(void)
{
	nx_handler_runs();
}

/* Rule 5 of run.c: a handler that does nothing more than to run. */
static void test_handler_runs(void **state)
{
	unsigned resumes, eintr = 0;

	(void)state;
	start(ports, COUNT(ports), fast, false);
	assert_true(vmm_run(&without));
	fake_stop();
	start(ports, COUNT(ports), fast, true);
	fake_engine.exits_per_stay = 2;
	fake_engine.in_resume = signalled_now;
	assert_true(vmm_run(&with));
	assert_true(vmm_equal(&without, &with));
	fake_stop();

	start(ports, COUNT(ports), fast, true);
	fake_engine.exits_per_stay = 2;
	fake_engine.in_resume = signalled_now;
	for (int i = 0; i < 60; i++) {
		resumes = fake_engine.resumes;
		if (!vmm_step(&with))
			continue;
		/* Nothing else ended it, and the kernel's registers are those of the moment. */
		assert_int_equal(errno, EINTR);
		assert_int_equal(fake_engine.resumes, resumes + 1);
		assert_int_equal(fake.run->immediate_exit, 0);
		assert_int_equal(fake.run->kvm_dirty_regs, 0);
		eintr++;
	}
	assert_true(eintr > 5);
	assert_true(with.accesses > 5);
	fake_stop();

	/* Before KVM_RUN it is too early, as with the kernel. */
	start(ports, COUNT(ports), fast, true);
	nx_handler_runs();
	assert_int_equal(vmm_step(&with), 0);
	nx_handler_runs();
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.exits, 1);
	fake_stop();
}

/* A signal that only KVM_SET_SIGNAL_MASK unblocks must get KVM_RUN to enter the kernel. */
static void test_pending_signal(void **state)
{
	char argument[sizeof(struct kvm_signal_mask) + 8] __attribute__((aligned(4))) = {0};
	sigset_t set, before;
	unsigned exits;

	(void)state;
	((struct kvm_signal_mask *)argument)->len = 8;
	start(ports, COUNT(ports), fast, true);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	assert_int_equal(vmm_ioctl(KVM_SET_SIGNAL_MASK, argument), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	exits = fake_engine.exits;
	assert_int_equal(exits, 1);
	pthread_kill(pthread_self(), SIGUSR1);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.exits, exits);
	assert_int_equal(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_SIGNAL], 1);
	sigwait(&set, &(int){0});
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	fake_stop();
}

/* ---- Time and interrupts ---- */

static void pass_time(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	(void)index;
	fake.clock += 30000;
}

static void test_latency_bound(void **state)
{
	unsigned masked, open;

	(void)state;
	with.at_exit = without.at_exit = pass_time;
	run_both(ports, COUNT(ports), fast);
	masked = fake.entries;
	fake_stop();
	/* The same with interrupts enabled: 50 us instead of 1 ms. */
	start(ports, COUNT(ports), fast, true);
	fake.regs.rflags |= RFLAGS_IF;
	with.accesses = with.inputs = 0;
	assert_true(vmm_run(&with));
	open = fake.entries;
	assert_true(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_BOUND] > 10);
	assert_true(open > 4 * masked);
	/* The bound, and one exit's work of the VMM. */
	assert_true(fake_vcpu()->stats->longest_stay_ns <= 50000 + 30000);
	assert_true(fake_vcpu()->stats->longest_stay_ns >= 50000);
	/* Time never denies a stay its first resume. */
	assert_true(fake_vcpu()->stats->avoided[NX_CLASS_IO] >= fake_vcpu()->stats->takeovers);
	fake_stop();
}

static void raise_irq(struct vmm *vmm, unsigned index)
{
	struct kvm_irq_level level = {.irq = 4, .level = 1};

	(void)vmm;
	if (index == 3)
		assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_IRQ_LINE, &level), 0);
}

static void test_interrupts_get_in(void **state)
{
	(void)state;
	for (int enabled = 0; enabled < 2; enabled++) {
		start(ports, COUNT(ports), fast, true);
		if (enabled)
			fake.regs.rflags |= RFLAGS_IF;
		with.at_exit = raise_irq;
		with.accesses = with.inputs = 0;
		assert_true(vmm_run(&with));
		assert_int_equal(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_INTERRUPT], enabled);
		fake_stop();
	}
}

/* Events that the VMM gives the vCPU itself are the kernel's at once: the stay is over. */
static void inject(struct vmm *vmm, unsigned index)
{
	struct kvm_interrupt interrupt = {.irq = 0x30};

	(void)vmm;
	if (index % 5 == 1)
		assert_int_equal(vmm_ioctl(KVM_NMI, NULL), 0);
	else if (index % 5 == 3)
		assert_int_equal(vmm_ioctl(KVM_INTERRUPT, &interrupt), 0);
}

static void send_message(struct vmm *vmm, unsigned index)
{
	struct kvm_msi msi = {.address_lo = 0xfee00000};

	(void)vmm;
	if (index % 3 == 1)
		assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_SIGNAL_MSI, &msi), 1);
}

static void test_injected_events(void **state)
{
	(void)state;
	with.at_exit = without.at_exit = inject;
	run_both(ports, COUNT(ports), fast);
	assert_true(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_VMM_STATE] > 5);
	fake_stop();
}

/* A guest that takes no interrupts need not leave for one. */
static void test_messages(void **state)
{
	(void)state;
	for (int enabled = 0; enabled < 2; enabled++) {
		start(ports, COUNT(ports), fast, true);
		if (enabled)
			fake.regs.rflags |= RFLAGS_IF;
		with.at_exit = send_message;
		with.accesses = with.inputs = 0;
		assert_true(vmm_run(&with));
		assert_int_equal(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_INTERRUPT] > 5, enabled);
		fake_stop();
	}
}

/* Check what the run page says besides the access, with each kind of interrupt controller. */
static void test_exit_fields(void **state)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		const bool enabled = i % 2;

		start(ports, COUNT(ports), fast, true);
		if (i / 2 == 1)
			assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_CREATE_IRQCHIP, NULL), 0);
		else if (i / 2 == 2)
			assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_ENABLE_CAP, &split), 0);
		if (enabled)
			fake.regs.rflags |= RFLAGS_IF;
		assert_int_equal(vmm_step(&with), 0);
		fake.run->flags = 0xff;
		assert_int_equal(vmm_step(&with), 0);
		assert_int_equal(fake_engine.exits, 1);
		assert_int_equal(fake.run->flags, 0);
		assert_int_equal(fake.run->if_flag, enabled);
		/* In the VMM: IF; in the kernel: always; split: the VMM is to ask for a window. */
		assert_int_equal(fake.run->ready_for_interrupt_injection,
				 i / 2 == 1 || (i / 2 == 0 && enabled));
		fake_stop();
	}
}

static void want_window(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	fake.run->request_interrupt_window = index % 4 == 3;
}

static void test_interrupt_window(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, true);
	fake.regs.rflags |= RFLAGS_IF;
	with.at_exit = want_window;
	assert_true(vmm_run(&with));
	assert_true(fake_vcpu()->stats->leaves[NX_HOST_LEAVE_WINDOW] > 3);
	fake_stop();
}

/* ---- States to keep out of ---- */

static void expect_unfit(enum nx_unfit unfit)
{
	with.accesses = with.inputs = 0;
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake_vcpu()->stats->unfit[unfit], 1);
	fake_stop();
}

/* An instruction that loads SS from a device ends with a shadow. */
static void completed_with_shadow(void)
{
	fake.events.interrupt.shadow = 1;
}

static void test_unfit_states(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, true);
	fake.events.exception.pending = 1;
	expect_unfit(NX_UNFIT_EVENT);
	start(ports, COUNT(ports), fast, true);
	fake.events.nmi.pending = 1;
	expect_unfit(NX_UNFIT_EVENT);
	start(ports, COUNT(ports), fast, true);
	fake.sregs.interrupt_bitmap[2] = 4;
	expect_unfit(NX_UNFIT_EVENT);
	start(ports, COUNT(ports), fast, true);
	fake.in_completion = completed_with_shadow;
	expect_unfit(NX_UNFIT_SHADOW);
	start(ports, COUNT(ports), fast, true);
	fake.events.smi.smm = 1;
	expect_unfit(NX_UNFIT_SMM);
	start(ports, COUNT(ports), fast, true);
	fake.regs.rflags |= 1u << 8;
	expect_unfit(NX_UNFIT_SINGLE_STEP);
	start(ports, COUNT(ports), fast, true);
	fake.sregs.cr4 |= 1u << 13;
	expect_unfit(NX_UNFIT_VIRTUALIZATION);
	start(ports, COUNT(ports), fast, true);
	fake.sregs.efer |= 1u << 12;
	expect_unfit(NX_UNFIT_VIRTUALIZATION);
	start(ports, COUNT(ports), fast, true);
	fake.debugregs.dr7 = 0x403;
	expect_unfit(NX_UNFIT_BREAKPOINTS);
}

static void test_pending_exception_survives(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, true);
	fake.events.exception.pending = 1;
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(vmm_step(&with), 0);
	assert_int_equal(fake.events.exception.pending, 1);
	fake_stop();
}

static void test_guest_debug(void **state)
{
	struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE};

	(void)state;
	start(ports, COUNT(ports), fast, true);
	assert_int_equal(vmm_ioctl(KVM_SET_GUEST_DEBUG, &debug), 0);
	assert_true(vmm_run(&with));
	assert_int_equal(fake_engine.resumes, 0);
	assert_int_equal(fake.immediate_runs, 0);
	fake_stop();
}

/* A vCPU that the VMM changed during a kernel's exit is the kernel's to run. */
static void set_mp_state(struct vmm *vmm, unsigned index)
{
	struct kvm_mp_state state = {0};

	(void)vmm;
	(void)index;
	assert_int_equal(vmm_ioctl(KVM_SET_MP_STATE, &state), 0);
}

static void test_changed_during_kernel_exit(void **state)
{
	(void)state;
	start(ports, COUNT(ports), fast, true);
	with.at_exit = set_mp_state;
	assert_true(vmm_run(&with));
	assert_int_equal(fake_engine.resumes, 0);
	fake_stop();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, reset)
	const struct CMUnitTest tests[] = {
	    TEST(test_same_accesses_fast),
	    TEST(test_same_accesses_emulated),
	    TEST(test_completion_finds_new_exit),
	    TEST(test_every_exit_is_counted),
	    TEST(test_registers_at_exits),
	    TEST(test_registers_in_run_page),
	    TEST(test_registers_of_finished_exits),
	    TEST(test_quirk_switched_off),
	    TEST(test_set_regs_same_rip),
	    TEST(test_set_regs_other_rip),
	    TEST(test_dirty_regs_win),
	    TEST(test_page_is_the_vmms),
	    TEST(test_refused_run_keeps_registers),
	    TEST(test_kick_during_completion),
	    TEST(test_kick_at_engine_exit),
	    TEST(test_immediate_exit_is_given_back),
	    TEST(test_handler_runs),
	    TEST(test_pending_signal),
	    TEST(test_latency_bound),
	    TEST(test_interrupts_get_in),
	    TEST(test_injected_events),
	    TEST(test_messages),
	    TEST(test_exit_fields),
	    TEST(test_interrupt_window),
	    TEST(test_unfit_states),
	    TEST(test_pending_exception_survives),
	    TEST(test_guest_debug),
	    TEST(test_changed_during_kernel_exit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
