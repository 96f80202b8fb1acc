// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * reader.c - writes offsets.h from the type information (BTF) of the installed modules:
 * reader RELEASE KERNEL KVM KVM_AMD KVM_INTEL
 *
 * KERNEL is a vmlinuz, a vmlinux or /sys/kernel/btf/vmlinux; the modules may be packed with xz. A
 * module's types continue the kernel's: numbers and string offsets go on where those end.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fields.h"

#define BTF_MAGIC 0xeb9f
#define SETUP_SECTS 0x1f1 /* Documentation/x86/boot.rst */
#define BOOT_MAGIC 0x202
#define BOOT_MAGIC_VALUE 0x53726448 /* "HdrS" */
#define PAYLOAD_OFFSET 0x248
#define PAYLOAD_LENGTH 0x24c

struct bytes {
	uint8_t *data;
	size_t size;
};

struct btf_header {
	uint16_t magic;
	uint8_t version, flags;
	uint32_t hdr_len, type_off, type_len, str_off, str_len;
};

struct btf_type {
	uint32_t name, info, size;
};

struct btf_member {
	uint32_t name, type, offset;
};

/* The types of one file; the base of a module's types are the kernel's. */
struct btf {
	const struct btf *base;
	const char *strings;
	uint32_t strings_begin, strings_end;
	const struct btf_type **type;
	uint32_t begin, end;
};

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("offsets: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(1);
}

/* ---- Files ---- */

static struct bytes read_all(FILE *file, const char *path)
{
	struct bytes bytes = {0};
	size_t room = 0, got;

	do {
		if (bytes.size == room) {
			room = room ? 2 * room : 1 << 20;
			bytes.data = realloc(bytes.data, room);
			if (!bytes.data)
				die("out of memory while %s is read", path);
		}
		got = fread(bytes.data + bytes.size, 1, room - bytes.size, file);
		bytes.size += got;
	} while (got);
	return bytes;
}

/* A kernel is packed with the program that its configuration names; 4 bytes of length follow. */
static const struct packer {
	const char *magic;
	unsigned length;
	const char *command;
} packers[] = {
    {"\xfd"
     "7zXZ",
     5, "xz -dc --single-stream"},
    {"\x02!L\x18", 4, "lz4 -dc"},
    {"\x28\xb5\x2f\xfd", 4, "zstd -dc"},
    {"\x1f\x8b", 2, "gzip -dc"},
};

static struct bytes unpack(struct bytes packed, const char *with, const char *path)
{
	char name[] = "/tmp/noexit-offsets-XXXXXX", command[128];
	struct bytes bytes;
	int fd = mkstemp(name);
	FILE *pipe;

	if (fd < 0 || write(fd, packed.data, packed.size) != (ssize_t)packed.size)
		die("no temporary file can be written for %s", path);
	close(fd);
	snprintf(command, sizeof(command), "%s <%s 2>/dev/null", with, name);
	pipe = popen(command, "r");
	if (!pipe)
		die("%s cannot be run", with);
	bytes = read_all(pipe, path);
	pclose(pipe);
	unlink(name);
	free(packed.data);
	if (!bytes.size)
		die("%s cannot be unpacked with '%s'; is that installed?", path, with);
	return bytes;
}

static uint32_t word_at(struct bytes bytes, size_t offset)
{
	uint32_t word = 0;

	if (offset + sizeof(word) <= bytes.size)
		memcpy(&word, bytes.data + offset, sizeof(word));
	return word;
}

static struct bytes load(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct bytes bytes;

	if (!file)
		die("%s cannot be read", path);
	bytes = read_all(file, path);
	fclose(file);
	if (word_at(bytes, BOOT_MAGIC) == BOOT_MAGIC_VALUE) {
		size_t sectors = bytes.data[SETUP_SECTS] ? bytes.data[SETUP_SECTS] : 4;
		size_t at = (sectors + 1) * 512 + word_at(bytes, PAYLOAD_OFFSET);
		size_t size = word_at(bytes, PAYLOAD_LENGTH);

		if (at + size > bytes.size)
			die("%s is cut short", path);
		memmove(bytes.data, bytes.data + at, size);
		bytes.size = size;
	}
	for (unsigned i = 0; i < sizeof(packers) / sizeof(packers[0]); i++)
		if (bytes.size > packers[i].length &&
		    !memcmp(bytes.data, packers[i].magic, packers[i].length))
			return unpack(bytes, packers[i].command, path);
	return bytes;
}

