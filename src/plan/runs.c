/* SPDX-License-Identifier: BSD-3-Clause */
/* The next view as the planner sees it: runs of memory, in whole pages. */
#include "plan/draft.h"

static const struct gm_node *first_backed(const struct gm_node *view, struct gm_range within)
{
	const struct gm_node *n = gm_tree_first(view, within);

	while (n && !gm_seg_backed(gm_seg_of(n)))
		n = gm_tree_next(view, within, n->range.first, n->tag);
	return n;
}

/* READONLY memory is not logged: no guest can write it, and the bit would cost a split where a logged region
 * is part read-only. */
static uint32_t flags_of(const struct gm_seg *s)
{
	uint32_t flags = 0;

	if (s->kind == GM_SEG_ROMD || (s->flags & GM_SEG_READONLY))
		flags |= GM_SLOT_READONLY;
	if (s->flags & GM_SEG_GUEST_MEMFD)
		flags |= GM_SLOT_GUEST_MEMFD;
	if ((s->flags & GM_SEG_LOG) && !flags)
		flags |= GM_SLOT_LOG;
	return flags;
}

struct gm_slot gm_run_slot(const struct gm_run *run, unsigned space)
{
	const struct gm_seg *s = &run->seg;
	bool gmem = s->flags & GM_SEG_GUEST_MEMFD;

	return (struct gm_slot){
		.gpa = run->range,
		.hva = s->hva,
		.region = s->region,
		.offset = s->offset,
		.group = s->group,
		.gmem_fd = gmem ? s->gmem_fd : -1,
		.gmem_offset = gmem ? s->gmem_offset : 0,
		.space = space,
		.flags = flags_of(s),
	};
}

/* Could @run and @n, which comes next, be one slot? Segments may differ where slots don't. */
static bool goes_on(const struct gm_run *run, const struct gm_node *n)
{
	struct gm_run next = {n->range, *gm_seg_of(n)};
	struct gm_slot a, b;

	if (n->range.first != run->range.last + 1 || !gm_seg_backed(&next.seg))
		return false;
	a = gm_run_slot(run, 0);
	b = gm_run_slot(&next, 0);
	return a.flags == b.flags && gm_slot_same_backing(&a, &b);
}

bool gm_run_find(const struct gm_node *view, struct gm_range within, struct gm_run *ret)
{
	const struct gm_node *n = first_backed(view, within);
	struct gm_run run;

	if (!n || !gm_range_intersect(n->range, within, &run.range))
		return false;
	run.seg = gm_seg_advance(gm_seg_of(n), n->range.first, run.range.first);
	/* Neighbours in a view may be one, although the view has not joined them. */
	while (run.range.last != within.last) {
		n = gm_tree_next(view, within, n->range.first, n->tag);
		if (!n || !goes_on(&run, n))
			break;
		run.range.last = n->range.last < within.last ? n->range.last : within.last;
	}
	*ret = run;
	return true;
}

bool gm_range_to_pages(struct gm_range r, uint64_t page_size, bool outward, struct gm_range *ret)
{
	uint64_t mask = page_size - 1;

	if (outward) {
		*ret = (struct gm_range){r.first & ~mask, r.last | mask};
		return true;
	}
	if (r.first & mask) {
		if ((r.first | mask) == UINT64_MAX)
			return false;
		r.first = (r.first | mask) + 1;
	}
	if ((r.last & mask) != mask) {
		if (r.last <= mask)
			return false;
		r.last = (r.last & ~mask) - 1;
	}
	*ret = r;
	return r.first <= r.last;
}
