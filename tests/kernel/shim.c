// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * shim.c - runs the test sources of tests/clusters without libc and without cmocka.
 *
 * Each test's line ends with a digest of the final states of its guests: registers, memory, device
 * accesses, reasons for leaving, clusters. So two runs that print the same lines had the same
 * results, beyond both having passed.
 */
#include "groups.h"
#include "selftest.h"

#include "mock.h"

#include "shim/stdlib.h"
#include "shim/sys/mman.h"
#include "shim/unistd.h"

int shim_save(uint64_t state[8]) __attribute__((returns_twice));
void shim_leave(const uint64_t state[8]);

/* The build generates groups.h from the file groups, which lists the test sources. Each source has
 * its main() under this name. */
#define NX_X(name) int selftest_group_##name(void);
GROUPS(NX_X)
#undef NX_X

#define MAX_BLOCKS 64
#define FIRST_FILE 3 /* the lowest number that is not a standard stream */
#define MAX_FILES 8

/* All memory, which is freed after a test that has failed as well. */
static void *block[MAX_BLOCKS];
static struct file {
	struct selftest_code code;
	bool used;
	unsigned mappings;
} file[MAX_FILES];

static uint64_t out[8]; /* shim_save() */
static enum { RUNNING, SKIPPED, FAILED } verdict;
static uint64_t digest;
static unsigned passed, failed, skipped;

struct line {
	char text[240];
	size_t used;
};

static void add(struct line *line, const char *text)
{
	while (*text && line->used < sizeof(line->text) - 1)
		line->text[line->used++] = *text++;
	line->text[line->used] = 0;
}

static void add_number(struct line *line, uint64_t number, unsigned base)
{
	char digits[24];
	unsigned at = sizeof(digits) - 1;

	digits[at] = 0;
	do
		digits[--at] = "0123456789abcdef"[number % base];
	while (number /= base);
	add(line, digits + at);
}

/* ---- Memory ---- */

void *shim_calloc(size_t count, size_t size)
{
	for (unsigned i = 0; i < MAX_BLOCKS; i++)
		if (!block[i])
			return block[i] = selftest_alloc(count * size);
	return NULL;
}

void shim_free(void *memory)
{
	for (unsigned i = 0; i < MAX_BLOCKS; i++)
		if (block[i] == memory && memory) {
			selftest_free(memory);
			block[i] = NULL;
			return;
		}
}

int shim_memfd_create(const char *name, unsigned flags)
{
	(void)name;
	(void)flags;
	for (int i = 0; i < MAX_FILES; i++)
		if (!file[i].used) {
			file[i].used = true;
			return i + FIRST_FILE;
		}
	return -1;
}

int shim_ftruncate(int number, long size)
{
	return selftest_code_make(&file[number - FIRST_FILE].code, (unsigned long)size) ? 0 : -1;
}

void *shim_mmap(void *where, size_t size, int protection, int flags, int number, long offset)
{
	void *memory;

	(void)where;
	(void)offset;
	if (flags & MAP_ANONYMOUS) {
		memory = shim_calloc(1, size);
		return memory ? memory : MAP_FAILED;
	}
	file[number - FIRST_FILE].mappings++;
	return protection & PROT_EXEC ? file[number - FIRST_FILE].code.rx
				      : file[number - FIRST_FILE].code.rw;
}

static void free_file(struct file *f)
{
	if (f->code.size)
		selftest_code_free(&f->code);
	memset(f, 0, sizeof(*f));
}

int shim_munmap(void *memory, size_t size)
{
	(void)size;
	for (unsigned i = 0; i < MAX_FILES; i++)
		if (file[i].used && (file[i].code.rw == memory || file[i].code.rx == memory)) {
			if (--file[i].mappings == 0)
				free_file(&file[i]);
			return 0;
		}
	shim_free(memory);
	return 0;
}

static void free_all(void)
{
	for (unsigned i = 0; i < MAX_BLOCKS; i++)
		if (block[i])
			shim_free(block[i]);
	for (unsigned i = 0; i < MAX_FILES; i++)
		free_file(&file[i]);
}

