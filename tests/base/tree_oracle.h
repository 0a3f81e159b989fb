/* SPDX-License-Identifier: BSD-3-Clause */
/* For tests of the tree: a sorted array that is told the same edits, and checks of the invariants. */
#ifndef GM_TESTS_TREE_ORACLE_H
#define GM_TESTS_TREE_ORACLE_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/tree.h"
#include "counting.h"

/* ---------------------------------------------------------------------------- oracle --- */

#define MAX_ENTRIES 400
#define NR_IDS 64

struct entry {
	struct gm_range range;
	uint64_t tag;
	uint64_t id; /* the data */
};

/* Entries by (first, tag). */
struct oracle {
	struct entry e[MAX_ENTRIES];
	size_t n;
};

static long refs[NR_IDS];
static long nr_refs;

static inline void ref_id(const void *data)
{
	refs[*(const uint64_t *)data]++;
	nr_refs++;
}

static inline void unref_id(const void *data)
{
	uint64_t id = *(const uint64_t *)data;

	assert_in_range(id, 0, NR_IDS - 1);
	assert_true(refs[id] > 0);
	refs[id]--;
	nr_refs--;
}

static const struct gm_tree_type id_type = {
	.size = sizeof(uint64_t),
	.ref = ref_id,
	.unref = unref_id,
};

static inline uint64_t id_of(const struct gm_node *n)
{
	return *(const uint64_t *)n->data;
}

/* Where (first, tag) is, or has to go. */
static inline size_t oracle_place(const struct oracle *o, uint64_t first, uint64_t tag)
{
	size_t i = 0;

	while (i < o->n &&
	       (o->e[i].range.first < first || (o->e[i].range.first == first && o->e[i].tag < tag)))
		i++;
	return i;
}

static inline bool oracle_has(const struct oracle *o, size_t i, uint64_t first, uint64_t tag)
{
	return i < o->n && o->e[i].range.first == first && o->e[i].tag == tag;
}

static inline int oracle_insert(struct oracle *o, struct entry e)
{
	size_t i = oracle_place(o, e.range.first, e.tag);

	if (oracle_has(o, i, e.range.first, e.tag))
		return -EEXIST;
	assert_true(o->n < MAX_ENTRIES);
	memmove(&o->e[i + 1], &o->e[i], (o->n - i) * sizeof(e));
	o->e[i] = e;
	o->n++;
	return 0;
}

static inline int oracle_remove(struct oracle *o, uint64_t first, uint64_t tag)
{
	size_t i = oracle_place(o, first, tag);

	if (!oracle_has(o, i, first, tag))
		return -ENOENT;
	o->n--;
	memmove(&o->e[i], &o->e[i + 1], (o->n - i) * sizeof(o->e[0]));
	return 0;
}

/* ---------------------------------------------------------------------------- checks --- */

static inline void assert_is(const struct gm_node *n, const struct entry *e)
{
	assert_int_equal(n->range.first, e->range.first);
	assert_int_equal(n->range.last, e->range.last);
	assert_int_equal(n->tag, e->tag);
	assert_int_equal(id_of(n), e->id);
}

static inline void check_overlaps(const struct gm_node *root, const struct oracle *o,
				  struct gm_range r)
{
	const struct gm_node *n = gm_tree_first(root, r);

	for (size_t i = 0; i < o->n; i++) {
		if (!gm_range_overlap(o->e[i].range, r))
			continue;
		assert_non_null(n);
		assert_is(n, &o->e[i]);
		n = gm_tree_next(root, r, n->range.first, n->tag);
	}
	assert_null(n);
}

static inline void check_all(const struct gm_node *root, const struct oracle *o)
{
	check_overlaps(root, o, (struct gm_range){0, UINT64_MAX});
}

struct shape {
	int height;
	size_t count;
	size_t fresh;
	uint64_t max_last;
};

/* AVL balance, order, max_last; T2: below the root only fresh nodes lead to fresh ones. */
static inline struct shape check_shape(const struct gm_node *n, uint64_t stamp)
{
	struct shape kid[2], ret;

	if (!n)
		return (struct shape){0};
	for (int i = 0; i < 2; i++) {
		kid[i] = check_shape(n->kid[i], stamp);
		if (n->stamp < stamp)
			assert_int_equal(kid[i].fresh, 0);
	}
	assert_true(n->stamp <= stamp);
	assert_false(n->dead);
	assert_in_range(kid[0].height - kid[1].height + 1, 0, 2);
	ret.height = 1 + (kid[0].height > kid[1].height ? kid[0].height : kid[1].height);
	ret.count = 1 + kid[0].count + kid[1].count;
	ret.fresh = (n->stamp == stamp) + kid[0].fresh + kid[1].fresh;
	ret.max_last = n->range.last;
	for (int i = 0; i < 2; i++) {
		if (ret.max_last < kid[i].max_last)
			ret.max_last = kid[i].max_last;
	}
	assert_int_equal(n->height, ret.height);
	assert_int_equal(n->max_last, ret.max_last);
	return ret;
}

static inline size_t length(const struct gm_node *list)
{
	size_t n = 0;

	for (; list; list = list->link)
		n++;
	return n;
}

static inline void check_tree(const struct gm_tree *t, const struct oracle *o)
{
	struct shape s = check_shape(t->root, t->stamp);

	assert_int_equal(s.count, o->n);
	assert_int_equal(t->count, o->n);
	assert_int_equal(length(t->stale), t->stale_count);
	assert_int_equal(length(t->pool), t->pool_count);
	assert_int_equal(s.count - s.fresh + t->stale_count, t->base_count);
	assert_int_equal(check_shape(t->base, t->stamp).fresh, 0);
	check_all(t->root, o);
}

static inline struct gm_range random_range(uint64_t space)
{
	uint64_t first = random_below(space);
	uint64_t last = first + random_below(random_below(8) ? 8 : space);

	/* Some at the very end of the address space. */
	if (first % 16 == 15)
		return (struct gm_range){UINT64_MAX - last, UINT64_MAX};
	return (struct gm_range){first, last};
}

static inline struct entry random_entry(uint64_t space)
{
	return (struct entry){random_range(space), random_below(3), random_below(NR_IDS)};
}

/* ----------------------------------------------------------------------------- edits --- */

static inline int tree_insert(struct gm_tree *t, struct entry e)
{
	return gm_tree_insert(t, e.range, e.tag, &e.id);
}

/* An edit of both; most removals hit. */
static inline void edit(struct gm_tree *t, struct oracle *o, uint64_t space, unsigned inserts_of_8)
{
	struct entry e = random_entry(space);

	if (o->n < MAX_ENTRIES && random_below(8) < inserts_of_8) {
		assert_int_equal(tree_insert(t, e), oracle_insert(o, e));
		return;
	}
	if (o->n && random_below(8))
		e = o->e[random_below(o->n)];
	assert_int_equal(gm_tree_remove(t, e.range.first, e.tag),
			 oracle_remove(o, e.range.first, e.tag));
}

/* A committed tree of random content. */
static inline void fill(struct gm_tree *t, struct oracle *o, size_t n, uint64_t space)
{
	struct gm_stale stale;

	o->n = 0;
	for (size_t i = 0; i < n; i++)
		edit(t, o, space, 8);
	gm_tree_commit(t, &stale);
	gm_stale_free(&stale);
}

/* So that the next edit must allocate. */
static inline void empty_pool(struct gm_tree *t)
{
	while (t->pool) {
		struct gm_node *next = t->pool->link;

		gm_free(t->alloc, t->pool);
		t->pool = next;
	}
	t->pool_count = 0;
}

#endif
