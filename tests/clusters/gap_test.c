// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What lies between two exiting instructions: each case is run by the engine and by the processor
 * under us from the same start, with several values in the registers that are no pointers and
 * with the arithmetic flags clear and set. All state afterwards must be the same.
 */
#include "mock.h"

#define ARITHMETIC 0x8d5u

/* Pointers, so that cases can address memory; the other registers hold what variations say. */
#define POINTER_RBX (MOCK_DATA + 0x301)
#define POINTER_RBP (MOCK_STACK + 0x800)
#define POINTER_RSI MOCK_DATA
#define POINTER_RDI (MOCK_DATA + 0x800)
#define POINTER_R10 (MOCK_DATA + 0x100)
#define POINTER_R14 (MOCK_DATA + 0x180)
#define POINTER_R15 (MOCK_DATA + 0x200)

/* X(name, code) */
#define CASES_64(X)                                                                                \
	X(moves, "mov ecx, [rsi]; mov [rdi], rcx; mov r8w, [rsi+9]; mov [rdi+8], r8b")             \
	X(immediates, "mov dword ptr [rdi], -2; mov qword ptr [rdi+8], -3;"                        \
		      "mov word ptr [rdi+16], 0x8765; mov byte ptr [rdi+18], 200")                 \
	X(homed_operands,                                                                          \
	  "mov r10, [rsi+8]; mov [rdi], r11; mov r14d, [rsi+16]; mov [rdi+8], r15w")               \
	X(homed_bases, "mov ecx, [r10+4]; mov r8, [r14+r11*8]; mov [r15+r11*2-1], ecx;"            \
		       "add r9, [r10]")                                                            \
	X(homed_both,                                                                              \
	  "mov r10, [r10]; add [r15], r15; mov r14b, [r14+r11]; xchg [r15+r11*4], r11")            \
	X(homed_only,                                                                              \
	  "add r10, r11; mov rcx, r14; xchg r15, r10; imul r11, r14; cmp r10, r15;"                \
	  "adc r14d, r15d; xchg r14b, r10b; bswap r11; movzx r10d, r15b; movsx r14, r10w")         \
	X(homed_with_others,                                                                       \
	  "add r10, rcx; sub rcx, r11; xor r14d, r8d; mov r9w, r15w; or bpl, r10b")                \
	X(stack_relative, "mov [rsp-8], rcx; lea rbp, [rsp+16]; add r9, [rsp+8];"                  \
			  "add [rsp-0x40], rsp; mov rcx, rsp")                                     \
	X(push_pop, "push rcx; push r10; pop r15; pop r11")                                        \
	X(push_memory, "push qword ptr [rsi+4]; pop r8; mov rcx, [rsp-8]")                         \
	X(push_16, "push cx; push -5; pop r10; pop r9w")                                           \
	X(push_rsp, "push rsp; pop rcx; lea rsp, [rsp-24]; add rsp, 8; push rsp; pop rsp")         \
	X(flags_over_load, "cmp rcx, r8; mov rax, [rsi]; jc 1f; inc r9; 1: adc r9, 0")             \
	X(flags_over_store, "sub rcx, r8; mov [rdi], rcx; jo 1f; inc r9; 1: sbb r9, 0")            \
	X(flags_over_push, "cmp rcx, r8; push rcx; jle 1f; pop r9; 1: adc r9, 7")                  \
	X(flags_live_at_exit, "add ecx, r8d; mov rbp, [rsi]")                                      \
	X(set_conditions, "sub rcx, r8; setc cl; seto [rdi+8]; cmovs r9, [rsi]; setp r10b;"        \
			  "cmovnz r11, r14; cmovz ecx, ebp; setnle bh")                            \
	X(high_bytes, "mov ah, [rsi+1]; mov [rdi], ch; add bh, [rsi]; xor [rdi+3], ah")            \
	X(high_bytes_twice,                                                                        \
	  "mov ah, ch; add bh, cl; xchg bh, al; cmp ah, bh; setz ch; movzx ebp, ah")               \
	X(high_byte_same_base, "mov [rbx], bh; mov bh, [rbx]")                                     \
	X(read_modify_write, "add [rsi], ecx; inc byte ptr [rsi+5]; neg qword ptr [rsi+8];"        \
			     "not word ptr [rsi+0x11]")                                            \
	X(inc_keeps_carry, "add rcx, r8; inc qword ptr [rsi]; adc r9, 0; dec r10; adc r11, 0")     \
	X(locked, "lock add [rsi], rcx; lock xadd [rdi], r8; lock cmpxchg [rdi+8], r10;"           \
		  "xchg [rsi+8], r9")                                                              \
	X(compare_exchange, "mov rax, [rdi]; cmpxchg [rdi], r15; setz cl; mov al, 0x55")           \
	X(carry_chain,                                                                             \
	  "add rcx, [rsi]; adc r8, [rsi+8]; sbb r9, [rsi+16]; adc qword ptr [rdi], 0")             \
	X(shifts, "shl ecx, 3; rol r8, 5; sar r10, 2; shr qword ptr [rsi], 3; rcl r9, 1;"          \
		  "rcr dword ptr [rdi], 1; shld r11, r14, 7")                                      \
	X(shift_by_zero, "add r8, r9; mov cl, 0; shl r8, cl; mov r9, [rsi]; setc r10b;"            \
			 "sar dword ptr [rdi], cl; setp r11b")                                     \
	X(shift_by_cl, "shl r8, cl; sar qword ptr [rsi], cl; ror r10w, cl; rcl r9b, cl")           \
	X(extensions, "movzx ecx, byte ptr [rsi]; movsx r10, word ptr [rsi+2];"                    \
		      "movsxd r11, dword ptr [rsi+4]; movzx r8w, byte ptr [rsi+8]")                \
	X(multiply, "imul rcx, [rsi], 7; imul r10d, r11d, -5; imul r8w, [rsi+4]; mov r9, rdx;"     \
		    "mul rcx; mov r10, rdx; mov rdx, r9")                                          \
	X(divide,                                                                                  \
	  "mov r9, rdx; xor edx, edx; mov r8d, 77; div r8; mov r10, rdx; mov rdx, r9; cmp r8, r9") \
	X(bits,                                                                                    \
	  "bt ecx, 5; setc r8b; bts r10, 3; btr dword ptr [rsi], 4; bsf r9, rcx; btc r11w, 2")     \
	X(rip_relative, "mov ecx, [rip+0x10000]; mov [rip+0x20000], ecx; lea r8, [rip-8]")         \
	X(words, "mov cx, [rsi]; add cx, 0x1234; mov [rdi], cx; inc r10w; xchg r11w, cx;"          \
		 "adc word ptr [rdi+2], 5")                                                        \
	X(address_size,                                                                            \
	  "mov ecx, [esi]; mov [r10d+8], ecx; lea r8d, [esi+edi]; lea r9, [r14d+r11d*4];"          \
	  "mov r15d, [r15d]")                                                                      \
	X(flag_instructions,                                                                       \
	  "stc; lahf; mov rcx, [rsi]; sahf; cmc; setc r8b; clc; adc r9, 0; cmc")                   \
	X(conversions, "cdqe; mov [rdi], rax; cbw; cwde")                                          \
	X(absolute, "movabs eax, ds:[0x20010]; mov rcx, ds:[0x20020]; mov ds:[0x20030], cl")       \
	X(leas,                                                                                    \
	  "lea rcx, [rsi+rdi*2+5]; lea r10, [r10+r11*8-1]; lea r15d, [r15+r15]; lea r8w, [rcx+3]") \
	X(exchange,                                                                                \
	  "xchg rax, r10; xchg rax, r10; xchg ecx, ecx; xchg [rdi], rcx; nop; xchg r8, r9")        \
	X(loop_forward, "mov ecx, 3; loop 1f; inc r8; 1: jrcxz 2f; inc r9; 2: inc r10")            \
	X(count_zero, "xor ecx, ecx; jrcxz 1f; inc r9; 1: inc ecx; loop 2f; inc r10; 2: inc r11")  \
	X(not_taken_then_taken,                                                                    \
	  "test cl, 1; jz 1f; mov r8, [rsi]; jmp 2f; 1: mov r9, [rdi]; 2: inc r10")                \
	X(joined_entry, "cmp rcx, r8; jb 1f; out 0x80, al; 1: mov rbp, [rsi]; adc r9, 0; setz bh") \
	X(joined_and_flags_dead,                                                                   \
	  "cmp rcx, r8; jo 1f; in al, dx; 1: mov rbp, [rsi]; cmp rbp, r9; setc bh")