/* ---- The digest of a guest's final state ---- */

static void fold(uint64_t value)
{
	digest = (digest ^ value) * 0x9e3779b97f4a7c15ull;
	digest ^= digest >> 29;
}

static void fold_memory(const void *memory, size_t size)
{
	const uint64_t *word = memory;

	for (size_t i = 0; i < size / 8; i++)
		if (word[i])
			fold(word[i] + i);
}

static void fold_results(const struct mock *m)
{
	const struct nx_state *state = nx_engine_state(m->engine);
	const struct nx_cluster *cluster = NULL;

	fold(m->exits);
	for (unsigned i = 0; i < m->exits; i++) {
		fold(m->log[i].kind);
		fold((uint64_t)m->log[i].write << 8 | m->log[i].size);
		fold(m->log[i].where);
		fold(m->log[i].data);
	}
	fold(m->reason);
	fold_memory(state->gpr, sizeof(state->gpr));
	fold(state->rip);
	fold(state->rflags);
	fold_memory(m->ram, MOCK_RAM_SIZE);
	fold_memory(nx_engine_counters(m->engine), sizeof(struct nx_counters));
	while ((cluster = nx_cluster_next(m->engine, cluster))) {
		struct nx_cluster_info info;

		nx_cluster_describe(cluster, &info);
		fold(info.entry_rip);
		fold((uint64_t)info.instructions << 32 | info.exiting);
		fold((uint64_t)info.blocks << 32 | info.code_bytes);
		fold(info.executions);
	}
}

/* The test sources call this mock_free(). */
void selftest_mock_free(struct mock *m);
void selftest_mock_free(struct mock *m)
{
	fold_results(m);
	mock_free(m);
}

/*
 * Comparing with native code needs segments of the process's own, so only the user-space run of the
 * same tests does it. Here the state goes into the digest instead.
 */
bool mock_check_native(const struct mock *m)
{
	fold_results(m);
	return true;
}

/* ---- Tests ---- */

static const char *base_name(const char *path)
{
	const char *base = path;

	for (; *path; path++)
		if (*path == '/')
			base = path + 1;
	return base;
}

void shim_fail(const char *where, int number, const char *what, ...)
{
	struct line line = {.used = 0};

	add(&line, base_name(where));
	add(&line, ":");
	add_number(&line, (uint64_t)number, 10);
	add(&line, ": ");
	add(&line, what);
	selftest_print(line.text);
	verdict = FAILED;
	shim_leave(out);
}

void shim_skip(void)
{
	verdict = SKIPPED;
	shim_leave(out);
}

bool shim_same(const void *a, const void *b, size_t size)
{
	return memcmp(a, b, size) == 0;
}

static void run_test(const char *group, const struct CMUnitTest *test)
{
	struct line line = {.used = 0};
	void *state = test->initial_state;

	verdict = RUNNING;
	digest = 0;
	if (!shim_save(out))
		test->test_func(&state);
	free_all();
	add(&line, base_name(group));
	add(&line, " ");
	add(&line, test->name);
	add(&line, verdict == FAILED    ? ": failed, "
		   : verdict == SKIPPED ? ": skipped, "
					: ": passed, ");
	add_number(&line, digest, 16);
	selftest_print(line.text);
	passed += verdict == RUNNING;
	failed += verdict == FAILED;
	skipped += verdict == SKIPPED;
}

int shim_run(const char *group, const struct CMUnitTest *tests, size_t count)
{
	for (size_t i = 0; i < count; i++)
		run_test(group, &tests[i]);
	return 0;
}

int selftest_run(void)
{
	struct line line = {.used = 0};

	passed = failed = skipped = 0;
#define NX_X(name) selftest_group_##name();
	GROUPS(NX_X)
#undef NX_X
	add_number(&line, passed, 10);
	add(&line, " passed, ");
	add_number(&line, failed, 10);
	add(&line, " failed, ");
	add_number(&line, skipped, 10);
	add(&line, " skipped");
	selftest_print(line.text);
	return (int)failed;
}
