// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * code.c - the memory that translations run in.
 *
 * A module cannot make memory executable: set_memory_x() and module_alloc() are not exported, and
 * vmap() removes the right to execute. But the module's text is executable. A vCPU gets a slice of
 * it (code_area.S), which the loader maps read-only and executable; a second mapping of the same
 * pages is writable.
 */
#include "host.h"

#include <linux/bitmap.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "code_area.h"

/* A slice has so many chunks at most, and this fraction (1/n) of what is free, so that the first
 * vCPUs, which most hosts have no more than, get much, and the last ones enough. */
#define MOST_CHUNKS 16
#define FRACTION 8

extern char nxk_code_area[];

static DECLARE_BITMAP(taken, NXK_CODE_CHUNKS);
static DEFINE_SPINLOCK(lock);

bool nxk_code_unused(void)
{
	return bitmap_empty(taken, NXK_CODE_CHUNKS);
}

static void *map_writable(const char *text, size_t size)
{
	unsigned int count = size / PAGE_SIZE;
	struct page **pages = kvcalloc(count, sizeof(*pages), GFP_KERNEL);
	void *rw;

	if (!pages)
		return NULL;
	for (unsigned int i = 0; i < count; i++)
		pages[i] = vmalloc_to_page(text + i * PAGE_SIZE);
	rw = vmap(pages, count, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	return rw;
}

/* Take a slice; return false if there is no chunk left. */
static bool take(struct nx_memory *memory)
{
	unsigned int count, first = NXK_CODE_CHUNKS;

	spin_lock(&lock);
	count = NXK_CODE_CHUNKS - bitmap_weight(taken, NXK_CODE_CHUNKS);
	count = clamp(count / FRACTION, 1U, (unsigned int)MOST_CHUNKS);
	for (count = rounddown_pow_of_two(count); count; count /= 2) {
		first = bitmap_find_next_zero_area(taken, NXK_CODE_CHUNKS, 0, count, 0);
		if (first < NXK_CODE_CHUNKS)
			break;
	}
	if (count)
		bitmap_set(taken, first, count);
	spin_unlock(&lock);
	memory->code_rx = nxk_code_area + first * NXK_CODE_CHUNK;
	memory->code_size = count * NXK_CODE_CHUNK;
	return count;
}

static void put_back(struct nx_memory *memory)
{
	const char *slice = memory->code_rx;

	spin_lock(&lock);
	bitmap_clear(taken, (slice - nxk_code_area) / NXK_CODE_CHUNK,
		     memory->code_size / NXK_CODE_CHUNK);
	spin_unlock(&lock);
	memory->code_rw = memory->code_rx = NULL;
}

bool nxk_code_get(struct nx_memory *memory)
{
	if (nxk_fails(NXK_FAIL_CODE) || !take(memory)) {
		memory->code_rx = NULL;
		return false;
	}
	/* All of the module's text is within reach of a direct branch. */
	memory->branches =
	    IS_ENABLED(CONFIG_X86_KERNEL_IBT) ? NX_BRANCHES_TRACKED : NX_BRANCHES_DIRECT;
	memory->code_rw = map_writable(memory->code_rx, memory->code_size);
	if (memory->code_rw)
		return true;
	put_back(memory);
	return false;
}

void nxk_code_put(struct nx_memory *memory)
{
	if (!memory->code_rw)
		return;
	/* Let the next vCPU find none of this guest's code. */
	memset(memory->code_rw, 0xcc, memory->code_size);
	vunmap(memory->code_rw);
	put_back(memory);
}
