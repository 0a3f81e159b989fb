/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where does a region show? The windows of the address spaces that have to be flattened again.
 *
 * Why RG3 holds, by induction over the edits of a transaction:
 *  - When it begins, nothing differs, and no window is needed.
 *  - What stands at an address x of a space is found by going down from its root: through containers, to
 *    children, and through aliases, to targets. Each step is an enabled region that has the offset in
 *    question within its size. (Or x has a plain mapping, which lies above the tree.)
 *  - An edit changes what is found at some offsets of one region: those of a child that comes or goes, are
 *    between an old size and a new one, or all of them. If it changes what is found at x, the way down to x
 *    before or after the edit passes the region at one of these offsets. (A way that the edit hides or lays
 *    open ends on the other side of it, but up to the region it is the same.)
 *  - gm_mark() goes that way up: its steps are the inverses of the steps down, all of them, and an edit
 *    changes none of those above the region itself. So x gets into a window, and stays there: windows only
 *    grow until the transaction ends.
 * What would stop it at the region itself, its being disabled or too small, is what the edit changes. So the
 * verbs that change these let it look as if the region were enabled, or had the greater of the two sizes.
 *
 * Regions form a graph in which many ways can lead from a root to one of them: a container that shows the one below
 * twice, by aliases, 63 times over, has 2^63. So the search does not follow ways. It finds the regions above, and
 * leaves each of them once, when all that leads to it has been left, with the set of all ranges that have come.
 */
#include <errno.h>

#include "map/mark.h"

/* None, in place of an index. */
#define NONE SIZE_MAX

/* A range of offsets on its way up, waiting at a stop. */
struct carried {
	struct gm_range range;
	size_t next; /* at the same stop */
};

/* A region that the search passes. */
struct stop {
	struct gpamap_region *region;
	size_t awaited; /* stops from which ranges may still come */
	size_t first;	/* carried */
	size_t next;	/* of those that are ready */
};

struct search {
	const struct gm_alloc *alloc;
	uint64_t number;
	struct stop *stops; /* in the order of being found */
	size_t nr_stops;
	size_t stops_room;
	struct carried *carried;
	size_t nr_carried;
	size_t carried_room;
	struct gm_windows set; /* the ranges of the stop that is being left */
	size_t ready;	       /* the first of the stops to be left, by next */
};

/* ---------------------------------------------------------------- which regions to pass --- */

/* A step up from some stop leads to @r. */
static int find(struct search *s, struct gpamap_region *r)
{
	int err;

	if (r->walked == s->number) {
		s->stops[r->stop].awaited++;
		return 0;
	}
	err = gm_array_reserve(s->alloc, (void **)&s->stops, &s->stops_room, s->nr_stops + 1,
			       sizeof(*s->stops));
	if (err)
		return err;
	r->walked = s->number;
	r->stop = s->nr_stops;
	s->stops[s->nr_stops++] = (struct stop){r, 1, NONE, NONE};
	return 0;
}

/* For each step up from @r; nothing leads up from what is disabled. */
static int for_each_step(struct search *s, struct gpamap_region *r,
			 int (*step)(struct search *s, struct gpamap_region *r,
				     struct gpamap_region *up))
{
	int err = 0;

	if (!r->now.enabled)
		return 0;
	if (r->now.parent)
		err = step(s, r, r->now.parent);
	for (struct gpamap_region *a = r->aliases; !err && a; a = a->next_alias)
		err = step(s, r, a);
	return err;
}

static int find_up(struct search *s, struct gpamap_region *r, struct gpamap_region *up)
{
	(void)r;
	return find(s, up);
}

/* Find all that can be reached, and count for each region the steps that lead to it. */
static int find_all(struct search *s, struct gpamap_region *from)
{
	int err = find(s, from);

	for (size_t i = 0; !err && i < s->nr_stops; i++)
		err = for_each_step(s, s->stops[i].region, find_up);
	return err;
}

/* --------------------------------------------------------------------- what they carry --- */

