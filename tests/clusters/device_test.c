// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Device memory in the gap between two port accesses, and what a host may forbid. */
#include "mock.h"

#define LOW_PAGE 0x21000u /* RAM that a test can turn into something else */

/* X(name, code): four accesses at most, all to the device at rsi, the plain page being rdi. */
#define DEVICE_64(X)                                                                            \
	X(loads, "mov ecx, [rsi]; mov r8, [rsi+8]; mov r9w, [rsi+16]; mov al, [rsi+18]")        \
	X(homed_loads,                                                                          \
	  "mov r10d, [rsi]; mov r11, [rsi+8]; mov r14w, [rsi+16]; mov r15b, [rsi+18]")          \
	X(extended, "movzx ecx, byte ptr [rsi]; movsx r10, word ptr [rsi+2];"                   \
		    "movsxd r11, dword ptr [rsi+4]; movsx r8w, byte ptr [rsi+8]")               \
	X(high_bytes, "mov ah, [rsi]; mov [rsi+1], ah; mov bh, [rsi+2]; mov [rsi+3], ch")       \
	X(stores, "mov [rsi], ecx; mov [rsi+8], r8; mov [rsi+16], r9w; mov [rsi+18], al")       \
	X(homed_stores,                                                                         \
	  "mov [rsi], r10d; mov [rsi+8], r11; mov [rsi+16], r14w; mov [rsi+18], r15b")          \
	X(immediates, "mov dword ptr [rsi], -2; mov qword ptr [rsi+8], -3;"                     \
		      "mov word ptr [rsi+16], 0x8765; mov byte ptr [rsi+18], 200")              \
	X(stack_pointer, "mov [rsi], rsp; mov rcx, [rdi]; mov [rsi+8], esp; mov [rdi], rcx")    \
	X(into_address, "mov rsi, [rsi]; mov [rdi], rsi")                                       \
	X(flags_live, "cmp ecx, r8d; mov r9, [rsi]; adc r8, 0; mov [rsi], r8; setz cl")         \
	X(between_memory, "mov ecx, [rdi]; mov [rsi], ecx; mov [rdi+8], ecx; mov r8d, [rsi+4]") \
	X(unaligned, "mov ecx, [rsi+1]; mov [rsi+5], r8; mov r9w, [rsi+11]")
#define DEVICE_32(X)                                                                              \
	X(loads, "mov ecx, [esi]; mov bp, [esi+16]; mov al, [esi+18]")                            \
	X(high_bytes, "mov ah, [esi]; mov [esi+1], ah; mov bh, [esi+2]; mov [esi+3], ch")         \
	X(stores, "mov [esi], ecx; mov [esi+4], bp; mov [esi+18], al; mov dword ptr [esi+8], -7") \
	X(absolute, "mov eax, ds:[0x800040]; mov ds:[0x800044], al; mov [esi], esp")              \
	X(extended,                                                                               \
	  "movzx ecx, byte ptr [esi]; movsx ebp, word ptr [esi+2]; movsx bx, byte ptr [esi+4]")

#define DEFINE_64(name, code) GUEST(device64_##name, 64, "in al, dx", code "; out dx, al", "ret");
#define DEFINE_32(name, code) GUEST(device32_##name, 32, "in al, dx", code "; out dx, al", "ret");
DEVICE_64(DEFINE_64)
DEVICE_32(DEFINE_32)

struct form {
	const char *name;
	const uint8_t *code, *resume, *stop, *end;
};

