/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * kvm.c - a sequence on a whole processor, through /dev/kvm: real mode, 16- and 32-bit protected
 * mode and 64-bit mode at both privilege levels, behind page tables of its own.
 *
 * The guest runs from exit to exit; only to pass a place a second time, and to see what comes
 * behind it, one instruction is single-stepped. HLT, put where the sequence is to stop, stops it
 * (kvm_guest.c). What accesses a port or a device is executed by KVM's instruction emulator, as in
 * any virtual machine: so it is with KVM that such an access is compared.
 *
 * A /dev/kvm without svm or vmx emulates all privileged code, which is no processor to compare
 * with: skipped.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "kvm.h"

#define HLT 0xf4
#define MAX_PASSES 64
/* Memory: page tables, pages, the processor's own, as three stretches of one mapping. */
#define MEMORY_PAGES (TABLES + PAGES + SYSTEM_PAGES)

static struct machine machine;

static struct {
	const char *missing;
	bool limits;
	bool owing; /* the last exit is not completed */
	volatile sig_atomic_t ticks;
	const struct sequence *seq;
	uint8_t *stop; /* where HLT is put, or NULL */
	/* The place at which the last run stopped, for beyond(). */
	struct result at;
} kvm;

static const char *kvm_missing(void)
{
	return kvm.missing;
}

static const uint8_t *kvm_page(unsigned page)
{
	return machine.pages[page];
}

static const uint8_t *kvm_tables(void)
{
	return machine.tables[0];
}

static bool kvm_has_segments(void)
{
	return true;
}

static bool kvm_has_limits(void)
{
	return kvm.limits;
}

/* What checks limits is no QEMU. */
static bool kvm_has_alignment(void)
{
	return kvm.limits;
}

static bool kvm_lacks(ZydisMnemonic mnemonic)
{
	return !kvm.limits && qemu_lacks(mnemonic);
}

static bool kvm_differs(const ZydisDecodedInstruction *decoded, bool relative, bool device)
{
	return kvm.limits ? bochs_differs(decoded) : qemu_differs(decoded, relative, device);
}

/* ---- Running ---- */

static void log_access(struct result *r, const struct access *access)
{
	if (r->accesses < MAX_ACCESSES)
		r->access[r->accesses++] = *access;
}

static void answer_port(struct result *r)
{
	const struct kvm_run *run = machine.run;
	uint8_t *data = (uint8_t *)machine.run + run->io.data_offset;

	for (unsigned i = 0; i < run->io.count && r->accesses < MAX_ACCESSES; i++) {
		struct access access = {.write = run->io.direction == KVM_EXIT_IO_OUT,
					.size = run->io.size,
					.where = run->io.port};
		uint8_t *element = data + (size_t)i * run->io.size;

		if (access.write)
			memcpy(&access.data, element, run->io.size);
		else
			memcpy(element, &kvm.seq->input[r->accesses], run->io.size);
		log_access(r, &access);
	}
}

static void answer_memory(struct result *r)
{
	struct kvm_run *run = machine.run;
	struct access access = {.write = run->mmio.is_write,
				.memory = true,
				.size = (uint8_t)run->mmio.len,
				.where = run->mmio.phys_addr};

	if (kvm.seq->paging != PAGING_NONE)
		access.where += LOW + DEVICE_AT - page_gpa(DEVICE_AT / PAGE);
	if (access.write)
		memcpy(&access.data, run->mmio.data, run->mmio.len);
	else
		memcpy(run->mmio.data, &kvm.seq->input[r->accesses], run->mmio.len);
	log_access(r, &access);
}

/* Do one KVM_RUN; return false if a signal ended it. */
static bool enter_guest(bool immediate)
{
	int status;

	machine.run->immediate_exit = immediate;
	status = ioctl(machine.vcpu, KVM_RUN, 0);
	if (status && errno != EINTR) {
		perror("KVM_RUN");
		exit(1);
	}
	kvm.owing = !status && (machine.run->exit_reason == KVM_EXIT_IO ||
				machine.run->exit_reason == KVM_EXIT_MMIO);
	return !status;
}

