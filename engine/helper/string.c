/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * string.c - string instructions, with and without a repeat prefix, on memory and devices.
 *
 * Each element is an instruction of its own as far as faults and interrupts are concerned, so a
 * repetition that cannot go on, or has done its share (NX_STRING_ELEMENTS), leaves with the
 * registers as they are then and rip on the instruction.
 */
#include "helper/helper.h"

struct string {
	struct nx_engine *engine;
	const struct nx_decoded *d;
	unsigned size;
	unsigned address_bytes;
	enum nx_sreg source; /* of the operand that goes through rSI */
};

static uint64_t address(const struct string *s, unsigned number)
{
	return s->engine->context.gpr[number] & nx_size_mask(s->address_bytes);
}

static void advance(const struct string *s, unsigned number)
{
	const struct nx_reg reg = {.number = (uint8_t)number, .size = (uint8_t)s->address_bytes};
	uint64_t step = s->engine->context.rflags & NX_FL_DF ? -(uint64_t)s->size : s->size;

	nx_reg_set(s->engine->context.gpr, &reg, address(s, number) + step);
}

/* Flags of a comparison, by the processor's own. */
static void compare(struct nx_engine *engine, uint64_t a, uint64_t b, unsigned size)
{
	uint64_t ax = 0;

	switch (size) {
	case 1:
		__asm__("cmpb %2, %1; lahf; seto %%al"
			: "+a"(ax)
			: "q"((uint8_t)a), "q"((uint8_t)b)
			: "cc");
		break;
	case 2:
		__asm__("cmpw %2, %1; lahf; seto %%al"
			: "+a"(ax)
			: "r"((uint16_t)a), "r"((uint16_t)b)
			: "cc");
		break;
	case 4:
		__asm__("cmpl %2, %1; lahf; seto %%al"
			: "+a"(ax)
			: "r"((uint32_t)a), "r"((uint32_t)b)
			: "cc");
		break;
	default:
		__asm__("cmpq %2, %1; lahf; seto %%al" : "+a"(ax) : "r"(a), "r"(b) : "cc");
		break;
	}
	engine->context.flags = ax & 0xffff;
}

static enum nx_status one_movs(const struct string *s)
{
	uint64_t value = 0;
	enum nx_status status =
	    nx_guest_read(s->engine, s->source, address(s, NX_RSI), &value, s->size);

	if (status == NX_OK)
		status = nx_guest_write(s->engine, NX_ES, address(s, NX_RDI), &value, s->size);
	if (status != NX_OK)
		return status;
	advance(s, NX_RSI);
	advance(s, NX_RDI);
	return NX_OK;
}

static enum nx_status one_stos(const struct string *s)
{
	enum nx_status status = nx_guest_write(s->engine, NX_ES, address(s, NX_RDI),
					       &s->engine->context.gpr[NX_RAX], s->size);

	if (status == NX_OK)
		advance(s, NX_RDI);
	return status;
}

static enum nx_status one_lods(const struct string *s)
{
	const struct nx_reg to = {.number = NX_RAX, .size = (uint8_t)s->size};
	uint64_t value = 0;
	enum nx_status status =
	    nx_guest_read(s->engine, s->source, address(s, NX_RSI), &value, s->size);

	if (status != NX_OK)
		return status;
	nx_reg_set(s->engine->context.gpr, &to, value);
	advance(s, NX_RSI);
	return NX_OK;
}

static enum nx_status one_scas(const struct string *s)
{
	uint64_t value = 0;
	enum nx_status status =
	    nx_guest_read(s->engine, NX_ES, address(s, NX_RDI), &value, s->size);

	if (status != NX_OK)
		return status;
	compare(s->engine, s->engine->context.gpr[NX_RAX], value, s->size);
	advance(s, NX_RDI);
	return NX_OK;
}

static enum nx_status one_cmps(const struct string *s)
{
	uint64_t a = 0, b = 0;
	enum nx_status status =
	    nx_guest_read(s->engine, s->source, address(s, NX_RSI), &a, s->size);

	if (status == NX_OK)
		status = nx_guest_read(s->engine, NX_ES, address(s, NX_RDI), &b, s->size);
	if (status != NX_OK)
		return status;
	compare(s->engine, a, b, s->size);
	advance(s, NX_RSI);
	advance(s, NX_RDI);
	return NX_OK;
}

static struct nx_string_pending begin_pending(const struct string *s, unsigned count)
{
	return (struct nx_string_pending){
	    .count = count,
	    .size = (uint8_t)s->size,
	    .address_bytes = (uint8_t)s->address_bytes,
	    .repeated = nx_is_repeated(s->d),
	    .backwards = (s->engine->context.rflags & NX_FL_DF) != 0,
	};
}

