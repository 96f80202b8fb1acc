// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * decode.c: guest bytes, as the manual encodes them, to what formation is told of them. The
 * allow-list is the point: what must not run outside the processor has to come out as LEAVE.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"

#define RIP 0x1000u

static struct nx_decode_cache cache;

enum {
	DX = 1 << 0,     /* port_in_dx */
	READ = 1 << 1,   /* memory_read */
	WRITE = 1 << 2,  /* memory_write */
	DEVICE = 1 << 3, /* device_form */
	MMIO = 1 << 4,   /* mmio_form */
	REP = 1 << 5,    /* repeated */
	STRING = 1 << 6, /* string_io */
};

struct row {
	unsigned bits;
	const char *bytes;
	unsigned len;
	enum nx_op op;
	unsigned size, accesses, flags;
	uint64_t target;
};

#define B(text) text, sizeof(text) - 1

static struct nx_mode mode_of(unsigned bits)
{
	return (struct nx_mode){
	    .bits = (uint8_t)bits,
	    .stack_bits = (uint8_t)bits,
	    .io_allowed = true,
	    .protected_mode = true,
	    .features = ~0u,
	};
}

static unsigned flags_of(const struct nx_insn *insn)
{
	return (insn->port_in_dx ? DX : 0) | (insn->memory_read ? READ : 0) |
	       (insn->memory_write ? WRITE : 0) | (insn->device_form ? DEVICE : 0) |
	       (insn->mmio_form ? MMIO : 0) | (insn->repeated ? REP : 0) |
	       (insn->string_io ? STRING : 0);
}

static void check_row(const struct nx_mode *mode, const struct row *row, unsigned number)
{
	uint8_t bytes[15];
	struct nx_insn insn;

	/* What follows belongs to another instruction. */
	memset(bytes, 0xcc, sizeof(bytes));
	memcpy(bytes, row->bytes, row->len);
	memset(&insn, 0xff, sizeof(insn));
	nx_decode(&cache, mode, RIP, bytes, sizeof(bytes), &insn);
	if (insn.op != row->op || insn.len != row->len || insn.size != row->size ||
	    insn.accesses != row->accesses || flags_of(&insn) != row->flags ||
	    insn.target != row->target)
		fail_msg("row %u (%02x, %u bits): op %u len %u size %u accesses %u flags %#x "
			 "target %#llx, expected op %u len %u size %u accesses %u flags %#x "
			 "target %#llx",
			 number, bytes[0], row->bits, insn.op, insn.len, insn.size, insn.accesses,
			 flags_of(&insn), (unsigned long long)insn.target, row->op, row->len,
			 row->size, row->accesses, row->flags, (unsigned long long)row->target);
	assert_int_equal(insn.rip, RIP);
	assert_memory_equal(insn.bytes, row->bytes, row->len);
	assert_false(insn.weak);

	/* With the last byte missing it is no instruction. */
	nx_decode(&cache, mode, RIP, bytes, row->len - 1, &insn);
	assert_int_equal(insn.op, NX_OP_LEAVE);
}

static void check_rows(const struct row *row, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct nx_mode mode = mode_of(row[i].bits);

		check_row(&mode, &row[i], i);
	}
}

#define CHECK(rows) check_rows((rows), sizeof(rows) / sizeof((rows)[0]))

