/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * vm_test.c - kvm/vm.c: a VM's life, which of its ioctls the engines wait for, and what is noted of
 * them. rules_test.c has what the engine is told about memory and devices then.
 */
#include <errno.h>
#include <stdlib.h>

#include "unit.h"

static struct nx_kvm_vm *vm;
static int (*kernel)(int fd, unsigned long request, void *argument);
static int answer; /* errno of the VM's calls if it is negative, else their result */
static bool alone; /* no engine could run during the last one */
static unsigned begun_in_kernel;
static uint64_t calm_before;
static bool touched; /* lines.c had heard of the last call as it began */

/* What the fake kernel says of the run page and of its capabilities, unless 0. */
static int page_size, sync_regs, immediate_exit;

static int watched_ioctl(int fd, unsigned long request, void *argument)
{
	if (fd == FAKE_KVM_FD && request == KVM_GET_VCPU_MMAP_SIZE && page_size)
		return page_size;
	if (fd == FAKE_KVM_FD && request == KVM_CHECK_EXTENSION) {
		if ((uintptr_t)argument == KVM_CAP_SYNC_REGS && sync_regs)
			return sync_regs;
		if ((uintptr_t)argument == KVM_CAP_IMMEDIATE_EXIT && immediate_exit)
			return immediate_exit;
	}
	if (fd != FAKE_VM_FD)
		return kernel(fd, request, argument);
	alone = pthread_rwlock_tryrdlock(&vm->lock) != 0;
	if (!alone)
		pthread_rwlock_unlock(&vm->lock);
	begun_in_kernel = vm->vcpus_begun;
	touched = atomic_load(&vm->calm) != calm_before;
	errno = answer < 0 ? -answer : 0;
	return answer < 0 ? -1 : answer;
}

static int setup(void **state)
{
	(void)state;
	begin_guest(50, true);
	vm = fake_vm();
	kernel = nx_real.ioctl;
	nx_real.ioctl = watched_ioctl;
	answer = page_size = sync_regs = immediate_exit = 0;
	return 0;
}

static int call(unsigned long request, void *argument)
{
	calm_before = atomic_load(&vm->calm);
	return nx_vm_ioctl(vm, FAKE_VM_FD, request, argument);
}

/* ---- Life ---- */

/* Make the VM once more, by a kernel of which other things are true; the vCPU stays away. */
static const char *made_with(unsigned long type)
{
	fake_stop();
	*fake_said = 0;
	nx_vm_created(FAKE_KVM_FD, FAKE_VM_FD, type);
	return fake_said;
}

static void test_kernels_without_the_run_page(void **state)
{
	(void)state;
	page_size = NX_HOST_PAGE;
	assert_non_null(strstr(made_with(0), "no run page"));
	assert_false(nx_fd_known(FAKE_VM_FD));
	begin_guest(50, true);
}

static const char *off_of_new_vm(unsigned long type)
{
	const char *said = made_with(type);
	struct nx_object *object = nx_object_get(FAKE_VM_FD);
	bool off = atomic_load(&((struct nx_kvm_vm *)object)->off);

	nx_object_put(object);
	assert_int_equal(off, *said != 0);
	return said;
}

static void test_kernels_that_cannot(void **state)
{
	(void)state;
	/* All three kinds of registers, and the immediate exit: one without the other is nothing.
	 */
	sync_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	assert_non_null(strstr(off_of_new_vm(0), "run page"));
	sync_regs = -1;
	assert_non_null(strstr(off_of_new_vm(0), "run page"));
	sync_regs = 0;
	immediate_exit = -1;
	assert_non_null(strstr(off_of_new_vm(0), "run page"));
	immediate_exit = 0;
	assert_string_equal(off_of_new_vm(0), "");
	/* The VMM's type comes first, for that does not change with a newer kernel. */
	sync_regs = -1;
	assert_non_null(strstr(off_of_new_vm(1), "protected"));
}

static bool no_object(int fd, const char *what)
{
	(void)fd;
	(void)what;
	return false;
}

static void test_not_a_vm(void **state)
{
	(void)state;
	nx_real.is_kvm_object = no_object;
	assert_string_equal(made_with(0), "");
	assert_false(nx_fd_known(FAKE_VM_FD));
	begin_guest(50, true);
}

/* ---- Which calls the engines wait for ---- */

static void test_engines_are_out(void **state)
{
	static const unsigned long requests[] = {KVM_SET_USER_MEMORY_REGION,
						 KVM_IOEVENTFD,
						 KVM_REGISTER_COALESCED_MMIO,
						 KVM_CREATE_IRQCHIP,
						 KVM_CREATE_PIT2,
						 KVM_UNREGISTER_COALESCED_MMIO,
						 KVM_ENABLE_CAP,
						 KVM_CREATE_PIT};
	static uint64_t zero[64];

	(void)state;
	for (unsigned i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		unsigned generation = vm->generation;

		/* The call fails: the engines look again, but nothing of it is noted. */
		answer = -EBUSY;
		errno = 0;
		assert_int_equal(call(requests[i], zero), -1);
		assert_int_equal(errno, EBUSY);
		assert_true(alone);
		assert_int_equal(vm->generation, generation + 1);
		assert_true(touched);
	}
	assert_null(atomic_load(&vm->off));
	assert_false(vm->irqchip_full || vm->pit || vm->slots || atomic_load(&vm->zones));
	answer = 0;
	assert_int_equal(call(KVM_GET_CLOCK, zero), 0);
	assert_false(alone);
	assert_true(touched);
	assert_string_equal(fake_said, "");
}

