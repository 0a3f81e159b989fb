/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ids for what comes: first those that the critical part sets free in time, then others; the lowest of each.
 *
 *  ID1  An early create gets an id that no slot has.
 *  ID2  A critical create may get one that a critical delete frees.
 *  ID3  What an early or late delete frees is free after the plan.
 *  ID4  plan->ids has every id that is taken now and was free before (fresh), and every one that was taken
 *       before and is not needed after the plan.
 */
#include <errno.h>
#include <stdlib.h>

#include "plan/draft.h"

/* Ids that critical deletes free. */
struct spares {
	uint32_t *id;
	size_t n;
	size_t next;
};

static int by_number(const void *a, const void *b)
{
	uint32_t ia = *(const uint32_t *)a, ib = *(const uint32_t *)b;

	return (ia > ib) - (ia < ib);
}

/* Room was reserved. */
static void note(struct gm_draft *d, struct gm_plan *plan, uint32_t id, bool fresh)
{
	plan->ids[plan->nr_ids++] = (struct gm_plan_id){d->space, id, fresh};
}

static void find_spares(struct gm_draft *d, struct gm_plan *plan, struct spares *ret)
{
	for (size_t i = 0; i < d->gone.n; i++) {
		const struct gm_piece *p = &d->gone.p[i];

		if (p->mate != GM_NO_MATE)
			continue;
		if (p->phase == GM_CRITICAL)
			ret->id[ret->n++] = p->slot.id;
		else
			note(d, plan, p->slot.id, false);
	}
	if (ret->n > 1)
		qsort(ret->id, ret->n, sizeof(*ret->id), by_number);
}

static int number_phase(struct gm_draft *d, struct gm_plan *plan, enum gm_phase phase,
			struct spares *spares)
{
	for (size_t i = 0; i < d->come.n; i++) {
		struct gm_piece *p = &d->come.p[i];

		if (p->mate != GM_NO_MATE || p->phase != phase)
			continue;
		if (phase == GM_CRITICAL && spares->next < spares->n) {
			p->slot.id = spares->id[spares->next++];
			continue;
		}
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

int gm_draft_number(struct gm_draft *d, struct gm_plan *plan)
{
	struct spares spares = {0};
	int err;

	if (!d->gone.n && !d->come.n)
		return 0;
	err = gm_array_reserve(plan->alloc, (void **)&plan->ids, &plan->ids_room,
			       plan->nr_ids + d->gone.n + d->come.n, sizeof(*plan->ids));
	if (err)
		return err;
	spares.id = gm_calloc(d->alloc, d->gone.n + 1, sizeof(*spares.id));
	if (!spares.id)
		return -ENOMEM;
	find_spares(d, plan, &spares);
	number_moves(d);
	err = number_phase(d, plan, GM_EARLY, &spares);
	if (!err)
		err = number_phase(d, plan, GM_CRITICAL, &spares);
	for (; spares.next < spares.n; spares.next++)
		note(d, plan, spares.id[spares.next], false);
	gm_free(d->alloc, spares.id);
	return err;
}