#define CASES_32(X)                                                                          \
	X(moves, "mov ecx, [esi]; mov [edi], ecx; mov ax, [esi+9]; mov [edi+8], ah")         \
	X(scaled,                                                                            \
	  "movzx ecx, cl; mov eax, [esi+ecx*4+5]; add [edi+ecx*2], eax; mov ecx, [ebx+ecx]") \
	X(short_forms, "inc eax; dec ecx; inc ebp; dec esi; mov [edi], esi")                 \
	X(push_pop, "push ecx; push 0x12345678; pop eax; pop ebp")                           \
	X(push_small, "push cx; push -5; pop eax; pop bp")                                   \
	X(push_esp, "push esp; pop ecx; sub esp, 12; mov [esp+4], ecx; mov eax, [esp+4]")    \
	X(absolute, "mov eax, ds:[0x20010]; mov ds:[0x20030], al; mov ecx, ds:[0x20020]")    \
	X(flags_over_load, "cmp ecx, eax; mov ebp, [esi]; jc 1f; inc ebx; 1: adc ebx, 0")    \
	X(set_conditions, "sub ecx, eax; setc cl; seto [edi+8]; cmovs ebp, [esi]; setp bh")  \
	X(high_bytes, "mov ah, [esi+1]; mov [edi], ch; add bh, [esi]; xor [edi+3], ah")      \
	X(wrap, "lea ecx, [esi-0x30000]; mov eax, [ecx+0x30004]; lea ebp, [esi+0xfffffff0];" \
		"mov [edi+ebp*1-0x1fff0], eax")                                              \
	X(carry_chain,                                                                       \
	  "add ecx, [esi]; adc eax, [esi+8]; sbb ebp, [esi+16]; adc dword ptr [edi], 0")     \
	X(segment_prefixes, "mov eax, es:[esi]; mov ss:[edi], eax; mov ecx, cs:[esi+4]")     \
	X(count, "mov ecx, 2; loop 1f; inc eax; 1: jecxz 2f; inc ebp; 2: inc ebx")           \
	X(shifts, "shl ecx, 3; rol eax, 5; shr dword ptr [esi], 3; rcl ebp, 1; shrd ebx, eax, 9")

