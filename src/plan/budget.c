/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Do the slots fit, at every moment? Early creates stand beside all old slots, critical ones beside those that
 * the critical part does not delete.
 *
 * Where they don't, pieces are merged again. That shuts the gate, so more than needed are merged at a time.
 * What still does not fit waits for the gate to shut: early creates become critical, and late deletes
 * make room for them there.
 */
#include <errno.h>
#include <stdlib.h>

#include "plan/draft.h"

/* One slot of so many is merged beyond need, so that a space that is full looks for pieces, and shuts the gate
 * for it, only now and then. */
#define SURPLUS_PART 512

/* Numbers of slots of one space. */
struct budget {
	int64_t free;	  /* that may be created before anything is deleted; may be negative */
	int64_t early;	  /* creates */
	int64_t critical; /* creates */
	int64_t freed;	  /* by the critical part */
	int64_t late;	  /* deletes */
};

uint32_t gm_draft_capacity(const struct gm_draft *d)
{
	const struct gm_ids *ids = &d->slots->ids;
	uint32_t usable = ids->limit - ids->nr_reserved;

	return usable < ids->max_taken ? usable : ids->max_taken;
}

/* ids.nr_taken counts the missing slots, which the kernel does not have, and not the strays, which it does.
 * An id may be that of both. */
static struct budget count(const struct gm_draft *d)
{
	const struct gm_ids *ids = &d->slots->ids;
	struct budget b = {.free = (int64_t)gm_draft_capacity(d) - ids->nr_taken};

	for (size_t i = 0; i < d->nr_stray_ids; i++) {
		if (!gm_ids_has(ids, d->stray_ids[i])) {
			b.free--;
			b.freed++;
		}
	}
	for (size_t i = 0; i < d->gone.n; i++) {
		const struct gm_piece *p = &d->gone.p[i];

		if (p->slot.missing && !gm_draft_is_stray(d, p->slot.id))
			b.free++;
		else if (p->slot.missing || (p->mate == GM_NO_MATE && p->phase == GM_CRITICAL))
			b.freed++;
		else if (p->mate == GM_NO_MATE)
			b.late++;
	}
	for (size_t i = 0; i < d->come.n; i++) {
		const struct gm_piece *p = &d->come.p[i];

		if (p->mate == GM_NO_MATE)
			*(p->phase == GM_EARLY ? &b.early : &b.critical) += 1;
	}
	return b;
}

/* Early creates for which there's no room before the gate is shut. */
static int64_t too_early(const struct budget *b)
{
	int64_t fit = b->free > 0 ? b->free : 0;

	return b->early > fit ? b->early - fit : 0;
}

/* Slots that are missing at the end of the critical part. */
static int64_t lacking(const struct budget *b)
{
	return b->early + b->critical - b->free - b->freed;
}

static void defer_creates(struct gm_draft *d, int64_t n)
{
	for (size_t i = d->come.n; i-- > 0 && n > 0;) {
		struct gm_piece *p = &d->come.p[i];

		if (p->mate == GM_NO_MATE && p->phase == GM_EARLY) {
			p->phase = GM_CRITICAL;
			n--;
		}
	}
}

static void advance_deletes(struct gm_draft *d, int64_t n)
{
	for (size_t i = 0; i < d->gone.n && n > 0; i++) {
		struct gm_piece *p = &d->gone.p[i];

		if (p->mate == GM_NO_MATE && p->phase == GM_LATE && !p->slot.missing) {
			p->phase = GM_CRITICAL;
			n--;
		}
	}
}

static int fit(struct gm_draft *d)
{
	struct budget b = count(d);
	uint32_t capacity = gm_draft_capacity(d);

	if (lacking(&b) > b.late)
		return gm_fail(d->msg, -ENOSPC,
			       "address space %u needs %lld memory slots, and has %u", d->space,
			       (long long)(capacity + lacking(&b) - b.late), capacity);
	defer_creates(d, too_early(&b));
	advance_deletes(d, lacking(&b));
	return 0;
}

static int classify_and_pair(struct gm_draft *d)
{
	int err = gm_draft_classify(d);

	return err ? err : gm_draft_pair(d);
}

static int merge(struct gm_draft *d, size_t want)
{
	int64_t before = (int64_t)d->come.n - (int64_t)d->gone.n, after;
	bool found;
	int err = gm_draft_merge(d, want, &found);

	if (err || !found)
		return err;
	err = classify_and_pair(d);
	after = (int64_t)d->come.n - (int64_t)d->gone.n;
	if (!err && after < before)
		d->merged = (uint32_t)(before - after);
	return err;
}

static int collect_strays(struct gm_draft *d)
{
	const struct gm_plan_input *in = d->in;

	if (!in->nr_strays)
		return 0;
	d->stray_ids = gm_calloc(d->alloc, in->nr_strays, sizeof(*d->stray_ids));
	if (!d->stray_ids)
		return -ENOMEM;
	for (size_t i = 0; i < in->nr_strays; i++) {
		if (in->strays[i].space == d->space)
			d->stray_ids[d->nr_stray_ids++] = in->strays[i].id;
	}
	gm_draft_sort_ids(d->stray_ids, d->nr_stray_ids);
	return 0;
}

int gm_draft_fill(struct gm_draft *d)
{
	struct budget b;
	int err = collect_strays(d);

	if (!err)
		err = classify_and_pair(d);
	if (err)
		return err;
	b = count(d);
	if (lacking(&b) > 0)
		err = merge(d, (size_t)lacking(&b) + gm_draft_capacity(d) / SURPLUS_PART);
	return err ? err : fit(d);
}

void gm_draft_destroy(struct gm_draft *d)
{
	gm_windows_destroy(&d->touched);
	gm_windows_destroy(&d->area);
	gm_free(d->alloc, d->gone.p);
	gm_free(d->alloc, d->come.p);
	gm_free(d->alloc, d->kept);
	gm_free(d->alloc, d->forced);
	gm_free(d->alloc, d->stray_ids);
}
