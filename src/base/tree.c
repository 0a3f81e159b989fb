/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The persistent interval tree: edits, versions and look-ups.
 *
 * An edit first makes sure that the pool has as many nodes as it can need, and changes something only
 * then. So nothing below that point can fail, and an edit that fails has changed nothing.
 */
#include <errno.h>
#include <string.h>

#include "base/tree.h"

/* Copies that an edit needs, per level of the tree. An insert copies its path alone. A removal copies its path,
 * and two nodes more where it rotates; there the path went down the lower side, which took two levels of
 * height. So path + rotations <= height, and path + 2 * rotations <= 3/2 height. */
#define COPIES_PER_LEVEL 2

/* Unused nodes that are kept for the next transaction; enough for one edit of a large tree. */
#define POOL_KEEP 64

void gm_tree_init(struct gm_tree *t, const struct gm_tree_type *type, const struct gm_alloc *alloc)
{
	*t = (struct gm_tree){.type = type, .alloc = alloc, .stamp = 1};
}

/* ----------------------------------------------------------------------------- nodes --- */

static int height(const struct gm_node *n)
{
	return n ? n->height : 0;
}

static int compare(const struct gm_node *n, uint64_t first, uint64_t tag)
{
	if (n->range.first != first)
		return n->range.first < first ? -1 : 1;
	if (n->tag != tag)
		return n->tag < tag ? -1 : 1;
	return 0;
}

static void push(struct gm_node **list, struct gm_node *n)
{
	n->link = *list;
	*list = n;
}

static struct gm_node *pop(struct gm_node **list)
{
	struct gm_node *n = *list;

	*list = n->link;
	return n;
}

static void free_node(const struct gm_tree_type *type, const struct gm_alloc *alloc,
		      struct gm_node *n)
{
	if (type->unref)
		type->unref(n->data);
	gm_free(alloc, n);
}

static void free_list(const struct gm_tree_type *type, const struct gm_alloc *alloc,
		      struct gm_node **list)
{
	while (*list)
		free_node(type, alloc, pop(list));
}

static void trim_pool(struct gm_tree *t, size_t keep)
{
	while (t->pool_count > keep) {
		gm_free(t->alloc, pop(&t->pool));
		t->pool_count--;
	}
}

/* A fresh node, from the pool, with everything but stamp and lists still to be set.
 * pre: the pool isn't empty. */
static struct gm_node *take_fresh(struct gm_tree *t)
{
	struct gm_node *n = pop(&t->pool);

	t->pool_count--;
	push(&t->fresh, n);
	return n;
}

/* @n leaves the working version. (T4) */
static void drop(struct gm_tree *t, struct gm_node *n)
{
	if (n->stamp == t->stamp) {
		n->dead = true;
		return;
	}
	push(&t->stale, n);
	t->stale_count++;
}

/* @n, or a copy in its place, that may be changed. (T1, T2) */
static struct gm_node *own(struct gm_tree *t, struct gm_node *n)
{
	struct gm_node *copy, *link;

	if (n->stamp == t->stamp)
		return n;
	copy = take_fresh(t);
	link = copy->link;
	memcpy(copy, n, sizeof(*n) + t->type->size);
	copy->link = link;
	copy->stamp = t->stamp;
	copy->dead = false;
	if (t->type->ref)
		t->type->ref(copy->data);
	drop(t, n);
	return copy;
}

/* --------------------------------------------------------------------------- balance --- */

/* Work out what a node knows of its subtree. */
static void update(struct gm_node *n)
{
	n->height = 1;
	n->max_last = n->range.last;
	for (int i = 0; i < 2; i++) {
		const struct gm_node *kid = n->kid[i];

		if (!kid)
			continue;
		if (n->height <= kid->height)
			n->height = kid->height + 1;
		if (n->max_last < kid->max_last)
			n->max_last = kid->max_last;
	}
}

/* The child on @side goes up in place of @n, its parent; both are owned. */
static struct gm_node *rotate(struct gm_node *n, int side)
{
	struct gm_node *up = n->kid[side];

	n->kid[side] = up->kid[!side];
	up->kid[!side] = n;
	update(n);
	update(up);
	return up;
}

