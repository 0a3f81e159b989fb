/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Edits of a region's place: add, remove, move, priority, size.
 *
 * All edits go the same way, so that each succeeds or changes nothing:
 *
 *     check      every refusal, with its reason
 *     reserve    the nodes that the trees will need
 *     mark       the windows, with all that the edit will change; windows too many are harmless
 *     touch      keep the old states for an abort
 *     change     nothing can fail from here on
 */
#include <errno.h>

#include "map/check.h"
#include "map/edit.h"
#include "map/label.h"
#include "map/map.h"
#include "map/mark.h"

static bool has_inside(const struct gpamap_region *r)
{
	return (r->kind == GPAMAP_CONTAINER && r->children.root) || r->kind == GPAMAP_ALIAS;
}

/* Let the search @number go on at @r, if it hasn't been there. */
static void visit(struct gpamap_region *r, uint64_t number, struct gpamap_region ***end)
{
	if (!r || r->walked == number)
		return;
	r->walked = number;
	r->next_walk = NULL;
	**end = r;
	*end = &r->next_walk;
}

/* Would @child be above itself, as a child of @parent? Looks at all that @parent lies in or shows in, be it
 * enabled or not: enabling doesn't look for cycles. (RG2) */
static bool makes_cycle(struct gpamap_region *parent, struct gpamap_region *child)
{
	struct gpamap_region *queue = NULL, **end = &queue;
	uint64_t number = ++parent->map->walks;

	if (parent == child)
		return true;
	if (!has_inside(child))
		return false;
	visit(parent, number, &end);
	for (struct gpamap_region *r = queue; r; r = r->next_walk) {
		if (r == child)
			return true;
		visit(r->now.parent, number, &end);
		for (struct gpamap_region *a = r->aliases; a; a = a->next_alias)
			visit(a, number, &end);
	}
	return false;
}

/* The container that @child is in, with a reference, so that no other thread's put lets it die during the
 * edit. If it's dead already, so is the place: NULL, as if it had been reaped. */
static struct gpamap_region *parent_of(struct gpamap_region *child)
{
	struct gpamap_region *parent = child->now.parent;

	if (!parent || gm_region_try_ref(parent))
		return parent;
	gm_drop_children(parent);
	return NULL;
}

/* The container that @child is in, with a reference. -ENOENT: it is in none. */
static int hold_parent(const struct gm_map *m, struct gpamap_region *child, struct gm_msg *msg,
		       struct gpamap_region **ret)
{
	int err = gm_check_map(m, child, msg);

	*ret = err ? NULL : parent_of(child);
	if (!err && !*ret)
		err = gm_fail(msg, -ENOENT, "region '" GM_NAME "' is in no container",
			      gm_label(child));
	return err;
}

/* What @child of @size covers in @parent, from @offset on. -EINVAL, -EOVERFLOW. */
static int check_place(const struct gm_map *m, const struct gpamap_region *parent, uint64_t offset,
		       const struct gpamap_region *child, uint64_t size, struct gm_msg *msg,
		       struct gm_range *ret)
{
	if (child->kind != GPAMAP_MMIO && !gm_aligned(m, offset))
		return gm_fail(msg, -EINVAL,
			       "offset 0x%llx of '" GM_NAME
			       "' is not a multiple of the page size 0x%llx",
			       (gm_ull)offset, gm_label(child), (gm_ull)m->page_size);
	if (!gm_range_make(offset, size, ret))
		return gm_fail(msg, -EOVERFLOW,
			       "'" GM_NAME "' of 0x%llx bytes at offset 0x%llx of '" GM_NAME
			       "' reaches beyond 2^64",
			       gm_label(child), (gm_ull)size, (gm_ull)offset, gm_label(parent));
	return 0;
}

static struct gm_range place(const struct gpamap_region *child)
{
	struct gm_range all = gm_all_of(child->now.size);

	return (struct gm_range){all.first + child->now.offset, all.last + child->now.offset};
}

/* pre: reserved, touched, and its state tells where (RG1). */
static void enter(struct gpamap_region *child)
{
	struct gm_child entry = {child};

	gm_tree_insert(&child->now.parent->children, place(child), child->now.seq, &entry);
}

static void leave(struct gpamap_region *child)
{
	gm_tree_remove(&child->now.parent->children, child->now.offset, child->now.seq);
}

/* Reserve for @edits of the children of @parent, mark, and touch both. */
static int prepare(struct gpamap_region *parent, size_t edits, struct gpamap_region *child,
		   struct gm_range first, struct gm_range second)
{
	int err = gm_tree_reserve(&parent->children, edits);

	if (!err)
		err = gm_mark(parent, first);
	if (!err)
		err = gm_mark(parent, second);
	if (err)
		return err;
	gm_touch(parent);
	gm_touch(child);
	return 0;
}

static int check_add(const struct gm_map *m, struct gpamap_region *parent,
		     struct gpamap_region *child, struct gm_msg *msg)
{
	int err = gm_check_map(m, parent, msg);

	if (!err)
		err = gm_check_map(m, child, msg);
	if (err)
		return err;
	if (parent->kind != GPAMAP_CONTAINER)
		return gm_fail(msg, -ENOTDIR, "'" GM_NAME "' is no container, but of kind %s",
			       gm_label(parent), gm_kind_name(parent->kind));
	if (child->is_root || child->internal)
		return gm_fail(msg, -EBUSY,
			       "'" GM_NAME "' is the root of an address space, and can't be added",
			       gm_label(child));
	return 0;
}

int gm_edit_add(struct gm_map *m, struct gpamap_region *parent, uint64_t offset,
		struct gpamap_region *child, int priority, struct gm_msg *msg)
{
	struct gpamap_region *old;
	struct gm_range range;
	int err = check_add(m, parent, child, msg);

