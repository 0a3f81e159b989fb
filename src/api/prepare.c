/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of a commit that touches nothing: flatten the windows that edits touched, plan, and allocate all
 * that the execution will need, so that from its first ioctl on only an ioctl or the gate can fail.
 */
#include <errno.h>

#include "api/impl.h"
#include "ops/change.h"
#include "ops/dirty.h"

/* Is memory in @w that an accessor may be using by @view? Where there is, it is the old view's way to show it that ends
 * with the commit, if not the memory. */
static bool has_memory(const struct gm_node *view, const struct gm_windows *w)
{
	for (size_t i = 0; i < w->n; i++) {
		gm_tree_for_each (node, view, w->r[i]) {
			if (gm_seg_backed(gm_seg_of(node)))
				return true;
		}
	}
	return false;
}

/* The deadline of a commit is for all of it (P6); a preview has none. */
static bool is_too_late(void *opaque)
{
	const struct gm_commit *c = opaque;

	return c->deadline_ns && gm_now_ns() >= c->deadline_ns;
}

/* Without the edit lock: nothing that is read here is changed but by the thread that has the transaction, which is this
 * one (map/flatten.c). */
static int flatten(struct gm_commit *c)
{
	const struct gm_flatten_limits limits = {.give_up = is_too_late, .opaque = c};
	struct gpamap *m = c->m;
	int err = gm_leftovers_touch(m);

	c->nothing_to_do = !m->broken;
	for (unsigned i = 0; !err && i < m->nr_spaces; i++) {
		struct gm_windows *w = &m->map.spaces[i].windows;

		gm_windows_normalise(w);
		m->windows[i] = *w;
		m->old_roots[i] = m->views[i].base;
		if (w->n) {
			c->nothing_to_do = false;
			err = gm_flatten(&m->map, i, w, &m->views[i], &limits, c->msg);
		}
		m->next_roots[i] = m->views[i].root;
		c->takes_memory |= has_memory(m->old_roots[i], w);
	}
	return err;
}

static int plan(struct gm_commit *c, unsigned flags)
{
	struct gpamap *m = c->m;
	int err;

	c->in = (struct gm_plan_input){
		.alloc = &m->alloc,
		.page_size = m->map.page_size,
		.max_slot_size = m->max_slot_size,
		.most_slot_size = m->most_slot_size,
		/* In a broken map nothing runs. Where faults may block, no vCPU may be inside while an ioctl waits
		 * for KVM's SRCU (P6). */
		.one_instant =
			m->broken || m->faults_may_block || (flags & GPAMAP_COMMIT_ONE_INSTANT),
		.stamp = m->stamp + 1,
		.nr_spaces = m->nr_spaces,
		.slots = m->slots,
		.old_views = m->old_roots,
		.views = m->next_roots,
		.windows = m->windows,
	};
	err = gm_plan_make(&c->plan, &c->in, c->msg);
	c->planned = !err;
	c->needs_gate = m->broken || c->plan.nr_critical;
	return err;
}

/* Room for the dirty bits of each log that ends, or may have to be undone. */
static int allocate_scratch(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	size_t words = 0;

	for (size_t i = 0; i < c->plan.n; i++) {
		const struct gm_op *op = &c->plan.ops[i];
		bool begins = op->kind == GM_OP_CREATE && (op->to.flags & GM_SLOT_LOG);
		size_t need = gm_dirty_words(begins ? &op->to : &op->from, m->map.page_size);

		if ((begins || gm_op_ends_log(op)) && need > words)
			words = need;
	}
	if (words)
		c->scratch = gm_calloc(&m->alloc, words, sizeof(*c->scratch));
	return words && !c->scratch ? -ENOMEM : 0;
}

static int allocate_views(struct gm_commit *c)
{
	struct gpamap *m = c->m;

	c->next =
		gm_calloc(&m->alloc, 1, sizeof(*c->next) + m->nr_spaces * sizeof(c->next->root[0]));
	if (!c->next)
		return -ENOMEM;
	c->next->nr_spaces = m->nr_spaces;
	for (unsigned i = 0; i < m->nr_spaces; i++)
		c->next->root[i] = m->next_roots[i];
	return 0;
}

static int allocate(struct gm_commit *c)
{
	struct gpamap *m = c->m;
	size_t ids = (size_t)m->nr_spaces * m->slots[0].ids.limit;
	int err = allocate_scratch(c);

	if (!err)
		err = gm_leftovers_reserve(c);
	if (!err)
		err = allocate_views(c);
	if (err || !c->plan.nr_critical)
		return err;
	c->kept_ids = gm_calloc(&m->alloc, ids / 64 + 1, sizeof(*c->kept_ids));
	return c->kept_ids ? 0 : -ENOMEM;
}

int gm_commit_prepare(struct gm_commit *c, unsigned flags)
{
	struct gpamap *m = c->m;
	int err;

	gm_plan_init(&c->plan, &m->alloc);
	if (flags & ~(unsigned)GPAMAP_COMMIT_ONE_INSTANT)
		return gm_fail(c->msg, -EINVAL, "unknown commit flags 0x%x", flags);
	err = gm_leftovers_settle(m);
	if (!err)
		err = flatten(c);
	if (err == -ETIMEDOUT)
		atomic_fetch_add(&m->counters.timeouts, 1);
	if (err || c->nothing_to_do)
		return err;
	err = plan(c, flags);
	if (!err)
		err = allocate(c);
	if (!err)
		err = gm_commit_check(c);
	return err;
}

void gm_commit_cancel(struct gm_commit *c)
{
	struct gpamap *m = c->m;

	if (c->planned)
		gm_plan_reject(&c->plan, &c->in);
	gm_leftovers_adopt(c, false);
	for (unsigned i = 0; i < m->nr_spaces; i++)
		gm_tree_abort(&m->views[i]);
	gm_free(&m->alloc, c->next);
	gm_commit_free(c);
}

void gm_commit_free(struct gm_commit *c)
{
	struct gpamap *m = c->m;

	gm_free(&m->alloc, c->scratch);
	gm_free(&m->alloc, c->new_ids);
	gm_free(&m->alloc, c->kept_ids);
	gm_change_free(c->change);
	gm_plan_destroy(&c->plan);
}
