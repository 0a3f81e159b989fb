/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From regions to the flat view: what stands in the windows is worked out anew, front to back.
 *
 * The windows begin as gaps. Whatever is rendered fills those parts of it that are still gaps: first the
 * plain mappings, then the tree, in each container the children of higher priority first. So nothing is ever
 * painted over, and what is hidden entirely costs one look-up, however much lies below it. All windows of an address
 * space are filled in one walk: n containers that lie on each other and show a page each cost n looks, not n for each
 * window.
 *
 * What costs is looks at regions, O(log n) each with what is filled for it; a container also sorts those of its
 * children that are seen. A child is looked at if it overlaps a gap, or lies between two gaps that other children are
 * tried for; then it counts at most once for each gap and once for each child. So without aliases the number of looks
 * is O(regions in the windows). An alias lets what is below it be looked at once more. So there may be as many looks
 * as there are ways from the root to a region, which can be 2^n:
 *  - Where the target of an alias has shown nothing is noted, and it is not looked into again for that (FL2). So a graph
 *    of containers and aliases with nothing in it costs as much as one with a single way to each region, and so do
 *    aliases that lie on each other and show the same.
 *  - Else each way puts something into the view, or is an odd mixture of both: there the run is refused after too many
 *    looks (-E2BIG). The limit grows with the regions that the run finds. So it is far away for maps whose regions show
 *    at some places each, and for those with ways without number it is reached at once.
 *
 * All positions are pairs of a range in a region and the GPA of its first byte. So nothing wraps, wherever
 * aliases would put the region's offset 0.
 *
 * Invariants:
 *  FL1  A run reads what edits of the open transaction write, and what never changes; it writes its own notes (`flat`,
 *       `runs`) and the view. It does not read what gm_region_new(), gm_region_unref() and gm_map_reap() write for other
 *       threads: parents, lists of aliases, serial numbers to come, the dead. All regions that it meets are alive by
 *       references of nodes. So it needs no lock but that no second run and no edit goes on.
 *  FL2  At the offsets in a region's `flat.blanks`, if they are of this run, it shows nothing: it was rendered there,
 *       and left a gap. What is rendered for a gap fills it, and the regions don't change meanwhile.
 */
#include <errno.h>
#include <stdlib.h>

#include "map/flatten.h"
#include "map/label.h"

/* How many pieces of work there are between two questions whether to give up: some microseconds. */
#define WORK_PER_QUESTION 64

/* With more gaps than this in a range, blanks are not looked for, and not noted. */
#define BLANKS_MOST 64

/* A child of the container that is being rendered. */
struct seen_child {
	struct gpamap_region *region;
	struct gm_range range; /* in the container */
	int priority;
	uint64_t seq;
};

struct render {
	struct gm_map *map;
	unsigned space;
	struct gm_tree *view;
	struct gm_tree gaps; /* of the windows; without data */
	/* A stack: the children of each container on the way, in the order of rendering. */
	struct seen_child *children;
	size_t nr_children;
	size_t room;
	uint64_t looks;
	uint64_t most_looks;
	struct gpamap_region *noted; /* those with blanks */
	unsigned work;		     /* done */
	const struct gm_flatten_limits *limits;
	struct gm_msg *msg;
};

/* What a region takes over from those above it. */
struct render_way {
	unsigned depth;
	bool readonly;
	uint64_t group;
};

static const struct gm_tree_type gap_type = {.size = 0};

/* ---------------------------------------------------------------------------- limits --- */

/* A short piece of work begins. */
static int begin_work(struct render *c)
{
	const struct gm_flatten_limits *l = c->limits;

	if (!l || !l->give_up || c->work++ % WORK_PER_QUESTION || !l->give_up(l->opaque))
		return 0;
	return gm_fail(c->msg, -ETIMEDOUT, "the time was over while address space %u was flattened",
		       c->space);
}

