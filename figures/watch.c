/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* watch.c - see watch.h. */
#define _GNU_SOURCE
#include "watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "device.h"

#define LINK "/memfd:" NX_SHARE_NAME " (deleted)"
#define MAX_VMS 256

/* ---- One VM's file ---- */

struct mapped {
	const struct nx_share_header *header;
	size_t size;
	unsigned slots;
};

static void unmap(struct mapped *mapped)
{
	munmap((void *)mapped->header, mapped->size);
}

/* Return the size of a file of the library's, or 0. The seal keeps the VMM from shrinking the file
 * under the mapping. */
static size_t size_of(int fd)
{
	struct stat status;
	int seals = fcntl(fd, F_GET_SEALS);

	return fstat(fd, &status) || seals < 0 || !(seals & F_SEAL_SHRINK) ? 0
									   : (size_t)status.st_size;
}

static enum watch_result map(int fd, size_t size, struct mapped *mapped)
{
	void *memory;

	if (size < nx_share_slot_offset(0))
		return WATCH_OTHER_VERSION;
	mapped->size = size;
	memory = mmap(NULL, mapped->size, PROT_READ, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return WATCH_NO_MEMORY;
	mapped->header = memory;
	mapped->slots = (unsigned)((mapped->size - nx_share_slot_offset(0)) /
				   (nx_share_slot_offset(1) - nx_share_slot_offset(0)));
	if (__atomic_load_n(&mapped->header->magic, __ATOMIC_ACQUIRE) != NX_SHARE_MAGIC ||
	    mapped->header->version != NX_SHARE_VERSION ||
	    mapped->header->header_size != sizeof(struct nx_share_header) ||
	    mapped->header->slot_size != sizeof(struct nx_share_vcpu)) {
		unmap(mapped);
		return WATCH_OTHER_VERSION;
	}
	return WATCH_OK;
}

static const struct nx_share_vcpu *slot_of(const struct mapped *mapped, unsigned slot)
{
	return (const struct nx_share_vcpu *)(const void *)((const char *)mapped->header +
							    nx_share_slot_offset(slot));
}

/* ---- Copying ---- */

static void copy_text(char *to, const char *from, size_t size)
{
	memcpy(to, from, size);
	to[size - 1] = 0;
	for (; *to; to++) {
		if (*to < 32 || *to > 126)
			*to = '?';
	}
}

static void copy_figures(struct nx_figures *to, const struct nx_figures *from)
{
	*to = *from;
	if (to->host.kvm_stats > NX_KVM_STATS)
		to->host.kvm_stats = 0;
	for (unsigned i = 0; i < to->host.kvm_stats; i++)
		copy_text(to->host.kvm_stat[i].name, from->host.kvm_stat[i].name,
			  sizeof(to->host.kvm_stat[i].name));
}

struct copying {
	struct watch *watch;
	bool clusters;
	bool kernel; /* from noexit.ko */
};

static void add(struct copying *copying, const struct nx_figures *figures)
{
	nx_figures_add(copying->kernel ? &copying->watch->kernel : &copying->watch->total, figures);
}

static bool copy_vcpu(struct copying *copying, const struct mapped *mapped, unsigned slot)
{
	struct watch *watch = copying->watch;
	bool clusters = copying->clusters;
	const struct nx_share_vcpu *from = slot_of(mapped, slot);
	struct watch_vcpu *to, *more;

	if (!__atomic_load_n(&from->living, __ATOMIC_ACQUIRE))
		return true;
	more = realloc(watch->vcpu, (watch->vcpus + 1) * sizeof(*more));
	if (!more)
		return false;
	watch->vcpu = more;
	to = &more[watch->vcpus];
	to->vm = mapped->header->vm;
	to->kernel = copying->kernel;
	to->number = from->number;
	copy_text(to->off, *mapped->header->off ? mapped->header->off : from->off, sizeof(to->off));
	copy_figures(&to->figures, &from->figures);
	to->clusters = clusters ? malloc(sizeof(*to->clusters)) : NULL;
	if (clusters && !to->clusters)
		return false;
	watch->vcpus++;
	watch->kernel_vcpus += copying->kernel;
	if (clusters)
		nx_share_clusters_copy(to->clusters, &from->clusters);
	add(copying, &to->figures);
	return true;
}

static enum watch_result copy_vm(struct copying *copying, int fd, size_t size)
{
	struct watch *watch = copying->watch;
	static struct nx_figures gone;
	struct mapped mapped;
	enum watch_result result = map(fd, size, &mapped);

