/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * native.c - a sequence on the processor under us, in user mode.
 *
 * Control goes to the sequence by a signal's return and comes back by the next signal, because a
 * signal frame holds all registers, the code segment's selector and the stack's: the same way
 * serves 64-bit, 32-bit and 16-bit code. UD2 in this process raises the signal that enters; HLT,
 * put where the sequence is to stop, the one that comes back. IN, OUT and CLI are faults in user
 * mode: the handler answers them, and logs.
 *
 * The handler runs with whatever FS, GS, DS and ES the sequence had. It sets the process's own
 * before anything else, and the sequence's last of all: so nothing here may use a stack protector
 * or be instrumented.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "native.h"

#define BARE __attribute__((no_sanitize("address"), no_sanitize("undefined")))
#define TF 0x100ull
#define MAX_PASSES 64

static struct {
	bool fsgsbase; /* user code may set the bases of FS and GS */
	bool segments; /* the local descriptor table is there */
	/* The kernel returns to user code whatever is in rsp. In some virtual machines it cannot.
	 */
	bool wild_stacks;
	const char *missing;
	/* The process's own segments. */
	uint64_t fs_base, gs_base;
	uint16_t ds, es, fs, gs;
	/* The run. */
	const struct sequence *seq;
	const struct result *until;
	struct processor_result *result;
	bool inside, trace, stepping;
	uint8_t *stop;    /* where the breakpoint is */
	uint8_t original; /* what it replaced */
	unsigned limit;   /* the number of accesses after which the run ends, or 0 */
	unsigned passes;
	/* The device memory that the stepped instruction accesses. */
	bool device_open;
	uint8_t *device_store; /* NULL if it only loads */
	unsigned device_size;
	unsigned ticks; /* of the watchdog, since the run began */
	bool if_flag;
	gregset_t host;
	fpregset_t vectors; /* of the signal that is handled */
} native;

/* In operation, not an error: the instruction that enters the sequence. */
void diff_gate(void);
__asm__(".pushsection .text\n"
	".globl diff_gate\n"
	".type diff_gate, @function\n"
	"diff_gate:\n"
	"	ud2\n"
	"	ret\n"
	".size diff_gate, . - diff_gate\n"
	".popsection\n");

static bool native_has_segments(void)
{
	return native.segments;
}

static const uint8_t *native_page(unsigned page)
{
	return (const uint8_t *)(uintptr_t)page_linear(page);
}

static const char *native_missing(void)
{
	return native.missing;
}

/* ---- Segments ---- */

/* Some kernels do not let user code set bases itself. libc's wrapper sets errno, which is behind
 * FS. */
static BARE inline void arch_prctl(int code, uint64_t argument)
{
	long result = SYS_arch_prctl;

	__asm__ volatile("syscall"
			 : "+a"(result)
			 : "D"((long)code), "S"(argument)
			 : "rcx", "r11", "memory");
}

static BARE inline void set_bases(uint64_t fs, uint64_t gs)
{
	if (native.fsgsbase) {
		__asm__ volatile("wrfsbase %0\n\twrgsbase %1" : : "r"(fs), "r"(gs));
	} else {
		arch_prctl(ARCH_SET_FS, fs);
		arch_prctl(ARCH_SET_GS, gs);
	}
}

static BARE inline void set_selectors(uint16_t ds, uint16_t es, uint16_t fs, uint16_t gs)
{
	__asm__ volatile("mov %w0, %%ds\n\tmov %w1, %%es\n\tmov %w2, %%fs\n\tmov %w3, %%gs"
			 :
			 : "r"((unsigned)ds), "r"((unsigned)es), "r"((unsigned)fs),
			   "r"((unsigned)gs));
}

static BARE inline void host_segments(void)
{
	set_selectors(native.ds, native.es, native.fs, native.gs);
	set_bases(native.fs_base, native.gs_base);
}

static BARE inline void guest_segments(void)
{
	const struct nx_segment *seg = native.seq->seg;

	set_selectors(seg[NX_DS].selector, seg[NX_ES].selector, seg[NX_FS].selector,
		      seg[NX_GS].selector);
	if (native.seq->bits == 64)
		set_bases(seg[NX_FS].base, seg[NX_GS].base);
}

