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
static bool form_single(struct nx_vcpu *vcpu, const struct nx_site *site)
{
	struct nx_graph *graph = &vcpu->graph;

	nx_make_abandon(vcpu);
	nx_memset(&graph->block[0], 0, sizeof(graph->block[0]));
	graph->mode = vcpu->mode;
	graph->rip = site->rip;
	graph->insns = graph->blocks = 1;
	graph->fragments = graph->exiting = graph->byte_count = 0;
	nx_decode(&vcpu->mode, site->rip, site->bytes, site->len, &graph->insn[0]);
	graph->block[0].count = 1;
	for (unsigned e = 0; e < NX_EDGES; e++)
		graph->block[0].edge[e] = NX_NOWHERE;
	graph->contexts.count = 1;
	graph->block[0].entry = true;
	return graph->insn[0].op == NX_OP_PLAIN;
}

static bool translate_single(struct nx_vcpu *vcpu)
{
	if (nx_make_code(vcpu, &vcpu->cache) != NX_OK)
		return false;
	nx_memset(&vcpu->single, 0, sizeof(vcpu->single));
	vcpu->single.code = vcpu->cache.code_used;
	vcpu->single.site = vcpu->translation.site;
	vcpu->single.sites = vcpu->translation.sites;
	return true;
}

/* Runs the instruction on the buffer. Its only access is to the buffer, so it cannot stop. */
static void run_single(struct nx_vcpu *vcpu)
{
	struct nx_cluster *running = vcpu->running;

	nx_tlb_flush(vcpu);
	vcpu->bounce_active = true;
	nx_run(vcpu, &vcpu->single, vcpu->translation.entry[0].offset);
	vcpu->bounce_active = false;
	vcpu->running = running;
}

static void fill_exit(const struct nx_vcpu *vcpu, bool write, struct nx_exit *exit)
{
	exit->kind = NX_EXIT_MMIO;
	exit->gpa = vcpu->bounce_gpa;
	exit->size = vcpu->graph.insn[0].size;
	exit->write = write;
	exit->data = write ? vcpu->bounce & nx_size_mask(exit->size) : 0;
}

unsigned nx_begin_bounce(struct nx_vcpu *vcpu, const struct nx_site *site, struct nx_exit *exit)
{
	const struct nx_insn *insn = &vcpu->graph.insn[0];
	struct nx_decoded d;

	/* A locked access would have to keep others off the device between its halves. */
	if (site->size > 8 || !nx_decode_full(&vcpu->mode, site->bytes, site->len, &d) ||
	    (d.insn.attributes & ZYDIS_ATTRIB_HAS_LOCK))
		return NX_PENDING_NONE;
	if (!form_single(vcpu, site) || !translate_single(vcpu))
		return NX_PENDING_NONE;
	vcpu->bounce = 0;
	vcpu->bounce_linear = vcpu->context.linear;
	vcpu->bounce_gpa = vcpu->stop_gpa;
	if (insn->memory_read) {
		fill_exit(vcpu, false, exit);
		return NX_PENDING_BOUNCE_READ;
	}
	run_single(vcpu);
	fill_exit(vcpu, true, exit);
	return NX_PENDING_BOUNCE_WRITE;
}

bool nx_finish_bounce_read(struct nx_vcpu *vcpu, struct nx_exit *exit)
{
	vcpu->bounce = exit->data;
	run_single(vcpu);
	if (!vcpu->graph.insn[0].memory_write) {
		vcpu->state.rip = vcpu->pending_site.next;
		vcpu->pending = NX_PENDING_NONE;
		return false;
	}
	fill_exit(vcpu, true, exit);
	vcpu->pending = NX_PENDING_BOUNCE_WRITE;
	return true;
}

/* ---- String instructions ---- */

nx_status nx_string_exit(struct nx_vcpu *vcpu, const struct nx_string_pending *pending,
			 const struct nx_exit *exit)
{
	enum nx_route route =
	    exit->kind == NX_EXIT_IO
		? vcpu->host->route_io(vcpu->host_data, exit->port, exit->size, exit->write, 0)
		: vcpu->host->route_mmio(vcpu->host_data, exit->gpa, exit->size, exit->write,
					 exit->data);

	if (route != NX_ROUTE_EXIT)
		return NX_LEAVE_HOST_ROUTE;
	vcpu->string_pending = *pending;
	vcpu->stop_exit = *exit;
	return NX_STOP_EXIT;
}

static bool store_input(struct nx_vcpu *vcpu, const struct nx_string_pending *pending,
			const void *from, unsigned bytes)
{
	struct nx_page page = {.kind = NX_PAGE_LEAVE};

	if (nx_session_begin(vcpu) != NX_OK)
		return false;
	/* The page was there when the exit was delivered; if its slot is gone, so is the data. */
	vcpu->host->map_page(vcpu->host_data, pending->gpa & NX_PAGE_MASK, &page);
	if (page.kind == NX_PAGE_RAM && page.writable)
		nx_memcpy((uint8_t *)page.host + (pending->gpa & ~NX_PAGE_MASK), from, bytes);
	nx_session_end(vcpu);
	return true;
}

static void advance(struct nx_vcpu *vcpu, const struct nx_string_pending *pending, unsigned number,
		    uint64_t delta)
{
	const struct nx_reg reg = {.number = (uint8_t)number, .size = pending->address_bytes};

	nx_set_reg(vcpu->state.gpr, &reg, vcpu->state.gpr[number] + delta);
}

bool nx_finish_string(struct nx_vcpu *vcpu, const struct nx_exit *exit)
{
	const struct nx_string_pending *pending = &vcpu->string_pending;
	uint64_t delta = (uint64_t)pending->count * pending->size;
	const struct nx_reg rax = {.number = NX_RAX, .size = pending->size};

	if (pending->input == NX_INPUT_MEMORY &&
	    !store_input(vcpu, pending,
			 exit->string ? (const void *)vcpu->string : (const void *)&exit->data,
			 (unsigned)delta))
		return false;
	if (pending->input == NX_INPUT_RAX)
		nx_set_reg(vcpu->state.gpr, &rax, exit->data);
	if (pending->backwards)
		delta = -delta;
	if (pending->source)
		advance(vcpu, pending, NX_RSI, delta);
	if (pending->destination)
		advance(vcpu, pending, NX_RDI, delta);
	vcpu->pending = NX_PENDING_NONE;
	vcpu->state.rip = vcpu->pending_site.next;
	if (!pending->repeated)
		return true;
	advance(vcpu, pending, NX_RCX, -(uint64_t)pending->count);
	if (vcpu->state.gpr[NX_RCX] & nx_size_mask(pending->address_bytes))
		vcpu->state.rip = vcpu->pending_site.rip;
	return true;
}