static void test_ports(void **state)
{
	static const struct row rows[] = {
	    {16, B("\xec"), NX_OP_IN, 1, 0, DX, 0},
	    {16, B("\xed"), NX_OP_IN, 2, 0, DX, 0},
	    {16, B("\x66\xed"), NX_OP_IN, 4, 0, DX, 0},
	    {32, B("\xed"), NX_OP_IN, 4, 0, DX, 0},
	    {32, B("\x66\xef"), NX_OP_OUT, 2, 0, DX, 0},
	    {64, B("\xee"), NX_OP_OUT, 1, 0, DX, 0},
	    {64, B("\x48\xef"), NX_OP_OUT, 4, 0, DX, 0}, /* REX.W means nothing */
	    {64, B("\xe6\x80"), NX_OP_OUT, 1, 0, 0, 0x80},
	    {32, B("\xe4\x60"), NX_OP_IN, 1, 0, 0, 0x60},
	    {16, B("\xe7\xfe"), NX_OP_OUT, 2, 0, 0, 0xfe},
	    {32, B("\x6c"), NX_OP_HELPER, 0, 1, STRING, 0},
	    {64, B("\xf3\x6e"), NX_OP_HELPER, 0, 1, STRING | REP, 0},
	    {16, B("\xf3\x66\x6d"), NX_OP_HELPER, 0, 1, STRING | REP, 0},
	};

	(void)state;
	CHECK(rows);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nx_mode mode = mode_of(rows[i].bits);
		struct row refused = rows[i];

		/* The permission bitmap decides: only the processor knows it. */
		mode.io_allowed = false;
		refused.op = NX_OP_LEAVE;
		refused.size = refused.accesses = refused.flags = 0;
		refused.target = 0;
		check_row(&mode, &refused, i);
	}
}

static void test_plain(void **state)
{
	static const struct row rows[] = {
	    {16, B("\x88\xd8"), NX_OP_PLAIN, 0, 0, 0, 0},                    /* mov al, bl */
	    {16, B("\x8b\x07"), NX_OP_PLAIN, 2, 1, READ | DEVICE | MMIO, 0}, /* mov ax, [bx] */
	    {32, B("\x8b\x07"), NX_OP_PLAIN, 4, 1, READ | DEVICE | MMIO, 0},
	    {64, B("\x48\x8b\x07"), NX_OP_PLAIN, 8, 1, READ | DEVICE | MMIO, 0},
	    {64, B("\x88\x07"), NX_OP_PLAIN, 1, 1, WRITE | DEVICE | MMIO, 0},
	    {64, B("\x66\xc7\x07\x34\x12"), NX_OP_PLAIN, 2, 1, WRITE | DEVICE | MMIO, 0},
	    {32, B("\x0f\xb6\x07"), NX_OP_PLAIN, 1, 1, READ | DEVICE | MMIO, 0},
	    {64, B("\x48\x63\x07"), NX_OP_PLAIN, 4, 1, READ | DEVICE | MMIO, 0},
	    {32, B("\x01\x07"), NX_OP_PLAIN, 4, 1, READ | WRITE | DEVICE, 0},
	    {32, B("\x39\x07"), NX_OP_PLAIN, 4, 1, READ | DEVICE, 0},
	    {64, B("\xf0\x48\x0f\xc1\x07"), NX_OP_PLAIN, 8, 1, READ | WRITE | DEVICE, 0},
	    {64, B("\x0f\xba\x2f\x05"), NX_OP_PLAIN, 4, 1, READ | WRITE | DEVICE, 0},
	    {64, B("\x48\x8d\x44\x4e\x10"), NX_OP_PLAIN, 0, 0, 0, 0}, /* lea */
	    {64, B("\x0f\xae\xf0"), NX_OP_PLAIN, 0, 0, 0, 0},         /* mfence */
	    {64, B("\x87\xc0"), NX_OP_PLAIN, 0, 0, 0, 0}, /* xchg eax, eax clears the upper half */
	    {64, B("\x48\x87\xc0"), NX_OP_NOP, 0, 0, 0, 0},
	    {16, B("\x90"), NX_OP_NOP, 0, 0, 0, 0},
	    {64, B("\xf3\x0f\x1e\xfa"), NX_OP_NOP, 0, 0, 0, 0},     /* endbr64 */
	    {64, B("\x0f\x1f\x44\x00\x00"), NX_OP_NOP, 0, 0, 0, 0}, /* touches no memory */
	    {32, B("\xf3\x90"), NX_OP_NOP, 0, 0, 0, 0},
	    {16, B("\x8c\xd8"), NX_OP_MOV_FROM_SREG, 0, 0, 0, 0},
	    {64, B("\x8c\xc8"), NX_OP_MOV_FROM_SREG, 0, 0, 0, 0},
	};

	(void)state;
	CHECK(rows);
}