static void save_host_segments(void)
{
	__asm__ volatile("mov %%ds, %0" : "=r"(native.ds));
	__asm__ volatile("mov %%es, %0" : "=r"(native.es));
	__asm__ volatile("mov %%fs, %0" : "=r"(native.fs));
	__asm__ volatile("mov %%gs, %0" : "=r"(native.gs));
	arch_prctl(ARCH_GET_FS, (uintptr_t)&native.fs_base);
	arch_prctl(ARCH_GET_GS, (uintptr_t)&native.gs_base);
}

/* ---- Registers in a signal frame ---- */

static const uint8_t greg_of[NX_GPRS] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
					 REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
					 REG_R12, REG_R13, REG_R14, REG_R15};

static BARE uint64_t mask_here(void)
{
	return native.seq->bits == 64 ? ~0ull : 0xffffffffull;
}

static BARE void read_frame(const greg_t *g, struct result *r)
{
	for (unsigned i = 0; i < NX_GPRS; i++)
		r->gpr[i] = (uint64_t)g[greg_of[i]] & (i < NX_R8 ? mask_here() : ~0ull);
	r->rip = (uint64_t)g[REG_RIP] & mask_here();
	r->rflags = (uint64_t)g[REG_EFL];
	r->rflags = (r->rflags & ~0x200ull) | (native.if_flag ? 0x200 : 0);
	memcpy(r->vectors, native.vectors->_xmm, sizeof(r->vectors));
}

static BARE void trace_step(const greg_t *g)
{
	struct processor_result *result = native.result;
	struct result r;

	if (!native.trace || result->steps == MAX_STEPS)
		return;
	read_frame(g, &r);
	memcpy(result->step[result->steps].gpr, r.gpr, sizeof(r.gpr));
	result->step[result->steps++].rip = r.rip;
}

static BARE void enter(ucontext_t *context)
{
	greg_t *g = context->uc_mcontext.gregs;
	const struct sequence *seq = native.seq;

	memcpy(native.host, g, sizeof(native.host));
	native.host[REG_RIP] += 2;
	for (unsigned i = 0; i < NX_GPRS; i++)
		g[greg_of[i]] = (greg_t)seq->gpr[i];
	g[REG_RIP] = (greg_t)seq->insn[0].rip;
	g[REG_EFL] = (greg_t)((seq->rflags & 0xcd5) | 0x202 | (native.trace ? TF : 0));
	g[REG_CSGSFS] =
	    (greg_t)(seq->seg[NX_CS].selector | (uint64_t)seq->seg[NX_SS].selector << 48);
	memcpy(native.vectors->_xmm, seq->vectors, sizeof(seq->vectors));
	native.inside = true;
	trace_step(g);
}

static BARE void come_back(ucontext_t *context, bool stopped)
{
	memcpy(context->uc_mcontext.gregs, native.host, sizeof(native.host));
	native.result->stopped = stopped;
	native.inside = false;
}

/* ---- What the sequence cannot do in user mode ---- */

static BARE bool answer_io(greg_t *g, const struct instruction *insn)
{
	struct result *r = &native.result->r;
	uint64_t mask = insn->size == 4 ? 0xffffffff : (1ull << insn->size * 8) - 1;
	uint64_t *rax = (uint64_t *)&g[REG_RAX], input;
	const uint8_t *code =
	    native.seq->code + (native.seq->seg[NX_CS].base + insn->rip - LOW - CODE_AT);
	struct access *access = &r->access[r->accesses];

	if (r->accesses == MAX_ACCESSES)
		return false;
	access->write = insn->kind == KIND_OUT;
	access->size = insn->size;
	access->memory = false;
	access->where = insn->port_in_dx ? (uint16_t)g[REG_RDX] : code[insn->len - 1];
	access->data = access->write ? *rax & mask : 0;
	input = native.seq->input[r->accesses++] & mask;
	if (!access->write)
		*rax = insn->size == 4 ? input : (*rax & ~mask) | input;
	g[REG_RIP] += insn->len;
	return true;
}