	if (err)
		return err;
	old = parent_of(child);
	if (old) {
		gm_fail(msg, 0, "'" GM_NAME "' is in '" GM_NAME "' already: remove it first",
			gm_label(child), gm_label(old));
		gm_region_unref(old);
		return -EBUSY;
	}
	err = check_place(m, parent, offset, child, child->now.size, msg, &range);
	if (err)
		return err;
	if (makes_cycle(parent, child))
		return gm_fail(msg, -ELOOP,
			       "'" GM_NAME "' would lie within itself: '" GM_NAME
			       "' is below it, or shown by it",
			       gm_label(child), gm_label(parent));
	err = prepare(parent, 1, child, range, range);
	if (err)
		return gm_fail(msg, err, "no memory to add '" GM_NAME "'", gm_label(child));
	child->now.parent = parent;
	child->now.offset = offset;
	child->now.priority = priority;
	child->now.seq = ++m->next_seq;
	enter(child);
	return 0;
}

int gm_edit_remove(struct gm_map *m, struct gpamap_region *child, struct gm_msg *msg)
{
	struct gpamap_region *parent;
	int err = hold_parent(m, child, msg, &parent);

	if (err)
		return err;
	err = prepare(parent, 1, child, place(child), place(child));
	if (err) {
		gm_fail(msg, err, "no memory to remove '" GM_NAME "'", gm_label(child));
	} else {
		leave(child);
		child->now.parent = NULL;
	}
	gm_region_unref(parent);
	return err;
}

/* To another offset, with another priority; in any case it becomes the newest. */
static int replace(struct gm_map *m, struct gpamap_region *parent, uint64_t offset,
		   struct gpamap_region *child, int priority, struct gm_msg *msg)
{
	struct gm_range range;
	int err = check_place(m, parent, offset, child, child->now.size, msg, &range);

	if (err)
		return err;
	err = prepare(parent, 2, child, place(child), range);
	if (err)
		return gm_fail(msg, err, "no memory to move '" GM_NAME "'", gm_label(child));
	leave(child);
	child->now.offset = offset;
	child->now.priority = priority;
	child->now.seq = ++m->next_seq;
	enter(child);
	return 0;
}

int gm_edit_move(struct gm_map *m, struct gpamap_region *child, uint64_t offset, struct gm_msg *msg)
{
	struct gpamap_region *parent;
	int err = hold_parent(m, child, msg, &parent);

	if (err)
		return err;
	if (offset != child->now.offset)
		err = replace(m, parent, offset, child, child->now.priority, msg);
	gm_region_unref(parent);
	return err;
}

int gm_edit_priority(struct gm_map *m, struct gpamap_region *child, int priority,
		     struct gm_msg *msg)
{
	struct gpamap_region *parent;
	int err = hold_parent(m, child, msg, &parent);

	if (err)
		return err;
	err = replace(m, parent, child->now.offset, child, priority, msg);
	gm_region_unref(parent);
	return err;
}

static int check_resize(const struct gm_map *m, const struct gpamap_region *r, uint64_t size,
			struct gm_msg *msg)
{
	int err = gm_check_map(m, r, msg);

	if (err)
		return err;
	if (!r->resizable)
		return gm_fail(msg, -EPERM, "'" GM_NAME "' was made without a max_size",
			       gm_label(r));
	if (size == 0 || size > r->max_size)
		return gm_fail(msg, -ERANGE, "'" GM_NAME "': size 0x%llx is not in 1 to 0x%llx",
			       gm_label(r), (gm_ull)size, (gm_ull)r->max_size);
	if (r->kind != GPAMAP_MMIO && !gm_size_aligned(m, size))
		return gm_fail(msg, -EINVAL,
			       "'" GM_NAME
			       "': size 0x%llx is not a multiple of the page size 0x%llx",
			       gm_label(r), (gm_ull)size, (gm_ull)m->page_size);
	if (r->kind == GPAMAP_ALIAS)
		return gm_check_window(m, gm_label(r), r->now.target_offset, size, msg);
	return 0;
}

/* Mark what one of the sizes has and the other has not. */
static int mark_resize(struct gpamap_region *r, uint64_t size)
{
	uint64_t old = r->now.size;
	uint64_t less = size < old ? size : old;
	uint64_t more = size < old ? old : size;
	int err;

	r->now.size = more;
	err = gm_mark(r, (struct gm_range){less, gm_all_of(more).last});
	r->now.size = old;
	return err;
}

static int resize(struct gpamap_region *parent, struct gpamap_region *r, uint64_t size,
		  struct gm_msg *msg)
{
	struct gm_range range;
	int err = 0;

	if (parent)
		err = check_place(r->map, parent, r->now.offset, r, size, msg, &range);
	if (err)
		return err;
	if (parent)
		err = gm_tree_reserve(&parent->children, 2);
	if (!err)
		err = mark_resize(r, size);
	if (err)
		return gm_fail(msg, err, "no memory to resize '" GM_NAME "'", gm_label(r));
	gm_touch(r);
	if (parent) {
		gm_touch(parent);
		leave(r);
	}
	r->now.size = size;
	if (parent)
		enter(r);
	return 0;
}

int gm_edit_resize(struct gm_map *m, struct gpamap_region *r, uint64_t size, struct gm_msg *msg)
{
	struct gpamap_region *parent;
	int err = check_resize(m, r, size, msg);

	if (err || size == r->now.size)
		return err;
	parent = parent_of(r);
	err = resize(parent, r, size, msg);
	if (parent)
		gm_region_unref(parent);
	return err;
}
