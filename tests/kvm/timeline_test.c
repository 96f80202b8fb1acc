/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* timeline_test.c - kvm/timeline.c: exits by time, by a clock of the test's own. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "json.h"
#include "unit.h"

#define SAMPLES 1024u

static const struct model_insn program[] = {{M_IN, 0x10}, {M_OUT, 0x11}, {M_LOOP, 0}, {M_HLT, 0}};
static struct vmm vmm;
static char text[65536];

/* Print the samples; each time they are printed, one is added. */
static void print(void)
{
	static struct nx_json out;
	ssize_t length;

	memset(&out, 0, sizeof(out));
	out.fd = memfd_create("timeline", MFD_CLOEXEC);
	nx_json_open(&out);
	nx_timeline_print(&out);
	nx_json_close(&out);
	length = pread(out.fd, text, sizeof(text) - 1, 0);
	text[length < 0 ? 0 : length] = 0;
	close(out.fd);
}

static uint64_t number(const char *name)
{
	const char *at = strstr(text, name);

	assert_non_null(at);
	return strtoull(at + strlen(name) + 2, NULL, 10);
}

/* A list's numbers; returns how many there are. */
static unsigned list(const char *name, uint64_t *value)
{
	char *at = strstr(text, name);
	unsigned count = 0;

	assert_non_null(at);
	at = strchr(at, '[');
	while (*at != ']') {
		char *end;

		value[count] = strtoull(at + 1, &end, 10);
		count += end != at + 1;
		at = end + strspn(end, " \n");
	}
	return count;
}

/* Of one process: what there is at the end of a test is the beginning of the next. */
static void test_course(void **state)
{
	static uint64_t at[2 * SAMPLES], taken[2 * SAMPLES], avoided[2 * SAMPLES];
	unsigned count;

	(void)state;
	nx_options_default(&nx_options);
	/* Without a file to write to there is no thread that would add samples as well. */
	nx_options.stats_interval = 20;
	fake_engine = (struct fake_engine){0};
	fake_start(program, sizeof(program) / sizeof(*program), (struct fake_style){false, false});
	fake.regs.rdx = 500;
	/* Without --stats-interval: how long there has been a VM, and nothing else. */
	nx_options.stats_interval = 0;
	fake.clock += 7000;
	print();
	assert_int_equal(number("\"vm_ns\""), 7000);
	assert_null(strstr(text, "timeline"));

	nx_options.stats_interval = 20;
	fake.clock -= 7000;
	for (unsigned i = 0; i < 10; i++) {
		fake.clock += 20000000;
		assert_int_equal(vmm_step(&vmm), 0);
		print();
	}
	count = list("\"at_ms\"", at);
	assert_int_equal(count, 10);
	assert_int_equal(list("\"taken\"", taken), count);
	assert_int_equal(list("\"avoided\"", avoided), count);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(at[i], 20 * (i + 1));
		assert_int_equal(taken[i] + avoided[i], i + 1);
	}
}

/* More samples than there is room for: every other one goes, and the whole course stays. */
static void test_thinning(void **state)
{
	static uint64_t at[2 * SAMPLES];
	unsigned count;

	(void)state;
	assert_int_equal(number("\"interval_ms\""), 20);
	for (unsigned i = 10; i < SAMPLES; i++) {
		fake.clock += 20000000;
		print();
	}
	assert_int_equal(list("\"at_ms\"", at), SAMPLES);
	assert_int_equal(at[0], 20);
	assert_int_equal(number("\"interval_ms\""), 20);
	fake.clock += 20000000;
	print();
	count = list("\"at_ms\"", at);
	assert_int_equal(count, SAMPLES / 2 + 1);
	assert_int_equal(number("\"interval_ms\""), 40);
	for (unsigned i = 0; i + 1 < count; i++)
		assert_int_equal(at[i], 40 * (i + 1));
	assert_int_equal(at[count - 1], 20 * (SAMPLES + 1));
}

/* A vCPU that is being closed is in neither sum for a moment. */
static void test_no_figure_goes_back(void **state)
{
	static uint64_t taken[2 * SAMPLES];
	unsigned count = list("\"taken\"", taken);
	uint64_t before = taken[count - 1];

	(void)state;
	assert_true(before > 0);
	memset(fake_vcpu()->stats, 0, sizeof(*fake_vcpu()->stats));
	print();
	assert_int_equal(list("\"taken\"", taken), count + 1);
	assert_int_equal(taken[count], before);
	fake_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_course),
	    cmocka_unit_test(test_thinning),
	    cmocka_unit_test(test_no_figure_goes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
