/* SPDX-License-Identifier: BSD-3-Clause */
/* What differs between two sets of views; see change.h. */
#include <errno.h>

#include "map/region.h"
#include "ops/access.h"
#include "ops/change.h"

struct gpamap_change *gm_change_new(const struct gm_alloc *alloc, unsigned nr_spaces)
{
	struct gpamap_change *c = gm_calloc(alloc, 1, sizeof(*c) + nr_spaces * sizeof(c->views[0]));

	if (c) {
		c->alloc = alloc;
		c->nr_spaces = nr_spaces;
	}
	return c;
}

void gm_change_free(struct gpamap_change *c)
{
	if (!c)
		return;
	gm_free(c->alloc, c->ranges);
	gm_free(c->alloc, c);
}

/* The part of a segment that is in @to; its kind is 0 where there is none. */
static struct gpamap_segment cut(const struct gm_node *n, struct gm_range to)
{
	struct gm_seg seg;

	if (!n)
		return (struct gpamap_segment){0};
	seg = gm_seg_advance(gm_seg_of(n), n->range.first, to.first);
	return gm_segment_as_data(to, &seg);
}

/* Is it the same byte of the same region? */
static bool same_place(const struct gm_node *a, const struct gm_node *b, uint64_t gpa)
{
	struct gm_seg s = gm_seg_advance(gm_seg_of(a), a->range.first, gpa);
	struct gm_seg t = gm_seg_advance(gm_seg_of(b), b->range.first, gpa);

	if (s.flags & t.flags & GM_SEG_GUEST_MEMFD)
		return s.gmem_fd == t.gmem_fd && s.gmem_offset == t.gmem_offset;
	return s.region == t.region && s.offset == t.offset;
}

/* Would whoever uses the memory or the device in @r notice? */
static bool differs(const struct gm_node *a, const struct gm_node *b, struct gm_range r)
{
	struct gpamap_segment before, after;

	if (!a || !b)
		return a || b;
	before = cut(a, r);
	after = cut(b, r);
	return before.kind != after.kind || before.prot != after.prot || before.log != after.log ||
	       before.hva != after.hva || gm_seg_of(a)->kind != gm_seg_of(b)->kind ||
	       !same_place(a, b, r.first);
}

static int append(struct gpamap_change *c, unsigned space, const struct gm_node *before,
		  const struct gm_node *after, struct gm_range range)
{
	int err = gm_array_reserve(c->alloc, (void **)&c->ranges, &c->room, c->n + 1,
				   sizeof(*c->ranges));

	if (err)
		return err;
	c->ranges[c->n++] = (struct gpamap_changed){
		.space = space,
		.gpa = range.first,
		.size = gm_range_size(range),
		.before = cut(before, range),
		.after = cut(after, range),
	};
	return 0;
}

/* The segment of @root at the beginning of @range, which is cut to where it, or the gap there, ends. */
static const struct gm_node *piece(const struct gm_node *root, struct gm_range *range)
{
	const struct gm_node *n = gm_tree_first(root, *range);

	if (!n)
		return NULL;
	if (n->range.first > range->first) {
		range->last = n->range.first - 1;
		return NULL;
	}
	if (range->last > n->range.last)
		range->last = n->range.last;
	return n;
}

int gm_change_add(struct gpamap_change *c, unsigned space, struct gm_range window)
{
	const struct gm_change_views *views = &c->views[space];
	struct gm_range at = window;

	for (;;) {
		const struct gm_node *before = piece(views->before, &at);
		const struct gm_node *after = piece(views->after, &at);

		if (differs(before, after, at)) {
			int err = append(c, space, before, after, at);

			if (err)
				return err;
		}
		if (at.last == window.last)
			return 0;
		at = (struct gm_range){at.last + 1, window.last};
	}
}

size_t gpamap_change_count(const struct gpamap_change *c)
{
	return c->n;
}

const struct gpamap_changed *gpamap_change_range(const struct gpamap_change *c, size_t i)
{
	return i < c->n ? &c->ranges[i] : NULL;
}

int gpamap_change_before(const struct gpamap_change *c, unsigned space, uint64_t gpa,
			 struct gpamap_segment *ret)
{
	return space < c->nr_spaces ? gm_lookup_in(c->views[space].before, gpa, ret) : -ENXIO;
}

int gpamap_change_after(const struct gpamap_change *c, unsigned space, uint64_t gpa,
			struct gpamap_segment *ret)
{
	return space < c->nr_spaces ? gm_lookup_in(c->views[space].after, gpa, ret) : -ENXIO;
}