/* An instruction that is half done would change registers that are set now. */
static void settle(void)
{
	while (kvm.owing)
		enter_guest(true);
}

/*
 * So many accesses have been made, and none is to follow it in the same instruction: it was a
 * port's, or an element of a string.
 */
static bool limit_reached(const struct result *r, unsigned limit, bool string)
{
	return limit && r->accesses >= limit && (string || machine.run->exit_reason == KVM_EXIT_IO);
}

/*
 * Run the guest until it halts, has made one step if it is stepped, or has made so many accesses
 * (0: no limit), by a string instruction. Return NULL, or what else ended it.
 */
static const char *run_guest(struct result *r, unsigned limit, bool string)
{
	kvm.ticks = 0;
	for (;;) {
		if (!enter_guest(false)) {
			if (kvm.ticks > 3)
				return "it does not end";
			continue;
		}
		if (r->accesses == MAX_ACCESSES)
			return "more accesses than the sequence can make";
		switch (machine.run->exit_reason) {
		case KVM_EXIT_IO:
			answer_port(r);
			break;
		case KVM_EXIT_MMIO:
			answer_memory(r);
			break;
		case KVM_EXIT_HLT:
		case KVM_EXIT_DEBUG:
			return NULL;
		case KVM_EXIT_SHUTDOWN:
			return "a triple fault";
		case KVM_EXIT_INTERNAL_ERROR:
			return "KVM's emulator does not know the instruction";
		default:
			return "an exit that no sequence makes";
		}
		if (limit_reached(r, limit, string)) {
			settle();
			return NULL;
		}
	}
}

static bool is_string(uint64_t rip)
{
	const struct instruction *insn = instruction_at(kvm.seq, rip);

	return insn &&
	       (table[insn->row].form == FORM_STRING || table[insn->row].form == FORM_STRING_IO);
}

/*
 * One instruction from *r on; the state behind it, or behind the exception that it raised. Returns
 * the exception's vector, -1 for none, -2 for what did not end well. KVM steps over a repeated
 * string instruction whole if it exits: then until so many accesses have been made (0: no limit).
 */
static int step(struct result *r, unsigned limit, const char **end)
{
	struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
	int vector = -1;

	/* KVM steps from where the guest stands: so it has to stand there. */
	settle();
	set_guest(&machine, kvm.seq, r);
	ioctl(machine.vcpu, KVM_SET_SREGS, &machine.run->s.regs.sregs);
	ioctl(machine.vcpu, KVM_SET_REGS, &machine.run->s.regs.regs);
	ioctl(machine.vcpu, KVM_SET_VCPU_EVENTS, &machine.run->s.regs.events);
	machine.run->kvm_dirty_regs = 0;
	ioctl(machine.vcpu, KVM_SET_GUEST_DEBUG, &debug);
	*end = run_guest(r, is_string(r->rip) ? limit : 0, true);
	if (!*end)
		vector = read_guest(&machine, kvm.seq, r);
	settle();
	debug.control = 0;
	ioctl(machine.vcpu, KVM_SET_GUEST_DEBUG, &debug);
	return *end ? -2 : vector;
}

static uint8_t *code_at(const struct sequence *seq, uint64_t rip)
{
	return machine.pages[0] + (sequence_linear(seq, rip) - LOW - CODE_AT);
}

static void begin(const struct sequence *seq, struct processor_result *result)
{
	struct result start = {.rip = seq->insn[0].rip, .rflags = seq->rflags};

	memset(result, 0, offsetof(struct processor_result, step));
	result->vector = -1;
	kvm.seq = seq;
	for (unsigned page = 0; page < PAGES; page++)
		memcpy(machine.pages[page], initial_page(page), PAGE);
	memcpy(machine.pages[0], seq->code, CODE_SIZE);
	if (kvm.stop)
		*kvm.stop = HLT;
	/* Real mode protects nothing: the step behind the last sequence's end may have been there.
	 */
	memset(machine.system, 0, SYSTEM_PAGES * PAGE);
	build_system(machine.system);
	build_tables(seq, machine.tables);
	memcpy(start.gpr, seq->gpr, sizeof(start.gpr));
	memcpy(start.vectors, seq->vectors, sizeof(start.vectors));
	memcpy(start.seg, seq->seg, sizeof(start.seg));
	settle();
	set_guest(&machine, seq, &start);
}

