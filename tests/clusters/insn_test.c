// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Clusters with instructions that exit as such, for a host that names their classes.
 */
#include "mock.h"

#define READ(insn, size, where, data)                                  \
	{                                                              \
		NX_EXIT_INSN, false, size, where, data, NX_INSN_##insn \
	}
#define WRITE(insn, size, where, data)                                \
	{                                                             \
		NX_EXIT_INSN, true, size, where, data, NX_INSN_##insn \
	}

static void check_shape(const struct mock *m, unsigned instructions, unsigned exiting)
{
	struct nx_cluster_info info;

	mock_cluster(m, m->resume_rip, &info);
	assert_int_equal(info.instructions, instructions);
	assert_int_equal(info.exiting, exiting);
}

/* Debug registers in a context switch. */

GUEST(debug_registers, 32, "mov ebx, dr2",
      "mov ecx, dr3; mov [edi+0x308], ebx; mov [edi+0x30c], ecx; mov ebx, dr6; mov ecx, dr7",
      "ret");

static void context_switch(void **state)
{
	static const struct mock_access log[] = {READ(MOV_DR, 4, 3, 0xc0001000),
						 READ(MOV_DR, 4, 6, 0xffff0ff0),
						 READ(MOV_DR, 4, 7, 0x400)};
	(void)state;
	for (enum mock_mode mode = MOCK_FLAT32; mode <= MOCK_PAE32; mode++) {
		struct mock *m = mock_new_exits(mode, 0, NX_LEVEL_STRAIGHT, NX_EXITS_DR);

		m->first_class = NX_CLASS_DR;
		MOCK_LOAD(m, debug_registers);
		m->start.gpr[NX_RBX] = 0xc0002000;
		m->start.gpr[NX_RDI] = MOCK_DATA;
		m->start.rflags |= 0x8d5;
		for (unsigned i = 0; i < 3; i++)
			m->input[i] = log[i].data;
		mock_warm(m);
		mock_check_log(m, log, 3);
		mock_check_ended(m);
		mock_want_memory(m, MOCK_DATA + 0x308, 4, 0xc0002000);
		mock_want_memory(m, MOCK_DATA + 0x30c, 4, 0xc0001000);
		m->want.gpr[NX_RBX] = 0xffff0ff0;
		m->want.gpr[NX_RCX] = 0x400;
		m->want.rip = m->stop_rip;
		mock_check(m);
		check_shape(m, 5, 3);
		mock_free(m);
	}
}

/* A hypervisor reads its control structure. */

GUEST(vmreads, 64, "vmread rax, r9",
      "mov eax, 0x2400; vmread rax, r10; mov eax, 0x4408; vmread rax, rax", "ret");

static void control_structure(void **state)
{
	static const struct mock_access log[] = {READ(VMREAD, 8, 0x681e, 0x123456789abcdef0),
						 READ(VMREAD, 8, 0x4408, 0x80000b0d)};
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT, NX_EXITS_VMX);

	(void)state;
	m->first_class = NX_CLASS_VMCS;
	MOCK_LOAD(m, vmreads);
	m->start.gpr[NX_R10] = 0x681e;
	m->input[0] = log[0].data;
	m->input[1] = log[1].data;
	mock_warm(m);
	mock_check_log(m, log, 2);
	mock_check_ended(m);
	m->want.gpr[NX_RAX] = 0x80000b0d;
	m->want.rip = m->stop_rip;
	mock_check(m);
	check_shape(m, 4, 2);
	mock_free(m);
}

/* Dense packing. */

GUEST(dense, 64, "vmread rbx, rax",
      "vmread r8, rax; vmread r9, rax; vmread r10, rax; vmread r11, rax; vmread r12, rax;"
      "vmread r13, rax; add eax, 2; vmread r14, rax; test edi, edi; jnz 1f; mov eax, 0x4404;"
      "vmread r15, rax",
      "1: ret");

static void dense_packing(void **state)
{
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT, NX_EXITS_VMX);
	struct mock_access log[8];

	(void)state;
	m->first_class = NX_CLASS_VMCS;
	MOCK_LOAD(m, dense);
	m->start.gpr[NX_RAX] = 0x6802;
	m->start.gpr[NX_RDI] = 0;
	m->want = m->start;
	for (unsigned i = 0; i < 8; i++) {
		uint64_t field = i < 6 ? 0x6802 : i == 6 ? 0x6804 : 0x4404;

		m->input[i] = 0x1000100010001 * (i + 1);
		log[i] = (struct mock_access)READ(VMREAD, 8, field, m->input[i]);
	}
	mock_warm(m);
	mock_check_log(m, log, 8);
	mock_check_ended(m);
	for (unsigned i = 0; i < 8; i++)
		m->want.gpr[NX_R8 + i] = m->input[i];
	m->want.gpr[NX_RAX] = 0x4404;
	m->want.rip = m->stop_rip;
	m->want.rflags = (m->start.rflags & ~0x8d5ull) | 0x44; /* of the TEST: ZF, PF */
	m->want.rflags |= nx_engine_state(m->engine)->rflags & 0x10;
	mock_check(m);
	/* The branch out: seven exits are saved, still. */
	m->start.gpr[NX_RDI] = 1;
	mock_run(m);
	mock_check_log(m, log, 7);
	mock_free(m);
}