/* @n is owned, its subtrees are balanced, and their heights differ by at most 2. */
static struct gm_node *balance(struct gm_tree *t, struct gm_node *n)
{
	int lean = height(n->kid[1]) - height(n->kid[0]);
	int side = lean > 0;
	struct gm_node *kid;

	if (lean >= -1 && lean <= 1) {
		update(n);
		return n;
	}
	kid = own(t, n->kid[side]);
	if (height(kid->kid[!side]) > height(kid->kid[side])) {
		kid->kid[!side] = own(t, kid->kid[!side]);
		kid = rotate(kid, !side);
	}
	n->kid[side] = kid;
	return rotate(n, side);
}

/* ----------------------------------------------------------------------------- edits --- */

/* The greatest height of an AVL tree of @count nodes. */
static size_t max_height(size_t count)
{
	size_t least = 1, next = 2; /* nodes that a tree of height h, h + 1 has at least */
	size_t h = 1;

	if (count == 0)
		return 0;
	while (next <= count) {
		size_t after;

		h++;
		if (__builtin_add_overflow(least, next, &after) || after == SIZE_MAX)
			break;
		least = next;
		next = after + 1;
	}
	return h;
}

/* Nodes that @edits edits can take from the pool; false if that can't be told.
 * Each insert takes one for its entry. Copies: so many per edit, on the height that the tree may come to
 * with these edits; but each node of the base is copied once at most (T5). After an edit that used c
 * nodes, the bound for one edit less is smaller by c at least, so a reserve lasts for all its edits. */
static bool nodes_needed(const struct gm_tree *t, size_t edits, size_t *ret)
{
	size_t copies = t->base_count - t->stale_count;
	size_t count, levels, most;

	if (__builtin_add_overflow(t->count, edits, &count))
		return false;
	levels = max_height(count);
	if (edits < levels && (size_t)height(t->root) + edits < levels)
		levels = (size_t)height(t->root) + edits;
	if (!__builtin_mul_overflow(edits, COPIES_PER_LEVEL * levels, &most) && most < copies)
		copies = most;
	return !__builtin_add_overflow(edits, copies, ret);
}

int gm_tree_reserve(struct gm_tree *t, size_t edits)
{
	size_t need;

	if (!nodes_needed(t, edits, &need))
		return -ENOMEM;
	while (t->pool_count < need) {
		struct gm_node *n = gm_calloc(t->alloc, 1, sizeof(*n) + t->type->size);

		/* What is there already stays for a later attempt. */
		if (!n)
			return -ENOMEM;
		push(&t->pool, n);
		t->pool_count++;
	}
	return 0;
}

static struct gm_node *insert_at(struct gm_tree *t, struct gm_node *n, struct gm_node *entry)
{
	int side;

	if (!n)
		return entry;
	n = own(t, n);
	side = compare(n, entry->range.first, entry->tag) < 0;
	n->kid[side] = insert_at(t, n->kid[side], entry);
	return balance(t, n);
}

int gm_tree_insert(struct gm_tree *t, struct gm_range range, uint64_t tag, const void *data)
{
	struct gm_node *n;

	if (gm_tree_find(t->root, range.first, tag))
		return -EEXIST;
	if (gm_tree_reserve(t, 1))
		return -ENOMEM;
	n = take_fresh(t);
	n->range = range;
	n->tag = tag;
	n->stamp = t->stamp;
	n->kid[0] = n->kid[1] = NULL;
	n->dead = false;
	if (t->type->size)
		memcpy(n->data, data, t->type->size);
	update(n);
	if (t->type->ref)
		t->type->ref(n->data);
	t->root = insert_at(t, t->root, n);
	t->count++;
	return 0;
}

/* Take the first entry out of the subtree @n; it is owned then. */
static struct gm_node *take_first(struct gm_tree *t, struct gm_node *n, struct gm_node **first)
{
	n = own(t, n);
	if (!n->kid[0]) {
		*first = n;
		return n->kid[1];
	}
	n->kid[0] = take_first(t, n->kid[0], first);
	return balance(t, n);
}

/* Take @n out of the subtree that it is the root of. */
static struct gm_node *remove_root(struct gm_tree *t, struct gm_node *n)
{
	struct gm_node *next, *right;

	drop(t, n);
	if (!n->kid[0])
		return n->kid[1];
	if (!n->kid[1])
		return n->kid[0];
	right = take_first(t, n->kid[1], &next);
	next->kid[0] = n->kid[0];
	next->kid[1] = right;
	return balance(t, next);
}