#define CASES_16(X)                                                                                \
	X(moves, "mov ecx, [si]; mov [di], ecx; mov ax, [si+9]; mov [di+8], ah")                   \
	X(address_forms,                                                                           \
	  "mov ax, [bx+si]; mov cx, [bp+di-0x7f0]; mov [bx+di+0x123], al; lea bp, [bp+si-3]")      \
	X(wrapping_sum, "lea cx, [bx+0xfff0]; mov ax, [bx+0xfff0]; mov [si+1], ax")                \
	X(absolute,                                                                                \
	  "mov ax, ds:[0xfff0]; mov ds:[0x8002], ax; mov cl, ds:[0x7f]; mov ds:[0xfff4], ecx")     \
	X(wide_addresses,                                                                          \
	  "movzx ecx, cl; mov eax, [esi+ecx*2]; mov [edi+ecx], ax; lea cx, [esp+5]")               \
	X(stack_words, "push ax; push ecx; pop bp; pop eax")                                       \
	X(stack_constants, "push -5; push 0x1234; pop cx; pop ax")                                 \
	X(stack_pointer, "push sp; pop cx; sub sp, 8; mov bp, sp; mov [bp+2], cx; mov ax, [bp+3]") \
	X(stack_segment, "mov ax, [bp]; mov cx, ds:[bp]; mov es:[di], ax; mov ss:[si], cx")        \
	X(flags_over_load, "cmp cx, ax; mov bp, [si]; jc 1f; inc bx; 1: adc bx, 0")                \
	X(set_conditions, "sub cx, ax; setc cl; seto [di+8]; cmovs bp, [si]; setp bh")             \
	X(high_bytes, "mov ah, [si+1]; mov [di], ch; add bh, [si]; xor [di+3], ah")                \
	X(counting, "mov cx, 0xff00; loop 1f; inc ax; 1: mov cx, 1; loop 2f; inc bp; 2: jcxz 3f; " \
		    "inc bx; 3: inc si")                                                           \
	X(wide_operands,                                                                           \
	  "add eax, ecx; adc [di], ecx; shl eax, 5; sbb ebp, [si]; movsx ecx, ax; cwde")           \
	X(selectors, "mov ax, cs; mov cx, ds; mov bp, ss; sub ax, ax; sub cx, cx; sub bp, bp")     \
	X(short_jump, "test cl, 1; jz 1f; mov ax, [si]; jmp 2f; 1: mov bp, [di]; 2: inc bx")

#define DEFINE_16(name, code) GUEST(gap16_##name, 16, "in al, dx", code "; out dx, al", "ret");
#define DEFINE_64(name, code) GUEST(gap64_##name, 64, "in al, dx", code "; out dx, al", "ret");
#define DEFINE_32(name, code) GUEST(gap32_##name, 32, "in al, dx", code "; out dx, al", "ret");
CASES_16(DEFINE_16)
CASES_64(DEFINE_64)
CASES_32(DEFINE_32)

struct gap {
	const char *name;
	const uint8_t *code, *resume, *stop, *end;
};

#define ROW_16(name, code)                                                                        \
	static const struct gap gap16_##name##_row = {#name, gap16_##name, gap16_##name##_resume, \
						      gap16_##name##_stop, gap16_##name##_end};
#define ROW_64(name, code)                                                                        \
	static const struct gap gap64_##name##_row = {#name, gap64_##name, gap64_##name##_resume, \
						      gap64_##name##_stop, gap64_##name##_end};
