/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* mode.c - derive the mode and the segments on which translations and walks depend. */
#include "engine.h"

static void load_segment(struct nx_engine *engine, unsigned number)
{
	const struct nx_segment *from = &engine->state.seg[number];
	struct nx_context_seg *to = &engine->context.seg[number];
	bool code = (from->type & 8) != 0, expand_down = !code && (from->type & 4);
	uint64_t end = (uint64_t)from->limit + 1;

	to->base = from->base;
	to->selector = from->selector;
	to->read_end = to->write_end = engine->context.seg_lower[number] = 0;
	/* Vendors differ in what remains of an expand-down segment in real mode. */
	if (from->unusable || !from->present || !from->s ||
	    (expand_down && !(engine->state.cr0 & NX_CR0_PE)))
		return;
	if (expand_down) {
		/* Emitted code looks at the lower bound where nx_mode.lower says that there is one.
		 */
		engine->context.seg_lower[number] = end;
		engine->mode.lower |= (uint8_t)(1u << number);
		end = from->db ? 1ull << 32 : 1u << 16;
	}
	if (!(engine->state.cr0 & NX_CR0_PE)) {
		to->read_end = to->write_end = end;
	} else if (code) {
		to->read_end = from->type & 2 ? end : 0;
	} else {
		to->read_end = end;
		to->write_end = from->type & 2 ? end : 0;
	}
}

static bool is_flat(const struct nx_context_seg *seg)
{
	return seg->base == 0 && seg->read_end == 1ull << 32 && seg->write_end == 1ull << 32;
}

static NX_NOINLINE enum nx_status load(struct nx_engine *engine)
{
	const struct nx_state *s = &engine->state;
	bool protected_mode = (s->cr0 & NX_CR0_PE) != 0;
	struct nx_mode *mode = &engine->mode;

	engine->mode_rflags = s->rflags;
	engine->mode_cr0 = s->cr0;
	engine->mode_cr4 = s->cr4;
	engine->mode_efer = s->efer;
	engine->mode_known = false;
	if (s->rflags & (NX_FL_TF | NX_FL_VM))
		return NX_LEAVE_STATE;
	engine->cpl = protected_mode ? s->seg[NX_SS].dpl : 0;
	/* Alignment checks: the emitted code does not make any. */
	if ((s->rflags & NX_FL_AC) && (s->cr0 & NX_CR0_AM) && engine->cpl == 3)
		return NX_LEAVE_STATE;
	if (engine->config.no_user_code && engine->cpl == 3)
		return NX_LEAVE_STATE;
	mode->protected_mode = protected_mode;
	mode->user = engine->cpl == 3;
	mode->io_allowed = engine->cpl <= (s->rflags & NX_FL_IOPL) >> 12;
	mode->io_bitmap = !mode->io_allowed && nx_io_bitmap_exists(s);
	if ((s->efer & NX_EFER_LMA) && s->seg[NX_CS].l)
		mode->bits = mode->stack_bits = 64;
	else {
		mode->bits = s->seg[NX_CS].db ? 32 : 16;
		mode->stack_bits = s->seg[NX_SS].db ? 32 : 16;
	}
	engine->context.rflags = s->rflags & ~(uint64_t)NX_FL_ARITHMETIC;
	mode->lower = 0;
	for (unsigned i = 0; i < NX_SREGS; i++)
		load_segment(engine, i);
	/*
	 * Unless the host asks for it, user-mode CPUID is left alone: counting tools rely on it
	 * (docs/engine.md, "What a guest can notice").
	 */
	mode->exits = engine->config.exits;
	if (engine->cpl)
		mode->exits &= engine->config.user_exits & NX_EXITS_CPUID;
	mode->segment_loads = !protected_mode && engine->config.segment_loads;
	mode->features = engine->config.guest_features &
			 ~(NX_HAS_TSC | NX_HAS_WINDOW | NX_HAS_SYSTEM | NX_HAS_VECTORS);
	if (engine->host->read_tsc && !((s->cr4 & NX_CR4_TSD) && engine->cpl > 0))
		mode->features |= NX_HAS_TSC;
	if (engine->host->no_interrupt_waits)
		mode->features |= NX_HAS_WINDOW;
	if (engine->config.system_registers && protected_mode && !engine->cpl)
		mode->features |= NX_HAS_SYSTEM;
	if (engine->host->read_vector && (s->cr4 & NX_CR4_OSFXSR) &&
	    !(s->cr0 & (NX_CR0_EM | NX_CR0_TS)))
		mode->features |= NX_HAS_VECTORS;
	/* Real-mode segments may be loaded inside a cluster: never taken for granted. */
	mode->flat =
	    mode->bits == 64 ||
	    (protected_mode && !mode->lower && is_flat(&engine->context.seg[NX_DS]) &&
	     is_flat(&engine->context.seg[NX_ES]) && is_flat(&engine->context.seg[NX_SS]) &&
	     engine->context.seg[NX_CS].base == 0 &&
	     engine->context.seg[NX_CS].read_end == 1ull << 32);
	engine->mode_known = true;
	return NX_OK;
}

/* Outside 64-bit mode translations may have loaded segments. */
static bool is_loaded(const struct nx_engine *engine)
{
	const struct nx_state *s = &engine->state;

	return engine->mode_known && engine->mode.bits == 64 && s->cr0 == engine->mode_cr0 &&
	       s->cr4 == engine->mode_cr4 && s->efer == engine->mode_efer;
}

enum nx_status nx_mode_load(struct nx_engine *engine)
{
	if (is_loaded(engine) && nx_mode_flags_hold(engine))
		return NX_OK;
	return load(engine);
}