static BARE bool answer(greg_t *g)
{
	const struct instruction *insn =
	    instruction_at(native.seq, (uint64_t)g[REG_RIP] & mask_here());

	if (!insn)
		return false;
	switch (insn->kind) {
	case KIND_IN:
	case KIND_OUT:
		return answer_io(g, insn);
	case KIND_CLI:
		native.if_flag = false;
		g[REG_RIP] += insn->len;
		return true;
	default:
		return false;
	}
}

static BARE void protect_device(int protection)
{
	mprotect((void *)(uintptr_t)(LOW + DEVICE_AT), PAGE, protection);
}

static BARE void log_device(const uint8_t *at, bool write, uint64_t data)
{
	struct result *r = &native.result->r;

	r->access[r->accesses++] = (struct access){.write = write,
						   .memory = true,
						   .size = (uint8_t)native.device_size,
						   .where = (uint64_t)(uintptr_t)at,
						   .data = data};
}

/* Return where an operand in device memory lies, or NULL if there is none. A string
 * instruction's pointer tells; another instruction has only one operand in memory beside the
 * stack, and that has faulted. */
static BARE uint8_t *device_operand(const greg_t *g, const ZydisDecodedInstruction *decoded,
				    const ZydisDecodedOperand *operand, uint8_t *fault)
{
	unsigned width = decoded->address_width;
	uint64_t linear;

	if (operand->type != ZYDIS_OPERAND_TYPE_MEMORY)
		return NULL;
	if (decoded->meta.category != ZYDIS_CATEGORY_STRINGOP)
		return operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ? NULL : fault;
	linear = (uint64_t)g[ZydisRegisterGetId(operand->mem.base) == NX_RSI ? REG_RSI : REG_RDI];
	if (width < 64)
		linear &= (1ull << width) - 1;
	linear += native.seq->seg[operand->mem.segment - ZYDIS_REGISTER_ES].base;
	linear &= mask_here();
	return page_at(linear) == DEVICE_AT / PAGE ? (uint8_t *)(uintptr_t)linear : NULL;
}

/*
 * An access to the device's page: the page is opened for one instruction, or one turn of a repeated
 * one, which finds the device's answer there; what it leaves there is what it wrote.
 */
static BARE bool answer_device(greg_t *g, uint8_t *fault)
{
	const struct instruction *insn =
	    instruction_at(native.seq, (uint64_t)g[REG_RIP] & mask_here());
	ZydisDecodedInstruction decoded;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

	if (page_at((uint64_t)(uintptr_t)fault) != DEVICE_AT / PAGE || native.device_open ||
	    !insn || !decode(native.seq, insn, &decoded, operands) ||
	    native.result->r.accesses + 3 > MAX_ACCESSES)
		return false;
	native.device_store = NULL;
	for (unsigned i = 0; i < decoded.operand_count; i++) {
		uint8_t *at = device_operand(g, &decoded, &operands[i], fault);

		if (!at)
			continue;
		if (!native.device_open)
			protect_device(PROT_READ | PROT_WRITE);
		native.device_open = true;
		native.device_size = operands[i].size / 8u;
		if (operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) {
			native.device_store = at;
			memset(at, 0, native.device_size);
		}
		if (operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_READ) {
			memcpy(at, &native.seq->input[native.result->r.accesses],
			       native.device_size);
			log_device(at, false, 0);
		}
	}
	if (native.device_open)
		g[REG_EFL] |= (greg_t)TF;
	return native.device_open;
}

static BARE void finish_device(void)
{
	uint64_t data = 0;

	if (native.device_store) {
		memcpy(&data, native.device_store, native.device_size);
		log_device(native.device_store, true, data);
	}
	protect_device(PROT_NONE);
	native.device_open = false;
}

/* At the breakpoint: is it the time? Otherwise the original instruction is stepped over. */
static BARE bool at_stop(ucontext_t *context)
{
	greg_t *g = context->uc_mcontext.gregs;
	struct result *r = &native.result->r;

	if (((uint64_t)g[REG_RIP] & mask_here()) != native.until->rip)
		return false;
	read_frame(g, r);
	if (native.passes == MAX_PASSES ||
	    (r->accesses == native.until->accesses && state_equal(native.seq, r, native.until))) {
		come_back(context, true);
		return true;
	}
	if (r->accesses > native.until->accesses) {
		come_back(context, true);
		return true;
	}
	native.passes++;
	*native.stop = native.original;
	native.stepping = true;
	g[REG_EFL] |= (greg_t)TF;
	return true;
}