/* For other classes, check what the host is told and what it answers. */

GUEST(system_64, 64, "mov rcx, cr0",
      "mov cr3, r10; mov rax, cr4; wrmsr; rdmsr; mov r11, cr8; mov dr7, rbx; vmwrite r14, rax",
      "ret");

static void other_classes(void **state)
{
	static const struct mock_access log[] = {
	    WRITE(MOV_CR, 8, 3, 0x123456000),
	    READ(MOV_CR, 8, 4, 0x6f0),
	    WRITE(WRMSR, 4, 0xc0000080, 0xd01000006f0),
	    READ(RDMSR, 4, 0xc0000080, 0x55667788abcdef01),
	    READ(MOV_CR, 8, 8, 0xf),
	    WRITE(MOV_DR, 8, 7, 0x400),
	    WRITE(VMWRITE, 8, 0x6800, 0xabcdef01),
	};
	const uint32_t exits = NX_EXITS_CR | NX_EXITS_DR | NX_EXITS_MSR | NX_EXITS_VMX;
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT, exits);

	(void)state;
	m->first_class = NX_CLASS_CR;
	MOCK_LOAD(m, system_64);
	m->start.gpr[NX_RCX] = 0xc0000080;
	m->start.gpr[NX_RDX] = 0xd01;
	m->start.gpr[NX_R10] = 0x123456000;
	m->start.gpr[NX_RBX] = 0x400;
	m->start.gpr[NX_R14] = 0x6800;
	m->input[0] = 0x6f0;
	m->input[1] = 0x55667788abcdef01;
	m->input[2] = 0xf;
	mock_warm(m);
	mock_check_log(m, log, 7);
	mock_check_ended(m);
	m->want.gpr[NX_RAX] = 0xabcdef01;
	m->want.gpr[NX_RDX] = 0x55667788;
	m->want.gpr[NX_R11] = 0xf;
	m->want.rip = m->stop_rip;
	mock_check(m);
	mock_free(m);
}

/* Elsewhere they fault, or the host has not asked for them: not the engine's. */
static void only_where_they_exit(void **state)
{
	static const struct {
		unsigned cpl;
		uint32_t exits;
	} cases[] = {{3, NX_EXITS_VMX}, {0, NX_EXITS_CR | NX_EXITS_MSR | NX_EXITS_SVM}};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct mock *m =
		    mock_new_exits(MOCK_LONG64, cases[i].cpl, NX_LEVEL_LOOPS, cases[i].exits);

		MOCK_LOAD(m, vmreads);
		for (unsigned n = 0; n < 8; n++) {
			mock_run(m);
			assert_int_equal(m->exits, 0);
			mock_check(m);
		}
		mock_free(m);
	}
}

/* The host declines one MSR: the guest is given back before it, and other MSRs exit. */

GUEST(two_msrs, 64, "rdmsr", "mov ecx, 0x10; rdmsr; mov esi, eax; mov ecx, 0x174; rdmsr", "ret");

static enum nx_route decline_174(void *data, const struct nx_exit *exit)
{
	const struct mock *m = data;

	assert_int_equal(exit->kind, NX_EXIT_INSN);
	assert_int_equal(exit->insn, NX_INSN_RDMSR);
	assert_false(exit->write);
	assert_in_range(exit->rip, m->resume_rip, m->stop_rip - 1);
	assert_int_equal(exit->next, exit->rip + 2);
	return exit->operand == 0x174 ? NX_ROUTE_LEAVE : NX_ROUTE_EXIT;
}

static void declined(void **state)
{
	static const struct mock_access log[] = {READ(RDMSR, 4, 0x10, 0x1234500006789)};
	struct mock *m = mock_new_exits(MOCK_LONG64, 0, NX_LEVEL_STRAIGHT, NX_EXITS_MSR);
	uint64_t exits;

	(void)state;
	m->first_class = NX_CLASS_MSR;
	m->host.route_insn = decline_174;
	MOCK_LOAD(m, two_msrs);
	m->input[0] = log[0].data;
	mock_warm(m);
	mock_check_log(m, log, 1);
	assert_int_equal(m->reason, NX_LEAVE_HOST_ROUTE);
	m->want.gpr[NX_RAX] = m->want.gpr[NX_RSI] = 0x6789;
	m->want.gpr[NX_RDX] = 0x12345;
	m->want.gpr[NX_RCX] = 0x174;
	m->want.rip = m->stop_rip - 2;
	mock_check(m);
	exits = nx_engine_counters(m->engine)->exits_insn;
	/* Without the callback both exit. */
	m->host.route_insn = NULL;
	mock_run(m);
	assert_int_equal(m->exits, 2);
	assert_int_equal(nx_engine_counters(m->engine)->exits_insn, exits + 2);
	mock_check_ended(m);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(context_switch),       cmocka_unit_test(control_structure),
	    cmocka_unit_test(dense_packing),        cmocka_unit_test(other_classes),
	    cmocka_unit_test(only_where_they_exit), cmocka_unit_test(declined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