static void test_stack(void **state)
{
	static const struct row rows[] = {
	    {16, B("\x50"), NX_OP_PUSH, 2, 1, 0, 0},
	    {16, B("\x66\x50"), NX_OP_PUSH, 4, 1, 0, 0},
	    {32, B("\x53"), NX_OP_PUSH, 4, 1, 0, 0},
	    {32, B("\x66\x53"), NX_OP_PUSH, 2, 1, 0, 0},
	    {64, B("\x41\x57"), NX_OP_PUSH, 8, 1, 0, 0},
	    {64, B("\x6a\xff"), NX_OP_PUSH, 8, 1, 0, 0},
	    {64, B("\xff\x30"), NX_OP_PUSH, 8, 2, 0, 0},
	    {64, B("\x5d"), NX_OP_POP, 8, 1, 0, 0},
	    {16, B("\x5d"), NX_OP_POP, 2, 1, 0, 0},
	    {64, B("\x8f\x00"), NX_OP_HELPER, 0, 1, 0, 0},
	    {32, B("\x9c"), NX_OP_HELPER, 0, 1, 0, 0},
	    {32, B("\x60"), NX_OP_HELPER, 0, 2, 0, 0},
	    {64, B("\xc9"), NX_OP_HELPER, 0, 1, 0, 0},
	};

	(void)state;
	CHECK(rows);
}

