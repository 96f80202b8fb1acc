/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * window_test.c - a guest that lets interrupts in for a moment gets those that wait in the kernel,
 * with every way of letting them in and of holding them off again.
 *
 * A turn of the guest's loop has four accesses with interrupts held off, then something that lets
 * them in, accesses, something that holds them off, and accesses again. An interrupt that is raised
 * at some access has to be delivered in the turn in which it is without the engine, and before what
 * holds interrupts off. The host hears nothing of it, as with the kernel's own timers.
 */
#include <stdio.h>

#include "unit.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define TURNS 40
#define MAX_INSNS 24
#define HIGH_PRIORITY 0xf0

/* The effect of an instruction on interrupts. */
struct way {
	const char *name;
	struct model_insn insn;
};

static const struct way opens[] = {
    {"sti", {M_STI, 0}},
    {"popf", {M_POPF, 1}},
    {"iret", {M_IRET, 1}},
    {"low priority", {M_TPR, 0}},
};

static const struct way closes[] = {
    {"cli", {M_CLI, 0}},
    {"popf", {M_POPF, 0}},
    {"iret", {M_IRET, 0}},
    {"high priority", {M_TPR, HIGH_PRIORITY}},
};

static const struct model_insn accesses[] = {
    {M_IN, 0x24},     {M_OUT, 0x28},  {M_LOAD, 0x800},
    {M_STORE, 0x808}, {M_RMW, 0x810}, {M_SPLIT, 0x820},
};

/* Before the access that is first in the window. */
enum gap { GAP_NONE, GAP_PLAIN, GAP_SHADOW, GAPS };

struct delivery {
	uint64_t turn, rip;
};

struct record {
	struct delivery delivery[TURNS * 2];
	unsigned deliveries;
};

static struct model_insn program[MAX_INSNS];
static unsigned insns, opened_at, closed_at;
static struct vmm with, without;
static struct record record_with, record_without, *record;
static unsigned raise_every, raise_at; /* accesses; and a number among them */
static bool to_vmm;                    /* the interrupt is the VMM's to inject, or KVM's */
static bool vmm_has_one;

static void emit(struct model_insn insn)
{
	assert_true(insns < MAX_INSNS);
	program[insns++] = insn;
}

static void make_program(struct model_insn open, enum gap gap, struct model_insn access,
			 struct model_insn close)
{
	insns = 0;
	for (unsigned i = 0; i < 4; i++)
		emit((struct model_insn){i % 2 ? M_OUT : M_IN, 0x10 + i});
	opened_at = insns;
	emit(open);
	if (gap == GAP_PLAIN)
		emit((struct model_insn){M_ADD, 1});
	if (gap == GAP_SHADOW)
		emit((struct model_insn){M_SHADOW, 0});
	emit(access);
	emit((struct model_insn){M_IN, 0x30});
	emit((struct model_insn){M_ADD, 1});
	closed_at = insns;
	emit(close);
	emit((struct model_insn){M_IN, 0x31});
	emit((struct model_insn){M_IN, 0x32});
	emit((struct model_insn){M_LOOP, 0});
	emit((struct model_insn){M_HLT, 0});
}

static void note_delivery(void)
{
	assert_true(record->deliveries < COUNT(record->delivery));
	record->delivery[record->deliveries++] = (struct delivery){fake.regs.rdx, fake.regs.rip};
}

/* A VMM that has the interrupt controller does this. */
static void inject_if_ready(struct vmm *vmm)
{
	(void)vmm;
	if (vmm_has_one && fake.run->ready_for_interrupt_injection && fake.run->if_flag) {
		assert_int_equal(vmm_ioctl(KVM_INTERRUPT, NULL), 0);
		vmm_has_one = false;
	}
	fake.run->request_interrupt_window = vmm_has_one;
}

static void raise_some(struct vmm *vmm, unsigned index)
{
	if (index % raise_every == raise_at) {
		if (to_vmm)
			vmm_has_one = true;
		else
			fake.irq_waits = true;
	}
	if (to_vmm)
		inject_if_ready(vmm);
}