static BARE bool stepped(greg_t *g)
{
	if (native.device_open)
		finish_device();
	if (native.stepping) {
		*native.stop = 0xf4;
		native.stepping = false;
	}
	/* POPF may have cleared it. */
	if (native.trace)
		g[REG_EFL] |= (greg_t)TF;
	else
		g[REG_EFL] &= ~(greg_t)TF;
	trace_step(g);
	return true;
}

static BARE void handle(int signal, const siginfo_t *info, ucontext_t *context)
{
	greg_t *g = context->uc_mcontext.gregs;

	if (signal == SIGPROF && native.ticks++ < 2)
		return;
	if (signal == SIGTRAP && stepped(g))
		return;
	if (signal == SIGSEGV && g[REG_TRAPNO] == 13) {
		if (!native.stepping && at_stop(context))
			return;
		if (answer(g)) {
			if (native.limit && native.result->r.accesses >= native.limit) {
				read_frame(g, &native.result->r);
				come_back(context, true);
				return;
			}
			/* Instructions that were skipped were not stepped. */
			if (native.stepping)
				stepped(g);
			else
				trace_step(g);
			return;
		}
	}
	if (signal == SIGSEGV && g[REG_TRAPNO] == 14 && answer_device(g, info->si_addr))
		return;
	read_frame(g, &native.result->r);
	native.result->lost = !native.wild_stacks && g[REG_TRAPNO] == 13 &&
			      (int64_t)((uint64_t)g[REG_RSP] << 16) >> 16 != g[REG_RSP];
	native.result->end = "a signal";
	native.result->vector = (int)g[REG_TRAPNO];
	native.result->fault_address = (uint64_t)(uintptr_t)info->si_addr;
	come_back(context, false);
}

/* A sequence that changed its code may have set AC: then unaligned accesses fault here too. */
static BARE inline void clear_alignment_check(void)
{
	__asm__ volatile(
	    "lea -128(%%rsp), %%rsp\n\tpushfq\n\tandl $0xfffbffff, (%%rsp)\n\tpopfq\n\t"
	    "lea 128(%%rsp), %%rsp"
	    :
	    :
	    : "cc", "memory");
}

static BARE void on_signal(int number, siginfo_t *info, void *data)
{
	ucontext_t *context = data;

	clear_alignment_check();
	native.vectors = context->uc_mcontext.fpregs;
	if (native.inside) {
		host_segments();
		handle(number, info, context);
	} else if (number == SIGILL && native.seq &&
		   context->uc_mcontext.gregs[REG_RIP] == (greg_t)(uintptr_t)diff_gate) {
		enter(context);
	} else if (number == SIGPROF) {
		return;
	} else {
		/* Our own mistake: the default action ends the process. */
		signal(number, SIG_DFL);
		return;
	}
	if (native.inside)
		guest_segments();
}

/* ---- Outside of signals ---- */

static void run(const struct sequence *seq, const struct result *until, bool trace,
		struct processor_result *result)
{
	uint64_t at = sequence_linear(seq, until->rip) - LOW - CODE_AT;

	memset(result, 0, offsetof(struct processor_result, step));
	native.seq = seq;
	native.until = until;
	native.result = result;
	native.trace = trace;
	native.stepping = false;
	native.passes = native.ticks = 0;
	native.if_flag = seq->rflags & 0x200;
	native.stop = (uint8_t *)(uintptr_t)(LOW + CODE_AT + at);
	native.original = *native.stop;
	*native.stop = 0xf4;
	diff_gate();
	if (native.device_open)
		finish_device();
	*native.stop = native.original;
}

