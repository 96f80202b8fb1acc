/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* report.c - print the figures at the end of the process. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "host.h"
#include "json.h"

#define MAX_COMMAND 4096

static void fold_living(struct nx_object *object, void *data)
{
	struct nx_kvm_vcpu *vcpu = (struct nx_kvm_vcpu *)object;

	(void)data;
	if (object->type != NX_OBJECT_VCPU || vcpu->reported)
		return;
	/* The extra count keeps the vCPU until the process ends, since the report refers to it. */
	vcpu->reported = true;
	atomic_fetch_add(&object->count, 1);
	nx_kvm_stats_read(vcpu);
	/* Without the lock the report shows the clusters as published some milliseconds ago. */
	if (vcpu->engine && nx_vcpu_acquire_soon(vcpu)) {
		vcpu->writer.refreshed = 0;
		nx_share_publish(vcpu, nx_real.now());
		nx_vcpu_release(vcpu);
	}
	nx_totals_fold(vcpu->shared, false);
}

/* Print the VMM's command line, as the kernel has it, with spaces between the words. */
static void print_command(struct nx_json *out)
{
	static char command[MAX_COMMAND];
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return;
	length = read(fd, command, sizeof(command) - 1);
	nx_real.close(fd);
	for (ssize_t i = 0; i + 1 < length; i++) {
		if (!command[i])
			command[i] = ' ';
	}
	nx_json_text(out, "command_line", command);
}

static void print_run(struct nx_json *out)
{
	print_command(out);
	nx_timeline_print(out);
	nx_json_begin(out, "off", '[');
	for (unsigned i = 0; i < nx_totals.offs; i++)
		nx_json_string(out, nx_totals.off[i]);
	nx_json_end(out, ']');
}

static void write_file(const char *path)
{
	static struct nx_json out;
	struct nx_report report = {
	    .clustering = !nx_options.off,
	    .vcpus = nx_totals.vcpus,
	    .figures = &nx_totals.figures,
	    .part = nx_totals.part,
	    .parts = nx_totals.parts,
	};

	out.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (out.fd >= 0) {
		nx_json_open(&out);
		print_run(&out);
		nx_json_report(&out, &report);
		nx_json_close(&out);
	}
	if (out.fd < 0 || out.failed)
		nx_say("the statistics could not be written to %s: %s", path, strerror(errno));
	if (out.fd >= 0)
		nx_real.close(out.fd);
}

void nx_report_final(void)
{
	uint64_t taken, avoided;
	unsigned percent;

	nx_fd_for_each(fold_living, NULL);
	taken = nx_stats_taken_total(&nx_totals.figures.host);
	avoided = nx_stats_avoided_total(&nx_totals.figures.host);
	percent = nx_hundredths(avoided, taken + avoided);
	if (nx_options.stats)
		write_file(nx_options.stats);
	nx_say("%" PRIu64 " exits taken, %" PRIu64 " avoided (%u.%02u%%)", taken, avoided,
	       percent / 100, percent % 100);
}