/* Return a section of an ELF file; data is NULL if it has none of that name. */
static struct bytes section(struct bytes file, const char *wanted)
{
	const Elf64_Ehdr *header = (const void *)file.data;
	const Elf64_Shdr *sections, *names;

	if (file.size < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) ||
	    header->e_shoff + (size_t)header->e_shnum * sizeof(*sections) > file.size)
		return (struct bytes){0};
	sections = (const void *)(file.data + header->e_shoff);
	names = &sections[header->e_shstrndx];
	for (unsigned i = 0; i < header->e_shnum; i++) {
		const char *name = (const char *)file.data + names->sh_offset + sections[i].sh_name;

		if (!strcmp(name, wanted))
			return (struct bytes){file.data + sections[i].sh_offset,
					      sections[i].sh_size};
	}
	return (struct bytes){0};
}

/* ---- Types ---- */

static unsigned kind_of(const struct btf_type *type)
{
	return type->info >> 24 & 0x1f;
}

static unsigned members_of(const struct btf_type *type)
{
	return type->info & 0xffff;
}

/* Return how many bytes follow a type's three words, by its kind (Documentation/bpf/btf.rst). */
static size_t extra(const struct btf_type *type, const char *path)
{
	unsigned count = members_of(type);

	switch (kind_of(type)) {
	case 1:  /* INT */
	case 14: /* VAR */
	case 17: /* DECL_TAG */
		return 4;
	case 3: /* ARRAY */
		return 12;
	case 4:  /* STRUCT */
	case 5:  /* UNION */
	case 15: /* DATASEC */
	case 19: /* ENUM64 */
		return 12 * (size_t)count;
	case 6:  /* ENUM */
	case 13: /* FUNC_PROTO */
		return 8 * (size_t)count;
	case 2:
	case 7:
	case 8:
	case 9:
	case 10:
	case 11:
	case 12:
	case 16:
	case 18:
		return 0;
	default:
		die("%s has type information of a kind (%u) that is not known", path,
		    kind_of(type));
	}
}

static struct btf *parse(const char *path, const struct btf *base)
{
	struct bytes file = load(path), bytes = section(file, ".BTF");
	struct btf *btf = calloc(1, sizeof(*btf));
	const struct btf_header *header;
	const uint8_t *at, *end;
	uint32_t room = 0;

	if (!bytes.data)
		bytes = file;
	header = (const void *)bytes.data;
	if (!btf || bytes.size < sizeof(*header) || header->magic != BTF_MAGIC)
		die("%s has no type information (BTF)", path);
	btf->base = base;
	btf->strings = (const char *)bytes.data + header->hdr_len + header->str_off;
	btf->strings_begin = base ? base->strings_end : 0;
	btf->strings_end = btf->strings_begin + header->str_len;
	btf->begin = btf->end = base ? base->end : 1;
	at = bytes.data + header->hdr_len + header->type_off;
	end = at + header->type_len;
	while (at < end) {
		const struct btf_type *type = (const void *)at;

		if (btf->end - btf->begin == room) {
			room = room ? 2 * room : 1 << 16;
			btf->type = realloc(btf->type, room * sizeof(*btf->type));
			if (!btf->type)
				die("out of memory");
		}
		btf->type[btf->end++ - btf->begin] = type;
		at += sizeof(*type) + extra(type, path);
	}
	return btf;
}

static const char *name_of(const struct btf *btf, uint32_t offset)
{
	while (btf->base && offset < btf->strings_begin)
		btf = btf->base;
	return btf->strings + (offset - btf->strings_begin);
}

static const struct btf_type *type_of(const struct btf *btf, uint32_t number)
{
	while (btf->base && number < btf->begin)
		btf = btf->base;
	return number < btf->begin || number >= btf->end ? NULL : btf->type[number - btf->begin];
}

static bool is_structure(const struct btf_type *type)
{
	return type && (kind_of(type) == 4 || kind_of(type) == 5);
}