	if (result)
		return result;
	if (!copying->kernel || !watch->library) {
		watch->vms++;
		watch->clustering |= mapped.header->clustering != 0;
		watch->vcpus_ever += mapped.header->gone;
	}
	copy_figures(&gone, &mapped.header->gone_figures);
	add(copying, &gone);
	for (unsigned i = 0; i < mapped.slots && !result; i++) {
		if (!copy_vcpu(copying, &mapped, i))
			result = WATCH_NO_MEMORY;
	}
	unmap(&mapped);
	return result;
}

static int compare_vcpus(const void *a, const void *b)
{
	const struct watch_vcpu *left = a, *right = b;

	if (left->vm != right->vm)
		return left->vm < right->vm ? -1 : 1;
	if (left->number != right->number)
		return left->number < right->number ? -1 : 1;
	return left->kernel - right->kernel;
}

/* ---- Processes ---- */

/* Return whether the library shows VMs of the process. */
static enum watch_result has_library(pid_t pid)
{
	enum watch_result result = WATCH_NO_VM;
	char path[64], *line = NULL;
	size_t size = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	if (!maps)
		return errno == ENOENT ? WATCH_NO_PROCESS : WATCH_NO_RIGHT;
	while (result && getline(&line, &size, maps) > 0) {
		if (strstr(line, LINK))
			result = WATCH_OK;
	}
	free(line);
	fclose(maps);
	return result;
}

static bool is_counters(int directory, const char *name)
{
	char target[sizeof(LINK)];
	ssize_t length = readlinkat(directory, name, target, sizeof(target));

	return length == sizeof(LINK) - 1 && !memcmp(target, LINK, sizeof(LINK) - 1);
}

/* Copy from each of the process's counter files, until one cannot be copied. With copying NULL only
 * tell whether there is one. */
static enum watch_result visit_files(pid_t pid, struct copying *copying)
{
	enum watch_result result = WATCH_OK;
	unsigned found = 0;
	struct dirent *entry;
	char path[64];
	DIR *directory;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	directory = opendir(path);
	if (!directory)
		return errno == ENOENT ? WATCH_NO_PROCESS : WATCH_NO_RIGHT;
	while (!result && found < MAX_VMS && (entry = readdir(directory))) {
		int fd;

		if (!is_counters(dirfd(directory), entry->d_name))
			continue;
		fd = openat(dirfd(directory), entry->d_name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		result = copying ? copy_vm(copying, fd, size_of(fd)) : WATCH_OK;
		found++;
		close(fd);
	}
	closedir(directory);
	return result || found ? result : WATCH_NO_VM;
}

/* Do the same for the VMs that noexit.ko shows. */
static enum watch_result visit_kernel(pid_t pid, struct copying *copying)
{
	int device = open(NXK_DEVICE, O_RDONLY | O_CLOEXEC);
	struct nxk_watch request = {.process = pid};
	enum watch_result result = WATCH_OK;

	if (device < 0)
		return WATCH_NO_VM;
	for (; !result && request.number < MAX_VMS; request.number++) {
		int fd = ioctl(device, NXK_WATCH, &request);

		if (fd < 0) {
			if (errno == EACCES)
				result = WATCH_NO_RIGHT;
			break;
		}
		result = copying ? copy_vm(copying, fd, request.size) : WATCH_OK;
		close(fd);
	}
	close(device);
	return result || request.number ? result : WATCH_NO_VM;
}

enum watch_result watch_is_shown(pid_t pid)
{
	enum watch_result library = has_library(pid), kernel;

	if (library == WATCH_OK || library == WATCH_NO_PROCESS)
		return library;
	kernel = visit_kernel(pid, NULL);
	return kernel == WATCH_NO_VM ? library : kernel;
}

void watch_command(pid_t pid, char *to, size_t size)
{
	char path[64], text[64] = "?";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	file = fopen(path, "re");
	if (file) {
		if (fgets(text, sizeof(text), file))
			text[strcspn(text, "\n")] = 0;
		fclose(file);
	}
	copy_text(to, text, size);
}

bool watch_counts(const struct watch *watch, const struct watch_vcpu *vcpu)
{
	return !vcpu->kernel || !watch->library;
}

unsigned watch_counted(const struct watch *watch)
{
	return watch->library ? watch->vcpus - watch->kernel_vcpus : watch->vcpus;
}

/* Copy what the library shows, and then what noexit.ko does. */
static enum watch_result copy_both(pid_t pid, struct copying *copying)
{
	struct watch *watch = copying->watch;
	enum watch_result library = WATCH_NO_VM, kernel;

	if (has_library(pid) == WATCH_OK)
		library = visit_files(pid, copying);
	if (library != WATCH_OK && library != WATCH_NO_VM)
		return library;
	watch->library = library == WATCH_OK;
	copying->kernel = true;
	kernel = visit_kernel(pid, copying);
	if (!watch->library)
		watch->total = watch->kernel;
	return watch->library && kernel == WATCH_NO_VM ? WATCH_OK : kernel;
}

enum watch_result watch_read(pid_t pid, bool clusters, struct watch *watch)
{
	struct copying copying = {.watch = watch, .clusters = clusters};
	enum watch_result result;
	struct timespec time;

	memset(watch, 0, sizeof(*watch));
	watch->pid = pid;
	result = watch_is_shown(pid);
	if (!result) {
		watch_command(pid, watch->command, sizeof(watch->command));
		clock_gettime(CLOCK_MONOTONIC, &time);
		watch->time_ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
		result = copy_both(pid, &copying);
	}
	if (result) {
		watch_free(watch);
		return result;
	}
	watch->vcpus_ever += watch_counted(watch);
	qsort(watch->vcpu, watch->vcpus, sizeof(*watch->vcpu), compare_vcpus);
	return WATCH_OK;
}

void watch_free(struct watch *watch)
{
	for (unsigned i = 0; i < watch->vcpus; i++)
		free(watch->vcpu[i].clusters);
	free(watch->vcpu);
	watch->vcpu = NULL;
	watch->vcpus = 0;
}

enum watch_result watch_has_vm(pid_t pid)
{
	if (has_library(pid) == WATCH_OK && visit_files(pid, NULL) == WATCH_OK)
		return WATCH_OK;
	return visit_kernel(pid, NULL);
}

/* ---- What figures are called ---- */

void watch_class_name(unsigned class, unsigned classes, char *name, size_t size)
{
	unsigned first = class ? 1u << (class - 1) : 0, last = class ? 2 * first - 1 : 0;

	if (class == classes - 1)
		snprintf(name, size, "%u+", first);
	else if (first == last)
		snprintf(name, size, "%u", first);
	else
		snprintf(name, size, "%u-%u", first, last);
}
