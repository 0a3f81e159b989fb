/* SPDX-License-Identifier: BSD-3-Clause */
/* See engine.h. */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int slot_ioctl(struct engine *e, const struct engine_slot *s, uint64_t size)
{
	const struct port_slot p = {
		.id = s->id,
		.readonly = s->seg.readonly,
		.log = s->seg.log,
		.gpa = s->seg.gpa,
		.size = size,
		.hva = s->seg.hva,
	};

	e->ioctls++;
	return e->run->port->set_slot(e->run->vm, &p);
}

static uint32_t take_id(struct engine *e)
{
	uint32_t id = STABLE_SLOT + 1;

	/* There are more ids than slots. */
	while (e->used[id])
		id++;
	e->used[id] = true;
	return id;
}

/* Note the bits of a slot in a bitmap of the arena's pages. */
static int collect(struct engine *e, const struct engine_slot *s, uint64_t *to)
{
	const struct arena *a = &e->run->arena;
	uint64_t begin = RAM_GPA + a->offset;
	int ret = e->run->port->get_dirty(e->run->vm, s->id, e->bitmap);

	if (ret)
		return ret;
	for (uint64_t i = 0; i < a->size / PAGE; i++) {
		uint64_t gpa = begin + i * PAGE, k = (gpa - s->seg.gpa) / PAGE;

		if (gpa < s->seg.gpa || gpa >= s->seg.gpa + s->seg.size)
			continue;
		if (e->bitmap[k / 64] & (UINT64_C(1) << (k % 64)))
			to[i / 64] |= UINT64_C(1) << (i % 64);
	}
	return 0;
}

static bool same_but_log(const struct seg *a, const struct seg *b)
{
	return a->gpa == b->gpa && a->size == b->size && a->hva == b->hva &&
	       a->readonly == b->readonly;
}

void engine_plan(struct engine *e)
{
	size_t k = 0;

	for (size_t i = 0; i < e->count; i++)
		e->slot[i].stays = false;
	e->next_count = arena_flat(&e->run->arena, e->flat);
	for (size_t i = 0; i < e->next_count; i++) {
		struct engine_slot *n = &e->next[i];

		*n = (struct engine_slot){.seg = e->flat[i]};
		while (k < e->count && e->slot[k].seg.gpa < n->seg.gpa)
			k++;
		if (k == e->count || !same_but_log(&e->slot[k].seg, &n->seg))
			continue;
		e->slot[k].stays = true;
		n->stays = true;
		n->id = e->slot[k].id;
	}
}

bool engine_overlaps(const struct engine *e)
{
	size_t k = 0;

	for (size_t i = 0; i < e->count; i++) {
		const struct seg *s = &e->slot[i].seg;

		if (e->slot[i].stays)
			continue;
		while (k < e->next_count && e->next[k].seg.gpa + e->next[k].seg.size <= s->gpa)
			k++;
		for (size_t j = k; j < e->next_count && e->next[j].seg.gpa < s->gpa + s->size;
		     j++) {
			if (!e->next[j].stays)
				return true;
		}
	}
	return false;
}

/* Of the slots that stay: logging on or off in place. */
static int do_flags(struct engine *e)
{
	size_t k = 0;
	int ret = 0;

	for (size_t i = 0; !ret && i < e->next_count; i++) {
		const struct engine_slot *n = &e->next[i];

		if (!n->stays)
			continue;
		while (e->slot[k].seg.gpa < n->seg.gpa)
			k++;
		if (e->slot[k].seg.log != n->seg.log)
			ret = slot_ioctl(e, n, n->seg.size);
	}
	return ret;
}

static int do_deletes(struct engine *e, bool harvest, unsigned *count)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < e->count; i++) {
		const struct engine_slot *s = &e->slot[i];

		if (s->stays)
			continue;
		if (harvest && s->seg.log)
			ret = collect(e, s, e->carry);
		if (!ret)
			ret = slot_ioctl(e, s, 0);
		e->used[s->id] = false;
		(*count)++;
	}
	return ret;
}

static int do_creates(struct engine *e, unsigned *count)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < e->next_count; i++) {
		struct engine_slot *n = &e->next[i];

		if (n->stays)
			continue;
		n->id = take_id(e);
		ret = slot_ioctl(e, n, n->seg.size);
		(*count)++;
	}
	return ret;
}

int engine_do(struct engine *e, bool harvest, uint64_t *ns)
{
	struct engine_slot *old = e->slot;
	unsigned deletes = 0, creates = 0;
	uint64_t begin;
	int ret = do_flags(e);

	if (ret)
		return ret;
	begin = now_ns();
	ret = do_deletes(e, harvest, &deletes);
	if (!ret)
		ret = do_creates(e, &creates);
	*ns = deletes && creates ? now_ns() - begin : 0;
	e->slot = e->next;
	e->count = e->next_count;
	e->next = old;
	return ret;
}

int engine_fetch_dirty(struct engine *e, uint64_t *bitmap)
{
	uint64_t words = e->run->arena.size / PAGE / 64;
	int ret = 0;

	for (uint64_t i = 0; i < words; i++) {
		bitmap[i] |= e->carry[i];
		e->carry[i] = 0;
	}
	for (size_t i = 0; !ret && i < e->count; i++) {
		if (e->slot[i].seg.log)
			ret = collect(e, &e->slot[i], bitmap);
	}
	return ret;
}

int engine_init(struct engine *e, struct run *r)
{
	uint64_t pages = r->arena.memory / PAGE + TAIL_PAGES, ns;
	int ret = -ENOMEM;

	memset(e, 0, sizeof(*e));
	e->run = r;
	e->room = arena_max_segs(&r->arena);
	e->slot = calloc(e->room, sizeof(*e->slot));
	e->next = calloc(e->room, sizeof(*e->next));
	e->flat = calloc(e->room, sizeof(*e->flat));
	e->used = calloc(STABLE_SLOT + 2 + e->room, sizeof(*e->used));
	e->bitmap = calloc(pages / 64 + 1, sizeof(*e->bitmap));
	e->carry = calloc(r->arena.size / PAGE / 64, sizeof(*e->carry));
	if (e->slot && e->next && e->flat && e->used && e->bitmap && e->carry) {
		engine_plan(e);
		ret = engine_do(e, false, &ns);
	}
	if (ret)
		engine_destroy(e);
	e->ioctls = 0;
	return ret;
}

void engine_destroy(struct engine *e)
{
	free(e->slot);
	free(e->next);
	free(e->flat);
	free(e->used);
	free(e->bitmap);
	free(e->carry);
	memset(e, 0, sizeof(*e));
}
