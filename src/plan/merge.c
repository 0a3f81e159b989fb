/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which pieces become one slot again, when slots run short. This is the one place that looks at all slots of a
 * space.
 *
 * A pair is two neighbours in the table as the draft has it that could be one slot; at least one of them is
 * there already, or they would be one. Merging it makes one slot less. It is as old as the younger of both: what changes often
 * is always young, and stays apart.
 */
#include <errno.h>
#include <stdlib.h>

#include "plan/draft.h"

struct pair {
	uint64_t age;	   /* stamp */
	uint64_t first[2]; /* where they begin */
	bool there[2];	   /* in the table already */
};

struct pairs {
	struct pair *p;
	size_t n;
	size_t room;
};

/* An entry of the table as the draft has it. */
struct entry {
	struct gm_slot slot;
	bool there;
};

/* All entries of the next table, in order. */
struct walk {
	const struct gm_draft *d;
	const struct gm_node *node; /* the next one of the old table that stays */
	size_t gone, kept, come;    /* the next ones */
	bool started;
};

static const struct gm_range everything = {0, UINT64_MAX};

static void next_node(struct walk *w)
{
	const struct gm_node *root = w->d->slots->tree.root;
	const struct gm_pieces *gone = &w->d->gone;

	w->node = w->started ? gm_tree_next(root, everything, w->node->range.first, 0)
			     : gm_tree_first(root, everything);
	w->started = true;
	while (w->node && w->gone < gone->n &&
	       gone->p[w->gone].slot.gpa.first == w->node->range.first) {
		w->gone++;
		w->node = gm_tree_next(root, everything, w->node->range.first, 0);
	}
}

static bool next_entry(struct walk *w, struct entry *ret)
{
	const struct gm_draft *d = w->d;

	if (!w->started)
		next_node(w);
	if (w->come < d->come.n &&
	    (!w->node || d->come.p[w->come].slot.gpa.first < w->node->range.first)) {
		const struct gm_piece *p = &d->come.p[w->come++];

		*ret = (struct entry){.slot = p->slot};
		/* To merge it costs the move. */
		if (p->mate != GM_NO_MATE)
			ret->slot.stamp = UINT64_MAX;
		return true;
	}
	if (!w->node)
		return false;
	*ret = (struct entry){.slot = *gm_slot_of(w->node), .there = true};
	if (w->kept < d->nr_kept && d->kept[w->kept].from.gpa.first == w->node->range.first)
		ret->slot = d->kept[w->kept++].to;
	next_node(w);
	return true;
}

/* Memory of a guest_memfd may be private, and not outlive its slot: it is never touched without need. */
static bool may_merge(const struct gm_draft *d, const struct entry *a, const struct entry *b)
{
	return a->slot.gpa.last + 1 == b->slot.gpa.first && a->slot.flags == b->slot.flags &&
	       !(a->slot.flags & GM_SLOT_GUEST_MEMFD) &&
	       a->slot.gpa.first / d->block == b->slot.gpa.last / d->block &&
	       gm_slot_same_backing(&a->slot, &b->slot);
}

static int find_pairs(const struct gm_draft *d, struct pairs *ret)
{
	struct walk w = {.d = d};
	struct entry a, b;
	bool more = next_entry(&w, &a);

	for (; more && next_entry(&w, &b); a = b) {
		if (!may_merge(d, &a, &b))
			continue;
		if (gm_array_reserve(d->alloc, (void **)&ret->p, &ret->room, ret->n + 1,
				     sizeof(*ret->p)))
			return -ENOMEM;
		ret->p[ret->n++] = (struct pair){
			.age = a.slot.stamp > b.slot.stamp ? a.slot.stamp : b.slot.stamp,
			.first = {a.slot.gpa.first, b.slot.gpa.first},
			.there = {a.there, b.there},
		};
	}
	return 0;
}

static int by_age(const void *a, const void *b)
{
	const struct pair *pa = a, *pb = b;

	if (pa->age != pb->age)
		return pa->age < pb->age ? -1 : 1;
	return (pa->first[0] > pb->first[0]) - (pa->first[0] < pb->first[0]);
}

/* A slot may be in two pairs; to be in the list twice does no harm. */
static int force(struct gm_draft *d, const struct pairs *pairs, size_t n)
{
	int err = gm_array_reserve(d->alloc, (void **)&d->forced, &d->forced_room,
				   d->nr_forced + 2 * n, sizeof(*d->forced));

	if (err)
		return err;
	for (size_t i = 0; i < n; i++) {
		for (int k = 0; k < 2; k++) {
			if (pairs->p[i].there[k])
				d->forced[d->nr_forced++] = pairs->p[i].first[k];
		}
	}
	qsort(d->forced, d->nr_forced, sizeof(*d->forced), gm_compare_u64);
	return 0;
}

int gm_draft_merge(struct gm_draft *d, size_t want, bool *found)
{
	struct pairs pairs = {0};
	int err = find_pairs(d, &pairs);

	*found = pairs.n > 0;
	if (!err && pairs.n) {
		qsort(pairs.p, pairs.n, sizeof(*pairs.p), by_age);
		err = force(d, &pairs, pairs.n < want ? pairs.n : want);
	}
	gm_free(d->alloc, pairs.p);
	return err;
}