#define ROW_64(name, code)                                                         \
	{#name, device64_##name, device64_##name##_resume, device64_##name##_stop, \
	 device64_##name##_end},
#define ROW_32(name, code)                                                         \
	{#name, device32_##name, device32_##name##_resume, device32_##name##_stop, \
	 device32_##name##_end},
static const struct form forms_64[] = {DEVICE_64(ROW_64)}, forms_32[] = {DEVICE_32(ROW_32)};

static bool check_form(const struct form *form, enum mock_mode mode, unsigned cpl)
{
	struct mock *m = mock_new(mode, cpl, NX_LEVEL_LOOPS);
	bool native;

	mock_load(m, form->code, form->resume, form->stop, form->end);
	m->start.gpr[NX_RDX] = 0x1f0;
	m->start.gpr[NX_RSI] = MOCK_DEVICE + 0x100;
	m->start.gpr[NX_RDI] = MOCK_DATA;
	m->start.rflags |= 1;
	for (unsigned i = 0; i < 8; i++)
		m->input[i] = 0x8182838485868788ull + 0x7171717171717171ull * i;
	mock_warm(m);
	if (nx_engine_state(m->engine)->rip != m->stop_rip || m->exits < 2)
		fail_msg("%s, mode %u: %u exits, left at %#llx: %s", form->name, mode, m->exits,
			 (unsigned long long)nx_engine_state(m->engine)->rip,
			 nx_leave_reason_text(m->reason));
	native = mock_check_native(m);
	mock_free(m);
	return native;
}

static void device_memory_64_bit(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(forms_64) / sizeof(forms_64[0]); i++)
		for (unsigned cpl = 0; cpl <= 3; cpl += 3)
			if (!check_form(&forms_64[i], MOCK_LONG64, cpl))
				skip();
}

static void device_memory_32_bit(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(forms_32) / sizeof(forms_32[0]); i++)
		for (enum mock_mode mode = MOCK_FLAT32; mode <= MOCK_PAE32; mode++)
			if (!check_form(&forms_32[i], mode, mode == MOCK_PAE32 ? 3 : 0))
				skip();
}

/* Sizes, order and data spelled out; nothing above an input's size gets in. */
static void accesses_in_order(void **state)
{
	static const struct mock_access log[] = {
	    LOAD(MOCK_DEVICE + 0x100, 4, 0x85868788),
	    LOAD(MOCK_DEVICE + 0x108, 8, ~0ull),
	    LOAD(MOCK_DEVICE + 0x110, 2, 0x8788),
	    LOAD(MOCK_DEVICE + 0x112, 1, 0x42),
	    OUT(0x1f0, 1, 0x42),
	};
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_BRANCHES);

	(void)state;
	MOCK_LOAD(m, device64_loads);
	m->start.gpr[NX_RDX] = 0x1f0;
	m->start.gpr[NX_RSI] = MOCK_DEVICE + 0x100;
	m->input[0] = 0x8182838485868788;
	m->input[1] = ~0ull;
	m->input[2] = 0x8182838485868788;
	m->input[3] = 0xffffff42;
	mock_warm(m);
	mock_check_log(m, log, 5);
	m->want.gpr[NX_RCX] = 0x85868788;
	m->want.gpr[NX_R8] = ~0ull;
	m->want.gpr[NX_R9] = (m->start.gpr[NX_R9] & ~0xffffull) | 0x8788;
	m->want.gpr[NX_RAX] = (m->start.gpr[NX_RAX] & ~0xffull) | 0x42;
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_check_ended(m);
	/* The engine counted what the host saw. */
	for (unsigned i = 0; i < 3; i++) {
		const struct nx_counters before = *nx_engine_counters(m->engine);

		mock_run(m);
		assert_int_equal(nx_engine_counters(m->engine)->exits_mmio, before.exits_mmio + 4);
		assert_int_equal(nx_engine_counters(m->engine)->exits_io, before.exits_io + 1);
		assert_int_equal(nx_engine_counters(m->engine)->resumes, before.resumes + 6);
	}
	mock_free(m);
}

GUEST(ports_64, 64, "in al, dx",
      "in al, dx; mov rcx, rax; in ax, 0x40; mov r10, rax; in eax, dx; mov r8, rax; out 0x41, eax;"
      "out dx, ax",
      "ret");

static void port_sizes(void **state)
{
	static const struct mock_access log[] = {IN(0x1f0, 1, 0x77), IN(0x40, 2, 0x6655),
						 IN(0x1f0, 4, 0x87654321), OUT(0x41, 4, 0x87654321),
						 OUT(0x1f0, 2, 0x4321)};
	struct mock *m = mock_new(MOCK_LONG64, 3, NX_LEVEL_STRAIGHT);

	(void)state;
	MOCK_LOAD(m, ports_64);
	m->start.gpr[NX_RAX] = 0xaaaaaaaaaaaaaaaa;
	m->start.gpr[NX_RDX] = 0xffffffffffff01f0;
	m->input[0] = 0xfffffffffffff777;
	m->input[1] = 0xfffffffffff86655;
	m->input[2] = 0x1234567887654321;
	mock_warm(m);
	mock_check_log(m, log, 5);
	m->want.gpr[NX_RCX] = 0xaaaaaaaaaaaaaa77;
	m->want.gpr[NX_R10] = 0xaaaaaaaaaaaa6655;
	m->want.gpr[NX_R8] = m->want.gpr[NX_RAX] = 0x87654321;
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_free(m);
}

/* ---- Device accesses that only the processor makes ---- */

