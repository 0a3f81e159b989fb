/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where does a region show? The windows of the address spaces that have to be flattened again.
 *
 * Why R3 holds, by induction over the edits of a transaction:
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
 */
#include <errno.h>

#include "map/edit.h"

struct place {
	struct gpamap_region *region;
	struct gm_range range; /* in region */
};

/* Places to go on from. A way up is a loop; only where it forks, at aliases, something has to be kept. So
 * the depth of regions costs no stack. */
struct forks {
	struct place *places;
	size_t n;
	size_t room;
};

static int push_alias(struct forks *f, struct gpamap_region *alias, struct gm_range range)
{
	uint64_t by = alias->now.target_offset;
	struct gm_range seen = gm_all_of(alias->now.size);
	int err;

	/* By the checks of the edits the window doesn't wrap. */
	seen.first += by;
	seen.last += by;
	if (!gm_range_intersect(seen, range, &seen))
		return 0;
	err = gm_array_reserve(alias->map->alloc, (void **)&f->places, &f->room, f->n + 1,
			       sizeof(*f->places));
	if (err)
		return err;
	f->places[f->n++] = (struct place){alias, {seen.first - by, seen.last - by}};
	return 0;
}

/* Go up from @at until there's no parent, or nothing of the range is left. */
static int climb(struct forks *f, struct place at)
{
	struct gm_range *range = &at.range;
	int err;

	for (struct gpamap_region *r = at.region; r; r = r->now.parent) {
		if (!r->now.enabled || !gm_range_intersect(*range, gm_all_of(r->now.size), range))
			return 0;
		for (struct gpamap_region *a = r->aliases; a; a = a->next_alias) {
			err = push_alias(f, a, *range);
			if (err)
				return err;
		}
		if (r->is_root)
			return gm_windows_add(&r->map->spaces[r->root_of].windows, *range);
		range->first += r->now.offset;
		range->last += r->now.offset;
	}
	return 0;
}

int gm_mark(struct gpamap_region *r, struct gm_range local)
{
	struct forks f = {NULL, 0, 0};
	int err = climb(&f, (struct place){r, local});

	while (!err && f.n)
		err = climb(&f, f.places[--f.n]);
	gm_free(r->map->alloc, f.places);
	return err;
}

int gm_mark_all(struct gpamap_region *r)
{
	struct gm_range everything = gm_all_of(UINT64_MAX);
	int err = gm_mark(r, everything);

	gm_tree_for_each (node, r->shown.root, everything) {
		if (err)
			break;
		err = gm_windows_add(&r->map->spaces[node->tag].windows, node->range);
	}
	return err;
}
