/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * selftest.h - the interface between the self-test and its platform: module.c in a kernel, user.c
 * in a process. It has plain types only, since the kernel's headers and the freestanding ones
 * disagree on uint64_t.
 */
#ifndef NX_SELFTEST_H
#define NX_SELFTEST_H

/* Return zeroed, page-aligned memory, or NULL. */
void *selftest_alloc(unsigned long size);
void selftest_free(void *memory);

/* Pages with two mappings, one writable and one executable. */
struct selftest_code {
	void *rw, *rx;
	unsigned long size;
};
int selftest_code_make(struct selftest_code *code, unsigned long size);
void selftest_code_free(struct selftest_code *code);

/* Print a line, which has no newline at its end. */
void selftest_print(const char *line);

/*
 * Run all tests and print a line for each and one at the end. Return the number of tests that
 * failed. This function is not reentrant.
 */
int selftest_run(void);

#endif
