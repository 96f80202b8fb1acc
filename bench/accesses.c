/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * accesses.c - a plugin for QEMU's emulator (not for KVM): how many guest instructions lie between
 * one access that would exit to the VMM and the next.
 *
 * It sees what noexit cannot: the way to exits that hardware delivers. What counts as an exit is
 * what KVM with its interrupt controllers and timer in the kernel leaves to the VMM: port
 *instructions, but for constant ports of those devices, and device memory, but for theirs. Which
 *port a register names is not seen here; kernels and firmware name those devices by constants.
 *
 *	qemu-system-x86_64 -accel tcg -plugin libaccesses.so,out=FILE ...
 *
 * FILE gets an object with the keys of `noexit run --stats`. One processor.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/*
 * Of qemu-plugin.h, which Debian does not package: version 1, which QEMU 7 has, and version 4,
 * which QEMU 10 has and which no longer knows the other. A name that only one of them has is weak.
 */
#define VERSION_OLD 1
#define VERSION_NEW 4
typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_hwaddr;
enum { QEMU_PLUGIN_CB_NO_REGS = 0, QEMU_PLUGIN_MEM_RW = 3, QEMU_PLUGIN_INLINE_ADD_U64 = 0 };
#define EXPORT __attribute__((visibility("default")))
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t at);
struct qemu_plugin_scoreboard;
typedef struct {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
} qemu_plugin_u64;
/* The old one returns the bytes and takes the instruction alone. */
extern void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t size);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
						  void (*call)(qemu_plugin_id_t id,
							       struct qemu_plugin_tb *tb));
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
						   void (*call)(unsigned vcpu, void *data),
						   int flags, void *data);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op,
						       void *counter, uint64_t add)
    __attribute__((weak));
extern struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t size) __attribute__((weak));
extern void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned vcpu)
    __attribute__((weak));
extern void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *insn,
								int op, qemu_plugin_u64 counter,
								uint64_t add) __attribute__((weak));
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
					     void (*call)(unsigned vcpu, qemu_plugin_meminfo_t info,
							  uint64_t address, void *data),
					     int flags, int direction, void *data);
extern struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t info,
							 uint64_t address);
extern bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *address);
extern uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *address);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id,
					   void (*call)(qemu_plugin_id_t id, void *data),
					   void *data);
EXPORT int qemu_plugin_version = VERSION_OLD;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

#define CLASSES 11 /* NX_DISTANCES */

static uint64_t old_counter;
static qemu_plugin_u64 counter; /* of the new interface */
static uint64_t last;           /* the number of the last instruction that accessed, or 0 */
static uint64_t class[CLASSES];
static const char *out;

/* QEMU looks at the version once this has been loaded. */
__attribute__((constructor)) static void choose_version(void)
{
	if (!qemu_plugin_register_vcpu_insn_exec_inline)
		qemu_plugin_version = VERSION_NEW;
}

static bool is_old(void)
{
	return qemu_plugin_version == VERSION_OLD;
}

/* Counted so far. */
static uint64_t instructions(void)
{
	return is_old() ? old_counter : *(uint64_t *)qemu_plugin_scoreboard_find(counter.score, 0);
}

static void count(struct qemu_plugin_insn *insn)
{
	if (is_old())
		qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64,
							   &old_counter, 1);
	else
		qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
		    insn, QEMU_PLUGIN_INLINE_ADD_U64, counter, 1);
}

static void note_access(uint64_t number)
{
	/* An instruction that accesses twice exits twice, with nothing between. */
	uint64_t between = number > last ? number - last - 1 : 0;
	unsigned at = 0;

	while (between && at < CLASSES - 1) {
		between >>= 1;
		at++;
	}
	if (last)
		class[at]++;
	last = number;
}

static void on_port(unsigned vcpu, void *data)
{
	(void)vcpu, (void)data;
	/* Called before the present instruction is counted. */
	note_access(instructions() + 1);
}

static void on_memory(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
	const struct qemu_plugin_hwaddr *where = qemu_plugin_get_hwaddr(info, address);
	uint64_t page;

	(void)vcpu, (void)data;
	if (!where || !qemu_plugin_hwaddr_is_io(where))
		return;
	page = qemu_plugin_hwaddr_phys_addr(where) >> 12;
	if (page != 0xfee00 && page != 0xfec00)
		note_access(instructions());
}

static bool is_kernels_port(unsigned port)
{
	return (port & ~0x81u) == 0x20 || (port & ~3u) == 0x40;
}

/* An IN, OUT, INS or OUTS that is for the VMM. */
static bool is_port_access(const uint8_t *code, size_t size)
{
	static const uint8_t prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0x2e,
					   0x36, 0x3e, 0x26, 0x64, 0x65};
	size_t at = 0;

	/* With REX, which 32-bit code has as INC and DEC: those access nothing. */
	while (at < size &&
	       (memchr(prefixes, code[at], sizeof(prefixes)) || (code[at] & 0xf0) == 0x40))
		at++;
	if (at == size)
		return false;
	if ((code[at] & 0xfc) == 0xe4)
		return at + 1 < size && !is_kernels_port(code[at + 1]);
	return (code[at] & 0xfc) == 0xec || (code[at] & 0xfc) == 0x6c;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	(void)id;
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		size_t size = qemu_plugin_insn_size(insn);
		uint8_t bytes[16] = {0};
		const void *data = qemu_plugin_insn_data(insn, bytes, sizeof(bytes));

		/* Before it is counted: the new interface calls in the order of registration. */
		if (is_port_access(is_old() ? data : bytes, size))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_port,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
		count(insn);
		qemu_plugin_register_vcpu_mem_cb(insn, on_memory, QEMU_PLUGIN_CB_NO_REGS,
						 QEMU_PLUGIN_MEM_RW, NULL);
	}
}

static void at_exit(qemu_plugin_id_t id, void *data)
{
	FILE *file = fopen(out, "we");
	uint64_t sum = 0;

	(void)id, (void)data;
	if (!file)
		return;
	for (unsigned i = 0; i < CLASSES; i++)
		sum += class[i];
	fprintf(file, "{\"exits_taken\": %" PRIu64 ", \"exits_avoided\": 0, \"distance\": [", sum);
	for (unsigned i = 0; i < CLASSES; i++)
		fprintf(file, "%s%" PRIu64, i ? ", " : "", class[i]);
	fprintf(file, "]}\n");
	fclose(file);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4) != 0)
		return -1;
	out = strdup(argv[0] + 4);
	if (!is_old())
		counter.score = qemu_plugin_scoreboard_new(sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	qemu_plugin_register_atexit_cb(id, at_exit, NULL);
	return out ? 0 : -1;
}
