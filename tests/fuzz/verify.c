// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * verify.c - fuzz target: nx_verify() on arbitrary code. Whatever it accepts must also convince the
 * path-following oracle of the unit tests, which shares no code and no method with it.
 *
 * Input: the number of sites and entries (a nibble each, one more than it says), three bytes for
 * each site, two for each entry's offset, then the code. The corpus begins with translations. The
 * code is judged with each form of branches, and with constants to be blinded, as if it were at
 * address 0 and the thunks behind it.
 */
#include "../mock/secret.h"
#include "fuzz.h"
#include "verify_oracle.h"

static struct nx_translation translation;
static struct nx_verify_scratch scratch;

static void take_header(struct fuzz_input *input)
{
	struct nx_translation *t = &translation;
	uint8_t counts = fuzz_byte(input);

	memset(t, 0, sizeof(*t));
	t->sites = (uint16_t)((counts & 15) + 1);
	t->entries = (uint16_t)((counts >> 4) + 1);
	for (unsigned i = 0; i < t->sites; i++) {
		t->site[i].kind = fuzz_byte(input) % (NX_SITE_HELPER + 1);
		t->site[i].size = fuzz_byte(input);
		t->site[i].write = fuzz_byte(input) & 1;
	}
	for (unsigned i = 0; i < t->entries; i++)
		t->entry[i].offset = (uint32_t)fuzz_word(input, 2);
	t->size = (uint32_t)input->size;
}

static void judge(const struct fuzz_input *input, const uint8_t *code, enum nx_branches branches,
		  uint64_t blind)
{
	const struct nx_thunks thunks = {.branches = branches,
					 .exit = 0x20000,
					 .miss = 0x20010,
					 .helper = 0x20020,
					 .blind = blind};
	struct nx_translation copy = translation;
	enum nx_verify_result result;
	uint32_t where = 0;
	const char *wrong;

	/* Nothing that an earlier run left there may count. */
	memset(&scratch, input->size ? input->data[0] : 0, sizeof(scratch));
	result = nx_verify(code, translation.size, &translation, &thunks, &scratch, &where);
	FUZZ_CHECK(result <= NX_VERIFY_TOO_LARGE, "result %d", (int)result);
	FUZZ_CHECK(fuzz_same(&copy, &translation, sizeof(copy)) &&
		       (!input->size || !memcmp(code, input->data, input->size)),
		   "the verifier writes to what it judges");
	if (result == NX_VERIFY_OK) {
		wrong = verify_oracle(code, translation.size, &translation, &thunks, &where);
		FUZZ_CHECK(!wrong, "accepted with branches %d, but %s at %u", (int)branches, wrong,
			   where);
	} else if (result != NX_VERIFY_ENTRY) { /* that names the entry's offset */
		FUZZ_CHECK(where <= translation.size, "the offence is at %u of %u", where,
			   translation.size);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	uint8_t *code;

	take_header(&input);
	/* The copy has just the length given, so that reads past it are found. */
	code = malloc(input.size + !input.size);
	if (!code)
		return 0;
	if (input.size)
		memcpy(code, input.data, input.size);
	for (unsigned branches = 0; branches <= NX_BRANCHES_TRACKED; branches++)
		judge(&input, code, (enum nx_branches)branches, 0);
	judge(&input, code, NX_BRANCHES_INDIRECT, MOCK_SECRET);
	free(code);
	return 0;
}
