/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * check.c - noexit check: can exits be avoided on this machine, what do they cost, and what does
 * that mean? Everything is tried, nothing concluded from names.
 */
#define _GNU_SOURCE
#include "cli.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "costs.h"
#include "noexit-kvm.h"

#define NOT_USABLE 1
#define KVM_API 12

/* X(NAME, key, needed, what for). */
#define CAPABILITIES(X)                                                               \
	X(SYNC_REGS, "sync_regs", true, "registers in the run page")                  \
	X(IMMEDIATE_EXIT, "immediate_exit", true, "completing an exit")               \
	X(READONLY_MEM, "readonly_mem", false, "firmware in flash memory")            \
	X(IRQCHIP, "irqchip", false, "interrupt controllers in the kernel")           \
	X(IOEVENTFD, "ioeventfd", false, "doorbells of virtio devices")               \
	X(COALESCED_MMIO, "coalesced_mmio", false, "writes that need no exit")        \
	X(NESTED_STATE, "nested_state", false, "guests that run guests of their own") \
	X(BINARY_STATS_FD, "binary_stats_fd", false, "KVM's own figures in --stats")

static const struct capability {
	const char *key, *text;
	int number;
	bool needed;
} capabilities[] = {
#define X(NAME, key, needed, text) {key, text, KVM_CAP_##NAME, needed},
    CAPABILITIES(X)
#undef X
};
#define CAPABILITY_COUNT (sizeof(capabilities) / sizeof(*capabilities))

static const struct {
	const char *key, *text;
} cost_names[] = {
#define NX_X(NAME, key, text) {key, text},
    NX_MEASURED(NX_X)
#undef NX_X
};

/* The costs and gains of a stay for guest code at one privilege level. */
struct verdict {
	double saved_ns;     /* by each exit that is avoided */
	double price_ns;     /* of taking over at an exit */
	unsigned break_even; /* exits to avoid in a stay before it pays; 0 if it never does */
};

struct check {
	bool present, accessible, executable_memory, stock_kernel, measured;
	int api;
	int capability[CAPABILITY_COUNT];
	struct nx_measured costs;
	struct verdict verdict[2]; /* CPL 0, CPL 3 */
	char reason[256];          /* the reason why it is not usable; empty if it is */
};

static void __attribute__((format(printf, 2, 3)))
not_usable(struct check *check, const char *format, ...)
{
	va_list arguments;

	if (check->reason[0])
		return;
	va_start(arguments, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the line above initializes it */
	vsnprintf(check->reason, sizeof(check->reason), format, arguments);
	va_end(arguments);
}

/* ---- Trying ---- */

static void try_device(struct check *check)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	check->present = kvm >= 0 || errno != ENOENT;
	check->accessible = kvm >= 0;
	if (kvm < 0) {
		const char *remedy = "load the module kvm_intel or kvm_amd, or pass the device on";

		if (errno == EACCES || errno == EPERM)
			remedy = "become a member of the group kvm, or root";
		not_usable(check, "/dev/kvm cannot be opened: %s; %s", strerror(errno), remedy);
		return;
	}
	check->api = ioctl(kvm, KVM_GET_API_VERSION, 0ul);
	if (check->api != KVM_API)
		not_usable(check,
			   "/dev/kvm does not speak version %d of KVM's interface; use Linux "
			   "2.6.22 or later",
			   KVM_API);
	for (size_t i = 0; i < CAPABILITY_COUNT && check->api == KVM_API; i++) {
		check->capability[i] =
		    ioctl(kvm, KVM_CHECK_EXTENSION, (unsigned long)capabilities[i].number);
		if (check->capability[i] <= 0 && capabilities[i].needed)
			not_usable(check,
				   "this KVM lacks the capability %s (%s); use Linux 4.17 or later",
				   capabilities[i].key, capabilities[i].text);
	}
	close(kvm);
}

