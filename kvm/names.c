/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * names.c - name translations for profilers and debuggers, if --perf-map or --gdb asks for it.
 *
 * perf reads /tmp/perf-PID.map. That format cannot end a name's lifetime, so a flushed translation
 * stays in the file beside the one that took its place. GDB learns of one object file in memory for
 * each translation, through the descriptor and the function that it finds by name (GDB's manual,
 * "JIT Compilation Interface").
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"

#define NAME_SIZE 48

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void name_of(const struct nx_share_cluster *cluster, char *name)
{
	snprintf(name, NAME_SIZE, "noexit_%" PRIx64 "_%ubit", cluster->entry_rip, cluster->bits);
}

/* ---- perf ---- */

/*
 * Everybody may write to the directory. An existing file is therefore removed first, and lines are
 * later added only to the file that was made here.
 */
static int map_open(void)
{
	static ino_t inode;
	struct stat status;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	if (!inode)
		unlink(path);
	fd = open(path,
		  O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC | (inode ? 0 : O_CREAT | O_EXCL),
		  0644);
	if (fd >= 0 && !fstat(fd, &status) && (!inode || inode == status.st_ino)) {
		inode = status.st_ino;
		return fd;
	}
	if (fd >= 0)
		nx_real.close(fd);
	return -1;
}

static void map_add(const struct nx_share_cluster *cluster)
{
	static bool told;
	char line[128], name[NAME_SIZE];
	int fd = map_open(), length;

	name_of(cluster, name);
	length = snprintf(line, sizeof(line), "%" PRIx64 " %x %s\n", cluster->code,
			  cluster->code_bytes, name);
	if ((fd < 0 || write(fd, line, (size_t)length) != length) && !told) {
		nx_say(
		    "translations have no names for perf: /tmp/perf-%d.map cannot be written: %s",
		    (int)getpid(), strerror(errno));
		told = true;
	}
	if (fd >= 0)
		nx_real.close(fd);
}

/* ---- GDB ---- */

enum { JIT_NOTHING, JIT_REGISTER, JIT_UNREGISTER };

struct jit_code_entry {
	struct jit_code_entry *next, *prev;
	const void *symfile;
	uint64_t symfile_size;
};

struct jit_descriptor {
	uint32_t version, action;
	struct jit_code_entry *relevant, *first;
};

/* GDB looks these up by their names, in this library's own symbols. */
static struct jit_descriptor __jit_debug_descriptor __attribute__((used)) = {.version = 1};

static __attribute__((noinline, used)) void __jit_debug_register_code(void)
{
	__asm__ volatile("" ::: "memory");
}

enum { SECTION_NONE, SECTION_TEXT, SECTION_SYMBOLS, SECTION_STRINGS, SECTIONS };

/* Lay out an object file with one function, whose code is elsewhere in memory. */
struct object {
	struct jit_code_entry entry;
	const struct nx_kvm_vcpu *vcpu;
	struct {
		Elf64_Ehdr header;
		Elf64_Shdr section[SECTIONS];
		Elf64_Sym symbol[2];
		char strings[64 + NAME_SIZE];
	} file;
};

/* The string table begins with the sections' names; sh_name is a place in it. */
static const struct section_names {
	char none[1];
	char text[sizeof(".text")], symbols[sizeof(".symtab")], strings[sizeof(".strtab")];
} section_names = {"", ".text", ".symtab", ".strtab"};

#define IN_FILE(member) offsetof(struct object, file.member) - offsetof(struct object, file)