/*
 * Run it from its start. The trap of a step before may come late, on an emulated Intel processor,
 * and is no result. A #DB that the sequence raises itself is there each time.
 */
static void start(const struct sequence *seq, unsigned limit, struct processor_result *result)
{
	for (unsigned tries = 0; tries < 3; tries++) {
		begin(seq, result);
		result->end = run_guest(&result->r, limit, false);
		if (result->end)
			return;
		result->vector = read_guest(&machine, seq, &result->r);
		if (result->vector != 1)
			return;
	}
}

/* Return whether it has stopped at the wanted place, this time. */
static bool is_reached(const struct sequence *seq, const struct result *r,
		       const struct result *until, unsigned passes)
{
	return passes == MAX_PASSES || r->accesses > until->accesses ||
	       (r->accesses == until->accesses && state_equal(seq, r, until));
}

static void kvm_run(const struct sequence *seq, const struct result *until, bool trace,
		    struct processor_result *result)
{
	struct result *r = &result->r;
	uint8_t *stop = code_at(seq, until->rip), original;
	unsigned passes = 0;

	(void)trace;
	original = seq->code[stop - machine.pages[0]];
	kvm.stop = stop;
	start(seq, 0, result);
	while (!result->end) {
		/* HLT is #GP to CPL 3. */
		result->stopped = r->rip == until->rip &&
				  (result->vector == -1 || (seq->user && result->vector == 13));
		if (!result->stopped || original == HLT || is_reached(seq, r, until, passes++))
			break;
		*stop = original;
		result->stopped = step(r, until->accesses, &result->end) == -1;
		if (!result->stopped)
			break;
		*stop = HLT;
		result->end = run_guest(r, 0, false);
		if (!result->end)
			result->vector = read_guest(&machine, seq, r);
	}
	if (!result->end)
		result->end = "a halt";
	if (*stop == HLT)
		*stop = original;
	kvm.stop = NULL;
	kvm.at = *r;
}

static void kvm_advance(const struct sequence *seq, unsigned accesses,
			struct processor_result *result)
{
	start(seq, accesses, result);
	result->stopped = !result->end && machine.run->exit_reason != KVM_EXIT_HLT &&
			  instruction_at(seq, result->r.rip);
}

/*
 * Whether a frame of an exception finds memory on the sequence's own stack. KVM does not get on
 * with one that would go to a device.
 */
static bool has_room_for_frame(const struct sequence *seq, const struct result *r)
{
	uint64_t sp = seq->stack_bits == 16 ? (uint16_t)r->gpr[NX_RSP] : r->gpr[NX_RSP];
	uint64_t top = r->seg[NX_SS].base + sp;

	if (seq->user || seq->mode == MODE_LONG64)
		return true;
	for (uint64_t at = top - 16; at != top; at++)
		if (page_at(at) == PAGES || page_use[page_at(at)] != READ_WRITE)
			return false;
	return sp >= 16;
}

static enum beyond kvm_beyond(const struct sequence *seq, struct processor_result *result)
{
	struct result r = kvm.at;

	if (!has_room_for_frame(seq, &r))
		return BEYOND_UNKNOWN;
	result->vector = step(&r, 0, &result->end);
	if (result->vector == -1)
		return BEYOND_RUNS;
	/* In a triple fault there is no stack for the handler, or no gate to it. */
	if (result->vector == -2)
		return machine.run->exit_reason == KVM_EXIT_SHUTDOWN ? BEYOND_FAULTS
								     : BEYOND_UNKNOWN;
	return r.rip == kvm.at.rip ? BEYOND_FAULTS : BEYOND_RUNS;
}

/* ---- The machine ---- */

static bool add_slot(uint64_t gpa, void *host, size_t size, bool writable)
{
	static uint32_t slots;
	struct kvm_userspace_memory_region region = {.slot = slots++,
						     .flags = writable ? 0 : KVM_MEM_READONLY,
						     .guest_phys_addr = gpa,
						     .memory_size = size,
						     .userspace_addr = (uintptr_t)host};

	return !ioctl(machine.vm, KVM_SET_USER_MEMORY_REGION, &region);
}

