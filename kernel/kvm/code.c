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

#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "code_area.h"

extern char nxk_code_area[];

static DECLARE_BITMAP(taken, NXK_CODE_SLICES);

bool nxk_code_unused(void)
{
	return bitmap_empty(taken, NXK_CODE_SLICES);
}

static void *map_writable(const char *text)
{
	unsigned int count = NXK_CODE_SLICE / PAGE_SIZE;
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

static unsigned int slice_of(const void *rx)
{
	return (unsigned int)(((const char *)rx - nxk_code_area) / NXK_CODE_SLICE);
}

bool nxk_code_get(struct nx_memory *memory)
{
	for (unsigned int i = 0; i < NXK_CODE_SLICES && !nxk_fails(NXK_FAIL_CODE); i++) {
		if (test_and_set_bit(i, taken))
			continue;
		memory->code_rx = nxk_code_area + i * NXK_CODE_SLICE;
		memory->code_size = NXK_CODE_SLICE;
		/* All of the module's text is within reach of a direct branch. */
		memory->branches =
		    IS_ENABLED(CONFIG_X86_KERNEL_IBT) ? NX_BRANCHES_TRACKED : NX_BRANCHES_DIRECT;
		memory->code_rw = map_writable(memory->code_rx);
		if (memory->code_rw)
			return true;
		clear_bit(i, taken);
		break;
	}
	memory->code_rx = NULL;
	return false;
}

void nxk_code_put(struct nx_memory *memory)
{
	if (!memory->code_rw)
		return;
	/* Let the next vCPU find none of this guest's code. */
	memset(memory->code_rw, 0xcc, memory->code_size);
	vunmap(memory->code_rw);
	clear_bit(slice_of(memory->code_rx), taken);
	memory->code_rw = memory->code_rx = NULL;
}
