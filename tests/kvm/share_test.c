/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* share_test.c - kvm/share.c: the file that others may look into, and its parts. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

static const struct model_insn program[] = {{M_IN, 0x10}, {M_OUT, 0x11}, {M_LOOP, 0}, {M_HLT, 0}};
static struct vmm vmm;

static void start(void)
{
	memset(&vmm, 0, sizeof(vmm));
	fake_engine = (struct fake_engine){0};
	fake_start(program, sizeof(program) / sizeof(*program), (struct fake_style){false, false});
	fake.regs.rdx = 20;
}

static int setup(void **state)
{
	(void)state;
	nx_options_default(&nx_options);
	nx_process = (struct nx_process){0};
	start();
	return 0;
}

/* This is what another process would see of the file. */
static const void *look(uint64_t offset, size_t size)
{
	const void *part =
	    mmap(NULL, size, PROT_READ, MAP_SHARED, fake_vm()->share_fd, (off_t)offset);

	assert_ptr_not_equal(part, MAP_FAILED);
	return part;
}

static void test_file(void **state)
{
	const struct nx_share_header *header = look(0, sizeof(*header));
	const struct nx_share_vcpu *vcpu = look(nx_share_slot_offset(0), sizeof(*vcpu));
	int fd = fake_vm()->share_fd;
	struct stat status;

	(void)state;
	assert_true(fd >= 512);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	/* A reader's mapping must not lose its memory. */
	assert_int_not_equal(ftruncate(fd, 4096), 0);
	assert_true(header->magic == NX_SHARE_MAGIC);
	assert_int_equal(header->version, NX_SHARE_VERSION);
	assert_int_equal(header->header_size, sizeof(*header));
	assert_int_equal(header->slot_size, sizeof(*vcpu));
	assert_true(header->clustering);
	assert_int_equal(vcpu->living, 1);
	assert_int_equal(vcpu->number, 0);
	assert_true(vmm_run(&vmm));
	assert_true(nx_stats_taken_total(&vcpu->figures.host) > 0);
	assert_true(nx_stats_avoided_total(&vcpu->figures.host) > 0);
	munmap((void *)(uintptr_t)header, sizeof(*header));
	munmap((void *)(uintptr_t)vcpu, sizeof(*vcpu));
}

/* A vCPU's slot is used again, its number is not, and its figures are kept. */
static void test_vcpu_that_goes(void **state)
{
	const struct nx_share_header *header = look(0, sizeof(*header));
	const struct nx_share_vcpu *vcpu = look(nx_share_slot_offset(0), sizeof(*vcpu));
	uint64_t taken;

	(void)state;
	assert_true(vmm_run(&vmm));
	taken = nx_stats_taken_total(&vcpu->figures.host);
	nx_fd_clear(FAKE_VCPU_FD);
	assert_int_equal(vcpu->living, 0);
	assert_int_equal(nx_stats_taken_total(&vcpu->figures.host), 0);
	assert_int_equal(header->gone, 1);
	assert_int_equal(nx_stats_taken_total(&header->gone_figures.host), taken);
	assert_int_equal(nx_kvm_ioctl(FAKE_VM_FD, KVM_CREATE_VCPU, NULL), FAKE_VCPU_FD);
	assert_int_equal(vcpu->living, 1);
	assert_int_equal(vcpu->number, 1);
	assert_int_equal(fake_vcpu()->slot, 0);
	munmap((void *)(uintptr_t)header, sizeof(*header));
	munmap((void *)(uintptr_t)vcpu, sizeof(*vcpu));
}

static void test_reason(void **state)
{
	static char text[3 * NX_SHARE_TEXT];
	char shared[NX_SHARE_TEXT] = {0};

	(void)state;
	nx_share_off(shared, "short");
	assert_string_equal(shared, "short");
	memset(shared, 0, sizeof(shared));
	memset(text, 'x', sizeof(text) - 1);
	nx_share_off(shared, text);
	assert_int_equal(strlen(shared), NX_SHARE_TEXT - 1);
}

/* Without a file the figures are kept all the same. */
static void check_private(void)
{
	assert_int_equal(fake_vm()->share_fd, -1);
	assert_true(vmm_run(&vmm));
	assert_true(nx_stats_avoided_total(fake_vcpu()->stats) > 0);
}

static void test_no_file(void **state)
{
	(void)state;
	fake_stop();
	nx_options.fault = NX_FAULT_WATCH;
	start();
	assert_non_null(strstr(fake_said, "cannot be watched"));
	check_private();
}

static void test_unwatched(void **state)
{
	(void)state;
	fake_stop();
	nx_process.unwatched = true;
	start();
	assert_string_equal(fake_said, "");
	check_private();
}

/* A VMM that closes our descriptor and gets its number for another file keeps that file. */
static void test_number_of_somebody_else(void **state)
{
	int fd = fake_vm()->share_fd, pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(dup2(pipes[1], fd), fd);
	fake_stop();
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
	start();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fake_teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_file),    TEST(test_vcpu_that_goes), TEST(test_reason),
	    TEST(test_no_file), TEST(test_unwatched),      TEST(test_number_of_somebody_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