/* pre: the entry is there. */
static struct gm_node *remove_at(struct gm_tree *t, struct gm_node *n, uint64_t first, uint64_t tag)
{
	int order = compare(n, first, tag);
	int side = order < 0;

	if (order == 0)
		return remove_root(t, n);
	n = own(t, n);
	n->kid[side] = remove_at(t, n->kid[side], first, tag);
	return balance(t, n);
}

int gm_tree_remove(struct gm_tree *t, uint64_t first, uint64_t tag)
{
	if (!gm_tree_find(t->root, first, tag))
		return -ENOENT;
	if (gm_tree_reserve(t, 1))
		return -ENOMEM;
	t->root = remove_at(t, t->root, first, tag);
	t->count--;
	return 0;
}

/* -------------------------------------------------------------------------- versions --- */

void gm_tree_commit(struct gm_tree *t, struct gm_stale *ret)
{
	while (t->fresh) {
		struct gm_node *n = pop(&t->fresh);

		if (n->dead)
			push(&t->stale, n);
		else
			n->link = NULL;
	}
	*ret = (struct gm_stale){.type = t->type, .alloc = t->alloc, .list = t->stale};
	t->stale = NULL;
	t->stale_count = 0;
	t->base = t->root;
	t->base_count = t->count;
	t->stamp++;
	trim_pool(t, POOL_KEEP);
}

void gm_tree_abort(struct gm_tree *t)
{
	while (t->stale)
		pop(&t->stale)->link = NULL;
	t->stale_count = 0;
	t->root = t->base;
	t->count = t->base_count;
	free_list(t->type, t->alloc, &t->fresh);
	trim_pool(t, POOL_KEEP);
}

void gm_stale_free(struct gm_stale *s)
{
	free_list(s->type, s->alloc, &s->list);
}

static void free_all(struct gm_tree *t, struct gm_node *n)
{
	if (!n)
		return;
	free_all(t, n->kid[0]);
	free_all(t, n->kid[1]);
	free_node(t->type, t->alloc, n);
}

void gm_tree_destroy(struct gm_tree *t)
{
	gm_tree_abort(t);
	free_all(t, t->base);
	trim_pool(t, 0);
	gm_tree_init(t, t->type, t->alloc);
}

/* --------------------------------------------------------------------------- readers --- */

const struct gm_node *gm_tree_find(const struct gm_node *root, uint64_t first, uint64_t tag)
{
	const struct gm_node *n = root;

	while (n) {
		int order = compare(n, first, tag);

		if (order == 0)
			break;
		n = n->kid[order < 0];
	}
	return n;
}

/* Does something in the subtree @n reach up to @point? */
static bool reaches(const struct gm_node *n, uint64_t point)
{
	return n && n->max_last >= point;
}

/* If an entry on the left reaches up to r.first, then either it overlaps @r, or it begins beyond r.last, and
 * so does all that follows. In both cases the answer is on the left. */
const struct gm_node *gm_tree_first(const struct gm_node *root, struct gm_range r)
{
	const struct gm_node *n = root;

	while (reaches(n, r.first)) {
		if (reaches(n->kid[0], r.first))
			n = n->kid[0];
		else if (n->range.first > r.last)
			break;
		else if (n->range.last >= r.first)
			return n;
		else
			n = n->kid[1];
	}
	return NULL;
}

/* Down to the place of @after; of the nodes passed on their left, the last one that has, itself or on its
 * right, an entry that reaches up to r.first knows the answer: as above, if that entry doesn't overlap @r,
 * nothing that follows does. */
const struct gm_node *gm_tree_next(const struct gm_node *root, struct gm_range r,
				   uint64_t after_first, uint64_t after_tag)
{
	const struct gm_node *n = root, *best = NULL;

	while (reaches(n, r.first)) {
		if (compare(n, after_first, after_tag) <= 0) {
			n = n->kid[1];
			continue;
		}
		if (n->range.last >= r.first || reaches(n->kid[1], r.first))
			best = n;
		n = n->kid[0];
	}
	if (!best || best->range.first > r.last)
		return NULL;
	return best->range.last >= r.first ? best : gm_tree_first(best->kid[1], r);
}