static void run_one(struct vmm *vmm, struct record *to, struct fake_style style, bool on)
{
	nx_options_default(&nx_options);
	nx_options.off = !on;
	fake_engine = (struct fake_engine){0};
	fake_start(program, insns, style);
	/* Whose they are, it has the controller. */
	fake_vm()->irqchip_full = !to_vmm;
	fake.regs.rdx = TURNS;
	/* Held off by what the program holds them off with. */
	if (program[closed_at].op == M_TPR) {
		fake.tpr = HIGH_PRIORITY;
		fake.sregs.cr8 = HIGH_PRIORITY >> 4;
		fake.regs.rflags |= NX_FL_IF;
	}
	fake.irq_priority = 0x10;
	fake.at_delivery = note_delivery;
	vmm->accesses = vmm->inputs = 0;
	vmm->at_exit = raise_some;
	vmm->at_window = inject_if_ready;
	vmm_has_one = false;
	record = to;
	record->deliveries = 0;
	assert_true(vmm_run(vmm));
}

static void check(const char *what)
{
	const uint64_t closing = MODEL_BASE + closed_at * MODEL_LEN;

	if (record_with.deliveries != record_without.deliveries || !record_with.deliveries)
		fail_msg("%s: %u delivered, without the engine %u", what, record_with.deliveries,
			 record_without.deliveries);
	for (unsigned i = 0; i < record_with.deliveries; i++) {
		const struct delivery *a = &record_with.delivery[i],
				      *b = &record_without.delivery[i];

		if (a->turn != b->turn || a->rip < b->rip || a->rip > closing)
			fail_msg(
			    "%s, delivery %u: in turn %u at %#x, without the engine in turn %u "
			    "at %#x; closed at %#x",
			    what, i, (unsigned)a->turn, (unsigned)a->rip, (unsigned)b->turn,
			    (unsigned)b->rip, (unsigned)closing);
	}
}

/*
 * An interrupt that waits as the window opens is due at its first boundary. That is one that the
 * engine must not go past, except behind a write that KVM has done by the time of its exit: of the
 * shadow that it was done in, KVM says nothing then.
 */
static void check_exact(const char *what)
{
	for (unsigned i = 0; i < record_with.deliveries; i++)
		if (record_with.delivery[i].rip != record_without.delivery[i].rip)
			fail_msg("%s, delivery %u: at %#x, without the engine at %#x", what, i,
				 (unsigned)record_with.delivery[i].rip,
				 (unsigned)record_without.delivery[i].rip);
}

static unsigned engine_exits, windows, rows;

static void check_row(const struct way *open, const struct way *close, enum gap gap,
		      struct model_insn access, struct fake_style style)
{
	unsigned per_turn = access.op == M_RMW || access.op == M_SPLIT ? 9 : 8;
	bool final = access.op == M_STORE || access.op == M_SPLIT || access.op == M_RMW ||
		     (access.op == M_OUT && style.emulated_out);
	char what[128];

	make_program(open->insn, gap, access, close->insn);
	/* A turn is no multiple of it, so that each access is the one, and one that is. */
	for (unsigned i = 0; i < 3; i++) {
		raise_every = i ? per_turn : 2 * per_turn + 1;
		raise_at = i == 2 ? 4 : 1;
		snprintf(what, sizeof(what), "%s to %s, gap %d, access %d, %s, raised %u of %u",
			 open->name, close->name, gap, access.op,
			 style.emulated_out ? "emulated" : "fast", raise_at, raise_every);
		run_one(&without, &record_without, style, false);
		fake_stop();
		run_one(&with, &record_with, style, true);
		assert_true(vmm_equal(&without, &with));
		assert_string_equal(fake_said, "");
		check(what);
		if (raise_at == 1 && raise_every == per_turn && !final)
			check_exact(what);
		engine_exits += fake_engine.exits;
		windows += fake_engine.windows;
		rows++;
		fake_stop();
	}
}

static void check_ways(const struct way *open, const struct way *close)
{
	for (unsigned gap = 0; gap < GAPS; gap++)
		for (unsigned a = 0; a < COUNT(accesses); a++)
			for (unsigned s = 0; s < 2; s++)
				check_row(open, close, gap, accesses[a], (struct fake_style){s, s});
}

