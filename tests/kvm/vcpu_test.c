/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * vcpu_test.c - kvm/vcpu.c: a vCPU's life, what its ioctls tell the host, and the registers that
 * the kernel gets before each. state_test.c goes through the ioctls one by one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

static struct vmm vmm;
static struct nx_kvm_vcpu *vcpu;
static int (*kernel)(int fd, unsigned long request, void *argument);
static int refusal; /* errno of all calls but KVM_RUN, or 0 */
static unsigned disturbing_in_kernel;

static int watched_ioctl(int fd, unsigned long request, void *argument)
{
	disturbing_in_kernel = atomic_load(&vcpu->disturbing);
	if (refusal && (uint32_t)request != KVM_RUN) {
		errno = refusal;
		return -1;
	}
	return kernel(fd, request, argument);
}

static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	begin_guest(50, true);
	vcpu = fake_vcpu();
	kernel = nx_real.ioctl;
	nx_real.ioctl = watched_ioctl;
	refusal = 0;
	return 0;
}

/* ---- Life ---- */

static void *unmapped;

static void note_unmap(void *page, size_t size)
{
	assert_int_equal(size, 3 * NX_HOST_PAGE);
	unmapped = page;
}

static void test_life(void **state)
{
	struct nx_kvm_vm *vm = vcpu->vm;

	(void)state;
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_CREATE_VCPU, (void *)1), FAKE_SECOND_VCPU_FD);
	assert_ptr_equal(vm->vcpus->next_in_vm, vcpu);
	assert_null(vcpu->next_in_vm);
	assert_int_equal(atomic_load(&vm->object.count), 3);
	/* The one that was made first goes first. */
	nx_real.unmap_vcpu = note_unmap;
	nx_fd_clear(FAKE_VCPU_FD);
	assert_ptr_equal(unmapped, fake.run);
	assert_non_null(vm->vcpus);
	assert_ptr_not_equal(vm->vcpus, vcpu);
	assert_null(vm->vcpus->next_in_vm);
	assert_int_equal(atomic_load(&vm->object.count), 2);
	fake_stop();
	assert_int_equal(setup(state), 0);
}

static bool no_object(int fd, const char *what)
{
	(void)fd;
	(void)what;
	return false;
}

/* A number that a call for a vCPU gave, but that is none: a seccomp filter's, say. */
static void test_not_a_vcpu(void **state)
{
	(void)state;
	nx_real.is_kvm_object = no_object;
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_CREATE_VCPU, (void *)1), FAKE_SECOND_VCPU_FD);
	assert_false(nx_fd_known(FAKE_SECOND_VCPU_FD));
	assert_string_equal(fake_said, "");
}

static int last_closed;

static int note_close(int fd)
{
	last_closed = fd;
	return close(fd);
}

static void test_end_gives_everything_back(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	enter_engine(&vmm);
	nx_real.close = note_close;
	vcpu->stats_fd = fd;
	assert_non_null(vcpu->memory.arena);
	nx_fd_clear(FAKE_VCPU_FD);
	assert_int_equal(last_closed, fd);
	assert_null(vcpu->memory.arena);
	fake_stop();
	assert_int_equal(setup(state), 0);
}

/* ---- What the VMM has told the kernel ---- */

static uint32_t features(uint32_t function, uint32_t ecx, uint32_t edx)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 2 * sizeof(struct kvm_cpuid_entry2));

	assert_non_null(cpuid);
	cpuid->nent = 2;
	cpuid->entries[0] = (struct kvm_cpuid_entry2){.function = 0x80000008, .eax = 0x302e};
	cpuid->entries[1] = (struct kvm_cpuid_entry2){.function = function, .ecx = ecx, .edx = edx};
	vmm_ioctl(KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return vcpu->guest_features;
}

static void test_cpuid(void **state)
{
	(void)state;
	assert_int_equal(features(1, 1u << 13, 0), NX_FEATURE_CMPXCHG16B);
	assert_int_equal(features(1, 1u << 22, 0), NX_FEATURE_MOVBE);
	assert_int_equal(features(1, 1u << 23, 0), NX_FEATURE_POPCNT);
	assert_int_equal(features(0x80000001, 0, 1u << 27), NX_FEATURE_RDTSCP);
	assert_int_equal(features(0x80000001, ~0u, 0), 0);
	assert_int_equal(features(2, ~0u, ~0u), 0);
	assert_int_equal(vcpu->physical_bits, 0x2e);
	assert_string_equal(fake_said, "");
}

/* What the kernel refused has not happened. */
static void test_refused(void **state)
{
	(void)state;
	assert_int_equal(features(1, 1u << 22, 0), NX_FEATURE_MOVBE);
	refusal = EINVAL;
	errno = 0;
	assert_int_equal(features(1, 0, 0), NX_FEATURE_MOVBE);
	assert_int_equal(errno, EINVAL);
}

