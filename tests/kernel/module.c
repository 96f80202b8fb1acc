// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * module.c - the self-test as a kernel module: loading it runs all tests.
 *
 * A module cannot make memory executable: set_memory_x() and module_alloc() are not exported, and
 * vmap() removes the right to execute. But the module's text is executable. The code cache is a
 * part of it, which the loader maps read-only and executable, and vmap() maps the same pages
 * writable.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/vmalloc.h>

#include "code_area.h"
#include "selftest.h"

extern char selftest_code_area[];

void *selftest_alloc(unsigned long size)
{
	return vzalloc(size);
}

void selftest_free(void *memory)
{
	vfree(memory);
}

static bool slot_used[CODE_AREA_SLOTS];

static unsigned long slot_of(const void *rx)
{
	return (unsigned long)((const char *)rx - selftest_code_area) / CODE_AREA_SIZE;
}

void selftest_code_free(struct selftest_code *code)
{
	if (code->rw)
		vunmap(code->rw);
	if (code->rx)
		slot_used[slot_of(code->rx)] = false;
}

/* Map the same pages a second time, writable; the mapping of the text stays read-only. */
static void *map_writable(const char *text, unsigned long size)
{
	unsigned long count = size / PAGE_SIZE;
	struct page **pages = vzalloc(array_size(count, sizeof(*pages)));
	void *rw = NULL;

	if (!pages)
		return NULL;
	for (unsigned long i = 0; i < count; i++)
		pages[i] = vmalloc_to_page(text + i * PAGE_SIZE);
	rw = vmap(pages, count, VM_MAP, PAGE_KERNEL);
	vfree(pages);
	return rw;
}

int selftest_code_make(struct selftest_code *code, unsigned long size)
{
	for (unsigned long i = 0; i < CODE_AREA_SLOTS && size <= CODE_AREA_SIZE; i++) {
		if (slot_used[i])
			continue;
		slot_used[i] = true;
		code->size = size;
		code->rx = selftest_code_area + i * CODE_AREA_SIZE;
		code->rw = map_writable(code->rx, size);
		return code->rw != NULL;
	}
	return 0;
}

void selftest_print(const char *line)
{
	pr_info("| %s\n", line);
	cond_resched();
}

/* ---- The engine's stack depth ---- */

#define PAINT 0x6e6f65786974706cul
#define OWN_FRAME 256 /* of the function that paints, with a margin */

static noinline void paint_stack(void)
{
	unsigned long *end = end_of_stack(current) + 1;
	unsigned long here = (unsigned long)__builtin_frame_address(0) - OWN_FRAME;

	for (; (unsigned long)end < here; end++)
		WRITE_ONCE(*end, PAINT);
}

static noinline void report_stack(void)
{
	const unsigned long *end = end_of_stack(current) + 1;
	unsigned long here = (unsigned long)__builtin_frame_address(0);

	while ((unsigned long)end < here && READ_ONCE(*end) == PAINT)
		end++;
	pr_info("stack: %lu of %lu bytes\n", here - (unsigned long)end, (unsigned long)THREAD_SIZE);
}

static int __init noexit_selftest_init(void)
{
	int failed;

	paint_stack();
	failed = selftest_run();
	report_stack();
	return failed ? -EIO : 0;
}

static void __exit noexit_selftest_exit(void)
{
}

module_init(noexit_selftest_init);
module_exit(noexit_selftest_exit);

MODULE_DESCRIPTION("noexit's engine runs the tests of its clusters inside the kernel");
MODULE_LICENSE("Dual MIT/GPL");