static void object_fill(struct object *object, const struct nx_share_cluster *cluster)
{
	Elf64_Ehdr *header = &object->file.header;
	Elf64_Shdr *section = object->file.section;

	memcpy(object->file.strings, &section_names, sizeof(section_names));
	name_of(cluster, object->file.strings + sizeof(section_names));
	memcpy(header->e_ident, ELFMAG, SELFMAG);
	header->e_ident[EI_CLASS] = ELFCLASS64;
	header->e_ident[EI_DATA] = ELFDATA2LSB;
	header->e_ident[EI_VERSION] = EV_CURRENT;
	header->e_type = ET_EXEC;
	header->e_machine = EM_X86_64;
	header->e_version = EV_CURRENT;
	header->e_shoff = IN_FILE(section);
	header->e_ehsize = sizeof(*header);
	header->e_shentsize = sizeof(*section);
	header->e_shnum = SECTIONS;
	header->e_shstrndx = SECTION_STRINGS;
	section[SECTION_TEXT] = (Elf64_Shdr){.sh_name = offsetof(struct section_names, text),
					     .sh_type = SHT_NOBITS,
					     .sh_flags = SHF_EXECINSTR | SHF_ALLOC,
					     .sh_addr = cluster->code,
					     .sh_size = cluster->code_bytes,
					     .sh_addralign = 1};
	section[SECTION_SYMBOLS] = (Elf64_Shdr){.sh_name = offsetof(struct section_names, symbols),
						.sh_type = SHT_SYMTAB,
						.sh_offset = IN_FILE(symbol),
						.sh_size = sizeof(object->file.symbol),
						.sh_link = SECTION_STRINGS,
						.sh_info = 1,
						.sh_entsize = sizeof(Elf64_Sym)};
	section[SECTION_STRINGS] = (Elf64_Shdr){.sh_name = offsetof(struct section_names, strings),
						.sh_type = SHT_STRTAB,
						.sh_offset = IN_FILE(strings),
						.sh_size = sizeof(object->file.strings)};
	object->file.symbol[1] = (Elf64_Sym){.st_name = sizeof(section_names),
					     .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
					     .st_shndx = SECTION_TEXT,
					     .st_value = cluster->code,
					     .st_size = cluster->code_bytes};
}

static void tell(struct jit_code_entry *entry, uint32_t action)
{
	__jit_debug_descriptor.relevant = entry;
	__jit_debug_descriptor.action = action;
	__jit_debug_register_code();
}

static void object_add(const struct nx_kvm_vcpu *vcpu, const struct nx_share_cluster *cluster)
{
	struct object *object = calloc(1, sizeof(*object));

	if (!object)
		return;
	object->vcpu = vcpu;
	object_fill(object, cluster);
	object->entry.symfile = &object->file;
	object->entry.symfile_size = sizeof(object->file);
	object->entry.next = __jit_debug_descriptor.first;
	if (object->entry.next)
		object->entry.next->prev = &object->entry;
	__jit_debug_descriptor.first = &object->entry;
	tell(&object->entry, JIT_REGISTER);
}

static void object_remove(struct jit_code_entry *entry)
{
	if (entry->next)
		entry->next->prev = entry->prev;
	if (entry->prev)
		entry->prev->next = entry->next;
	else
		__jit_debug_descriptor.first = entry->next;
	tell(entry, JIT_UNREGISTER);
	free(entry);
}

/* ---- Both ---- */

void nx_names_add(const struct nx_kvm_vcpu *vcpu, const struct nx_share_cluster *cluster)
{
	if (!nx_options.perf_map && !nx_options.gdb)
		return;
	pthread_mutex_lock(&lock);
	if (nx_options.perf_map)
		map_add(cluster);
	if (nx_options.gdb)
		object_add(vcpu, cluster);
	pthread_mutex_unlock(&lock);
}

void nx_names_forget(const struct nx_kvm_vcpu *vcpu)
{
	struct jit_code_entry *next;

	if (!nx_options.gdb)
		return;
	pthread_mutex_lock(&lock);
	for (struct jit_code_entry *at = __jit_debug_descriptor.first; at; at = next) {
		next = at->next;
		if (((struct object *)at)->vcpu == vcpu)
			object_remove(at);
	}
	pthread_mutex_unlock(&lock);
}
