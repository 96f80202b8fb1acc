/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* kernel.c - noexit on and off: noexit.ko, the host in the kernel. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli.h"
#include "device.h"
#include "kernel.h"

int cli_open_kernel(void)
{
	return open(NXK_DEVICE, O_RDONLY | O_CLOEXEC);
}

int cli_refuse_kernel(void)
{
	if (errno == ENOENT)
		return cli_refuse("there is no " NXK_DEVICE "; load noexit.ko (docs/kernel.md)");
	return cli_refuse(NXK_DEVICE " cannot be opened: %s; be root or in its group",
			  strerror(errno));
}

/* ---- noexit on, noexit off ---- */

struct request {
	pid_t pid;
	unsigned long number;
};

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct request *request = state->input;
	unsigned long pid = 0;

	switch (key) {
	case ARGP_KEY_ARG:
		if (request->pid || !cli_parse_number(text, &pid) || !pid || pid > INT32_MAX)
			argp_error(state, "name one process, by its number");
		request->pid = (pid_t)pid;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "name the VMM's process, by its number");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static bool is_vm(pid_t pid, const char *number)
{
	static const char vm[] = "anon_inode:kvm-vm";
	char path[300], target[sizeof(vm)];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, number);
	length = readlink(path, target, sizeof(target));
	return length == (ssize_t)sizeof(vm) - 1 && !memcmp(target, vm, sizeof(vm) - 1);
}

/* The VM behind one of the process's descriptors: 0, or errno. */
static int switch_vm(int device, unsigned long request, int process, const char *number)
{
	int vm = (int)syscall(SYS_pidfd_getfd, process, (int)strtol(number, NULL, 10), 0), result;

	if (vm < 0)
		return errno;
	result = ioctl(device, request, (unsigned long)vm) ? errno : 0;
	close(vm);
	return result;
}

static int switch_vms(const struct request *request, int device, int process, DIR *descriptors)
{
	const struct dirent *entry;
	unsigned vms = 0;
	int error;

	while ((entry = readdir(descriptors))) {
		if (!is_vm(request->pid, entry->d_name))
			continue;
		vms++;
		error = switch_vm(device, request->number, process, entry->d_name);
		if (error == EOPNOTSUPP)
			return cli_refuse("noexit.ko keeps away from this VM; the kernel's log "
					  "says why");
		if (error)
			return cli_refuse("the VM of process %d cannot be reached: %s; be root",
					  (int)request->pid, strerror(error));
	}
	if (!vms)
		return cli_refuse("process %d has no VM", (int)request->pid);
	return 0;
}

static int switch_process(int argc, char **argv, unsigned long number, const char *doc)
{
	const struct argp parser = {.parser = parse, .args_doc = "PID", .doc = doc};
	struct request request = {.number = number};
	int device, process, result;
	DIR *descriptors;
	char path[64];

	argp_parse(&parser, argc, argv, 0, NULL, &request);
	device = cli_open_kernel();
	if (device < 0)
		return cli_refuse_kernel();
	process = (int)syscall(SYS_pidfd_open, request.pid, 0);
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)request.pid);
	descriptors = process < 0 ? NULL : opendir(path);
	result = descriptors ? switch_vms(&request, device, process, descriptors)
			     : cli_refuse("process %d cannot be looked into: %s", (int)request.pid,
					  strerror(errno));
	if (descriptors)
		closedir(descriptors);
	if (process >= 0)
		close(process);
	close(device);
	return result;
}

int cli_on(int argc, char **argv)
{
	return switch_process(argc, argv, NXK_ENABLE,
			      "Has noexit.ko avoid exits of a VMM's VMs, however it was started.");
}

int cli_off(int argc, char **argv)
{
	return switch_process(argc, argv, NXK_DISABLE,
			      "Has noexit.ko leave a VMM's VMs alone from here on.");
}
