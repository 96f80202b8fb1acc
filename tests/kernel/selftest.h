/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * selftest.h - between the self-test and what it runs on: module.c in a kernel, user.c in a
 * process. Plain types only, since the kernel's headers and the freestanding ones disagree on
 * uint64_t.
 */
#ifndef NX_SELFTEST_H
#define NX_SELFTEST_H

/* Return zeroed, page-aligned memory, or NULL. */
void *selftest_alloc(unsigned long size);
void selftest_free(void *memory);

/* Pages that are mapped twice, writable and executable: never both in one mapping. */
struct selftest_code {
	void *rw, *rx;
	unsigned long size;
};
int selftest_code_make(struct selftest_code *code, unsigned long size);
void selftest_code_free(struct selftest_code *code);

/* One line, without its end. */
void selftest_print(const char *line);

/*
 * Runs everything and prints a line for each test and one at the end. Returns the number of
 * tests that failed. Not reentrant.
 */
int selftest_run(void);

#endif
