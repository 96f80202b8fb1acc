/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * site.c - what every part of the translator adds to a translation: sites, stubs, exits, and the
 * place of the guest's flags.
 */
#include "translate/translator.h"

uint16_t nx_site_add(struct nx_translator *t, enum nx_site_kind kind, const struct nx_insn *insn)
{
	struct nx_site *site = &t->out->site[t->out->sites];

	if (t->out->sites == NX_MAX_SITES) {
		t->e.failed = true;
		return 0;
	}
	nx_memset(site, 0, sizeof(*site));
	site->kind = (uint8_t)kind;
	site->insn = t->insn;
	site->gap = insn->gap;
	site->rip = insn->rip;
	site->next = nx_next_rip(&t->graph->mode, insn);
	site->size = insn->size;
	site->len = insn->len;
	site->first_len = insn->first_len;
	site->helper = insn->helper;
	nx_memcpy(site->bytes, insn->bytes, sizeof(site->bytes));
	return t->out->sites++;
}

void nx_stub_add(struct nx_translator *t, int kind, uint32_t from, uint16_t site)
{
	if (t->s->stubs == NX_MAX_STUBS) {
		t->e.failed = true;
		return;
	}
	t->s->stub[t->s->stubs++] =
	    (struct nx_stub){.kind = kind, .from = from, .back = t->e.size, .site = site};
}

void nx_flags_keep_in_context(struct nx_translator *t)
{
	if (!t->flags_in_context)
		nx_emit_snippet(t, NX_SNIPPET_SAVE_FLAGS);
	t->flags_in_context = true;
}

void nx_flags_keep_in_host(struct nx_translator *t)
{
	if (!t->flags_in_host)
		nx_emit_snippet(t, NX_SNIPPET_RESTORE_FLAGS);
	t->flags_in_host = true;
}

void nx_emit_exit(struct nx_translator *t, uint16_t site)
{
	nx_emit_site_snippet(t, NX_SNIPPET_EXIT, site);
}
