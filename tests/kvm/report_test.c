/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* report_test.c - kvm/report.c: the line at the end of the process, and the file. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

static struct vmm vmm;
static char text[1 << 20];

static int setup(void **state)
{
	(void)state;
	memset(&vmm, 0, sizeof(vmm));
	memset(&nx_totals, 0, sizeof(nx_totals));
	begin_guest(20, true);
	return 0;
}

/* nx_report_final() keeps the vCPU for the rest of the process: here the process goes on. */
static int teardown(void **state)
{
	struct nx_object *object = &fake_vcpu()->object;
	bool kept = fake_vcpu()->reported;

	(void)state;
	fake_stop();
	if (kept)
		nx_object_put(object);
	return 0;
}

static void expect_line(uint64_t taken, uint64_t avoided)
{
	double percent = taken + avoided ? 100.0 * (double)avoided / (double)(taken + avoided) : 0;
	char line[128];

	snprintf(line, sizeof(line), "%" PRIu64 " exits taken, %" PRIu64 " avoided (%.2f%%)", taken,
		 avoided, percent);
	assert_string_equal(fake_said, line);
}

static void test_line(void **state)
{
	(void)state;
	assert_true(vmm_run(&vmm));
	assert_true(fake_engine.exits > 0);
	nx_report_final();
	/* HLT, and those of the 40 accesses that the engine did not deliver. */
	expect_line(41 - fake_engine.exits, fake_engine.exits);
}

static void test_line_without_exits(void **state)
{
	(void)state;
	nx_report_final();
	expect_line(0, 0);
}

/* A vCPU that has gone is in the totals already, and one that lives comes in once. */
static void test_counted_once(void **state)
{
	uint64_t taken, avoided;

	(void)state;
	assert_true(vmm_run(&vmm));
	nx_report_final();
	*fake_said = 0;
	nx_report_final();
	nx_totals_sum(&taken, &avoided);
	expect_line(taken, avoided);
	assert_int_equal(nx_totals.vcpus, 1);
	assert_int_equal(taken + avoided, 41);
}

static void read_file(const char *path)
{
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
}

static void expect_in_file(const char *member)
{
	if (!strstr(text, member))
		fail_msg("%s is not in: %s", member, text);
}

static void test_file(void **state)
{
	char path[] = "/tmp/report_test.XXXXXX", member[64];
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	nx_options.stats = path;
	assert_true(vmm_run(&vmm));
	nx_vcpu_off(fake_vcpu(), "of a test");
	nx_report_final();
	assert_null(strstr(fake_said, "could not be written"));
	read_file(path);
	snprintf(member, sizeof(member), "\"exits_avoided\": %u", fake_engine.exits);
	expect_in_file(member);
	expect_in_file("\"vcpus\": 1");
	expect_in_file("\"clustering\": \"on\"");
	expect_in_file("of a test");
	expect_in_file("\"command_line\": \"");
	expect_in_file(" with some words\"");
	unlink(path);
}

static void test_file_that_cannot_be(void **state)
{
	(void)state;
	nx_options.stats = "/nowhere/at/all";
	nx_report_final();
	assert_non_null(strstr(fake_said, "could not be written to /nowhere/at/all"));
	assert_non_null(strstr(fake_said, strerror(ENOENT)));
	assert_non_null(strstr(fake_said, "0 exits taken"));
}

/* A disk that is full while it is being written to. */
static void test_file_that_fills_up(void **state)
{
	(void)state;
	nx_options.stats = "/dev/full";
	nx_report_final();
	assert_non_null(strstr(fake_said, strerror(ENOSPC)));
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_line), TEST(test_line_without_exits),  TEST(test_counted_once),
	    TEST(test_file), TEST(test_file_that_cannot_be), TEST(test_file_that_fills_up),
	};

	/* The report has the command line, which is to have words. */
	if (argc < 2)
		return execl("/proc/self/exe", argv[0], "with", "some words", (char *)NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