/* The pages lie where the tables say, and where their linear address is, for want of tables. */
static bool add_memory(void)
{
	uint8_t(*memory)[PAGE] = mmap(NULL, MEMORY_PAGES * PAGE, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool good;

	if (memory == MAP_FAILED)
		return false;
	machine.tables = memory;
	machine.pages = memory + TABLES;
	machine.system = memory[TABLES + PAGES];
	build_system(machine.system);
	good = add_slot(TABLES_AT, machine.tables, TABLES * PAGE, true) &&
	       add_slot(SYSTEM_AT, machine.system, SYSTEM_PAGES * PAGE, true);
	for (unsigned i = 0; i < PAGES; i++) {
		if (page_use[i] == HOLE || page_use[i] == DEVICE)
			continue;
		good = good && add_slot(page_gpa(i), machine.pages[i], PAGE, true);
		if (i < LOW_PAGES)
			good = good && add_slot(page_linear(i), machine.pages[i], PAGE,
						page_use[i] != READ_ONLY);
	}
	return good;
}

static bool set_cpuid(int device)
{
	enum { ENTRIES = 256 };
	struct kvm_cpuid2 *cpuid =
	    calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(struct kvm_cpuid_entry2));
	bool good;

	if (!cpuid)
		return false;
	cpuid->nent = ENTRIES;
	good = !ioctl(device, KVM_GET_SUPPORTED_CPUID, cpuid) &&
	       !ioctl(machine.vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return good;
}

/* The processor under /dev/kvm is a processor. */
static bool has_extension(void)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	char line[8192];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		machine.vmx = strstr(line, " vmx ");
		found = !strncmp(line, "flags", 5) && (machine.vmx || strstr(line, " svm "));
	}
	if (file)
		fclose(file);
	return found;
}

static void on_watchdog(int number)
{
	(void)number;
	kvm.ticks++;
}

/*
 * A processor that enters the guest once and then stands by: KVM keeps the nested page tables as
 * long as some processor has them, otherwise until the next change of mode.
 */
static bool add_keeper(size_t run_size)
{
	int keeper = ioctl(machine.vm, KVM_CREATE_VCPU, 1);
	struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
	struct kvm_run *run;

	if (keeper < 0)
		return false;
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, keeper, 0);
	if (run == MAP_FAILED)
		return false;
	run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	run->immediate_exit = 1;
	ioctl(keeper, KVM_SET_MP_STATE, &runnable);
	ioctl(keeper, KVM_RUN, 0);
	/* The first of the handlers: a HLT. */
	run->s.regs.sregs.cs.base = SYSTEM_AT;
	run->s.regs.sregs.cs.selector = SYSTEM_AT >> 4;
	run->s.regs.regs.rip = PAGE;
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	run->immediate_exit = 0;
	return !ioctl(keeper, KVM_RUN, 0) && run->exit_reason == KVM_EXIT_HLT;
}

static bool make_machine(void)
{
	const unsigned wanted = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
	int device = open("/dev/kvm", O_RDWR | O_CLOEXEC), size;

	kvm.missing = "there is no usable /dev/kvm";
	if (device < 0)
		return false;
	kvm.missing = "the kernel does not make the virtual machine that is needed";
	machine.vm = ioctl(device, KVM_CREATE_VM, 0);
	if (machine.vm < 0 ||
	    (ioctl(device, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS) & (int)wanted) != (int)wanted)
		return false;
	machine.vcpu = ioctl(machine.vm, KVM_CREATE_VCPU, 0);
	size = ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (machine.vcpu < 0 || size < 0 || !set_cpuid(device) || !add_memory())
		return false;
	machine.run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, machine.vcpu, 0);
	if (machine.run == MAP_FAILED || ioctl(machine.vcpu, KVM_GET_SREGS, &machine.reset))
		return false;
	machine.run->kvm_valid_regs = wanted;
	if (!add_keeper((size_t)size))
		return false;
	kvm.missing = NULL;
	return true;
}

