// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * pages.c - the pages that walks have led to.
 *
 * A walk takes hundreds of instructions, and each stay needs the same pages of code, stack and data
 * as the one before. That a page still is where a walk has found it is proven with a few loads: the
 * table above it holds (walk.c), and its own entry, marks included, is what it was. The guest
 * cannot tell that from a walk: an entry that is read now says what a walk would find now.
 */
#include "engine.h"

static struct nx_walk_page *row_of(struct nx_engine *engine, uint64_t linear)
{
	return engine->guest.walk_page[linear >> 12 & (NX_WALK_PAGES - 1)];
}

struct nx_walk_page *nx_walk_kept_page(struct nx_engine *engine, uint64_t linear)
{
	struct nx_walk_page *row = row_of(engine, linear);
	uint64_t tag = (linear & NX_PAGE_MASK) | 1;

	if (row[0].linear == tag)
		return &row[0];
	return row[1].linear == tag ? &row[1] : NULL;
}

/* Number the rules by which rights are judged now. They hold within a time. */
static NX_NOINLINE void number_rules(struct nx_engine *engine)
{
	const struct nx_state *state = &engine->state;
	struct nx_guest *guest = &engine->guest;
	struct nx_walk_rules *rules = &guest->by_rules;
	bool ac = engine->context.rflags & NX_FL_AC;

	guest->rules_time = guest->walk_time;
	if (rules->cr0 == state->cr0 && rules->pkru == state->pkru && rules->cpl == engine->cpl &&
	    rules->ac == ac)
		return;
	*rules = (struct nx_walk_rules){
	    .cr0 = state->cr0,
	    .pkru = state->pkru,
	    .cpl = engine->cpl,
	    .ac = ac,
	};
	guest->rules++;
}

static inline uint64_t current_rules(struct nx_engine *engine)
{
	if (engine->guest.rules_time != engine->guest.walk_time)
		number_rules(engine);
	return engine->guest.rules;
}

/* Return whether the page is where it was, and all that it allowed is still allowed. */
static inline bool is_proven(struct nx_engine *engine, struct nx_walk_page *page)
{
	struct nx_walk_table *table = page->table;

	if (!table || table->number != page->table_number || !nx_walk_table_holds(engine, table) ||
	    __atomic_load_n(page->entry, __ATOMIC_ACQUIRE) != page->value ||
	    page->rules != current_rules(engine))
		return false;
	page->time = engine->guest.walk_time;
	return true;
}

struct nx_walk_page *nx_walk_known_page(struct nx_engine *engine, uint64_t linear,
					enum nx_access access)
{
	struct nx_walk_page *page = nx_walk_kept_page(engine, linear);

	if (!page || !(page->allows >> access & 1))
		return NULL;
	return page->time == engine->guest.walk_time || is_proven(engine, page) ? page : NULL;
}

void nx_walk_keep(struct nx_engine *engine, uint64_t linear, enum nx_access access, uint64_t gpa,
		  void *host)
{
	const struct nx_walk_found *found = &engine->guest.found;
	struct nx_walk_page *row = row_of(engine, linear);
	struct nx_walk_page *page = nx_walk_kept_page(engine, linear);
	struct nx_walk_page now = {
	    .linear = (linear & NX_PAGE_MASK) | 1,
	    .gpa = gpa & NX_PAGE_MASK,
	    .host = host,
	    .table = found->table,
	    .table_number = found->table ? found->table->number : 0,
	    .entry = found->entry,
	    .value = found->value,
	    .rules = current_rules(engine),
	    .time = engine->guest.walk_time,
	    .noted = engine->guest.code_time - 1,
	    .allows = (uint8_t)(1u << access),
	};

	if (access == NX_WRITE || found->stores)
		now.allows |= 1u << NX_READ | 1u << NX_WRITE;
	/* Nothing but the kind of the access is new, most often. */
	if (page && page->time == now.time && page->table_number == now.table_number &&
	    page->value == now.value && page->host == now.host) {
		page->allows |= now.allows;
		return;
	}
	if (!page) {
		row[1] = row[0];
		page = &row[0];
	}
	*page = now;
}
