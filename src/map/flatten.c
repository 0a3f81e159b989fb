/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From regions to the flat view: what stands in the windows is worked out anew, front to back.
 *
 * A window begins as one gap. Whatever is rendered fills those parts of it that are still gaps: first the
 * plain mappings, then the tree, in each container the children of higher priority first. So nothing is ever
 * painted over, and what is hidden entirely costs one look-up, however much lies below it.
 *
 * Cost of a window: a region fills the gaps that it finds, and leaves two more at most. So with n regions and
 * mappings in the window there are O(n) gaps and segments in all, each O(log) to find, and the sorting is
 * O(n log n).
 *
 * All positions are pairs of a range in a region and the GPA of its first byte. So nothing wraps, wherever
 * aliases would put the region's offset 0.
 */
#include <errno.h>
#include <stdlib.h>

#include "map/flatten.h"
#include "map/label.h"

/* A child of the container that is being rendered. */
struct child {
	struct gpamap_region *region;
	struct gm_range range; /* in the container */
	int priority;
	uint64_t seq;
};

struct render {
	struct gm_map *map;
	struct gm_tree *view;
	struct gm_tree gaps; /* of the window; without data */
	/* A stack: the children of each container on the way, in the order of rendering. */
	struct child *children;
	size_t nr_children;
	size_t room;
	struct gm_msg *msg;
};

/* What a region takes over from those above it. */
struct way {
	unsigned depth;
	bool readonly;
	uint64_t group;
};

static const struct gm_tree_type gap_type = {.size = 0};

/* --------------------------------------------------------------------------- filling --- */

/* Take @hole out of the gap that it lies in. */
static int shrink_gap(struct gm_tree *gaps, struct gm_range gap, struct gm_range hole)
{
	struct gm_range left = {gap.first, hole.first - 1};
	struct gm_range right = {hole.last + 1, gap.last};
	int err = gm_tree_remove(gaps, gap.first, 0);

	if (!err && gap.first < hole.first)
		err = gm_tree_insert(gaps, left, 0, NULL);
	if (!err && hole.last < gap.last)
		err = gm_tree_insert(gaps, right, 0, NULL);
	return err;
}

/* Put @seg, which begins at gpa.first, into the gaps in @gpa. */
static int fill(struct render *c, struct gm_range gpa, const struct gm_seg *seg)
{
	const struct gm_node *node;

	while ((node = gm_tree_first(c->gaps.root, gpa))) {
		struct gm_range gap = node->range, hole = gap;
		struct gm_seg part;
		int err;

		gm_range_intersect(gap, gpa, &hole);
		part = gm_seg_advance(seg, gpa.first, hole.first);
		err = shrink_gap(&c->gaps, gap, hole);
		if (!err)
			err = gm_segs_fill(c->view, hole, &part);
		if (err)
			return err;
	}
	return 0;
}

/* Memory of @r from @offset on, as a slot would show it. */
static struct gm_seg memory_at(struct gpamap_region *r, uint64_t offset, uint64_t group)
{
	struct gm_seg s = {
		.region = r,
		.offset = offset,
		.hva = r->now.hva + offset,
		.gmem_fd = -1,
		.kind = r->kind == GPAMAP_RAM ? GM_SEG_RAM : GM_SEG_ROMD,
		.flags = r->now.log ? GM_SEG_LOG : 0,
		.group = group,
	};

	if (r->guest_memfd) {
		s.flags |= GM_SEG_GUEST_MEMFD;
		s.gmem_fd = r->gmem_fd;
		s.gmem_offset = r->gmem_offset + offset;
	}
	return s;
}

static int render_terminal(struct render *c, struct gpamap_region *r, struct gm_range gpa,
			   uint64_t offset, const struct way *way)
{
	struct gm_seg s;

	if (r->kind == GPAMAP_MMIO || (r->kind == GPAMAP_ROM_DEVICE && !r->now.rom_mode)) {
		s = (struct gm_seg){
			.region = r,
			.offset = offset,
			.gmem_fd = -1,
			.kind = GM_SEG_MMIO,
			.group = way->group,
		};
		return fill(c, gpa, &s);
	}
	s = memory_at(r, offset, way->group);
	/* The writes to a ROM device trap anyway. */
	if (way->readonly && s.kind == GM_SEG_RAM)
		s.flags |= GM_SEG_READONLY;
	if (way->readonly && r->guest_memfd)
		return gm_fail(c->msg, -EPERM,
			       "'" GM_NAME "' at GPA 0x%llx lies below something read-only, which "
			       "guest_memfd can't be",
			       gm_label(r), (gm_ull)gpa.first);
	return fill(c, gpa, &s);
}

/* ----------------------------------------------------------------------------- the tree --- */

static int in_front(const void *a, const void *b)
{
	const struct child *ca = a, *cb = b;

	if (ca->priority != cb->priority)
		return ca->priority > cb->priority ? -1 : 1;
	return ca->seq > cb->seq ? -1 : 1;
}