/*
 * Instructions that device.c runs on a bounce buffer, and string instructions.
 * X(name, code, device loads, device stores)
 */
#define RUN_ON_DEVICE(X)                                                 \
	X(arithmetic, "add ecx, [rsi]", 1, 0)                            \
	X(modify, "inc dword ptr [rsi]", 1, 1)                           \
	X(carry, "stc; adc [rsi], r10w", 1, 1)                           \
	X(compare, "cmp [rsi], cl", 1, 0)                                \
	X(test, "test byte ptr [rsi], 0x20; setz r9b", 1, 0)             \
	X(exchange, "xchg [rsi], ecx", 1, 1)                             \
	X(exchange_add, "xadd [rsi], r15", 1, 1)                         \
	X(compare_exchange, "cmpxchg [rsi], ecx", 1, 1)                  \
	X(bit, "bts word ptr [rsi], 9", 1, 1)                            \
	X(shift, "shl byte ptr [rsi], 3", 1, 1)                          \
	X(multiply, "imul r14, [rsi], 77", 1, 0)                         \
	X(set, "setz [rsi]", 0, 1)                                       \
	X(conditional, "cmovz ecx, [rsi]", 1, 0)                         \
	X(string, "movsb", 1, 0)                                         \
	X(load_string, "lodsd", 1, 0)                                    \
	X(load_strings, "mov ecx, 3; rep lodsw", 3, 0)                   \
	X(copy_string, "lea rdi, [rsi+8]; movsw", 1, 1)                  \
	X(copy_strings, "lea rdi, [rsi+8]; mov ecx, 3; rep movsw", 3, 3) \
	X(copy_none, "lea rdi, [rsi+8]; xor ecx, ecx; rep movsw", 0, 0)  \
	X(store_string, "mov rdi, rsi; stosd", 0, 1)                     \
	X(store_strings, "mov rdi, rsi; mov ecx, 2; rep stosq", 0, 2)

#define DEFINE_ON_DEVICE(name, code, loads, stores) \
	GUEST(on_device_##name, 64, "in al, dx", "inc rbx;" code "; out dx, al", "ret");
RUN_ON_DEVICE(DEFINE_ON_DEVICE)

static const struct on_device {
	const char *name;
	const uint8_t *code, *resume, *stop, *end;
	unsigned loads, stores;
} on_device[] = {
#define ROW_ON_DEVICE(name, code, loads, stores) \
	{#name,                                  \
	 on_device_##name,                       \
	 on_device_##name##_resume,              \
	 on_device_##name##_stop,                \
	 on_device_##name##_end,                 \
	 loads,                                  \
	 stores},
    RUN_ON_DEVICE(ROW_ON_DEVICE)};

/* Fill in the bytes that device memory got, in the order of addresses, over those that it held. */
static void replay_stores(const struct mock *m, uint64_t base, uint8_t *bytes, unsigned size,
			  unsigned *loads, unsigned *stores)
{
	*loads = *stores = 0;
	for (unsigned i = 0; i < m->exits; i++) {
		const struct mock_access *access = &m->log[i];

		if (access->kind != NX_EXIT_MMIO)
			continue;
		*(access->write ? stores : loads) += 1;
		assert_in_range(access->where, base, base + size - access->size);
		if (access->write)
			memcpy(bytes + (access->where - base), &access->data, access->size);
	}
}

/*
 * To registers, flags and the accessed bytes, a device that holds some value is what memory that
 * holds it is; and the run on memory is compared with the processor.
 */
static bool check_on_device(const struct on_device *form)
{
	static const uint64_t value[2] = {0x8899aabbccddee21, 0x1122334455667788};
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_BRANCHES);
	struct nx_state on_memory, *state = nx_engine_state(m->engine);
	uint8_t memory[16], device[16];
	unsigned loads, stores;
	bool native;

	mock_load(m, form->code, form->resume, form->stop, form->end);
	m->start.gpr[NX_RSI] = MOCK_DATA + 0x100;
	m->start.gpr[NX_RDI] = MOCK_DATA;
	m->start.gpr[NX_RDX] = 0x1f0;
	mock_poke(m, MOCK_DATA + 0x100, value, sizeof(value));
	mock_warm(m);
	mock_check_ended(m);
	native = mock_check_native(m);
	on_memory = *state;
	memcpy(memory, m->ram + MOCK_DATA + 0x100, sizeof(memory));

	m->start.gpr[NX_RSI] = MOCK_DEVICE + 0x100;
	/* Wider answers than an access is are cut by the mock's devices. */
	for (unsigned i = 0; i < 3; i++)
		m->input[i] = value[0] >> (i * 16);
	mock_warm(m);
	if (state->rip != m->stop_rip)
		fail_msg("%s: left at %#llx: %s", form->name, (unsigned long long)state->rip,
			 nx_leave_reason_text(m->reason));
	memcpy(device, value, sizeof(device));
	replay_stores(m, MOCK_DEVICE + 0x100, device, sizeof(device), &loads, &stores);
	assert_int_equal(loads, form->loads);
	assert_int_equal(stores, form->stores);
	assert_memory_equal(device, memory, sizeof(memory));
	if (state->gpr[NX_RSI] != on_memory.gpr[NX_RSI])
		state->gpr[NX_RSI] -= MOCK_DEVICE - MOCK_DATA;
	if (state->gpr[NX_RDI] != on_memory.gpr[NX_RDI])
		state->gpr[NX_RDI] -= MOCK_DEVICE - MOCK_DATA;
	assert_memory_equal(state->gpr, on_memory.gpr, sizeof(on_memory.gpr));
	assert_int_equal(state->rflags, on_memory.rflags);
	mock_free(m);
	return native;
}

