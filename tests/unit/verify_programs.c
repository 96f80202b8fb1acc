/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#include "verify_programs.h"

void verify_program_translation(const struct verify_program *program,
				struct nx_translation *translation)
{
	/* In the order of verify_macros.inc. */
	static const struct nx_site site[] = {
	    {.kind = NX_SITE_LEAVE},
	    {.kind = NX_SITE_ACCESS, .size = 1},
	    {.kind = NX_SITE_ACCESS, .size = 2},
	    {.kind = NX_SITE_ACCESS, .size = 4},
	    {.kind = NX_SITE_ACCESS, .size = 8},
	    {.kind = NX_SITE_ACCESS, .size = 16},
	    {.kind = NX_SITE_ACCESS, .size = 1, .write = true},
	    {.kind = NX_SITE_ACCESS, .size = 2, .write = true},
	    {.kind = NX_SITE_ACCESS, .size = 4, .write = true},
	    {.kind = NX_SITE_ACCESS, .size = 8, .write = true},
	    {.kind = NX_SITE_ACCESS, .size = 16, .write = true},
	    {.kind = NX_SITE_IO, .size = 1, .write = true},
	    {.kind = NX_SITE_HELPER},
	};

	nx_memset(translation, 0, sizeof(*translation));
	nx_memcpy(translation->site, site, sizeof(site));
	translation->sites = sizeof(site) / sizeof(site[0]);
	translation->size = (uint32_t)program->size;
	if (program->size)
		translation->entries = 1; /* at offset 0 */
	if (program->entry != VERIFY_NOWHERE)
		translation->entry[translation->entries++].offset = (uint32_t)program->entry;
}

struct nx_thunks verify_program_thunks(const struct verify_program *program)
{
	/* verify_branches.S */
	extern const uint8_t verify_thunk_EXIT[], verify_thunk_MISS[], verify_thunk_HELPER[];

	return (struct nx_thunks){
	    .branches = (enum nx_branches)(program->branches & ~(uint64_t)VERIFY_BLINDED),
	    .blind = program->branches & VERIFY_BLINDED ? 0x9e3779b97f4a7c15 : 0,
	    .code = (uintptr_t)program->code,
	    .exit = (uintptr_t)verify_thunk_EXIT,
	    .miss = (uintptr_t)verify_thunk_MISS,
	    .helper = (uintptr_t)verify_thunk_HELPER};
}

const char *verify_result_name(enum nx_verify_result result)
{
	static const char *const name[] = {
#define NX_X(word, text) #word,
	    NX_VERIFY_RESULTS(NX_X)
#undef NX_X
	};

	return (unsigned)result < sizeof(name) / sizeof(name[0]) ? name[result] : "?";
}
