/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* watch.c - see watch.h. */
#define _GNU_SOURCE
#include "watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

/* The seal keeps the VMM from shrinking the file under the mapping. */
static enum watch_result map(int fd, struct mapped *mapped)
{
	struct stat status;
	int seals = fcntl(fd, F_GET_SEALS);
	void *memory;

	if (fstat(fd, &status) || seals < 0 || !(seals & F_SEAL_SHRINK) ||
	    (size_t)status.st_size < nx_share_slot_offset(0))
		return WATCH_OTHER_VERSION;
	mapped->size = (size_t)status.st_size;
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

static bool copy_vcpu(struct watch *watch, const struct mapped *mapped, unsigned slot,
		      bool clusters)
{
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
	to->number = from->number;
	copy_text(to->off, *mapped->header->off ? mapped->header->off : from->off, sizeof(to->off));
	copy_figures(&to->figures, &from->figures);
	to->clusters = clusters ? malloc(sizeof(*to->clusters)) : NULL;
	if (clusters && !to->clusters)
		return false;
	watch->vcpus++;
	if (clusters)
		nx_share_clusters_copy(to->clusters, &from->clusters);
	nx_figures_add(&watch->total, &to->figures);
	return true;
}

static enum watch_result copy_vm(struct watch *watch, int fd, bool clusters)
{
	static struct nx_figures gone;
	struct mapped mapped;
	enum watch_result result = map(fd, &mapped);

	if (result)
		return result;
	watch->vms++;
	watch->clustering |= mapped.header->clustering != 0;
	watch->vcpus_ever += mapped.header->gone;
	copy_figures(&gone, &mapped.header->gone_figures);
	nx_figures_add(&watch->total, &gone);
	for (unsigned i = 0; i < mapped.slots && !result; i++) {
		if (!copy_vcpu(watch, &mapped, i, clusters))
			result = WATCH_NO_MEMORY;
	}
	unmap(&mapped);
	return result;
}

static int compare_vcpus(const void *a, const void *b)
{
	const struct watch_vcpu *left = a, *right = b;

	return left->vm != right->vm
		   ? (left->vm < right->vm ? -1 : 1)
		   : (left->number > right->number) - (left->number < right->number);
}

/* ---- Processes ---- */

enum watch_result watch_is_shown(pid_t pid)
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

/* Call visit with each of the process's counter files, open, until a call returns something
 * other than WATCH_OK. */
static enum watch_result visit_files(pid_t pid, enum watch_result (*visit)(int fd, void *data),
				     void *data)
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
		result = visit ? visit(fd, data) : WATCH_OK;
		found++;
		close(fd);
	}
	closedir(directory);
	return result || found ? result : WATCH_NO_VM;
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

struct copying {
	struct watch *watch;
	bool clusters;
};

static enum watch_result visit_copy(int fd, void *data)
{
	struct copying *copying = data;

	return copy_vm(copying->watch, fd, copying->clusters);
}

enum watch_result watch_read(pid_t pid, bool clusters, struct watch *watch)
{
	struct copying copying = {watch, clusters};
	enum watch_result result;
	struct timespec time;

	memset(watch, 0, sizeof(*watch));
	watch->pid = pid;
	result = watch_is_shown(pid);
	if (!result) {
		watch_command(pid, watch->command, sizeof(watch->command));
		clock_gettime(CLOCK_MONOTONIC, &time);
		watch->time_ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
		result = visit_files(pid, visit_copy, &copying);
	}
	if (result) {
		watch_free(watch);
		return result;
	}
	watch->vcpus_ever += watch->vcpus;
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
	enum watch_result result = watch_is_shown(pid);

	return result ? result : visit_files(pid, NULL, NULL);
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

uint64_t watch_avoided(const struct nx_stats *stats, unsigned reason)
{
	return reason == KVM_EXIT_IO     ? stats->avoided[NX_CLASS_IO]
	       : reason == KVM_EXIT_MMIO ? stats->avoided[NX_CLASS_MMIO]
					 : 0;
}