static void other_forms_exit(void **state)
{
	bool native = true;

	(void)state;
	for (unsigned i = 0; i < sizeof(on_device) / sizeof(on_device[0]); i++)
		native &= check_on_device(&on_device[i]);
	if (!native)
		skip();
}

GUEST(
    many_forms, 64, "in al, dx",
    "mov ecx, 5; 1: xor [rsi], cl; xchg [rsi+1], bl; xchg [rsi+2], bl; dec ecx; jnz 1b; out dx, al",
    "ret");

/* Each instruction with a device operand is translated once; another one at its place is
 * translated again. */
static void single_translations_are_kept(void **state)
{
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);
	const struct nx_counters *counters = nx_engine_counters(m->engine);
	const uint8_t other = 0x20; /* AND for XOR */
	uint32_t at = 0;

	(void)state;
	MOCK_LOAD(m, many_forms);
	m->start.gpr[NX_RSI] = MOCK_DEVICE + 0x100;
	m->start.gpr[NX_RDX] = 0x1f0;
	mock_warm(m);
	mock_run(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 5 * 6 + 1);
	assert_int_equal(counters->singles, 3);
	/* A flush of clusters has nothing to do with them. */
	for (unsigned i = 0; i < 4; i++)
		mock_run(m);
	assert_int_equal(counters->singles, 3);
	while (m->start_ram[m->code_gpa + at] != 0x30)
		at++;
	mock_poke(m, m->code_gpa + at, &other, 1);
	mock_warm(m);
	for (unsigned i = 0; i < 4; i++)
		mock_run(m);
	assert_int_equal(counters->singles, 4);
	for (unsigned i = 0; i < 8; i++)
		m->input[i] = 0xf0;
	mock_run(m);
	assert_int_equal(m->log[1].data, 0xf0 & 5);
	mock_free(m);
}

GUEST(copying, 64, "in al, dx", "mov ecx, 4; rep movsd; out dx, al", "ret");

/* From device to device: each element is read and written before the next is read. */
static void copies_between_devices(void **state)
{
	static const struct mock_access log[] = {
	    LOAD(MOCK_DEVICE + 0x10c, 4, 0x11111111),
	    STORE(MOCK_DEVICE + 0x110c, 4, 0x11111111),
	    LOAD(MOCK_DEVICE + 0x108, 4, 0x22222222),
	    STORE(MOCK_DEVICE + 0x1108, 4, 0x22222222),
	    LOAD(MOCK_DEVICE + 0x104, 4, 0x33333333),
	    STORE(MOCK_DEVICE + 0x1104, 4, 0x33333333),
	    LOAD(MOCK_DEVICE + 0x100, 4, 0x44444444),
	    STORE(MOCK_DEVICE + 0x1100, 4, 0x44444444),
	    OUT(0x1f0, 1, 0x77),
	};
	struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_LOOPS);

	(void)state;
	MOCK_LOAD(m, copying);
	m->start.gpr[NX_RSI] = MOCK_DEVICE + 0x10c;
	m->start.gpr[NX_RDI] = MOCK_DEVICE + 0x110c;
	m->start.gpr[NX_RDX] = 0x1f0;
	m->start.gpr[NX_RAX] = 0x77;
	m->start.rflags |= 0x400; /* DF */
	for (unsigned i = 0; i < 4; i++)
		m->input[i] = 0xdead000011111111 + 0x11111111ull * i;
	mock_warm(m);
	mock_check_log(m, log, 9);
	m->want.gpr[NX_RSI] -= 16;
	m->want.gpr[NX_RDI] -= 16;
	m->want.gpr[NX_RCX] = 0;
	m->want.rip = m->stop_rip;
	mock_check(m);
	/* Stopped between the two: the element is finished first. */
	m->stop_at = 3;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_STOP);
	assert_int_equal(m->exits, 4);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RCX], 2);
	assert_int_equal(nx_engine_state(m->engine)->gpr[NX_RDI], MOCK_DEVICE + 0x1104);
	m->stop_at = 0;
	/* A destination that is the kernel's: nothing has been read. */
	m->leave_gpa = MOCK_DEVICE + 0x1000;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_HOST_ROUTE);
	assert_int_equal(m->exits, 0);
	mock_free(m);
}