/* A load from behind a segment's end: does it fault? An emulated AMD processor's does not. */
static bool probe_limits(void)
{
	static struct sequence seq;
	static struct processor_result result;
	struct result until = {.rip = 3};

	memset(seq.code, HLT, sizeof(seq.code));
	memcpy(seq.code, "\xa0\x00\x20", 3);
	seq.mode = MODE_PROTECTED16;
	seq.bits = seq.stack_bits = 16;
	for (unsigned i = 0; i < NX_SREGS; i++)
		seq.seg[i] = table_segment(i == NX_CS ? 0 : 8);
	seq.rflags = 2;
	seq.gpr[NX_RSP] = 0x1000;
	seq.insn[0].len = 3;
	seq.insn[1].rip = 3;
	seq.instructions = 1;
	kvm_run(&seq, &until, false, &result);
	return result.vector == 13;
}

static unsigned put_access(uint8_t *code, uint64_t gpa, bool store)
{
	code[0] = 0xa0; /* mov al, [gpa]; mov [gpa], al */
	memcpy(code + 1, &gpa, 4);
	if (!store)
		return 5;
	code[5] = 0xa2;
	memcpy(code + 6, &gpa, 4);
	return 10;
}

/*
 * Accesses all memory once, by instructions that no flags depend on: an emulated AMD processor
 * loses flags when a nested page fault comes in between.
 */
static void touch_memory(void)
{
	static struct sequence seq;
	static struct processor_result result;
	struct result until = {.accesses = MAX_ACCESSES};
	unsigned at = 0;

	seq.mode = MODE_FLAT32;
	seq.bits = seq.stack_bits = 32;
	for (unsigned i = 0; i < NX_SREGS; i++)
		seq.seg[i] = (struct nx_segment){.limit = 0xffffffff,
						 .type = i == NX_CS ? 11 : 3,
						 .s = true,
						 .present = true,
						 .db = true};
	seq.rflags = 2;
	for (unsigned i = 0; i < TABLES; i++)
		at += put_access(seq.code + at, TABLES_AT + i * PAGE, true);
	for (unsigned i = 0; i < SYSTEM_PAGES; i++)
		at += put_access(seq.code + at, SYSTEM_AT + i * PAGE, true);
	for (unsigned i = 0; i < PAGES; i++) {
		if (page_use[i] == HOLE || page_use[i] == DEVICE)
			continue;
		at += put_access(seq.code + at, page_gpa(i), true);
		if (i < LOW_PAGES)
			at += put_access(seq.code + at, page_linear(i), page_use[i] != READ_ONLY);
	}
	seq.code[at] = HLT;
	seq.insn[0].rip = LOW + CODE_AT;
	seq.insn[1].rip = until.rip = LOW + CODE_AT + at;
	seq.instructions = 1;
	kvm_run(&seq, &until, false, &result);
}

static unsigned kvm_init(void)
{
	const struct itimerval watchdog = {{1, 0}, {1, 0}};
	const struct sigaction action = {.sa_handler = on_watchdog};

	if (!has_extension()) {
		kvm.missing = "this processor has neither svm nor vmx: what its /dev/kvm runs is "
			      "emulated by the kernel";
		return 0;
	}
	if (!make_machine())
		return 0;
	/* By the time that this process and its guest have run, whatever else the machine does. */
	sigaction(SIGPROF, &action, NULL);
	setitimer(ITIMER_PROF, &watchdog, NULL);
	touch_memory();
	kvm.limits = probe_limits();
	return (1u << MODE_COUNT) - 1;
}

const struct processor kvm_processor = {
    .name = "KVM",
    .low = 0x40000,
    .whole = true,
    .init = kvm_init,
    .missing = kvm_missing,
    .has_segments = kvm_has_segments,
    .has_limits = kvm_has_limits,
    .has_alignment = kvm_has_alignment,
    .lacks = kvm_lacks,
    .differs = kvm_differs,
    .run = kvm_run,
    .advance = kvm_advance,
    .beyond = kvm_beyond,
    .page = kvm_page,
    .tables = kvm_tables,
};
