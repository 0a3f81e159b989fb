/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A persistent interval tree: balanced (AVL), ordered by (first, tag), with the greatest `last` of each
 * subtree, so that overlaps are found in O(log n).
 *
 * An edit copies the nodes on its path and leaves the old ones as they are. So a reader that holds an
 * old root walks a consistent old version without a lock, a transaction is aborted by going back to the
 * base root, and the cost of a change is O(log n) whatever the size. All of the library's ordered data
 * is kept in it: children of a container, plain range mappings, flat views, memory slots.
 *
 * Invariants:
 *  T1  A node with stamp < tree->stamp is never written again, but for `link`, which only the editor
 *      uses. (Readers may be looking at it.)
 *  T2  A node with stamp == tree->stamp is reachable from tree->root only, never from tree->base, and is
 *      changed in place.
 *  T3  Every node holds one reference on what its data names (type->ref, type->unref).
 *  T4  Nodes of the base that the working version has replaced are on `stale`; nodes that it has made are
 *      on `fresh`, those of them that it has dropped again marked `dead`. All keep their content, and
 *      their reference, until the commit or abort: what an editor has seen in a transaction stays
 *      readable and alive for the rest of it.
 *  T5  stale_count is the length of `stale`; so base_count - stale_count nodes of the base are still
 *      reachable from root, and no more than that can have to be copied.
 */
#ifndef GM_BASE_TREE_H
#define GM_BASE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/range.h"

struct gm_node {
	struct gm_range range;
	uint64_t tag;
	uint64_t max_last;
	uint64_t stamp;
	struct gm_node *kid[2];
	struct gm_node *link; /* fresh, stale or pool list */
	int height;	      /* of a leaf: 1 */
	bool dead;	      /* fresh, and dropped again */
	_Alignas(8) unsigned char data[];
};

struct gm_tree_type {
	size_t size;			 /* of the data in a node */
	void (*ref)(const void *data);	 /* may be NULL */
	void (*unref)(const void *data); /* may be NULL */
};

/* Nodes of a replaced version, to be freed when no reader can hold its root. */
struct gm_stale {
	const struct gm_tree_type *type;
	const struct gm_alloc *alloc;
	struct gm_node *list;
};

struct gm_tree {
	const struct gm_tree_type *type;
	const struct gm_alloc *alloc;
	struct gm_node *root; /* the working version */
	struct gm_node *base; /* the committed version */
	size_t count;	      /* entries of the working version */
	size_t base_count;
	uint64_t stamp;
	struct gm_node *fresh; /* made since the last commit or abort */
	struct gm_node *stale; /* of the base, replaced since */
	size_t stale_count;
	struct gm_node *pool; /* without content and reference */
	size_t pool_count;
};

void gm_tree_init(struct gm_tree *t, const struct gm_tree_type *type, const struct gm_alloc *alloc);
/* Free all nodes of all versions that are not handed out as stale. */
void gm_tree_destroy(struct gm_tree *t);

/* Make sure that the next @edits inserts and removals can't fail. The promise ends with a commit or abort.
 * -ENOMEM. */
int gm_tree_reserve(struct gm_tree *t, size_t edits);

/* Insert an entry; @data is copied, and referenced. Entries may overlap, but (first, tag) must be unique:
 * -EEXIST. -ENOMEM: the working version is unchanged. */
int gm_tree_insert(struct gm_tree *t, struct gm_range range, uint64_t tag, const void *data);
/* Remove the entry (@first, @tag). -ENOENT, -ENOMEM: unchanged. */
int gm_tree_remove(struct gm_tree *t, uint64_t first, uint64_t tag);

/* Has the working version been edited? True also where the edits have undone each other: what they made
 * waits for a commit or abort. */
static inline bool gm_tree_edited(const struct gm_tree *t)
{
	return t->root != t->base || t->fresh;
}

/* Make the working version the committed one. What it replaced goes to @ret, to be freed after a grace
 * period by gm_stale_free(), or at once where there are no readers. Can't fail. */
void gm_tree_commit(struct gm_tree *t, struct gm_stale *ret);
/* Go back to the committed version. Can't fail. */
void gm_tree_abort(struct gm_tree *t);
void gm_stale_free(struct gm_stale *s);

/* Readers: any thread, on any root that it may hold; NULL is the empty tree. */

/* The first entry, in order of (first, tag), that overlaps @r; NULL if none. */
const struct gm_node *gm_tree_first(const struct gm_node *root, struct gm_range r);
/* The next one after @after, which needs not be in the tree any more. */
const struct gm_node *gm_tree_next(const struct gm_node *root, struct gm_range r,
				   uint64_t after_first, uint64_t after_tag);
/* The entry (@first, @tag); NULL if there's none. */
const struct gm_node *gm_tree_find(const struct gm_node *root, uint64_t first, uint64_t tag);

/* For every entry of the tree that overlaps a range, in order. The tree may be edited in the body if the
 * root is read anew: @root is evaluated for each step. */
#define gm_tree_for_each(node, root, range_)                                     \
	for (const struct gm_node *node = gm_tree_first((root), (range_)); node; \
	     node = gm_tree_next((root), (range_), node->range.first, node->tag))

#endif