/* @r is looked at, maybe once more. */
static int look(struct render *c, struct gpamap_region *r)
{
	if (r->flat.run != c->map->runs) {
		r->flat = (struct gm_flat_note){.run = c->map->runs};
		gm_windows_init(&r->flat.blanks, c->map->alloc);
		c->most_looks += GM_FLATTEN_LOOKS_PER_REGION;
	}
	if (++c->looks > c->most_looks)
		return gm_fail(
			c->msg, -E2BIG,
			"address space %u: its regions show in too many places: more than "
			"%llu looks, which is %d and %d for each region; the last was at '" GM_NAME
			"'",
			c->space, (gm_ull)c->most_looks, GM_FLATTEN_LOOKS,
			GM_FLATTEN_LOOKS_PER_REGION, gm_label(r));
	return begin_work(c);
}

/* ---------------------------------------------------------------------------- blanks --- */

static bool within(const struct gm_windows *w, struct gm_range r)
{
	size_t low = 0, high = w->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (w->r[middle].last < r.first)
			low = middle + 1;
		else
			high = middle;
	}
	return low < w->n && gm_range_within(r, w->r[low]);
}

/* The part of @gap in @covered, as offsets in a region whose @local range stands there. */
static struct gm_range in_region(const struct gm_node *gap, struct gm_range covered,
				 struct gm_range local)
{
	struct gm_range ret = covered;

	gm_range_intersect(gap->range, covered, &ret);
	return (struct gm_range){local.first + (ret.first - covered.first),
				 local.first + (ret.last - covered.first)};
}

/* Is it known that @r shows nothing in any gap of its @local range, whose first byte stands at @gpa? */
static bool is_blank(struct render *c, const struct gpamap_region *r, struct gm_range local,
		     uint64_t gpa)
{
	struct gm_range covered = {gpa, gpa + (local.last - local.first)};
	size_t n = 0;

	if (!r->flat.blanks.n)
		return false;
	gm_tree_for_each (gap, c->gaps.root, covered) {
		/* They count as looks: this may be in vain. */
		c->looks++;
		if (++n > BLANKS_MOST || !within(&r->flat.blanks, in_region(gap, covered, local)))
			return false;
	}
	return true;
}

/* @r has been rendered: note the gaps that are left. (FL2) */
static int note_blanks(struct render *c, struct gpamap_region *r, struct gm_range local,
		       uint64_t gpa)
{
	struct gm_range covered = {gpa, gpa + (local.last - local.first)};
	struct gm_windows *blanks = &r->flat.blanks;
	size_t known = blanks->n, n = 0;

	gm_tree_for_each (gap, c->gaps.root, covered) {
		struct gm_range blank = in_region(gap, covered, local);
		int err;

		c->looks++;
		if (++n > BLANKS_MOST || blanks->n >= BLANKS_MOST)
			break;
		if (known && within(&(struct gm_windows){.r = blanks->r, .n = known}, blank))
			continue;
		if (!blanks->n) {
			r->flat.next = c->noted;
			c->noted = r;
		}
		err = gm_windows_add(blanks, blank);
		if (err)
			return err;
	}
	gm_windows_normalise(blanks);
	return 0;
}

static void forget_blanks(struct render *c)
{
	for (struct gpamap_region *r = c->noted; r; r = r->flat.next)
		gm_windows_destroy(&r->flat.blanks);
}

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
		err = begin_work(c);
		if (!err)
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
			   uint64_t offset, const struct render_way *way)
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
	const struct seen_child *ca = a, *cb = b;

	if (ca->priority != cb->priority)
		return ca->priority > cb->priority ? -1 : 1;
	return ca->seq > cb->seq ? -1 : 1;
}

static int push_child(struct render *c, const struct gm_node *node, struct gpamap_region *child)
{
	int err = gm_array_reserve(c->map->alloc, (void **)&c->children, &c->room,
				   c->nr_children + 1, sizeof(*c->children));

	if (!err)
		c->children[c->nr_children++] =
			(struct seen_child){child, node->range, child->now.priority, node->tag};
	return err;
}

/*
 * Put the children of @r in @local that overlap a gap on the stack, the foremost first. Children and gaps are in
 * order, so each of them is skipped in one step to where the other goes on.
 */