void native_run(const struct sequence *seq, const struct result *until, bool trace,
		struct processor_result *result)
{
	for (unsigned page = 0; page < PAGES; page++)
		if (page_use[page] == READ_WRITE)
			memcpy((void *)(uintptr_t)page_linear(page), initial_page(page), PAGE);
	memcpy((void *)(uintptr_t)(LOW + CODE_AT), seq->code, CODE_SIZE);
	run(seq, until, trace, result);
}

static void native_advance(const struct sequence *seq, unsigned accesses,
			   struct processor_result *result)
{
	const struct result end = {.rip = seq->insn[seq->instructions].rip,
				   .accesses = MAX_ACCESSES};

	native.limit = accesses;
	native_run(seq, &end, false, result);
	native.limit = 0;
}

static void install_handlers(void)
{
	static const int signals[] = {SIGSEGV, SIGTRAP, SIGILL, SIGBUS, SIGFPE, SIGPROF};
	static uint8_t stack[256 * 1024] __attribute__((aligned(4096)));
	const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_sigaction = on_signal,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

	const struct itimerval watchdog = {{1, 0}, {1, 0}};

	sigaltstack(&alternate, NULL);
	sigfillset(&action.sa_mask);
	/*
	 * The watchdog waits for the end of a handler: in the middle of one, nobody knows whose the
	 * segment registers are. The others cannot wait, they are mistakes there.
	 */
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (signals[i] != SIGPROF)
			sigdelset(&action.sa_mask, signals[i]);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
	/*
	 * A sequence that does not end is a mistake of the generator, but it has to be seen. It is
	 * told by the time that this process has run: how busy the machine is does not matter.
	 */
	setitimer(ITIMER_PROF, &watchdog, NULL);
}

static unsigned native_init(void)
{
	const struct nx_segment long64 = {.selector = 0x33}, flat32 = {.selector = 0x23};
	struct nx_segment code16 = table_segment(0), code32 = table_segment(1);
	unsigned modes = 0;

	/* The kernel's word for it: CR4 has the bit set. */
	native.fsgsbase = getauxval(AT_HWCAP2) & 2;
	if (!native_map_pages()) {
		native.missing = "the addresses that the tests need are taken in this process";
		return 0;
	}
	install_handlers();
	save_host_segments();
	native.segments = native_install_segments();
	if (native_runs_code(MODE_LONG64, 64, &long64))
		modes |= 1u << MODE_LONG64;
	native.wild_stacks = native_bears_wild_stack(&long64);
	if (native_runs_code(MODE_FLAT32, 32, &flat32))
		modes |= 1u << MODE_FLAT32;
	if (native.segments && native_runs_code(MODE_SEGMENTED32, 32, &code32))
		modes |= 1u << MODE_SEGMENTED32;
	if (native.segments && native_runs_code(MODE_PROTECTED16, 16, &code16))
		modes |= 1u << MODE_PROTECTED16 | 1u << MODE_REAL16;
	if (!native.segments)
		native.missing =
		    "the kernel refuses segments of our own (modify_ldt), or they have no effect";
	else if (modes != (1u << MODE_COUNT) - 1)
		native.missing = "the kernel does not run 16-bit or 32-bit code";
	return modes;
}

static bool native_has_limits(void)
{
	return true;
}

static bool native_has_alignment(void)
{
	return true;
}

static bool native_lacks(ZydisMnemonic mnemonic)
{
	(void)mnemonic;
	return false;
}

static bool native_differs(const ZydisDecodedInstruction *decoded, bool relative, bool device)
{
	(void)decoded, (void)relative, (void)device;
	return false;
}

/* A second run would tell, but only by single-stepping: main.c asks in its own way. */
static enum beyond native_beyond(const struct sequence *seq, struct processor_result *result)
{
	(void)seq, (void)result;
	return BEYOND_UNKNOWN;
}

const struct processor native_processor = {
    .name = "native",
    .low = 0x20000000,
    .init = native_init,
    .missing = native_missing,
    .has_segments = native_has_segments,
    .has_limits = native_has_limits,
    .has_alignment = native_has_alignment,
    .lacks = native_lacks,
    .differs = native_differs,
    .run = native_run,
    .advance = native_advance,
    .beyond = native_beyond,
    .page = native_page,
};

const struct processor *processor = &native_processor;
