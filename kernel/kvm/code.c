// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * code.c - the memory that translations run in.
 *
 * A module cannot make memory executable: set_memory_x() and module_alloc() are not exported, and
 * vmap() removes the right to execute. But the module's text is executable. A vCPU gets a slice of
 * it (code_area.S), which the loader maps read-only and executable; a second mapping of the same
 * pages is writable. Which slice it is, and where code begins in it, is random: what a guest may
 * have put into the text is nowhere that it could know.
 */
#include "host.h"

#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/vmalloc.h>

#include "slice.h"

/* Code begins at a multiple of these bytes in a slice. */
#define CODE_ALIGN 16

extern char nxk_code_area[];

static DECLARE_BITMAP(taken, NXK_CODE_CHUNKS);
static DEFINE_SPINLOCK(lock);

bool nxk_code_unused(void)
{
	return bitmap_empty(taken, NXK_CODE_CHUNKS);
}

static char *map_writable(const char *text, size_t size)
{
	unsigned int count = size / PAGE_SIZE;
	struct page **pages = kvcalloc(count, sizeof(*pages), GFP_KERNEL);
	char *rw;

	if (!pages)
		return NULL;
	for (unsigned int i = 0; i < count; i++)
		pages[i] = vmalloc_to_page(text + i * PAGE_SIZE);
	rw = vmap(pages, count, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	return rw;
}

static char *slice_of(const struct nx_memory *memory)
{
	const char *code = memory->code_rx;

	return nxk_code_area + (code - nxk_code_area) / NXK_CODE_CHUNK * NXK_CODE_CHUNK;
}

static unsigned int chunks_of(const struct nx_memory *memory)
{
	return memory->code_size / NXK_CODE_IN_CHUNK;
}

/* Take a slice; return false if there is no chunk left. */
static bool take(struct nx_memory *memory)
{
	unsigned int count, first, room;

	spin_lock(&lock);
	count = nxk_slice_choose(taken, get_random_u32(), &first);
	if (count)
		bitmap_set(taken, first, count);
	spin_unlock(&lock);
	if (!count)
		return false;
	room = count * (NXK_CODE_CHUNK - NXK_CODE_IN_CHUNK) / CODE_ALIGN;
	memory->code_size = count * NXK_CODE_IN_CHUNK;
	memory->code_rx = nxk_code_area + first * NXK_CODE_CHUNK +
			  nxk_slice_below(get_random_u32(), room) * CODE_ALIGN;
	return true;
}

static void put_back(struct nx_memory *memory)
{
	spin_lock(&lock);
	bitmap_clear(taken, (slice_of(memory) - nxk_code_area) / NXK_CODE_CHUNK, chunks_of(memory));
	spin_unlock(&lock);
	memory->code_rw = memory->code_rx = NULL;
}

bool nxk_code_get(struct nx_memory *memory)
{
	const char *slice;
	char *rw;

	if (nxk_fails(NXK_FAIL_CODE) || !take(memory)) {
		memory->code_rx = NULL;
		return false;
	}
	/* All of the module's text is within reach of a direct branch. */
	memory->branches =
	    IS_ENABLED(CONFIG_X86_KERNEL_IBT) ? NX_BRANCHES_TRACKED : NX_BRANCHES_DIRECT;
	memory->blind = get_random_u64() | 1;
	slice = slice_of(memory);
	rw = map_writable(slice, chunks_of(memory) * NXK_CODE_CHUNK);
	if (rw) {
		memory->code_rw = rw + ((const char *)memory->code_rx - slice);
		return true;
	}
	put_back(memory);
	return false;
}

void nxk_code_put(struct nx_memory *memory)
{
	if (!memory->code_rw)
		return;
	/* Let the next vCPU find none of this guest's code. */
	memset(memory->code_rw, 0xcc, memory->code_size);
	vunmap((char *)memory->code_rw - ((const char *)memory->code_rx - slice_of(memory)));
	put_back(memory);
}
