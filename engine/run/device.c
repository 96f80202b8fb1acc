/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * device.c - device accesses by other instructions than MOV.
 *
 * An instruction with a device operand (CMP, TEST, ALU, XCHG, ...) is not emulated: it runs, in a
 * translation of its own, on a bounce buffer. The read exit's answer goes into the buffer, the
 * instruction finds it there through the miss handler, and if it has written to the buffer, that
 * goes to the device with a second exit. So it does to registers and flags what the processor does.
 *
 * The translation is made and verified before the read exit is delivered: once the device has been
 * read, there is no way back. Nothing else uses the code cache's free end until the answer comes.
 */
#include "helper/helper.h"
#include "insn/decode.h"

/* A graph of one instruction, entered at it and left behind it. */
static bool form_single(struct nx_engine *engine, const struct nx_site *site)
{
	struct nx_graph *graph = &engine->graph;

	nx_make_abandon(engine);
	nx_memset(&graph->block[0], 0, sizeof(graph->block[0]));
	graph->mode = engine->mode;
	graph->rip = site->rip;
	graph->insns = graph->blocks = 1;
	graph->fragments = graph->exiting = graph->byte_count = 0;
	nx_decode(&engine->mode, site->rip, site->bytes, site->len, &graph->insn[0]);
	graph->block[0].count = 1;
	for (unsigned e = 0; e < NX_EDGES; e++)
		graph->block[0].edge[e] = NX_NOWHERE;
	graph->contexts.count = 1;
	graph->block[0].entry = true;
	return graph->insn[0].op == NX_OP_PLAIN;
}

static bool translate_single(struct nx_engine *engine)
{
	if (nx_make_code(engine, &engine->cache) != NX_OK)
		return false;
	nx_memset(&engine->single, 0, sizeof(engine->single));
	engine->single.code = engine->cache.code_used;
	engine->single.site = engine->translation.site;
	engine->single.sites = engine->translation.sites;
	return true;
}

/* Runs the instruction on the buffer. Its only access is to the buffer, so it cannot stop. */
static void run_single(struct nx_engine *engine)
{
	struct nx_cluster *running = engine->running;

	nx_tlb_flush(engine);
	engine->bounce_active = true;
	nx_run(engine, &engine->single, engine->translation.entry[0].offset);
	engine->bounce_active = false;
	engine->running = running;
}

static void fill_exit(const struct nx_engine *engine, bool write, struct nx_exit *exit)
{
	exit->kind = NX_EXIT_MMIO;
	exit->gpa = engine->bounce_gpa;
	exit->size = engine->graph.insn[0].size;
	exit->write = write;
	exit->data = write ? engine->bounce & nx_size_mask(exit->size) : 0;
}

unsigned nx_begin_bounce(struct nx_engine *engine, const struct nx_site *site, struct nx_exit *exit)
{
	const struct nx_insn *insn = &engine->graph.insn[0];
	struct nx_decoded d;

	/* A locked access would have to keep others off the device between its halves. */
	if (site->size > 8 || !nx_decode_full(&engine->mode, site->bytes, site->len, &d) ||
	    (d.insn.attributes & ZYDIS_ATTRIB_HAS_LOCK))
		return NX_PENDING_NONE;
	if (!form_single(engine, site) || !translate_single(engine))
		return NX_PENDING_NONE;
	engine->bounce = 0;
	engine->bounce_linear = engine->context.linear;
	engine->bounce_gpa = engine->stop_gpa;
	if (insn->memory_read) {
		fill_exit(engine, false, exit);
		return NX_PENDING_BOUNCE_READ;
	}
	run_single(engine);
	fill_exit(engine, true, exit);
	return NX_PENDING_BOUNCE_WRITE;
}

bool nx_finish_bounce_read(struct nx_engine *engine, struct nx_exit *exit)
{
	engine->bounce = exit->data;
	run_single(engine);
	if (!engine->graph.insn[0].memory_write) {
		engine->state.rip = engine->pending_site.next;
		engine->pending = NX_PENDING_NONE;
		return false;
	}
	fill_exit(engine, true, exit);
	engine->pending = NX_PENDING_BOUNCE_WRITE;
	return true;
}
