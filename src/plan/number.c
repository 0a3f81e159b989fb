/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ids for what comes: first those that the plan itself sets free in time, then others; the lowest of each.
 *
 *  N1  An early create gets an id that no slot of the kernel has: a free one, or that of a missing slot.
 *  N2  A critical create may get one that a critical delete frees, of a slot or a stray.
 *  N3  What a late delete frees is free after the plan.
 *  N4  plan->ids has every id that is taken now and was free before (fresh), and every one that was taken
 *      before and is not needed after the plan.
 */
#include <errno.h>
#include <stdlib.h>

#include "plan/draft.h"

/* An id that becomes free on the way, and was the one of a stray alone or (taken) of an entry of the table. */
struct spare {
	uint32_t id;
	bool taken;
};

struct spares {
	struct spare *s;
	size_t n;
	size_t next;
};

static int compare_ids(const void *a, const void *b)
{
	uint32_t ia = *(const uint32_t *)a, ib = *(const uint32_t *)b;

	return (ia > ib) - (ia < ib);
}

void gm_draft_sort_ids(uint32_t *ids, size_t n)
{
	if (n > 1)
		qsort(ids, n, sizeof(*ids), compare_ids);
}

bool gm_draft_is_stray(const struct gm_draft *d, uint32_t id)
{
	return d->nr_stray_ids &&
	       bsearch(&id, d->stray_ids, d->nr_stray_ids, sizeof(*d->stray_ids), compare_ids);
}

static int by_id(const void *a, const void *b)
{
	return compare_ids(&((const struct spare *)a)->id, &((const struct spare *)b)->id);
}

/* Room was reserved. */
static void note(struct gm_draft *d, struct gm_plan *plan, uint32_t id, bool fresh)
{
	plan->ids[plan->nr_ids++] = (struct gm_plan_id){d->space, id, fresh};
}

/* Sort what goes by when its id is free: at once, in the critical part, or late. Ids of strays that are free in
 * the table are marked taken, lest an early create gets one. */
static void find_spares(struct gm_draft *d, struct gm_plan *plan, struct spares *now,
			struct spares *critical)
{
	for (size_t i = 0; i < d->gone.n; i++) {
		const struct gm_piece *p = &d->gone.p[i];
		struct spare s = {.id = p->slot.id, .taken = true};

		if (p->slot.missing && !gm_draft_is_stray(d, s.id))
			now->s[now->n++] = s;
		else if (p->slot.missing || (p->mate == GM_NO_MATE && p->phase == GM_CRITICAL))
			critical->s[critical->n++] = s;
		else if (p->mate == GM_NO_MATE)
			note(d, plan, s.id, false);
	}
	for (size_t i = 0; i < d->nr_stray_ids; i++) {
		struct spare s = {.id = d->stray_ids[i]};

		if (s.id >= d->slots->ids.limit || gm_ids_has(&d->slots->ids, s.id))
			continue;
		gm_ids_mark(&d->slots->ids, s.id);
		critical->s[critical->n++] = s;
	}
	if (now->n > 1)
		qsort(now->s, now->n, sizeof(*now->s), by_id);
	if (critical->n > 1)
		qsort(critical->s, critical->n, sizeof(*critical->s), by_id);
}

static bool take_spare(struct gm_draft *d, struct gm_plan *plan, struct spares *from, uint32_t *ret)
{
	const struct spare *s;

	if (from->next == from->n)
		return false;
	s = &from->s[from->next++];
	if (!s->taken)
		note(d, plan, s->id, true);
	*ret = s->id;
	return true;
}

static int number_phase(struct gm_draft *d, struct gm_plan *plan, enum gm_phase phase,
			struct spares *spares, int nr_spares)
{
	for (size_t i = 0; i < d->come.n; i++) {
		struct gm_piece *p = &d->come.p[i];
		bool done = false;

		if (p->mate != GM_NO_MATE || p->phase != phase)
			continue;
		for (int k = 0; !done && k < nr_spares; k++)
			done = take_spare(d, plan, &spares[k], &p->slot.id);
		if (done)
			continue;
		/* The budget says that there is one. */
		if (!gm_ids_take(&d->slots->ids, &p->slot.id))
			return gm_fail(d->msg, -ENOSPC, "address space %u has no slot id left",
				       d->space);
		note(d, plan, p->slot.id, true);
	}
	return 0;
}

/* A slot that moves keeps its id and its age. */
static void number_moves(struct gm_draft *d)
{
	for (size_t i = 0; i < d->come.n; i++) {
		struct gm_piece *p = &d->come.p[i];

		if (p->mate == GM_NO_MATE)
			continue;
		p->slot.id = d->gone.p[p->mate].slot.id;
		p->slot.stamp = d->gone.p[p->mate].slot.stamp;
	}
}

static void put_spares(struct gm_draft *d, struct gm_plan *plan, struct spares *from)
{
	for (; from->next < from->n; from->next++) {
		const struct spare *s = &from->s[from->next];

		if (s->taken)
			note(d, plan, s->id, false);
		else
			gm_ids_put(&d->slots->ids, s->id);
	}
}

int gm_draft_number(struct gm_draft *d, struct gm_plan *plan)
{
	size_t most = d->gone.n + d->nr_stray_ids;
	struct spares spares[2] = {0}; /* free now, free in the critical part */
	int err;

	if (!most && !d->come.n)
		return 0;
	err = gm_array_reserve(plan->alloc, (void **)&plan->ids, &plan->ids_room,
			       plan->nr_ids + most + d->come.n, sizeof(*plan->ids));
	if (err)
		return err;
	spares[0].s = gm_calloc(d->alloc, 2 * most, sizeof(*spares[0].s));
	if (!spares[0].s)
		return -ENOMEM;
	spares[1].s = spares[0].s + most;
	find_spares(d, plan, &spares[0], &spares[1]);
	number_moves(d);
	err = number_phase(d, plan, GM_EARLY, spares, 1);
	if (!err)
		err = number_phase(d, plan, GM_CRITICAL, spares, 2);
	put_spares(d, plan, &spares[0]);
	put_spares(d, plan, &spares[1]);
	gm_free(d->alloc, spares[0].s);
	return err;
}
