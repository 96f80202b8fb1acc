/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * device.c - execute instructions other than MOV that access a device.
 *
 * An instruction with a device operand (CMP, TEST, ALU, XCHG, ...) is not emulated: it runs, in a
 * translation of its own, on a bounce buffer. The read exit's answer goes into the buffer, the
 * instruction finds it there through the miss handler, and if it has written to the buffer, that
 * goes to the device with a second exit. So it does to registers and flags what the processor does.
 *
 * These translations of single instructions are kept, in a table of their own with code memory of
 * its own: making one takes as long as several exits, and a loop over a screen's planes meets the
 * same two or three instructions thousands of times. They are found by rip, mode and the
 * instruction's bytes, which are all that they depend on, so they never become stale.
 *
 * The translation is made and verified before the read exit is delivered: once the device has been
 * read, there is no way back. Nothing else writes to the table until the answer comes.
 */
#include "helper/helper.h"
#include "insn/decode.h"

/* Make a graph of one instruction, which is entered at it and left behind it. */
static bool form_single(struct nx_engine *engine, const struct nx_site *site)
{
	struct nx_graph *graph = &engine->graph;

	nx_make_abandon(engine);
	nx_memset(&graph->block[0], 0, sizeof(graph->block[0]));
	graph->mode = engine->mode;
	graph->rip = site->rip;
	graph->insns = graph->blocks = 1;
	graph->fragments = graph->exiting = graph->byte_count = 0;
	nx_decode(&engine->decoded, &engine->mode, site->rip, site->bytes, site->len,
		  &graph->insn[0]);
	graph->block[0].count = 1;
	for (unsigned e = 0; e < NX_EDGES; e++)
		graph->block[0].edge[e] = NX_NOWHERE;
	graph->contexts.count = 1;
	graph->block[0].entry = true;
	return graph->insn[0].op == NX_OP_PLAIN;
}

/* Copy verified code to its place in the table; return false if it does not fit. */
static bool keep_single(struct nx_engine *engine, const struct nx_site *site, unsigned number)
{
	const struct nx_translation *made = &engine->translation;
	struct nx_single *single = &engine->singles.single[number];

	single->len = 0;
	if (made->size > NX_SINGLE_CODE || made->sites > NX_SINGLE_SITES ||
	    engine->config.experiment.fail & NX_FAIL_CACHE)
		return false;
	nx_memcpy((uint8_t *)engine->memory.code_rw + engine->singles.code +
		      number * NX_SINGLE_CODE,
		  engine->emitted, made->size);
	nx_memcpy(single->site, made->site, made->sites * sizeof(single->site[0]));
	single->sites = made->sites;
	single->entry = made->entry[0].offset;
	single->mode = engine->mode;
	single->rip = site->rip;
	nx_memcpy(single->bytes, site->bytes, sizeof(single->bytes));
	single->size = engine->graph.insn[0].size;
	single->reads = engine->graph.insn[0].memory_read;
	single->writes = engine->graph.insn[0].memory_write;
	single->len = site->len;
	return true;
}

static bool make_single(struct nx_engine *engine, const struct nx_site *site, unsigned number)
{
	const struct nx_decoded *d =
	    nx_decode_full(&engine->decoded, &engine->mode, site->bytes, site->len);

	/* A locked access would have to keep other processors off the device between its halves. */
	if (site->size > 8 || !d || (d->insn.attributes & ZYDIS_ATTRIB_HAS_LOCK))
		return false;
	engine->counters.singles++;
	return form_single(engine, site) &&
	       nx_make_emitted(engine, engine->singles.code + number * NX_SINGLE_CODE) == NX_OK &&
	       keep_single(engine, site, number);
}

static bool is_single(const struct nx_engine *engine, const struct nx_single *single,
		      const struct nx_site *site)
{
	const struct nx_segment *cs = &engine->state.seg[NX_CS];

	return single->rip == site->rip && single->len == site->len &&
	       !nx_memcmp(single->bytes, site->bytes, single->len) &&
	       nx_mode_is_current(engine, &single->mode, cs->base, cs->limit);
}

/* The instruction's translation, made now if it is not there. Its set's places are used in turns.
 */
static struct nx_single *find_single(struct nx_engine *engine, const struct nx_site *site)
{
	unsigned sets = engine->singles.count / NX_SINGLE_WAYS;
	unsigned set = (unsigned)(site->rip * NX_HASH_FACTOR >> 40) % sets * NX_SINGLE_WAYS;
	uint64_t began;
	unsigned number;
	bool made;

	for (unsigned way = 0; way < NX_SINGLE_WAYS; way++)
		if (is_single(engine, &engine->singles.single[set + way], site))
			return &engine->singles.single[set + way];
	number = set + engine->singles.turn++ % NX_SINGLE_WAYS;
	began = engine->host->now(engine->host_data);
	made = make_single(engine, site, number);
	nx_cost_made(engine, engine->host->now(engine->host_data) - began);
	return made ? &engine->singles.single[number] : NULL;
}

/*
 * Run the instruction on the buffer. Its only access is to the buffer, so it cannot stop: devices
 * are never entered in the TLB, the same access has just missed it, and it misses it again.
 */
static void run_single(struct nx_engine *engine)
{
	const struct nx_single *single = engine->bounce.single;
	struct nx_cluster *running = engine->running;

	engine->bounce.cluster.code =
	    engine->singles.code + (uint32_t)(single - engine->singles.single) * NX_SINGLE_CODE;
	engine->bounce.cluster.site = engine->singles.single[single - engine->singles.single].site;
	engine->bounce.cluster.sites = single->sites;
	engine->bounce.active = true;
	nx_execute(engine, &engine->bounce.cluster, single->entry);
	engine->bounce.active = false;
	engine->running = running;
}

static void fill_exit(const struct nx_engine *engine, bool write, struct nx_exit *exit)
{
	exit->kind = NX_EXIT_MMIO;
	exit->gpa = engine->bounce.gpa;
	exit->size = engine->bounce.single->size;
	exit->write = write;
	exit->data = write ? engine->bounce.data & nx_size_mask(exit->size) : 0;
}

unsigned nx_bounce_begin(struct nx_engine *engine, const struct nx_site *site, struct nx_exit *exit)
{
	engine->bounce.single = find_single(engine, site);
	if (!engine->bounce.single)
		return NX_PENDING_NONE;
	engine->bounce.data = 0;
	engine->bounce.linear = engine->context.linear;
	engine->bounce.gpa = engine->stopped.gpa;
	if (engine->bounce.single->reads) {
		fill_exit(engine, false, exit);
		return NX_PENDING_BOUNCE_READ;
	}
	run_single(engine);
	fill_exit(engine, true, exit);
	return NX_PENDING_BOUNCE_WRITE;
}

bool nx_bounce_finish_read(struct nx_engine *engine, struct nx_exit *exit)
{
	engine->bounce.data = exit->data;
	run_single(engine);
	if (!engine->bounce.single->writes) {
		engine->state.rip = engine->pending.site->next;
		engine->pending.kind = NX_PENDING_NONE;
		return false;
	}
	fill_exit(engine, true, exit);
	engine->pending.kind = NX_PENDING_BOUNCE_WRITE;
	return true;
}