static void try_memory(struct check *check)
{
	check->executable_memory = nx_kvm_can_execute();
	if (!check->executable_memory)
		not_usable(check, "a policy of this system (SELinux, seccomp, a memory limit) "
				  "forbids memory for translated code; allow it for VMMs");
}

static void judge(struct check *check, unsigned user)
{
	const struct nx_measured *costs = &check->costs;
	struct verdict *verdict = &check->verdict[user];

	verdict->saved_ns =
	    costs->ns[NX_MEASURE_PIO_0 + user] - costs->ns[NX_MEASURE_ENGINE_0 + user];
	/* The exit is completed, and the debug registers are asked for. */
	verdict->price_ns = costs->ns[NX_MEASURE_IMMEDIATE_EXIT] + costs->ns[NX_MEASURE_GET_REGS];
	if (verdict->saved_ns > 0 && costs->avoided[user] > 0)
		verdict->break_even = (unsigned)(verdict->price_ns / verdict->saved_ns) + 1;
}

/* The line by which the KVM host says why it avoids no exits on this machine. */
static char host_says[200];

static void note_host(const char *line)
{
	snprintf(host_says, sizeof(host_says), "%s", line);
}

static void try_costs(struct check *check)
{
	const char *failed;

	check->stock_kernel = nx_runs_stock_kernel();
	failed = nx_measure_costs(&check->costs);
	if (failed) {
		not_usable(check, "a small virtual machine does not work here: %s: %s", failed,
			   strerror(errno));
		return;
	}
	check->measured = true;
	for (unsigned user = 0; user < 2; user++)
		judge(check, user);
	if (check->costs.avoided[0] == 0 && check->costs.avoided[1] == 0)
		not_usable(check, "no exit could be avoided: %s",
			   host_says[0] ? host_says : "the engine did not take over");
}

/* ---- Telling ---- */

static const char *yes(bool value)
{
	return value ? "yes" : "no";
}

static void print_verdict(const struct check *check, unsigned user)
{
	const struct verdict *verdict = &check->verdict[user];

	printf("  Guest code at CPL %d: ", user ? 3 : 0);
	if (!verdict->break_even) {
		puts("avoiding exits does not pay here.");
		return;
	}
	printf("taking over costs %.1f us, each avoided exit saves %.1f us: a cluster pays ",
	       verdict->price_ns / 1000, verdict->saved_ns / 1000);
	if (verdict->break_even == 1)
		puts("from the first exit that it avoids.");
	else
		printf("from %u avoided exits on.\n", verdict->break_even);
}

static void print_costs(const struct check *check)
{
	const struct nx_measured *costs = &check->costs;

	printf("\n%-54s %10s %12s\n", "What it costs, median", "ns", "cycles");
	for (unsigned i = 0; i < NX_MEASURE_COUNT; i++)
		printf("  %-52s %10.0f %12.0f\n", cost_names[i].text, costs->ns[i],
		       costs->ns[i] * costs->cycles_per_ns);
	printf("\nWhat it means\n");
	for (unsigned user = 0; user < 2; user++)
		print_verdict(check, user);
	for (unsigned user = 0; user < 2; user++)
		printf("  A turn of an empty loop at CPL %d takes %.2f ns%s.\n", user ? 3 : 0,
		       costs->turn_ns[user],
		       costs->turn_ns[user] > 100 ? ": this KVM emulates such code" : "");
}

static void print_text(const struct check *check)
{
	printf("%-54s %s\n", "/dev/kvm present", yes(check->present));
	printf("%-54s %s\n", "/dev/kvm usable by this user", yes(check->accessible));
	for (size_t i = 0; i < CAPABILITY_COUNT && check->accessible; i++)
		printf("  %-16s %-35s %s%s\n", capabilities[i].key, capabilities[i].text,
		       yes(check->capability[i] > 0), capabilities[i].needed ? ", needed" : "");
	printf("%-54s %s\n", "memory for translated code allowed", yes(check->executable_memory));
	if (check->measured) {
		printf("%-54s %s\n", "runs what a stock Linux kernel needs",
		       yes(check->stock_kernel));
		print_costs(check);
	}
	if (check->reason[0])
		printf("\nNot usable: %s.\n", check->reason);
	else
		puts("\nUsable: noexit can avoid exits on this machine.");
}