/* X(name, code that stands at the access) */
#define REFUSED(X)                            \
	X(locked, "lock add [rsi], ecx")      \
	X(push, "push qword ptr [rsi]")       \
	X(pop, "pop qword ptr [rsi]")         \
	X(compare_string, "cmpsb")            \
	X(scan_string, "mov rdi, rsi; scasb") \
	X(stack, "mov rsp, rsi; add rsp, 64; push rcx")

#define DEFINE_REFUSED(name, code) \
	GUEST(refused_##name, 64, "in al, dx", "inc rbx;" code "; out dx, al", "ret");
#define ROW_REFUSED(name, code)                                                 \
	{#name, refused_##name, refused_##name##_resume, refused_##name##_stop, \
	 refused_##name##_end},
REFUSED(DEFINE_REFUSED)
static const struct form refused[] = {REFUSED(ROW_REFUSED)};

static void other_forms_leave(void **state)
{
	bool native = true;

	(void)state;
	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct mock *m = mock_new(MOCK_LONG64, 0, NX_LEVEL_BRANCHES);

		mock_load(m, refused[i].code, refused[i].resume, refused[i].stop, refused[i].end);
		m->start.gpr[NX_RSI] = MOCK_DATA + 0x100;
		m->start.gpr[NX_RDI] = MOCK_DATA;
		m->start.gpr[NX_RDX] = 0x1f0;
		mock_warm(m);
		mock_check_ended(m);
		m->start.gpr[NX_RSI] = MOCK_DEVICE + 0x100;
		mock_run(m);
		if (m->exits || m->reason != NX_LEAVE_DEVICE_FORM)
			fail_msg("%s: %u exits, left because: %s", refused[i].name, m->exits,
				 nx_leave_reason_text(m->reason));
		native &= mock_check_native(m);
		mock_free(m);
	}
	if (!native)
		skip();
}

GUEST(touch, 32, "in al, dx", "mov ecx, [esi]; mov [esi+4], ebx; out dx, al", "ret");
enum { TOUCH_STORE = 2 };

static struct mock *new_touch(enum mock_page page)
{
	struct mock *m = mock_new(MOCK_PAE32, 0, NX_LEVEL_BRANCHES);

	MOCK_LOAD(m, touch);
	m->start.gpr[NX_RSI] = LOW_PAGE;
	m->start.gpr[NX_RDX] = 0x1f0;
	m->start.gpr[NX_RAX] = 9;
	m->start.gpr[NX_RBX] = 0x12345678;
	mock_warm(m);
	mock_check_ended(m);
	assert_int_equal(m->exits, 1);
	m->page[LOW_PAGE / 4096] = (uint8_t)page;
	/* An access that has become an exit is learnt again. */
	mock_warm(m);
	return m;
}

static void want_load(struct mock *m)
{
	uint32_t value;

	memcpy(&value, m->start_ram + LOW_PAGE, 4);
	m->want.gpr[NX_RCX] = value;
}

static void read_only_memory(void **state)
{
	static const struct mock_access log[] = {STORE(LOW_PAGE + 4, 4, 0x12345678),
						 OUT(0x1f0, 1, 9)};
	struct mock *m = new_touch(MOCK_PAGE_ROM);

	(void)state;
	mock_check_log(m, log, 2);
	mock_check_ended(m);
	want_load(m);
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_free(m);

	m = new_touch(MOCK_PAGE_READONLY);
	assert_int_equal(m->reason, NX_LEAVE_HOST_PAGE);
	assert_int_equal(m->exits, 0);
	want_load(m);
	m->want.rip = m->resume_rip + TOUCH_STORE;
	mock_check(m);
	mock_free(m);
}

static void memory_of_the_kernel(void **state)
{
	struct mock *m = new_touch(MOCK_PAGE_LEAVE);

	(void)state;
	assert_int_equal(m->reason, NX_LEAVE_HOST_PAGE);
	assert_int_equal(m->exits, 0);
	m->want.rip = m->resume_rip;
	mock_check(m);
	mock_free(m);
}

static void devices_of_the_kernel(void **state)
{
	static const struct mock_access log[] = {LOAD(LOW_PAGE, 4, 0x11223344),
						 STORE(LOW_PAGE + 4, 4, 0x12345678)};
	struct mock *m = new_touch(MOCK_PAGE_DEVICE);

	(void)state;
	assert_int_equal(m->exits, 3);
	m->leave_gpa = LOW_PAGE;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_HOST_ROUTE);
	assert_int_equal(m->exits, 0);
	m->want.rip = m->resume_rip;
	mock_check(m);

	m->leave_gpa = 0;
	m->leave_port = 0x1f0;
	m->input[0] = 0x11223344;
	mock_run(m);
	assert_int_equal(m->reason, NX_LEAVE_HOST_ROUTE);
	mock_check_log(m, log, 2);
	m->want.gpr[NX_RCX] = 0x11223344;
	m->want.rip = m->stop_rip - 1;
	mock_check(m);
	mock_free(m);
}

