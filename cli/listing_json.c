/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* listing_json.c - clusters out of a file that noexit run --stats wrote, or something else did. */
#include <stdlib.h>
#include <string.h>

#include "listing.h"

static bool get(struct json_object *object, const char *key, enum json_type type,
		struct json_object **value)
{
	return json_object_object_get_ex(object, key, value) && json_object_is_type(*value, type);
}

static bool get_number(struct json_object *object, const char *key, uint64_t most, uint64_t *number)
{
	struct json_object *value;

	if (!get(object, key, json_type_int, &value) || json_object_get_int64(value) < 0)
		return false;
	*number = json_object_get_uint64(value);
	return *number <= most;
}

static bool get_address(struct json_object *object, const char *key, uint64_t *address)
{
	struct json_object *value;
	const char *text;
	char *end;

	if (!get(object, key, json_type_string, &value))
		return false;
	text = json_object_get_string(value);
	*address = strtoull(text, &end, 16);
	return end != text && !*end;
}

static bool get_flag(struct json_object *object, const char *key, uint8_t *flag)
{
	struct json_object *value;

	if (!get(object, key, json_type_boolean, &value))
		return false;
	*flag = json_object_get_boolean(value) != 0;
	return true;
}

static bool parse_edge(struct json_object *edge, struct nx_share_block *block)
{
	struct json_object *way, *limit;
	uint64_t to = NX_CLUSTER_NOWHERE;
	unsigned number;

	if (!get(edge, "way", json_type_string, &way))
		return false;
	if (!strcmp(json_object_get_string(way), "target")) {
		if (block->targets == NX_CLUSTER_EDGES - 2 ||
		    !get_address(edge, "rip", &block->target[block->targets]))
			return false;
		number = 2u + block->targets++;
	} else {
		number = !strcmp(json_object_get_string(way), "taken");
	}
	if (json_object_object_get_ex(edge, "to", NULL) &&
	    !get_number(edge, "to", NX_CLUSTER_NOWHERE, &to))
		return false;
	block->edge[number] = (uint16_t)to;
	if (get(edge, "limit", json_type_string, &limit))
		block->limit[number] =
		    !strcmp(json_object_get_string(limit), "weak") ? NX_EDGE_WEAK : NX_EDGE_IDLE;
	return true;
}

static bool parse_edges(struct json_object *element, struct nx_share_block *block)
{
	struct json_object *edges;

	for (unsigned i = 0; i < NX_CLUSTER_EDGES; i++)
		block->edge[i] = NX_CLUSTER_NOWHERE;
	if (!get(element, "edges", json_type_array, &edges))
		return false;
	for (size_t i = 0; i < json_object_array_length(edges); i++) {
		if (!parse_edge(json_object_array_get_idx(edges, i), block))
			return false;
	}
	return true;
}

static bool parse_shape(struct json_object *element, uint8_t *shape, unsigned count)
{
	struct json_object *lengths, *exits;

	if (!get(element, "lengths", json_type_array, &lengths) ||
	    !get(element, "exits", json_type_array, &exits))
		return false;
	for (unsigned i = 0; i < count; i++)
		shape[i] = (uint8_t)json_object_get_int(json_object_array_get_idx(lengths, i)) &
			   NX_SHAPE_LENGTH;
	for (size_t i = 0; i < json_object_array_length(exits); i++) {
		int at = json_object_get_int(json_object_array_get_idx(exits, i));

		if (at < 0 || (unsigned)at >= count)
			return false;
		shape[at] |= NX_SHAPE_EXITS;
	}
	return true;
}

static bool parse_code(const char *text, uint8_t *code)
{
	for (; *text; text += 2, code++) {
		char digits[3] = {text[0], text[1], 0}, *end;

		*code = (uint8_t)strtoul(digits, &end, 16);
		if (end != digits + 2)
			return false;
	}
	return true;
}

static bool parse_block(struct json_object *element, struct nx_share_clusters *to)
{
	struct nx_share_block *block = (void *)(to->data + to->used);
	struct json_object *lengths, *code;
	size_t size, bytes, count;

	if (!get(element, "lengths", json_type_array, &lengths) ||
	    !get(element, "code", json_type_string, &code))
		return false;
	count = json_object_array_length(lengths);
	bytes = (size_t)json_object_get_string_len(code) / 2;
	size = (sizeof(*block) + count + bytes + 7) & ~(size_t)7;
	if (count > UINT16_MAX || bytes > UINT16_MAX || NX_SHARE_DATA - to->used < size)
		return false;
	memset(block, 0, size);
	block->instructions = (uint16_t)count;
	block->bytes = (uint16_t)bytes;
	to->used += (uint32_t)size;
	return get_address(element, "rip", &block->rip) &&
	       get_flag(element, "entry", &block->entry) && parse_edges(element, block) &&
	       parse_shape(element, (uint8_t *)(block + 1), block->instructions) &&
	       parse_code(json_object_get_string(code), (uint8_t *)(block + 1) + count);
}

/* null: not measured. */
static bool get_benefit(struct json_object *object, int64_t *benefit)
{
	struct json_object *value;

	*benefit = NX_SHARE_UNMEASURED;
	if (!json_object_object_get_ex(object, "benefit_ns", &value))
		return false;
	if (value)
		*benefit = json_object_get_int64(value);
	return !value || json_object_is_type(value, json_type_int);
}

bool listing_from_json(struct json_object *element, struct nx_share_clusters *to)
{
	struct nx_share_cluster *cluster = &to->cluster[0];
	uint64_t bits, instructions, exiting;
	struct json_object *graph;

	to->used = 0;
	to->count = 1;
	memset(cluster, 0, sizeof(*cluster));
	if (!get_address(element, "entry", &cluster->entry_rip) ||
	    !get_number(element, "bits", 64, &bits) ||
	    !get_number(element, "instructions", UINT32_MAX, &instructions) ||
	    !get_number(element, "exiting", UINT32_MAX, &exiting) ||
	    !get_number(element, "executions", UINT64_MAX, &cluster->executions) ||
	    !get_number(element, "exits_avoided", UINT64_MAX, &cluster->exits) ||
	    !get_number(element, "takeovers", UINT64_MAX, &cluster->stays) ||
	    !get_benefit(element, &cluster->benefit_ns) ||
	    !get_flag(element, "dropped", &cluster->dropped) ||
	    !get(element, "graph", json_type_array, &graph))
		return false;
	cluster->bits = (uint8_t)bits;
	cluster->instructions = (uint32_t)instructions;
	cluster->exiting = (uint32_t)exiting;
	for (size_t i = 0; i < json_object_array_length(graph); i++) {
		if (!parse_block(json_object_array_get_idx(graph, i), to))
			return false;
	}
	cluster->data_bytes = to->used;
	return true;
}