#define ROW_32(name, code)                                                                        \
	static const struct gap gap32_##name##_row = {#name, gap32_##name, gap32_##name##_resume, \
						      gap32_##name##_stop, gap32_##name##_end};
CASES_16(ROW_16)
CASES_64(ROW_64)
CASES_32(ROW_32)

/* Values that carry, overflow, are zero or negative in some width, or are anything. */
static const uint64_t values[][2] = {
    {0, 0},
    {1, 0xffffffffffffffff},
    {0x7fffffff7fff7f7f, 0x0101010101010101},
    {0x8000000080008080, 0x8000000080008080},
    {0x123456789abcdef0, 0xfedcba9876543210},
    {0x00000000ffffffff, 0x0000000100000002},
};

static void set_registers(struct mock *m, unsigned variation)
{
	uint64_t *gpr = m->start.gpr;
	const uint64_t *value = values[variation / 2];

	gpr[NX_RCX] = value[0];
	gpr[NX_RAX] = gpr[NX_R8] = value[1];
	gpr[NX_R9] = value[0] ^ value[1];
	gpr[NX_RBX] = POINTER_RBX;
	gpr[NX_RBP] = POINTER_RBP;
	gpr[NX_RSI] = POINTER_RSI;
	gpr[NX_RDI] = POINTER_RDI;
	if (m->mode <= MOCK_PROT16) {
		/* Offsets in DS; RBP's in SS. What is above 16 bits must not matter. */
		gpr[NX_RBX] = 0xbbbb0301;
		gpr[NX_RBP] = 0x55550800;
		gpr[NX_RSI] = 0x0040;
		gpr[NX_RDI] = 0x0800;
	}
	gpr[NX_RDX] = 0x1f0;
	gpr[NX_R10] = POINTER_R10;
	gpr[NX_R11] = 3;
	gpr[NX_R14] = POINTER_R14;
	gpr[NX_R15] = POINTER_R15;
	for (unsigned i = 0; m->mode != MOCK_LONG64 && i < NX_GPRS; i++)
		gpr[i] = i < 8 ? (uint32_t)gpr[i] : 0;
	m->start.rflags &= ~(uint64_t)ARITHMETIC;
	if (variation % 2)
		m->start.rflags |= ARITHMETIC;
}

static bool run_gap(const struct gap *gap, enum mock_mode mode, unsigned cpl)
{
	const unsigned variations = 2 * sizeof(values) / sizeof(values[0]);
	struct mock *m = mock_new(mode, cpl, NX_LEVEL_BRANCHES);
	bool native = true;

	mock_load(m, gap->code, gap->resume, gap->stop, gap->end);
	set_registers(m, 0);
	mock_warm(m);
	for (unsigned i = 0; i < variations && native; i++) {
		set_registers(m, i);
		mock_run(m);
		if (m->exits < 1 || nx_engine_state(m->engine)->rip != m->stop_rip)
			fail_msg("%s, mode %u, CPL %u, variation %u: %u exits, left at %#llx: %s",
				 gap->name, mode, cpl, i, m->exits,
				 (unsigned long long)nx_engine_state(m->engine)->rip,
				 nx_leave_reason_text(m->reason));
		native = mock_check_native(m);
	}
	mock_free(m);
	return native;
}

static void gap_16(void **state)
{
	if (!run_gap(*state, MOCK_REAL16, 0) || !run_gap(*state, MOCK_PROT16, 0) ||
	    !run_gap(*state, MOCK_PROT16, 3))
		skip(); /* the system has no segments of our own: nothing to compare with */
}

static void gap_64(void **state)
{
	for (unsigned cpl = 0; cpl <= 3; cpl += 3)
		if (!run_gap(*state, MOCK_LONG64, cpl))
			skip(); /* low addresses are taken: nothing to compare with */
}

static void gap_32(void **state)
{
	for (enum mock_mode mode = MOCK_FLAT32; mode <= MOCK_PAE32; mode++)
		for (unsigned cpl = 0; cpl <= 3; cpl += 3)
			if (!run_gap(*state, mode, cpl))
				skip(); /* likewise, or the system runs no 32-bit code */
}

#define TEST_16(name_, code)       \
	{.name = "16-bit " #name_, \
	 .test_func = gap_16,      \
	 .initial_state = (void *)&gap16_##name_##_row},
#define TEST_64(name_, code)       \
	{.name = "64-bit " #name_, \
	 .test_func = gap_64,      \
	 .initial_state = (void *)&gap64_##name_##_row},
#define TEST_32(name_, code)       \
	{.name = "32-bit " #name_, \
	 .test_func = gap_32,      \
	 .initial_state = (void *)&gap32_##name_##_row},

int main(void)
{
	const struct CMUnitTest tests[] = {CASES_16(TEST_16) CASES_32(TEST_32) CASES_64(TEST_64)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