static void test_branches(void **state)
{
	static const struct row rows[] = {
	    {32, B("\xeb\xfe"), NX_OP_JMP, 0, 0, 0, 0x1000},
	    {64, B("\xe9\x00\xff\xff\xff"), NX_OP_JMP, 0, 0, 0, 0xf05},
	    {16, B("\xe9\x00\x01"), NX_OP_JMP, 0, 0, 0, 0x1103},
	    {64, B("\x75\x10"), NX_OP_JCC, 0, 0, 0, 0x1012},
	    {32, B("\x0f\x84\x00\x00\x01\x00"), NX_OP_JCC, 0, 0, 0, 0x11006},
	    {16, B("\xe2\xfc"), NX_OP_JCC, 0, 0, 0, 0xffe},
	    {16, B("\x67\xe3\x01"), NX_OP_JCC, 0, 0, 0, 0x1004},
	    {64, B("\xe8\x00\x01\x00\x00"), NX_OP_CALL, 8, 1, 0, 0x1105},
	    {32, B("\xe8\xfb\xff\xff\xff"), NX_OP_CALL, 4, 1, 0, 0x1000},
	    {16, B("\xe8\x10\x00"), NX_OP_CALL, 2, 1, 0, 0x1013},
	    /* Padded as compilers pad calls for thread-local storage; REX.W voids the prefixes. */
	    {64, B("\x66\x66\x48\xe8\x00\x01\x00\x00"), NX_OP_CALL, 8, 1, 0, 0x1108},
	    /* rip has 16 bits, 32 bits; the whole of it in 64-bit mode. */
	    {16, B("\xe9\x00\xe0"), NX_OP_JMP, 0, 0, 0, 0xf003},
	    {16, B("\xe9\x00\xf0"), NX_OP_JMP, 0, 0, 0, 0x3},
	    {32, B("\xe9\x00\x00\x00\x80"), NX_OP_JMP, 0, 0, 0, 0x80001005},
	    {64, B("\xe9\x00\x00\x00\x80"), NX_OP_JMP, 0, 0, 0, 0xffffffff80001005},
	    {64, B("\xc3"), NX_OP_RET, 8, 1, 0, 0},
	    {32, B("\xc2\x0c\x00"), NX_OP_RET, 4, 1, 0, 12},
	    {16, B("\xc2\xfe\xff"), NX_OP_RET, 2, 1, 0, 0xfffe},
	    {64, B("\xff\xe0"), NX_OP_JMP_INDIRECT, 8, 0, 0, 0},
	    {64, B("\xff\x20"), NX_OP_JMP_INDIRECT, 8, 1, 0, 0},
	    {32, B("\xff\xd0"), NX_OP_CALL_INDIRECT, 4, 1, 0, 0},
	    {32, B("\xff\x14\x85\x00\x00\x02\x00"), NX_OP_CALL_INDIRECT, 4, 2, 0, 0},
	    {16, B("\xff\xe3"), NX_OP_JMP_INDIRECT, 2, 0, 0, 0},
	    /* As compilers write 16-bit code: all 32 bits are the target. */
	    {16, B("\x66\xc3"), NX_OP_RET, 4, 1, 0, 0},
	    {16, B("\x66\xc2\x08\x00"), NX_OP_RET, 4, 1, 0, 8},
	    {16, B("\x66\xff\xe3"), NX_OP_JMP_INDIRECT, 4, 0, 0, 0},
	    {16, B("\x66\xff\x17"), NX_OP_CALL_INDIRECT, 4, 2, 0, 0},
	    /* 3E, which Zydis takes for NOTRACK alone, moves [bp] from SS to DS. */
	    {16, B("\x3e\xff\xa6\xe9\xb2"), NX_OP_LEAVE, 0, 0, 0, 0},
	    {32, B("\x3e\xff\x55\x08"), NX_OP_LEAVE, 0, 0, 0, 0},
	    {64, B("\x3e\xff\xe0"), NX_OP_JMP_INDIRECT, 8, 0, 0, 0},
	    /* Another operand size than the code's. */
	    {64, B("\x66\xe9\x00\x01"), NX_OP_LEAVE, 0, 0, 0, 0},
	    {64, B("\x66\x75\x10"), NX_OP_LEAVE, 0, 0, 0, 0},
	    {64, B("\x66\xc3"), NX_OP_LEAVE, 0, 0, 0, 0},
	    {64, B("\x66\xff\xe0"), NX_OP_LEAVE, 0, 0, 0, 0},
	    {32, B("\x66\xc3"), NX_OP_LEAVE, 0, 0, 0, 0},
	};
	struct row truncating = {32, B("\x66\xe9\x00\x01"), NX_OP_JMP, 0, 0, 0, 0x1104};
	struct nx_mode mode = mode_of(32);

	(void)state;
	/* Vendors disagree about the lengths of those left. */
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nx_mode each = mode_of(rows[i].bits);
		struct nx_insn insn;
		uint8_t bytes[15];

		if (rows[i].op != NX_OP_LEAVE) {
			check_row(&each, &rows[i], i);
			continue;
		}
		memset(bytes, 0, sizeof(bytes));
		memcpy(bytes, rows[i].bytes, rows[i].len);
		nx_decode(&cache, &each, RIP, bytes, sizeof(bytes), &insn);
		assert_int_equal(insn.op, NX_OP_LEAVE);
	}
	check_row(&mode, &truncating, 0);
}

static void test_strings(void **state)
{
	static const struct row rows[] = {
	    {32, B("\xaa"), NX_OP_HELPER, 0, 1, WRITE | DEVICE, 0},
	    {64, B("\xf3\x48\xab"), NX_OP_HELPER, 0, 1, WRITE | DEVICE | REP, 0},
	    {16, B("\xf3\xa5"), NX_OP_HELPER, 0, 2, WRITE | DEVICE | REP, 0},
	    {64, B("\xac"), NX_OP_HELPER, 0, 1, DEVICE, 0},
	    {64, B("\xf2\xae"), NX_OP_HELPER, 0, 1, 0, 0},
	    {64, B("\xf3\xa6"), NX_OP_HELPER, 0, 2, 0, 0},
	};

	(void)state;
	CHECK(rows);
}

