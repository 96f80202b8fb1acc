/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * hosts.c - the same exits without noexit, with the library in the VMM (host 1), and with noexit.ko
 * in the kernel (host 2).
 *
 * Three machines live in this process and run batches in turns. The interrupt controllers are in
 * the kernel, since a part of the exits is for those. Cycles are those of the time-stamp counter,
 * in processor time of this thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <noexit-kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "bench.h"
#include "device.h"
#include "tinyvm.h"

#define BATCH_NS 8e6
#define WARM_UP 8
#define APIC_PAGE 0xfee00000u
#define APIC_TABLE 0x30000u /* a page directory of the fourth GiB, in the guest's own memory */

#define GUESTS(X)                                                            \
	X(cpuid_1, "cpuid-1", 1, "a CPUID alone")                            \
	X(cpuid_2, "cpuid-pair", 2, "two CPUIDs")                            \
	X(cpuid_16, "cpuid-16", 16, "16 CPUIDs")                             \
	X(msr_16, "msr-16", 16, "16 reads of an MSR")                        \
	X(port_vmm, "port-vmm", 2, "two ports of the VMM")                   \
	X(port_kernel, "port-kernel", 2, "two accesses to the kernel's PIC") \
	X(apic, "apic", 6, "six accesses to the LAPIC's page")

#define NX_X(name, word, exits, help) \
	extern const uint8_t bench_hosts_##name[], bench_hosts_##name##_end[];
GUESTS(NX_X)
#undef NX_X

static const struct guest {
	const char *word;
	const uint8_t *code, *end;
	unsigned exits; /* in a turn */
} guests[] = {
#define NX_X(name, word, exits, help) {word, bench_hosts_##name, bench_hosts_##name##_end, exits},
    GUESTS(NX_X)
#undef NX_X
};

enum host { NONE, LIBRARY, MODULE, HOSTS };

struct machine {
	struct tinyvm vm;
	int statistics;
	off_t exits_at; /* the statistic "exits" in it */
	uint64_t turns; /* of a batch */
};

struct result {
	double cycles, exits; /* for each turn */
};

static double cpu_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double cycles_per_ns(void)
{
	uint64_t start = tinyvm_now(), ticks = __rdtsc(), end;

	do
		end = tinyvm_now();
	while (end - start < 20000000);
	return (double)(__rdtsc() - ticks) / (double)(end - start);
}

/* ---- How many exits the hardware has made ---- */

/* Find the statistic; KVM gives its names and places. */
static bool find_exits(struct machine *m)
{
	struct kvm_stats_header header;
	union {
		struct kvm_stats_desc desc;
		char bytes[sizeof(struct kvm_stats_desc) + 256];
	} found;

	m->statistics = m->vm.ioctl(m->vm.vcpu, KVM_GET_STATS_FD, NULL);
	if (m->statistics < 0 ||
	    pread(m->statistics, &header, sizeof(header), 0) != sizeof(header) ||
	    header.name_size > 256)
		return false;
	for (unsigned i = 0; i < header.num_desc; i++) {
		size_t size = sizeof(found.desc) + header.name_size;

		if (pread(m->statistics, &found, size,
			  (off_t)header.desc_offset + (off_t)(i * size)) != (ssize_t)size)
			return false;
		if (!strcmp(found.desc.name, "exits")) {
			m->exits_at = (off_t)header.data_offset + (off_t)found.desc.offset;
			return true;
		}
	}
	return false;
}

static double exits_of(const struct machine *m)
{
	uint64_t value = 0;

	if (pread(m->statistics, &value, sizeof(value), m->exits_at) != sizeof(value))
		return NAN;
	return (double)value;
}

/* ---- Machines ---- */

static void map_apic(struct tinyvm *vm)
{
	uint64_t *gigabytes = (uint64_t *)(void *)(vm->memory + TINYVM_TABLES + 0x1000);
	uint64_t *table = (uint64_t *)(void *)(vm->memory + APIC_TABLE);

	gigabytes[3] = APIC_TABLE | 7;
	table[APIC_PAGE >> 21 & 511] = (APIC_PAGE & ~0x1fffffu) | 0x87;
}

/* Return NULL, or what failed. */
static const char *machine_open(struct machine *m, const struct guest *guest, enum host host)
{
	const char *failed;
	int device, error;

	*m = (struct machine){.vm = {.irqchip = true}, .statistics = -1};
	if (host == LIBRARY) {
		m->vm.ioctl = nx_ioctl;
		m->vm.close = nx_close;
	}
	failed = tinyvm_open(&m->vm, 64, 0, guest->code, (size_t)(guest->end - guest->code));
	if (failed)
		return failed;
	map_apic(&m->vm);
	if (!find_exits(m))
		return "KVM's statistics";
	if (host != MODULE)
		return NULL;
	device = open(NXK_DEVICE, O_RDONLY | O_CLOEXEC);
	error = device < 0 || ioctl(device, NXK_ENABLE, (unsigned long)m->vm.vm) ? errno : 0;
	if (device >= 0)
		close(device);
	errno = error;
	return error ? NXK_DEVICE : NULL;
}