/* What lines.c has seen before the call and what it sees after it are two things. */
static void test_lines_are_told_twice(void **state)
{
	uint64_t before = atomic_load(&vm->calm), within;

	(void)state;
	assert_int_equal(call(KVM_SET_GSI_ROUTING, NULL), 0);
	assert_true(touched);
	within = atomic_load(&vm->calm);
	nx_lines_touch(vm);
	assert_int_equal(within - before, 2 * (atomic_load(&vm->calm) - within));
}

/* ---- What is noted ---- */

static void test_devices(void **state)
{
	struct kvm_pit_config pit = {.flags = 0};

	(void)state;
	assert_int_equal(call(KVM_CREATE_PIT2, &pit), 0);
	assert_true(vm->pit && !vm->pit_speaker && !vm->irqchip_full);
	pit.flags = KVM_PIT_SPEAKER_DUMMY;
	assert_int_equal(call(KVM_CREATE_PIT2, &pit), 0);
	assert_true(vm->pit_speaker);
	vm->pit_speaker = false;
	assert_int_equal(call(KVM_CREATE_PIT, NULL), 0);
	assert_true(vm->pit_speaker);
	assert_int_equal(call(KVM_CREATE_IRQCHIP, NULL), 0);
	assert_true(vm->irqchip_full && !vm->irqchip_split);
}

static int enable(uint32_t cap, uint64_t argument)
{
	struct kvm_enable_cap enabled = {.cap = cap, .args = {argument}};

	return call(KVM_ENABLE_CAP, &enabled);
}

static void test_capabilities(void **state)
{
	(void)state;
	assert_int_equal(enable(KVM_CAP_SPLIT_IRQCHIP, 24), 0);
	assert_true(vm->irqchip_split && !vm->irqchip_full);
	assert_int_equal(enable(KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_OUT_7E_INC_RIP), 0);
	assert_true(vm->quirk_out_7e_off);
	assert_int_equal(enable(KVM_CAP_DISABLE_QUIRKS, KVM_X86_QUIRK_LINT0_REENABLED), 0);
	assert_false(vm->quirk_out_7e_off);
	assert_int_equal(enable(KVM_CAP_HALT_POLL, 1), 0);
	assert_null(atomic_load(&vm->off));
	assert_int_equal(enable(KVM_CAP_XEN_HVM, 1), 0);
	assert_non_null(atomic_load(&vm->off));
}

/* The frequency is the vCPUs' to come even if the call fails: then it is not known. */
static void test_frequency(void **state)
{
	(void)state;
	answer = -EINVAL;
	assert_int_equal(call(KVM_SET_TSC_KHZ, (void *)1000), -1);
	assert_true(vm->tsc_set);
}

/* The ring has one writer: the engine hears of another vCPU before the kernel makes it. */
static void test_another_vcpu(void **state)
{
	unsigned generation = vm->generation;

	(void)state;
	answer = -EEXIST;
	errno = 0;
	assert_int_equal(call(KVM_CREATE_VCPU, (void *)1), -1);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(begun_in_kernel, 2);
	assert_int_equal(vm->vcpus_begun, 2);
	assert_int_equal(vm->generation, generation + 1);
	/* It may take long, and the engine of the first need not wait for it. */
	assert_false(alone);
	assert_int_equal(vm->vcpus_made, 1);
}

static unsigned epoch_after(unsigned long request, void *argument, int result)
{
	unsigned before = atomic_load(&vm->irq_epoch);

	answer = result;
	call(request, argument);
	return atomic_load(&vm->irq_epoch) - before;
}

static void test_interrupts(void **state)
{
	struct kvm_irq_level line = {.irq = 4, .level = 1};
	struct kvm_msi msi = {0};

	(void)state;
	assert_int_equal(epoch_after(KVM_IRQ_LINE, &line, 0), 1);
	assert_int_equal(epoch_after(KVM_IRQ_LINE, &line, -ENXIO), 0);
	line.level = 0;
	assert_int_equal(epoch_after(KVM_IRQ_LINE, &line, 0), 0);
	line.level = 1;
	assert_int_equal(epoch_after(KVM_IRQ_LINE_STATUS, &line, 0), 1);
	/* 0: the guest has it masked. */
	assert_int_equal(epoch_after(KVM_SIGNAL_MSI, &msi, 0), 0);
	assert_int_equal(epoch_after(KVM_SIGNAL_MSI, &msi, 1), 1);
	assert_int_equal(epoch_after(KVM_SIGNAL_MSI, &msi, -EINVAL), 0);
}

/* What is on no list turns clustering off, unless the kernel does not know it either. */
static void test_unknown(void **state)
{
	(void)state;
	answer = -ENOTTY;
	errno = 0;
	assert_int_equal(call(_IO(KVMIO, 0xee), NULL), -1);
	assert_int_equal(errno, ENOTTY);
	assert_null(atomic_load(&vm->off));
	answer = 3;
	assert_int_equal(call(_IO(KVMIO, 0xee), NULL), 3);
	assert_non_null(strstr(fake_said, "does not know"));
	assert_non_null(atomic_load(&vm->off));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_kernels_without_the_run_page),
	    TEST(test_kernels_that_cannot),
	    TEST(test_not_a_vm),
	    TEST(test_engines_are_out),
	    TEST(test_lines_are_told_twice),
	    TEST(test_devices),
	    TEST(test_capabilities),
	    TEST(test_frequency),
	    TEST(test_another_vcpu),
	    TEST(test_interrupts),
	    TEST(test_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
