/* SPDX-License-Identifier: BSD-3-Clause */
/* Slot ids of an address space: three bitmaps, and a hint that keeps looking for a free one short. */
#include <errno.h>

#include "plan/slot.h"

#define WORD_BITS 64u

static bool test(const uint64_t *map, uint32_t id)
{
	return map[id / WORD_BITS] >> id % WORD_BITS & 1;
}

static void set(uint64_t *map, uint32_t id)
{
	map[id / WORD_BITS] |= UINT64_C(1) << id % WORD_BITS;
}

static uint32_t nr_words(uint32_t limit)
{
	return limit / WORD_BITS + (limit % WORD_BITS != 0);
}

int gm_ids_init(struct gm_ids *ids, const struct gm_alloc *alloc, uint32_t limit,
		uint32_t max_taken)
{
	uint32_t words = nr_words(limit);

	*ids = (struct gm_ids){.alloc = alloc, .limit = limit, .max_taken = max_taken};
	ids->taken = gm_calloc(alloc, words, sizeof(*ids->taken));
	ids->reserved = gm_calloc(alloc, words, sizeof(*ids->reserved));
	ids->known = gm_calloc(alloc, words, sizeof(*ids->known));
	if (ids->taken && ids->reserved && ids->known)
		return 0;
	gm_ids_destroy(ids);
	return -ENOMEM;
}

void gm_ids_destroy(struct gm_ids *ids)
{
	gm_free(ids->alloc, ids->taken);
	gm_free(ids->alloc, ids->reserved);
	gm_free(ids->alloc, ids->known);
	*ids = (struct gm_ids){.alloc = ids->alloc};
}

int gm_ids_reserve(struct gm_ids *ids, uint32_t first, uint32_t count)
{
	if (first > ids->limit || count > ids->limit - first)
		return -ERANGE;
	for (uint32_t i = 0; i < count; i++) {
		if (test(ids->taken, first + i))
			return -EBUSY;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (test(ids->reserved, first + i))
			continue;
		set(ids->reserved, first + i);
		ids->nr_reserved++;
	}
	return 0;
}

bool gm_ids_reserved(const struct gm_ids *ids, uint32_t id)
{
	return id < ids->limit && test(ids->reserved, id);
}

bool gm_ids_is_known(const struct gm_ids *ids, uint32_t id)
{
	return id < ids->limit && test(ids->known, id);
}

void gm_ids_set_known(struct gm_ids *ids, uint32_t id)
{
	if (id < ids->limit)
		set(ids->known, id);
}

static bool has(const struct gm_ids *ids, uint32_t id)
{
	return id < ids->limit && test(ids->taken, id);
}

void gm_ids_mark(struct gm_ids *ids, uint32_t id)
{
	set(ids->taken, id);
	ids->nr_taken++;
}

bool gm_ids_take(struct gm_ids *ids, uint32_t *ret)
{
	uint32_t words = nr_words(ids->limit);

	if (ids->nr_taken >= ids->max_taken)
		return false;
	for (uint32_t w = ids->hint / WORD_BITS; w < words; w++) {
		uint64_t free = ~(ids->taken[w] | ids->reserved[w]);
		uint32_t id;

		if (!free)
			continue;
		id = w * WORD_BITS + (uint32_t)__builtin_ctzll(free);
		if (id >= ids->limit)
			break;
		gm_ids_mark(ids, id);
		ids->hint = id + 1;
		*ret = id;
		return true;
	}
	ids->hint = ids->limit;
	return false;
}

void gm_ids_put(struct gm_ids *ids, uint32_t id)
{
	if (!has(ids, id))
		return;
	ids->taken[id / WORD_BITS] &= ~(UINT64_C(1) << id % WORD_BITS);
	ids->nr_taken--;
	if (ids->hint > id)
		ids->hint = id;
}
