/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* owner_test.c - kvm/owner.c: locks that know their holder, engines made to leave, and the end. */
#include <pthread.h>

#include "unit.h"

static struct nx_kvm_vcpu *vcpu;

static int setup(void **state)
{
	static struct vmm vmm;

	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	begin_guest(100, true);
	enter_engine(&vmm);
	vcpu = fake_vcpu();
	return 0;
}

/* A signal handler that interrupted the holder is told, and does not wait for itself. */
static void test_own_lock(void **state)
{
	(void)state;
	assert_true(nx_vcpu_acquire(vcpu));
	assert_false(nx_vcpu_acquire(vcpu));
	assert_false(nx_vcpu_acquire_soon(vcpu));
	nx_vcpu_release(vcpu);
	assert_true(nx_vcpu_acquire_soon(vcpu));
	nx_vcpu_release(vcpu);
	assert_true(nx_vcpus_lock(vcpu->vm));
	assert_false(nx_vcpus_lock(vcpu->vm));
	nx_vcpus_unlock(vcpu->vm);
}

static void *acquire_soon(void *data)
{
	(void)data;
	return nx_vcpu_acquire_soon(vcpu) ? vcpu : NULL;
}

static void *acquire(void *data)
{
	(void)data;
	return nx_vcpu_acquire(vcpu) ? vcpu : NULL;
}

static void test_others_lock(void **state)
{
	pthread_t thread;
	void *result = vcpu;

	(void)state;
	assert_true(nx_vcpu_acquire(vcpu));
	/* A caller that must not wait for ever gives up. */
	assert_int_equal(pthread_create(&thread, NULL, acquire_soon, NULL), 0);
	pthread_join(thread, &result);
	assert_null(result);
	/* A waiting thread gets the lock, and this thread does not hold it any more. */
	assert_int_equal(pthread_create(&thread, NULL, acquire, NULL), 0);
	nx_vcpu_release(vcpu);
	pthread_join(thread, &result);
	assert_ptr_equal(result, vcpu);
	assert_false(nx_vcpu_acquire_soon(vcpu));
	nx_vcpu_release(vcpu);
}

static void test_quiesce(void **state)
{
	struct nx_kvm_vm *vm = vcpu->vm;
	unsigned generation = vm->generation;
	volatile int *stop = nx_engine_stop_flag(vcpu->engine);

	(void)state;
	*stop = 0;
	nx_vm_quiesce(vm);
	assert_int_equal(*stop, 1);
	assert_int_equal(atomic_load(&vm->writers), 1);
	assert_int_not_equal(pthread_rwlock_tryrdlock(&vm->lock), 0);
	nx_vm_unquiesce(vm);
	assert_int_equal(atomic_load(&vm->writers), 0);
	assert_int_equal(vm->generation, generation + 1);
	assert_int_equal(pthread_rwlock_tryrdlock(&vm->lock), 0);
	pthread_rwlock_unlock(&vm->lock);
}

static void test_interrupt_raised(void **state)
{
	unsigned epoch = atomic_load(&vcpu->vm->irq_epoch);
	volatile int *stop = nx_engine_stop_flag(vcpu->engine);

	(void)state;
	*stop = 0;
	atomic_store(&vcpu->interruptible, false);
	nx_vm_interrupt_raised(vcpu->vm);
	assert_int_equal(*stop, 0);
	atomic_store(&vcpu->interruptible, true);
	nx_vm_interrupt_raised(vcpu->vm);
	assert_int_equal(*stop, 1);
	/* Counted in either case, and also where the list cannot be had. */
	assert_true(nx_vcpus_lock(vcpu->vm));
	nx_vm_interrupt_raised(vcpu->vm);
	nx_vcpus_unlock(vcpu->vm);
	assert_int_equal(atomic_load(&vcpu->vm->irq_epoch), epoch + 3);
	atomic_store(&vcpu->interruptible, false);
}

static void test_off_is_said_once(void **state)
{
	const char *first = "the first reason", *second = "the second reason";

	(void)state;
	nx_vcpu_off(vcpu, first);
	assert_ptr_equal(atomic_load(&vcpu->off), first);
	assert_non_null(strstr(fake_said, first));
	assert_string_equal(vcpu->shared->off, first);
	*fake_said = 0;
	nx_vcpu_off(vcpu, second);
	assert_ptr_equal(atomic_load(&vcpu->off), first);
	assert_string_equal(fake_said, "");
	/* Another vCPU with the same reason: one line is enough. */
	atomic_store(&vcpu->off, NULL);
	nx_vcpu_off(vcpu, first);
	assert_string_equal(fake_said, "");
	nx_vm_off(vcpu->vm, second);
	assert_ptr_equal(atomic_load(&vcpu->vm->off), second);
	assert_non_null(strstr(fake_said, second));
	assert_string_equal(vcpu->vm->share->off, second);
}

static void test_off_by_option_is_no_news(void **state)
{
	(void)state;
	nx_options.off = true;
	nx_vm_off(vcpu->vm, "a test");
	assert_string_equal(fake_said, "");
	assert_non_null(atomic_load(&vcpu->vm->off));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_own_lock),         TEST(test_others_lock),
	    TEST(test_quiesce),          TEST(test_interrupt_raised),
	    TEST(test_off_is_said_once), TEST(test_off_by_option_is_no_news),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
