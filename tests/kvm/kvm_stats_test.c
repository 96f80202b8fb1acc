/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kvm_stats_test.c - kvm/kvm_stats.c: KVM's binary statistics, as a file in memory has them. */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "unit.h"

#define NAME_SIZE 48

/* KVM's format (Documentation/virt/kvm/api.rst, KVM_GET_STATS_FD), with gaps between its parts. */
static struct {
	struct kvm_stats_header header;
	char id[NAME_SIZE], gap[16];
	struct {
		uint8_t desc[sizeof(struct kvm_stats_desc)]; /* which ends in the name */
		char name[NAME_SIZE];
	} of[4];
	uint64_t data[8];
} file;

static struct nx_stats stats;
static struct nx_kvm_vcpu vcpu;

static void describe(unsigned which, const char *name, unsigned place, unsigned values)
{
	const struct kvm_stats_desc desc = {.offset = place * 8, .size = (uint16_t)values};

	memcpy(file.of[which].desc, &desc, sizeof(desc));
	memset(file.of[which].name, 0, NAME_SIZE);
	memcpy(file.of[which].name, name, strlen(name));
}

static void put(size_t size)
{
	assert_int_equal(ftruncate(vcpu.stats_fd, 0), 0);
	assert_int_equal(pwrite(vcpu.stats_fd, &file, size, 0), (ssize_t)size);
}

static int setup(void **state)
{
	(void)state;
	memset(&stats, 0, sizeof(stats));
	memset(&vcpu, 0, sizeof(vcpu));
	memset(&file, 0, sizeof(file));
	vcpu.stats = &stats;
	vcpu.stats_fd = memfd_create("statistics", MFD_CLOEXEC);
	file.header = (struct kvm_stats_header){
	    .name_size = NAME_SIZE,
	    .num_desc = 4,
	    .id_offset = sizeof(file.header),
	    .desc_offset = (uint32_t)((char *)file.of - (char *)&file),
	    .data_offset = (uint32_t)((char *)file.data - (char *)&file),
	};
	describe(0, "exits", 0, 1);
	describe(1, "halt_hist", 1, 4); /* several values: no counter */
	describe(2, "io_exits", 5, 1);
	describe(3, "preemption_reported", 6, 1);
	file.data[0] = 100;
	file.data[5] = 40;
	file.data[6] = 2;
	put(sizeof(file));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(vcpu.stats_fd);
	return 0;
}

static void test_counters(void **state)
{
	(void)state;
	nx_kvm_stats_read(&vcpu);
	assert_int_equal(stats.kvm_stats, 3);
	assert_string_equal(stats.kvm_stat[0].name, "exits");
	assert_int_equal(stats.kvm_stat[0].value, 100);
	assert_string_equal(stats.kvm_stat[1].name, "io_exits");
	assert_int_equal(stats.kvm_stat[1].value, 40);
	assert_string_equal(stats.kvm_stat[2].name, "preemption_reported");
	/* Read again: as they are then, not added up. */
	file.data[0] = 101;
	put(sizeof(file));
	nx_kvm_stats_read(&vcpu);
	assert_int_equal(stats.kvm_stats, 3);
	assert_int_equal(stats.kvm_stat[0].value, 101);
}

static void test_has(void **state)
{
	(void)state;
	assert_true(nx_kvm_stats_has(vcpu.stats_fd, "preemption_reported"));
	assert_true(nx_kvm_stats_has(vcpu.stats_fd, "halt_hist"));
	assert_false(nx_kvm_stats_has(vcpu.stats_fd, "preemption"));
	assert_false(nx_kvm_stats_has(vcpu.stats_fd, "exits2"));
	assert_false(nx_kvm_stats_has(-1, "exits"));
}

static void test_cut_short(void **state)
{
	size_t descriptors = (size_t)((char *)&file.of[1] - (char *)&file);

	(void)state;
	put(descriptors);
	nx_kvm_stats_read(&vcpu);
	assert_int_equal(stats.kvm_stats, 0);
	assert_true(nx_kvm_stats_has(vcpu.stats_fd, "exits"));
	assert_false(nx_kvm_stats_has(vcpu.stats_fd, "io_exits"));
	put(sizeof(file.header) - 1);
	assert_false(nx_kvm_stats_has(vcpu.stats_fd, "exits"));
	/* Names longer than ours have room for are no reason to read beyond them. */
	file.header.name_size = 65;
	put(sizeof(file));
	assert_false(nx_kvm_stats_has(vcpu.stats_fd, "exits"));
}

static void test_none(void **state)
{
	int fd = vcpu.stats_fd;

	(void)state;
	stats.kvm_stats = 3;
	vcpu.stats_fd = -1;
	nx_kvm_stats_read(&vcpu);
	assert_int_equal(stats.kvm_stats, 0);
	vcpu.stats_fd = fd;
}

static int gives_statistics(int fd, unsigned long request, void *argument)
{
	(void)fd;
	(void)argument;
	return request == KVM_GET_STATS_FD ? memfd_create("statistics", MFD_CLOEXEC) : -1;
}

/* A VMM whose limit just fits its own descriptors must not run out of them by ours. */
static void test_leaves_the_vmm_its_descriptors(void **state)
{
	struct nx_kvm_vm vm = {.binary_stats = true};
	struct nx_kvm_vcpu held[10] = {0};
	struct rlimit before, limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 160;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	nx_real.ioctl = gives_statistics;
	nx_real.close = close;
	for (int i = 0; i < 10; i++) {
		held[i].stats_fd = nx_kvm_stats_open(&vm, -1);
		assert_true(held[i].stats_fd >= 0);
	}
	/* One that is given back may be taken again. */
	nx_kvm_stats_close(&held[9]);
	held[9].stats_fd = nx_kvm_stats_open(&vm, -1);
	assert_true(held[9].stats_fd >= 0);
	nx_kvm_stats_read(&vcpu);
	assert_int_equal(stats.kvm_stats, 3);
	/* One more, and there are none at all. */
	assert_int_equal(nx_kvm_stats_open(&vm, -1), -1);
	nx_kvm_stats_read(&vcpu);
	assert_int_equal(stats.kvm_stats, 0);
	for (int i = 0; i < 10; i++)
		nx_kvm_stats_close(&held[i]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_counters),
	    TEST(test_has),
	    TEST(test_cut_short),
	    TEST(test_none),
	    TEST(test_leaves_the_vmm_its_descriptors), /* the last: it gives up for good */
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