static void test_must_leave(void **state)
{
	static const struct row rows[] = {
	    {64, B("\xcf"), NX_OP_LEAVE}, /* iret */
	    {64, B("\x48\xcf"), NX_OP_LEAVE},
	    {64, B("\xcd\x80"), NX_OP_LEAVE}, /* int */
	    {64, B("\xcc"), NX_OP_LEAVE},
	    {64, B("\x0f\x05"), NX_OP_LEAVE},                     /* syscall */
	    {64, B("\x0f\x0b"), NX_OP_LEAVE},                     /* ud2 */
	    {64, B("\xf4"), NX_OP_LEAVE},                         /* hlt */
	    {64, B("\x0f\xa2"), NX_OP_LEAVE},                     /* cpuid */
	    {64, B("\x0f\x32"), NX_OP_LEAVE},                     /* rdmsr */
	    {64, B("\x0f\x20\xd8"), NX_OP_LEAVE},                 /* mov rax, cr3 */
	    {64, B("\x0f\x22\xd8"), NX_OP_LEAVE},                 /* mov cr3, rax */
	    {64, B("\x0f\x01\x3f"), NX_OP_LEAVE},                 /* invlpg */
	    {64, B("\x0f\x01\xf8"), NX_OP_LEAVE},                 /* swapgs */
	    {32, B("\x8e\xd8"), NX_OP_LEAVE},                     /* mov ds, ax: a descriptor */
	    {32, B("\xea\x00\x00\x00\x00\x08\x00"), NX_OP_LEAVE}, /* far jump */
	    {32, B("\x9a\x00\x00\x00\x00\x08\x00"), NX_OP_LEAVE}, /* far call */
	    {64, B("\xcb"), NX_OP_LEAVE},                         /* far ret */
	    {64, B("\xff\x28"), NX_OP_LEAVE},                     /* far jump by memory */
	    {64, B("\x0f\xef\xc0"), NX_OP_LEAVE},                 /* pxor mm0, mm0 */
	    {64, B("\x0f\x6e\xc0"), NX_OP_LEAVE},                 /* movd mm0, eax */
	    {64, B("\x0f\xd7\xc0"), NX_OP_LEAVE},                 /* pmovmskb eax, mm0 */
	    {64, B("\xf2\x0f\xd6\xc0"), NX_OP_LEAVE},             /* movdq2q mm0, xmm0 */
	    {64, B("\x0f\x58\xc1"), NX_OP_LEAVE},                 /* addps: exceptions */
	    {64, B("\xc5\xf9\x6f\xc1"), NX_OP_LEAVE},             /* vmovdqa: clears upper halves */
	    {64, B("\x66\x0f\xe7\x07"), NX_OP_LEAVE},             /* movntdq */
	    {64, B("\x66\xf2\x0f\x10\xc1"), NX_OP_LEAVE},         /* prefixes that contend */
	    {32, B("\xf2\x0f\xc2\xc1\x00"), NX_OP_LEAVE},         /* cmpsd */
	    {64, B("\xd9\xe8"), NX_OP_LEAVE},                     /* x87 */
	    {64, B("\x0f\xa3\x07"), NX_OP_HELPER, 0, 1}, /* bt [rdi], eax: beyond the operand */
	    {64, B("\xc7\xf8\x00\x00\x00\x00"), NX_OP_LEAVE}, /* xbegin */
	    {32, B("\xd4\x0a"), NX_OP_LEAVE},                 /* aam */
	    {64, B("\x0f\xc7\xf0"), NX_OP_LEAVE},             /* rdrand */
	    {64, B("\x0f\x00\xc0"), NX_OP_LEAVE},             /* sldt */
	    {64, B("\x63\x07"), NX_OP_LEAVE},                 /* movsxd without REX.W */
	};
	static const uint8_t fifteen_prefixes[15] = "\x66\x66\x66\x66\x66\x66\x66\x66"
						    "\x66\x66\x66\x66\x66\x66\x66";
	struct nx_mode mode = mode_of(64);
	struct nx_insn insn;

	(void)state;
	CHECK(rows);
	nx_decode(&cache, &mode, RIP, fifteen_prefixes, sizeof(fifteen_prefixes), &insn);
	assert_int_equal(insn.op, NX_OP_LEAVE);
	/* No instruction in 64-bit mode. */
	nx_decode(&cache, &mode, RIP, (const uint8_t *)"\x60\x90\x90", 3, &insn);
	assert_int_equal(insn.op, NX_OP_LEAVE);
}