/*
 * An element of STOS or MOVS that is written to a range whose writes the host only queues needs no
 * exit. Return false if it is to be delivered like any other.
 */
static bool queued(const struct string *s, const struct nx_exit *exit, bool loads)
{
	const struct nx_host *host = s->engine->host;

	if (!host->queue ||
	    host->route_mmio(s->engine->host_data, exit->gpa, exit->size, true, exit->data) !=
		NX_ROUTE_QUEUE ||
	    !host->queue(s->engine->host_data, exit->gpa, exit->size, exit->data))
		return false;
	s->engine->stay.routed = NX_ROUTE_QUEUE;
	s->engine->stay.class = NX_CLASS_MMIO;
	nx_cost_avoided(s->engine);
	if (loads)
		advance(s, NX_RSI);
	advance(s, NX_RDI);
	return true;
}

/*
 * One element of STOS, LODS or MOVS that meets a device, perhaps on both sides of a MOVS. NX_OK: it
 * is done.
 */
static enum nx_status device_element(const struct string *s, bool loads, bool stores)
{
	struct nx_string_pending pending = begin_pending(s, 1);
	struct nx_target from = {.device = false}, to = {.device = false};
	struct nx_exit exit = {.kind = NX_EXIT_MMIO, .size = (uint8_t)s->size, .count = 1};
	enum nx_status status = NX_OK;

	if (loads)
		status = nx_guest_resolve(s->engine, s->source, address(s, NX_RSI), s->size, false,
					  &from);
	if (status == NX_OK && stores)
		status = nx_guest_resolve(s->engine, NX_ES, address(s, NX_RDI), s->size, true, &to);
	if (status != NX_OK)
		return status;
	if (!from.device && !to.device)
		return NX_LEAVE_DEVICE_FORM;
	pending.source = loads;
	pending.destination = stores;
	if (from.device && to.device) {
		/* Once the first has been read there is no way back: the second is asked about now.
		 */
		pending.route =
		    s->engine->host->route_mmio(s->engine->host_data, to.gpa, s->size, true, 0);
		if (pending.route == NX_ROUTE_LEAVE)
			return NX_LEAVE_HOST_ROUTE;
		exit.gpa = from.gpa;
		pending.input = NX_INPUT_DEVICE;
		pending.gpa = to.gpa;
	} else if (to.device) {
		exit.write = true;
		exit.gpa = to.gpa;
		exit.data = s->engine->context.gpr[NX_RAX] & nx_size_mask(s->size);
		if (loads)
			status = nx_guest_read(s->engine, s->source, address(s, NX_RSI), &exit.data,
					       s->size);
		if (status == NX_OK && queued(s, &exit, loads))
			return NX_OK;
	} else {
		exit.gpa = from.gpa;
		pending.input = stores ? NX_INPUT_MEMORY : NX_INPUT_RAX;
		pending.gpa = to.gpa;
	}
	return status == NX_OK ? nx_string_exit(s->engine, &pending, &exit) : status;
}

static struct string begin(struct nx_engine *engine, const struct nx_decoded *d)
{
	/* The memory operand, which each of them has, says the size. */
	struct string s = {.engine = engine, .d = d, .size = 1, .source = NX_DS};

	s.address_bytes = d->insn.address_width / 8u;
	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		if (d->op[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		s.size = d->op[i].size / 8u;
		if (d->op[i].mem.base == ZYDIS_REGISTER_SI ||
		    d->op[i].mem.base == ZYDIS_REGISTER_ESI ||
		    d->op[i].mem.base == ZYDIS_REGISTER_RSI)
			s.source = nx_segment_of(&d->op[i]);
	}
	return s;
}

/*
 * Repetition: by the count, and for comparisons by ZF. Where an element faults the processor gives
 * the handler the flags that the instruction found (SDM vol. 2, REP).
 */
static enum nx_status run(const struct string *s, enum nx_status (*one)(const struct string *),
			  bool compares)
{
	const struct nx_reg count = {.number = NX_RCX, .size = (uint8_t)s->address_bytes};
	struct nx_engine *engine = s->engine;
	const uint64_t flags = engine->context.flags;

	if (!nx_is_repeated(s->d))
		return one(s);
	while (address(s, NX_RCX)) {
		enum nx_status status = engine->string.elements ? one(s) : NX_LEAVE_LATENCY;

		if (status != NX_OK) {
			engine->context.flags = flags;
			return status;
		}
		engine->string.elements--;
		nx_reg_set(engine->context.gpr, &count, address(s, NX_RCX) - 1);
		if (compares && !(nx_rflags_get(engine) & NX_FL_ZF) ==
				    !(s->d->insn.attributes & ZYDIS_ATTRIB_HAS_REPNE))
			break;
	}
	return NX_OK;
}

static enum nx_status run_or_exit(struct nx_engine *engine, const struct nx_decoded *d,
				  enum nx_status (*one)(const struct string *), bool loads,
				  bool stores)
{
	const struct nx_reg count = {.number = NX_RCX, .size = d->insn.address_width / 8u};
	struct string s = begin(engine, d);
	enum nx_status status;

	for (;;) {
		status = run(&s, one, false);
		if (status != NX_LEAVE_DEVICE_FORM)
			return status;
		status = device_element(&s, loads, stores);
		if (status != NX_OK || !nx_is_repeated(d))
			return status;
		engine->string.elements--;
		nx_reg_set(engine->context.gpr, &count, address(&s, NX_RCX) - 1);
	}
}

enum nx_status nx_help_movs(struct nx_engine *engine, const struct nx_decoded *d)
{
	return run_or_exit(engine, d, one_movs, true, true);
}

enum nx_status nx_help_stos(struct nx_engine *engine, const struct nx_decoded *d)
{
	return run_or_exit(engine, d, one_stos, false, true);
}

enum nx_status nx_help_lods(struct nx_engine *engine, const struct nx_decoded *d)
{
	return run_or_exit(engine, d, one_lods, true, false);
}

enum nx_status nx_help_scas(struct nx_engine *engine, const struct nx_decoded *d)
{
	struct string s = begin(engine, d);

