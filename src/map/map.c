/* SPDX-License-Identifier: BSD-3-Clause */
/* A map's beginning and end, and the ends of a transaction. */
#include <errno.h>
#include <string.h>

#include "map/map.h"
#include "map/view.h"

/* ------------------------------------------------------------------------ transactions --- */

void gm_touch(struct gpamap_region *r)
{
	if (r->touched)
		return;
	gm_region_ref(r);
	r->was = r->now;
	r->touched = true;
	r->next_touched = r->map->touched;
	r->map->touched = r;
}

static void commit_tree(struct gm_tree *t)
{
	struct gm_stale stale;

	gm_tree_commit(t, &stale);
	gm_stale_free(&stale);
}

/* End what all transactions end in the same way; @end ends that of a tree. */
static void end_edits(struct gm_map *map, void (*end)(struct gm_tree *), bool go_back)
{
	struct gpamap_region *r = map->touched;

	map->touched = NULL;
	while (r) {
		struct gpamap_region *next = r->next_touched;

		end(&r->children);
		end(&r->shown);
		if (go_back)
			r->now = r->was;
		r->touched = false;
		r->next_touched = NULL;
		gm_region_unref(r);
		r = next;
	}
	for (unsigned i = 0; i < map->nr_spaces; i++) {
		end(&map->spaces[i].ranges);
		gm_windows_destroy(&map->spaces[i].windows);
	}
}

void gm_edits_commit(struct gm_map *map)
{
	end_edits(map, commit_tree, false);
}

void gm_edits_abort(struct gm_map *map)
{
	end_edits(map, gm_tree_abort, true);
}

/* ------------------------------------------------------------------------------- maps --- */

static int add_space(struct gm_map *map, unsigned i)
{
	struct gm_space *sp = &map->spaces[i];

	gm_tree_init(&sp->ranges, &gm_seg_type, map->alloc);
	gm_windows_init(&sp->windows, map->alloc);
	sp->root = gm_region_alloc(map, GPAMAP_CONTAINER, "root", GPAMAP_SIZE_MAX);
	if (!sp->root)
		return -ENOMEM;
	sp->root->is_root = true;
	sp->root->root_of = i;
	return 0;
}

static int add_pages(struct gm_map *map)
{
	map->pages = gm_region_alloc(map, GPAMAP_RAM, "pages", GPAMAP_SIZE_MAX);
	if (!map->pages)
		return -ENOMEM;
	map->pages->internal = true;
	return 0;
}

static void free_spaces(struct gm_map *map)
{
	gm_free(map->alloc, map->spaces);
	map->spaces = NULL;
	map->nr_spaces = 0;
}

int gm_map_init(struct gm_map *map, const struct gm_alloc *alloc, unsigned spaces,
		uint64_t page_size)
{
	int err;

	memset(map, 0, sizeof(*map));
	map->alloc = alloc;
	map->page_size = page_size;
	atomic_init(&map->dead, NULL);
	map->spaces = gm_calloc(alloc, spaces, sizeof(*map->spaces));
	if (!map->spaces)
		return -ENOMEM;
	err = add_pages(map);
	while (!err && map->nr_spaces < spaces) {
		err = add_space(map, map->nr_spaces);
		map->nr_spaces += !err;
	}
	if (!err)
		return 0;
	for (unsigned i = 0; i < map->nr_spaces; i++)
		gm_region_release(alloc, map->spaces[i].root);
	if (map->pages)
		gm_region_release(alloc, map->pages);
	free_spaces(map);
	return err;
}

void gm_map_destroy(struct gm_map *map)
{
	gm_edits_abort(map);
	for (unsigned i = 0; i < map->nr_spaces; i++) {
		struct gm_space *sp = &map->spaces[i];

		/* A plain mapping leaves its region's list first: the list outlives the space. */
		gm_tree_for_each (node, sp->ranges.root, gm_all_of(UINT64_MAX))
			gm_tree_destroy(&gm_seg_of(node)->region->shown);
		gm_tree_destroy(&sp->ranges);
		gm_windows_destroy(&sp->windows);
		/* The caller may hold a root: what it held goes anyway. */
		gm_drop_children(sp->root);
		gm_region_unref(sp->root);
	}
	gm_region_unref(map->pages);
	free_spaces(map);
}
