/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * verify_programs.h - the programs of verify_good.S and verify_bad.S, each in several forms, and
 * those of verify_branches.S.
 */
#ifndef NX_TESTS_VERIFY_PROGRAMS_H
#define NX_TESTS_VERIFY_PROGRAMS_H

#include "engine.h"

#define VERIFY_NOWHERE UINT64_MAX
#define VERIFY_BLINDED 0x100u /* with nx_memory.blind */

/* Laid out by the macro `end` of verify_macros.inc. */
struct verify_program {
	const char *name;
	const char *result; /* of enum nx_verify_result, without the prefix */
	const uint8_t *code;
	uint64_t size;
	uint64_t where;    /* the offset to be reported */
	uint64_t entry;    /* a second entry point, besides offset 0 */
	uint64_t branches; /* enum nx_branches; VERIFY_BLINDED */
};

/* The tables are sections, and the linker names their beginnings and ends. */
#define verify_good __start_verify_good_table
#define verify_good_end __stop_verify_good_table
#define verify_bad __start_verify_bad_table
#define verify_bad_end __stop_verify_bad_table
extern const struct verify_program verify_good[], verify_good_end[];
extern const struct verify_program verify_bad[], verify_bad_end[];

/* Fill the sites of verify_macros.inc and the program's entries. */
void verify_program_translation(const struct verify_program *program,
				struct nx_translation *translation);
/* Return what its branches may lead to: they are made for where the program lies. */
struct nx_thunks verify_program_thunks(const struct verify_program *program);
const char *verify_result_name(enum nx_verify_result result);

#endif