static void device_access_across_pages_leaves(void **state)
{
	struct mock *m = new_touch(MOCK_PAGE_DEVICE);

	(void)state;
	m->page[LOW_PAGE / 4096 + 1] = MOCK_PAGE_DEVICE;
	m->start.gpr[NX_RSI] = LOW_PAGE + 0xffe;
	mock_run(m);
	assert_int_equal(m->exits, 0);
	assert_int_equal(m->reason, NX_LEAVE_PAGE_CROSSING);
	m->want.rip = m->resume_rip;
	mock_check(m);
	mock_free(m);
}

GUEST(device_16, 16, "in al, dx", "mov cx, [bx+si]; mov es:[di], cl; mov ax, [bp+2]; out dx, ax",
      "ret");

static void device_memory_in_real_mode(void **state)
{
	static const struct mock_access log[] = {
	    LOAD(LOW_PAGE + 0x12, 2, 0xabcd), STORE(MOCK_EXTRA + 0x2004, 1, 0xcd),
	    LOAD(MOCK_STACK + 0x3006, 2, 0x9988), OUT(0x1f0, 2, 0x9988)};
	struct mock *m = mock_new(MOCK_REAL16, 0, NX_LEVEL_BRANCHES);

	(void)state;
	MOCK_LOAD(m, device_16);
	m->page[LOW_PAGE / 4096] = MOCK_PAGE_DEVICE;
	m->page[(MOCK_EXTRA + 0x2000) / 4096] = MOCK_PAGE_DEVICE;
	m->page[(MOCK_STACK + 0x3000) / 4096] = MOCK_PAGE_DEVICE;
	m->start.gpr[NX_RBX] = 0x1010;
	m->start.gpr[NX_RSI] = 2;
	m->start.gpr[NX_RDI] = 0x2004;
	m->start.gpr[NX_RBP] = 0x3004;
	m->start.gpr[NX_RDX] = 0x1f0;
	m->input[0] = 0xabcd;
	m->input[1] = 0x9988;
	mock_warm(m);
	mock_check_log(m, log, 4);
	mock_check_ended(m);
	m->want.gpr[NX_RCX] = (m->start.gpr[NX_RCX] & ~0xffffull) | 0xabcd;
	m->want.gpr[NX_RAX] = (m->start.gpr[NX_RAX] & ~0xffffull) | 0x9988;
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(device_memory_64_bit),
	    cmocka_unit_test(device_memory_32_bit),
	    cmocka_unit_test(accesses_in_order),
	    cmocka_unit_test(port_sizes),
	    cmocka_unit_test(other_forms_exit),
	    cmocka_unit_test(other_forms_leave),
	    cmocka_unit_test(single_translations_are_kept),
	    cmocka_unit_test(copies_between_devices),
	    cmocka_unit_test(read_only_memory),
	    cmocka_unit_test(memory_of_the_kernel),
	    cmocka_unit_test(devices_of_the_kernel),
	    cmocka_unit_test(device_access_across_pages_leaves),
	    cmocka_unit_test(device_memory_in_real_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