/* Put the children of @r in @local on the stack, the foremost first. */
static int push_children(struct render *c, struct gpamap_region *r, struct gm_range local)
{
	size_t bottom = c->nr_children;

	gm_tree_for_each (node, r->children.root, local) {
		struct gpamap_region *child = ((const struct gm_child *)node->data)->region;
		int err = gm_array_reserve(c->map->alloc, (void **)&c->children, &c->room,
					   c->nr_children + 1, sizeof(*c->children));

		if (err)
			return err;
		c->children[c->nr_children++] =
			(struct child){child, node->range, child->now.priority, node->tag};
	}
	if (c->nr_children - bottom > 1)
		qsort(&c->children[bottom], c->nr_children - bottom, sizeof(*c->children),
		      in_front);
	return 0;
}

static int render(struct render *c, struct gpamap_region *r, struct gm_range local, uint64_t gpa,
		  struct way way);

static int render_container(struct render *c, struct gpamap_region *r, struct gm_range local,
			    uint64_t gpa, const struct way *way)
{
	size_t bottom = c->nr_children;
	int err = push_children(c, r, local);
	size_t top = c->nr_children;

	for (size_t i = bottom; !err && i < top; i++) {
		/* By value: the stack may move. */
		struct child child = c->children[i];
		struct gm_range seen = local, inside;

		gm_range_intersect(child.range, local, &seen);
		inside.first = seen.first - child.range.first;
		inside.last = seen.last - child.range.first;
		err = render(c, child.region, inside, gpa + (seen.first - local.first), *way);
	}
	c->nr_children = bottom;
	return err;
}

static int render_alias(struct render *c, struct gpamap_region *r, struct gm_range local,
			uint64_t gpa, const struct way *way)
{
	local.first += r->now.target_offset;
	local.last += r->now.target_offset;
	return render(c, r->target, local, gpa, *way);
}

/* Render the @local range of @r, whose first byte stands at @gpa. */
static int render(struct render *c, struct gpamap_region *r, struct gm_range local, uint64_t gpa,
		  struct way way)
{
	struct gm_range covered;

	/* It begins where @local does: all that is left out is at the end. */
	if (!r->now.enabled || !gm_range_intersect(local, gm_all_of(r->now.size), &local))
		return 0;
	covered = (struct gm_range){gpa, gpa + (local.last - local.first)};
	if (!gm_tree_first(c->gaps.root, covered))
		return 0;
	if (way.depth > GM_DEPTH_MAX)
		return gm_fail(c->msg, -E2BIG,
			       "'" GM_NAME "' at GPA 0x%llx lies more than %d regions deep",
			       gm_label(r), (gm_ull)gpa, GM_DEPTH_MAX);
	way.depth++;
	way.readonly = way.readonly || r->now.readonly;
	if (!way.group && r->unmergeable)
		way.group = r->serial;
	if (r->kind == GPAMAP_CONTAINER)
		return render_container(c, r, local, gpa, &way);
	if (r->kind == GPAMAP_ALIAS)
		return render_alias(c, r, local, gpa, &way);
	return render_terminal(c, r, covered, local.first, &way);
}

/* ------------------------------------------------------------------------------ windows --- */

/* The plain mappings lie above the tree. */
static int render_plain(struct render *c, const struct gm_space *sp, struct gm_range window)
{
	gm_tree_for_each (node, sp->ranges.root, window) {
		const struct gm_seg *mapping = gm_seg_of(node);
		struct gpamap_region *r = mapping->region;
		struct gm_range seen = window;
		struct gm_seg s;
		int err;

		gm_range_intersect(node->range, window, &seen);
		s = memory_at(r, mapping->offset + (seen.first - node->range.first),
			      r->unmergeable ? r->serial : 0);
		s.kind = mapping->kind;
		s.flags |= mapping->flags;
		if (r->now.readonly)
			s.flags |= GM_SEG_READONLY;
		err = fill(c, seen, &s);
		if (err)
			return err;
	}
	return 0;
}

static int flatten_window(struct render *c, const struct gm_space *sp, struct gm_range window)
{
	struct way way = {0};
	int err;

	gm_tree_abort(&c->gaps);
	/* What is cut at the window's edges becomes whole again as the window is filled, if it can. */
	err = gm_segs_clear(c->view, window);
	if (!err)
		err = gm_tree_insert(&c->gaps, window, 0, NULL);
	if (!err)
		err = render_plain(c, sp, window);
	if (!err)
		err = render(c, sp->root, window, window.first, way);
	return err;
}

int gm_flatten(struct gm_map *map, unsigned space, const struct gm_windows *windows,
	       struct gm_tree *view, struct gm_msg *msg)
{
	struct render c = {.map = map, .view = view, .msg = msg};
	int err = 0;

	gm_tree_init(&c.gaps, &gap_type, map->alloc);
	for (size_t i = 0; !err && i < windows->n; i++)
		err = flatten_window(&c, &map->spaces[space], windows->r[i]);
	gm_tree_destroy(&c.gaps);
	gm_free(map->alloc, c.children);
	if (err == -ENOMEM)
		gm_fail(msg, err, "no memory to flatten address space %u", space);
	return err;
}