static int carry(struct search *s, struct gpamap_region *to, struct gm_range range)
{
	struct stop *stop = &s->stops[to->stop];
	int err = gm_array_reserve(s->alloc, (void **)&s->carried, &s->carried_room,
				   s->nr_carried + 1, sizeof(*s->carried));

	if (err)
		return err;
	s->carried[s->nr_carried] = (struct carried){range, stop->first};
	stop->first = s->nr_carried++;
	return 0;
}

static void widen_if_many(struct search *s)
{
	size_t most = GM_MARK_RANGES + GM_MARK_RANGES_PER_REGION * s->nr_stops;

	if (s->nr_carried <= most || s->set.n < 2)
		return;
	s->set.r[0].last = s->set.r[s->set.n - 1].last;
	s->set.n = 1;
}

/* The set goes to @up: the container of @r, or an alias that shows it. */
static int carry_up(struct search *s, struct gpamap_region *r, struct gpamap_region *up)
{
	bool is_alias = up->target == r;
	uint64_t by = is_alias ? up->now.target_offset : r->now.offset;
	struct gm_range seen = gm_all_of(up->now.size);

	widen_if_many(s);
	/* By the checks of the edits neither wraps. */
	seen.first += by;
	seen.last += by;
	for (size_t i = 0; i < s->set.n; i++) {
		struct gm_range range = s->set.r[i];
		int err = 0;

		if (!is_alias)
			err = carry(s, up, (struct gm_range){range.first + by, range.last + by});
		else if (gm_range_intersect(seen, range, &range))
			err = carry(s, up, (struct gm_range){range.first - by, range.last - by});
		if (err)
			return err;
	}
	return 0;
}

/* What has come to @stop, cut to what the region has. */
static int collect(struct search *s, const struct stop *stop)
{
	struct gm_range all = gm_all_of(stop->region->now.size);

	s->set.n = 0;
	for (size_t i = stop->first; i != NONE; i = s->carried[i].next) {
		struct gm_range range;

		if (gm_range_intersect(s->carried[i].range, all, &range) &&
		    gm_windows_add(&s->set, range))
			return -ENOMEM;
	}
	gm_windows_normalise(&s->set);
	return 0;
}

static int mark_root(struct search *s, struct gpamap_region *root)
{
	struct gm_windows *windows = &root->map->spaces[root->root_of].windows;
	int err = 0;

	for (size_t i = 0; !err && i < s->set.n; i++)
		err = gm_windows_cover(windows, s->set.r[i]);
	return err;
}

/* ------------------------------------------------------------------------------- search --- */

/* One step less to wait for. Since there are no cycles (RG2), every stop becomes ready. */
static int arrive(struct search *s, struct gpamap_region *r, struct gpamap_region *up)
{
	struct stop *stop = &s->stops[up->stop];

	(void)r;
	if (--stop->awaited == 0) {
		stop->next = s->ready;
		s->ready = up->stop;
	}
	return 0;
}

/* All that comes to @stop is there: let it go on. */
static int leave(struct search *s, const struct stop *stop)
{
	struct gpamap_region *r = stop->region;
	int err = collect(s, stop);

	if (!err && r->now.enabled && r->is_root)
		err = mark_root(s, r);
	if (!err)
		err = for_each_step(s, r, carry_up);
	return err ? err : for_each_step(s, r, arrive);
}

int gm_mark(struct gpamap_region *r, struct gm_range local)
{
	struct search s = {.alloc = r->map->alloc, .number = ++r->map->walks};
	int err;

	gm_windows_init(&s.set, s.alloc);
	err = find_all(&s, r);
	if (!err)
		err = carry(&s, r, local);
	/* @r itself is ready, as the only one. */
	s.ready = 0;
	while (!err && s.ready != NONE) {
		const struct stop *stop = &s.stops[s.ready];

		s.ready = stop->next;
		err = leave(&s, stop);
	}
	gm_free(s.alloc, s.stops);
	gm_free(s.alloc, s.carried);
	gm_windows_destroy(&s.set);
	return err;
}

int gm_mark_all(struct gpamap_region *r)
{
	struct gm_range everything = gm_all_of(UINT64_MAX);
	int err = gm_mark(r, everything);

	gm_tree_for_each (node, r->shown.root, everything) {
		if (err)
			break;
		err = gm_windows_cover(&r->map->spaces[node->tag].windows, node->range);
	}
	return err;
}