static void add(struct json_object *to, const char *key, struct json_object *value)
{
	json_object_object_add(to, key, value);
}

/* No figure here is known better than to a tenth. */
static struct json_object *tenths(double value)
{
	struct json_object *number = json_object_new_double(value);

	json_object_set_serializer(number, json_object_double_to_json_string, "%.1f", NULL);
	return number;
}

static struct json_object *json_costs(const struct nx_measured *costs)
{
	struct json_object *all = json_object_new_object();

	for (unsigned i = 0; i < NX_MEASURE_COUNT; i++) {
		struct json_object *cost = json_object_new_object();

		add(cost, "ns", tenths(costs->ns[i]));
		add(cost, "cycles", tenths(costs->ns[i] * costs->cycles_per_ns));
		add(all, cost_names[i].key, cost);
	}
	return all;
}

static struct json_object *json_verdict(const struct check *check, unsigned user)
{
	const struct verdict *verdict = &check->verdict[user];
	struct json_object *object = json_object_new_object();

	add(object, "price_ns", tenths(verdict->price_ns));
	add(object, "saved_ns", tenths(verdict->saved_ns));
	add(object, "break_even_exits",
	    verdict->break_even ? json_object_new_int64(verdict->break_even) : NULL);
	add(object, "loop_turn_ns", tenths(check->costs.turn_ns[user]));
	return object;
}

static void print_json(const struct check *check)
{
	struct json_object *all = json_object_new_object(), *has = json_object_new_object();

	add(all, "usable", json_object_new_boolean(!check->reason[0]));
	add(all, "reason", check->reason[0] ? json_object_new_string(check->reason) : NULL);
	add(all, "kvm_present", json_object_new_boolean(check->present));
	add(all, "kvm_accessible", json_object_new_boolean(check->accessible));
	for (size_t i = 0; i < CAPABILITY_COUNT; i++)
		add(has, capabilities[i].key, json_object_new_int(check->capability[i]));
	add(all, "capabilities", has);
	add(all, "executable_memory", json_object_new_boolean(check->executable_memory));
	add(all, "stock_kernel",
	    check->measured ? json_object_new_boolean(check->stock_kernel) : NULL);
	add(all, "costs", check->measured ? json_costs(&check->costs) : NULL);
	add(all, "cpl0", check->measured ? json_verdict(check, 0) : NULL);
	add(all, "cpl3", check->measured ? json_verdict(check, 1) : NULL);
	puts(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PRETTY));
	json_object_put(all);
}

/* ---- The command ---- */

static error_t parse(int key, char *text, struct argp_state *state)
{
	bool *json = state->input;

	switch (key) {
	case 'j':
		*json = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "it takes no argument such as '%s'", text);
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option argp_options[] = {
    {"json", 'j', NULL, 0, "Print one JSON object", 0},
    {0},
};

static const struct argp parser = {
    .options = argp_options,
    .parser = parse,
    .doc = "Says whether noexit can avoid VM exits on this machine, and what they cost.\v"
	   "The exit status is 0 if it can, 1 if it cannot, 2 for wrong arguments.",
};

int cli_check(int argc, char **argv)
{
	struct check check = {0};
	bool json = false;

	argp_parse(&parser, argc, argv, 0, NULL, &json);
	nx_kvm_log(note_host);
	/* `noexit stat` must not find the VMs that this process measures with. */
	nx_kvm_watched(false);
	/* Stays have no limit here, so that the engine's figure is that of the engine alone. */
	nx_kvm_option("masked-latency", "1000000000");
	try_device(&check);
	try_memory(&check);
	if (!check.reason[0])
		try_costs(&check);
	if (json)
		print_json(&check);
	else
		print_text(&check);
	return check.reason[0] ? NOT_USABLE : 0;
}
