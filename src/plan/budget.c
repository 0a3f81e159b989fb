/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Do the slots fit, at every moment? Early creates stand beside all old slots, critical ones beside those that
 * the critical part does not delete.
 *
 * Where they don't, memory that goes to another place moves there. If that is not enough, pieces are merged again.
 * That shuts the gate, so more than needed are merged at a time. If nothing is left to be merged, slots may be larger
 * than they are otherwise. What still does not fit waits for the gate to shut: early creates become critical, and late
 * deletes make room for them there.
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

static struct budget count(const struct gm_draft *d)
{
	const struct gm_ids *ids = &d->slots->ids;
	struct budget b = {.free = (int64_t)gm_draft_capacity(d) - ids->nr_taken};

	for (size_t i = 0; i < d->gone.n; i++) {
		const struct gm_piece *p = &d->gone.p[i];

		if (p->mate == GM_NO_MATE)
			*(p->phase == GM_CRITICAL ? &b.freed : &b.late) += 1;
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

/* Slots for which there's no room at the end of the critical part. */
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

		if (p->mate == GM_NO_MATE && p->phase == GM_LATE) {
			p->phase = GM_CRITICAL;
			n--;
		}
	}
}

int gm_draft_fit(struct gm_draft *d)
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

static int64_t surplus(const struct gm_draft *d)
{
	return (int64_t)d->come.n - (int64_t)d->gone.n;
}

/* Moves that don't pay may not be needed any more. */
static int classify_again(struct gm_draft *d, bool *again)
{
	int err;

	d->more_moves = 0;
	*again = true;
	err = gm_draft_classify(d);
	return err ? err : gm_draft_pair(d);
}

/* @helpless: late deletes, if they became critical, would not make enough room. */
static int merge_or_widen(struct gm_draft *d, size_t want, bool helpless, bool *again)
{
	int64_t before = surplus(d);
	bool found;
	int err = gm_draft_merge(d, want, &found);

	if (!err && !found)
		return helpless && gm_draft_widen(d) ? classify_again(d, again) : 0;
	if (!err)
		err = classify_again(d, again);
	if (!err && surplus(d) < before)
		d->merged += (uint32_t)(before - surplus(d));
	return err;
}

/* What moves needs no id. Else its delete and its create would both wait for the gate. */
static int prefer_moves(struct gm_draft *d, int64_t n)
{
	int err;

	d->more_moves = (size_t)n;
	err = gm_draft_pair(d);
	if (!err)
		gm_draft_phase(d);
	return err;
}

int gm_draft_relieve(struct gm_draft *d, bool *again)
{
	struct budget b = count(d);
	int64_t most = lacking(&b) > too_early(&b) ? lacking(&b) : too_early(&b);

	if (most > 0) {
		int err = prefer_moves(d, most);

		if (err)
			return err;
		b = count(d);
	}
	if (lacking(&b) <= 0)
		return 0;
	return merge_or_widen(d, (size_t)lacking(&b) + gm_draft_capacity(d) / SURPLUS_PART,
			      lacking(&b) > b.late, again);
}