	return run(&s, one_scas, true);
}

enum nx_status nx_help_cmps(struct nx_engine *engine, const struct nx_decoded *d)
{
	struct string s = begin(engine, d);

	return run(&s, one_cmps, true);
}

/* ---- INS and OUTS: a string exit of as many elements as one buffer and one page hold ---- */

static unsigned elements(const struct string *s, unsigned pointer)
{
	uint64_t count = nx_is_repeated(s->d) ? address(s, NX_RCX) : 1;
	uint64_t limit = NX_STRING_BYTES / s->size;
	uint64_t room = (nx_size_mask(s->address_bytes) - address(s, pointer)) / s->size;

	if (s->engine->context.rflags & NX_FL_DF || !room)
		limit = 1;
	else if (limit > room)
		limit = room;
	return (unsigned)(count < limit ? count : limit);
}

static struct nx_exit begin_io(const struct string *s, bool write)
{
	return (struct nx_exit){
	    .kind = NX_EXIT_IO,
	    .write = write,
	    .size = (uint8_t)s->size,
	    .port = (uint16_t)s->engine->context.gpr[NX_RDX],
	    .string = s->engine->string.bytes,
	};
}

enum nx_status nx_help_outs(struct nx_engine *engine, const struct nx_decoded *d)
{
	struct string s = begin(engine, d);
	unsigned count = elements(&s, NX_RSI), done;
	struct nx_string_pending pending;
	struct nx_exit exit;

	if (!count)
		return NX_OK;
	for (done = 0; done < count; done++) {
		uint64_t value;
		enum nx_status status = nx_guest_read(
		    engine, s.source, address(&s, NX_RSI) + done * s.size, &value, s.size);

		if (status != NX_OK && !done)
			return status;
		if (status != NX_OK)
			break;
		nx_memcpy(engine->string.bytes + done * s.size, &value, s.size);
	}
	exit = begin_io(&s, true);
	exit.count = done;
	pending = begin_pending(&s, done);
	pending.source = true;
	return nx_string_exit(engine, &pending, &exit);
}

enum nx_status nx_help_ins(struct nx_engine *engine, const struct nx_decoded *d)
{
	struct string s = begin(engine, d);
	unsigned count = elements(&s, NX_RDI), room;
	struct nx_string_pending pending;
	struct nx_target to = {.device = false};
	struct nx_exit exit;
	enum nx_status status;

	if (!count)
		return NX_OK;
	status = nx_guest_resolve(engine, NX_ES, address(&s, NX_RDI), s.size, true, &to);
	if (status == NX_OK && to.device)
		status = NX_LEAVE_DEVICE_FORM;
	if (status != NX_OK)
		return status;
	room = (unsigned)(NX_PAGE_SIZE - (to.gpa & ~NX_PAGE_MASK)) / s.size;
	if (count > room)
		count = room;
	/* The segment may end before the page does. */
	if (count > 1 && nx_guest_resolve(engine, NX_ES, address(&s, NX_RDI), count * s.size, true,
					  &to) != NX_OK)
		count = 1;
	exit = begin_io(&s, false);
	exit.count = count;
	pending = begin_pending(&s, count);
	pending.destination = true;
	pending.input = NX_INPUT_MEMORY;
	pending.gpa = to.gpa;
	return nx_string_exit(engine, &pending, &exit);
}
