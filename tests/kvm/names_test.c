/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* names_test.c - kvm/names.c: lines for perf. What GDB gets is tried with GDB (watch_test.py). */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

static char path[64], text[1024];
static const struct nx_share_cluster first = {
    .entry_rip = 0xfff0, .bits = 16, .code = 0x7f0000001000, .code_bytes = 0x123};
static const struct nx_share_cluster second = {
    .entry_rip = 0xffffffff81000000, .bits = 64, .code = 0x7f0000002000, .code_bytes = 0x45};
static const struct nx_kvm_vcpu *const vcpu = NULL;

static const char *map(void)
{
	FILE *file = fopen(path, "re");
	size_t length = file ? fread(text, 1, sizeof(text) - 1, file) : 0;

	text[length] = 0;
	if (file)
		fclose(file);
	return text;
}

static void put(const char *name, const char *content)
{
	FILE *file = fopen(name, "we");

	assert_non_null(file);
	fputs(content, file);
	fclose(file);
}

static int setup(void **state)
{
	(void)state;
	nx_options_default(&nx_options);
	nx_real.close = close;
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	*fake_said = 0;
	return 0;
}

static void test_not_asked_for(void **state)
{
	(void)state;
	unlink(path);
	nx_names_add(vcpu, &first);
	nx_names_forget(vcpu);
	assert_int_equal(access(path, F_OK), -1);
}

/* A file that is there already may be somebody else's: it is not written to. */
static void test_lines(void **state)
{
	char other[80];
	struct stat status;

	(void)state;
	nx_options.perf_map = true;
	snprintf(other, sizeof(other), "%s.other", path);
	put(other, "mine\n");
	assert_int_equal(symlink(other, path), 0);
	nx_names_add(vcpu, &first);
	nx_names_add(vcpu, &second);
	assert_string_equal(map(), "7f0000001000 123 noexit_fff0_16bit\n"
				   "7f0000002000 45 noexit_ffffffff81000000_64bit\n");
	assert_int_equal(lstat(path, &status), 0);
	assert_true(S_ISREG(status.st_mode));
	assert_int_equal(stat(other, &status), 0);
	assert_int_equal(status.st_size, 5);
	assert_string_equal(fake_said, "");
	unlink(other);
}

/* Another file in its place is left alone, and one line says that there are no names. */
static void test_replaced(void **state)
{
	(void)state;
	nx_options.perf_map = true;
	assert_int_equal(rename(path, "/tmp/noexit-names-test"), 0);
	put(path, "somebody else's\n");
	nx_names_add(vcpu, &first);
	assert_string_equal(map(), "somebody else's\n");
	assert_non_null(strstr(fake_said, "no names for perf"));
	*fake_said = 0;
	nx_names_add(vcpu, &first);
	assert_string_equal(fake_said, "");
	unlink(path);
	unlink("/tmp/noexit-names-test");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
	    TEST(test_not_asked_for),
	    TEST(test_lines),
	    TEST(test_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
