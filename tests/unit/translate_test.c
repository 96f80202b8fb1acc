// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* translate.c: entries, sites and resume points of a translation, and what does not fit. */
#include "stage.h"

#define ROOM 65536u

static uint8_t code[ROOM];

struct guest {
	const char *name;
	const uint8_t *code, *resume, *stop, *end;
	enum mock_mode mode;
	enum nx_level level;
};

GUEST(exits, 64, "in al, dx",
      "mov cl, al; out dx, al; inc ecx; jz 1f; mov [rsi], ecx; 1: in eax, 0x60", "hlt");
GUEST(loops, 32, "in al, dx",
      "test al, 8; jnz loops; 1: in al, dx; test al, 8; jz 1b; mov [esp+0x18], al; out dx, al",
      "hlt");
GUEST(idle, 64, "in al, dx", "1: dec ecx; jnz 1b; out 0x80, al; push rbx; cld; out dx, ax", "hlt");
GUEST(real, 16, "out dx, al", "mov ax, [bx+si]; push ax; out dx, ax; pop cx; lodsb; out 0x80, al",
      "hlt");
GUEST(strings, 32, "in al, dx", "rep insb; mov eax, ecx; out dx, eax", "hlt");

#define ROW(name, mode, level)                                                   \
	{                                                                        \
#name, name, name##_resume, name##_stop, name##_end, mode, level \
	}

static const struct guest guests[] = {
    ROW(exits, MOCK_LONG64, NX_LEVEL_BRANCHES), ROW(loops, MOCK_PAE32, NX_LEVEL_LOOPS),
    ROW(loops, MOCK_FLAT32, NX_LEVEL_LOOPS),    ROW(idle, MOCK_LONG64, NX_LEVEL_PATHS),
    ROW(real, MOCK_REAL16, NX_LEVEL_STRAIGHT),  ROW(real, MOCK_PROT16, NX_LEVEL_STRAIGHT),
    ROW(strings, MOCK_FLAT32, NX_LEVEL_PATHS),
};

static struct mock *form(const struct guest *guest)
{
	struct mock *m = mock_new(guest->mode, 0, guest->level);

	mock_load(m, guest->code, guest->resume, guest->stop, guest->end);
	stage_begin(m);
	if (!stage_form(m, guest->level))
		fail_msg("%s: nothing formed", guest->name);
	return m;
}

static bool translate(struct mock *m, size_t capacity)
{
	memset(&m->engine->translation, 0, sizeof(m->engine->translation));
	return nx_translate(m->engine, &m->engine->graph, code, capacity, &m->engine->translation);
}

static void check_verified(struct mock *m, const char *name)
{
	const struct nx_translation *made = &m->engine->translation;
	uint32_t where = 0;
	enum nx_verify_result result =
	    nx_verify(code, made->size, made, &m->engine->thunks, &m->engine->verify, &where);

	if (result != NX_VERIFY_OK)
		fail_msg("%s, at %u of %u: %s", name, where, made->size, nx_verify_text(result));
}

/* Each entry block has one entry, in order, and no other has. */
static void check_entries(const struct mock *m)
{
	const struct nx_graph *graph = &m->engine->graph;
	const struct nx_translation *made = &m->engine->translation;
	unsigned entries = 0;
	bool start = false;

	for (unsigned i = 0; i < graph->blocks; i++) {
		if (!graph->block[i].entry)
			continue;
		assert_true(entries < made->entries);
		assert_int_equal(made->entry[entries].rip, graph->insn[graph->block[i].first].rip);
		assert_true(made->entry[entries].offset < made->size);
		start |= made->entry[entries].rip == m->start.rip;
		entries++;
	}
	assert_int_equal(made->entries, entries);
	assert_true(start);
}

static const struct nx_entry *entry_at(const struct nx_translation *made, uint64_t rip)
{
	for (unsigned i = 0; i < made->entries; i++)
		if (made->entry[i].rip == rip)
			return &made->entry[i];
	return NULL;
}