/* One helper runs them, if the host has the registers and CR0 and CR4 let the guest use them. */
static void test_vectors(void **state)
{
	static const struct row rows[] = {
	    {64, B("\x66\x0f\xef\xc0"), NX_OP_HELPER},           /* pxor xmm0, xmm0 */
	    {64, B("\x66\x0f\x6e\xc0"), NX_OP_HELPER},           /* movd xmm0, eax */
	    {64, B("\x66\x48\x0f\x7e\xc0"), NX_OP_HELPER},       /* movq rax, xmm0 */
	    {64, B("\x66\x0f\xd7\xc0"), NX_OP_HELPER},           /* pmovmskb eax, xmm0 */
	    {64, B("\x0f\x29\x07"), NX_OP_HELPER, 0, 1},         /* movaps [rdi], xmm0 */
	    {32, B("\xf3\x0f\x6f\x07"), NX_OP_HELPER, 0, 1},     /* movdqu xmm0, [edi] */
	    {16, B("\x0f\x16\x07"), NX_OP_HELPER, 0, 1},         /* movhps xmm0, [bx] */
	    {64, B("\xf2\x0f\x10\xc1"), NX_OP_HELPER},           /* movsd, not the string's */
	    {64, B("\xf2\x0f\x11\x07"), NX_OP_HELPER, 0, 1},     /* likewise, a store */
	    {64, B("\x66\x0f\x70\xc1\x1b"), NX_OP_HELPER},       /* pshufd xmm0, xmm1, 27 */
	    {64, B("\x66\x0f\x73\xf8\x04"), NX_OP_HELPER},       /* pslldq xmm0, 4 */
	    {64, B("\x66\x44\x0f\x62\x07"), NX_OP_HELPER, 0, 1}, /* punpckldq xmm8, [rdi] */
	};

	(void)state;
	CHECK(rows);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nx_mode mode = mode_of(rows[i].bits);
		struct row refused = rows[i];

		mode.features &= ~NX_HAS_VECTORS;
		refused.op = NX_OP_LEAVE;
		refused.accesses = 0;
		check_row(&mode, &refused, i);
	}
}