static int push_children(struct render *c, struct gpamap_region *r, struct gm_range local,
			 uint64_t gpa)
{
	const struct gm_node *root = r->children.root, *node;
	uint64_t up = gpa - local.first, end = local.last + up; /* may wrap, and wrap back */
	size_t bottom = c->nr_children;

	for (node = gm_tree_first(root, local); node;
	     node = gm_tree_next(root, local, node->range.first, node->tag)) {
		struct gpamap_region *child = ((const struct gm_child *)node->data)->region;
		struct gm_range seen = local;
		const struct gm_node *gap;
		int err = look(c, child);

		if (err)
			return err;
		gm_range_intersect(node->range, local, &seen);
		gap = gm_tree_first(c->gaps.root, (struct gm_range){seen.first + up, end});
		if (!gap)
			break;
		if (gap->range.first <= seen.last + up)
			err = push_child(c, node, child);
		if (err)
			return err;
		/* What follows and ends before this gap begins overlaps none. */
		if (gap->range.first > seen.first + up)
			local.first = gap->range.first - up;
	}
	if (c->nr_children - bottom > 1)
		qsort(&c->children[bottom], c->nr_children - bottom, sizeof(*c->children),
		      in_front);
	return 0;
}

static int render(struct render *c, struct gpamap_region *r, struct gm_range local, uint64_t gpa,
		  struct render_way way);

static int render_container(struct render *c, struct gpamap_region *r, struct gm_range local,
			    uint64_t gpa, const struct render_way *way)
{
	size_t bottom = c->nr_children;
	int err = push_children(c, r, local, gpa);
	size_t top = c->nr_children;

	for (size_t i = bottom; !err && i < top; i++) {
		/* By value: the stack may move. */
		struct seen_child child = c->children[i];
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
			uint64_t gpa, const struct render_way *way)
{
	int err = look(c, r->target);

	local.first += r->now.target_offset;
	local.last += r->now.target_offset;
	if (!err)
		err = render(c, r->target, local, gpa, *way);
	return err ? err : note_blanks(c, r->target, local, gpa);
}

/* Render the @local range of @r, whose first byte stands at @gpa. */
static int render(struct render *c, struct gpamap_region *r, struct gm_range local, uint64_t gpa,
		  struct render_way way)
{
	struct gm_range covered;

	/* It begins where @local does: all that is left out is at the end. */
	if (!r->now.enabled || !gm_range_intersect(local, gm_all_of(r->now.size), &local))
		return 0;
	covered = (struct gm_range){gpa, gpa + (local.last - local.first)};
	if (!gm_tree_first(c->gaps.root, covered) || is_blank(c, r, local, gpa))
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

static int flatten_all(struct render *c, const struct gm_windows *windows)
{
	const struct gm_space *sp = &c->map->spaces[c->space];
	struct render_way way = {0};
	int err = 0;

	for (size_t i = 0; !err && i < windows->n; i++) {
		err = begin_work(c);
		/* What is cut at the window's edges becomes whole again as the window is filled, if it can. */
		if (!err)
			err = gm_segs_clear(c->view, windows->r[i]);
		if (!err)
			err = gm_tree_insert(&c->gaps, windows->r[i], 0, NULL);
	}
	for (size_t i = 0; !err && i < windows->n; i++)
		err = render_plain(c, sp, windows->r[i]);
	if (!err)
		err = look(c, sp->root);
	return err ? err : render(c, sp->root, gm_all_of(UINT64_MAX), 0, way);
}

int gm_flatten(struct gm_map *map, unsigned space, const struct gm_windows *windows,
	       struct gm_tree *view, const struct gm_flatten_limits *limits, struct gm_msg *msg)
{
	struct render c = {
		.map = map,
		.space = space,
		.view = view,
		.most_looks = GM_FLATTEN_LOOKS,
		.limits = limits,
		.msg = msg,
	};
	int err;

	map->runs++;
	gm_tree_init(&c.gaps, &gap_type, map->alloc);
	err = flatten_all(&c, windows);
	forget_blanks(&c);
	gm_tree_destroy(&c.gaps);
	gm_free(map->alloc, c.children);
	if (err == -ENOMEM)
		gm_fail(msg, err, "no memory to flatten address space %u", space);
	return err;
}