static void test_signal_mask(void **state)
{
	union {
		struct kvm_signal_mask mask;
		uint8_t room[sizeof(struct kvm_signal_mask) + sizeof(uint64_t)];
	} argument = {.mask.len = 8};
	uint64_t set = 0x123456789abcdef0;

	(void)state;
	memcpy(argument.mask.sigset, &set, sizeof(set));
	assert_int_equal(vmm_ioctl(KVM_SET_SIGNAL_MASK, &argument), 0);
	assert_true(vcpu->has_signal_mask);
	assert_int_equal(vcpu->signal_mask, set);
	/* No mask from here on. */
	assert_int_equal(vmm_ioctl(KVM_SET_SIGNAL_MASK, NULL), 0);
	assert_false(vcpu->has_signal_mask);
	argument.mask.len = 4;
	assert_int_equal(vmm_ioctl(KVM_SET_SIGNAL_MASK, &argument), 0);
	assert_false(vcpu->has_signal_mask);
}

static void test_debug_and_vapic(void **state)
{
	struct kvm_guest_debug debug = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
	struct kvm_vapic_addr vapic = {.vapic_addr = 0x12345678};

	(void)state;
	assert_int_equal(vmm_ioctl(KVM_SET_GUEST_DEBUG, &debug), 0);
	assert_true(vcpu->guest_debug);
	debug.control = KVM_GUESTDBG_SINGLESTEP;
	assert_int_equal(vmm_ioctl(KVM_SET_GUEST_DEBUG, &debug), 0);
	assert_false(vcpu->guest_debug);
	assert_int_equal(vmm_ioctl(KVM_SET_VAPIC_ADDR, &vapic), 0);
	assert_int_equal(vcpu->vapic_page, 0x12345000);
}

/* ---- Write-back ---- */

static void test_flushed_once(void **state)
{
	struct kvm_regs regs;

	(void)state;
	enter_engine(&vmm);
	/* The kernel has them from completing its own exit. */
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
	assert_int_equal(fake.set_regs, 0);
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
	assert_int_equal(fake.set_regs, 1);
	assert_int_equal(vcpu->stats->flushes, 1);
	/* Looking ends no stay. */
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(fake_engine.exits, 3);
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
	assert_int_equal(vcpu->stats->flushes, 2);
}

/* The VMM's own failure is what it hears of, whatever the write-back left in errno. */
static void test_errno_of_a_look(void **state)
{
	struct kvm_regs regs;

	(void)state;
	enter_engine(&vmm);
	refusal = EFAULT;
	errno = 0;
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), -1);
	assert_int_equal(errno, EFAULT);
}

static void test_change_at_an_exit_of_the_engines(void **state)
{
	struct kvm_mp_state mp_state = {0};

	(void)state;
	enter_engine(&vmm);
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_ioctl(KVM_SET_MP_STATE, &mp_state), 0);
	assert_int_equal(fake.set_regs, 1);
	assert_int_equal(nx_phase(vcpu), NX_PHASE_DISTURBED);
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vcpu->stats->disturbed, 1);
	assert_true(nx_kernel_has_regs(vcpu));
}

/* The kernel has the registers: nothing is written back, and a change is counted around the call.
 */
static void test_change_at_an_exit_of_the_kernels(void **state)
{
	struct kvm_mp_state mp_state = {0};
	struct kvm_regs regs;
	unsigned before = atomic_load(&vcpu->disturbances);

	(void)state;
	assert_int_equal(vmm_step(&vmm), 0);
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
	assert_int_equal(disturbing_in_kernel, 0);
	assert_int_equal(atomic_load(&vcpu->disturbances), before);
	assert_int_equal(vmm_ioctl(KVM_SET_MP_STATE, &mp_state), 0);
	assert_int_equal(disturbing_in_kernel, 1);
	assert_int_equal(atomic_load(&vcpu->disturbing), 0);
	assert_int_equal(atomic_load(&vcpu->disturbances), before + 1);
	assert_int_equal(fake.set_regs, 0);
	assert_int_equal(vcpu->stats->flushes, 0);
}

/* Our thread holds the vCPU: what its handler asks goes to the kernel as it is. */
static void test_look_of_a_signal_handler(void **state)
{
	struct kvm_regs regs;

	(void)state;
	enter_engine(&vmm);
	assert_true(nx_vcpu_acquire(vcpu));
	assert_int_equal(vmm_ioctl(KVM_GET_REGS, &regs), 0);
	nx_vcpu_release(vcpu);
	assert_int_equal(fake.set_regs, 0);
	assert_int_equal(nx_phase(vcpu), NX_PHASE_EXIT);
	assert_non_null(strstr(fake_said, "signal handler"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_life),
	    TEST(test_not_a_vcpu),
	    TEST(test_end_gives_everything_back),
	    TEST(test_cpuid),
	    TEST(test_refused),
	    TEST(test_signal_mask),
	    TEST(test_debug_and_vapic),
	    TEST(test_flushed_once),
	    TEST(test_errno_of_a_look),
	    TEST(test_change_at_an_exit_of_the_engines),
	    TEST(test_change_at_an_exit_of_the_kernels),
	    TEST(test_look_of_a_signal_handler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
