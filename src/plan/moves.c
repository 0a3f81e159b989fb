/* SPDX-License-Identifier: BSD-3-Clause */
/* What overlaps, and what could be one move. */
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

		if (gm_range_overlap(gone->slot.gpa, come->slot.gpa))
			gone->hit = come->hit = true;
		if (gone->slot.gpa.last < come->slot.gpa.last)
			g++;
		else
			c++;
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

		if (!(p->slot.flags & GM_SLOT_GUEST_MEMFD))
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

int gm_draft_pair(struct gm_draft *d)
{
	mark_hits(d);
	return find_pairs(d);
}