/* Return the structure that a type is, through typedefs and qualifiers; NULL: it is none. */
static const struct btf_type *structure_of(const struct btf *btf, uint32_t number)
{
	const struct btf_type *type = type_of(btf, number);

	while (type && (kind_of(type) == 8 || (kind_of(type) >= 9 && kind_of(type) <= 11) ||
			kind_of(type) == 18))
		type = type_of(btf, type->size);
	return is_structure(type) ? type : NULL;
}

static const struct btf_type *find(const struct btf *btf, const char *name)
{
	for (; btf; btf = btf->base)
		for (uint32_t i = btf->begin; i < btf->end; i++) {
			const struct btf_type *type = btf->type[i - btf->begin];

			if (is_structure(type) && type->name &&
			    !strcmp(name_of(btf, type->name), name))
				return type;
		}
	return NULL;
}

/* Return the bit offset of the member of that name, also in anonymous structures, or -1. */
static int64_t member(const struct btf *btf, const struct btf_type *type, const char *name,
		      size_t length, const struct btf_type **inner)
{
	const struct btf_member *m = (const void *)(type + 1);

	for (unsigned i = 0; i < members_of(type); i++, m++) {
		int64_t bits = type->info >> 31 ? m->offset & 0xffffff : m->offset;
		const char *have = name_of(btf, m->name);
		int64_t within;

		*inner = structure_of(btf, m->type);
		if (strlen(have) == length && !memcmp(have, name, length) && length)
			return bits;
		if (!*have && *inner) {
			within = member(btf, *inner, name, length, inner);
			if (within >= 0)
				return bits + within;
		}
	}
	return -1;
}

static int64_t offset(const struct btf *btf, const char *structure, const char *path)
{
	const struct btf_type *type = find(btf, structure), *inner;
	int64_t bits = 0, step;

	while (type) {
		size_t length = strcspn(path, ".");

		step = member(btf, type, path, length, &inner);
		if (step < 0)
			return -1;
		bits += step;
		if (!path[length])
			return bits / 8;
		path += length + 1;
		type = inner;
	}
	return -1;
}

/* ---- The output ---- */

static void print_field(const struct btf *btf, const char *module, const char *structure,
			const char *path, const char *constant, bool optional)
{
	int64_t at = offset(btf, structure, path);

	if (at < 0 && !optional)
		die("%s has no field %s.%s: noexit does not know this kernel's KVM", module,
		    structure, path);
	printf("#define NXK_%s %lld\n", constant, (long long)at);
}

/*
 * Print the module's build ID, which the kernel shows for a loaded module in
 * /sys/module/NAME/notes. Debian's modules have no srcversion.
 */
static void print_build_id(const char *path, const char *module)
{
	struct bytes note = section(load(path), ".note.gnu.build-id");
	Elf64_Nhdr header;

	if (note.size < sizeof(header))
		die("%s has no build ID", path);
	memcpy(&header, note.data, sizeof(header));
	printf("#define NXK_BUILD_ID_%s \"", module);
	for (unsigned i = 0; i < header.n_descsz; i++)
		printf("%02x", note.data[sizeof(header) + (header.n_namesz + 3) / 4 * 4 + i]);
	printf("\"\n");
}

int main(int count, char **argument)
{
	const struct btf *kernel, *kvm, *kvm_amd, *kvm_intel;

	if (count != 6)
		die("usage: reader RELEASE KERNEL KVM KVM_AMD KVM_INTEL");
	kernel = parse(argument[2], NULL);
	kvm = parse(argument[3], kernel);
	kvm_amd = parse(argument[4], kernel);
	kvm_intel = parse(argument[5], kernel);
	printf("/* Made by offsets/reader.c for this kernel alone. */\n"
	       "#define NXK_RELEASE \"%s\"\n",
	       argument[1]);
	print_build_id(argument[3], "kvm");
	print_build_id(argument[4], "kvm_amd");
	print_build_id(argument[5], "kvm_intel");
#define NX_X(module, structure, path, constant) \
	print_field(module, #module, #structure, #path, #constant, false);
#define NX_O(module, structure, path, constant) \
	print_field(module, #module, #structure, #path, #constant, true);
	NXK_FIELDS(NX_X, NX_O)
#undef NX_X
#undef NX_O
	return 0;
}