static void check_all(void)
{
	engine_exits = windows = rows = 0;
	for (unsigned o = 0; o < COUNT(opens); o++)
		for (unsigned c = 0; c < COUNT(closes); c++) {
			bool priority = opens[o].insn.op == M_TPR;

			/* Two independent ways to let interrupts in. */
			if (priority != (closes[c].insn.op == M_TPR))
				continue;
			/* A VMM that has the controller has the priority, too. */
			if (!to_vmm || !priority)
				check_ways(&opens[o], &closes[c]);
		}
	/* Three of the four accesses before the window. */
	assert_true(engine_exits > rows * TURNS * 3);
	/* Where none waits, some windows are opened and closed outside the kernel. */
	assert_true(windows > rows);
}

static int reset(void **state)
{
	(void)state;
	with = without = (struct vmm){0};
	to_vmm = false;
	return 0;
}

static void test_every_way_in_and_out(void **state)
{
	(void)state;
	check_all();
}

static void test_interrupts_of_the_vmm(void **state)
{
	(void)state;
	to_vmm = true;
	check_all();
}

/*
 * The guest of the report: nothing but an exiting instruction between STI and CLI, and an interrupt
 * in each turn.
 */
static void test_shortest_window(void **state)
{
	static const struct model_insn guest[] = {
	    {M_STI, 0},   {M_IN, 0x80}, {M_CLI, 0},  {M_IN, 0x80}, {M_IN, 0x80},
	    {M_IN, 0x80}, {M_IN, 0x80}, {M_LOOP, 0}, {M_HLT, 0},
	};

	(void)state;
	memcpy(program, guest, sizeof(guest));
	insns = COUNT(guest);
	closed_at = 2;
	raise_every = 5;
	raise_at = 2;
	run_one(&without, &record_without, (struct fake_style){false, false}, false);
	fake_stop();
	run_one(&with, &record_with, (struct fake_style){false, false}, true);
	/* That of the last turn waits for ever. */
	assert_int_equal(record_with.deliveries, TURNS - 1);
	check("sti; in; cli");
	check_exact("sti; in; cli");
	/* Of the four accesses behind it, the engine delivers three. */
	assert_int_equal(fake_engine.exits, TURNS * 3);
	fake_stop();
}

static void raise_nmi(struct vmm *vmm, unsigned index)
{
	(void)vmm;
	if (index == raise_at)
		fake.nmi_waits = true;
}

/* An NMI waits for the IRET of the handler that runs, and for nothing else. */
static void test_nmi(void **state)
{
	static const struct model_insn guest[] = {
	    {M_IN, 0x10}, {M_IN, 0x11},  {M_IN, 0x12}, {M_IRET, 0},  {M_IN, 0x13}, {M_OUT, 0x14},
	    {M_IN, 0x15}, {M_SHADOW, 0}, {M_IN, 0x16}, {M_IN, 0x17}, {M_LOOP, 4},  {M_HLT, 0},
	};
	const uint64_t behind_iret = MODEL_BASE + 4 * MODEL_LEN;

	(void)state;
	memcpy(program, guest, sizeof(guest));
	insns = COUNT(guest);
	for (raise_at = 0; raise_at < 13; raise_at++) {
		for (int on = 0; on < 2; on++) {
			struct vmm *vmm = on ? &with : &without;

			nx_options_default(&nx_options);
			nx_options.off = !on;
			fake_engine = (struct fake_engine){0};
			fake_start(program, insns, (struct fake_style){false, false});
			fake.regs.rdx = 3;
			fake.events.nmi.masked = 1;
			fake.at_delivery = note_delivery;
			record = on ? &record_with : &record_without;
			record->deliveries = 0;
			vmm->accesses = vmm->inputs = 0;
			vmm->at_exit = raise_nmi;
			assert_true(vmm_run(vmm));
			fake_stop();
		}
		assert_true(vmm_equal(&without, &with));
		assert_true(fake_engine.exits > 3);
		assert_int_equal(record_with.deliveries, 1);
		assert_int_equal(record_without.deliveries, 1);
		/* At the latest where the stay ends; before IRET it is not let in. */
		assert_in_range(record_without.delivery[0].turn - record_with.delivery[0].turn, 0,
				1);
		if (raise_at < 3)
			assert_int_equal(record_with.delivery[0].rip, behind_iret);
	}
}

#define TEST(function) cmocka_unit_test_setup(function, reset)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_every_way_in_and_out),
	    TEST(test_interrupts_of_the_vmm),
	    TEST(test_shortest_window),
	    TEST(test_nmi),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
