/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which slots log a part of a region: an array, ordered by region and offset, in which each region's part is also a
 * balanced tree.
 *
 * Invariants:
 *  LG1  The root of the tree of s[0 .. n) is s[n / 2], and its kids are the trees of what is before and behind it.
 *       most_last is the greatest last offset in the tree of which the entry is the root. One region's slots may show
 *       the same memory more than once, so the ranges overlap, and the last offsets have no order.
 */
#include "ops/logged.h"

#include <errno.h>
#include <stdlib.h>

struct gm_logged_slot {
	const struct gpamap_region *region;
	struct gm_range offsets;
	uint64_t most_last; /* LG1 */
	const struct gm_slot *slot;
};

void gm_logged_init(struct gm_logged *l, const struct gm_alloc *alloc)
{
	*l = (struct gm_logged){.alloc = alloc};
}

void gm_logged_destroy(struct gm_logged *l)
{
	gm_free(l->alloc, l->s);
}

/* ----------------------------------------------------------------------------- making --- */

static int add(struct gm_logged *l, const struct gm_slot *slot)
{
	if (!(slot->flags & GM_SLOT_LOG))
		return 0;
	if (gm_array_reserve(l->alloc, (void **)&l->s, &l->room, l->n + 1, sizeof(*l->s)))
		return -ENOMEM;
	l->s[l->n++] = (struct gm_logged_slot){
		.region = slot->region,
		.offsets = {slot->offset, slot->offset + (slot->gpa.last - slot->gpa.first)},
		.slot = slot,
	};
	return 0;
}

static int by_memory(const void *a, const void *b)
{
	const struct gm_logged_slot *x = a, *y = b;

	if (x->region != y->region)
		return x->region->serial < y->region->serial ? -1 : 1;
	if (x->offsets.first != y->offsets.first)
		return x->offsets.first < y->offsets.first ? -1 : 1;
	return 0;
}

/* LG1. Returns the greatest last offset. */
static uint64_t make_tree(struct gm_logged_slot *s, size_t n)
{
	size_t root = n / 2;
	uint64_t before, behind, most;

	if (!n)
		return 0;
	before = make_tree(s, root);
	behind = make_tree(s + root + 1, n - root - 1);
	most = s[root].offsets.last;
	if (before > most)
		most = before;
	if (behind > most)
		most = behind;
	s[root].most_last = most;
	return most;
}

/* Where the slots of the region that s[@from] is of end. */
static size_t end_of_region(const struct gm_logged *l, size_t from)
{
	size_t i = from;

	while (i < l->n && l->s[i].region == l->s[from].region)
		i++;
	return i;
}

static int collect(struct gm_logged *l, const struct gm_slots *slots, unsigned nr_spaces)
{
	struct gm_range all = {0, UINT64_MAX};

	for (unsigned i = 0; i < nr_spaces; i++) {
		gm_tree_for_each (node, slots[i].tree.base, all) {
			if (add(l, gm_slot_of(node)))
				return -ENOMEM;
		}
	}
	return 0;
}

int gm_logged_follow(struct gm_logged *l, const struct gm_slots *slots, unsigned nr_spaces)
{
	uint64_t versions = 0;

	/* Each of them only grows. */
	for (unsigned i = 0; i < nr_spaces; i++)
		versions += slots[i].tree.stamp;
	if (l->made && l->versions == versions)
		return 0;
	l->made = false;
	l->n = 0;
	if (collect(l, slots, nr_spaces))
		return -ENOMEM;
	if (l->n)
		qsort(l->s, l->n, sizeof(*l->s), by_memory);
	for (size_t i = 0, end; i < l->n; i = end) {
		end = end_of_region(l, i);
		make_tree(l->s + i, end - i);
	}
	l->versions = versions;
	l->made = true;
	return 0;
}

/* ---------------------------------------------------------------------------- looking --- */

struct query {
	struct gm_range offsets;
	int (*each)(void *arg, const struct gm_slot *slot);
	void *arg;
};

static int visit(const struct gm_logged_slot *s, size_t n, const struct query *q)
{
	size_t root = n / 2;
	int err;

	if (!n || s[root].most_last < q->offsets.first)
		return 0;
	err = visit(s, root, q);
	if (err || s[root].offsets.first > q->offsets.last)
		return err;
	if (s[root].offsets.last >= q->offsets.first)
		err = q->each(q->arg, s[root].slot);
	return err ? err : visit(s + root + 1, n - root - 1, q);
}

/* The first entry whose region's serial is @serial or more. */
static size_t lower_bound(const struct gm_logged *l, uint64_t serial)
{
	size_t from = 0, to = l->n;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (l->s[mid].region->serial < serial)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

int gm_logged_each(const struct gm_logged *l, const struct gpamap_region *r,
		   struct gm_range offsets, int (*each)(void *arg, const struct gm_slot *slot),
		   void *arg)
{
	struct query q = {offsets, each, arg};
	size_t from = lower_bound(l, r->serial), to = lower_bound(l, r->serial + 1);

	if (from == to)
		return 0;
	return visit(l->s + from, to - from, &q);
}
