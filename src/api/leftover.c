/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Leftovers: what an operation that KVM refused has left in the kernel, unlike what the table or the views say.
 *
 * There are three sources:
 *  - a late operation (commit.c has succeeded then): a slot that should have been deleted, or still logs;
 *  - the undo of an early one: a slot that should never have been;
 *  - the undo of a critical one: the map is broken, and no vCPU runs.
 *
 * In the first two vCPUs run, so a leftover must do no harm (the planner sees to it, plan/plan.h):
 *
 *  LO1  Unless the map is broken, no view has anything where a slot is left over: so it hides nothing. A guest
 *       that accesses addresses without meaning finds memory there for a while longer.
 *  LO2  A leftover holds a reference on its region. So the region's release callback is not called, and its memory
 *       not freed, while a guest can reach it (P5). Unless the map is broken, the region has such a callback.
 *  LO3  Every commit looks at the ranges of all leftovers, as if an edit had touched them. So each is tried again by
 *       the next commit; and a commit that puts something there deletes it first, or fails.
 *
 * The table (slots[].tree) may need memory to be put right, so that is done when the next one begins who needs it.
 */
#include <errno.h>

#include "api/impl.h"

static struct gm_tree *table_of(struct gpamap *m, const struct gm_slot *s)
{
	return &m->slots[s->space].tree;
}

int gm_leftovers_reserve(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	/* A move that can't be taken back leaves two: it is missing here and a stray there. */
	size_t most = m->leftovers.n + 2 * c->plan.n;

	if (!most)
		return 0;
	c->leftovers.l = gm_calloc(&m->alloc, most, sizeof(*c->leftovers.l));
	return c->leftovers.l ? 0 : -ENOMEM;
}

void gm_leftover_note(struct gm_commit *c, enum gm_leftover_kind kind, const struct gm_slot *s)
{
	gm_region_ref(s->region);
	c->leftovers.l[c->leftovers.n++] = (struct gm_leftover){kind, *s};
}

void gm_leftovers_forget(struct gpamap *m)
{
	for (size_t i = 0; i < m->leftovers.n; i++)
		gm_region_unref(m->leftovers.l[i].slot.region);
	gm_free(&m->alloc, m->leftovers.l);
	m->leftovers = (struct gm_leftovers){0};
}

/* Ids follow at once: who reserves some must know. One may be that of a missing slot and of a stray. */
static void correct_ids(struct gpamap *m, const struct gm_leftovers *new)
{
	for (size_t i = 0; i < new->n; i++) {
		const struct gm_slot *s = &new->l[i].slot;

		if (new->l[i].kind == GM_MISSING)
			gm_ids_put(&m->slots[s->space].ids, s->id);
	}
	for (size_t i = 0; i < new->n; i++) {
		const struct gm_slot *s = &new->l[i].slot;

		if (new->l[i].kind == GM_STRAY)
			gm_ids_mark(&m->slots[s->space].ids, s->id);
	}
}

/* Also after a commit that failed: it may have left some, or lost some. */
static void count(struct gpamap *m)
{
	uint32_t slots = 0;

	for (unsigned i = 0; i < m->nr_spaces; i++)
		slots += m->slots[i].ids.nr_taken;
	atomic_store(&m->counters.slots, slots);
	atomic_store(&m->counters.pending, m->leftovers.n);
}

void gm_leftovers_adopt(struct gm_commit *c, bool succeeded)
{
	struct gpamap *m = c->m;

	correct_ids(m, &c->leftovers);
	if (succeeded || c->leftovers.n) {
		struct gm_leftovers old = m->leftovers;

		m->leftovers = c->leftovers;
		c->leftovers = (struct gm_leftovers){0};
		/* What a commit that failed found, it has left as it was. There's room: see gm_leftovers_reserve(). */
		for (size_t i = 0; i < old.n; i++) {
			if (succeeded)
				gm_region_unref(old.l[i].slot.region);
			else
				m->leftovers.l[m->leftovers.n++] = old.l[i];
		}
		gm_free(&m->alloc, old.l);
	}
	gm_free(&m->alloc, c->leftovers.l);
	c->leftovers.l = NULL;
	count(m);
}

static int correct_table(struct gpamap *m)
{
	const struct gm_leftovers *left = &m->leftovers;
	int err = 0;

	for (size_t i = 0; !err && i < left->n; i++) {
		if (left->l[i].kind == GM_MISSING)
			err = gm_tree_remove(table_of(m, &left->l[i].slot),
					     left->l[i].slot.gpa.first, 0);
	}
	for (size_t i = 0; !err && i < left->n; i++) {
		const struct gm_slot *s = &left->l[i].slot;

		if (left->l[i].kind == GM_STRAY)
			err = gm_tree_insert(table_of(m, s), s->gpa, 0, s);
	}
	return err;
}

static bool are_settled(const struct gpamap *m)
{
	for (size_t i = 0; i < m->leftovers.n; i++) {
		if (m->leftovers.l[i].kind != GM_SETTLED)
			return false;
	}
	return true;
}

int gm_leftovers_settle(struct gpamap *m)
{
	int err;

	if (are_settled(m))
		return 0;
	err = correct_table(m);
	for (unsigned i = 0; i < m->nr_spaces; i++) {
		struct gm_stale stale;

		if (err) {
			gm_tree_abort(&m->slots[i].tree);
			continue;
		}
		gm_tree_commit(&m->slots[i].tree, &stale);
		gm_stale_free(&stale);
	}
	for (size_t i = 0; !err && i < m->leftovers.n; i++)
		m->leftovers.l[i].kind = GM_SETTLED;
	return err;
}

int gm_leftovers_touch(struct gpamap *m)
{
	for (size_t i = 0; i < m->leftovers.n; i++) {
		const struct gm_slot *s = &m->leftovers.l[i].slot;

		if (gm_windows_add(&m->map.spaces[s->space].windows, s->gpa))
			return -ENOMEM;
	}
	return 0;
}