static void machine_close(struct machine *m)
{
	if (m->statistics >= 0)
		close(m->statistics);
	tinyvm_close(&m->vm);
}

static bool run_batch(struct machine *m, double per_ns, struct result *result)
{
	struct kvm_regs regs = {.rcx = m->turns, .rsi = TINYVM_DATA, .rdi = APIC_PAGE, .rflags = 2};
	double before, began;

	if (!tinyvm_start(&m->vm, &regs))
		return false;
	before = exits_of(m);
	began = cpu_ns();
	if (!tinyvm_run(&m->vm, NULL, NULL))
		return false;
	result->cycles = (cpu_ns() - began) * per_ns / (double)m->turns;
	result->exits = (exits_of(m) - before) / (double)m->turns;
	return true;
}

static bool calibrate(struct machine *m, double per_ns)
{
	struct result result;
	double turns;

	m->turns = 1;
	for (unsigned i = 0; i < WARM_UP; i++) {
		if (!run_batch(m, per_ns, &result))
			return false;
		turns = ceil(BATCH_NS * per_ns / (result.cycles > 1 ? result.cycles : 1));
		m->turns = (uint64_t)fmin(turns, (double)m->turns * 8);
	}
	return true;
}

/* ---- Figures ---- */

static void report(const char *name, const struct guest *guest, enum host host,
		   struct result result[BENCH_SAMPLES][HOSTS], unsigned count)
{
	static const char *const words[HOSTS] = {"", "host 1", "host 2"};
	struct bench_samples cycles = {.count = 0}, exits = {.count = 0};
	struct bench_figure figure;
	char full[64], metric[64];

	for (unsigned i = 0; i < count; i++) {
		bench_sample(&cycles, result[i][NONE].cycles / guest->exits,
			     result[i][host].cycles / guest->exits);
		bench_sample(&exits, result[i][NONE].exits, result[i][host].exits);
	}
	snprintf(full, sizeof(full), "%s/%s", name, guest->word);
	figure = bench_figure(&cycles);
	snprintf(metric, sizeof(metric), "%s: an exit, cycles", words[host]);
	bench_report(full, metric, &figure);
	figure = bench_figure(&exits);
	snprintf(metric, sizeof(metric), "%s: exits of a turn", words[host]);
	bench_report(full, metric, &figure);
}

static bool measure(const char *name, const struct guest *guest, struct machine m[HOSTS],
		    unsigned hosts, double per_ns)
{
	static struct result result[BENCH_SAMPLES][HOSTS];
	unsigned samples = bench_options.quick ? 5 : 31;

	for (unsigned host = NONE; host < hosts; host++) {
		if (!calibrate(&m[host], per_ns))
			return false;
	}
	for (unsigned i = 0; i < samples; i++) {
		for (unsigned host = NONE; host < hosts; host++) {
			if (!run_batch(&m[host], per_ns, &result[i][host]))
				return false;
		}
	}
	for (unsigned host = LIBRARY; host < hosts; host++)
		report(name, guest, host, result, samples);
	return true;
}

static bool run_guest(const char *name, const struct guest *guest, unsigned hosts, double per_ns)
{
	static struct machine m[HOSTS];
	const char *failed = NULL;
	unsigned opened = 0;
	bool good = false;

	while (!failed && opened < hosts) {
		failed = machine_open(&m[opened], guest, opened);
		opened++;
	}
	if (failed)
		bench_skip(name, "%s, %s: %s", guest->word, failed, strerror(errno));
	else if (!(good = measure(name, guest, m, hosts, per_ns)))
		bench_skip(name, "%s, the guest stopped: %s", guest->word, strerror(errno));
	while (opened)
		machine_close(&m[--opened]);
	return good;
}

bool bench_hosts(const char *name, unsigned number)
{
	double per_ns = cycles_per_ns();
	unsigned hosts = HOSTS;
	bool good = true;

	(void)number;
	if (access(NXK_DEVICE, R_OK)) {
		bench_skip(name,
			   "host 2, " NXK_DEVICE ": %s; load noexit.ko, in the lab with --module",
			   strerror(errno));
		hosts = MODULE;
	}
	for (unsigned i = 0; i < sizeof(guests) / sizeof(guests[0]); i++)
		good &= run_guest(name, &guests[i], hosts, per_ns);
	return good;
}