/* The host says which instructions exit; none of a class that it did not name does. */
static void test_instruction_exits(void **state)
{
	static const struct {
		const char *bytes;
		unsigned len;
		uint32_t class;
		enum nx_insn_exit insn;
	} rows[] = {
	    {B("\x0f\xa2"), NX_EXITS_CPUID, NX_INSN_CPUID},
	    {B("\x0f\x32"), NX_EXITS_MSR, NX_INSN_RDMSR},
	    {B("\x0f\x30"), NX_EXITS_MSR, NX_INSN_WRMSR},
	    {B("\x0f\x20\xd8"), NX_EXITS_CR, NX_INSN_MOV_CR},
	    {B("\x0f\x06"), NX_EXITS_CR, NX_INSN_CLTS},
	    {B("\x0f\x23\xf8"), NX_EXITS_DR, NX_INSN_MOV_DR},
	    {B("\xf4"), NX_EXITS_HLT, NX_INSN_HLT},
	    {B("\x0f\x01\x3f"), NX_EXITS_INVALIDATE, NX_INSN_INVLPG},
	    {B("\x0f\x01\x07"), NX_EXITS_DESCRIPTOR, NX_INSN_SGDT},
	    {B("\x0f\x01\x0f"), NX_EXITS_DESCRIPTOR, NX_INSN_SIDT},
	    {B("\x0f\x01\x17"), NX_EXITS_DESCRIPTOR, NX_INSN_LGDT},
	    {B("\x0f\x01\x1f"), NX_EXITS_DESCRIPTOR, NX_INSN_LIDT},
	    {B("\x0f\x00\xc0"), NX_EXITS_DESCRIPTOR, NX_INSN_SLDT},
	    {B("\x0f\x00\x0f"), NX_EXITS_DESCRIPTOR, NX_INSN_STR},
	    {B("\x0f\x78\xc8"), NX_EXITS_VMX, NX_INSN_VMREAD},
	    {B("\x0f\x01\xd8"), NX_EXITS_SVM, NX_INSN_VMRUN},
	};
	struct nx_insn insn;

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct nx_mode mode = mode_of(64);
		const uint8_t *bytes = (const uint8_t *)rows[i].bytes;

		mode.exits = rows[i].class;
		nx_decode(&cache, &mode, RIP, bytes, rows[i].len, &insn);
		assert_int_equal(insn.op, NX_OP_INSN_EXIT);
		assert_int_equal(insn.target, rows[i].insn);
		assert_int_equal(insn.len, rows[i].len);
		mode.exits = ~rows[i].class;
		nx_decode(&cache, &mode, RIP, bytes, rows[i].len, &insn);
		assert_int_equal(insn.op, NX_OP_LEAVE);
	}
}

static enum nx_op op_in(const struct nx_mode *mode, const char *bytes, unsigned len)
{
	struct nx_insn insn;

	nx_decode(&cache, mode, RIP, (const uint8_t *)bytes, len, &insn);
	return insn.op;
}

/* Instructions that depend on the processor's mode or on the guest's features. */
static void test_conditions(void **state)
{
	struct nx_mode mode = mode_of(64);

	(void)state;
	assert_int_equal(op_in(&mode, B("\xfa")), NX_OP_HELPER); /* cli */
	assert_int_equal(op_in(&mode, B("\xfb")), NX_OP_HELPER); /* sti */
	assert_int_equal(op_in(&mode, B("\xf3\x0f\xb8\xc1")), NX_OP_HELPER);
	assert_int_equal(op_in(&mode, B("\x0f\x31")), NX_OP_HELPER); /* rdtsc */
	mode.features = 0;
	assert_int_equal(op_in(&mode, B("\xfa")), NX_OP_HELPER);
	assert_int_equal(op_in(&mode, B("\xfb")), NX_OP_LEAVE);
	mode.features = ~0u;
	mode.io_allowed = false;
	assert_int_equal(op_in(&mode, B("\xfb")), NX_OP_LEAVE);
	mode.features = 0;
	assert_int_equal(op_in(&mode, B("\xfa")), NX_OP_LEAVE);
	assert_int_equal(op_in(&mode, B("\xf3\x0f\xb8\xc1")), NX_OP_LEAVE);
	assert_int_equal(op_in(&mode, B("\x0f\x31")), NX_OP_LEAVE);
	assert_int_equal(op_in(&mode, B("\xfc")), NX_OP_HELPER); /* cld */
	mode = mode_of(16);
	mode.protected_mode = false;
	assert_int_equal(op_in(&mode, B("\x8e\xd8")), NX_OP_LEAVE);
	mode.segment_loads = true;
	assert_int_equal(op_in(&mode, B("\x8e\xd8")), NX_OP_HELPER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ports),
	    cmocka_unit_test(test_plain),
	    cmocka_unit_test(test_stack),
	    cmocka_unit_test(test_branches),
	    cmocka_unit_test(test_strings),
	    cmocka_unit_test(test_must_leave),
	    cmocka_unit_test(test_vectors),
	    cmocka_unit_test(test_conditions),
	    cmocka_unit_test(test_instruction_exits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
