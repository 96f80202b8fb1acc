/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * end.c - the verifier's third pass: the code ends. It goes over the map from CONTROL to CONTROL,
 * and needs the links of pass 2 no longer.
 */
#include "verify/verifier.h"

/* Note for each instruction where the stretch ends that it is in. */
static void link_stretches(struct nx_verifier *v)
{
	uint32_t begin = next_with(v, 0, NXV_START);

	for (uint32_t at = next_with(v, 0, NXV_CONTROL); at < v->size;
	     at = next_with(v, at + 1, NXV_CONTROL)) {
		for (; begin < at; begin = next_with(v, begin + 1, NXV_START))
			v->link[begin] = (uint16_t)at;
		/* A link of CONTROL itself is the way that leads there. */
		if (begin == at)
			begin = next_with(v, begin + 1, NXV_START);
	}
	/* Nothing leads behind the last one: there is padding. */
	for (; begin < v->size; begin = next_with(v, begin + 1, NXV_START))
		v->link[begin] = 0;
}

/* Take the next edge from a place that was not yet taken; a counted one need not be. */
static bool take_way(struct nx_verifier *v, uint32_t from, uint32_t *to)
{
	uint32_t at = from + 1;

	if (v->map[from] & NXV_TAKEN) {
		v->map[from] &= (uint16_t)~NXV_TAKEN;
		at = v->link[at];
	} else if (v->map[from] & NXV_FALLS) {
		v->map[from] &= (uint16_t)~NXV_FALLS;
		while (!(v->map[at] & NXV_START))
			at++;
	} else {
		return false;
	}
	*to = v->map[at] & NXV_CONTROL ? at : v->link[at];
	return true;
}

static void enter(struct nx_verifier *v, uint32_t at, uint32_t before)
{
	v->map[at] |= NXV_VISITED | NXV_ON_PATH;
	v->link[at] = (uint16_t)before;
}

/* Verify all paths from a root, which is its own predecessor. */
static enum nx_verify_result verify_ways(struct nx_verifier *v, uint32_t root)
{
	uint32_t to;

	v->at = root;
	enter(v, root, root);
	for (;;) {
		if (!take_way(v, v->at, &to)) {
			v->map[v->at] &= (uint16_t)~NXV_ON_PATH;
			if (v->link[v->at] == v->at)
				return NX_VERIFY_OK;
			v->at = v->link[v->at];
		} else if (v->map[to] & NXV_ON_PATH) {
			return NX_VERIFY_ENDLESS;
		} else if (!(v->map[to] & NXV_VISITED)) {
			enter(v, to, v->at);
			v->at = to;
		}
	}
}

enum nx_verify_result nx_verify_end(struct nx_verifier *v)
{
	enum nx_verify_result result = NX_VERIFY_OK;

	link_stretches(v);
	for (uint32_t at = next_with(v, 0, NXV_CONTROL); at < v->size && result == NX_VERIFY_OK;
	     at = next_with(v, at + 1, NXV_CONTROL))
		if (!(v->map[at] & NXV_VISITED))
			result = verify_ways(v, at);
	return result;
}
