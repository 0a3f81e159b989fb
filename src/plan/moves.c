/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What overlaps, what is one move, and the phase of each piece.
 *
 * A move is used where neither end overlaps anything, then it is late; and where its target overlaps
 * something, then it is critical, and takes the place of a create that would be. Where only its source does,
 * the delete alone is critical, and the create, which takes much longer for a large slot, is early: so it
 * is not used there.
 */
#include <errno.h>
#include <stdlib.h>

#include "plan/draft.h"

/* -------------------------------------------------------------------------- overlaps --- */

/* Both are sorted, and neither overlaps its like: one pass. */
static void mark_hits(struct gm_draft *d)
{
	size_t g = 0, c = 0;

	while (g < d->gone.n && c < d->come.n) {
		struct gm_piece *gone = &d->gone.p[g], *come = &d->come.p[c];

		if (!gone->slot.missing && gm_range_overlap(gone->slot.gpa, come->slot.gpa))
			gone->hit = come->hit = true;
		if (gone->slot.gpa.last < come->slot.gpa.last)
			g++;
		else
			c++;
	}
}

static void mark_stray_hits(struct gm_draft *d)
{
	for (size_t i = 0; i < d->in->nr_strays; i++) {
		const struct gm_slot *stray = &d->in->strays[i];

		if (stray->space != d->space)
			continue;
		for (size_t c = gm_pieces_from(&d->come, stray->gpa.first); c < d->come.n; c++) {
			if (d->come.p[c].slot.gpa.first > stray->gpa.last)
				break;
			d->come.p[c].hit = true;
		}
	}
}

/* ----------------------------------------------------------------------------- pairs --- */

/* By all that a move must keep. */
static int compare_memory(const struct gm_slot *a, const struct gm_slot *b)
{
	uint64_t a_size = a->gpa.last - a->gpa.first, b_size = b->gpa.last - b->gpa.first;
	uintptr_t a_region = (uintptr_t)a->region, b_region = (uintptr_t)b->region;

	if (a->hva != b->hva)
		return a->hva < b->hva ? -1 : 1;
	if (a_size != b_size)
		return a_size < b_size ? -1 : 1;
	if (a->flags != b->flags)
		return a->flags < b->flags ? -1 : 1;
	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	return (a_region > b_region) - (a_region < b_region);
}

static int by_memory(const void *a, const void *b)
{
	const struct gm_piece *pa = *(struct gm_piece *const *)a;
	const struct gm_piece *pb = *(struct gm_piece *const *)b;
	int order = compare_memory(&pa->slot, &pb->slot);

	if (order)
		return order;
	return (pa->slot.gpa.first > pb->slot.gpa.first) -
	       (pa->slot.gpa.first < pb->slot.gpa.first);
}

/* The pieces of @from that a move may take, sorted by memory, to @ret. */
static size_t sort_movable(struct gm_pieces *from, struct gm_piece **ret)
{
	size_t n = 0;

	for (size_t i = 0; i < from->n; i++) {
		struct gm_piece *p = &from->p[i];

		if (!p->slot.missing && !(p->slot.flags & GM_SLOT_GUEST_MEMFD))
			ret[n++] = p;
	}
	qsort(ret, n, sizeof(*ret), by_memory);
	return n;
}

static int find_pairs(struct gm_draft *d)
{
	struct gm_piece **gone, **come;
	size_t nr_gone, nr_come, g = 0, c = 0;

	if (!d->gone.n || !d->come.n)
		return 0;
	gone = gm_calloc(d->alloc, d->gone.n + d->come.n, sizeof(*gone));
	if (!gone)
		return -ENOMEM;
	come = gone + d->gone.n;
	nr_gone = sort_movable(&d->gone, gone);
	nr_come = sort_movable(&d->come, come);
	while (g < nr_gone && c < nr_come) {
		int order = compare_memory(&gone[g]->slot, &come[c]->slot);

		if (order == 0) {
			gone[g]->mate = (size_t)(come[c] - d->come.p);
			come[c]->mate = (size_t)(gone[g] - d->gone.p);
		}
		g += order <= 0;
		c += order >= 0;
	}
	gm_free(d->alloc, gone);
	return 0;
}

static void part(struct gm_draft *d, struct gm_piece *come)
{
	d->gone.p[come->mate].mate = GM_NO_MATE;
	come->mate = GM_NO_MATE;
}

/* Does the target of the move to @come overlap the source of another move? Slots that are deleted are gone by
 * then; that one may not be. */
static bool is_blocked(const struct gm_draft *d, const struct gm_piece *come)
{
	for (size_t g = gm_pieces_from(&d->gone, come->slot.gpa.first); g < d->gone.n; g++) {
		const struct gm_piece *gone = &d->gone.p[g];

		if (gone->slot.gpa.first > come->slot.gpa.last)
			break;
		if (gone->mate != GM_NO_MATE && g != come->mate)
			return true;
	}
	return false;
}

/* Then a move whose source is hit has a target that is hit. */
static void settle_pairs(struct gm_draft *d)
{
	for (size_t c = 0; c < d->come.n && !d->in->one_instant; c++) {
		struct gm_piece *come = &d->come.p[c];

		if (come->mate != GM_NO_MATE && !come->hit && d->gone.p[come->mate].hit)
			part(d, come);
	}
	for (size_t c = 0; c < d->come.n; c++) {
		struct gm_piece *come = &d->come.p[c];

		if (come->mate != GM_NO_MATE && come->hit && is_blocked(d, come))
			part(d, come);
	}
}

/* ---------------------------------------------------------------------------- phases --- */

static enum gm_phase unless_critical(bool critical, enum gm_phase otherwise)
{
	return critical ? GM_CRITICAL : otherwise;
}

static void set_phases(struct gm_draft *d)
{
	bool all = d->in->one_instant;

	for (size_t c = 0; c < d->come.n; c++) {
		struct gm_piece *p = &d->come.p[c];
		bool moves = p->mate != GM_NO_MATE;
		bool logs = moves && (d->gone.p[p->mate].slot.flags & GM_SLOT_LOG);

		p->phase = unless_critical(all || p->hit || logs, moves ? GM_LATE : GM_EARLY);
	}
	for (size_t g = 0; g < d->gone.n; g++) {
		struct gm_piece *p = &d->gone.p[g];
		bool logs = p->slot.flags & GM_SLOT_LOG;

		p->phase = p->mate != GM_NO_MATE ? d->come.p[p->mate].phase
						 : unless_critical(all || p->hit || logs, GM_LATE);
	}
	for (size_t k = 0; k < d->nr_kept; k++) {
		struct gm_kept *p = &d->kept[k];
		bool on = p->to.flags & GM_SLOT_LOG;

		p->phase = unless_critical(all, on ? GM_EARLY : GM_LATE);
	}
}

int gm_draft_pair(struct gm_draft *d)
{
	int err;

	mark_hits(d);
	mark_stray_hits(d);
	err = find_pairs(d);
	if (err)
		return err;
	settle_pairs(d);
	set_phases(d);
	return 0;
}