/* After an exit the resume leads to the entry behind it, where the cluster goes on there. */
static void check_sites(const struct mock *m)
{
	const struct nx_graph *graph = &m->engine->graph;
	const struct nx_translation *made = &m->engine->translation;
	unsigned io = 0, expected = 0;

	for (unsigned i = 0; i < graph->insns; i++)
		expected += nx_op_exits(graph->insn[i].op);
	for (unsigned i = 0; i < made->sites; i++) {
		const struct nx_site *site = &made->site[i];
		const struct nx_insn *insn = &graph->insn[site->insn];

		assert_true(site->insn < graph->insns);
		if (site->kind == NX_SITE_LEAVE) {
			assert_int_equal(site->resume, 0);
			assert_true(site->reason < NX_LEAVE_REASON_COUNT);
			continue;
		}
		assert_int_equal(site->rip, insn->rip);
		assert_int_equal(site->next, insn->rip + insn->len);
		assert_int_equal(site->len, insn->len);
		assert_memory_equal(site->bytes, insn->bytes, insn->len);
		if (site->kind != NX_SITE_IO)
			continue;
		io++;
		assert_int_equal(site->write, insn->op == NX_OP_OUT);
		assert_int_equal(site->size, insn->size);
		assert_int_equal(site->port_in_dx, insn->port_in_dx);
		assert_int_equal(site->port, insn->target);
		if (entry_at(made, site->next))
			assert_int_equal(site->resume, entry_at(made, site->next)->offset + 1);
		else
			assert_int_equal(site->resume, 0);
	}
	assert_int_equal(io, expected);
}

static void test_shape(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(guests) / sizeof(guests[0]); i++) {
		struct mock *m = form(&guests[i]);

		assert_true(translate(m, ROOM));
		check_verified(m, guests[i].name);
		check_entries(m);
		check_sites(m);
		mock_free(m);
	}
}

/* Behind the first port exit of this guest the cluster goes on; behind the last it does not. */
static void test_resume(void **state)
{
	struct mock *m = form(&guests[0]);
	const struct nx_translation *made = &m->engine->translation;
	const struct nx_site *first = NULL, *last = NULL;

	(void)state;
	assert_true(translate(m, ROOM));
	for (unsigned i = 0; i < made->sites; i++) {
		if (made->site[i].kind != NX_SITE_IO)
			continue;
		if (!first)
			first = &made->site[i];
		last = &made->site[i];
	}
	if (!first) {
		fail_msg("no port access");
		return;
	}
	assert_true(first != last && first->write && !last->write);
	assert_int_equal(made->entries, 2);
	assert_int_not_equal(first->resume, 0);
	assert_int_equal(first->resume - 1, made->entry[1].offset);
	assert_int_equal(last->resume, 0);
	assert_int_equal(last->port, 0x60);
	mock_free(m);
}

/* The code runs where it is mapped: it must not depend on where it was written. */
static void test_position(void **state)
{
	static uint8_t first[ROOM];

	(void)state;
	for (unsigned i = 0; i < sizeof(guests) / sizeof(guests[0]); i++) {
		struct mock *m = form(&guests[i]);
		struct nx_translation *made = &m->engine->translation;

		assert_true(translate(m, ROOM));
		memcpy(first, code, made->size);
		memset(code, 0, sizeof(code));
		assert_true(
		    nx_translate(m->engine, &m->engine->graph, code + 4099, ROOM - 4099, made));
		assert_memory_equal(code + 4099, first, made->size);
		mock_free(m);
	}
}

/* Too little room, by any number of bytes: refused, and nothing is written beyond it. */
static void test_capacity(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(guests) / sizeof(guests[0]); i++) {
		struct mock *m = form(&guests[i]);
		uint32_t size;

		assert_true(translate(m, ROOM));
		size = m->engine->translation.size;
		for (uint32_t capacity = 0; capacity < size; capacity++) {
			memset(code, 0xee, size + 64);
			assert_false(translate(m, capacity));
			for (uint32_t at = capacity; at < size + 64; at++)
				assert_int_equal(code[at], 0xee);
		}
		assert_true(translate(m, size));
		assert_int_equal(m->engine->translation.size, size);
		check_verified(m, guests[i].name);
		mock_free(m);
	}
}

GUEST(too_many, 64, "in al, dx", ".rept 255; mov eax, [rsi]; mov [rdi], eax; .endr; out dx, al",
      "hlt");

/* A long way to an exit: each access has a site and a check of its own, all proven. */
static void test_long(void **state)
{
	const struct guest guest = ROW(too_many, MOCK_LONG64, NX_LEVEL_PATHS);
	struct mock *m = form(&guest);

	(void)state;
	assert_int_equal(m->engine->graph.insns, 511);
	assert_true(translate(m, ROOM));
	assert_int_equal(m->engine->translation.sites, 511);
	check_verified(m, guest.name);
	check_sites(m);
	mock_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_shape),    cmocka_unit_test(test_resume),
	    cmocka_unit_test(test_position), cmocka_unit_test(test_capacity),
	    cmocka_unit_test(test_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
